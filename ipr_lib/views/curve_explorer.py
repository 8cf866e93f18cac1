"""A heat map on a line to take apart by hand: sharpness, place, noise and a second peak; argmax and expectation follow.

Used in notebooks/05_heatmaps_and_argmax.ipynb and notebooks/06_soft_argmax.ipynb. The browser works everything out
anew by itself, so the figure stays alive in exported pages; where no script runs, a picture of it stands instead.
"""

from pathlib import Path

import matplotlib
import numpy as np
import traitlets
from matplotlib.figure import Figure

from ..files import InputError
from . import plots
from .view import View

DRAWS = 8  # noises to choose from
# The largest value of each slider; the smallest is 0. The position reaches to the last cell.
LARGEST = {"sharpness": 40, "second": 1.5, "noise": 5}


class CurveExplorer(View):
    """Logits, probabilities and pulls of a heat map on a line, with sliders; the peak can be dragged.

    The logits are sharpness * (bump at position + second * bump at second_position) + noise * a standard normal draw,
    where a bump is a Gaussian of height 1 on a floor of 0. Setting a trait in Python moves the slider and the other
    way round.

    Args:
        cells: number of cells, at least 3.
        position: true place of the peak, cells, 0 … cells - 1; by default two thirds of the line.
        sharpness: height of the peak above the floor, logits, 0 … 40.
        second: height of the second peak as a share of the first, 0 … 1.5.
        noise: standard deviation of the noise, logits, 0 … 5.
        second_position: place of the second peak, cells; by default a quarter of the line.
        width: standard deviation of the bumps, cells, above 0.
        seed: of the noise.
    Raises:
        InputError: a value out of its range, now or when it is set later.
    """

    _esm = Path(__file__).with_suffix(".js")

    cells = traitlets.Int(read_only=True).tag(sync=True)
    width = traitlets.Float(read_only=True).tag(sync=True)
    second_position = traitlets.Float(read_only=True).tag(sync=True)
    position = traitlets.Float().tag(sync=True)
    sharpness = traitlets.Float().tag(sync=True)
    second = traitlets.Float().tag(sync=True)
    noise = traitlets.Float().tag(sync=True)
    draw = traitlets.Int().tag(sync=True)
    draws = traitlets.List(read_only=True).tag(sync=True)

    def __init__(
        self,
        cells=32,
        position=None,
        sharpness=8.0,
        second=0.0,
        noise=0.0,
        second_position=None,
        width=1.5,
        seed=0,
    ):
        if second_position is None:
            second_position = (cells - 1) / 4
        if position is None:
            position = (cells - 1) * 2 / 3
        if cells < 3 or not width > 0 or not 0 <= second_position <= cells - 1:
            raise InputError(
                f"CurveExplorer: cells={cells}, width={width}, second_position={second_position}: expected at least 3 "
                "cells, a width above 0 and the second peak inside of the line"
            )
        self.set_trait("cells", cells)
        super().__init__()
        self.set_trait("width", width)
        self.set_trait("second_position", second_position)
        draws = np.random.default_rng(seed).standard_normal((DRAWS, cells))
        # Three decimals are plenty for noise, and short in a saved page.
        self.set_trait("draws", draws.round(3).tolist())
        self.position = position
        self.sharpness = sharpness
        self.second = second
        self.noise = noise

    @traitlets.validate("position", *LARGEST)
    def _in_range(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        high = self.cells - 1 if name == "position" else LARGEST[name]
        if not 0 <= value <= high:
            raise InputError(f"CurveExplorer: {name}={value}: expected a number from 0 to {high}")
        return value

    @traitlets.validate("draw")
    def _is_a_draw(self, proposal):
        if not 0 <= proposal["value"] < DRAWS:
            raise InputError(
                f"CurveExplorer: draw={proposal['value']}: expected a whole number from 0 to {DRAWS - 1}"
            )
        return proposal["value"]

    @property
    def logits(self):
        """(cells,) float64."""
        x = np.arange(self.cells)

        def bump(place):
            return np.exp(-((x - place) ** 2) / (2 * self.width**2))

        peaks = bump(self.position) + self.second * bump(self.second_position)
        return self.sharpness * peaks + self.noise * np.array(self.draws[self.draw])

    @property
    def prob(self):
        """(cells,) softmax of the logits."""
        weight = np.exp(self.logits - self.logits.max())
        return weight / weight.sum()

    def read(self):
        """What the map says, as the figure shows it.

        Returns:
            dict, cells: argmax; quarter_shift, the argmax moved a quarter cell towards its larger neighbour;
            expectation.
        """
        logits, prob = self.logits, self.prob
        highest = int(logits.argmax())
        shift = 0.0
        if 0 < highest < self.cells - 1:  # the first and the last cell have one neighbour
            shift = 0.25 * np.sign(logits[highest + 1] - logits[highest - 1])
        return {
            "argmax": float(highest),
            "quarter_shift": float(highest + shift),
            "expectation": float(prob @ np.arange(self.cells)),
        }

    def figure(self):
        """The same three panels as a static matplotlib Figure."""
        x, prob, said = np.arange(self.cells), self.prob, self.read()
        pull = prob * (x - said["expectation"])
        with matplotlib.rc_context(plots.STYLE):
            figure = Figure(figsize=(8.0, 4.2))
            logits_ax, prob_ax, pull_ax = figure.subplots(
                3, 1, sharex=True, height_ratios=(1, 1.2, 0.8)
            )
            logits_ax.plot(x, self.logits, "o-", color="#6A51A3", markersize=3, linewidth=1.2)
            prob_ax.bar(x, prob, width=0.84, color="#9E9AC8")
            pull_ax.bar(x, pull, width=0.84, color=np.where(pull < 0, plots.RIGHT, plots.LEFT))
            logits_ax.set_title("logits H", fontsize=10)
            prob_ax.set_title("p = softmax(H)", fontsize=10)
            pull_ax.set_title("pull of each logit on E, p (x − E)", fontsize=10)
            for ax in (logits_ax, prob_ax, pull_ax):
                ax.axvline(self.position, color=plots.TRUTH, linestyle=":")
            for ax in (prob_ax, pull_ax):
                ax.axvline(said["expectation"], color=plots.PREDICTION)
            prob_ax.plot(said["argmax"], prob.max(), "s", color="#8C8C8C", mfc="none", mew=2, ms=10)
            truth_line, expectation_line, argmax_mark = prob_ax.lines
            truth_line.set_label(f"true place {self.position:.2f}")
            expectation_line.set_label(f"expectation {said['expectation']:.2f}")
            argmax_mark.set(label=f"argmax {said['argmax']:.0f}", linestyle="none", clip_on=False)
            pull_ax.set(xlabel="cell x", xlim=(-0.7, self.cells - 0.3))
            handles, labels = prob_ax.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper right", ncols=3)
        return figure
