"""From a checkpoint to tables: what `python -m ipr_lib test` does.

Notebook 10 makes the same numbers by hand.
"""

from pathlib import Path

from ..config import config_from_record
from ..evaluation.prediction import oracle_inputs
from ..evaluation.published import RELEASED_PASS, score_published
from ..evaluation.report import (
    action_rows,
    published_report,
    release_rows,
    run_report,
    write_poses,
    write_scores,
)
from ..files import InputError, read_json
from ..run import blank_network, default_device, fingerprint, on_device, score_run
from ..training.checkpoints import BEST, CHECKPOINT, load_checkpoint, read_checkpoint
from . import pipeline

CHECKPOINTS = {"last": CHECKPOINT, "best": BEST}


def find_run(name: str, results_dir: Path) -> Path:
    """Folder of a run.

    Args:
        name: of a folder in `results_dir`, or a path.
        results_dir: where runs lie.
    Raises:
        InputError: there is no such folder; the message names those that there are.
    """
    for folder in (Path(results_dir) / name, Path(name)):
        if folder.is_dir():
            return folder
    known = sorted(path.parent.name for path in Path(results_dir).glob(f"*/{CHECKPOINT}"))
    advice = f"choose one of {', '.join(known)}" if known else "train one first"
    raise InputError(f"no run {name} in {results_dir}; {advice}")


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
    cfg = checkpoint_config(path)
    network = blank_network(cfg)  # the weights come from the file
    load_checkpoint(path, network)
    return on_device(network, cfg).eval(), cfg, path


def checkpoint_config(path: Path):
    """The Config that a checkpoint of ours was trained with.

    Raises:
        InputError: the file is missing, or is no such checkpoint.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is missing; expected a run that has begun to train")
    advice = "published ones are read by --published"
    content = read_checkpoint(path, what="a complete checkpoint of this library", advice=advice)
    return config_from_record(content["config"])


def evaluate_run(
    folder: Path,
    checkpoint: str | Path = "last",
    subjects: list[int] | None = None,
    box: str = "oracle",
    root: str = "oracle",
    intrinsics: str = "oracle",
    texts: bool = False,
) -> tuple[dict, Path]:
    """Score a run's network on the test part, with oracle inputs or without.

    Args:
        folder: of the run.
        checkpoint: see `open_run`.
        subjects: score these test subjects alone; None scores all.
        box, root, intrinsics: see `prediction.oracle_inputs`.
        texts: also write the three text files of `report.write_poses`.
    Returns:
        content of `metrics.json`, see `run.score_run`; the folder that it lies in, with the other
        files of `report.write_scores`: test/NAME in the run's.
    Raises:
        InputError: see `open_run` and `oracle_inputs`; or the run was trained on another version
            of the data.
    """
    folder = Path(folder)
    network, cfg, path = open_run(folder, checkpoint)
    train_store, test_store = pipeline.stores(cfg)
    _check_origin(folder, train_store)
    inputs = oracle_inputs(test_store, box, root, intrinsics, train_store)
    scored, predictions = score_run(network, cfg, path, train_store, test_store, inputs, subjects)
    content = {
        "run": folder.name,
        "checkpoint_file": path.name,
        "minutes": pipeline.step_minutes(folder, path),
    } | scored
    name = path.stem
    for key, value in (("box", box), ("root", root), ("intrinsics", intrinsics)):
        if value != "oracle":
            name += f"-{key}-{value}"
    target = folder / "test" / (name + _subjects_suffix(subjects))
    write_scores(target, content, predictions, action_rows(content), run_report(content))
    if texts:
        write_poses(target, predictions["pred_cam"], predictions["target_cam"])
    return content, target


def _check_origin(folder, store):
    """InputError where a run's network was trained on another version of this training store's data."""
    path = folder / pipeline.ORIGIN
    if not path.exists():
        return
    origin = read_json(path)
    if isinstance(origin, list):  # with 2D sets: the 3D set comes first
        origin = origin[0]
    if origin != store.recipe["origin"]:
        raise InputError(
            f"{folder} was trained on another version of {store.recipe['source']}; make that version again, or train anew"
        )


def _subjects_suffix(subjects):
    """[11, 9] -> "-S9S11"; "" for None."""
    if subjects is None:
        return ""
    return "-" + "".join(f"S{subject}" for subject in sorted(subjects))


def evaluate_published(
    path: Path,
    cfg,
    results_dir: Path,
    subjects: list[int] | None = None,
    texts: bool = False,
) -> tuple[dict, Path]:
    """Score a published network on a prepared set, by its authors' rules and by ours.

    Args:
        path: its checkpoint, see `published.read_published`.
        cfg: Config that names the set, the test subjects and the step.
        results_dir: where results lie.
        subjects: score these alone; None takes the test subjects of `cfg`.
        texts: also write the three text files of `report.write_poses`, of the flip test as released.
    Returns:
        content of `metrics.json`, see `published.score_published`; the folder that it lies in, with
        the other files of `report.write_scores`: published-RELEASE-SET-FILE-FINGERPRINT.
    Raises:
        InputError: the checkpoint or the set cannot be read.
    """
    path = Path(path)
    if subjects is None or set(subjects) == set(cfg.test_subjects):
        subjects, suffix = cfg.test_subjects, ""
    else:
        suffix = _subjects_suffix(subjects)
    scored, predictions = score_published(
        path, pipeline.dataset_dir(cfg), subjects, cfg.test_step, default_device()
    )
    content = {"fingerprint": fingerprint(path)} | scored
    # A release has several files, often of one name in other folders: their contents tell them apart.
    parts = [content["release"], content["data"], path.name.partition(".")[0]]
    name = f"published-{'-'.join(parts)}-{content['fingerprint'][:8]}{suffix}"
    target = Path(results_dir) / name
    write_scores(target, content, predictions, release_rows(content), published_report(content))
    if texts:
        write_poses(target, predictions[f"pred_cam, {RELEASED_PASS}"], predictions["target_cam"])
    return content, target
