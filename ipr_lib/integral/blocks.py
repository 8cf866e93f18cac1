"""A volume worked through in blocks that stay in the cache: how it is cut, and what is done to a block.

What `integral` and the losses of maps share. Taught in notebooks/06_soft_argmax.ipynb.
"""

import collections
import math
import weakref

import numpy as np
import torch
from torch.nn.functional import threshold_

LOWEST = (
    -70.0
)  # of logits, less the largest: exp of it and what is made of that stay well inside of float32
SAMPLED = 4093  # one cell of so many
BLOCK_CELLS = (
    1 << 17
)  # of a thread: a block and its scratch, float32, fill the 1 MB of a usual second-level cache
BLOCK_CELLS_GPU = 1 << 24  # without Triton: few launches, yet little memory
LARGE_BYTES = 1 << 22
_idle = collections.deque(maxlen=1)  # memory of the last large gradient that was let go


def cells_at_once(volume, block_cells):
    """Cells of a block of the volume, where a CPU's thread is to have `block_cells`."""
    return block_cells * torch.get_num_threads() if volume.device.type == "cpu" else BLOCK_CELLS_GPU


class Cut:
    """How a volume falls into blocks of cells that lie together in memory, each a (rows, places, columns) view.

    Contiguous: a row is a piece of a joint, some whole planes; its places are lines and its columns run along x.
    Channels-last: a row is a picture; its places are the cells of a plane and its columns joints and depth. A block is a
    run of rows, and all blocks are one part; where a single row is too large, a block is a run of its places, and each
    row is a part.

    Attributes:
        places: for each part, for each block (3, places): ones, and two coordinates of the places.
        along: which coordinates these are; 0, 1, 2 for x, y, z.
        base: (rows or 1, 3, columns), what a row and a column add to x, y and z.
        of_joint: dimensions of a block that belong to the same piece of a joint.
    """

    def __init__(self, volume, block_cells):
        B, J, D, H, W = self.shape = volume.shape
        size = cells_at_once(volume, block_cells)
        like = self.like = torch.empty(0, dtype=inside(volume), device=volume.device)
        x, y, z = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (W, H, D))
        self.contiguous = volume.is_contiguous()
        if self.contiguous:
            planes = max(n for n in range(1, D + 1) if D % n == 0 and (n == 1 or n * H * W <= size))
            self.view, self.along, self.of_joint = (
                (B * J * D // planes, planes * H, W),
                [1, 2],
                (1, 2),
            )
            places = torch.stack(
                [
                    torch.ones_like(y).repeat(planes),
                    y.repeat(planes),
                    z[:planes].repeat_interleave(H),
                ]
            )
            self.base = torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)]).repeat(
                self.view[0], 1, 1
            )
            self.base[:, 2] = z[::planes].repeat(B * J)[:, None]
        else:
            self.view, self.along, self.of_joint = (B, H * W, J * D), [0, 1], (1,)
            places = torch.stack(
                [torch.ones_like(x).repeat(H), x.repeat(H), y.repeat_interleave(W)]
            )
            z = z.repeat(J)
            self.base = torch.stack([torch.zeros_like(z), torch.zeros_like(z), z])[None]
        rows, lines, columns = self.view
        self.whole_rows = self.contiguous or lines * columns <= size
        self.step = max(1, size // (lines * columns if self.whole_rows else columns))
        if self.whole_rows:
            self.places = [[places] * max(1, -(-rows // self.step))]
        else:
            self.places = [places.split(self.step, dim=1)] * rows

    def blocks(self, volume):
        """For each part its blocks, views of the volume."""
        matrices = (volume if self.contiguous else volume.permute(0, 3, 4, 1, 2)).view(self.view)
        return (
            [matrices.split(self.step)]
            if self.whole_rows
            else [row.split(self.step, dim=1) for row in matrices.split(1)]
        )

    def scratch(self):
        """Memory for the largest block: float32, or float64 as the volume."""
        rows, places, columns = self.view
        rows, places = (
            (min(rows, self.step), places) if self.whole_rows else (1, min(places, self.step))
        )
        return self.like.new_empty(rows, places, columns)

    def by_row(self, numbers):
        """k numbers of each joint, (B, J, k) -> (rows, k, columns or 1)."""
        if self.contiguous:
            joints = numbers.flatten(0, 1)
            return joints.repeat_interleave(self.view[0] // max(1, len(joints)), dim=0)[..., None]
        return numbers.transpose(1, 2).repeat_interleave(self.shape[2], dim=2)

    def deal(self, numbers):
        """(rows, k, columns or 1) -> for each part what each of its blocks needs of it."""
        return (
            [numbers.split(self.step)]
            if self.whole_rows
            else [[row] * len(self.places[0]) for row in numbers.split(1)]
        )

    def by_joint(self, numbers):
        """k numbers of each row and column of a part, (rows, k, columns or 1) -> (pieces, joints, k)."""
        B, J, D = self.shape[:3]
        if self.contiguous:
            pieces = self.view[0] // max(1, B * J) or 1  # one of no joints, too
            return numbers.sum(dim=2).unflatten(0, (B * J, pieces)).transpose(0, 1)
        if self.whole_rows:
            return numbers.unflatten(2, (J, D)).permute(3, 0, 2, 1).flatten(1, 2)
        return numbers.unflatten(2, (J, D)).permute(0, 3, 2, 1).flatten(0, 1)


def loaded(block, scratch):
    """The block itself in the scratch's dtype, or its copy in the scratch."""
    return block if block.dtype == scratch.dtype else first(scratch, block).copy_(block)


def exponentials_and_sums(h, scratch, sums=None, dim=(1, 2, 3)):
    """exp(h - peak) in the scratch, peak, and sums of the exponentials.

    Peak is the number 0 as long as that is safe, which saves a walk; else the largest logits along `dim`, which they keep.

    Args:
        h: block (n, D, H, W).
        scratch: for the exponentials.
        sums: exponentials -> sums (n, k), the first of which is over all of `dim`; by default that one alone, `dim` kept.
    """
    sums = sums or (lambda e: e.sum(dim=dim, keepdim=True))
    if seldom_below(h, LOWEST):
        e = torch.exp(h, out=first(scratch, h))
        found = sums(e)
        low, high = found[:, :1].aminmax()
        if low.item() > 1e-15 and high.item() < 1e30:
            return e, 0.0, found
    peak = h.amax(dim=dim, keepdim=True)
    e = exponentials(h, peak, scratch)
    return e, peak, sums(e)


def exponentials(block, peak, scratch):
    """exp(block - peak) in the scratch; on a CPU, 0 where it is less than exp(-70).

    There exp takes up to a hundred times as long where it underflows, and products of what it gives then do, too.
    """
    e = torch.sub(block, peak, out=first(scratch, block))
    if e.device.type != "cpu" or e.numel() == 0 or e.amin().item() > LOWEST:
        return e.exp_()
    return threshold_(e.clamp_(min=LOWEST).exp_(), 1.001 * math.exp(LOWEST), 0.0)


def seldom_below(block, limit):
    """Whether no cell of a sparse sample is below; a question of speed, never asked on a GPU, where it would have to wait."""
    return (
        block.device.type == "cpu"
        and block.numel() > 0
        and block.flatten()[::SAMPLED].amin().item() > limit
    )


def first(scratch, block):
    """As much of the scratch as the block needs."""
    return scratch if scratch.shape == block.shape else scratch[: block.shape[0], : block.shape[1]]


def store(out, e, factor):
    """Write e * factor to its place in the result, in the result's dtype; e is lost."""
    if out.dtype == e.dtype:
        torch.mul(e, factor, out=out)
    else:
        out.copy_(e.mul_(factor))


def inside(volume):
    """The dtype to work in: float64 for float64 logits, float32 for all others."""
    return volume.dtype if volume.dtype == torch.float64 else torch.float32


def like_in_large_pages(volume):
    """Uninitialised tensor of the volume's shape, dtype and layout.

    The system hands a large new gradient over page by page; in pages of 4 kB that takes about as long as to work it
    out. From 4 MB on NumPy asks for large pages, PyTorch does not; and the last such gradient's memory, once nobody holds
    it any more, serves the next of its size.
    """
    if volume.nbytes < LARGE_BYTES or volume.device.type != "cpu":
        return torch.empty_like(volume)
    try:
        memory = _idle.pop()
    except IndexError:
        memory = None
    if memory is None or memory.nbytes != volume.nbytes:
        memory = np.empty(volume.nbytes, np.uint8)
    lent = memory.view()  # lives as long as the tensor does
    weakref.finalize(lent, _idle.append, memory).atexit = False
    return torch.from_numpy(lent).view(volume.dtype).as_strided(volume.shape, volume.stride())


def release_memory():
    """Give the memory that waits for the next large gradient back to the system."""
    _idle.clear()
