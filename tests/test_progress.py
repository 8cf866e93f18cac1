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
            bar = progress(range(4000), desc="training", unit="step")
            for _ in bar:
                time.sleep(0.0002)
                bar.set_postfix(refresh=False, images_per_second="312", loss="0.1234")
    """,
    "nested": """
        with stage(3, 5):
            outer = progress(["short", "long"], desc="comparison", unit="run")
            for name in outer:
                outer.set_postfix_str(name)
                with progress(total=2, desc="training", unit="batch") as inner:
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
    lines = ["import time", "from ipr_lib import progress as module"]
    lines += ["from ipr_lib.progress import progress, stage", "module.SECONDS_BETWEEN_LINES = 0.25"]
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
    assert first.startswith("[2/5] training: 0 of 4000, 00:00 passed, ? left")
    assert re.match(r"\[2/5\] training: 4000 of 4000, 00:\d\d passed, 00:00 left, ", last)
    assert 2 <= len(between) <= 100
    form = re.compile(
        r"\[2/5\] training: (\d+) of 4000, 00:\d\d passed, 00:\d\d left, +[\d.]+step/s, "
        r"images_per_second=312, loss=0.1234"
    )
    counts = [int(form.fullmatch(line)[1]) for line in between]
    assert counts == sorted(counts) and counts[0] > 0


def test_a_loop_inside_another_is_silent_for_its_first_interval(tmp_path):
    lines = logged("nested", tmp_path)
    assert lines[0].startswith("[3/5] comparison: 0 of 2, 00:00 passed, ? left")
    assert re.match(r"\[3/5\] comparison: 2 of 2, 00:\d\d passed, 00:00 left", lines[-1])
    inner = [line for line in lines if "training" in line]
    assert len(inner) >= 1 and "training: 2 of 2, " in inner[-1]
    # The short training leaves no line: those that there are come after the name of the long one.
    named = [number for number, line in enumerate(lines) if line.endswith(", long")]
    assert lines.index(inner[0]) > named[0]
    assert lines[named[0]].startswith("[3/5] comparison: 1 of 2, ")


def test_a_hidden_loop_is_silent(tmp_path):
    assert logged("hidden", tmp_path) == []


def test_a_loop_that_fails_says_how_far_it_came(tmp_path):
    first, last = logged("failing", tmp_path, code=7)
    assert first.startswith("check: 0 of 3, ") and last.startswith("check: 1 of 3, ")


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
    assert "\r[2/5] training: 100%|" in text and "4000/4000" in text and "step/s" in text
    assert "images_per_second=312, loss=0.1234" in text and "passed" not in text


def _read(terminal):
    """What a process has written to its terminal; b"" after its end, which Linux tells by an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@pytest.fixture
def log(capsys):
    """In this process, where stderr is no terminal. Gives the lines so far."""
    return lambda: capsys.readouterr().err.splitlines()


def test_iteration_gives_what_it_goes_through_and_counts_from_what_was_done(log):
    letters = (letter for letter in "abc")
    bar = progress(letters, desc="resumed", unit="step", total=10, initial=7)
    assert list(bar) == ["a", "b", "c"]
    starts = [line.partition(",")[0] for line in log()]
    assert starts == ["resumed: 7 of 10", "resumed: 10 of 10"]


def test_without_a_total_only_what_is_done_is_counted(log):
    assert list(progress(iter("ab"), desc="frames", unit="frame")) == ["a", "b"]
    assert [line.partition(",")[0] for line in log()] == ["frames: 0 of ?", "frames: 2 of ?"]


def test_what_is_left_follows_from_the_steps_of_this_process(log):
    """After a resumption, the steps done before took this process no time."""
    times = [100.0]
    with progress(total=9000, initial=3000, desc="training", unit="step") as bar:
        bar._time = lambda: times[0]
        bar.start_t = bar.last_print_t = times[0]
        times[0] += 240
        bar.update(1000)
        times[0] += 30
    _, after, last = log()
    assert after == "training: 4000 of 9000, 04:00 passed, 20:00 left,  4.17step/s"
    assert last.startswith("training: 4000 of 9000, 04:30 passed, ")


def test_a_loop_over_a_bar_inside_its_own_block_is_one_loop(log):
    with stage(5, 5), progress(["00", "01"], desc="notebooks", unit="notebook") as bar:
        for name in bar:
            bar.set_postfix_str(name)
    starts = [line.partition(", ")[0] for line in log()]
    assert starts == [f"[5/5] notebooks: {count} of 2" for count in (0, 0, 1, 2)]


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
    for _ in progress(range(3), desc="outer", unit="step"):
        for _ in progress(range(3), desc="inner", unit="step"):
            break
        break
    assert list(progress(range(2), desc="next", unit="step")) == [0, 1]
    starts = [line.partition(",")[0] for line in log()]
    assert "outer: 0 of 3" in starts and starts[-2:] == ["next: 0 of 2", "next: 2 of 2"]
    assert not any("inner" in line for line in starts)


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


def test_lines_stop_when_the_loop_ends(log, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.05)
    list(progress(range(2), desc="work", unit="step"))
    log()
    time.sleep(0.2)
    assert log() == []
