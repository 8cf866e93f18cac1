"""THE grid and what lives on it: cells <-> crop px <-> mm, expectation and maximum of a volume.

Taught in notebooks/05_heatmaps_and_argmax.ipynb and notebooks/06_soft_argmax.ipynb.

A volume is (B, J, D, H, W); coordinates are in order x, y, z, so x runs along W, y along H and z along D. Cell i of
an axis has its centre at coordinate i. With stride s = crop_px / W, cell i lies over crop px (i + 0.5) s - 0.5;
depth cell k of D lies ((k + 0.5) / D - 0.5) * depth_mm behind the root. Both are exact under mirrors.
"""

import numpy as np
import torch


def cells_to_joints(cells, volume_shape, crop_px, depth_mm):
    """Cells -> crop px and mm.

    Args:
        cells: (..., 3) tensor or array, order x, y, z; unit: cells, 0 is the centre of the first.
        volume_shape: (D, H, W).
        crop_px: side of the square crop, px.
        depth_mm: depth range that the volume covers, mm.
    Returns:
        (..., 3): x, y in crop px; z in mm behind the root.
    """
    size, extent, offset = _grid(cells, volume_shape, crop_px, depth_mm)
    return ((cells + 0.5) / size - 0.5) * extent + offset


def joints_to_cells(joints, volume_shape, crop_px, depth_mm):
    """Crop px and mm -> cells; the exact inverse of `cells_to_joints`, with the same arguments."""
    size, extent, offset = _grid(joints, volume_shape, crop_px, depth_mm)
    return ((joints - offset) / extent + 0.5) * size - 0.5


def _grid(like, volume_shape, crop_px, depth_mm):
    """Per axis x, y, z: cells, extent, and the coordinate of the middle; of `like`'s kind, dtype and device."""
    D, H, W = volume_shape
    middle = (crop_px - 1) / 2
    rows = ((W, H, D), (crop_px, crop_px, depth_mm), (middle, middle, 0.0))
    if isinstance(like, torch.Tensor):
        return like.new_tensor(rows).unbind()
    return np.asarray(rows, np.float64)


def soft_argmax(volume):
    """Expected cell of each joint under a softmax over its whole volume.

    Eq. (2) of Sun et al. 2018; taught in notebooks/06_soft_argmax.ipynb. The volume is summed down to one axis at a
    time before the expectation is taken: the same number as a sum over all cells, for less work.

    Args:
        volume: logits, (B, J, D, H, W), any float dtype.
    Returns:
        (B, J, 3) float32 (float64 for float64 logits), order x, y, z; unit: cells, 0 is the centre of the first cell.
    """
    volume = volume if volume.dtype == torch.float64 else volume.float()
    prob = volume.flatten(2).softmax(dim=-1).view(volume.shape)
    plane = prob.sum(dim=2)  # (B, J, H, W)
    marginals = plane.sum(dim=2), plane.sum(dim=3), prob.sum(dim=(3, 4))  # along x, y, z
    return torch.stack([marginal @ _cells(marginal) for marginal in marginals], dim=-1)


def hard_argmax(volume):
    """Cell of the largest logit of each joint.

    Args:
        volume: logits, (B, J, D, H, W).
    Returns:
        (B, J, 3) float32, order x, y, z; whole cells, the first of equal maxima.
    """
    D, H, W = volume.shape[2:]
    index = volume.flatten(2).argmax(dim=-1)
    return torch.stack([index % W, index // W % H, index // (W * H)], dim=-1).float()


def _cells(marginal):
    """Coordinates 0 … n - 1 of the last axis."""
    return torch.arange(marginal.shape[-1], dtype=marginal.dtype, device=marginal.device)
