"""What losses of maps sum over a joint's cells: value and gradient by hand in one visit, block by block.

A block is some whole joints, h (n, D, H, W), small enough to stay in the cache while its exponentials, its loss and its
gradient are worked out: on a CPU a volume is read once, its gradient written once, and nothing else goes through memory.
That works because a joint's share in the loss is known beforehand, so that all its gradient lacks is the derivative of the
loss itself, usually 1. On a GPU, where one would have to wait to learn whether it is 1, the gradient is made when it is
asked for, in a second visit.

A term is a function `(h, out, scratch, weights, *targets)` -> (n, ...), weighted values of the joints, which writes the gradient
of their sum to `out` unless that is None. It may use two blocks of scratch; the second is `out` itself where that has the
right dtype, for to write into memory that is in the cache already costs little. Targets stay what they are, a few numbers a
joint. Taught in notebooks/07_network_and_losses.ipynb; timed by benchmarks/heatmap_losses.py.
"""

import torch

from .blocks import (
    LOWEST,
    cells_at_once,
    exponentials,
    exponentials_and_sums,
    first,
    inside,
    like_in_large_pages,
    loaded,
    seldom_below,
    store,
)

BLOCK_CELLS = 1 << 18  # of a thread: logits and gradient of a block, float32, fill 2 MB
FACTOR_CELLS = 1 << 17  # of a thread: what a gradient's factor is worked out for at a time


def over_joints(
    volume, term, weights, *targets, planar=None, plane_term=None, index=None, of_cells=None
):
    """Sum of a term over all joints; differentiable once by the volume.

    Args:
        volume: (B, J, D, H, W), any float dtype.
        term: one of this module's.
        weights: (B, J, ...), what the term multiplies its values by.
        *targets: what else it takes, each (B, J, ...).
        planar: (B, J) bool, joints that have `plane_term` instead; a GPU is waited for to learn which.
        index: (B, J, ...) int64, cells of a joint in flat order.
        of_cells: their part of the loss, (cells, weights) -> scalar, in operations that autograd knows.
    Returns:
        scalar, float32 or float64.
    """
    kinds = [False] * volume.shape[:2].numel() if planar is None else planar.flatten().tolist()
    visit = _Visit((term, plane_term), kinds, index, of_cells)
    return _OverJoints.apply(volume.contiguous(), visit, torch.is_grad_enabled(), weights, *targets)


class _Visit:
    """One walk through a volume: the loss and, where wanted, its gradient."""

    def __init__(self, terms, kinds, index, of_cells):
        self.terms, self.kinds, self.index, self.of_cells = terms, kinds, index, of_cells

    def __call__(self, volume, wanted, weights, *targets):
        gradient = like_in_large_pages(volume) if wanted else None
        kinds, sizes = _runs(volume, self.kinds)
        scratch = _scratch(volume, sizes)
        blocks, *targets = (
            tensor.flatten(0, 1).split(sizes) for tensor in (volume, weights, *targets)
        )
        outs = gradient.flatten(0, 1).split(sizes) if wanted else [None] * len(blocks)
        direct = wanted and gradient.dtype == scratch.dtype
        with torch.autocast(volume.device.type, enabled=False):
            values = [
                self.terms[kind](
                    loaded(block, scratch[0]),
                    out,
                    (scratch[0], out if direct else scratch[1]),
                    *numbers,
                )
                for kind, block, out, *numbers in zip(kinds, blocks, outs, *targets)
            ]
            value = torch.cat(values).sum() if values else scratch.new_zeros(())
            if self.index is not None:
                value = value + self._of_cells(volume, gradient, weights)
        return value, gradient

    def _of_cells(self, volume, gradient, weights):
        index = self.index.flatten(2)
        cells = volume.flatten(2).gather(2, index).view(self.index.shape).to(inside(volume))
        with torch.set_grad_enabled(gradient is not None):
            value = self.of_cells(cells.requires_grad_(gradient is not None), weights)
        if gradient is not None:
            (by_cells,) = torch.autograd.grad(value, cells)
            gradient.flatten(2).scatter_add_(2, index, by_cells.flatten(2).to(gradient.dtype))
        return value.detach()


class _OverJoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx, volume, visit, with_gradient, weights, *targets):
        at_once = with_gradient and ctx.needs_input_grad[0] and volume.device.type == "cpu"
        value, ctx.gradient = visit(volume, at_once, weights, *targets)
        ctx.visit = visit
        ctx.save_for_backward(volume, weights, *targets)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        gradient, ctx.gradient = (
            ctx.gradient,
            None,
        )  # handed on, not copied; asked again, it is made again
        if gradient is None:
            volume, weights, *targets = ctx.saved_tensors
            _, gradient = ctx.visit(volume, True, weights * grad, *targets)
        elif grad != 1:
            gradient.mul_(grad.item())
        return gradient, *[None] * (len(ctx.needs_input_grad) - 1)


def _runs(volume, kinds):
    """Runs of joints of one kind, as many as fit into a block, and at least one: their kinds and their sizes."""
    step = max(1, cells_at_once(volume, BLOCK_CELLS) // max(1, volume.shape[2:].numel()))
    runs, sizes = [], []
    for kind in kinds:
        if runs and kind == runs[-1] and sizes[-1] < step:
            sizes[-1] += 1
        else:
            runs.append(kind)
            sizes.append(1)
    return runs, sizes


def _scratch(volume, sizes):
    """Room for two blocks."""
    return torch.empty(
        2, max(sizes, default=0), *volume.shape[2:], dtype=inside(volume), device=volume.device
    )


def _less_gaussian(h, scratch, x, y, z):
    """h minus the outer product of three factors (n, W), (n, H), (n, D): (n, D, H * W), in the scratch."""
    return torch.addcmul(
        h.flatten(2), z[..., None], _plane(x, y)[:, None], value=-1, out=scratch.flatten(2)
    )


def _plane(x, y):
    """Outer product of two factors (n, W), (n, H): (n, H * W)."""
    return (y[:, :, None] * x[:, None]).flatten(1)


def _each(numbers):
    """(n,) or (n, 1), to be broadcast over joints' cells: (n, 1, 1, 1)."""
    return numbers.reshape(-1, 1, 1, 1)


def _sum_of_squares(values):
    """(n, ...) -> (n,)"""
    return torch.linalg.vector_norm(values.flatten(1), dim=1).square()


def squared_distance(h, out, scratch, weights, x, y, z):
    """sum (h - G)^2; targets: the three factors of G, (n, W), (n, H), (n, D)."""
    rest = _less_gaussian(h, first(scratch[1], h), x, y, z)
    value = _sum_of_squares(rest)
    if out is not None:
        store(out.flatten(2), rest, 2 * weights[:, None, None])
    return weights * value


def squared_plane_distance(height):
    """The same in the plane: the sum of h over depth, in shares of `height`, against a Gaussian of x and y alone."""

    def term(h, out, scratch, weights, x, y, z):
        rest = (h.flatten(2).sum(dim=1) / height).sub_(_plane(x, y))
        if out is not None:
            out.flatten(2).copy_((rest * (2 / height * weights[:, None]))[:, None])
        return weights * _sum_of_squares(rest)

    return term


def cross_entropy(h, out, scratch, weights, x, y, z):
    """log sum exp h - sum q h; targets: the three factors of q, each of sum 1."""
    e, peak, total = exponentials_and_sums(h, scratch[1])
    log_total, total = (peak + total.log()).flatten(), total.flatten()
    held = (torch.bmm(z[:, None], h.flatten(2))[:, 0] * _plane(x, y)).sum(dim=1)
    if out is not None:
        rest = _less_gaussian(e, e, x * total[:, None], y, z)
        store(out.flatten(2), rest, (weights / total)[:, None, None])
    return weights * (log_total - held)


def plane_cross_entropy(h, out, scratch, weights, x, y, z):
    """The same for the probability summed over depth: each column of cells counts by the log of its sum of exponentials."""
    e, peak, total = exponentials_and_sums(h, scratch[1], dim=(1,))
    logs, plane = (peak + total.log()).flatten(1), _plane(x, y)
    whole = logs.logsumexp(dim=1)
    if out is not None:
        rest = (logs - whole[:, None]).exp_().sub_(plane).mul_(weights[:, None])
        store(out.flatten(2), e.flatten(2), rest[:, None] / total.flatten(2))
    return weights * (whole - (logs * plane).sum(dim=1))


def log_sum_exp(h, out, scratch, weights):
    """log sum exp h."""
    e, peak, total = exponentials_and_sums(h, scratch[1])
    if out is not None:
        store(out, e, _each(weights) / total)
    return weights * (peak + total.log()).flatten()


def softplus(h, out, scratch, weights):
    """sum log(1 + exp h)."""
    room, value = first(scratch[0], h), None
    if seldom_below(h, LOWEST):
        e = torch.exp(h, out=first(scratch[1], h))
        value = _sum_of_logs(e.flatten(2), room.flatten(2), halvings=5)
    if value is None or not value.isfinite().all():
        # From 35 on log(1 + exp h) is h: what is above counts as it is.
        above = (h - 35).clamp_(min=0).flatten(1).sum(dim=1)
        e = exponentials(h.clamp(max=35), 0.0, scratch[1])
        value = above + _sum_of_logs(e.flatten(2), room.flatten(2), halvings=1)
    if out is not None:
        each = weights[:, None, None]
        _times(
            e,
            out,
            scratch[0],
            lambda e, room: torch.div(each, torch.add(e, 1, out=room), out=room),
            e.flatten(2),
        )
    return weights * value


def _sum_of_logs(e, room, halvings):
    """sum log(1 + e) of each joint, for e (n, D, H * W) in room of that shape.

    (1 + a) (1 + b) - 1 = a + a b + b: 2^halvings cells come to share a logarithm, infinite where their product is.
    """
    odd = []
    for _ in range(min(halvings, e.shape[1].bit_length() - 1)):
        half = e.shape[1] // 2
        a, b = e[:, :half], e[:, half : 2 * half]
        odd += [e[:, 2 * half :]] * (e.shape[1] % 2)
        e = torch.addcmul(a, a, b, out=room[:, :half]).add_(b)
    return sum(torch.log1p(part).flatten(1).sum(dim=1) for part in (e, *odd))


def of_marginals(cost):
    """A loss of the probabilities p of each x, each y and each z.

    Args:
        cost: function (p (n, W + H + D), weights, *targets) -> weighted values (n,), and their gradient by p.
    """

    def sums(e):
        along_z = e.flatten(2).sum(dim=2)
        return torch.cat([along_z.sum(dim=1, keepdim=True), along_z], dim=1)

    def term(h, out, scratch, weights, *targets):
        D, H, W = h.shape[1:]
        e, _, found = exponentials_and_sums(h, scratch[1], sums)
        total, along_z = found.split((1, D), dim=1)
        plane = e.sum(dim=1)
        p = torch.cat([plane.sum(dim=1), plane.sum(dim=2), along_z], dim=1).div_(total)
        value, slope = cost(p, weights, *targets)
        if out is not None:
            # dL/dh = p (g_x + g_y + g_z - mean), the g being dL/dp along the axes
            mean = (slope * p).sum(dim=1, keepdim=True)
            x, y, z = ((slope - mean / 3) / total).split((W, H, D), dim=1)
            plane = torch.add(y[:, :, None], x[:, None], out=plane).flatten(1)[:, None]
            _times(e, out, scratch[0], lambda z, room: torch.add(plane, z, out=room), z[..., None])
        return value

    return term


def distance_of_expectation(volume_shape, like):
    """sum |E - target|, E being the expected cell; weights and targets (n, 6): a 0, x, y, z, and two more 0s.

    All sums are one product: rows 1 and z, times the exponentials as (D, H * W), times columns 1, x and y; the gradient's
    factor is made the other way round.
    """
    D, H, W = volume_shape
    x, y, z = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (W, H, D))
    rows = torch.stack([torch.ones_like(z), z])  # (2, D)
    columns = torch.stack(
        [torch.ones_like(x).repeat(H), x.repeat(H), y.repeat_interleave(W)]
    )  # (3, H * W)

    columns_down, rows_down = columns.T, rows.T
    less_sum = torch.zeros(
        6, 6, dtype=like.dtype, device=like.device
    )  # minus the sum of six, in the place of the first
    less_sum[:, 0] = -1

    def sums(e):  # of e, e x, e y, e z, and two that nobody asks for
        return torch.matmul(
            torch.bmm(rows.expand(len(e), -1, -1), e.flatten(2)), columns_down
        ).flatten(1)

    def term(h, out, scratch, weights, targets):
        e, _, found = exponentials_and_sums(h, scratch[1], sums)
        total = found[:, :1]
        mean = found / total
        off = mean - targets
        slope = off.sign().mul_(weights)
        if out is not None:
            arms = torch.matmul(
                torch.addmm(slope, mean.mul_(slope), less_sum).div_(total).view(-1, 2, 3), columns
            )
            _times(
                e,
                out,
                scratch[0],
                lambda z, room: torch.bmm(z.expand(len(e), -1, -1), arms, out=room),
                rows_down,
            )
        return off.mul_(slope)

    return term


def _times(e, out, scratch, factor, of_planes):
    """out = e * factor, some planes at a time: factor (`of_planes` of these, room (n, planes, H * W)) fills the room."""
    n, D, H, W = e.shape
    step = max(1, min(D, cells_at_once(e, FACTOR_CELLS) // (n * H * W)))
    room = scratch.flatten()[: n * step * H * W].view(n, step, H * W)
    parts = (e.flatten(2).split(step, 1), out.flatten(2).split(step, 1), of_planes.split(step, -2))
    for part, target, numbers in zip(*parts):
        store(
            target,
            part,
            factor(numbers, room if part.shape[1] == step else room[:, : part.shape[1]]),
        )


def axis_matrix(volume_shape, like, start=0):
    """(W + H + D, 3): start, start + 1, ... along x, y and z, each in its own rows and column, 0 elsewhere."""
    axes = (
        torch.arange(start, start + size, dtype=like.dtype, device=like.device)
        for size in reversed(volume_shape)
    )
    return torch.block_diag(*(axis[:, None] for axis in axes))
