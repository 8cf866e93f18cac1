"""What losses of maps sum over a joint's cells: value and gradient by hand in one visit, block by block.

A block is some whole joints, h (n, D, H, W), small enough to stay in the cache while its exponentials, its loss and its
gradient are worked out: on a CPU a volume is read once, its gradient written once, and nothing else goes through memory.
That works because a joint's share in the loss is known beforehand, so that all its gradient lacks is the derivative of the
loss itself, usually 1. On a GPU, where one would have to wait to learn whether it is 1, the gradient is made when it is
asked for, in a second visit.

A term is a function `(h, out, scratch, weights, *targets)` -> (n,), weighted values of the joints, which writes the gradient
of their sum to `out` unless that is None. Targets stay what they are, a few numbers a joint. Taught in
notebooks/07_network_and_losses.ipynb; timed by benchmarks/heatmap_losses.py.
"""

import math

import torch

from .blocks import (
    BLOCK_CELLS,
    HIGHEST,
    cells_at_once,
    exponentials,
    first,
    inside,
    like_in_large_pages,
    loaded,
    range_of,
    store,
    weights_of_cells,
)


def over_joints(volume, term, weights, *targets, planar=None, plane_term=None, index=None, of_cells=None):
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
        rows, out = volume.flatten(0, 1), gradient.flatten(0, 1) if wanted else None
        targets = [target.flatten(0, 1) for target in (weights, *targets)]
        runs = _runs(volume, self.kinds)
        scratch = _scratch(volume, runs)
        with torch.autocast(volume.device.type, enabled=False):
            values = [
                self.terms[kind](
                    loaded(rows[run], scratch[0]), out[run] if wanted else None, scratch, *(target[run] for target in targets)
                )
                for run, kind in runs
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
        gradient, ctx.gradient = ctx.gradient, None  # handed on, not copied; asked again, it is made again
        if gradient is None:
            volume, weights, *targets = ctx.saved_tensors
            _, gradient = ctx.visit(volume, True, weights * grad, *targets)
        elif grad != 1:
            gradient.mul_(grad.item())
        return gradient, *[None] * (len(ctx.needs_input_grad) - 1)


def _runs(volume, kinds):
    """Slices of joints, each of one kind and as many as fit into a block, and at least one; with their kind."""
    step = max(1, cells_at_once(volume, BLOCK_CELLS) // volume.shape[2:].numel())
    runs, start = [], 0
    for i in range(1, len(kinds) + 1):
        if i == len(kinds) or i - start == step or kinds[i] != kinds[start]:
            runs.append((slice(start, i), kinds[start]))
            start = i
    return runs


def _scratch(volume, runs):
    """Room for two blocks."""
    size = max((run.stop - run.start for run, _ in runs), default=0)
    return torch.empty(2, size, *volume.shape[2:], dtype=inside(volume), device=volume.device)


def _less_gaussian(h, scratch, x, y, z):
    """h minus the outer product of three factors (n, W), (n, H), (n, D): (n, D, H * W), in the scratch."""
    return torch.addcmul(h.flatten(2), z[..., None], _plane(x, y)[:, None], value=-1, out=scratch.flatten(2))


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
    held = (torch.bmm(z[:, None], h.flatten(2))[:, 0] * _plane(x, y)).sum(dim=1)
    e, peak = weights_of_cells(h, scratch[1])
    total = e.flatten(1).sum(dim=1)
    if out is not None:
        rest = _less_gaussian(e, e, x * total[:, None], y, z)
        store(out.flatten(2), rest, (weights / total)[:, None, None])
    return weights * (peak.flatten() + total.log() - held)


def plane_cross_entropy(h, out, scratch, weights, x, y, z):
    """The same for the probability summed over depth: each column of cells counts by the log of its sum of exponentials."""
    e, peak = weights_of_cells(h, scratch[1], dim=1)
    total = e.flatten(2).sum(dim=1)
    logs = peak.flatten(1) + total.log()
    whole, plane = logs.logsumexp(dim=1), _plane(x, y)
    if out is not None:
        rest = (logs - whole[:, None]).exp_().sub_(plane).mul_(weights[:, None])
        store(out.flatten(2), e.flatten(2), (rest / total)[:, None])
    return weights * (whole - (logs * plane).sum(dim=1))


def log_sum_exp(h, out, scratch, weights):
    """log sum exp h."""
    e, peak = weights_of_cells(h, scratch[1])
    total = e.flatten(1).sum(dim=1)
    if out is not None:
        store(out, e, _each(weights / total))
    return weights * (peak.flatten() + total.log())


def softplus(h, out, scratch, weights):
    """sum log(1 + exp h)."""
    high, above = range_of(h)[1], 0
    if high > HIGHEST:  # from there on log(1 + exp h) is h
        above = (h - HIGHEST).clamp_(min=0).flatten(1).sum(dim=1)
        h, high = torch.clamp(h, max=HIGHEST, out=first(scratch[0], h)), HIGHEST
    e = exponentials(h, 0.0, scratch[1])
    if out is not None:
        store(out, torch.div(e, torch.add(e, 1, out=first(scratch[0], h)), out=first(scratch[0], h)), _each(weights))
    # (1 + a) (1 + b) - 1 = a + a b + b: many cells come to share a logarithm, as long as their product is no more than e^80.
    e = e.flatten(2)
    for _ in range(int(math.log2(80 / (max(high, 0) + math.log(2))))):
        half, odd = divmod(e.shape[1], 2)
        if half == 0:
            break
        a, b, last = e.split((half, half, odd), dim=1)
        e = a.addcmul_(a, b).add_(b)
        if odd:
            e = torch.cat([e, last], dim=1)
    return weights * (torch.log1p(e).flatten(1).sum(dim=1) + above)


def of_marginals(cost):
    """A loss of the probabilities p of each x, each y and each z.

    Args:
        cost: function (p (n, W + H + D), weights, *targets) -> weighted values (n,), and their gradient by p.
    """
    def term(h, out, scratch, weights, *targets):
        D, H, W = h.shape[1:]
        e, _ = weights_of_cells(h, scratch[1])
        plane = e.sum(dim=1)
        p = torch.cat([plane.sum(dim=1), plane.sum(dim=2), e.flatten(2).sum(dim=2)], dim=1)
        total = p[:, W + H:].sum(dim=1, keepdim=True)
        p /= total
        value, slope = cost(p, weights, *targets)
        if out is not None:
            # dL/dh = p (g_x + g_y + g_z - mean), the g being dL/dp along the axes
            mean = (slope * p).sum(dim=1, keepdim=True)
            x, y, z = slope.div_(total).split((W, H, D), dim=1)
            plane = torch.add(y[:, :, None], x[:, None], out=plane).flatten(1)
            factor = torch.add(plane[:, None], (z - mean / total)[..., None], out=first(scratch[0], h).flatten(2))
            store(out.flatten(2), e.flatten(2), factor)
        return value
    return term


def axis_matrix(volume_shape, like, start=0):
    """(W + H + D, 3): start, start + 1, ... along x, y and z, each in its own rows and column, 0 elsewhere."""
    axes = (torch.arange(start, start + size, dtype=like.dtype, device=like.device) for size in reversed(volume_shape))
    return torch.block_diag(*(axis[:, None] for axis in axes))
