"""`metrics.json` in, tables out. Taught in notebooks/11_reproduction.ipynb."""

import os
import platform
import subprocess
from pathlib import Path

import torch

from ..config import REPOSITORY
from ..data.h36m_layout import ACTIONS, FIRST_ACTION
from ..geometry.skeleton import HUMAN36M
from .tables import markdown_table

SHORT_ACTIONS = (
    "Dir.",
    "Dis.",
    "Eat",
    "Gre.",
    "Phon.",
    "Pose",
    "Pur.",
    "Sit.",
    "Sit D.",
    "Smo.",
    "Phot.",
    "Wait",
    "Walk",
    "Walk D.",
    "Walk P.",
)
METRICS = {
    "mpjpe": "MPJPE",
    "pa_mpjpe": "PA-MPJPE (rigid)",
    "pa_mpjpe_scale": "PA-MPJPE (with scale)",
}
# Numbers of others, mm, on real Human3.6M: the 15 actions in order, then the mean that their authors print.
PUBLISHED = {
    "paper, S11 only, PA-MPJPE (rigid)": (
        36.9,
        36.2,
        40.6,
        40.4,
        41.9,
        34.9,
        35.7,
        50.1,
        59.4,
        40.4,
        44.9,
        39.0,
        30.8,
        39.8,
        36.7,
        40.6,
    ),
    "paper, S9+S11, MPJPE": (
        47.5,
        47.7,
        49.5,
        50.2,
        51.4,
        43.8,
        46.4,
        58.9,
        65.7,
        49.4,
        55.8,
        47.8,
        38.9,
        49.0,
        43.8,
        49.6,
    ),
    "mks0601, S9+S11, PA-MPJPE (rigid)": (
        39.0,
        38.6,
        44.1,
        42.5,
        40.6,
        35.3,
        38.2,
        49.9,
        59.4,
        41.0,
        46.1,
        37.6,
        30.3,
        40.8,
        35.5,
        41.5,
    ),
    "mks0601, S9+S11, MPJPE": (
        50.8,
        52.3,
        54.8,
        57.9,
        52.8,
        47.0,
        52.1,
        62.0,
        73.7,
        52.6,
        58.3,
        50.4,
        40.9,
        54.1,
        45.1,
        53.9,
    ),
}


def commit():
    """Short hash of the repository's commit, with "+" where files differ from it; "unknown" outside of git."""

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (
            "+" if git("status", "--porcelain") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def device_name(device):
    """The device in words: the GPU's name, or the processor's with the threads in use and a limit on its instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
            model,
        )
    except OSError:
        model = model or "unknown processor"  # not Linux: the platform's own word must do
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    limited = f", limited to {limit}" if limit else ""
    return f"{model}, {torch.get_num_threads()} threads{limited}"


ACTION_HEADER = ["mm", *SHORT_ACTIONS, "frame mean", "action mean"]


def score_rows(label, scores, metrics=METRICS):
    """Rows of the per-action table for one set of scores.

    Args:
        label: what begins each row's name.
        scores: of `metrics.score`, or as JSON gives it back.
        metrics: which of METRICS.
    Returns:
        list of [label, 15 actions, frame mean, action mean], strings, mm; actions that were not tested read "–".
    """
    rows = []
    for metric in metrics:
        # JSON turns the action numbers into strings.
        means = {int(action): value for action, value in scores[metric]["per_action"].items()}
        cells = [
            f"{means[a]:.1f}" if a in means else "–"
            for a in range(FIRST_ACTION, FIRST_ACTION + len(ACTIONS))
        ]
        rows.append(
            [
                f"{label}, {METRICS[metric]}",
                *cells,
                f"{scores[metric]['frame_mean']:.1f}",
                f"{scores[metric]['action_mean']:.1f}",
            ]
        )
    return rows


def action_rows(metrics):
    """Rows of the per-action table for one run: one look, the flip test, the mean pose; see `score_rows`.

    Args:
        metrics: content of a `metrics.json`.
    """
    return [
        *score_rows("ours", metrics["scores"]),
        *score_rows("ours, flip test", metrics["scores_flip"], ("mpjpe", "pa_mpjpe")),
        *score_rows("mean pose", metrics["mean_pose"], ("mpjpe", "pa_mpjpe")),
    ]


CONVENTION_HEADER = ["mm", "frame mean", "95 %", "action mean", "without pelvis", "without damaged"]


def convention_rows(label, scores):
    """Each metric by every convention.

    Args:
        label: what begins each row's name.
        scores: of `evaluation.score_items`, or as JSON gives it back.
    Returns:
        list of rows for CONVENTION_HEADER, strings, mm: frame mean, its interval over takes, action mean, frame mean
        without the pelvis, frame mean without the damaged sequences.
    """
    rows = []
    for metric, name in METRICS.items():
        s, sound = scores[metric], scores["without_damaged"]
        interval = s.get("interval")
        rows.append(
            [
                f"{label}, {name}",
                f"{s['frame_mean']:.1f}",
                f"{interval[0]:.1f} – {interval[1]:.1f}" if interval else "–",
                f"{s['action_mean']:.1f}",
                f"{s['without_pelvis']['frame_mean']:.1f}",
                f"{sound[metric]['frame_mean']:.1f}" if sound else "–",
            ]
        )
    return rows


JOINT_HEADER = ["mm", *METRICS.values(), "across the view", "along the view"]


def joint_rows(scores):
    """Mean error of each scored joint: rows for JOINT_HEADER, strings, mm; scores as in `score_rows`."""
    columns = [scores[metric]["per_joint"] for metric in METRICS]
    columns += [scores["mpjpe_xy_per_joint"], scores["mpjpe_z_per_joint"]]
    return [
        [name, *(f"{value:.1f}" for value in row)] for name, *row in zip(HUMAN36M.names, *columns)
    ]


def published_rows():
    """PUBLISHED in the columns of `action_rows`; which mean the paper prints is not known, it stands as frame mean."""
    return [
        [f"*{label}*", *(f"{value:.1f}" for value in values), "–"]
        for label, values in PUBLISHED.items()
    ]


def report(metrics):
    """The whole report of a run, Markdown.

    Args:
        metrics: content of a `metrics.json`.
    Returns:
        str.
    """
    scores, flip, baseline = (
        metrics[who]["mpjpe"]["frame_mean"] for who in ("scores", "scores_flip", "mean_pose")
    )
    minutes = ", ".join(f"{name} {value:.1f}" for name, value in metrics["minutes"].items())
    facts = [
        ["data", metrics["data"]],
        ["split (train / test), test step", f"{metrics['split']}, {metrics['test_step']} frames"],
        ["training items, samples seen", f"{metrics['train_items']}, {metrics['samples_seen']}"],
        ["test items", metrics["scores"]["n"]],
        ["oracle inputs", "; ".join(metrics["oracle"])],
        ["network", f"{metrics['network']}, {metrics['parameters'] / 1e6:.2f} million parameters"],
        ["seed", metrics["seed"]],
        ["commit, device", f"{metrics['commit']}, {metrics['device']}"],
        ["minutes", minutes],
        [
            "error across / along the view",
            f"{metrics['scores']['mpjpe_xy']:.1f} / {metrics['scores']['mpjpe_z']:.1f} mm",
        ],
    ]
    return (
        "\n\n".join(
            [
                f"# {metrics['run']}",
                f"MPJPE **{scores:.1f} mm**, {scores / baseline:.2f} of the mean pose's {baseline:.1f} mm. "
                f"17 joints, pelvis included. Oracle: {'; '.join(metrics['oracle'])}.",
                f"One look at each picture, as everywhere here unless stated. With the flip test, which published tables of this "
                f"method use: {flip:.1f} mm.",
                markdown_table(["", ""], facts),
                "## Per action",
                markdown_table(ACTION_HEADER, action_rows(metrics)),
                "## By convention",
                markdown_table(
                    CONVENTION_HEADER,
                    convention_rows("one look", metrics["scores"])
                    + convention_rows("flip test", metrics["scores_flip"]),
                ),
                "The rows below were measured by others on **other data**, real Human3.6M; they show how such a table is read, "
                "not what to compare with. Oracle box, root depth and intrinsics as well; the paper's PA row is of another split "
                "(S11 alone).",
                markdown_table(ACTION_HEADER, published_rows()),
            ]
        )
        + "\n"
    )


def reference_note(reference):
    """What the numbers of a reference file's content hold for: seeds, data, pictures, oracles, device, commit; one line."""
    r = reference
    return (
        f"mm, frame mean ± half the spread over {len(r['seeds'])} seeds; built-in capture, actors S9 and S11 unseen in "
        f"training, {r['test_items']} pictures; oracle: {'; '.join(r['oracle'])}; {r['device'][0]}; commit "
        f"{', '.join(r['commit'])}."
    )
