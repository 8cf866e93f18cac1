"""What the training loop does at each step, seen from outside."""

import dataclasses

import numpy as np
import pytest
import torch

from ipr_lib import run
from ipr_lib.config import load_config
from ipr_lib.network import PoseNet
from ipr_lib.training import loop
from ipr_lib.training.loop import Schedule
from ipr_lib.training.records import CHECKPOINT, read_log

CPU = torch.device("cpu")
# Two epochs of two steps. I1 has one loss in the first half of the training, and another in the second.
CFG = load_config(
    "smoke",
    crop_px=64,
    depth_bins=8,
    backbone_width=4,
    head_width=8,
    method="I1",
    batch_size=3,
    micro_batches=1,
    epochs=2,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=0.125,
    warmup_steps=1,
    schedule="steps",
    lr_drops=(1,),
    precision="bfloat16",
    flip=0.0,
)


@pytest.fixture
def seen(store, tmp_path, monkeypatch):
    """A training with validation: its forward passes and its optimizer steps, in order."""
    passes, steps = [], []
    forward, step = PoseNet.forward, torch.optim.AdamW.step

    def spy_forward(self, images):
        output = forward(self, images)
        passes.append({"training": self.training, "images": images.clone(), "dtype": output.dtype})
        return output

    def spy_step(self, *arguments):
        (group,) = self.param_groups
        gradients = [p.grad.abs().max().item() for p in group["params"]]
        steps.append(
            {
                "optimizer": self,
                "rate": group["lr"],
                "decay": group["weight_decay"],
                "gradient": max(gradients),
            }
        )
        return step(self, *arguments)

    monkeypatch.setattr(PoseNet, "forward", spy_forward)
    monkeypatch.setattr(torch.optim.AdamW, "step", spy_step)
    run.train_run(CFG, store, tmp_path, CPU, validation=store)
    return passes, steps


def test_every_step_of_a_training(seen):
    passes, steps = seen
    # A validation of all six crops follows the two steps of each epoch.
    assert [one["training"] for one in passes] == [True, True, False, True, True, False]
    assert [len(one["images"]) for one in passes] == [3, 3, 6, 3, 3, 6]
    assert {one["dtype"] for one in passes} == {torch.bfloat16}
    assert {one["images"].dtype for one in passes} == {torch.float32}
    # One step of warm-up at half the rate; from epoch 1 on a tenth of it.
    assert [one["rate"] for one in steps] == pytest.approx([0.5e-3, 1e-3, 1e-4, 1e-4])
    assert {one["decay"] for one in steps} == {0.125}
    assert all(one["gradient"] > 0 for one in steps)
    # The other loss of the second half gets an optimizer without memory.
    first, second, third, fourth = (one["optimizer"] for one in steps)
    assert first is second and third is fourth and second is not third


def test_log_and_checkpoint_say_whether_float32_was_tf32(store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "uses_tf32", lambda number_format, device: True)
    monkeypatch.setattr(run.precision, "uses_tf32", lambda number_format, device: True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    run.train_run(CFG, store, tmp_path, CPU)
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert content["tf32"] is True
    assert [row["tf32"] for row in content["log"]] == [True] * 4
    assert torch.backends.cudnn.benchmark, "all batches have one shape"


def test_a_compiled_network_trains_as_a_plain_one(store, tmp_path, monkeypatch):
    """Traced by the compiler's front, but not translated to machine code, which takes a minute and a C++ compiler."""
    compiled, compile_ = [], torch.compile

    def traced(network):
        compiled.append(network)
        return compile_(network, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", traced)
    cfg = dataclasses.replace(CFG, precision="float32", method="I*")
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    fast = run.train_run(dataclasses.replace(cfg, compile=True), store, tmp_path / "fast", CPU)
    assert len(compiled) == 1 and counters["stats"]["unique_graphs"] == 1
    plain = run.train_run(cfg, store, tmp_path / "plain", CPU)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    # Adam moves a weight by the sign of its gradient, so rounding may turn single weights, but not the loss.
    found = [row["loss"] for row in read_log(tmp_path / "fast")]
    assert found == pytest.approx([row["loss"] for row in read_log(tmp_path / "plain")], rel=1e-3)
    assert len(set(found)) == 4


def test_training_sees_augmented_crops_and_validation_plain_ones(seen):
    passes, _ = seen
    plain = passes[2]["images"]
    torch.testing.assert_close(passes[5]["images"], plain)
    for one in (passes[0], passes[1], passes[3], passes[4]):
        for image in one["images"]:
            nearest = (plain - image).abs().mean(dim=(1, 2, 3)).min()
            assert nearest > 0.02, "expected every training crop to be moved or tinted"


def test_both_epochs_draw_other_augmentations(seen):
    passes, _ = seen
    first = torch.cat([passes[0]["images"], passes[1]["images"]])
    second = torch.cat([passes[3]["images"], passes[4]["images"]])
    for image in second:
        assert (first - image).abs().mean(dim=(1, 2, 3)).min() > 0.02


def test_each_field_of_the_augmentation_comes_from_the_field_of_its_name():
    cfg = dataclasses.replace(
        CFG,
        scale=0.11,
        rotation=12.0,
        shift=0.13,
        flip=0.14,
        colour=0.15,
        hue=16.0,
        contrast=0.17,
        occlusion=0.18,
    )
    found = run.build_augmentation(cfg)
    assert (found.scale, found.rotation, found.shift, found.flip) == (0.11, 12.0, 0.13, 0.14)
    assert (found.colour, found.hue, found.contrast, found.occlusion) == (0.15, 16.0, 0.17, 0.18)


# --- schedules ---


def test_rate_falls_at_the_stated_epochs():
    schedule = Schedule(1.0, epochs=20, steps_per_epoch=10, kind="steps", drops=(15, 17))
    rates = [schedule.rate(epoch * 10 + 9) for epoch in range(20)]
    np.testing.assert_allclose(rates, [1] * 15 + [0.1] * 2 + [0.01] * 3)
    assert schedule.rate(149) == 1.0 and schedule.rate(150) == pytest.approx(0.1)


def test_rate_follows_half_a_cosine_after_the_warm_up():
    schedule = Schedule(1.0, epochs=20, steps_per_epoch=10, kind="cosine", warmup_steps=3)
    assert schedule.rate(100) == pytest.approx(0.5) and schedule.rate(150) == pytest.approx(
        0.5 - 0.5**1.5
    )
    long = dataclasses.replace(schedule, steps_per_epoch=1000)
    assert [long.rate(step) for step in range(3)] == pytest.approx([0.25, 0.5, 0.75], rel=1e-3)


def test_a_schedule_is_made_of_the_fields_of_a_config():
    cfg = dataclasses.replace(
        CFG, learning_rate=0.5, epochs=9, schedule="cosine", lr_drops=(4, 5), warmup_steps=7
    )
    assert run.build_schedule(cfg, 11) == Schedule(0.5, 9, 11, "cosine", (4, 5), 7)
    assert run.build_schedule(cfg, 11).steps == 99
