import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from ipr_lib.integral import map_terms
from ipr_lib.integral.grid import cells_to_joints, gaussian_volume, soft_argmax
from ipr_lib.integral.losses import (
    binary_heatmap_loss,
    expected_error_loss,
    integral_loss,
    js_prior_loss,
    masked_mean,
    soft_argmax_loss,
    softmax_heatmap_loss,
    squared_heatmap_loss,
)

SHAPE = (2, 3, 4, 5, 6)  # B, J, D, H, W
HEATMAP_LOSSES = [
    squared_heatmap_loss, softmax_heatmap_loss, lambda *a: softmax_heatmap_loss(*a, sigma=0.8), binary_heatmap_loss
]
ALL_LOSSES = [*HEATMAP_LOSSES, soft_argmax_loss, js_prior_loss, expected_error_loss]


def test_integral_loss_by_hand():
    joints = torch.tensor([[[10.0, 20, 100], [0, 0, 0]]])
    target = torch.tensor([[[14.0, 20, 300], [8, 0, torch.inf]]])
    weights = torch.tensor([[[1.0, 1, 1], [1, 1, 0]]])
    # (4/64 + 0 + 200/2000 + 8/64 + 0) / 5
    loss = integral_loss(joints, target, weights, (64, 64, 2000))
    torch.testing.assert_close(loss, torch.tensor((4 / 64 + 0.1 + 8 / 64) / 5))


def test_weights_of_zero_give_zero_loss_and_finite_gradient():
    values = torch.full((2, 3), torch.inf, requires_grad=True)
    loss = masked_mean(values, torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0 and (values.grad == 0).all()


def test_samples_without_depth_teach_x_and_y_alone():
    """The loss asks nothing of their z, and of everything else."""
    logits = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    joints = cells_to_joints(soft_argmax(logits), (4, 5, 6), 24, 2000.0)
    weights = torch.ones(2, 3, 3)
    weights[0, :, 2] = 0
    joints.retain_grad()
    integral_loss(joints, torch.zeros(2, 3, 3), weights, (24, 24, 2000)).backward()
    assert (joints.grad[0, :, 2] == 0).all() and (joints.grad[1, :, 2] != 0).all()
    assert (joints.grad[..., :2] != 0).all()


# --- heat maps ---

def example(seed=0):
    """Random logits, places inside the volume, weights of one joint without depth and one without anything."""
    rng = np.random.default_rng(seed)
    volume = torch.as_tensor(rng.normal(0, 2, SHAPE))
    D, H, W = SHAPE[2:]
    cells = torch.as_tensor(rng.uniform(-0.5, np.array([W, H, D]) - 0.5, (2, 3, 3)))
    weights = torch.ones(2, 3, 3, dtype=torch.float64)
    weights[0, 1, 2] = 0
    weights[1, 2] = 0
    return volume, cells, weights


def by_cells(cell_loss):
    """Masked mean over joints of a loss that is written for one joint: volume (D, H, W), cell (3,), plain loops inside."""
    def whole(volume, cells, weights):
        values = [
            cell_loss(volume[b, j], cells[b, j], planar=bool(weights[b, j, 2] == 0))
            for b, j in itertools.product(range(2), range(3)) if weights[b, j, 0] > 0
        ]
        return sum(values) / len(values)
    return whole


def squared_by_definition(volume, cell, planar, sigma=1.0):
    target = gaussian_volume(cell[None, None], volume.shape, sigma)[0, 0]
    if not planar:
        return ((volume - target) ** 2).sum()
    y, x = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    disc = torch.exp(-((x - cell[0]) ** 2 + (y - cell[1]) ** 2) / (2 * sigma**2))
    return ((volume.sum(0) / (sigma * (2 * torch.pi) ** 0.5) - disc) ** 2).sum()


def softmax_by_definition(volume, cell, planar, sigma=0.0):
    prob = volume.flatten().softmax(0).view(volume.shape)
    if sigma:
        target = gaussian_volume(cell[None, None], volume.shape, sigma)[0, 0]
    else:
        x, y, z = cell.round().long()
        target = torch.zeros_like(volume)
        target[z, y, x] = 1
    if planar:
        prob, target = prob.sum(0), target.sum(0)
        if sigma:
            y, x = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
            target = torch.exp(-((x - cell[0]) ** 2 + (y - cell[1]) ** 2) / (2 * sigma**2))
    return -(target / target.sum() * prob.log()).sum()


def binary_by_definition(volume, cell, planar, radius=1.5):
    prob = volume.sigmoid()
    z, y, x = torch.meshgrid(torch.arange(4), torch.arange(5), torch.arange(6), indexing="ij")
    away = (x - cell[0]) ** 2 + (y - cell[1]) ** 2
    if planar:
        return functional.binary_cross_entropy(1 - (1 - prob).prod(0), (away[0] <= radius**2).double(), reduction="sum")
    inside = (away + (z - cell[2]) ** 2 <= radius**2).double()
    return functional.binary_cross_entropy(prob, inside, reduction="sum")


DEFINITIONS = [
    squared_by_definition, softmax_by_definition, lambda *a, **k: softmax_by_definition(*a, **k, sigma=0.8),
    binary_by_definition,
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("loss", "definition"), list(zip(HEATMAP_LOSSES, DEFINITIONS)))
def test_equals_its_definition_with_its_gradient(loss, definition, seed):
    volume, cells, weights = example(seed)
    ours, theirs = volume.clone().requires_grad_(), volume.clone().requires_grad_()
    value, expected = loss(ours, cells, weights), by_cells(definition)(theirs, cells, weights)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert (ours.grad[1, 2] == 0).all() and ours.grad[0, 1].abs().max() > 0


def prior_by_definition(marginal, place):
    target = torch.exp(-((torch.arange(len(marginal)) - place) ** 2) / 2)
    target = target / target.sum()
    middle = (marginal + target) / 2
    return ((marginal * (marginal / middle).log()).sum() + (target * (target / middle).log()).sum()) / 2


def error_by_definition(marginal, place):
    return (marginal * (torch.arange(len(marginal)) - place).abs()).sum() / len(marginal)


def error_of_mean_by_definition(marginal, place):
    return ((marginal * torch.arange(len(marginal))).sum() - place).abs() / len(marginal)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("loss", "definition"), [
    (js_prior_loss, prior_by_definition), (expected_error_loss, error_by_definition),
    (soft_argmax_loss, error_of_mean_by_definition),
])
def test_losses_of_marginals_equal_their_definition_with_their_gradient(loss, definition, seed):
    volume, cells, weights = example(seed)
    ours, theirs = volume.clone().requires_grad_(), volume.clone().requires_grad_()
    values = []
    for b, j, axis in itertools.product(range(2), range(3), range(3)):
        if weights[b, j, axis] > 0:
            others = [dim for dim in range(3) if dim != 2 - axis]
            values.append(definition(theirs[b, j].flatten().softmax(0).view(SHAPE[2:]).sum(others), cells[b, j, axis]))
    value, expected = loss(ours, cells, weights), sum(values) / len(values)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("block", [1, 250, 1 << 17])  # cells: a joint at a time, two, all
def test_gradient_by_hand_is_that_of_differences(loss, block, monkeypatch):
    monkeypatch.setattr(map_terms, "BLOCK_CELLS", block)
    volume, cells, weights = example()
    assert torch.autograd.gradcheck(lambda volume: loss(volume, cells, weights), volume.requires_grad_())


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_gradient_in_bfloat16_is_the_rounded_one(loss, layout):
    volume, cells, weights = example()
    volume = volume.bfloat16()
    if layout == "channels-last":
        volume = volume.flatten(1, 2).contiguous(memory_format=torch.channels_last).unflatten(1, SHAPE[1:3])
    exact = volume.double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss(volume.requires_grad_(), cells.float(), weights.float()).backward()
    loss(exact, cells, weights).backward()
    assert volume.grad.dtype == torch.bfloat16
    torch.testing.assert_close(volume.grad.double(), exact.grad, rtol=1e-2, atol=1e-2 * exact.grad.abs().max().item())


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_keeps_the_volume_and_a_few_numbers_a_joint(loss):
    cells, weights = torch.full((1, 2, 3), 12.3), torch.ones(1, 2, 3)
    weights[0, 0, 2] = 0
    volume, kept = torch.randn(1, 2, 24, 24, 24).requires_grad_(), {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.untyped_storage().data_ptr(), tensor.numel()) and tensor, lambda tensor: tensor
    ):
        loss(volume, cells, weights)
    kept.pop(volume.untyped_storage().data_ptr())
    assert sum(kept.values()) < 0.2 * volume.numel()


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_nobody_costs_nothing(loss):
    volume = torch.zeros(0, 3, 4, 5, 6, requires_grad=True)
    value = loss(volume, torch.zeros(0, 3, 3), torch.zeros(0, 3, 3))
    value.backward()
    assert value.item() == 0 and volume.grad.shape == volume.shape


def test_binary_loss_of_low_logits_keeps_what_each_cell_adds():
    """exp(-18) is below float32's step at 1; a million such cells are not nothing."""
    volume = torch.full((1, 1, 100, 100, 100), -18.0)
    loss = binary_heatmap_loss(volume, torch.zeros(1, 1, 3), torch.ones(1, 1, 3), radius=1.0)  # 4 cells in the ball's corner
    assert loss.item() == pytest.approx(1e6 * np.log1p(np.exp(-18.0)) + 4 * 18, rel=1e-6)


def test_squared_loss_by_hand():
    volume = torch.zeros(1, 1, 1, 1, 3)
    # Gaussian of sigma 1 about cell 1: exp(-1/2), 1, exp(-1/2); squares e^-1 + 1 + e^-1.
    loss = squared_heatmap_loss(volume, torch.tensor([[[1.0, 0, 0]]]), torch.ones(1, 1, 3))
    assert loss.item() == pytest.approx(1 + 2 * np.exp(-1))


def test_softmax_loss_by_hand():
    volume = torch.zeros(1, 2, 2, 1, 4)
    volume[0, :, 1, 0, 3] = np.log(3)  # ten in all: 3 in the true cell, 4 in its column
    cells, weights = torch.tensor([[[3.2, 0, 0.9], [3.2, 0, torch.nan]]]), torch.ones(1, 2, 3)
    weights[0, 1, 2] = 0
    for joint, expected in ((0, np.log(10 / 3)), (1, np.log(10 / 4))):
        loss = softmax_heatmap_loss(volume[:, [joint]], cells[:, [joint]], weights[:, [joint]])
        assert loss.item() == pytest.approx(expected)


def test_binary_loss_by_hand():
    # p = 1/2 everywhere; a ball of radius 1 about the middle of 3 x 3 x 3 holds 7 cells, all cells cost log 2.
    volume = torch.zeros(1, 1, 3, 3, 3)
    loss = binary_heatmap_loss(volume, torch.ones(1, 1, 3), torch.ones(1, 1, 3), radius=1.0)
    assert loss.item() == pytest.approx(27 * np.log(2))
    # Without depth: a column holds the joint with 7/8, 5 columns of 9 do.
    loss = binary_heatmap_loss(volume, torch.ones(1, 1, 3), torch.tensor([[[1.0, 1, 0]]]), radius=1.0)
    assert loss.item() == pytest.approx(-5 * np.log(7 / 8) - 4 * np.log(1 / 8))


@pytest.mark.parametrize("loss", HEATMAP_LOSSES)
def test_without_depth_only_the_marginal_counts(loss):
    """Turning the depth axis round changes nothing for a joint without depth, and something for one with."""
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
    torch.testing.assert_close(loss(volume.flip(4), mirrored, weights), loss(volume, cells, weights))


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_float_in_and_any_memory_format(loss, dtype):
    volume, cells, weights = example()
    flat = volume.to(dtype).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    got = loss(flat.unflatten(1, SHAPE[1:3]), cells.float(), weights.float())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), loss(volume.to(dtype).double(), cells, weights), rtol=1e-4, atol=1e-4)


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
    nothing = torch.zeros(2, 3, 3)
    assert loss(volume.float(), cells.float(), nothing).item() == 0


@pytest.mark.parametrize("loss", HEATMAP_LOSSES)
def test_descent_on_the_logits_finds_the_cell(loss, training_seed):
    cells, weights = torch.tensor([[[4.0, 1, 2]]]), torch.ones(1, 1, 3)
    generator = torch.Generator().manual_seed(training_seed)
    volume = (0.1 * torch.randn(1, 1, 4, 5, 6, generator=generator)).requires_grad_()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(loss(volume, cells, weights), volume)
        volume = (volume - 0.4 * gradient).detach().requires_grad_()
    z, y, x = np.unravel_index(int(volume.argmax()), (4, 5, 6))
    if loss is binary_heatmap_loss:  # all cells of the ball are equally right
        assert (z - 2) ** 2 + (y - 1) ** 2 + (x - 4) ** 2 <= 1.5**2
    else:
        assert (z, y, x) == (2, 1, 4)


def test_prior_by_hand():
    """Marginals that are the Gaussian cost nothing; ones that share no cell with it cost log 2."""
    cells, weights = torch.tensor([[[2.0, 2.0, 1.0]]]), torch.ones(1, 1, 3)
    like = -((torch.arange(6.0) - 2) ** 2 / 2)[None, None, None, None, :].expand(1, 1, 4, 5, 6)
    only_x = torch.tensor([[[1.0, 0, 0]]])
    assert js_prior_loss(like, cells, only_x).item() == pytest.approx(0, abs=1e-6)
    far = torch.full((1, 1, 4, 5, 60), -1e4)
    far[..., 59] = 0
    assert js_prior_loss(far, cells, only_x).item() == pytest.approx(np.log(2), rel=1e-5)
    assert js_prior_loss(far, cells, weights).item() < np.log(2)


def test_expected_error_by_hand():
    """Half at 1, half at 5, truth 3: the expectation is right, the expected error 2 cells of 6."""
    volume = torch.full((1, 1, 4, 5, 6), -1e4)
    volume[0, 0, 1, 2, 1] = volume[0, 0, 1, 2, 5] = 0
    cells = torch.tensor([[[3.0, 2, 1]]])
    assert soft_argmax(volume).tolist() == cells.tolist()
    assert expected_error_loss(volume, cells, torch.ones(1, 1, 3)).item() == pytest.approx(2 / 6 / 3)
    assert expected_error_loss(volume, cells + 1, torch.ones(1, 1, 3)).item() == pytest.approx((2 / 6 + 1 / 5 + 1 / 4) / 3)


def test_expected_error_is_at_least_the_error_of_the_expectation():
    volume, cells, weights = example()
    shape = SHAPE[2:]
    shares = integral_loss(soft_argmax(volume), cells, weights, tuple(reversed(shape)))
    assert expected_error_loss(volume, cells, weights) >= shares
