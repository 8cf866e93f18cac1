"""What a run costs, counted from its config before anything is made. Taught in notebooks/09_training.ipynb."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from .engine import blank_model

# Counted on the real set: S1, 5, 6, 7, 8, every 5th frame; S9, 11, every 64th.
HUMAN36M_PICTURES = {"train": (312_188, 5), "test": (8_695, 64)}


def pictures(cfg, part):
    """Pictures of a part of the data, none of them made.

    Args:
        cfg: Config.
        part: "train" or "test".
    Returns:
        int; for Human3.6M's usual subjects, about, where the step is not the usual one.
    """
    step = getattr(cfg, f"{part}_step")
    if cfg.dataset != "capture":
        count, usual = HUMAN36M_PICTURES[part]
        return round(count * usual / step)
    subjects = set(getattr(cfg, f"{part}_subjects")) & set(cfg.capture_subjects)
    takes = (
        len(subjects) * len(cfg.capture_actions) * len(cfg.capture_takes) * len(cfg.capture_cameras)
    )
    return takes * -(-cfg.capture_frames // step)


def crops_seen(cfg):
    """Crops that go through training, repeats counted, as many of each 2D set as of the 3D one; int."""
    return (
        pictures(cfg, "train") * (1 + len(cfg.mix)) // cfg.batch_size * cfg.batch_size * cfg.epochs
    )


def work_per_crop(cfg, training=True):
    """Floating-point operations of the network for one crop, counted on shapes alone.

    Args:
        cfg: Config.
        training: forward and backward; else forward.
    Returns:
        float; a multiplication and an addition are two.
    """
    with torch.device("meta"):
        model, crops = blank_model(cfg), torch.empty(2, 3, cfg.crop_px, cfg.crop_px)
    with FlopCounterMode(display=False) as counter:
        volume = model(crops)
        if training:
            volume.sum().backward()
    return counter.get_total_flops() / len(crops)
