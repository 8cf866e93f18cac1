"""Furniture, things in the hand, the dog and its leash as shapes."""

import numpy as np

from .paint import Layer, Paint
from .shapes import ball, box, cone, pattern_frame

WOOD = Paint("#9c6a3c", (Layer("hoops", "#8a5a31", 34.0, (0.3,), 0.5),), shine=0.12)
WOOD_DARK = Paint("#6f4526", shine=0.12)
CUSHION = Paint("#3f8f8a", (Layer("checks", "#57aaa2", 70.0, (), 0.5),))
METAL = Paint("#c4c8cf", shine=0.4)
BLACK = Paint("#202226", shine=0.3)


def prop_parts(prop, frame):
    """Shapes of a prop in a frame.

    Args:
        prop: Prop; a kind without a drawing of its own becomes a plain box of its size.
        frame: 0-based.
    Returns:
        list of Part.
    """
    extra = {name: values[frame] for name, values in prop.extra.items()}
    maker = Maker(prop.origin_world[frame], prop.rotation_world[frame])
    _DRAWINGS.get(prop.kind, _parcel)(maker, *map(float, prop.size_mm), **extra)
    return maker.parts


class Maker:
    """Collects shapes given in a prop's own axes: x right, y forward, z up, mm from its origin."""

    def __init__(self, origin_world, rotation_world):
        self.origin, self.rotation = (
            np.asarray(origin_world, float),
            np.asarray(rotation_world, float),
        )
        self.pattern = pattern_frame(self.origin, self.rotation)
        self.parts = []

    def world(self, point):
        """World position of a point in the prop's axes, (3,) mm."""
        return self.origin + self.rotation @ np.asarray(point, float)

    def local(self, point_world):
        """The inverse of `world`."""
        return self.rotation.T @ (np.asarray(point_world, float) - self.origin)

    def box(self, centre, half, paint):
        self.parts.append(box(self.world(centre), self.rotation, half, paint, self.pattern))

    def ball(self, centre, radii, paint):
        self.parts.append(ball(self.world(centre), self.rotation, radii, paint, self.pattern))

    def cone(self, a, b, radius_a, radius_b, paint, flat=(1.0, 1.0)):
        self.parts.append(
            cone(
                self.world(a),
                self.world(b),
                radius_a,
                radius_b,
                paint,
                side=self.rotation[:, 0],
                flat=flat,
                pattern=self.pattern,
            )
        )


def _legs(make, x, y, top, radius, paint, splay=1.08):
    for sx in (1, -1):
        for sy in (1, -1):
            make.cone(
                (sx * x, sy * y, top),
                (sx * x * splay, sy * y * splay, radius * 0.7),
                radius,
                radius * 0.7,
                paint,
            )


def _longest(width, depth, height):
    """From the middle of a box to the end of its longest side, (3,) mm."""
    size = np.array([width, depth, height])
    return np.where(np.arange(3) == size.argmax(), size / 2, 0.0)


def _chair(make, width, depth, height, **extra):
    """A wooden chair with a cushion; its back stands at -y."""
    x, y = width / 2 - 24, depth / 2 - 24
    _legs(make, x, y, height - 50, 19, WOOD_DARK)
    make.box((0, 0, height - 38), (width / 2, depth / 2, 16), WOOD)
    make.box((0, 4, height - 12), (width / 2 - 12, depth / 2 - 16, 12), CUSHION)
    top = height + 430
    for side in (1, -1):
        make.cone((side * x, -y, height - 40), (side * x * 0.96, -y - 70, top), 18, 16, WOOD_DARK)
    for low in (0.42, 0.72, 0.97):
        z = height + 430 * low
        make.cone((x, -y - 70 * low, z), (-x, -y - 70 * low, z), 30, 30, WOOD, flat=(0.45, 1.0))


def _stool(make, width, depth, height, **extra):
    """A round stool."""
    _legs(make, width * 0.30, depth * 0.30, height - 40, 17, WOOD_DARK, splay=1.3)
    make.ball((0, 0, height - 24), (width / 2, depth / 2, 24), CUSHION)


def _table(make, width, depth, height, **extra):
    """A table with four legs."""
    _legs(make, width / 2 - 45, depth / 2 - 45, height - 40, 26, WOOD_DARK, splay=1.0)
    make.box((0, 0, height - 16), (width / 2, depth / 2, 16), WOOD)
    make.box((0, 0, height - 58), (width / 2 - 40, depth / 2 - 40, 28), WOOD_DARK)


def _phone(make, width, depth, height, **extra):
    make.box((0, 0, 0), (width / 2, depth / 2, height / 2), BLACK)
    make.box((0, 0, height / 2 - 22), (width / 2 + 1, depth / 2 + 1, 5), Paint("#56b7e6", glow=0.5))


def _cigarette(make, width, depth, height, **extra):
    """A cigarette along its longest side, lit at its far end; a little thicker than life, to be seen at all."""
    radius = max(5.5, min(width, depth, height) / 2)
    end = _longest(width, depth, height)
    make.cone(-end, end, radius, radius, Paint("#fbf8f0"))
    make.ball(end, (radius * 1.2,) * 3, Paint("#ff7a2e", glow=0.9))


def _camera(make, width, depth, height, **extra):
    """A camera whose lens looks along y."""
    make.box((0, 0, 0), (width / 2, depth * 0.28, height / 2), BLACK)
    make.box((0, 0, height / 2 + 8), (width * 0.17, depth * 0.2, 10), Paint("#8a8d94", shine=0.3))
    make.box((0, 0, height * 0.36), (width / 2 + 1, depth * 0.28 + 1, 8), METAL)
    make.cone(
        (0, depth * 0.2, -4),
        (0, depth * 0.62, -4),
        height * 0.36,
        height * 0.33,
        Paint("#33363c", shine=0.4),
    )
    make.ball(
        (0, depth * 0.62 + height * 0.26, -4),
        (height * 0.24, 12, height * 0.24),
        Paint("#5f86b8", shine=0.9),
    )


def _bag(make, width, depth, height, **extra):
    """A shopping bag that hangs from the grip, greens on top; its bottom lies `height` below the grip."""
    drop = 0.27 * height
    height -= drop
    paper = Paint("#e9d3a4", (Layer("belt", "#d8433a", 60.0, (-drop - height * 0.55,)),))
    make.box((0, 0, -drop - height / 2), (width / 2, depth / 2, height / 2), paper)
    for side in (1, -1):
        make.cone((side * width * 0.28, 0, -drop), (0, 0, -4), 6, 6, WOOD_DARK)
    for x, y, rise in ((-0.2, 0.1, 30), (0.12, -0.1, 52), (0.26, 0.16, 18)):
        make.ball((x * width, y * depth, -drop + rise * 0.4), (44, 40, 30 + rise), Paint("#5a9a3c"))
    make.cone(
        (-0.05 * width, 0.1 * depth, -drop - 20),
        (-0.3 * width, 0.1 * depth, -drop + 120),
        24,
        14,
        Paint("#d9a25c"),
    )


def _cup(make, width, depth, height, **extra):
    radius = width / 2
    paint = Paint("#f6efe2", (Layer("hoops", "#d8433a", height * 0.7, (0.25,)),), shine=0.3)
    make.cone(
        (0, 0, -height / 2 + radius),
        (0, 0, height / 2 - radius * 0.3),
        radius * 0.86,
        radius,
        paint,
    )
    make.ball(
        (0, 0, height / 2 + radius * 0.55), (radius * 0.86, radius * 0.86, 6), Paint("#4a2b1a")
    )


def _plate(make, width, depth, height, **extra):
    make.ball((0, 0, 6), (width / 2, depth / 2, 9), Paint("#fbf8f0", shine=0.3))
    make.ball((0, 0, 20), (width * 0.28, depth * 0.24, 20), Paint("#e0a640"))
    make.ball((width * 0.1, depth * 0.08, 30), (width * 0.1, depth * 0.1, 16), Paint("#d8433a"))


def _bottle(make, width, depth, height, **extra):
    glass = Paint(
        "#3d8f5b", (Layer("belt", "#f6efe2", height * 0.25, (-height * 0.1,)),), shine=0.5
    )
    radius = width / 2
    make.cone((0, 0, -height / 2 + radius), (0, 0, height * 0.12), radius, radius, glass)
    make.cone((0, 0, height * 0.12), (0, 0, height * 0.42), radius * 0.9, radius * 0.36, glass)


def _book(make, width, depth, height, **extra):
    make.box(
        (0, 0, 0),
        (width / 2, depth / 2, height / 2),
        Paint("#b8352f", (Layer("placket", "#ffd75e", 20.0),)),
    )


def _food(make, width, depth, height, **extra):
    """An apple."""
    radius = max(width, depth, height) / 2
    make.ball((0, 0, 0), (radius, radius, radius * 0.92), Paint("#cf3b30", shine=0.35))
    make.cone((0, 0, radius * 0.8), (6, 0, radius * 1.25), 5, 4, WOOD_DARK)


def _fork(make, width, depth, height, **extra):
    end = _longest(width, depth, height)
    make.cone(-end, end, 6, 8, METAL)


def _dog(make, width, depth, height, phase=0.0, **extra):
    """A cheerful dog that trots: y is its nose; `phase` in turns drives legs, tail and ears."""
    size = height / 520.0
    coat = Paint("#c98a4b", (Layer("belt", "#b67a3f", 50.0 * size, (470 * size,), 0.0),))
    white = Paint("#f6ead6")
    turn = 2 * np.pi * float(phase)
    bob = 8 * np.sin(2 * turn)

    def at(x, y, z):
        return (x * size, y * size, z * size)

    def cone_at(a, b, ra, rb, paint, flat=(1.0, 1.0)):
        make.cone(at(*a), at(*b), ra * size, rb * size, paint, flat)

    chest, rump = (0, 0, 330 + bob), (0, -330, 340 - bob)
    cone_at(chest, rump, 105, 86, coat)
    make.ball(at(0, 44, 300 + bob), (78 * size, 60 * size, 92 * size), white)
    cone_at((0, 20, 360 + bob), (0, 100, 480 + bob), 72, 60, coat)
    cone_at((0, 66, 412 + bob), (0, 88, 446 + bob), 72, 70, Paint("#d8433a"))
    head = np.array([0, 130, 520 + bob])
    make.ball(at(*head), (78 * size, 84 * size, 76 * size), coat)
    cone_at(head + (0, 50, -18), head + (0, 140, -34), 46, 34, white)
    make.ball(at(*(head + (0, 172, -20))), (18 * size, 14 * size, 14 * size), BLACK)
    cone_at(head + (0, 104, -66), head + (0, 150, -76), 14, 15, Paint("#e87a86"))
    for side in (1, -1):
        make.ball(at(*(head + (side * 34, 66, 20))), (13 * size, 12 * size, 15 * size), BLACK)
        flap = 10 * np.sin(2 * turn + 0.6)
        cone_at(
            head + (side * 66, -6, 44),
            head + (side * (92 + flap), 6, -48),
            26,
            34,
            Paint("#7a4a26"),
            (0.5, 1.0),
        )
        for y, lag in ((10, 0.0), (-330, np.pi)):
            swing = 105 * np.sin(turn + lag + (0 if side > 0 else np.pi))
            lift = 45 * max(0.0, np.cos(turn + lag + (0 if side > 0 else np.pi)))
            hip, foot = (side * 56, y, 300), (side * 58, y + swing, 26 + lift)
            knee = (side * 60, y + swing * 0.5 - (24 if y else -14), 165 + lift * 0.6)
            cone_at(hip, knee, 52, 34, coat)
            cone_at(knee, foot, 32, 25, white)
            cone_at(foot, (foot[0], foot[1] + 34, foot[2] - 4), 26, 22, white)
    wag = 90 * np.sin(3 * turn)
    cone_at((0, -400, 390), (wag * 0.5, -480, 500), 28, 22, coat)
    cone_at((wag * 0.5, -480, 500), (wag, -470, 590), 22, 16, white)


def _leash(make, width, depth, height, end=None, **extra):
    """A sagging strap from the hand to `end` (3,) world mm."""
    if end is None:
        return
    last = make.local(end)
    share = np.linspace(0, 1, 6)[:, None]
    sag = np.linalg.norm(last) * 0.12 * 4 * share * (1 - share)
    points = share * last - sag * (make.rotation.T @ np.array([0.0, 0.0, 1.0]))
    for a, b in zip(points[:-1], points[1:], strict=True):
        make.cone(a, b, 7, 7, Paint("#d8433a"))


def _parcel(make, width, depth, height, **extra):
    """A plain box that stands on its origin."""
    make.box((0, 0, height / 2), (width / 2, depth / 2, height / 2), Paint("#c79a62"))


_DRAWINGS = {
    "chair": _chair,
    "stool": _stool,
    "table": _table,
    "phone": _phone,
    "cigarette": _cigarette,
    "camera": _camera,
    "bag": _bag,
    "cup": _cup,
    "plate": _plate,
    "bottle": _bottle,
    "book": _book,
    "food": _food,
    "apple": _food,
    "fork": _fork,
    "spoon": _fork,
    "dog": _dog,
    "leash": _leash,
}
