"""Crops made by torch are those that OpenCV makes."""

import numpy as np
import pytest
import torch

from ipr_lib.data.device_crops import decode_crops, warp_crops
from ipr_lib.data.store import build_store
from ipr_lib.files import InputError
from ipr_lib.geometry.transforms import (
    Augmentation,
    compose_affine,
    crop_affine,
    draw_augmentation,
    invert_affine,
    warp_small,
)


@pytest.fixture
def store(prepared, tmp_path):
    return build_store(prepared, tmp_path / "s1.crops", subjects=(1,), step=3, crop_px=64)


def test_decoded_crops_are_the_stores(store):
    decoded = decode_crops([store.jpeg(i) for i in range(len(store))], torch.device("cpu"))
    expected = np.stack([store.picture(i) for i in range(len(store))])
    assert decoded.dtype == torch.uint8
    assert np.abs(decoded.permute(0, 2, 3, 1).numpy().astype(int) - expected).max() <= 3


def test_warped_crops_are_those_of_the_dataset():
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (12, 3, 15, 15)))
    pictures = torch.nn.functional.interpolate(coarse, size=89, mode="bilinear").to(torch.uint8)
    draw = draw_augmentation(Augmentation(shift=0.1), rng, 12)
    del draw["colour"]
    boxes = np.tile([100.0, 120.0, 80.0], (12, 1))
    from_stored = compose_affine(crop_affine(boxes, 64, **draw), invert_affine(crop_affine(boxes * [1, 1, 1.39], 89)))
    crops = warp_crops(pictures, from_stored, 64)
    assert draw["flip"].any() and crops.dtype == torch.uint8
    expected = np.empty((12, 64, 64, 3), np.uint8)
    warp_small(pictures.permute(0, 2, 3, 1).contiguous().numpy(), from_stored, expected)
    difference = np.abs(crops.numpy().astype(int) - expected)
    assert difference.mean() < 0.6 and difference.max() <= 4, "OpenCV counts places in 1/32 px"
    moved = np.abs(np.roll(crops.numpy(), 1, axis=2).astype(int) - expected)
    assert moved.mean() > 3, "a px of shift would show"


def test_damaged_jpegs_and_devices_without_a_decoder_are_named(store):
    with pytest.raises(InputError, match="cannot decode these JPEGs on cpu"):
        decode_crops([bytes(store.jpeg(0))[:40]], torch.device("cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cannot decode these JPEGs on cuda"):
            decode_crops([store.jpeg(0)], torch.device("cuda"))
