"""What covers a part: a colour and layers of patterns, drawn in body-local millimetres so that they move along.

Every pattern is even in x (and, round limbs, in y), so that a person's left and right side look the same: they are
told apart by shape alone. Edges are soft over a few millimetres, about a pixel, which keeps them from flickering.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

DISPLAY = 4096  # steps of light that display values are looked up from
SOFT = 4.5  # mm over which a pattern's edge fades: about one pixel at five metres


@cache
def linear(colour):
    """Light of a display colour: "#rrggbb" -> (3,) float32 in 0..1, linear in light."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255
    return values ** np.float32(2.2)


@cache
def linear_table():
    """(256,) float32: display value -> light, 0..1."""
    return (np.arange(256, dtype=np.float32) / 255) ** np.float32(2.2)


@cache
def _display_table():
    return (255 * (np.arange(DISPLAY) / (DISPLAY - 1)) ** (1 / 2.2)).round().astype(np.uint8)


def display(light):
    """Light (any shape, linear, 0..1, brighter is clipped) -> display values, uint8."""
    return _display_table()[(light * (DISPLAY - 1)).clip(0, DISPLAY - 1).astype(np.uint16)]


@dataclass(frozen=True)
class Layer:
    """A pattern over what lies below it.

    Attributes:
        name: a key of PATTERNS.
        colour: "#rrggbb".
        size: the pattern's length, mm (its period, radius, width or height, see the pattern).
        at: (x, y) or whatever else the pattern places itself by, mm.
        strength: how much it covers, 0..1.
    """

    name: str
    colour: str
    size: float = 40.0
    at: tuple = ()
    strength: float = 1.0


@dataclass(frozen=True)
class Paint:
    """Cover of a part.

    Attributes:
        colour: "#rrggbb".
        layers: Layer, from the lowest up.
        shine: strength of the highlight, about 0 (wool) to 0.5 (lacquer).
        glow: share of its colour that needs no lamp (a screen, an ember).
    """

    colour: str
    layers: tuple = ()
    shine: float = 0.06
    glow: float = 0.0


def albedo(paint, points):
    """Colour of points on a part.

    Args:
        paint: Paint.
        points: (3, N) float32, pattern coordinates, mm.
    Returns:
        (3, 1) float32 if there is no layer, else (3, N); linear, 0..1.
    """
    colour = linear(paint.colour)[:, None]
    for layer in paint.layers:
        cover = PATTERNS[layer.name](points, layer) * np.float32(layer.strength)
        colour = colour + (linear(layer.colour)[:, None] - colour) * cover
    return colour


def inside(distance):
    """1 where a signed distance in mm is negative, 0 where positive, soft in between."""
    return np.clip(0.5 - distance * np.float32(1 / SOFT), 0, 1)


def _band(coordinate, period, width):
    """Bands of `width` around the multiples of `period`."""
    return inside(np.abs((coordinate + period / 2) % period - period / 2) - width / 2)


def _hoops(p, layer):
    """Bands across z; `size` = period, of which at[0] (default half) is covered."""
    return _band(p[2], layer.size, layer.size * (layer.at[0] if layer.at else 0.5))


def _pinstripes(p, layer):
    return _band(p[0], layer.size, layer.size * (layer.at[0] if layer.at else 0.5))


def _checks(p, layer):
    """Woven checks: a band along each way covers half, their crossing all."""
    return (_band(p[0], layer.size, layer.size / 2) + _band(p[2], layer.size, layer.size / 2)) / 2


def _dots(p, layer):
    """Dots in a grid with every second row moved by half a period; `size` = period."""
    size = np.float32(layer.size)
    row = np.round(p[2] / size)
    x = p[0] + (row % 2) * (size / 2)
    x = (x + size / 2) % size - size / 2
    z = p[2] - row * size
    return inside(np.sqrt(x * x + z * z) - size * (layer.at[0] if layer.at else 0.27))


def _front(p):
    return inside(-p[1])


def _buttons(p, layer):
    """A column of buttons down the front, `size` apart, from at[0] to at[1]."""
    z = (p[2] + layer.size / 2) % layer.size - layer.size / 2
    column = inside(np.sqrt(p[0] ** 2 + z * z) - 8) * (p[2] < layer.at[0]) * (p[2] > layer.at[1])
    return column * _front(p)


def _placket(p, layer):
    """A strip of width `size` down the middle of the front."""
    return inside(np.abs(p[0]) - layer.size / 2) * _front(p)


def _vee(p, layer):
    """An open collar: a wedge at the front whose tip lies `size` below the origin."""
    return inside(np.abs(p[0]) * 1.6 - (p[2] + layer.size)) * _front(p)


def _disc(p, layer):
    """A disc of radius `size` on the front, middle at[0] above the origin."""
    return inside(np.sqrt(p[0] ** 2 + (p[2] - layer.at[0]) ** 2) - layer.size) * _front(p)


def _heart(p, layer):
    x, z = np.abs(p[0]) / layer.size, (p[2] - layer.at[0]) / layer.size
    lobe = np.sqrt((x - 0.5) ** 2 + (z - 0.3) ** 2) - 0.58
    wedge = np.maximum(x + (-z - 0.15) * 0.9 - 0.95, z - 0.3)
    return inside(np.minimum(lobe, wedge) * layer.size) * _front(p)


def _star(p, layer):
    """A five-pointed star of outer radius `size`."""
    x, z = np.abs(p[0]), p[2] - layer.at[0]
    angle = np.arctan2(x, z)
    fold = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    radius = np.sqrt(x * x + z * z)
    along, across = radius * np.cos(fold), radius * np.sin(fold)
    return inside((along - layer.size) * 0.35 + across * 0.94) * _front(p)


def _above(p, layer):
    """Everything above z = size."""
    return inside(layer.size - p[2])


def _below(p, layer):
    """Everything below z = size."""
    return inside(p[2] - layer.size)


def _belt(p, layer):
    """A band of height `size` about z = at[0]."""
    return inside(np.abs(p[2] - layer.at[0]) - layer.size / 2)


def _outer(p, layer):
    """A stripe of width `size` down the outer side of a limb (x looks outwards)."""
    return inside(np.abs(p[1]) - layer.size / 2) * inside(-p[0])


def _rows(p, layer):
    """Short bands across z on the upper front of a shoe: laces; at = (from, to) along y."""
    return (
        _band(p[1], layer.size, layer.size * 0.45)
        * inside(np.abs(p[0]) - 17)
        * inside(-p[2])
        * ((p[1] > layer.at[0]) & (p[1] < layer.at[1]))
    )


# --- faces: x to the person's right, y forward, z up from the head's middle, mm for a head of average size ---


def _pair(p, layer):
    """Two ellipses on the face: at = (|x|, z, height over width); `size` = half width."""
    x, z = np.abs(p[0]) - layer.at[0], (p[2] - layer.at[1]) / layer.at[2]
    return inside((np.sqrt(x * x + z * z) - layer.size) * min(1.0, layer.at[2] * 1.2)) * _front(p)


def _rings(p, layer):
    """Spectacles: two rings about at = (|x|, z) of radius `size`, a bridge, and sides to the ears."""
    x, z = np.abs(p[0]) - layer.at[0], p[2] - layer.at[1]
    ring = np.abs(np.sqrt(x * x + z * z) - layer.size) - 2.6
    bridge = np.maximum(np.abs(z - 4) - 2.4, np.abs(p[0]) - (layer.at[0] - layer.size))
    side = np.maximum(np.abs(z - 3) - 2.6, layer.at[0] + layer.size - np.abs(p[0]))
    return inside(np.minimum(np.minimum(ring, bridge), side)) * (p[1] > -5)


def _brows(p, layer):
    """Eyebrows: arcs above the eyes; at = (|x|, z); `size` = thickness."""
    x = np.abs(p[0]) - layer.at[0]
    arc = p[2] - layer.at[1] + 0.012 * x * x + 0.10 * x
    return inside(np.maximum(np.abs(arc) - layer.size / 2, np.abs(x) - 17)) * _front(p)


def _smile(p, layer):
    """A mouth: an upturned crescent of half width `size` about z = at[0], at[1] high in its middle."""
    x = np.abs(p[0]) / layer.size
    low = layer.at[0] - layer.at[1] * (1 - x * x) - 3
    high = layer.at[0] + 2.0 + 5.0 * x * x - 2.5
    return inside(np.maximum(np.maximum(low - p[2], p[2] - high), (x - 1) * layer.size)) * _front(p)


def _moustache(p, layer):
    x, z = np.abs(p[0]) - 17, p[2] - layer.at[0]
    return inside(np.sqrt((x / 1.9) ** 2 + (z + 0.25 * x) ** 2) - layer.size) * _front(p)


def _beard(p, layer):
    """The jaw below a line that rises towards the ears, with the lips left free; `size` = height of that line."""
    x = np.abs(p[0])
    jaw = p[2] - (layer.size + 0.010 * x * x) - np.maximum(0, -p[1]) * 0.4
    lips = 19 - np.sqrt((x / 1.35) ** 2 + ((p[2] - layer.at[0]) * 1.6) ** 2)
    return inside(np.maximum(jaw, lips)) * inside(-(p[1] + 30))


def _hairline(p, layer):
    """Hair on the skull itself: above a line that falls towards the nape; `size` = its height at the brow."""
    line = layer.size - 0.55 * np.maximum(0, 62 - p[1]) - 0.004 * p[0] * p[0]
    return inside(np.maximum(line, layer.at[0] if layer.at else -70.0) - p[2])


PATTERNS = {
    "hoops": _hoops,
    "pinstripes": _pinstripes,
    "checks": _checks,
    "dots": _dots,
    "buttons": _buttons,
    "placket": _placket,
    "vee": _vee,
    "disc": _disc,
    "heart": _heart,
    "star": _star,
    "above": _above,
    "below": _below,
    "belt": _belt,
    "outer": _outer,
    "rows": _rows,
    "pair": _pair,
    "rings": _rings,
    "brows": _brows,
    "smile": _smile,
    "moustache": _moustache,
    "beard": _beard,
    "hairline": _hairline,
}
