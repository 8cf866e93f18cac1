"""The integral on a GPU: one kernel forward, one backward, written in Triton.

The numbers are those of `ipr_lib.integral.expectation`, which chooses between the two. Taught in notebooks/06_soft_argmax.ipynb.

A joint's cells are cut into tiles of planes x cells, and its tiles go to several programs. Each program reads its
tiles once and keeps an online maximum: where a tile raises it, the sums so far shrink by exp(old - new) (Milakov and
Gimelshein 2018). What the programs of a joint leave, five numbers each, a second, tiny kernel puts together.
"""

import torch
import triton
import triton.language as tl

TILE = 2048  # cells of a tile: 16 a thread
TILES_A_PROGRAM = (
    16  # enough to hide the start of a program, few enough to fill a GPU with a small batch
)
LOG2_E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(
    -3.4028234663852886e38
)  # of float32; -inf would make exp(-inf + inf) of cells without weight


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
    grad_x, grad_y, grad_z = (
        tl.load(grad) / total,
        tl.load(grad + 1) / total,
        tl.load(grad + 2) / total,
    )
    at_x, at_y, at_z = tl.load(joints), tl.load(joints + 1), tl.load(joints + 2)
    first = program * per_program
    for tile in range(first, tl.minimum(first + per_program, tiles)):
        offsets, inside, x, y, z = _tile(tile, D, cells, stride_d, stride_c, W, TILE_D, TILE_C)
        h = tl.load(logits + start + offsets, mask=inside, other=0.0).to(tl.float32)
        e = tl.exp2((h - peak) * LOG2_E)
        out = e * (grad_x * (x - at_x) + grad_y * (y - at_y) + grad_z * (z - at_z))
        tl.store(result + start + offsets, out.to(result.dtype.element_ty), mask=inside)


def forward(volume):
    """`integral.forward_in_blocks` in one kernel and a tiny one.

    Args:
        volume: logits, (B, J, D, H, W), contiguous or channels-last, float32, bfloat16 or float16.
    Returns:
        joints (B, J, 3), order x, y, z; peak (B, J) and total (B, J); float32.
    """
    B, J = volume.shape[:2]
    numbers, sizes, programs = _launch(volume)
    partial = volume.new_empty((B, J, programs, 5), dtype=torch.float32)
    joints, peak, total = (partial.new_empty(shape) for shape in ((B, J, 3), (B, J), (B, J)))
    if B * J:
        with torch.cuda.device_of(volume):
            _forward_kernel[(B * J, programs)](volume, partial, *numbers, **sizes, num_warps=4)
            _gather_kernel[(B * J,)](
                partial,
                joints,
                peak,
                total,
                programs,
                PROGRAMS=triton.next_power_of_2(programs),
                num_warps=1,
            )
    return joints, peak, total


def backward(grad, volume, joints, peak, total):
    """`integral.backward_in_blocks` in one kernel: same arguments, same result."""
    B, J = volume.shape[:2]
    result = torch.empty_like(volume)
    numbers, sizes, programs = _launch(volume)
    if B * J:
        with torch.cuda.device_of(volume):
            _backward_kernel[(B * J, programs)](
                volume,
                result,
                grad.contiguous(),
                joints,
                peak,
                total,
                *numbers,
                **sizes,
                num_warps=4,
            )
    return result


def _launch(volume):
    """Arguments that both kernels share, their tile's sizes, and the number of programs a joint."""
    _, J, D, H, W = volume.shape
    cells = H * W
    if volume.is_contiguous():  # cells lie side by side, else planes do
        strides = (J * D * cells, D * cells, cells, 1)
        tile_c = min(TILE, triton.next_power_of_2(cells))
        tile_d = min(TILE // tile_c, triton.next_power_of_2(D))
    else:
        strides = (J * D * cells, D, 1, J * D)
        tile_d = min(128, triton.next_power_of_2(D))
        tile_c = min(TILE // tile_d, triton.next_power_of_2(cells))
    tiles = triton.cdiv(D, tile_d) * triton.cdiv(cells, tile_c)
    programs = triton.cdiv(tiles, TILES_A_PROGRAM)
    numbers = (J, D, cells, *strides, tiles, triton.cdiv(tiles, programs))
    return numbers, {"W": W, "TILE_D": tile_d, "TILE_C": tile_c}, programs
