"""Options: none is lost or without effect unsaid, every number has its range, and folders may lie anywhere."""

import dataclasses
import io
import os
import shlex
import subprocess
import sys

import pytest

from ipr_lib.__main__ import main, make_parser
from ipr_lib.config import load_config, parse_overrides
from ipr_lib.course import notebooks, pipeline
from ipr_lib.files import REPOSITORY, InputError, data_folder, read_json, results_folder, write_json
from tests.conftest import needs_posix

from .made_up_scores import made_up
from .test_command import calls  # noqa: F401 - a fixture

SOURCE = ["--source", "nowhere"]


def refused(arguments, capsys):
    """The one line that a command ends with."""
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


# --- no effect, twice, out of range ---


@pytest.mark.parametrize(
    "line, message",
    [
        ("capture --seed 1", "takes no --seed 1"),
        ("capture --unit 10", "--unit has no effect without --motion"),
        ("capture --up y", "--up has no effect without --motion"),
        ("capture --sheet a.png --workers 2", "--workers has no effect with --sheet"),
        ("capture --target a --data-dir b", "--data-dir has no effect with --target"),
        ("prepare human36m --source a --all-frames --step 5", "--step has no effect with --all"),
        ("prepare human36m --source a --subjects 9 --step 5", "--step has no effect with test sub"),
        ("prepare human36m --source a --subjects 1 --test-step 5", "--test-step has no effect wi"),
        (
            "prepare human36m --source a --subjects 9,11 --test-subjects 11 --test-step 5 --all-frames",
            "--test-step has no effect with --all-frames",
        ),
        ("prepare human36m --source a --target b --data-dir c", "--data-dir has no effect with"),
        ("prepare coco --source a --box-scale 1.25", "--box-scale has no effect without --store"),
        ("train --run a --seed 0 --resume", "--seed has no effect with --resume"),
        ("test --run a --seed 0", "--seed has no effect with --run"),
        ("test --run a --profile laptop", "--profile has no effect with --run"),
        ("test --published a --seed 0", "--seed has no effect with --published"),
        ("test --published a --box oracle", "--box has no effect with --published"),
        ("test --published a --checkpoint last", "--checkpoint has no effect with --published"),
        ("predict a.png --out b --smooth", "--smooth has no effect with pictures alone"),
        ("predict a.png --out b --every 1", "--every has no effect with pictures alone"),
        ("predict a.png --out b --also bvh", "--also has no effect with pictures alone"),
        ("predict a.mp4 --out b --also mp4 --up 0,1,0", "--up has no effect without --also bvh"),
        ("export --out b --set crop_px=8", "--set has no effect without --profile"),
        ("predict a.png --out b --set crop_px=8", "--set has no effect without --profile"),
        ("predict a.png --out b --run c --seed 1", "--seed has no effect without --profile"),
        ("predict a.png --out b --results-dir c", "--results-dir has no effect without --run"),
        ("predict a.png --out b --weights c --results-dir d", "--results-dir has no effect"),
        ("predict a.png --out b --run c --published d", "--published and --run each choose"),
        ("compare --list --seeds 0", "--seeds has no effect with --list"),
        ("compare --cases R1 --axes method", "--axes has no effect with --cases"),
        ("compare --axes sweep --seeds 0", "--seeds has no effect with --axes sweep"),
        ("compare --axes sweep,method", "--axes sweep goes alone"),
        ("compare --seeds 0,0", "--seeds: each seed once"),
        ("report --model a --reference b", "--reference has no effect without runs"),
        ("report", "nothing to do: name run folders to condense"),
        ("train --profile smoke --profile full", "--profile: is given twice"),
    ],
)
def test_an_option_without_effect_is_refused(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPR_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr("ipr_lib.run.find_run", lambda *_: tmp_path)
    monkeypatch.setattr("ipr_lib.run.checkpoint_config", lambda _: load_config("smoke"))
    assert message in refused(line.split(), capsys)
    assert list(tmp_path.iterdir()) == [], "nothing is written"


NUMBERS = [
    ("prepare coco --source a", "--store --box-scale --year --min-keypoints --min-box --workers"),
    ("prepare mpii --source a", "--store --box-scale --workers"),
    ("prepare human36m --source a", "--store --step --test-step --actions --workers"),
    ("prepare check a", "--workers"),
    ("capture", "--workers --unit"),
    ("train", "--seed --times --gpus"),
    ("test", "--seed --subjects"),
    ("predict a.png --out b", "--seed --focal --every"),
    ("export --out b", "--seed"),
    ("compare", "--seeds"),
    ("reproduce", "--seed"),
]


@pytest.mark.parametrize("line, options", NUMBERS)
@pytest.mark.parametrize("number", ["-5", "nan", "inf", "1e99", "some", ""])
def test_every_number_has_its_range(line, options, number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for option in options.split():
        if number == "" and option in ("--subjects", "--actions", "--gpus", "--seeds"):
            continue  # an empty list
        message = refused([*line.split(), f"{option}={number}"], capsys)
        assert f"argument {option}: {number}: " in message, option
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_numbers_of_a_config_are_finite(value):
    for field in dataclasses.fields(load_config("smoke")):
        if field.type is float:
            with pytest.raises(InputError, match=f"{field.name}="):
                load_config("smoke", **parse_overrides([f"{field.name}={value}"]))


@pytest.mark.parametrize("workers, expected", [("0", 1), ("3", 3)])
def test_a_capture_of_motion_has_one_process_at_least(workers, expected, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "ipr_lib.studio.write_motion", lambda *_, **choices: asked.append(choices["workers"]) or []
    )
    command = ["capture", "--motion", str(tmp_path), "--target", str(tmp_path / "own")]
    assert main([*command, "--set", f"workers={workers}"]) == 0
    assert asked == [expected]


# --- lists ---


def parsed(line):
    return make_parser().parse_args(shlex.split(line))


def test_a_repeated_option_adds():
    assert parsed("train --set epochs=1 --set crop_px=64 seed=2").set == [
        "epochs=1",
        "crop_px=64",
        "seed=2",
    ]
    assert parsed("train --recipe strong --recipe depth-16").recipe == ["strong", "depth-16"]
    assert parsed("compare --axes method --axes map,budget").axes == ["method", "map", "budget"]
    assert parsed("reproduce --only 00 --only 06,07").only == ["00", "06", "07"]
    assert parsed("test --subjects 9 --subjects S11").subjects == [9, 11]
    for _ in range(2):  # a default is not added to
        assert "set" not in vars(parsed("train"))


def test_lists_stand_between_commas():
    assert parsed("test --subjects S9,S11").subjects == [9, 11]
    assert parsed("test --subjects S9, S11").subjects == [9, 11]
    assert parsed("prepare human36m --source a --actions 2,3 5").actions == [2, 3, 5]
    assert parsed("prepare coco --source a --splits train,validation").splits == [
        "train",
        "validation",
    ]
    assert parsed("compare --cases 'R1,I*, coarse map'").cases == ["R1", "I*, coarse map"]
    assert parsed("compare --seeds 0,1 4").seeds == [0, 1, 4]


@pytest.mark.parametrize("text", ["1,5", "[1,5]", "[1, 5]", "S1,S5", "(1,5)", "S1,5,"])
def test_lists_in_set_need_no_quotes(text):
    assert parse_overrides([f"train_subjects={text}"]) == {"train_subjects": [1, 5]}


def test_other_values_in_set():
    assert parse_overrides(["test_subjects=11", "mix=mpii,coco", "mix_ratio=[2,1,1]"]) == {
        "test_subjects": [11],
        "mix": ["mpii", "coco"],
        "mix_ratio": [2, 1, 1],
    }
    assert parse_overrides(["mix=", "lr_drops=[]", 'capture_cameras=["3"]']) == {
        "mix": [],
        "lr_drops": [],
        "capture_cameras": [3],
    }
    with pytest.raises(InputError, match="lr_drops=.*expected a list of whole numbers"):
        load_config("smoke", **parse_overrides(["lr_drops=1,x"]))
    with pytest.raises(InputError, match="epochs is set twice"):
        parse_overrides(["epochs=1", "epochs=2"])


# --- folders ---


def test_folders_follow_option_then_variable_then_repository(calls, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.delenv("IPR_DATA", raising=False)
    monkeypatch.delenv("IPR_RESULTS", raising=False)
    assert data_folder() == REPOSITORY / "data" and results_folder() == REPOSITORY / "results"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPR_DATA", "disk")
    monkeypatch.setenv("IPR_RESULTS", str(tmp_path / "runs"))
    assert main(["train", "--profile", "smoke"]) == 0
    assert calls[-1][1] == pipeline.run_dir(load_config("smoke"), tmp_path / "runs")
    assert pipeline.dataset_dir(load_config("full")) == tmp_path / "disk" / "human36m"
    assert os.environ["IPR_DATA"] == str(tmp_path / "disk"), "in full, for other working folders"
    options = ["--data-dir", "other", "--results-dir", "there"]
    assert main(["train", "--profile", "smoke", *options]) == 0
    assert calls[-1][1].parent == tmp_path / "there"
    assert pipeline.dataset_dir(load_config("smoke")) == tmp_path / "other" / "capture-smoke"
    assert pipeline.run_dir(load_config("smoke")).parent == tmp_path / "there", (
        "as notebooks call it"
    )


def test_an_installed_copy_works_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("IPR_DATA", raising=False)
    monkeypatch.setattr("ipr_lib.files.REPOSITORY", tmp_path / "lib" / "python3")
    monkeypatch.chdir(tmp_path)
    assert data_folder() == tmp_path / "data"
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "lib" / "python3" / "notebooks")
    with pytest.raises(InputError, match="they lie in the folder `notebooks` of the repository"):
        notebooks.list_notebooks()


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("human36m", [], {"mix": ()}),
        (
            "mine",
            ["--test-subjects", "S11", "--test-step", "1"],
            {
                "dataset": "mine",
                "mix": (),
                "test_step": 1,
                "train_subjects": (1, 5, 6, 7, 8, 9),
                "test_subjects": (11,),
            },
        ),
        (
            "human36m",
            ["--store", "128", "--subjects", "1,9,11"],
            {
                "crop_px": 128,
                "train_subjects": (1,),
                "mix": ("mpii",),
            },
        ),
    ],
)
def test_prepare_prints_the_training_that_fits(
    name,
    options,
    expected,
    calls,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
):
    monkeypatch.setattr("ipr_lib.prepare.prepare_human36m", lambda *_, **__: ["done"])
    (tmp_path / "my disk" / "stores" / "mpii-train-128").mkdir(parents=True)
    target = tmp_path / "my disk" / name
    command = ["prepare", "human36m", *SOURCE, "--target", str(target), *options]
    assert main(command) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("to train on it: python -m ipr_lib train ")
    assert main(shlex.split(line)[7:]) == 0
    cfg = calls[-1][0]
    assert cfg == load_config("full", **expected)
    assert pipeline.dataset_dir(cfg) == target


def test_prepare_prints_the_training_of_a_2d_set(calls, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr("ipr_lib.prepare.prepare_coco", lambda *_, **__: ["done"])
    monkeypatch.setenv("IPR_DATA", str(tmp_path))
    assert main(["prepare", "coco", *SOURCE, "--store", "256"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "to train on it: python -m ipr_lib train --profile full --set mix=coco"
    assert main(["prepare", "coco", *SOURCE]) == 0
    assert capsys.readouterr().out.endswith("run again with --store 256\n")


# --- runs and report ---


def test_runs_lists_profile_state_and_score(tmp_path, capsys):
    assert main(["runs", "--results-dir", str(tmp_path)]) == 2
    assert "holds no run; train one" in capsys.readouterr().err
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint.pt").write_bytes(b"not one")
    write_json(tmp_path / "a" / "metrics.json", made_up())
    assert main(["runs", "--results-dir", str(tmp_path)]) == 0
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first == f"| a | {made_up()['profile']} | scored | 50.0 |"
    assert second.startswith("| b | – |") and "is not a complete checkpoint" in second


def test_report_takes_one_run_of_each_seed_and_one_profile(tmp_path, capsys):
    for seed, profile in ((0, "laptop"), (1, "laptop"), (2, "smoke")):
        write_json(tmp_path / f"{seed}" / "metrics.json", made_up(seed) | {"profile": profile})
    reference = tmp_path / "reference.json"
    runs = [str(tmp_path / "0"), str(tmp_path / "1")]
    assert main(["report", *runs, "--reference", str(reference)]) == 0
    assert capsys.readouterr().out == f"{reference}\n"
    before = reference.read_bytes()
    assert "name one run of each seed" in refused(
        ["report", runs[0], runs[0], "--reference", str(reference)], capsys
    )
    assert "holds scores of profile laptop, the runs are of profile smoke" in refused(
        ["report", str(tmp_path / "2"), "--reference", str(reference)], capsys
    )
    assert reference.read_bytes() == before and read_json(reference)["seeds"] == [0, 1]


# --- pipes, interrupts, characters ---

PROCESS = {"cwd": REPOSITORY, "capture_output": True, "timeout": 500}


@needs_posix
def test_a_reader_that_leaves_is_no_error(tmp_path):
    """As after `| head`: the reading end of the pipe is closed before anything is written."""
    write_json(tmp_path / "a" / "metrics.json", made_up())
    (tmp_path / "a" / "checkpoint.pt").touch()
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "ipr_lib", "runs", "--results-dir", str(tmp_path)],
        cwd=REPOSITORY,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=500,
    )
    os.close(writing)
    assert process.stderr == b"" and process.returncode == 141


INTERRUPTED = """
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module, sys.argv = sys.argv[1], ["ipr_lib", "runs", "--results-dir", "nowhere"]
sys.meta_path.insert(0, Interrupt())
runpy.run_module("ipr_lib", run_name="__main__", alter_sys=True)
"""


@needs_posix
@pytest.mark.parametrize("module, code", [("scipy.io", 1), ("torch", 130)])
def test_interrupts_while_modules_load_are_one_line(module, code):
    process = subprocess.run([sys.executable, "-c", INTERRUPTED, module], **PROCESS)
    assert process.returncode == code
    assert process.stderr.startswith(b"\nipr_lib") and process.stderr.count(b"\n") == 2


WORKERS = """
import os, signal
from ipr_lib.parallel import parallel_map
if __name__ == "__main__":
    print(list(parallel_map(abs, [-1, -2, 3], 2)), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
else:
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    # In one piece, because both workers write at once.
    os.write(1, f"ignored from the start: {ignored}\\n".encode())
"""


def test_workers_ignore_interrupts_while_their_modules_load(tmp_path):
    (tmp_path / "script.py").write_text(WORKERS, encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-u", str(tmp_path / "script.py")],
        **PROCESS,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    lines = sorted(process.stdout.splitlines())
    assert lines == ["[1, 2, 3] True", *["ignored from the start: True"] * 2], process.stderr


def test_a_terminal_may_lack_a_character(monkeypatch, capsys):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(pipeline, "list_runs", lambda: [["läufer", "–", "scored", "50.0"]])
    assert main(["runs"]) == 0
    assert b"| l\\xe4ufer | \\u2013 |" in terminal.buffer.getvalue()


# --- make ---


@needs_posix
def test_clean_keeps_networks_and_clean_runs_asks(tmp_path):
    (tmp_path / "Makefile").write_bytes((REPOSITORY / "Makefile").read_bytes())
    for name in ("reference", "laptop-1", "a b"):
        (tmp_path / "results" / name).mkdir(parents=True)
    for name in ("data/capture-smoke", "data/human36m", ".pytest_cache", "ipr_lib/__pycache__"):
        (tmp_path / name).mkdir(parents=True)

    def make(target, answer):
        environment = {"PATH": os.environ["PATH"]}
        subprocess.run(
            ["make", target], cwd=tmp_path, input=answer, capture_output=True, env=environment
        )
        found = [*(tmp_path / "results").iterdir(), *(tmp_path / "data").iterdir()]
        return sorted(path.name for path in found)

    everything = ["a b", "capture-smoke", "human36m", "laptop-1", "reference"]
    assert make("clean", b"") == everything
    assert not (tmp_path / ".pytest_cache").exists()
    assert not (tmp_path / "ipr_lib" / "__pycache__").exists()
    assert make("clean-runs", b"") == make("clean-runs", b"n\n") == everything
    assert make("clean-runs", b"y\n") == ["human36m", "reference"]


def test_notebooks_as_they_are_want_a_scored_run(tmp_path, capsys):
    command = ["reproduce", "--profile", "smoke", "--as-is", "--results-dir", str(tmp_path)]
    assert "holds no scored run; make it first" in refused(command, capsys)
    assert list(tmp_path.iterdir()) == []
