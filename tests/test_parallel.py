import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipr_lib.files import InputError
from ipr_lib.parallel import parallel_map


def square(x):
    return x * x


def fail_at_three(x):
    if x == 3:
        raise InputError("task 3 is bad")
    return x


def die(x):
    os._exit(9)


def write_pid_and_wait(folder):
    (Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(60)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    assert list(parallel_map(square, [3, 1, 2], workers)) == [9, 1, 4]
    assert list(parallel_map(square, [], workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_through(workers):
    with pytest.raises(InputError, match="task 3 is bad"):
        list(parallel_map(fail_at_three, [1, 2, 3, 4], workers))


def test_a_killed_worker_is_one_clear_line():
    with pytest.raises(InputError, match="a worker process ended early.*__main__"):
        list(parallel_map(die, [1, 2], 2))


def running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    code = (
        "from ipr_lib.parallel import parallel_map; from tests.test_parallel import write_pid_and_wait\n"
        f"if __name__ == '__main__': list(parallel_map(write_pid_and_wait, [{str(tmp_path)!r}] * 2, 2))"
    )
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, script], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )
    deadline = time.monotonic() + 60
    while (
        len(pids := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert len(pids) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, pids))
