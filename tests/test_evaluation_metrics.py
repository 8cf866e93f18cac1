import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipr_lib.data.store import build_store
from ipr_lib.evaluation import metrics

from .conftest import write_sequence

RNG = np.random.default_rng(0)


@pytest.fixture
def test_store(tmp_path):
    """Two sequences of S9, one of them of a number that Human3.6M has damaged."""
    write_sequence(tmp_path / "other", subject=9, action=5, subaction=2, n=7, step=3)
    write_sequence(tmp_path / "other", subject=9, action=2, subaction=1, n=4, step=3)
    return build_store(tmp_path / "other", tmp_path / "store", subjects=(9,), step=3, crop_px=64)


POSE = RNG.normal(0, 300, (5, 17, 3))


def score(pred, target, actions, sequences=None):
    """Scores of poses (N, 17, 3) of actions (N,), each image a sequence of its own unless it is said."""
    sequences = np.arange(len(pred)) if sequences is None else sequences
    columns = {"subject": np.full(len(pred), 1), "action": actions, "subaction": sequences}
    return metrics.score_items(pred, columns | {"joints_cam": target})


def moved(poses, scale=1.0):
    rotation = Rotation.random(len(poses), random_state=3).as_matrix()
    return scale * poses @ rotation + RNG.normal(0, 1000, (len(poses), 1, 3))


def test_mpjpe_by_hand():
    target = np.zeros((2, 3, 3))
    pred = np.zeros((2, 3, 3))
    pred[0, 1] = [3, 4, 0]
    pred[1] += 7  # a shift of the whole pose, root included, does not count
    assert metrics.mpjpe(pred, target) == pytest.approx(5 / 6)


def test_rigid_alignment_undoes_a_motion_and_only_that():
    assert metrics.pa_mpjpe(moved(POSE), POSE) < 1e-9
    assert metrics.pa_mpjpe(moved(POSE, 1.05), POSE) > 10
    assert metrics.pa_mpjpe(moved(POSE, 1.05), POSE, scale=True) < 1e-9


def test_a_mirrored_pose_is_not_a_rotated_one():
    mirrored = POSE * [-1, 1, 1]
    assert metrics.pa_mpjpe(mirrored, POSE, scale=True) > 50


def test_alignment_by_hand():
    """A flag turned by 90 degrees, moved, and twice as large: all of it is undone, the size only where asked for."""
    target = np.array([[[0, 0, 0], [0, 4, 0], [2, 4, 0], [0, 2, 0.0]]])
    turned = np.array([[[5, 5, 5], [13, 5, 5], [13, 1, 5], [9, 5, 5.0]]])
    np.testing.assert_allclose(metrics.align(turned, target, scale=True), target, atol=1e-12)
    # Without scale, the aligned pose stays twice as large about the target's centre (0.5, 2.5, 0).
    rigid = [[[-0.5, -2.5, 0], [-0.5, 5.5, 0], [3.5, 5.5, 0], [-0.5, 1.5, 0]]]
    np.testing.assert_allclose(metrics.align(turned, target), rigid, atol=1e-12)


def test_alignment_agrees_with_scipy():
    noisy = moved(POSE) + RNG.normal(0, 30, POSE.shape)
    aligned = metrics.align(noisy, POSE)
    for pred, target, ours in zip(noisy, POSE, aligned):
        p, t = pred - pred.mean(0), target - target.mean(0)
        expected = Rotation.align_vectors(t, p)[0].apply(p) + target.mean(0)
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (-1, 1, 1), (1, 1, 0), (1, 0, 0), (0, 0, 0)])
def test_no_rotation_is_better(shape):
    """Poses that are mirrored, flat, in a line or in a point: 500 other rotations give no smaller squared error."""
    pred = POSE * shape
    aligned = metrics.align(pred, POSE)
    assert np.isfinite(metrics.align(pred, POSE, scale=True)).all()
    best = ((aligned - POSE) ** 2).sum((1, 2))
    centre = POSE.mean(1, keepdims=True)
    turns = Rotation.random(500, random_state=1).as_matrix()
    others = (pred - pred.mean(1, keepdims=True)) @ turns[:, None] + centre
    assert (best <= ((others - POSE) ** 2).sum((2, 3)) + 1e-6).all()
    sides = [np.linalg.norm(pose[:, 1:] - pose[:, :-1], axis=-1) for pose in (pred, aligned)]
    np.testing.assert_allclose(*sides, atol=1e-8)


def test_best_scale_is_a_minimum():
    noisy = moved(POSE, 0.8) + RNG.normal(0, 30, POSE.shape)
    best = metrics.align(noisy, POSE, scale=True)
    centre = POSE.mean(1, keepdims=True)
    squared = [
        ((centre + factor * (best - centre) - POSE) ** 2).sum((1, 2)) for factor in (0.99, 1, 1.01)
    ]
    assert (squared[1] < squared[0]).all() and (squared[1] < squared[2]).all()


def test_non_finite_poses_are_refused():
    bad = POSE.copy()
    bad[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        metrics.align(bad, POSE)


def test_mean_by_group_by_hand():
    found, means, counts = metrics.mean_by_group(np.array([1.0, 2, 6, 10]), np.array([7, 2, 7, 7]))
    assert found.tolist() == [2, 7] and counts.tolist() == [1, 3]
    np.testing.assert_allclose(means, [2, 17 / 3])


def test_frame_mean_and_action_mean_differ():
    """Errors of 10, 20 and 60 mm in 16 of 17 joints, so that the images' means are 16 / 17 of that."""
    target = np.zeros((3, 18, 3))
    pred = target.copy()
    pred[:, 1:, 0] = np.array([10, 20, 60])[:, None]
    scores = score(pred, target + RNG.normal(size=(1, 1, 3)), np.array([2, 2, 7]))
    assert scores["n"] == 3
    assert scores["mpjpe"]["frame_mean"] == pytest.approx(30 * 16 / 17)
    assert scores["mpjpe"]["per_action"] == pytest.approx({2: 15 * 16 / 17, 7: 60 * 16 / 17})
    assert scores["mpjpe"]["action_mean"] == pytest.approx(37.5 * 16 / 17)
    assert scores["mpjpe"]["per_joint"] == pytest.approx([0] + 16 * [30])
    assert scores["mpjpe_xy"] == pytest.approx(30 * 16 / 17)
    assert scores["mpjpe_z"] == pytest.approx(0)


def test_pckh_by_hand():
    head_size = metrics.head_sizes([[10, 20, 13, 24], [0, 0, 30, 40]])
    assert head_size.tolist() == [3, 30]
    target = np.zeros((2, 3, 2))
    pred = np.array([[[1.5, 0], [0, 1.6], [99, 0]], [[0, 15], [9, 12], [0, 0]]])
    visible = np.array([[True, True, False], [True, True, False]])
    share, per_joint = metrics.pckh(pred, target, visible, head_size)
    assert share == 3 / 4  # 0.5, 0.533, -; 0.5, 0.5, -: the bound itself counts as correct
    np.testing.assert_array_equal(per_joint, [1, 0.5, np.nan])
    assert metrics.pckh(pred, target, visible, head_size, 0.49)[0] == 0
    assert np.isnan(metrics.pckh(pred, target, ~visible & False, head_size)[0])


def test_auc_by_hand():
    """Of the thresholds 0, 5, …, 150 mm, 30 lie above an error of 0, 20 above 50 mm, 20 above 52, 0 above 150."""
    visible = np.ones((2, 2), bool)
    assert metrics.auc(np.zeros((2, 2)), visible) == pytest.approx(30 / 31)
    assert metrics.auc(np.full((2, 2), 150.0), visible) == 0
    errors = np.array([[0.0, 50], [52, 150]])
    assert metrics.auc(errors, visible) == pytest.approx((30 + 20 + 20 + 0) / 4 / 31)
    visible[1] = False
    assert metrics.auc(errors, visible) == pytest.approx((30 + 20) / 2 / 31)


# --- all conventions at once ---


def slow_scores(pred, target, actions, scale):
    """MPJPE after alignment, frame mean and action mean, with and without pelvis, pose by pose and by SciPy's rotations."""
    errors = []
    for p, t in zip(pred, target):
        p, t = p - p[0], t - t[0]
        if scale is not None:
            P, T = p - p.mean(0), t - t.mean(0)
            P = Rotation.align_vectors(T, P)[0].apply(P)
            p = (P * (P * T).sum() / (P * P).sum() if scale else P) + t.mean(0)
        errors.append([np.sqrt(((a - b) ** 2).sum()) for a, b in zip(p, t)])
    result = []
    for chosen in ([e for e in errors], [e[1:] for e in errors]):
        means = [np.mean(e) for e in chosen]
        result += [
            np.mean(means),
            np.mean([np.mean([m for m, a in zip(means, actions) if a == b]) for b in set(actions)]),
        ]
    return result


def test_every_mean_agrees_with_a_loop():
    pred = moved(POSE, 0.9) + RNG.normal(0, 40, POSE.shape)
    actions = [3, 2, 3, 3, 7]
    scores = score(pred, POSE, np.array(actions))
    for name, scale in (("mpjpe", None), ("pa_mpjpe", False), ("pa_mpjpe_scale", True)):
        s = scores[name]
        means = [
            part[mean]
            for part in (s, s["without_pelvis"])
            for mean in ("frame_mean", "action_mean")
        ]
        assert means == pytest.approx(slow_scores(pred, POSE, actions, scale), rel=1e-9)
        assert s["frame_mean"] == pytest.approx(np.mean(s["per_joint"]))
    assert scores["mpjpe"]["without_pelvis"]["frame_mean"] == pytest.approx(
        scores["mpjpe"]["frame_mean"] * 17 / 16
    )
    assert scores["pa_mpjpe"]["without_pelvis"]["frame_mean"] != pytest.approx(
        scores["pa_mpjpe"]["frame_mean"] * 17 / 16
    )


def test_parts_by_joint():
    target = np.zeros((2, 17, 3))
    pred = target.copy()
    pred[0, 1], pred[1, 1], pred[1, 2] = [3, 4, -6], [0, 0, 2], [6, 8, 0]
    scores = score(pred, target + RNG.normal(0, 1e-9, target.shape), np.array([2, 3]))
    np.testing.assert_allclose(scores["mpjpe_xy_per_joint"], [0, 2.5, 5] + 14 * [0], atol=1e-7)
    np.testing.assert_allclose(scores["mpjpe_z_per_joint"], [0, 4, 0] + 14 * [0], atol=1e-7)
    assert scores["mpjpe_xy"] == pytest.approx(7.5 / 17)
    assert scores["mpjpe_z"] == pytest.approx(4 / 17)


def test_scored_joints_alone_are_aligned():
    """An 18th joint, the thorax, neither counts nor moves the alignment; the 17th does both."""
    with_thorax = np.concatenate([POSE, POSE[:, :1]], axis=1)
    spoilt = moved(with_thorax)
    spoilt[:, 17] += 500
    assert score(spoilt, with_thorax, np.arange(5))["pa_mpjpe"]["frame_mean"] < 1e-9
    spoilt[:, 16] += 500
    assert score(spoilt, with_thorax, np.arange(5))["pa_mpjpe"]["frame_mean"] > 10


# --- items of a store ---


def test_damaged_sequences_are_found_by_all_three_numbers():
    near = [(9, 5, 2), (9, 5, 1), (11, 5, 2), (9, 10, 2), (9, 13, 2), (9, 13, 1)]
    columns = {
        name: np.array(column)
        for name, column in zip(("subject", "action", "subaction"), zip(*near))
    }
    assert metrics.is_damaged(columns).tolist() == [True, False, False, True, False, True]


def rows_of(columns, chosen):
    """Some rows of what scores need of a store's columns."""
    names = ("joints_cam", "subject", "action", "subaction")
    return {name: columns[name][chosen] for name in names}


def test_scores_with_and_without_damaged(test_store):
    columns = test_store.columns
    pred = columns["joints_cam"].astype(float)
    damaged = metrics.is_damaged(columns)
    assert damaged.any() and not damaged.all()
    pred[damaged, 1:17, 0] += 34
    scores = metrics.score_items(pred, columns)
    share = damaged.mean()
    assert scores["mpjpe"]["frame_mean"] == pytest.approx(34 * 16 / 17 * share, rel=1e-5)
    assert scores["mpjpe"]["action_mean"] == pytest.approx(34 * 16 / 17 / 2, rel=1e-5)
    assert (
        scores["without_damaged"]["n"] == (~damaged).sum()
        and scores["without_damaged"]["mpjpe"]["frame_mean"] < 1e-3
    )
    only = metrics.score_items(pred[damaged], rows_of(columns, damaged))
    assert (
        only["n"] == damaged.sum()
        and only["without_damaged"] == {}
        and only["mpjpe"]["interval"] is None
    )
    none = metrics.score_items(pred[~damaged], rows_of(columns, ~damaged))
    assert none["without_damaged"]["mpjpe"]["frame_mean"] == none["mpjpe"]["frame_mean"]


def test_sequence_errors_by_hand():
    """Sequences 0 and 2, of 2 images and of 1. The roots are put together first: a shift of a whole pose is no error."""
    target = np.zeros((3, 18, 3))
    pred = target.copy()
    pred[0, 1:17] += [3, 4, 0]  # 16 of 17 joints are off by 5
    pred[1] += [100, -200, 300]
    pred[2, 1:17] += [0, 0, 34]
    pred[2] += 50
    pred[2, 17] += 1000  # the thorax is not scored
    errors = metrics.sequence_errors(pred, target, np.array([0, 0, 2]))
    assert errors == pytest.approx([5 * 16 / 17 / 2, 32])


# --- intervals ---


def test_interval_by_hand():
    """Two sequences, of 1 and 3 images, errors 0 and 8: the draws are (a, a), (a, b), (b, a), (b, b), means 0, 6, 6, 8."""
    values, sequences = np.array([8.0, 0, 8, 8]), np.array([5, 2, 5, 5])
    low, high = metrics.bootstrap_interval(values, sequences, level=0.95)
    assert (low, high) == (0, 8)
    # A quarter of the draws is 0, a quarter 8: the middle 40 % are all 6, the middle 60 % reach both.
    for seed in (0, 3):
        assert metrics.bootstrap_interval(
            values, sequences, level=0.4, draws=4000, seed=seed
        ).tolist() == [6, 6]
        assert metrics.bootstrap_interval(
            values, sequences, level=0.6, draws=4000, seed=seed
        ).tolist() == [0, 8]


def test_interval_covers_the_truth_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    sequences = np.repeat(np.arange(30), 7)
    for trial in range(200):
        values = 50 + rng.normal(0, 10, 30)[sequences] + rng.normal(0, 3, len(sequences))
        low, high = metrics.bootstrap_interval(values, sequences, draws=300, seed=trial)
        covered += low <= 50 <= high
    assert 0.88 <= covered / 200 <= 0.98


def test_interval_of_sequences_is_wider_than_of_images():
    rng = np.random.default_rng(2)
    sequences = np.repeat(np.arange(20), 9)
    values = rng.normal(0, 10, 20)[sequences] + rng.normal(0, 1, len(sequences))
    width = {
        name: np.diff(metrics.bootstrap_interval(values, of))[0]
        for name, of in (("sequences", sequences), ("images", np.arange(len(sequences))))
    }
    assert width["sequences"] > 2 * width["images"]


def test_columns_share_their_draws():
    rng = np.random.default_rng(3)
    sequences = np.repeat(np.arange(12), 4)
    one = rng.normal(50, 20, len(sequences))
    both = np.stack([one, one + 1], axis=1)
    low, high = metrics.bootstrap_interval(both, sequences)
    assert (
        low.shape == (2,)
        and low[1] - low[0] == pytest.approx(1)
        and high[1] - high[0] == pytest.approx(1)
    )
    np.testing.assert_allclose(
        metrics.bootstrap_interval(both[:, 1] - both[:, 0], sequences), [1, 1]
    )


def test_one_sequence_has_no_interval():
    assert np.isnan(metrics.bootstrap_interval(np.arange(5.0), np.zeros(5))).all()
    scores = score(moved(POSE), POSE, np.full(5, 2), sequences=np.zeros(5))
    assert all(scores[name]["interval"] is None for name in ("mpjpe", "pa_mpjpe", "pa_mpjpe_scale"))
    scores = score(moved(POSE), POSE, np.arange(5))
    low, high = scores["mpjpe"]["interval"]
    assert low < scores["mpjpe"]["frame_mean"] < high


def test_error_of_kept_by_hand():
    """Left out first: 40 (doubt 9), then 10 (doubt 5), then 20 (doubt 2)."""
    errors, doubt = np.array([10.0, 40, 20, 60]), np.array([5, 9, 2, 1])
    assert metrics.error_of_kept(errors, doubt).tolist() == [60, 40, 30, 32.5]
    best = metrics.error_of_kept(errors, errors)
    assert best.tolist() == pytest.approx([10, 15, 70 / 3, 32.5])
    assert (metrics.error_of_kept(errors, doubt) >= best).all()
