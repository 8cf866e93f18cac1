"""How the seven actors look, as data. Nothing here knows left from right: a look is the same in a mirror."""

import colorsys
from dataclasses import dataclass, replace

import numpy as np

from .paint import Layer, Paint


@dataclass(frozen=True)
class Look:
    """Skin, hair and clothes of an actor.

    Attributes:
        skin, hair, lips, iris, collar, sock: "#rrggbb".
        hair_style: a key of heads.HAIR.
        top: shirt, in the chest's frame (origin at the neck, z up).
        arm: what covers arms, along each bone (z from the upper joint down).
        sleeve: how far down the arm it reaches: 1 to the elbow, 2 to the wrist.
        bottom, leg: the same for trousers: pelvis (frame at the pelvis, z up) and legs.
        hem: how far down the leg they reach: 1 to the knee, 2 to the ankle.
        shoe: in the foot's frame (origin on the sole below the ankle, y to the toes).
        hat: a Paint, or None. glasses: "#rrggbb" or None.
        beard: "" or "full", "stubble", "moustache".
    """

    skin: str
    hair: str
    hair_style: str
    top: Paint
    arm: Paint
    sleeve: float
    bottom: Paint
    leg: Paint
    hem: float
    shoe: Paint
    collar: str
    sock: str = "#f4f1e8"
    lips: str = "#a8453f"
    iris: str = "#3b2a20"
    hat: Paint | None = None
    glasses: str | None = None
    beard: str = ""


def _shoe(colour, sole, laces):
    """A laced shoe."""
    layers = (Layer("rows", laces, 17.0, (24.0, 92.0)), Layer("below", sole, 17.0))
    return Paint(colour, layers, shine=0.15)


def _denim(colour, belt, buckle):
    """Trousers with a belt, for the pelvis."""
    return Paint(
        colour,
        (Layer("belt", belt, 30.0, (74.0,)), Layer("disc", buckle, 13.0, (74.0,))),
        shine=0.04,
    )


LOOKS = {
    # Mustard jumper with a heart, jeans, cloud of curls.
    1: Look(
        skin="#8d5a3c",
        hair="#2a1a14",
        hair_style="curls",
        collar="#b5761a",
        lips="#8a3b3a",
        top=Paint("#e2a32b", (Layer("heart", "#c8374b", 46.0, (-125.0,)),)),
        arm=Paint("#cf8c1e"),
        sleeve=1.86,
        bottom=_denim("#31527f", "#5b3a22", "#d9c27a"),
        leg=Paint("#31527f"),
        hem=1.93,
        shoe=_shoe("#e9e6df", "#c8374b", "#c8374b"),
    ),
    # Green checked shirt, red hair and beard, sand-coloured trousers.
    5: Look(
        skin="#edbd98",
        hair="#b4531f",
        hair_style="short",
        collar="#23593f",
        lips="#b5574c",
        iris="#2f6b58",
        top=Paint(
            "#2f7d57",
            (
                Layer("checks", "#133c2a", 58.0),
                Layer("placket", "#23593f", 30.0),
                Layer("buttons", "#f2ead2", 52.0, (-30.0, -520.0)),
            ),
        ),
        arm=Paint("#2f7d57", (Layer("hoops", "#1d5039", 58.0),)),
        sleeve=1.0,
        bottom=_denim("#c9ae82", "#4c3324", "#e8e2d0"),
        leg=Paint("#c9ae82"),
        hem=1.93,
        shoe=_shoe("#6e4427", "#2f221a", "#e5c99a"),
        beard="full",
    ),
    # Breton jumper, coral trousers, dark bob.
    6: Look(
        skin="#f1cda9",
        hair="#1c1720",
        hair_style="bob",
        collar="#f6f3ea",
        lips="#c23f4c",
        top=Paint(
            "#f6f3ea", (Layer("hoops", "#24365f", 46.0, (0.42,)), Layer("above", "#f6f3ea", -52.0))
        ),
        arm=Paint("#f6f3ea", (Layer("hoops", "#24365f", 46.0, (0.42,)),)),
        sleeve=1.62,
        bottom=Paint("#e2604f", (Layer("belt", "#b9473a", 22.0, (78.0,)),)),
        leg=Paint("#e2604f"),
        hem=1.66,
        shoe=_shoe("#24365f", "#f6f3ea", "#f6f3ea"),
    ),
    # Tall, bald, moustache and spectacles, white shirt, teal waistcoat, grey trousers.
    7: Look(
        skin="#d9a178",
        hair="#4a3628",
        hair_style="crown",
        collar="#fbf8f0",
        iris="#41586b",
        top=Paint(
            "#1f8a8c",
            (
                Layer("vee", "#fbf8f0", 170.0),
                Layer("placket", "#d9542b", 17.0),
                Layer("buttons", "#f1d372", 56.0, (-185.0, -480.0)),
            ),
        ),
        arm=Paint("#fbf8f0"),
        sleeve=1.9,
        bottom=_denim("#5a5f6b", "#2b2422", "#cfcfd4"),
        leg=Paint("#5a5f6b", (Layer("outer", "#474b55", 12.0),)),
        hem=1.95,
        shoe=_shoe("#3a2a24", "#1d1714", "#8b6b52"),
        glasses="#2a2a30",
        beard="moustache",
    ),
    # Broad and sporty: purple dotted shirt, black shorts, orange shoes, ponytail.
    8: Look(
        skin="#e3b084",
        hair="#dcae54",
        hair_style="ponytail",
        collar="#5a3590",
        lips="#bf5357",
        iris="#3a6ea8",
        top=Paint("#7a4bb5", (Layer("dots", "#f3d9ff", 62.0),)),
        arm=Paint("#7a4bb5", (Layer("dots", "#f3d9ff", 62.0),)),
        sleeve=0.62,
        bottom=Paint("#26262e", (Layer("belt", "#f07a2b", 16.0, (84.0,)),)),
        leg=Paint("#26262e", (Layer("outer", "#f07a2b", 16.0),)),
        hem=0.72,
        shoe=_shoe("#f07a2b", "#fbf8f0", "#fbf8f0"),
    ),
    # Silver bun and red spectacles, sky-blue cardigan over white, plum trousers.
    9: Look(
        skin="#e9bfa2",
        hair="#c9ccd2",
        hair_style="bun",
        collar="#fbf8f0",
        lips="#b34a56",
        iris="#4a6076",
        top=Paint(
            "#5aa0d8",
            (
                Layer("vee", "#fbf8f0", 120.0),
                Layer("placket", "#3f7fb5", 26.0),
                Layer("buttons", "#fbf8f0", 60.0, (-130.0, -500.0)),
            ),
        ),
        arm=Paint("#4b91cc", (Layer("hoops", "#3f7fb5", 20.0, (0.3,)),)),
        sleeve=1.86,
        bottom=Paint("#6b3556"),
        leg=Paint("#6b3556"),
        hem=1.9,
        shoe=_shoe("#b8352f", "#f4efe4", "#f4efe4"),
        glasses="#b8352f",
    ),
    # Cap, red shirt with a star, khaki shorts, long socks.
    11: Look(
        skin="#6b4330",
        hair="#15100e",
        hair_style="fade",
        collar="#a82c26",
        lips="#7d3a38",
        top=Paint("#d8433a", (Layer("star", "#ffd75e", 62.0, (-130.0,)),)),
        arm=Paint("#f3e8d6"),
        sleeve=0.70,
        bottom=_denim("#8c8a5a", "#3c3a2a", "#d8d2b4"),
        leg=Paint("#8c8a5a", (Layer("outer", "#74724a", 14.0),)),
        hem=0.9,
        shoe=_shoe("#2c6fae", "#f4f1e8", "#f4f1e8"),
        sock="#f4f1e8",
        hat=Paint("#2c6fae", (Layer("disc", "#ffd75e", 22.0, (62.0,)),)),
        beard="stubble",
    ),
}


# What hangs on the costume rack: the clothes of the training actors. Those of S9 and S11 stay unseen in training.
RACK = (1, 5, 6, 7, 8)
OWN_CLOTHES = 0.2  # share of takes in which actors wear their own


def outfit(subject, action, take, seed=0):
    """What an actor wears in one take: now and then the own look, else top, trousers and shoes off the rack, dyed.

    Five training actors in five outfits would teach a network shirts rather than shapes. Skin, hair and face stay.

    Args:
        subject, action, take: Human3.6M's numbers.
        seed: of the capture.
    Returns:
        Look.
    """
    rng = np.random.default_rng(
        [seed, subject, action, take, 3]
    )  # 3 keeps it apart from motion and light
    own = LOOKS[subject]
    if rng.random() < OWN_CLOTHES:
        return own
    top, bottom, shoe = (LOOKS[owner] for owner in rng.choice(RACK, 3))
    dyes = list(zip(rng.uniform(0, 1, 4), rng.uniform(-0.15, 0.15, 4), rng.uniform(0, 0.5, 4)))
    return replace(
        own,
        top=_dyed(top.top, dyes[0]),
        arm=_dyed(top.arm, dyes[0]),
        collar=_other_colour(top.collar, *dyes[0]),
        sleeve=top.sleeve,
        bottom=_dyed(bottom.bottom, dyes[1]),
        leg=_dyed(bottom.leg, dyes[1]),
        hem=bottom.hem,
        sock=bottom.sock,
        shoe=_dyed(shoe.shoe, dyes[2]),
        hat=own.hat and _dyed(own.hat, dyes[3]),
    )


def _dyed(paint, change):
    """A Paint with all of its colours changed alike."""
    layers = tuple(
        replace(layer, colour=_other_colour(layer.colour, *change)) for layer in paint.layers
    )
    return replace(paint, colour=_other_colour(paint.colour, *change), layers=layers)


def _other_colour(colour, turn, lighter, saturation):
    """A "#rrggbb" with its hue turned (in turns), lighter by so much, and at least so saturated, but never glaring."""
    hue, lightness, saturated = colorsys.rgb_to_hls(
        *(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    )
    values = colorsys.hls_to_rgb(
        (hue + turn) % 1,
        min(max(lightness + lighter, 0.08), 0.95),
        min(max(saturated, saturation), 0.75),
    )
    return "#" + "".join(f"{round(255 * value):02x}" for value in values)
