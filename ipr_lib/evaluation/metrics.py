"""How wrong a pose is, in mm. Batched NumPy, float64, no loop over poses.

Taught in notebooks/10_evaluation.ipynb. Poses are (N, J, 3), mm; both arguments in the same frame and joint set.
What the vectors are worth, against a loop over poses: benchmarks/evaluation.py.
"""

import numpy as np

from .procrustes import best_rotations

BLOCK = 1024  # poses scored at a time: what belongs to them stays in the processor's cache


def joint_errors(pred, target):
    """Distance of each joint: (N, J, 3), (N, J, 3) -> (N, J), same unit; two coordinates will do as well."""
    return _lengths(np.moveaxis(np.asarray(pred, float) - np.asarray(target, float), -1, 0))


def _lengths(planes):
    """(C, N, J) -> (N, J). Plane by plane: a norm along an axis of three numbers takes several times as long."""
    return np.sqrt(sum(plane * plane for plane in planes))


def root_relative(joints, root=0):
    """Subtract the root joint: (N, J, 3) -> (N, J, 3)."""
    return joints - joints[..., root : root + 1, :]


def align(pred, target, scale=False):
    """Rotate and move (and scale) each prediction onto its target: the best fit by squared distance.

    With scale Umeyama 1991, eqs. (40)-(42). A mirror is never a rotation: the determinant is kept at +1.

    Args:
        pred, target: (N, J, 3), mm.
        scale: also fit one scale factor a pose. Sun et al. 2018 align without.
    Returns:
        (N, J, 3) aligned predictions, mm.
    Raises:
        ValueError: a pose is not finite.
    """
    rotated, centre, factor = _fit(_planes(pred), _planes(target))
    return np.moveaxis((rotated * factor if scale else rotated) + centre, 0, -1)


def _planes(poses):
    """(N, J, 3) -> (3, N, J), in one piece: work on whole planes is several times faster than on every third number."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(poses, float), -1, 0))


def _fit(pred, target):
    """One fit for both kinds of `align`, in planes (3, N, J): predictions, turned and centred; the targets' centres
    (3, N, 1); the best scale factors (N, 1)."""
    mean = np.full(pred.shape[-1], 1 / pred.shape[-1])
    centre = (target @ mean)[..., None]
    p, t = pred - (pred @ mean)[..., None], target - centre
    moments = p.transpose(1, 0, 2) @ t.transpose(1, 2, 0)
    if not np.isfinite(moments).all():
        raise ValueError("poses must be finite to be aligned")
    R, trace = best_rotations(moments)
    rotated = np.stack([sum(p[i] * R[:, i, k, None] for i in range(3)) for k in range(3)])
    # A prediction shrunk to a point has no direction to be scaled along; it stays a point.
    spread = np.maximum(np.einsum("inj,inj->n", p, p), np.finfo(float).tiny)
    return rotated, centre, (trace / spread)[:, None]


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
        values: (N,). groups: (N,) integers, 0 or more.
    Returns:
        groups found, sorted (G,); their means (G,); their counts (G,).
    """
    counts = np.bincount(groups)
    found = np.flatnonzero(counts)
    return found, np.bincount(groups, weights=values)[found] / counts[found], counts[found]


def score(pred, target, actions, scored_joints, takes=None):
    """Every number of the tables for one set of predictions.

    Args:
        pred, target: (N, J, 3), mm, root first, any common origin.
        actions: (N,) action numbers.
        scored_joints: the first so many joints are scored; alignment uses the same joints.
        takes: (N,) numbers of the takes, from which 95 % intervals are drawn; None leaves the intervals out.
    Returns:
        dict: for each of mpjpe, pa_mpjpe, pa_mpjpe_scale what `summary` gives, and interval [low, high] in mm where takes
        are given (None for one take alone); mpjpe_xy and mpjpe_z, mean distance across and along the view, mm, with
        mpjpe_xy_per_joint and mpjpe_z_per_joint; and n.
    """
    shape = len(pred), scored_joints
    errors = {name: np.empty(shape) for name in ("mpjpe", "pa_mpjpe", "pa_mpjpe_scale")}
    across, along = np.empty(shape), np.empty(shape)
    for start in range(0, len(pred), BLOCK):
        rows = slice(start, start + BLOCK)
        p, t = (_planes(poses[rows, :scored_joints]) for poses in (pred, target))
        p, t = p - p[..., :1], t - t[..., :1]
        rotated, centre, factor = _fit(p, t)
        t_centred = t - centre
        errors["pa_mpjpe"][rows] = _lengths(rotated - t_centred)
        errors["pa_mpjpe_scale"][rows] = _lengths(rotated * factor - t_centred)
        x, y, z = np.square(p - t)
        flat = x + y
        across[rows], along[rows], errors["mpjpe"][rows] = (
            np.sqrt(flat),
            np.sqrt(z),
            np.sqrt(flat + z),
        )
    across, along = across.mean(0), along.mean(0)
    result = {"n": len(pred), **{name: summary(values, actions) for name, values in errors.items()}}
    result |= {
        "mpjpe_xy": float(across.mean()),
        "mpjpe_z": float(along.mean()),
        "mpjpe_xy_per_joint": across.tolist(),
        "mpjpe_z_per_joint": along.tolist(),
    }
    if takes is not None:
        intervals = bootstrap_interval(
            np.stack([values.mean(1) for values in errors.values()], axis=1), takes
        )
        for name, (low, high) in zip(errors, intervals.T):
            result[name]["interval"] = [float(low), float(high)] if np.isfinite(low) else None
    return result


def summary(errors, actions):
    """The means of one metric.

    Args:
        errors: (N, J), mm, root first.
        actions: (N,) action numbers.
    Returns:
        dict: frame_mean, over all pictures and joints; action_mean, over the means of the actions; without_pelvis, both
        means over the other joints; per_action {action: mm}; per_joint [mm].
    """
    n_joints = errors.shape[1]
    frames = errors @ np.full(n_joints, 1 / n_joints)
    found, means, _ = mean_by_group(frames, actions)
    # Where the root was put to the origin its error is 0 and this is the mean times J / (J - 1); after an alignment it is not.
    others = (n_joints * frames - errors[:, 0]) / (n_joints - 1)
    other_means = mean_by_group(others, actions)[1]
    return {
        "frame_mean": float(frames.mean()),
        "action_mean": float(means.mean()),
        "without_pelvis": {
            "frame_mean": float(others.mean()),
            "action_mean": float(other_means.mean()),
        },
        "per_action": {int(action): float(mean) for action, mean in zip(found, means)},
        "per_joint": errors.mean(0).tolist(),
    }


def bootstrap_means(values, takes, draws=1000, seed=0):
    """Means over pictures that come in takes, had other takes been recorded.

    Pictures of one take fail together, so takes are drawn, with replacement, as many as there are (Efron and Tibshirani
    1993, chapter 8); written out in notebooks/10_evaluation.ipynb.

    Args:
        values: (N,) or (N, K), any unit. Columns share their draws.
        takes: (N,) numbers of the takes.
        draws: how many.
        seed: of the draws.
    Returns:
        (draws,) or (draws, K).
    """
    values = np.asarray(values, float)
    _, index, counts = np.unique(takes, return_inverse=True, return_counts=True)
    columns = values.reshape(len(values), -1)
    sums = np.stack([np.bincount(index, weights=column) for column in columns.T], axis=1)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(
        len(counts), np.full(len(counts), 1 / len(counts)), draws
    )  # how often each take is drawn
    return ((times @ sums) / (times @ counts)[:, None]).reshape(draws, *values.shape[1:])


def bootstrap_interval(values, takes, level=0.95, draws=1000, seed=0):
    """Interval for a mean over pictures that come in takes: the middle of `bootstrap_means`.

    The interval of a difference of two methods is that of their differences, picture by picture.

    Args:
        values, takes, draws, seed: see `bootstrap_means`.
        level: share of the means that lies inside.
    Returns:
        (2,) or (2, K): low, high; NaN where there is one take alone, which says nothing about takes.
    """
    if len(np.unique(takes)) < 2:
        return np.full((2, *np.shape(values)[1:]), np.nan)
    return np.percentile(
        bootstrap_means(values, takes, draws, seed), [50 * (1 - level), 50 * (1 + level)], axis=0
    )


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
    """PCK with the head as the unit of length (Andriluka et al. 2014); taught in notebooks/03_prepare_mpii_and_coco.ipynb.

    MPII's own table leaves Pelvis and Thorax out of its mean: pass the other 14 joints to compare with it.

    Args:
        pred, target: (N, J, 2), px of the picture.
        visible: (N, J) bool, which joints are annotated.
        head_size: (N,) px, as `head_sizes` gives.
        threshold: in head sizes.
    Returns:
        as `pck`.
    """
    return pck(
        joint_errors(pred, target) / np.asarray(head_size, float)[:, None], visible, threshold
    )


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
