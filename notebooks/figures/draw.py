"""Draw the concept figures of the notebooks as SVG files beside this script.

    python notebooks/figures/draw.py

Concepts are drawn here, and not in the notebooks, so that a reader on a code host sees them too.
"""

from pathlib import Path

import matplotlib.pyplot as plt

from ipr_lib.files import atomic_path
from ipr_lib.views import plots

FOLDER = Path(__file__).parent


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


if __name__ == "__main__":
    plots.use_style()
    training_step()
    from_prediction_to_number()
    recipe()
