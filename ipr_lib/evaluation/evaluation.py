"""What a network is told about each picture, which pictures count, and all scores of its predictions.

Taught in notebooks/10_evaluation.ipynb.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from ..data.h36m_layout import DAMAGED_SEQUENCES
from ..data.store import sequence_index
from ..files import InputError, atomic_path
from ..geometry.camera import ASSUMED_FOCAL, Camera
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS
from ..geometry.transforms import BOX_MM
from .metrics import align, root_relative, score

BOXES = ("oracle", "estimated")
ROOTS = ("oracle", "mean", "box")
INTRINSICS = ("oracle", "pinhole", "assumed")


@dataclass(frozen=True)
class Told:
    """What a network is told about each picture besides its pixels.

    Attributes:
        box: (N, 3) centre x, y, side of the crop, px.
        root_depth: (N,) depth of the root, mm.
        cameras: Camera with leading axes (N, 1).
        words: what of it comes from the labels, and how the rest was made: to be printed beside every number.
    """

    box: np.ndarray
    root_depth: np.ndarray
    cameras: Camera
    words: tuple[str, ...]


def is_damaged(columns):
    """Which items are of `layout.DAMAGED_SEQUENCES`; columns as in `sequence_index`. (N,) bool."""
    damaged = np.zeros(len(columns["subject"]), bool)
    for take in DAMAGED_SEQUENCES:
        damaged |= np.all(
            [
                columns[name] == number
                for name, number in zip(("subject", "action", "subaction"), take)
            ],
            axis=0,
        )
    return damaged


def items_of(columns, subjects=None):
    """Items of some subjects.

    Args:
        columns: as in `sequence_index`.
        subjects: numbers; None takes all.
    Returns:
        (M,) indices.
    Raises:
        InputError: a subject has no picture.
    """
    if subjects is None:
        return np.arange(len(columns["subject"]))
    missing = sorted(set(subjects) - set(np.unique(columns["subject"]).tolist()))
    if missing:
        there = ", ".join(f"S{subject}" for subject in np.unique(columns["subject"]))
        raise InputError(
            f"no test picture of S{', S'.join(map(str, missing))}: the test part holds {there}"
        )
    return np.flatnonzero(np.isin(columns["subject"], list(subjects)))


def tell(store, box="oracle", root="oracle", intrinsics="oracle", train_store=None):
    """Decide what a network is told.

    Args:
        store: CropStore.
        box: "oracle", the square that a 2 m cube round the true root covers; "estimated", as from a detector that finds
            the joints' extent: the square about it, widened by what the training pictures ask for at the median.
        root: "oracle", the true depth; "mean", that of the training pictures; "box", the depth at which a 2 m cube would
            fill the estimated box.
        intrinsics: "oracle", lens included where the set has one; "pinhole", without the lens; "assumed", a pinhole with
            f = 1.2 times the picture's longer side and c in its middle.
        train_store: CropStore that estimates lean on; not needed for oracles.
    Returns:
        Told.
    Raises:
        InputError: an unknown choice, or root "box" with the oracle box, whose size gives the true depth away.
    """
    for name, choice, known in (
        ("box", box, BOXES),
        ("root", root, ROOTS),
        ("intrinsics", intrinsics, INTRINSICS),
    ):
        if choice not in known:
            raise InputError(f"{name} {choice!r}: expected one of {', '.join(known)}")
    if root == "box" and box == "oracle":
        raise InputError(
            "root box: the oracle box gives the true depth away; take box estimated with it"
        )
    if train_store is None and (box, root) != ("oracle", "oracle"):
        raise InputError("estimates of box and root need the training part; pass its store")
    columns, cameras = store.columns, store.cameras(np.arange(len(store)))
    words = []
    if intrinsics == "oracle":
        words.append("intrinsics" if cameras.k is None else "intrinsics with lens")
    elif intrinsics == "pinhole":
        cameras = dataclasses.replace(cameras, k=None, p=None)
        words.append("intrinsics without lens")
    else:
        size = columns["picture_size"].astype(float)[:, None]
        focal = np.repeat(ASSUMED_FOCAL * size.max(-1, keepdims=True), 2, axis=-1)
        cameras = dataclasses.replace(cameras, f=focal, c=(size - 1) / 2, k=None, p=None)
        words.append(f"intrinsics assumed (f {ASSUMED_FOCAL} x the longer side)")
    boxes = np.asarray(columns["box"], float)
    if box == "estimated":
        boxes = joint_boxes(columns, _box_scale(train_store))
        words.insert(0, "box of the true joints' extent")
    else:
        words.insert(0, "2 m box at the true root")
    if root == "oracle":
        depth = columns["joints_cam"][:, HUMAN36M.root, 2].astype(float)
        words.insert(1, "root depth")
    elif root == "mean":
        depth = np.full(
            len(store), train_store.columns["joints_cam"][:, HUMAN36M.root, 2].mean(dtype=float)
        )
        words.insert(1, f"root depth assumed ({depth[0]:.0f} mm)")
    else:
        depth = BOX_MM * cameras.f[:, 0].mean(-1) / boxes[:, 2]
        words.insert(1, "root depth from the box's size")
    return Told(boxes, depth, cameras, tuple(words))


def joint_boxes(columns, scale=1.0):
    """Square boxes about the visible joints, as a detector would draw them.

    Args:
        columns: of a store; joints_img (N, J, 2) px, visible (N, J).
        scale: side of the box over the longer side of the joints' extent.
    Returns:
        (N, 3) centre x, y, side; px.
    """
    joints = np.where(columns["visible"][..., None], columns["joints_img"].astype(float), np.nan)
    low, high = np.nanmin(joints, axis=1), np.nanmax(joints, axis=1)
    return np.concatenate([(low + high) / 2, scale * (high - low).max(1, keepdims=True)], axis=1)


def _box_scale(train_store):
    """How much wider than the joints' extent the 2 m box is, at the median of the training pictures."""
    return float(
        np.median(train_store.columns["box"][:, 2] / joint_boxes(train_store.columns)[:, 2])
    )


def score_items(pred_cam, columns, items=None):
    """Score predictions by every convention.

    Args:
        pred_cam: (N, J, 3) camera, mm, in the store's order.
        columns: of the store: joints_cam, subject, action, subaction.
        items: (M,) indices to score; None scores all.
    Returns:
        dict of `metrics.score`, with intervals over takes; and without_damaged, the same without intervals and joints for
        the items that are not of `layout.DAMAGED_SEQUENCES`: {n, mpjpe: {frame_mean, action_mean}, …}, empty where all are.
    """
    items = np.arange(len(pred_cam)) if items is None else items
    chosen = {
        name: np.asarray(columns[name])[items]
        for name in ("joints_cam", "subject", "action", "subaction")
    }
    pred_cam = np.asarray(pred_cam)[items]
    result = score(
        pred_cam, chosen["joints_cam"], chosen["action"], SCORED_JOINTS, sequence_index(chosen)
    )
    sound = ~is_damaged(chosen)
    metrics = ("mpjpe", "pa_mpjpe", "pa_mpjpe_scale")
    means = ("frame_mean", "action_mean")
    rest = result
    if not sound.all() and sound.any():
        rest = score(
            pred_cam[sound], chosen["joints_cam"][sound], chosen["action"][sound], SCORED_JOINTS
        )
    result["without_damaged"] = (
        {}
        if not sound.any()
        else {
            "n": rest["n"],
            **{metric: {mean: rest[metric][mean] for mean in means} for metric in metrics},
        }
    )
    return result


def write_texts(folder, pred_cam, target_cam):
    """The three text files that public code for this method writes: a pose a line, 54 numbers, mm, root-relative.

    Args:
        folder: gets pred_3d_kpt.txt, pred_3d_kpt_align.txt (rigidly aligned over all joints) and gt_3d_kpt.txt.
        pred_cam, target_cam: (N, J, 3) camera, mm.
    """
    pred, target = (
        root_relative(np.asarray(pred_cam, float)),
        root_relative(np.asarray(target_cam, float)),
    )
    files = {
        "pred_3d_kpt.txt": pred,
        "pred_3d_kpt_align.txt": align(pred, target),
        "gt_3d_kpt.txt": target,
    }
    for name, poses in files.items():
        with atomic_path(folder / name) as temporary:
            np.savetxt(temporary, poses.reshape(len(poses), -1), fmt="%.3f", newline=" \n")
