import dataclasses

import cv2
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.store import build_store
from ipr_lib.files import InputError
from ipr_lib.geometry import Camera, distort, look_at, undistort
from tests.conftest import write_sequence

F, C = np.array([1145.0, 1143.0]), np.array([512.5, 515.4])
K, P = np.array([-0.2, 0.24, -0.002]), np.array([-0.0009, -0.0014])
PINHOLE = look_at([3000, -2000, 1600], [0, 100, 900], F, C, 1000, 1002)
LENS = dataclasses.replace(PINHOLE, k=K, p=P)


def test_distortion_by_hand():
    # x = 1, y = 2: r2 = 5, a = 1 + 0.1 * 5 + 0.01 * 25 + 0.001 * 125 + 0.3 * 2 + 0.2 * 1 = 2.675.
    bent = distort(np.array([1.0, 2.0]), np.array([0.1, 0.01, 0.001]), np.array([0.3, 0.2]))
    np.testing.assert_allclose(bent, [2.675 + 0.2 * 5, 2 * 2.675 + 0.3 * 5], rtol=1e-15)


def test_radial_part_is_opencvs_and_the_tangential_part_has_factor_one():
    rays = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2))
    points = np.concatenate([rays, np.ones((50, 1))], 1)

    def opencv(tangential):
        # OpenCV: x' = x (1 + …) + 2 p1 x y + p2 (r2 + 2 x²), ours x (1 + … + p1 y + p2 x) + p2 r2.
        coefficients = np.array([*K[:2], *tangential, K[2]])
        return cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), coefficients)[0][:, 0]

    np.testing.assert_allclose(distort(rays, K, 0 * P), opencv([0, 0]), atol=1e-14)
    difference = distort(rays, K, P) - opencv(P)
    np.testing.assert_allclose(difference, -rays * (rays @ P[::-1])[:, None], atol=1e-14)


def test_round_trip_inside_and_round_the_picture():
    axis = np.linspace(-200, 1200, 57)
    joints_img = np.stack(np.meshgrid(axis, axis), -1)
    depth = np.full(joints_img.shape[:2], 4321.0)
    back = LENS.camera_to_image(LENS.image_to_camera(joints_img, depth))
    assert np.abs(back - joints_img).max() < 1e-6
    straight = PINHOLE.image_to_camera(joints_img, depth)
    np.testing.assert_allclose(
        LENS.image_to_camera(LENS.camera_to_image(straight), depth), straight, atol=1e-6
    )
    moved = np.linalg.norm(LENS.camera_to_image(straight) - joints_img, axis=-1)
    assert moved.max() > 1  # the lens does something


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-0.3, 0.3), min_size=3, max_size=3),
    st.lists(st.floats(-0.01, 0.01), min_size=2, max_size=2),
    st.floats(-0.45, 0.45),
    st.floats(-0.45, 0.45),
)
def test_round_trip_of_any_mild_lens(k, p, x, y):
    rays, k, p = np.array([x, y]), np.array(k), np.array(p)
    np.testing.assert_allclose(undistort(distort(rays, k, p), k, p), rays, atol=1e-11)


def test_a_place_that_no_ray_reaches_is_nan_and_spares_its_neighbours():
    # r (1 - r2 / 2) never exceeds 0.544; beyond its fold the model has other, senseless, solutions.
    k, p = np.array([-0.5, 0, 0]), np.zeros(2)
    rays = undistort(np.array([[0.5, 0.0], [0.56, 0.0], [3.9, 0.0]]), k, p)
    assert np.isnan(rays[1:]).all()
    np.testing.assert_allclose(distort(rays[0], k, p), [0.5, 0], atol=1e-12)


def test_zero_coefficients_are_the_pinhole():
    cam = np.random.default_rng(1).normal(0, 300, (3, 5, 3)) + [0, 0, 4000]
    zero = dataclasses.replace(PINHOLE, k=np.zeros(3), p=np.zeros(2))
    image = PINHOLE.camera_to_image(cam)
    assert (zero.camera_to_image(cam) == image).all()
    np.testing.assert_allclose(zero.image_to_camera(image, cam[..., 2]), cam, rtol=1e-12)
    assert PINHOLE.k is None


def test_leading_axes_give_each_pose_its_own_lens():
    cameras = [LENS, dataclasses.replace(LENS, k=K * [0.5, -1, 3], p=P * -2)]
    batched = Camera(
        *(np.stack([getattr(c, n) for c in cameras])[:, None] for n in "RTfc"),
        1000,
        1002,
        *(np.stack([getattr(c, n) for c in cameras])[:, None] for n in "kp"),
    )
    cam = np.random.default_rng(2).normal(0, 400, (2, 7, 3)) + [0, 0, 4000]
    image = batched.camera_to_image(cam)
    back = batched.image_to_camera(image, cam[..., 2])
    for i, camera in enumerate(cameras):
        np.testing.assert_allclose(image[i], camera.camera_to_image(cam[i]), rtol=1e-14)
        np.testing.assert_allclose(back[i], cam[i], atol=1e-8)


def test_the_lens_survives_layout_and_store(tmp_path):
    folder = write_sequence(tmp_path / "set", subject=1)
    pinhole = write_sequence(tmp_path / "set", subject=5)
    sequence = layout.read_camera_view(folder)
    assert sequence.camera.k is None and "k" not in scipy.io.loadmat(folder / layout.META_NAME)
    camera = dataclasses.replace(sequence.camera, k=K, p=P)
    layout.write_meta(folder / layout.META_NAME, camera, sequence.joints_world)
    back = layout.read_camera_view(folder).camera
    assert (back.k == K).all() and (back.p == P).all()

    store = build_store(tmp_path / "set", tmp_path / "crops", subjects=(1, 5), step=3, crop_px=64)
    items = np.array([0, 2, 4])
    cam = store.columns["joints_cam"][items].astype(float)
    np.testing.assert_allclose(
        store.cameras(items).camera_to_image(cam), store.columns["joints_img"][items], atol=1e-3
    )
    bent = camera.camera_to_image(cam[0])
    np.testing.assert_allclose(store.columns["joints_img"][0], bent, atol=1e-3)
    assert np.abs(bent - sequence.camera.camera_to_image(cam[0])).max() > 0.01
    without = build_store(tmp_path / "set", tmp_path / "pinhole", subjects=(5,), step=3, crop_px=64)
    assert "k" not in without.columns and layout.read_camera_view(pinhole).camera.k is None
    np.testing.assert_array_equal(without.columns["joints_img"], store.columns["joints_img"][3:])


def test_half_a_lens_is_an_error(tmp_path):
    folder = write_sequence(tmp_path / "set")
    path = folder / layout.META_NAME
    content = {name: value for name, value in scipy.io.loadmat(path).items() if name[0] != "_"}
    scipy.io.savemat(path, content | {"k": K[None]})
    with pytest.raises(InputError, match="lacks p"):
        layout.read_camera_view(folder)
    scipy.io.savemat(path, content | {"k": K[None] * np.nan, "p": P[None]})
    with pytest.raises(InputError, match="k is not finite"):
        layout.read_camera_view(folder)
