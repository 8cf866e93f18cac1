"""Published checkpoints. Every convention is tested against a formula written out here on its own."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
import torchvision
from scipy.spatial.transform import Rotation
from torch import nn

from ipr_lib.data import h36m_layout as layout
from ipr_lib.evaluation import published
from ipr_lib.evaluation.report import PASSES
from ipr_lib.files import InputError
from ipr_lib.geometry.camera import Camera

from .conftest import write_sequence

RNG = np.random.default_rng(0)
MKS, JIMMY = published.RELEASES
F, C = np.array([1145.0, 1143.0]), np.array([512.5, 515.25])
CAMERA = Camera(np.eye(3), np.zeros(3), F, C, 1000, 1002)


class Backbone(nn.Module):
    """torchvision's ResNet without pool and classifier, under the releases' key names."""

    def __init__(self, name):
        super().__init__()
        resnet = torchvision.models.get_model(name, weights=None)
        self.width = resnet.fc.in_features
        for child in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(child, getattr(resnet, child))

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Net(nn.Module):
    """A release's network: `style` decides what its head is called."""

    def __init__(self, style, backbone="resnet18", width=8, depth=4):
        super().__init__()
        self.backbone = Backbone(backbone)
        layers, channels = [], self.backbone.width
        for _ in range(3):
            layers += [
                nn.ConvTranspose2d(channels, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        last = nn.Conv2d(width, 18 * depth, 1)
        self.head = nn.Module()
        if style == "mks0601":
            self.head.deconv_layers, self.head.final_layer = nn.Sequential(*layers), last
        else:
            self.head.features = nn.ModuleList([*layers, last])
        self.chain = [*layers, last]

    def forward(self, x):
        x = self.backbone(x)
        for layer in self.chain:
            x = layer(x)
        return x


def checkpoint(net, counters=True, prefix="module."):
    """What the releases save: a state dict with DataParallel's prefix beside optimizer and scheduler."""
    state = {
        f"{prefix}{name}": value
        for name, value in net.state_dict().items()
        if counters or not name.endswith("num_batches_tracked")
    }
    return {
        "epoch": 16,
        "network": state,
        "optimizer": {
            "state": {0: {"step": 5, "exp_avg": torch.ones(3)}},
            "param_groups": [{"lr": 1e-3, "params": [0]}],
        },
        "scheduler": {"milestones": [15, 17], "gamma": 0.1, "base_lrs": [1e-3], "last_epoch": 16},
    }


@pytest.fixture(scope="module", params=["mks0601", "JimmySuen"])
def net(request):
    torch.manual_seed(0)
    net = Net(request.param)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    net.style = request.param
    return net.eval()


# --- reading ---


@pytest.mark.parametrize(
    "counters, prefix, zipped",
    [(True, "module.", True), (False, "module.", False), (True, "", True)],
)
def test_network_answers_as_its_own(net, tmp_path, counters, prefix, zipped):
    torch.save(
        checkpoint(net, counters, prefix),
        tmp_path / "snapshot_16.pth.tar",
        _use_new_zipfile_serialization=zipped,
    )
    read = published.read_published(tmp_path / "snapshot_16.pth.tar")
    assert (read.release.name, read.backbone, read.epoch) == (
        net.style,
        "resnet18",
        16,
    ) and not read.model.training
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps, volume = net(pixels), read.model(pixels)
    assert volume.shape == (2, 18, 4, 16, 24)
    for joint, k in ((0, 0), (5, 3), (17, 2)):  # map joint * depth + k
        torch.testing.assert_close(
            volume[:, joint, k], maps[:, joint * 4 + k], rtol=1e-4, atol=1e-6
        )


def test_a_state_dict_alone_will_do(net, tmp_path):
    torch.save(checkpoint(net)["network"], tmp_path / "weights.pth")
    assert published.read_published(tmp_path / "weights.pth").epoch is None


@pytest.mark.parametrize("style", ["mks0601", "JimmySuen"])
def test_the_released_architecture(tmp_path, style):
    """ResNet-50, 64 depth cells: 338 keys, 34,291,392 parameters. The file is tiny: each tensor is one number, repeated."""
    with torch.device("meta"):
        full = Net(style, "resnet50", 256, 64)
    content = checkpoint(full)
    assert len(content["network"]) == 338
    assert sum(parameter.numel() for parameter in full.parameters()) == 34_291_392
    assert content["network"][
        f"module.head.{'final_layer' if style == 'mks0601' else 'features.9'}.bias"
    ].shape == (1152,)
    content["network"] = {
        name: torch.ones((), dtype=value.dtype).expand(value.shape)
        for name, value in content["network"].items()
    }
    torch.save(content, tmp_path / "a.pth.tar")
    assert (tmp_path / "a.pth.tar").stat().st_size < 1e6
    read = published.read_published(tmp_path / "a.pth.tar")
    assert read.backbone == "resnet50" and read.release.name == style
    assert sum(parameter.numel() for parameter in read.model.parameters()) == 34_291_392
    assert (read.model.joints, read.model.depth_bins) == (18, 64)


class Evil:
    def __reduce__(self):
        return eval, ("1 + 1",)


def test_bad_files_are_named(net, tmp_path):
    path, good = tmp_path / "a.pth.tar", checkpoint(net)
    with pytest.raises(InputError, match="a.pth.tar is missing"):
        published.read_published(path)
    path.write_bytes(b"\x80\x02 not a pickle")
    with pytest.raises(InputError, match=r"a\.pth\.tar .*get the release's file again"):
        published.read_published(path)
    torch.save(good | {"extra": Evil()}, path)
    with pytest.raises(InputError, match="not a complete checkpoint of tensors alone"):
        published.read_published(path)
    torch.save({"network": {"backbone.conv1.weight": torch.zeros(3)}}, path)
    with pytest.raises(
        InputError,
        match="a.pth.tar: expected a release of mks0601 or JimmySuen, but no layer is called head.final_layer. or head.features.9.",
    ):
        published.read_published(path)
    torch.save({"epoch": 1, "network": [1, 2]}, path)
    with pytest.raises(InputError, match="no state dict"):
        published.read_published(path)
    lacking = {
        name: value for name, value in good["network"].items() if "layer3.0.bn1.weight" not in name
    }
    torch.save(good | {"network": lacking}, path)
    with pytest.raises(InputError, match=r"expected a release of .*, but .*layer3\.0\.bn1\.weight"):
        published.read_published(path)
    other = {
        name.replace("layer4.1.", "layer4.7."): value for name, value in good["network"].items()
    }
    other |= {"module.backbone.layer4.5.conv1.weight": torch.zeros(2)}
    torch.save(good | {"network": other}, path)
    with pytest.raises(InputError, match="no ResNet has 9 such blocks"):
        published.read_published(path)


def test_weights_that_are_not_finite_are_refused(net, tmp_path):
    content = checkpoint(net)
    name = next(iter(content["network"]))
    weights = content["network"][name].clone()
    weights.view(-1)[0] = float("inf")
    content["network"] = content["network"] | {name: weights}
    torch.save(content, tmp_path / "a.pth.tar")
    with pytest.raises(InputError, match="a.pth.tar: its weights .* hold NaN or infinity"):
        published.read_published(tmp_path / "a.pth.tar")


# --- conventions ---


@pytest.mark.parametrize("release, extra", [(MKS, 1), (JIMMY, 0)])
def test_box_by_hand(release, extra):
    pelvis = RNG.uniform([-800, -400, 3000], [800, 400, 6000], (5, 3))
    for (x, y, z), box in zip(pelvis, published.plane_box(pelvis, CAMERA, release.box_extra_px)):
        left, right = F[0] * (x - 1000) / z + C[0], F[0] * (x + 1000) / z + C[0]
        top, bottom = F[1] * (y - 1000) / z + C[1], F[1] * (y + 1000) / z + C[1]
        expected = [left, top, right - left + extra, bottom - top + extra]
        np.testing.assert_allclose(box, expected, rtol=1e-12)


def test_crops_are_those_of_three_float32_points_bit_for_bit():
    """As the releases cut them; in float64, some of the pixels differ by one grey level."""
    image = RNG.integers(0, 256, (302, 300, 3), dtype=np.uint8)
    different = 0
    for _ in range(20):
        left, top, width, height = RNG.uniform([-40, -40, 150, 150], [60, 60, 300, 300])
        centre = np.array([left + 0.5 * width, top + 0.5 * height])
        down = np.array([0, height * 0.5], np.float32)
        right = np.array([width * 0.5, 0], np.float32)
        source = np.zeros((3, 2), np.float32)
        source[0], source[1], source[2] = centre, centre + down, centre + right
        target = np.float32([[128, 128], [128, 256], [256, 128]])
        affine = cv2.getAffineTransform(source, target)
        expected = cv2.warpAffine(image, affine, (256, 256), flags=cv2.INTER_LINEAR)
        crop = published.cut_box(image, np.array([left, top, width, height]))
        np.testing.assert_array_equal(crop, expected)
        exact = np.array(
            [[256 / width, 0, -256 * left / width], [0, 256 / height, -256 * top / height]]
        )
        in_float64 = cv2.warpAffine(image, exact, (256, 256), flags=cv2.INTER_LINEAR)
        different += (in_float64 != expected).sum()
    assert different > 0, "expected these boxes to tell the two ways apart"


def test_grid_by_hand():
    """Cells of 64 and 96 in depth; a box of 128 x 256 px at (100, 50), under a camera of f = 1000 px and c = (0, 0)."""
    cells = np.array([[[0, 0, 0], [32, 32, 32], [16, 63, 48]]], float)
    box, depth = np.array([[100.0, 50, 128, 256]]), np.array([4000.0])
    camera = Camera(np.eye(3), np.zeros(3), np.array([1000.0, 1000]), np.zeros(2), 0, 0)
    # px (100, 50), (164, 178), (132, 302); mm behind the root: -1000, 0, 500
    expected = [[[300, 150, 3000], [656, 712, 4000], [594, 1359, 4500]]]
    found = published.cells_to_camera(cells, box, 64, camera, depth)
    np.testing.assert_allclose(found, expected)
    found = published.cells_to_camera(cells, box, 96, camera, depth)
    np.testing.assert_allclose(found[0, :, 2], [3000, 4000 - 1000 / 3, 4000])


@pytest.mark.parametrize("release", published.RELEASES)
def test_alignment_over_18_score_over_17(release):
    target = RNG.normal(0, 300, (3, 18, 3)) + [0, 0, 4000]
    pred = target @ Rotation.from_euler("xyz", [5, -8, 3], degrees=True).as_matrix() + RNG.normal(
        0, 40, target.shape
    )
    errors = published.release_errors(pred, target, release)
    for n in range(3):
        p, t = pred[n] - pred[n, 0], target[n] - target[n, 0]
        plain = [np.sqrt(((p[j] - t[j]) ** 2).sum()) for j in range(17)]
        aligned = Rotation.align_vectors(t - t.mean(0), p - p.mean(0))[0].apply(
            p - p.mean(0)
        ) + t.mean(0)
        if release.name == "JimmySuen":
            aligned = aligned - aligned[0]
        rigid = [np.sqrt(((aligned[j] - t[j]) ** 2).sum()) for j in range(17)]
        np.testing.assert_allclose(errors["mpjpe"][n], plain, rtol=1e-9)
        np.testing.assert_allclose(errors["pa_mpjpe"][n], rigid, rtol=1e-5)


# --- the whole way, from pictures to mm ---


class OneCell(nn.Module):
    """Whatever it sees, joint j lies in cell (2 j + 1, 3 j, 10 + j) of 64³: logits of 0 and 1000. Keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.weight, self.depth_bins = nn.Parameter(torch.zeros(1)), 64
        self.seen = []

    def forward(self, pixels):
        self.seen.append(pixels)
        volume = torch.zeros(len(pixels), 18, 64, 64, 64)
        j = torch.arange(18)
        volume[:, j, 10 + j, 3 * j, 2 * j + 1] = 1000.0
        return volume


@pytest.mark.parametrize("release, extra", [(MKS, 1), (JIMMY, 0)])
def test_from_pictures_to_camera(tmp_path, release, extra):
    folders = [
        write_sequence(
            tmp_path / "set", subject=9, action=action, n=n, step=3, width=300, height=302
        )
        for action, n in ((2, 7), (3, 4))
    ]
    model = OneCell()
    rows = published.predict_set(
        published.Published(model, release, "", None), tmp_path / "set", (9,), 3, batch_size=3
    )
    assert rows["frame"].tolist() == [0, 3, 6, 0, 3] and rows["action"].tolist() == [2, 2, 2, 3, 3]
    cells = [[2 * j + 1, 3 * j, 10 + j] for j in range(18)]
    partner = list(range(18))
    for right, left in ((1, 4), (2, 5), (3, 6), (14, 11), (15, 12), (16, 13)):
        partner[right], partner[left] = left, right
    row, seen = 0, torch.cat([pixels for i, pixels in enumerate(model.seen) if i % 2 == 0])
    mirrored = torch.cat([pixels for i, pixels in enumerate(model.seen) if i % 2 == 1])
    torch.testing.assert_close(seen.flip(3), mirrored)
    for folder, frames in zip(folders, ((0, 3, 6), (0, 3))):
        sequence = layout.read_camera_view(folder)
        f, c = sequence.camera.f, sequence.camera.c
        for frame in frames:
            world = sequence.joints_world[frame]
            cam = np.array([sequence.camera.R @ (joint - sequence.camera.T) for joint in world])
            cam = np.vstack([cam, (cam[11] + cam[14]) / 2])
            np.testing.assert_allclose(rows["target_cam"][row], cam, atol=1e-6)
            x, y, z = cam[0]
            left, top = f[0] * (x - 1000) / z + c[0], f[1] * (y - 1000) / z + c[1]
            width, height = f[0] * 2000 / z + extra, f[1] * 2000 / z + extra
            for look in PASSES:
                total = {
                    "one look": None,
                    "flip test as released": 63 if extra else 63.75,
                    "flip test, exact": 63.75,
                }[look]
                for j in range(18):
                    i = np.array(cells[j], float)
                    if total is not None:
                        other = cells[partner[j]]
                        i = (i + [total - other[0], other[1], other[2]]) / 2
                    u, v = left + i[0] / 64 * width, top + i[1] / 64 * height
                    depth = z + (i[2] / 64 * 2 - 1) * 1000
                    expected = [(u - c[0]) / f[0] * depth, (v - c[1]) / f[1] * depth, depth]
                    np.testing.assert_allclose(rows["pred_cam"][look][row, j], expected, rtol=1e-6)
            # The crop is the picture itself, warped once, bilinear.
            picture = cv2.imread(str(sequence.image_path(frame)))
            centre_x, centre_y = left + width / 2, top + height / 2
            to_crop = cv2.getAffineTransform(
                np.float32(
                    [
                        [centre_x, centre_y],
                        [centre_x, centre_y + height / 2],
                        [centre_x + width / 2, centre_y],
                    ]
                ),
                np.float32([[128, 128], [128, 256], [256, 128]]),
            )
            crop = cv2.warpAffine(picture, to_crop, (256, 256), flags=cv2.INTER_LINEAR)
            mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
            pixels = seen[row].permute(1, 2, 0).numpy() * std + mean
            difference = np.abs(pixels * (1 if extra else 255) - crop[..., ::-1])
            assert (difference > 0.01).mean() < 1e-3 and difference.max() < 1.1
            row += 1
    assert row == 5


def test_a_lens_is_left_out(tmp_path, monkeypatch):
    write_sequence(tmp_path / "set", subject=9, action=2, n=4, step=3)

    def bent_view(folder):
        view = layout.read_camera_view(folder)
        lens = {"k": np.array([-0.2, 0.2, 0.0]), "p": np.array([1e-3, 1e-3])}
        return dataclasses.replace(view, camera=dataclasses.replace(view.camera, **lens))

    network = published.Published(OneCell(), MKS, "", None)
    straight = published.predict_set(network, tmp_path / "set", (9,), 3)
    monkeypatch.setattr(published, "read_camera_view", bent_view)
    bent = published.predict_set(network, tmp_path / "set", (9,), 3)
    np.testing.assert_array_equal(bent["pred_cam"]["one look"], straight["pred_cam"]["one look"])


def test_the_damaged_video_is_left_out(tmp_path):
    write_sequence(
        tmp_path / "set", *layout.parse_folder_name(layout.SKIPPED_FOLDERS[0]), n=4, step=3
    )
    write_sequence(tmp_path / "set", subject=11, action=2, subaction=2, camera_id=2, n=4, step=3)
    model = OneCell()
    rows = published.predict_set(
        published.Published(model, MKS, "", None), tmp_path / "set", (11,), 3, batch_size=1
    )
    assert (
        rows["camera_id"].tolist() == [2, 2] and [len(pixels) for pixels in model.seen] == [1] * 4
    )
    (tmp_path / "set" / "capture.json").write_text(
        "{}", encoding="utf-8"
    )  # nothing is damaged in a capture
    rows = published.predict_set(
        published.Published(OneCell(), MKS, "", None), tmp_path / "set", (11,), 3
    )
    assert rows["camera_id"].tolist() == [1, 1, 2, 2]
