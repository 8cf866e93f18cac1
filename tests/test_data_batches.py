"""Crops and targets of a batch, its order, its colours, and the way back to millimetres."""

import numpy as np
import torch

from ipr_lib.data import (
    BatchKeys,
    CropDataset,
    batches,
    crop_to_camera,
    keys_in_order,
    normalise,
    tint,
)
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.geometry.transforms import Augmentation, apply_affine, draw_augmentation


def test_targets_without_augmentation_are_the_labels(store):
    dataset = CropDataset(store, 64, 2000.0)
    batch = dataset[0, 0, np.array([4, 1])]
    columns = store.columns
    x, y, side = columns["box"][1]
    expected = (columns["joints_img"][1] - [x, y]) * 64 / side + 31.5
    np.testing.assert_allclose(batch["joints"][1, :, :2], expected, atol=1e-3)
    depth = columns["joints_cam"][1, :, 2] - columns["joints_cam"][1, 0, 2]
    np.testing.assert_allclose(batch["joints"][1, :, 2], depth, atol=1e-3)
    assert batch["crops"].shape == (2, 64, 64, 3) and batch["crops"].dtype == torch.uint8
    assert batch["weights"].shape == (2, 18, 3) and set(batch["weights"].unique().tolist()) <= {
        0.0,
        1.0,
    }


def test_targets_outside_the_volume_weigh_nothing(store):
    dataset = CropDataset(store, 64, 300.0)
    joints, weights = (dataset[0, 0, np.arange(6)][name] for name in ("joints", "weights"))
    outside = joints[..., 2].abs() > 150
    assert outside.any() and not outside.all()
    assert (weights[..., 2][outside] == 0).all() and (weights[..., 2][~outside] == 1).all()


def test_augmented_crop_and_joints_agree(store):
    """The augmented crop, taken back by its affine, shows what the stored crop shows at the same place."""
    dataset = CropDataset(store, 64, 2000.0, Augmentation(scale=0.1, rotation=20, colour=0), seed=1)
    plain = CropDataset(store, 64, 2000.0)[0, 0, np.arange(6)]
    batch = dataset[0, 0, np.arange(6)]
    flipped = batch["joints"][:, :, 0].numpy() != 0
    assert flipped.any()
    for i in range(6):
        affine = batch["affine"][i].numpy()
        mirrored = np.linalg.det(affine[:, :2]) < 0
        order = HUMAN36M.flip_order if mirrored else np.arange(18)
        expected = apply_affine(affine, store.columns["joints_img"][i].astype(float))[order]
        np.testing.assert_allclose(batch["joints"][i, :, :2], expected, atol=1e-3)
        zoom = np.sqrt(abs(np.linalg.det(affine[:, :2]))) * store.columns["box"][i, 2] / 64
        np.testing.assert_allclose(
            batch["joints"][i, :, 2], plain["joints"][i, order, 2] * zoom, rtol=1e-4, atol=1e-2
        )
        centre = apply_affine(affine, store.columns["box"][i, None, :2])[0].round().astype(int)
        np.testing.assert_allclose(
            batch["crops"][i, centre[1], centre[0]].int(),
            plain["crops"][i, 31:33, 31:33].int().reshape(4, 3).float().mean(0),
            atol=25,
        )


def test_batches_depend_on_seed_epoch_and_step_alone(store):
    dataset = CropDataset(store, 64, 2000.0, Augmentation(), seed=5)
    whole = list(batches(dataset, BatchKeys(6, 2, epochs=3, seed=5)))
    resumed = list(batches(dataset, BatchKeys(6, 2, epochs=3, seed=5, start=4), workers=2))
    assert len(whole) == 9 and len(resumed) == 5
    for first, second in zip(whole[4:], resumed):
        for name in first:
            assert torch.equal(first[name], second[name]), name


def test_every_item_once_an_epoch_in_a_new_order():
    keys = list(BatchKeys(7, 3, epochs=2, seed=0))
    assert [(epoch, step) for epoch, step, _ in keys] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for epoch in (0, 1):
        assert len(set(np.concatenate([items for e, _, items in keys if e == epoch]))) == 6
    assert not np.array_equal(keys[0][2], keys[2][2])
    ordered = [items.tolist() for _, _, items in keys_in_order(7, 3)]
    assert ordered == [[0, 1, 2], [3, 4, 5], [6]]


def test_normalise_by_hand():
    crops = torch.tensor([255, 51, 0], dtype=torch.uint8).expand(2, 4, 5, 3)
    gains = torch.tensor([[1.2, 0.5, 1], [0.5, 2, 1]])
    pixels = normalise(crops, torch.cat([torch.diag_embed(gains), torch.zeros(2, 3, 1)], dim=2))
    expected = torch.tensor(
        [
            [(1 - 0.485) / 0.229, (0.1 - 0.456) / 0.224, -0.406 / 0.225],
            [(0.5 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, -0.406 / 0.225],
        ]
    )
    assert pixels.shape == (2, 3, 4, 5)
    torch.testing.assert_close(pixels[:, :, 2, 3], expected)


def test_normalising_is_tint_then_scale():
    """Whatever autocast says; the limits of 0 and 1 are met."""
    rng = np.random.default_rng(3)
    crops = torch.from_numpy(rng.integers(0, 256, (11, 5, 6, 3), np.uint8))
    colour = torch.from_numpy(
        draw_augmentation(Augmentation(hue=40, contrast=0.8), rng, 11)["colour"]
    )
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
    )
    pixels = crops.permute(0, 3, 1, 2).double() / 255
    mixed = torch.einsum("bij,bjhw->bihw", colour[..., :3].double(), pixels) + colour[..., 3:, None]
    expected = mixed.clamp(0, 1)
    assert mixed.min() < 0 and mixed.max() > 1
    torch.testing.assert_close(tint(crops, colour), expected.float(), atol=1e-6, rtol=1e-5)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            torch.testing.assert_close(
                normalise(crops, colour), ((expected - mean) / std).float(), atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(
                normalise(crops), ((pixels - mean) / std).float(), atol=1e-5, rtol=1e-5
            )


def test_colour_maps_turn_colours_round_the_grey_axis():
    pictures = (
        torch.tensor([[200, 40, 40], [90, 90, 90]], dtype=torch.uint8)
        .view(1, 2, 1, 3)
        .expand(50, 2, 2, 3)
    )
    rng = np.random.default_rng(0)
    still = draw_augmentation(Augmentation(colour=0), rng, 50)["colour"]
    np.testing.assert_allclose(
        tint(pictures, torch.from_numpy(still)), pictures.permute(0, 3, 1, 2) / 255, atol=1e-6
    )
    turned = tint(
        pictures,
        torch.from_numpy(draw_augmentation(Augmentation(colour=0, hue=30), rng, 50)["colour"]),
    )
    np.testing.assert_allclose(turned[:, :, 1], 90 / 255, atol=1e-5)  # greys stay
    red = turned[:, :, 0, 0] - 280 / 3 / 255
    angle = torch.atan2(
        (red[:, 1] - red[:, 2]) * 3**0.5, 2 * red[:, 0] - red[:, 1] - red[:, 2]
    ).rad2deg()
    assert 20 < angle.abs().max() <= 30.1 and angle.abs().min() < 5
    strong = tint(
        pictures, torch.from_numpy(draw_augmentation(Augmentation(contrast=0.9), rng, 50)["colour"])
    )
    assert strong.min() == 0 and strong.max() == 1 and strong[:, :, 1].std() > 0.1


def test_crop_to_camera_undoes_the_targets(store):
    batch = CropDataset(store, 64, 2000.0)[0, 0, np.arange(6)]
    target = store.columns["joints_cam"].astype(float)
    cam = crop_to_camera(
        batch["joints"], batch["affine"].numpy(), store.cameras(np.arange(6)), target[:, 0, 2]
    )
    np.testing.assert_allclose(cam, target, atol=0.05)


def test_a_shard_is_some_rows_of_the_whole_batch(store):
    """What each of two processes makes of a batch of five: its rows, augmented as in the whole."""
    dataset = CropDataset(store, 64, 2000.0, Augmentation(occlusion=1.0), seed=5)
    items = np.array([3, 0, 5, 1, 4])
    whole = dataset[2, 7, items]
    for first in (0, 1):
        part = dataset[2, 7, items, (first, 2)]
        for name, rows in whole.items():
            assert torch.equal(part[name], rows[first::2]), name
