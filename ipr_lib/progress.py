"""How far long work is, and how long it takes: bars and log lines, a clock of work, the minutes of each step of a run."""

import contextlib
import functools
import io
import sys
import threading
import time
from contextvars import ContextVar
from pathlib import Path

import tqdm.auto

from .files import read_json, write_json, writing

TIMES = "minutes.json"  # in a run's folder
SECONDS_BETWEEN_LINES = 60.0  # of a log
SHORT = 1.0  # seconds; in a notebook, a loop that is done by then shows no bar
LOG_LINE = "{desc}: {n_fmt} of {total_fmt}, {elapsed} passed, {remaining} left, {rate_fmt}{postfix}"

_stage = ContextVar("stage", default="")
_shown = ContextVar("shown", default=True)


# --- how far ---


@contextlib.contextmanager
def stage(number: int, count: int):
    """Begin what the loops in this block are called with, for instance, "[2/5]".

    Args:
        number: of the stage, from 1.
        count: of all stages.
    """
    token = _stage.set(f"[{number}/{count}] ")
    try:
        yield
    finally:
        _stage.reset(token)


def hide_progress():
    """Show nothing from here on: several processes would write into each other's lines, and the main one tells all."""
    _shown.set(False)


def progress(iterable=None, *, desc: str, show: bool = True, **choices):
    """Show how far a loop is.

    In a terminal and in a notebook this is a tqdm bar. Elsewhere stderr is a file or a pipe, and gets lines: one at the
    start, one a minute, one at the end. A loop inside another one gets lines only after its first minute. Nothing after
    `hide_progress`.

    Args:
        iterable: what the loop goes through; or None, then use the result as a context manager and call `update`.
        desc: name of the work.
        show: False shows nothing at all.
        **choices: of tqdm: unit, total, initial, leave, smoothing.

    Returns:
        the bar.
    """
    desc = _stage.get() + desc
    if not (show and _shown.get()):
        return tqdm.auto.tqdm(iterable, disable=True, **choices)
    if _in_notebook():
        choices.setdefault("delay", SHORT)
    if _in_notebook() or sys.stderr is None or sys.stderr.isatty():
        # disable=None: a kernel without widgets shows nothing.
        return tqdm.auto.tqdm(iterable, desc=desc, disable=None, **choices)
    choices["leave"] = True  # a bar may go when it is done; the last line of a log is its result
    return LogBar(
        iterable,
        desc=desc,
        file=io.StringIO(),  # takes the line break with which tqdm ends a bar
        bar_format=LOG_LINE,
        mininterval=SECONDS_BETWEEN_LINES,
        maxinterval=SECONDS_BETWEEN_LINES,
        **choices,
    )


def _in_notebook():
    """Whether this process is a notebook's kernel (or IPython in a terminal)."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


class LogBar(tqdm.tqdm):
    """A bar that writes lines to stderr; see `progress`, which makes it."""

    def __iter__(self):
        # A bar counts when it is drawn; here that is rare, and a line may come in between.
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def display(self, msg=None, pos=None):
        """Write a line, unless the loop is inside another one and still young."""
        young = self.format_dict["elapsed"] < self.mininterval
        is_inside = self.pos != 0
        if is_inside and young:
            return
        # A full disk or a closed pipe must not end the work that the line is about.
        with contextlib.suppress(OSError):
            print(self, file=sys.stderr, flush=True)


# --- how long ---


class WorkClock:
    """Counts the seconds that this process works: not those in which it was stopped (Ctrl-Z) or the machine slept.

    A thread looks at the time again and again. If it could not do so for a while, and if the process used almost no
    processor time in that while, then nothing ran, and the gap is left out. A long computation may keep the thread
    waiting, too (it holds Python's global lock), but it uses processor time, so it counts as work.
    """

    def __init__(self, tick: float = 0.25, longest_gap: float = 5.0):
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

    def seconds(self) -> float:
        """Seconds worked since the clock was made."""
        with self.lock:
            now, used = time.perf_counter(), time.process_time()
            gap = now - self.last_time
            # Not "used nothing": the threads of all cores may have worked for a tick before the stop.
            idle = used - self.last_used < gap / 10
            paused = gap > self.longest_gap and idle
            # A pause counts as one tick, not as nothing, because speeds are divided by differences.
            self.worked += self.tick if paused else gap
            self.last_time, self.last_used = now, used
            return self.worked

    def _look_again_and_again(self):
        while True:
            time.sleep(self.tick)
            self.seconds()


@functools.cache
def _clock():
    return WorkClock()


def work_seconds() -> float:
    """Seconds that this process has worked since an arbitrary moment; differences count. See `WorkClock`."""
    return _clock().seconds()


@contextlib.contextmanager
def timed(run_dir: str | Path, name: str):
    """Add the minutes worked on a step to the run's `minutes.json`.

    A step that was done already adds next to nothing.

    Args:
        run_dir: folder of the run.
        name: of the step: data, evaluation, comparison.
    """
    start = work_seconds()
    yield
    path = Path(run_dir) / TIMES
    with writing(run_dir):
        minutes = read_json(path) if path.exists() else {}
        minutes[name] = round(minutes.get(name, 0.0) + (work_seconds() - start) / 60, 3)
        write_json(path, minutes)
