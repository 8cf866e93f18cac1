"""Train, evaluate, predict. Taught in notebooks/09_training.ipynb and notebooks/10_evaluation.ipynb."""

import csv
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from .datasets import BatchKeys, CropDataset, batches, crop_to_camera, normalise, prefetched, training_keys
from .files import InputError, atomic_path
from .methods import METHODS, decode_expectation
from .methods import decode as decode_output
from .metrics import score
from .microbatches import MicroBatches
from .models import DirectNet, PoseNet, build_trunk
from .optimizers import build_optimizer
from .skeleton import HUMAN36M, SCORED_JOINTS
from .transforms import Augmentation, flip_joints

CHECKPOINT = "checkpoint.pt"
LOG = "training.csv"
SECONDS_BETWEEN_CHECKPOINTS = 60


def default_device():
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_model(cfg):
    """The network that `cfg` describes, its random start drawn from cfg.seed."""
    with torch.random.fork_rng():
        torch.manual_seed(cfg.seed)
        trunk = build_trunk(cfg.trunk, cfg.trunk_width, cfg.pretrained)
        if METHODS[cfg.method].head == "direct":
            return DirectNet(trunk, len(HUMAN36M))
        return PoseNet(trunk, len(HUMAN36M), cfg.depth_bins, cfg.head_width, cfg.deconvolutions)


def build_augmentation(cfg):
    """The Augmentation that `cfg` describes."""
    return Augmentation(cfg.scale, cfg.rotation, cfg.shift, cfg.flip, cfg.colour, cfg.hue, cfg.contrast)


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


def train(cfg, store, run_dir, device=None):
    """Train the network of `cfg` on `store`, or go on where an interrupted run stopped.

    A finished run is recognised by its checkpoint and costs nothing. On one machine and CPU, a resumed run ends with
    the very weights of an undisturbed one: batches and augmentation follow from (seed, epoch, step) alone.

    Args:
        cfg: Config.
        store: CropStore of the training subjects, or a StoreMix of it and 2D stores.
        run_dir: folder for `checkpoint.pt` and `training.csv` (step, epoch, loss, learning_rate, images_per_second).
        device: torch device; by default the GPU where there is one.
    Returns:
        the trained model, in eval mode.
    Raises:
        InputError: the folder holds a checkpoint of another config or architecture; fewer items than a batch; the
            loss stopped being finite.
    """
    device = device or default_device()
    run_dir = Path(run_dir)
    dataset = CropDataset(store, cfg.crop_px, cfg.depth_mm, build_augmentation(cfg), cfg.seed)
    keys = training_keys(store, cfg.batch_size, cfg.epochs, cfg.seed)
    if keys.steps == 0:
        raise InputError(f"{store.path} holds {len(store)} items, fewer than one batch of {cfg.batch_size}")
    # Channels-last pays on a GPU; on a CPU the volume is summed faster as it is.
    memory_format = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    model = build_model(cfg).to(device, memory_format=memory_format)
    optimizer = build_optimizer(cfg.optimizer, model, cfg.learning_rate, cfg.weight_decay)
    state = {"step": 0, "seconds": 0.0, "log": []}
    path = run_dir / CHECKPOINT
    if path.exists():
        state = load_checkpoint(path, cfg, model, optimizer)
    keys.start = state["step"]
    if keys.start < keys.steps:
        # On a CPU the network needs every core: batches come from a thread, not from processes of their own.
        loader = batches(dataset, keys, cfg.workers) if device.type == "cuda" else prefetched(batches(dataset, keys))
        _train_steps(cfg, model, optimizer, loader, keys, state, path, device)
        _write_log(run_dir / LOG, state["log"])
    return model.eval()


def _train_steps(cfg, model, optimizer, loader, keys, state, path, device):
    """The training loop proper; `state` is updated in place."""
    model.train()
    loss_now = None  # of the stage of training; set before each step

    def loss_of(model, batch):
        with torch.autocast(device.type, torch.bfloat16, enabled=cfg.precision == "bfloat16"):
            output = model(normalise(batch["crops"], batch["colour"]))
        return loss_now(output, batch["joints"], batch["weights"], cfg.crop_px, cfg.depth_mm)

    log_every = max(1, keys.steps // 400)
    progress = tqdm(
        loader, initial=keys.start, total=keys.steps, desc="training", unit="batch", disable=None, smoothing=0.02
    )
    losses, since, saved = [], time.perf_counter(), time.perf_counter()
    with MicroBatches(model, cfg.micro_batches, loss_of) as micro_batches:
        for step, batch in enumerate(progress, start=keys.start):
            rate = learning_rate(cfg, step, keys.steps_per_epoch)
            loss_now = METHODS[cfg.method].loss(step / keys.steps)
            if step and loss_now is not METHODS[cfg.method].loss((step - 1) / keys.steps):
                # Adam's memory of another loss' gradients, a thousand times as large, would stop it for as many steps.
                optimizer = build_optimizer(cfg.optimizer, model, cfg.learning_rate, cfg.weight_decay)
            for group in optimizer.param_groups:
                group["lr"] = rate
            moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items() if name != "affine"}
            losses.append(micro_batches.backward(moved))
            optimizer.step()
            if (step + 1) % log_every == 0 or step + 1 == keys.steps:
                now = time.perf_counter()
                value = torch.stack(losses).mean().item()  # the only place that waits for the device
                if not np.isfinite(value):
                    raise InputError(
                        f"the loss is not finite at step {step}; the last checkpoint is whole. Try learning_rate="
                        f"{cfg.learning_rate / 3:.1g} or warmup_steps={cfg.warmup_steps + 500}"
                    )
                row = {
                    "step": step + 1, "epoch": round((step + 1) / keys.steps_per_epoch, 3), "loss": value,
                    "learning_rate": rate, "images_per_second": len(losses) * cfg.batch_size / (now - since),
                }
                state["log"].append(row)
                state["step"] = step + 1
                state["seconds"] += now - since
                progress.set_postfix(loss=f"{value:.4f}", images_per_second=f"{row['images_per_second']:.0f}")
                losses, since = [], now
                if now - saved > SECONDS_BETWEEN_CHECKPOINTS or step + 1 == keys.steps:
                    save_checkpoint(path, cfg, model, optimizer, state)
                    saved = since = time.perf_counter()


def _write_log(path, rows):
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)


def save_checkpoint(path, cfg, model, optimizer, state):
    """Write model, optimizer, progress and config as one file, atomically.

    Args:
        path: the file.
        cfg: Config of the run.
        state: dict with step, seconds, log.
    """
    content = {
        "config": dataclasses.asdict(cfg), "network": model.state_dict(), "optimizer": optimizer.state_dict(), **state
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path, cfg, model, optimizer=None):
    """Fill model (and optimizer) from a checkpoint.

    Args:
        path: the file.
        cfg: Config that the checkpoint must have been written for, but for `workers`.
        model, optimizer: filled in place.
    Returns:
        dict: step, seconds, log.
    Raises:
        InputError: missing, damaged, of another config or of another architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing; train first: python -m ipr_lib train --profile {cfg.profile}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        config = content["config"]
        state = {name: content[name] for name in ("step", "seconds", "log")}
    except Exception as error:  # torch raises many kinds for damaged files; each means the same to a user
        raise InputError(f"{path} is not a whole checkpoint ({type(error).__name__}); delete it and train") from error
    # Tuples come back as tuples; compare as they are stored.
    mine = dataclasses.asdict(cfg)
    different = [name for name in mine if name != "workers" and config.get(name) != mine[name]]
    if different:
        name = different[0]
        raise InputError(
            f"{path} was trained with {name}={config.get(name)!r}, this run asks for {name}={mine[name]!r}; "
            "use another run folder, or delete it to train anew"
        )
    try:
        model.load_state_dict(content["network"])
        if optimizer is not None:
            optimizer.load_state_dict(content["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{path} holds another architecture: {str(error).splitlines()[0]}; delete it and train") from error
    return state


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
        with torch.autocast(device.type, torch.bfloat16, enabled=cfg.precision == "bfloat16"):
            output = model(pixels)
        return decode_output(cfg.method, output, cfg.crop_px, cfg.depth_mm, decoder).cpu().numpy()

    pixels = normalise(crops.to(device))
    joints = once(pixels)
    if flip_test:
        joints = (joints + flip_joints(once(pixels.flip(3)), HUMAN36M.flip_order, cfg.crop_px)) / 2
    return joints


def predict_store(model, store, cfg, flip_test=False):
    """Predict every item of a store, with the oracle box, root depth and intrinsics of its labels.

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
    keys = BatchKeys(len(store), max(cfg.batch_size, 64), shuffle=False)
    parts = []
    for batch in tqdm(batches(dataset, keys), desc="predicting", unit="batch", disable=None):
        joints = predict(model, batch["crops"], cfg, flip_test)
        items, affine = batch["items"].numpy(), batch["affine"].numpy()
        target = store.columns["joints_cam"][items].astype(float)
        pred = crop_to_camera(joints, affine, store.cameras(items), target[:, HUMAN36M.root, 2])
        parts.append({"pred_cam": pred, "target_cam": target, "joints_crop": joints, "affine": affine, "items": items})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


ORACLES = ("2 m box at the true root", "root depth", "intrinsics")


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
