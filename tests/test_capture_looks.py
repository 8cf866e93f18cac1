from collections import Counter
from itertools import combinations, product

import cv2
import numpy as np

from ipr_lib.studio import write_sheet
from ipr_lib.studio.scenes.looks import LOOKS, RACK, outfit

TAKES = list(product(LOOKS, range(2, 17), (1, 2)))
OUTFITS = {take: outfit(*take) for take in TAKES}


def test_outfits_follow_from_the_numbers_alone():
    assert all(outfit(*take) == OUTFITS[take] for take in TAKES)
    assert outfit(1, 2, 1, seed=1) != outfit(1, 2, 1, seed=2)


def test_face_and_hair_stay_the_actors_own():
    for (subject, _, _), look in OUTFITS.items():
        own = LOOKS[subject]
        for name in ("skin", "hair", "hair_style", "lips", "iris", "glasses", "beard"):
            assert getattr(look, name) == getattr(own, name)
        assert (look.hat is None) == (own.hat is None)


def test_clothes_vary_and_their_parts_match():
    assert len({look.top.colour for look in OUTFITS.values()}) > 150
    own = Counter(subject for (subject, _, _), look in OUTFITS.items() if look == LOOKS[subject])
    assert all(0 < own[subject] < 15 for subject in LOOKS)
    for look in OUTFITS.values():
        sleeves = {LOOKS[owner].sleeve for owner in LOOKS}
        assert look.sleeve in sleeves and len(look.top.layers) in {
            len(LOOKS[owner].top.layers) for owner in LOOKS
        }


def test_the_test_actors_own_clothes_are_never_seen_in_training():
    def cut(paint):
        return tuple((layer.name, layer.size, layer.at) for layer in paint.layers)

    worn = {cut(look.top) for (subject, _, _), look in OUTFITS.items() if subject in RACK}
    assert cut(LOOKS[9].top) not in worn and cut(LOOKS[11].top) not in worn


def test_dyes_are_colours_and_never_glaring():
    for look in OUTFITS.values():
        for colour in (look.top.colour, look.bottom.colour, look.shoe.colour, look.collar):
            values = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            assert len(colour) == 7 and max(values) - min(values) < 240


def test_sheet_is_written_whole(tmp_path):
    write_sheet(tmp_path / "sheet.jpg", subjects=(1, 9), actions=(2, 9, 14), cell_px=40)
    picture = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert picture.shape == (80, 120, 3)
    cells = picture.reshape(2, 40, 3, 40, 3).transpose(0, 2, 1, 3, 4).reshape(6, -1).astype(float)
    assert all(
        np.abs(a - b).mean() > 10 for a, b in combinations(cells, 2)
    )  # everyone does something else
