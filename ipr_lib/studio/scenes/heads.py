"""Heads: skull, face, ears, hair and hats, in millimetres of a head of average size.

Frame: x to the person's right, y forward, z up, origin in the middle of the skull.
"""

from dataclasses import replace

import numpy as np

from .paint import Layer, Paint
from .shapes import ball, cone, pattern_frame

# The middle of the skull seen from the joint Head, which lies inside its top.
_FROM_HEAD_JOINT = np.array([0.0, -8.0, -56.0])
_AVERAGE_HEAD_BONE = 115.0
_FRIENDLY = 1.07  # heads a little larger than life: faces tell the front even in small pictures
_I = np.eye(3)


def skull_middle(actor, head_world, rotation_world):
    """World position of the middle of the skull, (3,) mm."""
    return head_world + rotation_world @ _FROM_HEAD_JOINT * (
        actor.bone_mm["Head"] / _AVERAGE_HEAD_BONE
    )


def head_parts(actor, look, head_world, rotation_world):
    """Head of an actor.

    Args:
        actor: Actor. look: Look.
        head_world: (3,) mm, the joint Head. rotation_world: (3, 3), columns right, forward, up.
    Returns:
        list of Part.
    """
    size = _FRIENDLY * actor.bone_mm["Head"] / _AVERAGE_HEAD_BONE
    middle = skull_middle(actor, head_world, rotation_world)
    pattern = pattern_frame(middle, rotation_world) / size
    face = face_paint(look)
    parts = []

    def add_ball(centre, radii, paint, tilt=_I):
        parts.append(
            ball(
                middle + rotation_world @ np.multiply(centre, size),
                rotation_world @ tilt,
                np.multiply(radii, size),
                paint,
                pattern,
            )
        )

    def add_cone(a, b, radius_a, radius_b, paint, flat=(1.0, 1.0)):
        parts.append(
            cone(
                middle + rotation_world @ np.multiply(a, size),
                middle + rotation_world @ np.multiply(b, size),
                radius_a * size,
                radius_b * size,
                paint,
                side=rotation_world[:, 0],
                flat=flat,
                pattern=pattern,
            )
        )

    add_ball((0, 0, 14), (77, 94, 98), face)
    add_cone((0, 22, -28), (0, 38, -78), 60, 34, face, flat=(1.06, 1.0))
    skin = Paint(look.skin)
    nose = Paint(look.skin, (Layer("disc", "#d0605a", 60.0, (0.0,), 0.16),))
    add_cone((0, 88, 8), (0, 103, -16), 9, 14.5, nose)
    for side in (1, -1):
        add_ball((side * 79, -6, -2), (11, 20, 28), skin)
    HAIR[look.hair_style](add_ball, add_cone, Paint(look.hair, shine=0.12))
    if look.hat is not None:
        _cap(add_ball, look.hat)
    return parts


def face_paint(look):
    """The painted face: cheeks, eyes, brows, mouth, and what the look adds."""
    layers = [Layer("pair", "#e0605c", 19.0, (47.0, -22.0, 0.8), 0.28)]
    if look.hair_style in _PAINTED_HAIR:
        height, nape = _PAINTED_HAIR[look.hair_style]
        layers.append(Layer("hairline", look.hair, height, (nape,)))
    if look.beard in ("full", "stubble"):
        layers.append(
            Layer("beard", look.hair, -34.0, (-46.0,), 1.0 if look.beard == "full" else 0.35)
        )
    layers += [
        Layer("smile", look.lips, 27.0, (-43.0, 12.0)),
        Layer("pair", "#fdfcf8", 16.0, (33.0, 9.0, 0.82)),
        Layer("pair", look.iris, 9.5, (31.5, 8.0, 1.1)),
        Layer("brows", look.hair, 8.0, (33.0, 36.0)),
    ]
    if look.beard in ("full", "moustache"):
        layers.append(Layer("moustache", look.hair, 9.0, (-32.0,)))
    if look.glasses:
        layers.append(Layer("rings", look.glasses, 24.0, (34.0, 7.0)))
    return Paint(look.skin, tuple(layers), shine=0.08)


# Hair painted on the skull, where little or none stands off it: (height over the brow, height at the nape).
_PAINTED_HAIR = {
    "fade": (62.0, -20.0),
    "short": (66.0, -38.0),
    "bun": (66.0, -44.0),
    "ponytail": (66.0, -44.0),
}


def _hair_short(add_ball, add_cone, paint):
    """Short, brushed up at the front."""
    add_ball((0, -12, 34), (83, 92, 92), paint)
    for x in (-44, 0, 44):
        add_ball((x, 62 - abs(x) * 0.35, 90 - abs(x) * 0.25), (34, 30, 26), paint)


def _hair_bob(add_ball, add_cone, paint):
    """A bob with a fringe."""
    add_ball((0, -14, 28), (90, 98, 96), paint)
    for x in (-46, -16, 16, 46):
        add_ball((x, 74 - abs(x) * 0.45, 62), (24, 24, 30), paint)
    for side in (1, -1):
        add_cone((side * 74, 2, 34), (side * 76, 8, -62), 30, 25, paint)
    add_cone((0, -56, 20), (0, -54, -58), 60, 48, paint, flat=(1.35, 0.8))


def _hair_curls(add_ball, add_cone, paint):
    """A cloud of curls."""
    add_ball((0, -22, 52), (104, 98, 92), paint)
    ring = np.linspace(0, 2 * np.pi, 10, endpoint=False) + np.pi / 10
    for angle in ring:
        x, z = 88 * np.sin(angle), 48 + 84 * np.cos(angle)
        if z > -20:
            add_ball((x, 6 if z > 60 else -20, z), (40, 44, 40), paint)
    for x in (-52, 0, 52):
        add_ball((x, 52, 100 - abs(x) * 0.3), (38, 34, 34), paint)
        add_ball((x, -84, 40), (46, 40, 50), paint)


def _hair_crown(add_ball, add_cone, paint):
    """Bald, with a wreath of hair above the ears."""
    for side in (1, -1):
        add_cone((side * 72, 0, 14), (side * 52, -66, 4), 17, 22, paint, flat=(0.8, 1.0))
    add_cone((52, -66, 4), (-52, -66, 4), 22, 22, paint)


def _hair_ponytail(add_ball, add_cone, paint):
    """Combed back into a ponytail."""
    add_ball((0, -12, 30), (82, 92, 90), paint)
    add_ball((0, 50, 84), (50, 36, 26), paint)
    add_ball((0, -108, 66), (20, 18, 20), Paint("#f07a2b"))
    add_cone((0, -122, 62), (0, -148, -40), 30, 20, paint)
    add_cone((0, -148, -40), (0, -136, -96), 20, 7, paint)


def _hair_bun(add_ball, add_cone, paint):
    """Combed up into a bun."""
    add_ball((0, -12, 30), (83, 92, 92), paint)
    add_ball((0, 46, 88), (54, 38, 28), paint)
    add_ball((0, -42, 136), (44, 44, 38), paint)


def _hair_fade(add_ball, add_cone, paint):
    """Very short: painted alone."""


HAIR = {
    "short": _hair_short,
    "bob": _hair_bob,
    "curls": _hair_curls,
    "crown": _hair_crown,
    "ponytail": _hair_ponytail,
    "bun": _hair_bun,
    "fade": _hair_fade,
}


def _cap(add_ball, paint):
    """A baseball cap with its peak to the front."""
    add_ball((0, -4, 52), (84, 100, 76), paint)
    add_ball((0, 92, 58), (62, 62, 9), replace(paint, layers=()))
    add_ball((0, -4, 128), (10, 10, 7), Paint("#ffd75e"))
