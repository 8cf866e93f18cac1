"""The studio as each camera sees it empty: planks, a carpet over the acting area, walls, pictures, furniture."""

import cv2
import numpy as np

from ..scenes.paint import display, linear
from ..scenes.scenery import scenery_parts
from .light import studio_light
from .shading import draw, stage_parts

WALL_X, WALL_Y, CEILING = 3700.0, 6100.0, 3000.0  # mm; the walls stand at plus and minus
CARPET = (2000.0, 2500.0)
_FINER = 2  # rays per pixel and axis
_backgrounds = {}
_lit = {}


def background(camera):
    """The empty room in the studio's own light, cached per camera.

    Args:
        camera: Camera inside the room.
    Returns:
        (height, width, 3) uint8, RGB. Do not write to it.
    """
    key = _key(camera)
    if key not in _backgrounds:
        canvas = _bare_room(camera)
        draw(stage_parts(scenery_parts(), studio_light()), camera, canvas)
        if len(_backgrounds) >= 16:
            _backgrounds.pop(next(iter(_backgrounds)))
        _backgrounds[key] = cv2.GaussianBlur(canvas, (3, 3), 0.6)
    return _backgrounds[key]


def lit_background(camera, light):
    """The empty room in the light of a take: `background`, brighter or warmer. Do not write to it."""
    key = (*_key(camera), *light.strength().tolist())
    if key not in _lit:
        gain = (light.strength() / studio_light().strength()) ** (1 / 2.2)
        table = (np.arange(256)[:, None] * gain).round().clip(0, 255).astype(np.uint8)
        if len(_lit) >= 8:
            _lit.pop(next(iter(_lit)))
        _lit[key] = cv2.LUT(background(camera), table.reshape(1, 256, 3))
    return _lit[key]


def _key(camera):
    """A hashable name of a camera."""
    return tuple(
        np.concatenate(
            [camera.R.ravel(), camera.T, camera.f, camera.c, [camera.width, camera.height]]
        ).tolist()
    )


def _bare_room(camera):
    """Floor, walls and ceiling, (height, width, 3) uint8; several rays per pixel, averaged as light."""
    canvas = np.empty((camera.height, camera.width, 3), np.uint8)
    offsets = (np.arange(_FINER) + 0.5) / _FINER - 0.5
    u = (np.arange(camera.width)[:, None] + offsets).ravel().astype(np.float32)
    for top in range(0, camera.height, 50):
        rows = np.arange(top, min(top + 50, camera.height))
        v = (rows[:, None] + offsets).ravel().astype(np.float32)
        light = _room_light(camera, *np.meshgrid(u, v))
        light = light.reshape(3, len(rows), _FINER, camera.width, _FINER)
        # Slices rather than one mean over two short axes, which NumPy is slow at.
        light = sum(light[:, :, i, :, j] for i in range(_FINER) for j in range(_FINER)) / _FINER**2
        canvas[rows] = display(light).transpose(1, 2, 0)
    return canvas


def _room_light(camera, u, v):
    """Light that comes from the room along rays, (3, N) float32; u, v: N px in all."""
    rays = np.stack(
        [
            (u.ravel() - camera.c[0]) / camera.f[0],
            (v.ravel() - camera.c[1]) / camera.f[1],
            np.ones(u.size),
        ]
    ).astype(np.float32)
    rays = camera.R.T.astype(np.float32) @ rays
    start = camera.T.astype(np.float32)[:, None]
    with np.errstate(divide="ignore"):
        limits = np.array([[WALL_X], [WALL_Y], [CEILING]], np.float32)
        planes = np.where(rays > 0, limits, np.where(np.arange(3)[:, None] == 2, 0, -limits))
        reach = ((planes - start) / rays).clip(1, 1e5)
    which = reach.argmin(axis=0)
    depth = reach.min(axis=0)
    points = start + rays * depth
    footprint = np.maximum(depth / camera.f[0], 1.0)  # mm per px
    light = np.empty((3, u.size), np.float32)
    for surface, draw_surface in enumerate((_wall_x, _wall_y, _level)):
        chosen = np.flatnonzero(which == surface)
        if len(chosen):
            light[:, chosen] = draw_surface(points[:, chosen], footprint[chosen])
    light *= _ambient(points).astype(np.float32)
    radius = ((u.ravel() - camera.c[0]) ** 2 + (v.ravel() - camera.c[1]) ** 2) / (
        camera.width**2 / 2
    )
    light *= (1 - 0.14 * radius).astype(np.float32)  # lenses darken towards the corners
    return light


def _ambient(p):
    """Darker towards the room's edges, brighter in its middle, (N,)."""
    gaps = np.stack([WALL_X - np.abs(p[0]), WALL_Y - np.abs(p[1]), p[2], CEILING - p[2]])
    second = np.partition(gaps, 1, axis=0)[1]  # the nearest surface is the point's own
    pool = np.exp(-(p[0] ** 2 + p[1] ** 2) / np.float32(2 * 3600**2))
    return (1 - 0.34 * np.exp(-second / 260)) * (0.80 + 0.26 * pool)


def _mix(colour, over, cover):
    """Lay `over` ("#rrggbb" or (3, N)) on (3, N) where `cover` (N,) is 1."""
    over = _plain(over) if isinstance(over, str) else over
    return colour + (over - colour) * cover.astype(np.float32)


def _plain(colour):
    """(3, 1) light of "#rrggbb"."""
    return linear(colour)[:, None]


def _in(distance, footprint):
    """1 inside (distance < 0), soft over a pixel."""
    return np.clip(0.5 - distance / footprint, 0, 1)


def _line(coordinate, width, footprint):
    """A thin line about 0: as wide as it is or a pixel, and then as much fainter."""
    seen = np.maximum(width, footprint)
    return np.clip(1 - np.abs(coordinate) / seen, 0, 1) * np.minimum(width / seen, 1)


def _hash(*numbers):
    """A random looking number in 0..1 per integer cell, (N,)."""
    total = sum(np.asarray(n, np.float64) * k for n, k in zip(numbers, (12.9898, 78.233, 37.719)))
    return np.modf(np.abs(np.sin(total) * 43758.5453))[0].astype(np.float32)


def _level(p, footprint):
    """Floor or ceiling."""
    floor = _floor(p, footprint)
    return np.where(p[2] > CEILING / 2, _ceiling(p, footprint), floor)


def _ceiling(p, footprint):
    """White, with wooden beams across and lamps between them."""
    beam = np.abs((p[1] + 700) % 1400 - 700)
    colour = _plain("#f3f1ea") * np.float32(0.93)
    colour = _mix(colour, colour * np.float32(0.8), np.exp(-np.maximum(beam - 60, 0) / 50))
    colour = _mix(colour, "#a87a4c", _in(beam - 75, footprint))
    x, y = (p[0] + 900) % 1800 - 900, p[1] % 1400 - 700
    lamp = np.sqrt(x * x + y * y)
    colour = _mix(colour, "#ffffff", np.exp(-np.maximum(lamp - 160, 0) / 160) * 0.7)
    return _mix(colour, np.full((3, 1), 1.4, np.float32), _in(lamp - 170, footprint))


def _floor(p, footprint):
    """Oak planks, and the carpet that marks the acting area."""
    width, length = 150.0, 1400.0
    row = np.floor(p[0] / width)
    along = p[1] + 530.0 * (row % 5)
    cell = np.floor(along / length)
    tone = 0.86 + 0.28 * _hash(row, cell)
    grain = np.sin(p[0] * 0.33 + 1.7 * np.sin(p[1] * 0.004 + row) + row * 3) * np.clip(
        1.6 - footprint / 8, 0, 1
    )
    colour = _plain("#b98a5a") * (tone + 0.035 * grain).astype(np.float32)
    seams = np.maximum(
        _line((p[0] + width / 2) % width - width / 2, 5.0, footprint),
        _line((along + length / 2) % length - length / 2, 5.0, footprint),
    )
    colour = _mix(colour, "#5f3f25", 0.7 * seams)
    edge = np.maximum(np.abs(p[0]) - CARPET[0], np.abs(p[1]) - CARPET[1])
    shade = np.exp(-np.maximum(edge, 0) / 40) * (edge > 0)
    colour = colour * (1 - 0.35 * shade).astype(np.float32)
    weave = 1 + 0.10 * (_hash(np.floor(p[0] / 14), np.floor(p[1] / 14)) - 0.5) * np.clip(
        14 / footprint - 0.6, 0, 1
    )
    carpet = _plain("#d3cbbd") * weave.astype(np.float32)
    lattice = _line((p[0] + p[1] + 250) % 500 - 250, 13.0, footprint) + _line(
        (p[0] - p[1] + 250) % 500 - 250, 13.0, footprint
    )
    carpet = _mix(carpet, "#b9ad9a", 0.6 * np.minimum(lattice, 1) * _in(edge + 230, footprint))
    carpet = _mix(carpet, "#4d7f86", _in(np.abs(edge + 150) - 45, footprint))
    carpet = _mix(carpet, "#d98a5b", _in(np.abs(edge + 225) - 10, footprint))
    return _mix(colour, carpet, _in(edge, footprint))


def _wall_x(p, footprint):
    """The long walls: at +x pictures, at -x a window between bookshelves."""
    colour = _wall(p[1], p[2], footprint, "#dfe3d6", "#a9bdb2") * np.float32(0.94)
    right = p[0] > 0
    with_pictures = _pictures(
        colour, p[1], p[2], footprint, ((-2700, 0), (-1500, 1), (1500, 2), (2700, 3))
    )
    return np.where(right, with_pictures, _window(colour, p[1], p[2], footprint))


def _wall_y(p, footprint):
    """The short walls: at +y a door and a picture, at -y pictures."""
    colour = _wall(p[0], p[2], footprint, "#eadfce", "#c98f72")
    far = p[1] > 0
    door = _door(
        _pictures(colour, p[0], p[2], footprint, ((-1500, 4),)), p[0] - 1300, p[2], footprint
    )
    return np.where(
        far, door, _pictures(colour, p[0], p[2], footprint, ((-1750, 5), (0, 6), (1750, 7)))
    )


def _wall(along, z, footprint, upper, lower):
    """Two-coloured wall with a rail and a skirting board, (3, N)."""
    colour = _mix(_plain(upper), lower, _in(z - 950, footprint))
    panels = (
        _line((along + 300) % 600 - 300, 12.0, footprint)
        * _in(z - 920, footprint)
        * _in(160 - z, footprint)
    )
    colour = _mix(colour, colour * np.float32(0.75), panels)
    colour = _mix(colour, "#f7f4ec", _in(np.abs(z - 960) - 28, footprint))
    colour = _mix(colour, "#f7f4ec", _in(z - 130, footprint))
    shade = _line(z - 130, 10.0, footprint) + _line(z - 930, 8.0, footprint)
    return _mix(colour, colour * np.float32(0.6), np.minimum(shade, 1))


_ART = (
    ("#f2c14e", "#d8433a"),
    ("#86b8b1", "#24365f"),
    ("#f6e7cf", "#e2604f"),
    ("#e9b7a0", "#6b3556"),
    ("#bcd4e6", "#31527f"),
    ("#f4ead5", "#2f7d57"),
    ("#f6d6c1", "#d8433a"),
    ("#cfe0d4", "#e2a32b"),
)


def _pictures(colour, along, z, footprint, places):
    """Framed pictures: sun and hills in two colours each."""
    for place, number in places:
        paper, ink = _ART[number]
        x, y = along - place, z - 1620
        frame = np.maximum(np.abs(x) - 330, np.abs(y) - 420)
        near = frame < 100
        if not near.any():
            continue
        colour = _mix(
            colour,
            colour * np.float32(0.72),
            np.exp(-np.maximum(frame + 12, 0) / 40) * 0.7 * (y < 440),
        )
        art = _plain(paper)
        hills = y + 110 - 70 * np.sin(x / (90 + 12 * number) + number)
        art = _mix(
            art, ink, _in(np.sqrt((x - 60 + 20 * number) ** 2 + (y - 130) ** 2) - 105, footprint)
        )
        art = _mix(art, _plain(ink) * 0.5 + _plain(paper) * 0.3, _in(hills, footprint))
        art = _mix(art, _plain(ink) * 0.35, _in(hills + 120 + 50 * np.sin(x / 60.0), footprint))
        art = _mix(art, "#fbf8f0", _in(-(frame + 75), footprint))
        art = _mix(art, "#4a3424", _in(-(frame + 24), footprint))
        colour = _mix(colour, art, _in(frame, footprint))
    return colour


def _door(colour, x, z, footprint):
    """A panelled door with a brass knob."""
    frame = np.maximum(np.abs(x) - 520, z - 2130)
    leaf = np.maximum(np.abs(x) - 440, z - 2050)
    colour = _mix(colour, "#f7f4ec", _in(frame, footprint))
    colour = _mix(colour, "#4d7f86", _in(leaf, footprint))
    for low, high in ((200, 900), (1050, 1900)):
        panel = np.maximum(
            np.abs(np.abs(x) - 210) - 150, np.abs(z - (low + high) / 2) - (high - low) / 2
        )
        colour = _mix(colour, "#3d6b72", _in(np.abs(panel + 12) - 12, footprint))
    return _mix(colour, "#d9b45a", _in(np.sqrt((x + 370) ** 2 + (z - 1000) ** 2) - 38, footprint))


def _window(colour, y, z, footprint):
    """A wide window with sky, a hill, glazing bars and curtains."""
    pane = np.maximum(np.abs(y) - 1100, np.abs(z - 1750) - 700)
    sky = _mix(_plain("#9cc9ea"), "#eef6fb", np.clip((2400 - z) / 1300, 0, 1))
    view = _mix(sky, "#8db36c", _in(z - 1330 - 60 * np.sin(y / 420.0), footprint))
    view = _mix(
        view,
        "#fbfdff",
        0.8 * _in(np.sqrt(((y - 420) / 2.4) ** 2 + (z - 2120) ** 2) - 90, footprint),
    )
    bars = np.minimum(np.abs(np.abs(y) - 366.0), np.abs(z - 1900))
    view = _mix(view, "#f7f4ec", _in(bars - 22, footprint))
    colour = _mix(colour, view, _in(pane, footprint))
    colour = _mix(colour, "#f7f4ec", _in(np.abs(pane - 30) - 30, footprint))
    fold = 0.86 + 0.14 * np.sin(y / 34.0)
    curtain = np.maximum(np.abs(np.abs(y) - 1260) - 230, np.abs(z - 1520) - 1080)
    return _mix(colour, _plain("#e0a08a") * fold.astype(np.float32), _in(curtain, footprint))
