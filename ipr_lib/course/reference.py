"""How the network that comes with the library was made, and the crops that it is shown with.

`inference.load_network` loads it. Shown in notebooks 00 and 06, taught in notebooks/12_your_own_pictures.ipynb.
"""

import dataclasses
from pathlib import Path

import torch

from ..config import Config, config_from_record, load_config
from ..data.store import CropStore, join_stores, open_store
from ..files import InputError, atomic_path, read_json, write_json
from ..inference.networks import CARD, MODEL, REFERENCE
from ..run import checkpoint_config
from ..training.records import CHECKPOINT, read_checkpoint
from . import pipeline

SHOWN = "shown"  # the folder of the crops, beside the network
MAX_BYTES = 12e6  # what a repository can carry
# What the card takes from a run's metrics.json as it stands there.
COPIED = (
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
    "commit",
    "device",
    "minutes",
    "checkpoint",
)
# A few pictures out of the test split of every capture, among them the one that the course follows.
FEW = {"capture_takes": (1,), "capture_cameras": (1, 3), "capture_frames": 65, "test_step": 64}


def save_reference(run_folder: str | Path, folder: str | Path = REFERENCE) -> dict:
    """Make a finished run's network the one that comes with the library.

    Args:
        run_folder: of a run with its checkpoint and `metrics.json`.
        folder: where `model.pt` (config and weights in float16) and its card `model.json` go.

    Returns:
        the card: how the network was made, and how well it does.

    Raises:
        InputError: the run is not finished, or its weights are more than MAX_BYTES or beyond the numbers that float16 has.
    """
    run = read_json(Path(run_folder) / pipeline.METRICS)
    content = read_checkpoint(Path(run_folder) / CHECKPOINT, ("config", "network"))
    weights = _halved(content["network"], run_folder)
    size = sum(tensor.nbytes for tensor in weights.values())
    if size > MAX_BYTES:
        raise InputError(
            f"{run_folder}: its network takes {size / 1e6:.0f} MB, expected at most {MAX_BYTES / 1e6:.0f} MB"
        )
    with atomic_path(Path(folder) / MODEL) as temporary:
        torch.save({"config": content["config"], "network": weights}, temporary)
    card = {name: run[name] for name in COPIED}
    cfg = config_from_record(content["config"])
    of_profile = load_config(cfg.profile, seed=cfg.seed).record()
    card["overrides"] = {}
    for name, value in cfg.record().items():
        if value != of_profile[name]:
            card["overrides"][name] = value
    card["test_items"] = run["scores"]["n"]
    card["weights"] = "rounded to float16; the scores are those of the float32 network"
    card["not_for"] = (
        f"anything but the kind of picture it was trained on ({run['data']}); notebook 12 shows where it fails"
    )
    for metric in ("mpjpe", "pa_mpjpe", "pa_mpjpe_scale"):
        card[metric] = run["scores"][metric]["frame_mean"]
    write_json(Path(folder) / CARD, card)
    return read_json(Path(folder) / CARD)


def save_shown_crops(folder: str | Path = REFERENCE) -> Path:
    """Draw the crops of `shown_crops` for the reference network, and keep them beside it.

    Args:
        folder: where the reference network lies.

    Returns:
        the folder of the crops.
    """
    cfg = checkpoint_config(Path(folder) / MODEL)
    drawn = _drawn_crops(cfg)
    target = Path(folder) / SHOWN
    join_stores(target, [drawn.path], drawn.recipe)
    return target


def _halved(weights, run_folder):
    """A state dict in float16, half the bytes; the running statistics, which are few, stay in float32."""
    halved = {}
    for name, value in weights.items():
        if value.is_floating_point() and "running_" not in name:
            halved[name] = value.half()
        else:
            halved[name] = value
        if not halved[name].isfinite().all():
            raise InputError(
                f"{run_folder}: weights {name} reach {value.abs().max():.3g}, more than float16 holds"
            )
    return halved


def shown_crops(cfg: Config, folder: str | Path = REFERENCE) -> CropStore:
    """Crops of a few pictures of test actors, to show what a network does with them.

    They come with the reference network. For a network with crops of another size they are drawn, which takes a minute.

    Args:
        cfg: Config of a network.
        folder: where the reference network lies.

    Returns:
        CropStore of every test actor and action of the built-in capture: subaction 1, cameras 1 and 3, frames 0 and 64.
        Where `cfg` is for another data set, that one's test split.
    """
    if cfg.dataset != "capture":
        return pipeline.crop_store(cfg, "test")
    if (Path(folder) / SHOWN).is_dir():
        store = open_store(Path(folder) / SHOWN)
        if store.recipe["crop_px"] == cfg.crop_px:
            return store
    return _drawn_crops(cfg)


def _drawn_crops(cfg):
    """The store of `shown_crops`, drawn now; its pictures are those that any capture has for that actor, action and frame."""
    # One process, because several would start for longer than they draw.
    few = dataclasses.replace(cfg, capture_subjects=cfg.test_subjects, workers=1, **FEW)
    pipeline.capture(few)
    return pipeline.crop_store(few, "test")
