"""A heat map on a line to take apart by hand: sharpness, place, noise and a second peak; argmax and expectation follow.

Used in notebooks/05_heatmaps_and_argmax.ipynb and notebooks/06_soft_argmax.ipynb. The browser
computes everything by itself, so the figure stays interactive in exported pages; where no script
runs, a static image of it is shown instead.
"""

from pathlib import Path

import numpy as np
import torch
import traitlets
from scipy.special import softmax

from ..integral import hard_argmax, soft_argmax
from . import plots
from .view import View, within_limits

DRAWS = 8  # noises to choose from


class CurveExplorer(View):
    """Logits, probabilities and pulls of a heat map on a line, with sliders; the peak can be dragged.

    The logits are sharpness * (bump at position + second * bump at second_position) + noise * a
    standard normal draw, where a bump is a Gaussian of height 1 on a floor of 0. Setting a trait in
    Python moves the slider and the other way round.

    Args:
        cells: number of cells, at least 3.
        position: true place of the peak, cells, 0 … cells - 1.
        sharpness: height of the peak above the floor, logits, 0 … 40.
        second: height of the second peak as a share of the first, 0 … 1.5.
        noise: standard deviation of the noise, logits, 0 … 5.
    Attributes:
        second_position: place of the second peak, cells; at first a quarter of the line.
        width: standard deviation of the bumps, cells.
        draw: which of the drawn noises is shown, 0 … 7.
    Raises:
        InputError: a value out of its range, now or when it is set later.
    """

    _esm = Path(__file__).with_suffix(".js")

    cells = traitlets.Int().tag(sync=True)
    position = traitlets.Float().tag(sync=True)
    sharpness = traitlets.Float().tag(sync=True)
    second = traitlets.Float().tag(sync=True)
    noise = traitlets.Float().tag(sync=True)
    second_position = traitlets.Float().tag(sync=True)
    width = traitlets.Float(1.5).tag(sync=True)
    draw = traitlets.Int().tag(sync=True)
    draws = traitlets.List().tag(sync=True)

    def __init__(self, cells, position, sharpness=8.0, second=0.0, noise=0.0):
        last = cells - 1
        self.limits = {
            "cells": (3, 1000),
            "position": (0, last),
            "sharpness": (0, 40),
            "second": (0, 1.5),
            "noise": (0, 5),
            "draw": (0, DRAWS - 1),
        }
        super().__init__(
            cells=cells,
            position=position,
            sharpness=sharpness,
            second=second,
            noise=noise,
            second_position=last / 4,
        )
        draws = np.random.default_rng(0).standard_normal((DRAWS, cells))
        # Three decimals are plenty for noise, and short in a saved page.
        self.draws = draws.round(3).tolist()

    _within_limits = traitlets.validate(
        "cells", "position", "sharpness", "second", "noise", "draw"
    )(within_limits)

    @property
    def logits(self):
        """(cells,) float64."""
        x = np.arange(self.cells)
        places = np.array([[self.position], [self.second_position]])
        first, second = np.exp(-((x - places) ** 2) / (2 * self.width**2))
        noise = self.noise * np.array(self.draws[self.draw])
        return self.sharpness * (first + self.second * second) + noise

    @property
    def prob(self):
        """(cells,) softmax of the logits."""
        return softmax(self.logits)

    def read(self):
        """What the map says, as the figure shows it.

        Returns:
            dict, cells: argmax; quarter_shift, the argmax moved a quarter cell towards its larger
            neighbour; expectation.
        """
        logits = torch.from_numpy(self.logits)[None, None]  # (B, J, cells)
        return {
            "argmax": hard_argmax(logits).item(),
            "quarter_shift": hard_argmax(logits, quarter_shift=True).item(),
            "expectation": soft_argmax(logits).item(),
        }

    def _draw(self, figure):
        """The same three panels as in the page."""
        x, prob, answers = np.arange(self.cells), self.prob, self.read()
        expectation = answers["expectation"]
        pull = prob * (x - expectation)
        figure.set_size_inches(8.0, 4.2)
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1.2, 0.8))
        top.plot(x, self.logits, "o-", color="#6A51A3", markersize=3, linewidth=1.2)
        middle.bar(x, prob, width=0.84, color="#9E9AC8")
        bottom.bar(x, pull, width=0.84, color=np.where(pull < 0, plots.RIGHT, plots.LEFT))
        top.set_title("logits H")
        middle.set_title("p = softmax(H)")
        bottom.set_title("pull of each logit on E, p (x − E)")
        bottom.set(xlabel="cell x", xlim=(-0.7, self.cells - 0.3))
        truth = f"true place {self.position:.2f}"
        for ax in (top, middle, bottom):
            ax.axvline(self.position, color=plots.TRUTH, linestyle=":", label=truth)
        for ax in (middle, bottom):
            ax.axvline(expectation, color=plots.PREDICTION, label=f"expectation {expectation:.2f}")
        highest = answers["argmax"]
        middle.plot(
            highest,
            prob.max(),
            "s",
            color="#8C8C8C",
            markerfacecolor="none",
            markeredgewidth=2,
            markersize=10,
            clip_on=False,
            label=f"argmax {highest:.0f}",
        )
        handles, labels = middle.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
