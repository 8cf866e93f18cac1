import dataclasses

import numpy as np
import pytest
import torch

from ipr_lib import network as models
from ipr_lib import run
from ipr_lib.config import load_config
from ipr_lib.data import datasets
from ipr_lib.data.datasets import BatchKeys, CropDataset, batches, crop_to_camera, normalise, tint
from ipr_lib.evaluation import evaluation, prediction
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.geometry.transforms import Augmentation, apply_affine, draw_augmentation
from ipr_lib.integral.grid import soft_argmax
from ipr_lib.integral.losses import integral_loss
from ipr_lib.integral.methods import decode_expectation
from ipr_lib.training import checkpoints

TINY = dict(crop_px=64, depth_bins=8, trunk="small", trunk_width=4, head_width=8,
            deconvolutions=2, batch_size=2, epochs=4, workers=0)


@pytest.fixture
def cfg():
    return load_config("smoke", **TINY)


# --- batches ---

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
    assert batch["weights"].shape == (2, 18, 3) and set(batch["weights"].unique().tolist()) <= {0.0, 1.0}


def test_targets_outside_the_volume_weigh_nothing(store):
    dataset = CropDataset(store, 64, 300.0)
    joints, weights = (dataset[0, 0, np.arange(6)][name] for name in ("joints", "weights"))
    outside = (joints[..., 2].abs() > 150)
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
        np.testing.assert_allclose(batch["joints"][i, :, 2], plain["joints"][i, order, 2] * zoom, rtol=1e-4, atol=1e-2)
        centre = apply_affine(affine, store.columns["box"][i, None, :2])[0].round().astype(int)
        np.testing.assert_allclose(
            batch["crops"][i, centre[1], centre[0]].int(), plain["crops"][i, 31:33, 31:33].int().reshape(4, 3).float().mean(0),
            atol=25)


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
    ordered = [items.tolist() for _, _, items in BatchKeys(7, 3, shuffle=False)]
    assert ordered == [[0, 1, 2], [3, 4, 5], [6]]


def test_normalise_by_hand():
    crops = torch.tensor([255, 51, 0], dtype=torch.uint8).expand(2, 4, 5, 3)
    gains = torch.tensor([[1.2, 0.5, 1], [0.5, 2, 1]])
    pixels = normalise(crops, torch.cat([torch.diag_embed(gains), torch.zeros(2, 3, 1)], dim=2))
    expected = torch.tensor([[(1 - 0.485) / 0.229, (0.1 - 0.456) / 0.224, -0.406 / 0.225],
                             [(0.5 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, -0.406 / 0.225]])
    assert pixels.shape == (2, 3, 4, 5)
    torch.testing.assert_close(pixels[:, :, 2, 3], expected)


@pytest.mark.parametrize("paint", [datasets._paint_planes, datasets._paint_interleaved])
def test_normalising_in_one_step_is_tint_then_scale(monkeypatch, paint):
    """On either kind of device, for more crops than are worked on at a time, and whatever autocast says."""
    rng = np.random.default_rng(3)
    crops = torch.from_numpy(rng.integers(0, 256, (11, 5, 6, 3), np.uint8))
    colour = torch.from_numpy(draw_augmentation(Augmentation(hue=40, contrast=0.8), rng, 11)["colour"])
    monkeypatch.setattr(datasets, "_paint_planes", paint)
    mean, std = (torch.tensor(values)[:, None, None] for values in (datasets.MEAN, datasets.STD))
    tinted = tint(crops, colour)
    assert tinted.min() == 0 and tinted.max() == 1, "the limits must be met"
    torch.testing.assert_close(normalise(crops, colour), (tinted - mean) / std)
    torch.testing.assert_close(normalise(crops), (crops.permute(0, 3, 1, 2) / 255 - mean) / std)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(normalise(crops, colour), (tinted - mean) / std)


def test_crops_whose_channels_mix_and_others_share_a_batch():
    """Tables for the one kind, a product for the other: the same formula, each value of a pixel and both limits met."""
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(3, 16, 16, 3).contiguous()
    linear = torch.diag_embed(torch.tensor([[1.2, 0.8, 1.0]] * 3))
    linear[1, 0, 2] = 0.5
    colour = torch.cat([linear, torch.tensor([-0.1, 0.0, 0.1]).view(1, 3, 1).expand(3, 3, 1)], dim=2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (datasets.MEAN, datasets.STD))
    pixels = ramp.permute(0, 3, 1, 2).double() / 255
    expected = torch.einsum("bij,bjhw->bihw", linear.double(), pixels) + colour[..., 3:, None].double()
    assert expected.min() < 0 and expected.max() > 1
    torch.testing.assert_close(normalise(ramp, colour), ((expected.clamp(0, 1) - mean) / std).float(), atol=1e-6, rtol=1e-5)


def test_colour_maps_turn_colours_round_the_grey_axis():
    pictures = torch.tensor([[200, 40, 40], [90, 90, 90]], dtype=torch.uint8).view(1, 2, 1, 3).expand(50, 2, 2, 3)
    rng = np.random.default_rng(0)
    still = draw_augmentation(Augmentation(colour=0), rng, 50)["colour"]
    np.testing.assert_allclose(tint(pictures, torch.from_numpy(still)), pictures.permute(0, 3, 1, 2) / 255, atol=1e-6)
    turned = tint(pictures, torch.from_numpy(draw_augmentation(Augmentation(colour=0, hue=30), rng, 50)["colour"]))
    np.testing.assert_allclose(turned[:, :, 1], 90 / 255, atol=1e-5)  # greys stay
    red = turned[:, :, 0, 0] - 280 / 3 / 255
    angle = torch.atan2((red[:, 1] - red[:, 2]) * 3**0.5, 2 * red[:, 0] - red[:, 1] - red[:, 2]).rad2deg()
    assert 20 < angle.abs().max() <= 30.1 and angle.abs().min() < 5
    strong = tint(pictures, torch.from_numpy(draw_augmentation(Augmentation(contrast=0.9), rng, 50)["colour"]))
    assert strong.min() == 0 and strong.max() == 1 and strong[:, :, 1].std() > 0.1


def test_crop_to_camera_undoes_the_targets(store):
    batch = CropDataset(store, 64, 2000.0)[0, 0, np.arange(6)]
    target = store.columns["joints_cam"].astype(float)
    cam = crop_to_camera(batch["joints"], batch["affine"].numpy(), store.cameras(np.arange(6)), target[:, 0, 2])
    np.testing.assert_allclose(cam, target, atol=0.05)


# --- networks ---

@pytest.mark.parametrize("name, width, deconvolutions", [
    ("small", 4, 1), ("small", 6, 2), ("small", 5, 3), ("resnet18", 64, 3), ("resnet50", 64, 2)
])
def test_every_backbone_gives_a_volume(name, width, deconvolutions):
    backbone = models.build_backbone(name, width)
    model = models.PoseNet(backbone, joints=3, depth_bins=5, head_width=7, deconvolutions=deconvolutions).eval()
    volume = model(torch.randn(2, 3, 64, 96))
    H, W = (side // models.BACKBONES[name] * 2**deconvolutions for side in (64, 96))
    assert volume.shape == (2, 3, 5, H, W)
    # Almost-zero logits: training starts at the middle of the crop.
    middle = torch.tensor([(W - 1) / 2, (H - 1) / 2, 2])
    torch.testing.assert_close(soft_argmax(volume), middle.expand(2, 3, 3), atol=0.05, rtol=0)


def test_config_knows_the_shape_of_the_volume(cfg):
    for changes in (dict(), dict(trunk="resnet18", deconvolutions=3, crop_px=96), dict(deconvolutions=2)):
        other = dataclasses.replace(cfg, **changes)
        volume = run.build_network(other).eval()(torch.zeros(1, 3, other.crop_px, other.crop_px))
        assert volume.shape[2:] == other.volume_shape


def test_full_network_has_the_published_number_of_parameters():
    model = models.PoseNet(models.build_backbone("resnet50"), joints=18, depth_bins=64)
    assert models.count_parameters(model) == 34_291_392 - 0
    assert "backbone.layer1.0.conv1.weight" in model.state_dict()


def test_missing_imagenet_weights_say_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(InputError, match=rf"resnet18-\w+\.pth could not be downloaded .*{tmp_path}/checkpoints/resnet18"):
        models.build_backbone("resnet18", pretrained=True)
    with pytest.raises(InputError, match="unknown backbone"):
        models.build_backbone("resnet19")


# --- training ---

def test_overfits_a_few_crops(store, training_seed):
    cfg = load_config("smoke", seed=training_seed, **TINY | dict(trunk_width=8, head_width=32, learning_rate=5e-3))
    model = run.build_network(cfg)
    batch = CropDataset(store, 64, 2000.0)[0, 0, np.arange(6)]
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.learning_rate)
    losses = []
    for _ in range(250):
        joints = decode_expectation(model(normalise(batch["crops"])), 64, 2000.0)
        loss = integral_loss(joints, batch["joints"], batch["weights"], (64, 64, 2000.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_finished_run_is_not_trained_again(cfg, store, tmp_path):
    first = run.train_run(cfg, store, tmp_path)
    stamp = (tmp_path / checkpoints.CHECKPOINT).stat().st_mtime_ns
    second = run.train_run(dataclasses.replace(cfg, workers=3), store, tmp_path)
    assert (tmp_path / checkpoints.CHECKPOINT).stat().st_mtime_ns == stamp and not second.training
    for a, b in zip(first.state_dict().values(), second.state_dict().values()):
        assert torch.equal(a, b)


def test_checkpoint_of_another_config_or_architecture_is_refused(cfg, store, tmp_path):
    run.train_run(cfg, store, tmp_path)
    before = (tmp_path / checkpoints.CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match="trained with trunk_width=4, this run asks for trunk_width=6"):
        run.train_run(dataclasses.replace(cfg, trunk_width=6), store, tmp_path)
    content = torch.load(tmp_path / checkpoints.CHECKPOINT, weights_only=True)
    content["network"].pop("final.bias")
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="odd.pt holds another architecture"):
        checkpoints.load_checkpoint(tmp_path / "odd.pt", cfg, run.build_network(cfg))
    assert (tmp_path / checkpoints.CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("keep", [0, 100, 4000])
def test_damaged_checkpoints_are_refused(cfg, store, tmp_path, keep):
    run.train_run(cfg, store, tmp_path)
    path = tmp_path / checkpoints.CHECKPOINT
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="checkpoint.pt is not a whole checkpoint"):
        run.train_run(cfg, store, tmp_path)
    with pytest.raises(InputError, match="none.pt is missing"):
        checkpoints.load_checkpoint(tmp_path / "none.pt", cfg, run.build_network(cfg))


def test_exploding_loss_stops_with_advice(cfg, store, tmp_path):
    with pytest.raises(InputError, match="loss is not finite at step .* Try learning_rate="):
        run.train_run(dataclasses.replace(cfg, learning_rate=1e30, warmup_steps=0, schedule="steps"), store, tmp_path)


def test_too_few_items_for_a_batch(cfg, store, tmp_path):
    with pytest.raises(InputError, match="holds 6 items, fewer than one batch of 8"):
        run.train_run(dataclasses.replace(cfg, batch_size=8), store, tmp_path)


def test_schedules_by_hand(cfg):
    steps = dataclasses.replace(cfg, schedule="steps", epochs=20, lr_drops=(15, 17), learning_rate=1.0, warmup_steps=0)
    rates = [run.learning_rate(steps, epoch * 10 + 9, 10) for epoch in range(20)]
    np.testing.assert_allclose(rates, [1] * 15 + [0.1] * 2 + [0.01] * 3)
    cosine = dataclasses.replace(steps, schedule="cosine", warmup_steps=3)
    assert run.learning_rate(cosine, 100, 10) == pytest.approx(0.5)
    assert [run.learning_rate(cosine, step, 1000) for step in range(3)] == pytest.approx([0.25, 0.5, 0.75], rel=1e-3)


# --- prediction ---

class Ruler(torch.nn.Module):
    """A "network" whose volume peaks where the picture is brightest, for all joints alike, but for joint 0's partner."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(300.0))

    def forward(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels.mean(1), 4) * self.gain
        return small[:, None, None].expand(-1, 18, 8, -1, -1)


def test_prediction_and_flip_test_find_the_bright_spot(cfg):
    crops = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    crops[0, 8:12, 20:24] = 255  # cell (5, 2)
    crops[1, 40:44, 60:64] = 255  # cell (15, 10)
    for flip_test in (False, True):
        joints = run.predict_crops(Ruler(), crops, cfg, flip_test)
        np.testing.assert_allclose(joints[0, 3], [5.5 * 4 - 0.5, 2.5 * 4 - 0.5, 0], atol=1e-3)
        np.testing.assert_allclose(joints[1, 17], [15.5 * 4 - 0.5, 10.5 * 4 - 0.5, 0], atol=1e-3)


def test_scores_of_a_perfect_and_of_the_mean_pose(cfg, store):
    perfect = evaluation.score_items(store.columns["joints_cam"] + [100.0, 0, 50], store.columns)
    assert perfect["n"] == 6 and perfect["mpjpe"]["frame_mean"] < 1e-3
    baseline = evaluation.score_items(prediction.mean_pose(store, store), store.columns)
    joints = store.columns["joints_cam"][:, :17].astype(float)
    joints -= joints[:, :1]
    expected = np.linalg.norm(joints - joints.mean(0), axis=-1).mean()
    assert baseline["mpjpe"]["frame_mean"] == pytest.approx(expected, rel=1e-6)


def test_predict_store_keeps_order_and_frames(cfg, store, training_seed):
    cfg = dataclasses.replace(cfg, seed=training_seed)
    result = run.predict_run(run.build_network(cfg).eval(), store, cfg)
    assert result["items"].tolist() == list(range(6)) and result["pred_cam"].shape == (6, 18, 3)
    np.testing.assert_allclose(result["target_cam"], store.columns["joints_cam"])
    # An untrained network says "the middle of the crop, at the root's depth": the box centre, seen from the camera.
    np.testing.assert_allclose(result["pred_cam"][:, 5], result["target_cam"][:, 0], atol=60)


def test_weights_from_a_file_ask_for_no_others(monkeypatch):
    """A run is gone on with, scored and counted on a machine that cannot fetch ImageNet weights."""
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    cfg = load_config("smoke", trunk="resnet18", pretrained=True)
    assert run.blank_network(cfg).backbone.channels == 512
