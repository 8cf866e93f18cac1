"""The integral itself: the expected position under a softmax, close to the time of reading the logits once.

Taught in notebooks/06_soft_argmax.ipynb; timed by benchmarks/soft_argmax.py.

With p = softmax(logits), E = sum_i p_i pos_i and a loss L that sends back g = dL/dE:

    forward     e_i = exp(h_i - max h),   S = sum_i e_i,   E = sum_i e_i pos_i / S
    backward    dL/dh_i = p_i (g . (pos_i - E)) = e_i (g . (pos_i - E)) / S

Between the two nothing is kept but the logits, E, and two numbers a joint, max and S: e is cheaper computed again than
written and read. (max and log S are not added up: at logits of 1e4 a float32 sum of them is off by a part in a
thousand.) On a CPU a volume is worked through in blocks that stay in the cache, on a GPU in one kernel each way.
"""

import functools
import math
import warnings

import numpy as np
import torch

from .files import InputError

LOG2_E = math.log2(math.e)
BLOCK_CELLS_GPU = 1 << 24  # without Triton: few launches, yet little memory
LARGE_BYTES = 1 << 22
BLOCK_CELLS = 1 << 17  # a block and its scratch, float32, fill the 1 MB of a usual second-level cache


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
torch.library.define("ipr_lib::integral_forward", "(Tensor volume) -> (Tensor joints, Tensor peak, Tensor total)")
torch.library.define(
    "ipr_lib::integral_backward", "(Tensor grad, Tensor volume, Tensor joints, Tensor peak, Tensor total) -> Tensor"
)


@torch.library.impl("ipr_lib::integral_forward", "default")
def _forward(volume):
    volume = _in_one_run(volume)
    with torch.autocast(volume.device.type, enabled=False):
        return _triton_kernels().forward(volume) if _by_triton(volume) else forward_in_blocks(volume)


@torch.library.impl("ipr_lib::integral_backward", "default")
def _backward(grad, volume, joints, peak, total):
    arguments = grad, _in_one_run(volume), joints, peak, total
    with torch.autocast(volume.device.type, enabled=False):
        return _triton_kernels().backward(*arguments) if _by_triton(volume) else backward_in_blocks(*arguments)


@torch.library.register_fake("ipr_lib::integral_forward")
def _shapes_of_forward(volume):
    joints = volume.new_empty((*volume.shape[:2], 3), dtype=_inside(volume))
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
    raise RuntimeError("soft_argmax has no second derivative; write the expectation out in plain tensors for one")


torch.library.register_autograd("ipr_lib::integral_forward", _differentiate, setup_context=_save)
torch.library.register_autograd("ipr_lib::integral_backward", _refuse)


@functools.cache
def _triton_kernels():
    """The module of the Triton kernels; None where Triton is missing or cannot build them, with a word in that case."""
    try:
        from . import integral_triton as kernels
    except ImportError:
        return None
    try:
        kernels.forward(torch.zeros(1, 1, 1, 1, 1, device="cuda"))
    except Exception as error:  # a missing compiler or driver comes in many shapes; the volume is summed all the same
        warnings.warn(f"soft_argmax runs without its GPU kernels, for Triton failed: {error!r}", stacklevel=2)
        return None
    return kernels


def _by_triton(volume):
    return volume.is_cuda and volume.dtype != torch.float64 and _triton_kernels() is not None


def _inside(volume):
    """The dtype to work in: float64 for float64 logits, float32 for all others."""
    return volume.dtype if volume.dtype == torch.float64 else torch.float32


def forward_in_blocks(volume):
    """Expectation, maximum and sum of exponentials of each joint: every cell is read from memory once.

    A joint larger than a block comes in pieces, each with a maximum of its own; their sums are brought to the joint's
    maximum at the end.

    Args:
        volume: logits, (B, J, D, H, W), contiguous or channels-last.
    Returns:
        joints (B, J, 3), order x, y, z; peak (B, J) and total (B, J): max h and sum exp(h - max h).
    """
    pieces, blocks, scratch = _cut(volume)
    plane, depth = _positions(volume, pieces, scratch)
    peaks = scratch.new_empty(len(pieces), pieces.shape[1], blocks[-1][3] + 1)
    moments = scratch.new_empty(*peaks.shape, 4)  # sums of e, e x, e y, e z
    for picture, rows, cells, n in blocks:
        block = pieces[picture, rows, :, cells]  # (rows, planes, cells)
        # -inf throughout a piece: its exponentials are 0, not exp(-inf + inf).
        peak = block.amax(dim=2).amax(dim=1).to(scratch.dtype).clamp(min=torch.finfo(scratch.dtype).min)
        e = _exponentials(block, peak, scratch)
        by_plane = e.sum(dim=2)
        peaks[picture, rows, n] = peak
        moments[picture, rows, n, :3] = e.sum(dim=1) @ plane[:, cells].T
        moments[picture, rows, n, 3] = (by_plane * depth[rows]).sum(dim=1)
    of_joint = (*volume.shape[:2], volume.shape[2] // pieces.shape[2] * peaks.shape[2])
    peaks, moments = peaks.view(of_joint), moments.view(*of_joint, 4)
    peak = peaks.amax(dim=2)
    moments = (moments * (peaks - peak[..., None]).exp()[..., None]).sum(dim=2)
    total = moments[..., 0].clone()
    return moments[..., 1:] / total[..., None], peak, total


def backward_in_blocks(grad, volume, joints, peak, total):
    """Gradient by the volume: every cell is read once and written once.

    Args:
        grad: dL/dE, (B, J, 3).
        volume, joints, peak, total: argument and results of `forward_in_blocks`.
    Returns:
        (B, J, D, H, W), dtype and layout of the volume.
    """
    result = _like_in_large_pages(volume)
    pieces, blocks, scratch = _cut(volume)
    plane, depth = _positions(volume, pieces, scratch)
    out = _cut(result)[0]
    # g . (pos - E) / S = (gx x + gy y - g . E) / S + gz z / S: a plane and a column for each piece
    grad = grad / total[..., None]
    offset = -(grad * joints).sum(dim=-1, keepdim=True)
    repeats = volume.shape[2] // pieces.shape[2]  # pieces of a joint
    weights = torch.cat([offset, grad], dim=-1).flatten(0, 1).repeat_interleave(repeats, dim=0)
    weights = weights.view(*pieces.shape[:2], 4)
    peak = peak.flatten().repeat_interleave(repeats).view(pieces.shape[:2])
    factors = torch.empty_like(scratch)
    for picture, rows, cells, _ in blocks:
        e = _exponentials(pieces[picture, rows, :, cells], peak[picture, rows], scratch)
        weight = weights[picture, rows]
        across = weight[:, None, :3] @ plane[:, cells]  # (rows, 1, cells)
        along = (weight[:, 3:] * depth[rows])[:, :, None]  # (rows, planes, 1)
        factor = torch.add(across, along, out=factors[: e.shape[0], :, : e.shape[2]])
        torch.mul(e, factor, out=out[picture, rows, :, cells])
    return result


def _cut(volume):
    """Cut a volume into blocks of cells that lie together in memory.

    Returns:
        pieces: view (pictures, rows, planes, cells) of the volume. Contiguous: one picture, a row for each piece of a
            joint, some whole planes; blocks are runs of rows. Channels-last: rows are joints, planes the whole depth;
            blocks are runs of cells of one picture.
        blocks: list of (picture, slice of rows, slice of cells, number of the block within its rows).
        scratch: (rows, planes, cells) of the first and largest block, in its layout; float32, or float64 as the volume.
    """
    B, J, D, H, W = volume.shape
    size = BLOCK_CELLS * torch.get_num_threads() if volume.device.type == "cpu" else BLOCK_CELLS_GPU
    if volume.is_contiguous():
        planes = max(n for n in range(1, D + 1) if D % n == 0 and (n == 1 or n * H * W <= size))
        pieces = volume.view(1, B * J * D // planes, planes, H * W)
        step = max(1, size // (planes * H * W))
        runs = range(0, max(1, pieces.shape[1]), step)  # one block even of nothing
        blocks = [(0, slice(i, i + step), slice(None), 0) for i in runs]
    else:
        pieces = volume.view(B, J, D, H * W)
        step = max(1, size // (J * D))
        runs = range(0, H * W, step)
        blocks = [(b, slice(None), slice(i, i + step), n) for b in range(B) for n, i in enumerate(runs)]
    picture, rows, cells, _ = blocks[0]
    return pieces, blocks, torch.empty_like(pieces[picture, rows, :, cells], dtype=_inside(volume))


def _in_one_run(volume):
    """The volume itself where `_cut` can view it, contiguous or channels-last; else a contiguous copy."""
    return volume if volume.permute(0, 3, 4, 1, 2).is_contiguous() else volume.contiguous()


def _like_in_large_pages(volume):
    """Uninitialised tensor of the volume's shape, dtype and layout.

    The system hands a large new gradient over page by page; in pages of 4 kB that takes about as long as to work it
    out. From 4 MB on NumPy asks for large pages, PyTorch does not.
    """
    if volume.nbytes < LARGE_BYTES or volume.device.type != "cpu":
        return torch.empty_like(volume)
    memory = torch.from_numpy(np.empty(volume.nbytes, np.uint8)).view(volume.dtype)
    return memory.as_strided(volume.shape, volume.stride())


def _positions(volume, pieces, like):
    """1, x and y of each cell of a plane, (3, cells); z of each plane of each row, (rows, planes)."""
    D, H, W = volume.shape[2:]
    x, y, z = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (W, H, D))
    plane = torch.stack([torch.ones(H * W, dtype=like.dtype, device=like.device), x.repeat(H), y.repeat_interleave(W)])
    rows, planes = pieces.shape[1:3]
    return plane, z.view(-1, planes).repeat(rows * planes // D, 1)


def _exponentials(block, peak, scratch):
    """exp(block - peak), worked out in the scratch: block (rows, planes, cells), peak (rows,)."""
    e = scratch[: block.shape[0], :, : block.shape[2]]
    if block.dtype != e.dtype:
        block = e.copy_(block)
    torch.sub(block, peak[:, None, None], out=e)
    return e.mul_(LOG2_E).exp2_()  # exp itself takes up to four times as long on a CPU
