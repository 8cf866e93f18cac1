"""How far long loops are: a bar in a terminal, lines in a log file, each in a process of its own."""

import os
import re
import subprocess
import sys
import time

import pytest

from ipr_lib import progress as module
from ipr_lib.progress import progress, stage

LOOPS = {
    "one": """
        with stage(2, 5):
            bar = progress(range(4000), desc="training", unit="step", every=0.25)
            for _ in bar:
                time.sleep(0.0002)
                bar.set_postfix(images_per_second="312", loss="0.1234", memory="900 MB")
    """,
    "nested": """
        with stage(3, 5):
            outer = progress(["short", "long"], desc="comparison", unit="run", every=0.25)
            for name in outer:
                outer.set_postfix_str(name)
                with progress(total=2, desc="training", unit="batch", every=0.25) as inner:
                    for _ in range(2):
                        time.sleep(0.01 if name == "short" else 0.4)
                        inner.update()
    """,
    "hidden": """
        for _ in progress(range(3), desc="capture", unit="picture", show=False):
            pass
        for _ in progress(range(0), desc="capture", unit="picture", show=False):
            pass
    """,
    "failing": """
        for number in progress(range(3), desc="check", unit="folder"):
            if number == 1:
                raise SystemExit(7)
    """,
}


def program(name):
    lines = ["import time", "from ipr_lib.progress import progress, stage"]
    lines += [line.removeprefix("        ") for line in LOOPS[name].splitlines()]
    return [sys.executable, "-c", "\n".join(lines)]


def logged(name, tmp_path, code=0):
    """What a loop leaves in a file that stderr goes to; nothing goes to stdout."""
    path = tmp_path / "log.txt"
    with open(path, "wb") as file:
        done = subprocess.run(program(name), stdout=subprocess.PIPE, stderr=file, timeout=120)
    text = path.read_bytes().decode()
    assert done.returncode == code and done.stdout == b"", text
    assert "\r" not in text and "\x1b" not in text and "█" not in text and "it/s" not in text
    return text.splitlines()


def test_a_log_gets_a_line_at_the_start_each_interval_and_at_the_end(tmp_path):
    first, *between, last = logged("one", tmp_path)
    assert first == "[2/5] training  0 / 4,000 steps"
    assert re.fullmatch(r"\[2/5\] training  4,000 / 4,000 steps  done in \d+ s", last)
    assert len(between) >= 2
    form = re.compile(r"\[2/5\] training  ([\d,]+) / 4,000 steps  312 images/s  \d+ s left")
    counts = [int(form.fullmatch(line)[1].replace(",", "")) for line in between]
    assert counts == sorted(counts) and counts[0] > 0


def test_a_loop_inside_another_is_silent_for_its_first_interval(tmp_path):
    lines = logged("nested", tmp_path)
    assert lines[0] == "[3/5] comparison  0 / 2 runs"
    assert re.fullmatch(r"\[3/5\] comparison  2 / 2 runs  done in \d+ s", lines[-1])
    inner = [line for line in lines if "training" in line]
    assert inner and all(line.startswith("[3/5]   training  ") for line in inner)
    assert [line for line in inner if "done in" in line] == [
        "[3/5]   training  2 / 2 batches  done in 1 s"
    ]
    before = [line for line in lines[: lines.index(inner[0])] if "done" not in line]
    assert all(
        line.startswith("[3/5] comparison  ") for line in before
    )  # the short training left no line
    assert any(
        re.fullmatch(r"\[3/5\] comparison  1 / 2 runs  long  \d+ s left", line) for line in lines
    )


def test_a_hidden_loop_is_silent(tmp_path):
    assert logged("hidden", tmp_path) == []


def test_a_loop_that_fails_does_not_say_done(tmp_path):
    first, last = logged("failing", tmp_path, code=7)
    assert first == "check  0 / 3 folders" and re.fullmatch(
        r"check  1 / 3 folders  ended after \d+ s", last
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar():
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 200))  # lines, columns
    process = subprocess.Popen(program("one"), stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := _read(ours):
            shown += chunk
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "\rtraining: 100%|" in text and "4000/4000" in text and "step/s" in text
    assert (
        "images_per_second=312, loss=0.1234, memory=900 MB" in text
        and "[2/5]" not in text
        and "done in" not in text
    )


def _read(terminal):
    """What a process has written to its terminal; b"" after its end, which Linux tells by an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@pytest.fixture
def log(monkeypatch, capsys):
    """In this process: stderr is no terminal, and no loop is running. Gives the lines so far."""
    monkeypatch.setattr(module, "_running", [])
    return lambda: capsys.readouterr().err.splitlines()


def test_iteration_gives_what_it_goes_through_and_counts_from_what_was_done(log):
    bar = progress((letter for letter in "abc"), desc="resumed", unit="step", total=10, initial=7)
    assert list(bar) == ["a", "b", "c"]
    assert [line.partition("  done")[0] for line in log()] == [
        "resumed  7 / 10 steps",
        "resumed  10 / 10 steps",
    ]


def test_without_a_total_only_what_is_done_is_counted(log):
    assert list(progress(iter("ab"), desc="frames", unit="frame")) == ["a", "b"]
    assert [line.partition("  done")[0] for line in log()] == [
        "frames  0 frames",
        "frames  2 frames",
    ]


def test_what_is_left_follows_from_the_steps_of_this_process(log, monkeypatch):
    """After a resumption, the steps done before took this process no time."""
    times = [100.0]
    monkeypatch.setattr(module, "work_seconds", lambda: times[0])
    with progress(total=9000, initial=3000, desc="training", unit="step") as bar:
        assert bar._status() == "training  3,000 / 9,000 steps"
        times[0] += 240
        bar.update(1000)
        assert bar._status() == "training  4,000 / 9,000 steps  20 min left"
        bar.set_postfix(images_per_second="312", loss="0.1")
        assert bar._status() == "training  4,000 / 9,000 steps  312 images/s  20 min left"
        times[0] += 30
    assert log()[-1] == "training  4,000 / 9,000 steps  ended after 4.5 min"


def test_a_loop_over_a_bar_inside_its_own_block_is_one_loop(log):
    with stage(5, 5), progress(["00", "01"], desc="notebooks", unit="notebook") as bar:
        for name in bar:
            bar.set_postfix_str(name)
    assert [line.partition("  done")[0] for line in log()] == [
        "[5/5] notebooks  0 / 2 notebooks",
        "[5/5] notebooks  2 / 2 notebooks",
    ]


def test_stages_nest_and_end(log):
    def work():
        list(progress("a", desc="work", unit="step"))

    with stage(1, 2):
        with stage(3, 4):
            work()
        work()
    work()
    assert [line.partition("work")[0] for line in log()[::2]] == ["[3/4] ", "[1/2] ", ""]


def test_a_loop_left_half_way_does_not_silence_the_next(log):
    kept = iter(progress(range(3), desc="outer", unit="step"))
    next(kept)
    within = iter(progress(range(3), desc="inner", unit="step"))
    next(within)
    kept.close()
    assert list(progress(range(2), desc="next", unit="step")) == [0, 1]
    lines = log()
    assert (
        lines[0] == "outer  0 / 3 steps"
        and "next  0 / 2 steps" in lines
        and not any("inner" in line for line in lines)
    )
    within.close()


def test_a_full_disk_does_not_end_the_work(monkeypatch):
    """A log that cannot be written to is given up, not the training that it tells of."""

    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        def isatty(self):
            return False

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stderr", Full())
    assert list(progress(range(3), desc="work", unit="step")) == [0, 1, 2]


def test_lines_stop_when_the_loop_ends(log):
    list(progress(range(2), desc="work", unit="step", every=0.05))
    log()
    time.sleep(0.2)
    assert log() == []


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "0 s"), (59, "59 s"), (90, "1.5 min"), (720, "12 min"), (5400, "90 min")],
)
def test_lengths_of_time(seconds, text):
    assert module._span(seconds) == text
