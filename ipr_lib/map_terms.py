"""What losses of maps sum over a joint's cells, each with its gradient by hand, worked through block by block.

A block is some whole joints, h (n, D, H, W). Of each term there is `value(h, scratch, *targets)` -> (n, k) numbers, and
`gradient(h, out, scratch, numbers, grad, *targets)`, which writes the gradient by h for `grad` (n, k), that by the numbers.
So a volume is read once forward; backward it is read once and its gradient written once. Targets stay what they are, a few
numbers a joint. Taught in notebooks/07_network_and_losses.ipynb; timed by benchmarks/heatmap_losses.py.
"""

import torch

from .blocks import BLOCK_CELLS, cells_at_once, exponentials, first, inside, like_in_large_pages, loaded, store


def over_joints(volume, term, *targets, planar=None, plane_term=None, index=None):
    """A term of every joint, and some of the joint's cells; differentiable once by the volume.

    Args:
        volume: (B, J, D, H, W), any float dtype.
        term: one of this module's.
        *targets: what it takes, each (B, J, ...).
        planar: (B, J) bool, joints that have `plane_term` instead; a GPU is waited for to learn which.
        index: (B, J, ...) int64, cells of a joint in flat order.
    Returns:
        numbers (B, J, k), float32 or float64; cells like `index`, if there is one.
    """
    kinds = [False] * volume.shape[:2].numel() if planar is None else planar.flatten().tolist()
    return _OverJoints.apply(volume.contiguous(), index, kinds, (term, plane_term), *targets)


class _OverJoints(torch.autograd.Function):
    """Both gradients, of the numbers and of the cells, go into one volume: autograd would make one for each."""

    @staticmethod
    def forward(ctx, volume, index, kinds, terms, *targets):
        ctx.runs, ctx.terms = _runs(volume, kinds), terms
        rows, scratch = volume.flatten(0, 1), _scratch(volume, ctx.runs)
        with torch.autocast(volume.device.type, enabled=False):
            numbers = torch.cat([
                terms[kind].value(loaded(rows[run], scratch[0]), scratch, *(target.flatten(0, 1)[run] for target in targets))
                for run, kind in ctx.runs
            ])
        ctx.save_for_backward(volume, index, numbers, *targets)
        numbers = numbers.unflatten(0, volume.shape[:2])
        if index is None:
            return numbers
        return numbers, volume.flatten(2).gather(2, index.flatten(2)).view(index.shape).to(numbers.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, grad_cells=None):
        volume, index, numbers, *targets = ctx.saved_tensors
        result = like_in_large_pages(volume)
        rows, out, grad, scratch = volume.flatten(0, 1), result.flatten(0, 1), grad.flatten(0, 1), _scratch(volume, ctx.runs)
        with torch.autocast(volume.device.type, enabled=False):
            for run, kind in ctx.runs:
                ctx.terms[kind].gradient(
                    loaded(rows[run], scratch[0]), out[run], scratch, numbers[run], grad[run],
                    *(target.flatten(0, 1)[run] for target in targets)
                )
        if index is not None:
            result.flatten(2).scatter_add_(2, index.flatten(2), grad_cells.flatten(2).to(result.dtype))
        return result, *[None] * (3 + len(targets))


def _runs(volume, kinds):
    """Slices of joints, each of one kind and as many as fit into a block, and at least one; with their kind."""
    step = max(1, cells_at_once(volume, BLOCK_CELLS) // volume.shape[2:].numel())
    runs, start = [], 0
    for i in range(1, len(kinds) + 1):
        if i == len(kinds) or i - start == step or kinds[i] != kinds[start]:
            runs.append((slice(start, i), kinds[start]))
            start = i
    return runs or [(slice(0, 0), False)]


def _scratch(volume, runs):
    """Room for two blocks."""
    size = max(run.stop - run.start for run, _ in runs)
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


class SquaredDistance:
    """sum (h - G)^2; targets: the three factors of G, (n, W), (n, H), (n, D)."""

    @staticmethod
    def value(h, scratch, x, y, z):
        return _less_gaussian(h, first(scratch[1], h), x, y, z).square_().sum(dim=(1, 2))[:, None]

    @staticmethod
    def gradient(h, out, scratch, numbers, grad, x, y, z):
        store(out.flatten(2), _less_gaussian(h, first(scratch[1], h), x, y, z), 2 * grad[..., None])


class SquaredPlaneDistance:
    """The same in the plane: the sum of h over depth, in shares of `height`, against a Gaussian of x and y alone."""

    def __init__(self, height):
        self.height = height

    def _rest(self, h, x, y):
        return (h.flatten(2).sum(dim=1) / self.height).sub_(_plane(x, y))

    def value(self, h, scratch, x, y, z):
        return self._rest(h, x, y).square_().sum(dim=1, keepdim=True)

    def gradient(self, h, out, scratch, numbers, grad, x, y, z):
        out.flatten(2).copy_((self._rest(h, x, y) * (2 / self.height * grad))[:, None])


class CrossEntropy:
    """log sum exp h - sum q h; targets: the three factors of q, each of sum 1."""

    @staticmethod
    def value(h, scratch, x, y, z):
        peak, total = LogSumExp.peak_and_total(h, scratch)
        held = (torch.bmm(z[:, None], h.flatten(2))[:, 0] * _plane(x, y)).sum(dim=1)
        return torch.stack([peak + total.log() - held, peak, total], dim=1)

    @staticmethod
    def gradient(h, out, scratch, numbers, grad, x, y, z):
        _, peak, total = numbers.unbind(1)
        e = exponentials(h, _each(peak), scratch[1])
        rest = _less_gaussian(e, e, x * total[:, None], y, z)
        store(out.flatten(2), rest, (grad[:, 0] / total)[:, None, None])


class PlaneCrossEntropy:
    """The same for the probability summed over depth: each column of cells counts by the log of its sum of exponentials."""

    @staticmethod
    def _columns(h, scratch):
        h = h.flatten(2)
        peak = h.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(h.dtype).min)
        e = exponentials(h, peak, scratch[1].flatten(2))
        total = e.sum(dim=1, keepdim=True)
        return e, total, peak + total.log()

    @staticmethod
    def value(h, scratch, x, y, z):
        logs = PlaneCrossEntropy._columns(h, scratch)[2].flatten(1)
        whole = logs.logsumexp(dim=1)
        held = (logs * _plane(x, y)).sum(dim=1)
        return torch.stack([whole - held, whole, torch.ones_like(whole)], dim=1)

    @staticmethod
    def gradient(h, out, scratch, numbers, grad, x, y, z):
        e, total, logs = PlaneCrossEntropy._columns(h, scratch)
        rest = (logs - numbers[:, 1, None, None]).exp() - _plane(x, y)[:, None]
        store(out.flatten(2), e, rest * grad[:, :1, None] / total)


class LogSumExp:
    """log sum exp h."""

    @staticmethod
    def peak_and_total(h, scratch):
        peak = h.flatten(1).amax(dim=1)
        return peak, exponentials(h, _each(peak), scratch[1]).flatten(1).sum(dim=1)

    @staticmethod
    def value(h, scratch):
        peak, total = LogSumExp.peak_and_total(h, scratch)
        return torch.stack([peak + total.log(), peak, total], dim=1)

    @staticmethod
    def gradient(h, out, scratch, numbers, grad):
        _, peak, total = numbers.unbind(1)
        store(out, exponentials(h, _each(peak), scratch[1]), _each(grad[:, 0] / total))


class Softplus:
    """sum log(1 + exp h)."""

    @staticmethod
    def value(h, scratch):
        # max(h, 0) + log u, u = 1 + e, e = exp(-|h|), and e - (u - 1), what u was rounded by; log1p takes far longer.
        e, u = (first(part, h) for part in scratch)
        above = torch.clamp(h, min=0, out=u).flatten(1).sum(dim=1)
        exponentials(torch.abs(h, out=e).neg_(), torch.zeros_like(_each(above)), e)
        e.sub_(torch.add(e, 1, out=u).sub_(1))
        return (above + u.add_(1).log_().flatten(1).sum(dim=1) + e.flatten(1).sum(dim=1))[:, None]

    @staticmethod
    def gradient(h, out, scratch, numbers, grad):
        store(out, torch.sigmoid(h, out=first(scratch[1], h)), _each(grad))


class Marginals:
    """Probability of each x, each y and each z, W + H + D numbers, then the maximum and the sum of exponentials."""

    @staticmethod
    def value(h, scratch):
        peak = h.flatten(1).amax(dim=1)
        e = exponentials(h, _each(peak), scratch[1])
        plane = e.sum(dim=1)
        marginals = [plane.sum(dim=1), plane.sum(dim=2), e.flatten(2).sum(dim=2)]
        total = marginals[0].sum(dim=1, keepdim=True)
        return torch.cat([*(marginal / total for marginal in marginals), peak[:, None], total], dim=1)

    @staticmethod
    def gradient(h, out, scratch, numbers, grad):
        D, H, W = h.shape[1:]
        probability, peak, total = numbers[:, :-2], numbers[:, -2], numbers[:, -1:]
        grad = grad[:, :-2]
        x, y, z = (grad / total).split((W, H, D), dim=1)
        mean = (grad * probability).sum(dim=1, keepdim=True) / total
        e = exponentials(h, _each(peak), scratch[1])
        plane = (y[:, :, None] + x[:, None]).flatten(1)
        factor = torch.add((z - mean)[..., None], plane[:, None], out=first(scratch[0], h).flatten(2))
        store(out.flatten(2), e.flatten(2), factor)
