"""Cosines that a training crop hardly shows are dropped; those that it shows stay, to the step they are rounded to."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ipr_lib.data import crop_jpeg
from ipr_lib.data.crop_jpeg import drop_cosines, encode_jpeg


def wave(side, u, v, amplitude, block):
    """Grey crop of one cosine, (u, v) of the 8 x 8 px from `block` (row, column) on; its coefficient is `amplitude`."""
    cosines = np.zeros((8, 8))
    cosines[v, u] = amplitude
    plane = np.full((side, side), 128.0)
    plane[block[0]:block[0] + 8, block[1]:block[1] + 8] += cv2.idct(cosines)
    return np.repeat(np.rint(plane).astype(np.uint8)[..., None], 3, axis=2)


def coefficient(plane, u, v, block):
    return cv2.dct(plane[block[0]:block[0] + 8, block[1]:block[1] + 8].astype(float) - 128)[v, u]


def decoded(crop):
    return cv2.imdecode(np.frombuffer(encode_jpeg(crop), np.uint8), cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize(
    "side, u, v, block, limit",
    [  # 3 grey levels for the coarsest cosine, 6 for the finest, linear in u + v = 0 … 14; doubled 0.2 half sides past 0.6
        (343, 7, 7, (168, 168), 6.0),
        (343, 4, 3, (168, 168), 4.5),
        # The block of px 328 … 335 has its middle (331.5 - 171) / 171.5 = 0.936 half sides from the crop's, that of rows
        # 168 … 175 nearly none: 2 ** ((0.936 - 0.6) / 0.2) = 3.203 times.
        (343, 7, 7, (168, 328), 6 * 3.203),
        (172, 7, 7, (80, 80), 6 * 0.708),  # half the side: the root of a half of it
        (600, 7, 7, (296, 296), 6.0),
    ],
)
def test_a_cosine_is_dropped_below_its_limit_and_kept_above(side, u, v, block, limit):
    met = set()
    for amplitude in np.linspace(0.6, 1.6, 11) * limit:
        crop = wave(side, u, v, amplitude, block)
        own = coefficient(crop[..., 0], u, v, block)  # not quite `amplitude`: pixels are whole grey levels
        if abs(own / limit - 1) > 0.02:
            met.add(own > limit)
            expected = own if own > limit else 0
            assert abs(coefficient(drop_cosines(crop)[..., 0], u, v, block) - expected) < 2.3, "rounded to grey levels again"
            assert abs(coefficient(decoded(crop)[..., 1], u, v, block) - expected) < 3.5, "and to steps of 4"
    assert met == {True, False}


def test_means_of_blocks_and_colours_stay():
    crop = np.full((40, 40, 3), (200, 30, 90), np.uint8)
    crop[:8] = (10, 250, 128)
    assert np.abs(decoded(crop).astype(int) - crop).max() <= 3  # steps of 4 are half a grey level of a block's mean


def test_the_transform_is_jpegs_own_and_undoes_itself():
    basis = crop_jpeg._cosines()
    np.testing.assert_allclose(basis @ basis.T, np.eye(8), atol=1e-6)
    block = np.random.default_rng(0).uniform(-128, 127, (8, 8)).astype(np.float32)
    planes = np.zeros((3, 16, 24), np.float32)
    planes[1, 8:, 16:] = block
    cosines = crop_jpeg._transform(planes.copy(), basis)
    np.testing.assert_allclose(cosines[1, 8:, 16:], cv2.dct(block), atol=1e-3)
    np.testing.assert_allclose(crop_jpeg._transform(cosines, np.ascontiguousarray(basis.T)), planes, atol=1e-3)


@pytest.mark.parametrize("height, width", [(343, 343), (8, 8), (5, 3), (17, 40)])
def test_every_size_comes_out_as_it_went_in(height, width):
    rows, columns = np.indices((height, width))
    crop = np.stack([rows % 256, columns % 256, (rows + columns) % 256], -1).astype(np.uint8) // 2 + 60
    assert np.abs(decoded(crop).astype(int) - crop).mean() < 3
    tables = Image.open(io.BytesIO(encode_jpeg(crop))).quantization
    assert set(tables[0]) == set(tables[1]) == {4}
