"""Actions on one's feet with something in hand: phoning, buying, smoking, photographing, eating."""

from dataclasses import replace

import numpy as np

from ..acting import gestures as g
from ..acting.motion import SIGN, bump, ease, keyed, turn
from ..acting.performance import Prop
from ..acting.posture import assemble, palm_point, pose_arm
from ..acting.staging import at_ease, beats, facing_vector, in_hand, on_feet, wander
from .standing import play_beats


def phoning(scene, take):
    """Talks on the phone, pacing to and fro (take 1) or standing about (take 2); the free hand talks too."""
    t, rng, s = scene.t, scene.rng, scene.hand
    if take == 1:
        path, heading = wander(scene, gap=(2.6, 3.6), distance=(700, 1300), turning=2.6)
    else:
        path, heading = wander(scene, gap=(2.8, 4.6), distance=(0, 350))
    moves = at_ease(scene, path, heading, glances=0.45)
    moves.look[:, 2] += SIGN[s] * 0.13
    moves.look[:, 1] += 0.06
    lower = rng.uniform(1.0, 1.5)
    down = replace(g.CAMERA_DOWN, pronate=0.9)
    free = [
        lambda: g.OPEN,
        lambda: g.on_hip(scene.actor),
        lambda: g.BEFORE_CHEST,
        lambda: g.POCKET,
        lambda: g.SCRATCH,
        lambda: g.CROSSED_UNDER,
    ]
    calls = [(lower, 0.9, g.PHONE)] if take == 2 else []
    moves.arms = {
        s: (down if take == 2 else g.PHONE, calls),
        scene.other: (g.HANG, play_beats(scene, scene.other, free, (1.7, 3.2), g.HANG, pause=0.3)),
    }
    moves.look[:, 1] += 0.35 * (1 - ease((t - lower) / 0.9)) * (take == 2)
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(scene.actor, trunk, legs, arms, [phone(scene, trunk, arms, s)])


def phone(scene, trunk, arms, side):
    """The phone lies along the palm: x is its thickness, z its length."""
    _, _, wrist, hand = pose_arm(scene.actor, trunk, side, arms[side])
    return Prop("phone", palm_point(scene.actor, wrist, hand, side), hand, (14.0, 72.0, 150.0))


def purchases(scene, take):
    """Picks a bag up from the floor, looks through it and carries it about."""
    t, rng, s, actor = scene.t, scene.rng, scene.hand, scene.actor
    grasp = rng.uniform(1.5, 2.1)
    path, heading = wander(scene, gap=(2.4, 3.6), distance=(300, 1000), turning=1.8)
    # Nobody walks off before the bag is in the hand: the wandering starts that much later.
    late = np.interp(t - grasp, t, np.arange(len(t)))
    path, heading = _sample(path, late), _sample(heading, late)
    moves = at_ease(scene, path, heading, glances=0.4)
    front, right = facing_vector(scene.heading), facing_vector(scene.heading - np.pi / 2)
    spot = scene.home + 330.0 * front + SIGN[s] * 170.0 * right
    grip_height = 400.0
    down = bump((t - grasp + 1.3) / 2.6)
    down = np.where(np.abs(t - grasp) < 1.3, down, 0.0)
    moves.drop = moves.drop + 0.24 * (actor.bone_mm["Knee"] + actor.bone_mm["Ankle"]) * down
    moves.tilt = moves.tilt + 0.75 * down
    moves.bend = moves.bend + 0.35 * down
    moves.look[:, 1] += 0.1 * down
    hanging = g.Gesture(
        "arm", (0.2, 0.04, -0.96), (0.3, -1.0, 0.0), 0.1, 0.1, wander=4.0, swings=True
    )
    carried = g.Gesture("arm", (-0.02, 0.52, -0.36), (0.6, -0.8, -0.8), 0.5, 0.4, wander=5.0)
    reach_for = g.Gesture(
        "world", (*spot, grip_height + 75.0), (0.6, -1.0, 0.2), 0.9, 0.0, wander=0.0
    )
    rummage = g.moving(
        g.Gesture("arm", (-0.22, 0.58, -0.42), (0.9, -0.4, -0.2), 0.9, 0.5),
        t,
        (0.03, 0.05, 0.06),
        1.1,
    )
    take_out = g.Gesture("arm", (-0.08, 0.60, -0.10), (0.8, -0.3, -0.8), 0.4, 0.4, wander=10.0)
    keys = {
        s: [
            (grasp - 1.1, 1.05, reach_for),
            (grasp + 0.12, 0.95, carried if take == 1 else hanging),
        ],
        scene.other: [],
    }
    looking = []
    for k, now in enumerate(beats(scene, (2.4, 3.2), grasp + 1.1)):
        search = k % 2 == 0 if take == 1 else k % 2 == 1
        keys[s].append((now, 0.8, carried if search else hanging))
        if search:
            keys[scene.other] += [
                (now + 0.1, 0.75, rummage),
                (now + 1.1, 0.6, take_out),
                (now + 1.75, 0.6, rummage),
            ]
        else:
            keys[scene.other].append((now + 0.1, 0.75, g.HANG))
        looking.append((now, 0.6, (0.0, 0.5 if search else 0.0, 0.0)))
    moves.look += keyed(t, np.zeros(3), looking)
    moves.arms = {s: (g.HANG, keys[s]), scene.other: (g.HANG, keys[scene.other])}
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(actor, trunk, legs, arms, [bag(scene, trunk, arms, s, grasp, moves.heading)])


def _sample(track, where):
    """Rows of a track at fractional indices."""
    low = np.floor(where).astype(int)
    high = np.minimum(low + 1, len(track) - 1)
    part = (where - low).reshape((-1,) + (1,) * (track.ndim - 1))
    return track[low] * (1 - part) + track[high] * part


def bag(scene, trunk, arms, side, grasp, heading):
    """A bag that waits on the floor until it is grasped and hangs from the hand after that."""
    _, _, wrist, hand = pose_arm(scene.actor, trunk, side, arms[side])
    grip = palm_point(scene.actor, wrist, hand, side)
    lying = grip[np.argmin(np.abs(scene.t - grasp))]
    held = (scene.t >= grasp)[:, None]
    upright = turn("z", heading)
    return Prop(
        "bag",
        np.where(held, grip, lying),
        upright,
        (300.0, 120.0, float(max(lying[2] - 5.0, 200.0))),
    )


def smoking(scene, take):
    """Stands and smokes: the hand goes to the mouth and sinks again."""
    _t, rng, s = scene.t, scene.rng, scene.hand
    path, heading = wander(scene, gap=(3.0, 5.0), distance=(0, 600))
    moves = at_ease(scene, path, heading)
    moves.arms = {
        s: smoke(scene, g.HANG),
        scene.other: (
            g.HANG,
            play_beats(
                scene,
                scene.other,
                [lambda: g.POCKET, lambda: g.CROSSED_UNDER, lambda: g.on_hip(scene.actor)],
                (2.5, 4.5),
                g.HANG,
                start=rng.uniform(0.3, 1.5),
            ),
        ),
    }
    puff = puffs(scene, moves.arms[s][1])
    moves.look[:, 1] -= 0.16 * puff
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(scene.actor, trunk, legs, arms, [cigarette(scene, trunk, arms, s)])


def smoke(scene, rest):
    """(first, keys) of the hand that smokes."""
    rng = scene.rng
    side_hold = g.Gesture("arm", (0.12, 0.36, -0.42), (0.5, -0.8, -1.0), -0.2, 0.1, wander=14.0)
    drag = g.Gesture("head", (38.0, 105.0, -105.0), (0.8, 0.2, -1.0), -0.25, 0.55, wander=2.0)
    keys = []
    for now in beats(scene, (2.6, 3.8), rng.uniform(0.2, 0.6)):
        away = now + rng.uniform(1.3, 1.8) / scene.tempo
        keys += [
            (now, 0.85 / scene.tempo, drag),
            (away, 0.9, side_hold if rng.uniform() < 0.6 else rest),
        ]
    return side_hold, keys


def puffs(scene, keys):
    """How far the smoke is being blown upwards, (n,), after each visit of the hand to the mouth."""
    return sum(
        bump((scene.t - start - 0.3) / 1.6)
        for start, _, gesture in keys
        if gesture.anchor != "head"
    )


def cigarette(scene, trunk, arms, side):
    """Between the first fingers, pointing away from the palm's back; z is its length."""
    prop = in_hand(scene, trunk, arms, side, "cigarette", (8.0, 8.0, 85.0), tilt=0.2)
    _, _, wrist, hand = pose_arm(scene.actor, trunk, side, arms[side])
    tip = wrist - 0.72 * scene.actor.hand_mm * hand[..., 2] + 30.0 * hand[..., 1]
    return replace(prop, origin_world=tip)


def photo(scene, take):
    """Takes pictures: raises the camera with both hands, crouches, looks at the result, turns to the next view."""
    t, rng, actor = scene.t, scene.rng, scene.actor
    path, heading = wander(scene, gap=(3.0, 4.0), distance=(150, 700), turning=2.4)
    moves = at_ease(scene, path, heading, glances=0.12)
    keys, body = [], []
    for k, now in enumerate(beats(scene, (3.0, 3.8), 0.2)):
        depth = rng.uniform(0.28, 0.40) if (k + take) % 2 == 0 else rng.uniform(0.0, 0.12)
        hold = now + rng.uniform(2.0, 2.4) / scene.tempo
        keys += [(now, 0.8, g.CAMERA_UP), (hold, 0.8, g.CAMERA_DOWN)]
        body += [(now, 1.0, (depth, 0.0)), (hold, 0.95, (0.0, 1.0))]
    body = keyed(t, (0.0, 1.0), body)
    crouch = body[:, 0]
    moves.drop = moves.drop + crouch * (actor.bone_mm["Knee"] + actor.bone_mm["Ankle"])
    moves.tilt = moves.tilt + 1.3 * crouch
    moves.bend = moves.bend + 0.12 + 0.25 * crouch
    moves.look[:, 1] += 0.42 * body[:, 1] - 1.2 * crouch
    moves.arms = {"r": (g.CAMERA_DOWN, keys), "l": (g.CAMERA_DOWN, keys)}
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(actor, trunk, legs, arms, [camera(scene, trunk, arms)])


def camera(scene, trunk, arms):
    """A camera between both palms; its y axis is the line of sight."""
    grips, hands = [], []
    for side in ("r", "l"):
        _, _, wrist, hand = pose_arm(scene.actor, trunk, side, arms[side])
        grips.append(palm_point(scene.actor, wrist, hand, side))
        hands.append(hand)
    middle = (grips[0] + grips[1]) / 2
    x = grips[0] - grips[1]
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    y = trunk.R_head[..., 1] - (trunk.R_head[..., 1] * x).sum(-1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return Prop("camera", middle, np.stack([x, y, np.cross(x, y)], axis=-1), (140.0, 70.0, 90.0))


def eating(scene, take):
    """Stands and eats from a plate in one hand (take 1; take 2 sits at a table)."""
    _t, s = scene.t, scene.hand
    path, heading = wander(scene, gap=(3.0, 4.6), distance=(0, 500))
    moves = at_ease(scene, path, heading, glances=0.7)
    plate_hold = g.Gesture("arm", (-0.12, 0.56, -0.34), (0.5, -0.8, -1.0), -1.1, 0.0, wander=4.0)
    moves.arms = {
        s: feed(
            scene, g.Gesture("arm", (-0.20, 0.60, -0.20), (0.8, -0.4, -0.8), 0.7, 0.3, wander=6.0)
        ),
        scene.other: (plate_hold, []),
    }
    moves.look[:, 1] += bites(scene, moves.arms[s][1])
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(
        scene.actor, trunk, legs, arms, [plate(scene, trunk, arms, scene.other, moves.heading)]
    )


def feed(scene, at_plate):
    """(first, keys) of the hand that carries bites from the plate to the mouth."""
    keys = []
    for now in beats(scene, (1.9, 2.6), scene.rng.uniform(0.1, 0.5)):
        keys += [(now, 0.7, g.MOUTH), (now + scene.rng.uniform(0.85, 1.1), 0.7, at_plate)]
    return at_plate, keys


def bites(scene, keys):
    """How far the head is down, (n,) rad: more while the hand is at the plate."""
    return keyed(
        scene.t, 0.3, [(now, 0.6, 0.12 if gesture is g.MOUTH else 0.32) for now, _, gesture in keys]
    )


def plate(scene, trunk, arms, side, heading):
    """A plate on the open palm, level."""
    _, _, wrist, hand = pose_arm(scene.actor, trunk, side, arms[side])
    on_palm = wrist - 0.5 * scene.actor.hand_mm * hand[..., 2] + np.array([0.0, 0.0, 30.0])
    return Prop("plate", on_palm, turn("z", heading), (210.0, 210.0, 22.0))
