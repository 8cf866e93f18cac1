import numpy as np

from ipr_lib.geometry import Camera, look_at

F, C = np.array([1100.0, 1200.0]), np.array([500.0, 480.0])


def test_projection_by_hand():
    # The camera stands at x = 1000, looks along world -x: its right is world +y … and its down is world -z.
    R = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], float)
    camera = Camera(R, np.array([1000.0, 0, 0]), F, C, 1000, 1000)
    cam = camera.world_to_camera(np.array([-1000.0, 200, 300]))
    assert cam.tolist() == [200, -300, 2000]
    assert camera.camera_to_image(cam).tolist() == [500 + 1100 * 0.1, 480 - 1200 * 0.15]


def test_round_trips():
    camera = look_at([3000, -2000, 1600], [0, 100, 900], F, C, 1000, 1002)
    world = np.random.default_rng(0).normal(0, 500, (2, 5, 3))
    cam = camera.world_to_camera(world)
    np.testing.assert_allclose(camera.camera_to_world(cam), world, atol=1e-9)
    np.testing.assert_allclose(
        camera.image_to_camera(camera.camera_to_image(cam), cam[..., 2]), cam, atol=1e-9
    )


def test_look_at_centres_the_target_upright():
    camera = look_at([3000, -2000, 1600], [0, 100, 900], F, C, 1000, 1002)
    np.testing.assert_allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.R) > 0
    target, above = camera.camera_to_image(
        camera.world_to_camera(np.array([[0, 100, 900], [0, 100, 1000.0]]))
    )
    np.testing.assert_allclose(target, C, atol=1e-9)
    assert above[1] < target[1] and abs(above[0] - target[0]) < 1e-9


def test_leading_axes_give_each_pose_its_own_camera():
    cameras = [
        look_at([3000, y, 1600], [0, 0, 900], F + y / 9, C - y / 7, 1000, 1000)
        for y in (-500.0, 700.0)
    ]
    batched = Camera(
        *(np.stack([getattr(c, name) for c in cameras])[:, None] for name in "RTfc"), 1000, 1000
    )
    world = np.random.default_rng(1).normal(0, 400, (2, 5, 3))
    cam = batched.world_to_camera(world)
    image = batched.camera_to_image(cam)
    back = batched.image_to_camera(image, cam[..., 2])
    for i, camera in enumerate(cameras):
        np.testing.assert_allclose(cam[i], camera.world_to_camera(world[i]))
        np.testing.assert_allclose(image[i], camera.camera_to_image(cam[i]))
        np.testing.assert_allclose(back[i], cam[i])
    np.testing.assert_allclose(batched.camera_to_world(cam), world)
