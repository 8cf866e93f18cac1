"""Figures: each function takes arrays and an Axes, draws, and returns the Axes.

Colours are Okabe and Ito's, which colour-blind readers can distinguish too, and mean the same in
every figure.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from ..data.h36m_layout import action_name
from ..geometry.skeleton import HUMAN36M

RIGHT, LEFT, MIDDLE = "#D55E00", "#0072B2", "#595959"  # the person's own right and left
PREDICTION, TRUTH, BASELINE = "#009E73", "#595959", "#BBBBBB"
ACROSS, ALONG = "#56B4E9", "#E69F00"  # errors in the image plane, and in depth
STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}
# Camera axes are x right, y down, z away from the camera; each view shows two of them, upright.
VIEWS = {
    "front": ((0, 1), "x, to the camera's right (mm)", "y, down (mm)"),
    "side": ((2, 1), "z, away from the camera (mm)", "y, down (mm)"),
    "top": ((0, 2), "x, to the camera's right (mm)", "z, away from the camera (mm)"),
}


def use_style():
    """Make the course's look the default of all figures that follow; in a notebook, line drawings are shown as SVG."""
    plt.rcParams.update(STYLE)
    try:
        shell = get_ipython()  # IPython alone provides this name
    except NameError:
        return
    # The backend sets its own formatters when it is loaded, so load it before we set ours.
    plt.switch_backend(plt.get_backend())
    shell.display_formatter.formatters["image/png"].pop(Figure, None)
    shell.display_formatter.mimebundle_formatter.for_type(Figure, _figure_output)


def _figure_output(figure):
    """What a notebook keeps of a figure: SVG text, or a PNG where the figure shows a picture.

    Enlarged maps of a few cells are as sharp in SVG as in PNG.
    """
    file = io.BytesIO()
    for ax in figure.axes:
        for image in ax.get_images():
            if image.get_array().ndim == 3:
                figure.savefig(file, format="png", bbox_inches="tight")
                return {"image/png": file.getvalue()}
    # Without a date, the same figure gives the same text.
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return {"image/svg+xml": file.getvalue().decode()}


def side_colour(name):
    """Colour of a joint by its name: of the person's right, left, or neither."""
    return {"R_": RIGHT, "L_": LEFT}.get(name[:2], MIDDLE)


def limb_colours(skeleton):
    """Colour of each limb in `skeleton.limbs`: the person's right, left, or neither."""
    return [side_colour(skeleton.names[child]) for child, _ in skeleton.limbs]


def draw_limbs(ax, points, skeleton=HUMAN36M, colour=None, **style):
    """Draw a skeleton's limbs.

    Args:
        ax: Axes, plane or 3D.
        points: (J, 2) or (J, 3), in the axes' units; joints at the end of the skeleton may be
            missing.
        skeleton: joint set.
        colour: one colour for all limbs; by default right, left and middle have their own.
        **style: passed on to `Axes.plot`.
    Returns:
        the Axes.
    """
    style = {"linewidth": 2.0, "marker": "o", "markersize": 2.5, "solid_capstyle": "round"} | style
    label = style.pop("label", None)
    for limb, limb_colour in zip(skeleton.limbs, limb_colours(skeleton)):
        if max(limb) < len(points):
            ax.plot(*points[limb].T, color=colour or limb_colour, label=label, **style)
            label = None  # once is enough for the legend
    return ax


def draw_image(ax, image, joints=None, skeleton=HUMAN36M, title=None, **style):
    """Show a picture, with a skeleton over it.

    Args:
        ax: Axes.
        image: (H, W, 3) uint8 RGB.
        joints: (J, 2 or more), px, x and y first; or None.
        skeleton: joint set.
        title: of the axes.
        **style: as in `draw_limbs`.
    Returns:
        the Axes, without ticks.
    """
    ax.imshow(image)
    if joints is not None:
        draw_limbs(ax, np.asarray(joints)[:, :2], skeleton, **style)
    ax.set(
        xticks=[],
        yticks=[],
        xlim=(-0.5, image.shape[1] - 0.5),
        ylim=(image.shape[0] - 0.5, -0.5),
    )
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title, parse_math=False)  # a file's name may hold a "$"
    return ax


def draw_pose(ax, joints, view="front", **style):
    """Draw a 3D pose from one side, without perspective.

    Args:
        ax: Axes.
        joints: (J, 3) camera axes, mm, e.g. root-relative.
        view: "front" (as the camera sees it), "side" or "top".
        **style: as in `draw_limbs`.
    Returns:
        the Axes, with equal scales, labelled in mm.
    """
    axes, xlabel, ylabel = VIEWS[view]
    draw_limbs(ax, np.asarray(joints)[:, axes], **style)
    ax.set_aspect("equal", adjustable="datalim")
    if not ax.get_xlabel():
        ax.set(xlabel=xlabel, ylabel=ylabel)
        if view != "top" and not ax.yaxis_inverted():
            ax.invert_yaxis()
    return ax


def draw_training(ax, steps, values, label=None, smooth=15):
    """Draw a training curve: each logged value faintly, their running mean on top.

    Args:
        ax: Axes.
        steps, values: (n,).
        label: for the legend.
        smooth: values in the running mean.
    Returns:
        the Axes.
    """
    values = np.asarray(values, float)
    ax.plot(steps, values, color=PREDICTION, alpha=0.25, linewidth=0.8)
    ax.plot(steps, uniform_filter1d(values, smooth), color=PREDICTION, label=label)
    return ax


def draw_actions(ax, per_action, baseline=None, label="ours"):
    """Bars of one number per action, worst at the top.

    Args:
        ax: Axes.
        per_action: {action number: mm}.
        baseline: the same for a baseline, drawn behind; or None.
        label: for the legend.
    Returns:
        the Axes.
    """
    actions = sorted(per_action, key=per_action.get)
    names = [action_name(int(action)) for action in actions]
    if baseline:
        behind = [baseline[action] for action in actions]
        ax.barh(names, behind, color=BASELINE, label="mean pose", height=0.8)
    values = [per_action[action] for action in actions]
    bars = ax.barh(names, values, color=PREDICTION, label=label, height=0.55)
    ax.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    ax.set_xlabel("mean error (mm)")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right")
    return ax
