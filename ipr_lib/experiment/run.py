"""The controlled comparison, run by run: one backbone, one data order, one budget, many methods.

Taught in notebooks/08_heatmap_vs_integral.ipynb. `plan` says what is run, and `verdicts` what the
runs say about the paper's claims.
"""

import functools
import os
import shutil
from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..data.datasets import crop_to_camera
from ..data.store import sequence_index, shrunken_store, withhold_depth
from ..evaluation.metrics import score_items, sequence_errors
from ..evaluation.prediction import mean_pose, predict_batches, read_network, store_batches
from ..files import InputError, commit, device_name, read_json, write_json, writing
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS
from ..integral import METHODS, cells_to_joints, joints_to_cells, nearest_cell
from ..network import count_parameters
from ..parallel import parallel_map
from ..progress import progress
from ..run import default_device, train_run
from ..training.records import CHECKPOINT, Diverged, read_checkpoint
from .plan import (
    ALONE,
    AXES,
    COARSE,
    CONTEST,
    LESS,
    SEEDS,
    SWEEP,
    SWEEP_BUDGET,
    WITH_2D,
    Case,
    case_config,
    planned_cases,
    sweep_steps,
)
from .verdicts import own_error, write_summary

RESULT = "result.json"
# Large tensors come and go in each step. By default the C library of Linux gives their memory back
# to the system and gets it cleared again; keeping it makes a step of H1 or H2 two fifths shorter,
# and one of I* a quarter (benchmarks/README.md).
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
# What `make reproduce` runs, with one seed and without a sweep: every step of the notebook in
# seconds; or three methods for a quarter of the contest's epochs.
IN_REPRODUCE = {
    "smoke": (
        "R1",
        "H1",
        "H2",
        "H3",
        "I1",
        "I2",
        "I3",
        "I*",
        "SimCC",
        f"H2, {COARSE}",
        f"I*, {COARSE}",
        f"R1, {WITH_2D}",
        f"R1, {ALONE}",
        f"I*, {WITH_2D}",
        f"I*, {ALONE}",
    ),
    "laptop": (f"R1, {LESS}", f"H2, {LESS}", f"I*, {LESS}"),
}


def compare(
    profile: str,
    stores: tuple,
    summary: Path,
    seeds: tuple[int, ...] | None = None,
    names: tuple[str, ...] | None = None,
    axes: tuple[str, ...] = CONTEST,
    overrides: dict | None = None,
    sweep: bool = True,
    processes: int = 1,
) -> dict:
    """Run the cases of a profile, the most telling first; a run that is done costs nothing.

    First the sweep, method by method; then the methods, seed by seed; then the other axes, seed by
    seed. What is found is written after each run.

    Args:
        profile: one of plan.BASES.
        stores: (train, test) CropStores.
        summary: the JSON to write, beside the folders of the runs. Until the last run is done it is
            called *.partial.json.
        seeds: whole numbers; by default as many as plan.SEEDS says.
        names: of the cases to run; by default all of `axes`.
        axes: of plan.AXES; plan.SWEEP alone stops after the sweep of all methods.
        overrides: see `plan.case_config`.
        sweep: pick each method's settings first; else all have the base's.
        processes: so many runs at a time, which share the cores. One small network alone leaves
            most of a GPU idle, and a part of each core of a CPU.
    Returns:
        content of the summary, see `verdicts.write_summary`.
    Raises:
        InputError: a name or an axis that the plan does not have.
    """
    cases = planned_cases(profile)
    _check_known("axis", axes, (*AXES, SWEEP))
    _check_known("case", names or (), [case.name for case in cases])
    if names:
        cases = [case for case in cases if case.name in names]
    elif SWEEP not in axes:
        cases = [case for case in cases if case.axis in axes]
    methods = []
    if sweep:
        methods = list(dict.fromkeys(case.overrides["method"] for case in cases))
    runs = [] if SWEEP in axes else run_order(cases, seeds)
    overrides = dict(overrides or {})
    threads = torch.get_num_threads()
    if processes > 1:
        threads = max(1, threads // processes)
        overrides["workers"] = 0  # each process makes its own batches
        os.environ.update(KEEP_MEMORY)  # a new process reads it when it starts

    with writing(summary):
        partial = summary.with_suffix(".partial.json")
        results, settings = [], {}
        with progress(total=len(methods) + len(runs), desc="comparison", unit="run") as bar:
            pick = functools.partial(_pick, profile, stores[0], summary.parent, overrides, threads)
            for method, swept in zip(methods, parallel_map(pick, methods, processes)):
                settings[method], of_method = swept
                results += of_method
                write_summary(results, partial)
                bar.update()
            tasks = []
            for case, seed in runs:
                picked = settings.get(case.overrides["method"], {})
                tasks.append((case, case_config(profile, case, seed, overrides | picked)))
            run = functools.partial(_run, stores, summary.parent, threads)
            for result in parallel_map(run, tasks, processes):
                results.append(result)
                write_summary(results, partial)
                bar.update()
        content = write_summary(results, summary)
        partial.unlink()
    return content


def _pick(profile, store, folder, overrides, threads, method):
    """`pick_settings`, with a part of the cores."""
    torch.set_num_threads(threads)
    return pick_settings(profile, method, store, folder, overrides)


def _run(stores, folder, threads, task):
    """`run_case` of a case and its Config, with a part of the cores."""
    torch.set_num_threads(threads)
    return run_case(*task, *stores, folder)


def _check_known(kind, asked, known):
    for name in asked:
        if name not in known:
            raise InputError(f"unknown {kind} {name!r}; choose from {', '.join(known)}")


def run_order(cases: list[Case], seeds: tuple[int, ...] | None = None) -> list[tuple[Case, int]]:
    """(case, seed) of all runs: the methods seed by seed, then the other axes seed by seed."""
    runs = []
    for of_methods in (True, False):
        group = [case for case in cases if (case.axis == "method") == of_methods]
        for seed in range(SEEDS["method"]) if seeds is None else seeds:
            for case in group:
                if seeds is not None or seed < SEEDS.get(case.axis, 3):
                    runs.append((case, seed))
    return runs


def pick_settings(
    profile: str, method: str, store, folder: Path, overrides: dict
) -> tuple[dict, list[dict]]:
    """The settings of a method that a sweep on training actors finds best; see `plan`.

    Args:
        profile: one of plan.BASES.
        method: one of METHODS.
        store: CropStore of the training actors, the last of whom is held out.
        folder, overrides: see `compare`.
    Returns:
        fields of Config, and the results of the sweep's runs.
    """
    store = _small_crops(store, case_config(profile, Case("", SWEEP), 0, overrides).crop_px)
    subject = store.columns["subject"]
    held_out = int(subject.max())
    fitted = store.select(np.flatnonzero(subject != held_out))
    scored = store.select(np.flatnonzero(subject == held_out))
    picked, results = {}, []
    for field, values in sweep_steps(profile, method):
        errors = {}
        for value in values:
            fields = {"method": method} | picked | {field: value}
            name = f"sweep of {method}, {field} {value:g}"
            case = Case(name, SWEEP, fields, budget=SWEEP_BUDGET, held_out=held_out)
            cfg = case_config(profile, case, 0, overrides)
            try:
                results.append(run_case(case, cfg, fitted, scored, folder))
                errors[value] = own_error(results[-1])
            except Diverged:  # too high a rate: not to be picked, and no reason to stop
                errors[value] = np.inf
        picked[field] = min(errors, key=errors.get)
    return picked, results


def run_case(
    case: Case, cfg: Config, train_store, test_store, folder: Path, device: torch.device = None
) -> dict:
    """Train and score one case, or go on with it, or read what it gave.

    Args:
        case: of the plan.
        cfg: its Config, as `plan.case_config` makes it.
        train_store, test_store: CropStores of the profile; read at the case's crop size.
        folder: of the profile's comparison; the run gets a folder of its own in it.
        device: by default the GPU where there is one.
    Returns:
        content of the run's result: case, axis, method, seed, decoders and cells (see
        `score_decoders`), mean_pose (MPJPE of the mean training pose, mm), samples_seen, and more.
    """
    run_dir = Path(folder) / _run_name(case, cfg)
    with writing(run_dir):
        return _run_case(case, cfg, train_store, test_store, run_dir, device or default_device())


def _run_case(case, cfg, train_store, test_store, run_dir, device):
    """The result of a case that no other process works on, see `run_case`."""
    data = {"train": train_store.checksum, "test": test_store.checksum}
    done = _result_of(run_dir, data)
    if done is not None:
        # Results of earlier versions do not hold it.
        done.setdefault("mean_pose", _mean_pose_error(train_store, test_store))
        return done
    write_json(run_dir / "data.json", data)
    store = _small_crops(train_store, cfg.crop_px)
    store = withhold_depth(store, case.depth_share, case.only_depth)
    network = train_run(cfg, store, run_dir, device)
    decoders, cells = score_decoders(network, _small_crops(test_store, cfg.crop_px), cfg)
    result = {
        "case": case.name,
        "axis": case.axis,
        "method": cfg.method,
        "seed": cfg.seed,
        "data": data,
        "train_items": len(store),
        "with_depth": int(np.count_nonzero(store.columns["has_depth"])),
        "samples_seen": len(store) // cfg.batch_size * cfg.batch_size * cfg.epochs,
        "network": cfg.network,
        "parameters": count_parameters(network),
        "minutes": round(read_checkpoint(run_dir / CHECKPOINT)["seconds"] / 60, 3),
        "commit": commit(),
        "device": device_name(device),
        "decoders": decoders,
        "cells": cells,
        "mean_pose": _mean_pose_error(train_store, test_store),
        "config": cfg.record(),
    }
    write_json(run_dir / RESULT, result)
    (run_dir / CHECKPOINT).unlink()  # the networks of a large plan would fill a disk
    return read_json(run_dir / RESULT)


def _small_crops(store, crop_px):
    """The store with its pixels averaged where the sizes divide; else the batches resample them."""
    if store.recipe["crop_px"] % crop_px:
        return store
    return shrunken_store(store, crop_px)


def _mean_pose_error(train_store, test_store):
    """MPJPE of the mean training pose, mm: what a network that sees nothing reaches."""
    scores = score_items(mean_pose(train_store, test_store), test_store.columns)
    return scores["mpjpe"]["frame_mean"]


def _run_name(case, cfg):
    """Name of a case's folder: the hash of its config, and which depth was withheld."""
    if case.depth_share == 1:
        return cfg.hash()
    kept = "only" if case.only_depth else "with"
    return f"{cfg.hash()}-{kept}-{case.depth_share:g}"


def _result_of(run_dir, data):
    """The result of a finished run of these data; a run of other data is removed."""
    if (run_dir / RESULT).exists():
        result = read_json(run_dir / RESULT)
        if result["data"] == data:
            return result
        shutil.rmtree(run_dir)
    elif (run_dir / "data.json").exists() and read_json(run_dir / "data.json") != data:
        shutil.rmtree(run_dir)  # interrupted
    return None


def score_decoders(network: torch.nn.Module, store, cfg: Config) -> tuple[dict, dict | None]:
    """Score a network by every decoder that can read it, from one forward pass over the images.

    Args:
        network: in eval mode.
        store: CropStore of the test subjects, for crops of cfg.crop_px.
        cfg: Config; method, crop_px, depth_mm, volume_shape and precision are used.
    Returns:
        {decoder: scores}, the method's own first; the scores of the best that whole cells could
        say, None for a method without cells. Scores: mpjpe, pa_mpjpe, z_mm (root-relative) in mm;
        xy_px, mean distance in px of the crop; takes, the mean error of each sequence in mm, in the
        order of `store.sequence_index`.
    """
    method = METHODS[cfg.method]

    def read(crops):
        return read_network(
            network, crops, method.decoders, cfg.crop_px, cfg.depth_mm, cfg.precision
        )

    found = predict_batches(read, store_batches(store, cfg.crop_px), flip_test=False)
    scores = {}
    for k, name in enumerate(method.decoders):
        scores[name] = _scores(found["joints_crop"][:, k], found, store)
    if method.head == "direct":
        return scores, None
    grid = (cfg.volume_shape, cfg.crop_px, cfg.depth_mm)
    cells = nearest_cell(
        joints_to_cells(torch.from_numpy(found["joints"]), *grid), cfg.volume_shape
    )
    rounded = cells_to_joints(cells.float(), *grid).numpy()
    return scores, _scores(rounded, found, store)


def _scores(joints, found, store):
    """Scores of one set of joints (N, J, 3), px and mm; `found` as `predict_batches` gives it."""
    columns = store.columns
    target = columns["joints_cam"].astype(float)
    cameras = store.cameras(np.arange(len(store)))
    pred = crop_to_camera(joints, found["affine"], cameras, target[:, HUMAN36M.root, 2])
    scores = score_items(pred, columns)
    by_sequence = sequence_errors(pred, target, sequence_index(columns))
    difference = (joints - found["joints"])[:, :SCORED_JOINTS, :2]
    return {
        "mpjpe": scores["mpjpe"]["frame_mean"],
        "pa_mpjpe": scores["pa_mpjpe"]["frame_mean"],
        "z_mm": scores["mpjpe_z"],
        "xy_px": float(np.linalg.norm(difference, axis=-1).mean()),
        "takes": np.round(by_sequence, 3).tolist(),
    }
