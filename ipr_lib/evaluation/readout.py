"""One trained network, read by every decoder that can read it, and scored. Taught in notebooks/08_heatmap_vs_integral.ipynb."""

import numpy as np
import torch

from ..data.datasets import crop_to_camera
from ..data.store import sequence_index
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS
from ..integral import METHODS, cells_to_joints, joints_to_cells, nearest_cell
from .metrics import joint_errors, root_relative, score
from .prediction import predict_batches, read_network, store_batches


def read_out(network, store, method, volume_shape, crop_px, depth_mm, number_format="float32"):
    """Score a network by every decoder that can read it, from one pass over the test pictures.

    Args:
        network: module in eval mode.
        store: CropStore of the test subjects, for crops of crop_px.
        method: name of its Method.
        volume_shape: (D, H, W) of its volume, cells.
        crop_px: side of the crops, px.
        depth_mm: depth range of the volume, mm.
        number_format: one of precision.PRECISIONS.
    Returns:
        {decoder: scores}, the method's own first, and the scores of the best that whole cells could say; None for a method
        without cells. Scores: mpjpe, pa_mpjpe, z_mm (root-relative) in mm; xy_px, mean distance in px of the crop;
        takes, the mean error of each take, mm, in the order of `store.sequence_index`.
    """
    method = METHODS[method]

    def read(crops):
        return read_network(network, crops, method.decoders, crop_px, depth_mm, number_format)

    found = predict_batches(read, store_batches(store, crop_px), flip_test=False)
    scores = {}
    for k, name in enumerate(method.decoders):
        scores[name] = _scores(found["joints_crop"][:, k], found["joints"], found["affine"], store)
    if method.head != "volume":
        return scores, None
    grid = (volume_shape, crop_px, depth_mm)
    cells = nearest_cell(joints_to_cells(torch.from_numpy(found["joints"]), *grid), volume_shape)
    best = cells_to_joints(cells.float(), *grid).numpy()
    return scores, _scores(best, found["joints"], found["affine"], store)


def _scores(joints, target_crop, affine, store):
    """Scores of one set of joints (N, J, 3) in px and mm; see `read_out`."""
    columns = store.columns
    target = np.asarray(columns["joints_cam"], float)
    pred = crop_to_camera(
        joints, affine, store.cameras(np.arange(len(store))), target[:, HUMAN36M.root, 2]
    )
    found = score(pred, target, columns["action"], SCORED_JOINTS)
    errors = joint_errors(
        *(root_relative(poses[:, :SCORED_JOINTS]) for poses in (pred, target))
    ).mean(1)
    take = sequence_index(columns)
    distance = np.linalg.norm((joints - target_crop)[:, :SCORED_JOINTS, :2], axis=-1)
    return {
        "mpjpe": found["mpjpe"]["frame_mean"],
        "pa_mpjpe": found["pa_mpjpe"]["frame_mean"],
        "z_mm": found["mpjpe_z"],
        "xy_px": float(distance.mean()),
        "takes": np.round(np.bincount(take, errors) / np.bincount(take), 3).tolist(),
    }
