"""Any network: which one is taken, what is said of it, its own conventions, shared batches."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from ipr_lib import run
from ipr_lib.__main__ import main
from ipr_lib.evaluation.published import RELEASES, Published, cut_box
from ipr_lib.files import InputError, read_json, write_json
from ipr_lib.geometry.skeleton import HUMAN36M
from ipr_lib.geometry.transforms import apply_affine, invert_affine
from ipr_lib.inference import load_network, networks, poses, predict, predict_inputs
from ipr_lib.inference.networks import Network, PublishedNetwork
from ipr_lib.training import records
from ipr_lib.views import SkeletonView

from .test_evaluation_published import Net, checkpoint
from .test_inference import CFG, DEEP, J, disc, write_video
from .test_prepare_coco import write_coco

MKS, JIMMY = RELEASES


def save_run(folder, cfg, epoch, **scores):
    """A run's folder with a checkpoint at some epoch and, with `scores`, what `test` has written."""
    folder.mkdir(parents=True)
    model = run.build_network(cfg)
    torch.nn.init.normal_(model.final.bias)  # poses of a size that a page can show
    state = {"step": 5, "seconds": 1.0, "log": [{"epoch": epoch}], "config": cfg.record()}
    optimizers = [torch.optim.AdamW(model.parameters())]
    path = folder / records.CHECKPOINT
    records.save_checkpoint(path, model, optimizers, state)
    if scores:
        content = {
            "split": "S1 / S9",
            "oracle": ["root depth"],
            "checkpoint": run.fingerprint(path),
        }
        write_json(folder / "metrics.json", content | scores)
    return path


SCORED = {"scores": {"n": 7, "mpjpe": {"frame_mean": 61.25}}}


# --- which network, and what is said of it ---


def test_without_a_choice_it_is_the_course_s_own():
    card = read_json(networks.REFERENCE / networks.CARD)
    about = load_network().about
    assert about.startswith(f"the course's own: {card['network']}; trained on the built-in capture")
    assert f"scored on {card['test_items']} test images of S9,11: {card['mpjpe']:.1f} mm" in about
    assert about.endswith("not meant for photographs")


def test_what_is_said_of_a_run(tmp_path):
    cfg = dataclasses.replace(CFG, dataset="human36m", train_subjects=(1, 5))
    path = save_run(tmp_path / "mine", cfg, cfg.epochs, **SCORED)
    network = load_network(run="mine", results_dir=tmp_path)
    assert network.about == (
        f"run mine: {cfg.network}; trained on human36m (S1,5); "
        "scored on 7 test images of S9: 61.2 mm MPJPE, given root depth"
    )
    assert network.cfg == cfg and not network.model.training
    assert load_network(weights=path).about.startswith(f"{path}: ")
    content = read_json(tmp_path / "mine" / "metrics.json") | {"checkpoint": "of another day"}
    write_json(tmp_path / "mine" / "metrics.json", content)
    assert "not scored yet" in load_network(run=tmp_path / "mine").about


@pytest.mark.parametrize(
    "fields, drawn",
    [
        ({}, True),
        ({"dataset": "motion-dance"}, True),
        ({"dataset": "human36m"}, False),
        ({"mix": ("coco",)}, False),
    ],
)
def test_drawn_people_alone_are_no_school_for_photographs(tmp_path, fields, drawn):
    cfg = dataclasses.replace(CFG, **fields)
    save_run(tmp_path / "a", cfg, 2)
    about = load_network(run="a", results_dir=tmp_path).about
    assert ("not meant for photographs" in about) == drawn
    assert f"up to epoch 2 of {cfg.epochs}; not scored yet" in about


def test_a_profile_means_its_finished_run(tmp_path):
    with pytest.raises(InputError, match="no finished training of profile smoke; train it"):
        networks.finished_run(CFG, tmp_path)
    folder = run.run_dir(CFG, tmp_path)
    save_run(folder, CFG, CFG.epochs - 0.5)
    with pytest.raises(InputError, match="no finished training"):
        networks.finished_run(CFG, tmp_path)
    content = torch.load(folder / records.CHECKPOINT, weights_only=True)
    content["log"].append({"epoch": float(CFG.epochs)})
    torch.save(content, folder / records.CHECKPOINT)
    assert networks.finished_run(CFG, tmp_path) == folder


def test_a_release_says_whose_it_is_and_how_it_was_scored_here(tmp_path):
    path = tmp_path / "snapshot_16.pth.tar"
    torch.save(checkpoint(Net("mks0601")), path)
    network = load_network(published=path, results_dir=tmp_path)
    assert f"{path} (release mks0601, epoch 16): resnet18, 256 px, 4 depth cells" in network.about
    assert "Human3.6M and MPII" in network.about and "not scored here yet" in network.about
    content = {
        "fingerprint": run.fingerprint(path),
        "subjects": [9, 11],
        "data": "human36m",
        "oracle": ["root depth"],
        "ours": {networks.RELEASED_PASS: {"mpjpe": {"frame_mean": 53.9}}},
    }
    (tmp_path / "published-x").mkdir()
    write_json(tmp_path / "published-x" / "metrics.json", content)
    about = load_network(published=path, results_dir=tmp_path).about
    assert "scored on S9,11 of human36m: 53.9 mm MPJPE, given root depth" in about


def test_one_network_at_a_time(tmp_path):
    with pytest.raises(InputError, match="give one of them"):
        load_network(run="a", published="b")
    with pytest.raises(InputError, match=r"no run a in .*train one first"):
        load_network(run="a", results_dir=tmp_path)
    with pytest.raises(InputError, match="b is missing"):
        load_network(published=tmp_path / "b")


# --- a release's conventions, by hand ---


class OneCell(torch.nn.Module):
    """Sees every joint in a cell of its own, whatever the crop shows: x 20 + joint, y 8, z 1 of 4."""

    depth_bins = 4

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, crops):
        logits = torch.full((len(crops), J, 4, 64, 64), -1e4)
        for joint in range(J):
            logits[:, joint, 1, 8, 20 + joint] = 0.0
        return logits


def one_cell(release):
    return PublishedNetwork(Published(OneCell().eval(), release, "none", None), "one cell")


@pytest.mark.parametrize("release, x0, y0", [(MKS, 76.3125, 12.125), (JIMMY, 76.0, 12.0)])
def test_a_release_lays_its_cells_over_the_box(release, x0, y0):
    """Box about (100, 60), 128 px wide: its corner is (36, -4), and 64 cells cover 128 or 129 px.

    Cell 20 lies at 36 + 20 / 64 * 128 = 76, or 36 + 20 / 64 * 129 = 76.3125; cell 8 of y at
    -4 + 8 / 64 * 128 = 12, or 12.125. Cell 1 of 4 in depth is (1 / 4 - 1 / 2) * 2000 = -500 mm.
    """
    network = one_cell(release)
    box = np.array([[100.0, 60.0, 128.0]])
    joints, _ = network.joints(torch.zeros(1, 256, 256, 3, dtype=torch.uint8))
    joints_img = apply_affine(invert_affine(network.crop_affine(box)), joints[..., :2])
    np.testing.assert_allclose(joints_img[0, 0], [x0, y0], atol=1e-9)
    np.testing.assert_allclose(joints[..., 2], -500, atol=1e-3)


@pytest.mark.parametrize("release, total", [(MKS, 63.0), (JIMMY, 63.75)])
def test_a_release_mirrors_in_its_own_way(release, total):
    """Both crops look alike here: joint j is seen at 20 + j, its partner p in the mirror at 20 + p."""
    joints, _ = one_cell(release).joints(torch.zeros(2, 256, 256, 3, dtype=torch.uint8), True)
    own, partner = np.arange(J), HUMAN36M.flip_order
    expected = ((20 + own) + (total - (20 + partner))) / 2 * 4  # px
    np.testing.assert_allclose(joints[1, :, 0], expected, atol=1e-4)


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_cuts_as_it_was_trained(release):
    """The crop is that of `cut_box`, which the tests of the releases hold to their own code."""
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, (200, 300, 3), np.uint8)
    network, extra = one_cell(release), release.box_extra_px
    affine = network.crop_affine(np.array([[140.0, 90.0, 220.0]]))[0]
    cut = network.cut(image, affine).astype(int)
    expected = cut_box(image, np.array([30.0, -20.0, 220 + extra, 220 + extra])).astype(int)
    assert np.abs(cut - expected).max() <= 8  # float32 in place of float64, on pure noise
    assert np.mean(cut != expected) < 0.05


def test_a_large_picture_is_averaged_not_picked(monkeypatch):
    """Stripes of one pixel are grey from afar; the release's own cut would see black or white."""
    stripes = np.zeros((2048, 2048, 3), np.uint8)
    stripes[:, ::2] = 254
    network = one_cell(MKS)
    affine = network.crop_affine(np.array([[1024.0, 1024.0, 1600.0]]))[0]
    middle = network.cut(stripes, affine)[100:150, 100:150]
    np.testing.assert_allclose(middle, 127, atol=12)


# --- batches, and three lines ---


class Counting(torch.nn.Module):
    """Notes how many crops came in each forward pass, and answers as another network."""

    def __init__(self, model):
        super().__init__()
        self.model, self.sizes = model, []

    def forward(self, crops):
        self.sizes.append(len(crops))
        return self.model(crops)


def test_frames_share_batches_and_inputs_stay_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(poses, "BATCH", 4)
    counting = Counting(DEEP.model)
    network = Network(counting, CFG, "")
    inputs = []
    for number in range(3):
        inputs.append(tmp_path / f"{number}.png")
        Image.fromarray(disc(30 + 20 * number, 40)).save(inputs[-1])
    inputs.append(write_video(tmp_path / "3.avi", [(30 + 6 * i, 50) for i in range(5)]))
    inputs.insert(2, tmp_path / "broken.png")
    inputs[2].write_bytes(b"no picture")
    together = list(predict_inputs(network, inputs, whole=True))
    assert counting.sizes == [1] * 6 + [4, 4, 1, 1]  # two passes each: 3 pictures, then 5 frames
    assert [found.source for found in together] == inputs
    assert "broken.png" in str(together[2].problem) and together[2].poses is None
    for found in together[:2] + together[3:]:
        assert found.poses.source.tolist() == [str(found.source)] * len(found.frames)
    assert together[4].frames == together[4].poses.frame.tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(poses, "BATCH", 1)
    (alone,) = predict_inputs(network, inputs[4:], whole=True)
    np.testing.assert_allclose(together[4].poses.joints_img, alone.poses.joints_img, atol=1e-3)
    np.testing.assert_allclose(together[4].poses.joints_rel, alone.poses.joints_rel, atol=0.1)


def test_a_crowd_is_cut_into_batches():
    counting = Counting(DEEP.model)
    boxes = np.repeat([[60.0, 45.0, 100.0]], 37, axis=0)
    found = predict(Network(counting, CFG, ""), disc(60, 45), box=boxes, passes=1)
    assert counting.sizes == [16, 16, 5] and len(found) == 37


class LeftQuarter(torch.nn.Module):
    """Sees every joint at a quarter of the width, whatever the crop shows."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, crops):
        logits = torch.full((len(crops), J, 8, 16, 16), -1e4)
        logits[:, :, 4, 8, 4] = 0.0
        return logits


def test_the_flip_test_reaches_the_network():
    """Cell 4 of 16 is 17.5 px of 64; in the mirror 63 - 17.5: the mean is the middle, 31.5 px."""
    network = Network(LeftQuarter().eval(), CFG, "")
    box = np.array([[31.5, 31.5, 64.0]])  # a px of the crop is one of the picture
    picture = disc(30, 40, 64, 64)
    one = predict(network, picture, box, passes=1)
    both = predict(network, picture, box, passes=1, flip_test=True)
    np.testing.assert_allclose(one.joints_img[..., 0], 17.5, atol=1e-4)
    np.testing.assert_allclose(both.joints_img[..., 0], 31.5, atol=1e-4)


def test_three_lines_show_a_picture(tmp_path):
    video = write_video(tmp_path / "a.avi", [(30, 40), (36, 42)])
    found = predict(DEEP, video, whole=True)
    view = SkeletonView(found)
    assert view.meta["frames"] == 2 and view.meta["joints"] == J
    shown = np.frombuffer(view.poses, np.float32).reshape(2, J, 3)
    np.testing.assert_allclose(shown, found.joints_rel, atol=1e-2)
    found = poses.join_poses([found, predict(DEEP, disc(60, 45), whole=True)])
    with pytest.raises(InputError, match="poses of 2 inputs: expected those of one"):
        SkeletonView(found)


# --- the command ---


def test_no_detector_stops_the_command(tmp_path, monkeypatch, capsys):
    def no_weights(_):
        raise InputError("no person detector (offline): get URL and put it into FOLDER")

    monkeypatch.setattr("ipr_lib.inference.load_detector", no_weights)
    monkeypatch.setattr(poses, "load_detector", no_weights)
    Image.fromarray(disc(30, 40)).save(tmp_path / "a.png")
    line = ["predict", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main(line) == 2
    said = capsys.readouterr()
    assert said.out.startswith("network: the course's own: ")
    assert (
        said.err
        == "ipr_lib predict: " + "no person detector (offline): get URL and put it into FOLDER\n"
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="no person detector"):
        predict(DEEP, tmp_path / "a.png")
    (found,) = predict_inputs(DEEP, [tmp_path / "a.png"])
    assert "nobody says where people are" in str(found.problem)


def test_the_command_takes_any_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IPR_RESULTS", str(tmp_path / "results"))
    path = save_run(run.run_dir(CFG, tmp_path / "results"), CFG, CFG.epochs)
    torch.save(checkpoint(Net("JimmySuen")), tmp_path / "theirs.pth.tar")
    Image.fromarray(disc(30, 40)).save(tmp_path / "a.png")
    line = ["predict", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--whole"]
    for choice, words in (
        (["--run", path.parent.name], f"network: run {path.parent.name}: small"),
        (["--profile", "smoke"], f"network: run {path.parent.name}: small"),
        (["--weights", str(path)], f"network: {path}: small"),
        (["--published", str(tmp_path / "theirs.pth.tar"), "--flip-test"], "(release JimmySuen"),
    ):
        assert main([*line, *choice]) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert words in first and "; on " in first
    assert main([*line, "--profile", "laptop"]) == 2
    assert "no finished training of profile laptop" in capsys.readouterr().err


# --- the road to photographs, at toy size ---

TOY = {
    "backbone": "resnet18",
    "crop_px": "64",
    "depth_bins": "8",
    "head_width": "8",
    "deconvolutions": "1",
    "batch_size": "8",
    "epochs": "1",
    "precision": "float32",
    "workers": "1",
    "capture_subjects": "1,9",
    "train_subjects": "1",
    "test_subjects": "9",
    "capture_actions": "5",
    "capture_takes": "1",
    "capture_cameras": "1",
    "capture_frames": "75",
}


def test_the_road_to_photographs(tmp_path, monkeypatch, capsys):
    """As notebook 12 tells it: COCO's people, ImageNet's weights, the capture's depth; then a picture."""
    data, hub = tmp_path / "data", tmp_path / "hub"
    monkeypatch.setenv("IPR_DATA", str(data))
    monkeypatch.setenv("IPR_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    (hub / "checkpoints").mkdir(parents=True)
    imagenet = torchvision.models.resnet18().state_dict()
    torch.save(imagenet, hub / "checkpoints" / weights.url.rpartition("/")[2])

    write_coco(tmp_path / "coco")
    prepare = ["prepare", "coco", "--source", str(tmp_path / "coco"), "--splits", "train"]
    assert main([*prepare, "--store", "64", "--workers", "1"]) == 0
    assert "--set mix=coco" in capsys.readouterr().out

    toy = [f"{name}={value}" for name, value in TOY.items()]
    chain = ["--profile", "gpu", "--set", "mix=coco", "pretrained=true", *toy]
    assert main(["train", *chain]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert read_json(folder / "origin.json")[1:] != [], "COCO's people were in the training"
    assert main(["test", "--run", folder.name]) == 0
    capsys.readouterr()

    # Its poses are too small for a page after one step; without pages, the rest is as ever.
    monkeypatch.setitem(sys.modules, "ipr_lib.views.skeleton_view", None)
    Image.fromarray(disc(30, 40)).save(tmp_path / "photo.png")
    line = ["predict", str(tmp_path / "photo.png"), "--whole", "--out", str(tmp_path / "out")]
    assert main([*line, "--run", folder.name]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert f"network: run {folder.name}: resnet18, 64 px" in first
    assert "trained on the built-in capture (S1) + coco; scored on 2 test images of S9: " in first
    assert networks.NOT_FOR_PHOTOGRAPHS not in first
    assert main([*line, *chain]) == 0
