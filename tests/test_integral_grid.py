"""The grid, the maximum of a map, and Gaussian targets."""

import numpy as np
import pytest
import torch

from ipr_lib.integral import (
    cells_to_joints,
    gaussian_factors,
    gaussian_volume,
    hard_argmax,
    joints_to_cells,
    nearest_cell,
    soft_argmax,
)

SHAPE = (2, 3, 4, 5, 6)  # B, J, D, H, W


def volume():
    return 2 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_flip_of_the_volume_is_the_flip_of_the_joint():
    crop_px, depth_mm = 48, 2000.0
    plain = cells_to_joints(soft_argmax(volume()), SHAPE[2:], crop_px, depth_mm)
    mirrored = cells_to_joints(soft_argmax(volume().flip(4)), SHAPE[2:], crop_px, depth_mm)
    torch.testing.assert_close(mirrored[..., 0], crop_px - 1 - plain[..., 0])
    torch.testing.assert_close(mirrored[..., 1:], plain[..., 1:])


def test_hard_argmax_finds_the_cell():
    logits = volume()
    for b in range(2):
        for j in range(3):
            z, y, x = np.unravel_index(int(logits[b, j].argmax()), SHAPE[2:])
            assert hard_argmax(logits)[b, j].tolist() == [x, y, z]


def test_grid_by_hand():
    # 16 px over 4 cells: stride 4, cell 0 over px 1.5. Depth 8 cells over 2000 mm: 250 mm each, cell 0 at -875.
    assert cells_to_joints(torch.tensor([0.0, 3, 0]), (8, 4, 4), 16, 2000.0).tolist() == [
        1.5,
        13.5,
        -875,
    ]
    assert cells_to_joints(np.array([-0.5, 3.5, 3.5]), (8, 4, 4), 16, 2000.0).tolist() == [
        -0.5,
        15.5,
        0,
    ]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_grid_round_trip(kind):
    cells = kind(np.random.default_rng(0).uniform(0, 5, (2, 3, 3)))
    joints = cells_to_joints(cells, SHAPE[2:], 48, 2000.0)
    np.testing.assert_allclose(joints_to_cells(joints, SHAPE[2:], 48, 2000.0), cells)


# --- maximum and targets ---


def test_quarter_shift_by_hand():
    line = torch.tensor(
        [
            [[0.0, 3, 9, 5, 0]],
            [[0, 0, 5, 9, 3]],
            [[9, 5, 0, 0, 0]],
            [[0, 0, 0, 5, 9]],
            [[0, 4, 9, 4, 0]],
        ]
    )
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
    cells = torch.tensor(
        [[0.49, 0.5, 1.5], [-0.5, 4.49, 3.49], [-3, 99, torch.inf], [torch.nan, 2, 1]]
    )
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
    mirrored = gaussian_volume(
        torch.tensor([[[5 - 2.3, 1.0, 1.7]]], dtype=torch.float64), (4, 5, 6), 1.0
    )
    torch.testing.assert_close(mirrored, target.flip(-1))
