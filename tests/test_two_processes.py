"""Two processes that write the same thing: the second one waits, says for whom, and finds it done."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from ipr_lib.files import read_json, writing
from ipr_lib.training.records import read_log
from tests import human36m_raw
from tests.conftest import write_sequence
from tests.processes import PATIENCE, Command, files_below

HOLD = """
import sys
from ipr_lib.files import writing
with writing(sys.argv[1]), writing(sys.argv[1]):
    print("holds it", flush=True)
    sys.stdin.read()
"""
CAPTURE = ["capture", "--profile", "smoke", "--workers", "1", "--set"]
CAPTURE += ["capture_subjects=[1]", "capture_actions=[2,3]", "capture_cameras=[1]"]
CAPTURE += ["capture_frames=2", "train_step=1"]
TRAIN = ["train", "--profile", "smoke", "--set", "dataset=made-up", "train_subjects=[1]"]
TRAIN += ["test_subjects=[9]", "train_step=3", "test_step=3", "batch_size=2", "epochs=6"]
TRAIN += ["backbone_width=4", "head_width=8", "workers=1"]


def hold(thing):
    """A process that writes a thing until its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, thing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_second_waits_and_says_for_whom(tmp_path):
    first = hold(tmp_path / "thing")
    assert first.stdout.readline() == "holds it\n"
    second = hold(tmp_path / "thing")
    line = second.stderr.readline()
    assert line.startswith(f"{tmp_path}/thing is being written by process {first.pid} on ")
    assert f"{tmp_path}/thing); waiting until that is done" in line  # the command that it runs
    with writing(tmp_path / "other"):  # another thing
        first.communicate("")
    assert second.stdout.readline() == "holds it\n"
    second.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path):
    first = hold(tmp_path / "thing")
    assert first.stdout.readline() == "holds it\n"
    first.kill()
    first.communicate()
    second = hold(tmp_path / "thing")
    assert second.communicate("") == ("holds it\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_the_thing_that_it_leads_to(tmp_path):
    (tmp_path / "thing").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "thing")
    first = hold(tmp_path / "thing")
    assert first.stdout.readline() == "holds it\n"
    second = hold(tmp_path / "link")
    assert f"written by process {first.pid}" in second.stderr.readline()
    first.communicate("")
    second.communicate("")


@pytest.fixture
def home(tmp_path):
    """A place for data and results, with the raw videos of Human3.6M's S1 and a small prepared set."""
    human36m_raw.write_tree(tmp_path / "raw", (((1, 12, 2), 7),))
    for subject, action in ((1, 2), (1, 3), (9, 2)):
        write_sequence(tmp_path / "data" / "made-up", subject, action)
    return tmp_path


def stop_when_it_writes(thing):
    """Stop this process, as Ctrl-Z does, as soon as it holds the lock of a thing."""
    write_text = Path.write_text

    def stopping(path, *arguments, **choices):
        write_text(path, *arguments, **choices)
        if path == thing.with_name(f".{thing.name}.owner"):
            os.kill(os.getpid(), signal.SIGSTOP)

    Path.write_text = stopping


def written_at_once(arguments, home, thing):
    """Run a command twice at the same time; the first is stopped while it writes `thing`.

    Returns:
        what each of the two printed.
    """
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("needs the signals of POSIX")
    first = Command(arguments, home, partial(stop_when_it_writes, thing))
    first.wait_until((thing.parent / f".{thing.name}.owner").exists)
    second = Command(arguments, home)
    line = f"{thing} is being written by process {first.process.pid}"
    second.wait_until(lambda: line in second.text())
    first.signal(signal.SIGCONT)
    assert (first.wait(), second.wait()) == (0, 0), first.text() + second.text()
    return first.text(), second.text()


def test_two_captures_into_one_folder(home):
    alone, both = home / "alone", home / "both"
    assert Command([*CAPTURE, "--target", alone], home).wait() == 0
    first, second = written_at_once([*CAPTURE, "--target", both], home, both)
    assert files_below(both) == files_below(alone) and len(files_below(both)) == 1 + 2 * 3
    assert "capture: 4 of 4" in first and "capture:" not in second  # nothing is drawn twice


def test_two_preparations_of_one_set(home):
    target = home / "data" / "human36m"
    prepare = ["prepare", "human36m", "--source", home / "raw", "--target", target]
    prepare += ["--subjects", 1, "--actions", 12, "--workers", 1, "--store", 64]
    human36m_raw.write_tree(home / "raw", (((1, 12, 1), 7),))
    first, second = written_at_once(prepare, home, target)
    store = target.parent / "stores" / "human36m-train-64"
    assert f"{store}: 16 items" in first and f"{store} was there already: 16 items" in second


@pytest.mark.parametrize("at", ["store", "run"])
def test_two_trainings_of_one_run(home, at):
    run = home / "results" / "one"
    thing = run if at == "run" else home / "data" / "stores" / "made-up-train-64"
    train = [*TRAIN, "--results-dir", home / "results", "--run", "one"]
    written_at_once(train, home, thing)
    assert [row["step"] for row in read_log(run)] == list(range(1, 19))  # 6 epochs of 3 batches
    assert not [path for path in home.rglob(".*")]


def test_two_comparisons(home):
    """The second finds the runs done, and the summary where the first one has put it."""
    write_sequence(home / "data" / "made-up", 5, 2)  # the sweep holds a training actor out
    compare = ["compare", "--profile", "smoke", "--seeds", "0", "--cases", "R1", "--set"]
    fields = [field for field in TRAIN[4:] if not field.startswith(("epochs", "train_subjects"))]
    compare += [*fields, "epochs=1", "train_subjects=[1,5]", "--results-dir", home / "results"]
    first, second = written_at_once(compare, home, home / "results/compare-smoke/chosen-0.json")
    tables = first[first.index("| ") :]
    assert second.endswith(tables) and "crop store: " in first and "crop store: " not in second


def test_runs_side_by_side_are_stopped_and_go_on(home):
    """Ctrl-C reaches the main process alone; its workers write checkpoints, and the next call goes on from them."""
    write_sequence(home / "data" / "made-up", 5, 2)
    compare = ["compare", "--profile", "smoke", "--cases", "R1", "SimCC", "--seeds", "3"]
    compare += ["--processes", "2", "--set", "dataset=made-up", "train_subjects=[1,5]"]
    compare += ["test_subjects=[9]", "train_step=3", "test_step=3", "batch_size=2"]
    compare += ["backbone_width=4", "head_width=8", "epochs=400", "workers=1"]
    compare += ["--results-dir", str(home / "results")]
    # A process of its own: one that multiprocessing has started would end its pool otherwise.
    command = [sys.executable, "-m", "ipr_lib", *compare]
    environment = os.environ | {"IPR_DATA": str(home / "data"), "OMP_NUM_THREADS": "1"}
    folder = home / "results" / "compare-smoke"

    def steps(run_dir):
        return [row["step"] for row in read_log(run_dir)]

    def two_have_begun():
        runs = [path.parent for path in folder.glob("*/training.jsonl")]
        return len([run_dir for run_dir in runs if steps(run_dir)]) == 2

    stopped = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while not two_have_begun():
        assert stopped.poll() is None, "has ended before"
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    said = stopped.communicate(timeout=PATIENCE)[1]
    assert stopped.returncode == 130, said
    checkpoints = list(folder.glob("*/checkpoint.pt"))
    assert len(checkpoints) == 2 and said.count("stopped after step") == 2, said

    subprocess.run(command, env=environment, check=True, timeout=PATIENCE)
    runs = read_json(folder / "chosen-3.json")["runs"]
    found = [(run["method"], run["axis"], run["seed"]) for run in runs]
    swept = [("R1", "sweep", 0)] * 3 + [("SimCC", "sweep", 0)] * 3
    assert found == [*swept, ("R1", "method", 3), ("SimCC", "method", 3)]
    assert not list(folder.glob("*/checkpoint.pt"))
    for checkpoint in checkpoints:
        taken = steps(checkpoint.parent)
        assert taken == sorted(set(taken)), "no step was logged twice"
