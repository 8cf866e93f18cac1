"""Actions that go round the room: walking, walking a dog, walking together."""

from dataclasses import replace

import numpy as np

from ..acting import gestures as g
from ..acting.actors import ACTORS
from ..acting.motion import FPS, SIGN, apply, ease, keyed, noise, turn
from ..acting.performance import Prop
from ..acting.posture import assemble, palm_point, pose_arm
from ..acting.staging import at_ease, beats, facing_vector, make_scene, on_feet


def loop(centre, radii, turned, eight=False):
    """A closed way over the floor, finely sampled.

    Args:
        centre, radii: (2,) mm. turned: +1 counter-clockwise, -1 clockwise. eight: figure of eight instead of an ellipse.
    Returns:
        function of distance gone (n,) mm -> path (n, 2), heading (n,), both periodic (the heading winds on).
    """
    angle = np.linspace(0.0, 2 * np.pi, 6001)
    first = np.sin(2 * angle) if eight else np.cos(angle)
    points = centre + radii * np.stack([first, np.sin(angle)], axis=1)[:: int(turned)]
    steps = np.diff(points, axis=0)
    gone = np.concatenate([[0.0], np.cumsum(np.hypot(*steps.T))])
    headings = np.unwrap(np.arctan2(-steps[:, 0], steps[:, 1]))
    winding = 0.0 if eight else 2 * np.pi * turned
    middle = (gone[1:] + gone[:-1]) / 2
    middle = np.concatenate([[middle[-1] - gone[-1]], middle, [middle[0] + gone[-1]]])
    headings = np.concatenate([[headings[-1] - winding], headings, [headings[0] + winding]])

    def along(distance):
        rounds, rest = np.divmod(distance, gone[-1])
        path = np.stack([np.interp(rest, gone, points[:, axis]) for axis in (0, 1)], axis=1)
        return path, np.interp(rest, middle, headings) + rounds * winding

    return along


def gone_by(scene, speed, stops=()):
    """Distance walked, (n,) mm, at about `speed` mm/s; `stops` are (start, duration) s of standing still."""
    t = scene.t
    pace = speed * (1.0 + noise(scene.rng, t, 0.04, 9.0))
    for start, duration in stops:
        pace = pace * (
            1.0 - ease((t - start) / 1.0) * (1.0 - ease((t - start - duration + 1.0) / 1.0))
        )
    return np.cumsum(pace) / FPS


def stride(scene, moves, speed):
    """Settle how a walk looks: length of a step by speed and leg, sway, arms."""
    leg = scene.actor.bone_mm["Knee"] + scene.actor.bone_mm["Ankle"]
    moves.slot = float(np.clip(0.62 - 0.11 * (speed / leg - 0.9), 0.50, 0.66) / scene.tempo**0.5)
    moves.shift = 24.0
    moves.drop = moves.drop + 8.0
    moves.bend = moves.bend + 0.03
    return moves


def walking(scene, take):
    """Walks round and round; the second take the other way, for some a figure of eight."""
    rng = scene.rng
    eight = take == 2 and rng.uniform() < 0.5
    # An eight that is slim bends no tighter at its sides than at its ends.
    radii = rng.uniform(0.88, 1.0, 2) * ((640.0, 1550.0) if eight else (1150.0, 1500.0))
    speed = rng.uniform(860.0, 1080.0) * scene.tempo
    way = loop(
        rng.uniform(-1, 1, 2) * (250.0, 300.0),
        radii,
        rng.choice([-1, 1]) if eight else 3 - 2 * take,
        eight,
    )
    path, heading = way(rng.uniform(0, 8000.0) + gone_by(scene, speed * (0.85 if eight else 1.0)))
    scene = replace(scene, width=(1.12 if eight else 0.9) * scene.width)
    moves = stride(scene, at_ease(scene, path, heading, glances=0.7), speed)
    moves.look[:, 0] += 0.25 * _bend_of(heading)
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(scene.actor, trunk, legs, arms)


def _bend_of(heading):
    """How the way turns, rad/s: eyes go into the bend."""
    return np.gradient(heading) * FPS


def walk_dog(scene, take):
    """Walks a dog on a leash; now and then both stop and the dog is patted."""
    t, rng, s, actor = scene.t, scene.rng, scene.hand, scene.actor
    turned = rng.choice([-1, 1])
    speed = rng.uniform(720.0, 900.0) * scene.tempo
    stops = [
        (now, rng.uniform(3.4, 4.2))
        for now in beats(scene, (6.5, 9.0), rng.uniform(2.0, 3.6) + 1.0 * (take - 1))
    ]
    gone = rng.uniform(0, 8000.0) + gone_by(scene, speed, stops)
    way = loop(rng.uniform(-1, 1, 2) * 150.0, rng.uniform(0.9, 1.0, 2) * (1050.0, 1350.0), turned)
    path, heading = way(gone)
    dog_path, dog_heading = way(gone + 560.0 + noise(rng, t, 50.0, 4.0))
    dog_path = dog_path + SIGN[s] * (330.0 + noise(rng, t, 30.0, 3.5))[:, None] * facing_vector(
        dog_heading - np.pi / 2
    )
    tall = rng.uniform(430.0, 600.0)
    dog_size = (0.42 * tall, 1.35 * tall, tall)
    scene = replace(scene, width=0.92 * scene.width)
    moves = stride(scene, at_ease(scene, path, heading, glances=0.6), speed)
    to_dog = dog_path - path
    aside = np.arctan2(-to_dog[:, 0], to_dog[:, 1]) - heading
    aside = (aside + np.pi) % (2 * np.pi) - np.pi
    down = sum(_plateau(t, start + 0.9, start + length - 0.4, 1.1) for start, length in stops)
    moves.heading = heading + 0.85 * aside * down
    leg = actor.bone_mm["Knee"] + actor.bone_mm["Ankle"]
    moves.drop = moves.drop + 0.2 * leg * down
    moves.tilt = moves.tilt + 0.62 * down
    moves.bend = moves.bend + 0.38 * down
    watching = keyed(
        t, 0.0, [(now, 0.6, float(rng.uniform() < 0.5)) for now in beats(scene, (1.5, 3.0), 0.0)]
    )
    moves.look[:, 0] += 0.5 * aside * watching * (1 - down)
    moves.look[:, 1] += 0.3 * watching * (1 - down)
    on_leash = g.Gesture(
        "arm", (0.14, 0.34, -0.80), (0.4, -1.0, -0.2), 0.5, 0.2, wander=22.0, swings=False
    )
    front = facing_vector(dog_heading)
    back = np.concatenate(
        [dog_path - 0.02 * tall * front, np.full((len(t), 1), tall * 0.82 + 40.0)], axis=1
    )
    stroke = (
        np.sin(2 * np.pi * 0.8 * t)[:, None]
        * 70.0
        * np.concatenate([front, np.zeros((len(t), 1))], axis=1)
    )
    pat = g.Gesture("world", back + stroke, (0.8, -0.6, 0.3), 1.2, 0.1, wander=3.0)
    keys = []
    for start, length in stops:
        keys += [(start + 0.9, 1.1, pat), (start + length - 0.5, 0.9, g.HANG)]
    moves.arms = {s: (on_leash, []), scene.other: (g.HANG, keys)}
    trunk, legs, arms = on_feet(scene, moves)
    dog = Prop(
        "dog",
        np.concatenate([dog_path, np.zeros((len(t), 1))], axis=1),
        turn("z", dog_heading),
        dog_size,
        {"phase": gone / (1.15 * tall)},
    )
    return assemble(actor, trunk, legs, arms, [dog, leash(scene, trunk, arms, s, dog)])


def _plateau(t, start, end, rise):
    """0, then 1 from start + rise to end, then 0 again, eased."""
    return ease((t - start) / rise) * (1.0 - ease((t - end) / rise))


def leash(scene, trunk, arms, side, dog):
    """From the hand to the dog's collar."""
    _, _, wrist, hand = pose_arm(scene.actor, trunk, side, arms[side])
    collar = dog.origin_world + apply(
        dog.rotation_world, [0.0, 0.36 * dog.size_mm[1], 0.80 * dog.size_mm[2]]
    )
    return Prop(
        "leash", palm_point(scene.actor, wrist, hand, side), hand, (6.0, 6.0, 6.0), {"end": collar}
    )


def walk_together(scene, take):
    """Walks round beside another actor, both talking to each other."""
    rng = scene.rng
    others = [subject for subject in ACTORS if subject != scene.actor.subject]
    subject = int(rng.choice(others))
    turned = int(rng.choice([-1, 1])) * (3 - 2 * take)
    speed = rng.uniform(750.0, 870.0)
    centre = rng.uniform(-1, 1, 2) * (40.0, 180.0)
    start, beside = rng.uniform(0, 8000.0), rng.uniform(740.0, 830.0)
    inner = 1.0 if rng.uniform() < 0.5 else -1.0
    way = loop(centre, np.array([1120.0, 1320.0]), turned)
    path, heading = way(start + gone_by(scene, speed))
    left = facing_vector(heading + np.pi / 2)
    partner = make_scene(subject, 16, take, 0, int(rng.integers(2**31)))
    partner = replace(partner, t=scene.t)
    mine = _walk_beside(scene, path + inner * beside / 2 * left, heading, speed, -inner)
    theirs = _walk_beside(partner, path - inner * beside / 2 * left, heading, speed, inner)
    return replace(mine, companion=theirs)


def _walk_beside(scene, path, heading, speed, to_left):
    """One of two who walk side by side, the other one to the left (+1) or to the right (-1)."""
    t, rng = scene.t, scene.rng
    scene = replace(scene, width=0.9 * scene.width)
    moves = stride(scene, at_ease(scene, path, heading, glances=0.3), speed)
    moves.slot = moves.slot * rng.uniform(0.97, 1.06)
    talk, arms = [], []
    near, far = ("l", "r") if to_left > 0 else ("r", "l")
    chat = [
        g.moving(g.OPEN, t, (0.04, 0.06, 0.06), 1.3),
        g.moving(g.BEFORE_CHEST, t, (0.05, 0.0, 0.07), 1.5),
        g.BENT,
    ]
    for now in beats(scene, (1.5, 2.8), rng.uniform(0.0, 1.5)):
        facing = rng.uniform() < 0.55
        talk.append((now, 0.6, (to_left * rng.uniform(0.5, 0.9) if facing else 0.0, 0.0, 0.0)))
        arms.append(
            (now, 0.85, chat[rng.integers(3)] if facing and rng.uniform() < 0.6 else g.HANG)
        )
    moves.look += keyed(t, np.zeros(3), talk)
    moves.arms = {near: (g.HANG, []), far: (g.HANG, arms)}
    trunk, legs, arms = on_feet(scene, moves)
    return assemble(scene.actor, trunk, legs, arms)
