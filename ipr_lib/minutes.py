"""What each part of a run took, measured when it was made. Printed in notebooks/11_reproduction.ipynb and in the README."""

import contextlib
import time
from pathlib import Path

from .files import read_json, write_json
from .tables import markdown_table

TIMES, STAMP = "minutes.json", "stamp.json"  # in a run's folder, and in that of each notebook


@contextlib.contextmanager
def timed(run_dir, name):
    """Add the minutes of a step to the run's `minutes.json`; a step that was done already adds next to nothing.

    Args:
        run_dir: folder of the run.
        name: of the step: data, evaluation, comparison.
    """
    start = time.perf_counter()
    yield
    path = Path(run_dir) / TIMES
    minutes = read_json(path) if path.exists() else {}
    minutes[name] = round(minutes.get(name, 0.0) + (time.perf_counter() - start) / 60, 3)
    write_json(path, minutes)


def run_minutes(run_dir):
    """What each part of a run took when it was made.

    Args:
        run_dir: folder of a finished run.
    Returns:
        {"data": minutes, "training": …, "evaluation": …, "comparison": the runs of notebook 08, "00": the notebook, …},
        of what there is.
    """
    run_dir = Path(run_dir)
    minutes = dict(read_json(run_dir / "metrics.json")["minutes"])
    if (run_dir / TIMES).exists():
        minutes |= {name: value for name, value in read_json(run_dir / TIMES).items() if name == "comparison"}
    return minutes | {path.parent.name: read_json(path)["minutes"] for path in sorted(run_dir.glob(f"[0-9][0-9]/{STAMP}"))}


def times_table(minutes):
    """Table of `run_minutes`, notebooks by their numbers, and their sum; Markdown."""
    return markdown_table(
        ["minutes", *minutes, "all"], [["measured", *(f"{value:.1f}" for value in minutes.values()), f"{sum(minutes.values()):.0f}"]]
    )
