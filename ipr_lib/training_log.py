"""What a training run writes down while it runs. Taught in notebooks/09_training.ipynb."""

import csv
import json
from pathlib import Path

import numpy as np
import torch

from . import layout
from .files import atomic_path
from .mixing import StoreMix

CSV, JSON_LINES, EVENTS = "training.csv", "training.jsonl", "tensorboard"


class TrainingLog:
    """Rows of numbers as CSV, as JSON lines, and for TensorBoard where it is installed; each row as soon as it is there.

    Use it as a context manager. A kill can tear the last line of a file: beginning anew with the rows that a checkpoint
    knows of mends it, and drops the rows of steps that will be made again.
    """

    def __init__(self, folder, rows=()):
        """
        Args:
            folder: where the files lie.
            rows: dicts of numbers, all with the same keys, "step" among them: what was logged before.
        """
        self.folder = Path(folder)
        self.fields = list(rows[0]) if rows else None
        with atomic_path(self.folder / CSV) as table, atomic_path(self.folder / JSON_LINES) as lines:
            with open(table, "w", newline="") as file:
                if rows:
                    writer = csv.DictWriter(file, self.fields)
                    writer.writeheader()
                    writer.writerows(rows)
            lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.start = rows[-1]["step"] if rows else 0

    def __enter__(self):
        self.files = open(self.folder / CSV, "a", newline="", buffering=1), open(self.folder / JSON_LINES, "a", buffering=1)
        self.events = _event_writer(self.folder / EVENTS, self.start + 1)
        return self

    def __exit__(self, *_):
        for file in self.files:
            file.close()
        if self.events is not None:
            self.events.close()

    def write(self, row):
        """Add one row; the first decides on the columns."""
        table, lines = self.files
        if self.fields is None:
            self.fields = list(row)
            csv.writer(table).writerow(self.fields)
        csv.DictWriter(table, self.fields).writerow(row)
        lines.write(json.dumps(row) + "\n")
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
        return [item_names(store.stores[i], [item - store.starts[i]])[0] for i, item in zip(sources, items)]
    columns, source = store.columns, store.recipe["source"]
    if "person" in columns:
        return [f"{source}: picture {columns['frame'][item]}, person {columns['person'][item]}" for item in items]
    folders = [
        layout.folder_name(*(int(columns[name][item]) for name in ("subject", "action", "subaction", "camera_id")))
        for item in items
    ]
    pictures = (layout.picture_name(folder, int(columns["frame"][item])) for folder, item in zip(folders, items))
    return [f"{source}/{folder}/{picture}" for folder, picture in zip(folders, pictures)]
