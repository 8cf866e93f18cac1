"""The family as data: which head, which loss in which stage of training, which decoder.

Sun et al. 2018 compare direct regression (R), heat maps read by their maximum (H) and integral regression (I); taught in
notebooks/08_heatmap_vs_integral.ipynb. What the three heat-map losses are is our reading, see `losses`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from . import losses
from .grid import (
    cells_to_joints,
    constants,
    debiased_soft_argmax,
    hard_argmax,
    joints_to_cells,
    soft_argmax,
)

# --- decoders: (output of the network, crop_px, depth_mm) -> joints (B, J, 3), x, y in crop px, z in mm; float32 ---


def decode_direct(output, crop_px, depth_mm):
    """Output (B, J, 3) of a DirectNet: shares of the volume's sides, 0 is its middle."""
    middle = (crop_px - 1) / 2
    output = output.float()
    return output * constants((crop_px, crop_px, depth_mm), output) + constants(
        (middle, middle, 0.0), output
    )


def decode_expectation(volume, crop_px, depth_mm):
    """Expectation under a softmax over the volume: integral regression."""
    return cells_to_joints(soft_argmax(volume), volume.shape[2:], crop_px, depth_mm)


def decode_argmax(volume, crop_px, depth_mm):
    """Centre of the largest cell."""
    return cells_to_joints(hard_argmax(volume), volume.shape[2:], crop_px, depth_mm)


def decode_shifted_argmax(volume, crop_px, depth_mm):
    """Centre of the largest cell, a quarter of a cell towards its higher neighbours."""
    return cells_to_joints(
        hard_argmax(volume, quarter_shift=True), volume.shape[2:], crop_px, depth_mm
    )


def decode_debiased(volume, crop_px, depth_mm):
    """Expectation freed from the pull of a flat background."""
    return cells_to_joints(debiased_soft_argmax(volume), volume.shape[2:], crop_px, depth_mm)


DECODERS = {
    "direct": decode_direct,
    "argmax": decode_argmax,
    "argmax + 1/4": decode_shifted_argmax,
    "expectation": decode_expectation,
    "expectation, de-biased": decode_debiased,
}

# --- losses of training: (output, joints in px and mm, weights, crop_px, depth_mm) -> scalar ---
# Each has `counts`: weights (B, J, 3) -> the weights that its mean divides by, so that parts of a batch can be put together.


def _coordinates(weights):
    return weights


def _on_joints(decode):
    """L1 on decoded joints."""

    def loss(output, joints, weights, crop_px, depth_mm):
        return losses.integral_loss(
            decode(output, crop_px, depth_mm), joints, weights, (crop_px, crop_px, depth_mm)
        )

    loss.counts = _coordinates
    return loss


def _on_volume(heatmap_loss, counts=losses.joint_weights):
    """A loss of (volume, cells, weights)."""

    def loss(volume, joints, weights, crop_px, depth_mm):
        return heatmap_loss(
            volume, joints_to_cells(joints, volume.shape[2:], crop_px, depth_mm), weights
        )

    loss.counts = counts
    return loss


def _sum(*parts):
    def loss(*arguments):
        return sum(part(*arguments) for part in parts)

    loss.counts = parts[0].counts
    return loss


DIRECT = _on_joints(decode_direct)
INTEGRAL = _on_volume(losses.soft_argmax_loss, _coordinates)
SQUARED = _on_volume(losses.squared_heatmap_loss)
SOFTMAX = _on_volume(losses.softmax_heatmap_loss)
BINARY = _on_volume(losses.binary_heatmap_loss)


@dataclass(frozen=True)
class Method:
    """One way from crops to joints.

    Attributes:
        name: short, as the paper's.
        text: what it is, in a few words.
        head: "volume" (PoseNet) or "direct" (DirectNet).
        stages: (share of the training's steps at which the stage ends, loss), the last with 1.
        decoder: one of DECODERS; the one that its scores mean.
    """

    name: str
    text: str
    head: str
    stages: tuple[tuple[float, Callable], ...]
    decoder: str

    def loss(self, progress):
        """The loss at `progress` (0 … 1) through the training: (output, joints, weights, crop_px, depth_mm) -> scalar."""
        return next((loss for end, loss in self.stages if progress < end), self.stages[-1][1])

    @property
    def decoders(self):
        """All decoders that can read the network's output, its own first."""
        return (
            self.decoder,
            *(
                name
                for name in DECODERS
                if name not in (self.decoder, "direct") and self.head == "volume"
            ),
        )


def _volume(name, text, *stages, decoder="expectation"):
    return Method(name, text, "volume", stages, decoder)


METHODS = {
    method.name: method
    for method in (
        Method("R1", "coordinates directly, L1", "direct", ((1.0, DIRECT),), "direct"),
        _volume("H1", "squared error against a Gaussian", (1.0, SQUARED), decoder="argmax"),
        _volume(
            "H2", "softmax cross-entropy against the true cell", (1.0, SOFTMAX), decoder="argmax"
        ),
        _volume("H3", "binary cross-entropy against a ball", (1.0, BINARY), decoder="argmax"),
        _volume(
            "I1", "H1's loss for the first half, then integral", (0.5, SQUARED), (1.0, INTEGRAL)
        ),
        _volume(
            "I2", "H2's loss for the first half, then integral", (0.5, SOFTMAX), (1.0, INTEGRAL)
        ),
        _volume(
            "I3", "H3's loss for the first half, then integral", (0.5, BINARY), (1.0, INTEGRAL)
        ),
        _volume("I*", "integral from scratch", (1.0, INTEGRAL)),
        _volume(
            "I* + prior",
            "integral and Jensen-Shannon prior",
            (1.0, _sum(INTEGRAL, _on_volume(losses.js_prior_loss, _coordinates))),
        ),
        _volume(
            "I* de-biased",
            "integral without the background's share",
            (1.0, _on_joints(decode_debiased)),
            decoder="expectation, de-biased",
        ),
        _volume("E", "expected error", (1.0, _on_volume(losses.expected_error_loss, _coordinates))),
    )
}


def decode(method, output, crop_px, depth_mm, decoder=None):
    """The network's output -> joints.

    Args:
        method: name of a Method.
        output: of the network: (B, J, D, H, W) logits, or (B, J, 3).
        crop_px: side of the crop, px.
        depth_mm: depth range of the volume, mm.
        decoder: one of DECODERS; the method's own by default.
    Returns:
        (B, J, 3) float32: x, y in crop px, z in mm behind the root.
    """
    return DECODERS[decoder or METHODS[method].decoder](output, crop_px, depth_mm).to(torch.float32)
