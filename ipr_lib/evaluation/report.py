"""Scores as tables; what a scoring leaves behind; and what many runs are condensed into.

Taught in notebooks/11_reproduction.ipynb. Only plain dicts come in: a run's `metrics.json` as
`course.pipeline` writes it, or a reference file of `results/reference/`. A row of a table is a list of
strings; lengths are in mm. Scores are those of `metrics.score_items`, from memory or as JSON gives
them back, which turns the numbers of actions into strings.
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.h36m_layout import ACTIONS, FIRST_ACTION
from ..files import InputError, atomic_path, read_json, write_json
from ..geometry.skeleton import HUMAN36M
from ..progress import TIMES
from .metrics import METRICS, align, root_relative

SCORES_FILE, PREDICTIONS_FILE, REPORT_FILE = "metrics.json", "predictions.npz", "report.md"
STAMP = "stamp.json"  # in the folder of each notebook in a run's folder
README_MARKS = (
    "<!-- table: made by `python -m ipr_lib report --readme` -->",
    "<!-- end of table -->",
)


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


# --- files of one scoring ---


def write_scores(folder: Path, content: dict, predictions: dict, rows: list, text: str) -> None:
    """Write all files of one scoring; `metrics.json` comes last, and so says that all are there.

    Args:
        folder: gets predictions.npz, table.md, table.csv, table.tex, report.md and metrics.json.
        content: of metrics.json.
        predictions: arrays by name.
        rows: of the per-action table, see `score_rows`.
        text: of report.md.
    """
    with atomic_path(folder / PREDICTIONS_FILE) as temporary:
        np.savez(temporary, **predictions)
    for suffix, table in (("md", markdown_table), ("csv", csv_table), ("tex", latex_table)):
        lines = table(ACTION_HEADER, rows).rstrip("\n")
        write_text(folder / f"table.{suffix}", lines + "\n")
    write_text(folder / REPORT_FILE, text)
    write_json(folder / SCORES_FILE, content)


def write_poses(folder: Path, pred_cam: np.ndarray, target_cam: np.ndarray) -> None:
    """Write the three text files of public code for this method: a pose a line, mm, root-relative.

    Args:
        folder: gets pred_3d_kpt.txt, pred_3d_kpt_align.txt (rigidly aligned over all joints) and
            gt_3d_kpt.txt.
        pred_cam, target_cam: (N, J, 3) camera, mm.
    """
    pred = root_relative(np.asarray(pred_cam, float))
    target = root_relative(np.asarray(target_cam, float))
    files = {
        "pred_3d_kpt.txt": pred,
        "pred_3d_kpt_align.txt": align(pred, target),
        "gt_3d_kpt.txt": target,
    }
    for name, poses in files.items():
        with atomic_path(folder / name) as temporary:
            np.savetxt(temporary, poses.reshape(len(poses), -1), fmt="%.3f", newline=" \n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# --- reports ---


def run_report(content: dict) -> str:
    """The report of a run, Markdown.

    Args:
        content: of a run's `metrics.json`.
    """
    scores, flip = content["scores"], content["scores_flip"]
    error, flip_error = scores["mpjpe"]["frame_mean"], flip["mpjpe"]["frame_mean"]
    baseline = content["mean_pose"]["mpjpe"]["frame_mean"]
    minutes = [f"{name} {value:.1f}" for name, value in content["minutes"].items()]
    oracle = "; ".join(content["oracle"])
    test_subjects = content["split"].rpartition(" / ")[2]
    facts = [
        ["data", content["data"]],
        ["split (train / test), test step", f"{content['split']}, {content['test_step']} frames"],
        ["training items, samples seen", f"{content['train_items']}, {content['samples_seen']}"],
        ["test items", scores["n"]],
        ["oracle inputs", oracle],
        ["network", f"{content['network']}, {content['parameters'] / 1e6:.2f} million parameters"],
        ["seed", content["seed"]],
        ["commit, device", f"{content['commit']}, {content['device']}"],
        ["minutes", ", ".join(minutes)],
        [
            "error across / along the view",
            f"{scores['mpjpe_xy']:.1f} / {scores['mpjpe_z']:.1f} mm",
        ],
    ]
    conventions = convention_rows("single pass", scores) + convention_rows("flip test", flip)
    dataset = content["data"].partition(" + ")[0]  # without the 2D sets beside it
    if Path(dataset).name == "human36m":
        comparable = (
            "These rows were measured by others on Human3.6M, and so was this run. A row may be compared "
            f"with the rows above where its test subjects are the same: here, {test_subjects}."
        )
    else:
        comparable = (
            "These rows were measured by others on real Human3.6M; on **other data** they show how such "
            "a table is read, not what to compare with."
        )
    title = content["run"]
    if "checkpoint_file" in content:
        title += f", {content['checkpoint_file']}"
    parts = [
        f"# {title}",
        f"MPJPE **{error:.1f} mm**, {error / baseline:.2f} of the mean pose's {baseline:.1f} mm. "
        f"17 joints, pelvis included. Oracle inputs: {oracle}.",
        "A single pass over each picture, as everywhere here unless stated. With the flip test, "
        f"which published tables of this method use: {flip_error:.1f} mm.",
        markdown_table(["", ""], facts),
        "## Per action",
        markdown_table(ACTION_HEADER, action_rows(content)),
        "## By convention",
        markdown_table(CONVENTION_HEADER, conventions),
        "## Per joint, single pass",
        markdown_table(JOINT_HEADER, joint_rows(scores)),
        "## Numbers of others",
        f"{comparable} Box, root depth and intrinsics were oracle inputs there as well; the paper's PA "
        "row is of another split (S11 alone).",
        markdown_table(ACTION_HEADER, published_rows()),
    ]
    return "\n\n".join(parts) + "\n"


def published_report(content: dict) -> str:
    """The report of a published network, Markdown; on Human3.6M with the rows of its authors.

    Args:
        content: as `published.score_published` gives it.
    """
    n = next(iter(content["ours"].values()))["n"]
    subjects = ",".join(str(subject) for subject in content["subjects"])
    epoch = "" if content["epoch"] is None else f", epoch {content['epoch']}"
    conventions = []
    for key, scores in content["ours"].items():
        conventions += convention_rows(PASSES[key], scores)
    rows = release_rows(content)
    if (content["data"], content["subjects"]) == ("human36m", [9, 11]):
        rows += [row for row in published_rows() if content["release"] in row[0]]
    parts = [
        f"# {content['checkpoint']}: release of {content['release']}{epoch}",
        f"{content['network']}. {content['data']}, S{subjects}, every {content['test_step']}th "
        f"frame, {n} pictures. Oracle inputs: {'; '.join(content['oracle'])}.",
        "## By the release's rules: rigid alignment over 18 joints, 17 scored",
        markdown_table(ACTION_HEADER, rows),
        "## By this library's: alignment over the 17 scored joints",
        markdown_table(CONVENTION_HEADER, conventions),
    ]
    return "\n\n".join(parts) + "\n"


def release_rows(content: dict) -> list[list[str]]:
    """Rows of the per-action table of a published network, by its release's own rules."""
    rows = []
    for key, scores in content["released"].items():
        rows += score_rows(PASSES[key], scores, ("mpjpe", "pa_mpjpe"))
    return rows


# --- minutes ---


def run_minutes(run_dir: str | Path) -> dict[str, float]:
    """What each step of a run took when it was made.

    Args:
        run_dir: folder of a finished run.
    Returns:
        minutes of "data", "training", "evaluation", "comparison" (the runs of notebook 08) and of
        each notebook ("00", …), as far as they were made.
    """
    run_dir = Path(run_dir)
    minutes = dict(read_json(run_dir / SCORES_FILE)["minutes"])
    if (run_dir / TIMES).exists():
        steps = read_json(run_dir / TIMES)
        if "comparison" in steps:
            minutes["comparison"] = steps["comparison"]
    for path in sorted(run_dir.glob(f"[0-9][0-9]/{STAMP}")):
        minutes[path.parent.name] = read_json(path)["minutes"]
    return minutes


def minutes_table(minutes: dict[str, float]) -> str:
    """Table of `run_minutes`, notebooks by their numbers, and of their sum; Markdown."""
    row = ["measured", *(f"{value:.1f}" for value in minutes.values())]
    row.append(f"{sum(minutes.values()):.0f}")
    return markdown_table(["minutes", *minutes, "all"], [row])


# --- several runs, condensed into one file of results/reference/ ---

COMMON = (  # what the runs must have in common
    "profile",
    "data",
    "split",
    "test_step",
    "train_items",
    "samples_seen",
    "oracle",
    "network",
    "parameters",
)


def write_reference(run_dirs: list[Path], path: Path) -> dict:
    """Condense runs that differ in their seed alone into one file of `results/reference/`.

    Args:
        run_dirs: folders of finished runs.
        path: the JSON to write.
    Returns:
        its content: what all runs have in common; mpjpe, pa_mpjpe, pa_mpjpe_scale (single pass),
        the same under flip_test and per_action, action_mean: each with mean, spread (largest minus
        smallest) and the value of each seed; mean_pose; minutes of each run, see `run_minutes`.
    Raises:
        InputError: the runs differ in more than the seed, or two have the same one; or the file is of
            another profile.
    """
    runs = [read_json(Path(run_dir) / SCORES_FILE) for run_dir in run_dirs]
    first = runs[0]
    for run in runs[1:]:
        different = [name for name in COMMON if run[name] != first[name]]
        for name, value in run["config"].items():
            if name not in ("seed", "workers") and value != first["config"][name]:
                different.append(name)
        if different:
            raise InputError(
                f"{run['run']} and {first['run']} differ in {', '.join(different)}, not only in the seed; "
                "name runs of one configuration"
            )
    seeds = [run["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds {', '.join(map(str, seeds))}: name one run of each seed")
    if Path(path).exists() and read_json(path)["profile"] != first["profile"]:
        raise InputError(
            f"{path} holds scores of profile {read_json(path)['profile']}, the runs are of profile "
            f"{first['profile']}; name another file with --reference"
        )
    content = {name: first[name] for name in COMMON}
    content["test_items"] = first["scores"]["n"]
    content["seeds"] = seeds
    content["mean_pose"] = first["mean_pose"]["mpjpe"]["frame_mean"]
    content["flip_test"] = {}
    content["per_action"] = {}
    for metric in METRICS:
        scores = [run["scores"][metric] for run in runs]
        flipped = [run["scores_flip"][metric]["frame_mean"] for run in runs]
        content[metric] = _spread([score["frame_mean"] for score in scores])
        content["flip_test"][metric] = _spread(flipped)
        content["per_action"][metric] = {}
        for action in scores[0]["per_action"]:
            values = [score["per_action"][action] for score in scores]
            content["per_action"][metric][action] = _spread(values)
    content["action_mean"] = _spread([run["scores"]["mpjpe"]["action_mean"] for run in runs])
    content["minutes"] = [run_minutes(run_dir) for run_dir in run_dirs]
    content["commit"] = sorted({run["commit"] for run in runs})
    content["device"] = sorted({run["device"] for run in runs})
    write_json(path, content)
    return content


def _spread(values):
    return {
        "mean": sum(values) / len(values),
        "spread": max(values) - min(values),
        "seeds": values,
    }


def reference_note(reference: dict) -> str:
    """What the numbers of a reference file hold for, in one line."""
    r = reference
    seeds = f"± half the spread over {len(r['seeds'])} seeds"
    if len(r["seeds"]) == 1:
        seeds = f"of seed {r['seeds'][0]} alone"
    return (
        f"mm, frame mean {seeds}; built-in capture, actors S9 and S11 unseen in "
        f"training, {r['test_items']} pictures; oracle inputs: {'; '.join(r['oracle'])}; {r['device'][0]}; commit "
        f"{', '.join(r['commit'])}."
    )


def readme_table(reference: dict, others: Sequence[dict] = ()) -> str:
    """The README's table and what belongs to it.

    Args:
        reference: content of the reference file whose scores are shown.
        others: of the same profile, made on other processors; their minutes are shown beside.
    """
    r = reference
    cells = {"profile": f"`{r['profile']}`", "network": r["network"]}
    cells["mean pose"] = f"{r['mean_pose']:.0f}"
    for metric, name in METRICS.items():
        cells[name] = _with_spread(r[metric])
        if metric == "mpjpe":
            cells[f"{name}, flip test"] = _with_spread(r["flip_test"][metric])
    table = markdown_table(list(cells), [list(cells.values())])
    return "\n\n".join([table, reference_note(r), processor_table([r, *others])])


def processor_table(references: Sequence[dict]) -> str:
    """Minutes of `make reproduce` on each processor that there are runs of; Markdown."""
    rows = []
    for reference in references:
        whole = whole_run(reference)
        notebooks = sum(value for name, value in whole.items() if name.isdigit())
        minutes = [whole.get(name, 0) for name in ("data", "training", "evaluation", "comparison")]
        minutes.append(notebooks)
        row = [", ".join(reference["device"]), *(f"{value:.1f}" for value in minutes)]
        rows.append([*row, f"{sum(whole.values()):.0f}"])
    header = ["minutes on", "data", "training", "evaluation", "comparison", "notebooks", "all"]
    return markdown_table(header, rows)


def _with_spread(value):
    if len(value["seeds"]) == 1:  # which says nothing of other seeds
        return f"{value['mean']:.1f}"
    return f"{value['mean']:.1f} ± {value['spread'] / 2:.1f}"


def update_readme(readme: Path, reference: Path) -> None:
    """Write the table of a reference file between the marks of the README, and each notebook's minutes.

    Files beside it whose names go on, such as laptop-avx2.json beside laptop.json, hold runs of
    other processors. The minutes are the last cell of the row that begins with the notebook's number.

    Raises:
        InputError: the marks are missing.
    """
    readme = Path(readme)
    start, end = README_MARKS
    head, _, rest = readme.read_text(encoding="utf-8").partition(start)
    _, found, tail = rest.partition(end)
    if not found:
        raise InputError(f"{readme} lacks the marks {start} and, after it, {end}; put them back")
    reference = Path(reference)
    others = sorted(reference.parent.glob(f"{reference.stem}-*.json"))
    content = read_json(reference)
    table = readme_table(content, [read_json(path) for path in others])
    tail = with_notebook_minutes(tail, whole_run(content))
    write_text(readme, f"{head}{start}\n{table}\n{end}{tail}")


def with_notebook_minutes(text: str, minutes: dict[str, float]) -> str:
    """The text with new minutes in the last cell of each table row that begins with a notebook's number."""
    lines = []
    for line in text.split("\n"):
        row = re.fullmatch(r"(\| (\d\d) \|.*\|)[^|]*\|", line)
        if row and row[2] in minutes:
            line = f"{row[1]} {minutes[row[2]]:.1f} |"
        lines.append(line)
    return "\n".join(lines)


def whole_run(reference: dict) -> dict[str, float]:
    """Minutes of the run with the most steps, which did all that `make reproduce` does.

    Of several, it is the one that made the data.
    """
    return max(reference["minutes"], key=lambda minutes: (len(minutes), minutes.get("data", 0)))
