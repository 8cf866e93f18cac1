"""The grid: cells of a volume, crop pixels and millimetres;
and what lives on it, the maximum and the targets.

Taught in notebooks/05_heatmaps_and_argmax.ipynb.

A volume is (B, J, D, H, W). Coordinates are in order x, y, z: x runs along W, y along H and z along
D. Cell i of an axis has its centre at coordinate i. With stride s = crop_px / W, cell i lies over
crop pixel (i + 0.5) s - 0.5; depth cell k of D lies ((k + 0.5) / D - 0.5) depth_mm behind the root.
Both are exact under mirrors.
"""

import numpy as np
import torch


def cells_to_joints(cells, volume_shape, crop_px: int, depth_mm: float):
    """Cells -> crop pixels and mm; see notebook 05.

    Args:
        cells: (..., 3) tensor or array, order x, y, z; unit: cells, 0 is the centre of the first.
        volume_shape: (D, H, W).
        crop_px: side of the square crop, px.
        depth_mm: depth range that the volume covers, mm.

    Returns:
        (..., 3), tensor or array as `cells`: x, y in crop px; z in mm behind the root.
    """
    size, extent, middle = _grid(cells, volume_shape, crop_px, depth_mm)
    return ((cells + 0.5) / size - 0.5) * extent + middle


def joints_to_cells(joints, volume_shape, crop_px: int, depth_mm: float):
    """Crop pixels and mm -> cells: the exact inverse of `cells_to_joints`,
    with the same arguments.
    """
    size, extent, middle = _grid(joints, volume_shape, crop_px, depth_mm)
    return ((joints - middle) / extent + 0.5) * size - 0.5


def _grid(like, volume_shape, crop_px, depth_mm):
    """Number of cells, extent and middle along x, y, z; tensors or arrays as `like`."""
    D, H, W = volume_shape
    size = (W, H, D)
    extent = (crop_px, crop_px, depth_mm)
    middle = ((crop_px - 1) / 2, (crop_px - 1) / 2, 0.0)
    if isinstance(like, torch.Tensor):
        return constants(size, like), constants(extent, like), constants(middle, like)
    return np.array(size, float), np.array(extent, float), np.array(middle, float)


def constants(values, like: torch.Tensor) -> torch.Tensor:
    """Numbers as a tensor of the dtype and device of `like`,
    without waiting for a GPU as `like.new_tensor` does.
    """
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def indices(size: int, like: torch.Tensor) -> torch.Tensor:
    """0, 1, ..., size - 1, the cells along one axis, in the dtype and on the device of `like`."""
    return torch.arange(size, dtype=like.dtype, device=like.device)


def hard_argmax(volume: torch.Tensor, quarter_shift: bool = False) -> torch.Tensor:
    """Cell of the largest logit of each joint; see notebook 05.

    Args:
        volume: logits, (B, J, W), (B, J, H, W) or (B, J, D, H, W).
        quarter_shift: along each axis, move a quarter of a cell towards the higher of the two
            neighbours (Newell et al. 2016). A largest cell at the end of an axis does not move
            along it.

    Returns:
        (B, J, 1 to 3) float32, order x, y, z; without the shift whole cells, the first of equal
        maxima.
    """
    flat = volume.flatten(2)
    index = flat.argmax(dim=2, keepdim=True)  # (B, J, 1)
    cells = []
    stride = 1  # from a cell to its neighbour along the axis, in the flat map
    for size in reversed(volume.shape[2:]):
        cell = index // stride % size
        place = cell.float()
        if quarter_shift:
            has_neighbours = (cell > 0) & (cell < size - 1)
            step = stride * has_neighbours  # at an end, the cell is compared with itself
            slope = flat.gather(2, index + step) - flat.gather(2, index - step)
            place = place + 0.25 * slope.float().sign()
        cells.append(place)
        stride = stride * size
    return torch.cat(cells, dim=2)


def nearest_cell(cells: torch.Tensor, volume_shape) -> torch.Tensor:
    """The whole cell in which a place lies: the best that an argmax can say; see notebook 05.

    Args:
        cells: (..., 3) float, order x, y, z; unit: cells. NaN and infinity become cell 0.
        volume_shape: (D, H, W).

    Returns:
        (..., 3) int64, inside the volume.
    """
    D, H, W = volume_shape
    whole = torch.floor(cells + 0.5).nan_to_num(0.0, 0.0, 0.0).long()
    last = constants((W - 1, H - 1, D - 1), whole)
    return whole.clamp(min=0).minimum(last)


def gaussian_factors(cells: torch.Tensor, volume_shape, sigma: float) -> tuple:
    """The three 1-D factors of a Gaussian target: the volume is their outer product;
    see notebook 05.

    Args:
        cells: (B, J, 3) finite centres, order x, y, z; unit: cells.
        volume_shape: (D, H, W).
        sigma: standard deviation, cells.

    Returns:
        (B, J, W), (B, J, H), (B, J, D) along x, y, z, 1 at the centre, in the dtype of `cells`.
    """
    D, H, W = volume_shape
    factors = []
    for axis, size in enumerate((W, H, D)):
        away = indices(size, cells) - cells[..., axis, None]  # (B, J, size)
        factors.append(torch.exp(-away.square() / (2 * sigma**2)))
    return tuple(factors)


def gaussian_volume(cells: torch.Tensor, volume_shape, sigma: float) -> torch.Tensor:
    """A Gaussian target as a volume; see notebook 05.

    Args:
        cells, volume_shape, sigma: as for `gaussian_factors`.

    Returns:
        (B, J, D, H, W), 1 at the centre.
    """
    x, y, z = gaussian_factors(cells, volume_shape, sigma)
    plane = outer(x, y)  # (B, J, H, W)
    return z[:, :, :, None, None] * plane[:, :, None]


def outer(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Factors along x (B, J, W) and y (B, J, H) -> their product on the plane (B, J, H, W)."""
    return y[:, :, :, None] * x[:, :, None, :]
