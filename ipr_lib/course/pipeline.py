"""From a Config to data, a trained network, scores and executed notebooks; each step is skipped where it is done.

`make reproduce` runs all of it; notebooks call the same steps, so nothing is captured or trained twice.
"""

import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path

from ..config import load_config
from ..data.h36m_layout import TEST_SUBJECTS
from ..data.mixing import StoreMix
from ..data.store import find_store, split_store
from ..evaluation.report import (
    PREDICTIONS_FILE,
    SCORES_FILE,
    STAMP,
    minutes_table,
    run_minutes,
    run_report,
    write_scores,
)
from ..evaluation.tables import action_rows
from ..experiment import plan as compare_plan
from ..experiment import run as compare
from ..experiment import verdicts
from ..files import REPOSITORY, InputError, read_json, write_json
from ..progress import progress, stage
from ..run import fingerprint, score_run, train_run
from ..studio import write_capture
from ..timing import TIMES, timed, work_seconds
from ..training import distributed
from ..training.checkpoints import CHECKPOINT, trained_minutes
from . import exercises
from .notebooks import NotebookFailed, NotebooksFailed, list_notebooks, run_notebook

DATA = REPOSITORY / "data"
METRICS, PREDICTIONS, ORIGIN = SCORES_FILE, PREDICTIONS_FILE, "origin.json"


def run_dir(cfg, results_dir=REPOSITORY / "results"):
    """Folder of everything that the run of `cfg` writes."""
    return Path(results_dir) / f"{cfg.profile}-{cfg.hash()}"


def dataset_dir(cfg):
    """Folder of the prepared set that `cfg` names; a capture that overrides changed has a folder of its own."""
    if cfg.dataset != "capture":
        return DATA / cfg.dataset

    def recipe(config):
        fields = dataclasses.asdict(config).items()
        values = [
            value
            for name, value in fields
            if name.startswith("capture_") or name in ("train_step", "test_step")
        ]
        return values + [_trained_on(config)] if _trained_on(config) else values

    mine = recipe(cfg)
    suffix = (
        ""
        if mine == recipe(load_config(cfg.profile))
        else f"-{hashlib.sha256(repr(mine).encode()).hexdigest()[:6]}"
    )
    return DATA / f"capture-{cfg.profile}{suffix}"


def _trained_on(cfg):
    """Actors of the capture that are test actors as a rule, and training actors to `cfg`: S9 of "train + S9 / test S11"."""
    return tuple(sorted(set(cfg.train_subjects) & set(cfg.capture_subjects) & set(TEST_SUBJECTS)))


def part_step(cfg, part):
    """Every how many frames one is used in a part of the data.

    The capture draws training actors every train_step frames. Who validates or tests on such an actor gets the first
    multiple of that step that reaches test_step, or one that both steps divide where the part holds both kinds.
    """
    if part == "train" or cfg.dataset != "capture":
        return cfg.train_step if part == "train" else cfg.test_step
    sparse = [
        subject in TEST_SUBJECTS and subject not in cfg.train_subjects
        for subject in getattr(cfg, f"{part}_subjects")
    ]
    if all(sparse):
        return cfg.test_step
    return (
        math.lcm(cfg.train_step, cfg.test_step)
        if any(sparse)
        else -(-cfg.test_step // cfg.train_step) * cfg.train_step
    )


def capture(cfg, target=None, workers=None):
    """Write the built-in capture of `cfg`, or what is missing of it; returns its folder."""
    target = Path(target or dataset_dir(cfg))
    write_capture(
        target,
        subjects=cfg.capture_subjects,
        actions=cfg.capture_actions,
        takes=cfg.capture_takes,
        cameras=cfg.capture_cameras,
        n_frames=cfg.capture_frames,
        train_step=cfg.train_step,
        test_step=cfg.test_step,
        workers=workers or cfg.workers,
        trained_on=_trained_on(cfg),
    )
    return target


def crop_store(cfg, part):
    """The crop store of one part of `cfg`'s data, built if it is missing; see `store.split_store`.

    Args:
        cfg: Config.
        part: "train", "validation" or "test".
    Returns:
        CropStore.
    """
    source = dataset_dir(cfg)
    subjects, step = getattr(cfg, f"{part}_subjects"), part_step(cfg, part)
    if cfg.dataset == "capture":
        subjects = tuple(subject for subject in subjects if subject in cfg.capture_subjects)
    return split_store(source, DATA / "stores", part, subjects, step, cfg.crop_px, cfg.workers)


def stores(cfg):
    """(train, test) crop stores of `cfg`; the capture is written first where the data set is the built-in one."""
    if cfg.dataset == "capture":
        capture(cfg)
    return crop_store(cfg, "train"), crop_store(cfg, "test")


def mixed_in(cfg):
    """Crop stores of the 2D sets that `cfg.mix` names; InputError where one has not been prepared."""
    found = []
    for name in cfg.mix:
        path = DATA / "stores" / f"{name}-train-{cfg.crop_px}"
        store = find_store(path)
        if store is None:
            known = name if name in ("mpii", "coco") else f"mpii (or coco) --target data/{name}"
            raise InputError(
                f"{path} is missing or damaged; build it with `python -m ipr_lib prepare {known} --source DIR --store {cfg.crop_px}`, "
                "or train without it: --set 'mix=[]'"
            )
        found.append(store)
    return found


def trained(cfg, results_dir=REPOSITORY / "results", folder=None):
    """The trained network of `cfg`; trains it, or goes on with its training, where that is not done.

    Args:
        cfg: Config.
        results_dir: where runs lie.
        folder: of this run; by default the one that `run_dir` names.
    Returns:
        model in eval mode.
    """
    others = mixed_in(cfg)  # before hours are spent on the 3D store
    with distributed.rank0_first():
        store = stores(cfg)[0]
    return _train(cfg, store, others, Path(folder or run_dir(cfg, results_dir)))


def _train(cfg, store, others, folder):
    """Train on `store` and 2D stores; a network of other data, which the config does not tell apart, is refused."""
    path, origin = folder / ORIGIN, store.recipe["origin"]
    if others:
        origin = [origin, *(other.recipe["origin"] for other in others)]
    if (folder / CHECKPOINT).exists() and path.exists() and read_json(path) != origin:
        raise InputError(
            f"{folder} holds a network trained on another version of {' or '.join([store.recipe['source'], *cfg.mix])}; "
            "delete that folder to train anew"
        )
    with distributed.rank0_first():
        write_json(path, origin)
        validation = crop_store(cfg, "validation") if cfg.validation_subjects else None
    return train_run(cfg, train_set(cfg, store, others), folder, validation=validation)


def train_set(cfg, store, others):
    """What batches are drawn from: the 3D store alone, or mixed with 2D stores in the ratio of `cfg`."""
    return StoreMix([store, *others], cfg.mix_ratio or None) if others else store


def evaluated(cfg, results_dir=REPOSITORY / "results", stages=3):
    """Scores of the trained network on the test part.

    Args:
        cfg: Config.
        results_dir: where runs lie.
        stages: of the whole job, of which data, training and evaluation are the first three; a log counts them.
    Returns:
        content of the run's `metrics.json`; the other files of `report.write_scores` lie beside it.
    """
    folder = run_dir(cfg, results_dir)
    others = mixed_in(cfg)
    with stage(1, stages), timed(folder, "data"):
        train_store, test_store = stores(cfg)
    with stage(2, stages):
        network = _train(cfg, train_store, others, folder)
    checkpoint = folder / CHECKPOINT
    done = _valid_scores(folder, fingerprint(checkpoint), len(test_store))
    if done is not None:
        return done
    with stage(3, stages), timed(folder, "evaluation"):
        scored, predictions = score_run(network, cfg, checkpoint, train_store, test_store)
    content = {"run": folder.name, "minutes": step_minutes(folder, checkpoint)} | scored
    write_scores(folder, content, predictions, action_rows(content), run_report(content))
    return read_json(folder / METRICS)


def _valid_scores(folder, checkpoint, n_test):
    """Content of a run's `metrics.json` where it is of this checkpoint and test part, else None."""
    if not (folder / METRICS).exists() or not (folder / PREDICTIONS).exists():
        return None
    content = read_json(folder / METRICS)
    if content["checkpoint"] != checkpoint or "scores_flip" not in content:
        return None
    if content["scores"]["n"] != n_test:  # the test part may have grown since
        return None
    return content


def step_minutes(folder, checkpoint):
    """Minutes of a run's data, training and evaluation, as far as they were measured."""
    measured = read_json(folder / TIMES) if (folder / TIMES).exists() else {}
    minutes = measured | {"training": trained_minutes(checkpoint)}
    steps = ("data", "training", "evaluation")
    return {step: minutes[step] for step in steps if step in minutes}


def compared(
    profile,
    seeds=(0,),
    results_dir=REPOSITORY / "results",
    names=None,
    axes=compare_plan.AXES,
    overrides=None,
):
    """The controlled comparison of a profile, on its own data; runs that are done already are read.

    Args:
        profile: one of compare_plan.BASES.
        seeds, names, axes, overrides: see `compare.compare`.
        results_dir: where runs lie.
    Returns:
        content of the summary, see `verdicts.write_summary`. It is written to `compare-PROFILE/AXES.json`, or `chosen.json`
        where cases are named, when the last run is done.
    """
    overrides = dict(overrides or {})
    folder = Path(results_dir) / f"compare-{profile}"
    path = (
        folder
        / f"{'chosen' if names else 'all' if tuple(axes) == compare_plan.AXES else '-'.join(axes)}.json"
    )
    compare_plan.planned_cases(
        profile
    )  # refuses a profile without a comparison before any data are made
    runs = compare.compare(
        profile, stores(load_config(profile, **overrides)), folder, seeds, names, axes, overrides
    )
    return verdicts.write_summary(runs, path)


def reproduce(
    profile,
    seed=0,
    overrides=None,
    results_dir=REPOSITORY / "results",
    only=None,
    fresh=False,
    solutions=False,
):
    """Capture, train, evaluate, print the table, run the notebooks; whatever is valid already is reused.

    A notebook that fails costs the others nothing: they run all the same.

    Args:
        profile: a profile's name.
        seed: of the run.
        overrides: further fields of Config, by name.
        results_dir: where runs lie.
        only: numbers of notebooks ("00", "06") to run; all by default.
        fresh: execute notebooks again though nothing has changed for them.
        solutions: solve the exercises of each notebook that has solutions, too, and check them.
    Returns:
        content of the run's `metrics.json`.
    Raises:
        NotebooksFailed: notebooks failed; the message lists them. The same call runs these, and these alone, again.
    """
    started = work_seconds()
    overrides = dict(overrides or {})
    cfg = load_config(profile, seed=seed, **overrides)
    notebooks = [path for path in list_notebooks() if only is None or path.name[:2] in only]
    if only is not None and len(notebooks) != len(set(only)):
        raise InputError(
            f"no notebook {', '.join(sorted(set(only) - {path.name[:2] for path in notebooks}))}"
        )
    with_comparison = profile in compare.IN_REPRODUCE and any(
        path.name.startswith("08_") for path in notebooks
    )
    stages = 5 if with_comparison else 4

    metrics = evaluated(cfg, results_dir, stages)
    print(run_report(metrics), flush=True)  # at once: what comes next takes long, and may fail

    folder = run_dir(cfg, results_dir)
    if with_comparison:
        with stage(4, stages), timed(folder, "comparison"):
            compared(
                profile, (seed,), results_dir, compare.IN_REPRODUCE[profile], overrides=overrides
            )
    parameters = {
        "profile": profile,
        "seed": seed,
        "overrides": overrides,
        "results_dir": str(Path(results_dir).resolve()),
    }
    with stage(stages, stages):
        failures = _run_notebooks(
            notebooks, folder, parameters, metrics["checkpoint"], fresh, solutions
        )
    print(minutes_table(run_minutes(folder)), end="\n\n")
    print(f"report, figures and executed notebooks: {folder}")
    print(f"{(work_seconds() - started) / 60:.1f} minutes", flush=True)
    if failures:
        raise NotebooksFailed(failures)
    return metrics


def _run_notebooks(notebooks, folder, parameters, checkpoint, fresh, solutions):
    """Run the notebooks for which something has changed since they last ran, or that failed.

    Args:
        notebooks: paths of them.
        folder: of the run; each notebook gets a folder of its own in it.
        parameters: of the notebooks, by name.
        checkpoint: what tells the run's network from others.
        fresh, solutions: see `reproduce`.
    Returns:
        list of NotebookFailed, of those that failed.
    """
    failures = []
    with progress(notebooks, desc="notebooks", unit="notebook") as bar:
        for path in bar:
            bar.set_postfix_str(path.stem)
            target = folder / path.name[:2]
            solved = exercises.solutions_of(path) if solutions else None
            if solved is not None and not solved.exists():
                solved = None
            stamp = _notebook_stamp(path, solved, parameters, checkpoint)
            done = target / STAMP
            unchanged = done.exists() and read_json(done)["stamp"] == json.loads(json.dumps(stamp))
            if unchanged and (target / "executed.ipynb").exists() and not fresh:
                continue
            start = work_seconds()
            try:
                run_notebook(path, target, parameters, solved)
            except NotebookFailed as failure:
                done.unlink(
                    missing_ok=True
                )  # an older success must not count for what lies there now
                print(f"failed: {failure}", file=sys.stderr, flush=True)
                failures.append(failure)
                continue
            write_json(done, {"stamp": stamp, "minutes": round((work_seconds() - start) / 60, 3)})
    return failures


def _notebook_stamp(path, solved, parameters, checkpoint):
    """All that an executed notebook depends on: the library, the run's network, parameters, the notebook and its solutions."""
    library = sorted(
        path for path in (REPOSITORY / "ipr_lib").rglob("*") if path.suffix in (".py", ".js")
    )
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in library))
    stamp = {
        "sources": sources.hexdigest()[:16],
        "checkpoint": checkpoint,
        "parameters": parameters,
    }
    stamp["notebook"] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if solved is not None:
        stamp["solutions"] = hashlib.sha256(solved.read_bytes()).hexdigest()[:16]
    return stamp
