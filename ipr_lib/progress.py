"""How far a long loop is: a bar in a terminal and in a notebook, a line a minute in a log file."""

import contextlib
import sys
import threading
from contextvars import ContextVar

from tqdm.auto import tqdm

from .timing import work_seconds

_stage = ContextVar("stage", default="")
_running = []  # the logged loops of this process, from the outermost to the innermost


@contextlib.contextmanager
def stage(number, count):
    """Begin each line that a log gets from the loops in this block with, for instance, "[2/5]".

    Args:
        number: of the stage, from 1.
        count: of all stages.
    """
    token = _stage.set(f"[{number}/{count}] ")
    try:
        yield
    finally:
        _stage.reset(token)


def progress(
    iterable=None,
    *,
    desc,
    unit,
    total=None,
    initial=0,
    leave=True,
    show=True,
    smoothing=0.3,
    every=60.0,
):
    """Show how far a loop is.

    In a terminal and in a notebook this is a tqdm bar. Elsewhere stderr is a file or a pipe, and gets lines: one at the
    start, one a minute, one at the end. A loop inside another one gets lines only after its first minute.

    Args:
        iterable: what the loop goes through; or None, then use the result as a context manager and call `update`.
        desc: name of the work.
        unit: what is counted, singular.
        total: number of units; by default the length of `iterable`, if it has one.
        initial: units that were done before.
        leave, smoothing: of the bar, see tqdm.
        show: False shows nothing at all.
        every: seconds between two lines.
    Returns:
        the bar, or a LoggedLoop: what the two have in common is iteration, `update`, `set_postfix`, `set_postfix_str`
        and `with`.
    """
    bar = _in_notebook() or sys.stderr is None or sys.stderr.isatty()
    if bar or not show:
        disable = None if show else True  # None: a kernel without widgets shows nothing
        return tqdm(
            iterable,
            desc=desc,
            unit=unit,
            total=total,
            initial=initial,
            leave=leave,
            smoothing=smoothing,
            disable=disable,
        )
    return LoggedLoop(iterable, desc, unit, total, initial, every)


def _in_notebook():
    """Whether this process is a notebook's kernel (or IPython in a terminal)."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


class LoggedLoop:
    """A loop that says in lines on stderr how far it is; see `progress`, which makes it."""

    def __init__(self, iterable, desc, unit, total, initial, every):
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)
        self.iterable, self.desc, self.total, self.every = iterable, desc, total, every
        self.units = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
        self.initial = self.n = initial
        self.postfix = ""
        self.ended = threading.Event()

    def __iter__(self):
        with self:
            for item in self.iterable:
                yield item
                self.n += 1

    def update(self, n=1):
        """Count `n` more units."""
        self.n += n

    def set_postfix(self, images_per_second=None, **others):
        """What a bar shows behind its numbers; of it, a line has the images per second alone."""
        self.postfix = f"{images_per_second} images/s" if images_per_second else ""

    def set_postfix_str(self, text=""):
        """A text for the lines to come, such as the name of what is worked on."""
        self.postfix = text

    def __enter__(self):
        if self in _running:  # a loop over it inside its own `with`
            return self
        self.prefix, self.start = _stage.get(), work_seconds()
        _running.append(self)
        if _running[0] is self:
            self._write(self._counted())
            threading.Thread(target=self._write_every_minute, daemon=True).start()
        return self

    def __exit__(self, error, *_):
        if self not in _running:
            return
        self.ended.set()
        place = _running.index(self)
        worked = work_seconds() - self.start
        if place == 0 or worked >= self.every:
            whole = error is None and self.total in (None, self.n)
            ending = f"done in {_span(worked)}" if whole else f"ended after {_span(worked)}"
            self._write(f"{self._counted()}  {ending}", place)
        del _running[place:]  # an inner loop that somebody keeps half-way goes, too

    def _write_every_minute(self):
        """Lines of this loop, the outermost, and of those inside it that are a minute old."""
        while not self.ended.wait(self.every):
            for place, loop in enumerate(_running.copy()):
                if place == 0 or work_seconds() - loop.start >= loop.every:
                    loop._write(loop._status(), place)

    def _status(self):
        """How far the loop is, how fast, and how long the rest will take."""
        parts = [self._counted()]
        if self.postfix:
            parts.append(self.postfix)
        done = self.n - self.initial
        if self.total is not None and done > 0:
            seconds_each = (work_seconds() - self.start) / done
            parts.append(f"{_span((self.total - self.n) * seconds_each)} left")
        return "  ".join(parts)

    def _counted(self):
        of_total = "" if self.total is None else f" / {self.total:,}"
        return f"{self.desc}  {self.n:,}{of_total} {self.units}"

    def _write(self, text, place=0):
        indent = "  " * place  # loops inside others stand to the right
        with contextlib.suppress(
            OSError
        ):  # a full disk or a closed pipe must not end the work that is told of
            print(f"{self.prefix}{indent}{text}", file=sys.stderr, flush=True)


def _span(seconds):
    """A length of time to read: "40 s", "3.2 min", "12 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"
