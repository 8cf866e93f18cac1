"""Own motion: a BVH file's person moved onto an actor, as a Performance.

Joints are found by name. Limbs take over the direction of each bone, trunk, head, hands and feet the rotation against
a pose in which the person stands upright; lengths are the actor's. So joint definitions may differ by centimetres
between files and nothing is bent by it.
"""

import re
from dataclasses import replace

import numpy as np

from ...files import InputError
from ..acting.motion import FPS, SIDES, SIGN, apply, blend_rotation, turn, unit
from ..acting.performance import FRAME_NAMES, Performance
from ..acting.posture import hip, shoulder, trunk_from_rotations
from .bvh import drop_t_pose, joint_frames, read_bvh, resample, zero_pose
from .grounding import stand

# How programs call the joints that are needed; where a file has several, the first counts. A "RightShoulder" is the collar
# where there is a "RightArm"; SMPL's "R_Foot" is the ball of the foot and its "R_Hand" the palm, beside ankle and wrist.
_PARTS = {
    "UpLeg": ("upleg", "thigh", "upperleg", "femur", "hip"),
    "Leg": ("leg", "shin", "lowleg", "lowerleg", "calf", "knee", "tibia"),
    "Foot": ("ankle", "foot"),
    "Arm": ("arm", "uparm", "upperarm", "shldr", "humerus", "shoulder"),
    "ForeArm": ("forearm", "lowerarm", "lowarm", "elbow", "radius"),
    "Hand": ("wrist", "hand"),
}
_SIDE_WORDS = {"r": ("right", "r"), "l": ("left", "l")}
_PREFIX = re.compile(r"^(mixamorig\d*|bip\d+|character\d+|[mf]avg)")
_LIMBS = (("UpLeg", "Leg"), ("Leg", "Foot"), ("Arm", "ForeArm"), ("ForeArm", "Hand"))
# mm per unit of files people meet; 56.444 is that of the CMU database's own skeletons (1 / 0.45 inch).
UNITS_MM = (1.0, 10.0, 25.4, 56.444, 100.0, 1000.0)
_LEG_MM = (600.0, 1150.0)
_TYPICAL_LEG_MM = 840.0


def find_joints(bvh, path="the BVH file"):
    """Index of each joint that is needed, by name.

    Args:
        bvh: Bvh. path: for messages.
    Returns:
        dict: "rUpLeg", "lHand", ..., "Head", and by tree "Pelvis", "Chest", "rCollar", "lCollar".
    Raises:
        InputError: a joint is not found.
    """
    plain = [
        _PREFIX.sub("", re.sub(r"[^a-z0-9]", "", name.rsplit(":", 1)[-1].lower()))
        for name in bvh.names
    ]
    found, missing = {}, []
    for side, words in _SIDE_WORDS.items():
        for part, aliases in _PARTS.items():
            spelled = [
                name for alias in aliases for word in words for name in (word + alias, alias + word)
            ]
            match = next((plain.index(name) for name in spelled if name in plain), None)
            if match is None:
                missing.append(f"{words[0]} {part}")
            found[side + part] = match
    found["Head"] = plain.index("head") if "head" in plain else None
    if found["Head"] is None:
        missing.append("Head")
    if missing:
        raise InputError(
            f"{path}: no joint is called {', '.join(missing)} or alike; it has {', '.join(bvh.names)[:300]}"
        )
    for top, bottom in _LIMBS:
        for side in SIDES:
            if found[side + top] not in _ancestors(bvh, found[side + bottom]):
                raise InputError(
                    f"{path}: {bvh.names[found[side + bottom]]} does not hang on {bvh.names[found[side + top]]}"
                )
    for name, part in (("Pelvis", "UpLeg"), ("Chest", "Arm")):
        right, left = (_ancestors(bvh, found[side + part])[1:] for side in SIDES)
        shared = [joint for joint in right if joint in left]
        if not shared:
            raise InputError(
                f"{path}: {bvh.names[found['r' + part]]} is its own root; expected a pelvis above it"
            )
        found[name] = shared[0]
    for side in SIDES:
        found[side + "Collar"] = bvh.parents[found[side + "Arm"]]
    return found


def _ancestors(bvh, joint):
    """A joint, its parent, and so on up to the root."""
    chain = []
    while joint >= 0:
        chain.append(joint)
        joint = bvh.parents[joint]
    return chain


def perform_bvh(path, actor, unit_mm=None, up=None):
    """A BVH file's motion by an actor, at 50 Hz; the T-pose that programs put first is dropped.

    Args:
        path: the file.
        actor: Actor.
        unit_mm: mm per unit of the file, or None to find it from the length of the leg. The path is then scaled with the
            actor's legs, so that feet stay where they are put.
        up: "x", "y" or "z", the upward axis of the file's motion, or None to find it: the axis along which the person
            stands in the offsets' pose or the first frame, if most of the motion agrees.
    Returns:
        Performance, no props, standing on z = 0, its path about the origin.
    Raises:
        InputError: the file is unreadable, lacks a joint, or is no person of human size who stands upright in the pose of
            its offsets or in its first frame.
    """
    bvh = read_bvh(path)
    joints = find_joints(bvh, path)
    _check_lengths(bvh, joints, path)
    rest, rest_up = _rest_frames(bvh, joints, path)
    bvh = resample(drop_t_pose(bvh), FPS)
    positions, rotations = joint_frames(bvh)
    to_world = _world_axes(_upward(positions, joints, up, rest_up, path))
    positions, rotations = positions @ to_world.T, to_world @ rotations
    leg = sum(
        np.linalg.norm(positions[0, joints["r" + a]] - positions[0, joints["r" + b]])
        for a, b in (("UpLeg", "Leg"), ("Leg", "Foot"))
    )
    check_unit(leg, unit_mm, path)
    scale = (actor.bone_mm["Knee"] + actor.bone_mm["Ankle"]) / leg
    performance = _retarget(
        actor,
        positions,
        scale,
        {part: rotations[:, joint] @ rest_frame for part, (joint, rest_frame) in rest.items()},
        joints,
    )
    return stand(centred(performance))


def _check_lengths(bvh, joints, path):
    """InputError where two joints lie on one point in the pose of the offsets: nothing tells the bone's direction."""
    positions = joint_frames(zero_pose(bvh))[0][0]
    size = np.ptp(positions, axis=0).max()
    bones = [("rUpLeg", "lUpLeg")]
    for top, bottom in _LIMBS:
        for side in SIDES:
            bones.append((side + top, side + bottom))
    for top, bottom in bones:
        a, b = joints[top], joints[bottom]
        if np.linalg.norm(positions[a] - positions[b]) <= 1e-4 * size:
            raise InputError(
                f"{path}: {bvh.names[a]} and {bvh.names[b]} lie on one point, so the bone between them has no length; "
                "export the motion with the skeleton's offsets"
            )


def check_unit(leg, unit_mm=None, path="the BVH file"):
    """mm per unit of the file.

    Args:
        leg: length of thigh and shin, file units.
        unit_mm: as stated, or None to find it.
        path: for messages.
    Returns:
        float: as stated, or that of UNITS_MM which makes the leg human, or else what makes it 840 mm.
    Raises:
        InputError: the stated unit makes a leg shorter than 600 or longer than 1150 mm; the leg has no length.
    """
    if leg <= 1e-6:
        raise InputError(f"{path}: the leg has no length")
    if unit_mm is not None:
        if not _LEG_MM[0] <= leg * unit_mm <= _LEG_MM[1]:
            raise InputError(
                f"{path}: with {unit_mm:g} mm a unit the leg is {leg * unit_mm:.0f} mm long; expected {_LEG_MM[0]:.0f} to "
                f"{_LEG_MM[1]:.0f}, that is a unit of about {check_unit(leg):g} mm"
            )
        return unit_mm
    best = min(UNITS_MM, key=lambda known: abs(np.log(leg * known / _TYPICAL_LEG_MM)))
    return best if _LEG_MM[0] <= leg * best <= _LEG_MM[1] else _TYPICAL_LEG_MM / leg


def _upward(positions, joints, up, rest_up, path):
    """Unit vector of the upward axis of the motion."""
    rise = (
        positions[:, joints["Head"]] - positions[:, [joints["rFoot"], joints["lFoot"]]].mean(1)
    ).mean(0)
    if up is not None:
        if up not in ("x", "y", "z"):
            raise InputError(f"up is {up!r}; expected x, y or z")
        axis = np.eye(3)["xyz".index(up)]
        if rise @ axis <= 0:
            raise InputError(f"{path}: with {up} up the head is below the feet; name another axis")
        return axis
    if rise @ rest_up < 0.75 * np.linalg.norm(
        rise
    ):  # somebody lies, or the motion's axes are not the offsets'
        raise InputError(
            f"{path}: cannot tell which axis is up, for the motion is not upright; name the axis"
        )
    return rest_up


def _world_axes(upward):
    """Rotation (3, 3) that turns a file's upward axis to z."""
    first = np.roll(np.abs(upward), 1)
    return np.stack([first, np.cross(upward, first), upward])


def _rest_frames(bvh, joints, path):
    """From a pose where the person stands upright: by part, its joint and (3, 3), the joint's axes -> the part's; and the
    upward axis."""
    for pose in (zero_pose(bvh), replace(bvh, rotations=bvh.rotations[:1], root=bvh.root[:1])):
        positions, rotations = (array[0] for array in joint_frames(pose))
        feet = positions[[joints["rFoot"], joints["lFoot"]]].mean(0)
        hips = positions[[joints["rUpLeg"], joints["lUpLeg"]]]
        rise, right = positions[joints["Head"]] - feet, hips[0] - hips[1]
        length = np.linalg.norm(rise)
        if (
            length > 1e-9
            and (np.abs(rise).max() > 0.95 * length)
            and (hips.mean(0) - feet) @ rise > 0.3 * length**2
        ):
            axis = int(np.abs(rise).argmax())
            up = np.sign(rise[axis]) * np.eye(3)[axis]
            right = right - (right @ up) * up
            if np.linalg.norm(right) > 1e-6 * length:
                break
    else:
        raise InputError(
            f"{path}: the person stands upright neither in the pose of the offsets nor in the first frame; "
            "export the motion with a T-pose as its first frame"
        )
    body = np.stack([unit(right), np.cross(up, unit(right)), up], axis=1)
    own = {"pelvis": ("Pelvis", body), "chest": ("Chest", body), "head": ("Head", body)}
    for side in SIDES:
        own[f"{side}_collar"] = (f"{side}Collar", body)
        forearm = unit(positions[joints[f"{side}Hand"]] - positions[joints[f"{side}ForeArm"]])
        # Palms look down in a T-pose and to the thighs where arms hang: either way the thumb is in front.
        forward = body[:, 1] - (body[:, 1] @ forearm) * forearm
        if (
            np.linalg.norm(forward) < 0.2
        ):  # arms stretched to the front, palms down: thumbs to the inside
            forward = -SIGN[side] * body[:, 0]
            forward = forward - (forward @ forearm) * forearm
        y, z = unit(forward), -forearm
        own[f"{side}_hand"] = (f"{side}Hand", np.stack([np.cross(y, z), y, z], axis=1))
        foot = joints[f"{side}Foot"]
        toes = [
            positions[child] - positions[foot]
            for child, parent in enumerate(bvh.parents)
            if parent == foot
        ]
        ahead = body[:, 1]
        if toes:
            level = toes[0] - (toes[0] @ up) * up
            if np.linalg.norm(level) > 0.05 * np.linalg.norm(rise):
                if unit(level) @ body[:, 1] < -0.3:
                    raise InputError(
                        f"{path}: the toes point backwards; are left and right exchanged, or axes mirrored?"
                    )
                ahead = unit(level)
        own[f"{side}_foot"] = (f"{side}Foot", np.stack([np.cross(ahead, up), ahead, up], axis=1))
    return {
        part: (joints[name], rotations[joints[name]].T @ frame)
        for part, (name, frame) in own.items()
    }, up


def _retarget(actor, positions, scale, parts, joints):
    """The Performance of an actor, wherever it is."""
    bone = actor.bone_mm

    def along(start, a, b, length):
        return start + length * unit(positions[:, joints[b]] - positions[:, joints[a]])

    pelvis = scale * positions[:, [joints["rUpLeg"], joints["lUpLeg"]]].mean(1)
    half = np.full(len(pelvis), 0.5)
    trunk = trunk_from_rotations(
        actor,
        pelvis,
        parts["pelvis"],
        blend_rotation(parts["pelvis"], parts["chest"], half),
        parts["chest"],
        blend_rotation(parts["chest"], parts["head"], half),
        parts["head"],
    )
    out = np.empty((len(pelvis), 17, 3))
    out[:, 0], out[:, 7], out[:, 8], out[:, 9], out[:, 10] = (
        trunk.pelvis,
        trunk.torso,
        trunk.neck,
        trunk.nose,
        trunk.head,
    )
    still = np.zeros(1)
    for side, leg_at, arm_at in (("r", 1, 14), ("l", 4, 11)):
        out[:, leg_at] = hip(actor, pelvis, parts["pelvis"], side)
        out[:, leg_at + 1] = along(out[:, leg_at], side + "UpLeg", side + "Leg", bone["Knee"])
        out[:, leg_at + 2] = along(out[:, leg_at + 1], side + "Leg", side + "Foot", bone["Ankle"])
        out[:, arm_at] = trunk.neck + apply(
            parts[side + "_collar"], shoulder(actor, side, still, still)[0]
        )
        out[:, arm_at + 1] = along(out[:, arm_at], side + "Arm", side + "ForeArm", bone["Elbow"])
        out[:, arm_at + 2] = along(
            out[:, arm_at + 1], side + "ForeArm", side + "Hand", bone["Wrist"]
        )
    return Performance(actor, out, {name: parts[name] for name in FRAME_NAMES})


def moved(performance, heading, shift):
    """A Performance without props, turned by `heading` rad to the left about the origin, then shifted by (3,) mm."""
    R = turn("z", heading)[0]
    return replace(
        performance,
        joints_world=performance.joints_world @ R.T + shift,
        frames_world={name: R @ frames for name, frames in performance.frames_world.items()},
    )


def centred(performance):
    """The middle of the pelvis's path over the origin."""
    pelvis = performance.joints_world[:, 0]
    middle = (pelvis.min(0) + pelvis.max(0)) / 2
    return moved(performance, 0.0, [-middle[0], -middle[1], 0.0])
