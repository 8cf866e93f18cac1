"""From one frame of a performance to shapes: limbs, trunk, hands and feet about the joints, dressed in a look."""

from dataclasses import replace

import numpy as np

from ...geometry.skeleton import HUMAN36M
from .heads import head_parts, skull_middle
from .looks import LOOKS
from .paint import Layer, Paint
from .props import prop_parts
from .shapes import ball, cone, pattern_frame

SIDES = (("R_", "r_", 1.0), ("L_", "l_", -1.0))


def scene_parts(performance, frame, look=None):
    """Everything to draw in a frame: actor, companion and props.

    Args:
        performance: Performance. frame: 0-based.
        look: Look of the actor, or None for the one that belongs to the subject.
    Returns:
        list of Part.
    """
    parts = body_parts(performance, frame, look or LOOKS[performance.actor.subject])
    for prop in performance.props:
        parts += prop_parts(prop, frame)
    if performance.companion is not None:
        parts += scene_parts(performance.companion, frame)
    return parts


def body_parts(performance, frame, look):
    """The actor's body and clothes in a frame, as a list of Part; arguments as in `scene_parts`."""
    actor = performance.actor
    joints = {
        name: performance.joints_world[frame, i] for i, name in enumerate(HUMAN36M.names[:17])
    }
    frames = {name: rotation[frame] for name, rotation in performance.frames_world.items()}
    parts = _trunk(actor, look, joints, frames)
    for joint_prefix, frame_prefix, side in SIDES:
        limb = {
            name: joints[joint_prefix + name]
            for name in ("Hip", "Knee", "Ankle", "Shoulder", "Elbow", "Wrist")
        }
        parts += _leg(actor, look, limb, frames["pelvis"], frames[frame_prefix + "foot"], side)
        parts += _foot(actor, look, limb["Ankle"], frames[frame_prefix + "foot"], side)
        parts += _arm(actor, look, limb, frames["chest"], frames[frame_prefix + "hand"], side)
        parts += _hand(actor, look, limb["Wrist"], frames[frame_prefix + "hand"], side)
    return parts + head_parts(actor, look, joints["Head"], frames["head"])


def _trunk(actor, look, joints, frames):
    """Pelvis, belly, chest, shoulders and neck."""
    g = actor.girth
    pelvis, torso, neck = joints["Pelvis"], joints["Torso"], joints["Neck"]
    chest, hips = frames["chest"], frames["pelvis"]
    shirt, below = pattern_frame(neck, chest), pattern_frame(pelvis, hips)
    right, forward, up = chest.T
    wide = actor.bone_mm["Shoulder"] / 150
    depth = (1 + g) / 2  # a slight person is not flat, a heavy one not round
    parts = []
    # pelvis and seat
    half = 0.60 * actor.bone_mm["Hip"]
    a, b = pelvis + hips @ (half, -4, 18), pelvis + hips @ (-half, -4, 18)
    parts.append(
        cone(
            a,
            b,
            90 * depth,
            90 * depth,
            look.bottom,
            side=hips[:, 1],
            flat=(1.02, 1.0),
            pattern=below,
        )
    )
    for side in (1, -1):
        seat = pelvis + hips @ (side * 66, -40, -18)
        parts.append(ball(seat, hips, np.array([76, 70, 80]) * depth, look.bottom, below))
    # belly to chest
    waist = pelvis + hips @ (0, 2, 62)
    parts.append(
        cone(waist, torso, 112 * g, 108 * g, look.top, side=right, flat=(1.26, 0.92), pattern=shirt)
    )
    low, high = torso + chest @ (0, 4, 10), neck + chest @ (0, -6, -112)
    parts.append(
        cone(
            low,
            high,
            110 * depth,
            116 * depth,
            look.top,
            side=right,
            flat=(1.24 * wide, 0.90),
            pattern=shirt,
        )
    )
    if g > 1.1:
        parts.append(
            ball(
                torso + hips @ (0, 24, -60),
                hips,
                np.array([138, 112, 150]) * g / 1.15,
                look.top,
                shirt,
            )
        )
    for side in (1, -1):
        breast = neck + chest @ (side * 60, 38 * depth, -126)
        parts.append(ball(breast, chest, np.array([80, 66, 78]) * depth, look.top, shirt))
    # shoulders: a yoke across and a slope up to the neck on either side
    ends = {side: joints[prefix + "Shoulder"] for prefix, _, side in SIDES}
    for end in ends.values():
        inner = neck + 0.72 * (end - neck) - 12 * up
        parts.append(
            cone(
                neck - 34 * up,
                inner,
                62 * depth,
                50 * depth,
                look.top,
                side=forward,
                flat=(1.05, 1.0),
                pattern=shirt,
            )
        )
        parts.append(
            cone(
                neck + 18 * up - 6 * forward,
                end + 6 * up,
                42,
                40 * depth,
                look.top,
                side=forward,
                pattern=shirt,
            )
        )
    # the shirt's hem over the hips
    parts.append(
        ball(
            pelvis + hips @ (0, -8, 52),
            hips,
            np.array([172 * wide, 122, 84]) * depth,
            look.top,
            shirt,
        )
    )
    parts = [replace(part, blend=part.paint is look.top) for part in parts]
    # neck and collar
    middle = skull_middle(actor, joints["Head"], frames["head"])
    throat = middle + frames["head"] @ (0, -10, -52)
    parts.append(cone(neck + 8 * up, throat, 52 * depth, 48 * depth, Paint(look.skin), side=right))
    lean = throat - neck
    lean /= np.sqrt(lean @ lean)
    parts.append(
        cone(
            neck + 12 * up,
            neck + 12 * up + 20 * lean,
            58 * depth,
            55 * depth,
            Paint(look.collar),
            side=right,
        )
    )
    return parts


def clothed(cover, skin, reach):
    """Paint of a limb that its clothes cover for `reach` mm from the upper joint, with a seam at the end."""
    seam = Layer(
        "belt", cover.layers[-1].colour if cover.layers else skin, 5.0, (reach - 14.0,), 0.35
    )
    return Paint(
        cover.colour, (*cover.layers, seam, Layer("above", skin, reach)), shine=cover.shine
    )


def _bone_paint(cover, skin, length, reach):
    """Paint of one bone, given how far down it (share of its length) the clothes reach."""
    if reach <= 0:
        return Paint(skin)
    return cover if reach >= 1 else clothed(cover, skin, reach * length)


def _leg(actor, look, limb, hips, foot, side):
    """Thigh and shin."""
    g = actor.girth
    hip, knee, ankle = limb["Hip"], limb["Knee"], limb["Ankle"]
    outward = side * hips[:, 0]
    thigh, shin = actor.bone_mm["Knee"], actor.bone_mm["Ankle"]
    cloth = 7 if look.hem > 1.8 else 3
    upper = _bone_paint(look.leg, look.skin, thigh, look.hem)
    lower = _bone_paint(look.leg, look.sock if look.hem < 1 else look.skin, shin, look.hem - 1)
    if look.hem < 1:  # long socks under shorts
        lower = clothed(Paint(look.skin), look.sock, 0.42 * shin)
    inner = hip - side * 26 * hips[:, 0] - 24 * hips[:, 2]
    down = (ankle - knee) / shin
    back = -(foot[:, 1] - (foot[:, 1] @ down) * down)
    back /= max(np.sqrt(back @ back), 1e-6)
    frame = pattern_frame(
        knee, np.stack([side * foot[:, 0], np.cross(down, side * foot[:, 0]), down], axis=1)
    )
    calf_a, calf_b = knee + 0.18 * shin * down + 8 * back, knee + 0.42 * shin * down + 15 * back
    return [
        cone(inner, knee, 72 * g + cloth, 50 * g + cloth, upper, side=outward, flat=(1.0, 1.04)),
        cone(hip, knee, 62 * g + cloth, 49 * g + cloth, upper, side=outward),
        cone(
            knee,
            ankle,
            47 * g + cloth,
            32 * g + cloth,
            lower,
            side=side * foot[:, 0],
            pattern=frame,
        ),
        cone(calf_a, calf_b, 46 * g, 42 * g, lower, side=side * foot[:, 0], pattern=frame),
    ]


def _foot(actor, look, ankle, foot, side):
    """Shoe, with the toes to the front and a slightly fuller inner ball."""
    height, toe, heel = actor.foot_mm
    sole = pattern_frame(ankle - height * foot[:, 2], foot)

    def at(x, y, z):
        return ankle + foot @ (side * x, y, z - height)

    right = foot[:, 0]
    return [
        cone(
            at(0, 34 - heel, 34),
            at(-3, 0.62 * toe, 32),
            34,
            32,
            look.shoe,
            side=right,
            flat=(1.08, 1.0),
            pattern=sole,
        ),
        cone(
            at(-5, 0.52 * toe, 30),
            at(-3, toe - 28, 27),
            30,
            27,
            look.shoe,
            side=right,
            flat=(1.42, 1.0),
            pattern=sole,
        ),
        cone(
            at(0, -8, height - 4),
            at(-2, 0.44 * toe, 40),
            38,
            28,
            look.shoe,
            side=right,
            flat=(1.0, 1.0),
            pattern=sole,
        ),
        cone(
            at(0, -6, height + 26),
            at(0, -6, height - 6),
            36 * actor.girth,
            37,
            Paint(look.sock),
            side=right,
        ),
    ]


def _arm(actor, look, limb, chest, hand, side):
    """Upper arm and forearm."""
    g = actor.girth
    shoulder, elbow, wrist = limb["Shoulder"], limb["Elbow"], limb["Wrist"]
    cloth = 5
    upper = _bone_paint(look.arm, look.skin, actor.bone_mm["Elbow"], look.sleeve)
    lower = _bone_paint(look.arm, look.skin, actor.bone_mm["Wrist"], look.sleeve - 1)
    swell = shoulder + 0.42 * (elbow - shoulder)
    return [
        cone(
            shoulder,
            swell,
            47 * g + cloth,
            43 * g + cloth,
            upper,
            side=side * chest[:, 0],
            pattern=_along(shoulder, elbow, side * chest[:, 0]),
        ),
        cone(
            swell,
            elbow,
            43 * g + cloth,
            35 * g + cloth,
            upper,
            side=side * chest[:, 0],
            pattern=_along(shoulder, elbow, side * chest[:, 0]),
        ),
        cone(elbow, wrist, 37 * g + cloth, 27 * g + cloth, lower, side=side * hand[:, 0]),
    ]


def _along(a, b, side):
    """Pattern frame of a bone from a to b, (3, 4)."""
    guide = cone(a, b, 1.0, 1.0, None, side=side)
    return guide.pattern


def _hand(actor, look, wrist, hand, side):
    """Palm, a block of fingers slightly curled, and the thumb."""
    length = actor.hand_mm
    size = length / 182
    skin = Paint(look.skin)
    fingers = replace(skin, layers=(Layer("pinstripes", "#3a1d12", 15.0, (0.16,), 0.28),))

    def at(palmward, forward, down):
        return wrist + hand @ (-side * palmward * length, forward * length, -down * length)

    width = hand[:, 1]
    return [
        cone(
            at(0.0, 0.0, 0.06),
            at(0.01, 0.0, 0.46),
            29 * size,
            35 * size,
            skin,
            side=width,
            flat=(1.1, 0.55),
        ),
        cone(
            at(0.01, 0.0, 0.50),
            at(0.08, 0.0, 0.74),
            32 * size,
            30 * size,
            fingers,
            side=width,
            flat=(1.15, 0.46),
        ),
        cone(
            at(0.08, 0.0, 0.74),
            at(0.20, 0.0, 0.86),
            29 * size,
            24 * size,
            fingers,
            side=width,
            flat=(1.1, 0.46),
        ),
        cone(at(0.02, 0.10, 0.14), at(0.06, 0.26, 0.34), 15 * size, 13 * size, skin),
        cone(at(0.06, 0.26, 0.34), at(0.08, 0.28, 0.50), 13 * size, 10 * size, skin),
    ]
