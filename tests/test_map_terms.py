"""Value and gradient in one visit: the integral's loss by hand, and what all losses of maps share."""

import numpy as np
import pytest
import torch

from ipr_lib.integral import blocks, losses, map_terms
from ipr_lib.integral.expectation import soft_argmax
from ipr_lib.integral.losses import masked_mean, soft_argmax_loss

SHAPE = (2, 3, 4, 5, 6)  # B, J, D, H, W
LOSSES = [
    soft_argmax_loss, losses.squared_heatmap_loss, losses.softmax_heatmap_loss,
    lambda *a: losses.softmax_heatmap_loss(*a, sigma=1.0), losses.binary_heatmap_loss, losses.js_prior_loss,
    losses.expected_error_loss,
]


def example(shape=SHAPE, scale=2.0, dtype=torch.float32, seed=0):
    """Logits, true cells inside of the volume, and weights: a joint without depth, one without anything."""
    rng = np.random.default_rng(seed)
    sides = torch.tensor(shape[:1:-1])
    cells = torch.as_tensor(rng.uniform(0, 1, (*shape[:2], 3))) * (sides - 1)
    weights = torch.ones(*shape[:2], 3)
    weights[0, 1, 2] = weights[1, 2] = 0
    return torch.as_tensor(scale * rng.normal(size=shape)).to(dtype), cells.to(dtype), weights.to(dtype)


def plain_loss(volume, cells, weights):
    """Softmax, marginals, means and L1, in float64 and by autograd."""
    prob = volume.double().flatten(2).softmax(-1).view(volume.shape)
    axes = [torch.arange(n, dtype=torch.float64) for n in volume.shape[2:]]
    E = torch.stack([prob.sum((2, 3)) @ axes[2], prob.sum((2, 4)) @ axes[1], prob.sum((3, 4)) @ axes[0]], -1)
    return masked_mean((E - cells.double()).abs() / torch.tensor(volume.shape[:1:-1]), weights.double())


def with_gradient(loss, volume, *arguments, upstream=1.0):
    leaf = volume.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = loss(leaf, *arguments)
    (value * upstream).backward()
    return value.detach(), leaf.grad


def channels_last(volume):
    return volume.flatten(1, 2).contiguous(memory_format=torch.channels_last).unflatten(1, volume.shape[1:3])


def test_integral_loss_of_a_volume_by_hand():
    # p = 1/8, 3/8, 4/8 at (x, y, z) = (0, 1, 2), (4, 3, 0), (2, 0, 1): E = (2.5, 1.25, 0.75); sides 5, 4, 3.
    logits = torch.full((1, 1, 3, 4, 5), -torch.inf, dtype=torch.float64)
    logits[0, 0, 2, 1, 0], logits[0, 0, 0, 3, 4], logits[0, 0, 1, 0, 2] = 0.0, np.log(3), np.log(4)
    cells, weights = torch.tensor([[[4.0, 1.0, torch.nan]]]), torch.tensor([[[1.0, 1.0, 0.0]]])
    value, grad = with_gradient(soft_argmax_loss, logits, cells, weights)
    assert value.item() == pytest.approx((1.5 / 5 + 0.25 / 4) / 2)
    # dL/dE = (-1/10, 1/8, 0); arms (-2.5, -0.25), (1.5, 1.75), (-0.5, -1.25); times p.
    expected = torch.zeros_like(logits)
    expected[0, 0, 2, 1, 0] = (0.25 - 0.03125) / 8
    expected[0, 0, 0, 3, 4] = (-0.15 + 0.21875) * 3 / 8
    expected[0, 0, 1, 0, 2] = (0.05 - 0.15625) / 2
    torch.testing.assert_close(grad, expected)
    assert grad.count_nonzero() == 3  # nothing at all where a cell has no weight


@pytest.mark.parametrize("shape", [SHAPE, (2, 3, 1, 5, 6), (2, 3, 7, 1, 1), (2, 3, 9, 33, 31)])
@pytest.mark.parametrize("block", [1, 250, 1 << 18])  # a joint is larger than a block, then two fit, then all
@pytest.mark.parametrize("factor", [1, 70, 1 << 17])
def test_blocks_change_nothing(shape, block, factor, monkeypatch):
    monkeypatch.setattr(map_terms, "BLOCK_CELLS", block)
    monkeypatch.setattr(map_terms, "FACTOR_CELLS", factor)
    volume, cells, weights = example(shape)
    value, grad = with_gradient(soft_argmax_loss, volume, cells, weights)
    expected, expected_grad = with_gradient(plain_loss, volume.double(), cells, weights)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4, 80.0, -80.0])
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_large_logits_are_exact(shift, scale):
    volume, cells, weights = example(scale=scale)
    volume = volume + shift
    value, grad = with_gradient(soft_argmax_loss, volume, cells, weights)
    expected, expected_grad = with_gradient(plain_loss, volume.double(), cells, weights)
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-3, atol=1e-6)


def test_a_tie_at_ten_thousand_is_halved():
    logits = torch.full(SHAPE, -1e4)
    logits[:, :, 1, 2, 3] = logits[:, :, 3, 2, 4] = 1e4
    value, grad = with_gradient(soft_argmax_loss, logits, torch.zeros(2, 3, 3), torch.tensor([0.0, 0, 1]).expand(2, 3, 3))
    assert value.item() == 2 / 4  # E_z = 2 of 4 cells; each of six joints counts a sixth, a quarter of that a cell
    torch.testing.assert_close(grad[:, :, 3, 2, 4], torch.full((2, 3), 0.5 / 24))
    torch.testing.assert_close(grad[:, :, 1, 2, 3], torch.full((2, 3), -0.5 / 24))
    assert grad.count_nonzero() == 12


@pytest.mark.parametrize("loss", [LOSSES[i] for i in (0, 2, 5, 6)])
def test_cells_of_minus_infinity_have_no_weight_and_no_gradient(loss):
    volume, cells, weights = example()
    cells[...] = torch.tensor([3.0, 2, 3])
    volume[:, :, :2] = volume[:, :, :, 0] = -torch.inf
    value, grad = with_gradient(loss, volume, cells, weights)
    assert value.isfinite() and grad.isfinite().all()
    assert not grad[:, :, :2].any() and not grad[:, :, :, 0].any() and grad[0, 0].any()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_joint_is_seen(broken):
    volume, cells, weights = example()
    volume[0, 0] = broken
    assert soft_argmax_loss(volume, cells, weights).isnan()


@pytest.mark.parametrize("loss", LOSSES)
def test_upstream_scales_the_gradient(loss):
    volume, cells, weights = example()
    value, grad = with_gradient(loss, volume, cells, weights)
    for upstream in (-3.0, 0.5, 0.0):
        same, scaled = with_gradient(loss, volume, cells, weights, upstream=upstream)
        assert same == value
        torch.testing.assert_close(scaled, upstream * grad)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("upstream", [1.0, 0.25])
def test_a_graph_that_is_kept_gives_the_gradient_again(loss, upstream):
    """The first backward hands the gradient on, and whoever got it may change it."""
    volume, cells, weights = example()
    leaf = volume.requires_grad_()
    value = loss(leaf, cells, weights) * upstream
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    kept = first.clone()
    first.zero_()
    torch.testing.assert_close(torch.autograd.grad(value, leaf, retain_graph=True)[0], kept)
    torch.testing.assert_close(torch.autograd.grad(value, leaf)[0], kept)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_grad_no_gradient_is_made(loss, monkeypatch):
    volume, cells, weights = example()
    with_it = loss(volume.clone().requires_grad_(), cells, weights).detach()
    monkeypatch.setattr(map_terms, "like_in_large_pages", None)
    torch.testing.assert_close(loss(volume, cells, weights), with_it, rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(loss(volume.clone().requires_grad_(), cells, weights), with_it, rtol=1e-6, atol=1e-7)


def test_the_gradient_is_handed_on_without_a_copy(monkeypatch):
    places = []

    def make(volume):
        gradient = torch.empty_like(volume)
        places.append(gradient.data_ptr())
        return gradient

    monkeypatch.setattr(map_terms, "like_in_large_pages", make)
    volume, cells, weights = example()
    leaf = volume.requires_grad_()
    soft_argmax_loss(leaf, cells, weights).backward()
    assert places == [leaf.grad.data_ptr()]


def test_channels_last_keeps_its_layout():
    volume, cells, weights = example()
    value, grad = with_gradient(soft_argmax_loss, volume, cells, weights)
    same, last = with_gradient(soft_argmax_loss, channels_last(volume), cells, weights)
    torch.testing.assert_close(same, value)
    torch.testing.assert_close(last, grad, rtol=1e-4, atol=1e-7)
    assert last.stride() == channels_last(volume).stride()


def test_compiles_into_one_graph():
    volume, cells, weights = example()
    compiled = torch.compile(lambda volume: soft_argmax_loss(volume * 2, cells, weights), fullgraph=True, backend="aot_eager")
    value, grad = with_gradient(lambda volume: soft_argmax_loss(volume * 2, cells, weights), volume)
    same, compiled_grad = with_gradient(compiled, volume)
    torch.testing.assert_close(same, value)
    torch.testing.assert_close(compiled_grad, grad, rtol=1e-4, atol=1e-7)


def test_second_derivative_is_refused():
    volume, cells, weights = example()
    leaf = volume.requires_grad_()
    (grad,) = torch.autograd.grad(soft_argmax_loss(leaf, cells, weights).square(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_exponentials_that_underflow_are_none():
    block = torch.tensor([[[[0.0, -1.0, -69.0, -75.0, -100.0, -1e4, -torch.inf]]]])
    e = blocks.exponentials(block, 0.0, torch.empty(1, 1, 1, 7)).flatten()
    torch.testing.assert_close(e[:3], block.flatten()[:3].exp())
    assert (e[3:] == 0).all()


@pytest.mark.parametrize("offset", [0.0, 40.0, 90.0, -90.0, 1e4])
def test_binary_loss_far_up_and_far_down(offset):
    """A joint's cells share logarithms; where their product is infinite, fewer do."""
    volume, cells, weights = example((2, 3, 33, 4, 5), dtype=torch.float64)
    weights = torch.ones(2, 3, 3)
    volume = volume + offset
    z, y, x = torch.meshgrid(*(torch.arange(n) for n in volume.shape[2:]), indexing="ij")
    away = sum((axis - c[..., None, None, None]) ** 2 for axis, c in zip((x, y, z), cells.unbind(-1)))
    terms = torch.nn.functional.softplus(volume) - volume * (away <= 1.5**2)
    for dtype in (torch.float64, torch.float32):
        value = losses.binary_heatmap_loss(volume.to(dtype), cells, weights)
        torch.testing.assert_close(value.double(), terms.flatten(2).sum(-1).mean(), rtol=1e-5, atol=1e-6)


def test_equals_the_loss_on_decoded_cells():
    volume, cells, weights = example((2, 3, 8, 9, 10))
    sides = torch.tensor((10, 9, 8))
    expected = masked_mean((soft_argmax(volume) - cells).abs() / sides, weights)
    torch.testing.assert_close(soft_argmax_loss(volume, cells, weights), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_careful_exponentials_say_the_same(loss, monkeypatch):
    """What a block takes whose sample underflows, and every block on a GPU."""
    volume, cells, weights = example(dtype=torch.float64)
    value, grad = with_gradient(loss, volume, cells, weights)
    for module in (blocks, map_terms):
        monkeypatch.setattr(module, "seldom_below", lambda block, limit: False)
    same, same_grad = with_gradient(loss, volume, cells, weights)
    torch.testing.assert_close(same, value)
    torch.testing.assert_close(same_grad, grad)
