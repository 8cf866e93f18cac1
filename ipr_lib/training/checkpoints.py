"""A run's state in files that are whole or absent. Taught in notebooks/09_training.ipynb."""

import dataclasses
import os
import random
import shutil
from pathlib import Path

import numpy as np
import torch

from ..config import NOT_IN_HASH, config_from_record
from ..files import InputError, atomic_path

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"


def save_checkpoint(path, cfg, model, optimizer, state, keep=1):
    """Write model, optimizer, progress, random states and config as one file, atomically.

    Args:
        path: the file.
        cfg: Config of the run.
        model, optimizer: whose state_dict is taken.
        state: dict with step, seconds, log, and whatever else is to come back (best, commit).
        keep: above 1, the last `keep` files of this name stay beside it as NAME-<step>.pt.
    Raises:
        InputError: the disk is full or not to be written to; the file from before is whole then.
    """
    content = {
        "config": cfg.record(),
        "network": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": random_states(),
        **state,
    }
    path = Path(path)
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    if keep > 1:
        with atomic_path(path.with_stem(f"{path.stem}-{state['step']:08d}")) as temporary:
            try:
                os.link(path, temporary)  # takes no room
            except OSError:  # not every disk knows links
                shutil.copyfile(path, temporary)
        for old in sorted(path.parent.glob(f"{path.stem}-{'[0-9]' * 8}{path.suffix}"))[:-keep]:
            old.unlink()


def read_checkpoint(
    path, names=("config",), what="a whole checkpoint", advice="delete it and train"
):
    """What a file of torch's holds, on the CPU.

    Args:
        path: the file.
        names: what it must hold.
        what, advice: for the message: what was expected, and what to do.
    Returns:
        dict.
    Raises:
        InputError: missing or damaged, or one of `names` is not in it.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if missing := set(names) - set(content):
            raise KeyError(missing)
        return content
    except (
        Exception
    ) as error:  # torch raises many kinds for damaged files; each means the same to a user
        raise InputError(f"{path} is not {what} ({type(error).__name__}); {advice}") from error


def config_of(content):
    """The Config that a checkpoint's content names; fields younger than it have their defaults."""
    return config_from_record(content["config"])


def trained_minutes(path):
    """Minutes that all steps of a checkpoint took, those before an interruption too."""
    return round(read_checkpoint(path, ("seconds",))["seconds"] / 60, 3)


def load_checkpoint(path, cfg, model, optimizer=None):
    """Fill model (and optimizer) from a checkpoint.

    Args:
        path: the file.
        cfg: Config that the checkpoint must have been written for, but for `config.NOT_IN_HASH`.
        model, optimizer: filled in place.
    Returns:
        dict: step, seconds, log, random, and whatever else it was saved with.
    Raises:
        InputError: missing, damaged, of another config or of another architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path} is missing; train first: python -m ipr_lib train --profile {cfg.profile}"
        )
    parts = ("config", "network", "optimizer")
    content = read_checkpoint(path, (*parts, "step", "seconds", "log"))
    config, network, optimizer_state = (content.pop(name) for name in parts)
    trained = config_from_record(config)
    for field in dataclasses.fields(cfg):
        name = field.name
        had, asked = getattr(trained, name), getattr(cfg, name)
        if had != asked and name not in NOT_IN_HASH:
            raise InputError(
                f"{path} was trained with {name}={had!r}, this run asks for {name}={asked!r}; "
                "use another run folder, or delete it to train anew"
            )
    try:
        model.load_state_dict(network)
        if optimizer is not None:
            optimizer.load_state_dict(optimizer_state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} holds another architecture: {str(error).splitlines()[0]}; delete it and train"
        ) from error
    return content


def random_states():
    """States of all global random generators, in types that torch.load takes from strangers.

    Batches and augmentation do not ask them; a network with dropout, or code of a reader's own, may.
    """
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global one is the one to keep
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
    }


def set_random_states(states):
    """Undo what has been drawn since `random_states`; GPUs that are not there any more are passed over."""
    torch.set_rng_state(states["torch"])
    for device, state in list(enumerate(states["cuda"]))[: torch.cuda.device_count()]:
        torch.cuda.set_rng_state(state, device)
    version, values, gauss = states["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - likewise
