"""Losses, all masked means. Taught in notebooks/07_network_and_losses.ipynb."""

import torch


def masked_mean(values, weights):
    """Sum of weights * values over the sum of weights; 0 where all weights are 0.

    Dividing by the count of joints instead would let samples without depth count less than they should.

    Args:
        values, weights: same shape.
    Returns:
        scalar.
    """
    # where, not a product: an unknown target may hold anything, infinity included.
    total = torch.where(weights > 0, values * weights, 0).sum()
    return total / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)


def integral_loss(joints, target, weights, extent):
    """L1 distance of decoded joints, in shares of the volume's sides; I* and R1 train on it.

    Sun et al. 2018, section 2.2 (L1 on the decoded coordinate).

    Args:
        joints: (B, J, 3) decoded, x, y in crop px, z in mm.
        target: (B, J, 3), likewise.
        weights: (B, J, 3), 0 where a coordinate is unknown.
        extent: (3,) size of the volume along x, y, z: crop_px, crop_px, depth_mm.
    Returns:
        scalar: masked mean of |joint - target| / extent.
    """
    return masked_mean((joints - target).abs() / joints.new_tensor(extent), weights)
