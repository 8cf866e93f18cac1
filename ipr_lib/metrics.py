"""How wrong a pose is, in mm. Batched NumPy, float64, no loop over poses.

Taught in notebooks/10_evaluation.ipynb. Poses are (N, J, 3), mm; both arguments in the same frame and joint set.
"""

import numpy as np


def joint_errors(pred, target):
    """Distance of each joint: (N, J, 3), (N, J, 3) -> (N, J), same unit."""
    return np.linalg.norm(np.asarray(pred, float) - np.asarray(target, float), axis=-1)


def root_relative(joints, root=0):
    """Subtract the root joint: (N, J, 3) -> (N, J, 3)."""
    return joints - joints[..., root:root + 1, :]


def align(pred, target, scale=False):
    """Rotate and move (and scale) each prediction onto its target: the best fit by squared distance.

    Kabsch 1976; with scale Umeyama 1991, eqs. (40)-(42). A mirror is never a rotation: the determinant is kept at +1.

    Args:
        pred, target: (N, J, 3), mm.
        scale: also fit one scale factor a pose. Sun et al. 2018 align without.
    Returns:
        (N, J, 3) aligned predictions, mm.
    Raises:
        ValueError: a pose is not finite.
    """
    pred, target = np.asarray(pred, float), np.asarray(target, float)
    if not (np.isfinite(pred).all() and np.isfinite(target).all()):
        raise ValueError("poses must be finite to be aligned")
    mean_pred, mean_target = pred.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    p, t = pred - mean_pred, target - mean_target
    U, singular, Vt = np.linalg.svd(np.swapaxes(p, -1, -2) @ t)
    sign = np.sign(np.linalg.det(U @ Vt))
    U = np.concatenate([U[..., :2], U[..., 2:] * sign[..., None, None]], axis=-1)
    rotated = p @ (U @ Vt)
    if scale:
        trace = singular[..., 0] + singular[..., 1] + sign * singular[..., 2]
        # A prediction shrunk to a point has no direction to be scaled along; it stays a point.
        spread = np.maximum((p**2).sum((-2, -1)), np.finfo(float).tiny)
        rotated = rotated * (trace / spread)[..., None, None]
    return rotated + mean_target


def mpjpe(pred, target):
    """Mean per joint position error after the roots are put together.

    Args:
        pred, target: (N, J, 3), mm, root first. All J joints count, the root (0 by construction) included.
    Returns:
        float, mm.
    """
    return float(joint_errors(root_relative(pred), root_relative(target)).mean())


def pa_mpjpe(pred, target, scale=False):
    """Mean per joint position error after `align`.

    Args:
        pred, target: (N, J, 3), mm.
        scale: see `align`.
    Returns:
        float, mm.
    """
    return float(joint_errors(align(pred, target, scale), target).mean())


def mean_by_group(values, groups):
    """Mean of `values` for each distinct entry of `groups`.

    Args:
        values: (N,). groups: (N,) integers.
    Returns:
        groups found, sorted (G,); their means (G,); their counts (G,).
    """
    found, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return found, np.bincount(index, weights=values) / counts, counts


def score(pred, target, actions, scored_joints):
    """Every number of the table for one set of predictions.

    Args:
        pred, target: (N, J, 3), mm, root first, any common origin.
        actions: (N,) action numbers.
        scored_joints: the first so many joints are scored; alignment uses the same joints.
    Returns:
        dict: for each of mpjpe, pa_mpjpe, pa_mpjpe_scale a dict of frame_mean, action_mean, per_action {action: mm},
        per_joint [mm]; plus mpjpe_xy and mpjpe_z (mean distance across and along the view, mm), and n.
    """
    pred, target = (root_relative(np.asarray(p, float)[:, :scored_joints]) for p in (pred, target))
    aligned = {
        "mpjpe": pred, "pa_mpjpe": align(pred, target), "pa_mpjpe_scale": align(pred, target, scale=True)
    }
    result = {"n": len(pred)}
    for name, poses in aligned.items():
        errors = joint_errors(poses, target)
        found, means, _ = mean_by_group(errors.mean(1), actions)
        result[name] = {
            "frame_mean": float(errors.mean()),
            "action_mean": float(means.mean()),
            "per_action": {int(action): float(mean) for action, mean in zip(found, means)},
            "per_joint": errors.mean(0).tolist(),
        }
    difference = pred - target
    result["mpjpe_xy"] = float(np.linalg.norm(difference[..., :2], axis=-1).mean())
    result["mpjpe_z"] = float(np.abs(difference[..., 2]).mean())
    return result


def head_sizes(head_box):
    """MPII's unit of length: 0.6 times the diagonal of the head box.

    Args:
        head_box: (N, 4) x1, y1, x2, y2, px.
    Returns:
        (N,) px.
    """
    head_box = np.asarray(head_box, float)
    return 0.6 * np.hypot(head_box[:, 2] - head_box[:, 0], head_box[:, 3] - head_box[:, 1])


def pck(errors, visible, threshold):
    """Share of correct keypoints: known joints whose error is at most `threshold`.

    Args:
        errors: (N, J), any unit. visible: (N, J) bool, which joints are known. threshold: in the unit of `errors`.
    Returns:
        share over all known joints, float; share of each joint (J,). 0 … 1; NaN where nothing is known.
    """
    visible = np.asarray(visible, bool)
    correct = ((np.asarray(errors, float) <= threshold) & visible).sum(0)
    known = visible.sum(0)
    per_joint = np.where(known > 0, correct / np.maximum(known, 1), np.nan)
    return float(correct.sum() / known.sum()) if known.any() else float("nan"), per_joint


def pckh(pred, target, visible, head_size, threshold=0.5):
    """PCK with the head as the unit of length (Andriluka et al. 2014); taught in notebooks/10_evaluation.ipynb.

    MPII's own table leaves Pelvis and Thorax out of its mean: pass the other 14 joints to compare with it.

    Args:
        pred, target: (N, J, 2), px of the picture.
        visible: (N, J) bool, which joints are annotated.
        head_size: (N,) px, as `head_sizes` gives.
        threshold: in head sizes.
    Returns:
        as `pck`.
    """
    return pck(joint_errors(pred, target) / np.asarray(head_size, float)[:, None], visible, threshold)


def auc(errors, visible, limit, steps=50):
    """Area under the curve of `pck` over thresholds 0 … limit, as a share of the largest possible area.

    Args:
        errors, visible: see `pck`. With errors in head sizes and a limit of 0.5 this is MPII's AUC; with mm and 150
            it is the AUC that goes with 3D PCK.
        limit: largest threshold. steps: how many equal steps lead there (trapezoids).
    Returns:
        float, 0 … 1; NaN where nothing is known.
    """
    shares = [pck(errors, visible, threshold)[0] for threshold in np.linspace(0, limit, steps + 1)]
    return float(np.trapezoid(shares, dx=1 / steps))
