"""What arms do: gestures as data, written for the right arm and mirrored for the left, and their playing over time."""

from dataclasses import dataclass, replace

import numpy as np

from .motion import SIGN, apply, ease, frame, softly_positive, turn, two_bones, unit
from .posture import Trunk, blend_arms, girdle, pose_arm, reach, shoulder


@dataclass(frozen=True)
class Gesture:
    """A place for the wrist, a direction for the elbow and an attitude of the hand.

    Attributes:
        anchor: "arm" (point in arm lengths from the shoulder, chest axes), "chest" (mm from the neck), "head" (mm from
            the nose), "pelvis" (mm), "knee" (mm), "thigh" (mm outwards, share of the way to the knee, mm above) or "world" (mm).
        point: (3,) or (n, 3); x is outwards, y forward, z up; in the world plain coordinates.
        pole: (3,), chest axes, x outwards: where the elbow points; None leaves it at ease.
        pronate, palm, wag: rad or (n,), see `motion.Arm`.
        wander: mm by which the hand drifts about, 0 where it holds on to something.
        swings: whether the arm swings along with the stride.
        fingers, palm_to: (3,), x outwards, axes of the head if that is the anchor, else of the pelvis: where the fingers
            point and the palm looks, instead of `pronate`, `palm` and `wag`.
    """

    anchor: str
    point: object
    pole: object
    pronate: object = 0.3
    palm: object = 0.15
    wag: object = 0.0
    wander: float = 12.0
    swings: bool = False
    fingers: object = None
    palm_to: tuple = (0.0, 0.0, -1.0)

    @property
    def behind(self):
        """Whether the hand is behind the back."""
        return self.anchor == "pelvis" and np.ndim(self.point) == 1 and self.point[1] < -80.0


@dataclass(frozen=True)
class Stage:
    """What a gesture may hold on to.

    Attributes:
        actor: Actor. t: (n,) s. trunk: Trunk.
        hips, knees: by side, (n, 3), world, mm.
        swing: by side, (n,) rad, forward swing of a hanging arm.
        wander: by side, (n, 3), smooth noise of size 1.
    """

    actor: object
    t: np.ndarray
    trunk: Trunk
    hips: dict
    knees: dict
    swing: dict
    wander: dict


def play(stage, side, gesture):
    """The Arm of one gesture held over all frames."""
    actor, trunk = stage.actor, stage.trunk
    mirror = np.array([SIGN[side], 1.0, 1.0])
    point = np.broadcast_to(np.asarray(gesture.point, float), trunk.neck.shape)
    if gesture.anchor == "arm":
        wrist = _from_shoulder(stage, side, mirror * point, gesture.swings)
    elif gesture.anchor == "chest":
        wrist = mirror * point
    else:
        wrist = apply(
            np.swapaxes(trunk.R_chest, -1, -2),
            _in_world(stage, side, gesture.anchor, point) - trunk.neck,
        )
        wrist = _not_too_near(actor, side, wrist) if gesture.anchor in ("knee", "thigh") else wrist
    wrist = wrist + gesture.wander * stage.wander[side]
    pole = None if gesture.pole is None else mirror * np.asarray(gesture.pole)
    arm = reach(actor, side, wrist, pole, gesture.pronate, gesture.palm, gesture.wag)
    return arm if gesture.fingers is None else _lay_hand(stage, side, arm, gesture)


def _from_shoulder(stage, side, point, swings):
    """Wrist in the chest frame from a point in arm lengths; a swinging arm hangs down however the chest leans."""
    actor = stage.actor
    zero = np.zeros(len(point))
    if swings:
        chest = stage.trunk.R_chest
        c, s = np.cos(stage.swing[side]), np.sin(stage.swing[side])
        shorter = 1.0 - 0.05 * ease(stage.swing[side] / 0.6)
        x, y, z = point.T
        point = np.stack([x, c * y - s * z, s * y + c * z], axis=1) * shorter[:, None]
        across = unit(chest[..., 0] * [1.0, 1.0, 0.0])
        upright = frame(z=np.broadcast_to([0.0, 0.0, 1.0], point.shape), x=across)
        point = apply(np.swapaxes(chest, -1, -2) @ upright, point)
    start = (
        shoulder(actor, side, *girdle(side, point))
        if not swings
        else shoulder(actor, side, zero, zero)
    )
    return start + (actor.bone_mm["Elbow"] + actor.bone_mm["Wrist"]) * point


def _lay_hand(stage, side, arm, gesture):
    """Turn the hand to where the gesture's fingers point and its palm looks."""
    s, trunk = SIGN[side], stage.trunk
    mirror = np.array([s, 1.0, 1.0])
    axes = trunk.R_head if gesture.anchor == "head" else trunk.R_pelvis
    fingers, palm = apply(axes, mirror * gesture.fingers), apply(axes, mirror * gesture.palm_to)
    hand = frame(z=-fingers, x=-s * palm)
    return _turn_hand(side, arm, trunk.R_chest @ arm.upper @ turn("x", arm.flex), hand)


def _turn_hand(side, arm, fore, hand):
    """Give the hand a rotation in the world, (n, 3, 3), as far as a wrist can; `fore` is the forearm's."""
    s = SIGN[side]
    local = np.swapaxes(fore, -1, -2) @ hand
    # local = turn z (pronation) · turn y (palm) · turn x (wag)
    pronate = s * np.arctan2(local[:, 1, 0], local[:, 0, 0])
    palm = -s * np.arcsin(np.clip(local[:, 2, 0], -1.0, 1.0))
    wag = np.arctan2(local[:, 2, 1], local[:, 2, 2])
    return replace(arm, pronate=pronate, palm=np.clip(palm, -1.5, 1.5), wag=np.clip(wag, -1.0, 1.0))


def _not_too_near(actor, side, wrist):
    """Draw a wrist that would come close to its own shoulder, on a knee being raised, to the front."""
    zero = np.zeros(len(wrist))
    gap = np.linalg.norm(wrist - shoulder(actor, side, zero, zero), axis=1)
    lacking = softly_positive(0.72 * (actor.bone_mm["Elbow"] + actor.bone_mm["Wrist"]) - gap, 120.0)
    return wrist + lacking[:, None] * np.array([0.15 * SIGN[side], 0.9, -0.35])


def _in_world(stage, side, anchor, point):
    trunk, s = stage.trunk, SIGN[side]
    mirrored = point * np.array([s, 1.0, 1.0])
    if anchor == "head":
        return trunk.nose + apply(trunk.R_head, mirrored)
    if anchor == "pelvis":
        return trunk.pelvis + apply(trunk.R_pelvis, mirrored)
    if anchor == "knee":
        return stage.knees[side] + apply(trunk.R_pelvis, mirrored)
    if anchor == "thigh":
        along = stage.hips[side] + point[:, 1:2] * (stage.knees[side] - stage.hips[side])
        return (
            along
            + s * point[:, :1] * trunk.R_pelvis[..., 0]
            + point[:, 2:] * np.array([0.0, 0.0, 1.0])
        )
    assert anchor == "world", anchor
    return point


def perform_arm(stage, side, first, keys):
    """Gesture after gesture, each eased into along the shortest turn of shoulder and elbow.

    Args:
        stage: Stage. side: "r" or "l". first: Gesture.
        keys: (start, duration, Gesture) in order of start, s.
    Returns:
        Arm, kept clear of the trunk and the floor.
    """
    t = stage.t
    arm = play(stage, side, first)
    before = first
    for start, duration, gesture in keys:
        if start >= t[-1]:
            break
        if gesture.behind != before.behind:  # round the hip, not through it
            arm = blend_arms(arm, play(stage, side, HANG), ease((t - start) / duration))
            start, duration = start + 0.5 * duration, 1.15 * duration
        arm = blend_arms(arm, play(stage, side, gesture), ease((t - start) / duration))
        before = gesture
    return lift_fingers(stage, side, keep_clear(stage, side, arm))


def keep_clear(stage, side, arm):
    """Move the wrist out of the trunk and off the floor, where a blend would take it through."""
    actor, trunk = stage.actor, stage.trunk
    start, elbow, wrist, hand = pose_arm(actor, trunk, side, arm)
    to_chest = np.swapaxes(trunk.R_chest, -1, -2)
    local = apply(to_chest, wrist - 0.3 * actor.hand_mm * hand[..., 2] - trunk.neck)
    size = np.array(
        [0.80 * actor.bone_mm["Shoulder"] + 25.0 * actor.girth, 105.0 * actor.girth + 25.0]
    )
    inside = np.linalg.norm(local[:, :2] / size, axis=1)
    push = softly_positive(1.0 - inside, 0.3) * ease(-local[:, 2] / 120.0)
    up = softly_positive(50.0 - wrist[:, 2], 30.0)
    if push.max() == 0.0 and up.max() == 0.0:
        return arm
    # Rather outwards and to the front than straight away from the middle, where "away" would change from frame to frame.
    out = unit(local[:, :2] / size + np.array([0.6 * SIGN[side], 0.45]))
    shift = np.concatenate([out * (push * size.min())[:, None], np.zeros((len(push), 1))], axis=1)
    target = wrist + apply(trunk.R_chest, shift) + up[:, None] * np.array([0.0, 0.0, 1.0])
    elbow, end = two_bones(
        start,
        target,
        elbow - (start + wrist) / 2,
        actor.bone_mm["Elbow"],
        actor.bone_mm["Wrist"],
        0.996,
    )
    first, second = unit(elbow - start), unit(end - elbow)
    upper = np.swapaxes(trunk.R_chest, -1, -2) @ frame(z=-first, x=np.cross(first, second))
    return replace(arm, upper=upper, flex=np.arccos(np.clip((first * second).sum(-1), -1.0, 1.0)))


def lift_fingers(stage, side, arm):
    """Bend the hand back where its fingers would go through the floor."""
    actor = stage.actor
    _, _, wrist, hand = pose_arm(actor, stage.trunk, side, arm)
    along, back_of_hand = -hand[..., 2], SIGN[side] * hand[..., 0]
    lift = softly_positive((12.0 - wrist[:, 2]) / actor.hand_mm - along[:, 2], 0.15)
    if lift.max() == 0.0:
        return arm
    slope = np.clip(along[:, 2] + lift, -0.99, 0.99)
    flat = (
        unit(along[:, :2] + 0.3 * lift[:, None] * back_of_hand[:, :2])
        * np.sqrt(1.0 - slope**2)[:, None]
    )
    palm_down = hand[..., 0] + 3.0 * lift[:, None] * np.array([0.0, 0.0, SIGN[side]])
    raised = frame(z=-np.concatenate([flat, slope[:, None]], axis=1), x=palm_down)
    hand = np.where((lift > 0)[:, None, None], raised, hand)
    return _turn_hand(side, arm, stage.trunk.R_chest @ arm.upper @ turn("x", arm.flex), hand)


# ---------------------------------------------------------------- the vocabulary

HANG = Gesture("arm", (0.14, 0.04, -0.975), (0.25, -1.0, 0.0), 0.35, 0.2, wander=7.0, swings=True)
BENT = Gesture("arm", (0.02, 0.42, -0.62), (0.5, -1.0, -0.4), 0.7, 0.1, wander=16.0)
OPEN = Gesture("arm", (0.30, 0.55, -0.38), (0.5, -0.6, -1.0), -0.7, -0.1, wander=26.0)
BEFORE_CHEST = Gesture("arm", (-0.14, 0.50, -0.22), (0.8, -0.3, -0.8), 0.6, 0.3, wander=28.0)
CROSSED_UNDER = Gesture("chest", (-45.0, 190.0, -235.0), (0.9, 0.1, -0.7), 0.9, 0.3, wander=3.0)
CROSSED_OVER = Gesture("chest", (-35.0, 235.0, -190.0), (0.9, 0.1, -0.7), 0.5, 0.5, wander=3.0)
OVERHEAD = Gesture("arm", (0.22, 0.08, 0.93), (1.0, 0.2, 0.0), 0.0, 0.0, wander=14.0)
SIDEWAYS = Gesture("arm", (0.95, 0.12, 0.08), (0.0, -0.5, -1.0), 0.9, 0.0, wander=14.0)
STRONG = Gesture("arm", (0.62, 0.16, 0.36), (0.9, 0.0, -0.8), 0.0, 0.5, wander=6.0)
CHIN = Gesture("head", (25.0, 85.0, -160.0), (0.5, 0.2, -1.0), -0.2, 0.5, wander=4.0)
SCRATCH = Gesture("head", (120.0, -15.0, 95.0), (1.0, 0.5, 0.1), 0.3, 0.9, wander=5.0)
BROW = Gesture("head", (70.0, 75.0, 45.0), (1.0, 0.3, -0.3), 0.9, 0.2, wander=4.0)
PHONE = Gesture(
    "head",
    (138.0, 112.0, -38.0),
    (0.6, 0.3, -1.0),
    wander=2.0,
    fingers=(-0.26, -0.82, 0.5),
    palm_to=(-1.0, 0.0, -0.1),
)
MOUTH = Gesture("head", (60.0, 125.0, -95.0), (0.8, 0.1, -1.0), 0.3, 0.75, wander=3.0)
WATCH = Gesture("chest", (-45.0, 300.0, -150.0), (1.0, -0.1, -0.5), 1.3, -0.05, wander=4.0)
CAMERA_UP = Gesture("head", (85.0, 175.0, -75.0), (0.7, 0.0, -1.0), 0.3, 0.2, wander=2.0)
CAMERA_DOWN = Gesture("arm", (-0.16, 0.52, -0.45), (0.7, -0.4, -1.0), 0.3, 0.2, wander=5.0)
SHAKE_HAND = Gesture("arm", (-0.05, 0.74, -0.36), (0.6, -0.5, -1.0), 0.0, 0.0, wander=8.0)
HEART = Gesture("chest", (-60.0, 190.0, -120.0), (1.0, 0.2, -0.6), 0.8, 0.3, wander=5.0)
LAP = Gesture("thigh", (0.0, 0.42, 100.0), None, wander=3.0, fingers=(-0.45, 1.0, 0.0))
KNEE = Gesture("thigh", (5.0, 0.74, 95.0), None, wander=3.0, fingers=(-0.15, 1.0, -0.3))
EMBRACE = Gesture("knee", (-5.0, 85.0, -70.0), None, 0.6, 0.7, wander=3.0)
POCKET = Gesture("pelvis", (175.0, 25.0, 30.0), (0.6, -1.0, 0.0), 0.4, 0.1, wander=2.0)


def on_hip(actor):
    """Hand on the hip, elbow out."""
    return Gesture(
        "pelvis",
        (actor.bone_mm["Hip"] + 62.0 * actor.girth, 0.0, 130.0),
        (1.0, -0.7, 0.1),
        0.9,
        0.9,
        wander=2.0,
    )


def behind_back(actor):
    """Hand in the small of the back."""
    return Gesture(
        "pelvis", (35.0, -165.0 * actor.girth, 80.0), (1.0, -0.6, 0.2), 1.2, 0.1, wander=3.0
    )


def point_at(azimuth, height, stretch=0.97):
    """Stretched arm; azimuth from the front outwards, height over the horizon, rad."""
    aim = stretch * np.array(
        [np.sin(azimuth) * np.cos(height), np.cos(azimuth) * np.cos(height), np.sin(height)]
    )
    return Gesture("arm", tuple(aim), (0.7, -0.3, -1.0), 0.9, 0.0, wander=10.0)


def moving(gesture, t, offset, rate, phase=0.0, **attitude):
    """A gesture whose point oscillates by `offset` (3,), in its own units, `rate` times a second."""
    wave = np.sin(2 * np.pi * rate * t + phase)[:, None]
    return replace(
        gesture, point=np.asarray(gesture.point) + wave * np.asarray(offset, float), **attitude
    )


def waving(t, rate=1.7, height=0.42):
    """The raised hand waves from side to side."""
    return moving(
        Gesture("arm", (0.42, 0.28, height), (0.9, -0.1, -1.0), 0.9, 0.0, wander=8.0),
        t,
        (0.13, 0.0, -0.03),
        rate,
        wag=0.25 * np.sin(2 * np.pi * rate * t),
    )
