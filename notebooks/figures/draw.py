"""Draw the concept figures of the notebooks as SVG files beside this script.

    python notebooks/figures/draw.py

Concepts are drawn here, and not in the notebooks, so that a reader on a code host sees them too.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from ipr_lib.course import example_item, shown_crops
from ipr_lib.data.datasets import CropDataset
from ipr_lib.evaluation import metrics
from ipr_lib.files import atomic_path
from ipr_lib.geometry import HUMAN36M, look_at
from ipr_lib.inference import load_network
from ipr_lib.run import predict_run
from ipr_lib.studio import perform
from ipr_lib.views import plots

FOLDER = Path(__file__).parent
# Of a text that stands above or below a place.
ABOVE = {"ha": "center", "va": "bottom", "fontsize": 9}
BELOW = {"ha": "center", "va": "top", "fontsize": 9}
GLASS = "#6A51A3"  # cameras and what they see


def save(figure, name):
    """Write a figure as SVG; the same figure always gives the same file."""
    plt.rcParams["svg.hashsalt"] = name
    with atomic_path(FOLDER / name) as temporary:
        figure.savefig(
            temporary, format="svg", facecolor="white", metadata={"Date": None}
        )
    plt.close(figure)


def chain(boxes, above=(), below=(), size=(8.4, 1.9), colour=plots.RIGHT):
    """Boxes in a row with an arrow from each to the next.

    Args:
        boxes: the text of each box.
        above, below: the text over and under each arrow; "" for none.
        size: of the figure, inches.
        colour: of the text over the arrows.
    Returns:
        figure, Axes; box i stands at x = i, y = 0.
    """
    figure, ax = plt.subplots(figsize=size)
    ax.set(xlim=(-0.5, len(boxes) - 0.5), ylim=(-1, 0.8))
    ax.axis("off")
    frame = {
        "boxstyle": "round,pad=0.45",
        "facecolor": "white",
        "edgecolor": plots.MIDDLE,
    }
    for place, text in enumerate(boxes):
        ax.text(
            place, 0, text, ha="center", va="center", fontsize=9, bbox=frame
        )
    for place in range(len(boxes) - 1):
        arrow(ax, (place + 0.36, 0), (place + 0.66, 0), plots.PREDICTION)
    for place, text in enumerate(above):
        ax.text(
            place + 0.5,
            0.35,
            text,
            ha="center",
            va="bottom",
            fontsize=9,
            color=colour,
        )
    for place, text in enumerate(below):
        ax.text(
            place + 0.5,
            -0.35,
            text,
            ha="center",
            va="top",
            fontsize=9,
            color=plots.LEFT,
        )
    return figure, ax


def arrow(ax, start, end, colour, style="-|>"):
    """An arrow from start to end; style "-" has no head."""
    ax.annotate(
        "", end, start, arrowprops={"arrowstyle": style, "color": colour}
    )


def bare(ax, title):
    """Axes without lines and ticks, with a title; both directions have the same scale."""
    ax.set_title(title)
    ax.set_aspect("equal", adjustable="datalim")
    ax.axis("off")


def labelled_arrow(ax, start, end, text="", colour=plots.MIDDLE, offset=(4, 0)):
    """An arrow with a text beside its tip, moved by `offset` points."""
    look = {
        "arrowstyle": "-|>",
        "color": colour,
        "linewidth": 1.6,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", end, start, arrowprops=look)
    ax.annotate(
        text,
        end,
        offset,
        textcoords="offset points",
        color=colour,
        fontsize=10,
        va="center",
    )


# --- 00 ---


def the_idea():
    """A prediction in its crop and from the side; three maps with two bumps, read by the best cell and by the average."""
    figure = plt.figure(figsize=(9.6, 3.2))
    grid = figure.add_gridspec(3, 3, width_ratios=(1, 1, 1.5))
    picture = figure.add_subplot(grid[:, 0])
    side = figure.add_subplot(grid[:, 1])
    reference = load_network()
    network, cfg = reference.model, reference.cfg
    store = shown_crops(cfg)
    item = example_item(store)
    predictions = predict_run(network, store, cfg)
    crops = CropDataset(store, cfg.crop_px, cfg.depth_mm)[
        0, 0, np.array([item])
    ]["crops"]
    pose = metrics.root_relative(predictions["pred_cam"])[item]
    joints_crop = predictions["joints_crop"][item]
    plots.draw_image(
        picture, crops[0].numpy(), joints_crop, title="a picture, 18 joints"
    )
    plots.draw_pose(side, pose, "side")
    plots.frame_pose(side)
    side.set(
        title="the same, from the side", xlabel="z, away from the camera (mm)"
    )
    for row, right in enumerate((2.2, 2.9, 3.6)):
        draw_two_bumps(
            figure.add_subplot(grid[row, 2]), right, is_first=row == 0
        )
    save(figure, "00_idea.svg")


def draw_two_bumps(ax, right, is_first):
    """Probabilities of nine cells with two bumps; where the best cell and the average are."""
    logits = np.array([0, 1, 3, 1, 0, 0, 1, right, 1])
    probability = np.exp(logits) / np.exp(logits).sum()
    cells = np.arange(9)
    ax.bar(cells, probability, color=plots.BASELINE, width=0.85)
    ax.plot(
        probability.argmax(), 0.55, "v", color=plots.RIGHT, label="best cell"
    )
    ax.plot(
        probability @ cells,
        0.03,
        "o",
        color=plots.PREDICTION,
        label="average cell",
    )
    ax.set(ylim=(0, 0.65), yticks=[], xticks=[])
    ax.spines[["left"]].set_visible(False)
    if is_first:
        ax.set_title(
            "a map for one joint: the best jumps, the average glides",
            fontsize=9.5,
        )
        ax.legend(fontsize=8.5, loc="upper right", handletextpad=0.1)


# What the lanes of the course are called, and its notebooks.
LANES = {
    "data": [
        "01 skeletons\nand cameras",
        "02 prepare\nHuman3.6M",
        "03 prepare\nMPII, COCO",
        "04 crops and\naugmentation",
    ],
    "method": [
        "05 heat maps\nand argmax",
        "06 soft-\nargmax",
        "07 network\nand losses",
        "08 heat map\nvs integral",
    ],
    "measuring": [
        "09 training",
        "10 evaluation",
        "11 reproduction",
        "12 your own\npictures",
    ],
}


def course_map():
    """The notebooks in three lanes, read from left to right."""
    figure, ax = plt.subplots(figsize=(8.4, 3.2))
    look = {
        "boxstyle": "round,pad=0.55",
        "facecolor": "#E2F1EC",
        "edgecolor": plots.PREDICTION,
        "linewidth": 1.4,
    }
    for row, (lane, names) in enumerate(LANES.items()):
        ax.text(-0.68, -row, lane, ha="right", va="center", color=plots.TRUTH)
        ax.plot([0, 3], [-row, -row], color=plots.BASELINE, zorder=0)
        for column, name in enumerate(names):
            ax.text(
                column,
                -row,
                name,
                ha="center",
                va="center",
                fontsize=9.5,
                bbox=look,
            )
    for row in (0, 1):  # from the end of a lane to the start of the next one
        x = [3, 3.62, 3.62, -0.58, -0.58, 0]
        y = [-row, -row, -row - 0.5, -row - 0.5, -row - 1, -row - 1]
        ax.plot(x, y, color=plots.BASELINE, zorder=0)
    ax.set(xlim=(-1.4, 3.7), ylim=(-2.4, 0.4))
    ax.axis("off")
    save(figure, "00_course.svg")


# --- 01 ---


def cameras():
    """World and camera axes; the pinhole from the side; the picture with its axes."""
    figure, (room, side, picture) = plt.subplots(
        1, 3, figsize=(9.6, 3.1), width_ratios=(1.25, 1.35, 1)
    )
    draw_room(room)
    draw_pinhole(side)
    draw_picture(picture)
    save(figure, "01_cameras.svg")


def draw_room(ax):
    """World axes on the floor, camera axes at the camera, and a person between them, seen from the side."""
    bare(ax, "1  two sets of axes")
    walker = (
        perform(subject=9, action=14, take=1, n_frames=60).joints_world[40]
        / 1000
    )
    walker[:, :2] -= walker[0, :2]
    # Seen from the side: the camera looks to the right, so its forward axis lies in the picture plane.
    plots.draw_limbs(
        ax, walker[:, [1, 2]] + [1.6, 0], markersize=0, linewidth=1.6
    )
    ax.plot([-2.6, 2.6], [0, 0], color=plots.BASELINE, zorder=0)
    labelled_arrow(ax, (0, 0), (1, 0), "$y_w$", offset=(-2, -9))
    labelled_arrow(ax, (0, 0), (0, 1), "$z_w$, up", offset=(-5, 7))
    labelled_arrow(ax, (0, 0), (-0.42, -0.42), "$x_w$", offset=(-9, -5))
    ax.text(
        0.45,
        0.45,
        "world",
        color=plots.MIDDLE,
        fontsize=9,
        ha="center",
        va="center",
    )
    eye = (-2.2, 1.5)
    ax.plot(*eye, "o", color=GLASS, markersize=6)
    labelled_arrow(
        ax, eye, (-1.1, 1.5), "$Z$, forward", GLASS, offset=(-20, 10)
    )
    labelled_arrow(ax, eye, (-2.2, 0.5), "$Y$, down", GLASS, offset=(4, 2))
    labelled_arrow(
        ax, eye, (-2.62, 1.08), "$X$, right", GLASS, offset=(-26, -9)
    )
    ax.text(-2.6, 2.0, "camera, at $T$", color=GLASS, fontsize=9, ha="center")
    ax.set(xlim=(-3.2, 2.2), ylim=(-0.75, 2.5))


def draw_pinhole(ax):
    """A point, its ray to the camera's centre, and where the ray meets the picture: two similar triangles."""
    bare(ax, "2  the pinhole, from the side")
    focal, depth, height = 1.3, 4.2, 1.7
    labelled_arrow(ax, (0, 0), (5.1, 0), "$Z$", GLASS, offset=(2, 8))
    ax.plot([0, depth], [0, -height], color=plots.PREDICTION, zorder=0)
    ax.plot([focal, focal], [-0.95, 0.75], color=GLASS, linewidth=2.4)
    ax.text(focal, 0.9, "picture", color=GLASS, fontsize=9, ha="center")
    ax.plot([depth, depth], [0, -height], ":", color=plots.MIDDLE)
    ax.plot(0, 0, "o", color=GLASS, markersize=6)
    ax.plot(depth, -height, "o", color=plots.PREDICTION, markersize=6)
    seen = -height * focal / depth
    ax.plot(focal, seen, "o", color=plots.PREDICTION, markersize=5)
    ax.text(depth + 0.12, -height / 2, "$Y$", fontsize=11, va="center")
    ax.text(focal + 0.1, seen / 2, "$f\\,Y/Z$", fontsize=10, va="center")
    ax.text(
        depth + 0.15,
        -height,
        "joint",
        color=plots.PREDICTION,
        fontsize=10,
        va="center",
    )
    ax.text(0, 0.22, "centre", color=GLASS, fontsize=9, ha="center")
    for end, level, text in ((focal, -1.35, "$f$"), (depth, -2.15, "$Z$")):
        ax.annotate(
            "",
            (end, level),
            (0, level),
            arrowprops={"arrowstyle": "<->", "color": plots.MIDDLE},
        )
        ax.text(end / 2, level - 0.28, text, fontsize=10, ha="center")
    ax.set(xlim=(-0.5, 5.7), ylim=(-2.7, 1.3))


def draw_picture(ax):
    """The same person in the picture: u to the right, v down, the principal point in the middle."""
    bare(ax, "3  the picture, in pixels")
    walker = perform(subject=9, action=14, take=1, n_frames=60).joints_world[40]
    camera = look_at(
        centre=(walker[0, 0] - 2500, walker[0, 1] - 4200, 1500),
        target=(walker[0, 0] + 480, walker[0, 1], 950),
        f=(2400, 2400),
        c=(500, 500),
        width=1000,
        height=1000,
    )
    joints = camera.camera_to_image(camera.world_to_camera(walker))
    ax.add_patch(
        plt.Rectangle(
            (0, 0), 1000, 1000, fill=False, edgecolor=GLASS, linewidth=2.4
        )
    )
    plots.draw_limbs(ax, joints, markersize=0)
    labelled_arrow(ax, (0, 0), (420, 0), "$u$", GLASS, offset=(0, 9))
    labelled_arrow(ax, (0, 0), (0, 420), "$v$", GLASS, offset=(-12, 0))
    ax.plot(500, 500, "+", color="black", markersize=11)
    ax.annotate(
        "$c$", (500, 500), (4, 6), textcoords="offset points", fontsize=11
    )
    ax.set(xlim=(-130, 1030), ylim=(1030, -130))


# Where a person who looks at us has her joints: those of the middle, and of the right side.
MIDDLE_JOINTS = {
    "Pelvis": (0, 0),
    "Torso": (0, 2.4),
    "Neck": (0, 5.2),
    "Nose": (0, 6.5),
    "Head": (0, 7.7),
    "Thorax": (0, 4.5),
}
RIGHT_JOINTS = {
    "Hip": (-1.1, 0),
    "Knee": (-1.3, -4.4),
    "Ankle": (-1.5, -8.6),
    "Shoulder": (-2.4, 4.8),
    "Elbow": (-3.8, 2.5),
    "Wrist": (-5.1, 0.6),
}


def joint_set():
    """The 18 joints with their names and numbers, on a person who looks at us."""
    places = []
    for name in HUMAN36M.names:
        if name in MIDDLE_JOINTS:
            places.append(MIDDLE_JOINTS[name])
            continue
        x, y = RIGHT_JOINTS[name[2:]]
        places.append((x, y) if name.startswith("R_") else (-x, y))
    figure, ax = plt.subplots(figsize=(6.2, 5.2))
    plots.draw_limbs(ax, np.array(places), linewidth=4, markersize=7)
    beside = {"Pelvis": ((0, -17), "center"), "Thorax": ((-7, -11), "right")}
    for number, (name, place) in enumerate(zip(HUMAN36M.names, places)):
        usual = ((-9, 2), "right") if place[0] < 0 else ((9, 2), "left")
        offset, side = beside.get(name, usual)
        ax.annotate(
            f"{number} {name}",
            place,
            offset,
            textcoords="offset points",
            ha=side,
            fontsize=9,
        )
    ax.set(xlim=(-7.5, 7.5), ylim=(-9.2, 8.4))
    bare(ax, "the person looks at us")
    save(figure, "01_joints.svg")


# --- 02 ---


def sources():
    """Two sources write one layout, which three readers share."""
    figure, ax = plt.subplots(figsize=(8.6, 3.2))
    columns = {
        "raw": [
            "metadata.xml: names, cameras",
            "poses, .cdf: 32 joints, mm",
            "videos, .mp4: 4 cameras",
            "built-in capture: drawn",
        ],
        "prepared": ["a folder for each\nsubject, action,\nsubaction, camera"],
        "in use": ["prepare check", "crop store", "training, scores"],
    }
    frame = {
        "boxstyle": "round,pad=0.5",
        "facecolor": "white",
        "edgecolor": plots.MIDDLE,
    }
    for x, (title, boxes) in zip((0, 3.4, 6.2), columns.items()):
        ax.text(x, 2.3, title, fontsize=11, fontweight="bold", ha="center")
        for number, text in enumerate(boxes):
            y = (len(boxes) - 1) / 2 - number
            ax.text(
                x, y, text, ha="center", va="center", fontsize=9, bbox=frame
            )
            if title == "raw":
                arrow(ax, (1.25, y), (2.65, y / 8), plots.PREDICTION)
            if title == "in use":
                arrow(ax, (4.15, y / 6), (5.5, y), plots.PREDICTION)
    ax.set(xlim=(-1.3, 7.1), ylim=(-2, 2.7))
    ax.axis("off")
    save(figure, "02_sources.svg")


# --- 04 ---


def half_a_pixel():
    """Where two rules put the cells of a map, and the shortcut in the mirror."""
    figure, ax = plt.subplots(figsize=(8.4, 1.9))
    for i in range(4):
        shade = 0.25 if i % 2 else 0.1
        left = 4 * i - 0.5
        ax.axvspan(left, left + 4, color="#6A51A3", alpha=shade, linewidth=0)
        ax.text(left + 2, 1.06, f"cell {i}", ha="center", fontsize=9)
        for dx in range(4):
            ax.plot(4 * i + dx, 0.08, "|", color=plots.MIDDLE, markersize=8)
        rules = (
            (4 * i + 1.5, 0.35, "o", plots.PREDICTION, "(i + 0.5) s - 0.5"),
            (4 * i, 0.35, "s", plots.RIGHT, "i s"),
        )
        for x, y, marker, colour, rule in rules:
            label = rule if i == 0 else None
            ax.plot(x, y, marker, color=colour, markersize=8, label=label)
        ax.plot(
            15 - 4 * i,
            0.7,
            "s",
            color=plots.RIGHT,
            markerfacecolor="white",
            markersize=8,
            label="i s, in the mirror" if i == 0 else None,
        )
    ax.set(xlim=(-0.6, 15.6), ylim=(0, 1), yticks=[], xticks=range(16))
    ax.set_xlabel("crop pixel")
    ax.grid(False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    save(figure, "04_half_a_pixel.svg")


# --- 07 ---


def where_losses_stand():
    """One backbone, two heads, and the three places at which a loss can stand."""
    figure, ax = plt.subplots(figsize=(8.4, 2.9))
    ax.set(xlim=(-0.4, 5.7), ylim=(-1.6, 1.2))
    ax.axis("off")
    frame = {
        "boxstyle": "round,pad=0.45",
        "facecolor": "white",
        "edgecolor": plots.MIDDLE,
    }
    for x, y, text in (
        (0, 0, "crop"),
        (1.15, 0, "backbone"),
        (2.5, 0.6, "head\ndeconvolutions"),
        (3.75, 0.6, "volume\nof logits"),
        (5, 0.6, "joints"),
        (2.5, -0.8, "global mean,\nlinear layer"),
        (5, -0.8, "joints"),
    ):
        ax.text(x, y, text, ha="center", va="center", fontsize=9, bbox=frame)
    for start, end in (
        ((0.14, 0), (0.9, 0)),
        ((1.42, 0.1), (2.14, 0.55)),
        ((1.42, -0.1), (2.17, -0.72)),
        ((2.86, 0.6), (3.53, 0.6)),
        ((3.97, 0.6), (4.83, 0.6)),
        ((2.83, -0.8), (4.83, -0.8)),
    ):
        arrow(ax, start, end, plots.MIDDLE)
    for x, y, text, colour in (
        (4.41, 0.7, "expectation", plots.PREDICTION),
        (3.75, 1.05, "H1, H2, H3: loss on the map", plots.MIDDLE),
        (5.05, 1.05, "I*: loss on joints", plots.PREDICTION),
        (5.05, -1.3, "R1: loss on joints", plots.RIGHT),
    ):
        ax.text(x, y, text, ha="center", fontsize=9, color=colour)
    save(figure, "07_losses.svg")


# --- 08 ---


def family():
    """One backbone, and what direct regression, heat maps and the integral make of its features."""
    figure, ax = plt.subplots(figsize=(8.4, 2.9))
    ax.set(xlim=(-0.5, 7.7), ylim=(-0.5, 3.2))
    ax.axis("off")
    places = {
        "crop": (0, 1),
        "backbone": (1.5, 1),
        "average": (3.2, 0),
        "map of\neach joint": (3.2, 2),
        "largest cell": (5, 1.3),
        "mean cell": (5, 2.7),
        "R1\nloss on joints": (6.9, 0),
        "H1, H2, H3\nloss on cells": (6.9, 1.3),
        "I*\nloss on joints": (6.9, 2.7),
    }
    arrows = [
        ("crop", "backbone"),
        ("backbone", "average"),
        ("backbone", "map of\neach joint"),
        ("average", "R1\nloss on joints"),
        ("map of\neach joint", "largest cell"),
        ("map of\neach joint", "mean cell"),
        ("largest cell", "H1, H2, H3\nloss on cells"),
        ("mean cell", "I*\nloss on joints"),
    ]
    boxes = {}
    for text, place in places.items():
        ours = text.startswith(("mean", "I*"))
        frame = {
            "boxstyle": "round",
            "facecolor": plots.PREDICTION if ours else "white",
            "edgecolor": plots.MIDDLE,
        }
        colour = "white" if ours else "black"
        boxes[text] = ax.text(
            *place,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color=colour,
            bbox=frame,
        )
    for start, end in arrows:
        ax.annotate(
            "",
            places[end],
            places[start],
            arrowprops={
                "arrowstyle": "-|>",
                "color": plots.MIDDLE,
                "patchA": boxes[start].get_bbox_patch(),
                "patchB": boxes[end].get_bbox_patch(),
            },
        )
    save(figure, "08_family.svg")


# --- 09 ---


def training_step():
    """One step of training: forward along the boxes, and the gradient back to the weights."""
    figure, ax = chain(
        [
            "crops\nof a batch",
            "volumes\nof logits",
            "joints\npx, px, mm",
            "loss",
        ],
        above=["network", "expectation", "mean distance\nto the labels"],
        colour=plots.PREDICTION,
    )
    arrow(ax, (3, -0.28), (3, -0.7), plots.RIGHT, "-")
    arrow(ax, (3, -0.7), (0.5, -0.7), plots.RIGHT, "-")
    arrow(ax, (0.5, -0.7), (0.5, -0.08), plots.RIGHT)
    text = (
        "gradient of the loss; the optimizer moves the weights of the network"
    )
    ax.text(
        1.75,
        -0.64,
        text,
        ha="center",
        va="bottom",
        fontsize=9,
        color=plots.RIGHT,
    )
    save(figure, "09_step.svg")


# --- 10 ---


def from_prediction_to_number():
    """What is given to the method, and what is chosen by whoever scores it."""
    figure, ax = chain(
        [
            "prediction\npx, px, mm",
            "image\npx",
            "camera\nmm",
            "two aligned\nposes",
            "a number\nmm",
        ],
        above=["box", "root depth,\nintrinsics"],
        below=[
            "",
            "",
            "no alignment, root,\nrigid, with scale",
            "joints;\nframes or actions",
        ],
        size=(8.4, 2.1),
    )
    ax.text(
        1.95,
        0.45,
        "← given to the method (oracle inputs)",
        color=plots.RIGHT,
        fontsize=9,
    )
    ax.text(
        1.95,
        -0.55,
        "chosen by whoever scores →",
        color=plots.LEFT,
        fontsize=9,
        ha="right",
    )
    save(figure, "10_number.svg")


# --- 11 ---


def recipe():
    """The five steps of the recipe, and what each hands to the next."""
    figure, ax = chain(
        ["capture", "store", "train", "test", "report"],
        below=[
            "images, poses,\ncameras",
            "crops\nand labels",
            "network",
            "predictions,\nscores",
        ],
        size=(8.4, 1.7),
    )
    frame = {
        "boxstyle": "round,pad=0.45",
        "facecolor": "white",
        "edgecolor": plots.BASELINE,
    }
    text = "published rows"
    ax.text(4, 0.62, text, ha="center", va="center", fontsize=9, bbox=frame)
    arrow(ax, (4, 0.45), (4, 0.2), plots.BASELINE)
    ax.set(xlim=(-0.5, 4.6))
    save(figure, "11_recipe.svg")


# --- 12 ---


def way_of_a_photograph():
    """What a photograph leaves open at each step, and who answers it."""
    steps = {
        "file": ("which way is up?", "EXIF"),
        "picture": (
            "where is\nthe person?",
            "a detector, you,\nor the pose itself",
        ),
        "crop": ("what does it show?", "the network"),
        "volume": ("where are\nthe joints?", "the expectation"),
        "pose": (
            "how large,\nhow far?",
            "an average body,\na focal length",
        ),
        "path": ("noise\nor motion?", "the One-Euro\nfilter"),
    }
    figure, ax = chain(list(steps), size=(9, 1.9))
    for place, (question, answer) in enumerate(steps.values()):
        ax.text(place, 0.35, question, color=plots.RIGHT, **ABOVE)
        ax.text(place, -0.35, answer, color=plots.LEFT, **BELOW)
    ax.set(xlim=(-0.6, 5.6))
    save(figure, "12_way.svg")


def main():
    """Draw all figures."""
    plots.use_style()
    the_idea()
    course_map()
    cameras()
    joint_set()
    sources()
    half_a_pixel()
    where_losses_stand()
    family()
    training_step()
    from_prediction_to_number()
    recipe()
    way_of_a_photograph()


if __name__ == "__main__":
    main()
