import numpy as np
import pytest
import torch

from ipr_lib.integral.grid import (
    cells_to_joints,
    debiased_soft_argmax,
    gaussian_factors,
    gaussian_volume,
    hard_argmax,
    joints_to_cells,
    nearest_cell,
    soft_argmax,
)

SHAPE = (2, 3, 4, 5, 6)  # B, J, D, H, W


def volume(seed=0, dtype=torch.float64, scale=2.0):
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def expectation(logits):
    """The definition, without marginals: every cell's position weighted by its probability."""
    prob = logits.double().flatten(2).softmax(-1).view(logits.shape)
    z, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in logits.shape[2:]), indexing="ij")
    return torch.stack([(prob * axis).sum((2, 3, 4)) for axis in (x, y, z)], dim=-1)


def test_two_equal_peaks_by_hand():
    logits = torch.full((1, 1, 4, 5, 6), -1e4)
    logits[0, 0, 1, 2, 3] = logits[0, 0, 3, 2, 5] = 0
    assert soft_argmax(logits).tolist() == [[[4, 2, 2]]]  # x between 3 and 5, y 2, z between 1 and 3


def test_weights_three_to_one_by_hand():
    logits = torch.full((1, 1, 4, 5, 6), -torch.inf)
    logits[0, 0, 0, 0, 0], logits[0, 0, 0, 4, 0] = 0.0, np.log(3)
    np.testing.assert_allclose(soft_argmax(logits)[0, 0], [0, 3, 0], atol=1e-6)


def test_uniform_volume_gives_the_middle():
    torch.testing.assert_close(soft_argmax(torch.zeros(SHAPE))[1, 2], torch.tensor([2.5, 2, 1.5]))


def test_equals_the_definition():
    torch.testing.assert_close(soft_argmax(volume()), expectation(volume()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_float32_out_of_any_float_in(dtype):
    logits = volume(dtype=dtype)
    joints = soft_argmax(logits)
    assert joints.dtype == torch.float32
    torch.testing.assert_close(joints.double(), expectation(logits), atol=1e-5, rtol=0)


def test_large_logits_stay_finite():
    logits = volume(dtype=torch.float32) * 1e4
    torch.testing.assert_close(soft_argmax(logits), hard_argmax(logits), atol=1e-3, rtol=0)


def test_gradient_by_hand_and_numerically():
    # Along one axis of two cells with p = (1/4, 3/4): dE/dh_i = p_i (i - E).
    logits = torch.tensor([0.0, np.log(3)], dtype=torch.float64).view(1, 1, 1, 1, 2).requires_grad_()
    soft_argmax(logits)[..., 0].sum().backward()
    np.testing.assert_allclose(logits.grad.flatten(), [0.25 * -0.75, 0.75 * 0.25])
    assert torch.autograd.gradcheck(soft_argmax, volume().requires_grad_())


def test_translation_moves_the_expectation():
    logits = torch.full((1, 1, 4, 5, 6), -50.0)
    logits[..., 0:2, 1:3, 1:4] = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1))
    moved = torch.roll(logits, (2, 1, -1), (2, 3, 4))
    torch.testing.assert_close(soft_argmax(moved) - soft_argmax(logits), torch.tensor([[[-1.0, 1, 2]]]))


def test_flip_of_the_volume_is_the_flip_of_the_joint():
    crop_px, depth_mm = 48, 2000.0
    plain = cells_to_joints(soft_argmax(volume()), SHAPE[2:], crop_px, depth_mm)
    mirrored = cells_to_joints(soft_argmax(volume().flip(4)), SHAPE[2:], crop_px, depth_mm)
    torch.testing.assert_close(mirrored[..., 0], crop_px - 1 - plain[..., 0])
    torch.testing.assert_close(mirrored[..., 1:], plain[..., 1:])


def test_channels_last_logits_give_the_same():
    B, J, D, H, W = SHAPE
    flat = volume(dtype=torch.float32).view(B, J * D, H, W).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(soft_argmax(flat.unflatten(1, (J, D))), soft_argmax(volume(dtype=torch.float32)))


def test_hard_argmax_finds_the_cell():
    logits = volume()
    for b in range(2):
        for j in range(3):
            z, y, x = np.unravel_index(int(logits[b, j].argmax()), SHAPE[2:])
            assert hard_argmax(logits)[b, j].tolist() == [x, y, z]


def test_grid_by_hand():
    # 16 px over 4 cells: stride 4, cell 0 over px 1.5. Depth 8 cells over 2000 mm: 250 mm each, cell 0 at -875.
    assert cells_to_joints(torch.tensor([0.0, 3, 0]), (8, 4, 4), 16, 2000.0).tolist() == [1.5, 13.5, -875]
    assert cells_to_joints(np.array([-0.5, 3.5, 3.5]), (8, 4, 4), 16, 2000.0).tolist() == [-0.5, 15.5, 0]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_grid_round_trip(kind):
    cells = kind(np.random.default_rng(0).uniform(0, 5, (2, 3, 3)))
    joints = cells_to_joints(cells, SHAPE[2:], 48, 2000.0)
    np.testing.assert_allclose(joints_to_cells(joints, SHAPE[2:], 48, 2000.0), cells)


# --- maximum and targets ---

def test_quarter_shift_by_hand():
    line = torch.tensor([[[0.0, 3, 9, 5, 0]], [[0, 0, 5, 9, 3]], [[9, 5, 0, 0, 0]], [[0, 0, 0, 5, 9]], [[0, 4, 9, 4, 0]]])
    assert hard_argmax(line).flatten().tolist() == [2, 3, 0, 4, 2]
    # towards the higher neighbour; not at the ends; nowhere between equals
    assert hard_argmax(line, quarter_shift=True).flatten().tolist() == [2.25, 2.75, 0, 4, 2]


def test_quarter_shift_looks_along_each_axis_of_a_volume():
    logits = torch.zeros(1, 1, 4, 5, 6)
    logits[0, 0, 2, 3, 1] = 9.0
    logits[0, 0, 2, 3, 2] = 1.0  # x is pulled up
    logits[0, 0, 2, 2, 1] = 1.0  # y is pulled down
    assert hard_argmax(logits, quarter_shift=True).tolist() == [[[1.25, 2.75, 2.0]]]


def test_quarter_shift_does_not_read_the_next_row():
    logits = torch.zeros(1, 1, 4, 5, 6)
    logits[0, 0, 1, 2, 5] = 9.0  # the last of its row
    logits[0, 0, 1, 3, 0] = 5.0  # lies after it in memory
    assert hard_argmax(logits, quarter_shift=True).tolist() == [[[5, 2, 1]]]


def test_argmax_of_maps_and_lines():
    plane = volume()[:, :, 0]
    assert hard_argmax(plane).shape == (2, 3, 2)
    torch.testing.assert_close(hard_argmax(plane)[..., :2], hard_argmax(plane[:, :, None])[..., :2])


def test_nearest_cell_by_hand():
    cells = torch.tensor([[0.49, 0.5, 1.5], [-0.5, 4.49, 3.49], [-3, 99, torch.inf], [torch.nan, 2, 1]])
    assert nearest_cell(cells, SHAPE[2:]).tolist() == [[0, 1, 2], [0, 4, 3], [0, 4, 0], [0, 2, 1]]


def test_gaussian_by_hand():
    cells = torch.tensor([[[2.0, 1.0, 3.0]]], dtype=torch.float64)
    x, y, z = gaussian_factors(cells, (4, 5, 6), sigma=2.0)
    assert (x.shape, y.shape, z.shape) == ((1, 1, 6), (1, 1, 5), (1, 1, 4))
    np.testing.assert_allclose(x[0, 0], np.exp([-4 / 8, -1 / 8, 0, -1 / 8, -4 / 8, -9 / 8]))
    target = gaussian_volume(cells, (4, 5, 6), sigma=2.0)
    assert target.shape == (1, 1, 4, 5, 6) and target[0, 0, 3, 1, 2] == 1
    np.testing.assert_allclose(target[0, 0, 2, 3, 5], np.exp(-(1 + 4 + 9) / 8))


def test_gaussian_moves_with_its_centre_and_mirrors():
    cells = torch.tensor([[[2.3, 1.0, 1.7]]], dtype=torch.float64)
    target = gaussian_volume(cells, (4, 5, 6), 1.0)
    moved = gaussian_volume(cells + torch.tensor([1, 0, 0]), (4, 5, 6), 1.0)
    torch.testing.assert_close(moved[..., 1:], target[..., :-1])
    mirrored = gaussian_volume(torch.tensor([[[5 - 2.3, 1.0, 1.7]]], dtype=torch.float64), (4, 5, 6), 1.0)
    torch.testing.assert_close(mirrored, target.flip(-1))


# --- bias ---

def test_debiasing_by_hand():
    # One cell of weight 30 among 119 of weight 1: the background's share is 120 of 149.
    logits = torch.zeros(1, 1, 4, 5, 6, dtype=torch.float64)
    logits[0, 0, 3, 0, 5] = np.log(30)
    biased = [(30 * peak + 119 * middle_of_rest) / 149 for peak, middle_of_rest in (
        (5, (120 * 2.5 - 5) / 119), (0, (120 * 2.0 - 0) / 119), (3, (120 * 1.5 - 3) / 119))]
    np.testing.assert_allclose(soft_argmax(logits)[0, 0], biased)
    np.testing.assert_allclose(debiased_soft_argmax(logits)[0, 0], [5, 0, 3], atol=1e-12)
    np.testing.assert_allclose(debiased_soft_argmax(logits + 7)[0, 0], [5, 0, 3], atol=1e-9)
    np.testing.assert_allclose(debiased_soft_argmax(logits, background=0.0)[0, 0], [5, 0, 3], atol=1e-12)


def test_debiasing_leaves_a_uniform_volume_and_a_sharp_one_alone():
    torch.testing.assert_close(debiased_soft_argmax(torch.zeros(SHAPE))[1, 2], torch.tensor([2.5, 2, 1.5]))
    sharp = volume() * 1e4
    torch.testing.assert_close(debiased_soft_argmax(sharp), soft_argmax(sharp))
    assert torch.isfinite(debiased_soft_argmax(volume(dtype=torch.bfloat16))).all()


def test_debiasing_has_the_right_gradient():
    logits = (volume() * 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: debiased_soft_argmax(v, background=-1.0), logits)
