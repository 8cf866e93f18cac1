"""Legs of somebody who sits on a chair or on the floor: how they lie, and how they change from one way to another."""

from dataclasses import dataclass

import numpy as np

from ..acting.footwork import foot_along
from ..acting.motion import (
    SIDES,
    SIGN,
    apply,
    blend_rotation,
    bump,
    ease,
    keyed,
    softly_positive,
    turn,
)
from ..acting.posture import Leg


@dataclass(frozen=True)
class LegPose:
    """Where one leg lies, in the axes of the seat (x to the sitter's right, y forward, z up, origin on the floor below).

    Attributes:
        ankle: (3,) mm. foot: (3, 3). pole: (3,), where the knee points.
    """

    ankle: np.ndarray
    foot: np.ndarray
    pole: np.ndarray


def play_legs(scene, spot, heading, first, keys):
    """Both legs, posture after posture.

    Args:
        scene: Scene. spot: (2,) mm, origin of the seat's axes. heading: rad.
        first: LegPose by side. keys: by side, (start, duration, LegPose, lift in mm on the way).
    Returns:
        Leg by side, world.
    """
    t, n = scene.t, len(scene.t)
    height, toe, heel = scene.actor.foot_mm
    reach = scene.actor.bone_mm["Knee"] + scene.actor.bone_mm["Ankle"]
    R = turn("z", heading)
    legs = {}
    for side in SIDES:
        pose = first[side]
        ankle = keyed(t, pose.ankle, [key[:2] + (key[2].ankle,) for key in keys[side]])
        pole = keyed(t, pose.pole, [key[:2] + (key[2].pole,) for key in keys[side]])
        foot = np.tile(pose.foot, (n, 1, 1))
        for start, duration, after, lift in keys[side]:
            if start >= t[-1]:
                break
            way = bump((t - start) / duration)
            foot = blend_rotation(
                foot, np.tile(after.foot, (n, 1, 1)), ease((t - start) / duration)
            )
            ankle[:, 2] += lift * way
            # On the way the knee goes up: that is how legs pass each other, and the knee's side stays defined.
            pole[:, 2] += 0.9 * way
            if min(pose.ankle[1], after.ankle[1]) < 0.0:  # a foot from behind comes round the front
                ankle[:, 1] += max(0.50 * reach - (pose.ankle[1] + after.ankle[1]) / 2, 0.0) * way
                ankle[:, 2] += 110.0 * way
            pose = after
        sole = foot @ np.array([[0.0, 0.0], [toe, -heel], [-height, -height]])
        ankle[:, 2] += softly_positive(-(ankle[:, 2] + sole[:, 2].min(1)), 6.0)
        legs[side] = Leg(apply(R, ankle) + [*spot, 0.0], R @ foot, apply(R, pole))
    return legs


def planted(actor, side, x, y, yaw=0.0, heel_up=0.0, toe_up=0.0, pole=(0.0, 0.6, 1.0)):
    """A foot on the floor: x outwards, y forward, mm; yaw outwards; tipped over its toes or its heel."""
    s = SIGN[side]
    height, toe, heel = actor.foot_mm
    tip, back = np.array([0.0, toe, 0.0]), np.array([0.0, -heel, 0.0])
    ankle = tip + apply(turn("x", -heel_up)[0], np.array([0.0, 0.0, height]) - tip)
    ankle = back + apply(turn("x", toe_up)[0], ankle - back)
    yaw = turn("z", -s * yaw)[0]
    flat = np.array([s * x, y, 0.0]) + yaw @ (ankle * [1.0, 1.0, 1.0])
    return LegPose(
        flat, yaw @ turn("x", toe_up - heel_up)[0], np.array([s * pole[0], pole[1], pole[2]])
    )


def lying(actor, side, ankle, pole, toes, instep):
    """A foot that lies or hangs, above the floor; every vector with x outwards."""
    mirror = np.array([SIGN[side], 1.0, 1.0])
    foot = foot_along(mirror * np.array(toes, float), mirror * np.array(instep, float))
    ankle = mirror * np.array(ankle, float)
    height, toe, heel = actor.foot_mm
    sole = foot @ np.array([[0.0, 0.0], [toe, -heel], [-height, -height]])
    ankle[2] = max(ankle[2], 3.0 - sole[2].min())
    return LegPose(ankle, foot, mirror * np.array(pole, float))


def chair_legs(actor, seat):
    """Postures of both legs on a seat: name -> {"r": LegPose, "l": LegPose}; "crossed_r": the right leg on top."""
    hip, thigh, shin = (actor.bone_mm[name] for name in ("Hip", "Knee", "Ankle"))
    height = actor.foot_mm[0]
    pelvis = seat + 95.0 * actor.girth
    drop = np.clip((pelvis - height - shin) / thigh, -0.6, 0.6)
    knee = thigh * np.sqrt(1 - drop**2)
    both = {
        "flat": lambda s: planted(actor, s, hip * 1.05, knee + 15.0, 0.12),
        "wide": lambda s: planted(actor, s, hip * 1.9, 0.90 * knee, 0.45, pole=(0.5, 0.6, 1.0)),
        "tucked": lambda s: planted(actor, s, hip * 0.9, knee - 150.0, 0.05, heel_up=0.42),
        "forward": lambda s: planted(actor, s, hip * 1.0, knee + 210.0, 0.15, toe_up=0.30),
    }
    poses = {name: {s: make(s) for s in SIDES} for name, make in both.items()}
    poses["step"] = {"r": both["forward"]("r"), "l": both["tucked"]("l")}
    poses["step_l"] = {"r": both["tucked"]("r"), "l": both["forward"]("l")}
    for s, o in (("r", "l"), ("l", "r")):
        under = planted(actor, o, hip * 0.75, knee + 10.0, 0.0)
        # The ankle lies on the other thigh, just behind its knee.
        on_knee = (-hip * 0.75, 0.80 * knee, pelvis + 85.0 + 55.0 * actor.girth)
        four = lying(actor, s, on_knee, (1.0, 0.25, -0.05), (-0.75, 0.35, -0.5), (0.3, 0.7, 0.6))
        # Knee over knee: the shin hangs in front of the other one.
        over = lying(
            actor,
            s,
            (-hip * 0.85, knee + 215.0, pelvis - 0.60 * shin + 40.0),
            (-0.25, 0.6, 1.0),
            (-0.15, 0.9, -0.45),
            (0.0, 0.45, 0.9),
        )
        poses[f"four_{s}"], poses[f"over_{s}"] = {s: four, o: under}, {s: over, o: under}
    return poses


def floor_legs(actor):
    """Postures of the legs on the floor: name -> {"r": LegPose, "l": LegPose}."""
    hip, thigh, shin = (actor.bone_mm[name] for name in ("Hip", "Knee", "Ankle"))
    length, low = thigh + shin, 52.0 * max(actor.girth, 1.0)

    def up(s, far=0.44, out=1.0):
        return planted(actor, s, out * hip, far * length, 0.12, pole=(0.12, 1.0, 1.0))

    def straight(s, far=0.985):
        height, toe, heel = actor.foot_mm
        ankle = (hip * 0.85, far * length - 4.0, heel + 4.0)
        return lying(actor, s, ankle, (0.15, 0.1, 1.0), (0.12, 0.25, 0.97), (0.0, -0.97, 0.25))

    def tailor(s, ahead):
        return lying(
            actor,
            s,
            (-0.62 * hip, ahead, low),
            (1.0, 0.42, 0.30),
            (-0.86, 0.42, -0.12),
            (0.2, 0.75, 0.55),
        )

    def swept(s):
        """Thigh to the front, shin folded back on the outside."""
        return lying(
            actor,
            s,
            (1.0 * hip + 225.0, -90.0, low),
            (0.25, 1.0, 0.02),
            (0.5, -0.85, -0.1),
            (0.8, 0.5, 0.1),
        )

    poses = {
        "up": {s: up(s) for s in SIDES},
        "straight": {s: straight(s) for s in SIDES},
        "tailor": {"r": tailor("r", 0.285 * length), "l": tailor("l", 0.42 * length)},
        "far_up": {s: up(s, 0.62, 1.3) for s in SIDES},
    }
    for s, o in (("r", "l"), ("l", "r")):
        poses[f"half_{s}"] = {s: up(s, 0.46), o: straight(o)}
        poses[f"side_{s}"] = {s: swept(s), o: tailor(o, 0.40 * length)}
        poses[f"lotus_{s}"] = {s: up(s, 0.50), o: tailor(o, 0.26 * length)}
    return poses


# Pelvis and spine in each posture: tilt, bend, side, twist, roll.


def switch_legs(poses, order, times, actor, lift=70.0, duration=0.9):
    """(first, keys by side) that go through named postures; the legs move one after the other, the lower one first."""
    first, keys = poses[order[0]], {side: [] for side in SIDES}
    for name, now in zip(order[1:], times):
        top = name[-1] if name[-2:] in ("_r", "_l") else "r"
        for side in SIDES:
            high = poses[name][side].ankle[2] > 1.6 * actor.foot_mm[0]
            late = 0.30 if side == top else 0.0
            keys[side].append((now + late, duration, poses[name][side], lift + 110.0 * high))
    return first, keys
