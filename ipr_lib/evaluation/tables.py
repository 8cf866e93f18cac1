"""Scores as rows, and rows as Markdown, CSV or LaTeX. Taught in notebooks/11_reproduction.ipynb.

A row is a list of strings; lengths are in mm. Scores are those of `metrics.score_items`, from
memory or as JSON gives them back, which turns the numbers of actions into strings.
"""

import csv
import io

from ..data.h36m_layout import ACTIONS, FIRST_ACTION
from ..geometry.skeleton import HUMAN36M
from .metrics import METRICS

# Numbers of others on real Human3.6M, mm: the 15 actions in order, then the mean that they print.
# fmt: off
PUBLISHED = {
    "paper, S11 only, PA-MPJPE (rigid)": (
        36.9, 36.2, 40.6, 40.4, 41.9, 34.9, 35.7, 50.1, 59.4, 40.4, 44.9, 39.0, 30.8, 39.8, 36.7, 40.6,
    ),
    "paper, S9+S11, MPJPE": (
        47.5, 47.7, 49.5, 50.2, 51.4, 43.8, 46.4, 58.9, 65.7, 49.4, 55.8, 47.8, 38.9, 49.0, 43.8, 49.6,
    ),
    "mks0601, S9+S11, PA-MPJPE (rigid)": (
        39.0, 38.6, 44.1, 42.5, 40.6, 35.3, 38.2, 49.9, 59.4, 41.0, 46.1, 37.6, 30.3, 40.8, 35.5, 41.5,
    ),
    "mks0601, S9+S11, MPJPE": (
        50.8, 52.3, 54.8, 57.9, 52.8, 47.0, 52.1, 62.0, 73.7, 52.6, 58.3, 50.4, 40.9, 54.1, 45.1, 53.9,
    ),
}
# Short names in the order of `h36m_layout.ACTIONS`.
SHORT_ACTIONS = (
    "Dir.", "Dis.", "Eat", "Gre.", "Phon.", "Pose", "Pur.", "Sit.", "Sit D.", "Smo.", "Phot.", "Wait", "Walk",
    "Walk D.", "Walk P.",
)
# fmt: on
# How a published network is read: names in files -> names in tables.
PASSES = {
    "one look": "single pass",
    "flip test as released": "flip test as released",
    "flip test, exact": "flip test, exact",
}
ACTION_HEADER = ["mm", *SHORT_ACTIONS, "frame mean", "action mean"]
CONVENTION_HEADER = ["mm", "frame mean", "95 %", "action mean", "without pelvis", "without damaged"]
JOINT_HEADER = ["mm", *METRICS.values(), "across the view", "along the view"]


# --- rows ---


def score_rows(label: str, scores: dict, metrics=METRICS) -> list[list[str]]:
    """Rows of the per-action table for one set of scores.

    Args:
        label: what begins each row's name.
        scores: see the module.
        metrics: which of METRICS.
    Returns:
        a row for each metric: label, 15 actions, frame mean, action mean; an action that was not
        tested reads "–".
    """
    rows = []
    for metric in metrics:
        means = {int(action): mean for action, mean in scores[metric]["per_action"].items()}
        row = [f"{label}, {METRICS[metric]}"]
        for action in range(FIRST_ACTION, FIRST_ACTION + len(ACTIONS)):
            row.append(f"{means[action]:.1f}" if action in means else "–")
        row.append(f"{scores[metric]['frame_mean']:.1f}")
        row.append(f"{scores[metric]['action_mean']:.1f}")
        rows.append(row)
    return rows


def action_rows(content: dict) -> list[list[str]]:
    """Rows of the per-action table for one run: single pass, flip test, mean pose.

    Args:
        content: of a run's `metrics.json`.
    """
    return [
        *score_rows("ours", content["scores"]),
        *score_rows("ours, flip test", content["scores_flip"]),
        *score_rows("mean pose", content["mean_pose"], ("mpjpe", "pa_mpjpe")),
    ]


def convention_rows(label: str, scores: dict) -> list[list[str]]:
    """Each metric by every convention: rows for CONVENTION_HEADER.

    Args:
        label: what begins each row's name.
        scores: see the module.
    """
    rows = []
    for metric, name in METRICS.items():
        found, sound = scores[metric], scores["without_damaged"]
        interval = found.get("interval")
        rows.append(
            [
                f"{label}, {name}",
                f"{found['frame_mean']:.1f}",
                f"{interval[0]:.1f} – {interval[1]:.1f}" if interval else "–",
                f"{found['action_mean']:.1f}",
                f"{found['without_pelvis']['frame_mean']:.1f}",
                f"{sound[metric]['frame_mean']:.1f}" if sound else "–",
            ]
        )
    return rows


def joint_rows(scores: dict) -> list[list[str]]:
    """Mean error of each scored joint: rows for JOINT_HEADER."""
    columns = [scores[metric]["per_joint"] for metric in METRICS]
    columns += [scores["mpjpe_xy_per_joint"], scores["mpjpe_z_per_joint"]]
    rows = []
    for name, *values in zip(HUMAN36M.names, *columns):
        rows.append([name, *(f"{value:.1f}" for value in values)])
    return rows


def published_rows() -> list[list[str]]:
    """PUBLISHED in the columns of `score_rows`.

    Which mean the paper prints is not known; it stands as frame mean.
    """
    rows = []
    for label, values in PUBLISHED.items():
        rows.append([f"*{label}*", *(f"{value:.1f}" for value in values), "–"])
    return rows


# --- formats ---


def markdown_table(header, rows) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    rule = [":--"] + ["--:"] * (len(header) - 1)
    lines = []
    for row in [header, rule, *rows]:
        lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    return "\n".join(lines)


def csv_table(header, rows) -> str:
    """The same table as comma-separated values; "–" becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in [header, *rows]:
        writer.writerow(["" if cell == "–" else cell for cell in row])
    return text.getvalue()


LATEX_SIGNS = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "–": "--",
        "±": r"$\pm$",
        "×": r"$\times$",
    }
)


def latex_table(header, rows) -> str:
    """The same table as a LaTeX tabular with the rules of the booktabs package."""
    lines = []
    for row in [header, *rows]:
        cells = [str(cell).translate(LATEX_SIGNS) for cell in row]
        lines.append(" & ".join(cells) + r" \\")
    columns = "l" + "r" * (len(header) - 1)
    head = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*head, *lines[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"
