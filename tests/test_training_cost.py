"""What a run costs, counted from a config; that the counts are those of a store, notebook 09 asserts."""

import dataclasses

from ipr_lib import run
from ipr_lib.config import RECIPES, load_config
from ipr_lib.data.datasets import BatchKeys
from ipr_lib.network import count_parameters


def test_pictures_of_a_capture():
    cfg = load_config(
        "smoke", train_subjects=[1, 5], capture_actions=[2, 3, 4], capture_frames=81
    )  # 1 take, 2 cameras
    assert (run.image_count(cfg, "train"), run.image_count(cfg, "test")) == (
        2 * 3 * 2 * 3,
        2 * 3 * 2 * 2,
    )  # 0, 40, 80; 0, 64


def test_real_counts_and_mixing():
    full = load_config("full")
    assert (run.image_count(full, "train"), run.image_count(full, "test")) == (312_188, 8_695)
    assert run.image_count(load_config("full", train_step=50), "train") == 31_219
    alone = dataclasses.replace(full, mix=())
    assert run.crops_seen(alone) == 312_188 // full.batch_size * full.batch_size * full.epochs
    # 16 of each batch are 3D: 19,511 batches an epoch, and 12 images are left over.
    assert (full.batch_size, full.epochs) == (32, 20)
    assert run.crops_seen(full) == 19_511 * 32 * 20


def test_crops_of_a_mixed_training_follow_from_its_ratio():
    """Half of each batch is 3D: an epoch takes twice as many crops as there are 3D images, not three times."""
    strong = load_config("full", **RECIPES["strong"])
    assert strong.batch_size == 32 and strong.epochs == 20
    # 312,188 images at 16 a batch: 19,511 batches of 32 crops, 20 times.
    assert run.crops_seen(strong) == 19_511 * 32 * 20 == 12_487_040
    keys = BatchKeys([312_188, 28_000, 150_000], 32, epochs=20, ratio=(2, 1, 1))
    assert keys.steps * 32 == 12_487_040


def test_work_is_weights_times_places():
    """Each weight of a 1 x 1 output layer and of every convolution is used once a place, twice counted."""
    cfg = load_config("smoke")
    model, forward = run.build_network(cfg), run.work_per_crop(cfg, training=False)
    assert forward > 2 * count_parameters(model)
    assert (
        2.5 * forward < run.work_per_crop(cfg) < 3 * forward
    )  # the first layer hands nothing back to the pixels
    last = model.final
    wider = run.work_per_crop(load_config("smoke", depth_bins=2 * cfg.depth_bins), training=False)
    places = cfg.volume_shape[1] * cfg.volume_shape[2]
    assert wider - forward == 2 * last.weight.numel() * places
