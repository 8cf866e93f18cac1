"""From controls to joints: easing and noise over time, forward kinematics, two-bone inverse kinematics.

Angles are radians, lengths mm, times seconds; every control is an array over the n frames. Bones keep their length
because a joint is always its parent plus a rotated bone: controls are blended, joints never.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy.spatial.transform import Rotation

from .performance import Performance

FPS = 50
SIDES = ("r", "l")
# +1 to the right: mirrors whatever is written for the right side.
SIGN = {"r": 1.0, "l": -1.0}
_AXES = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}
_NOISE_RATES = np.array([1.0, 0.618, 1.747, 0.371])
_NOISE_SHARES = np.array([1.0, 0.8, 0.45, 0.9])


# ---------------------------------------------------------------- time

def ease(x):
    """Minimum-jerk step: 0 for x <= 0, 1 for x >= 1, with still ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10.0 - 15.0 * x + 6.0 * x * x)


def bump(x):
    """Smooth hill: 0 outside 0 < x < 1, 1 in the middle."""
    x = np.clip(x, 0.0, 1.0)
    return (4.0 * x * (1.0 - x)) ** 2


def softly_positive(x, width):
    """max(x, 0) with a rounded corner of that width: exactly 0 for x <= 0, x - width / 2 from x >= width on."""
    return np.where(x < width, np.maximum(x, 0.0) ** 2 / (2.0 * width), x - width / 2.0)


def keyed(t, first, keys):
    """Hold a value, then ease to the next at each key; overlapping keys add up smoothly.

    Args:
        t: (n,) s.
        first: value before any key, scalar or (k,).
        keys: (start, duration, value) in order of start, s.
    Returns:
        (n,) or (n, k).
    """
    first = np.asarray(first, float)
    column = t.reshape((-1,) + (1,) * first.ndim)
    track, before = first + 0.0 * column, first
    for start, duration, value in keys:
        value = np.asarray(value, float)
        track = track + ease((column - start) / duration) * (value - before)
        before = value
    return track


def noise(rng, t, amplitude, period):
    """Slow smooth wandering about 0 with that rms amplitude and typical period (s); (n,) like `t`."""
    phases = rng.uniform(0.0, 2 * np.pi, len(_NOISE_RATES))
    waves = np.sin(2 * np.pi * t[:, None] * _NOISE_RATES / period + phases)
    return amplitude * waves @ _NOISE_SHARES / np.sqrt((_NOISE_SHARES**2).sum() / 2)


# ---------------------------------------------------------------- rotations

def turn(axis, angle):
    """Rotation about "x" (front up), "y" (tip to the right) or "z" (to the left); (n,) rad -> (n, 3, 3)."""
    angle = np.atleast_1d(np.asarray(angle, float))
    i, j = _AXES[axis]
    R = np.zeros((*angle.shape, 3, 3))
    R[...] = np.eye(3)
    R[..., i, i] = R[..., j, j] = np.cos(angle)
    R[..., j, i] = np.sin(angle)
    R[..., i, j] = -R[..., j, i]
    return R


def apply(R, vectors):
    """(n, 3, 3) on (3,) or (n, 3) -> (n, 3)."""
    return np.einsum("...ij,...j->...i", R, np.asarray(vectors, float))


def unit(vectors):
    """Vectors scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def frame(x=None, y=None, z=None):
    """Rotation with one exact axis and a second as near as it can be; give two of the three, the exact one first.

    Args:
        x, y, z: (n, 3) directions in the world, two of them; z is exact if given, else y.
    Returns:
        (n, 3, 3), columns x, y, z.
    """
    if z is not None and x is not None:
        z = unit(z)
        y = unit(np.cross(z, x))
        x = np.cross(y, z)
    elif z is not None:
        z = unit(z)
        x = unit(np.cross(y, z))
        y = np.cross(z, x)
    else:
        y = unit(y)
        z = unit(np.cross(x, y))
        x = np.cross(y, z)
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def blend_rotation(A, B, weight):
    """From A (weight 0) to B (weight 1) along the turn that is shortest where the blend begins.

    Args:
        A, B: (n, 3, 3) over time. weight: (n,).
    Returns:
        (n, 3, 3).
    """
    step = Rotation.from_matrix(np.swapaxes(A, -1, -2) @ B).as_rotvec()
    angle = np.linalg.norm(step, axis=1)
    # Past half a turn the shortest way flips to the other side: keep to the side where the blend began.
    flips = np.concatenate([[False], ((step[1:] * step[:-1]).sum(1) < 0) & (np.minimum(angle[1:], angle[:-1]) > 2.0)])
    side = np.cumprod(np.where(flips, -1.0, 1.0))
    begin = int(np.argmax(weight > 0))
    long_way = side * side[begin] < 0
    step[long_way] *= (1.0 - 2 * np.pi / np.maximum(angle[long_way], 1.0))[:, None]
    return A @ Rotation.from_rotvec(step * weight[:, None]).as_matrix()


def two_bones(start, target, pole, upper, lower, longest=0.9995):
    """Middle and end joint of a limb whose end reaches for `target`.

    Args:
        start, target, pole: (n, 3) mm; `pole` is the direction the middle joint points to.
        upper, lower: bone lengths, mm.
        longest: share of the stretched limb that is never exceeded; targets out of reach are drawn in along the line.
    Returns:
        middle, end: (n, 3).
    """
    offset = target - start
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    along = offset / np.maximum(distance, 1e-9)
    shortest = np.sqrt(upper**2 + lower**2 - 2 * upper * lower * np.cos(np.radians(28)))
    reach = np.clip(distance, shortest, longest * (upper + lower))
    side = unit(pole - (pole * along).sum(-1, keepdims=True) * along)
    share = (reach**2 + upper**2 - lower**2) / (2 * reach)
    middle = start + share * along + np.sqrt(np.maximum(upper**2 - share**2, 0.0)) * side
    end = middle + lower * unit(start + reach * along - middle)
    return middle, end


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
    throat = chest @ turn("z", look[:, 0] / 2) @ turn("y", look[:, 2] / 2) @ turn("x", -look[:, 1] / 2)
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
    return 0.42 * ease((aim[:, 2] + 0.5) / 1.4), 0.3 * ease(aim[:, 1]) + 0.2 * ease(-SIGN[side] * aim[:, 0])


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
    mixed = {f.name: getattr(a, f.name) + weight * (getattr(b, f.name) - getattr(a, f.name))
             for f in fields(Arm) if f.name != "upper"}
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
        joints[:, leg_at], joints[:, leg_at + 1], joints[:, leg_at + 2] = pose_leg(actor, trunk, legs[side], side)
        joints[:, arm_at], joints[:, arm_at + 1], joints[:, arm_at + 2], hand = pose_arm(actor, trunk, side, arms[side])
        frames[f"{side}_hand"], frames[f"{side}_foot"] = hand, legs[side].foot
    return Performance(actor, joints, frames, tuple(props), companion)


def pose_leg(actor, trunk, leg, side):
    """Hip, knee and ankle of one leg, (n, 3) each."""
    start = hip(actor, trunk.pelvis, trunk.R_pelvis, side)
    knee, ankle = two_bones(start, leg.ankle, leg.pole, actor.bone_mm["Knee"], actor.bone_mm["Ankle"])
    return start, knee, ankle
