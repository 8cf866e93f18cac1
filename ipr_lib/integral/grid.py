"""THE grid and what lives on it: cells <-> crop px <-> mm, expectation and maximum of a volume.

Taught in notebooks/05_heatmaps_and_argmax.ipynb and notebooks/06_soft_argmax.ipynb.

A volume is (B, J, D, H, W); coordinates are in order x, y, z, so x runs along W, y along H and z along D. Cell i of
an axis has its centre at coordinate i. With stride s = crop_px / W, cell i lies over crop px (i + 0.5) s - 0.5;
depth cell k of D lies ((k + 0.5) / D - 0.5) * depth_mm behind the root. Both are exact under mirrors.
"""

import numpy as np
import torch

from .expectation import soft_argmax


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
        return constants(rows, like).unbind()
    return np.asarray(rows, np.float64)


def constants(values, like):
    """Numbers as a tensor of the dtype and device of `like`. `like.new_tensor` would wait until a GPU has caught up."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def hard_argmax(volume, quarter_shift=False):
    """Cell of the largest logit of each joint.

    Taught in notebooks/05_heatmaps_and_argmax.ipynb.

    Args:
        volume: logits, (B, J, W), (B, J, H, W) or (B, J, D, H, W).
        quarter_shift: along each axis, move a quarter of a cell towards the higher of the two neighbours, as 2D heat-map
            methods do (Newell et al. 2016); not where the largest cell is the first or last of its axis.
    Returns:
        (B, J, 1, 2 or 3) float32, order x, y, z; whole cells without the shift, the first of equal maxima.
    """
    flat = volume.flatten(2)
    index = flat.argmax(dim=-1, keepdim=True)
    cells, stride = [], 1
    for size in reversed(volume.shape[2:]):
        cell = index // stride % size
        place = cell.float()
        if quarter_shift:
            inner = (cell > 0) & (cell < size - 1)
            step = stride * inner  # no step out of the volume, or into the next row
            slope = flat.gather(2, index + step) - flat.gather(2, index - step)
            place = place + 0.25 * slope.float().sign()
        cells.append(place)
        stride *= size
    return torch.cat(cells, dim=-1)


def nearest_cell(cells, volume_shape):
    """The whole cell in which a place lies: what a classifier over cells is taught, and the best that argmax can say.

    Args:
        cells: (..., 3) float tensor, order x, y, z; unit: cells.
        volume_shape: (D, H, W).
    Returns:
        (..., 3) int64, inside the volume.
    """
    D, H, W = volume_shape
    whole = (
        torch.floor(cells + 0.5).nan_to_num(0.0, 0.0, 0.0).long()
    )  # unknown targets may hold anything
    return whole.clamp(min=0).minimum(constants((W - 1, H - 1, D - 1), whole))


def gaussian_factors(cells, volume_shape, sigma):
    """The three 1-D factors whose outer product is a Gaussian target: 1 at its centre, never built as a volume here.

    Args:
        cells: (B, J, 3) centres, order x, y, z; unit: cells.
        volume_shape: (D, H, W).
        sigma: standard deviation, cells.
    Returns:
        tuple along x, y, z: (B, J, W), (B, J, H), (B, J, D) of the dtype of `cells`.
    """
    factors = []
    for place, size in zip(cells.nan_to_num(0.0, 0.0, 0.0).unbind(-1), reversed(volume_shape)):
        axis = torch.arange(size, dtype=cells.dtype, device=cells.device)
        factors.append(torch.exp((axis - place[..., None]).square() / (-2 * sigma**2)))
    return tuple(factors)


def gaussian_volume(cells, volume_shape, sigma):
    """A Gaussian target as a whole volume, to look at or to test with; losses contract with its factors instead.

    Args:
        cells, volume_shape, sigma: as for `gaussian_factors`.
    Returns:
        (B, J, D, H, W), 1 at the centre.
    """
    x, y, z = gaussian_factors(cells, volume_shape, sigma)
    return z[..., :, None, None] * y[..., None, :, None] * x[..., None, None, :]


def debiased_soft_argmax(volume, background=None):
    """Expected cell without the pull that a flat background has towards the middle.

    N cells at the background's logit b weigh N exp(b) in the softmax, a share s of its whole sum, and say "the middle".
    What the rest says follows in closed form: (expectation - s * middle) / (1 - s), axis by axis. Gu et al., "Removing the
    Bias of Integral Pose Regression", ICCV 2021; taught in notebooks/08_heatmap_vs_integral.ipynb.

    Args:
        volume: logits, (B, J, D, H, W).
        background: logit of the background, e.g. 0 for heat maps that are 0 away from the joint. None takes each volume's
            smallest, for logits are known up to a constant only; so much background is there at least.
    Returns:
        (B, J, 3) float32 (float64 for float64 logits), order x, y, z; the middle where all cells are background.
    """
    expectation = soft_argmax(volume)
    flat = volume.flatten(2).to(expectation.dtype)
    low = (
        flat.detach().amin(dim=-1)
        if background is None
        else torch.as_tensor(background, dtype=flat.dtype, device=flat.device)
    )
    share = flat.shape[-1] * torch.exp(low - flat.logsumexp(dim=-1))
    share = torch.where(share < 1 - 1e-4, share, 0)[
        ..., None
    ]  # nothing but background: leave the middle as it is
    D, H, W = volume.shape[2:]
    middle = (constants((W, H, D), expectation) - 1) / 2
    return (expectation - share * middle) / (1 - share)
