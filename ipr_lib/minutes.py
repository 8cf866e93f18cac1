"""What each part of a run took, measured when it was made. Printed in notebooks/11_reproduction.ipynb and in the README."""

import contextlib
import functools
import os
import threading
import time
from pathlib import Path

from .evaluation.tables import markdown_table
from .files import read_json, write_json

TIMES, STAMP = "minutes.json", "stamp.json"  # in a run's folder, and in that of each notebook


class WorkClock:
    """Counts the seconds that this process works: not those in which it was stopped (Ctrl-Z) or the machine slept.

    A thread looks at the time again and again. If it could not do so for a while, and if the process used almost no
    processor time in that while, then nothing ran, and the gap is left out. A long computation may keep the thread
    waiting, too (it holds Python's global lock), but it uses processor time, so it counts as work.
    """

    def __init__(self, tick=0.25, longest_gap=5.0):
        """
        Args:
            tick: seconds between two looks of the thread.
            longest_gap: seconds; a longer time between two looks may be a pause.
        """
        self.tick, self.longest_gap = tick, longest_gap
        self.lock = threading.Lock()
        self.worked = 0.0
        self.last_time, self.last_used = time.perf_counter(), time.process_time()
        threading.Thread(target=self._look_again_and_again, daemon=True).start()

    def seconds(self):
        """Seconds worked since the clock was made."""
        with self.lock:
            now, used = time.perf_counter(), time.process_time()
            gap = now - self.last_time
            # Before the process was stopped, the threads of all cores may have worked for a tick: not "no time at all".
            idle = used - self.last_used < gap / 10
            paused = gap > self.longest_gap and idle
            self.worked += (
                self.tick if paused else gap
            )  # never nothing: speeds are divided by differences
            self.last_time, self.last_used = now, used
            return self.worked

    def _look_again_and_again(self):
        while True:
            time.sleep(self.tick)
            self.seconds()


@functools.cache
def _clock_of(process):
    return WorkClock()


def work_seconds():
    """Seconds that this process has worked since an arbitrary moment; differences count. See `WorkClock`."""
    return _clock_of(
        os.getpid()
    ).seconds()  # a forked process needs its own: it has none of its parent's threads


@contextlib.contextmanager
def timed(run_dir, name):
    """Add the minutes worked on a step to the run's `minutes.json`; a step that was done already adds next to nothing.

    Args:
        run_dir: folder of the run.
        name: of the step: data, evaluation, comparison.
    """
    start = work_seconds()
    yield
    path = Path(run_dir) / TIMES
    minutes = read_json(path) if path.exists() else {}
    minutes[name] = round(minutes.get(name, 0.0) + (work_seconds() - start) / 60, 3)
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
        minutes |= {
            name: value
            for name, value in read_json(run_dir / TIMES).items()
            if name == "comparison"
        }
    return minutes | {
        path.parent.name: read_json(path)["minutes"]
        for path in sorted(run_dir.glob(f"[0-9][0-9]/{STAMP}"))
    }


def times_table(minutes):
    """Table of `run_minutes`, notebooks by their numbers, and their sum; Markdown."""
    return markdown_table(
        ["minutes", *minutes, "all"],
        [
            [
                "measured",
                *(f"{value:.1f}" for value in minutes.values()),
                f"{sum(minutes.values()):.0f}",
            ]
        ],
    )
