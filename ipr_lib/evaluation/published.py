"""The two published releases of this method: reading their checkpoints, and scoring them by their rules.

`python -m ipr_lib test --published FILE` does it. The releases are `mks0601` (2018, PyTorch, one
file an epoch) and `JimmySuen` (2018, the authors' own). Both lay cell i of a map over crop pixel
i * stride, and depth cell k at (2 k / D - 1) times half the depth range. This corner grid lives here
alone; the grid of this library is in `integral.grid`.
"""

import dataclasses
import functools
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ..data.datasets import MEAN, STD, batches
from ..data.h36m_layout import folders_in_use, frames_in_use, read_camera_view
from ..data.images import read_image
from ..files import InputError, commit, device_name
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS, add_thorax
from ..geometry.transforms import BOX_MM, apply_affine, compose_affine, invert_affine, warp
from ..integral import soft_argmax
from ..network import PoseNet, build_backbone
from ..training import distributed
from .metrics import align, joint_errors, root_relative, score_items, summary
from .prediction import predict_batches

CROP_PX, STRIDE, DEPTH_MM = 256, 4, 2000.0
MAP_PX = CROP_PX // STRIDE  # cells along each side of a map
# Crop px p is mirrored to CROP_PX - 1 - p, and cell i lies over STRIDE * i: in cells, this is the sum.
EXACT_MIRROR = (CROP_PX - 1) / STRIDE
RELEASED_PASS = "flip test as released"  # of tables.PASSES: the one that a release prints


@dataclass(frozen=True)
class Release:
    """What a release does in its own way; `RELEASES` holds both.

    Attributes:
        name: of the release.
        head: what its head's deconvolutions and its last convolution are called in the state dict.
        pixel_unit: pixels 0 … 255 are divided by this before the mean and the standard deviation of ImageNet.
        box_extra_px: its box is so much larger than the projected 2 m plane, to the right and downwards.
        mirror_total: a joint at cell x of the mirrored crop is put to cell mirror_total - x; exact is `EXACT_MIRROR`.
        roots_after_alignment: put the roots together once more after the rigid alignment.
    """

    name: str
    head: tuple[str, str]
    pixel_unit: float
    box_extra_px: float
    mirror_total: float
    roots_after_alignment: bool


RELEASES = (
    Release("mks0601", ("head.deconv_layers.", "head.final_layer."), 1.0, 1.0, 63.0, False),
    Release("JimmySuen", ("head.features.", "head.features.9."), 255.0, 0.0, EXACT_MIRROR, True),
)


@dataclass(frozen=True)
class Published:
    """A published network with its conventions; `read_published` makes it."""

    model: PoseNet
    release: Release
    backbone: str
    epoch: int | None


def read_published(path: str | Path) -> Published:
    """Read a checkpoint of either release; nothing in it is executed.

    Args:
        path: the file, a pickle of {"epoch", "network", …} in torch's old or new format, or of the
            state dict alone; with or without the prefix `module.` and `num_batches_tracked`.
    Returns:
        Published, in eval mode, on the CPU.
    Raises:
        InputError: missing, damaged, holding code, or of an architecture that neither release has.
    """
    path = Path(path)
    content = _read_tensors(path)
    network = content.get("network", content)
    if not isinstance(network, dict) or not _holds_tensors(network):
        raise InputError(
            f"{path} has no state dict under 'network'; expected a release of mks0601 or JimmySuen"
        )
    network = {name.removeprefix("module."): value for name, value in network.items()}
    release = _release_of(network, path)
    state = _our_names(network, release)
    try:
        backbone = _backbone_name(state)
        channels, width = state["final.weight"].shape[:2]
        if channels % len(HUMAN36M):
            raise InputError(f"{path}: {channels} maps are no multiple of {len(HUMAN36M)} joints")
        model = PoseNet(build_backbone(backbone), len(HUMAN36M), channels // len(HUMAN36M), width)
        for name, value in model.state_dict().items():
            if name.endswith("num_batches_tracked"):  # torch before 0.4.1 had no such counter
                state.setdefault(name, value)
        model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} is not of the release's architecture: {reason}") from error
    epoch = content.get("epoch") if "network" in content else None
    return Published(model.eval(), release, backbone, epoch)


def _read_tensors(path):
    """Content of a checkpoint, a dict; InputError where it cannot be read."""
    if not path.is_file():
        raise InputError(f"{path} is missing; download the release's checkpoint and name it here")
    advice = "get the release's file again"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} holds more than tensors; {advice}") from error
    except Exception as error:  # torch raises many kinds for damaged files
        reason = type(error).__name__
        raise InputError(f"{path} is not a complete checkpoint ({reason}); {advice}") from error
    return content if isinstance(content, dict) else {"network": content}


def _holds_tensors(network):
    return all(isinstance(value, torch.Tensor) for value in network.values())


def _release_of(network, path):
    """The release that has a head of this name."""
    for release in RELEASES:
        if any(name.startswith(release.head[0]) for name in network):
            return release
    heads = " or ".join(release.head[0].rstrip(".") for release in RELEASES)
    raise InputError(f"{path}: no head called {heads}; expected a release of mks0601 or JimmySuen")


def _our_names(network, release):
    """State dict of a release -> names of PoseNet: backbone, deconvolutions, final."""
    layers, final = release.head
    names = {}
    for name, value in network.items():
        # The last layer comes first: in one release, its name begins like the deconvolutions'.
        if name.startswith(final):
            name = name.replace(final, "final.", 1)
        elif name.startswith(layers):
            name = name.replace(layers, "deconvolutions.", 1)
        names[name] = value
    return names


RESNETS = {  # bottleneck blocks, and blocks in each of the four stages
    (False, 2, 2, 2, 2): "resnet18",
    (False, 3, 4, 6, 3): "resnet34",
    (True, 3, 4, 6, 3): "resnet50",
    (True, 3, 4, 23, 3): "resnet101",
    (True, 3, 8, 36, 3): "resnet152",
}


def _backbone_name(state):
    """Name of the torchvision ResNet that the keys of a state dict are of."""
    blocks = [set(), set(), set(), set()]
    for name in state:
        match = re.match(r"backbone\.layer([1-4])\.(\d+)\.", name)
        if match:
            stage, block = match.groups()
            blocks[int(stage) - 1].add(block)
    counts = [len(stage) for stage in blocks]
    architecture = ("backbone.layer1.0.conv3.weight" in state, *counts)
    if architecture not in RESNETS:
        raise KeyError(f"no ResNet has {counts} blocks a stage")
    return RESNETS[architecture]


def scale_input(crops: torch.Tensor, release: Release) -> torch.Tensor:
    """Crops as the release's network was trained to see them.

    Args:
        crops: (B, S, S, 3) uint8 RGB.
        release: Release.
    Returns:
        (B, 3, S, S) float32.
    """
    pixels = crops.permute(0, 3, 1, 2).float() / release.pixel_unit
    mean = pixels.new_tensor(MEAN)[:, None, None]
    std = pixels.new_tensor(STD)[:, None, None]
    return (pixels - mean) / std


def plane_box(root_cam: np.ndarray, camera: Camera, extra_px: float = 0.0) -> np.ndarray:
    """Projection of the 2 m x 2 m plane at the root that faces the camera, by a pinhole, in the releases' form.

    Args:
        root_cam: (N, 3) camera, mm.
        camera: Camera; a lens is left out, as the releases do.
        extra_px: added to width and height.
    Returns:
        (N, 4) left, top, width, height; px. Width and height differ where f_x and f_y do.
    """
    camera = dataclasses.replace(camera, k=None, p=None)
    half = np.array([BOX_MM / 2, BOX_MM / 2, 0])
    low, high = camera.camera_to_image(root_cam - half), camera.camera_to_image(root_cam + half)
    return np.concatenate([low, high - low + extra_px], axis=-1)


def box_affine(box: np.ndarray) -> np.ndarray:
    """Affine map of a release's box onto its crop: left and top edges to 0, so the middle to (128, 128).

    Args:
        box: (N, 4) as `plane_box` gives.
    Returns:
        (N, 2, 3) picture px -> crop px.
    """
    zoom = CROP_PX / box[:, 2:]
    affine = np.zeros((len(box), 2, 3))
    affine[:, 0, 0], affine[:, 1, 1] = zoom.T
    affine[:, :, 2] = -zoom * box[:, :2]
    return affine


def cells_to_crop(cells: np.ndarray, volume_shape: tuple[int, int, int]) -> np.ndarray:
    """The corner grid of the releases: cells -> crop px and mm.

    Args:
        cells: (..., 3), order x, y, z, 0 is the first cell.
        volume_shape: (D, H, W).
    Returns:
        (..., 3): x, y in crop px; z in mm behind the root.
    """
    D, H, W = volume_shape
    cells = np.asarray(cells, np.float64)
    return np.stack(
        [
            cells[..., 0] / W * CROP_PX,
            cells[..., 1] / H * CROP_PX,
            (cells[..., 2] / D * 2 - 1) * DEPTH_MM / 2,
        ],
        axis=-1,
    )


def mirror_cells(cells: np.ndarray, total: float) -> np.ndarray:
    """Joints of a mirrored crop back to the crop: x -> total - x, and each joint takes its partner's place.

    Args:
        cells: (..., J, 3).
        total: the release's `mirror_total`, or `EXACT_MIRROR`.
    Returns:
        (..., J, 3).
    """
    mirrored = np.array(cells)[..., HUMAN36M.flip_order, :]
    mirrored[..., 0] = total - mirrored[..., 0]
    return mirrored


@torch.no_grad()
def predict_cells(published: Published, crops: torch.Tensor) -> np.ndarray:
    """Joints of crops in cells of 64 a side; see `prediction.predict_batches`.

    Args:
        published: Published.
        crops: (B, S, S, 3) uint8 RGB tensor.
    Returns:
        (B, J, 3) float64 array, cells.
    """
    pixels = scale_input(crops.to(next(published.model.parameters()).device), published.release)
    return soft_argmax(published.model(pixels)).cpu().numpy().astype(np.float64)


def predict_set(
    published: Published, root: Path, subjects: tuple[int, ...], step: int, batch_size: int = 32
) -> dict:
    """Predict a prepared set as the release does: crops come from the images, not from a store.

    Args:
        published: Published.
        root: folder of the prepared set.
        subjects: subject numbers.
        step: every how many frames one is used.
        batch_size: crops at a time.
    Returns:
        dict: pred_cam {each of tables.PASSES: (N, J, 3)}, target_cam (N, J, 3), mm; subject, action,
        subaction, camera_id, frame, items (N,).
    Raises:
        InputError: anything unreadable in `root`; the message names the file.
    """
    release = published.release
    dataset = PictureBatches(root, subjects, step, release.box_extra_px, batch_size)
    rows = predict_batches(lambda crops: predict_cells(published, crops), dataset.loader())
    seen, mirrored = rows.pop("joints_crop"), rows.pop("joints_mirrored")
    cells = {
        "one look": seen,
        RELEASED_PASS: (seen + mirror_cells(mirrored, release.mirror_total)) / 2,
        "flip test, exact": (seen + mirror_cells(mirrored, EXACT_MIRROR)) / 2,
    }
    to_image = invert_affine(rows.pop("affine"))
    focal, centre = rows.pop("f")[:, None], rows.pop("c")[:, None]
    # One camera for each image, without a lens.
    cameras = Camera(np.eye(3), np.zeros(3), focal, centre, 0, 0)
    root_depth = rows["target_cam"][:, HUMAN36M.root, None, 2]
    rows["pred_cam"] = {}
    for name, found in cells.items():
        joints = cells_to_crop(found, (published.model.depth_bins, MAP_PX, MAP_PX))
        joints_img = apply_affine(to_image, joints[..., :2])
        rows["pred_cam"][name] = cameras.image_to_camera(joints_img, joints[..., 2] + root_depth)
    return rows


class PictureBatches(Dataset):
    """Batches of crops out of the pictures of a prepared set, in order, cut as a release cuts them.

    Indexed with a number it returns one batch, a dict of arrays: crops (B, S, S, 3) uint8 RGB tensor; affine (B, 2, 3)
    picture px -> crop px; f, c (B, 2) of the cameras, px; target_cam (B, J, 3) mm; items, subject, action, subaction,
    camera_id and frame (B,).
    """

    def __init__(self, root, subjects, step, box_extra_px, batch_size):
        self.box_extra_px = box_extra_px
        self.chunks = []  # (folder, frames) of each batch
        self.start = [0]  # number of each batch's first item
        # The batches of a folder follow each other, so its labels are read once.
        self.read = functools.lru_cache(maxsize=1)(read_camera_view)
        for folder in folders_in_use(root, subjects):
            frames = frames_in_use(self.read(folder), step)
            for first in range(0, len(frames), batch_size):
                chunk = frames[first : first + batch_size]
                self.chunks.append((folder, chunk))
                self.start.append(self.start[-1] + len(chunk))

    def __len__(self):
        return len(self.chunks)

    def loader(self):
        """DataLoader of this process' batches."""
        return batches(self, distributed.share_of(range(len(self))))

    def __getitem__(self, number):
        folder, frames = self.chunks[number]
        sequence = self.read(folder)
        camera = dataclasses.replace(sequence.camera, k=None, p=None)
        target = add_thorax(camera.world_to_camera(sequence.joints_world[frames]))
        affine = box_affine(plane_box(target[:, HUMAN36M.root], camera, self.box_extra_px))
        crops = [_crop(sequence, frame, a) for frame, a in zip(frames, affine)]
        numbers = {}
        for name in ("subject", "action", "subaction", "camera_id"):
            numbers[name] = np.full(len(frames), getattr(sequence, name))
        return numbers | {
            "crops": torch.from_numpy(np.stack(crops)),
            "affine": affine,
            "f": np.tile(camera.f, (len(frames), 1)),
            "c": np.tile(camera.c, (len(frames), 1)),
            "target_cam": target,
            "frame": frames,
            "items": np.arange(self.start[number], self.start[number + 1]),
        }


def _crop(sequence, frame, affine):
    """One crop, bilinear and without averaging, as the releases cut theirs: (S, S, 3) uint8 RGB."""
    picture, to_picture = read_image(
        sequence.image_path(frame), sequence.camera.width, sequence.camera.height
    )
    crop = warp(picture, compose_affine(affine, to_picture), CROP_PX)  # BGR
    return np.ascontiguousarray(crop[..., ::-1])


def release_errors(
    pred_cam: np.ndarray, target_cam: np.ndarray, release: Release
) -> dict[str, np.ndarray]:
    """Errors by the release's own rules: roots together; rigid alignment over all 18 joints; 17 scored, the pelvis too.

    Args:
        pred_cam, target_cam: (N, 18, 3) camera, mm.
        release: Release.
    Returns:
        dict: mpjpe, pa_mpjpe (N, 17), mm.
    """
    pred, target = root_relative(pred_cam), root_relative(target_cam)
    aligned = align(pred, target)
    if release.roots_after_alignment:
        aligned = root_relative(aligned)
    return {
        "mpjpe": joint_errors(pred, target)[:, :SCORED_JOINTS],
        "pa_mpjpe": joint_errors(aligned, target)[:, :SCORED_JOINTS],
    }


def score_published(
    path: str | Path, root: Path, subjects: tuple[int, ...], step: int, device: torch.device
) -> tuple[dict, dict]:
    """Predict and score a prepared set with a published network, by its authors' rules and by ours.

    Args:
        path: its checkpoint, see `read_published`.
        root: folder of the prepared set.
        subjects: subject numbers.
        step: every how many frames one is used.
        device: to predict on.
    Returns:
        content of a `metrics.json`: what was scored; released {pass: {mpjpe, pa_mpjpe: see
        `metrics.summary`}} by the release's rules, ours {pass: see `metrics.score_items`};
        and the predictions, arrays by name.
    Raises:
        InputError: the checkpoint or the set cannot be read.
    """
    path = Path(path)
    published = read_published(path)
    published.model.to(device)
    rows = predict_set(published, root, subjects, step)
    predictions = rows.pop("pred_cam")
    columns = rows | {"joints_cam": rows["target_cam"]}
    content = {
        "checkpoint": path.name,
        "release": published.release.name,
        "network": f"{published.backbone}, {CROP_PX} px, {published.model.depth_bins} depth cells",
        "epoch": published.epoch,
        "data": root.name,
        "subjects": sorted(np.unique(rows["subject"]).tolist()),
        "test_step": step,
        "oracle": ["2 m box at the true root", "root depth", "intrinsics without lens"],
        "commit": commit(),
        "device": device_name(device),
        "released": {},
        "ours": {},
    }
    for name, pred_cam in predictions.items():
        errors = release_errors(pred_cam, rows["target_cam"], published.release)
        content["released"][name] = {
            metric: summary(values, rows["action"]) for metric, values in errors.items()
        }
        content["ours"][name] = score_items(pred_cam, columns)
        rows[f"pred_cam, {name}"] = pred_cam
    return content, rows
