"""How a network learns: from batches to moved weights, a log and checkpoints.

Taught in notebooks/09_training.ipynb.

Read `loop` first: the learning rate, a step, a batch worked through in parts, and the whole
training. Then, as the loop calls them: `optimizers` (AdamW and Muon), `precision` (the device,
bfloat16), `log` and `checkpoints` (what a run writes, and how it goes on), `distributed` (several
processes). Nothing here sees a Config or a metric; `ipr_lib.run` reads the one and hands in the
other.
"""

from .checkpoints import BEST, CHECKPOINT, load_checkpoint, read_checkpoint, save_checkpoint
from .log import read_log
from .loop import MicroBatches, Schedule, train, training_step
from .optimizers import OPTIMIZERS, Muon, build_optimizers
from .precision import PRECISIONS, autocast

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
