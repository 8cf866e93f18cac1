"""What a training run writes: its checkpoints, complete or absent, and its log.

Taught in notebooks/09_training.ipynb.
"""

import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from ..data.datasets import BatchKeys, StoreMix
from ..data.h36m_layout import item_path
from ..data.store import CropStore
from ..files import InputError, atomic_path, check_unfolded, write_json
from ..progress import work_seconds
from . import distributed

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
STATE = ("network", "optimizer", "step", "seconds", "log")  # what a training needs to go on
JSON_LINES, EVENTS, NOT_FINITE = "training.jsonl", "tensorboard", "not_finite.json"
LARGEST_RATE = 1e-3  # that is ever advised: from here on even Adam's first steps are large


# --- checkpoints ---


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    state: dict,
    keep: int = 1,
):
    """Write network, optimizers, torch's random states and progress as one file, atomically.

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
        "random": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
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
        InputError: missing, damaged, of another architecture, or with weights that are not finite.
    """
    content = read_checkpoint(path, names)
    try:
        network.load_state_dict(content["network"])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} holds another architecture: {reason}; delete it and train or get it again"
        ) from error
    check_finite(path, network)
    return content


def check_finite(path: Path, network: nn.Module):
    """InputError where the weights of a network are not finite, which was read from a file."""
    for name, weights in network.state_dict().items():
        if not weights.isfinite().all():
            raise InputError(
                f"{path}: its weights {name} hold NaN or infinity; delete it, then get it again or train anew"
            )


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
            # Batches and augmentation do not ask these generators; a network with dropout does.
            random = content["random"]
            torch.set_rng_state(random["torch"])
            for device, state_of_gpu in zip(range(torch.cuda.device_count()), random["cuda"]):
                torch.cuda.set_rng_state(state_of_gpu, device)
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
    if len(optimizers) == 1:
        states = {"0": states}
    try:
        for number, optimizer in enumerate(optimizers):
            optimizer.load_state_dict(states[str(number)])
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{path} holds the optimizer's state in the layout of another version ({error}); delete it and train anew"
        ) from error


# --- the log ---


class Diverged(InputError):
    """The loss or the weights of a training are no longer finite."""


class TrainingLog:
    """Rows of numbers as JSON lines, and for TensorBoard where it is installed;
    each row as soon as it is there.

    A kill can tear the last line of the file: beginning anew with the rows that a checkpoint knows
    of mends it, and drops the rows of steps that will be made again. One line reads the file:

        rows = [json.loads(line) for line in open(run_folder / "training.jsonl")]
    """

    def __init__(self, folder: Path, rows: list[dict], writes: bool = True):
        """
        Args:
            folder: where the files lie.
            rows: dicts of numbers, "step" among them: what was logged before.
            writes: False writes nothing, for all processes of a group but the first.
        """
        self.path, self.writes, self.events = Path(folder) / JSON_LINES, writes, None
        if not writes:
            return
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        first_step = rows[-1]["step"] + 1 if rows else 1
        self.events = SummaryWriter(str(self.path.with_name(EVENTS)), purge_step=first_step)

    def write(self, row: dict):
        """Add one row, a dict of numbers, "step" among them."""
        if not self.writes:
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.events is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self.events.add_scalar(name, value, row["step"])
            self.events.flush()


def read_log(folder: Path) -> list[dict]:
    """Rows of the log in a run's folder."""
    return [
        json.loads(line)
        for line in (Path(folder) / JSON_LINES).read_text(encoding="utf-8").splitlines()
    ]


class StepMeter:
    """Collects what a row of the log says about the steps since the row before.

    Attributes:
        losses: of these steps: scalars on the device, what this process' rows add to the loss.
        seconds: that all steps of the run took.
    """

    def __init__(self, schedule, batch_size: int, seconds: float):
        """
        Args:
            schedule: Schedule of the training.
            batch_size: crops a step, those of all processes together.
            seconds: that the run took before.
        """
        self.schedule, self.batch_size, self.seconds = schedule, batch_size, seconds
        self.losses, self.waited, self.start = [], 0.0, None

    def timed(self, batches: Iterable) -> Iterator:
        """The items of `batches`; the seconds that each one takes to come are counted as
        waiting.
        """
        iterator = iter(batches)
        while True:
            asked = work_seconds()
            if self.start is None:
                self.start = asked  # the first step of a row; validation and checkpoint lie behind
            batch = next(iterator, None)
            if batch is None:
                return
            self.waited += work_seconds() - asked
            yield batch

    def row(self, done: int) -> tuple[torch.Tensor, dict]:
        """Close the row after `done` steps, and begin a new one.

        Returns:
            the losses of its steps, (n,) on the device; and the row, a dict of numbers.
        """
        losses = distributed.all_reduce_sum(torch.stack(self.losses))
        loss = losses.mean().item()  # the only place that waits for the device
        seconds = work_seconds() - self.start
        steps_per_second = len(losses) / seconds
        row = {
            "step": done,
            "epoch": round(done / self.schedule.steps_per_epoch, 3),
            "loss": loss,
            "learning_rate": self.schedule.rate(done - 1),
            "images_per_second": steps_per_second * self.batch_size,
            "data_wait": round(self.waited / seconds, 4),
            "memory_mb": memory_mb(losses.device),
            "minutes_left": round((self.schedule.steps - done) / steps_per_second / 60, 2),
        }
        self.seconds += seconds
        self.losses, self.waited, self.start = [], 0.0, None
        return losses, row


def memory_mb(device: torch.device) -> int | None:
    """Largest memory in use so far, MB: of the GPU's allocations, or of this process;
    None where it cannot be told.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(highest / (1e6 if sys.platform == "darwin" else 1e3))


def item_name(store, item: int) -> str:
    """Name of an item of a CropStore or StoreMix, by which its picture can be found.

    Returns:
        The picture's path in its prepared set, or set, picture and person of a 2D set.
    """
    if isinstance(store, StoreMix):
        source = store.sources(item)
        return item_name(store.stores[source], item - store.starts[source])
    columns, source = store.columns, store.recipe["source"]
    if "person" in columns:
        return f"{source}: picture {columns['frame'][item]}, person {columns['person'][item]}"
    return item_path(source, columns, item).as_posix()


def stop_if_not_finite(
    losses: torch.Tensor,
    network: nn.Module,
    done: int,
    store: CropStore | StoreMix,
    keys: BatchKeys,
    schedule,
    clip_gradient: float,
    run_dir: Path,
):
    """Diverged unless the losses of the last steps and the weights after them are finite;
    it says what to try.

    Args:
        losses: (n,) of the last n steps, all processes together.
        network: after these steps.
        done: steps done.
        store, keys: what the batches came from; the pictures of the bad one are named in `run_dir`.
        schedule, clip_gradient: Schedule and largest norm of the gradients, of the training, for
            the advice.
        run_dir: folder that gets `not_finite.json`.
    """
    if not losses.isfinite().all():
        what, step = "loss is", done - len(losses) + int(losses.isfinite().int().argmin())
    elif not all(parameter.isfinite().all() for parameter in network.parameters()):
        what, step = "weights are", done - 1
    else:
        return
    keys.start = step
    epoch, _, items = next(iter(keys))
    if distributed.rank() == 0:
        content = {
            "what": f"the {what} not finite",
            "step": step,
            "epoch": int(epoch),
            "learning_rate": schedule.rate(step),
            "items": items.tolist(),
            "pictures": [item_name(store, item) for item in items],
        }
        write_json(run_dir / NOT_FINITE, content)
    advice = [
        f"learning_rate={min(schedule.learning_rate / 3, LARGEST_RATE):.1g}",
        f"warmup_steps={schedule.warmup_steps + 500}",
    ]
    if not clip_gradient:
        advice.append("clip_gradient=1.0")
    raise Diverged(
        f"the {what} not finite at step {step}; the last checkpoint is complete, the batch's pictures are named in "
        f"{run_dir / NOT_FINITE}. Try {' or '.join(advice)}"
    )
