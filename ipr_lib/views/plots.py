"""Figures: each function takes arrays and an Axes, draws, and returns the Axes.

Colours are Okabe and Ito's, which colour-blind readers can distinguish too, and mean the same in
every figure.
"""

import io
import textwrap

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
    "savefig.dpi": 130,
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
    ax.barh(names, values, color=PREDICTION, label=label, height=0.55)
    # The numbers stand where the bars begin, because more may be drawn near their ends.
    for name, value in zip(names, values):
        ax.annotate(
            f"{value:.0f}",
            (0, name),
            xytext=(3, 0),
            textcoords="offset points",
            verticalalignment="center",
            color="white",
            fontsize=8,
        )
    ax.set_xlabel("mean error (mm)")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right")
    return ax


def zoom_to(ax, points, margin=0.2):
    """Show the square of an image that holds some points.

    Args:
        ax: Axes of `draw_image`.
        points: (n, 2), px.
        margin: free space on each side, in sides of the points' extent.
    Returns:
        the Axes.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (low + high) / 2
    half = (high - low).max() * (0.5 + margin)
    ax.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    return ax


def frame_pose(ax):
    """Give a pose that `draw_pose` has drawn, root at 0, the limits that most people fit in.

    Args:
        ax: Axes with a view from the front or from the side.
    Returns:
        the Axes.
    """
    ax.set(xlim=(-800, 800), ylim=(1100, -1000))
    ax.set_aspect("equal", adjustable="box")
    return ax


def draw_result(axes, crop, joints_crop, pred, target, title=None):
    """Show a prediction in its crop, and over the truth from the front and from the side.

    Args:
        axes: three Axes.
        crop: (S, S, 3) uint8 RGB.
        joints_crop: (J, 2 or 3) predicted joints, px of the crop.
        pred, target: (J, 3) predicted and true pose, mm from the root.
        title: of the first Axes.
    Returns:
        the Axes.
    """
    draw_image(axes[0], crop, joints_crop, title=title)
    views = {"front": "x, to the right (mm)", "side": "z, away (mm)"}  # short, for narrow Axes
    for ax, (view, xlabel) in zip(axes[1:], views.items()):
        draw_pose(ax, target, view, colour=TRUTH, linewidth=3, alpha=0.45, label="truth")
        draw_pose(ax, pred, view, colour=PREDICTION, label="prediction")
        frame_pose(ax).set_xlabel(xlabel)
    return axes


def draw_shifts(ax, points, shifts, levels, enlarged=3):
    """Show how far the points of an image move: distances as steps of colour, directions as arrows.

    Args:
        ax: Axes.
        points: (m, n, 2) grid of points, px.
        shifts: (m, n, 2), px.
        levels: borders of the steps, px.
        enlarged: length of an arrow in shifts.
    Returns:
        the Axes, with a colour bar.
    """
    distance = np.linalg.norm(shifts, axis=-1)
    colours = plt.cm.Purples(np.linspace(0.05, 0.95, len(levels) - 1))
    shown = ax.contourf(points[..., 0], points[..., 1], distance, levels=levels, colors=colours)
    some = slice(2, None, 6)
    x, y = points[some, some, 0], points[some, some, 1]
    right, down = shifts[some, some, 0], shifts[some, some, 1]
    scale = {"angles": "xy", "scale_units": "xy", "scale": 1 / enlarged}
    ax.quiver(x, y, right, down, width=0.004, color=RIGHT, **scale)
    ax.figure.colorbar(shown, label="shift (px)")
    ax.set(aspect="equal", xlabel="u (px)", ylabel="v (px)")
    ax.invert_yaxis()
    return ax


def draw_heights(ax, joints_world, names, rate=50):
    """Draw the heights of some joints over time; right and left in their colours, ankles dashed.

    Args:
        ax: Axes.
        joints_world: (F, J, 3), world axes, z up, mm.
        names: of the joints of HUMAN36M to draw.
        rate: frames a second.
    Returns:
        the Axes.
    """
    seconds = np.arange(len(joints_world)) / rate
    for name in names:
        line = "--" if name.endswith("Ankle") else "-"
        height = joints_world[:, HUMAN36M.index(name), 2]
        ax.plot(seconds, height, line, color=side_colour(name), label=name, linewidth=1.3)
    ax.set(xlabel="time (s)", ylabel="height (mm)", ylim=(-80, 1.35 * joints_world[..., 2].max()))
    ax.legend(ncols=2, fontsize=8, loc="upper center")
    return ax


METHOD_COLOURS = {
    "R1": RIGHT,
    "H1": BASELINE,
    "H2": TRUTH,
    "H3": "#8C8C8C",
    "I*": PREDICTION,
    "SimCC": ALONG,
}
VERDICT_COLOURS = {"yes": PREDICTION, "no": RIGHT, "cannot tell": BASELINE, "not judged": BASELINE}


def draw_methods(ax, errors, mean_pose):
    """Draw the error of each training as a dot, a row for each method.

    Args:
        ax: Axes.
        errors: {method: errors of its trainings, mm}.
        mean_pose: error of the mean training pose, mm.
    Returns:
        the Axes.
    """
    for row, (method, of_method) in enumerate(errors.items()):
        colour = METHOD_COLOURS.get(method, ACROSS)
        ax.plot(of_method, [row] * len(of_method), "o", color=colour, alpha=0.8)
    ax.axvline(mean_pose, color=BASELINE, linewidth=3, zorder=0)
    ax.annotate("mean pose ", (mean_pose, -0.4), ha="right", va="center", fontsize=9, color=MIDDLE)
    ax.set(xlabel="MPJPE (mm)", ylim=(len(errors) - 0.4, -0.8))
    ax.set_yticks(range(len(errors)), list(errors))
    return ax


def draw_claims(ax, rows):
    """Draw the interval of each claim, the first one at the top.

    Args:
        ax: Axes.
        rows: of `verdicts.judge`, with an interval each.
    Returns:
        the Axes.
    """
    for place, row in enumerate(rows):
        mean, low, high = row["measured"]
        colour = VERDICT_COLOURS[row["holds"]]
        ax.plot([low, high], [place, place], color=colour)
        ax.plot(mean, place, "o", color=colour)
    ax.axvline(0, color=MIDDLE, linewidth=1)
    ax.set(xlabel="mm; left of 0 speaks for the claim", ylim=(len(rows) - 0.4, -0.6))
    ax.set_yticks(range(len(rows)), [row["claim"] for row in rows])
    return ax


def draw_effect(ax, effect, label):
    """Draw how methods move along one axis of the comparison.

    Args:
        ax: Axes.
        effect: {method: {level: errors (seeds, sequences), mm}}; a dot is the mean over seeds, and
            a bar goes from the best seed to the worst.
        label: of the axis.
    Returns:
        the Axes.
    """
    levels = list(max(effect.values(), key=len))  # a method without runs has the base's level alone
    for method, by_level in effect.items():
        places, means, best, worst = [], [], [], []
        for level, errors in by_level.items():
            of_seeds = errors.mean(axis=1)
            places.append(levels.index(level))
            means.append(of_seeds.mean())
            best.append(of_seeds.min())
            worst.append(of_seeds.max())
        colour = METHOD_COLOURS[method]
        ax.plot(places, means, "o-", color=colour, label=method)
        ax.vlines(places, best, worst, color=colour)
    names = []
    for level in levels:
        is_large = isinstance(level, int) and level >= 10_000
        names.append(f"{level / 1000:.0f} k" if is_large else textwrap.fill(str(level), 13))
    ax.set_xticks(range(len(levels)), names, fontsize=9)
    ax.set(xlabel=label, xlim=(-0.4, len(levels) - 0.6))
    return ax


# --- maps ---

# The three ways in which notebooks 05 and later read a map.
READERS = {"argmax": "#8C8C8C", "quarter shift": "#6A51A3", "expectation": PREDICTION}


def draw_heat_map(ax, heat_map, picture, title=None):
    """Lay a heat map over the picture that it belongs to.

    Args:
        ax: Axes.
        heat_map: (H, W) values of 0 … 1; its cells cover the whole picture.
        picture: (S, S, 3) uint8 RGB.
        title: of the axes.
    Returns:
        the Axes, in px of the picture; borders of cells are drawn where the cells are large.
    """
    heat_map = np.asarray(heat_map)
    draw_image(ax, picture, title=title)
    first, last = -0.5, len(picture) - 0.5
    extent = (first, last, last, first)
    ax.imshow(heat_map, cmap="Purples", alpha=0.9 * heat_map, vmin=-0.6, extent=extent)
    height, width = heat_map.shape
    if max(height, width) <= 16:
        style = {"color": "white", "linewidth": 0.6, "alpha": 0.7}
        ax.hlines(np.linspace(first, last, height + 1), first, last, **style)
        ax.vlines(np.linspace(first, last, width + 1), first, last, **style)
    return ax


def draw_readers(ax, x, errors, log=False, **style):
    """Draw one line for each way to read a map.

    Args:
        ax: Axes.
        x: (n,) what the errors depend on.
        errors: {name of READERS: (n,)}.
        log: scale both axes by logarithms, with a tick at each x.
        **style: passed on to `Axes.plot`.
    Returns:
        the Axes.
    """
    for name, values in errors.items():
        ax.plot(x, values, color=READERS[name], label=name, **style)
    if log:
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(x, [f"{value:,.0f}" for value in x])
        ax.minorticks_off()
    return ax


# --- boxes and labels ---


def draw_box(ax, x, y, width, height, colour, label=None):
    """Draw a box; x, y is its upper left corner. Returns the Axes."""
    box = plt.Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=2)
    box.set_label(label)
    ax.add_patch(box)
    return ax


def draw_weights(ax, weights, title=None, skeleton=HUMAN36M):
    """Show which coordinates of which joints are known.

    Args:
        ax: Axes.
        weights: (J, 3), for x, y, z; full where it is above 0, empty where it is 0.
        title: of the axes.
        skeleton: names the rows.
    Returns:
        the Axes.
    """
    joint, coordinate = np.indices(np.shape(weights))
    known = np.asarray(weights) > 0
    ax.scatter(coordinate[known], joint[known], s=32, color=PREDICTION)
    ax.scatter(coordinate[~known], joint[~known], s=28, facecolor="none", edgecolor=BASELINE)
    ax.set_xticks(range(3), ["x", "y", "z"])
    ax.set_yticks(range(len(skeleton)), skeleton.names, fontsize=8)
    ax.set(xlim=(-0.7, 2.7), ylim=(len(skeleton) - 0.4, -0.6))
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax


def draw_bars(ax, values, whiskers):
    """Draw a bar with its number for each name, the first name at the top.

    Args:
        ax: Axes.
        values: {name: value}.
        whiskers: {name: half the length of its whisker}, in the unit of the values.
    Returns:
        the Axes.
    """
    names = list(values)
    lengths = [whiskers[name] for name in names]
    bars = ax.barh(
        names, list(values.values()), xerr=lengths, color=PREDICTION, ecolor=TRUTH, height=0.6
    )
    ax.bar_label(bars, fmt="%.0f", padding=10, fontsize=9)
    ax.invert_yaxis()
    return ax


def draw_answer(ax, image, target, joints):
    """Show a picture with the true skeleton in white and a network's in green.

    Args:
        ax: Axes.
        image: (H, W, 3) uint8 RGB.
        target, joints: (J, 2 or more), px, x and y first.
    Returns:
        the Axes, without ticks.
    """
    draw_image(ax, image, target, colour="white", linewidth=2.5)
    style = {"colour": PREDICTION, "linewidth": 1.5, "markersize": 4}
    return draw_limbs(ax, np.asarray(joints)[:, :2], **style)


def draw_curves(ax, curves, xlabel, ylabel):
    """Draw curves over steps 1, 2, …

    Args:
        ax: Axes.
        curves: {label: (n,) values}, four at most.
        xlabel, ylabel: of the axes.
    Returns:
        the Axes.
    """
    colours = (PREDICTION, LEFT, RIGHT, MIDDLE)
    for (label, values), colour in zip(curves.items(), colours):
        steps = np.arange(1, len(values) + 1)
        ax.plot(steps, values, color=colour, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def draw_pairs(ax, names, bars, colours):
    """Two bars for each name, the first name at the top.

    Args:
        ax: Axes.
        names: of the n rows.
        bars: {label: (n,) mm} of the upper and of the lower bars.
        colours: of the two.
    Returns:
        the Axes.
    """
    rows = np.arange(len(names))
    for (label, values), colour, shift in zip(bars.items(), colours, (-0.2, 0.2)):
        drawn = ax.barh(rows + shift, values, 0.38, color=colour, label=label)
        ax.bar_label(drawn, fmt="%.1f", padding=3, fontsize=8)
    ax.set_yticks(rows, names)
    ax.set(xlabel="mean error (mm)", ylim=(len(names) - 0.4, -0.6))
    ax.margins(x=0.15)
    ax.grid(axis="y", visible=False)
    ax.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def draw_spread(ax, drawn):
    """How often each mean was drawn, one histogram over the other.

    Args:
        ax: Axes.
        drawn: {label: (draws,) means}; the first is filled with grey, the second is a green line.
    Returns:
        the Axes.
    """
    low = min(min(values) for values in drawn.values())
    high = max(max(values) for values in drawn.values())
    bins = np.linspace(low, high, 40)
    styles = ({"color": BASELINE}, {"color": PREDICTION, "histtype": "step", "linewidth": 2})
    for (label, values), style in zip(drawn.items(), styles):
        ax.hist(values, bins, label=label, **style)
    ax.set_ylabel("draws")
    ax.legend(fontsize=8)
    return ax


def draw_dots(ax, values):
    """A dot with its number for each name, the first name at the top, and a line through the first.

    Args:
        ax: Axes.
        values: {name: mm}.
    Returns:
        the Axes.
    """
    names = list(values)
    ax.plot(list(values.values()), names, "o", color=PREDICTION)
    ax.axvline(values[names[0]], color=BASELINE, zorder=0)
    for row, value in enumerate(values.values()):
        place = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
        over_the_line = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        ax.annotate(f"{value:.1f}", (value, row), fontsize=9, bbox=over_the_line, **place)
    ax.set(xlabel="mean error (mm)", ylim=(len(names) - 0.6, -0.8))
    ax.margins(x=0.12)
    return ax


def mark_place(ax, kind, x, y, **style):
    """Mark where a map puts a joint: "argmax" a square, "expectation" a dot, "truth" a cross.

    Args:
        ax: Axes.
        kind: one of the three; it is also the entry in the legend.
        x, y: in the axes' units; numbers, or arrays of one path.
        **style: passed on to `Axes.plot`.
    Returns:
        the Axes.
    """
    looks = {
        "argmax": {"marker": "s", "mfc": "none", "mec": READERS["argmax"], "mew": 2.5, "ms": 12},
        "expectation": {"marker": "o", "color": PREDICTION, "ms": 6},
        "truth": {"marker": "+", "color": TRUTH, "ms": 11, "mew": 2},
    }
    ax.plot(x, y, **{"linestyle": "none", "label": kind} | looks[kind] | style)
    return ax


def draw_line_map(ax, probability, expectation):
    """Draw the probabilities of a line of cells, its largest cell and its expectation.

    Args:
        ax: Axes.
        probability: (W,).
        expectation: cells.
    Returns:
        the Axes.
    """
    probability = np.asarray(probability)
    cells = np.arange(len(probability))
    largest = int(probability.argmax())
    ax.bar(cells, probability, color="#9E9AC8", width=0.9)
    ax.axvline(expectation, color=PREDICTION, label="expectation")
    mark_place(ax, "argmax", largest, probability[largest], clip_on=False)
    ax.set(xlabel="x (cells)", ylabel="probability")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def draw_plane_map(ax, values, crop=None):
    """Draw a map of the plane, one square for each cell; over a crop it is see-through where it is low.

    Args:
        ax: Axes.
        values: (H, W) array, not negative.
        crop: (S, S, 3) uint8 RGB, or None.
    Returns:
        the Axes, in cells.
    """
    values = np.asarray(values)
    H, W = values.shape
    alpha = None
    if crop is not None:
        ax.imshow(crop, extent=(-0.5, W - 0.5, H - 0.5, -0.5), alpha=0.45)
        alpha = np.sqrt(values / values.max())
    ax.imshow(values, cmap="Purples", alpha=alpha, aspect="auto")
    ax.grid(False)
    return ax


def draw_marginals(figure, probability, expectation):
    """Draw a map of the plane with its two marginals, and the expectation that they share.

    Args:
        figure: Figure, empty.
        probability: (H, W) array; sums to 1.
        expectation: x, y in cells.
    Returns:
        dict of the Axes: "plane", "x" and "y".
    """
    probability = np.asarray(probability)
    H, W = probability.shape
    x, y = expectation
    axes = figure.subplot_mosaic(
        [["x", "."], ["plane", "y"]], width_ratios=(4, 1.3), height_ratios=(1.3, 4)
    )
    draw_plane_map(axes["plane"], probability)
    row, column = np.unravel_index(probability.argmax(), probability.shape)
    mark_place(axes["plane"], "argmax", column, row)
    mark_place(axes["plane"], "expectation", x, y)
    axes["plane"].set(xlabel="x (cells)", ylabel="y (cells)")
    axes["plane"].legend(loc="lower left")
    axes["x"].bar(range(W), probability.sum(axis=0), color="#9E9AC8")
    axes["x"].axvline(x, color=PREDICTION)
    axes["x"].set(title="marginal of x", xlim=(-0.5, W - 0.5), xticks=(), yticks=())
    axes["y"].barh(range(H), probability.sum(axis=1), color="#9E9AC8")
    axes["y"].axhline(y, color=PREDICTION)
    axes["y"].set(title="marginal of y", ylim=(H - 0.5, -0.5), xticks=(), yticks=())
    for name in ("x", "y"):
        axes[name].grid(False)
    return axes


def draw_push(ax, push, limit):
    """Draw how a step moves the logits of a plane: purple ones rise, orange ones sink.

    Args:
        ax: Axes.
        push: (rows, columns), minus the gradient of the loss; row 0 is drawn at the bottom.
        limit: push of the darkest colour.
    Returns:
        the Axes, in cells.
    """
    ax.imshow(push, cmap="PuOr", vmin=-limit, vmax=limit, origin="lower")
    ax.grid(False)
    return ax


def draw_line_push(axes, logits, push, truth):
    """Draw the logits of a line, and below how a step moves them: purple up, orange down.

    Args:
        axes: two Axes, upper and lower.
        logits, push: (W,); push is minus the gradient of the loss.
        truth: cell.
    Returns:
        the two Axes.
    """
    upper, lower = axes
    push = np.asarray(push)
    cells = np.arange(len(push))
    upper.plot(cells, logits, color="#6A51A3")
    upper.set(ylabel="logits", yticks=())
    lower.bar(cells, push, width=0.9, color=np.where(push < 0, RIGHT, "#6A51A3"))
    limit = 1.15 * np.abs(push).max()
    lower.set(xlabel="cell", ylabel="push", ylim=(-limit, limit), yticks=(0,), yticklabels=("0",))
    for ax in (upper, lower):
        ax.axvline(truth, color=TRUTH, linestyle=":")
        ax.label_outer()
    return axes


def draw_in_box(ax, image, joints, box, skeleton=HUMAN36M):
    """Show the part of an image that a box covers, with a skeleton over it.

    Args:
        ax: Axes.
        image: (H, W, 3) uint8 RGB.
        joints: (J, 2), px.
        box: centre x, centre y, side, px.
        skeleton: of the joints.
    Returns:
        the Axes.
    """
    draw_image(ax, image, joints, skeleton)
    x, y, side = box
    ax.set(xlim=(x - side / 2, x + side / 2), ylim=(y + side / 2, y - side / 2))
    return ax
