import cv2
import numpy as np
import pytest

from ipr_lib.geometry import (
    HUMAN36M,
    Augmentation,
    Camera,
    apply_affine,
    box_at_root,
    compose_affine,
    crop_affine,
    draw_augmentation,
    flip_joints,
    invert_affine,
    square_boxes,
    warp,
    warp_shrinking,
)

RNG = np.random.default_rng(0)


def test_box_by_hand():
    camera = Camera(
        np.eye(3), np.zeros(3), np.array([1000.0, 1200]), np.array([500.0, 400]), 1000, 1000
    )
    box = box_at_root(np.array([[100.0, 200, 4000], [0, 0, 2000]]), camera)
    assert box.tolist() == [[500 + 25, 400 + 60, 2000 * 1100 / 4000], [500, 400, 1100]]


def test_square_boxes_by_hand():
    """The centre of 25.5 … 55.5 is 40.5, of 15 … 59.25 it is 37.125; the longer side counts, times the scale."""
    boxes = square_boxes([[25.5, 15, 30, 44.25], [0, 0, 8, 4]])
    np.testing.assert_allclose(boxes, [[40.5, 37.125, 44.25 * 1.25], [4, 2, 10]])
    np.testing.assert_allclose(square_boxes([[0, 0, 8, 4]], 2.0), [[4, 2, 16]])
    assert square_boxes(np.zeros((0, 4))).shape == (0, 3)


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
        np.testing.assert_allclose(
            apply_affine(crop_affine(box, 64, **arguments), point), [expected], err_msg=name
        )


def draw(n=3):
    return dict(
        scale=RNG.uniform(0.7, 1.3, n),
        rotation=RNG.uniform(-40, 40, n),
        shift=RNG.uniform(-0.1, 0.1, (n, 2)),
        flip=RNG.random(n) < 0.5,
    )


def test_inverse_and_composition_are_exact():
    box = RNG.uniform(100, 500, (3, 3))
    first, second = crop_affine(box, 64, **draw()), crop_affine(box / 3, 96, **draw())
    points = RNG.uniform(0, 900, (3, 5, 2))
    np.testing.assert_allclose(
        apply_affine(invert_affine(first), apply_affine(first, points)), points, atol=1e-9
    )
    np.testing.assert_allclose(
        apply_affine(compose_affine(second, first), points),
        apply_affine(second, apply_affine(first, points)),
        atol=1e-9,
    )


def test_flip_in_the_affine_is_the_flip_of_joints():
    box, arguments = RNG.uniform(100, 500, (3, 3)), draw()
    points = RNG.uniform(0, 900, (3, 18, 2))
    plain = apply_affine(crop_affine(box, 64, **arguments | {"flip": False}), points)
    mirrored = apply_affine(crop_affine(box, 64, **arguments | {"flip": True}), points)
    np.testing.assert_allclose(
        mirrored[:, HUMAN36M.flip_order], flip_joints(plain, HUMAN36M.flip_order, 64), atol=1e-9
    )


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
def test_a_replicated_border_goes_on_past_the_edge_and_changes_nothing_inside(n):
    picture = RNG.integers(0, 256, (51, 40, 3), np.uint8)
    padded = np.pad(picture, ((200, 200), (200, 200), (0, 0)), "edge")
    to_picture = np.array([[1.0, 0, -200], [0, 1, -200]])
    for zoom in (0.3, 1.0, 2.6):
        affine = crop_affine([19.0, 26.5, 40.0], n, scale=zoom, rotation=33, flip=zoom > 1)
        crop = warp(picture, affine, n, cv2.BORDER_REPLICATE)
        # OpenCV counts places in 1/32 px, rounded a little otherwise in a picture that begins elsewhere.
        assert (
            np.abs(crop.astype(int) - warp(padded, compose_affine(affine, to_picture), n)).max()
            <= 8
        )
        inside = warp(np.full_like(picture, 255), affine, n) == 255
        assert np.array_equal(crop[inside], warp(picture, affine, n)[inside])


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


@pytest.mark.parametrize(
    ("x", "y", "side"), [(60.0, 47.0, 40.0), (51.3, 50.6, 77.7), (8.0, 90.0, 55.0)]
)
def test_warp_shrinking_is_a_lanczos_filter(x, y, side):
    """Each pixel of an upright crop, from its definition; the picture counts as black beyond its edges."""
    picture = cv2.resize(
        RNG.integers(60, 200, (30, 24, 3), np.uint8), (96, 120), interpolation=cv2.INTER_CUBIC
    )
    n = 16
    affine = crop_affine([x, y, side], n)
    shrink = side / n
    centres = apply_affine(
        invert_affine(affine), np.stack([np.arange(n), np.arange(n)], axis=1).astype(float)
    )
    wide = np.pad(picture, ((60, 60), (60, 60), (0, 0))).astype(float)
    weights = [
        lanczos((np.arange(-60, size + 60) - centres[:, axis, None]) / shrink)
        for axis, size in ((0, 96), (1, 120))
    ]
    across, down = (weight / weight.sum(1, keepdims=True) for weight in weights)
    expected = np.clip(np.einsum("yv,xu,vuc->yxc", down, across, wide), 0, 255)
    np.testing.assert_allclose(warp_shrinking(picture, affine, n), expected, atol=2)


def test_warp_shrinking_of_a_turned_crop_is_the_turned_upright_crop():
    picture = cv2.resize(
        RNG.integers(60, 200, (12, 12, 3), np.uint8), (240, 240), interpolation=cv2.INTER_CUBIC
    )
    box = [120.0, 118.0, 150.0]
    quarter = warp_shrinking(picture, crop_affine(box, 45, rotation=90), 45).astype(int)
    upright = warp_shrinking(picture, crop_affine(box, 45), 45)
    assert np.abs(quarter - np.rot90(upright, -1)).max() <= 1
    mirrored = warp_shrinking(picture, crop_affine(box, 45, flip=True), 45).astype(int)
    assert np.abs(mirrored - upright[:, ::-1]).max() <= 1
    assert (
        np.abs(
            warp_shrinking(picture, crop_affine(box, 45, rotation=180, flip=True), 45)
            - upright[::-1].astype(int)
        ).max()
        <= 1
    )


def test_warp_shrinking_of_far_too_large_and_far_away_boxes():
    """A box a hundred times the picture shows it as a dot, but for the ringing of the filter; a box beside it shows nothing."""
    picture = np.full((64, 48, 3), 255, np.uint8)
    dot = warp_shrinking(picture, crop_affine([24.0, 32.0, 6400.0], 64), 64)
    assert 1 <= (dot > 10).any(-1).sum() <= 4
    assert (
        not dot[:28].any()
        and not dot[36:].any()
        and not dot[:, :28].any()
        and not dot[:, 36:].any()
    )
    assert not warp_shrinking(picture, crop_affine([1000.0, 0.0, 200.0], 64), 64).any()


def test_draws_keep_to_their_ranges():
    draw = draw_augmentation(
        Augmentation(scale=0.2, rotation=40, shift=0.1, flip=0.3), np.random.default_rng(0), 4000
    )
    for values, low, high in (
        (draw["scale"], 0.8, 1.2),
        (draw["rotation"], -40, 40),
        (draw["shift"], -0.1, 0.1),
    ):
        assert (
            low <= values.min() < low + 0.01 * (high - low)
            and high - 0.01 * (high - low) < values.max() <= high
        )
    assert draw["flip"].mean() == pytest.approx(0.3, abs=0.03) and draw["shift"].shape == (4000, 2)


def colour_maps(**ranges):
    """300 draws of maps (3, 4) of RGB in 0 … 1; nothing but what is named changes a colour."""
    nothing = dict(colour=0.0, hue=0.0, contrast=0.0)
    return draw_augmentation(Augmentation(**nothing | ranges), np.random.default_rng(1), 300)[
        "colour"
    ]


def test_without_ranges_colours_stay():
    np.testing.assert_allclose(colour_maps(), np.tile(np.eye(3, 4), (300, 1, 1)), atol=1e-6)


def test_colour_scales_each_channel_by_itself():
    maps = colour_maps(colour=0.4)
    gains = np.diagonal(maps, axis1=1, axis2=2)
    np.testing.assert_allclose(maps[:, :, :3], gains[:, None] * np.eye(3), atol=1e-6)
    assert not maps[:, :, 3].any() and 0.6 <= gains.min() < 0.61 and 1.39 < gains.max() <= 1.4
    assert np.abs(gains[:, 0] - gains[:, 1]).max() > 0.3


def test_hue_turns_colours_about_the_grey_axis():
    """Greys and brightness stay, and so does a colour's distance from grey; a turn by 120 degrees takes red to green."""
    maps = colour_maps(hue=25)
    np.testing.assert_allclose(maps[:, :, :3].sum(2), 1, atol=1e-6)
    np.testing.assert_allclose(maps[:, :, :3].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(
        maps[:, :, :3] @ maps[:, :, :3].swapaxes(1, 2), np.tile(np.eye(3), (300, 1, 1)), atol=1e-6
    )
    assert not maps[:, :, 3].any()
    # The trace of a rotation is 1 + 2 cos of its angle.
    angles = np.rad2deg(
        np.arccos(np.clip((np.trace(maps[:, :, :3], axis1=1, axis2=2) - 1) / 2, -1, 1))
    )
    assert 24.5 < angles.max() <= 25.01
    third = min(
        colour_maps(hue=180), key=lambda each: abs(each[1, 0] - 1)
    )  # the draw nearest to 120 degrees
    np.testing.assert_allclose(third[:, :3] @ [1, 0, 0], [0, 1, 0], atol=0.02)


def test_contrast_keeps_or_moves_the_middle_grey_alone():
    """A grey g becomes contrast (g - 0.5) + 0.5 + brightness; hue and single channels stay."""
    maps = colour_maps(contrast=0.5)
    black = maps[:, :, 3]
    white = maps.sum(2)
    np.testing.assert_allclose(black, np.tile(black[:, :1], 3), atol=1e-6)
    np.testing.assert_allclose(white, np.tile(white[:, :1], 3), atol=1e-6)
    contrast = white[:, 0] - black[:, 0]
    brightness = (white[:, 0] + black[:, 0]) / 2 - 0.5
    assert 0.5 <= contrast.min() < 0.52 and 1.48 < contrast.max() <= 1.5
    assert -0.25 <= brightness.min() < -0.24 and 0.24 < brightness.max() <= 0.25
    red = maps[:, :, 0]  # what red adds: the same to green and to blue
    np.testing.assert_allclose(red[:, 1], red[:, 2], atol=1e-6)
