"""Actions on a chair, a stool or the floor: sitting, sitting down, eating at a table, smoking on a stool."""

import numpy as np

from ..acting import gestures as g
from ..acting.motion import SIDES, SIGN, bump, keyed, noise, turn
from ..acting.performance import Prop
from ..acting.posture import assemble, pose_trunk
from ..acting.staging import at_ease, beats, facing_vector, furniture, move_arms
from .handling import bites, cigarette, feed, puffs, smoke
from .seated_legs import chair_legs, floor_legs, play_legs, switch_legs
from .standing import play_beats


def seated(scene, seat, legs, body, arms, spot, heading):
    """Trunk, legs, arms of somebody on a seat.

    Args:
        scene: Scene. seat: its height, mm. legs: Leg by side. body: (n, 5) tilt, bend, side, twist, pelvis roll.
        arms: as in `Moves`, built with `at_ease`. spot: (2,). heading: rad.
    Returns:
        trunk, legs, arms.
    """
    t, actor, rng = scene.t, scene.actor, scene.rng
    ease_in = at_ease(scene, glances=0.8)
    tilt = body[:, 0] + 0.6 * (ease_in.tilt - 0.03)
    R = (
        turn("z", np.full(len(t), heading))
        @ turn("y", body[:, 4] + 0.5 * ease_in.roll)
        @ turn("x", -tilt)
    )
    pelvis = np.tile([*spot, seat + 95.0 * actor.girth], (len(t), 1))
    pelvis[:, :2] += noise(rng, t, 5.0, 5.0)[:, None] * facing_vector(np.full(len(t), heading))
    pelvis[:, 2] += 90.0 * np.abs(np.sin(R[:, 2, 0]))
    look = ease_in.look - np.stack(
        [0.3 * body[:, 3], 0.75 * (body[:, 0] + body[:, 1] - 0.1), 0 * t], axis=1
    )
    trunk = pose_trunk(
        actor,
        pelvis,
        R,
        ease_in.bend + body[:, 1],
        ease_in.side + body[:, 2],
        ease_in.twist + body[:, 3],
        look + scene_look(scene, arms),
    )
    return trunk, legs, move_arms(scene, trunk, legs, arms)


def scene_look(scene, arms):
    """Extra head turn (n, 3) that an action stored beside the arms, or none."""
    return arms.get("look", np.zeros((len(scene.t), 3)))


def chair(scene, spot, heading, seat, kind="chair"):
    """Chair or stool below somebody who sits at `spot`."""
    size = (450.0, 440.0, seat) if kind == "chair" else (360.0, 360.0, seat)
    ahead = 85.0 if kind == "chair" else 30.0
    return furniture(scene, kind, spot + ahead * facing_vector(heading), heading, size)


def sitting(scene, take):
    """Sits on a chair: talks with the hands, leans, crosses the legs, stretches them."""
    t, rng, actor = scene.t, scene.rng, scene.actor
    seat = float(
        np.clip(0.262 * (actor.bone_mm["Knee"] + actor.bone_mm["Ankle"]) / 0.5 - 25.0, 410, 480)
    )
    spot, heading = scene.home, scene.heading
    poses = chair_legs(actor, seat)
    names = [
        "flat",
        "over_" + scene.hand,
        "wide",
        "four_" + scene.other,
        "forward",
        "step",
        "tucked",
        "step_l",
    ]
    order = ["flat" if take == 1 else "wide"]
    if take == 2:
        names = [names[k] for k in (3, 0, 6, 1, 2, 5, 4, 7)]
    times = beats(scene, (2.0, 2.9), rng.uniform(0.2, 0.8))
    for k, _ in enumerate(times):
        if k < 4:
            options = [names[k % len(names)] if take == 2 else names[(k + 1) % len(names)]]
        else:
            options = [
                name
                for name in names
                if name != order[-1] and (name[-2:] not in ("_r", "_l") or "_" not in order[-1])
            ]
        order.append(str(rng.choice(options)))
    first, keys = switch_legs(poses, order, times, actor)
    legs = play_legs(scene, spot, heading, first, keys)
    moods = [
        (-0.10, 0.05, 0.0, 0.0, 0.0),
        (-0.30, 0.18, 0.0, 0.1, 0.0),
        (0.30, 0.25, 0.0, 0.0, 0.0),
        (0.05, -0.08, 0.12, 0.3, 0.04),
        (0.02, 0.0, -0.12, -0.35, -0.04),
        (0.12, 0.15, 0.0, -0.15, 0.0),
    ]
    body = keyed(
        t,
        moods[0],
        [(now, 1.0, moods[rng.integers(len(moods))]) for now in beats(scene, (1.9, 3.1), 0.6)],
    )
    rate = rng.uniform(1.1, 1.7)
    talk = [
        lambda: g.moving(g.OPEN, t, (0.04, 0.06, 0.06), rate),
        lambda: g.KNEE,
        lambda: g.LAP,
        lambda: g.moving(g.BEFORE_CHEST, t, (0.06, 0.02, 0.05), rate),
        lambda: g.CHIN,
        lambda: g.point_at(rng.uniform(-0.2, 0.8), rng.uniform(0.0, 0.4)),
        lambda: g.CROSSED_UNDER,
        lambda: g.SCRATCH,
    ]
    rest = {"r": g.LAP, "l": g.LAP}
    arms = {
        scene.hand: (g.LAP, play_beats(scene, scene.hand, talk, (1.4, 2.4), g.LAP, pause=0.25)),
        scene.other: (
            rest["l"],
            play_beats(scene, scene.other, talk[:4], (1.9, 3.2), g.KNEE, start=0.9, pause=0.4),
        ),
    }
    trunk, legs, arms = seated(scene, seat, legs, body, arms, spot, heading)
    return assemble(actor, trunk, legs, arms, [chair(scene, spot, heading, seat)])


def eating_at_table(scene, take):
    """Sits at a table and eats: one hand between plate and mouth, the other by the plate or at the cup."""
    t, _rng, actor, s = scene.t, scene.rng, scene.actor, scene.hand
    seat, top = 455.0, 730.0
    spot, heading = scene.home * (0.8, 0.7), scene.heading
    legs = play_legs(scene, spot, heading, chair_legs(actor, seat)["flat"], {"r": [], "l": []})
    front, right = facing_vector(heading), facing_vector(heading - np.pi / 2)

    def on_table(x, y, z):
        """World point on the table: x outwards for the eating hand, y from the pelvis, z above the top."""
        return np.array([*(spot + SIGN[s] * x * right + y * front), top + z])

    at_plate = g.Gesture(
        "world", on_table(115.0, 330.0, 95.0), (0.8, -0.6, -0.5), 0.9, 0.35, wander=5.0
    )
    by_plate = g.Gesture(
        "world",
        on_table(-190.0, 300.0, 45.0),
        (1.0, -0.6, -0.2),
        wander=3.0,
        fingers=(-0.5, 1.0, 0.0),
    )
    cup_spot = on_table(-230.0, 430.0, 0.0)
    at_cup = g.Gesture(
        "world", cup_spot - [*(60.0 * front), -60.0], (1.0, -0.6, -0.4), 0.1, 0.2, wander=1.0
    )
    first, keys = feed(scene, at_plate)
    other = play_beats(
        scene, scene.other, [lambda: at_cup, lambda: by_plate], (2.0, 3.4), by_plate, start=0.8
    )
    down = bites(scene, keys)
    eating = sum(bump((t - now) / 1.8) for now, _, gesture in keys if gesture is g.MOUTH)
    body = np.stack([0.06 + 0.10 * eating, 0.16 + 0.08 * eating, 0 * t, 0 * t, 0 * t], axis=1)
    look = np.stack([0 * t, 0.7 * down + 0.08, 0 * t], axis=1)
    arms = {s: (first, keys), scene.other: (by_plate, other), "look": look}
    trunk, legs, arms = seated(scene, seat, legs, body, arms, spot, heading)
    props = [
        chair(scene, spot, heading, seat),
        furniture(scene, "table", spot + 520.0 * front, heading, (1000.0, 620.0, top)),
    ]
    n = len(t)
    for kind, place, size in (
        ("plate", on_table(10.0, 390.0, 11.0), (230.0, 230.0, 22.0)),
        ("cup", cup_spot + [0.0, 0.0, 50.0], (78.0, 78.0, 100.0)),
    ):
        props.append(
            Prop(kind, np.tile(place, (n, 1)), np.tile(turn("z", heading)[0], (n, 1, 1)), size)
        )
    return assemble(actor, trunk, legs, arms, props)


def smoking_on_stool(scene, take):
    """Sits on a stool and smokes, leaning on a knee now and then, one leg crossed for a while."""
    t, rng, actor, s = scene.t, scene.rng, scene.actor, scene.hand
    seat = 470.0
    spot, heading = scene.home, scene.heading
    poses = chair_legs(actor, seat)
    times = beats(scene, (2.6, 4.0), rng.uniform(0.6, 1.4))
    names = ["flat", "over_" + s, "wide", "step", "flat", "forward"]
    order = [names[k % len(names)] for k in range(len(times) + 1)]
    first, keys = switch_legs(poses, order, times, actor)
    legs = play_legs(scene, spot, heading, first, keys)
    hand = smoke(scene, g.LAP)
    puff = puffs(scene, hand[1])
    moods = [
        (0.0, 0.1, 0.0, 0.0, 0.0),
        (0.28, 0.28, 0.0, 0.0, 0.0),
        (-0.06, 0.12, 0.0, 0.3, 0.0),
        (0.05, 0.1, 0.0, -0.3, 0.0),
    ]
    body = keyed(
        t, moods[0], [(now, 1.1, moods[rng.integers(4)]) for now in beats(scene, (2.2, 3.4), 0.4)]
    )
    look = np.stack([0 * t, -0.2 * puff, 0 * t], axis=1)
    other = play_beats(
        scene,
        scene.other,
        [lambda: g.KNEE, lambda: g.LAP, lambda: g.CROSSED_UNDER],
        (2.2, 3.6),
        g.LAP,
    )
    arms = {s: hand, scene.other: (g.LAP, other), "look": look}
    trunk, legs, arms = seated(scene, seat, legs, body, arms, spot, heading)
    props = [chair(scene, spot, heading, seat, "stool"), cigarette(scene, trunk, arms, s)]
    return assemble(actor, trunk, legs, arms, props)


# ---------------------------------------------------------------- on the floor

_FLOOR_BODY = {
    "up": (-0.12, 0.42, 0.0, 0.0, 0.0),
    "far_up": (-0.30, 0.25, 0.0, 0.0, 0.0),
    "straight": (-0.28, 0.22, 0.0, 0.0, 0.0),
    "tailor": (-0.05, 0.30, 0.0, 0.0, 0.0),
    "half": (-0.20, 0.25, 0.0, 0.15, 0.0),
    "side": (0.02, 0.15, 0.2, 0.2, -0.12),
    "lotus": (-0.08, 0.32, 0.0, -0.15, 0.0),
}


def sitting_down(scene, take):
    """Sits down on the floor and goes through postures there: knees up, legs crossed, stretched, to the side."""
    t, rng, actor = scene.t, scene.rng, scene.actor
    hip, length = actor.bone_mm["Hip"], actor.bone_mm["Knee"] + actor.bone_mm["Ankle"]
    spot, heading = scene.home * (0.75, 0.75), scene.heading
    poses = floor_legs(actor)
    down = rng.uniform(0.25, 0.6)
    pace = 1.0 / scene.tempo
    feet = 0.44 * length
    landed = down + 1.9 * pace
    side = scene.hand
    plans = [
        ["tailor", "straight", "side_" + side, "up", "half_" + scene.other],
        ["side_" + scene.other, "tailor", "half_" + side, "straight", "lotus_" + side],
    ]
    order = ["up"] + plans[take - 1]
    times = beats(scene, (1.9, 2.5), landed + 0.5)
    names = sorted(poses)
    while len(order) <= len(times):
        options = [name for name in names if name != order[-1]]
        order.append(str(rng.choice(options)))
    keys = {s: [] for s in SIDES}
    body_keys = []
    for before, name, now in zip(order, order[1:], times):
        for s in SIDES:
            # Crossed ankles: the nearer foot comes in first and goes out last.
            last = "l" if name == "tailor" else "r" if before == "tailor" else side
            late = 0.45 if s == last else 0.0
            slow = 1.3 if "side" in name + before else 0.95
            keys[s].append((now + late, slow * pace, poses[name][s], 60.0))
        tilt, bend, lean, twist, roll = _FLOOR_BODY[
            name.split("_")[0] if name != "far_up" else name
        ]
        turned = 1.0 if name.endswith("_r") else -1.0
        body_keys.append(
            (now, 1.1 * pace, (tilt, bend, turned * lean, turned * twist, turned * roll))
        )
    legs = play_legs(scene, spot, heading, poses["up"], keys)
    # Standing over the feet, down through the squat, back on the floor.
    lowest = 95.0 * actor.girth
    tall = actor.foot_mm[0] + 0.99 * length
    way = keyed(
        t,
        (feet + 20.0, tall),
        [
            (down, 1.25 * pace, (feet - 170.0, 0.46 * length + actor.foot_mm[0])),
            (down + 0.75 * pace, 1.15 * pace, (0.0, lowest)),
        ],
    )
    body = keyed(
        t,
        (0.03, 0.05, 0.0, 0.0, 0.0),
        [
            (down, 1.1 * pace, (0.75, 0.45, 0.0, 0.0, 0.0)),
            (down + 0.95 * pace, 1.0 * pace, (-0.05, 0.35, 0.0, 0.0, 0.0)),
            *body_keys,
        ],
    )
    ease_in = at_ease(scene, glances=0.8)
    R = turn("z", np.full(len(t), heading)) @ turn("y", body[:, 4]) @ turn("x", -body[:, 0])
    pelvis = np.concatenate([spot + way[:, :1] * facing_vector(heading), way[:, 1:]], axis=1)
    pelvis[:, 2] += hip * np.abs(np.sin(body[:, 4])) * 0.6
    look = ease_in.look - np.stack(
        [0.3 * body[:, 3], 0.7 * (body[:, 0] + body[:, 1] - 0.1), 0 * t], axis=1
    )
    trunk = pose_trunk(
        actor,
        pelvis,
        R,
        ease_in.bend + body[:, 1],
        ease_in.side + body[:, 2],
        ease_in.twist + body[:, 3],
        look,
    )
    arms = move_arms(
        scene, trunk, legs, floor_arms(scene, spot, heading, order, times, down, landed, pace)
    )
    return assemble(actor, trunk, legs, arms)


def floor_arms(scene, spot, heading, order, times, down, landed, pace):
    """Gestures on the floor: a hand goes down behind first, then hands on knees, floor or in the air."""
    _actor, rng, t = scene.actor, scene.rng, scene.t
    front, right = facing_vector(heading), facing_vector(heading - np.pi / 2)

    def on_floor(side, x, y):
        place = spot + SIGN[side] * x * right + y * front
        return g.Gesture(
            "world", np.array([*place, 45.0]), None, wander=0.0, fingers=(0.7, -0.7, 0.0)
        )

    forward = g.Gesture("arm", (0.05, 0.75, -0.35), (0.6, -0.5, -1.0), 0.9, 0.0)
    arms = {}
    for side in SIDES:
        behind = on_floor(side, 250.0, -230.0)
        keys = [
            (down, 0.9 * pace, forward),
            (down + 0.95 * pace, 0.85 * pace, behind if side == scene.hand else g.EMBRACE),
        ]
        for name, now in zip(order[1:], times):
            kind = name.split("_")[0]
            raised = kind in ("up", "far") or name in (f"half_{side}", f"lotus_{side}")
            leaning = [behind, g.EMBRACE if raised else g.KNEE, g.EMBRACE if raised else g.LAP]
            share = {
                "straight": (0.65, 0.25, 0.1),
                "far": (0.8, 0.2, 0.0),
                "side": (0.6, 0.3, 0.1),
            }.get(kind, (0.25, 0.5, 0.25))
            chosen = leaning[rng.choice(3, p=share)]
            if name == f"side_{side}":
                chosen = on_floor(side, 330.0, -60.0)
            keys.append((now + 0.1, 0.9, chosen))
            if rng.uniform() < 0.5:
                talk = [
                    g.CHIN,
                    g.moving(g.OPEN, t, (0.03, 0.05, 0.05), 1.3),
                    g.SCRATCH,
                    g.BEFORE_CHEST,
                ][rng.integers(4)]
                keys.append((now + 1.15, 0.75, talk))
        arms[side] = (g.HANG, keys)
    return arms
