"""From controls to joints: trunk, legs and arms of an actor, by forward and inverse kinematics, and all of them together.

Bones keep their length because a joint is always its parent plus a rotated bone: controls are blended, joints never.
Units as in `motion`.
"""

from dataclasses import dataclass, fields

import numpy as np

from .motion import SIDES, SIGN, apply, blend_rotation, ease, frame, turn, two_bones, unit
from .performance import Performance

# ---------------------------------------------------------------- trunk and legs


@dataclass(frozen=True)
class Trunk:
    """Joints (n, 3) and part rotations (n, 3, 3) from pelvis to head, world, mm."""

    pelvis: np.ndarray
    torso: np.ndarray
    neck: np.ndarray
    nose: np.ndarray
    head: np.ndarray
    R_pelvis: np.ndarray
    R_chest: np.ndarray
    R_head: np.ndarray


def pose_trunk(actor, pelvis, R_pelvis, bend, side, twist, look):
    """Spine and head by forward kinematics.

    Args:
        actor: Actor.
        pelvis: (n, 3) mm. R_pelvis: (n, 3, 3).
        bend, side, twist: chest against pelvis, (n,): forward, to the right, to the left.
        look: head against chest, (n, 3): to the left, down, tip to the right.
    Returns:
        Trunk.
    """
    lower = R_pelvis @ turn("z", twist / 2) @ turn("y", side / 2) @ turn("x", -bend / 2)
    chest = R_pelvis @ turn("z", twist) @ turn("y", side) @ turn("x", -bend)
    throat = (
        chest @ turn("z", look[:, 0] / 2) @ turn("y", look[:, 2] / 2) @ turn("x", -look[:, 1] / 2)
    )
    head_R = chest @ turn("z", look[:, 0]) @ turn("y", look[:, 2]) @ turn("x", -look[:, 1])
    return trunk_from_rotations(actor, pelvis, R_pelvis, lower, chest, throat, head_R)


def trunk_from_rotations(actor, pelvis, R_pelvis, R_lower, R_chest, R_throat, R_head):
    """Spine and head from the rotation of each part, (n, 3, 3); lower lies between pelvis and chest, throat between
    chest and head. Returns: Trunk."""
    bone = actor.bone_mm
    torso = pelvis + bone["Torso"] * apply(R_lower, unit(np.array([0.0, -0.04, 1.0])))
    neck = torso + bone["Neck"] * apply(R_chest, unit(np.array([0.0, 0.05, 1.0])))
    nose = neck + bone["Nose"] * apply(R_throat, unit(np.array([0.0, 0.48, 0.88])))
    head = nose + bone["Head"] * apply(R_head, unit(np.array([0.0, -0.38, 0.92])))
    return Trunk(pelvis, torso, neck, nose, head, R_pelvis, R_chest, R_head)


def hip(actor, pelvis, R_pelvis, side):
    """Hip joint, (n, 3)."""
    return pelvis + SIGN[side] * actor.bone_mm["Hip"] * R_pelvis[..., 0]


@dataclass(frozen=True)
class Leg:
    """Where a foot is put: ankle (n, 3) mm, foot (n, 3, 3) and the direction of the knee (n, 3), world."""

    ankle: np.ndarray
    foot: np.ndarray
    pole: np.ndarray


def settle(actor, pelvis, R_pelvis, legs, stretch=0.998):
    """Lower the pelvis, smoothly, until both legs reach their ankles.

    Args:
        actor: Actor. pelvis: (n, 3) as wished. R_pelvis: (n, 3, 3). legs: Leg by side.
        stretch: share of the straight leg allowed.
    Returns:
        pelvis, (n, 3).
    """
    length = stretch * (actor.bone_mm["Knee"] + actor.bone_mm["Ankle"])
    heights = [pelvis[:, 2]]
    for side in SIDES:
        gap = hip(actor, pelvis, R_pelvis, side) - legs[side].ankle
        flat = np.maximum(length**2 - (gap[:, :2] ** 2).sum(-1), (0.3 * length) ** 2)
        heights.append(pelvis[:, 2] - gap[:, 2] + np.sqrt(flat))
    softness = 7.0
    heights = np.stack(heights)
    lowest = heights.min(0)
    lowest = lowest - softness * np.log(np.exp(-(heights - lowest) / softness).sum(0))
    return np.concatenate([pelvis[:, :2], lowest[:, None]], axis=1)


# ---------------------------------------------------------------- arms


@dataclass(frozen=True)
class Arm:
    """State of one arm over time, relative to the chest: what is blended between gestures.

    Attributes:
        upper: (n, 3, 3); columns hinge of the elbow (to the right), front, up along the upper arm.
        flex, pronate, palm, wag: (n,) elbow bend; palm turned down from thumb-up; wrist bent to the palm; to the thumb.
        shrug, forward: (n,) shoulder raised and drawn forward.
    """

    upper: np.ndarray
    flex: np.ndarray
    pronate: np.ndarray
    palm: np.ndarray
    wag: np.ndarray
    shrug: np.ndarray
    forward: np.ndarray


def shoulder(actor, side, shrug, forward):
    """Shoulder joint in the chest frame about the neck, (n, 3)."""
    s = SIGN[side]
    rest = actor.bone_mm["Shoulder"] * unit(np.array([s, -0.1, -0.2]))
    return apply(turn("z", s * forward) @ turn("y", -s * shrug), rest)


def girdle(side, aim):
    """How the shoulder follows an arm that reaches along `aim` (n, 3): shrug and forward, (n,) each."""
    aim = unit(aim)
    return 0.42 * ease((aim[:, 2] + 0.5) / 1.4), 0.3 * ease(aim[:, 1]) + 0.2 * ease(
        -SIGN[side] * aim[:, 0]
    )


def easy_pole(side, aim):
    """Where the elbow points of itself: to the back and outwards on a hanging arm, carried along as the arm is raised.

    It is undefined only for an arm straight up, so a wrist may travel through everything else.
    """
    d = unit(aim)
    rest = np.array([0.5 * SIGN[side], -0.87, 0.0])
    share = (d @ rest) / np.maximum(1.0 - d[:, 2], 0.02)
    return rest - share[:, None] * (d - np.array([0.0, 0.0, 1.0]))


def reach(actor, side, wrist, pole, pronate=0.3, palm=0.0, wag=0.0):
    """Arm whose wrist reaches a point.

    Args:
        actor: Actor. side: "r" or "l".
        wrist: (n, 3) mm, chest frame about the neck. pole: (3,), chest frame, where the elbow points; None leaves it at ease.
        pronate, palm, wag: see `Arm`.
    Returns:
        Arm.
    """
    zero = np.zeros(len(wrist))
    bone = actor.bone_mm
    shrug, forward = girdle(side, wrist - shoulder(actor, side, zero, zero))
    start = shoulder(actor, side, shrug, forward)
    pole = easy_pole(side, wrist - start) if pole is None else np.broadcast_to(pole, wrist.shape)
    elbow, end = two_bones(start, wrist, pole, bone["Elbow"], bone["Wrist"], 0.996)
    first, second = unit(elbow - start), unit(end - elbow)
    upper = frame(z=-first, x=np.cross(first, second))
    flex = np.arccos(np.clip((first * second).sum(-1), -1.0, 1.0))
    return Arm(upper, flex, zero + pronate, zero + palm, zero + wag, shrug, forward)


def blend_arms(a, b, weight):
    """From Arm a (weight 0) to Arm b (weight 1); weight (n,)."""
    mixed = {
        f.name: getattr(a, f.name) + weight * (getattr(b, f.name) - getattr(a, f.name))
        for f in fields(Arm)
        if f.name != "upper"
    }
    return Arm(upper=blend_rotation(a.upper, b.upper, weight), **mixed)


def pose_arm(actor, trunk, side, arm):
    """Shoulder, elbow, wrist (n, 3) and the hand's rotation (n, 3, 3) of an Arm, world."""
    s, chest = SIGN[side], trunk.R_chest
    start = trunk.neck + apply(chest, shoulder(actor, side, arm.shrug, arm.forward))
    upper = chest @ arm.upper
    fore = upper @ turn("x", arm.flex)
    elbow = start - actor.bone_mm["Elbow"] * upper[..., 2]
    wrist = elbow - actor.bone_mm["Wrist"] * fore[..., 2]
    hand = fore @ turn("z", s * arm.pronate) @ turn("y", s * arm.palm) @ turn("x", arm.wag)
    return start, elbow, wrist, hand


def palm_point(actor, wrist, hand, side):
    """Middle of the grip: inside the half-closed hand, (n, 3)."""
    return wrist + apply(hand, [-SIGN[side] * 25.0, 5.0, -0.45 * actor.hand_mm])


# ---------------------------------------------------------------- the whole


def assemble(actor, trunk, legs, arms, props=(), companion=None):
    """A Performance from trunk, Leg and Arm by side.

    Returns:
        Performance.
    """
    joints = np.empty((len(trunk.pelvis), 17, 3))
    joints[:, 0], joints[:, 7], joints[:, 8] = trunk.pelvis, trunk.torso, trunk.neck
    joints[:, 9], joints[:, 10] = trunk.nose, trunk.head
    frames = {"pelvis": trunk.R_pelvis, "chest": trunk.R_chest, "head": trunk.R_head}
    for side, leg_at, arm_at in (("r", 1, 14), ("l", 4, 11)):
        joints[:, leg_at], joints[:, leg_at + 1], joints[:, leg_at + 2] = pose_leg(
            actor, trunk, legs[side], side
        )
        joints[:, arm_at], joints[:, arm_at + 1], joints[:, arm_at + 2], hand = pose_arm(
            actor, trunk, side, arms[side]
        )
        frames[f"{side}_hand"], frames[f"{side}_foot"] = hand, legs[side].foot
    return Performance(actor, joints, frames, tuple(props), companion)


def pose_leg(actor, trunk, leg, side):
    """Hip, knee and ankle of one leg, (n, 3) each."""
    start = hip(actor, trunk.pelvis, trunk.R_pelvis, side)
    knee, ankle = two_bones(
        start, leg.ankle, leg.pole, actor.bone_mm["Knee"], actor.bone_mm["Ankle"]
    )
    return start, knee, ankle
