"""The integral of a volume on a GPU: one Triton kernel forward, one backward.

`expectation.soft_argmax` chooses it where there is a GPU. Taught in notebooks/06_soft_argmax.ipynb.

The cells of a joint are cut into chunks, one for each program, and a program reads its chunk tile
by tile. It keeps an online maximum: where a tile raises it, the sums so far shrink by exp(old -
new) (Milakov and Gimelshein 2018). PyTorch combines the five numbers that the programs of a joint
leave. Nothing is kept for the gradient but the logits and five numbers per joint, because exp is
cheaper computed again than stored.
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

TILE = 2048  # cells of a tile: 16 per thread
# Enough tiles to hide the start of a program, few enough to fill a GPU with a small batch.
CHUNK = 16 * TILE
# Tiles on their way from memory at a time. 1 loads each when it is needed; more makes asynchronous
# copies, at the price of registers. benchmarks/soft_argmax.py times 1 and 4 on a GPU.
STAGES = 1
LOG2_E = tl.constexpr(1.4426950408889634)
# The lowest float32: with -inf, cells without weight would become exp(-inf + inf), not a number.
LOWEST = tl.constexpr(-3.4028234663852886e38)


class KernelSoftArgmax(torch.autograd.Function):
    """`expectation.SoftArgmax` for a volume (B, J, D, H, W) on a GPU, in float32,
    bfloat16 or float16.
    """

    @staticmethod
    def forward(ctx, volume):
        volume = volume.contiguous()
        B, J, D, H, W = volume.shape
        programs = triton.cdiv(D * H * W, CHUNK)
        partial = volume.new_empty((B, J, programs, 5), dtype=torch.float32)
        if B * J > 0:
            with torch.cuda.device_of(volume):
                _forward_kernel[(B * J, programs)](
                    volume, partial, D * H * W, H, W, CHUNK, TILE, STAGES
                )
        peaks, sums = partial[..., 0], partial[..., 1:]
        peak = peaks.amax(dim=2)  # (B, J)
        shrink = torch.exp(peaks - peak[..., None])
        sums = (sums * shrink[..., None]).sum(dim=2)  # (B, J, 4)
        total = sums[..., 0]
        cells = sums[..., 1:] / total[..., None]  # (B, J, 3)
        ctx.save_for_backward(volume, cells, peak, total)
        return cells

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        volume, cells, peak, total = ctx.saved_tensors
        B, J, D, H, W = volume.shape
        result = torch.empty_like(volume)
        slope = grad / total[..., None]  # (B, J, 3)
        if B * J > 0:
            programs = triton.cdiv(D * H * W, CHUNK)
            with torch.cuda.device_of(volume):
                _backward_kernel[(B * J, programs)](
                    volume, result, slope, cells, peak, D * H * W, H, W, CHUNK, TILE, STAGES
                )
        return result


@triton.jit
def _forward_kernel(
    logits,
    partial,
    cells,
    H: tl.constexpr,
    W: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Of one chunk: maximum, and sums of e, e x, e y, e z with e = exp(logit - maximum)."""
    joint, program = tl.program_id(0).to(tl.int64), tl.program_id(1)
    logits += joint * cells
    peak = tl.full([], LOWEST, tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    sum_x = tl.zeros((TILE,), tl.float32)
    sum_y = tl.zeros((TILE,), tl.float32)
    sum_z = tl.zeros((TILE,), tl.float32)
    first = program * CHUNK
    end = tl.minimum(first + CHUNK, cells)
    for start in tl.range(first, end, TILE, num_stages=STAGES):
        cell = start + tl.arange(0, TILE)
        h = tl.load(logits + cell, mask=cell < cells, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(peak, tl.max(h, axis=0))
        shrink = tl.exp2((peak - higher) * LOG2_E)
        e = tl.exp2((h - higher) * LOG2_E)
        row = cell // W
        total = total * shrink + e
        sum_x = sum_x * shrink + e * (cell % W)
        sum_y = sum_y * shrink + e * (row % H)
        sum_z = sum_z * shrink + e * (row // H)
        peak = higher
    partial += (joint * tl.num_programs(1) + program) * 5
    tl.store(partial, peak)
    tl.store(partial + 1, tl.sum(total, axis=0))
    tl.store(partial + 2, tl.sum(sum_x, axis=0))
    tl.store(partial + 3, tl.sum(sum_y, axis=0))
    tl.store(partial + 4, tl.sum(sum_z, axis=0))


@triton.jit
def _backward_kernel(
    logits,
    result,
    slope,
    expected,
    peaks,
    cells,
    H: tl.constexpr,
    W: tl.constexpr,
    CHUNK: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """exp(logit - maximum) * (slope . (position - expected)), for the cells of one chunk."""
    joint, program = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slope += joint * 3
    expected += joint * 3
    peak = tl.load(peaks + joint)
    slope_x, slope_y, slope_z = tl.load(slope), tl.load(slope + 1), tl.load(slope + 2)
    at_x, at_y, at_z = tl.load(expected), tl.load(expected + 1), tl.load(expected + 2)
    first = program * CHUNK
    end = tl.minimum(first + CHUNK, cells)
    for start in tl.range(first, end, TILE, num_stages=STAGES):
        cell = start + tl.arange(0, TILE)
        place = joint * cells + cell
        h = tl.load(logits + place, mask=cell < cells, other=0.0).to(tl.float32)
        e = tl.exp2((h - peak) * LOG2_E)
        row = cell // W
        from_x, from_y, from_z = cell % W - at_x, row % H - at_y, row // H - at_z
        pull = e * (slope_x * from_x + slope_y * from_y + slope_z * from_z)
        tl.store(result + place, pull.to(result.dtype.element_ty), mask=cell < cells)
