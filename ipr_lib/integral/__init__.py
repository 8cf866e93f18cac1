"""The integral: volumes of cells, how a joint is read out of them, and what they are trained on.

Notebooks 05 to 08.

Read in this order: `grid` (cells, pixels and mm; the maximum; the targets), `expectation`
(soft-argmax, the paper's idea), `losses`, `methods` (the whole family as a table). `kernel` is the
expectation on a GPU, in Triton.
"""

from .expectation import (
    debiased_soft_argmax,
    expected_cell,
    map_spread,
    marginals,
    plain_soft_argmax,
    soft_argmax,
    softmax_over_map,
)
from .grid import (
    cells_to_joints,
    gaussian_factors,
    gaussian_volume,
    hard_argmax,
    joints_to_cells,
    nearest_cell,
)
from .losses import (
    binary_heatmap_loss,
    expected_error_loss,
    integral_loss,
    joint_weights,
    js_prior_loss,
    line_loss,
    masked_mean,
    softmax_heatmap_loss,
    squared_heatmap_loss,
)
from .methods import DECODERS, METHODS, Loss, Method, build_method, decode, start_logit

__all__ = [
    "DECODERS",
    "METHODS",
    "Loss",
    "Method",
    "binary_heatmap_loss",
    "build_method",
    "cells_to_joints",
    "debiased_soft_argmax",
    "decode",
    "expected_cell",
    "expected_error_loss",
    "gaussian_factors",
    "gaussian_volume",
    "hard_argmax",
    "integral_loss",
    "joint_weights",
    "joints_to_cells",
    "js_prior_loss",
    "line_loss",
    "map_spread",
    "marginals",
    "masked_mean",
    "nearest_cell",
    "plain_soft_argmax",
    "soft_argmax",
    "softmax_heatmap_loss",
    "softmax_over_map",
    "start_logit",
    "squared_heatmap_loss",
]
