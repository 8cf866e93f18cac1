"""What a training run writes down while it runs. Taught in notebooks/09_training.ipynb."""

import json
from pathlib import Path

import numpy as np
import torch

from ..data.h36m_layout import item_path
from ..data.mixing import StoreMix
from ..files import atomic_path

JSON_LINES, EVENTS = "training.jsonl", "tensorboard"


class TrainingLog:
    """Rows of numbers as JSON lines, and for TensorBoard where it is installed; each row as soon as it is there.

    Use it as a context manager. A kill can tear the last line of the file: beginning anew with the rows that a checkpoint
    knows of mends it, and drops the rows of steps that will be made again. One line reads the file:

        rows = [json.loads(line) for line in open(run_folder / "training.jsonl")]
    """

    def __init__(self, folder, rows=(), writes=True):
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

    def write(self, row):
        """Add one row, a dict of numbers, "step" among them."""
        if not self.writes:
            return
        self.lines.write(json.dumps(row) + "\n")
        if self.events is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self.events.add_scalar(name, value, row["step"])


def read_log(folder):
    """Rows of the log in a run's folder; list of dicts."""
    return [json.loads(line) for line in (Path(folder) / JSON_LINES).read_text().splitlines()]


def _event_writer(folder, first_step):
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step)


def memory_mb(device):
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


def item_names(store, items):
    """Names of items, by which a picture can be found.

    Args:
        store: CropStore or StoreMix.
        items: (m,) indices.
    Returns:
        list of m str: the picture's path in its prepared set, or set, picture and person of a 2D set.
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
