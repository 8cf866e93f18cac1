"""Losses, all masked means. Taught in notebooks/07_network_and_losses.ipynb.

H1, H2 and H3 are the field's customary heat-map losses for volumes; the paper compares with three such losses, whose exact text
we do not have, so they are our reading. Each takes joints without depth along: the volume is marginalised over depth.
"""

import math

import torch
from torch.nn import functional

from . import blocks, map_terms
from .expectation import soft_argmax
from .grid import constants, gaussian_factors, nearest_cell


def masked_mean(values, weights):
    """Sum of weights * values over the sum of weights; 0 where all weights are 0.

    Dividing by the count of joints instead would let samples without depth count less than they should.

    Args:
        values, weights: same shape.
    Returns:
        scalar.
    """
    return weighted_sum(values.flatten(), weights.flatten()) / weights.sum().clamp(
        min=torch.finfo(values.dtype).tiny
    )


def weighted_sum(values, weights):
    """Sum of weights * values over the last axis, without the values whose weight is 0."""
    # where, not a product: an unknown target may hold anything, infinity included.
    return torch.where(weights > 0, values * weights, 0).sum(-1)


def shares(weights):
    """Weights whose sum is 1, or 0 where all are 0: a mean's weights, for a loss that is summed as it goes."""
    return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


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
    return masked_mean((joints - target).abs() / constants(extent, joints), weights)


def soft_argmax_loss(volume, cells, weights):
    """I*: L1 distance of the expectation under the softmax, in shares of the volume's sides: `integral_loss` from the logits.

    dL/dE is the sign of the error times what the coordinate counts for. It is known as soon as a joint's expectation is, so
    that value and gradient take one visit; taught in notebooks/07_network_and_losses.ipynb.

    Args:
        volume: logits, (B, J, D, H, W), any float dtype.
        cells: (B, J, 3) true places, order x, y, z; unit: cells; anything where unknown.
        weights: (B, J, 3), 0 where a coordinate is unknown.
    Returns:
        scalar: masked mean of |expectation - truth| / side.
    """
    cells, weights = _known_coordinates(volume, cells, weights)
    sides = _sides(volume, cells)
    if volume.device.type != "cpu" or not volume.is_contiguous() or torch.compiler.is_compiling():
        # A GPU's kernels make the gradient when the loss' own is there; they and the blocks know channels-last.
        return masked_mean((soft_argmax(volume) - cells).abs() / sides, weights)
    weights, cells = (
        functional.pad(numbers, (1, 2)) for numbers in (shares(weights) / sides, cells)
    )
    return map_terms.over_joints(
        volume, map_terms.distance_of_expectation(volume.shape[2:], cells), weights, cells
    )


def squared_heatmap_loss(volume, cells, weights, sigma=1.0):
    """H1: squared error against a Gaussian of height 1, summed over the cells of a joint.

    The Gaussian is an outer product that is made in a block of the volume at a time and never as a whole. Without a known
    depth the sum over depth is held against the 2D Gaussian times that sum's height.

    Args:
        volume: heat maps, (B, J, D, H, W), any float dtype.
        cells: (B, J, 3) true places, order x, y, z; unit: cells; anything where unknown.
        weights: (B, J, 3), 0 where a coordinate is unknown. A joint without x or y counts for nothing.
        sigma: of the Gaussian, cells.
    Returns:
        scalar: masked mean over joints.
    """
    cells, known, planar = _prepare(volume, cells, weights)
    height = sigma * math.sqrt(2 * math.pi)  # of a column of the Gaussian, summed over depth
    return map_terms.over_joints(
        volume,
        map_terms.squared_distance,
        shares(known),
        *gaussian_factors(cells, volume.shape[2:], sigma),
        planar=planar,
        plane_term=map_terms.squared_plane_distance(height),
    )


def softmax_heatmap_loss(volume, cells, weights, sigma=0.0):
    """H2: cross-entropy between the softmax over a joint's cells and its true cell, or a small Gaussian.

    With p the softmax of H and q the target it is log sum exp H - sum q H: one pass over the volume, then one gathered
    cell, or a contraction with the Gaussian's factors. Without a known depth, p is summed over depth before: the column of the
    true cell instead of the cell.

    Args:
        volume, cells, weights: as for `squared_heatmap_loss`, the volume being logits.
        sigma: of the Gaussian, cells; 0 for the true cell alone.
    Returns:
        scalar: masked mean over joints, nats.
    """
    cells, known, planar = _prepare(volume, cells, weights)
    if sigma == 0:
        x, y, z = nearest_cell(cells, volume.shape[2:]).unbind(-1)
        index = _column_index(volume, x[..., None], y[..., None])

        def of_true_cell(columns, weights):
            column = columns[:, :, 0]  # (B, J, D)
            inside = torch.where(
                planar, column.logsumexp(-1), column.gather(2, z[..., None])[..., 0]
            )
            return -weighted_sum(inside, weights).sum()

        return map_terms.over_joints(
            volume, map_terms.log_sum_exp, shares(known), index=index, of_cells=of_true_cell
        )
    factors = (
        factor / factor.sum(-1, keepdim=True)
        for factor in gaussian_factors(cells, volume.shape[2:], sigma)
    )
    return map_terms.over_joints(
        volume,
        map_terms.cross_entropy,
        shares(known),
        *factors,
        planar=planar,
        plane_term=map_terms.plane_cross_entropy,
    )


def binary_heatmap_loss(volume, cells, weights, radius=1.5):
    """H3: binary cross-entropy of each cell against a small ball round the joint, summed over the cells of a joint.

    With logits H it is the sum of softplus(H) over all cells less the sum of H over the ball's, so the ball's cells
    alone are gathered. Without a known depth a column holds the joint if any of its cells does, each cell deciding for itself:
    1 - prod(1 - p), whose logit is log(exp(s) - 1) with s the column's sum of softplus; the target is a disc.

    Args:
        volume, cells, weights: as for `squared_heatmap_loss`, the volume being logits.
        radius: of the ball, cells; cells whose centres lie within it belong to the joint. From sqrt(3) / 2 on it holds a
            cell wherever the joint lies.
    Returns:
        scalar: masked mean over joints, nats.
    """
    cells, known, planar = _prepare(volume, cells, weights)
    D, H, W = volume.shape[2:]
    cells = cells.nan_to_num(0.0, 0.0, 0.0)
    disc = _disc_offsets(radius, cells.device)  # (K, 2)
    whole = nearest_cell(cells, (D, H, W))
    x, y = (whole[..., None, :2] + disc).unbind(-1)  # (B, J, K)
    index = _column_index(volume, x.clamp(0, W - 1), y.clamp(0, H - 1))
    away = (x - cells[..., :1]).square() + (y - cells[..., 1:2]).square()
    away = torch.where(
        (x >= 0) & (x < W) & (y >= 0) & (y < H), away, torch.inf
    )  # no cell outside of the volume
    depth = torch.arange(D, device=cells.device) - cells[..., 2:, None]  # (B, J, 1, D)
    in_ball, in_disc = away[..., None] + depth.square() <= radius**2, away[planar] <= radius**2
    in_ball &= ~planar[..., None, None]

    def of_ball(columns, weights):
        ball = torch.where(in_ball, columns, 0).sum(dim=(2, 3))
        some = (
            functional.softplus(columns[planar]).sum(-1).clamp(min=torch.finfo(columns.dtype).tiny)
        )
        logit = some + torch.log(-torch.expm1(-some))
        disc = torch.where(in_disc, logit, 0).sum(-1)
        return -weighted_sum(ball, weights).sum() - weighted_sum(disc, weights[planar])

    return map_terms.over_joints(
        volume, map_terms.softplus, shares(known), index=index, of_cells=of_ball
    )


def js_prior_loss(volume, cells, weights, sigma=1.0):
    """Jensen-Shannon divergence of each axis' marginal from a Gaussian about the truth: keeps maps small and single.

    Nibali et al., "Numerical Coordinate Regression with CNNs", 2018 (section 3.3), apply it to 2D maps. Taken axis by axis it
    needs no volume of targets, and a joint without depth just leaves its z out.

    Args:
        volume: logits, (B, J, D, H, W).
        cells: (B, J, 3) true places, order x, y, z; unit: cells.
        weights: (B, J, 3), 0 where a coordinate is unknown.
        sigma: of the Gaussian, cells.
    Returns:
        scalar: masked mean over coordinates, nats; between 0 and log 2.
    """
    cells, weights = _known_coordinates(volume, cells, weights)
    factors = gaussian_factors(cells, volume.shape[2:], sigma)
    q = torch.cat([factor / factor.sum(-1, keepdim=True) for factor in factors], dim=-1)
    tiny = torch.finfo(q.dtype).tiny  # log 0 times 0 is 0, but not a number here
    of_axis = (map_terms.axis_matrix(volume.shape[2:], q, start=1) > 0).to(q.dtype)

    def divergence(p, weights, q):
        p = p.clamp(min=tiny)
        log_m, log_p = ((p + q) / 2).log_(), p.log()
        value = (p * (log_p - log_m) + q * (q.log() - log_m)) @ of_axis / 2
        return weighted_sum(value, weights), (log_p - log_m) * (weights @ of_axis.T / 2)

    return map_terms.over_joints(
        volume, map_terms.of_marginals(divergence), shares(weights), q.clamp(min=tiny)
    )


def expected_error_loss(volume, cells, weights):
    """Expected L1 error under the map, in shares of the volume's sides, where `integral_loss` takes the error of the
    expectation: two bumps left and right of the truth are a large error here, none there.

    Li et al., "Localization with Sampling-Argmax", NeurIPS 2021, estimate it by samples; per axis it is a plain sum.

    Args:
        volume: logits, (B, J, D, H, W).
        cells: (B, J, 3) true places, order x, y, z; unit: cells.
        weights: (B, J, 3), 0 where a coordinate is unknown.
    Returns:
        scalar: masked mean over coordinates.
    """
    cells, weights = _known_coordinates(volume, cells, weights)
    axes = map_terms.axis_matrix(volume.shape[2:], cells)
    of_axis = (map_terms.axis_matrix(volume.shape[2:], cells, start=1) > 0).to(cells.dtype)
    away = (axes.sum(dim=1) - cells @ of_axis.T).abs() / (
        _sides(volume, cells) @ of_axis.T
    )  # (B, J, W + H + D), in shares

    def expected(p, weights, away):
        return weighted_sum((p * away) @ of_axis, weights), away * (weights @ of_axis.T)

    return map_terms.over_joints(volume, map_terms.of_marginals(expected), shares(weights), away)


def joint_weights(weights):
    """Weights (B, J, 3) of coordinates -> (B, J): what heat-map losses average over. A joint counts where x and y are known."""
    return torch.minimum(weights[..., 0], weights[..., 1])


def _prepare(volume, cells, weights):
    """Cells in float32 (float64 for a volume of that), (B, J) weight of each joint, and which joints have no depth."""
    known = joint_weights(weights).to(blocks.inside(volume))
    return cells.to(known.dtype), known, (weights[..., 2] == 0) & (known > 0)


def _known_coordinates(volume, cells, weights):
    """Cells without NaN or infinity, and weights, both in float32 (float64 for a volume of that)."""
    dtype = blocks.inside(volume)
    return cells.to(dtype).nan_to_num(0.0, 0.0, 0.0), weights.to(dtype)


def _sides(volume, like):
    """(3,) cells along x, y, z."""
    return constants(volume.shape[:1:-1], like)


def _column_index(volume, x, y):
    """Where the columns of D cells at (x, y), each (B, J, K), lie among a joint's D * H * W cells: (B, J, K, D)."""
    D, H, W = volume.shape[2:]
    return (y * W + x)[..., None] + torch.arange(D, device=volume.device) * (H * W)


def _disc_offsets(radius, device):
    """Offsets (K, 2) from the nearest cell to all cells that can lie within `radius` of a place in it."""
    reach = torch.arange(-math.floor(radius + 0.5), math.floor(radius + 0.5) + 1, device=device)
    offsets = torch.cartesian_prod(reach, reach)
    return offsets[(offsets.abs() - 0.5).clamp(min=0).square().sum(-1) <= radius**2]
