"""A scene to act in, the controls an action may move, and the common way from controls to a Performance."""

from dataclasses import dataclass, field

import numpy as np

from .actors import ACTORS
from .footwork import plan_steps, stride_signal, walk_legs, weight_shift
from .gestures import HANG, Stage, perform_arm
from .motion import FPS, SIDES, keyed, noise, turn
from .performance import Performance, Prop
from .posture import palm_point, pose_arm, pose_leg, pose_trunk, settle

# Events are drawn for this long whatever the take's length, so that a longer take begins like a shorter one.
PLAN_SECONDS = 130.0
# Steps look ahead: so much more than the frames asked for is choreographed, then cut.
AHEAD = 100
# Takes begin in the middle of things: so many frames before the first are choreographed too.
BEFORE = 75


@dataclass(frozen=True)
class Scene:
    """One take to be choreographed.

    Attributes:
        actor: Actor. rng: its random numbers, drawn in a fixed order. t: (n,) s.
        hand: "r" or "l", the side that acts; other: the opposite.
        tempo, size: how fast and how large this actor moves, about 1.
        slouch, toe_out: rad. width: half the distance between the feet, mm.
        home: (2,) mm, where in the room; heading: rad, at the start.
    """

    actor: object
    rng: np.random.Generator
    t: np.ndarray
    hand: str
    other: str
    tempo: float
    size: float
    slouch: float
    toe_out: float
    width: float
    home: np.ndarray
    heading: float


def make_scene(subject, action, take, n_frames, seed):
    """The scene of one take: the actor's habits from (subject, seed), all else from the take's numbers."""
    habits = np.random.default_rng([seed, 4099, subject])
    rng = np.random.default_rng([seed, subject, action, take])
    actor = ACTORS[subject]
    left_handed = (habits.uniform() < 0.25) != (rng.uniform() < 0.25)
    return Scene(
        actor=actor,
        rng=rng,
        t=np.arange(-BEFORE, n_frames + AHEAD) / FPS,
        hand=SIDES[left_handed],
        other=SIDES[not left_handed],
        tempo=habits.uniform(0.88, 1.14) * rng.uniform(0.95, 1.05),
        size=habits.uniform(0.85, 1.15),
        slouch=habits.uniform(0.02, 0.14),
        toe_out=habits.uniform(0.06, 0.22),
        width=actor.bone_mm["Hip"] * habits.uniform(0.80, 1.04),
        home=rng.uniform(-1.0, 1.0, 2) * (700.0, 1000.0),
        heading=rng.uniform(0.0, 2 * np.pi),
    )


@dataclass
class Moves:
    """The controls of a take; angles rad, (n,) unless said otherwise.

    Attributes:
        path: (n, 2) mm, way over the floor. heading: (n,).
        drop: mm that the pelvis sinks. tilt, roll: pelvis forward, to the right.
        bend, side, twist: chest against pelvis: forward, right, left. look: (n, 3) head: left, down, right.
        arms: by side, (first Gesture, keys).
        heels: by side, rise of the planted heel.
        slot: s that one step takes. shift: mm the body leans over the standing foot.
        lean: (n, 2) mm, pelvis off the path, or 0.
    """

    path: np.ndarray
    heading: np.ndarray
    drop: np.ndarray
    tilt: np.ndarray
    roll: np.ndarray
    bend: np.ndarray
    side: np.ndarray
    twist: np.ndarray
    look: np.ndarray
    arms: dict
    heels: dict = field(default_factory=dict)
    slot: float = 0.40
    shift: float = 34.0
    lean: object = 0.0


def at_ease(scene, path=None, heading=None, glances=1.0):
    """Moves of somebody who stands (or follows `path`), breathes, sways and looks about.

    Args:
        scene: Scene. path: (n, 2) or None to stay at home. heading: (n,) or None.
        glances: how far the looks go.
    Returns:
        Moves.
    """
    t, rng, n = scene.t, scene.rng, len(scene.t)
    zero = np.zeros(n)
    breath = 0.012 * np.sin(2 * np.pi * 0.26 * t + rng.uniform(0, 6))
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    look = np.stack(
        [noise(rng, t, 0.06, 5.0), 0.08 + noise(rng, t, 0.035, 4.0), noise(rng, t, 0.03, 6.0)],
        axis=1,
    )
    look += glance(scene, glances)
    return Moves(
        path=np.tile(scene.home, (n, 1)) if path is None else path,
        heading=zero + scene.heading if heading is None else heading,
        drop=zero + 3.0,
        tilt=0.03 + noise(rng, t, 0.012, 6.0),
        roll=side * noise(rng, t, 0.022, 7.0),
        bend=scene.slouch + breath + noise(rng, t, 0.02, 6.0),
        side=noise(rng, t, 0.022, 7.0),
        twist=noise(rng, t, 0.045, 6.0),
        look=look,
        arms={"r": (HANG, []), "l": (HANG, [])},
    )


def beats(scene, gap, start=0.0):
    """Times of events from `start` on, spaced by `gap` = (least, most) s over the actor's tempo."""
    times, now = [], start
    while now < PLAN_SECONDS:
        times.append(now)
        now += scene.rng.uniform(*gap) / scene.tempo
    return times


def glance(scene, size):
    """Head turns (n, 3) towards this and that, held for a moment each."""
    keys = []
    for now in beats(scene, (1.2, 3.4), 0.5):
        aim = scene.rng.normal(0.0, 1.0, 2) * (0.34, 0.09) * size
        keys.append((now, 0.5, (np.clip(aim[0], -0.85, 0.85), np.clip(aim[1], -0.25, 0.3), 0.0)))
    return keyed(scene.t, (0.0, 0.0, 0.0), keys)


def wander(scene, gap=(3.0, 5.5), distance=(0.0, 700.0), turning=1.9, box=(1050.0, 1450.0)):
    """Stand here, then there: path (n, 2) mm and heading (n,) rad, with a turn and a few steps at each event."""
    rng, spot, heading = scene.rng, scene.home, scene.heading
    spots, headings = [], []
    for now in beats(scene, gap, rng.uniform(1.0, 2.0)):
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(*distance)
        goal = spot + length * np.array([np.cos(angle), np.sin(angle)])
        goal = np.clip(goal, -np.array(box), box)
        swing = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, turning)
        spots.append((now, 1.0 + np.hypot(*(goal - spot)) / 480.0, goal))
        headings.append((now, 0.8 + abs(swing) / 1.0, heading + swing))
        spot, heading = goal, heading + swing
    return keyed(scene.t, scene.home, spots), keyed(scene.t, scene.heading, headings)


def stand_legs(scene, moves):
    """Pelvis (wish), its rotation and both legs of a body on its feet."""
    actor, t = scene.actor, scene.t
    plan = plan_steps(t, moves.path, moves.heading, scene.width, scene.toe_out, moves.slot)
    facing = turn("z", moves.heading)
    upright = facing @ turn("y", moves.roll) @ turn("x", -moves.tilt)
    legs = walk_legs(actor, t, plan, facing, heels=moves.heels)
    lean = moves.tilt + 0.5 * moves.bend
    back = -210.0 * np.sin(lean - 0.08) - 0.16 * np.maximum(moves.drop - 60.0, 0.0) + 10.0
    right = moves.shift * weight_shift(t, plan, moves.slot) + noise(scene.rng, t, 14.0, 6.0)
    pelvis = np.zeros((len(t), 3))
    pelvis[:, :2] = (
        moves.path
        + moves.lean
        + right[:, None] * facing[:, :2, 0]
        + back[:, None] * facing[:, :2, 1]
    )
    length = actor.bone_mm["Knee"] + actor.bone_mm["Ankle"]
    pelvis[:, 2] = actor.foot_mm[0] + 0.998 * length - moves.drop
    return settle(actor, pelvis, upright, legs), upright, legs, stride_signal(legs, moves.heading)


def on_feet(scene, moves):
    """Trunk, legs, arms of a body on its feet; arms and hips follow the stride."""
    pelvis, upright, legs, stride = stand_legs(scene, moves)
    length = scene.actor.bone_mm["Knee"] + scene.actor.bone_mm["Ankle"]
    swing = 0.62 * scene.size * stride / length
    upright = upright @ turn("z", -0.16 * swing)
    twist = moves.twist + 0.38 * swing
    look = moves.look - np.stack([0.22 * swing, 0 * swing, 0 * swing], axis=1)
    trunk = pose_trunk(scene.actor, pelvis, upright, moves.bend, moves.side, twist, look)
    return trunk, legs, move_arms(scene, trunk, legs, moves.arms, swing)


def move_arms(scene, trunk, legs, arms, swing=None):
    """Play the gestures of both arms; `swing` (n,) rad is the right arm's."""
    swing = np.zeros(len(scene.t)) if swing is None else swing
    hips, knees = {}, {}
    for side in SIDES:
        hips[side], knees[side], _ = pose_leg(scene.actor, trunk, legs[side], side)
    drift = {
        side: np.stack(
            [noise(scene.rng, scene.t, 1.0, period) for period in (2.6, 3.1, 2.2)], axis=1
        )
        for side in SIDES
    }
    stage = Stage(scene.actor, scene.t, trunk, hips, knees, {"r": swing, "l": -swing}, drift)
    return {side: perform_arm(stage, side, *arms[side]) for side in SIDES}


def cut(performance, n):
    """Frames BEFORE … BEFORE + n - 1 of a Performance, its props and its companion."""
    if performance is None:
        return None
    kept = slice(BEFORE, BEFORE + n)
    props = tuple(
        Prop(
            prop.kind,
            prop.origin_world[kept],
            prop.rotation_world[kept],
            prop.size_mm,
            {name: value[kept] for name, value in prop.extra.items()},
        )
        for prop in performance.props
    )
    frames = {name: R[kept] for name, R in performance.frames_world.items()}
    companion = cut(performance.companion, n)
    return Performance(performance.actor, performance.joints_world[kept], frames, props, companion)


# ---------------------------------------------------------------- props


def in_hand(scene, trunk, arms, side, kind, size_mm, tilt=0.0):
    """A thing held in one hand; its z axis runs along the fingers' bend, upwards from the little finger to the thumb.

    Args:
        scene: Scene. trunk: Trunk. arms: by side. side: whose hand.
        kind: the Prop's. size_mm: (3,). tilt: rad about the thing's x axis.
    Returns:
        Prop.
    """
    _, _, wrist, hand = pose_arm(scene.actor, trunk, side, arms[side])
    # In the hand's frame -z are the fingers and y is the thumb: the thing stands along the thumb.
    upright = hand @ turn("x", np.full(1, -np.pi / 2 + tilt))
    return Prop(kind, palm_point(scene.actor, wrist, hand, side), upright, size_mm)


def furniture(scene, kind, spot, heading, size_mm):
    """A thing that stands on the floor at `spot` (2,), its front towards `heading`."""
    n = len(scene.t)
    origin = np.tile([*spot, 0.0], (n, 1))
    return Prop(kind, origin, np.tile(turn("z", heading)[0], (n, 1, 1)), size_mm)


def facing_vector(heading):
    """(2,) or (n, 2) direction on the floor of a heading."""
    return np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
