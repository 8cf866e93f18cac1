"""Feet that stay where they are put: footsteps planned along a path, and feet moved from place to place by key."""

from dataclasses import dataclass

import numpy as np

from .motion import FPS, SIDES, SIGN, apply, bump, ease, frame, turn
from .posture import Leg


@dataclass(frozen=True)
class Step:
    """One foot leaves one place and lands on another.

    Attributes:
        start, end: s, from the heel's rise to the sole lying flat again.
        origin, goal: (3,) x, y in mm of the point on the floor below the ankle, and yaw in rad.
    """

    start: float
    end: float
    origin: np.ndarray
    goal: np.ndarray


def plan_steps(t, path, heading, width, toe_out, slot, first=0):
    """Footsteps, right and left in turn, that keep both feet under a moving, turning body.

    Each slot belongs to one foot; it steps only if it would otherwise stand too far from where the body is going to be.
    A slot looks less than two slots ahead, so `path` must reach that much further than the frames in use.

    Args:
        t: (n,) s, in steps of 1 / FPS.
        path: (n, 2) mm, the body's way over the floor. heading: (n,) rad.
        width: half the distance between the feet, mm. toe_out: rad. slot: s.
        first: 0 if the right foot owns the first slot, 1 if the left.
    Returns:
        {"r": (place, steps), "l": (place, steps)}: where the foot stands at first, (3,), and its steps.
    """

    def under_body(index, side):
        index = min(max(index, 0), len(t) - 1)
        h, s = heading[index], SIGN[side]
        return np.array(
            [
                path[index, 0] + s * width * np.cos(h),
                path[index, 1] + s * width * np.sin(h),
                h - s * toe_out,
            ]
        )

    place = {side: under_body(0, side) for side in SIDES}
    plan = {side: (place[side], []) for side in SIDES}
    for k in range(int(np.ceil(t[0] / slot)), int(t[-1] / slot)):
        side = SIDES[(k + first) % 2]
        start, end = k * slot, (k + 1.28) * slot
        goal = under_body(int(round(((k + 1.64) * slot - t[0]) * FPS)), side)
        off = goal - place[side]
        if np.hypot(*off[:2]) > 55.0 or abs(off[2]) > 0.22:
            plan[side][1].append(Step(start, end, place[side], goal))
            place[side] = goal
    return plan


def foot_pose(actor, place, lift, heel_up, toe_up):
    """Ankle and foot rotation of a foot at a place; it tips over its toes when heel_up > 0, over its heel when toe_up > 0.

    Args:
        actor: Actor. place: (n, 3) x, y mm, yaw rad. lift: (n,) mm. heel_up, toe_up: (n,) rad.
    Returns:
        ankle (n, 3), foot (n, 3, 3).
    """
    height, toe, heel = actor.foot_mm
    tip, back = np.array([0.0, toe, 0.0]), np.array([0.0, -heel, 0.0])
    down, up = turn("x", -heel_up), turn("x", toe_up)
    ankle = tip + apply(down, np.array([0.0, 0.0, height]) - tip)
    ankle = back + apply(up, ankle - back)
    yaw = turn("z", place[:, 2])
    floor = np.concatenate([place[:, :2], lift[:, None]], axis=1)
    return floor + apply(yaw, ankle), yaw @ up @ down


def walk_legs(actor, t, plan, R_pelvis, spring=1.0, heels=None):
    """Both legs along planned footsteps: the heel rises, the foot swings, the heel lands, the sole rolls flat.

    Args:
        actor: Actor. t: (n,) s. plan: from `plan_steps`. R_pelvis: (n, 3, 3).
        spring: how far heels and toes rise, about 1.
        heels: by side, (n,) rad, how far the heel is up besides, or None.
    Returns:
        {"r": Leg, "l": Leg}.
    """
    swings = {side: _swing(t, *plan[side], spring) for side in SIDES}
    legs = {}
    for side, other in (("r", "l"), ("l", "r")):
        place, lift, heel_up, toe_up, moving = swings[side]
        place = _pass_by(
            place, swings[other][0], moving, SIGN[side] * R_pelvis[..., 0], R_pelvis[..., 1]
        )
        heel_up = heel_up + (heels or {}).get(side, 0.0)
        ankle, foot = foot_pose(actor, place, lift, heel_up, toe_up)
        legs[side] = Leg(ankle, foot, knee_pole(R_pelvis, place[:, 2], side))
    return legs


def _swing(t, first, steps, spring):
    """Place (n, 3), lift, rise of heel, rise of toes and share of swing (n,) of one foot."""
    place = np.tile(first, (len(t), 1))
    lift, heel_up, toe_up, moving = np.zeros((4, len(t)))
    for step in steps:
        inside = slice(*np.searchsorted(t, [step.start, step.end]))
        u = (t[inside] - step.start) / (step.end - step.start)
        stride = np.hypot(*(step.goal - step.origin)[:2])
        size = spring * min(stride / 1000.0, 1.2)
        place[inside] = step.origin + ease((u - 0.10) / 0.84)[:, None] * (step.goal - step.origin)
        place[inside.stop :] = step.goal
        heel_up[inside] = (0.14 + 0.62 * size) * bump(u / 0.76)
        toe_up[inside] = 0.34 * size * bump((u - 0.5) / 0.5)
        moving[inside] = bump((u - 0.10) / 0.84)
        lift[inside] = (18.0 + 22.0 * size) * moving[inside]
    return place, lift, heel_up, toe_up, moving


def _pass_by(place, other, moving, outward, forward, room=140.0):
    """Bend a swinging foot's way outwards where it would pass through the standing one; (n, 3) -> (n, 3)."""
    gap = place[:, :2] - other[:, :2]
    aside = (gap * outward[:, :2]).sum(1)
    ahead = (gap * forward[:, :2]).sum(1)
    lacking = (
        0.5
        * (room - aside + np.sqrt((room - aside) ** 2 + 25.0**2))
        * np.exp(-((ahead / 260.0) ** 2))
    )
    place = place.copy()
    lacking = 85.0 * np.tanh(lacking / 85.0)
    place[:, :2] += (moving * lacking)[:, None] * outward[:, :2]
    return place


def knee_pole(R_pelvis, yaw, side, outward=0.06):
    """Knees look half the way between the pelvis's front and the toes; (n, 3)."""
    toes = np.stack([-np.sin(yaw), np.cos(yaw), np.zeros_like(yaw)], axis=1)
    return R_pelvis[..., 1] + toes + outward * SIGN[side] * R_pelvis[..., 0]


def weight_shift(t, plan, slot):
    """How far the body leans onto each foot while the other steps: (n,), +1 fully to the right."""
    shift = np.zeros(len(t))
    for side in SIDES:
        for step in plan[side][1]:
            middle = (step.start + step.end) / 2
            inside = slice(*np.searchsorted(t, [middle - slot, middle + slot]))
            shift[inside] -= SIGN[side] * np.cos((t[inside] - middle) / slot * np.pi / 2) ** 2
    return shift


def stride_signal(legs, heading):
    """How far the left foot is in front of the right, (n,) mm: drives arms and hips in walking."""
    gap = legs["l"].ankle - legs["r"].ankle
    return -np.sin(heading) * gap[:, 0] + np.cos(heading) * gap[:, 1]


def foot_along(direction, up):
    """Foot rotation whose toes look along `direction`, instep towards `up`; (n, 3) each -> (n, 3, 3)."""
    return frame(y=direction, x=np.cross(direction, up))
