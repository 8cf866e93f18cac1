"""The capture's ray caster and renderer, held against hand-computed hits, projections and mirrors."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ipr_lib.geometry.camera import look_at
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.studio import add_noise, render_frame, studio_cameras, studio_light
from ipr_lib.studio.acting.actors import ACTORS
from ipr_lib.studio.acting.performance import FRAME_NAMES, Performance, Prop
from ipr_lib.studio.drawing.raycast import (
    NOTHING,
    View,
    camera_view,
    cast_grid,
    cast_points,
    place,
    scene_box,
)
from ipr_lib.studio.drawing.shading import draw, stage_parts
from ipr_lib.studio.scenes.body import body_parts, scene_parts
from ipr_lib.studio.scenes.looks import LOOKS
from ipr_lib.studio.scenes.paint import Layer, Paint
from ipr_lib.studio.scenes.shapes import BALL, CONE, ball, box, cone, surface

EYE = np.eye(3)
GREY = Paint("#808080")
# Pinhole: the ray of pixel (50 + 100 x, 50 + 100 y) is (x, y, 1). Parallel: it starts at (x, y) mm.
PINHOLE = View(EYE, np.zeros(3), np.full(2, 100.0), np.full(2, 50.0), 101, 101)
PARALLEL = View(EYE, np.zeros(3), np.ones(2), np.full(2, 100.0), 201, 201, parallel=True)
TURN_45 = np.array([[1, 0, 1], [0, np.sqrt(2), 0], [-1, 0, 1]]) / np.sqrt(2)


@pytest.mark.parametrize(
    ("view", "part", "x", "y", "depth", "normal"),
    [
        # t² 1.0025 - 2000 t + 990000 = 0 at slope 0.05
        (PINHOLE, ball([0, 0, 1000], EYE, [100] * 3, GREY), 0.0, 0.0, 900.0, (0, 0, -1)),
        (
            PINHOLE,
            ball([0, 0, 1000], EYE, [100] * 3, GREY),
            0.05,
            0.0,
            910.9759,
            (0.455488, 0, -0.890241),
        ),
        # half axes 100, 50, 200: at x = 60, z = 1000 - 200 * 0.8; normal along (60 / 100², 0, -160 / 200²)
        (
            PARALLEL,
            ball([0, 0, 1000], EYE, [100, 50, 200], GREY),
            60.0,
            0.0,
            840.0,
            (0.832050, 0, -0.554700),
        ),
        # cylinder of radius 50 along x, slope 0.03 across: t² 1.0009 - 2000 t + 997500 = 0
        (
            PINHOLE,
            cone([-200, 0, 1000], [200, 0, 1000], 50, 50, GREY),
            0.0,
            0.03,
            959.1092,
            (0, 0.575466, -0.817826),
        ),
        # its round end: 1000 - sqrt(50² - 30²)
        (
            PARALLEL,
            cone([-20, 0, 1000], [20, 0, 1000], 50, 50, GREY),
            50.0,
            0.0,
            960.0,
            (0.6, 0, -0.8),
        ),
        # cone 80 -> 20 over 200: sine 0.3, mantle (80 - 0.3 * 100) / sqrt(1 - 0.09) above the axis' middle
        (
            PARALLEL,
            cone([-100, 0, 1000], [100, 0, 1000], 80, 20, GREY),
            0.0,
            0.0,
            947.5858,
            (0.3, 0, -0.953939),
        ),
        # tip first: mantle where (20 + 0.3 z) / 0.953939 = 50, at z = 92.323 behind 900
        (
            PARALLEL,
            cone([0, 0, 900], [0, 0, 1100], 20, 80, GREY),
            50.0,
            0.0,
            992.3232,
            (0.953939, 0, -0.3),
        ),
        # wide end first: the ball of radius 80 about 900
        (
            PARALLEL,
            cone([0, 0, 900], [0, 0, 1100], 80, 20, GREY),
            50.0,
            0.0,
            837.5500,
            (0.625, 0, -0.780625),
        ),
        # flattened to half along y: at y = 24 as a round one at 48 of 80
        (
            PARALLEL,
            cone([-90, 0, 1000], [90, 0, 1000], 80, 80, GREY, side=[0, 1, 0], flat=(0.5, 1)),
            0.0,
            24.0,
            936.0,
            (0, 0.832050, -0.554700),
        ),
        # a cube on its edge
        (
            PARALLEL,
            box([0, 0, 1000], TURN_45, [100] * 3, GREY),
            50.0,
            0.0,
            908.5786,
            (0.707107, 0, -0.707107),
        ),
    ],
)
def test_hits(view, part, x, y, depth, normal):
    u, v = np.array([x * view.f[0] + view.c[0]]), np.array([y * view.f[1] + view.c[1]])
    found, number = cast_points(place([part], view), view, u, v)
    assert number[0] == 0
    assert found[0] == pytest.approx(depth, abs=0.01)
    point = (
        np.array([[x], [y], [1.0]]) * found if view is PINHOLE else np.array([[x], [y], [found[0]]])
    )
    np.testing.assert_allclose(surface(part, point.astype(np.float32))[:, 0], normal, atol=2e-4)


def test_misses():
    parts = [
        ball([0, 0, 1000], EYE, [50] * 3, GREY),
        cone([-30, 0, 1000], [30, 0, 1000], 50, 20, GREY),
    ]
    for part in parts:
        found, number = cast_points(
            place([part], PARALLEL), PARALLEL, np.full(1, 100.0), np.array([100 + 50.5])
        )
        assert number[0] == NOTHING and np.isinf(found[0])


def random_parts(rng, n=60):
    parts = []
    for k in range(n):
        a, b = rng.uniform(-900, 900, (2, 3)) + (0, 0, 4000)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        parts.append(
            [
                ball(a, turn, rng.uniform(20, 200, 3), GREY),
                box(a, turn, rng.uniform(20, 200, 3), GREY),
                cone(
                    a,
                    a + 0.3 * (b - a),
                    *rng.uniform(10, 120, 2),
                    GREY,
                    side=turn[0],
                    flat=rng.uniform(0.4, 1.5, 2),
                ),
            ][k % 3]
        )
    return parts


@pytest.mark.parametrize("parallel", [False, True])
def test_screen_boxes_hold_every_hit_tightly(parallel):
    f = np.full(2, 0.05 if parallel else 200.0)
    view = View(EYE, np.zeros(3), f, np.array([60.0, 55.0]), 120, 110, parallel)
    parts = random_parts(np.random.default_rng(1))
    whole = np.array([[0, 0, 120, 110]])
    for part in parts:
        placed = place([part], view)
        _, free = cast_grid(replace(placed, boxes=whole), view, (0, 0, 120, 110))
        _, boxed = cast_grid(placed, view, (0, 0, 120, 110))
        np.testing.assert_array_equal(free, boxed)
        left, top, right, bottom = placed.boxes[0]
        rows, columns = np.nonzero(free == 0)
        if len(rows) and part.kind in (BALL, CONE):
            assert rows.min() - top <= 2 and bottom - rows.max() <= 3
            assert columns.min() - left <= 2 and right - columns.max() <= 3


def test_nearest_part_wins_whatever_the_order():
    near, far = ball([0, 0, 800], EYE, [50] * 3, GREY), ball([0, 0, 1000], EYE, [200] * 3, GREY)
    for parts, front in (([near, far], 0), ([far, near], 1)):
        depth, part = cast_grid(place(parts, PINHOLE), PINHOLE, (0, 0, 101, 101))
        assert part[50, 50] == front and depth[50, 50] == pytest.approx(750, abs=0.01)
        assert part[50, 65] == 1 - front
        assert part[0, 0] == NOTHING


def test_points_and_grid_agree():
    view = View(EYE, np.zeros(3), np.full(2, 200.0), np.array([60.0, 55.0]), 120, 110)
    placed = place(random_parts(np.random.default_rng(2)), view)
    depth, part = cast_grid(placed, view, (0, 0, 120, 110))
    v, u = np.divmod(np.arange(120 * 110, dtype=np.float32), 120)
    again, number = cast_points(placed, view, u, v)
    assert (number == part.ravel()).mean() > 0.999
    same = number == part.ravel()
    np.testing.assert_allclose(again[same], depth.ravel()[same], rtol=1e-5)


def pose(actor, raised=0.6):
    """A Performance of one frame: standing, facing +y, right arm raised sideways, left arm down and forward."""
    bone, R = actor.bone_mm, {name: EYE for name in FRAME_NAMES}
    at = {"Pelvis": np.array([150.0, 100.0, actor.foot_mm[0] + bone["Knee"] + bone["Ankle"]])}
    at["Torso"] = at["Pelvis"] + (0, 0, bone["Torso"])
    at["Neck"] = at["Torso"] + (0, 0, bone["Neck"])
    at["Nose"] = at["Neck"] + bone["Nose"] * np.array([0, 0.479, 0.878])
    at["Head"] = at["Nose"] + bone["Head"] * np.array([0, -0.382, 0.924])
    for prefix, s in (("R_", 1.0), ("L_", -1.0)):
        at[prefix + "Hip"] = at["Pelvis"] + (s * bone["Hip"], 0, 0)
        at[prefix + "Knee"] = at[prefix + "Hip"] - (0, 0, bone["Knee"])
        at[prefix + "Ankle"] = at[prefix + "Knee"] - (0, 0, bone["Ankle"])
        at[prefix + "Shoulder"] = at["Neck"] + bone["Shoulder"] * np.array([s * 0.97, -0.1, -0.22])
        aim = (
            np.array([s * np.cos(raised), 0, np.sin(raised)])
            if s > 0
            else np.array([-0.3, 0.5, -0.81])
        )
        at[prefix + "Elbow"] = at[prefix + "Shoulder"] + bone["Elbow"] * aim
        at[prefix + "Wrist"] = at[prefix + "Elbow"] + bone["Wrist"] * aim
        y = np.array([0, 1.0, 0]) - aim[1] * aim
        y /= np.linalg.norm(y)
        R[f"{prefix[0].lower()}_hand"] = np.stack([np.cross(y, -aim), y, -aim], axis=1)
    joints = np.stack([at[name] for name in HUMAN36M.names[:17]])[None]
    return Performance(actor, joints, {name: rotation[None] for name, rotation in R.items()})


def mirrored(performance):
    """The same pose in a mirror at x = 0: what the right side did, the left side does."""
    M = np.diag([-1.0, 1, 1])
    swap = {"r_": "l_", "l_": "r_"}
    frames = {
        swap.get(name[:2], name[:2]) + name[2:]: M @ R @ M
        for name, R in performance.frames_world.items()
    }
    order = HUMAN36M.flip_order[:17]
    return replace(
        performance, joints_world=(performance.joints_world @ M)[:, order], frames_world=frames
    )


def on_grey(parts, camera, light):
    canvas = np.full((camera.height, camera.width, 3), 140, np.uint8)
    draw(stage_parts(parts, light), camera, canvas)
    return canvas


@pytest.mark.parametrize("subject", sorted(LOOKS))
def test_mirrored_scene_gives_the_mirrored_picture(subject):
    performance = pose(ACTORS[subject])
    camera = look_at((0, 4200, 1500), (0, 0, 950), (260, 260), (111.5, 119.5), 224, 240)
    light = studio_light()
    other = replace(light, direction=light.direction * (-1, 1, 1))
    direct = on_grey(scene_parts(performance, 0), camera, light).astype(int)
    mirror = on_grey(scene_parts(mirrored(performance), 0), camera, other).astype(int)
    drawn = (direct != 140).any(axis=2)
    difference = np.abs(direct - mirror[:, ::-1]).max(axis=2)
    assert drawn.sum() > 3000
    assert difference[drawn].mean() < 2.5
    assert (difference > 24).sum() < 0.015 * drawn.sum()
    assert (
        np.abs(direct - mirror).max(axis=2)[drawn].mean() > 20
    )  # the test's own check: unmirrored they differ


@pytest.mark.parametrize("subject", sorted(LOOKS))
def test_looks_do_not_tell_the_sides_apart(subject):
    """Paints right of the middle are those left of it, in number and kind."""
    parts = body_parts(pose(ACTORS[subject], raised=-1.0), 0, LOOKS[subject])
    middle = pose(ACTORS[subject]).joints_world[0, 0, 0]
    sides = [[], []]
    for part in parts:
        x = part.origin_world[0] + part.axes_world[0, 2] * part.shape[0] / 2 - middle
        if abs(x) > 1:
            sides[int(x > 0)].append(str(part.paint))
    assert sorted(sides[0]) == sorted(sides[1]) and sides[0]


@pytest.mark.parametrize("subject", sorted(LOOKS))
def test_joints_lie_in_the_flesh(subject):
    performance = pose(ACTORS[subject])
    parts = body_parts(performance, 0, LOOKS[subject])
    for name, joint in zip(HUMAN36M.names, performance.joints_world[0]):
        assert max(depth_inside(part, joint) for part in parts) > 10, name


def depth_inside(part, point):
    """About how far a point lies under the surface of a ball or cone, mm (negative outside)."""
    local = np.linalg.inv(part.axes_world) @ (point - part.origin_world)
    scale = np.linalg.norm(part.axes_world, axis=0).min()
    length, radius_a, radius_b = part.shape
    share = np.clip(local[2] / length, 0, 1) if part.kind == CONE else 0.0
    radius = radius_a + share * (radius_b - radius_a)
    return (radius - np.linalg.norm(local - (0, 0, share * length))) * scale


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_ball_at_a_joint_is_drawn_where_the_joint_projects(number):
    camera = studio_cameras()[number]
    for joint in pose(ACTORS[6]).joints_world[0][[0, 3, 10, 16]]:
        expected = camera.camera_to_image(camera.world_to_camera(joint))
        view = camera_view(camera)
        placed = place([ball(joint, EYE, [25] * 3, GREY)], view)
        left, top, *_ = bounds = scene_box(placed, 2, view)
        _, part = cast_grid(placed, view, bounds)
        rows, columns = np.nonzero(part == 0)
        centroid = (columns.mean() + left, rows.mean() + top)
        np.testing.assert_allclose(centroid, expected, atol=0.3)
        canvas = np.zeros((camera.height, camera.width, 3), np.uint8)
        draw(
            stage_parts([ball(joint, EYE, [25] * 3, Paint("#ffffff", glow=1.0))], studio_light()),
            camera,
            canvas,
        )
        moments = cv2.moments((canvas[..., 1] > 90).astype(np.uint8), binaryImage=True)
        drawn = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
        np.testing.assert_allclose(drawn, expected, atol=0.5)


def test_edges_are_smooth():
    camera = look_at((0, 3000, 1000), (0, 0, 1000), (300, 300), (49.5, 49.5), 100, 100)
    canvas = np.zeros((100, 100, 3), np.uint8)
    draw(
        stage_parts(
            [ball([0, 0, 1000], EYE, [300] * 3, Paint("#ffffff", glow=1.0))], studio_light()
        ),
        camera,
        canvas,
        soften=False,
    )
    inside = canvas[50, 50, 0]
    partly = (canvas[..., 0] > 0.15 * inside) & (canvas[..., 0] < 0.9 * inside)
    assert 60 < partly.sum() < 260  # about the circle's circumference, 2 pi 30 px


def test_patterns_stick_to_the_body():
    """A striped actor that is moved and turned, seen by a camera that moves along, looks the same."""
    striped = replace(LOOKS[6], top=Paint("#ffffff", (Layer("checks", "#000000", 90.0),)))
    performance = pose(ACTORS[6])
    angle = 0.7
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    shift = np.array([300.0, -500.0, 0])
    moved = replace(
        performance,
        joints_world=performance.joints_world @ turn.T + shift,
        frames_world={name: turn @ R for name, R in performance.frames_world.items()},
    )
    camera = look_at((0, 3800, 1500), (0, 0, 950), (200, 200), (79.5, 89.5), 160, 180)
    other = replace(camera, R=camera.R @ turn.T, T=turn @ camera.T + shift)
    light = studio_light()
    turned_light = replace(light, direction=turn @ light.direction)
    first = on_grey(body_parts(performance, 0, striped), camera, light).astype(int)
    second = on_grey(body_parts(moved, 0, striped), other, turned_light).astype(int)
    drawn = (first != 140).any(axis=2)
    assert np.abs(first - second).max(axis=2)[drawn].mean() < 3


def test_furniture_hides_and_unknown_props_are_drawn():
    performance = pose(ACTORS[1])
    camera = look_at((150, 4000, 1000), (150, 0, 900), (200, 200), (79.5, 89.5), 160, 180)
    wall = Prop("crate", np.array([[150.0, 900, 0]]), EYE[None], (1500, 50, 900))
    free, hidden = (
        on_grey(scene_parts(replace(performance, props=props), 0), camera, studio_light())
        for props in ((), (wall,))
    )
    knee = (
        camera.camera_to_image(camera.world_to_camera(performance.joints_world[0, 2]))
        .round()
        .astype(int)
    )
    head = (
        camera.camera_to_image(camera.world_to_camera(performance.joints_world[0, 10]))
        .round()
        .astype(int)
    )
    assert np.abs(free[knee[1], knee[0]].astype(int) - hidden[knee[1], knee[0]]).max() > 30
    assert np.abs(free[head[1], head[0]].astype(int) - hidden[head[1], head[0]]).max() < 12


@pytest.mark.parametrize(
    "kind",
    [
        "chair",
        "stool",
        "table",
        "phone",
        "cigarette",
        "camera",
        "bag",
        "cup",
        "plate",
        "bottle",
        "book",
        "apple",
        "fork",
        "dog",
        "leash",
    ],
)
def test_every_prop_is_seen(kind):
    extra = (
        {"phase": np.array([0.3]), "end": np.array([[300.0, 500, 300]])}
        if kind in ("dog", "leash")
        else {}
    )
    prop = Prop(kind, np.array([[0.0, 0, 900]]), EYE[None], (200, 200, 300), extra)
    camera = look_at((0, 2500, 1300), (0, 0, 900), (150, 150), (59.5, 59.5), 120, 120)
    parts = scene_parts(replace(pose(ACTORS[1]), props=(prop,)), 0)
    alone = parts[len(scene_parts(pose(ACTORS[1]), 0)) :]
    assert alone
    assert (on_grey(alone, camera, studio_light()) != 140).any(axis=2).sum() > 15


def test_what_no_pixel_sees_is_left_out():
    camera = look_at((0, 5000, 1000), (0, 0, 1000), (20, 20), (9.5, 9.5), 20, 20)
    for parts in (
        [ball([8, 0, 1010], EYE, [1] * 3, GREY)],
        [ball([0, 9000, 1000], EYE, [100] * 3, GREY)],
    ):
        assert (on_grey(parts, camera, studio_light()) == 140).mean() > 0.9


def test_the_body_casts_a_shadow_on_the_floor():
    performance = pose(ACTORS[1])
    camera = look_at((0, 4200, 2500), (0, 0, 300), (200, 200), (99.5, 89.5), 200, 180)
    light = studio_light()
    picture = on_grey(scene_parts(performance, 0), camera, light).astype(int)
    neck = performance.joints_world[0, 8]
    spot = neck - light.direction * neck[2] / light.direction[2]  # where the lamp throws the neck
    u, v = camera.camera_to_image(camera.world_to_camera(spot)).round().astype(int)
    assert picture[v, u].max() < 125
    assert (picture[-1] == 140).all() and (picture[:, 0] == 140).all()


def test_noise_and_pictures_are_deterministic():
    camera = studio_cameras(128)[1]
    performance = pose(ACTORS[5])
    first, second = (render_frame(performance, 0, camera, seed=(0, 7)) for _ in range(2))
    other = render_frame(performance, 0, camera, seed=(0, 8))
    assert first.shape == (camera.height, camera.width, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert (first != other).mean() > 0.3
    assert np.abs(first.astype(int) - other).max() < 40
    large = np.full((1400, 1300, 3), 100, np.uint8)
    add_noise(large, 0)
    assert abs(large.mean() - 100) < 0.2 and 1 < large.std() < 4
