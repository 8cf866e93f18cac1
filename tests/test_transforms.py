import cv2
import numpy as np
import pytest

from ipr_lib.camera import Camera
from ipr_lib.skeleton import HUMAN36M
from ipr_lib.transforms import (
    apply_affine,
    box_at_root,
    compose_affine,
    crop_affine,
    flip_joints,
    invert_affine,
    warp,
    warp_shrinking,
)

RNG = np.random.default_rng(0)


def test_box_by_hand():
    camera = Camera(np.eye(3), np.zeros(3), np.array([1000.0, 1200]), np.array([500.0, 400]), 1000, 1000)
    box = box_at_root(np.array([[100.0, 200, 4000], [0, 0, 2000]]), camera)
    assert box.tolist() == [[500 + 25, 400 + 60, 2000 * 1100 / 4000], [500, 400, 1100]]


def test_plain_crop_by_hand():
    A = crop_affine([300.0, 200, 128], 64)
    points = np.array([[300.0, 200], [300 - 64, 200 - 64], [302, 200]])
    np.testing.assert_allclose(apply_affine(A, points), [[31.5, 31.5], [-0.5, -0.5], [32.5, 31.5]])


def test_scale_rotation_shift_and_flip_by_hand():
    box = np.array([300.0, 200, 64])
    point = np.array([[310.0, 200]])
    cases = {
        "scale": (dict(scale=2), [31.5 + 20, 31.5]),
        "rotation, clockwise on the screen": (dict(rotation=90), [31.5, 31.5 + 10]),
        "shift": (dict(shift=(0.25, 0)), [31.5 + 10 - 16, 31.5]),
        "flip": (dict(flip=True), [31.5 - 10, 31.5]),
        "rotation before flip": (dict(rotation=90, flip=True), [31.5, 31.5 + 10]),
    }
    for name, (arguments, expected) in cases.items():
        np.testing.assert_allclose(apply_affine(crop_affine(box, 64, **arguments), point), [expected], err_msg=name)


def draw(n=3):
    return dict(
        scale=RNG.uniform(0.7, 1.3, n), rotation=RNG.uniform(-40, 40, n), shift=RNG.uniform(-0.1, 0.1, (n, 2)),
        flip=RNG.random(n) < 0.5,
    )


def test_inverse_and_composition_are_exact():
    box = RNG.uniform(100, 500, (3, 3))
    first, second = crop_affine(box, 64, **draw()), crop_affine(box / 3, 96, **draw())
    points = RNG.uniform(0, 900, (3, 5, 2))
    np.testing.assert_allclose(apply_affine(invert_affine(first), apply_affine(first, points)), points, atol=1e-9)
    np.testing.assert_allclose(
        apply_affine(compose_affine(second, first), points), apply_affine(second, apply_affine(first, points)), atol=1e-9
    )


def test_flip_in_the_affine_is_the_flip_of_joints():
    box, arguments = RNG.uniform(100, 500, (3, 3)), draw()
    points = RNG.uniform(0, 900, (3, 18, 2))
    plain = apply_affine(crop_affine(box, 64, **arguments | {"flip": False}), points)
    mirrored = apply_affine(crop_affine(box, 64, **arguments | {"flip": True}), points)
    np.testing.assert_allclose(mirrored[:, HUMAN36M.flip_order], flip_joints(plain, HUMAN36M.flip_order, 64), atol=1e-9)


def test_flip_joints_twice_is_nothing_and_hits_the_edges():
    joints = RNG.uniform(0, 64, (2, 18, 3))
    order = HUMAN36M.flip_order
    np.testing.assert_allclose(flip_joints(flip_joints(joints, order, 64), order, 64), joints)
    edge = np.zeros((1, 18, 3))
    assert (flip_joints(edge, order, 64)[..., 0] == 63).all()


def spot(width, height, x, y, sigma=6.0):
    """A picture with one bright Gaussian spot at (x, y)."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    value = 250 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.round(value).astype(np.uint8)[..., None], 3, axis=2)


def centroid(picture):
    weight = picture[..., 0].astype(float)
    v, u = np.indices(weight.shape)
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("cut", [warp, warp_shrinking])
@pytest.mark.parametrize("side", [60.0, 130.0, 300.0, 517.0])
def test_pixels_move_with_the_joints(cut, side):
    point = np.array([[331.0, 207.0]])
    picture = spot(640, 480, *point[0], sigma=side / 25)
    for flip in (False, True):
        affine = crop_affine([320.0, 215.0, side], 64, scale=0.9, rotation=25, flip=flip)
        crop = cut(picture, affine, 64)
        np.testing.assert_allclose(centroid(crop), apply_affine(affine, point)[0], atol=0.06)


def test_shrinking_warp_does_not_alias():
    """A one-pixel chequerboard is grey from afar; plain sampling would show it as a pattern."""
    board = np.indices((400, 400)).sum(0) % 2 * 255
    picture = np.repeat(board.astype(np.uint8)[..., None], 3, axis=2)
    affine = crop_affine([200.0, 200.0, 330.0], 32)
    assert warp_shrinking(picture, affine, 32).std() < 12
    assert warp(picture, affine, 32).std() > 30


def test_shrinking_warp_at_the_picture_edge_keeps_black_outside():
    picture = np.full((300, 300, 3), 200, np.uint8)
    crop = warp_shrinking(picture, crop_affine([0.0, 150.0, 200.0], 32), 32)
    assert (crop[:, 18:] > 190).all() and (crop[:, :14] < 10).all()


def test_warp_shrinking_equals_warp_of_the_averaged_picture():
    picture = cv2.resize(RNG.integers(0, 255, (12, 12, 3), np.uint8), (240, 240), interpolation=cv2.INTER_CUBIC)
    affine = crop_affine([120.0, 118.0, 180.0], 45)
    smooth = cv2.blur(picture, (4, 4), anchor=(1, 1))  # pixel p averages p - 1 … p + 2: it lies over p + 0.5
    expected = warp(smooth, compose_affine(affine, np.array([[1, 0, 0.5], [0, 1, 0.5]])), 45).astype(int)
    assert np.abs(warp_shrinking(picture, affine, 45) - expected)[3:-3, 3:-3].mean() < 2
