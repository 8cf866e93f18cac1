"""The losses, all masked means. Taught in notebooks/07_network_and_losses.ipynb.

`integral_loss` compares decoded joints. The others compare a map H (B, J, D, H, W) of logits with
the true place: three heat-map losses, the Jensen-Shannon prior, and the expected error. The paper
compares with three heat-map losses whose exact text we do not have; H1, H2 and H3 are the field's
customary ones for volumes, so they are our reading. A joint without known depth is taught by the
map summed over depth.
"""

import math

import torch
from torch.nn import functional

from .expectation import at_least_float32, marginals, softmax_over_map
from .grid import constants, gaussian_factors, gaussian_volume, indices, nearest_cell, outer

MAP = (2, 3, 4)  # the axes D, H, W of a volume
PLANE = (2, 3)  # the axes H, W of a volume that is summed over depth


def masked_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum of weights * values over the sum of weights; 0 where all weights are 0.

    Dividing by the number of joints instead would let samples without depth count less than they
    should.

    Args:
        values, weights: of the same shape; a value of weight 0 may be anything.

    Returns:
        Scalar.
    """
    weighted = torch.where(weights > 0, values * weights, 0)
    total = weights.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return weighted.sum() / total


def joint_weights(weights: torch.Tensor) -> torch.Tensor:
    """Weights of coordinates (B, J, 3) -> weights of joints (B, J):
    a joint counts where x and y are known.
    """
    return torch.minimum(weights[..., 0], weights[..., 1])


def integral_loss(
    joints: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, extent
) -> torch.Tensor:
    """L1 distance of decoded joints; I* and R1 are trained on it.

        mean |joint - target| / extent

    Sun et al. 2018, section 2.2; see notebook 07.

    Args:
        joints: (B, J, 3) decoded, x, y in crop px, z in mm.
        target: (B, J, 3), likewise.
        weights: (B, J, 3), 0 where a coordinate is unknown.
        extent: (3,) size of the volume along x, y, z: crop_px, crop_px, depth_mm.

    Returns:
        Scalar: masked mean over coordinates, as a fraction of the volume's sides.
    """
    return masked_mean((joints - target).abs() / constants(extent, joints), weights)


def squared_heatmap_loss(
    volume: torch.Tensor,
    cells: torch.Tensor,
    weights: torch.Tensor,
    sigma: float = 1.0,
    height: float = 1.0,
) -> torch.Tensor:
    """H1: squared error against a Gaussian G of a given height.

        sum over cells (H - G)^2
        without depth: sum over x, y (sum over z H / depth - G)^2

    where G is the 2D Gaussian in the second line, and depth = sigma sqrt(2 pi) is the sum over
    depth of a Gaussian of height 1. See notebook 07.

    Args:
        volume: heat maps, (B, J, D, H, W), any float dtype.
        cells: (B, J, 3) true places, order x, y, z; unit: cells; anything where unknown.
        weights: (B, J, 3), 0 where a coordinate is unknown. A joint without x or y counts for
            nothing.
        sigma: standard deviation of the Gaussian, cells.
        height: of the Gaussian at its centre.

    Returns:
        Scalar: masked mean over joints.
    """
    volume, cells, weights = _prepare(volume, cells, weights)
    target = height * gaussian_volume(cells, volume.shape[2:], sigma)
    error = (volume - target).square().sum(dim=MAP)  # (B, J)

    x, y, _ = gaussian_factors(cells, volume.shape[2:], sigma)
    depth = sigma * math.sqrt(2 * math.pi)
    plane_error = (volume.sum(dim=2) / depth - height * outer(x, y)).square().sum(dim=PLANE)

    error = torch.where(_without_depth(weights), plane_error, error)
    return masked_mean(error, joint_weights(weights))


def softmax_heatmap_loss(
    volume: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """H2: cross-entropy between the softmax p of a map and its true cell.

        -log p(true cell) = log(sum over cells exp H) - H(true cell)
        without depth: log(sum over cells exp H) - log(sum over the true column exp H)

    See notebook 07.

    Args:
        volume: logits, (B, J, D, H, W), any float dtype.
        cells, weights: as for `squared_heatmap_loss`.

    Returns:
        Scalar: masked mean over joints, nats.
    """
    volume, cells, weights = _prepare(volume, cells, weights)
    columns = volume.logsumexp(dim=2)  # (B, J, H, W)
    total = columns.logsumexp(dim=PLANE)  # (B, J)
    B, J, D, H, W = volume.shape
    x, y, z = nearest_cell(cells, (D, H, W)).unbind(dim=2)
    sample = torch.arange(B, device=volume.device)[:, None]
    joint = torch.arange(J, device=volume.device)
    at_target = volume[sample, joint, z, y, x]
    column_at_target = columns[sample, joint, y, x]

    error = total - torch.where(_without_depth(weights), column_at_target, at_target)
    return masked_mean(error, joint_weights(weights))


def binary_heatmap_loss(
    volume: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor, radius: float = 1.5
) -> torch.Tensor:
    """H3: binary cross-entropy of each cell against a small ball around the joint.

        sum over cells softplus(H) - sum over the ball's cells H
        without depth: sum over x, y s - sum over the disc's columns log(exp(s) - 1), with s = sum
        over z softplus(H)

    Without depth, a column holds the joint if any of its cells does. Each cell decides for itself,
    so its probability is 1 - prod(1 - p) = 1 - exp(-s), whose logit is log(exp(s) - 1). See
    notebook 07.

    Args:
        volume: logits, (B, J, D, H, W), any float dtype.
        cells, weights: as for `squared_heatmap_loss`.
        radius: of the ball, cells; a cell belongs to the joint if its centre lies within it. From
            sqrt(3) / 2 on, the ball holds a cell wherever the joint lies.

    Returns:
        Scalar: masked mean over joints, nats.
    """
    volume, cells, weights = _prepare(volume, cells, weights)
    D, H, W = volume.shape[2:]
    from_x = (indices(W, cells) - cells[..., 0, None]).square()  # (B, J, W)
    from_y = (indices(H, cells) - cells[..., 1, None]).square()
    from_z = (indices(D, cells) - cells[..., 2, None]).square()
    from_axis = from_x[:, :, None, :] + from_y[:, :, :, None]  # (B, J, H, W)
    ball = from_axis[:, :, None] + from_z[:, :, :, None, None] <= radius**2
    disc = from_axis <= radius**2

    columns = functional.softplus(volume).sum(dim=2)  # (B, J, H, W)
    positive = columns.clamp(min=torch.finfo(columns.dtype).tiny)
    logits = positive + torch.log(-torch.expm1(-positive))
    in_ball = torch.where(ball, volume, 0).sum(dim=MAP)  # (B, J)
    in_disc = torch.where(disc, logits, 0).sum(dim=PLANE)

    error = columns.sum(dim=PLANE) - torch.where(_without_depth(weights), in_disc, in_ball)
    return masked_mean(error, joint_weights(weights))


def js_prior_loss(
    volume: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor, sigma: float = 1.0
) -> torch.Tensor:
    """Jensen-Shannon divergence of each axis' marginal p from a Gaussian q:
    keeps maps small and single.

        (sum p log(p / m) + sum q log(q / m)) / 2, with m = (p + q) / 2

    Nibali et al., "Numerical Coordinate Regression with CNNs", 2018 (section 3.3), apply it to 2D
    maps. Axis by axis, it needs no volume of targets, and a joint without depth leaves its z out.
    See notebook 07.

    Args:
        volume: logits, (B, J, D, H, W), any float dtype.
        cells, weights: as for `squared_heatmap_loss`, but here each known coordinate counts.
        sigma: standard deviation of the Gaussian, cells.

    Returns:
        Scalar: masked mean over coordinates, nats; between 0 and log 2.
    """
    volume, cells, weights = _prepare(volume, cells, weights)
    factors = gaussian_factors(cells, volume.shape[2:], sigma)
    tiny = torch.finfo(volume.dtype).tiny  # 0 log 0 is 0, but not a number here
    divergences = []
    for p, factor in zip(marginals(softmax_over_map(volume)), factors):
        p = p.clamp(min=tiny)
        q = (factor / factor.sum(dim=2, keepdim=True)).clamp(min=tiny)
        log_m = ((p + q) / 2).log()
        of_p = (p * (p.log() - log_m)).sum(dim=2)
        of_q = (q * (q.log() - log_m)).sum(dim=2)
        divergences.append((of_p + of_q) / 2)
    return masked_mean(torch.stack(divergences, dim=2), weights)


def expected_error_loss(
    volume: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """E: the expected L1 error under the softmax p,
    where `integral_loss` takes the error of the expectation.

        sum over i p_i |i - truth| / N, axis by axis

    Two peaks left and right of the truth are a large error here, and none there. Li et al.,
    "Localization with Sampling-Argmax", NeurIPS 2021, estimate it by samples; per axis, it is a
    plain sum. See notebook 07.

    Args:
        volume: logits, (B, J, D, H, W), any float dtype.
        cells, weights: as for `js_prior_loss`.

    Returns:
        Scalar: masked mean over coordinates, as a fraction of the volume's sides.
    """
    volume, cells, weights = _prepare(volume, cells, weights)
    errors = []
    for axis, p in enumerate(marginals(softmax_over_map(volume))):
        size = p.shape[2]
        away = (indices(size, cells) - cells[..., axis, None]).abs() / size  # (B, J, size)
        errors.append((p * away).sum(dim=2))
    return masked_mean(torch.stack(errors, dim=2), weights)


def line_loss(
    lines: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor, sigma: float = 2.0
) -> torch.Tensor:
    """SimCC: cross-entropy of each axis' softmax p against smoothed labels q.

        -sum over bins q log p, where q is proportional to exp(-(bin - truth)^2 / (2 sigma^2))

    Li et al., "SimCC", ECCV 2022 (arXiv 2107.03332). A bin beside the true one is nearly right, and
    smoothed labels say so. Each axis has a line of its own, so a joint without depth leaves its z
    out. See notebook 07.

    Args:
        lines: logits along x, y and z, (B, J, 3, N), any float dtype.
        cells: (B, J, 3) true places, order x, y, z; unit: bins; anything where unknown.
        weights: (B, J, 3), 0 where a coordinate is unknown.
        sigma: standard deviation of the labels, bins.

    Returns:
        Scalar: masked mean over coordinates, nats.
    """
    lines, cells, weights = _prepare(lines, cells, weights)
    away = indices(lines.shape[3], lines) - cells[..., None]  # (B, J, 3, N)
    labels = (-away.square() / (2 * sigma**2)).softmax(dim=3)
    cross_entropy = -(labels * lines.log_softmax(dim=3)).sum(dim=3)  # (B, J, 3)
    return masked_mean(cross_entropy, weights)


def _prepare(volume, cells, weights):
    """Volume, places and weights in one dtype, at least float32;
    an unknown place becomes a finite one.
    """
    volume = at_least_float32(volume)
    cells = cells.to(volume.dtype).nan_to_num(0.0, 0.0, 0.0)
    return volume, cells, weights.to(volume.dtype)


def _without_depth(weights):
    """(B, J) bool: joints whose depth is unknown."""
    return weights[..., 2] == 0
