"""One run of a Config: its network, its augmentation, its training, its predictions, and what all that costs.

What lies below takes plain arguments; here they are read from a Config. Taught in notebooks/09_training.ipynb.
"""

import dataclasses
import functools
import hashlib
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from .config import NOT_IN_HASH, Config, config_from_record
from .data.datasets import CropDataset, StoreMix, training_keys
from .data.store import CropStore
from .evaluation.metrics import score_items
from .evaluation.prediction import (
    OracleInputs,
    flip_mean,
    oracle_inputs,
    predict_store,
    read_network,
)
from .evaluation.published import read_published
from .files import InputError, commit, results_folder
from .geometry.skeleton import HUMAN36M
from .geometry.transforms import Augmentation
from .integral import METHODS, build_method, start_logit
from .network import BINS_PER_PX, DirectNet, LineNet, PoseNet, build_backbone
from .training import distributed, precision
from .training.loop import Schedule, build_optimizers, train
from .training.precision import default_device
from .training.records import CHECKPOINT, load_checkpoint, read_checkpoint

# Counted on the real set: S1, 5, 6, 7, 8, every 5th frame; S9, 11, every 64th.
HUMAN36M_IMAGES = {"train": (312_188, 5), "test": (8_695, 64)}


# --- where a run lies ---


def run_dir(cfg: Config, results_dir: str | Path | None = None) -> Path:
    """Folder of everything that the run of `cfg` writes."""
    return Path(results_dir or results_folder()) / f"{cfg.profile}-{cfg.hash()}"


def find_run(name: str, results_dir: str | Path | None = None) -> Path:
    """Folder of a run.

    Args:
        name: of a folder in `results_dir`, or a path.
        results_dir: where runs lie; by default `files.results_folder`.
    Raises:
        InputError: there is no such folder; the message names those that there are.
    """
    results_dir = Path(results_dir or results_folder())
    for folder in (results_dir / name, Path(name)):
        if folder.is_dir():
            return folder
    known = sorted(path.parent.name for path in results_dir.glob(f"*/{CHECKPOINT}"))
    advice = f"choose one of {', '.join(known)}" if known else "train one first"
    raise InputError(f"no run {name} in {results_dir}; {advice}")


# --- what a Config describes ---


def build_network(cfg: Config, fetch_weights: bool = True) -> PoseNet | LineNet | DirectNet:
    """The network that `cfg` describes, its random start drawn from cfg.seed.

    Args:
        cfg: Config.
        fetch_weights: False fetches no ImageNet weights, for a network whose weights come from a
            file or that is only counted.
    """
    with torch.random.fork_rng():
        torch.manual_seed(cfg.seed)
        backbone = build_backbone(
            cfg.backbone, cfg.backbone_width, cfg.pretrained and fetch_weights
        )
        head = METHODS[cfg.method].head
        sizes = (cfg.head_width, cfg.deconvolutions)
        if head == "direct":
            return DirectNet(backbone, len(HUMAN36M))
        if head == "lines":
            side = cfg.map_side
            return LineNet(backbone, len(HUMAN36M), side, BINS_PER_PX * cfg.crop_px, *sizes)
        network = PoseNet(backbone, len(HUMAN36M), cfg.depth_bins, *sizes)
        logit = start_logit(METHODS[cfg.method], cfg.volume_shape, cfg.ball_radius)
        torch.nn.init.constant_(network.final.bias, logit)
        return network


def on_device(
    network: torch.nn.Module, cfg: Config, device: torch.device | None = None
) -> torch.nn.Module:
    """The network where it is to run, laid out in memory as it is trained.

    In bfloat16, convolutions of the other memory format round otherwise, which moves joints by up to
    2 mm; so a network that is scored or shown later is laid out in the same way.

    Args:
        network: moved in place.
        cfg: its precision is used.
        device: by default the GPU where there is one.
    Returns:
        the same network.
    """
    device = device or default_device()
    return network.to(device, memory_format=precision.memory_format(cfg.precision, device))


def build_augmentation(cfg: Config) -> Augmentation:
    """The Augmentation that `cfg` describes."""
    return Augmentation(
        scale=cfg.scale,
        rotation=cfg.rotation,
        shift=cfg.shift,
        flip=cfg.flip,
        colour=cfg.colour,
        hue=cfg.hue,
        contrast=cfg.contrast,
        occlusion=cfg.occlusion,
    )


def build_schedule(cfg: Config, steps_per_epoch: int) -> Schedule:
    """The Schedule that `cfg` describes."""
    return Schedule(
        learning_rate=cfg.learning_rate,
        epochs=cfg.epochs,
        steps_per_epoch=steps_per_epoch,
        kind=cfg.schedule,
        drops=cfg.lr_drops,
        warmup_steps=cfg.warmup_steps,
    )


# --- training ---


def train_run(
    cfg: Config,
    store: CropStore | StoreMix,
    run_dir: Path,
    device: torch.device | None = None,
    validation: CropStore | None = None,
    init: Path | None = None,
) -> PoseNet | LineNet | DirectNet:
    """Train the network of `cfg` on `store`, or go on where an interrupted run stopped; see `training.loop.train`.

    A finished run is recognised by its checkpoint and costs nothing. One process at a time trains a run; a second one waits.

    Args:
        cfg: its batch_size and learning_rate are those of all processes together.
        store: of the training subjects, or a StoreMix of it and 2D stores.
        run_dir: folder for checkpoints and the log.
        device: by default the GPU where there is one.
        validation: store to score after each epoch; the log then has its MPJPE, mm, and `best.pt` is kept. The
            training loss is no such judge: it falls to the end.
        init: start a new run from the weights of this file or run, see `start_from`.
    Returns:
        the trained network, in eval mode.
    Raises:
        InputError: the folder holds a checkpoint of another config; fewer items than a batch; see `training.loop.train`.
    """
    device = device or default_device()
    keys = training_keys(store, cfg.batch_size, cfg.epochs, cfg.seed)
    if keys.steps == 0:
        raise InputError(
            f"{store.path} holds {len(store)} items, fewer than one batch of {cfg.batch_size}"
        )
    with distributed.writing_run(run_dir):
        return _train(cfg, store, Path(run_dir), device, validation, init, keys)


def _train(cfg, store, run_dir, device, validation, init, keys):
    """Train a run that no other process writes, see `train_run`; `keys` are those of its batches."""
    path = run_dir / CHECKPOINT
    if path.exists():
        check_config(path, cfg)
        begun_from = read_checkpoint(path).get("init")
        if init is not None and str(init) != begun_from:
            raise InputError(
                f"--init {init} has no effect: {path} was begun from {begun_from or 'fresh weights'}; "
                "leave it out, or name another run"
            )
        network = build_network(cfg, fetch_weights=False)
    elif init is not None:
        network = build_network(cfg, fetch_weights=False)
        for line in start_from(network, init):
            if distributed.rank() == 0:
                print(line, file=sys.stderr)
    else:
        network = build_network(cfg)
    network = on_device(network, cfg, device)

    def validate(network):
        predictions = predict_run(network, validation, cfg)
        return score_items(predictions["pred_cam"], validation.columns)["mpjpe"]["frame_mean"]

    return train(
        network,
        CropDataset(store, cfg.crop_px, cfg.depth_mm, build_augmentation(cfg), cfg.seed),
        keys,
        build_method(cfg.method, cfg.target_height, cfg.ball_radius),
        build_schedule(cfg, keys.steps_per_epoch),
        functools.partial(
            build_optimizers,
            cfg.optimizer,
            learning_rate=cfg.learning_rate,
            weight_decay=cfg.weight_decay,
        ),
        run_dir,
        record={
            "config": cfg.record(),
            "commit": commit(),
            "tf32": precision.uses_tf32(cfg.precision, device),
            "init": None if init is None else str(init),
        },
        validate=None if validation is None else validate,
        number_format=cfg.precision,
        micro_batches=cfg.micro_batches,
        clip_gradient=cfg.clip_gradient,
        sync_batch_norm=cfg.sync_batch_norm,
        compiled=cfg.compile,
        workers=cfg.workers,
        keep_checkpoints=cfg.keep_checkpoints,
    )


def start_from(network: torch.nn.Module, path: Path) -> list[str]:
    """Fill a network with the weights of another one, as far as they fit.

    Args:
        network: filled in place; what does not fit keeps its random start.
        path: a run's folder, a checkpoint, a `model.pt`, or a published checkpoint.
    Returns:
        lines that say how much was taken, and name what did not fit.
    Raises:
        InputError: no such file, or nothing in it fits.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CHECKPOINT
    content = read_checkpoint(path, (), "a file of tensors alone", "take another file")
    if "config" in content:
        weights = content["network"]
    else:
        weights = read_published(path).model.state_dict()
    own = network.state_dict()
    taken, kept = {}, []
    for name, value in own.items():
        if name not in weights:
            kept.append(f"{name}: not in the file")
        elif weights[name].shape != value.shape:
            kept.append(f"{name}: {tuple(weights[name].shape)}, expected {tuple(value.shape)}")
        else:
            taken[name] = weights[name]
    if not taken:
        raise InputError(f"{path}: no weights fit this network; take one of the same backbone")
    network.load_state_dict(own | taken)
    unused = [f"{name}: of no use here" for name in weights if name not in own]
    lines = [f"{path}: {len(taken)} of {len(own)} tensors taken"]
    return lines + [f"  {line}" for line in kept + unused]


def checkpoint_config(path: Path) -> Config:
    """The Config that a checkpoint of this library was trained with; InputError where the file is none."""
    return config_from_record(read_checkpoint(path)["config"])


def load_trained(
    path: Path, device: torch.device | None = None
) -> tuple[PoseNet | LineNet | DirectNet, Config]:
    """The network of a checkpoint or a `model.pt`, in eval mode, and the Config of its training.

    Args:
        path: the file.
        device: by default the GPU where there is one.
    Returns:
        network, on the device; its Config.
    Raises:
        InputError: missing, damaged, or of another architecture.
    """
    cfg = checkpoint_config(path)
    network = build_network(cfg, fetch_weights=False)
    load_checkpoint(path, network, ("config", "network"))
    return on_device(network, cfg, device).eval(), cfg


def training_state(saved: dict) -> tuple[str, bool]:
    """How far a training has come.

    Args:
        saved: content of a checkpoint, or of a file of weights alone, which counts as finished.
    Returns:
        words such as "epoch 2 of 5"; whether it is finished.
    """
    if "log" not in saved:
        return "", True
    epochs = config_from_record(saved["config"]).epochs
    epoch = saved["log"][-1]["epoch"] if saved["log"] else 0
    return f"epoch {epoch:g} of {epochs}", epoch >= epochs


def check_config(path: Path, cfg: Config):
    """InputError where a checkpoint was trained with another config, but for fields that change no result."""
    saved = checkpoint_config(path)
    for field in dataclasses.fields(cfg):
        then = getattr(saved, field.name)
        now = getattr(cfg, field.name)
        if field.name not in NOT_IN_HASH and then != now:
            raise InputError(
                f"{path} was trained with {field.name}={then!r}, this run asks for {field.name}={now!r}; "
                "use another run folder, or delete it to train anew"
            )


# --- prediction ---


def predict_crops(
    network: torch.nn.Module, crops: torch.Tensor, cfg: Config, flip_test: bool = False
) -> np.ndarray:
    """Joints in a batch of crops.

    Args:
        network: in eval mode.
        crops: (B, S, S, 3) uint8, on any device.
        cfg: method, crop_px, depth_mm and precision are used.
        flip_test: average with the un-mirrored prediction of the mirrored crop.
    Returns:
        (B, J, 3) float32 array: x, y in crop px, z in mm behind the root.
    """
    decoders = [METHODS[cfg.method].decoder]
    joints = read_network(network, crops, decoders, cfg.crop_px, cfg.depth_mm, cfg.precision)[:, 0]
    if flip_test:
        mirrored = predict_crops(network, crops.flip(2), cfg)
        joints = flip_mean(joints, mirrored, cfg.crop_px)
    return joints


def predict_run(
    network: torch.nn.Module,
    store: CropStore,
    cfg: Config,
    inputs: OracleInputs | None = None,
    flip_test: bool = False,
) -> dict[str, np.ndarray]:
    """Predict every item of a store with the network of `cfg`; see `prediction.predict_store`.

    Args:
        network: in eval mode.
        store: whose items are predicted.
        cfg: that the network was trained with.
        inputs: all oracles by default.
        flip_test: predict the mirrored crops, too.
    Returns:
        See `prediction.predict_store`.
    """
    return predict_store(
        functools.partial(predict_crops, network, cfg=cfg),
        store,
        oracle_inputs(store) if inputs is None else inputs,
        cfg.crop_px,
        max(cfg.batch_size, 64),
        flip_test,
    )


def fingerprint(path: str | Path) -> str:
    """16 hex digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


# --- what a run costs, counted before anything is made ---


def image_count(cfg: Config, split: str) -> int:
    """Images of a split, none of them made.

    Args:
        cfg: names the data, the subjects and the step.
        split: "train" or "test".
    Returns:
        Their number; for Human3.6M about that, and of its usual subjects.
    """
    step = getattr(cfg, f"{split}_step")
    if cfg.dataset != "capture":
        count, usual_step = HUMAN36M_IMAGES[split]
        return round(count * usual_step / step)
    subjects = set(getattr(cfg, f"{split}_subjects")) & set(cfg.capture_subjects)
    sequences = len(subjects) * len(cfg.capture_actions) * len(cfg.capture_takes)
    images_each = math.ceil(cfg.capture_frames / step)
    return sequences * len(cfg.capture_cameras) * images_each


def crops_seen(cfg: Config) -> int:
    """Crops that go through a training, repeats counted; the 3D set is taken to last longer than the 2D ones."""
    ratio = cfg.mix_ratio or (1,) * (1 + len(cfg.mix))
    share = cfg.batch_size * ratio[0] // sum(ratio)  # of each batch
    steps_per_epoch = image_count(cfg, "train") // share
    return steps_per_epoch * cfg.batch_size * cfg.epochs


def work_per_crop(cfg: Config, training: bool = True) -> float:
    """Floating-point operations of the network for one crop, counted on shapes alone.

    Args:
        cfg: describes the network.
        training: forward and backward; else forward.
    Returns:
        Their number; a multiplication and an addition are two.
    """
    with torch.device("meta"):
        network = build_network(cfg, fetch_weights=False)
        crops = torch.empty(2, 3, cfg.crop_px, cfg.crop_px)
    with FlopCounterMode(display=False) as counter:
        output = network(crops)
        if training:
            output.sum().backward()
    return counter.get_total_flops() / len(crops)
