import cv2
import numpy as np
import pytest

from ipr_lib.geometry.camera import Camera
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.geometry.transforms import (
    apply_affine,
    box_at_root,
    compose_affine,
    crop_affine,
    flip_joints,
    invert_affine,
    warp,
    warp_shrinking,
    warp_small,
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


@pytest.mark.parametrize("n", [17, 64])
def test_warp_small_gives_the_pixels_of_warp_and_goes_on_past_the_edge(n):
    picture = RNG.integers(0, 256, (51, 40, 3), np.uint8)
    padded = np.pad(picture, ((200, 200), (200, 200), (0, 0)), "edge")
    for zoom in (0.3, 1.0, 2.6):
        affine = crop_affine([19.0, 26.5, 40.0], n, scale=zoom, rotation=33, flip=zoom > 1)
        crops = np.full((3, n, n, 3), 7, np.uint8)
        warp_small([picture], affine[None], crops[1:2])
        to_picture = np.array([[1.0, 0, -200], [0, 1, -200]])
        # OpenCV counts places in 1/32 px, rounded a little otherwise in a picture that begins elsewhere.
        assert np.abs(crops[1].astype(int) - warp(padded, compose_affine(affine, to_picture), n)).max() <= 8
        inside = warp(np.full_like(picture, 255), affine, n) == 255
        assert np.array_equal(crops[1][inside], warp(picture, affine, n)[inside])
        assert (crops[[0, 2]] == 7).all()


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


def lanczos(x):
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


@pytest.mark.parametrize(("x", "y", "side"), [(60.0, 47.0, 40.0), (51.3, 50.6, 77.7), (8.0, 90.0, 55.0)])
def test_warp_shrinking_is_a_lanczos_filter(x, y, side):
    """Each pixel of an upright crop, from its definition; the picture counts as black beyond its edges."""
    picture = cv2.resize(RNG.integers(60, 200, (30, 24, 3), np.uint8), (96, 120), interpolation=cv2.INTER_CUBIC)
    n = 16
    affine = crop_affine([x, y, side], n)
    shrink = side / n
    centres = apply_affine(invert_affine(affine), np.stack([np.arange(n), np.arange(n)], axis=1).astype(float))
    wide = np.pad(picture, ((60, 60), (60, 60), (0, 0))).astype(float)
    weights = [lanczos((np.arange(-60, size + 60) - centres[:, axis, None]) / shrink) for axis, size in ((0, 96), (1, 120))]
    across, down = (weight / weight.sum(1, keepdims=True) for weight in weights)
    expected = np.clip(np.einsum("yv,xu,vuc->yxc", down, across, wide), 0, 255)
    sees = [
        (centres[:, axis] + shrink / 2 > -0.5) & (centres[:, axis] - shrink / 2 < size - 0.5)
        for axis, size in ((0, 96), (1, 120))
    ]
    expected *= (sees[1][:, None] & sees[0])[..., None]  # what rings into pixels off the picture is cut
    np.testing.assert_allclose(warp_shrinking(picture, affine, n), expected, atol=2)


def test_warp_shrinking_of_a_turned_crop_is_the_turned_upright_crop():
    picture = cv2.resize(RNG.integers(60, 200, (12, 12, 3), np.uint8), (240, 240), interpolation=cv2.INTER_CUBIC)
    box = [120.0, 118.0, 150.0]
    quarter = warp_shrinking(picture, crop_affine(box, 45, rotation=90), 45).astype(int)
    upright = warp_shrinking(picture, crop_affine(box, 45), 45)
    assert np.abs(quarter - np.rot90(upright, -1)).max() <= 1
    mirrored = warp_shrinking(picture, crop_affine(box, 45, flip=True), 45).astype(int)
    assert np.abs(mirrored - upright[:, ::-1]).max() <= 1
    assert np.abs(warp_shrinking(picture, crop_affine(box, 45, rotation=180, flip=True), 45) - upright[::-1].astype(int)).max() <= 1


def test_warp_shrinking_of_far_too_large_boxes_takes_no_memory_for_nothing():
    """A box a hundred times the picture shows it as a dot; a box beside it shows nothing."""
    picture = np.full((64, 48, 3), 255, np.uint8)
    dot = warp_shrinking(picture, crop_affine([24.0, 32.0, 6400.0], 64), 64)
    assert (dot > 0).any(-1).sum() <= 4 and dot.sum() / 3 == pytest.approx(255 * 48 * 64 / 100**2, rel=0.5)
    assert not warp_shrinking(picture, crop_affine([1000.0, 0.0, 200.0], 64), 64).any()
