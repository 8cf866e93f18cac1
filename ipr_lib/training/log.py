"""What a training run writes down while it runs. Taught in notebooks/09_training.ipynb."""

import csv
import json
from pathlib import Path

import numpy as np
import torch

from ..data.h36m_layout import item_path
from ..data.mixing import StoreMix
from ..files import atomic_path

CSV, JSON_LINES, EVENTS = "training.csv", "training.jsonl", "tensorboard"


class TrainingLog:
    """Rows of numbers as CSV, as JSON lines, and for TensorBoard where it is installed; each row as soon as it is there.

    A row may bring a column that none had before, such as a validation that was added to a run half-way; the CSV is then
    written again, with that column empty so far. Use it as a context manager. A kill can tear the last line of a file:
    beginning anew with the rows that a checkpoint knows of mends it, and drops the rows of steps that will be made again.
    """

    def __init__(self, folder, rows=()):
        """
        Args:
            folder: where the files lie.
            rows: dicts of numbers, "step" among them: what was logged before.
        """
        self.folder, self.rows = Path(folder), list(rows)
        with atomic_path(self.folder / JSON_LINES) as lines:
            lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._write_table()
        self.start = rows[-1]["step"] if rows else 0

    def _write_table(self):
        """The whole CSV, with every column that a row has."""
        self.fields = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_path(self.folder / CSV) as temporary, open(temporary, "w", newline="") as file:
            if self.rows:
                writer = csv.DictWriter(file, self.fields)
                writer.writeheader()
                writer.writerows(self.rows)

    def __enter__(self):
        self.lines = open(self.folder / JSON_LINES, "a", buffering=1)
        self.events = _event_writer(self.folder / EVENTS, self.start + 1)
        return self

    def __exit__(self, *_):
        self.lines.close()
        if self.events is not None:
            self.events.close()

    def write(self, row):
        """Add one row, a dict of numbers, "step" among them."""
        self.rows.append(row)
        if set(row) <= set(self.fields):
            with open(self.folder / CSV, "a", newline="") as table:
                csv.DictWriter(table, self.fields).writerow(row)
        else:
            self._write_table()
        self.lines.write(json.dumps(row) + "\n")
        if self.events is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self.events.add_scalar(name, value, row["step"])


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
