"""Commands of the library as real processes that a test can stop, wake and kill.

A server loads torch and the library once; each process is a fork of it, so that it starts at once.
"""

import multiprocessing
import os
import sys
import time
from pathlib import Path

from ipr_lib.__main__ import main

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.processes",
        "ipr_lib.course.pipeline",
        "ipr_lib.inference.outputs",
        "ipr_lib.views",
        "papermill",
    ]
)
PATIENCE = 300  # seconds


class Command:
    """`python -m ipr_lib ARGUMENTS` with captures, prepared sets and stores in `home/data`.

    What it prints goes to a file, `text()`.
    """

    def __init__(self, arguments, home, prepare=None):
        """
        Args:
            arguments: list of what stands behind `python -m ipr_lib`.
            home: folder with `data`, `results` and `notebooks`.
            prepare: function without arguments that the process calls before it begins.
        """
        home.mkdir(exist_ok=True)
        self.output = home / f"output-{time.monotonic_ns()}.txt"
        arguments = [str(argument) for argument in arguments]
        self.process = CONTEXT.Process(target=run, args=(arguments, home, self.output, prepare))
        self.process.start()

    def text(self):
        """All that it has printed so far."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""

    def wait(self):
        """Its exit code; minus the number of the signal that killed it."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, f"does not end:\n{self.text()}"
        return self.process.exitcode

    def wait_until(self, condition):
        """Wait until a function without arguments gives something true."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.is_alive(), f"has ended before:\n{self.text()}"
            assert time.monotonic() < deadline, f"waited in vain:\n{self.text()}"
            time.sleep(0.01)

    def signal(self, number):
        """Send a signal."""
        os.kill(self.process.pid, number)


def run(arguments, home, output, prepare):
    """Run a command in this process, a fork of the server."""
    import torch

    from ipr_lib.course import notebooks

    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    os.environ["IPR_DATA"] = str(home / "data")
    notebooks.NOTEBOOKS = home / "notebooks"
    if prepare is not None:
        prepare()
    code = main(arguments)
    sys.stdout.flush()
    sys.exit(code)


def files_below(folder):
    """{path: content} of all files below a folder; of a .mat without its header, which has the time."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            header = 128 if path.suffix == ".mat" else 0
            found[str(path.relative_to(folder))] = path.read_bytes()[header:]
    return found
