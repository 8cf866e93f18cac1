"""Work time: what a stopped process sleeps is not counted, a long computation is."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ipr_lib import progress as module
from ipr_lib.files import read_json
from ipr_lib.progress import WorkClock, timed

CLOCK = """
import json, sys, time
from ipr_lib.progress import WorkClock
clock = WorkClock(tick=0.05, longest_gap=0.5)
start, worked = time.perf_counter(), clock.seconds()
print("begun", flush=True)
sys.stdin.readline()  # the work: it waits, as for other processes
print(json.dumps({"passed": time.perf_counter() - start, "worked": clock.seconds() - worked}), flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs the signals of POSIX")
def test_the_sleep_of_a_stopped_process_is_left_out():
    with subprocess.Popen(
        [sys.executable, "-c", CLOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.3)
        stopped = 0.0
        for _ in range(2):
            os.kill(process.pid, signal.SIGSTOP)
            start = time.perf_counter()
            time.sleep(2)
            os.kill(process.pid, signal.SIGCONT)
            stopped += time.perf_counter() - start
            time.sleep(0.3)
        process.stdin.write("go on\n")
        process.stdin.close()
        times = json.loads(process.stdout.readline())
    assert times["passed"] >= stopped
    # Each stop counts as one tick; a machine under load may add to the rest, not to the stops.
    rest = times["passed"] - stopped
    assert rest - 0.4 <= times["worked"] <= rest + 0.2, (times, stopped)


def test_waiting_is_work():
    """A process that waits for its workers goes on, and so does its clock."""
    clock = WorkClock(tick=0.02, longest_gap=0.5)
    start, worked = time.perf_counter(), clock.seconds()
    time.sleep(1.2)
    assert clock.seconds() - worked == pytest.approx(time.perf_counter() - start, abs=0.05)


def test_a_computation_that_stops_all_threads_is_work():
    """`sum` holds Python's global lock to its end, so the clock's thread cannot tick, just as in a stopped process."""
    code = """
import json, time
from ipr_lib.progress import WorkClock
clock = WorkClock(tick=0.02, longest_gap=0.1)
start, worked = time.perf_counter(), clock.seconds()
sum(range(50_000_000))
print(json.dumps({"passed": time.perf_counter() - start, "worked": clock.seconds() - worked}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    times = json.loads(done.stdout)
    assert times["passed"] > 0.3, "this processor is too fast for the test: sum more"
    assert times["worked"] == pytest.approx(times["passed"], abs=0.05)


@pytest.mark.parametrize(
    "gap, used, counted",
    [
        (4.0, 0.0, 4.0),  # short: no pause, whatever the process did
        (
            3600.0,
            0.4,
            0.25,
        ),  # stopped for an hour: of it, one tick may have been work, here of two cores
        (60.0, 30.0, 60.0),  # a long computation on a busy machine
    ],
)
def test_a_pause_is_long_and_idle(monkeypatch, gap, used, counted):
    clock = WorkClock(tick=1000)  # its thread sleeps through this test
    clock.tick = 0.25
    before = clock.seconds()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.last_time + gap)
    monkeypatch.setattr(time, "process_time", lambda: clock.last_used + used)
    assert clock.seconds() - before == pytest.approx(counted)


def test_timed_adds_the_minutes_worked(tmp_path, monkeypatch):
    times = [1000.0]
    monkeypatch.setattr(module, "work_seconds", lambda: times[0])
    for _ in range(2):
        with timed(tmp_path, "data"):
            times[0] += 90
    with timed(tmp_path, "comparison"):
        times[0] += 30
    assert read_json(tmp_path / module.TIMES) == {"data": 3.0, "comparison": 0.5}
