"""The command line: which config and which folder a training comes to; what the help loads; exit codes."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
import torch

from ipr_lib import run
from ipr_lib.__main__ import main
from ipr_lib.config import PROFILES, RECIPES, load_config
from ipr_lib.course import pipeline
from ipr_lib.evaluation.prediction import CHOICES
from ipr_lib.experiment import AXES
from ipr_lib.files import REPOSITORY, InputError
from ipr_lib.training import records

from .test_course_pipeline import TINY, home  # noqa: F401 - a fixture

RUN = ["--run", "mine", "--results-dir"]


@pytest.fixture
def calls(monkeypatch):
    """(config, folder) of every training that is asked for."""
    made = []
    monkeypatch.setattr(pipeline, "trained", lambda cfg, folder, init: made.append((cfg, folder)))
    return made


def test_recipes_overrides_and_scaling_add_up(calls, tmp_path, capsys):
    assert (
        main(
            [
                "train",
                "--profile",
                "full",
                "--seed",
                "2",
                "--recipe",
                "every-50th",
                "depth-16",
                "--set",
                "batch_size=16",
                "--times",
                "2",
                *RUN,
                str(tmp_path),
            ]
        )
        == 0
    )
    ((cfg, folder),) = calls
    assert cfg == load_config(
        "full",
        seed=2,
        train_step=50,
        depth_bins=16,
        batch_size=32,
        learning_rate=2e-3,
        warmup_steps=500,
    )
    assert folder == tmp_path / "mine" and capsys.readouterr().out.strip() == str(folder)


def test_resume_takes_the_config_of_the_checkpoint(calls, tmp_path, capsys):
    assert main(["train", *RUN, str(tmp_path), "--resume"]) == 2
    assert "is missing; train first" in capsys.readouterr().err
    cfg = load_config("smoke", seed=5, backbone_width=4, clip_gradient=0.5)
    model = run.build_network(cfg)
    records.save_checkpoint(
        tmp_path / "mine" / records.CHECKPOINT,
        model,
        [torch.optim.AdamW(model.parameters())],
        {"step": 1, "seconds": 0.0, "log": [], "config": cfg.record()},
    )
    assert main(["train", *RUN, str(tmp_path), "--resume"]) == 0
    stated = ["--profile", "smoke", "--seed", "5", "--set", "backbone_width=4", "clip_gradient=0.5"]
    assert main(["train", *RUN, str(tmp_path), "--resume", *stated]) == 0
    assert calls == [(cfg, tmp_path / "mine")] * 2
    assert main(["train", *RUN, str(tmp_path), "--resume", "--set", "workers=7"]) == 0
    assert calls[2][0] == dataclasses.replace(cfg, workers=7), "the rest comes from the checkpoint"


def test_a_device_that_is_missing(calls, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("IPR_DEVICE", "cpu")
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "0")
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert main(["train", *RUN, str(tmp_path)]) == 0 and len(calls) == 1
    assert main(["train", *RUN, str(tmp_path), "--device", "mps"]) == 2 and len(calls) == 1
    assert "device mps: PyTorch finds none on this machine" in capsys.readouterr().err
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "1", "what it lacks, the CPU computes"


def test_resuming_under_another_config_is_refused(home, capsys):  # noqa: F811
    cfg = load_config("smoke", **TINY)
    pipeline.trained(cfg, home / "results", home / "results" / "mine")
    assert main(["train", *RUN, str(home / "results"), "--resume", "--set", "epochs=3"]) == 2
    assert (
        "was trained with epochs=2, this run asks for epochs=3; use another run folder"
        in capsys.readouterr().err
    )
    assert (
        main(["train", *RUN, str(home / "results"), "--resume", "--set", "keep_checkpoints=2"]) == 0
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--resume"], "--resume goes with --run NAME"),
        (["--init", "a.pt"], "--init goes with --run NAME"),
        (
            ["--run", "not there", "--resume", "--profile", "smoke"],
            "checkpoint.pt is missing; train first",
        ),
        (["--times", "0"], "--times: 0: expected a whole number from 1 to 4096"),
        (
            ["--recipe", "strong", "--profile", "full", "--set", "crop_px=100"],
            "crop_px=100: expected a multiple of 32",
        ),
    ],
)
def test_wrong_arguments(calls, arguments, message, capsys):
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err and not calls


COMMANDS = (
    "capture",
    "prepare",
    "train",
    "test",
    "runs",
    "predict",
    "export",
    "compare",
    "reproduce",
    "exercises",
    "report",
)


@pytest.mark.parametrize("arguments", [[], ["train"], ["prepare", "human36m"]])
def test_help_does_not_wait_for_torch(arguments, capsys):
    """In a process of its own, because this one has torch already. OpenCV may load: it takes some 15 ms."""
    code = (
        "import atexit, sys, time\n"
        "heavy = {'torch', 'torchvision', 'matplotlib'}\n"
        "atexit.register(lambda: print('loaded:', sorted(heavy & set(sys.modules))))\n"
        "atexit.register(lambda: print(time.process_time(), file=sys.stderr))\n"
        "import ipr_lib.__main__ as m\n"
        f"m.main({[*arguments, '--help']})\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=300,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert "loaded: []" in result.stdout and "usage: python -m ipr_lib" in result.stdout, (
        result.stderr
    )
    assert float(result.stderr) < 2, "seconds of processor time"


def test_each_command_stands_on_one_line_of_the_help_with_its_text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^ +{name} +\w+", text, flags=re.MULTILINE), name


def test_what_the_help_names_is_what_there_is(capsys, monkeypatch):
    """The names stand in the help's text, so that it need not load what knows them."""
    monkeypatch.setenv("COLUMNS", "300")
    texts = {}
    for name in ("train", "compare", "test"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        texts[name] = capsys.readouterr().out
    for profile in PROFILES:
        assert profile in texts["train"]
    for recipe in RECIPES:
        assert recipe in texts["train"]
    for axis in AXES:
        assert axis in texts["compare"]
    for choices in CHOICES.values():
        assert "|".join(choices) in texts["test"]


@pytest.mark.parametrize(
    "error, code, line",
    [
        (InputError("a.png: no such file"), 2, "ipr_lib predict: a.png: no such file\n"),
        (
            KeyboardInterrupt(),
            130,
            "\nipr_lib predict: interrupted; the same command goes on from here\n",
        ),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, line):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("ipr_lib.inference.load_network", fail)
    assert main(["predict", "a.png", "--out", "out"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["compare", "--list", "--axes", "colour"],
            "unknown axis 'colour'; choose from method, map",
        ),
        (["compare", "--profile", "full", "--list"], "profile 'full' has no comparison"),
        (
            ["train", "--profile", "full", "--recipe", "weak"],
            "unknown recipe 'weak'; choose from every-50th",
        ),
        (["test", "--profile", "smoke", "--seeds", "1"], "takes no --seeds 1"),
    ],
)
def test_unknown_names_are_refused(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
