"""How long work takes: a clock that leaves pauses out, and the minutes of each step of a run."""

import contextlib
import functools
import os
import threading
import time
from pathlib import Path

from .files import read_json, write_json

TIMES = "minutes.json"  # in a run's folder


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
def _clock_of(process):
    return WorkClock()


def work_seconds() -> float:
    """Seconds that this process has worked since an arbitrary moment; differences count. See `WorkClock`."""
    # A forked process needs a clock of its own, because it has none of its parent's threads.
    return _clock_of(os.getpid()).seconds()


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
    minutes = read_json(path) if path.exists() else {}
    minutes[name] = round(minutes.get(name, 0.0) + (work_seconds() - start) / 60, 3)
    write_json(path, minutes)
