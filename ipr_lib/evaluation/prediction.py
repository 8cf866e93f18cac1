"""What a network is given, and the one loop that runs it over batches for scores.

A network here is a function from crops to joints, so that published networks, with grids of their
own, go through the same loop. Taught in notebooks/10_evaluation.ipynb.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ..data.datasets import CropDataset, batches, crop_to_camera, keys_in_order, normalise
from ..files import InputError
from ..geometry.camera import ASSUMED_FOCAL, Camera
from ..geometry.skeleton import HUMAN36M
from ..geometry.transforms import BOX_MM, flip_joints
from ..integral import decode
from ..progress import progress
from ..training import distributed, precision

CHOICES = {  # where each oracle input may come from; see `oracle_inputs`
    "box": ("oracle", "estimated"),
    "root": ("oracle", "mean", "box"),
    "intrinsics": ("oracle", "pinhole", "assumed"),
}


# --- oracle inputs ---


@dataclass(frozen=True)
class OracleInputs:
    """What a network is given about each image besides its pixels.

    Attributes:
        box: (N, 3) centre x, y, side of the crop, px.
        root_depth: (N,) depth of the root, mm.
        cameras: Camera with leading axes (N, 1).
        notes: what of it comes from the labels and how the rest was made, to be printed beside
            every number.
    """

    box: np.ndarray
    root_depth: np.ndarray
    cameras: Camera
    notes: tuple[str, ...]


def oracle_inputs(
    store,
    box: str = "oracle",
    root: str = "oracle",
    intrinsics: str = "oracle",
    train_store=None,
) -> OracleInputs:
    """Take a network's inputs from the labels, or estimate them.

    Args:
        store: CropStore to predict.
        box: "oracle", the square that a 2 m cube round the true root covers; "estimated", as from a
            detector that finds the joints' extent: the square about it, wider by the median ratio
            of the training images.
        root: "oracle", the true depth; "mean", that of the training images; "box", the depth at
            which a 2 m cube would fill the estimated box.
        intrinsics: "oracle", with the lens where the set has one; "pinhole", without it; "assumed",
            a pinhole with f = 1.2 times the image's longer side and c in its middle.
        train_store: CropStore that estimates are taken from; not needed for oracles.
    Raises:
        InputError: an unknown choice; no train_store for an estimate; root "box" with the oracle
            box, whose size gives the true depth away.
    """
    choices = {"box": box, "root": root, "intrinsics": intrinsics}
    for name, choice in choices.items():
        if choice not in CHOICES[name]:
            raise InputError(f"{name} {choice!r}: expected one of {', '.join(CHOICES[name])}")
    if root == "box" and box == "oracle":
        raise InputError(
            "root box: the oracle box gives the true depth away; take box estimated with it"
        )
    if train_store is None and (box, root) != ("oracle", "oracle"):
        raise InputError("estimates of box and root need the training split; pass its store")
    cameras, camera_note = _cameras(store, intrinsics)
    if box == "oracle":
        boxes, box_note = np.asarray(store.columns["box"], float), "2 m box at the true root"
    else:
        # The 2 m box over the joints' extent, at the median of the training images.
        trained = train_store.columns
        wider = float(np.median(trained["box"][:, 2] / joint_boxes(trained)[:, 2]))
        boxes = joint_boxes(store.columns, wider)
        box_note = "box of the true joints' extent"
    if root == "oracle":
        depth, depth_note = _root_depth(store), "root depth"
    elif root == "mean":
        mean = _root_depth(train_store).mean()
        depth, depth_note = np.full(len(store), mean), f"root depth assumed ({mean:.0f} mm)"
    else:
        depth = BOX_MM * cameras.f[:, 0].mean(axis=-1) / boxes[:, 2]
        depth_note = "root depth from the box's size"
    return OracleInputs(boxes, depth, cameras, (box_note, depth_note, camera_note))


def _cameras(store, intrinsics):
    """The cameras of all items and a note on them."""
    cameras = store.cameras(np.arange(len(store)))
    if intrinsics == "oracle":
        return cameras, "intrinsics" if cameras.k is None else "intrinsics with lens"
    if intrinsics == "pinhole":
        return dataclasses.replace(cameras, k=None, p=None), "intrinsics without lens"
    size = store.columns["picture_size"].astype(float)[:, None]  # (N, 1, 2) width, height
    focal = np.repeat(ASSUMED_FOCAL * size.max(axis=-1, keepdims=True), 2, axis=-1)
    cameras = dataclasses.replace(cameras, f=focal, c=(size - 1) / 2, k=None, p=None)
    return cameras, f"intrinsics assumed (f {ASSUMED_FOCAL} x the longer side)"


def _root_depth(store):
    """(N,) float64 true depth of the root, mm."""
    return store.columns["joints_cam"][:, HUMAN36M.root, 2].astype(float)


def joint_boxes(columns: dict[str, np.ndarray], scale: float = 1.0) -> np.ndarray:
    """Square boxes about the visible joints, as a detector would draw them.

    Args:
        columns: of a store; joints_img (N, J, 2) px, visible (N, J).
        scale: side of the box over the longer side of the joints' extent.
    Returns:
        (N, 3) centre x, y, side; px.
    """
    joints = np.where(columns["visible"][..., None], columns["joints_img"].astype(float), np.nan)
    low, high = np.nanmin(joints, axis=1), np.nanmax(joints, axis=1)
    side = scale * (high - low).max(axis=1, keepdims=True)
    return np.concatenate([(low + high) / 2, side], axis=1)


# --- the loop ---


def predict_batches(
    network: Callable, loader: Iterable[dict], flip_test: bool = True
) -> dict[str, np.ndarray]:
    """Run a network over batches of crops, and over their mirrors.

    The processes of a group share the batches; each gets all predictions, to the bit those of a
    single process.

    Args:
        network: function from crops (B, S, S, 3), a uint8 tensor, to an array of joints: (B, J, 3),
            or (B, K, J, 3) where K decoders read one forward pass.
        loader: iterable of this process' batches: dicts of tensors or arrays with B rows, "crops"
            and "items" among them.
        flip_test: run the mirrored crops, too.
    Returns:
        dict of arrays in the order of items: joints_crop, with flip_test also joints_mirrored (as
        seen in the mirror, not put back), and all that the batches hold beside the crops.
    """
    rows = []
    for batch in progress(
        loader, desc="predicting", unit="batch", leave=None, show=distributed.rank() == 0
    ):
        row = {name: np.asarray(values) for name, values in batch.items() if name != "crops"}
        row["joints_crop"] = network(batch["crops"])
        if flip_test:
            row["joints_mirrored"] = network(batch["crops"].flip(2))
        rows.append(row)
    return distributed.all_gather_rows(rows)


def predict_store(
    network: Callable,
    store,
    inputs: OracleInputs,
    crop_px: int,
    batch_size: int = 64,
    flip_test: bool = True,
) -> dict[str, np.ndarray]:
    """Predict every item of a store, in mm.

    Args:
        network: see `predict_batches`; joints (B, J, 3): x, y in crop px, z in mm behind the root.
        store: CropStore.
        inputs: OracleInputs; its boxes are cut.
        crop_px: side S of the crops, px.
        batch_size: crops at a time.
        flip_test: predict the mirrored crops, too.
    Returns:
        dict of arrays, one row an item in the store's order: pred_cam, target_cam (N, J, 3) float64
        mm; joints_crop (N, J, 3) as predicted; affine (N, 2, 3); items (N,); with flip_test also
        pred_cam_flip and joints_crop_flip, from the mean of the joints as seen and of those seen in
        the mirror.
    """
    store = dataclasses.replace(store, columns=store.columns | {"box": inputs.box})
    found = predict_batches(network, store_batches(store, crop_px, batch_size), flip_test)
    result = {name: found[name] for name in ("joints_crop", "affine", "items")}
    result["target_cam"] = store.columns["joints_cam"].astype(float)
    result["pred_cam"] = crop_to_camera(
        found["joints_crop"], found["affine"], inputs.cameras, inputs.root_depth
    )
    if flip_test:
        joints = flip_mean(found["joints_crop"], found["joints_mirrored"], crop_px)
        result["joints_crop_flip"] = joints
        result["pred_cam_flip"] = crop_to_camera(
            joints, found["affine"], inputs.cameras, inputs.root_depth
        )
    return result


def store_batches(store, crop_px: int, batch_size: int = 64):
    """This process' batches of a store, in order and without augmentation.

    Args:
        store: CropStore.
        crop_px: side of the crops, px.
        batch_size: crops at a time.
    Returns:
        DataLoader, see `datasets.CropDataset`.
    """
    dataset = CropDataset(store, crop_px, depth_mm=np.inf)
    keys = distributed.share_of(keys_in_order(len(store), batch_size))
    return batches(dataset, keys)


def flip_mean(joints: np.ndarray, mirrored: np.ndarray, crop_px: int) -> np.ndarray:
    """The flip test: the mean of joints as seen and of those seen in the mirror, put back.

    Args:
        joints, mirrored: (..., J, 3): x, y in crop px, z in mm.
        crop_px: side of the crop, px.
    Returns:
        same shape.
    """
    return (joints + flip_joints(mirrored, HUMAN36M.flip_order, crop_px)) / 2


@torch.no_grad()
def read_network(network, crops, decoders, crop_px, depth_mm, number_format="float32"):
    """One forward pass, read by one decoder or several.

    Args:
        network: module in eval mode.
        crops: (B, S, S, 3) uint8, on any device.
        decoders: K names out of integral.DECODERS.
        crop_px: side S, px.
        depth_mm: depth range of the volume, mm.
        number_format: one of precision.PRECISIONS.
    Returns:
        (B, K, J, 3) float32 array: x, y in crop px, z in mm behind the root.
    """
    output = forward_crops(network, crops, number_format)
    joints = [decode(output, crop_px, depth_mm, name) for name in decoders]
    return torch.stack(joints, dim=1).float().cpu().numpy()


@torch.no_grad()
def forward_crops(network, crops, number_format="float32"):
    """What a network gives for crops (B, S, S, 3) uint8; see `read_network`."""
    device = next(network.parameters()).device
    with precision.autocast(number_format, device):
        return network(normalise(crops.to(device)))


def mean_pose(train_store, test_store) -> np.ndarray:
    """Baseline: the mean root-relative pose of the training split for every test item.

    Args:
        train_store, test_store: CropStore.
    Returns:
        (N, J, 3) float64 "predictions" for the test store, camera axes, mm, root at 0.
    """
    joints = train_store.columns["joints_cam"].astype(float)
    mean = (joints - joints[:, HUMAN36M.root, None]).mean(0)
    return np.broadcast_to(mean, (len(test_store), *mean.shape))
