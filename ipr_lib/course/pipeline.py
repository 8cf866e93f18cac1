"""From a Config to data, a trained network, scores and executed notebooks; each step is skipped where it is done.

`make reproduce` runs all of it; notebooks call the same steps, so nothing is captured or trained twice.
"""

import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path

import torch

from ..config import Config, load_config
from ..data.h36m_layout import TEST_SUBJECTS
from ..data.mixing import StoreMix
from ..data.store import find_store, split_store
from ..evaluation.report import (
    PREDICTIONS_FILE,
    SCORES_FILE,
    STAMP,
    action_rows,
    minutes_table,
    run_minutes,
    run_report,
    write_scores,
)
from ..experiment import AXES, IN_REPRODUCE, compare, planned_cases, write_summary
from ..files import REPOSITORY, InputError, read_json, write_json
from ..progress import TIMES, progress, stage, timed, work_seconds
from ..run import fingerprint, score_run, train_run
from ..studio import write_capture
from ..training import distributed
from ..training.checkpoints import CHECKPOINT, trained_minutes
from .exercises import solutions_of
from .notebooks import NotebookFailed, NotebooksFailed, list_notebooks, run_notebook

DATA = REPOSITORY / "data"
RESULTS = REPOSITORY / "results"
METRICS, PREDICTIONS, ORIGIN = SCORES_FILE, PREDICTIONS_FILE, "origin.json"


def run_dir(cfg: Config, results_dir: str | Path = RESULTS) -> Path:
    """Folder of everything that the run of `cfg` writes."""
    return Path(results_dir) / f"{cfg.profile}-{cfg.hash()}"


# --- data ---


def dataset_dir(cfg: Config) -> Path:
    """Folder of the prepared set that `cfg` names; a capture that overrides changed has a folder of its own."""
    if cfg.dataset != "capture":
        return DATA / cfg.dataset
    recipe = _capture_recipe(cfg)
    name = f"capture-{cfg.profile}"
    if recipe != _capture_recipe(load_config(cfg.profile)):
        name += "-" + hashlib.sha256(repr(recipe).encode()).hexdigest()[:6]
    return DATA / name


def _capture_recipe(cfg):
    """Everything of a Config that the pictures of its capture depend on."""
    recipe = []
    for name, value in dataclasses.asdict(cfg).items():
        if name.startswith("capture_") or name in ("train_step", "test_step"):
            recipe.append(value)
    if _trained_on(cfg):
        recipe.append(_trained_on(cfg))
    return recipe


def _trained_on(cfg):
    """Actors of the capture that are usually test actors, but training actors in `cfg`: S9 of "train + S9 / test S11"."""
    actors = set(cfg.train_subjects) & set(cfg.capture_subjects) & set(TEST_SUBJECTS)
    return tuple(sorted(actors))


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
    return split_store(source, DATA / "stores", split, subjects, step, cfg.crop_px, cfg.workers)


def stores(cfg: Config) -> tuple:
    """(train, test) crop stores of `cfg`; the capture is written first where the data set is the built-in one."""
    if cfg.dataset == "capture":
        capture(cfg)
    return crop_store(cfg, "train"), crop_store(cfg, "test")


def mixed_in(cfg: Config) -> list:
    """Crop stores of the 2D sets that `cfg.mix` names; InputError where one has not been prepared."""
    found = []
    for name in cfg.mix:
        path = DATA / "stores" / f"{name}-train-{cfg.crop_px}"
        store = find_store(path)
        if store is None:
            reader = name if name in ("mpii", "coco") else f"mpii (or coco) --target data/{name}"
            command = f"python -m ipr_lib prepare {reader} --source DIR --store {cfg.crop_px}"
            raise InputError(
                f"{path} is missing or damaged; build it with `{command}`, or train without it: --set 'mix=[]'"
            )
        found.append(store)
    return found


# --- training and scores ---


def trained(
    cfg: Config,
    results_dir: str | Path = RESULTS,
    folder: str | Path | None = None,
    init: Path | None = None,
) -> torch.nn.Module:
    """The trained network of `cfg`; it is trained, or its training goes on, where that is not done.

    Args:
        cfg: Config.
        results_dir: where runs lie.
        folder: of this run; by default the one that `run_dir` names.
        init: file or run whose weights a new training starts from, see `run.start_from`.

    Returns:
        network in eval mode.
    """
    others = mixed_in(cfg)  # before hours are spent on the 3D store
    with distributed.rank0_first():
        store = stores(cfg)[0]
    return _train(cfg, store, others, Path(folder or run_dir(cfg, results_dir)), init)


def _train(cfg, store, others, folder, init=None):
    """Train on `store` and 2D stores; refuse a folder whose network was trained on other data under the same config."""
    path, origin = folder / ORIGIN, store.recipe["origin"]
    if others:
        origin = [origin, *(other.recipe["origin"] for other in others)]
    if (folder / CHECKPOINT).exists() and path.exists() and read_json(path) != origin:
        sets = " or ".join([store.recipe["source"], *cfg.mix])
        raise InputError(
            f"{folder} holds a network trained on another version of {sets}; delete that folder to train anew"
        )
    with distributed.rank0_first():
        write_json(path, origin)
        validation = crop_store(cfg, "validation") if cfg.validation_subjects else None
    return train_run(cfg, train_set(cfg, store, others), folder, validation=validation, init=init)


def train_set(cfg: Config, store, others: list):
    """What batches are drawn from: the 3D store alone, or mixed with 2D stores in the ratio of `cfg`."""
    if not others:
        return store
    return StoreMix([store, *others], cfg.mix_ratio or None)


def evaluated(cfg: Config, results_dir: str | Path = RESULTS, stages: int = 3) -> dict:
    """Scores of the trained network on the test split; it is trained where that is not done.

    Args:
        cfg: Config.
        results_dir: where runs lie.
        stages: of the whole job; data, training and evaluation are the first three that a log counts.

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
    """Content of a run's `metrics.json` where it is of this checkpoint and test split, else None."""
    if not (folder / METRICS).exists() or not (folder / PREDICTIONS).exists():
        return None
    content = read_json(folder / METRICS)
    if content["checkpoint"] != checkpoint or "scores_flip" not in content:
        return None
    if content["scores"]["n"] != n_test:  # the test split may have grown since
        return None
    return content


def step_minutes(folder: Path, checkpoint: Path) -> dict[str, float]:
    """Minutes of a run's data, training and evaluation, as far as they were measured."""
    measured = read_json(folder / TIMES) if (folder / TIMES).exists() else {}
    minutes = measured | {"training": trained_minutes(checkpoint)}
    steps = ("data", "training", "evaluation")
    return {step: minutes[step] for step in steps if step in minutes}


def compared(
    profile: str,
    seeds: tuple[int, ...] = (0,),
    results_dir: str | Path = RESULTS,
    names: list[str] | None = None,
    axes: tuple[str, ...] = AXES,
    overrides: dict | None = None,
) -> dict:
    """The controlled comparison of a profile, on its own data; runs that are done already are read.

    Args:
        profile: one of experiment.plan.BASES.
        seeds, names, axes, overrides: see `experiment.run.compare`.
        results_dir: where runs lie.

    Returns:
        content of the summary, see `verdicts.write_summary`. It is written to `compare-PROFILE/AXES.json`, or `chosen.json`
        where cases are named, when the last run is done.
    """
    planned_cases(profile)  # refuses a profile without a comparison before any data are made
    overrides = dict(overrides or {})
    folder = Path(results_dir) / f"compare-{profile}"
    if names:
        name = "chosen"
    elif tuple(axes) == AXES:
        name = "all"
    else:
        name = "-".join(axes)
    data = stores(load_config(profile, **overrides))
    runs = compare(profile, data, folder, seeds, names, axes, overrides)
    return write_summary(runs, folder / f"{name}.json")


# --- the main job ---


def reproduce(
    profile: str,
    seed: int = 0,
    overrides: dict | None = None,
    results_dir: str | Path = RESULTS,
    only: list[str] | None = None,
    fresh: bool = False,
    solutions: bool = False,
) -> dict:
    """Capture, train, evaluate, print the table, run the notebooks; whatever is valid already is reused.

    Where a notebook fails, the others run all the same.

    Args:
        profile: a profile's name.
        seed: of the run.
        overrides: further fields of Config, by name.
        results_dir: where runs lie.
        only: numbers of notebooks ("00", "06") to run; all by default.
        fresh: execute notebooks again though nothing has changed for them.
        solutions: also solve the exercises of each notebook, and check the solutions.

    Returns:
        content of the run's `metrics.json`.

    Raises:
        NotebooksFailed: notebooks failed; the message lists them. The same call runs these, and these alone, again.
    """
    started = work_seconds()
    overrides = dict(overrides or {})
    cfg = load_config(profile, seed=seed, **overrides)
    notebooks = _chosen_notebooks(only)
    numbers = [path.name[:2] for path in notebooks]
    cases = IN_REPRODUCE.get(profile) if "08" in numbers else None
    stages = 5 if cases else 4

    metrics = evaluated(cfg, results_dir, stages)
    print(run_report(metrics), flush=True)  # at once, because what follows takes long and may fail

    folder = run_dir(cfg, results_dir)
    if cases:
        with stage(4, stages), timed(folder, "comparison"):
            compared(profile, (seed,), results_dir, cases, overrides=overrides)
    parameters = {
        "profile": profile,
        "seed": seed,
        "overrides": overrides,
        "results_dir": str(Path(results_dir).resolve()),
    }
    failures = []
    with stage(stages, stages), progress(notebooks, desc="notebooks", unit="notebook") as bar:
        for path in bar:
            bar.set_postfix_str(path.stem)
            try:
                _run_if_changed(path, folder, parameters, metrics["checkpoint"], fresh, solutions)
            except NotebookFailed as failure:
                print(f"failed: {failure}", file=sys.stderr, flush=True)
                failures.append(failure)
    print(minutes_table(run_minutes(folder)), end="\n\n")
    print(f"report, figures and executed notebooks: {folder}")
    print(f"{(work_seconds() - started) / 60:.1f} minutes", flush=True)
    if failures:
        raise NotebooksFailed(failures)
    return metrics


def _chosen_notebooks(only):
    """Paths of the notebooks with these numbers, or of all; InputError for a number that no notebook has."""
    notebooks = list_notebooks()
    if only is None:
        return notebooks
    unknown = set(only) - {path.name[:2] for path in notebooks}
    if unknown:
        raise InputError(f"no notebook {', '.join(sorted(unknown))}")
    return [path for path in notebooks if path.name[:2] in only]


def _run_if_changed(path, folder, parameters, checkpoint, fresh, solutions):
    """Run a notebook if it failed last time, or if something has changed for it since.

    Args:
        path: of the notebook.
        folder: of the run; each notebook gets a folder of its own in it.
        parameters: of the notebook, by name.
        checkpoint: what tells the run's network from others.
        fresh, solutions: see `reproduce`.
    """
    target = folder / path.name[:2]
    solved = solutions_of(path) if solutions and solutions_of(path).exists() else None
    stamp = _notebook_stamp(path, solved, parameters, checkpoint)
    done = target / STAMP
    if done.exists() and (target / "executed.ipynb").exists() and not fresh:
        before = read_json(done)["stamp"]
        if before == json.loads(json.dumps(stamp)):  # JSON has lists for tuples
            return
    done.unlink(missing_ok=True)  # an older success must not count if this run fails
    start = work_seconds()
    run_notebook(path, target, parameters, solved)
    minutes = (work_seconds() - start) / 60
    write_json(done, {"stamp": stamp, "minutes": round(minutes, 3)})


def _notebook_stamp(path, solved, parameters, checkpoint):
    """All that an executed notebook depends on: library, network, parameters, the notebook and its solutions."""
    sources = hashlib.sha256()
    for source in sorted((REPOSITORY / "ipr_lib").rglob("*")):
        if source.suffix in (".py", ".js"):
            sources.update(source.read_bytes())
    stamp = {
        "sources": sources.hexdigest()[:16],
        "checkpoint": checkpoint,
        "parameters": parameters,
        "notebook": fingerprint(path),
    }
    if solved is not None:
        stamp["solutions"] = fingerprint(solved)
    return stamp
