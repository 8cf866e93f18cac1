"""How a network learns: from batches to moved weights, a log and checkpoints.

Taught in notebooks/09_training.ipynb.

Read `loop` first: the learning rate, the optimizers, a step, a batch worked through in parts, and
the whole training. Then, as the loop calls them: `precision` (the device, bfloat16), `records` (the
log and the checkpoints that a run writes, and how it goes on), `distributed` (several processes).
Nothing here sees a Config or a metric; `ipr_lib.run` reads the one and hands in the other.
"""

from .loop import OPTIMIZERS, MicroBatches, Muon, Schedule, build_optimizers, train, training_step
from .precision import PRECISIONS, autocast
from .records import (
    BEST,
    CHECKPOINT,
    load_checkpoint,
    read_checkpoint,
    read_log,
    save_checkpoint,
)

__all__ = [
    "BEST",
    "CHECKPOINT",
    "OPTIMIZERS",
    "PRECISIONS",
    "MicroBatches",
    "Muon",
    "Schedule",
    "autocast",
    "build_optimizers",
    "load_checkpoint",
    "read_checkpoint",
    "read_log",
    "save_checkpoint",
    "train",
    "training_step",
]
