"""A run's state in files that are complete or absent. Taught in notebooks/09_training.ipynb."""

import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..files import InputError, atomic_path, check_unfolded
from . import distributed

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
STATE = ("network", "optimizer", "step", "seconds", "log")  # what a training needs to go on


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    state: dict,
    keep: int = 1,
):
    """Write network, optimizers, random states and progress as one file, atomically.

    Args:
        path: the file.
        network, optimizers: whose state_dict is taken.
        state: dict with step, seconds, log, and whatever else is to come back: best, config (a
            dict), commit.
        keep: above 1, the last `keep` files of this name stay beside it as NAME-<step>.pt.
    Raises:
        InputError: the disk is full or not to be written to; the file from before is complete then.
    """
    states = [optimizer.state_dict() for optimizer in optimizers]
    content = {
        "network": network.state_dict(),
        "optimizer": states[0] if len(states) == 1 else {"0": states[0], "1": states[1]},
        "random": random_states(),
        **state,
    }
    path = Path(path)
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    if keep > 1:
        with atomic_path(path.with_stem(f"{path.stem}-{state['step']:08d}")) as temporary:
            shutil.copyfile(path, temporary)
        for old in sorted(path.parent.glob(f"{path.stem}-{'[0-9]' * 8}{path.suffix}"))[:-keep]:
            old.unlink()


def read_checkpoint(
    path: Path,
    names: tuple[str, ...] = ("config",),
    what: str = "a complete checkpoint of this library",
    advice: str = "delete it and train, or get it again; test --published reads published ones",
) -> dict:
    """What a checkpoint file holds, on the CPU.

    Args:
        path: the file.
        names: what it must hold.
        what, advice: for the message: what was expected, and what to do.
    Returns:
        dict.
    Raises:
        InputError: missing, too large or damaged, or one of `names` is not in it.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is missing; train first: python -m ipr_lib train")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_unfolded(path, sum(member.file_size for member in archive.infolist()))
        content = torch.load(path, map_location="cpu", weights_only=True)
        missing = set(names) - set(content)
        if missing:
            raise KeyError(missing)
        return content
    except InputError:  # it would fill the memory
        raise
    except Exception as error:  # torch raises many kinds for damaged files; all mean the same
        raise InputError(f"{path} is not {what} ({type(error).__name__}); {advice}") from error


def load_checkpoint(path: Path, network: nn.Module, names: tuple[str, ...] = STATE) -> dict:
    """Fill a network from a checkpoint.

    Args:
        path: the file.
        network: filled in place.
        names: what the file must hold.
    Returns:
        dict: all that the checkpoint holds, see `save_checkpoint`.
    Raises:
        InputError: missing, damaged, or of another architecture.
    """
    content = read_checkpoint(path, names)
    try:
        network.load_state_dict(content["network"])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} holds another architecture: {reason}; delete it and train or get it again"
        ) from error
    return content


def resume(
    path: Path, network: nn.Module, optimizers: list[torch.optim.Optimizer], steps: int
) -> dict:
    """Fill network and optimizers from a run's checkpoint, if there is one.

    Args:
        path: of the checkpoint.
        network, optimizers: filled in place; the optimizers of a training that is over are left
            alone.
        steps: of the whole training.
    Returns:
        step, seconds, log, best (MPJPE, mm), and whatever else the checkpoint keeps; step is 0 for
        a new run.
    Raises:
        InputError: the checkpoint does not fit, or the processes of a group found different ones.
    """
    state = {"step": 0, "seconds": 0.0, "log": [], "best": float("inf")}
    if path.exists():
        content = load_checkpoint(path, network)
        if content["step"] < steps:
            restore_optimizers(path, content, optimizers)
            if "random" in content:
                set_random_states(content["random"])
        for name in ("network", "optimizer", "random"):
            content.pop(name, None)
        state |= content
    step = torch.tensor(state["step"], device=next(network.parameters()).device)
    if distributed.all_reduce_sum(step) != step * distributed.size():
        raise InputError(
            f"{path} is at step {step} for this process and at another for others; several machines need {path.parent} on "
            "a disk that they share"
        )
    return state


def restore_optimizers(path: Path, content: dict, optimizers: list[torch.optim.Optimizer]):
    """Put a checkpoint's state into optimizers; InputError where it is laid out in another way."""
    states = content["optimizer"]
    try:
        if len(optimizers) == 1:
            optimizers[0].load_state_dict(states)
        else:
            optimizers[0].load_state_dict(states["0"])
            optimizers[1].load_state_dict(states["1"])
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{path} holds the optimizer's state in the layout of another version ({error}); delete it and train anew"
        ) from error


def trained_minutes(path: Path) -> float:
    """Minutes that all steps of a checkpoint took, those before an interruption too."""
    return round(read_checkpoint(path, ("seconds",))["seconds"] / 60, 3)


def random_states() -> dict:
    """States of all global random generators, in types that torch.load takes from strangers.

    Batches and augmentation do not ask them; a network with dropout, or code of a reader's own,
    may.
    """
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global one is the one to keep
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
    }


def set_random_states(states: dict):
    """Restore the saved random states; GPUs that are not there any more are left out."""
    torch.set_rng_state(states["torch"])
    for device in range(min(len(states["cuda"]), torch.cuda.device_count())):
        torch.cuda.set_rng_state(states["cuda"][device], device)
    version, values, gauss = states["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - likewise
