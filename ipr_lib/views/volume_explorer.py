"""One joint's volume to look into: planes, marginals, a slice, argmax and expectation. See notebooks/06_soft_argmax.ipynb."""

import io
from pathlib import Path

import numpy as np
import torch
import traitlets
from PIL import Image
from scipy.special import softmax

from ..files import InputError
from ..geometry.skeleton import HUMAN36M
from ..integral import hard_argmax, joints_to_cells, soft_argmax
from . import plots
from .view import View, pack_image, within_limits

COLOURS = {"argmax": plots.RIGHT, "expectation": plots.PREDICTION, "truth": plots.MIDDLE}
MARKS = {"argmax": "s", "expectation": "o", "truth": "x"}
LINES = {"argmax": "--", "expectation": "-", "truth": ":"}


class VolumeExplorer(View):
    """A network's volumes, one joint at a time. The page computes the softmax itself, so it needs no kernel.

    Only `joint`, `temperature` and `slice` travel between Python and the page after the view has
    been sent.

    Attributes:
        joint: index of the joint shown.
        temperature: the logits are divided by it before the softmax; at first 1, as in training.
        slice: depth cell of the slice shown, 0 … D - 1; at first that of the joint's largest logit.
    """

    _esm = Path(__file__).with_suffix(".js")

    meta = traitlets.Dict().tag(sync=True)
    volume = traitlets.Bytes().tag(sync=True)
    image = traitlets.Bytes().tag(sync=True)
    joint = traitlets.Int(0).tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    slice = traitlets.Int(0).tag(sync=True)

    def __init__(self, volume, image=None, *, depth_mm=2000.0, target=None, joint=0):
        """Check the arrays and pack them, once.

        Args:
            volume: logits, (J, D, H, W), tensor or array, J the first joints of HUMAN36M; sent as
                float32.
            image: the crop, (S, S, 3) uint8 RGB, or None.
            depth_mm: depth range of the volume, mm.
            target: true joints, (J, 3): x, y in px of the crop (without an image, in cells), z in
                mm behind the root; or None.
            joint: see the class.
        Raises:
            InputError: an array has a wrong shape or type.
        """
        volume = torch.as_tensor(volume).detach().float().cpu().numpy()
        if volume.ndim != 4 or not volume.size or len(volume) > len(HUMAN36M):
            raise InputError(
                f"volume: expected logits (J, D, H, W), J at most {len(HUMAN36M)}, got {volume.shape}"
            )
        if not np.isfinite(volume).all():
            raise InputError("volume: holds values that are not finite; expected logits")
        packed, crop_px = b"", volume.shape[-1]
        if image is not None:
            packed, crop_px = pack_image(image, "image"), len(image)
            if np.shape(image)[1] != crop_px:
                raise InputError(f"image: expected a square crop, got {np.shape(image)}")
        if target is not None:
            target = np.asarray(target, float)
            if target.shape != (len(volume), 3):
                raise InputError(
                    f"target: expected {(len(volume), 3)}: x, y in crop px, z in mm; got {target.shape}"
                )
            target = joints_to_cells(target, volume.shape[1:], crop_px, depth_mm).tolist()
        self.limits = {
            "joint": (0, len(volume) - 1),
            "slice": (0, volume.shape[1] - 1),
            "temperature": (1e-6, 1e6),
        }
        super().__init__(
            meta={
                "names": list(HUMAN36M.names[: len(volume)]),
                "shape": list(volume.shape[1:]),
                "crop_px": float(crop_px),
                "depth_mm": float(depth_mm),
                "target": target,
                "colours": COLOURS,
            },
            volume=volume.tobytes(),
            image=packed,
            joint=joint,
        )
        self.slice = int(self.argmax()[2])

    _within_limits = traitlets.validate("joint", "slice", "temperature")(within_limits)

    def logits(self):
        """Logits of the joint shown, (D, H, W) float32."""
        return np.frombuffer(self.volume, np.float32).reshape(-1, *self.meta["shape"])[self.joint]

    def argmax(self):
        """Cell of the joint's largest logit, (3,) float, order x, y, z."""
        logits = torch.tensor(self.logits())
        return hard_argmax(logits[None, None])[0, 0].numpy()

    def expectation(self):
        """Expected cell of the joint at this temperature, (3,) float, order x, y, z."""
        logits = torch.tensor(self.logits(), dtype=torch.float64)
        return soft_argmax(logits[None, None] / self.temperature)[0, 0].numpy()

    def _draw(self, figure):
        """Two planes, a slice, and the marginal along the depth."""
        prob = softmax(self.logits().astype(float) / self.temperature)  # (D, H, W)
        places = {"argmax": self.argmax(), "expectation": self.expectation()}
        if self.meta["target"]:
            places["truth"] = np.array(self.meta["target"][self.joint])
        figure.set_size_inches(8.6, 3.1)
        front_ax, side_ax, slice_ax, depth_ax = figure.subplots(1, 4, subplot_kw={"box_aspect": 1})
        front, side, cut = prob.sum(0), prob.sum(2).T, prob[self.slice]
        if self.image:
            height, width = front.shape
            crop = Image.open(io.BytesIO(self.image))
            front_ax.imshow(crop, extent=(-0.5, width - 0.5, height - 0.5, -0.5), alpha=0.75)
        _draw_plane(front_ax, "from the front", front / front.max(), places, across=0)
        _draw_plane(side_ax, "from the side", side / side.max(), places, across=2)
        _draw_plane(slice_ax, f"slice {self.slice}", cut / prob.max(), {}, across=0)
        depth_ax.bar(np.arange(len(prob)), prob.sum((1, 2)), color="#9E9AC8", width=0.9)
        for kind, place in places.items():
            label = f"{kind} {place[2]:.1f}"
            depth_ax.axvline(place[2], color=COLOURS[kind], linestyle=LINES[kind], label=label)
        depth_ax.set(xlabel="z (cells)", yticks=[], title="along z")
        # The legend stands below all, where it hides no bar; its colours are those of the marks, too.
        handles, labels = depth_ax.get_legend_handles_labels()
        title = f"{self.meta['names'][self.joint]}, temperature {self.temperature:.3g}"
        figure.legend(
            handles, labels, loc="outside lower left", ncols=3, title=title, alignment="left"
        )


def _draw_plane(ax, title, strength, places, across):
    """Shade the cells of a plane by strength (H, N), 0 … 1, and mark places (x, y, z) with axis `across` to the right."""
    height, width = strength.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    shade = np.full_like(strength, 0.85)
    alpha = 0.9 * strength**0.6
    ax.imshow(shade, cmap="Purples", vmin=0, vmax=1, alpha=alpha, extent=extent, aspect="auto")
    for kind, place in places.items():
        ax.plot(
            place[across],
            place[1],
            MARKS[kind],
            color=COLOURS[kind],
            markerfacecolor="none",
            markersize=8,
            markeredgewidth=2,
        )
    ax.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:], title=title)
    ax.spines[:].set_visible(True)
