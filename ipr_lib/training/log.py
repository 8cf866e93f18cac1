"""What a training run writes down while it runs. Taught in notebooks/09_training.ipynb."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from ..data.h36m_layout import item_path
from ..data.mixing import StoreMix
from ..files import atomic_path
from ..progress import work_seconds
from . import distributed

JSON_LINES, EVENTS = "training.jsonl", "tensorboard"


class TrainingLog:
    """Rows of numbers as JSON lines, and for TensorBoard where it is installed; each row as soon as it is there.

    Use it as a context manager. A kill can tear the last line of the file: beginning anew with the rows that a checkpoint
    knows of mends it, and drops the rows of steps that will be made again. One line reads the file:

        rows = [json.loads(line) for line in open(run_folder / "training.jsonl")]
    """

    def __init__(self, folder: Path, rows: Iterable[dict] = (), writes: bool = True):
        """
        Args:
            folder: where the files lie.
            rows: dicts of numbers, "step" among them: what was logged before.
            writes: False writes nothing, for all processes of a group but the first.
        """
        self.folder, self.writes = Path(folder), writes
        self.first_step = rows[-1]["step"] + 1 if rows else 1
        if writes:
            with atomic_path(self.folder / JSON_LINES) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def __enter__(self):
        if self.writes:
            self.lines = open(self.folder / JSON_LINES, "a", buffering=1)
            self.events = _event_writer(self.folder / EVENTS, self.first_step)
        return self

    def __exit__(self, *_):
        if self.writes:
            self.lines.close()
            if self.events is not None:
                self.events.close()

    def write(self, row: dict):
        """Add one row, a dict of numbers, "step" among them."""
        if not self.writes:
            return
        self.lines.write(json.dumps(row) + "\n")
        if self.events is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self.events.add_scalar(name, value, row["step"])


def read_log(folder: Path) -> list[dict]:
    """Rows of the log in a run's folder."""
    return [json.loads(line) for line in (Path(folder) / JSON_LINES).read_text().splitlines()]


class StepMeter:
    """Collects what a row of the log says about the steps since the row before."""

    def __init__(self, device, batch_size, schedule):
        """
        Args:
            device: of the network.
            batch_size: crops a step, those of all processes together.
            schedule: Schedule of the training.
        """
        self.device, self.batch_size, self.schedule = device, batch_size, schedule
        self.restart()

    def restart(self):
        """Begin a new row."""
        self.losses, self.waited, self.seconds, self.start = [], 0.0, 0.0, work_seconds()

    def timed(self, batches: Iterable) -> Iterator:
        """The items of `batches`; the seconds that each one takes to come are counted as waiting."""
        iterator = iter(batches)
        while True:
            start = work_seconds()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += work_seconds() - start
            yield batch

    def add(self, loss: torch.Tensor):
        """Count one step; `loss` is a scalar on the device, what this process' rows add to it."""
        self.losses.append(loss)

    def row(self, done: int) -> tuple[torch.Tensor, dict]:
        """Close the row after `done` steps; `seconds` is the time that its steps took.

        Returns:
            the losses of its steps, (n,) on the device; and the row, a dict of numbers.
        """
        losses = distributed.all_reduce_sum(torch.stack(self.losses))
        loss = losses.mean().item()  # the only place that waits for the device
        self.seconds = work_seconds() - self.start
        steps_per_second = len(losses) / self.seconds
        return losses, {
            "step": done,
            "epoch": round(done / self.schedule.steps_per_epoch, 3),
            "loss": loss,
            "learning_rate": self.schedule.rate(done - 1),
            "images_per_second": steps_per_second * self.batch_size,
            "data_wait": round(self.waited / self.seconds, 4),
            "memory_mb": memory_mb(self.device),
            "minutes_left": round((self.schedule.steps - done) / steps_per_second / 60, 2),
        }


def _event_writer(folder, first_step):
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step)


def memory_mb(device: torch.device) -> int | None:
    """Largest memory in use so far, MB: of the GPU's allocations, or of this process; None where it cannot be told."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6)
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(highest / (1e6 if sys.platform == "darwin" else 1e3))


def item_names(store, items: np.ndarray) -> list[str]:
    """Names of items, by which a picture can be found.

    Args:
        store: CropStore or StoreMix.
        items: (m,) indices.
    Returns:
        The picture's path in its prepared set, or set, picture and person of a 2D set.
    """
    items = np.asarray(items)
    if isinstance(store, StoreMix):
        sources = store.sources(items)
        return [
            item_names(store.stores[i], [item - store.starts[i]])[0]
            for i, item in zip(sources, items)
        ]
    columns, source = store.columns, store.recipe["source"]
    if "person" in columns:
        return [
            f"{source}: picture {columns['frame'][item]}, person {columns['person'][item]}"
            for item in items
        ]
    return [item_path(source, columns, item).as_posix() for item in items]
