"""What stands along the walls, behind everybody: drawn once per camera into the empty room."""

import numpy as np

from .paint import Layer, Paint
from .props import METAL, WOOD, WOOD_DARK, Maker

_BOOKS = ("#d8433a", "#2f7d57", "#31527f", "#e2a32b", "#6b3556", "#f2ead2", "#1f8a8c", "#b4531f")


def scenery_parts():
    """Sofa, shelves, plants and lamps as a list of Part, all outside the acting area."""
    parts = []
    for build, x, y, heading in (
        (_sofa, 0, -5560, 0.0),
        (_plant, -2700, -5600, 0.4),
        (_lamp, 1750, -5650, 0.0),
        (_plant, 3050, -1200, 2.0),
        (_shelf, -300, 5900, np.pi),
        (_plant, 2900, 5650, 1.0),
        (_lamp, -2300, 5600, 0.0),
        (_bench, 3380, 0, np.pi / 2),
        (_plant, -3150, -2000, 1.3),
        (_plant, -3150, 2050, 2.6),
        (_plant, 3150, 3300, 0.7),
    ):
        turn = np.array(
            [
                [np.cos(heading), -np.sin(heading), 0],
                [np.sin(heading), np.cos(heading), 0],
                [0, 0, 1.0],
            ]
        )
        make = Maker((x, y, 0.0), turn)
        build(make)
        parts += make.parts
    return parts


def _sofa(make):
    """A sofa that looks along +y."""
    cloth, pillow = Paint("#4d7f86"), Paint("#e2a32b", (Layer("checks", "#c98a1f", 90.0),))
    make.box((0, 0, 130), (900, 390, 60), WOOD_DARK)
    for x in (-430, 430):
        make.cone((x - 360, 60, 290), (x + 360, 60, 290), 120, 120, cloth, flat=(2.4, 1.0))
    make.cone((-840, -300, 520), (840, -300, 520), 150, 150, cloth, flat=(1.0, 2.0))
    for x in (-930, 930):
        make.cone((x, -250, 420), (x, 300, 420), 110, 110, cloth, flat=(1.0, 1.9))
    for x, paint in ((-560, pillow), (520, Paint("#e2604f"))):
        make.ball((x, -60, 560), (210, 90, 190), paint)


def _plant(make):
    """A leafy plant in a pot on a saucer."""
    make.ball((0, 0, 14), (165, 165, 15), Paint("#b8623c"))
    make.cone((0, 0, 90), (0, 0, 130), 88, 112, Paint("#d97f54"))
    make.cone(
        (0, 0, 130),
        (0, 0, 330),
        120,
        165,
        Paint("#d97f54", (Layer("belt", "#f6e7cf", 40.0, (260.0,)),)),
    )
    rng = np.random.default_rng(7)
    for k in range(15):
        angle, lean = k * 2.4, rng.uniform(0.2, 0.95)
        tip = np.array([np.cos(angle) * lean, np.sin(angle) * lean, 1.15 - 0.5 * lean])
        tip *= rng.uniform(520, 880)
        make.cone((0, 0, 430), 0.55 * tip + (0, 0, 430), 10, 12, Paint("#4f8a3f"))
        shade = ("#3f8f4f", "#58a355", "#2f7a45")[k % 3]
        make.cone(
            0.5 * tip + (0, 0, 430),
            tip + (0, 0, 400),
            62,
            16,
            Paint(shade, shine=0.15),
            flat=(1.0, 0.35),
        )


def _lamp(make):
    """A floor lamp."""
    make.ball((0, 0, 20), (170, 170, 22), METAL)
    make.cone((0, 0, 20), (0, 0, 1450), 14, 14, METAL)
    make.cone((0, 0, 1480), (0, 0, 1680), 190, 120, Paint("#f7e3b0", glow=0.45))


def _shelf(make):
    """A bookshelf that looks along +y."""
    width, height = 800.0, 1250.0
    make.box((0, -150, height / 2), (width, 12, height / 2), WOOD_DARK)
    for x in (-width, 0.0, width):
        make.box((x, 0, height / 2), (16, 160, height / 2), WOOD)
    rng = np.random.default_rng(3)
    for z in (20.0, 430.0, 840.0, height):
        make.box((0, 0, z), (width, 160, 16), WOOD)
        x = -width + 60
        while z < height and x < width - 90:
            half, tall = rng.uniform(16, 34), rng.uniform(110, 165)
            if abs(x) > 60 and rng.uniform() < 0.85:
                make.box(
                    (x, 10, z + 16 + tall),
                    (half, 110, tall),
                    Paint(_BOOKS[rng.integers(len(_BOOKS))]),
                )
            x += 2 * half + 4
    make.ball(
        (430, 0, height + 130),
        (120, 120, 120),
        Paint("#86b8d8", (Layer("hoops", "#58a355", 150.0, (0.4,)),)),
    )
    make.cone((-450, 0, height + 70), (-450, 0, height + 180), 55, 30, Paint("#e2604f", shine=0.3))


def _bench(make):
    """A low bench that looks along +y."""
    make.box((0, 0, 430), (900, 200, 26), WOOD)
    for x in (-780, 780):
        make.box((x, 0, 210), (30, 170, 210), WOOD_DARK)
    make.ball((-500, 0, 500), (200, 170, 60), Paint("#1f8a8c"))
    make.box((350, 0, 540), (170, 120, 85), Paint("#e9d3a4", (Layer("placket", "#d8433a", 40.0),)))
