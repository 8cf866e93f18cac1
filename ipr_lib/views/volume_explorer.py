"""One joint's volume to look into: planes, marginals, a slice, argmax and expectation. See notebooks/06_soft_argmax.ipynb."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure

from ..files import InputError
from ..geometry.skeleton import HUMAN36M
from ..integral import hard_argmax, joints_to_cells, soft_argmax
from . import plots
from .view import View

COLOURS = {"argmax": plots.RIGHT, "expectation": plots.PREDICTION, "truth": plots.MIDDLE}
MARKS = {"argmax": "s", "expectation": "o", "truth": "x"}
LINES = {"argmax": "--", "expectation": "-", "truth": ":"}
BARS = matplotlib.colormaps["Purples"](0.55)


class VolumeExplorer(View):
    """A network's volumes, one joint at a time. The page computes the softmax itself, so it needs no kernel.

    Only `joint`, `temperature` and `slice` travel between Python and the page after the view has been sent.

    Attributes:
        joint: index of the joint shown.
        temperature: the logits are divided by it before the softmax, above 0.
        slice: depth cell of the slice shown, 0 … D - 1.
    """

    _esm = Path(__file__).with_name("volume_explorer.js")

    meta = traitlets.Dict().tag(sync=True)
    volume = traitlets.Bytes().tag(sync=True)
    image = traitlets.Bytes().tag(sync=True)
    joint = traitlets.Int(0).tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    slice = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        volume,
        image=None,
        skeleton=HUMAN36M,
        *,
        depth_mm=2000.0,
        crop_px=None,
        target=None,
        joint=0,
        temperature=1.0,
    ):
        """Check the arrays and pack them, once.

        Args:
            volume: logits, (J, D, H, W), tensor or array; sent as float32.
            image: the crop, (S, S, 3) uint8 RGB, or None.
            skeleton: joint set, J joints or more.
            depth_mm: depth range of the volume, mm.
            crop_px: side of the crop, px; by default the image's, without an image W.
            target: true joints, (J, 3): x, y in crop px, z in mm behind the root; or None.
            joint, temperature: see the class. The first slice is that of the joint's largest logit.
        Raises:
            InputError: an array has a wrong shape or type.
        """
        volume = torch.as_tensor(volume).detach().float().cpu().numpy()
        if volume.ndim != 4 or not volume.size or len(volume) > len(skeleton):
            raise InputError(
                f"volume: expected logits (J, D, H, W), J at most {len(skeleton)}, got {volume.shape}"
            )
        if not np.isfinite(volume).all():
            raise InputError("volume: holds values that are not finite; expected logits")
        jpeg = b"" if image is None else _as_jpeg(np.asarray(image))
        if crop_px is None:
            crop_px = volume.shape[-1] if image is None else len(image)
        if target is not None:
            target = np.asarray(target, float)
            if target.shape != (len(volume), 3):
                raise InputError(
                    f"target: expected {(len(volume), 3)}: x, y in crop px, z in mm; got {target.shape}"
                )
            target = joints_to_cells(target, volume.shape[1:], crop_px, depth_mm).tolist()
        super().__init__(
            meta={
                "names": list(skeleton.names[: len(volume)]),
                "shape": list(volume.shape[1:]),
                "crop_px": float(crop_px),
                "depth_mm": float(depth_mm),
                "target": target,
                "colours": COLOURS,
            },
            volume=volume.tobytes(),
            image=jpeg,
            joint=joint,
            temperature=temperature,
        )
        self.slice = int(self.argmax()[2])

    @traitlets.validate("joint", "slice")
    def _valid_index(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        if self.meta:  # it is empty while the view is being made
            n = len(self.meta["names"]) if name == "joint" else self.meta["shape"][0]
            if not 0 <= value < n:
                raise InputError(f"{name}={value}: expected 0 … {n - 1}")
        return value

    @traitlets.validate("temperature")
    def _valid_temperature(self, proposal):
        if not 0 < proposal["value"] < float("inf"):
            raise InputError(f"temperature={proposal['value']}: expected a number above 0")
        return proposal["value"]

    def logits(self):
        """Logits of the joint shown, (D, H, W) float32."""
        return np.frombuffer(self.volume, np.float32).reshape(-1, *self.meta["shape"])[self.joint]

    def argmax(self):
        """Cell of the joint's largest logit, (3,) float, order x, y, z."""
        logits = torch.from_numpy(self.logits().copy())
        return hard_argmax(logits[None, None])[0, 0].numpy()

    def expectation(self):
        """Expected cell of the joint at this temperature, (3,) float, order x, y, z."""
        logits = torch.from_numpy(self.logits().astype(float))
        return soft_argmax(logits[None, None] / self.temperature)[0, 0].numpy()

    def figure(self):
        """The view as a static matplotlib Figure: two planes, a slice, the marginal along the depth."""
        logits = self.logits().astype(float)  # (D, H, W)
        prob = np.exp((logits - logits.max()) / self.temperature)
        prob /= prob.sum()
        places = {"argmax": self.argmax(), "expectation": self.expectation()}
        if self.meta["target"]:
            places["truth"] = np.array(self.meta["target"][self.joint])
        in_slice = {}
        for kind, place in places.items():
            if round(place[2]) == self.slice:
                in_slice[kind] = place
        with matplotlib.rc_context(plots.STYLE):
            figure = Figure(figsize=(8.6, 3.1), layout="constrained")
            axes = figure.subplots(1, 4)
        front, side, cut = prob.sum(0), prob.sum(2).T, prob[self.slice]
        if self.image:
            height, width = front.shape
            crop = cv2.imdecode(np.frombuffer(self.image, np.uint8), cv2.IMREAD_COLOR)
            crop = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
            axes[0].imshow(crop, extent=(-0.5, width - 0.5, height - 0.5, -0.5), alpha=0.75)
        _draw_plane(axes[0], "from the front", front / front.max(), places, across=0)
        _draw_plane(axes[1], "from the side", side / side.max(), places, across=2)
        _draw_plane(axes[2], f"slice {self.slice}", cut / prob.max(), in_slice, across=0)
        _draw_depths(axes[3], prob.sum((1, 2)), places)
        # The legend stands below all, where it hides no bar; its colours are those of the marks, too.
        handles, labels = axes[3].get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=8, loc="outside lower left", ncols=3, frameon=False)
        title = f"{self.meta['names'][self.joint]}, temperature {self.temperature:.3g}"
        figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
        return figure


def _as_jpeg(image):
    """A square crop as JPEG bytes; InputError where it is none."""
    is_square = image.ndim == 3 and image.shape[0] == image.shape[1]
    if not is_square or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            f"image: expected a square crop (S, S, 3) uint8 RGB, got {image.dtype} {image.shape}"
        )
    bgr = np.ascontiguousarray(image[..., ::-1])
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return data.tobytes()


def _draw_plane(ax, title, strength, places, across):
    """Shade the cells of a plane by strength (H, N), 0 … 1, and mark places (x, y, z) with axis `across` to the right."""
    height, width = strength.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    ax.imshow(
        np.full_like(strength, 0.85),
        cmap="Purples",
        vmin=0,
        vmax=1,
        alpha=0.9 * strength**0.6,
        extent=extent,
        aspect="auto",
    )
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
    ax.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:], box_aspect=1)
    ax.set_title(title, fontsize=9)
    ax.spines[:].set_visible(True)


def _draw_depths(ax, marginal, places):
    """Bars of the probability of each depth cell (D,), and a line at the depth of each place."""
    ax.bar(np.arange(len(marginal)), marginal, color=BARS, width=0.9)
    for kind, place in places.items():
        label = f"{kind} {place[2]:.1f}"
        ax.axvline(place[2], color=COLOURS[kind], linestyle=LINES[kind], label=label)
    ax.set(xlabel="z (cells)", yticks=[], box_aspect=1)
    ax.set_title("along z", fontsize=9)
