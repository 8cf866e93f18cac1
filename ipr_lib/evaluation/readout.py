"""One trained network, read by every decoder that can read it, and scored. Taught in notebooks/08_heatmap_vs_integral.ipynb."""

import numpy as np
import torch

from ..data.datasets import BatchKeys, CropDataset, batches, crop_to_camera, normalise
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS
from ..integral.grid import cells_to_joints, joints_to_cells, nearest_cell
from ..integral.methods import METHODS, decode
from ..training import precision
from .evaluation import take_index
from .metrics import joint_errors, root_relative, score


@torch.no_grad()
def read_out(model, store, cfg):
    """Score a network by every decoder that can read it, from one pass over the test pictures.

    Args:
        model: network in eval mode.
        store: CropStore of the test subjects, for crops of cfg.crop_px.
        cfg: Config.
    Returns:
        {decoder: scores}, the method's own first, and the scores of the best that whole cells could say; None for a method
        without cells. Scores: mpjpe, pa_mpjpe, z_mm (root-relative) in mm; xy_px, mean distance in px of the crop;
        takes, the mean error of each take, mm, in the order of `evaluation.take_index`.
    """
    device = next(model.parameters()).device
    method = METHODS[cfg.method]
    dataset, keys = (
        CropDataset(store, cfg.crop_px, cfg.depth_mm),
        BatchKeys(len(store), 64, shuffle=False),
    )
    joints = {
        name: []
        for name in (*method.decoders, *(["cells"] if method.head == "volume" else []), "target")
    }
    affines = []
    for batch in batches(dataset, keys):
        with precision.autocast(cfg.precision, device):
            output = model(normalise(batch["crops"].to(device)))
        for name in method.decoders:
            joints[name].append(
                decode(cfg.method, output, cfg.crop_px, cfg.depth_mm, name).cpu().numpy()
            )
        if "cells" in joints:
            grid = (output.shape[2:], cfg.crop_px, cfg.depth_mm)
            cells = nearest_cell(joints_to_cells(batch["joints"], *grid), grid[0]).float()
            joints["cells"].append(cells_to_joints(cells, *grid).numpy())
        joints["target"].append(batch["joints"].numpy())
        affines.append(batch["affine"].numpy())
    joints = {name: np.concatenate(parts) for name, parts in joints.items()}
    target = joints.pop("target")
    scores = {
        name: _scores(found, target, np.concatenate(affines), store)
        for name, found in joints.items()
    }
    cells = scores.pop("cells", None)
    return scores, cells


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
    take = take_index(columns)
    distance = np.linalg.norm((joints - target_crop)[:, :SCORED_JOINTS, :2], axis=-1)
    return {
        "mpjpe": found["mpjpe"]["frame_mean"],
        "pa_mpjpe": found["pa_mpjpe"]["frame_mean"],
        "z_mm": found["mpjpe_z"],
        "xy_px": float(distance.mean()),
        "takes": np.round(np.bincount(take, errors) / np.bincount(take), 3).tolist(),
    }
