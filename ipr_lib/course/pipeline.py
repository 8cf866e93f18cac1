"""From a Config to data, a trained network, scores and executed notebooks; each step is skipped where it is done.

`make reproduce` runs all of it; notebooks call the same steps, so nothing is captured or trained twice.
"""

import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

from ..config import Config, config_from_record, load_config
from ..data.datasets import StoreMix
from ..data.h36m_layout import TEST_SUBJECTS
from ..data.store import find_store, split_store
from ..evaluation.metrics import score_items
from ..evaluation.prediction import mean_pose, oracle_inputs
from ..evaluation.published import RELEASED_PASS, score_published
from ..evaluation.report import (
    PREDICTIONS_FILE,
    SCORES_FILE,
    STAMP,
    action_rows,
    minutes_table,
    published_report,
    release_rows,
    run_minutes,
    run_report,
    write_poses,
    write_scores,
)
from ..experiment import CONTEST, IN_REPRODUCE, compare, planned_cases
from ..files import (
    REPOSITORY,
    InputError,
    commit,
    data_folder,
    device_name,
    read_json,
    results_folder,
    write_json,
    writing,
)
from ..network import count_parameters
from ..progress import TIMES, progress, stage, timed, work_seconds
from ..run import (
    default_device,
    fingerprint,
    load_trained,
    predict_run,
    run_dir,
    train_run,
    training_state,
)
from ..studio import write_capture
from ..training import distributed
from ..training.records import BEST, CHECKPOINT, read_checkpoint
from .exercises import solutions_of
from .notebooks import NotebookFailed, list_notebooks, run_notebook

METRICS, PREDICTIONS, ORIGIN = SCORES_FILE, PREDICTIONS_FILE, "origin.json"
STEPS = ("data", "training", "evaluation")  # of a run, whose minutes are measured
CHECKPOINTS = {"last": CHECKPOINT, "best": BEST}


# --- data ---


def dataset_dir(cfg: Config) -> Path:
    """Folder of the prepared set that `cfg` names; a capture that overrides changed has a folder of its own."""
    if cfg.dataset != "capture":
        return data_folder() / cfg.dataset
    recipe = _capture_recipe(cfg)
    name = f"capture-{cfg.profile}"
    if recipe != _capture_recipe(load_config(cfg.profile)):
        values = repr(list(recipe.values()))
        name += "-" + hashlib.sha256(values.encode()).hexdigest()[:6]
    return data_folder() / name


def _capture_recipe(cfg):
    """What the pictures of a capture depend on, as `studio.write_capture` takes it."""
    recipe = {
        "subjects": cfg.capture_subjects,
        "actions": cfg.capture_actions,
        "takes": cfg.capture_takes,
        "cameras": cfg.capture_cameras,
        "n_frames": cfg.capture_frames,
        "train_step": cfg.train_step,
        "test_step": cfg.test_step,
    }
    # Usually test actors, but training actors here: S9 of "train + S9 / test S11".
    actors = set(cfg.train_subjects) & set(cfg.capture_subjects) & set(TEST_SUBJECTS)
    if actors:
        recipe["trained_on"] = tuple(sorted(actors))
    return recipe


def split_step(cfg: Config, split: str) -> int:
    """Every how many frames one is used in a split of the data.

    The capture draws training actors every train_step frames, and test actors every test_step frames. A split that
    validates or tests on training actors takes the first multiple of train_step that reaches test_step, and a split with
    both kinds of actors takes frames that both steps divide.

    Args:
        cfg: Config.
        split: "train", "validation" or "test".

    Returns:
        step.
    """
    if split == "train":
        return cfg.train_step
    if cfg.dataset != "capture":
        return cfg.test_step
    subjects = getattr(cfg, f"{split}_subjects")
    drawn_for_testing = [s in TEST_SUBJECTS and s not in cfg.train_subjects for s in subjects]
    if all(drawn_for_testing):
        return cfg.test_step
    if any(drawn_for_testing):
        return math.lcm(cfg.train_step, cfg.test_step)
    return math.ceil(cfg.test_step / cfg.train_step) * cfg.train_step


def capture(cfg: Config, target: str | Path | None = None, workers: int | None = None) -> Path:
    """Write the built-in capture of `cfg`, or what is missing of it; returns its folder.

    A profile that trains on a real set has a capture of its own beside it, which is never that set's folder.
    """
    target = Path(target or dataset_dir(dataclasses.replace(cfg, dataset="capture")))
    write_capture(target, workers=workers or max(1, cfg.workers), **_capture_recipe(cfg))
    return target


def crop_store(cfg: Config, split: str):
    """The crop store of one split of `cfg`'s data, built if it is missing; see `store.split_store`.

    Args:
        cfg: Config.
        split: "train", "validation" or "test".

    Returns:
        CropStore.
    """
    source = dataset_dir(cfg)
    step = split_step(cfg, split)
    subjects = getattr(cfg, f"{split}_subjects")
    if cfg.dataset == "capture":
        subjects = tuple(subject for subject in subjects if subject in cfg.capture_subjects)
    return split_store(
        source, data_folder() / "stores", split, subjects, step, cfg.crop_px, cfg.workers
    )


def stores(cfg: Config) -> tuple:
    """(train, test) crop stores of `cfg`; the capture is written first where the data set is the built-in one."""
    if cfg.dataset == "capture":
        capture(cfg)
    return crop_store(cfg, "train"), crop_store(cfg, "test")


def mixed_in(cfg: Config) -> list:
    """Crop stores of the 2D sets that `cfg.mix` names; InputError where one has not been prepared."""
    found = []
    for name in cfg.mix:
        path = data_folder() / "stores" / f"{name}-train-{cfg.crop_px}"
        store = find_store(path)
        if store is None:
            reader = name if name in ("mpii", "coco") else f"mpii (or coco) --target data/{name}"
            command = f"python -m ipr_lib prepare {reader} --source DIR --store {cfg.crop_px}"
            raise InputError(
                f"{path} is missing or damaged; build it with `{command}`, or train without it: --set 'mix=[]'"
            )
        found.append(store)
    return found


# --- training ---


def trained(
    cfg: Config,
    results_dir: str | Path | None = None,
    folder: str | Path | None = None,
    init: Path | None = None,
) -> torch.nn.Module:
    """The trained network of `cfg`; it is trained, or its training goes on, where that is not done.

    Args:
        cfg: Config.
        results_dir: where runs lie; by default `files.results_folder`.
        folder: of this run; by default the one that `run_dir` names.
        init: file or run whose weights a new training starts from, see `run.start_from`.

    Returns:
        network in eval mode.
    """
    folder = Path(folder or run_dir(cfg, results_dir))
    others = mixed_in(cfg)  # before hours are spent on the 3D store
    with distributed.rank0_first():
        store = stores(cfg)[0]
    origins = [source.recipe["origin"] for source in (store, *others)]
    with distributed.writing_run(folder):
        if (folder / CHECKPOINT).exists():
            _check_origins(cfg, folder, origins)
        with distributed.rank0_first():
            write_json(folder / ORIGIN, origins if others else origins[0])
            validation = crop_store(cfg, "validation") if cfg.validation_subjects else None
        if others:
            store = StoreMix([store, *others], cfg.mix_ratio or None)
        return train_run(cfg, store, folder, validation=validation, init=init)


def _check_origins(cfg, folder, origins):
    """InputError where a run's network was trained on other versions of these sets, the 3D one first."""
    if not (folder / ORIGIN).exists():
        return
    trained_on = read_json(folder / ORIGIN)
    if not isinstance(trained_on, list):
        trained_on = [trained_on]
    if trained_on[: len(origins)] != origins:
        sets = " or ".join([cfg.dataset, *cfg.mix])
        raise InputError(
            f"{folder} holds a network trained on another version of {sets}; delete that folder to train anew, or make "
            "that version again"
        )


# --- scores ---


def evaluated(cfg: Config, results_dir: str | Path | None = None, stages: int = 3) -> dict:
    """Scores of the trained network on the test split; it is trained where that is not done.

    Args:
        cfg: Config.
        results_dir: where runs lie; by default `files.results_folder`.
        stages: of the whole job; data, training and evaluation are the first three that a log counts.

    Returns:
        content of the run's `metrics.json`; the other files of `report.write_scores` lie beside it.
    """
    folder = run_dir(cfg, results_dir)
    with writing(folder):
        mixed_in(cfg)  # refuses a missing set before hours are spent on the 3D store
        with stage(1, stages), timed(folder, "data"):
            test_store = stores(cfg)[1]
        with stage(2, stages):
            trained(cfg, folder=folder)
        if (folder / METRICS).exists() and (folder / PREDICTIONS).exists():
            done = read_json(folder / METRICS)
            is_complete = done["checkpoint"] == fingerprint(folder / CHECKPOINT)
            if is_complete and done["scores"]["n"] == len(test_store):  # it may have grown since
                return done
        with stage(3, stages):
            evaluate_run(folder, target=folder)
        return read_json(folder / METRICS)


def evaluate_run(
    folder: Path,
    checkpoint: str | Path = "last",
    subjects: list[int] | None = None,
    box: str = "oracle",
    root: str = "oracle",
    intrinsics: str = "oracle",
    texts: bool = False,
    target: Path | None = None,
) -> tuple[dict, Path]:
    """Score a run's network on the test split by single pass and flip test, with oracle inputs or without.

    Args:
        folder: of the run.
        checkpoint: see `open_run`.
        subjects: score these test subjects alone; None scores all.
        box, root, intrinsics: see `prediction.oracle_inputs`.
        texts: also write the three text files of `report.write_poses`.
        target: folder to write to; by default test/NAME in the run's.

    Returns:
        content of `metrics.json`: what was scored, and the scores of `metrics.score_items` for the single pass, the flip
        test and the training split's mean pose; the folder that it lies in, with the other files of `report.write_scores`.

    Raises:
        InputError: see `open_run` and `oracle_inputs`; the run was trained on another version of the data; or there are
            no pictures of a subject.
    """
    start = work_seconds()
    folder = Path(folder)
    network, cfg, path = open_run(folder, checkpoint)
    train_store, test_store = stores(cfg)
    _check_origins(cfg, folder, [train_store.recipe["origin"]])
    name = path.stem
    for key, value in (("box", box), ("root", root), ("intrinsics", intrinsics)):
        if value != "oracle":
            name += f"-{key}-{value}"
    tested = test_store.columns["subject"]
    items = np.arange(len(test_store))
    if subjects is not None:
        missing = sorted(set(subjects) - set(tested.tolist()))
        if missing:
            raise InputError(
                f"no test picture of {_subject_names(missing)}: the test split holds {_subject_names(tested)}"
            )
        items = np.flatnonzero(np.isin(tested, subjects))
        test_store = test_store.select(items)
        name += f"-{_subject_names(subjects)}"
    inputs = oracle_inputs(test_store, box, root, intrinsics, train_store)
    target = target or folder / "test" / name
    with writing(target):
        predictions = predict_run(network, test_store, cfg, inputs, flip_test=True)
        predictions["items"] = items  # of the whole split
        scores = {
            "scores": score_items(predictions["pred_cam"], test_store.columns),
            "scores_flip": score_items(predictions["pred_cam_flip"], test_store.columns),
            "mean_pose": score_items(mean_pose(train_store, test_store), test_store.columns),
        }
        minutes = read_json(folder / TIMES) if (folder / TIMES).exists() else {}
        saved = read_checkpoint(path, ("step", "seconds"))
        minutes["training"] = round(saved["seconds"] / 60, 3)  # those before an interruption, too
        minutes["evaluation"] = round((work_seconds() - start) / 60, 3)
        trained_on = _subject_names(train_store.columns["subject"])
        dataset = "built-in capture" if cfg.dataset == "capture" else cfg.dataset
        content = {
            "run": folder.name,
            "checkpoint_file": path.name,
            "minutes": {step: minutes[step] for step in STEPS if step in minutes},
            "profile": cfg.profile,
            "data": " + ".join([dataset, *cfg.mix]),
            "split": f"{trained_on} / {_subject_names(test_store.columns['subject'])}",
            "test_step": test_store.recipe["step"],
            "train_items": len(train_store),
            "samples_seen": saved["step"] * cfg.batch_size,
            "oracle": list(inputs.notes),
            "network": cfg.network,
            "parameters": count_parameters(network),
            "seed": cfg.seed,
            "commit": commit(),
            "device": device_name(next(network.parameters()).device),
            "tf32": saved.get("tf32", False),  # in training
            "checkpoint": fingerprint(path),
            **scores,
            "config": cfg.record(),
        }
        write_scores(target, content, predictions, action_rows(content), run_report(content))
        if texts:
            write_poses(target, predictions["pred_cam"], predictions["target_cam"])
    return content, target


def _subject_names(subjects):
    """[11, 9, 9] -> "S9,11"."""
    return "S" + ",".join(str(subject) for subject in np.unique(subjects))


def list_runs() -> list[list[str]]:
    """What there is of each run in `files.results_folder`: name, profile, state, MPJPE in mm.

    Returns:
        rows of text, in the order of names. A run that is scored tells its MPJPE; of another one that
        has a checkpoint, the state is the epoch that it has reached.
    """
    rows = []
    for path in sorted(results_folder().glob(f"*/{CHECKPOINT}")):
        name = path.parent.name
        if (path.parent / METRICS).exists():
            scored = read_json(path.parent / METRICS)
            error = scored["scores"]["mpjpe"]["frame_mean"]
            rows.append([name, scored["profile"], "scored", f"{error:.1f}"])
            continue
        try:
            saved = read_checkpoint(path, ("config", "log"))
        except InputError as problem:
            rows.append([name, "–", str(problem), "–"])
            continue
        cfg = config_from_record(saved["config"])
        rows.append([name, cfg.profile, training_state(saved)[0], "–"])
    return rows


def open_run(folder: Path, checkpoint: str | Path = "last"):
    """Network and Config of a run.

    Args:
        folder: of the run.
        checkpoint: "last", "best", or the path of a file.
    Returns:
        network in eval mode on the default device, Config, path of the checkpoint.
    Raises:
        InputError: no such checkpoint, or one that is damaged.
    """
    path = Path(checkpoint)
    if checkpoint in CHECKPOINTS:
        path = Path(folder) / CHECKPOINTS[checkpoint]
    if not path.is_file():
        raise InputError(
            f"{path} is missing; pass --checkpoint last, best (where the run kept one) or the path of a file"
        )
    return *load_trained(path), path


def evaluate_published(
    path: Path,
    cfg: Config,
    subjects: list[int] | None = None,
    texts: bool = False,
) -> tuple[dict, Path]:
    """Score a published network on a prepared set, by its authors' rules and by ours.

    Args:
        path: its checkpoint, see `published.read_published`.
        cfg: Config that names the set, the test subjects and the step.
        subjects: score these alone; None takes the test subjects of `cfg`.
        texts: also write the three text files of `report.write_poses`, of the flip test as released.
    Returns:
        content of `metrics.json`, see `published.score_published`; the folder in `files.results_folder` that it lies in,
        with the other files of `report.write_scores`: published-RELEASE-SET-FILE-FINGERPRINT.
    Raises:
        InputError: the checkpoint or the set cannot be read.
    """
    path = Path(path)
    suffix = ""
    if subjects is None:
        subjects = cfg.test_subjects
    elif set(subjects) != set(cfg.test_subjects):
        suffix = f"-{_subject_names(subjects)}"
    scored, predictions = score_published(
        path, dataset_dir(cfg), subjects, cfg.test_step, default_device()
    )
    content = {"fingerprint": fingerprint(path)} | scored
    # A release has several files, often of one name in other folders: their contents tell them apart.
    parts = [content["release"], content["data"], path.name.partition(".")[0]]
    name = f"published-{'-'.join(parts)}-{content['fingerprint'][:8]}{suffix}"
    target = results_folder() / name
    write_scores(target, content, predictions, release_rows(content), published_report(content))
    if texts:
        write_poses(target, predictions[f"pred_cam, {RELEASED_PASS}"], predictions["target_cam"])
    return content, target


# --- the controlled comparison ---


def compared(
    profile: str,
    seeds: tuple[int, ...] | None = None,
    results_dir: str | Path | None = None,
    names: list[str] | None = None,
    axes: tuple[str, ...] = CONTEST,
    overrides: dict | None = None,
    sweep: bool = True,
    processes: int = 1,
) -> dict:
    """The controlled comparison of a profile, on its own data; runs that are done already are read.

    Args:
        profile: one of experiment.plan.BASES.
        seeds, names, axes, overrides, sweep, processes: see `experiment.run.compare`.
        results_dir: where runs lie; by default `files.results_folder`.

    Returns:
        content of the summary, see `verdicts.write_summary`: `compare-PROFILE/AXES-SEEDS.json`, or `chosen-SEEDS.json`
        where cases are named; without the seeds where the plan's are taken.
    """
    planned_cases(profile)  # refuses a profile without a comparison before any data are made
    overrides = dict(overrides or {})
    parts = ["chosen"] if names else list(axes)
    if seeds is not None:
        parts += [str(seed) for seed in seeds]
    summary = (
        Path(results_dir or results_folder()) / f"compare-{profile}" / f"{'-'.join(parts)}.json"
    )
    data = stores(load_config(profile, **overrides))
    return compare(profile, data, summary, seeds, names, axes, overrides, sweep, processes)


def small_comparison(
    profile: str,
    seed: int = 0,
    results_dir: str | Path | None = None,
    overrides: dict | None = None,
) -> dict | None:
    """The few cases that `make reproduce` and notebook 08 run; None for a profile without them."""
    if profile not in IN_REPRODUCE:
        return None
    names = IN_REPRODUCE[profile]
    return compared(profile, (seed,), results_dir, names, overrides=overrides, sweep=False)


# --- the main job ---


def reproduce(
    profile: str,
    seed: int = 0,
    overrides: dict | None = None,
    results_dir: str | Path | None = None,
    only: list[str] | None = None,
    fresh: bool = False,
    solutions: bool = False,
    as_is: bool = False,
) -> dict:
    """Capture, train, evaluate, print the table, run the notebooks; whatever is valid already is reused.

    Where a notebook fails, the others run all the same.

    Args:
        profile: a profile's name.
        seed: of the run.
        overrides: further fields of Config, by name.
        results_dir: where runs lie; by default `files.results_folder`.
        only: numbers of notebooks ("00", "06") to run; all by default.
        fresh: execute notebooks again though nothing has changed for them.
        solutions: also solve the exercises of each notebook, and check the solutions.
        as_is: only run the notebooks, on the scored run that is there.

    Returns:
        content of the run's `metrics.json`.

    Raises:
        InputError: `as_is`, and there is no scored run.
        NotebookFailed: the message lists the notebooks. The same call runs these, and these alone, again.
    """
    started = work_seconds()
    overrides = dict(overrides or {})
    cfg = load_config(profile, seed=seed, **overrides)
    notebooks = list_notebooks(only)
    numbers = [path.name[:2] for path in notebooks]
    compares = "08" in numbers and profile in IN_REPRODUCE and not as_is
    stages = 5 if compares else 4
    if as_is and not (run_dir(cfg, results_dir) / METRICS).exists():
        raise InputError(
            f"{run_dir(cfg, results_dir)} holds no scored run; make it first: "
            f"python -m ipr_lib reproduce --profile {profile}"
        )

    metrics = evaluated(cfg, results_dir, stages)
    print(run_report(metrics), flush=True)  # at once, because what follows takes long and may fail

    folder = run_dir(cfg, results_dir)
    if compares:
        with stage(4, stages), timed(folder, "comparison"):
            small_comparison(profile, seed, results_dir, overrides)
    parameters = {
        "profile": profile,
        "seed": seed,
        "overrides": overrides,
        "results_dir": str(Path(results_dir or results_folder()).resolve()),
    }
    stamp = {
        "sources": _library_fingerprint(),
        "checkpoint": metrics["checkpoint"],
        "parameters": parameters,
    }
    failures = []
    with stage(stages, stages), progress(notebooks, desc="notebooks", unit="notebook") as bar:
        for path in bar:
            bar.set_postfix_str(path.stem)
            try:
                with writing(folder / path.name[:2]):
                    _run_if_changed(path, folder / path.name[:2], stamp, fresh, solutions)
            except NotebookFailed as failure:
                print(f"failed: {failure}", file=sys.stderr, flush=True)
                failures.append(f"  {failure}")
    print(minutes_table(run_minutes(folder)), end="\n\n")
    print(f"report, figures and executed notebooks: {folder}")
    print(f"{(work_seconds() - started) / 60:.1f} minutes", flush=True)
    if failures:
        count = "1 notebook" if len(failures) == 1 else f"{len(failures)} notebooks"
        first = f"{count} failed; the same command runs them again, and only them:"
        raise NotebookFailed("\n".join([first, *failures]))
    return metrics


def _run_if_changed(path, target, stamp, fresh, solutions):
    """Run a notebook if it failed last time, or if something has changed for it since.

    Args:
        path: of the notebook.
        target: its folder in the run's.
        stamp: what all notebooks of the run depend on, see `reproduce`; here comes what this one alone depends on.
        fresh, solutions: see `reproduce`.
    """
    stamp = stamp | {"notebook": fingerprint(path)}
    solved = None
    if solutions and solutions_of(path).exists():
        solved = solutions_of(path)
        stamp["solutions"] = fingerprint(solved)
    done = target / STAMP
    if done.exists() and (target / "executed.ipynb").exists() and not fresh:
        before = read_json(done)["stamp"]
        if before == json.loads(json.dumps(stamp)):  # JSON has lists for tuples
            return
    done.unlink(missing_ok=True)  # an older success must not count if this run fails
    start = work_seconds()
    run_notebook(path, target, stamp["parameters"], solved)
    minutes = (work_seconds() - start) / 60
    write_json(done, {"stamp": stamp, "minutes": round(minutes, 3)})


def _library_fingerprint():
    """16 hex digits of all sources of the library."""
    sources = hashlib.sha256()
    for source in sorted((REPOSITORY / "ipr_lib").rglob("*")):
        if source.suffix in (".py", ".js"):
            sources.update(source.read_bytes())
    return sources.hexdigest()[:16]
