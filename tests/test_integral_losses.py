"""The losses: values by hand, plain definitions with their gradients, joints without depth, extremes."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from ipr_lib.integral import (
    binary_heatmap_loss,
    cells_to_joints,
    expected_error_loss,
    integral_loss,
    js_prior_loss,
    line_loss,
    masked_mean,
    soft_argmax,
    softmax_heatmap_loss,
    squared_heatmap_loss,
)

SHAPE = (2, 3, 4, 5, 6)  # B, J, D, H, W


# --- masked means ---


def test_integral_loss_by_hand():
    joints = torch.tensor([[[10.0, 20, 100], [0, 0, 0]]])
    target = torch.tensor([[[14.0, 20, 300], [8, 0, torch.inf]]])
    weights = torch.tensor([[[1.0, 1, 1], [1, 1, 0]]])
    # (4/64 + 0 + 200/2000 + 8/64 + 0) / 5
    loss = integral_loss(joints, target, weights, (64, 64, 2000))
    torch.testing.assert_close(loss, torch.tensor((4 / 64 + 0.1 + 8 / 64) / 5))


def test_masked_mean_divides_by_the_weights():
    values, weights = torch.tensor([[3.0, 5, 100]]), torch.tensor([[1.0, 0.5, 0]])
    assert masked_mean(values, weights).item() == pytest.approx((3 + 2.5) / 1.5)


def test_weights_of_zero_give_zero_loss_and_finite_gradient():
    values = torch.full((2, 3), torch.inf, requires_grad=True)
    loss = masked_mean(values, torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0 and (values.grad == 0).all()


def test_samples_without_depth_teach_x_and_y_alone():
    logits = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    joints = cells_to_joints(soft_argmax(logits), (4, 5, 6), 24, 2000.0)
    weights = torch.ones(2, 3, 3)
    weights[0, :, 2] = 0
    joints.retain_grad()
    integral_loss(joints, torch.zeros(2, 3, 3), weights, (24, 24, 2000)).backward()
    assert (joints.grad[0, :, 2] == 0).all() and (joints.grad[1, :, 2] != 0).all()
    assert (joints.grad[..., :2] != 0).all()


# --- by hand ---


def test_squared_loss_by_hand():
    # Gaussian of sigma 1 about cell 1: exp(-1/2), 1, exp(-1/2); squares e^-1 + 1 + e^-1.
    volume = torch.zeros(1, 1, 1, 1, 3)
    loss = squared_heatmap_loss(volume, torch.tensor([[[1.0, 0, 0]]]), torch.ones(1, 1, 3))
    assert loss.item() == pytest.approx(1 + 2 * math.exp(-1))


def test_squared_loss_of_a_higher_target_by_hand():
    # A target of height 4 against 3, and without depth 5 / sqrt(2 pi) against 4.
    volume = torch.full((1, 1, 1, 1, 1), 3.0)
    at_centre, known = torch.zeros(1, 1, 3), torch.ones(1, 1, 3)
    assert squared_heatmap_loss(volume, at_centre, known, height=4.0).item() == pytest.approx(1)
    volume = torch.tensor([3.0, 2.0]).view(1, 1, 2, 1, 1)
    loss = squared_heatmap_loss(volume, at_centre, torch.tensor([[[1.0, 1, 0]]]), height=4.0)
    assert loss.item() == pytest.approx((5 / math.sqrt(2 * math.pi) - 4) ** 2)


def test_squared_loss_without_depth_by_hand():
    # Two cells of depth, 3 and 2, sum to 5; in units of a Gaussian's sum over depth, sqrt(2 pi), against 1 at its centre.
    volume = torch.tensor([3.0, 2.0]).view(1, 1, 2, 1, 1)
    loss = squared_heatmap_loss(
        volume, torch.tensor([[[0.0, 0, torch.nan]]]), torch.tensor([[[1.0, 1, 0]]])
    )
    assert loss.item() == pytest.approx((5 / math.sqrt(2 * math.pi) - 1) ** 2)


def test_softmax_loss_by_hand():
    volume = torch.zeros(1, 2, 2, 1, 4)
    volume[0, :, 1, 0, 3] = math.log(3)  # ten in all: 3 in the true cell, 4 in its column
    cells, weights = torch.tensor([[[3.2, 0, 0.9], [3.2, 0, torch.nan]]]), torch.ones(1, 2, 3)
    weights[0, 1, 2] = 0
    for joint, expected in ((0, math.log(10 / 3)), (1, math.log(10 / 4))):
        loss = softmax_heatmap_loss(volume[:, [joint]], cells[:, [joint]], weights[:, [joint]])
        assert loss.item() == pytest.approx(expected)


def test_line_loss_by_hand():
    """p = (1, 2, 1) / 4 along each axis; q is a Gaussian about bin 1 of sum 1 in x, about bin 0 in y; z is unknown."""
    lines = torch.tensor([1.0, 2, 1]).log().expand(1, 1, 3, 3)
    weights = torch.tensor([[[1.0, 1, 0]]])
    loss = line_loss(lines, torch.tensor([[[1.0, 0, torch.nan]]]), weights, sigma=1.0)
    side, far = math.exp(-0.5), math.exp(-2)
    of_x = (2 * side * math.log(4) + math.log(2)) / (1 + 2 * side)
    of_y = (math.log(4) + side * math.log(2) + far * math.log(4)) / (1 + side + far)
    assert loss.item() == pytest.approx((of_x + of_y) / 2)


def test_gradient_of_the_line_loss_is_probability_less_label():
    lines = torch.randn(2, 3, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    lines.requires_grad_()
    cells = torch.tensor([2.2, 5.0, 0.4], dtype=torch.double).expand(2, 3, 3)
    line_loss(lines, cells, torch.ones(2, 3, 3), sigma=1.5).backward()
    away = torch.arange(7) - cells[..., None]
    labels = torch.exp(-(away**2) / (2 * 1.5**2))
    labels = labels / labels.sum(dim=3, keepdim=True)
    torch.testing.assert_close(lines.grad, (lines.detach().softmax(dim=3) - labels) / 18)


def test_the_best_lines_move_with_the_truth():
    """One bin further, the same line one bin further has the same loss, away from the ends."""
    line = torch.zeros(1, 1, 1, 41).repeat(1, 1, 3, 1)
    line[..., 18:23] = torch.tensor([1.0, 2, 4, 2, 1])
    place = torch.full((1, 1, 3), 20.3)
    loss = line_loss(line, place, torch.ones(1, 1, 3))
    moved = line_loss(line.roll(1, dims=3), place + 1, torch.ones(1, 1, 3))
    torch.testing.assert_close(loss, moved)
    assert line_loss(line, place + 1, torch.ones(1, 1, 3)) > loss


def test_binary_loss_by_hand():
    # p = 1/2 everywhere; a ball of radius 1 about the middle of 3 x 3 x 3 holds 7 cells, all cells cost log 2.
    volume = torch.zeros(1, 1, 3, 3, 3)
    loss = binary_heatmap_loss(volume, torch.ones(1, 1, 3), torch.ones(1, 1, 3), radius=1.0)
    assert loss.item() == pytest.approx(27 * math.log(2))
    # Without depth: a column holds the joint with 7/8, 5 columns of 9 do.
    loss = binary_heatmap_loss(
        volume, torch.ones(1, 1, 3), torch.tensor([[[1.0, 1, 0]]]), radius=1.0
    )
    assert loss.item() == pytest.approx(-5 * math.log(7 / 8) - 4 * math.log(1 / 8))


def test_binary_loss_counts_the_ball_by_hand():
    # Logits of 1: softplus(1) for each of 27 cells, less 1 for each of the 7 in the ball.
    volume = torch.ones(1, 1, 3, 3, 3)
    loss = binary_heatmap_loss(volume, torch.ones(1, 1, 3), torch.ones(1, 1, 3), radius=1.0)
    assert loss.item() == pytest.approx(27 * math.log(1 + math.e) - 7, rel=1e-5)


def test_binary_loss_of_low_logits_keeps_what_each_cell_adds():
    """exp(-18) is below float32's step at 1; a million such cells are not nothing."""
    volume = torch.full((1, 1, 100, 100, 100), -18.0)
    loss = binary_heatmap_loss(
        volume, torch.zeros(1, 1, 3), torch.ones(1, 1, 3), radius=1.0
    )  # 4 cells in the ball's corner
    assert loss.item() == pytest.approx(1e6 * math.log1p(math.exp(-18.0)) + 4 * 18, rel=1e-6)


def test_prior_by_hand():
    """Marginals that are the Gaussian cost nothing; ones that share no cell with it cost log 2."""
    cells, only_x = torch.tensor([[[2.0, 2.0, 1.0]]]), torch.tensor([[[1.0, 0, 0]]])
    like = (-((torch.arange(6.0) - 2) ** 2) / 2).expand(1, 1, 4, 5, 6)
    assert js_prior_loss(like, cells, only_x).item() == pytest.approx(0, abs=1e-6)
    far = torch.full((1, 1, 4, 5, 60), -1e4)
    far[..., 59] = 0
    assert js_prior_loss(far, cells, only_x).item() == pytest.approx(math.log(2), rel=1e-5)
    assert js_prior_loss(far, cells, torch.ones(1, 1, 3)).item() < math.log(2)


def test_expected_error_by_hand():
    """Half at 1, half at 5, truth 3: the expectation is right, the expected error 2 cells of 6."""
    volume = torch.full((1, 1, 4, 5, 6), -1e4)
    volume[0, 0, 1, 2, 1] = volume[0, 0, 1, 2, 5] = 0
    cells, weights = torch.tensor([[[3.0, 2, 1]]]), torch.ones(1, 1, 3)
    assert soft_argmax(volume).tolist() == cells.tolist()
    assert expected_error_loss(volume, cells, weights).item() == pytest.approx(2 / 6 / 3)
    assert expected_error_loss(volume, cells + 1, weights).item() == pytest.approx(
        (2 / 6 + 1 / 5 + 1 / 4) / 3
    )


# --- plain definitions: one joint, volume (D, H, W), cell (x, y, z) ---


def example(seed=0):
    """Random logits, places inside the volume; a joint without depth, and one of which nothing is known."""
    rng = np.random.default_rng(seed)
    volume = torch.as_tensor(rng.normal(0, 2, SHAPE))
    cells = torch.as_tensor(rng.uniform(-0.5, [5.5, 4.5, 3.5], (2, 3, 3)))
    weights = torch.ones(2, 3, 3, dtype=torch.float64)
    weights[0, 1, 2] = 0
    weights[1, 2] = 0
    return volume, cells, weights


def squared_distances(volume, cell):
    """(D, H, W) to the cell, and (H, W) within the plane."""
    z, y, x = torch.meshgrid(*[torch.arange(n) for n in volume.shape], indexing="ij")
    in_plane = (x - cell[0]) ** 2 + (y - cell[1]) ** 2
    return in_plane + (z - cell[2]) ** 2, in_plane[0]


def squared_by_definition(volume, cell, planar):
    away, in_plane = squared_distances(volume, cell)
    if planar:
        return ((volume.sum(0) / (2 * torch.pi) ** 0.5 - torch.exp(-in_plane / 2)) ** 2).sum()
    return ((volume - torch.exp(-away / 2)) ** 2).sum()


def softmax_by_definition(volume, cell, planar):
    probability = volume.flatten().softmax(0).view(volume.shape)
    x, y, z = cell.round().long()
    return -(probability.sum(0)[y, x] if planar else probability[z, y, x]).log()


def binary_by_definition(volume, cell, planar):
    probability = volume.sigmoid()
    away, in_plane = squared_distances(volume, cell)
    if planar:
        probability, away = 1 - (1 - probability).prod(0), in_plane
    return functional.binary_cross_entropy(probability, (away <= 1.5**2).double(), reduction="sum")


HEATMAP_LOSSES = [
    (squared_heatmap_loss, squared_by_definition),
    (softmax_heatmap_loss, softmax_by_definition),
    (binary_heatmap_loss, binary_by_definition),
]


def prior_by_definition(marginal, place):
    target = torch.exp(-((torch.arange(len(marginal)) - place) ** 2) / 2)
    target = target / target.sum()
    middle = (marginal + target) / 2
    return (
        (marginal * (marginal / middle).log()).sum() + (target * (target / middle).log()).sum()
    ) / 2


def error_by_definition(marginal, place):
    return (marginal * (torch.arange(len(marginal)) - place).abs()).sum() / len(marginal)


MARGINAL_LOSSES = [(js_prior_loss, prior_by_definition), (expected_error_loss, error_by_definition)]
ALL_LOSSES = [loss for loss, _ in HEATMAP_LOSSES + MARGINAL_LOSSES]


def assert_same_value_and_gradient(loss, whole_definition, seed):
    volume, cells, weights = example(seed)
    ours, theirs = volume.clone().requires_grad_(), volume.clone().requires_grad_()
    value, expected = loss(ours, cells, weights), whole_definition(theirs, cells, weights)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert (ours.grad[1, 2] == 0).all() and ours.grad[0, 1].abs().max() > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("loss", "definition"), HEATMAP_LOSSES)
def test_heatmap_losses_equal_their_definition(loss, definition, seed):
    def mean_over_joints(volume, cells, weights):
        values = [
            definition(volume[b, j], cells[b, j], planar=bool(weights[b, j, 2] == 0))
            for b, j in itertools.product(range(2), range(3))
            if weights[b, j, 0] > 0
        ]
        return sum(values) / len(values)

    assert_same_value_and_gradient(loss, mean_over_joints, seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("loss", "definition"), MARGINAL_LOSSES)
def test_losses_of_marginals_equal_their_definition(loss, definition, seed):
    def mean_over_coordinates(volume, cells, weights):
        values = []
        for b, j in itertools.product(range(2), range(3)):
            probability = volume[b, j].flatten().softmax(0).view(SHAPE[2:])
            marginals = probability.sum((0, 1)), probability.sum((0, 2)), probability.sum((1, 2))
            values += [
                definition(p, cells[b, j, k])
                for k, p in enumerate(marginals)
                if weights[b, j, k] > 0
            ]
        return sum(values) / len(values)

    assert_same_value_and_gradient(loss, mean_over_coordinates, seed)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_gradient_is_that_of_differences(loss):
    volume, cells, weights = example()
    assert torch.autograd.gradcheck(
        lambda volume: loss(volume, cells, weights), volume.requires_grad_()
    )


# --- properties ---


@pytest.mark.parametrize("loss", [loss for loss, _ in HEATMAP_LOSSES])
def test_without_depth_only_the_map_summed_over_depth_counts(loss):
    """Mirroring the depth axis changes nothing for a joint without depth, and something for one with."""
    volume, cells, weights = example()
    flat = weights.clone()
    flat[..., 2] = 0
    torch.testing.assert_close(loss(volume.flip(2), cells, flat), loss(volume, cells, flat))
    assert (loss(volume.flip(2), cells, weights) - loss(volume, cells, weights)).abs() > 1e-3
    elsewhere = cells.clone()
    elsewhere[..., 2] = torch.nan
    torch.testing.assert_close(loss(volume, elsewhere, flat), loss(volume, cells, flat))


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_mirror_changes_nothing(loss):
    volume, cells, weights = example()
    mirrored = cells.clone()
    mirrored[..., 0] = 5 - cells[..., 0]
    torch.testing.assert_close(
        loss(volume.flip(4), mirrored, weights), loss(volume, cells, weights)
    )


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_float_and_any_memory_format(loss, dtype):
    volume, cells, weights = example()
    maps = volume.to(dtype).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    leaf = maps.unflatten(1, SHAPE[1:3]).detach().requires_grad_()
    exact = leaf.detach().double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(leaf, cells.float(), weights.float())
    value.backward()
    expected = loss(exact, cells, weights)
    expected.backward()
    assert value.dtype == torch.float32 and leaf.grad.dtype == dtype
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-4)
    scale = exact.grad.abs().max().item()
    torch.testing.assert_close(leaf.grad.double(), exact.grad, rtol=1e-2, atol=1e-2 * scale)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_extreme_logits_and_unknown_joints_stay_finite(loss):
    volume, cells, weights = example()
    cells[1, 2] = torch.inf
    for scale in (0.0, 1e3):
        logits = (scale * volume.float()).requires_grad_()
        value = loss(logits, cells.float(), weights.float())
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
        assert (logits.grad[1, 2] == 0).all()
    assert loss(volume.float(), cells.float(), torch.zeros(2, 3, 3)).item() == 0


@pytest.mark.parametrize("loss", [softmax_heatmap_loss, js_prior_loss, expected_error_loss])
def test_cells_of_minus_infinity_have_no_weight_and_no_gradient(loss):
    volume, cells, weights = example()
    cells[...] = torch.tensor([3.0, 2, 3])
    volume[:, :, :2] = -torch.inf
    leaf = volume.requires_grad_()
    value = loss(leaf, cells, weights)
    value.backward()
    assert value.isfinite() and leaf.grad.isfinite().all()
    assert not leaf.grad[:, :, :2].any() and leaf.grad[0, 0].any()


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_no_samples_cost_nothing(loss):
    volume = torch.zeros(0, 3, 4, 5, 6, requires_grad=True)
    value = loss(volume, torch.zeros(0, 3, 3), torch.zeros(0, 3, 3))
    value.backward()
    assert value.item() == 0 and volume.grad.shape == volume.shape


@pytest.mark.parametrize("loss", [loss for loss, _ in HEATMAP_LOSSES])
def test_descent_on_the_logits_finds_the_cell(loss):
    cells, weights = torch.tensor([[[4.0, 1, 2]]]), torch.ones(1, 1, 3)
    volume = torch.zeros(1, 1, 4, 5, 6, requires_grad=True)
    for _ in range(20):
        (gradient,) = torch.autograd.grad(loss(volume, cells, weights), volume)
        volume = (volume - 0.4 * gradient).detach().requires_grad_()
    z, y, x = np.unravel_index(int(volume.argmax()), (4, 5, 6))
    if loss is binary_heatmap_loss:  # all cells of the ball are equally right
        assert (z - 2) ** 2 + (y - 1) ** 2 + (x - 4) ** 2 <= 1.5**2
    else:
        assert (z, y, x) == (2, 1, 4)


def test_expected_error_is_at_least_the_error_of_the_expectation():
    volume, cells, weights = example()
    error_of_expectation = integral_loss(soft_argmax(volume), cells, weights, (6, 5, 4))
    assert expected_error_loss(volume, cells, weights) >= error_of_expectation
