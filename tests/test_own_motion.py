"""BVH files onto the capture's actors, with small files that the tests write."""

import json
import re
import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ipr_lib.data.h36m_layout import folder_name, frames_in_use, list_folders, read_camera_view
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import HUMAN36M, Skeleton, bone_lengths
from ipr_lib.prepare.check import check_set
from ipr_lib.studio import MANIFEST, studio_cameras
from ipr_lib.studio.acting.actors import ACTORS
from ipr_lib.studio.own_motion.bvh import drop_t_pose, joint_frames, read_bvh, resample
from ipr_lib.studio.own_motion.retarget import check_unit, find_joints, perform_bvh
from ipr_lib.studio.own_motion.writing import perform_own, plan_motion, write_motion
from tests.fuzzing import corruptions

SCORED = Skeleton(HUMAN36M.names[:17], HUMAN36M.parents[:17], (), 0)
# name: parent, offset in cm; y up, facing +z, so the right side is at negative x.
BODY = {
    "Hips": (None, (0, 0, 0)),
    "Spine": ("Hips", (0, 12, 0)),
    "Spine1": ("Spine", (0, 22, 0)),
    "Neck": ("Spine1", (0, 20, 0)),
    "Head": ("Neck", (0, 12, 3)),
}
for _side, _x in (("Right", -1), ("Left", 1)):
    BODY |= {
        f"{_side}Shoulder": ("Spine1", (4 * _x, 16, 0)),
        f"{_side}Arm": (f"{_side}Shoulder", (14 * _x, 0, 0)),
        f"{_side}ForeArm": (f"{_side}Arm", (28 * _x, 0, 0)),
        f"{_side}Hand": (f"{_side}ForeArm", (25 * _x, 0, 0)),
        f"{_side}Palm": (f"{_side}Hand", (8 * _x, 0, 0)),
        f"{_side}UpLeg": ("Hips", (10 * _x, -3, 0)),
        f"{_side}Leg": (f"{_side}UpLeg", (0, -40, 0)),
        f"{_side}Foot": (f"{_side}Leg", (0, -42, 0)),
        f"{_side}ToeBase": (f"{_side}Foot", (0, -6, 14)),
    }
# Arms hang: turned down about z, out of the T-pose that the offsets draw.
HANG = {"RightArm": (80, 0, 0), "LeftArm": (-80, 0, 0)}


def write_bvh(path, frames, scale=1.0, z_up=False, rename=None, fps=100, root=(0.0, 91.0, 0.0)):
    """Write a file: frames are dicts of joint -> degrees (z, y, x), "root" -> an extra shift in cm."""
    axes = np.array(
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]] if z_up else np.eye(3), float
    )  # y up -> z up

    def numbers(vector):
        return " ".join(f"{value:.6f}" for value in vector)

    def joint(name, depth):
        pad = "\t" * depth
        kind = "ROOT" if BODY[name][0] is None else "JOINT"
        channels = (
            "6 Xposition Yposition Zposition Zrotation Yrotation Xrotation"
            if kind == "ROOT"
            else ("3 Zrotation Yrotation Xrotation")
        )
        children = [child for child, (parent, _) in BODY.items() if parent == name]
        lines = [
            f"{pad}{kind} {(rename or {}).get(name, name)}",
            pad + "{",
            f"{pad}\tOFFSET {numbers(axes @ np.array(BODY[name][1], float) * scale)}",
            f"{pad}\tCHANNELS {channels}",
        ]
        order.append(name)
        for child in children:
            lines += joint(child, depth + 1)
        if not children:
            lines += [f"{pad}\tEnd Site", pad + "\t{", f"{pad}\t\tOFFSET 0 0 0", pad + "\t}"]
        return [*lines, pad + "}"]

    order = []
    lines = [
        "HIERARCHY",
        *joint("Hips", 0),
        "MOTION",
        f"Frames: {len(frames)}",
        f"Frame Time: {1 / fps:.7f}",
    ]
    for frame in frames:
        values = [*(axes @ (np.array(root) + frame.get("root", 0)) * scale)]
        for name in order:
            turn = frame.get(name, (0, 0, 0))
            if z_up and any(turn):
                turned = Rotation.from_euler("ZYX", turn, degrees=True).as_matrix()
                turn = Rotation.from_matrix(axes @ turned @ axes.T).as_euler("ZYX", degrees=True)
            values += list(turn)
        lines.append(numbers(values))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def standing(n, **more):
    return [{**HANG, **more} for _ in range(n)]


def walk(n, reach=100.0):
    """Legs that swing, a body that moves on by `reach` cm."""
    return [
        {
            **HANG,
            "root": np.array([0, 0, reach * i / n]),
            "RightUpLeg": (0, 0, 25 * np.sin(i / 8)),
            "LeftUpLeg": (0, 0, -25 * np.sin(i / 8)),
            "RightForeArm": (0, 40, 0),
        }
        for i in range(n)
    ]


def joint(performance, name, frame=0):
    return performance.joints_world[frame, HUMAN36M.index(name)]


# ---------------------------------------------------------------- the file


def test_rotation_channels_apply_in_their_order(tmp_path):
    text = """HIERARCHY
ROOT a
{
 OFFSET 1 2 3
 CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
 JOINT b
 {
  OFFSET 0 5 0
  CHANNELS 1 Xrotation
  JOINT c
  {
   OFFSET 0 0 2
   End Site
   {
    OFFSET 9 9 9
   }
  }
 }
}
MOTION
Frames: 2
Frame Time: 0.04
10 20 30 90 0 0 90
10 20 30 90 0 90 0
"""
    (tmp_path / "x.bvh").write_text(text, encoding="utf-8")
    bvh = read_bvh(tmp_path / "x.bvh")
    assert bvh.names == ("a", "b", "c") and bvh.parents == (-1, 0, 1) and bvh.frame_seconds == 0.04
    positions, rotations = joint_frames(bvh)
    # Frame 0: z by 90 takes b's offset (0, 5, 0) to (-5, 0, 0); x by 90 takes c's (0, 0, 2) to (0, -2, 0), z then to (2, 0, 0).
    np.testing.assert_allclose(positions[0], [[11, 22, 33], [6, 22, 33], [8, 22, 33]], atol=1e-9)
    # Frame 1: x first takes (0, 5, 0) to (0, 0, 5), which z leaves there. The other order would give (-5, 0, 0).
    np.testing.assert_allclose(positions[1, 1], [11, 22, 38], atol=1e-9)
    np.testing.assert_allclose(rotations[1, 2] @ [0, 0, 1], [1, 0, 0], atol=1e-9)


DIALECTS = {
    "names with spaces": lambda text: text.replace("Right", "Right  ").replace("Left", "My Left "),
    "End site": lambda text: text.replace("End Site", "End site"),
    "named end sites": lambda text: text.replace("End Site", "End Site Nub"),
    "XPosition": lambda text: text.replace("position", "Position").replace("rotation", "ROTATION"),
    "keywords in lower case": lambda text: re.sub(
        "(HIERARCHY|ROOT|JOINT|OFFSET|CHANNELS|MOTION)", lambda word: word[0].lower(), text
    ),
    "Frames:3": lambda text: text.replace("Frames: ", "Frames:").replace("Time: ", "Time:"),
    "Frames : 3": lambda text: text.replace("Frames: ", "Frames : ").replace("Time:", "Time :"),
    "braces glued": lambda text: re.sub(r"\s+([{}])", r"\1", text),
    "byte-order mark": lambda text: "\ufeff" + text,
    "Windows' lines": lambda text: text.replace("\n", "\r\n"),
    "a joint called MOTION": lambda text: text.replace("Spine1", "MOTION spine"),
    "Chinese names": lambda text: text.replace("Spine1", "脊柱"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_of_exporters_are_read(tmp_path, dialect):
    plain = read_bvh(write_bvh(tmp_path / "plain.bvh", walk(3)))
    text = DIALECTS[dialect]((tmp_path / "plain.bvh").read_text(encoding="utf-8"))
    (tmp_path / "x.bvh").write_bytes(text.encode())
    bvh = read_bvh(tmp_path / "x.bvh")
    if dialect == "names with spaces":
        assert "My Left UpLeg" in bvh.names and "Right UpLeg" in bvh.names
    assert bvh.parents == plain.parents and bvh.frame_seconds == plain.frame_seconds
    assert bvh.note == ""
    np.testing.assert_array_equal(bvh.offsets, plain.offsets)
    np.testing.assert_array_equal(bvh.rotations, plain.rotations)
    np.testing.assert_array_equal(bvh.root, plain.root)


@pytest.mark.parametrize("stated", [39, 41])
def test_one_frame_off_is_a_note(tmp_path, capsys, stated):
    path = write_bvh(tmp_path / "motion.bvh", standing(40))
    path.write_text(
        path.read_text(encoding="utf-8").replace("Frames: 40", f"Frames: {stated}"),
        encoding="utf-8",
    )
    assert len(read_bvh(path)) == 40
    plan, problems = plan_motion(tmp_path, (1,), [])
    assert problems == []
    assert plan[0]["note"] == f"it states {stated} frames and holds 40; all 40 are used"
    path.write_text(
        path.read_text(encoding="utf-8").replace(f"Frames: {stated}", "Frames: 42"),
        encoding="utf-8",
    )
    with pytest.raises(InputError, match="42 frames of"):
        read_bvh(path)


def test_resampling_keeps_the_speed(tmp_path):
    frames = [{"RightArm": (0.5 * i, 0, 0), "root": np.array([0.3 * i, 0, 0])} for i in range(121)]
    bvh = resample(read_bvh(write_bvh(tmp_path / "x.bvh", frames, fps=120)), 50)
    assert len(bvh) == 51  # 1 s
    arm = bvh.names.index("RightArm")
    angles = Rotation.from_quat(bvh.rotations[:, arm]).as_euler("ZYX", degrees=True)[:, 0]
    np.testing.assert_allclose(angles, 0.5 * 120 / 50 * np.arange(51), atol=1e-3)
    np.testing.assert_allclose(bvh.root[:, 0], 0.3 * 120 / 50 * np.arange(51), atol=1e-3)


def test_a_t_pose_at_the_start_is_dropped_and_a_beginning_is_not(tmp_path):
    plain = walk(60)
    assert len(drop_t_pose(read_bvh(write_bvh(tmp_path / "a.bvh", plain)))) == 60
    assert len(drop_t_pose(read_bvh(write_bvh(tmp_path / "b.bvh", [{}, *plain])))) == 60
    # Some programs smooth the jump over a few frames; the way out of the T-pose goes too.
    blend = [
        {name: tuple(share * np.array(turn)) for name, turn in plain[0].items() if name != "root"}
        for share in (0.4, 0.8)
    ]
    smooth = read_bvh(write_bvh(tmp_path / "c.bvh", [{}, *blend, *plain]))
    kept = drop_t_pose(smooth)
    assert len(kept) in (60, 61)
    np.testing.assert_array_equal(kept.rotations[-60:], smooth.rotations[-60:])
    assert len(drop_t_pose(read_bvh(write_bvh(tmp_path / "d.bvh", [{}])))) == 1


# ---------------------------------------------------------------- names, unit, axis

STYLES = {
    "mixamo": {name: f"mixamorig:{name}" for name in BODY},
    "blender": {
        **{
            f"{s}{part}": f"{theirs}.{s[0]}"
            for s in ("Right", "Left")
            for part, theirs in (
                ("UpLeg", "thigh"),
                ("Leg", "shin"),
                ("Foot", "foot"),
                ("Shoulder", "shoulder"),
                ("Arm", "upper_arm"),
                ("ForeArm", "forearm"),
                ("Hand", "hand"),
            )
        },
        "Head": "head",
    },
    "daz": {
        **{
            f"{s}{part}": s[0].lower() + theirs
            for s in ("Right", "Left")
            for part, theirs in (
                ("UpLeg", "Thigh"),
                ("Leg", "Shin"),
                ("Foot", "Foot"),
                ("Shoulder", "Collar"),
                ("Arm", "Shldr"),
                ("ForeArm", "ForeArm"),
                ("Hand", "Hand"),
            )
        },
        "Head": "head",
        "Hips": "hip",
    },
    "hips and knees": {
        f"{s}{part}": s + theirs
        for s in ("Right", "Left")
        for part, theirs in (
            ("UpLeg", "Hip"),
            ("Leg", "Knee"),
            ("Foot", "Ankle"),
            ("Shoulder", "Collar"),
            ("Arm", "Shoulder"),
            ("ForeArm", "Elbow"),
            ("Hand", "Wrist"),
        )
    },
}
# SMPL's names: its feet are the toes' joints, its hands the palms.
STYLES["smpl"] = {
    f"{s}{part}": f"{s[0]}_{theirs}"
    for s in ("Right", "Left")
    for part, theirs in (
        ("UpLeg", "Hip"),
        ("Leg", "Knee"),
        ("Foot", "Ankle"),
        ("ToeBase", "Foot"),
        ("Shoulder", "Collar"),
        ("Arm", "Shoulder"),
        ("ForeArm", "Elbow"),
        ("Hand", "Wrist"),
        ("Palm", "Hand"),
    )
}
STYLES["smpl for Maya"] = {
    **{ours: f"m_avg_{theirs}" for ours, theirs in STYLES["smpl"].items()},
    "Head": "m_avg_Head",
}


@pytest.mark.parametrize("style", STYLES)
def test_joints_are_found_by_name(tmp_path, style):
    names = STYLES[style]
    bvh = read_bvh(write_bvh(tmp_path / "x.bvh", standing(2), rename=names))
    found = find_joints(bvh)
    for side, word in (("r", "Right"), ("l", "Left")):
        for part in ("UpLeg", "Leg", "Foot", "Arm", "ForeArm", "Hand"):
            assert bvh.names[found[side + part]] == names.get(word + part, word + part)
        assert bvh.names[found[side + "Collar"]] == names.get(word + "Shoulder", word + "Shoulder")
    assert bvh.names[found["Pelvis"]] == names.get("Hips", "Hips")
    assert bvh.names[found["Chest"]] == names.get("Spine1", "Spine1")


@pytest.mark.parametrize("bone", ["RightLeg", "LeftFoot", "RightForeArm", "LeftHand", "RightUpLeg"])
def test_a_bone_without_length_is_named(tmp_path, monkeypatch, bone):
    above = BODY[bone][0]
    monkeypatch.setitem(BODY, bone, (above, (0, 0, 0)))
    if bone == "RightUpLeg":  # both hips in the middle of the pelvis
        above = "LeftUpLeg"
        monkeypatch.setitem(BODY, above, ("Hips", (0, 0, 0)))
    path = write_bvh(tmp_path / "x.bvh", standing(3))
    with pytest.raises(InputError, match="lie on one point") as caught:
        perform_bvh(path, ACTORS[1])
    assert str(path) in str(caught.value) and bone in str(caught.value)
    assert above in str(caught.value)


def test_a_missing_joint_is_named(tmp_path):
    path = write_bvh(tmp_path / "x.bvh", standing(2), rename={"LeftForeArm": "Gizmo"})
    with pytest.raises(InputError, match="left ForeArm"):
        perform_bvh(path, ACTORS[1])


@pytest.mark.parametrize(
    ("leg", "unit"),
    [(0.86, 1000), (8.4, 100), (86, 10), (33, 25.4), (860, 1), (15, 56.444), (2.7, 311.11)],
)
def test_unit_by_the_leg(leg, unit):
    assert check_unit(leg) == pytest.approx(unit, rel=1e-3)


def test_a_stated_unit_must_make_a_human_leg():
    assert check_unit(82.0, 10.0) == 10.0
    with pytest.raises(
        InputError, match=r"820 mm|8200 mm long; expected 600 to 1150, .* about 10 mm"
    ):
        check_unit(82.0, 100.0)


def test_unit_and_upward_axis_change_nothing(tmp_path):
    one = perform_bvh(write_bvh(tmp_path / "a.bvh", walk(80)), ACTORS[5])
    other = perform_bvh(write_bvh(tmp_path / "b.bvh", walk(80), scale=0.01, z_up=True), ACTORS[5])
    given = perform_bvh(tmp_path / "b.bvh", ACTORS[5], unit_mm=1000.0, up="z")
    np.testing.assert_allclose(other.joints_world, given.joints_world)
    np.testing.assert_allclose(one.joints_world[..., 2], other.joints_world[..., 2], atol=0.1)
    # The rest may differ by a turn about z: distances do not.
    for a, b in ((0, 3), (16, 6), (13, 10)):
        np.testing.assert_allclose(
            np.linalg.norm(one.joints_world[:, a] - one.joints_world[:, b], axis=-1),
            np.linalg.norm(other.joints_world[:, a] - other.joints_world[:, b], axis=-1),
            atol=0.1,
        )
    with pytest.raises(InputError, match="head is below the feet|cannot tell"):
        perform_bvh(tmp_path / "b.bvh", ACTORS[5], up="y")
    with pytest.raises(InputError, match="expected x, y or z"):
        perform_bvh(tmp_path / "b.bvh", ACTORS[5], up="w")


def test_exchanged_sides_are_refused(tmp_path):
    swap = {
        name: name.replace("Right", "?").replace("Left", "Right").replace("?", "Left")
        for name in BODY
    }
    with pytest.raises(InputError, match="toes point backwards"):
        perform_bvh(write_bvh(tmp_path / "x.bvh", standing(3), rename=swap), ACTORS[1])


def test_whoever_never_stands_upright_is_refused(tmp_path):
    lying = write_bvh(tmp_path / "x.bvh", [{**HANG, "Hips": (0, 0, -90)}] * 3)
    with pytest.raises(InputError, match="which axis is up"):
        perform_bvh(lying, ACTORS[1])
    stated = perform_bvh(lying, ACTORS[1], up="y")  # then lying is what is meant
    assert np.ptp(stated.joints_world[0, :, 2]) < 350 and stated.joints_world[..., 2].min() > 30
    turned = write_bvh(tmp_path / "y.bvh", [{**HANG, "Hips": (0, 0, 45)}] * 3)
    with pytest.raises(InputError, match="which axis is up"):
        perform_bvh(turned, ACTORS[1])


# ---------------------------------------------------------------- the actor


@pytest.mark.parametrize("subject", ACTORS)
def test_bones_are_the_actor_s(tmp_path, subject):
    actor = ACTORS[subject]
    performance = perform_bvh(write_bvh(tmp_path / "x.bvh", walk(50)), actor)
    lengths = bone_lengths(performance.joints_world, SCORED)
    expected = [actor.bone_mm[HUMAN36M.names[child].split("_")[-1]] for child, _ in SCORED.limbs]
    np.testing.assert_allclose(lengths, np.broadcast_to(expected, lengths.shape), rtol=1e-9)
    for frames in performance.frames_world.values():
        np.testing.assert_allclose(
            frames @ np.swapaxes(frames, 1, 2), np.broadcast_to(np.eye(3), frames.shape), atol=1e-9
        )
        np.testing.assert_allclose(np.linalg.det(frames), 1)


def test_poses_arrive_on_the_right_limb(tmp_path):
    # Frames: at ease; right knee bent by 70 degrees backwards; left arm raised sideways to the T-pose; head turned left.
    frames = [
        HANG,
        {**HANG, "RightLeg": (0, 0, 70)},
        {**HANG, "LeftArm": (0, 0, 0)},
        {**HANG, "Head": (0, 60, 0)},
    ]
    frames = [frame for frame in frames for _ in range(20)]  # long enough to stand
    performance = perform_bvh(write_bvh(tmp_path / "x.bvh", frames, fps=50), ACTORS[1])
    bends = {}
    for side in "RL":
        hip, knee, ankle = (
            performance.joints_world[:, HUMAN36M.index(f"{side}_{part}")]
            for part in ("Hip", "Knee", "Ankle")
        )
        cos = (
            ((knee - hip) * (ankle - knee)).sum(-1)
            / np.linalg.norm(knee - hip, axis=-1)
            / np.linalg.norm(ankle - knee, axis=-1)
        )
        bends[side] = np.rad2deg(np.arccos(np.clip(cos, -1, 1)))
    assert bends["R"][30] == pytest.approx(70, abs=0.01) and bends["L"][30] == pytest.approx(
        0, abs=1e-3
    )
    forward, right = (
        performance.frames_world["chest"][0][:, 1],
        performance.frames_world["chest"][0][:, 0],
    )
    assert (joint(performance, "R_Ankle", 30) - joint(performance, "R_Knee", 30)) @ forward < -300
    assert (joint(performance, "R_Hip") - joint(performance, "L_Hip")) @ right == pytest.approx(
        2 * ACTORS[1].bone_mm["Hip"]
    )
    raised, hanging = (
        joint(performance, "L_Wrist", f) - joint(performance, "L_Shoulder", f) for f in (50, 10)
    )
    assert raised @ -right == pytest.approx(ACTORS[1].bone_mm["Elbow"] + ACTORS[1].bone_mm["Wrist"])
    assert hanging[2] < -480 and abs(raised[2]) < 1
    # The left hand: palm to the thigh when it hangs, to the floor when it is raised; its -z runs to the fingertips.
    palm = performance.frames_world["l_hand"][:, :, 0]  # the left palm looks along +x
    assert palm[50] @ [0, 0, -1] > 0.99 and palm[10] @ right > 0.98
    assert -performance.frames_world["l_hand"][10][:, 2] @ [0, 0, -1] > 0.98
    look = performance.frames_world["head"][70][:, 1]
    assert look @ forward == pytest.approx(0.5, abs=1e-6) and look @ -right == pytest.approx(
        np.sqrt(0.75), abs=1e-6
    )
    assert (
        joint(performance, "Head")[2]
        > joint(performance, "Neck")[2]
        > joint(performance, "Torso")[2]
        > joint(performance, "Pelvis")[2]
    )


def test_feet_stand_on_the_floor_though_the_recording_floats_and_slopes(tmp_path):
    frames = [
        {**frame, "root": np.array([0, 30 + 6 * i / 150, 0])}
        for i, frame in enumerate(standing(150))
    ]
    actor = ACTORS[8]
    performance = perform_bvh(write_bvh(tmp_path / "x.bvh", frames), actor)
    ankles = performance.joints_world[:, [3, 6], 2]
    np.testing.assert_allclose(ankles, actor.foot_mm[0], atol=12)
    for side, ankle_at in (("r", 3), ("l", 6)):
        foot = performance.frames_world[f"{side}_foot"]
        assert (foot[:, 2, 2] > 0.999).all()  # soles lie flat
        for y in (actor.foot_mm[1], -actor.foot_mm[2]):
            sole = performance.joints_world[:, ankle_at] + foot @ [0, y, -actor.foot_mm[0]]
            assert (sole[:, 2] > -1).all() and (sole[:, 2] < 13).all()


def test_shoes_do_not_sink_in_at_push_off(tmp_path):
    tiptoe = [
        {**HANG, "RightFoot": (0, 0, 50 * np.clip((i - 60) / 20, 0, 1))} for i in range(120)
    ]  # toes down
    actor = ACTORS[1]
    performance = perform_bvh(write_bvh(tmp_path / "x.bvh", tiptoe), actor)
    foot = performance.frames_world["r_foot"]
    toe = performance.joints_world[:, 3] + foot @ [0, actor.foot_mm[1], -actor.foot_mm[0]]
    assert toe[:, 2].min() > -1


# ---------------------------------------------------------------- the capture


@pytest.fixture
def motion(tmp_path):
    folder = tmp_path / "motion"
    folder.mkdir()
    write_bvh(folder / "b_walk.bvh", [{}, *walk(90, 160)])
    write_bvh(folder / "a_stand.BVH", standing(41, Head=(0, 30, 0)), scale=0.01, z_up=True, fps=60)
    write_bvh(folder / "c_far.bvh", walk(400, 3000))
    (folder / "notes.txt").write_text("not a motion", encoding="utf-8")
    return folder


def test_plan_deals_files_to_actors_where_all_cameras_see_them(motion):
    cameras = list(studio_cameras().values())
    plan, problems = plan_motion(motion, (1, 9), cameras)
    assert problems == []
    assert [(take["file"], take["subject"], take["action"], take["take"]) for take in plan] == [
        ("a_stand.BVH", 1, 2, 1),
        ("b_walk.bvh", 9, 3, 1),
        ("c_far.bvh", 1, 4, 1),
    ]
    assert (
        plan[0]["n_frames"] == 34 and plan[1]["n_frames"] == 45
    )  # 40 / 60 s and 89 / 100 s at 50 Hz
    assert 20 < plan[2]["n_frames"] < 150  # 30 m do not fit into the room
    assert json.loads(json.dumps(plan)) == plan and plan == plan_motion(motion, (1, 9), cameras)[0]
    for take in plan:
        performance = perform_own(motion, take)
        assert (
            len(performance.joints_world)
            == take["n_frames"]
            == len(performance.frames_world["head"])
        )
        for camera in cameras:
            xy = camera.camera_to_image(camera.world_to_camera(performance.joints_world))
            assert (xy > 0).all() and (xy < [camera.width - 1, camera.height - 1]).all()


def test_capture_writes_the_prepared_layout(motion, tmp_path):
    (motion / "b_broken.bvh").write_text("HIERARCHY\nROOT Hips\n{", encoding="utf-8")
    options = {
        "subjects": (1, 9),
        "cameras": (1, 3),
        "train_step": 20,
        "test_step": 30,
        "picture_px": 64,
    }
    target = tmp_path / "own"
    with pytest.raises(InputError, match="1 of 4 files were left out:\n.*b_broken.bvh is damaged"):
        write_motion(target, motion, **options)
    folders = list_folders(target)
    # In order of names: a_stand by S1, b_broken left out, b_walk by S1, c_far by S9.
    assert [folder.name for folder in folders] == [
        folder_name(*numbers, 1, camera)
        for numbers in ((1, 2), (1, 4), (9, 5))
        for camera in (1, 3)
    ]
    sequence = read_camera_view(folders[0])
    assert len(sequence.joints_world) == 34 and frames_in_use(sequence, 20).tolist() == [0, 20]
    manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
    assert [take["file"] for take in manifest["motion"]] == [
        "a_stand.BVH",
        "b_walk.bvh",
        "c_far.bvh",
    ]
    assert str(tmp_path) not in (target / MANIFEST).read_text(encoding="utf-8")
    # The check knows that own motion is no full grid of takes, and misses what the plan names.
    report, problems = check_set(target)
    assert problems == [] and "S9" in report
    shutil.rmtree(folders[2])
    assert check_set(target)[1] == ["s_01_act_04_subact_01 (S1 Eating): missing for camera 1"]


def test_capture_resumes_and_refuses_changed_motion(motion, tmp_path):
    (motion / "c_far.bvh").unlink()
    options = {
        "subjects": (5,),
        "cameras": (2,),
        "train_step": 15,
        "test_step": 15,
        "picture_px": 48,
    }
    target = tmp_path / "own"
    write_motion(target, motion, **options)
    pictures = sorted(target.glob("*/*.jpg"))
    stamps = [path.stat().st_mtime_ns for path in pictures]
    removed = pictures[0].parent
    for path in removed.iterdir():
        path.unlink()
    removed.rmdir()
    write_motion(target, motion, **options)
    again = sorted(target.glob("*/*.jpg"))
    assert again == pictures
    assert [path.stat().st_mtime_ns == stamp for path, stamp in zip(again, stamps)] == [
        path.parent != removed for path in pictures
    ]
    write_bvh(motion / "b_walk.bvh", walk(50))
    with pytest.raises(InputError, match="another recipe"):
        write_motion(target, motion, **options)


def test_folders_without_motion_are_refused(tmp_path):
    with pytest.raises(InputError, match="no .bvh file"):
        plan_motion(tmp_path, (1,), [])
    with pytest.raises(InputError, match="no .bvh file"):
        plan_motion(tmp_path / "none", (1,), [])
    (tmp_path / "x.bvh").write_text("BVH", encoding="utf-8")
    with pytest.raises(InputError, match="no file can be used"):
        plan_motion(tmp_path, (1,), [])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("MOTION", "MOTIVE", "no MOTION"),
        ("ROOT Hips", "JOINT Hips", "HIERARCHY and ROOT"),
        ("Frames: 3", "Frames: 5", "numbers"),
        ("Frames: 3", "Frames: -3", "-3 frames"),
        ("Frame Time: 0.0100000", "Frame Time: 0", "of 0 s"),
        ("Frame Time: 0.0100000", "Frame Time: nan", "of nan s"),
        ("CHANNELS 3 Zrotation", "CHANNELS 3 Wrotation", "unknown"),
        ("Zrotation Yrotation", "Zrotation Zrotation", "unknown"),
        ("OFFSET 0.000000 12.0", "OFFSET 0.000000 inf 12.0", "finite"),
        ("91.000000", "1e9999", "not finite"),
        ("End Site", "End", "no joint follows End"),
        ("{", "", "no joint follows"),
    ],
)
def test_bad_files_are_named(tmp_path, old, new, message):
    path = write_bvh(tmp_path / "x.bvh", standing(3))
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=f"x.bvh is damaged.*{message}"):
        read_bvh(path)


def test_damaged_files_give_an_error_or_a_person(tmp_path):
    """A changed digit is a digit; whatever is read must be a whole, finite person on the floor."""
    path = write_bvh(tmp_path / "x.bvh", walk(8))
    actor, read, whole = ACTORS[7], 0, path.read_bytes()
    # Nothing may be missing but digits of the last number, and one frame.
    last_line = len(whole.splitlines(keepends=True)[-1])
    for what, broken in corruptions(whole, 240, seed=23):
        print(what)
        path.write_bytes(broken)
        try:
            performance = perform_bvh(path, actor)
        except InputError as error:
            assert str(path) in str(error)
            continue
        read += 1
        cut = len(whole) - len(broken)
        assert cut < 12 or last_line <= cut < last_line + 12
        lengths = bone_lengths(performance.joints_world, SCORED)
        assert np.isfinite(performance.joints_world).all() and np.ptp(lengths, axis=0).max() < 1e-6
        assert performance.joints_world[..., 2].min() > 20
    assert read > 5
