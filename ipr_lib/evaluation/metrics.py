"""How wrong a pose is, in mm.

Taught in notebooks/10_evaluation.ipynb. Poses are (N, J, 3) in mm; both arguments have the same
frame and the same joints. All poses are worked on at once, in float64.
"""

import numpy as np

from ..data.h36m_layout import DAMAGED_SEQUENCES
from ..data.store import sequence_index
from ..geometry.skeleton import SCORED_JOINTS

METRICS = {  # name in files: name in tables
    "mpjpe": "MPJPE",
    "pa_mpjpe": "PA-MPJPE (rigid)",
    "pa_mpjpe_scale": "PA-MPJPE (with scale)",
}


def joint_errors(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Distance of each joint: (N, J, C), (N, J, C) -> (N, J), in the same unit."""
    return np.linalg.norm(np.asarray(pred, float) - np.asarray(target, float), axis=-1)


def root_relative(joints: np.ndarray, root: int = 0) -> np.ndarray:
    """Subtract the root joint: (N, J, 3) -> (N, J, 3)."""
    return joints - joints[..., root : root + 1, :]


def align(pred: np.ndarray, target: np.ndarray, scale: bool = False) -> np.ndarray:
    """Rotate and move (and scale) each prediction onto its target, by least squares.

    The rotation follows Kabsch 1976, the scale Umeyama 1991, eqs. (40)-(42). A mirror is not a
    rotation, so the determinant is kept at +1.

    Args:
        pred, target: (N, J, 3), mm.
        scale: also fit one scale factor for each pose. Sun et al. 2018 align without it.
    Returns:
        (N, J, 3) aligned predictions, mm.
    Raises:
        ValueError: a pose is not finite.
    """
    pred, target = np.asarray(pred, float), np.asarray(target, float)
    target_centre = target.mean(axis=1, keepdims=True)
    p = pred - pred.mean(axis=1, keepdims=True)
    t = target - target_centre
    covariance = p.transpose(0, 2, 1) @ t  # (N, 3, 3)
    if not np.isfinite(covariance).all():
        raise ValueError("poses must be finite to be aligned")
    U, singular, Vt = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(U @ Vt))  # -1 where the best orthogonal map is a mirror
    U[:, :, 2] *= sign[:, None]
    singular[:, 2] *= sign
    aligned = p @ (U @ Vt)
    if scale:
        spread = (p**2).sum(axis=(1, 2))
        # A prediction that is a single point cannot be scaled; it stays a point.
        factor = singular.sum(axis=1) / np.maximum(spread, np.finfo(float).tiny)
        aligned = factor[:, None, None] * aligned
    return aligned + target_centre


def mpjpe(pred: np.ndarray, target: np.ndarray) -> float:
    """Mean per joint position error after the roots are put together.

    Args:
        pred, target: (N, J, 3), mm, root first. All joints count, the root (0 by construction) too.
    Returns:
        float, mm.
    """
    return float(joint_errors(root_relative(pred), root_relative(target)).mean())


def pa_mpjpe(pred: np.ndarray, target: np.ndarray, scale: bool = False) -> float:
    """Mean per joint position error after `align`.

    Args:
        pred, target: (N, J, 3), mm.
        scale: see `align`.
    Returns:
        float, mm.
    """
    return float(joint_errors(align(pred, target, scale), target).mean())


def mean_by_group(
    values: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of `values` for each distinct entry of `groups`.

    Args:
        values: (N,).
        groups: (N,) integers, 0 or more.
    Returns:
        groups found, sorted (G,); their means (G,); their counts (G,).
    """
    found, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=values) / counts
    return found, means, counts


def summary(errors: np.ndarray, actions: np.ndarray) -> dict:
    """The means of one metric.

    Args:
        errors: (N, J), mm, root first.
        actions: (N,) action numbers.
    Returns:
        dict: frame_mean, over all images and joints; action_mean, over the means of the actions;
        without_pelvis, both means over the other joints; per_action {action: mm}; per_joint [mm].
    """
    per_image = errors.mean(axis=1)
    without_pelvis = errors[:, 1:].mean(axis=1)
    found, means, _ = mean_by_group(per_image, actions)
    return {
        "frame_mean": float(per_image.mean()),
        "action_mean": float(means.mean()),
        "without_pelvis": {
            "frame_mean": float(without_pelvis.mean()),
            "action_mean": float(mean_by_group(without_pelvis, actions)[1].mean()),
        },
        "per_action": {int(action): float(mean) for action, mean in zip(found, means)},
        "per_joint": errors.mean(axis=0).tolist(),
    }


def score_items(pred_cam: np.ndarray, columns: dict[str, np.ndarray]) -> dict:
    """Every number of the tables for one set of predictions, by every convention.

    The roots are put together, and the first 17 joints are aligned and scored.

    Args:
        pred_cam: (N, J, 3) camera, mm, root first.
        columns: joints_cam (N, J, 3), subject, action, subaction (N,), as a store has them.
    Returns:
        dict: n; for each of METRICS what `summary` gives, and interval, the 95 % interval
        [low, high] over sequences in mm, None for a single sequence; mpjpe_xy and mpjpe_z, the mean
        distance across and along the view in mm, with mpjpe_xy_per_joint and mpjpe_z_per_joint; and
        without_damaged, n and the frame_mean and action_mean of each metric over the items that are
        not of DAMAGED_SEQUENCES, empty where there are none.
    """
    pred = root_relative(np.asarray(pred_cam, float)[:, :SCORED_JOINTS])
    target = root_relative(np.asarray(columns["joints_cam"], float)[:, :SCORED_JOINTS])
    errors = {
        "mpjpe": joint_errors(pred, target),
        "pa_mpjpe": joint_errors(align(pred, target), target),
        "pa_mpjpe_scale": joint_errors(align(pred, target, scale=True), target),
    }
    actions, sequences = np.asarray(columns["action"]), sequence_index(columns)
    sound = ~is_damaged(columns)
    result, without_damaged = {"n": len(pred)}, {}
    if sound.any():
        without_damaged["n"] = int(sound.sum())
    for name, values in errors.items():
        result[name] = summary(values, actions)
        interval = bootstrap_interval(values.mean(axis=1), sequences)
        result[name]["interval"] = None if np.isnan(interval).any() else interval.tolist()
        if sound.any():
            rest = summary(values[sound], actions[sound])
            without_damaged[name] = {mean: rest[mean] for mean in ("frame_mean", "action_mean")}
    across = joint_errors(pred[..., :2], target[..., :2])
    along = np.abs(pred[..., 2] - target[..., 2])
    result["mpjpe_xy"], result["mpjpe_z"] = float(across.mean()), float(along.mean())
    result["mpjpe_xy_per_joint"] = across.mean(axis=0).tolist()
    result["mpjpe_z_per_joint"] = along.mean(axis=0).tolist()
    result["without_damaged"] = without_damaged
    return result


def is_damaged(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Which items belong to DAMAGED_SEQUENCES, by subject, action, subaction (N,) -> (N,) bool."""
    names = ("subject", "action", "subaction")
    numbers = np.stack([columns[name] for name in names], axis=1)  # (N, 3)
    same = numbers[:, None] == np.array(DAMAGED_SEQUENCES)  # (N, damaged sequences, 3)
    return same.all(axis=2).any(axis=1)


def sequence_errors(
    pred_cam: np.ndarray, target_cam: np.ndarray, sequences: np.ndarray
) -> np.ndarray:
    """MPJPE of each sequence, root-relative over the scored joints: what methods are compared by.

    Args:
        pred_cam, target_cam: (N, J, 3) camera, mm, root first.
        sequences: (N,) numbers of the sequences, see `store.sequence_index`.
    Returns:
        (S,) mm, in the order of the numbers.
    """
    errors = joint_errors(root_relative(pred_cam), root_relative(target_cam))
    return mean_by_group(errors[:, :SCORED_JOINTS].mean(axis=1), sequences)[1]


# --- 95 % intervals ---


def bootstrap_means(
    values: np.ndarray, sequences: np.ndarray, draws: int = 1000, seed: int = 0
) -> np.ndarray:
    """Means over images that come in sequences, had other sequences been recorded.

    Images of one sequence fail together, so whole sequences are drawn, with replacement, as many
    as there are (Efron and Tibshirani 1993, chapter 8). Notebook 10 writes it out.

    Args:
        values: (N,) or (N, K), any unit. Columns share their draws.
        sequences: (N,) numbers of the sequences.
        draws: how many means.
        seed: of the draws.
    Returns:
        (draws,) or (draws, K).
    """
    values = np.asarray(values, float)
    _, index, counts = np.unique(sequences, return_inverse=True, return_counts=True)
    n_sequences = len(counts)
    sums = np.zeros((n_sequences, *values.shape[1:]))
    np.add.at(sums, index, values)
    rng = np.random.default_rng(seed)
    equal = np.full(n_sequences, 1 / n_sequences)
    times = rng.multinomial(n_sequences, equal, draws)  # how often each sequence is drawn
    n_images = times @ counts
    return ((times @ sums).T / n_images).T


def bootstrap_interval(
    values: np.ndarray,
    sequences: np.ndarray,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Interval for a mean over images that come in sequences: the middle of `bootstrap_means`.

    The interval of a difference of two methods is that of their differences, image by image.

    Args:
        values, sequences, draws, seed: see `bootstrap_means`.
        level: share of the means that lies inside.
    Returns:
        (2,) or (2, K): low, high; NaN for a single sequence, which says nothing about others.
    """
    if len(np.unique(sequences)) < 2:
        return np.full((2, *np.shape(values)[1:]), np.nan)
    means = bootstrap_means(values, sequences, draws, seed)
    return np.percentile(means, [50 * (1 - level), 50 * (1 + level)], axis=0)


# --- 2D keypoints ---


def head_sizes(head_box: np.ndarray) -> np.ndarray:
    """MPII's unit of length: 0.6 times the diagonal of the head box.

    Args:
        head_box: (N, 4) x1, y1, x2, y2, px.
    Returns:
        (N,) px.
    """
    head_box = np.asarray(head_box, float)
    width = head_box[:, 2] - head_box[:, 0]
    height = head_box[:, 3] - head_box[:, 1]
    return 0.6 * np.hypot(width, height)


def pck(errors: np.ndarray, visible: np.ndarray, threshold: float) -> tuple[float, np.ndarray]:
    """Share of correct keypoints: known joints whose error is at most `threshold`.

    Args:
        errors: (N, J), any unit.
        visible: (N, J) bool, which joints are known.
        threshold: in the unit of `errors`.
    Returns:
        share over all known joints, float; share of each joint (J,). 0 … 1; NaN where nothing is
        known.
    """
    visible = np.asarray(visible, bool)
    correct = (np.asarray(errors, float) <= threshold) & visible
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is known
        share = np.divide(correct.sum(), visible.sum())
        per_joint = correct.sum(axis=0) / visible.sum(axis=0)
    return float(share), per_joint


def pckh(
    pred: np.ndarray,
    target: np.ndarray,
    visible: np.ndarray,
    head_size: np.ndarray,
    threshold: float = 0.5,
) -> tuple[float, np.ndarray]:
    """PCK with the head as the unit of length (Andriluka et al. 2014).

    Taught in notebooks/03_prepare_mpii_and_coco.ipynb. MPII's own table leaves Pelvis and Thorax
    out of its mean, so pass the other 14 joints to compare with it.

    Args:
        pred, target: (N, J, 2), px of the image.
        visible: (N, J) bool, which joints are annotated.
        head_size: (N,) px, as `head_sizes` gives.
        threshold: in head sizes.
    Returns:
        as `pck`.
    """
    errors = joint_errors(pred, target) / np.asarray(head_size, float)[:, None]
    return pck(errors, visible, threshold)


def auc(errors: np.ndarray, visible: np.ndarray) -> float:
    """The number beside 3D PCK: the mean share of correct joints over thresholds 0, 5, …, 150 mm.

    As the code of the benchmark MPI-INF-3DHP has it (Mehta et al. 2017, mpii_compute_3d_pck.m): a
    joint is correct where its error lies below the threshold, so that the first share is always 0
    and the best possible mean is 30 / 31.

    Args:
        errors: (N, J), mm.
        visible: (N, J) bool, which joints are known.
    Returns:
        float, 0 … 1.
    """
    known = np.asarray(errors, float)[np.asarray(visible, bool)]  # (M,)
    thresholds = np.arange(0, 151, 5)  # 31
    shares = (known[:, None] < thresholds).mean(axis=0)
    return float(shares.mean())


# --- confidence ---


def error_of_kept(errors: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """Mean error of the joints that are kept when those of the most doubt are left out.

    Where doubt foretells the error, the mean falls as fewer joints are kept; where it says nothing,
    it stays the mean of all. The best possible doubt is the error itself. Confidences of pose
    networks seldom pass this test: Gu et al., "On the Calibration of Human Pose Estimation", 2023
    (arXiv 2311.17105). See notebook 06.

    Args:
        errors: (N,) any unit.
        doubt: (N,) the larger, the sooner a joint is left out.
    Returns:
        (N,) mean error of the 1, 2, …, N least doubtful joints.
    """
    order = np.argsort(doubt, kind="stable")
    kept = np.asarray(errors, float)[order]
    return np.cumsum(kept) / np.arange(1, len(kept) + 1)
