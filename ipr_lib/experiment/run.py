"""The controlled comparison: one trunk, one data order, one budget, many methods; run by run, each done once.

Taught in notebooks/08_heatmap_vs_integral.ipynb. What is run is in `compare_plan`; what the runs say about the paper's
claims is in `verdicts`.
"""

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from ..data.store import shrunken_store, withhold_depth
from ..evaluation import results
from ..evaluation.readout import read_out
from ..files import InputError, read_json, write_json
from ..network import count_parameters
from ..progress import progress
from ..run import default_device, train_run
from ..training.checkpoints import CHECKPOINT, trained_minutes
from .plan import ALONE, AXES, MAIN, WITH_2D, case_config, plan

RESULT = "result.json"
# What `make reproduce` runs, with one seed: every step of the notebook in seconds, or the main comparison in minutes.
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
        "H2, map 16",
        "I*, map 16",
        f"R1, {WITH_2D}",
        f"R1, {ALONE}",
        f"I*, {WITH_2D}",
        f"I*, {ALONE}",
    ),
    "laptop": MAIN,
}


def run_case(case, cfg, train_store, test_store, folder, device=None):
    """Train and score one case, or go on with it, or read what it gave.

    Args:
        case: Case.
        cfg: Config, as `case_config` makes it.
        train_store, test_store: CropStores of the profile; read at the case's crop size.
        folder: of the profile's comparison; the run gets a folder of its own in it.
        device: torch device; by default the GPU where there is one.
    Returns:
        content of the run's result: case, axis, method, seed, decoders, cells (see `read_out`), samples_seen, ….
    """
    device = device or default_device()
    part = (
        ""
        if case.depth_share == 1
        else f"-{'only' if case.only_depth else 'with'}-{case.depth_share:g}"
    )
    run = Path(folder) / f"{cfg.hash()}{part}"
    data = {"train": train_store.checksum, "test": test_store.checksum}
    if (run / RESULT).exists():
        done = read_json(run / RESULT)
        if done["data"] == data:
            return done
        shutil.rmtree(run)
    if (run / "data.json").exists() and read_json(run / "data.json") != data:
        shutil.rmtree(run)  # a run that was interrupted, of another capture
    write_json(run / "data.json", data)
    store = withhold_depth(
        shrunken_store(train_store, cfg.crop_px), case.depth_share, case.only_depth
    )
    model = train_run(cfg, store, run, device)
    minutes = trained_minutes(run / CHECKPOINT)
    decoders, cells = read_out(
        model,
        shrunken_store(test_store, cfg.crop_px),
        cfg.method,
        cfg.volume_shape,
        cfg.crop_px,
        cfg.depth_mm,
        cfg.precision,
    )
    write_json(
        run / RESULT,
        {
            "case": case.name,
            "axis": case.axis,
            "method": cfg.method,
            "seed": cfg.seed,
            "data": data,
            "train_items": len(store),
            "with_depth": int(np.count_nonzero(store.columns["has_depth"])),
            "samples_seen": len(store) // cfg.batch_size * cfg.batch_size * cfg.epochs,
            "network": cfg.network,
            "parameters": count_parameters(model),
            "minutes": minutes,
            "commit": results.commit(),
            "device": results.device_name(device),
            "decoders": decoders,
            "cells": cells,
            "config": dataclasses.asdict(cfg),
        },
    )
    (
        run / CHECKPOINT
    ).unlink()  # the result is what was asked for; networks of a large plan would fill a disk
    return read_json(run / RESULT)


def compare(profile, stores, folder, seeds=(0,), names=None, axes=AXES, overrides=None):
    """Run the cases of a profile, seed by seed; a run that is done costs nothing.

    Args:
        profile: one of compare_plan.BASES.
        stores: (train, test) CropStores.
        folder: for the runs.
        seeds: whole numbers.
        names: of the cases to run; by default all of `axes`.
        axes: of compare_plan.AXES.
        overrides: see `case_config`.
    Returns:
        list of results, see `run_case`: seed by seed, in the plan's order.
    Raises:
        InputError: a name or an axis that the plan does not have.
    """
    cases = plan(profile)
    known = {"axis": list(AXES), "case": [case.name for case in cases]}
    for kind, asked in (("axis", axes), ("case", names or ())):
        for name in asked:
            if name not in known[kind]:
                raise InputError(f"unknown {kind} {name!r}; choose from {', '.join(known[kind])}")
    chosen = [case for case in cases if (case.name in names if names else case.axis in axes)]
    runs = [(case, seed) for seed in seeds for case in chosen]
    done = []
    bar = progress(runs, desc="comparison", unit="run")
    for case, seed in bar:
        bar.set_postfix_str(f"{case.name}, seed {seed}")
        done.append(run_case(case, case_config(profile, case, seed, overrides), *stores, folder))
    return done
