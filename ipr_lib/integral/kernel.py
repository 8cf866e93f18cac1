"""The integral of a volume on a GPU: one Triton kernel forward, one backward.

`expectation.soft_argmax` chooses it where there is a GPU. Taught in notebooks/06_soft_argmax.ipynb.

A joint's cells are cut into tiles of planes x cells, and its tiles go to several programs. Each program reads its
tiles once and keeps an online maximum: where a tile raises it, the sums so far shrink by exp(old - new) (Milakov and
Gimelshein 2018). A second, tiny kernel combines the five numbers that each program of a joint leaves. Nothing is kept
for the gradient but the logits and five numbers per joint, because exp is cheaper computed again than stored.
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

TILE = 2048  # cells of a tile: 16 per thread
# Enough to hide the start of a program, few enough to fill a GPU with a small batch.
TILES_PER_PROGRAM = 16
LOG2_E = tl.constexpr(1.4426950408889634)
# The lowest float32: with -inf, cells without weight would become exp(-inf + inf), not a number.
LOWEST = tl.constexpr(-3.4028234663852886e38)


class KernelSoftArgmax(torch.autograd.Function):
    """`expectation.SoftArgmax` for a volume (B, J, D, H, W) on a GPU, in float32, bfloat16 or float16."""

    @staticmethod
    def forward(ctx, volume):
        if not is_channels_last(volume):
            volume = volume.contiguous()
        cells, peak, total = forward(volume)
        ctx.save_for_backward(volume, cells, peak, total)
        return cells

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return backward(grad, *ctx.saved_tensors)


def is_channels_last(volume: torch.Tensor) -> bool:
    """Whether the J * D planes of (B, J, D, H, W) lie side by side in memory, cell by cell."""
    return volume.permute(0, 3, 4, 1, 2).is_contiguous()


@triton.jit
def _tile(
    tile, D, cells, stride_d, stride_c, W: tl.constexpr, TILE_D: tl.constexpr, TILE_C: tl.constexpr
):
    """Offsets in memory, mask and x, y, z of a tile's cells; all broadcast to (TILE_D, TILE_C)."""
    tiles_d = tl.cdiv(D, TILE_D)
    z = (tile % tiles_d) * TILE_D + tl.arange(0, TILE_D)[:, None]
    cell = (tile // tiles_d) * TILE_C + tl.arange(0, TILE_C)[None, :]
    offsets = z * stride_d + cell * stride_c
    return offsets, (z < D) & (cell < cells), cell % W, cell // W, z


@triton.jit
def _forward_kernel(
    logits,
    partial,
    J,
    D,
    cells,
    stride_b,
    stride_j,
    stride_d,
    stride_c,
    tiles,
    per_program,
    W: tl.constexpr,
    TILE_D: tl.constexpr,
    TILE_C: tl.constexpr,
):
    """Of the tiles of one program: maximum, and sums of e, e x, e y, e z with e = exp(logit - maximum)."""
    joint, program = tl.program_id(0), tl.program_id(1)
    logits += (joint // J).to(tl.int64) * stride_b + (joint % J) * stride_j
    peak = tl.full([], LOWEST, tl.float32)
    total = tl.zeros((TILE_D, TILE_C), tl.float32)
    sum_x = tl.zeros((TILE_D, TILE_C), tl.float32)
    sum_y = tl.zeros((TILE_D, TILE_C), tl.float32)
    sum_z = tl.zeros((TILE_D, TILE_C), tl.float32)
    first = program * per_program
    for tile in range(first, tl.minimum(first + per_program, tiles)):
        offsets, inside, x, y, z = _tile(tile, D, cells, stride_d, stride_c, W, TILE_D, TILE_C)
        h = tl.load(logits + offsets, mask=inside, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(peak, tl.max(tl.max(h, axis=1), axis=0))
        shrink = tl.exp2((peak - higher) * LOG2_E)
        e = tl.exp2((h - higher) * LOG2_E)
        total = total * shrink + e
        sum_x = sum_x * shrink + e * x
        sum_y = sum_y * shrink + e * y
        sum_z = sum_z * shrink + e * z
        peak = higher
    partial += (joint.to(tl.int64) * tl.num_programs(1) + program) * 5
    tl.store(partial, peak)
    tl.store(partial + 1, tl.sum(tl.sum(total, axis=1), axis=0))
    tl.store(partial + 2, tl.sum(tl.sum(sum_x, axis=1), axis=0))
    tl.store(partial + 3, tl.sum(tl.sum(sum_y, axis=1), axis=0))
    tl.store(partial + 4, tl.sum(tl.sum(sum_z, axis=1), axis=0))


@triton.jit
def _gather_kernel(partial, joints, peaks, totals, programs, PROGRAMS: tl.constexpr):
    """Expectation, maximum and sum of one joint from what its programs left."""
    joint = tl.program_id(0).to(tl.int64)
    program = tl.arange(0, PROGRAMS)
    there = program < programs
    partial += (joint * programs + program) * 5
    peak = tl.load(partial, mask=there, other=LOWEST)
    highest = tl.max(peak, axis=0)
    shrink = tl.where(there, tl.exp2((peak - highest) * LOG2_E), 0.0)
    total = tl.sum(shrink * tl.load(partial + 1, mask=there, other=0.0), axis=0)
    tl.store(peaks + joint, highest)
    tl.store(totals + joint, total)
    for axis in tl.static_range(3):
        moment = tl.sum(shrink * tl.load(partial + 2 + axis, mask=there, other=0.0), axis=0)
        tl.store(joints + joint * 3 + axis, moment / total)


@triton.jit
def _backward_kernel(
    logits,
    result,
    grad,
    joints,
    peaks,
    totals,
    J,
    D,
    cells,
    stride_b,
    stride_j,
    stride_d,
    stride_c,
    tiles,
    per_program,
    W: tl.constexpr,
    TILE_D: tl.constexpr,
    TILE_C: tl.constexpr,
):
    """exp(logit - maximum) / total * (grad . (position - joint)), for the tiles of one program."""
    joint, program = tl.program_id(0), tl.program_id(1)
    start = (joint // J).to(tl.int64) * stride_b + (joint % J) * stride_j
    peak, total = tl.load(peaks + joint), tl.load(totals + joint)
    grad += joint * 3
    joints += joint * 3
    grad_x = tl.load(grad) / total
    grad_y = tl.load(grad + 1) / total
    grad_z = tl.load(grad + 2) / total
    at_x = tl.load(joints)
    at_y = tl.load(joints + 1)
    at_z = tl.load(joints + 2)
    first = program * per_program
    for tile in range(first, tl.minimum(first + per_program, tiles)):
        offsets, inside, x, y, z = _tile(tile, D, cells, stride_d, stride_c, W, TILE_D, TILE_C)
        h = tl.load(logits + start + offsets, mask=inside, other=0.0).to(tl.float32)
        e = tl.exp2((h - peak) * LOG2_E)
        out = e * (grad_x * (x - at_x) + grad_y * (y - at_y) + grad_z * (z - at_z))
        tl.store(result + start + offsets, out.to(result.dtype.element_ty), mask=inside)


def forward(volume: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Expectation, maximum and sum of exponentials of each joint.

    Args:
        volume: logits, (B, J, D, H, W), contiguous or channels-last, float32, bfloat16 or float16.

    Returns:
        cells (B, J, 3), order x, y, z; peak (B, J), max h; total (B, J), sum exp(h - max h); all float32.
    """
    B, J = volume.shape[:2]
    numbers, sizes, programs = _launch(volume)
    partial = volume.new_empty((B, J, programs, 5), dtype=torch.float32)
    cells = partial.new_empty((B, J, 3))
    peak = partial.new_empty((B, J))
    total = partial.new_empty((B, J))
    if B * J == 0:
        return cells, peak, total
    with torch.cuda.device_of(volume):
        _forward_kernel[(B * J, programs)](volume, partial, *numbers, **sizes, num_warps=4)
        _gather_kernel[(B * J,)](
            partial,
            cells,
            peak,
            total,
            programs,
            PROGRAMS=triton.next_power_of_2(programs),
            num_warps=1,
        )
    return cells, peak, total


def backward(
    grad: torch.Tensor,
    volume: torch.Tensor,
    cells: torch.Tensor,
    peak: torch.Tensor,
    total: torch.Tensor,
) -> torch.Tensor:
    """Gradient by the volume.

    Args:
        grad: dL/dE, (B, J, 3).
        volume, cells, peak, total: argument and results of `forward`.

    Returns:
        (B, J, D, H, W), dtype and layout of the volume.
    """
    B, J = volume.shape[:2]
    result = torch.empty_like(volume)
    if B * J == 0:
        return result
    numbers, sizes, programs = _launch(volume)
    with torch.cuda.device_of(volume):
        _backward_kernel[(B * J, programs)](
            volume,
            result,
            grad.contiguous(),
            cells,
            peak,
            total,
            *numbers,
            **sizes,
            num_warps=4,
        )
    return result


def _launch(volume):
    """Arguments that both kernels share, the sizes of a tile, and the number of programs per joint."""
    _, J, D, H, W = volume.shape
    cells = H * W
    if volume.is_contiguous():  # the cells of a plane lie side by side
        strides = (J * D * cells, D * cells, cells, 1)
        tile_c = min(TILE, triton.next_power_of_2(cells))
        tile_d = min(TILE // tile_c, triton.next_power_of_2(D))
    else:  # channels-last: the planes of a cell lie side by side
        strides = (J * D * cells, D, 1, J * D)
        tile_d = min(128, triton.next_power_of_2(D))
        tile_c = min(TILE // tile_d, triton.next_power_of_2(cells))
    tiles = triton.cdiv(D, tile_d) * triton.cdiv(cells, tile_c)
    programs = triton.cdiv(tiles, TILES_PER_PROGRAM)
    numbers = (J, D, cells, *strides, tiles, triton.cdiv(tiles, programs))
    return numbers, {"W": W, "TILE_D": tile_d, "TILE_C": tile_c}, programs
