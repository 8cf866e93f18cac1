import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision.models import ResNet18_Weights, get_model

from ipr_lib import network as models
from ipr_lib import run
from ipr_lib.config import load_config
from ipr_lib.data.datasets import CropDataset, normalise
from ipr_lib.evaluation import metrics, prediction
from ipr_lib.files import InputError
from ipr_lib.integral import decode, integral_loss, soft_argmax
from ipr_lib.training import records

from .conftest import TINY_NETWORK

TINY = TINY_NETWORK | dict(batch_size=2, epochs=4, workers=0)


@pytest.fixture
def cfg():
    return load_config("smoke", **TINY)


# --- networks ---


@pytest.mark.parametrize(
    "name, width, deconvolutions",
    [("small", 4, 1), ("small", 6, 2), ("small", 5, 3), ("resnet18", 64, 3), ("resnet50", 64, 2)],
)
def test_every_backbone_gives_a_volume(name, width, deconvolutions):
    backbone = models.build_backbone(name, width)
    model = models.PoseNet(
        backbone, joints=3, depth_bins=5, head_width=7, deconvolutions=deconvolutions
    ).eval()
    volume = model(torch.randn(2, 3, 64, 96))
    H, W = (side // models.BACKBONES[name] * 2**deconvolutions for side in (64, 96))
    assert volume.shape == (2, 3, 5, H, W)
    # Almost-zero logits: training starts at the middle of the crop.
    middle = torch.tensor([(W - 1) / 2, (H - 1) / 2, 2])
    torch.testing.assert_close(soft_argmax(volume), middle.expand(2, 3, 3), atol=0.05, rtol=0)


def test_config_knows_the_shape_of_the_volume(cfg):
    for changes in (
        dict(),
        dict(backbone="resnet18", deconvolutions=3, crop_px=96),
        dict(deconvolutions=2),
    ):
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
    with pytest.raises(
        InputError,
        match=rf"could not be downloaded .* get https://\S+/resnet18-\w+\.pth .*{tmp_path}/checkpoints/resnet18",
    ):
        models.build_backbone("resnet18", pretrained=True)
    with pytest.raises(InputError, match="unknown backbone"):
        models.build_backbone("resnet19")


def test_imagenet_weights_come_from_the_folder_that_torch_home_names(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = get_model("resnet18").state_dict()
    file = ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / file)
    backbone = models.build_backbone("resnet18", pretrained=True)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name]), name


# --- training ---


def test_overfits_a_few_crops(store, training_seed):
    cfg = load_config(
        "smoke",
        seed=training_seed,
        **TINY | dict(backbone_width=8, head_width=32, learning_rate=5e-3),
    )
    model = run.build_network(cfg)
    batch = CropDataset(store, 64, 2000.0)[0, 0, np.arange(6)]
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.learning_rate)
    losses = []
    for _ in range(250):
        joints = decode(model(normalise(batch["crops"])), 64, 2000.0)
        loss = integral_loss(joints, batch["joints"], batch["weights"], (64, 64, 2000.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_finished_run_is_not_trained_again(cfg, store, tmp_path):
    first = run.train_run(cfg, store, tmp_path)
    stamp = (tmp_path / records.CHECKPOINT).stat().st_mtime_ns
    second = run.train_run(dataclasses.replace(cfg, workers=3), store, tmp_path)
    assert (tmp_path / records.CHECKPOINT).stat().st_mtime_ns == stamp and not second.training
    for a, b in zip(first.state_dict().values(), second.state_dict().values()):
        assert torch.equal(a, b)


def test_checkpoint_of_another_config_or_architecture_is_refused(cfg, store, tmp_path):
    run.train_run(cfg, store, tmp_path)
    before = (tmp_path / records.CHECKPOINT).read_bytes()
    with pytest.raises(
        InputError, match="trained with backbone_width=4, this run asks for backbone_width=6"
    ):
        run.train_run(dataclasses.replace(cfg, backbone_width=6), store, tmp_path)
    content = torch.load(tmp_path / records.CHECKPOINT, weights_only=True)
    content["network"].pop("final.bias")
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="odd.pt holds another architecture"):
        records.load_checkpoint(tmp_path / "odd.pt", run.build_network(cfg))
    assert (tmp_path / records.CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("keep", [0, 100, 4000])
def test_damaged_checkpoints_are_refused(cfg, store, tmp_path, keep):
    run.train_run(cfg, store, tmp_path)
    path = tmp_path / records.CHECKPOINT
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="checkpoint.pt is not a complete checkpoint"):
        run.train_run(cfg, store, tmp_path)
    with pytest.raises(InputError, match="none.pt is missing"):
        records.load_checkpoint(tmp_path / "none.pt", run.build_network(cfg))


def test_weights_that_are_not_finite_are_refused(cfg, store, tmp_path):
    run.train_run(cfg, store, tmp_path)
    content = torch.load(tmp_path / records.CHECKPOINT, weights_only=True)
    content["network"]["final.bias"][1] = float("nan")
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="odd.pt: its weights final.bias hold NaN or infinity"):
        run.load_trained(tmp_path / "odd.pt")


def test_exploding_loss_stops_with_advice(cfg, store, tmp_path):
    with pytest.raises(InputError, match="loss is not finite at step .* Try learning_rate="):
        run.train_run(
            dataclasses.replace(cfg, learning_rate=1e30, warmup_steps=0, schedule="steps"),
            store,
            tmp_path,
        )


def test_too_few_items_for_a_batch(cfg, store, tmp_path):
    with pytest.raises(InputError, match="holds 6 items, fewer than one batch of 8"):
        run.train_run(dataclasses.replace(cfg, batch_size=8), store, tmp_path)


# --- starting from other weights ---


def test_a_run_starts_from_the_weights_of_another(cfg, store, tmp_path, capsys):
    """The other one has more cells of depth, so its last layer does not fit; its backbone does."""
    deeper = dataclasses.replace(cfg, depth_bins=16, seed=3)
    other = run.train_run(deeper, store, tmp_path / "other")
    stopped = dataclasses.replace(cfg, learning_rate=1e-30)
    trained = run.train_run(stopped, store, tmp_path / "new", init=tmp_path / "other")
    printed = capsys.readouterr().err.splitlines()
    lines = [line for line in printed if "tensors taken" in line or line.startswith("  ")]
    total = len(trained.state_dict())
    assert lines == [
        f"{tmp_path / 'other' / records.CHECKPOINT}: {total - 2} of {total} tensors taken",
        "  final.weight: (288, 8, 1, 1), expected (144, 8, 1, 1)",
        "  final.bias: (288,), expected (144,)",
    ]
    for name, parameter in other.named_parameters():
        if not name.startswith("final."):
            torch.testing.assert_close(dict(trained.named_parameters())[name], parameter)
    content = torch.load(tmp_path / "new" / records.CHECKPOINT, weights_only=True)
    assert content["init"] == str(tmp_path / "other")
    # The run goes on with its own weights, wherever the other ones are by then.
    (tmp_path / "other").rename(tmp_path / "moved")
    again = run.train_run(stopped, store, tmp_path / "new", init=tmp_path / "other")
    assert torch.equal(again.final.weight, trained.final.weight)
    with pytest.raises(InputError, match="moved has no effect: .* was begun from .*other"):
        run.train_run(stopped, store, tmp_path / "new", init=tmp_path / "moved")


def test_a_file_without_weights_that_fit_is_refused(cfg, tmp_path):
    network = run.build_network(cfg)
    torch.save({"config": cfg.record(), "network": {"head": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="other.pt: no weights fit this network"):
        run.start_from(network, tmp_path / "other.pt")
    with pytest.raises(InputError, match="none.pt is missing"):
        run.start_from(network, tmp_path / "none.pt")


def test_published_weights_fit_the_network_of_the_paper(tmp_path):
    published = run.build_network(load_config("full", pretrained=False, backbone="resnet18"))
    names = {}
    for name, value in published.state_dict().items():
        name = name.replace("deconvolutions.", "head.deconv_layers.")
        names["module." + name.replace("final.", "head.final_layer.")] = value
    torch.save({"epoch": 19, "network": names}, tmp_path / "snapshot_19.pth.tar")
    network = run.build_network(
        load_config("full", pretrained=False, backbone="resnet18", seed=1, crop_px=128)
    )
    (line,) = run.start_from(network, tmp_path / "snapshot_19.pth.tar")
    assert line.endswith(f"{len(names)} of {len(names)} tensors taken")
    for name, value in published.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


# What %autoreload does to a library whose files are edited while a notebook is open.
RELOAD = """
import importlib, sys
import torch
import ipr_lib.run
for _ in range(2):
    for name in sorted(name for name in sys.modules if name.startswith("ipr_lib")):
        importlib.reload(sys.modules[name])
from ipr_lib.integral import soft_argmax
logits = torch.zeros(2, 3, 4, 5, 6, requires_grad=True)
soft_argmax(logits).sum().backward()
print(len(sys.modules), float(logits.grad.sum()))
"""


def test_modules_can_be_loaded_again():
    result = subprocess.run([sys.executable, "-c", RELOAD], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


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
    perfect = metrics.score_items(store.columns["joints_cam"] + [100.0, 0, 50], store.columns)
    assert perfect["n"] == 6 and perfect["mpjpe"]["frame_mean"] < 1e-3
    baseline = metrics.score_items(prediction.mean_pose(store, store), store.columns)
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
    cfg = load_config("smoke", backbone="resnet18", pretrained=True)
    assert run.build_network(cfg, fetch_weights=False).backbone.channels == 512
