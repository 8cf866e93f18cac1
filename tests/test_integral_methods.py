import dataclasses
from contextlib import closing

import numpy as np
import pytest
import torch

from ipr_lib import run
from ipr_lib.config import load_config
from ipr_lib.data.datasets import CropDataset, normalise
from ipr_lib.files import InputError
from ipr_lib.integral import (
    DECODERS,
    METHODS,
    binary_heatmap_loss,
    build_method,
    cells_to_joints,
    decode,
    integral_loss,
    joints_to_cells,
    js_prior_loss,
    soft_argmax,
    squared_heatmap_loss,
    start_logit,
)
from ipr_lib.integral.methods import BINARY, INTEGRAL, SQUARED
from ipr_lib.network import DirectNet, LineNet, build_backbone, count_parameters
from ipr_lib.training.loop import MicroBatches

SHAPE = (2, 3, 4, 5, 6)  # B, J, D, H, W
OUTPUTS = {"volume": SHAPE, "lines": (2, 3, 3, 7), "direct": (2, 3, 3)}  # of each head
CROP_PX, DEPTH_MM = 48, 2000.0


def peaks(cells):
    """(B, J, D, H, W) logits with one sharp, symmetric peak at whole cells (B, J, 3)."""
    volume = torch.zeros(SHAPE)
    for b, j in np.ndindex(*SHAPE[:2]):
        x, y, z = cells[b, j]
        volume[b, j, z, y, x] = 80.0
    return volume


def test_every_decoder_finds_a_sharp_peak():
    cells = np.random.default_rng(0).integers(1, [5, 4, 3], (2, 3, 3))
    expected = cells_to_joints(
        torch.as_tensor(cells, dtype=torch.float32), SHAPE[2:], CROP_PX, DEPTH_MM
    )
    assert len(DECODERS) == 5
    for name in set(DECODERS) - {"direct"}:
        torch.testing.assert_close(
            decode(peaks(cells), CROP_PX, DEPTH_MM, name), expected, msg=name
        )


def test_own_decoders_by_hand():
    # Two cells, 3 : 1. The expectation lies between them, the maximum on the first.
    volume = torch.full((1, 1, 4, 5, 6), -1e4)
    volume[0, 0, 1, 2, 0], volume[0, 0, 1, 2, 4] = np.log(3), 0.0
    x = {
        name: float(decode(volume, 6, DEPTH_MM, method.decoder)[0, 0, 0])
        for name, method in METHODS.items()
        if method.head == "volume"
    }
    assert {x[name] for name in ("H1", "H2", "H3")} == {0.0}
    assert all(x[name] == pytest.approx(1.0, abs=1e-5) for name in ("I1", "I2", "I3", "I*", "E"))


def test_direct_output_by_hand():
    output = torch.tensor([[[0.0, 0.5, -0.25]]])
    np.testing.assert_allclose(decode(output, 64, 2000.0, "direct")[0, 0], [31.5, 63.5, -500])


def test_decoders_of_each_head():
    assert METHODS["R1"].head == "direct" and METHODS["R1"].decoders == ("direct",)
    assert METHODS["H2"].head == "volume"
    assert METHODS["H2"].decoders == (
        "argmax",
        "argmax + 1/4",
        "expectation",
        "expectation, de-biased",
    )
    assert METHODS["I*"].decoders == (
        "expectation",
        "argmax",
        "argmax + 1/4",
        "expectation, de-biased",
    )


def test_stages_follow_the_progress():
    assert [METHODS["I1"].loss(p) for p in (0.0, 0.499, 0.5, 0.99, 1.0)] == [
        SQUARED,
        SQUARED,
        INTEGRAL,
        INTEGRAL,
        INTEGRAL,
    ]
    assert METHODS["I3"].loss(0.2) is BINARY and METHODS["I*"].loss(0.2) is INTEGRAL
    assert all(method.name == name for name, method in METHODS.items())


def test_targets_can_be_set():
    """H1's height and H3's radius reach the first loss of I1 and I3; nothing else changes."""
    volume = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    joints, weights = torch.rand(2, 3, 3) * 40, torch.ones(2, 3, 3)
    cells = joints_to_cells(joints, SHAPE[2:], CROP_PX, DEPTH_MM)
    taught = build_method("I1", target_height=4.0).loss(0.2)(
        volume, joints, weights, CROP_PX, DEPTH_MM
    )
    torch.testing.assert_close(taught, squared_heatmap_loss(volume, cells, weights, height=4.0))
    taught = build_method("I3", ball_radius=1.0).loss(0.2)(
        volume, joints, weights, CROP_PX, DEPTH_MM
    )
    torch.testing.assert_close(taught, binary_heatmap_loss(volume, cells, weights, radius=1.0))
    assert build_method("I3", 4.0, 1.0).loss(0.9) is INTEGRAL
    assert build_method("H2", 4.0, 1.0) == METHODS["H2"]


def test_integral_method_is_the_paper_s_loss():
    """L1 on decoded joints, as fractions of the volume's sides: in cells over 6, 5, 4 it is the same."""
    cells, weights = torch.rand(2, 3, 3) * 3, torch.ones(2, 3, 3)
    weights[0, :, 2] = 0
    volume = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    off = (soft_argmax(volume) - cells).abs() / torch.tensor([6.0, 5, 4])
    joints = cells_to_joints(cells, SHAPE[2:], CROP_PX, DEPTH_MM)
    loss = METHODS["I*"].loss(0.0)(volume, joints, weights, CROP_PX, DEPTH_MM)
    torch.testing.assert_close(loss, (off * weights).sum() / 15)


def test_loss_with_prior_adds_both():
    joints, weights = torch.rand(2, 3, 3) * 40, torch.ones(2, 3, 3)
    volume = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    cells = joints_to_cells(joints, SHAPE[2:], CROP_PX, DEPTH_MM)
    together = METHODS["I* + prior"].loss(0.5)(volume, joints, weights, CROP_PX, DEPTH_MM)
    integral = METHODS["I*"].loss(0.5)(volume, joints, weights, CROP_PX, DEPTH_MM)
    torch.testing.assert_close(together, integral + js_prior_loss(volume, cells, weights))


def test_what_a_loss_is_a_mean_over():
    weights = torch.tensor([[[1.0, 1, 1], [1, 1, 0], [1, 0, 1]]])
    assert INTEGRAL.counts(weights).sum() == 7
    assert SQUARED.counts(weights).tolist() == [[1, 1, 0]]


def test_unknown_method_is_refused():
    with pytest.raises(InputError, match=r"method='H4': expected one of R1, H1"):
        load_config("smoke", method="H4")


def test_lines_by_hand():
    """Bins of 3 px and 125 mm, as 16 a side of 48 px and 2 m. x: 3 : 1 on bins 4 and 8; y: all on 0; z: all on 15."""
    lines = torch.full((1, 1, 3, 16), -1e4)
    lines[0, 0, 0, 4], lines[0, 0, 0, 8] = np.log(3), 0.0
    lines[0, 0, 1, 0] = lines[0, 0, 2, 15] = 0.0
    # Bin i has its centre at 3 i + 1 px; of depth, at 125 (i + 0.5) - 1000 mm.
    np.testing.assert_allclose(decode(lines, 48, 2000.0, "argmax")[0, 0], [13, 1, 937.5])
    np.testing.assert_allclose(decode(lines, 48, 2000.0, "expectation")[0, 0], [16, 1, 937.5])
    np.testing.assert_allclose(decode(lines, 48, 2000.0, "argmax + 1/4")[0, 0], [13, 1, 937.5])


def test_each_line_is_read_by_itself():
    """Joint j of sample b has its peaks at bins 3 b + j, 1 + j and 2 + b: no line is mixed up with another one."""
    lines = torch.zeros(2, 3, 3, 7)
    expected = torch.empty(2, 3, 3)
    for b, j in np.ndindex(2, 3):
        expected[b, j] = torch.tensor([3.0 * b + j, 1.0 + j, 2.0 + b])
        for axis in range(3):
            lines[b, j, axis, int(expected[b, j, axis])] = 60.0
    for name in METHODS["SimCC"].decoders:
        cells = joints_to_cells(
            decode(lines, CROP_PX, DEPTH_MM, name), (7, 7, 7), CROP_PX, DEPTH_MM
        )
        torch.testing.assert_close(cells, expected, atol=1e-4, rtol=0, msg=name)
    assert METHODS["SimCC"].decoders == ("argmax", "argmax + 1/4", "expectation")


def test_network_of_lines(training_seed):
    """Two bins a pixel for each axis, read off maps; it starts from the middle and from the same backbone."""
    cfg = load_config("smoke", method="SimCC", deconvolutions=2, seed=training_seed)
    network = run.build_network(cfg)
    assert isinstance(network, LineNet) and cfg.volume_shape == (128, 128, 128)
    assert cfg.network.endswith("64 px, map 16 x 16, lines of 128")
    volume = run.build_network(dataclasses.replace(cfg, method="I*"))
    for ours, theirs in zip(network.backbone.parameters(), volume.backbone.parameters()):
        assert torch.equal(ours, theirs)
    lines = network.eval()(torch.randn(2, 3, 64, 64))
    assert lines.shape == (2, 18, 3, 128)
    joints = decode(lines, 64, 2000.0)
    torch.testing.assert_close(
        joints, torch.tensor([31.5, 31.5, 0.0]).expand(2, 18, 3), atol=2, rtol=0
    )


def test_start_logit():
    """A ball of radius 1.5 has 14.137 cells; log(14.137 / (13824 - 14.137)) = -6.8843."""
    for name in ("H3", "I3"):
        assert start_logit(METHODS[name], (24, 24, 24), 1.5) == pytest.approx(-6.8843, abs=1e-3)
    assert start_logit(METHODS["H3"], (2, 3, 4), 2.5) == 0, "a ball as large as the volume"
    for name in ("R1", "H1", "H2", "I*", "SimCC"):
        assert start_logit(METHODS[name], (24, 24, 24), 1.5) == 0, name


def test_network_starts_with_the_share_of_the_ball(training_seed):
    """H3's volume starts near the ball's share of its cells; the other heads' near one half."""
    cfg = load_config("smoke", method="H3", ball_radius=1.2, seed=training_seed)
    crops = torch.randn(2, 3, 64, 64)
    D, H, W = cfg.volume_shape
    share = 4 / 3 * torch.pi * 1.2**3 / (D * H * W)
    start = run.build_network(cfg).eval()(crops).sigmoid()
    assert start.mean().item() == pytest.approx(share, rel=0.1)
    other = run.build_network(dataclasses.replace(cfg, method="H2")).eval()(crops)
    assert other.abs().max() < 0.1


def test_direct_network_starts_at_the_middle_and_shares_the_backbone(training_seed):
    cfg = load_config("smoke", method="R1", seed=training_seed)
    direct, volume = (
        run.build_network(cfg),
        run.build_network(dataclasses.replace(cfg, method="I*")),
    )
    assert isinstance(direct, DirectNet)
    for ours, theirs in zip(
        direct.backbone.parameters(), volume.backbone.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), "both start from the same backbone"
    output = direct.eval()(torch.randn(2, 3, 64, 64))
    assert output.shape == (2, 18, 3) and output.abs().max() < 0.05
    backbone = build_backbone("small", cfg.backbone_width)
    assert count_parameters(direct) == count_parameters(backbone) + (backbone.channels + 1) * 54


@pytest.mark.parametrize("name", METHODS)
def test_samples_without_depth_teach_nothing_about_depth(name):
    """The gradient does not change when the true depth of samples without depth does, and does for the others."""
    method = METHODS[name]
    shape = OUTPUTS[method.head]
    weights = torch.ones(2, 3, 3)
    weights[0, :, 2] = 0

    def gradient(z, progress):
        output = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        joints = torch.tensor([20.0, 30.0, 0.0]).repeat(2, 3, 1)
        joints[..., 2] = z
        method.loss(progress)(output, joints, weights, CROP_PX, DEPTH_MM).backward()
        return output.grad

    for progress in (0.0, 0.9):
        low, high = gradient(-700.0, progress), gradient(700.0, progress)
        assert torch.equal(low[0], high[0]) and not torch.equal(low[1], high[1])
        assert low[0].abs().max() > 0, "x and y are taught"


@pytest.mark.parametrize("name", METHODS)
def test_parts_of_a_mixed_batch_have_the_loss_of_the_whole(name, training_seed):
    """One part has no depth, the other has: their shares must count what the loss counts, coordinates or joints."""
    shape = OUTPUTS[METHODS[name].head][1:]
    torch.manual_seed(training_seed)
    model = torch.nn.Linear(1, int(np.prod(shape)))
    batch = {
        "x": torch.randn(4, 1),
        "joints": torch.rand(4, 3, 3) * 40,
        "weights": torch.ones(4, 3, 3),
    }
    batch["weights"][::2, :, 2] = 0
    for loss in METHODS[name].losses:

        def loss_of(model, part, loss=loss):
            return loss(
                model(part["x"]).unflatten(1, shape),
                part["joints"],
                part["weights"],
                CROP_PX,
                DEPTH_MM,
            )

        with closing(MicroBatches(model, 2)) as micro_batches:
            torch.testing.assert_close(
                micro_batches.backward(batch, loss_of, loss.counts),
                loss_of(model, batch).detach(),
                rtol=1e-4,
                atol=1e-5,
            )


@pytest.mark.parametrize("name", METHODS)
def test_descent_on_the_output_itself_finds_the_joints(name, training_seed):
    """Without a network in between, each method's losses and decoder lead to the joints, in all its stages together."""
    rng = np.random.default_rng(training_seed)
    joints = torch.as_tensor(
        rng.uniform([4, 4, -800], [43, 43, 800], (2, 3, 3)), dtype=torch.float32
    )
    shapes = {"volume": (2, 3, 8, 8, 8), "lines": (2, 3, 3, 96), "direct": (2, 3, 3)}
    shape = shapes[METHODS[name].head]
    output = torch.zeros(shape, requires_grad=True)
    optimizer, steps = torch.optim.Adam([output], lr=0.3), 300
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / steps)
        if step == steps // 2:
            optimizer.state.clear()
        optimizer.zero_grad()
        METHODS[name].loss(step / steps)(
            output, joints, torch.ones(2, 3, 3), CROP_PX, DEPTH_MM
        ).backward()
        optimizer.step()
    off = (
        decode(output.detach(), CROP_PX, DEPTH_MM, METHODS[name].decoder) - joints
    ).abs() / torch.tensor([CROP_PX, CROP_PX, DEPTH_MM])
    # In shares of a side. A maximum is half a cell of eight off at most, and so is the least expected error, whose best map
    # is the nearest cell alone; the maximum of a ball is any of its cells. Each has a twentieth of a cell of room or more.
    # The prior's Gaussian is cut off at the border, so its mean lies further in: joints near the border pay up to 0.022.
    limits = {"H1": 0.55 / 8, "H2": 0.55 / 8, "E": 0.55 / 8, "H3": 1.7 / 8, "I* + prior": 0.03}
    limit = limits.get(name, 0.01)
    worst = float(off.max())
    assert worst < limit, (
        f"{name}: expected every coordinate within {limit:.3f} of a side, the worst is {worst:.3f} off"
    )


@pytest.mark.parametrize("name", ["R1", "H1", "H2", "H3", "I*", "SimCC"])
def test_overfits_a_few_crops(store, name, training_seed):
    """From the middle of the crop to the places of the joints, by each method's own losses and decoder."""
    cfg = load_config("smoke", method=name, head_width=32, seed=training_seed)
    batch = CropDataset(store, cfg.crop_px, cfg.depth_mm)[0, 0, np.arange(6)]
    pixels, joints, weights = normalise(batch["crops"]), batch["joints"], batch["weights"]
    extent = (cfg.crop_px, cfg.crop_px, cfg.depth_mm)
    model = run.build_network(cfg).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def error():
        with torch.no_grad():
            found = decode(model(pixels), cfg.crop_px, cfg.depth_mm, METHODS[name].decoder)
            return float(integral_loss(found, joints, weights, extent))

    before, steps = error(), 250  # the integral's gradients are weak at first
    for step in range(steps):
        loss = METHODS[name].loss(step / steps)(
            model(pixels), joints, weights, cfg.crop_px, cfg.depth_mm
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # A cell is an eighth of the side: a maximum is a 32nd off on average.
    cell = 1 / 8 if name in ("H1", "H2", "H3") else 0
    assert error() < 0.35 * before + cell / 4, f"{before:.3f} -> {error():.3f}"
