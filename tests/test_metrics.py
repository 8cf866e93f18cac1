import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipr_lib import metrics

RNG = np.random.default_rng(0)
POSE = RNG.normal(0, 300, (5, 17, 3))


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


def test_alignment_agrees_with_scipy():
    noisy = moved(POSE) + RNG.normal(0, 30, POSE.shape)
    aligned = metrics.align(noisy, POSE)
    for pred, target, ours in zip(noisy, POSE, aligned):
        p, t = pred - pred.mean(0), target - target.mean(0)
        expected = Rotation.align_vectors(t, p)[0].apply(p) + target.mean(0)
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_best_scale_is_a_minimum():
    noisy = moved(POSE, 0.8) + RNG.normal(0, 30, POSE.shape)
    best = metrics.align(noisy, POSE, scale=True)
    centre = POSE.mean(1, keepdims=True)
    squared = [((centre + factor * (best - centre) - POSE) ** 2).sum((1, 2)) for factor in (0.99, 1, 1.01)]
    assert (squared[1] < squared[0]).all() and (squared[1] < squared[2]).all()


def test_flat_and_degenerate_poses_stay_finite():
    flat = POSE * [1, 1, 0]
    point = np.zeros_like(POSE)
    for pred in (flat, point):
        assert np.isfinite(metrics.align(pred, POSE, scale=True)).all()


def test_non_finite_poses_are_refused():
    bad = POSE.copy()
    bad[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        metrics.align(bad, POSE)


def test_frame_mean_and_action_mean_differ():
    target = np.zeros((3, 4, 3))
    pred = target.copy()
    pred[:, 1:, 0] = np.array([10, 20, 60])[:, None]
    scores = metrics.score(pred, target + RNG.normal(size=(1, 1, 3)), np.array([2, 2, 7]), 3)
    assert scores["mpjpe"]["frame_mean"] == pytest.approx(90 * 2 / 9)
    assert scores["mpjpe"]["per_action"] == pytest.approx({2: 10, 7: 40})
    assert scores["mpjpe"]["action_mean"] == pytest.approx(25)
    assert scores["mpjpe"]["per_joint"] == pytest.approx([0, 30, 30])
    assert scores["mpjpe_xy"] == pytest.approx(20) and scores["mpjpe_z"] == pytest.approx(0)


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
    visible = np.ones((1, 4), bool)
    assert metrics.auc(np.zeros((1, 4)), visible, 0.5) == pytest.approx(1)
    assert metrics.auc(np.full((1, 4), 0.6), visible, 0.5) == 0
    # Half of the joints right from the start, the rest from a threshold of 0.25 on: 0.5 + 0.5 * 0.5, up to one step.
    assert metrics.auc(np.array([[0, 0, 0.25, 0.25]]), visible, 0.5) == pytest.approx(0.75, abs=0.01)
    # Errors spread evenly: the curve is a straight line.
    even = np.linspace(0, 0.5, 2001)[1:][None]
    assert metrics.auc(even, np.ones_like(even, bool), 0.5) == pytest.approx(0.5, abs=1e-3)
    hidden = np.array([[0.0, 9.0]]), np.array([[True, False]])
    assert metrics.auc(*hidden, 0.5) == 1
