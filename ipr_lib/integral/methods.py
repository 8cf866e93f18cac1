"""The family of methods as data: which head, which losses one after the other, which decoder.

Sun et al. 2018 compare direct regression (R), heat maps read by their maximum (H) and integral
regression (I). Taught in notebooks/08_heatmap_vs_integral.ipynb. The three heat-map losses are our
reading, see `losses`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .expectation import at_least_float32, debiased_soft_argmax, soft_argmax
from .grid import cells_to_joints, constants, hard_argmax, joints_to_cells
from .losses import (
    binary_heatmap_loss,
    expected_error_loss,
    integral_loss,
    joint_weights,
    js_prior_loss,
    line_loss,
    softmax_heatmap_loss,
    squared_heatmap_loss,
)

# Decoders of volumes: logits (B, J, D, H, W) -> cells (B, J, 3).
VOLUME_DECODERS = {
    "argmax": hard_argmax,
    "argmax + 1/4": functools.partial(hard_argmax, quarter_shift=True),
    "expectation": soft_argmax,
    "expectation, de-biased": debiased_soft_argmax,
}
DECODERS = ("direct", *VOLUME_DECODERS)


def decode(
    output: torch.Tensor, crop_px: int, depth_mm: float, decoder: str = "expectation"
) -> torch.Tensor:
    """The network's output -> joints; see notebook 08.

    Args:
        output: (B, J, D, H, W) logits of a PoseNet; (B, J, 3, N) logits of a LineNet; or (B, J, 3)
            of a DirectNet, fractions of the volume's sides from its middle.
        crop_px: side of the crop, px.
        depth_mm: depth range of the volume, mm.
        decoder: one of DECODERS; "direct" for the output of a DirectNet.

    Returns:
        (B, J, 3), float32 or float64: x, y in crop px, z in mm behind the root.
    """
    if decoder == "direct":
        output = at_least_float32(output)
        middle = (crop_px - 1) / 2
        extent = constants((crop_px, crop_px, depth_mm), output)
        return output * extent + constants((middle, middle, 0.0), output)
    read = VOLUME_DECODERS[decoder]
    if output.ndim == 4:  # each line is a map with one axis
        cells = read(output.flatten(1, 2)).view(output.shape[:3])
    else:
        cells = read(output)
    return cells_to_joints(cells, grid_shape(output), crop_px, depth_mm)


def grid_shape(output: torch.Tensor) -> tuple[int, ...]:
    """(D, H, W) of the cells in a network's output: of its volumes, or the bins of its three lines."""
    if output.ndim == 4:
        return (output.shape[3],) * 3
    return tuple(output.shape[2:])


@dataclass(frozen=True)
class Loss:
    """A loss of training: of decoded joints, of the map, or the sum of both.

    Attributes:
        decoder: one of DECODERS, whose joints `integral_loss` compares with the true ones; or None.
        map_loss: (volume, cells, weights) -> scalar; or None.
        per_joint: whether the mean is over joints, as in the heat-map losses, instead of over
            coordinates.
    """

    decoder: str | None = None
    map_loss: Callable | None = None
    per_joint: bool = False

    def __call__(
        self,
        output: torch.Tensor,
        joints: torch.Tensor,
        weights: torch.Tensor,
        crop_px: int,
        depth_mm: float,
    ) -> torch.Tensor:
        """Value of the loss.

        Args:
            output: of the network, see `decode`.
            joints: (B, J, 3) true joints, x, y in crop px, z in mm.
            weights: (B, J, 3), 0 where a coordinate is unknown.
            crop_px: side of the crop, px.
            depth_mm: depth range of the volume, mm.

        Returns:
            Scalar.
        """
        total = 0
        if self.decoder is not None:
            decoded = decode(output, crop_px, depth_mm, self.decoder)
            total = integral_loss(decoded, joints, weights, (crop_px, crop_px, depth_mm))
        if self.map_loss is not None:
            cells = joints_to_cells(joints, grid_shape(output), crop_px, depth_mm)
            total = total + self.map_loss(output, cells, weights)
        return total

    def counts(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights (B, J, 3) -> those that the mean divides by,
        so that the losses of parts of a batch can be combined.
        """
        return joint_weights(weights) if self.per_joint else weights


DIRECT = Loss(decoder="direct")
SQUARED = Loss(map_loss=squared_heatmap_loss, per_joint=True)
SOFTMAX = Loss(map_loss=softmax_heatmap_loss, per_joint=True)
BINARY = Loss(map_loss=binary_heatmap_loss, per_joint=True)
INTEGRAL = Loss(decoder="expectation")
INTEGRAL_AND_PRIOR = Loss(decoder="expectation", map_loss=js_prior_loss)
DEBIASED = Loss(decoder="expectation, de-biased")
EXPECTED_ERROR = Loss(map_loss=expected_error_loss)
LINES = Loss(map_loss=line_loss)


@dataclass(frozen=True)
class Method:
    """One way from crops to joints.

    Attributes:
        name: short, as the paper's.
        text: what it is, in a few words.
        losses: of the training's stages, which are equally long.
        decoder: one of DECODERS; the one that its scores mean.
        head: "volume" (PoseNet), "lines" (LineNet) or "direct" (DirectNet).
    """

    name: str
    text: str
    losses: tuple[Loss, ...]
    decoder: str
    head: str = "volume"

    @property
    def decoders(self) -> tuple[str, ...]:
        """All decoders that can read the network's output, its own first."""
        if self.head == "direct":
            return ("direct",)
        others = [name for name in VOLUME_DECODERS if name != self.decoder]
        if self.head == "lines":
            others.remove("expectation, de-biased")  # its background is that of a volume
        return (self.decoder, *others)

    def loss(self, progress: float) -> Loss:
        """The loss at `progress`, from 0 to 1, through the training."""
        stage = int(progress * len(self.losses))
        return self.losses[min(stage, len(self.losses) - 1)]


_ALL = (
    Method("R1", "coordinates directly, L1", (DIRECT,), "direct", "direct"),
    Method("H1", "squared error against a Gaussian", (SQUARED,), "argmax"),
    Method("H2", "softmax cross-entropy against the true cell", (SOFTMAX,), "argmax"),
    Method("H3", "binary cross-entropy against a ball", (BINARY,), "argmax"),
    Method("I1", "H1's loss for the first half, then integral", (SQUARED, INTEGRAL), "expectation"),
    Method("I2", "H2's loss for the first half, then integral", (SOFTMAX, INTEGRAL), "expectation"),
    Method("I3", "H3's loss for the first half, then integral", (BINARY, INTEGRAL), "expectation"),
    Method("I*", "integral from scratch", (INTEGRAL,), "expectation"),
    Method("I* + prior", "integral and Jensen-Shannon prior", (INTEGRAL_AND_PRIOR,), "expectation"),
    Method(
        "I* de-biased",
        "integral without the background's share",
        (DEBIASED,),
        "expectation, de-biased",
    ),
    Method("E", "expected error", (EXPECTED_ERROR,), "expectation"),
    Method("SimCC", "a classifier for each axis, smoothed labels", (LINES,), "argmax", "lines"),
)
METHODS = {method.name: method for method in _ALL}


def start_logit(method: Method, shape: tuple[int, int, int], ball_radius: float) -> float:
    """Logit that each cell of a new network's volume starts with: what is known before any picture.

    0 for all losses but H3's. There each cell decides for itself, and nearly all lie outside the
    ball; a start at one half would spend hundreds of steps on that alone. The start at the share of
    the ball's cells is customary for rare classes (Lin et al. 2017, arXiv 1708.02002, section 3.3).
    A softmax does not change where all logits move alike.

    Args:
        method: one of METHODS' values.
        shape: (D, H, W) of the volume, cells.
        ball_radius: of the ball, cells.

    Returns:
        log(share / (1 - share)) for H3's loss, else 0.
    """
    if method.losses[0].map_loss is not binary_heatmap_loss:
        return 0.0
    share = 4 / 3 * math.pi * ball_radius**3 / math.prod(shape)
    share = min(share, 0.5)  # the ball may be larger than a tiny volume
    return math.log(share / (1 - share))


def build_method(name: str, target_height: float = 1.0, ball_radius: float = 1.5) -> Method:
    """A method of the family, its heat maps taught by other targets.

    Args:
        name: one of METHODS.
        target_height: of the Gaussian of H1's loss.
        ball_radius: of the ball of H3's loss, cells.

    Returns:
        Method.
    """
    method = METHODS[name]
    losses = []
    for loss in method.losses:
        if loss == SQUARED:
            map_loss = functools.partial(squared_heatmap_loss, height=target_height)
            loss = dataclasses.replace(loss, map_loss=map_loss)
        elif loss == BINARY:
            map_loss = functools.partial(binary_heatmap_loss, radius=ball_radius)
            loss = dataclasses.replace(loss, map_loss=map_loss)
        losses.append(loss)
    return dataclasses.replace(method, losses=tuple(losses))
