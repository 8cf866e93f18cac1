"""`python -m ipr_lib train`: which config and which folder it comes to."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
import torch

from ipr_lib import run
from ipr_lib.__main__ import main
from ipr_lib.config import REPOSITORY, load_config
from ipr_lib.course import pipeline
from ipr_lib.training import checkpoints

from .test_pipeline import TINY, home  # noqa: F401 - a fixture

RUN = ["--run", "mine", "--results-dir"]


@pytest.fixture
def calls(monkeypatch):
    """(config, folder) of every training that is asked for."""
    made = []
    monkeypatch.setattr(pipeline, "trained", lambda cfg, results_dir, folder: made.append((cfg, folder)))
    return made


def test_recipes_overrides_and_scaling_add_up(calls, tmp_path, capsys):
    assert main(["train", "--profile", "full", "--seed", "2", "--recipe", "every-50th", "depth-16", "--set", "batch_size=16",
                 "--times", "2", *RUN, str(tmp_path)]) == 0
    (cfg, folder), = calls
    assert cfg == load_config("full", seed=2, train_step=50, depth_bins=16, batch_size=32, learning_rate=2e-3, warmup_steps=500)
    assert folder == tmp_path / "mine" and capsys.readouterr().out.strip() == str(folder)


def test_resume_takes_the_config_of_the_checkpoint(calls, tmp_path, capsys):
    assert main(["train", *RUN, str(tmp_path), "--resume"]) == 2
    assert "is missing; expected a run that has begun to train" in capsys.readouterr().err
    cfg = load_config("smoke", seed=5, backbone_width=4, clip_gradient=0.5)
    model = run.build_network(cfg)
    checkpoints.save_checkpoint(tmp_path / "mine" / checkpoints.CHECKPOINT, model, torch.optim.AdamW(model.parameters()),
                                {"step": 1, "seconds": 0.0, "log": [], "config": dataclasses.asdict(cfg)})
    assert main(["train", *RUN, str(tmp_path), "--resume"]) == 0
    stated = ["--profile", "smoke", "--seed", "5", "--set", "backbone_width=4", "clip_gradient=0.5"]
    assert main(["train", *RUN, str(tmp_path), "--resume", *stated]) == 0
    assert calls == [(cfg, tmp_path / "mine")] * 2
    assert main(["train", *RUN, str(tmp_path), "--resume", "--set", "workers=7"]) == 0
    assert calls[2][0] == dataclasses.replace(cfg, workers=7), "the rest comes from the checkpoint"


def test_resuming_under_another_config_is_refused(home, capsys):  # noqa: F811
    cfg = load_config("smoke", **TINY)
    pipeline.trained(cfg, home / "results", home / "results" / "mine")
    assert main(["train", *RUN, str(home / "results"), "--resume", "--set", "epochs=3"]) == 2
    assert "was trained with epochs=2, this run asks for epochs=3; use another run folder" in capsys.readouterr().err
    assert main(["train", *RUN, str(home / "results"), "--resume", "--set", "keep_checkpoints=2"]) == 0


@pytest.mark.parametrize("arguments, message", [
    (["--resume"], "--resume goes with --run NAME"),
    (["--run", "not there", "--resume", "--profile", "smoke"], "checkpoint.pt is missing; expected a run that has begun"),
    (["--times", "0"], "--times 0: expected a whole number above 0"),
    (["--recipe", "strong", "--profile", "full", "--set", "crop_px=100"], "crop_px=100: expected a multiple of 32"),
])
def test_wrong_arguments(calls, arguments, message, capsys):
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err and not calls


def test_a_command_that_builds_no_network_does_not_load_torchvision():
    """It takes longer than torch itself; and each command stands on one line of the help, its text beside it."""
    code = "import sys, ipr_lib.__main__ as m\ntry: m.main(['--help'])\nfinally: print('loaded:', 'torchvision' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=300,
                            env=os.environ | {"COLUMNS": "80"})
    assert "loaded: False" in result.stdout, result.stderr
    for name in ("capture", "train", "reproduce", "exercises", "report"):
        assert re.search(rf"^ +{name} +\w+", result.stdout, flags=re.MULTILINE), name
