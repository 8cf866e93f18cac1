"""The one loop that runs a network over batches for scores, whatever cuts the batches.

A network here is a function from crops to joints, so that published networks, with grids of their own, go through the same
loop. Taught in notebooks/10_evaluation.ipynb.
"""

import dataclasses

import numpy as np
import torch

from ..data.datasets import BatchKeys, CropDataset, batches, crop_to_camera, normalise
from ..geometry.skeleton import HUMAN36M
from ..geometry.transforms import flip_joints
from ..integral import decode
from ..progress import progress
from ..training import distributed, precision


def predict_batches(network, loader, flip_test=True):
    """Run a network over batches of crops, and over their mirrors.

    The processes of a group share the batches; each gets all predictions, to the bit those of a single process.

    Args:
        network: function from crops (B, S, S, 3), a uint8 tensor, to an array of joints: (B, J, 3), or (B, K, J, 3) where K
            decoders read one forward pass.
        loader: iterable of this process' batches: dicts of tensors or arrays with B rows, "crops" and "items" among them.
        flip_test: run the mirrored crops, too.
    Returns:
        dict of arrays in the order of items: joints_crop, with flip_test also joints_mirrored (as seen in the mirror, not
        put back), and all that the batches hold beside the crops.
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
    return distributed.gathered(rows)


def predict_store(network, store, told, crop_px, batch_size=64, flip_test=True):
    """Predict every item of a store, in mm.

    Args:
        network: see `predict_batches`; joints (B, J, 3): x, y in crop px, z in mm behind the root.
        store: CropStore.
        told: Told; its boxes are cut.
        crop_px: side S of the crops, px.
        batch_size: crops at a time.
        flip_test: predict the mirrored crops, too.
    Returns:
        dict of arrays, one row an item in the store's order: pred_cam, target_cam (N, J, 3) float64 mm; joints_crop
        (N, J, 3) as predicted; affine (N, 2, 3); items (N,); with flip_test also pred_cam_flip and joints_crop_flip, from
        the mean of the joints as seen and of those seen in the mirror.
    """
    found = predict_batches(network, store_batches(store, crop_px, batch_size, told.box), flip_test)
    result = {name: found[name] for name in ("joints_crop", "affine", "items")}
    result["target_cam"] = store.columns["joints_cam"].astype(float)
    result["pred_cam"] = crop_to_camera(
        found["joints_crop"], found["affine"], told.cameras, told.root_depth
    )
    if flip_test:
        joints = flip_mean(found["joints_crop"], found["joints_mirrored"], crop_px)
        result["joints_crop_flip"] = joints
        result["pred_cam_flip"] = crop_to_camera(
            joints, found["affine"], told.cameras, told.root_depth
        )
    return result


def store_batches(store, crop_px, batch_size=64, box=None):
    """This process' batches of a store, in order and without augmentation.

    Args:
        store: CropStore.
        crop_px: side of the crops, px.
        batch_size: crops at a time.
        box: (N, 3) centre x, y, side of the boxes to cut, px; the store's own by default.
    Returns:
        DataLoader, see `datasets.CropDataset`.
    """
    if box is not None:
        store = dataclasses.replace(store, columns=store.columns | {"box": box})
    dataset = CropDataset(store, crop_px, depth_mm=np.inf)
    keys = distributed.SomeKeys(BatchKeys(len(store), batch_size, shuffle=False))
    return batches(dataset, keys)


def flip_mean(joints, mirrored, crop_px):
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
    device = next(network.parameters()).device
    with precision.autocast(number_format, device):
        output = network(normalise(crops.to(device)))
    joints = [decode(output, crop_px, depth_mm, name) for name in decoders]
    return torch.stack(joints, dim=1).float().cpu().numpy()


def mean_pose(train_store, test_store):
    """Baseline: the mean root-relative pose of the training set, in camera axes, for every test item.

    Args:
        train_store, test_store: CropStore.
    Returns:
        (N, J, 3) float64 "predictions" for the test store, camera axes, mm, root at 0.
    """
    joints = train_store.columns["joints_cam"].astype(float)
    mean = (joints - joints[:, HUMAN36M.root, None]).mean(0)
    return np.broadcast_to(mean, (len(test_store), *mean.shape))
