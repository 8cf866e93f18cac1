"""From a checkpoint to tables: what `python -m ipr_lib test` does. Notebook 10 makes the same numbers by hand."""

import hashlib
from pathlib import Path

import numpy as np

from ..course import pipeline
from ..files import InputError, atomic_path, read_json, write_json
from ..run import blank_network, default_device, predict_run
from ..training.checkpoints import BEST, CHECKPOINT, config_of, load_checkpoint, read_checkpoint
from . import evaluation, published, results
from .metrics import summary
from .tables import csv_table, latex_table, markdown_table

CHECKPOINTS = {"last": CHECKPOINT, "best": BEST}


def find_run(name, results_dir):
    """Folder of a run.

    Args:
        name: of a folder in `results_dir`, or a path.
        results_dir: where runs lie.
    Returns:
        Path.
    Raises:
        InputError: there is no such folder; the message names those that there are.
    """
    for folder in (Path(results_dir) / name, Path(name)):
        if folder.is_dir():
            return folder
    known = sorted(path.parent.name for path in Path(results_dir).glob(f"*/{CHECKPOINT}"))
    raise InputError(
        f"no run {name} in {results_dir}; {'there are ' + ', '.join(known) if known else 'train one first'}"
    )


def open_run(folder, checkpoint="last"):
    """Network and Config of a run.

    Args:
        folder: of the run.
        checkpoint: "last", "best", or the path of a file.
    Returns:
        model in eval mode on the default device, Config, path of the checkpoint.
    Raises:
        InputError: no such checkpoint, or one that is damaged.
    """
    path = Path(folder) / CHECKPOINTS[checkpoint] if checkpoint in CHECKPOINTS else Path(checkpoint)
    if not path.is_file():
        raise InputError(
            f"{path} is missing; pass --checkpoint last, best (where the run kept one) or the path of a file"
        )
    cfg = checkpoint_config(path)
    model = blank_network(cfg)  # the weights come from the file
    load_checkpoint(path, cfg, model)
    return model.to(default_device()).eval(), cfg, path


def checkpoint_config(path):
    """The Config that a checkpoint of ours was trained with; InputError where there is no such file, or it is none."""
    if not Path(path).is_file():
        raise InputError(f"{path} is missing; expected a run that has begun to train")
    advice = "published ones are read by --published"
    return config_of(
        read_checkpoint(path, what="a whole checkpoint of this library", advice=advice)
    )


def score_run(
    folder,
    checkpoint="last",
    subjects=None,
    box="oracle",
    root="oracle",
    intrinsics="oracle",
    texts=False,
):
    """Predict and score the test part with a run's network, one look and flip test.

    Args:
        folder: of the run.
        checkpoint: see `open_run`.
        subjects: score these test subjects alone; None scores all.
        box, root, intrinsics: what the network is told, see `evaluation.tell`.
        texts: also write the three text files of `evaluation.write_texts`.
    Returns:
        dict: what was scored, scores and scores_flip of `evaluation.score_items`, and folder. That folder, in the run's,
        gets metrics.json, predictions.npz, table.md, table.csv and table.tex.
    Raises:
        InputError: see `open_run`, `evaluation.tell`; or the run was trained on another version of the data.
    """
    folder = Path(folder)
    model, cfg, path = open_run(folder, checkpoint)
    train_store, store = pipeline.stores(cfg)
    _check_origin(folder, train_store)
    items = evaluation.items_of(store.columns, subjects)
    told = evaluation.tell(store, box, root, intrinsics, train_store)
    predictions = predict_run(model, store, cfg, told, flip_test=True)
    choices = {"box": box, "root": root, "intrinsics": intrinsics}
    name = "-".join(
        [path.stem, *(f"{key}-{value}" for key, value in choices.items() if value != "oracle")]
    )
    if subjects is not None:
        name += "-" + _subjects_name(subjects)
    content = {
        "run": folder.name,
        "checkpoint": path.name,
        "fingerprint": _fingerprint(path),
        "data": "built-in capture" if cfg.dataset == "capture" else cfg.dataset,
        "subjects": sorted(np.unique(store.columns["subject"][items]).tolist()),
        "test_step": cfg.test_step,
        "oracle": list(told.words),
        "seed": cfg.seed,
        "commit": results.commit(),
        "device": results.device_name(default_device()),
        "scores": evaluation.score_items(predictions["pred_cam"], store.columns, items),
        "scores_flip": evaluation.score_items(predictions["pred_cam_flip"], store.columns, items),
    }
    target = folder / "test" / name
    rows = [
        *results.score_rows("one look", content["scores"]),
        *results.score_rows("flip test", content["scores_flip"]),
    ]
    _write(target, content, {key: array[items] for key, array in predictions.items()}, rows)
    if texts:
        evaluation.write_texts(
            target, predictions["pred_cam"][items], predictions["target_cam"][items]
        )
    return content | {"folder": target}


def _subjects_name(subjects):
    """(11, 9) -> "S9S11"."""
    return "".join(f"S{subject}" for subject in sorted(subjects))


def _fingerprint(path):
    """16 hex digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _check_origin(folder, store):
    """InputError where a run's network was trained on another version of this training store's data."""
    path = folder / pipeline.ORIGIN
    if path.exists():
        origin = read_json(path)
        if (origin[0] if isinstance(origin, list) else origin) != store.recipe["origin"]:
            raise InputError(
                f"{folder} was trained on another version of {store.recipe['source']}; make that version again, or train anew"
            )


def _write(folder, content, predictions, rows):
    """The files of one scoring; see `score_run`."""
    write_json(folder / "metrics.json", content)
    with atomic_path(folder / "predictions.npz") as temporary:
        np.savez(temporary, **predictions)
    for suffix, table in (("md", markdown_table), ("csv", csv_table), ("tex", latex_table)):
        with atomic_path(folder / f"table.{suffix}") as temporary:
            temporary.write_text(table(results.ACTION_HEADER, rows).rstrip("\n") + "\n")


def run_report(content):
    """Tables of `score_run`, Markdown."""
    one, flip = content["scores"], content["scores_flip"]
    subjects = ",".join(map(str, content["subjects"]))
    return (
        "\n\n".join(
            [
                f"# {content['run']}, {content['checkpoint']}",
                f"MPJPE **{one['mpjpe']['frame_mean']:.1f} mm**, {flip['mpjpe']['frame_mean']:.1f} mm with the flip test. "
                f"{content['data']}, S{subjects}, every {content['test_step']}th frame, {one['n']} pictures; 17 joints, pelvis "
                f"included. Told: {'; '.join(content['oracle'])}.",
                "## By convention",
                markdown_table(
                    results.CONVENTION_HEADER,
                    results.convention_rows("one look", one)
                    + results.convention_rows("flip test", flip),
                ),
                "## Per action",
                markdown_table(
                    results.ACTION_HEADER,
                    results.score_rows("one look", one) + results.score_rows("flip test", flip),
                ),
                "## Per joint, one look",
                markdown_table(results.JOINT_HEADER, results.joint_rows(one)),
                f"tables, predictions and numbers: {content['folder']}",
            ]
        )
        + "\n"
    )


def score_published(path, cfg, results_dir, subjects=None, texts=False):
    """Predict and score a prepared set with a published network, by its authors' conventions and by ours.

    Args:
        path: its checkpoint, see `published.read_published`.
        cfg: Config that names the set, the test subjects and the step.
        results_dir: a folder `published-<release>-<set>-<file>-<fingerprint>` in it gets metrics.json, predictions.npz, tables.
        subjects: score these alone; None takes the test subjects of `cfg`.
        texts: also write the three text files of `evaluation.write_texts`, of the flip test as released.
    Returns:
        dict: what was scored; released {look: {mpjpe, pa_mpjpe: `metrics.summary`}} by the release's rules, ours
        {look: `evaluation.score_items`}; and folder.
    Raises:
        InputError: the checkpoint or the set cannot be read.
    """
    network = published.read_published(path)
    network.model.to(default_device())
    root = pipeline.dataset_dir(cfg)
    subjects = cfg.test_subjects if subjects is None else subjects
    rows = published.predict_set(network, root, subjects, cfg.test_step)
    columns = {"joints_cam": rows["target_cam"], **rows}
    content = {
        "checkpoint": Path(path).name,
        "fingerprint": _fingerprint(path),
        "release": network.release.name,
        "network": f"{network.trunk}, {published.CROP_PX} px, {network.model.depth_bins} depth cells",
        "epoch": network.epoch,
        "data": root.name,
        "subjects": sorted(np.unique(rows["subject"]).tolist()),
        "test_step": cfg.test_step,
        "oracle": ["2 m box at the true root", "root depth", "intrinsics without lens"],
        "commit": results.commit(),
        "device": results.device_name(default_device()),
        "released": {},
        "ours": {},
    }
    for look, pred_cam in rows["pred_cam"].items():
        errors = published.release_errors(pred_cam, rows["target_cam"], network.release)
        content["released"][look] = {
            metric: summary(values, rows["action"]) for metric, values in errors.items()
        }
        content["ours"][look] = evaluation.score_items(pred_cam, columns)
    # A release has several files, often of one name in another folder: their contents tell them apart.
    chosen = "" if set(subjects) == set(cfg.test_subjects) else "-" + _subjects_name(subjects)
    name = f"published-{network.release.name}-{root.name}-{Path(path).name.partition('.')[0]}-{content['fingerprint'][:8]}{chosen}"
    target = Path(results_dir) / name
    arrays = {f"pred_cam, {look}": pred_cam for look, pred_cam in rows.pop("pred_cam").items()}
    _write(target, content, rows | arrays, published_rows(content))
    if texts:
        evaluation.write_texts(
            target, arrays[f"pred_cam, {published.LOOKS[1]}"], rows["target_cam"]
        )
    return content | {"folder": target}


def published_rows(content):
    """Rows of the per-action table for `score_published`: each look by the release's own rules."""
    released = content["released"].items()
    return [
        row
        for look, scores in released
        for row in results.score_rows(look, scores, ("mpjpe", "pa_mpjpe"))
    ]


def published_report(content):
    """Tables of `score_published`, Markdown; on Human3.6M with the rows that its authors printed."""
    subjects, n = ",".join(map(str, content["subjects"])), content["ours"][published.LOOKS[0]]["n"]
    conventions = [
        row
        for look, scores in content["ours"].items()
        for row in results.convention_rows(look, scores)
    ]
    printed = []
    if (
        content["data"] == "human36m"
        and content["release"] == "mks0601"
        and content["subjects"] == [9, 11]
    ):
        printed = [row for row in results.published_rows() if content["release"] in row[0]]
    epoch = "" if content["epoch"] is None else f", epoch {content['epoch']}"
    return (
        "\n\n".join(
            [
                f"# {content['checkpoint']}: release of {content['release']}{epoch}",
                f"{content['network']}. {content['data']}, S{subjects}, every {content['test_step']}th frame, {n} pictures. Told: "
                f"{'; '.join(content['oracle'])}.",
                "## By the release's rules: rigid alignment over 18 joints, 17 scored",
                markdown_table(results.ACTION_HEADER, [*published_rows(content), *printed]),
                "## By this library's: alignment over the 17 scored joints",
                markdown_table(results.CONVENTION_HEADER, conventions),
                f"tables, predictions and numbers: {content['folder']}",
            ]
        )
        + "\n"
    )
