"""Train, evaluate, predict. Taught in notebooks/09_training.ipynb and notebooks/10_evaluation.ipynb."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import torch

from ..data.datasets import (
    BatchKeys,
    CropDataset,
    batches,
    crop_to_camera,
    normalise,
    training_keys,
)
from ..evaluation import results
from ..evaluation.metrics import score
from ..files import InputError
from ..geometry.skeleton import HUMAN36M, SCORED_JOINTS
from ..geometry.transforms import Augmentation, flip_joints
from ..integral.methods import METHODS, decode_expectation
from ..integral.methods import decode as decode_output
from ..network import DirectNet, PoseNet, build_backbone
from ..progress import progress
from . import distributed, precision
from .checkpoints import CHECKPOINT, load_checkpoint, set_random_states
from .log import CSV
from .optimizers import build_optimizer
from .training_loop import TrainingLoop

LOG = CSV


def default_device():
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_model(cfg):
    """The network that `cfg` describes, its random start drawn from cfg.seed."""
    with torch.random.fork_rng():
        torch.manual_seed(cfg.seed)
        backbone = build_backbone(cfg.trunk, cfg.trunk_width, cfg.pretrained)
        if METHODS[cfg.method].head == "direct":
            return DirectNet(backbone, len(HUMAN36M))
        return PoseNet(backbone, len(HUMAN36M), cfg.depth_bins, cfg.head_width, cfg.deconvolutions)


def blank_model(cfg):
    """The network that `cfg` describes, for weights that come from a file or for counting: no ImageNet weights are fetched."""
    return build_model(dataclasses.replace(cfg, pretrained=False))


def build_augmentation(cfg):
    """The Augmentation that `cfg` describes."""
    return Augmentation(
        cfg.scale,
        cfg.rotation,
        cfg.shift,
        cfg.flip,
        cfg.colour,
        cfg.hue,
        cfg.contrast,
        cfg.occlusion,
    )


def decode(volume, crop_px, depth_mm):
    """Volume of logits (B, J, D, H, W) -> joints (B, J, 3) by expectation: x, y in crop px, z in mm. Always float32."""
    return decode_expectation(volume, crop_px, depth_mm)


def learning_rate(cfg, step, steps_per_epoch):
    """Learning rate of global `step` (0-based): a linear warm-up times the schedule of `cfg`."""
    warmup = min(1.0, (step + 1) / (cfg.warmup_steps + 1))
    if cfg.schedule == "cosine":
        factor = 0.5 * (1 + np.cos(np.pi * step / (cfg.epochs * steps_per_epoch)))
    else:
        factor = 0.1 ** sum(step // steps_per_epoch >= epoch for epoch in cfg.lr_drops)
    return float(cfg.learning_rate * warmup * factor)


def train(cfg, store, run_dir, device=None, validation=None):
    """Train the network of `cfg` on `store`, or go on where an interrupted run stopped.

    A finished run is recognised by its checkpoint and costs nothing. On one machine and CPU, a resumed run ends with
    the very weights of an undisturbed one: batches and augmentation follow from (seed, epoch, step) alone. Called by
    several processes inside `distributed.process_group`, it trains one network on the batches that one process would see.

    Args:
        cfg: Config. Its batch_size and learning_rate are those of all processes together.
        store: CropStore of the training subjects, or a StoreMix of it and 2D stores.
        run_dir: folder for `checkpoint.pt` and for `training.csv` and `training.jsonl`: step, epoch, loss, learning_rate,
            images_per_second, data_wait (share of the time spent waiting for batches), memory_mb, minutes_left.
        device: torch device; by default the GPU where there is one.
        validation: CropStore to score after each epoch; the log then has its MPJPE, mm, and `best.pt` is kept. The
            training loss is no such judge: it falls to the end.
    Returns:
        the trained model, in eval mode.
    Raises:
        InputError: the folder holds a checkpoint of another config or architecture; fewer items than a batch; the
            loss or the weights stopped being finite; processes that do not share the folder.
    """
    device = device or default_device()
    run_dir = Path(run_dir)
    dataset = CropDataset(store, cfg.crop_px, cfg.depth_mm, build_augmentation(cfg), cfg.seed)
    keys = training_keys(store, cfg.batch_size, cfg.epochs, cfg.seed)
    if keys.steps == 0:
        raise InputError(
            f"{store.path} holds {len(store)} items, fewer than one batch of {cfg.batch_size}"
        )
    path = run_dir / CHECKPOINT
    model = blank_model(cfg) if path.exists() else build_model(cfg)
    model = model.to(device, memory_format=precision.memory_format(cfg.precision, device))
    optimizer = build_optimizer(cfg.optimizer, model, cfg.learning_rate, cfg.weight_decay)
    state = {"step": 0, "seconds": 0.0, "log": [], "best": float("inf")}
    if path.exists():
        state |= load_checkpoint(path, cfg, model, optimizer)
        random = state.pop("random", None)
        if random is not None and state["step"] < keys.steps:
            set_random_states(random)
    _check_shared(path, state["step"], device)
    keys.start = state["step"]
    if keys.start < keys.steps:
        state["commit"] = results.commit()
        rate = functools.partial(learning_rate, cfg, steps_per_epoch=keys.steps_per_epoch)
        validate = (
            functools.partial(_validation_mpjpe, model, validation, cfg)
            if validation is not None
            else None
        )
        TrainingLoop(cfg, model, optimizer, dataset, keys, state, run_dir, rate, validate).run()
    return model.eval()


def _check_shared(path, step, device):
    """InputError where the processes of a group found different checkpoints."""
    steps = distributed.summed(torch.tensor(step, device=device)).item()
    if steps != step * distributed.size():
        raise InputError(
            f"{path} is at step {step} for this process and at another for others; several machines need {path.parent} on "
            "a disk that they share"
        )


def _validation_mpjpe(model, store, cfg):
    """MPJPE of a validation store, mm; every process of a group gets the same."""
    return float(
        evaluate(predict_store(model, store, cfg)["pred_cam"], store)["mpjpe"]["frame_mean"]
    )


@torch.no_grad()
def predict(model, crops, cfg, flip_test=False, decoder=None):
    """Joints in a batch of crops.

    Args:
        model: network in eval mode.
        crops: (B, S, S, 3) uint8, on any device.
        cfg: Config; crop_px, depth_mm, precision and method are used.
        flip_test: average with the un-mirrored prediction of the mirrored crop.
        decoder: one of methods.DECODERS; the method's own by default.
    Returns:
        (B, J, 3) float32 array: x, y in crop px, z in mm behind the root.
    """
    device = next(model.parameters()).device

    def once(pixels):
        with precision.autocast(cfg.precision, device):
            output = model(pixels)
        return decode_output(cfg.method, output, cfg.crop_px, cfg.depth_mm, decoder).cpu().numpy()

    pixels = normalise(crops.to(device))
    joints = once(pixels)
    if flip_test:
        joints = (joints + flip_joints(once(pixels.flip(3)), HUMAN36M.flip_order, cfg.crop_px)) / 2
    return joints


def predict_store(model, store, cfg, flip_test=False):
    """Predict every item of a store, with the oracle box, root depth and intrinsics of its labels.

    The processes of a group share the batches out; each gets all predictions, to the bit those of a single process.

    Args:
        model: network in eval mode.
        store: CropStore.
        cfg: Config.
        flip_test: see `predict`.
    Returns:
        dict of arrays: pred_cam, target_cam (N, J, 3) float64 mm; joints_crop (N, J, 3) as predicted; affine (N, 2, 3);
        items (N,).
    """
    dataset = CropDataset(store, cfg.crop_px, cfg.depth_mm)
    keys = distributed.SomeKeys(BatchKeys(len(store), max(cfg.batch_size, 64), shuffle=False))
    parts = []
    bar = progress(
        batches(dataset, keys),
        desc="predicting",
        unit="batch",
        leave=False,
        show=distributed.rank() == 0,
    )
    for batch in bar:
        joints = predict(model, batch["crops"], cfg, flip_test)
        items, affine = batch["items"].numpy(), batch["affine"].numpy()
        target = store.columns["joints_cam"][items].astype(float)
        pred = crop_to_camera(joints, affine, store.cameras(items), target[:, HUMAN36M.root, 2])
        parts.append(
            {
                "pred_cam": pred,
                "target_cam": target,
                "joints_crop": joints,
                "affine": affine,
                "items": items,
            }
        )
    return distributed.gathered(parts)


def evaluate(pred_cam, store):
    """Score predictions of a whole store; see `metrics.score`.

    Args:
        pred_cam: (N, J, 3) camera, mm, in the store's order.
        store: CropStore of the test subjects.
    Returns:
        dict of `metrics.score`.
    """
    return score(pred_cam, store.columns["joints_cam"], store.columns["action"], SCORED_JOINTS)


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
