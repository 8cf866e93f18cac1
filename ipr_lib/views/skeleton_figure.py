"""What a SkeletonView shows, as a static figure: for pages that run no scripts, and for print.

Used in notebooks/00_start_here.ipynb, 02, 10 and 12.
"""

import cv2
import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ..evaluation.metrics import joint_errors
from . import plots

FAR = 5200.0  # mm from the viewer to the middle of the scene, as in skeleton_view.js
HOME = (-0.5, 0.2)  # first yaw and pitch, rad, as there


def project(points, yaw, pitch):
    """Seen from a viewpoint, as skeleton_view.js sees it.

    Args:
        points: (..., 3) scene axes (x right, y away, z up), mm from the middle of the scene.
        yaw, pitch: rad.
    Returns:
        (..., 2) right and up, mm at the middle's distance; (...) depth, mm; growing away from the viewer.
    """
    X, Y, Z = np.moveaxis(np.asarray(points, float), -1, 0)
    right, away = X * np.cos(yaw) + Y * np.sin(yaw), Y * np.cos(yaw) - X * np.sin(yaw)
    depth, up = away * np.cos(pitch) - Z * np.sin(pitch), Z * np.cos(pitch) + away * np.sin(pitch)
    size = FAR / np.maximum(FAR + depth, FAR / 20)
    return np.stack([right * size, up * size], -1), depth


def to_scene(points, up):
    """Poses' axes -> scene axes (x right, y away, z up): (..., 3) -> (..., 3)."""
    return (
        np.asarray(points)
        if up == "z"
        else np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)
    )


def skeleton_figure(view):
    """A SkeletonView as a static matplotlib Figure: picture, skeletons from the first viewpoint, error bars."""
    m = view.meta
    shown = view.aligned(view.frame)
    compared, has_picture = m["reference"] >= 0, len(view.pictures) > 0
    widths = [0.8] * has_picture + [1.25] + [0.62] * compared
    figure = Figure(figsize=(8.6 if len(widths) > 1 else 4.6, 3.7), layout="constrained")
    with matplotlib.rc_context(plots.STYLE):
        axes = list(figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    title = m["labels"][view.frame] if m["labels"] else m["title"]
    if has_picture:
        _draw_picture(axes.pop(0), view)
    _draw_space(axes[0], shown, m)
    if compared:
        _draw_bars(axes[1], shown, m)
    figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return figure


def _widths(m, p):
    """Line style of a person: the reference wide and pale, the others narrow and full."""
    return {"linewidth": 5, "alpha": 0.35} if p == m["reference"] else {"linewidth": 2.2}


def _draw_picture(ax, view):
    m = view.meta
    start, end = m["offsets"][view.frame : view.frame + 2]
    ax.axis("off")
    if end == start:
        return
    picture = cv2.imdecode(np.frombuffer(view.pictures[start:end], np.uint8), cv2.IMREAD_COLOR)[
        ..., ::-1
    ]
    width, height = m["picture_sizes"][view.frame]
    ax.imshow(picture, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    if view.overlay:
        overlay = np.frombuffer(view.overlay, np.float32).reshape(
            -1, len(m["people"]), m["frames"], m["joints"], 2
        )
        for p, joints in enumerate(overlay[0, :, view.frame]):
            _draw_limbs(ax, joints, m, **_widths(m, p))
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _draw_limbs(ax, points, m, depth=None, **style):
    colours = [plots.MIDDLE, plots.RIGHT, plots.LEFT]
    limbs = [(child, parent) for child, parent in enumerate(m["parents"]) if parent >= 0]
    if depth is not None:  # far limbs first
        limbs.sort(key=lambda limb: -np.nan_to_num(depth[list(limb)].mean()))
    _draw_lines(ax, points[limbs], [colours[m["sides"][child]] for child, _ in limbs], **style)


def _draw_lines(ax, ends, colours, **style):
    """Lines from one end to the other, (n, 2, 2), as one artist: as many of `ax.plot` take far longer."""
    ax.add_collection(LineCollection(ends, colors=colours, capstyle="round", **style))
    ax.autoscale_view()


def _draw_space(ax, shown, m):
    scene = to_scene(shown, m["up"])
    known = np.isfinite(scene).all(-1)  # nobody at all in some frames of a film
    if m["reference"] < 0 and known.any():
        scene = scene - scene[known].mean(0)
    floor = scene[known, 2].min() if known.any() else 0.0
    lines = np.linspace(-1000, 1000, 9)
    ends = [
        ends
        for at in lines
        for ends in (
            [[at, -1000, floor], [at, 1000, floor]],
            [[-1000, at, floor], [1000, at, floor]],
        )
    ]
    _draw_lines(ax, project(ends, *HOME)[0], "#E0E0E0", linewidth=0.8, zorder=0)
    for p, pose in enumerate(scene):
        points, depth = project(pose, *HOME)
        _draw_limbs(ax, points, m, depth, **_widths(m, p))
    for at in (-500, 0, 500):
        place = project([[at, -1120, floor], [1120, at, floor]], *HOME)[0]
        for x, y in place:
            ax.text(x, y, at, fontsize=7, ha="center", va="center", color=plots.MIDDLE)
    corner = project([[860, -1120, floor], [1120, 860, floor]], *HOME)[0]
    for (x, y), name in zip(corner, ("x", "y" if m["up"] == "z" else "z")):
        ax.text(x, y, f"{name} (mm)", fontsize=7, ha="center", va="center")
    ax.set_aspect("equal")
    ax.axis("off")
    names = [
        f"{name} (pale)" if p == m["reference"] else name for p, name in enumerate(m["people"])
    ]
    if len(names) > 1:
        ax.set_title(", ".join(names), fontsize=9, loc="center")


def _draw_bars(ax, shown, m):
    scored = m["scored"]
    place = np.arange(scored)
    others = [p for p in range(len(shown)) if p != m["reference"]]
    colours = [[plots.MIDDLE, plots.RIGHT, plots.LEFT][side] for side in m["sides"][:scored]]
    for o, p in enumerate(others):
        errors = joint_errors(shown[p], shown[m["reference"]])[:scored]
        height = 0.7 / len(others)
        ax.barh(
            place + (o - (len(others) - 1) / 2) * height,
            errors,
            height,
            color=colours,
            alpha=1 / (1 + 0.6 * o),
        )
        ax.text(
            1,
            1.01 + 0.06 * (len(others) - 1 - o),
            f"{m['people'][p]}: {np.nanmean(errors):.0f} mm",
            fontsize=8,
            ha="right",
            va="bottom",
            transform=ax.transAxes,
        )
    ax.set_yticks(place, m["names"][:scored], fontsize=7)
    ax.set(ylim=(scored - 0.4, -0.6))
    ax.set_xlabel("error (mm)", fontsize=8)
    ax.tick_params(axis="x", labelsize=7)
    ax.grid(axis="y", visible=False)
