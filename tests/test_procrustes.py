import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipr_lib.evaluation.procrustes import best_rotations

RNG = np.random.default_rng(0)
POSES = RNG.normal(0, 300, (7, 5, 3))
TARGETS = POSES + RNG.normal(0, 150, POSES.shape)


def by_scipy(p, t):
    return Rotation.align_vectors(t, p)[0].as_matrix().T  # for rows


def moments(p, t):
    return np.einsum("nji,njk->nik", p, t)


def test_agrees_with_scipy():
    R, trace = best_rotations(moments(POSES, TARGETS))
    for n in range(len(POSES)):
        np.testing.assert_allclose(R[n], by_scipy(POSES[n], TARGETS[n]), atol=1e-9)
        assert trace[n] == pytest.approx((R[n] * moments(POSES, TARGETS)[n]).sum())


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 0), (-1, 1, 1), (1, 0, 0), (0, 0, 0), (1, 1e-3, 1e-6), (-1, 1e-2, 1e-2)])
def test_no_rotation_is_better(shape):
    """Poses flat, mirrored, in a line, in a point: always a rotation, and none of many others has a larger trace."""
    S = moments(POSES * shape, TARGETS * np.abs(shape))
    R, trace = best_rotations(S)
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.broadcast_to(np.eye(3), R.shape), atol=1e-8)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-8)
    size = np.linalg.norm(S, axis=(1, 2))
    np.testing.assert_allclose((R * S).sum((1, 2)), trace, atol=1e-9 * size.max())
    others = Rotation.random(500, random_state=1).as_matrix()
    near = R[:, None] @ Rotation.from_rotvec(RNG.normal(0, 0.01, (500, 3))).as_matrix()
    assert (np.einsum("nik,mik->nm", S, others) <= trace[:, None] + 1e-9 * size[:, None]).all()
    assert (np.einsum("nik,nmik->nm", S, near) <= trace[:, None] + 1e-9 * size[:, None]).all()


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_does_not_matter(unit):
    R, trace = best_rotations(moments(POSES, TARGETS))
    scaled, traces = best_rotations(moments(unit * POSES, unit * TARGETS))
    np.testing.assert_allclose(scaled, R, atol=1e-12)
    np.testing.assert_allclose(traces, unit**2 * trace, rtol=1e-12)


def test_each_pose_is_on_its_own():
    """A hopeless neighbour changes nothing: it alone is sent to the singular values."""
    S = moments(POSES, TARGETS)
    spoilt = S.copy()
    spoilt[3] = 0
    R, _ = best_rotations(S)
    others = np.delete(best_rotations(spoilt)[0], 3, axis=0)
    np.testing.assert_allclose(others, np.delete(R, 3, axis=0), atol=1e-12)
