"""Motion taken elsewhere: BVH and glTF, read back by readers that are not ours."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import HUMAN36M, add_thorax
from ipr_lib.inference.motion import (
    BONES,
    JOINTS,
    NAMES,
    fit_motion,
    motions_of,
    parse_up,
    upright_axes,
    write_bvh,
    write_glb,
)
from ipr_lib.inference.poses import join_poses
from ipr_lib.studio import perform

from .test_inference import make_poses

bvhio = pytest.importorskip("bvhio")
pygltflib = pytest.importorskip("pygltflib")


@pytest.fixture(scope="module")
def joints():
    """(7, 18, 3) mm of somebody who acts in the studio, y up: bones of constant length."""
    world = add_thorax(perform(5, 4, 1, 41).joints_world[::6])
    return world[..., [1, 2, 0]]  # x ahead, y left, z up -> the person's left at +x, y up, z ahead


def seen_by(joints_up, up, distance=(100.0, 900.0, -4000.0)):
    """Poses of one person a frame, as a camera with this upward direction sees the joints."""
    joints_cam = (joints_up + distance) @ upright_axes(up)
    parts = []
    for frame, one in enumerate(joints_cam):
        box, score = np.array([[50.0, 60, 70]]), np.ones(1)
        image = np.zeros((1, len(HUMAN36M), 2))
        parts.append(make_poses("a", frame, frame / 25, box, score, one[None], image, 500.0))
    return join_poses(parts)


def places_in_bvh(path):
    """Frame time and {name: (F, 3)} in the file's unit, by bvhio."""
    root = bvhio.readAsHierarchy(str(path))
    places = {name: [] for name in NAMES}
    for frame in range(len(root.Keyframes)):
        root.loadPose(frame)
        for joint, _, _ in root.layout():
            if joint.Name in places:
                places[joint.Name].append(list(joint.PositionWorld))
    found = {name: np.array(values) for name, values in places.items()}
    return bvhio.readAsBvh(str(path)).FrameTime, found


def array_of(gltf, accessor):
    """An accessor of a glTF file as an array."""
    accessor = gltf.accessors[accessor]
    view = gltf.bufferViews[accessor.bufferView]
    kind = {5126: np.float32, 5123: np.uint16, 5121: np.uint8}[accessor.componentType]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor.type]
    start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
    values = np.frombuffer(gltf.binary_blob(), kind, accessor.count * width, start)
    return values.reshape(accessor.count, width)


def places_in_glb(gltf, root):
    """Times and {name: (F, 3)} m of the skeleton under a node, by the rules of glTF."""
    tracks = {}
    for channel in gltf.animations[0].channels:
        sampler = gltf.animations[0].samplers[channel.sampler]
        tracks[channel.target.node, channel.target.path] = sampler
    times = array_of(gltf, tracks[root, "rotation"].input)[:, 0]
    places = {}

    def visit(node, place, turn):
        moved = np.tile(gltf.nodes[node].translation, (len(times), 1))
        if (node, "translation") in tracks:
            moved = array_of(gltf, tracks[node, "translation"].output)
        place = place + turn.apply(moved)
        turn = turn * Rotation.from_quat(array_of(gltf, tracks[node, "rotation"].output))
        places[gltf.nodes[node].name] = place
        for child in gltf.nodes[node].children or []:
            visit(child, place, turn)

    visit(root, np.zeros(3), Rotation.identity(len(times)))
    return times, places


def test_forward_kinematics_of_a_bvh_file_gives_the_joints_back(joints, tmp_path):
    motion = fit_motion(joints, np.arange(7) / 8)
    write_bvh(tmp_path / "a.bvh", motion)
    frame_time, found = places_in_bvh(tmp_path / "a.bvh")
    assert frame_time == pytest.approx(1 / 8, abs=1e-6)
    for name, joint in zip(NAMES, JOINTS):
        np.testing.assert_allclose(found[name], joints[:, joint] / 10, atol=0.02, err_msg=name)


def test_forward_kinematics_of_a_glb_file_gives_the_joints_back(joints, tmp_path):
    motion = fit_motion(joints, 2 + np.arange(7) / 8)
    write_glb(tmp_path / "a.glb", [motion])
    gltf = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    times, found = places_in_glb(gltf, gltf.scenes[0].nodes[0])
    np.testing.assert_allclose(times, 2 + np.arange(7) / 8)
    for name, joint in zip(NAMES, JOINTS):
        np.testing.assert_allclose(found[name], joints[:, joint] / 1000, atol=2e-4, err_msg=name)


def test_names_are_those_that_animation_programs_know():
    assert {bone[2] for bone in BONES} == set(HUMAN36M.names[:17])
    assert {"Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "Spine", "Neck", "Head"} < set(NAMES)
    assert {"RightShoulder", "RightArm", "RightForeArm", "RightHand"} < set(NAMES)


def test_bones_keep_one_length_though_the_joints_do_not(joints):
    """Forearms of 300, 260 and 290 mm in three frames are 290 mm long, their median, in all."""
    stretched = joints[:3].copy()
    elbow, wrist = HUMAN36M.index("L_Elbow"), HUMAN36M.index("L_Wrist")
    along = stretched[:, wrist] - stretched[:, elbow]
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    stretched[:, wrist] = stretched[:, elbow] + along * np.array([[300], [260], [290]])
    motion = fit_motion(stretched, np.arange(3) / 10)
    np.testing.assert_allclose(motion.offsets[NAMES.index("LeftHand")], [290, 0, 0], atol=1e-9)


def test_the_rest_pose_needs_no_rotation():
    """Somebody in a T-pose who faces +z: all rotations are the identity."""
    rest = np.zeros((18, 3))
    for _, parent, joint, direction in BONES[1:]:
        length = 0 if direction == (0, 0, 0) else 200 / np.linalg.norm(direction)
        start = BONES[NAMES.index(parent)][2]
        rest[HUMAN36M.index(joint)] = rest[HUMAN36M.index(start)] + length * np.array(direction)
    motion = fit_motion(np.stack([rest, rest]), np.array([0, 0.5]))
    np.testing.assert_allclose(motion.rotations, np.tile([0, 0, 0, 1], (2, 20, 1)), atol=1e-5)
    assert motion.rate == pytest.approx(2)


def test_a_quarter_turn_about_the_upright_is_one_of_the_hips_alone(joints):
    """Everybody turned by 90 degrees to the left: only the rotation of the hips changes."""
    quarter = Rotation.from_euler("y", 90, degrees=True)
    straight, turned = fit_motion(joints, np.arange(7) / 8), None
    turned = fit_motion(joints @ quarter.as_matrix().T, np.arange(7) / 8)
    hips = Rotation.from_quat(turned.rotations[:, 0])
    hips_before = Rotation.from_quat(straight.rotations[:, 0])
    np.testing.assert_allclose(
        (hips * hips_before.inv()).as_rotvec(), [[0, np.pi / 2, 0]] * 7, atol=1e-3
    )
    same = np.abs((turned.rotations[:, 1:] * straight.rotations[:, 1:]).sum(-1))
    np.testing.assert_allclose(same, 1, atol=1e-6)


def test_missing_frames_are_passed_evenly(joints):
    """Frames at 0, 0.1, 0.2 and 0.5 s: six at ten a second, the root moves evenly over the gap."""
    motion = fit_motion(joints[:4], np.array([0, 0.1, 0.2, 0.5]))
    assert motion.rate == pytest.approx(10) and len(motion.root) == 6
    np.testing.assert_allclose(motion.root[[0, 1, 2, 5]], joints[:4, 0])
    np.testing.assert_allclose(motion.root[3], (2 * joints[2, 0] + joints[3, 0]) / 3)


def test_up_turns_what_a_tilted_camera_sees(joints):
    """A camera that looks 30 degrees down: given that, the person stands upright again."""
    up = np.array([0, -np.cos(np.pi / 6), -np.sin(np.pi / 6)])
    poses = seen_by(joints, up)
    (level,), (told,) = motions_of(poses), motions_of(poses, up)
    middle = np.median(joints[:, 0], axis=0)
    ground = np.median(joints[..., 1].min(axis=1))
    np.testing.assert_allclose(told.root, joints[:, 0] - [middle[0], ground, middle[2]], atol=1e-6)
    tilted = fit_motion(
        (joints + [100, 900, -4000]) @ upright_axes(up) @ upright_axes().T, np.arange(7) / 25
    )
    np.testing.assert_allclose(level.rotations, tilted.rotations, atol=1e-6)
    hips = (
        Rotation.from_quat(level.rotations[:, 0]) * Rotation.from_quat(told.rotations[:, 0]).inv()
    )
    np.testing.assert_allclose(np.degrees(hips.magnitude()), 30, atol=0.1)


def test_axes_by_hand():
    """x right, y down, z away becomes x right, y up, z towards the camera; others by hand."""
    np.testing.assert_array_equal(upright_axes(), [[1, 0, 0], [0, -1, 0], [0, 0, -1]])
    # A phone held on its side: what is up lies to the right of the picture.
    np.testing.assert_array_equal(upright_axes([2, 0, 0]), [[0, 1, 0], [1, 0, 0], [0, 0, -1]])


@pytest.mark.parametrize("text", ["", "1,2", "a,0,1", "0,0,0", "0,0,1", "nan,1,0"])
def test_parse_up_refuses(text):
    with pytest.raises(InputError, match="up"):
        parse_up(text)


def test_several_people_share_one_space(joints, tmp_path):
    """Two people 1 m apart in the video are 1 m apart in the file, each moving at his or her times."""
    poses = seen_by(joints, (0, -1, 0))
    other = seen_by(joints[:4] + [1000, 0, 0], (0, -1, 0))
    other.person[:], other.time_s[:] = 1, other.time_s + 0.4
    motions = motions_of(join_poses([poses, other]))
    assert [motion.person for motion in motions] == [0, 1]
    np.testing.assert_allclose(motions[1].root - motions[0].root[:4], [[1000, 0, 0]] * 4, atol=1e-6)
    write_glb(tmp_path / "a.glb", motions)
    gltf = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    roots = [node for node in gltf.scenes[0].nodes if gltf.nodes[node].name == "Hips"]
    times, found = places_in_glb(gltf, roots[1])
    np.testing.assert_allclose(times, 0.4 + np.arange(4) / 25, atol=1e-6)
    np.testing.assert_allclose(found["Hips"], motions[1].root / 1000, atol=1e-6)


def test_the_shape_in_a_glb_file_goes_from_joint_to_joint(joints, tmp_path):
    """In the rest pose, skinned by hand, the shape of the left forearm reaches from elbow to wrist."""
    motion = fit_motion(joints, np.arange(7) / 8)
    write_glb(tmp_path / "a.glb", [motion])
    gltf = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    attributes = gltf.meshes[0].primitives[0].attributes
    points, owners = array_of(gltf, attributes.POSITION), array_of(gltf, attributes.JOINTS_0)[:, 0]
    inverse = array_of(gltf, gltf.skins[0].inverseBindMatrices).reshape(-1, 4, 4)
    forearm = NAMES.index("LeftForeArm")
    mine = points[owners == forearm] @ inverse[forearm, :3, :3] + inverse[forearm, 3, :3]
    assert len(mine) == 6
    length = motion.offsets[NAMES.index("LeftHand"), 0] / 1000
    np.testing.assert_allclose([mine[:, 0].min(), mine[:, 0].max()], [0, length], atol=1e-6)
    assert np.abs(mine[:, 1:]).max() == pytest.approx(0.07 * length, rel=1e-3)
