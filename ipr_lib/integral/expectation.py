"""The integral itself: the expected position under a softmax, close to the time of reading the logits once.

Taught in notebooks/06_soft_argmax.ipynb; timed by benchmarks/soft_argmax.py.

With p = softmax(logits), E = sum_i p_i pos_i and a loss L that sends back g = dL/dE:

    forward     e_i = exp(h_i - max h),   S = sum_i e_i,   E = sum_i e_i pos_i / S
    backward    dL/dh_i = p_i (g . (pos_i - E)) = e_i (g . (pos_i - E)) / S

Between the two nothing is kept but the logits, E, and two numbers a joint, max and S: e is cheaper computed again than
written and read. (max and log S are not added up: at logits of 1e4 a float32 sum of them is off by a part in a
thousand.) On a GPU there is one kernel each way. On a CPU a volume is worked through in blocks that stay in the cache.
A block is a matrix of cells, places x columns, and both ways meet it in one product with the small matrix of rows 1 and
two coordinates of the places: that matrix times e has the sums of every column, and its transpose times a few numbers a
column is g . (pos - E) / S.
"""

import functools
import warnings

import torch

from ..files import InputError
from .blocks import (
    BLOCK_CELLS,
    Cut,
    exponentials,
    first,
    inside,
    like_in_large_pages,
    loaded,
    store,
)


def soft_argmax(volume, check_finite=False):
    """Expected cell of each joint under a softmax over its whole volume.

    Eq. (2) of Sun et al. 2018; taught in notebooks/06_soft_argmax.ipynb. Differentiable once.

    Args:
        volume: logits, (B, J, W), (B, J, H, W) or (B, J, D, H, W), any float dtype. Contiguous and channels-last
            logits are read as they are, and their gradient comes in the same layout.
        check_finite: look at the result, which on a GPU means to wait for it.
    Returns:
        (B, J, 1), (B, J, 2) or (B, J, 3) float32 (float64 for float64 logits), order x, y, z; unit: cells, 0 is the
        centre of the first cell. NaN for a joint whose logits hold NaN or +inf, or are -inf throughout.
    Raises:
        InputError: not such a volume; with `check_finite`, a joint without a finite expectation.
    """
    if not 3 <= volume.dim() <= 5 or not volume.is_floating_point() or 0 in volume.shape[2:]:
        raise InputError(
            f"soft_argmax: volume is {volume.dtype} of shape {tuple(volume.shape)}; expected float logits "
            "(B, J, W), (B, J, H, W) or (B, J, D, H, W) with at least one cell"
        )
    axes = volume.dim() - 2
    while volume.dim() < 5:
        volume = volume.unsqueeze(2)
    joints = torch.ops.ipr_lib.integral_forward(volume)[0][..., :axes]
    if check_finite and not joints.isfinite().all():
        b, j = (~joints.isfinite()).any(-1).nonzero()[0].tolist()
        raise InputError(
            f"soft_argmax: joint {j} of sample {b} has no finite expectation; its logits hold NaN or +inf, or are "
            "-inf throughout: lower the learning rate, or look at what the network was given"
        )
    return joints


# Two operators, not an autograd.Function: torch.compile takes them as they are, without a break in the graph. Defined
# one by one, for torch.library.custom_op would import the whole compiler at the first call, a matter of seconds.
torch.library.define(
    "ipr_lib::integral_forward", "(Tensor volume) -> (Tensor joints, Tensor peak, Tensor total)"
)
torch.library.define(
    "ipr_lib::integral_backward",
    "(Tensor grad, Tensor volume, Tensor joints, Tensor peak, Tensor total) -> Tensor",
)


@torch.library.impl("ipr_lib::integral_forward", "default")
def _forward(volume):
    volume = _in_one_run(volume)
    with torch.autocast(volume.device.type, enabled=False):
        return (
            _triton_kernels().forward(volume) if _by_triton(volume) else forward_in_blocks(volume)
        )


@torch.library.impl("ipr_lib::integral_backward", "default")
def _backward(grad, volume, joints, peak, total):
    arguments = grad, _in_one_run(volume), joints, peak, total
    with torch.autocast(volume.device.type, enabled=False):
        return (
            _triton_kernels().backward(*arguments)
            if _by_triton(volume)
            else backward_in_blocks(*arguments)
        )


@torch.library.register_fake("ipr_lib::integral_forward")
def _shapes_of_forward(volume):
    joints = volume.new_empty((*volume.shape[:2], 3), dtype=inside(volume))
    return joints, joints.new_empty(volume.shape[:2]), joints.new_empty(volume.shape[:2])


@torch.library.register_fake("ipr_lib::integral_backward")
def _shape_of_backward(grad, volume, joints, peak, total):
    return torch.empty_like(_in_one_run(volume))


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs, *output)
    ctx.mark_non_differentiable(*output[1:])


def _differentiate(ctx, grad, *_):
    return torch.ops.ipr_lib.integral_backward(grad, *ctx.saved_tensors)


def _refuse(ctx, *grads):
    raise RuntimeError(
        "soft_argmax has no second derivative; write the expectation out in plain tensors for one"
    )


torch.library.register_autograd("ipr_lib::integral_forward", _differentiate, setup_context=_save)
torch.library.register_autograd("ipr_lib::integral_backward", _refuse)


@functools.cache
def _triton_kernels():
    """The module of the Triton kernels; None where Triton is missing or cannot build them, with a word in that case."""
    try:
        from . import kernel as kernels
    except ImportError:
        return None
    try:
        kernels.forward(torch.zeros(1, 1, 1, 1, 1, device="cuda"))
    except Exception as error:  # a missing compiler or driver comes in many shapes; the volume is summed all the same
        warnings.warn(
            f"soft_argmax runs without its GPU kernels, for Triton failed: {error!r}", stacklevel=2
        )
        return None
    return kernels


def _by_triton(volume):
    return volume.is_cuda and volume.dtype != torch.float64 and _triton_kernels() is not None


def forward_in_blocks(volume):
    """Expectation, maximum and sum of exponentials of each joint: every cell is read from memory once.

    A joint comes in pieces, each with a maximum of its own; their sums are brought to the joint's maximum at the end.

    Args:
        volume: logits, (B, J, D, H, W), contiguous or channels-last.
    Returns:
        joints (B, J, 3), order x, y, z; peak (B, J) and total (B, J): max h and sum exp(h - max h).
    """
    cut = Cut(volume, BLOCK_CELLS)
    scratch = cut.scratch()
    found = []
    for part in zip(cut.blocks(volume), cut.places):
        peaks, sums = [], []
        for block, places in zip(*part):
            block = loaded(block, scratch)
            # -inf throughout a piece: its exponentials are 0, not exp(-inf + inf).
            peak = block.amax(dim=cut.of_joint, keepdim=True).clamp_(
                min=torch.finfo(scratch.dtype).min
            )
            e = exponentials(block, peak, scratch)
            peaks.append(peak)
            sums.append(torch.bmm(places.expand(len(e), -1, -1), e))
        peaks, sums = torch.cat(peaks), torch.cat(sums)
        moments = sums[:, :1] * cut.base  # of e x, e y, e z in each column
        moments[:, cut.along] += sums[:, 1:]
        peaks, moments = cut.by_joint(peaks), cut.by_joint(torch.cat([sums[:, :1], moments], dim=1))
        peak = peaks.amax(dim=0)
        moments = (moments * (peaks - peak).exp()).sum(dim=0)
        found.append(torch.cat([moments[:, 1:] / moments[:, :1], peak, moments[:, :1]], dim=1))
    joints, peak, total = torch.cat(found).view(*volume.shape[:2], 5).split((3, 1, 1), dim=2)
    return joints.contiguous(), peak[..., 0].contiguous(), total[..., 0].contiguous()


def backward_in_blocks(grad, volume, joints, peak, total):
    """Gradient by the volume: every cell is read once and written once.

    Args:
        grad: dL/dE, (B, J, 3).
        volume, joints, peak, total: argument and results of `forward_in_blocks`.
    Returns:
        (B, J, D, H, W), dtype and layout of the volume.
    """
    result = like_in_large_pages(volume)
    cut = Cut(volume, BLOCK_CELLS)
    scratch, factors = cut.scratch(), cut.scratch()
    grad = cut.by_row(grad / total[..., None])
    weights = (grad * (cut.base - cut.by_row(joints))).sum(dim=1, keepdim=True)
    weights = torch.cat([weights, grad[:, cut.along].expand(-1, -1, weights.shape[2])], dim=1)
    peaks = cut.deal(cut.by_row(peak[..., None]))
    for part in zip(cut.blocks(volume), cut.blocks(result), cut.places, peaks, cut.deal(weights)):
        for block, out, places, peak, weight in zip(*part):
            e = exponentials(loaded(block, scratch), peak, scratch)
            factor = torch.bmm(places.T.expand(len(e), -1, -1), weight, out=first(factors, e))
            store(out, e, factor)
    return result


def _in_one_run(volume):
    """The volume itself where it can be viewed as blocks, contiguous or channels-last; else a contiguous copy."""
    return volume if volume.permute(0, 3, 4, 1, 2).is_contiguous() else volume.contiguous()
