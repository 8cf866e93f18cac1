"""The integral: a joint is the expected cell under a softmax over its map.

Sun et al. 2018, equations 1 to 3. Taught in notebooks/06_soft_argmax.ipynb, which checks the
gradient by hand; `debiased_soft_argmax` is taught in notebooks/08_heatmap_vs_integral.ipynb.
"""

import functools
import warnings

import torch
from torch.autograd.function import once_differentiable

from ..files import InputError
from .grid import constants, indices


def soft_argmax(logits: torch.Tensor) -> torch.Tensor:
    """Expected cell of each joint; see notebook 06. It can be differentiated once.

    Args:
        logits: (B, J, W), (B, J, H, W) or (B, J, D, H, W), any float dtype.

    Returns:
        (B, J, 1 to 3), order x, y, z; unit: cells, 0 is the centre of the first. float32, or
        float64 for float64 logits. NaN for a joint whose logits hold NaN or +inf, or are all -inf.

    Raises:
        InputError: `logits` is not such a map.
    """
    if not 3 <= logits.ndim <= 5 or not logits.is_floating_point() or 0 in logits.shape[2:]:
        raise InputError(
            f"soft_argmax: logits are {logits.dtype} of shape {tuple(logits.shape)}; expected floats of shape "
            "(B, J, W), (B, J, H, W) or (B, J, D, H, W) with at least one cell"
        )
    if torch.compiler.is_compiling():
        return plain_soft_argmax(logits)  # the compiler fuses it, and writes its own gradient
    if logits.is_cuda and logits.ndim == 5 and logits.dtype != torch.float64 and gpu_kernel():
        return gpu_kernel().KernelSoftArgmax.apply(logits)
    return SoftArgmax.apply(logits)


def plain_soft_argmax(logits: torch.Tensor) -> torch.Tensor:
    """The same as `soft_argmax` by autograd alone; the tests compare both."""
    return expected_cell(softmax_over_map(logits))


def softmax_over_map(logits: torch.Tensor) -> torch.Tensor:
    """Logits -> probabilities: each joint's map sums to 1. At least float32."""
    return at_least_float32(logits).flatten(2).softmax(dim=2).view(logits.shape)


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 -> float32; float32 and float64 stay."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        return logits.float()
    return logits


def expected_cell(probability: torch.Tensor) -> torch.Tensor:
    """Probabilities (B, J, ...) -> expected cells (B, J, axes), order x, y, z."""
    coordinates = []
    for marginal in marginals(probability):
        position = indices(marginal.shape[2], marginal)
        coordinates.append((marginal * position).sum(dim=2))
    return torch.stack(coordinates, dim=2)


def map_spread(logits: torch.Tensor) -> torch.Tensor:
    """How far each joint's map spreads: its standard deviation along each axis; see notebook 06.

    Args:
        logits: (B, J, W), (B, J, H, W) or (B, J, D, H, W).

    Returns:
        (B, J, 1 to 3), order x, y, z; unit: cells.
    """
    spreads = []
    for marginal in marginals(softmax_over_map(logits)):
        position = indices(marginal.shape[2], marginal)
        middle = (marginal * position).sum(dim=2, keepdim=True)
        spreads.append((marginal * (position - middle) ** 2).sum(dim=2).sqrt())
    return torch.stack(spreads, dim=2)


def marginals(probability: torch.Tensor) -> list[torch.Tensor]:
    """Probability of each x, each y and each z: the map summed over its other axes.

    Args:
        probability: (B, J, W), (B, J, H, W) or (B, J, D, H, W).

    Returns:
        [(B, J, W), (B, J, H), (B, J, D)], as many as the map has axes.
    """
    axes = list(range(2, probability.ndim))
    sums = []
    for axis in reversed(axes):  # x is the last axis of a map
        others = [other for other in axes if other != axis]
        sums.append(probability.sum(dim=others) if others else probability)
    return sums


class SoftArgmax(torch.autograd.Function):
    """The expectation with its gradient in closed form,
    which keeps one map where autograd keeps several.

        d x / d logit_i = p_i (x_i - x)

    Each cell pulls with its probability times its distance from the expected cell.
    """

    @staticmethod
    def forward(ctx, logits):
        probability = softmax_over_map(logits)
        cells = expected_cell(probability)
        ctx.save_for_backward(probability, cells)
        ctx.dtype = logits.dtype
        return cells

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # (B, J, axes)
        probability, cells = ctx.saved_tensors
        axes = reversed(range(2, probability.ndim))
        pull = 0
        for k, axis in enumerate(axes):
            size = probability.shape[axis]
            arm = indices(size, probability) - cells[:, :, k, None]  # (B, J, size)
            shape = [*probability.shape[:2], *[1] * (probability.ndim - 2)]
            shape[axis] = size
            pull = pull + (grad[:, :, k, None] * arm).view(shape)
        pull *= probability  # in place: a volume is large
        return pull.to(ctx.dtype)


@functools.cache
def gpu_kernel():
    """The module `kernel`; None where Triton is missing,
    and with a warning where it cannot build its kernels.
    """
    try:
        from . import kernel
    except ImportError:
        return None
    try:
        kernel.KernelSoftArgmax.apply(torch.zeros(1, 1, 1, 1, 1, device="cuda"))
    except Exception as error:  # a missing compiler or driver raises many kinds of errors
        warnings.warn(
            f"soft_argmax runs in plain PyTorch, because Triton failed: {error!r}", stacklevel=2
        )
        return None
    return kernel


def debiased_soft_argmax(
    volume: torch.Tensor, background: float | torch.Tensor | None = None
) -> torch.Tensor:
    """Expected cell without the pull of a flat background towards the middle; see notebook 08.

    N cells at the background's logit b weigh N exp(b) in the softmax. They are a fraction s of the
    whole sum, and their own expectation is the middle. The rest therefore says (expectation - s
    middle) / (1 - s), axis by axis. Gu et al., "Removing the Bias of Integral Pose Regression",
    ICCV 2021.

    Args:
        volume: logits, (B, J, D, H, W).
        background: logit of the background, such as 0 for heat maps that are 0 away from the joint.
            None takes each volume's smallest logit, because logits are known up to a constant only.

    Returns:
        (B, J, 3), order x, y, z, dtype as of `soft_argmax`; the middle where all cells are
        background.
    """
    expectation = soft_argmax(volume)
    flat = at_least_float32(volume).flatten(2)
    if background is None:
        background = flat.detach().amin(dim=2)
    else:
        background = torch.as_tensor(background, dtype=flat.dtype, device=flat.device)
    fraction = flat.shape[2] * torch.exp(background - flat.logsumexp(dim=2))  # (B, J)
    # Where there is nothing but background, the expectation stays the middle.
    fraction = torch.where(fraction < 1 - 1e-4, fraction, 0)[..., None]
    D, H, W = volume.shape[2:]
    middle = (constants((W, H, D), expectation) - 1) / 2
    return (expectation - fraction * middle) / (1 - fraction)
