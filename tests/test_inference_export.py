"""A network as ONNX: the same joints from pixels alone, and what the file says of itself."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

from ipr_lib import run
from ipr_lib.__main__ import main
from ipr_lib.config import load_config
from ipr_lib.evaluation.published import RELEASES, Published, read_maps
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.inference import export, export_onnx, load_network
from ipr_lib.inference.networks import Network, PublishedNetwork
from ipr_lib.network import PoseNet, build_backbone

from .conftest import TINY_NETWORK

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def joints_of(path, crops):
    session = onnxruntime.InferenceSession(str(path))
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    side = crops.shape[1]
    assert (given.name, given.type, given.shape[1:]) == ("crops", "tensor(uint8)", [side, side, 3])
    assert (result.name, result.shape[1:]) == ("joints", [len(HUMAN36M), 3])
    return session.run(None, {"crops": crops})[0]


def said_by(path):
    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}


def random_crops(n, side):
    return np.random.default_rng(n).integers(0, 256, (n, side, side, 3), np.uint8)


@pytest.mark.parametrize("method", ["I*", "R1", "SimCC"])
def test_onnx_gives_the_joints_of_prediction(method, tmp_path):
    """Batches of another size than the one it was traced with; the network's weights are wild."""
    cfg = load_config("smoke", method=method, **TINY_NETWORK)
    torch.manual_seed(3)
    model = run.build_network(cfg).eval()
    with torch.no_grad():
        for weights in model.final.parameters():
            weights += 0.3 * torch.randn_like(weights)
    network = Network(model, cfg, "a test's")
    line = export_onnx(network, tmp_path / "a.onnx")
    assert line.startswith(f"{tmp_path / 'a.onnx'}: onnxruntime gives PyTorch's joints to ")
    for n in (1, 5):
        crops = random_crops(n, 64)
        found = joints_of(tmp_path / "a.onnx", crops)
        expected, _ = network.joints(torch.from_numpy(crops))
        assert np.ptp(expected, axis=1).max() > 1, "joints that all lie in one place tell nothing"
        np.testing.assert_allclose(found[..., :2], expected[..., :2], atol=1e-3)
        np.testing.assert_allclose(found[..., 2], expected[..., 2], atol=2e-2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_published_network_keeps_its_conventions(release, tmp_path):
    torch.manual_seed(4)
    model = PoseNet(build_backbone("resnet18"), len(HUMAN36M), 4, 8).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.ConvTranspose2d):
            torch.nn.init.normal_(layer.weight, std=0.05)
    torch.nn.init.normal_(model.final.weight, std=1.0)
    network = PublishedNetwork(Published(model, release, "resnet18", None), "a release")
    crops = random_crops(3, 256)
    with torch.no_grad():  # logits of the size of a trained network's
        model.final.weight *= 2 / read_maps(network.published, torch.from_numpy(crops)).std()
    export_onnx(network, tmp_path / "a.onnx")
    expected, _ = network.joints(torch.from_numpy(crops))
    assert np.ptp(expected, axis=1).max() > 1
    found = joints_of(tmp_path / "a.onnx", crops)
    np.testing.assert_allclose(found[..., :2], expected[..., :2], atol=1e-3)
    assert "Human3.6M fall under its licence" in said_by(tmp_path / "a.onnx")["licence"]


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, "that this library draws: under its licence, MIT"),
        ({"dataset": "/data/motion-dance"}, "MIT"),
        ({"dataset": "human36m"}, "academic use alone"),
        (
            {"dataset": "human36m", "mix": ("mpii", "coco"), "batch_size": 12},
            "also trained on mpii and coco",
        ),
    ],
)
def test_the_licence_follows_what_it_was_trained_on(fields, words):
    cfg = dataclasses.replace(load_config("smoke"), **fields)
    card = export.network_card(Network(torch.nn.Identity(), cfg, "run a"))
    assert words in card["licence"]
    assert ("Human3.6M" in card["licence"]) == (cfg.dataset == "human36m")


def test_the_command_writes_the_course_s_network_and_its_card(tmp_path, capsys):
    assert main(["export", "--out", str(tmp_path / "model.onnx")]) == 0
    said = capsys.readouterr().out
    assert "onnxruntime gives PyTorch's joints to" in said and "licence: " in said
    card = said_by(tmp_path / "model.onnx")
    assert card["network"] == load_network().about and "MPJPE" in card["network"]
    assert json.loads(card["joint_names"]) == list(HUMAN36M.names)
    assert card["crop_px"] == "128" and "uint8 RGB" in card["input"] and "mm" in card["output"]


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="onnxruntime is not installed: pip install onnx"):
        export_onnx(None, tmp_path / "a.onnx")


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MOST_PX", -1.0)
    cfg = load_config("smoke", **TINY_NETWORK)
    network = Network(run.build_network(cfg).eval(), cfg, "a test's")
    with pytest.raises(RuntimeError, match="ONNX differs from PyTorch by"):
        export_onnx(network, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
