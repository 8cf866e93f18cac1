"""The two published releases of this method: their checkpoints are read and scored by their rules.

`python -m ipr_lib test --published FILE` does it. The releases are `mks0601` (2018, PyTorch, one
file an epoch) and `JimmySuen` (2018, the authors' own). Both lay cell i of a map over crop pixel
i * stride, and depth cell k at (2 k / D - 1) times half the depth range. This corner grid lives
here alone; the grid of this library is in `integral.grid`.
"""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from ..data.datasets import MEAN, STD
from ..data.h36m_layout import folders_in_use, frames_in_use, read_camera_view
from ..data.images import read_image
from ..files import InputError, commit, device_name
from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS, add_thorax
from ..geometry.transforms import BOX_MM, flip_joints, warp
from ..integral import soft_argmax
from ..integral.grid import constants
from ..network import PoseNet, build_backbone
from ..training import distributed
from ..training.records import check_finite, read_checkpoint
from .metrics import align, joint_errors, root_relative, score_items, summary
from .prediction import predict_batches

CROP_PX, STRIDE, DEPTH_MM = 256, 4, 2000.0
MAP_PX = CROP_PX // STRIDE  # cells along each side of a map
# Crop px p is mirrored to CROP_PX - 1 - p, and cell i lies over STRIDE * i: the sum, in cells.
EXACT_MIRROR = (CROP_PX - 1) / STRIDE
RELEASED_PASS = "flip test as released"  # of report.PASSES: the one that a release prints


@dataclass(frozen=True)
class Release:
    """What a release does in its own way; `RELEASES` holds both.

    Attributes:
        name: of the release.
        head: what its head's deconvolutions and its last convolution are called in the state dict.
        pixel_unit: pixels 0 … 255 are divided by this before the mean and the standard deviation of
            ImageNet.
        box_extra_px: its box is so much larger than the projected 2 m plane, to the right and
            downwards.
        mirror_total: a joint at cell x of the mirrored crop is put to cell mirror_total - x; exact
            is `EXACT_MIRROR`.
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

    @property
    def network(self) -> str:
        """The network in words."""
        return f"{self.backbone}, {CROP_PX} px, {self.model.depth_bins} depth cells"


def read_published(path: str | Path) -> Published:
    """Read a checkpoint of either release; nothing in it is executed.

    Args:
        path: the file, a pickle of {"epoch", "network", …} in torch's old or new format, or of the
            state dict alone; with or without the prefix `module.` and `num_batches_tracked`.
    Returns:
        Published, in eval mode, on the CPU.
    Raises:
        InputError: missing, damaged, holding code, of an architecture that neither release has, or
            with weights that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing; download the release's checkpoint and name it here")
    content = read_checkpoint(
        path, (), "a complete checkpoint of tensors alone", "get the release's file again"
    )
    try:
        release, state = _our_names(content.get("network", content))
        backbone = _backbone_name(state)
        channels, width = state["final.weight"].shape[:2]
        depth_bins = channels // len(HUMAN36M)
        model = PoseNet(build_backbone(backbone), len(HUMAN36M), depth_bins, width)
        for name, value in model.state_dict().items():
            if name.endswith("num_batches_tracked"):  # torch before 0.4.1 had no such counter
                state.setdefault(name, value)
        model.load_state_dict(state)
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{path}: expected a release of mks0601 or JimmySuen, but {reason}"
        ) from error
    check_finite(path, model)
    return Published(model.eval(), release, backbone, content.get("epoch"))


def _our_names(network):
    """The Release that a state dict is of, and the state dict with the names of PoseNet."""
    if not isinstance(network, dict):
        raise ValueError("there is no state dict under 'network'")
    network = {name.removeprefix("module."): value for name, value in network.items()}
    found = [release for release in RELEASES if f"{release.head[1]}weight" in network]
    if not found:
        layers = " or ".join(release.head[1] for release in RELEASES)
        raise ValueError(f"no layer is called {layers}")
    layers, final = found[0].head
    state = {}
    for name, value in network.items():
        # The last layer comes first: in one release, its name begins like the deconvolutions'.
        state[name.replace(final, "final.").replace(layers, "deconvolutions.")] = value
    return found[0], state


RESNETS = {  # whether its blocks are bottlenecks, and how many there are
    (False, 8): "resnet18",
    (False, 16): "resnet34",
    (True, 16): "resnet50",
    (True, 33): "resnet101",
    (True, 50): "resnet152",
}


def _backbone_name(state):
    """Name of the torchvision ResNet that the keys of a state dict are of."""
    layers = [name for name in state if name.startswith("backbone.layer")]
    blocks = sum(name.endswith(".conv1.weight") for name in layers)
    architecture = ("backbone.layer1.0.conv3.weight" in layers, blocks)
    if architecture not in RESNETS:
        raise ValueError(f"no ResNet has {blocks} such blocks")
    return RESNETS[architecture]


# --- crops and joints by the releases' rules ---


def plane_box(root_cam: np.ndarray, camera: Camera, extra_px: float = 0.0) -> np.ndarray:
    """Projection of the 2 m x 2 m plane at the root that faces the camera, in the releases' form.

    Args:
        root_cam: (N, 3) camera, mm.
        camera: Camera without a lens, as the releases take it.
        extra_px: added to width and height.
    Returns:
        (N, 4) left, top, width, height; px. Width and height differ where f_x and f_y do.
    """
    half = np.array([BOX_MM / 2, BOX_MM / 2, 0])
    low, high = camera.camera_to_image(root_cam - half), camera.camera_to_image(root_cam + half)
    return np.concatenate([low, high - low + extra_px], axis=-1)


def cut_box(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut a crop as the releases do: bilinear, without averaging, the box's middle to (128, 128).

    The affine map follows from three points in float32: the middle of the box, of its lower edge
    and of its right edge. In float64, 10 to 20 pixels of a crop would differ by one grey level.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) as `plane_box` gives.
    Returns:
        (256, 256, 3) uint8, channels as in `image`.
    """
    width, height = box[2:]
    x, y = box[:2] + box[2:] / 2
    middle = CROP_PX / 2
    source = np.float32([[x, y], [x, y + np.float32(height / 2)], [x + np.float32(width / 2), y]])
    target = np.float32([[middle, middle], [middle, CROP_PX], [CROP_PX, middle]])
    return warp(image, cv2.getAffineTransform(source, target), CROP_PX)


def cells_to_camera(
    cells: np.ndarray, box: np.ndarray, depth_bins: int, cameras: Camera, root_depth: np.ndarray
) -> np.ndarray:
    """The corner grid of the releases: cells of a map -> camera, mm.

    Args:
        cells: (N, J, 3), order x, y, z, 0 is the first cell.
        box: (N, 4) of the crops, as `plane_box` gives.
        depth_bins: D, cells along the depth.
        cameras: Camera with leading axes (N, 1).
        root_depth: (N,) depth of the root, mm.
    Returns:
        (N, J, 3) camera, mm.
    """
    corner, size = box[:, None, :2], box[:, None, 2:]
    joints_img = corner + cells[..., :2] / MAP_PX * size
    depth = depth_of_cells(cells[..., 2], depth_bins) + root_depth[:, None]
    return cameras.image_to_camera(joints_img, depth)


def scaled_pixels(release: Release, crops: torch.Tensor) -> torch.Tensor:
    """Crops (B, S, S, 3) uint8 RGB -> (B, 3, S, S), as a release's networks take them."""
    pixels = crops.permute(0, 3, 1, 2) / release.pixel_unit
    mean, std = constants(MEAN, pixels), constants(STD, pixels)
    return (pixels - mean[:, None, None]) / std[:, None, None]


@torch.no_grad()
def read_maps(published: Published, crops: torch.Tensor) -> torch.Tensor:
    """Logits of a batch of crops, with the pixels scaled as the release scales them.

    Args:
        published: Published.
        crops: (B, 256, 256, 3) uint8 RGB, on any device.
    Returns:
        (B, J, D, 64, 64) logits.
    """
    device = next(published.model.parameters()).device
    return published.model(scaled_pixels(published.release, crops.to(device)))


def depth_of_cells(z, depth_bins: int):
    """Cells along z of a release's volume -> mm behind the root; arrays or tensors of any shape."""
    return (z / depth_bins - 0.5) * DEPTH_MM


def read_cells(maps: torch.Tensor) -> np.ndarray:
    """Logits (B, J, D, H, W) -> (B, J, 3) float64, cells in order x, y, z, 0 is the first cell."""
    return soft_argmax(maps).cpu().double().numpy()


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
        dict: pred_cam {each of report.PASSES: (N, J, 3)}, target_cam (N, J, 3), mm; subject,
        action, subaction, camera_id, frame, items (N,).
    Raises:
        InputError: anything unreadable in `root`; the message names the file.
    """
    model, release = published.model, published.release

    def read_crops(crops):
        parts = crops.split(batch_size)
        cells = [read_cells(read_maps(published, some)) for some in parts]
        return np.concatenate(cells)

    views = list(enumerate(folders_in_use(root, subjects)))
    read_view = functools.partial(_read_view, step=step, extra_px=release.box_extra_px)
    loader = DataLoader(distributed.share_of(views), batch_size=None, collate_fn=read_view)
    rows = predict_batches(read_crops, loader)
    rows["items"] = np.arange(len(rows["items"]))
    seen, mirrored = rows.pop("joints_crop"), rows.pop("joints_mirrored")
    as_released = flip_joints(mirrored, HUMAN36M.flip_order, release.mirror_total + 1)
    exact = flip_joints(mirrored, HUMAN36M.flip_order, EXACT_MIRROR + 1)
    passes = {
        "one look": seen,
        RELEASED_PASS: (seen + as_released) / 2,
        "flip test, exact": (seen + exact) / 2,
    }
    box, focal, centre = rows.pop("box"), rows.pop("f")[:, None], rows.pop("c")[:, None]
    # One camera for each image, without a lens.
    cameras = Camera(np.eye(3), np.zeros(3), focal, centre, 0, 0)
    root_depth = rows["target_cam"][:, HUMAN36M.root, 2]
    rows["pred_cam"] = {}
    for name, cells in passes.items():
        rows["pred_cam"][name] = cells_to_camera(cells, box, model.depth_bins, cameras, root_depth)
    return rows


def _read_view(numbered_folder, step, extra_px):
    """The batch of a camera view's images in use, one row an image, cut as a release cuts them.

    Returns:
        dict: crops (N, S, S, 3) uint8 RGB tensor; box (N, 4) as `plane_box` gives; f, c (N, 2) of
        the camera, px; target_cam (N, J, 3) mm; subject, action, subaction, camera_id, frame (N,);
        items (N,), the folder's number, which the rows are put in order by.
    """
    number, folder = numbered_folder
    view = read_camera_view(folder)
    frames = frames_in_use(view, step)
    camera = dataclasses.replace(view.camera, k=None, p=None)
    target = add_thorax(camera.world_to_camera(view.joints_world[frames]))
    boxes = plane_box(target[:, HUMAN36M.root], camera, extra_px)
    crops = []
    for frame, box in zip(frames, boxes):
        image, _ = read_image(view.image_path(frame), camera.width, camera.height)
        crops.append(cut_box(image, box)[..., ::-1])  # BGR -> RGB
    batch = {
        "crops": torch.from_numpy(np.stack(crops)),
        "box": boxes,
        "f": np.tile(camera.f, (len(frames), 1)),
        "c": np.tile(camera.c, (len(frames), 1)),
        "target_cam": target,
        "frame": frames,
        "items": np.full(len(frames), number),
    }
    for name in ("subject", "action", "subaction", "camera_id"):
        batch[name] = np.full(len(frames), getattr(view, name))
    return batch


def release_errors(
    pred_cam: np.ndarray, target_cam: np.ndarray, release: Release
) -> dict[str, np.ndarray]:
    """Errors by the release's own rules.

    The roots are put together, all 18 joints are aligned rigidly, and 17 are scored, the pelvis too.

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
        "network": published.network,
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
