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
from ..integral.grid import hard_argmax, joints_to_cells, soft_argmax
from . import plots
from .view import View

COLOURS = {"argmax": plots.RIGHT, "expectation": plots.PREDICTION, "truth": plots.MIDDLE}
MARKS = {"argmax": "s", "expectation": "o", "truth": "x"}


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
    picture = traitlets.Bytes().tag(sync=True)
    joint = traitlets.Int(0).tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    slice = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        volume,
        picture=None,
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
            picture: the crop, (S, S, 3) uint8 RGB, or None.
            skeleton: joint set, J joints or more.
            depth_mm: depth range of the volume, mm.
            crop_px: side of the crop, px; by default the picture's, without a picture W.
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
        jpeg = b""
        if picture is not None:
            picture = np.asarray(picture)
            if (
                picture.ndim != 3
                or picture.shape[2] != 3
                or picture.shape[0] != picture.shape[1]
                or picture.dtype != np.uint8
            ):
                raise InputError(
                    f"picture: expected a square crop (S, S, 3) uint8 RGB, got {picture.dtype} {picture.shape}"
                )
            jpeg = cv2.imencode(
                ".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 90]
            )[1].tobytes()
        crop_px = crop_px or (volume.shape[-1] if picture is None else len(picture))
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
            picture=jpeg,
            joint=joint,
            temperature=temperature,
        )
        self.slice = int(self.argmax()[2])

    @traitlets.validate("joint", "slice")
    def _valid_index(self, proposal):
        if self.meta:
            n = (
                len(self.meta["names"])
                if proposal["trait"].name == "joint"
                else self.meta["shape"][0]
            )
            if not 0 <= proposal["value"] < n:
                raise InputError(
                    f"{proposal['trait'].name}={proposal['value']}: expected 0 … {n - 1}"
                )
        return proposal["value"]

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
        return hard_argmax(torch.from_numpy(self.logits().copy())[None, None])[0, 0].numpy()

    def expectation(self):
        """Expected cell of the joint at this temperature, (3,) float, order x, y, z."""
        return soft_argmax(
            torch.from_numpy(self.logits().astype(float))[None, None] / self.temperature
        )[0, 0].numpy()

    def figure(self):
        """The view as a static matplotlib Figure: two planes, a slice, the marginal along the depth."""
        D, H, W = self.meta["shape"]
        logits = self.logits().astype(float)
        prob = np.exp((logits - logits.max()) / self.temperature)
        prob /= prob.sum()
        places = {"argmax": self.argmax(), "expectation": self.expectation()}
        if self.meta["target"]:
            places["truth"] = np.array(self.meta["target"][self.joint])
        with matplotlib.rc_context(plots.STYLE):
            figure = Figure(figsize=(8.6, 3.1), layout="constrained")
            axes = figure.subplots(1, 4)
        planes = {
            "from the front": (prob.sum(0), 0),
            "from the side": (prob.sum(2).T, 2),
            f"slice {self.slice}": (prob[self.slice], 0),
        }
        for ax, (title, (plane, across)) in zip(axes, planes.items()):
            extent = (-0.5, plane.shape[1] - 0.5, H - 0.5, -0.5)
            if across == 0 and title == "from the front" and self.picture:
                crop = cv2.imdecode(np.frombuffer(self.picture, np.uint8), cv2.IMREAD_COLOR)[
                    ..., ::-1
                ]
                ax.imshow(crop, extent=extent, alpha=0.75)
            strength = (plane / (prob.max() if title.startswith("slice") else plane.max())) ** 0.6
            ax.imshow(
                np.full_like(plane, 0.85),
                cmap="Purples",
                vmin=0,
                vmax=1,
                alpha=0.9 * strength,
                extent=extent,
                aspect="auto",
            )
            for kind, place in places.items():
                if not title.startswith("slice") or round(place[2]) == self.slice:
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
        axes[3].bar(
            np.arange(D), prob.sum((1, 2)), color=matplotlib.colormaps["Purples"](0.55), width=0.9
        )
        for kind, place in places.items():
            axes[3].axvline(
                place[2],
                color=COLOURS[kind],
                linestyle={"argmax": "--", "truth": ":"}.get(kind, "-"),
                label=f"{kind} {place[2]:.1f}",
            )
        axes[3].set(xlabel="z (cells)", yticks=[], box_aspect=1)
        axes[3].set_title("along z", fontsize=9)
        # Below all, where it hides no bar; its colours are those of the marks, too.
        figure.legend(
            *axes[3].get_legend_handles_labels(),
            fontsize=8,
            loc="outside lower left",
            ncols=3,
            frameon=False,
        )
        figure.suptitle(
            f"{self.meta['names'][self.joint]}, temperature {self.temperature:.3g}",
            fontsize=10.5,
            x=0.01,
            ha="left",
        )
        return figure
