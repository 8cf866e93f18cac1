import numpy as np
import pytest
import torch

from ipr_lib.heatmaps import cells_to_joints, hard_argmax, joints_to_cells, soft_argmax

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
