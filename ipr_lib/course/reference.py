"""The network that comes with the repository, where there is one; else the one that a profile's run has trained.

Shown in notebooks 00 and 06, taught in notebooks/12_your_own_pictures.ipynb.
"""

import dataclasses
from pathlib import Path

import torch

from ..config import REPOSITORY, load_config
from ..files import InputError, atomic_path, read_json, write_json
from ..run import blank_network, config_of, default_device
from ..training.checkpoints import CHECKPOINT, load_checkpoint, read_checkpoint
from . import pipeline

REFERENCE = REPOSITORY / "results" / "reference"
MODEL, CARD = "model.pt", "model.json"
MAX_BYTES = 12e6  # what a repository can carry
# A few pictures out of the test part of every capture: both frames, and among them the picture that the course follows.
FEW = {"capture_takes": (1,), "capture_cameras": (1, 3), "capture_frames": 65, "test_step": 64}


def save_reference(run_folder, folder=REFERENCE):
    """Make a finished run's network the one that comes with the repository.

    Args:
        run_folder: of a run with its checkpoint and `metrics.json`.
        folder: where `model.pt` (config and weights, see `_halved`) and its card `model.json` go.
    Returns:
        the card: how the network came about and how well it does.
    Raises:
        InputError: the run is not finished, or its weights are more than MAX_BYTES or beyond the numbers that float16 has.
    """
    run = read_json(Path(run_folder) / pipeline.METRICS)
    content = _read(Path(run_folder) / CHECKPOINT)
    network = {"config": content["config"], "network": _halved(content["network"], run_folder)}
    size = sum(tensor.numel() * tensor.element_size() for tensor in network["network"].values())
    if size > MAX_BYTES:
        raise InputError(
            f"{run_folder}: its network takes {size / 1e6:.0f} MB, expected at most {MAX_BYTES / 1e6:.0f} MB"
        )
    with atomic_path(Path(folder) / MODEL) as temporary:
        torch.save(network, temporary)
    names = (
        "run",
        "profile",
        "data",
        "split",
        "train_items",
        "samples_seen",
        "network",
        "parameters",
        "seed",
        "oracle",
    )
    card = {name: run[name] for name in (*names, "commit", "device", "minutes", "checkpoint")}
    card["overrides"] = _overrides(config_of(content))
    card["test_items"] = run["scores"]["n"]
    card["weights"] = "rounded to float16; the scores are those of the float32 network"
    card["not_for"] = (
        f"anything but the kind of picture it was trained on ({run['data']}); notebook 12 shows where it fails"
    )
    card |= {
        metric: run["scores"][metric]["frame_mean"]
        for metric in ("mpjpe", "pa_mpjpe", "pa_mpjpe_scale")
    }
    write_json(Path(folder) / CARD, card)
    return card


def _overrides(cfg):
    """What a config's record says otherwise than its profile's, as JSON has it; the seed apart."""
    of_profile = load_config(cfg.profile, seed=cfg.seed).record()
    overrides = {}
    for name, value in cfg.record().items():
        if value != of_profile[name]:
            overrides[name] = list(value) if isinstance(value, tuple) else value
    return overrides


def _halved(network, run_folder):
    """A state dict in float16, half the bytes; float32 stay the running statistics, which are few. Loading brings float32 back."""
    halved = {
        name: value.half() if value.is_floating_point() and "running_" not in name else value
        for name, value in network.items()
    }
    for name, value in halved.items():
        if not value.isfinite().all():
            raise InputError(
                f"{run_folder}: weights {name} reach {network[name].abs().max():.3g}, more than float16 holds"
            )
    return halved


def load_reference(
    cfg, results_dir=REPOSITORY / "results", train=False, folder=REFERENCE, device=None
):
    """The network to predict with.

    Args:
        cfg: Config of the run to fall back on.
        results_dir: where runs lie.
        train: train that run first where it is not; else a missing one is an error.
        folder: where the reference network lies.
        device: torch device; by default the GPU where there is one.
    Returns:
        model in eval mode; its Config; a line that says which it is.
    Raises:
        InputError: there is neither; or the file is damaged or of another architecture.
    """
    device = device or default_device()
    path = Path(folder) / MODEL
    if path.exists():
        content = _read(path)
        cfg = config_of(content)
        model = blank_network(cfg)
        try:
            model.load_state_dict(content["network"])
        except RuntimeError as error:
            raise InputError(
                f"{path} holds another architecture: {str(error).splitlines()[0]}; get the file again"
            ) from error
        card = read_json(Path(folder) / CARD)
        line = f"network: reference model of run {card['run']}, {card['mpjpe']:.1f} mm MPJPE on its test actors ({card['data']})"
        return model.to(device).eval(), cfg, line
    run = pipeline.run_dir(cfg, results_dir)
    if train:
        model = pipeline.trained(cfg, results_dir)
    else:
        model = blank_network(cfg)
        load_checkpoint(run / CHECKPOINT, model)
    return model.to(device).eval(), cfg, f"network: run {run.name}"


def few_images(cfg):
    """Crops of a few pictures of test actors, drawn within seconds where they are not there yet.

    They are pictures of the built-in capture's test part as any profile with that actor, action and frame draws them.

    Args:
        cfg: Config of a network, as `load_reference` gives it.
    Returns:
        CropStore of every test actor and action: take 1, cameras 1 and 3, frames 0 and 64; its Config, which tells where
        the pictures lie. Where `cfg` is for another data set, that one's test part.
    """
    if cfg.dataset != "capture":
        return pipeline.crop_store(cfg, "test"), cfg
    few = dataclasses.replace(
        cfg, capture_subjects=cfg.test_subjects, workers=1, **FEW
    )  # processes would start for longer than they draw
    pipeline.capture(few)
    return pipeline.crop_store(few, "test"), few


def _read(path):
    """Content of a torch file with config and network."""
    if not Path(path).is_file():
        raise InputError(f"{path} is missing; train first: python -m ipr_lib train")
    return read_checkpoint(
        path, ("config", "network"), "a whole network file", "get or make it again"
    )
