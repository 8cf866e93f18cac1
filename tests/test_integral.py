"""Soft-argmax: values and gradients by hand, against the definition, at extremes, and its promises."""

import importlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ipr_lib.files import InputError
from ipr_lib.integral import (
    debiased_soft_argmax,
    expectation,
    hard_argmax,
    plain_soft_argmax,
    soft_argmax,
)

SHAPE = (2, 3, 4, 5, 6)  # B, J, D, H, W


def random_logits(shape=SHAPE, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def by_definition(logits):
    """Every cell's position weighted by its probability, in float64 and by autograd."""
    probability = logits.double().flatten(2).softmax(dim=2).view(logits.shape)
    positions = [torch.arange(n, dtype=torch.float64) for n in logits.shape[2:]]
    grids = torch.meshgrid(*positions, indexing="ij")
    coordinates = [(probability * grid).flatten(2).sum(dim=2) for grid in reversed(grids)]
    return torch.stack(coordinates, dim=2)


def with_gradient(function, logits, weights):
    """Joints, and the gradient of their weighted sum by the logits."""
    leaf = logits.detach().clone().requires_grad_()
    joints = function(leaf)
    (joints * weights.to(joints)).sum().backward()
    return joints.detach(), leaf.grad


def channels_last(volume):
    maps = volume.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    return maps.unflatten(1, volume.shape[1:3])


def swapped(volume):
    return volume.transpose(2, 4).contiguous().transpose(2, 4)


# --- by hand ---


def test_four_cells_of_a_line_by_hand():
    # Exponentials 1, 2, 4, 1: E = (0 + 2 + 8 + 3) / 8, and dE / dh = p (x - E) = (-13, -10, 12, 11) / 64.
    logits = torch.tensor([1.0, 2, 4, 1], dtype=torch.float64).log().view(1, 1, 4)
    joints, grad = with_gradient(soft_argmax, logits, torch.ones(1, 1, 1))
    assert joints.item() == pytest.approx(13 / 8)
    np.testing.assert_allclose(grad.flatten(), np.array([-13, -10, 12, 11]) / 64)


def test_five_by_five_by_hand():
    logits = torch.zeros(1, 1, 5, 5)
    logits[0, 0, 1, 4] = math.log(24)  # half of all the weight; the other 24 cells share the rest
    joints, grad = with_gradient(soft_argmax, logits, torch.tensor([[[1.0, 10.0]]]))
    # Sums over the others: all x 50 - 4, all y 50 - 1, each of weight 1 / 48.
    x, y = joints[0, 0].tolist()
    assert x == pytest.approx(4 / 2 + 46 / 48, abs=1e-6)
    assert y == pytest.approx(1 / 2 + 49 / 48, abs=1e-6)
    # g (pos - E), E = (142, 73) / 48: (50 - 10 * 25) / 48 at the peak, -(142 + 730) / 48 at the first cell; times p.
    assert grad[0, 0, 1, 4].item() == pytest.approx(-200 / 48 / 2, abs=1e-5)
    assert grad[0, 0, 0, 0].item() == pytest.approx(-872 / 48 / 48, abs=1e-5)


def test_three_cells_of_a_volume_by_hand():
    # p = 1/8, 3/8, 4/8 at (x, y, z) = (0, 1, 2), (4, 3, 0), (2, 0, 1): E = (2.5, 1.25, 0.75).
    logits = torch.full((1, 1, 3, 4, 5), -torch.inf, dtype=torch.float64)
    logits[0, 0, 2, 1, 0] = 0.0
    logits[0, 0, 0, 3, 4] = math.log(3)
    logits[0, 0, 1, 0, 2] = math.log(4)
    joints, grad = with_gradient(soft_argmax, logits, torch.tensor([[[1.0, 10.0, 100.0]]]))
    np.testing.assert_allclose(joints, [[[2.5, 1.25, 0.75]]])
    # g (pos - E) = -2.5 - 2.5 + 125, 1.5 + 17.5 - 75, -0.5 - 12.5 + 25 = 120, -56, 12; times p: 15, -21, 6.
    expected = torch.zeros_like(logits)
    expected[0, 0, 2, 1, 0] = 15
    expected[0, 0, 0, 3, 4] = -21
    expected[0, 0, 1, 0, 2] = 6
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("value", [0.0, -1e4, 1e4, 3.25])
def test_all_equal_is_the_middle(value):
    weights = torch.tensor([1.0, 0, 0]).expand(2, 3, 3)
    joints, grad = with_gradient(soft_argmax, torch.full(SHAPE, value), weights)
    torch.testing.assert_close(joints, torch.tensor([2.5, 2, 1.5]).expand(2, 3, 3))
    torch.testing.assert_close(grad, ((torch.arange(6.0) - 2.5) / 120).expand(SHAPE))


# --- against the definition ---


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_equals_the_definition_with_its_gradient(axes):
    logits = random_logits(SHAPE[: 2 + axes])
    weights = random_logits((2, 3, axes), seed=1)
    expected, expected_grad = with_gradient(by_definition, logits, weights)
    for function in (soft_argmax, plain_soft_argmax):
        joints, grad = with_gradient(function, logits, weights)
        assert joints.shape == (2, 3, axes)
        torch.testing.assert_close(joints, expected)
        torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_gradient_in_closed_form_is_that_of_differences(axes):
    logits = random_logits(SHAPE[: 2 + axes]).requires_grad_()
    assert torch.autograd.gradcheck(soft_argmax, logits)


@pytest.mark.parametrize("layout", [channels_last, swapped])
def test_layout_changes_nothing(layout):
    logits = random_logits()
    weights = random_logits((2, 3, 3), seed=1)
    expected, expected_grad = with_gradient(by_definition, logits, weights)
    joints, grad = with_gradient(lambda volume: soft_argmax(layout(volume)), logits, weights)
    torch.testing.assert_close(joints, expected)
    torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_halves_are_summed_in_float32_and_get_their_gradient_back(dtype):
    logits = random_logits(dtype=dtype)
    weights = random_logits((2, 3, 3), seed=1)
    expected, expected_grad = with_gradient(by_definition, logits.double(), weights)
    joints, grad = with_gradient(soft_argmax, logits, weights)
    assert joints.dtype == torch.float32 and grad.dtype == dtype
    torch.testing.assert_close(joints.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        grad.double(), expected_grad, atol=1e-5, rtol=2 * torch.finfo(dtype).eps
    )


def test_autocast_leaves_it_in_float32():
    logits = random_logits(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        joints, grad = with_gradient(soft_argmax, logits, torch.ones(2, 3, 3))
    expected, expected_grad = with_gradient(soft_argmax, logits, torch.ones(2, 3, 3))
    assert joints.dtype == torch.float32
    assert torch.equal(joints, expected) and torch.equal(grad, expected_grad)


def test_translation_and_mirror():
    logits = torch.full((1, 1, 4, 5, 6), -50.0)
    logits[..., 0:2, 1:3, 1:4] = random_logits((2, 2, 3), seed=2, dtype=torch.float32)
    moved = torch.roll(logits, (2, 1, -1), (2, 3, 4))
    torch.testing.assert_close(
        soft_argmax(moved) - soft_argmax(logits), torch.tensor([[[-1.0, 1, 2]]])
    )
    x, y, z = soft_argmax(logits)[0, 0]
    torch.testing.assert_close(soft_argmax(logits.flip(4))[0, 0], torch.stack([5 - x, y, z]))


# --- extremes ---


def test_a_tie_at_ten_thousand_is_halved():
    logits = torch.full(SHAPE, -1e4)
    logits[:, :, 1, 2, 3] = logits[:, :, 3, 2, 4] = 1e4
    weights = torch.tensor([0.0, 0, 1]).expand(2, 3, 3)
    joints, grad = with_gradient(soft_argmax, logits, weights)
    assert (joints == torch.tensor([3.5, 2, 2])).all()
    assert (grad[:, :, 1, 2, 3] == -0.5).all() and (grad[:, :, 3, 2, 4] == 0.5).all()
    assert grad.count_nonzero() == 12


def test_sharp_maps_are_read_as_their_maximum():
    logits = random_logits(dtype=torch.float32) * 1e4
    torch.testing.assert_close(soft_argmax(logits), hard_argmax(logits), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "extreme", [torch.finfo(torch.float32).max, torch.finfo(torch.float32).min]
)
def test_the_largest_numbers_do_not_overflow(extreme):
    logits = torch.zeros(SHAPE)
    logits[..., 0] = extreme
    expected = torch.tensor([0.0 if extreme > 0 else 3.0, 2, 1.5])
    torch.testing.assert_close(soft_argmax(logits)[0, 0], expected)


def test_minus_infinity_is_no_weight():
    logits = random_logits()
    logits[:, :, 1:3] = -torch.inf
    logits[:, :, :, 0] = -torch.inf
    weights = random_logits((2, 3, 3), seed=1)
    expected, expected_grad = with_gradient(by_definition, logits, weights)
    joints, grad = with_gradient(soft_argmax, logits, weights)
    torch.testing.assert_close(joints, expected)
    torch.testing.assert_close(grad, expected_grad)
    assert not grad[:, :, 1:3].any()


def test_a_broken_joint_is_nan_and_breaks_no_other():
    logits = random_logits(dtype=torch.float32)
    whole = soft_argmax(logits)
    logits[0, 1, 2, 3, 4] = torch.nan
    logits[1, 0, 2, 3, 4] = torch.inf
    logits[1, 2] = -torch.inf
    joints, grad = with_gradient(soft_argmax, logits, torch.ones(2, 3, 3))
    broken = torch.tensor([[False, True, False], [True, False, True]])
    assert joints[broken].isnan().all()
    assert torch.equal(joints[~broken], whole[~broken])
    assert (grad.flatten(2).isnan().any(dim=2) == broken).all()


def test_no_samples():
    empty = torch.zeros(0, 3, 4, 5, 6, requires_grad=True)
    joints = soft_argmax(empty)
    joints.sum().backward()
    assert joints.shape == (0, 3, 3) and empty.grad.shape == empty.shape


# --- promises ---


@pytest.mark.parametrize(
    "logits",
    [
        torch.zeros(2, 3),
        torch.zeros(1, 2, 3, 4, 5, 6),
        torch.zeros(SHAPE, dtype=torch.int64),
        torch.zeros(2, 3, 0, 5, 6),
    ],
)
def test_what_is_no_map_is_refused(logits):
    with pytest.raises(InputError, match=r"soft_argmax: logits are .*expected floats of shape"):
        soft_argmax(logits)


def test_keeps_one_map_and_the_joints():
    volume = random_logits(dtype=torch.float32).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()), lambda tensor: tensor
    ):
        soft_argmax(volume)
    assert sorted(kept) == [2 * 3 * 3, 2 * 3 * 4 * 5 * 6]


def test_second_derivative_is_refused():
    volume = random_logits().requires_grad_()
    (grad,) = torch.autograd.grad(soft_argmax(volume).square().sum(), volume, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()


def test_compiles_into_one_graph():
    def loss(volume):
        return (soft_argmax(volume * 2) - 1).abs().sum()

    grads = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaf = random_logits(dtype=torch.float32).requires_grad_()
        function(leaf).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads)


def test_the_module_can_be_imported_again():
    """As %autoreload does in a notebook."""
    again = importlib.reload(expectation)
    torch.testing.assert_close(again.soft_argmax(random_logits()), by_definition(random_logits()))


def test_threads_share_nothing():
    volumes = [random_logits(seed=seed, dtype=torch.float32) for seed in range(8)]
    weights = torch.ones(2, 3, 3)
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda volume: with_gradient(soft_argmax, volume, weights), volumes)
        )
    for volume, (joints, grad) in zip(volumes, results):
        expected, expected_grad = with_gradient(soft_argmax, volume, weights)
        assert torch.equal(joints, expected) and torch.equal(grad, expected_grad)


# --- bias ---


def test_debiasing_by_hand():
    # One cell of weight 30 among 119 of weight 1: the background is 120 of 149.
    logits = torch.zeros(1, 1, 4, 5, 6, dtype=torch.float64)
    logits[0, 0, 3, 0, 5] = math.log(30)
    # E = (30 * peak + sum of all other cells) / 149; the 120 cells sum to 300, 240 and 180 along x, y and z.
    np.testing.assert_allclose(
        soft_argmax(logits)[0, 0], [(150 + 295) / 149, 240 / 149, (90 + 177) / 149]
    )
    np.testing.assert_allclose(debiased_soft_argmax(logits)[0, 0], [5, 0, 3], atol=1e-12)
    np.testing.assert_allclose(debiased_soft_argmax(logits + 7)[0, 0], [5, 0, 3], atol=1e-9)
    np.testing.assert_allclose(
        debiased_soft_argmax(logits, background=0.0)[0, 0], [5, 0, 3], atol=1e-12
    )


def test_debiasing_leaves_a_uniform_volume_and_a_sharp_one_alone():
    torch.testing.assert_close(
        debiased_soft_argmax(torch.zeros(SHAPE))[1, 2], torch.tensor([2.5, 2, 1.5])
    )
    sharp = random_logits() * 1e4
    torch.testing.assert_close(debiased_soft_argmax(sharp), soft_argmax(sharp))
    assert torch.isfinite(debiased_soft_argmax(random_logits(dtype=torch.bfloat16))).all()


def test_debiasing_has_the_right_gradient():
    logits = (random_logits() * 2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda volume: debiased_soft_argmax(volume, background=-1.0), logits
    )
