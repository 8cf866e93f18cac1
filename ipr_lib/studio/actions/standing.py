"""Actions on one's feet, hands empty: pointing, talking, greeting, posing, waiting."""

from dataclasses import replace

import numpy as np

from ..acting import gestures as g
from ..acting.motion import SIGN, bump, keyed
from ..acting.posture import assemble
from ..acting.staging import at_ease, beats, facing_vector, on_feet, wander


def play_beats(scene, side, makers, gap, rest, start=0.2, pause=0.4, times=None):
    """Keys of one arm: at each beat another gesture, now and then back to rest.

    Args:
        scene: Scene. side: "r" or "l".
        makers: functions () -> Gesture, chosen at random, not twice in a row.
        gap: (least, most) s between beats. rest: Gesture between the others.
        start: s of the first beat. pause: probability of resting at a beat.
        times: s of the beats, instead of `gap` and `start`.
    Returns:
        keys for `Moves.arms`.
    """
    keys, last = [], -1
    for now in beats(scene, gap, start) if times is None else times:
        choice = int(scene.rng.integers(len(makers)))
        choice = (choice + 1) % len(makers) if choice == last else choice
        resting = scene.rng.uniform() < pause and last >= 0
        last = -1 if resting else choice
        keys.append(
            (
                now,
                scene.rng.uniform(0.62, 0.85) / scene.tempo,
                rest if resting else makers[choice](),
            )
        )
    return keys


def directions(scene, take):
    """Shows the way: points here and there with either hand, head and chest going along."""
    t, rng = scene.t, scene.rng
    path, heading = wander(scene, gap=(3.0, 4.5), distance=(0, 450))
    moves = at_ease(scene, path, heading, glances=0.35)
    keys, looks, twists = {"r": [], "l": []}, [], []
    for k, now in enumerate(beats(scene, (1.5, 2.4), 0.15)):
        side = scene.hand if k == 0 or rng.uniform() < 0.68 else scene.other
        azimuth, height = rng.uniform(-0.5, 1.45), rng.uniform(-0.15, 0.55)
        hold = rng.uniform(0.9, 1.5) / scene.tempo
        swift = rng.uniform(0.65, 0.8) / scene.tempo
        keys[side] += [
            (now, swift, g.point_at(azimuth, height, rng.uniform(0.95, 0.985))),
            (now + hold, swift, g.BENT if rng.uniform() < 0.4 else g.HANG),
        ]
        turn_to = -SIGN[side] * azimuth
        looks.append((now - 0.1, 0.6, (0.55 * turn_to, -0.15 * height, 0.0)))
        twists.append((now, 0.8, 0.28 * turn_to))
    moves.look += keyed(t, (0.0, 0.0, 0.0), looks)
    moves.twist += keyed(t, 0.0, twists)
    moves.arms = {side: (g.HANG, keys[side]) for side in keys}
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(scene.actor, trunk, legs, arms)


def discussion(scene, take):
    """Talks with both hands, leaning in and stepping about."""
    t, rng = scene.t, scene.rng
    path, heading = wander(scene, gap=(2.5, 4.5), distance=(0, 600), turning=1.6)
    moves = at_ease(scene, path, heading, glances=1.0)
    rates = rng.uniform(1.1, 1.9, 4)
    beat = 0.07 * scene.size
    talk = [
        lambda: g.moving(g.OPEN, t, (0.05, beat, beat), rates[0], rng.uniform(0, 6)),
        lambda: g.moving(g.BEFORE_CHEST, t, (0.08, 0.03, beat), rates[1], rng.uniform(0, 6)),
        lambda: g.moving(g.BENT, t, (0.02, beat, beat), rates[2], rng.uniform(0, 6)),
        lambda: g.moving(
            g.point_at(rng.uniform(-0.2, 0.6), -0.1, 0.82), t, (0.0, 0.02, beat), rates[3]
        ),
        lambda: g.HEART,
        lambda: g.CHIN,
    ]
    times = beats(scene, (1.1, 2.2), 0.0)
    together = [now + rng.uniform(0.0, 0.15) for now in times]
    moves.arms = {
        scene.hand: (
            g.BENT,
            play_beats(scene, scene.hand, talk, None, g.BENT, pause=0.12, times=times),
        ),
        scene.other: (
            g.HANG,
            play_beats(scene, scene.other, talk[:4], None, g.HANG, pause=0.35, times=together),
        ),
    }
    moves.bend += 0.05 + keyed(t, 0.0, [(now, 0.9, rng.uniform(-0.06, 0.2)) for now in times])
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(scene.actor, trunk, legs, arms)


def greeting(scene, take):
    """Waves, bows, offers a hand, opens both arms."""
    t, rng, s = scene.t, scene.rng, scene.hand
    path, heading = wander(scene, gap=(3.2, 4.5), distance=(0, 500), turning=2.2)
    moves = at_ease(scene, path, heading, glances=0.5)
    arms = {"r": [], "l": []}
    nod, bow = np.zeros_like(t), np.zeros_like(t)
    order = ["wave", "bow", "shake", "both"] if take == 1 else ["shake", "wave", "both", "bow"]
    for k, now in enumerate(beats(scene, (2.1, 2.7), 0.0)):
        kind = order[k % 4] if k < 4 else str(rng.choice(order))
        swift = rng.uniform(0.62, 0.75) / scene.tempo
        hold = now + rng.uniform(1.4, 1.7) / scene.tempo
        if kind == "wave":
            arms[s] += [
                (now, swift, g.waving(t, rng.uniform(1.4, 1.9), rng.uniform(0.25, 0.6))),
                (hold, swift, g.HANG),
            ]
        elif kind == "both":
            up = g.waving(t, rng.uniform(1.2, 1.6), 0.5) if rng.uniform() < 0.6 else g.OPEN
            for side in arms:
                arms[side] += [(now, swift, up), (hold, swift, g.HANG)]
        elif kind == "shake":
            shaking = g.moving(g.SHAKE_HAND, t, (0.0, 0.0, 0.07), rng.uniform(1.6, 2.1))
            arms[s] += [(now, swift, shaking), (hold, swift, g.HANG)]
            nod += 0.16 * bump((t - now) / 1.6)
        else:
            bow += rng.uniform(0.55, 0.95) * bump((t - now) / 2.1)
            if rng.uniform() < 0.5:
                arms[s] += [(now, swift, g.HEART), (hold, swift, g.HANG)]
    moves.tilt += 0.6 * bow + 0.5 * nod
    moves.bend += 0.45 * bow + 0.4 * nod
    moves.look[:, 1] += 0.25 * bow
    moves.arms = {side: (g.HANG, arms[side]) for side in arms}
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(scene.actor, trunk, legs, arms)


def posing(scene, take):
    """Strikes one strong pose after another and holds each."""
    t, rng, actor = scene.t, scene.rng, scene.actor
    hips, both = g.on_hip(actor), ("r", "l")
    poses = [  # acting arm, other arm, bend, side, twist, roll, drop
        (hips, hips, -0.08, 0.0, 0.0, 0.0, 5),
        (g.STRONG, g.STRONG, -0.1, 0.0, 0.15, 0.0, 40),
        (g.OVERHEAD, hips, -0.05, -0.22, 0.1, 0.09, 10),
        (g.CROSSED_OVER, g.CROSSED_UNDER, -0.04, 0.0, 0.3, 0.0, 5),
        (g.point_at(0.9, 0.85), g.point_at(1.2, -0.6), -0.05, 0.12, -0.3, 0.0, 70),
        (g.SIDEWAYS, g.SIDEWAYS, -0.08, 0.0, 0.0, 0.0, 10),
        (g.SCRATCH, hips, 0.0, -0.15, -0.25, 0.08, 10),
        (g.OVERHEAD, g.OVERHEAD, -0.16, 0.0, 0.0, 0.0, 0),
        (g.CHIN, g.CROSSED_UNDER, 0.1, 0.0, 0.2, -0.06, 5),
        (g.point_at(0.1, 0.15), g.behind_back(actor), 0.1, 0.0, 0.35, 0.0, 150),
        (g.BROW, hips, 0.12, 0.0, -0.35, 0.05, 40),
    ]
    path, heading = wander(scene, gap=(2.6, 3.4), distance=(0, 300), turning=2.4)
    scene = replace(scene, width=scene.width * rng.uniform(1.1, 1.6))
    moves = at_ease(scene, path, heading, glances=0.5)
    arms, body, looks, order = {side: [] for side in both}, [], [], []
    for now in beats(scene, (1.7, 2.5), -0.6):
        order = order or list(rng.permutation(len(poses)))
        first, second, bend, side, twist, roll, drop = poses[order.pop()]
        s = SIGN[scene.hand] * rng.choice([-1.0, 1.0], p=[0.3, 0.7])
        lead, follow = ("r", "l") if s > 0 else ("l", "r")
        swift = rng.uniform(0.75, 0.95) / scene.tempo
        arms[lead].append((now, swift, first))
        arms[follow].append((now + 0.08, swift, second))
        body.append((now, swift, (bend, s * side, s * twist, s * roll, drop)))
        looks.append(
            (
                now,
                swift,
                (-0.7 * s * twist + rng.normal(0, 0.25), rng.uniform(-0.2, 0.05), -s * side),
            )
        )
    body = keyed(t, np.zeros(5), body)
    moves.bend, moves.side, moves.twist = (
        moves.bend + body[:, 0],
        moves.side + body[:, 1],
        moves.twist + body[:, 2],
    )
    moves.roll, moves.drop = moves.roll + body[:, 3], moves.drop + body[:, 4]
    moves.look += keyed(t, np.zeros(3), looks)
    moves.arms = {side: (g.HANG, arms[side]) for side in both}
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(actor, trunk, legs, arms)


def waiting(scene, take):
    """Waits: weight from leg to leg, a look at the watch, arms crossed, hands on the hips, a few steps."""
    t, rng, actor = scene.t, scene.rng, scene.actor
    path, heading = wander(
        scene, gap=(2.8, 4.4), distance=(0, 800) if take == 1 else (0, 350), turning=2.3
    )
    moves = at_ease(scene, path, heading, glances=1.3)
    hips, back = g.on_hip(actor), g.behind_back(actor)
    poses = [
        (g.CROSSED_OVER, g.CROSSED_UNDER, 0.02),
        (g.HANG, g.WATCH, 0.1),
        (hips, hips, -0.06),
        (back, back, -0.06),
        (hips, g.HANG, 0.0),
        (g.HANG, g.HANG, 0.0),
        (g.POCKET, g.POCKET, 0.04),
        (g.SCRATCH, g.HANG, 0.04),
    ]
    arms, body, order = {"r": [], "l": []}, [], [1, 0] if take == 1 else [2, 1]
    lean = 0.0
    for now in beats(scene, (1.9, 2.9), 0.1):
        order = order or list(rng.permutation(len(poses)))
        index = order.pop()
        first, second, bend = poses[index]
        swift = rng.uniform(0.75, 1.0) / scene.tempo
        arms[scene.hand].append((now, swift, first))
        arms[scene.other].append((now + 0.06, swift, second))
        lean = -np.sign(lean or 1.0) * rng.uniform(0.4, 1.0)
        watch = float(index == 1)
        body.append((now, swift, (bend, lean, 0.3 * SIGN[scene.other] * -watch, 0.42 * watch)))
    body = keyed(t, np.zeros(4), body)
    moves.bend = moves.bend + body[:, 0]
    moves.roll = moves.roll + 0.075 * body[:, 1]
    moves.side = moves.side - 0.085 * body[:, 1]
    right = facing_vector(moves.heading - np.pi / 2)
    moves.lean = 45.0 * body[:, 1:2] * right
    moves.look[:, :2] += body[:, 2:]
    moves.arms = {side: (g.HANG, arms[side]) for side in arms}
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(actor, trunk, legs, arms)
