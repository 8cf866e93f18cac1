"""Stored crops -> crops of training on a device: JPEG decoding by torchvision, the warp as one gather.

The same map and the same pixel centres as `datasets.CropDataset`, which does this on the CPU. Training does not use it:
whether it pays, `benchmarks/jpeg_decoding.py` has to say first.
"""

import numpy as np
import torch
import torchvision
from torch.nn import functional

from ..files import InputError


def decode_crops(jpegs, device):
    """Decode JPEGs of one size on a device.

    Args:
        jpegs: list of bytes-like, as `CropStore.jpeg` gives.
        device: torch.device; on "cuda" the GPU's decoder does it.
    Returns:
        (B, 3, S, S) uint8 RGB on the device.
    Raises:
        InputError: this torchvision cannot decode there, or a JPEG is damaged.
    """
    data = [torch.from_numpy(np.frombuffer(jpeg, np.uint8).copy()) for jpeg in jpegs]
    try:
        pictures = torchvision.io.decode_jpeg(data, torchvision.io.ImageReadMode.RGB, device=device)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"torchvision {torchvision.__version__} cannot decode these JPEGs on {device}: {reason}"
        ) from error
    return torch.stack(pictures)


def warp_crops(pictures, from_stored, crop_px):
    """Cut crops out of stored ones, bilinear; past its edge a stored crop goes on with its outermost pixels.

    Args:
        pictures: (B, 3, S, S) uint8, on any device.
        from_stored: (B, 2, 3) float64 array, stored px -> crop px.
        crop_px: side of the crops, px.
    Returns:
        (B, crop_px, crop_px, 3) uint8 on the same device; `transforms.warp_small`'s pixels up to rounding.
    """
    size = pictures.shape[-1]
    linear = np.linalg.inv(from_stored[..., :2])
    offset = -np.einsum("bij,bj->bi", linear, from_stored[..., 2])
    # grid_sample wants places in -1 … 1 from edge to edge: px p lies at (2 p + 1) / size - 1 where corners are not aligned.
    maps = np.concatenate([2 / size * linear, ((2 * offset + 1) / size - 1)[..., None]], axis=-1)
    maps = torch.from_numpy(maps).to(pictures.device, torch.float32)
    axis = torch.arange(crop_px, device=pictures.device, dtype=torch.float32)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1)
    grid = torch.einsum("hwj,bij->bhwi", places, maps)
    crops = functional.grid_sample(
        pictures.float(), grid, padding_mode="border", align_corners=False
    )
    return crops.round_().to(torch.uint8).permute(0, 2, 3, 1)
