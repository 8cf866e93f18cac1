"""Killed at any moment, a run goes on and ends with the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ipr_lib import run
from ipr_lib.config import load_config
from ipr_lib.data.datasets import StoreMix
from ipr_lib.data.store import open_store
from ipr_lib.evaluation import metrics
from ipr_lib.files import InputError
from ipr_lib.geometry.skeleton import MPII
from ipr_lib.training import distributed, loop, records
from ipr_lib.training.loop import MicroBatches, Muon, build_optimizers
from ipr_lib.training.records import NOT_FINITE, TrainingLog, item_name, read_log

from .conftest import THREADS, TINY_NETWORK, TRAINING_SEED
from .test_data_mixing import people_store

TINY = TINY_NETWORK | dict(batch_size=2, epochs=12)
CPU = torch.device("cpu")
KILLS = 10
# Where a kill can strike: in a step, in the middle of writing a file, before it gets its name, and before the log's row.
MOMENTS = {
    "step": (MicroBatches, "backward"),
    "save": (torch, "save"),
    "name": (Path, "replace"),
    "log": (TrainingLog, "write"),
}


def config(**changes):
    return load_config("smoke", seed=TRAINING_SEED, **TINY | changes)


def die_at(moment, calls):
    """Kill this process, as `kill -9` would, at the n-th call of what `moment` names."""
    owner, name = MOMENTS[moment]
    function, left = getattr(owner, name), [calls]

    def deadly(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            if moment == "save":
                Path(arguments[1]).write_bytes(b"half a file")
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(owner, name, deadly)


def killed_again_and_again(store_path, folder):
    """Begin a run KILLS times, each time killed at a moment drawn at random; prints the step that each got to."""
    torch.set_num_threads(THREADS)
    loop.SECONDS_BETWEEN_CHECKPOINTS = -1  # one at every step
    rng, steps = np.random.default_rng(0), []
    for kill in range(KILLS):
        moment, calls = list(MOMENTS)[kill % len(MOMENTS)], int(rng.integers(2, 6))
        if (child := os.fork()) == 0:
            die_at(moment, calls)
            run.train_run(config(), open_store(store_path), folder, CPU)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (
            f"kill {kill} at {moment} came too late"
        )
        path = Path(folder) / records.CHECKPOINT
        steps.append(torch.load(path, weights_only=True)["step"] if path.exists() else 0)
    print(json.dumps(steps))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("training_seed")
def test_a_run_killed_ten_times_ends_with_the_weights_of_an_undisturbed_one(store, tmp_path):
    run.train_run(config(), store, tmp_path / "calm", CPU)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.test_training_resume",
            str(store.path),
            str(tmp_path / "killed"),
        ],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    steps = json.loads(result.stdout.splitlines()[-1])
    assert len(steps) == KILLS and steps == sorted(steps) and 0 < steps[-1] < 36
    run.train_run(config(), store, tmp_path / "killed", CPU)
    calm, killed = (
        torch.load(tmp_path / name / records.CHECKPOINT, weights_only=True)
        for name in ("calm", "killed")
    )
    for name, tensor in calm["network"].items():
        assert torch.equal(tensor, killed["network"][name]), name
    assert [row["loss"] for row in calm["log"]] == [row["loss"] for row in killed["log"]]
    rows = read_log(tmp_path / "killed")
    assert [row["step"] for row in rows] == list(
        range(1, 37)
    )  # each step once, however often it was made
    assert rows == killed["log"] and {"data_wait", "memory_mb", "minutes_left"} <= rows[0].keys()


@pytest.mark.usefixtures("training_seed")
def test_a_network_with_dropout_resumes_exactly(store, tmp_path, monkeypatch):
    """Dropout draws from the global random state, which must stand where it stood."""

    build = run.build_network

    def build_with_dropout(cfg, **choices):
        network = build(cfg, **choices)
        network.final = torch.nn.Sequential(torch.nn.Dropout(0.5), network.final)
        return network

    monkeypatch.setattr(run, "build_network", build_with_dropout)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    cfg = config(epochs=2, micro_batches=1, optimizer="adamw")
    torch.manual_seed(TRAINING_SEED)
    calm = run.train_run(cfg, store, tmp_path / "calm", CPU)

    step, left = loop.training_step, [4]

    def interrupted(*arguments):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return step(*arguments)

    torch.manual_seed(TRAINING_SEED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "training_step", interrupted)
        run.train_run(cfg, store, tmp_path / "stopped", CPU)
    torch.manual_seed(TRAINING_SEED + 1)
    resumed = run.train_run(cfg, store, tmp_path / "stopped", CPU)
    for name, tensor in calm.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_last_and_the_best_are_kept(store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    scores = iter([300.0, 100.0, 200.0])
    monkeypatch.setattr(run, "score_items", lambda *_: {"mpjpe": {"frame_mean": next(scores)}})
    cfg = config(epochs=3, keep_checkpoints=2, batch_size=3, micro_batches=1)
    run.train_run(cfg, store, tmp_path, CPU, validation=store)
    names = sorted(path.name for path in tmp_path.glob("*.pt"))
    assert names == ["best.pt", "checkpoint-00000005.pt", "checkpoint-00000006.pt", "checkpoint.pt"]
    model = run.build_network(cfg)
    best = records.load_checkpoint(tmp_path / records.BEST, model)
    assert best["step"] == 4 and best["best"] == 100.0  # two steps an epoch
    last = records.load_checkpoint(tmp_path / records.CHECKPOINT, model)
    assert last["step"] == 6 and last["best"] == 100.0 and len(last["commit"]) >= 7
    assert [row["validation_mpjpe"] for row in last["log"]] == [
        None,
        300.0,
        None,
        100.0,
        None,
        200.0,
    ]
    # keep_checkpoints changes no result: a run may go on with another.
    run.check_config(tmp_path / records.CHECKPOINT, config(epochs=3, batch_size=3, micro_batches=1))


@pytest.mark.usefixtures("training_seed")
def test_validation_is_the_score_of_the_store(store, tmp_path):
    cfg = config(epochs=1, batch_size=3, micro_batches=1)
    model = run.train_run(cfg, store, tmp_path, CPU, validation=store)
    state = records.load_checkpoint(tmp_path / records.CHECKPOINT, run.build_network(cfg))
    pred = run.predict_run(model, store, cfg)["pred_cam"][:, :17]
    target = store.columns["joints_cam"][:, :17]
    expected = pytest.approx(metrics.mpjpe(pred, target))
    assert state["log"][-1]["validation_mpjpe"] == state["best"] == expected


@pytest.mark.usefixtures("training_seed")
def test_ctrl_c_finishes_the_step_and_writes_a_checkpoint(store, tmp_path, monkeypatch, capsys):
    calm = run.train_run(config(epochs=2), store, tmp_path / "calm", CPU)
    step, done, handler = loop.training_step, [0], signal.getsignal(signal.SIGINT)

    def interrupted(*arguments):
        done[0] += 1
        if done[0] == 4:
            signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "training_step", interrupted)
        patch.setattr(loop, "LOG_ROWS", 1)  # a row comes at the end, and at the stop
        run.train_run(config(epochs=2), store, tmp_path / "stopped", CPU)
    path = tmp_path / "stopped" / records.CHECKPOINT
    assert f"stopped after step 4; {path} was written" in capsys.readouterr().err
    assert [row["step"] for row in torch.load(path, weights_only=True)["log"]] == [4]
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = run.train_run(config(epochs=2), store, tmp_path / "stopped", CPU)
    for name, tensor in calm.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_scheduler_s_signal_writes_a_checkpoint(store, tmp_path):
    """A real process, which its scheduler asks to end by SIGTERM."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.test_training_resume",
            str(store.path),
            str(tmp_path),
            "long",
        ],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        log = tmp_path / "training.jsonl"
        while not log.exists() or not log.read_text(encoding="utf-8"):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        process.terminate()
        error = process.communicate(timeout=300)[1]
    finally:
        process.kill()
    content = torch.load(tmp_path / records.CHECKPOINT, weights_only=True)
    assert 0 < content["step"] < 300_000
    assert f"stopped after step {content['step']}; {tmp_path / records.CHECKPOINT}" in error
    assert read_log(tmp_path)[-1]["step"] == content["step"]


def test_processes_of_a_group_agree_to_stop(monkeypatch):
    """Only every tenth step, because agreeing takes time; then one signal to any process stops all."""
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda tensor: tensor + 1)
    assert not loop.stop_is_due([], 9, CPU) and loop.stop_is_due([], 10, CPU)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda tensor: tensor)
    assert not loop.stop_is_due([], 10, CPU) and loop.stop_is_due([15], 20, CPU)


def test_random_states_come_back(tmp_path):
    cfg, model = config(), run.build_network(config())
    optimizers = [torch.optim.AdamW(model.parameters())]
    save(tmp_path / "a.pt", cfg, model, optimizers)
    drawn = torch.rand(2).tolist()
    records.resume(tmp_path / "a.pt", model, optimizers, steps=9)
    assert torch.rand(2).tolist() == drawn


def save(path, cfg, model, optimizers=None, step=1):
    """A checkpoint as a training of `cfg` would leave it."""
    optimizers = optimizers or [torch.optim.AdamW(model.parameters())]
    state = {"step": step, "seconds": 0.0, "log": [], "config": cfg.record()}
    records.save_checkpoint(path, model, optimizers, state)


def test_fields_younger_than_the_checkpoint_had_their_defaults(tmp_path):
    cfg = config()
    path = tmp_path / "old.pt"
    save(path, cfg, run.build_network(cfg))
    content = torch.load(path, weights_only=True)
    del content["config"]["clip_gradient"]
    torch.save(content, path)
    run.check_config(path, cfg)
    with pytest.raises(
        InputError, match="trained with clip_gradient=0.0, this run asks for clip_gradient=1.0"
    ):
        run.check_config(path, config(clip_gradient=1.0))


def test_an_older_layout_of_the_optimizer_is_refused_where_it_is_needed(store, tmp_path):
    """Muon's state used to be split by the kernels' shapes. A finished training still gives its network."""
    cfg = config(optimizer="muon")
    model = run.build_network(cfg)
    muon, adamw = build_optimizers("muon", model, 1e-3)
    kernels = muon.param_groups[0]["params"]
    by_shape = [Muon(kernels[:1], 1e-3), Muon(kernels[1:], 1e-3), adamw]
    save(tmp_path / records.CHECKPOINT, cfg, model, by_shape, step=7)
    with pytest.raises(
        InputError,
        match=r"checkpoint.pt holds the optimizer's state in the layout of another version .*delete it",
    ):
        run.train_run(cfg, store, tmp_path, CPU)
    save(tmp_path / records.CHECKPOINT, cfg, model, by_shape, step=36)
    finished = run.train_run(cfg, store, tmp_path, CPU)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, finished.state_dict()[name]), name


def test_a_loss_that_is_not_finite_names_its_pictures(store, tmp_path):
    cfg = config(learning_rate=1e30, schedule="steps")
    with pytest.raises(
        InputError, match=r"Try learning_rate=0\.001 or warmup_steps=500 or clip_gradient=1\.0"
    ):
        run.train_run(cfg, store, tmp_path, CPU)
    content = json.loads((tmp_path / NOT_FINITE).read_text(encoding="utf-8"))
    keys = list(run.training_keys(store, 2, 12, cfg.seed))
    assert content["items"] == keys[content["step"]][2].tolist() and len(content["pictures"]) == 2
    folder = "s_01_act_02_subact_01_ca_01"
    assert item_name(store, 1) == f"prepared/{folder}/{folder}_000004.jpg"


def test_items_of_mixed_sets_have_names(store, tmp_path):
    people = people_store(tmp_path / "people", MPII, 3)
    mix = StoreMix([store, people])
    names = [item_name(mix, item) for item in (0, len(store), len(store) + 1)]
    assert names[0] == item_name(store, 0)
    assert names[1:] == ["people: picture 100, person 0", "people: picture 101, person 1"]


@pytest.mark.usefixtures("training_seed")
def test_clipping_bounds_the_gradient(store, tmp_path, monkeypatch):
    norms = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(parameters, largest):
        norm = clip(parameters, largest)
        norms.append((norm.item(), sum(p.grad.square().sum().item() for p in parameters) ** 0.5))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    run.train_run(config(epochs=1, clip_gradient=1e-3), store, tmp_path, CPU)
    assert len(norms) == 3 and all(before > 1e-3 and after <= 1.001e-3 for before, after in norms)


def test_tensorboard_reads_what_is_written(tmp_path):
    """With the real package, which no environment of ours holds: `pip install tensorboard`. Steps made again replace the old."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TrainingLog(tmp_path, [])
    log.write({"step": 2, "loss": 0.5, "score": None})
    log.write({"step": 6, "loss": 0.75, "score": 3.0})
    again = TrainingLog(tmp_path, read_log(tmp_path)[:1])  # resumed from a checkpoint of step 2
    again.write({"step": 6, "loss": 0.25, "score": 4.0})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "score"}
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 0.5), (6, 0.25)]
    assert [(event.step, event.value) for event in events.Scalars("score")] == [(6, 4.0)]


def test_tensorboard_is_written_where_it_is_installed(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder, purge_step):
            calls.append((Path(folder).name, purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def flush(self):
            calls.append("flushed")

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = TrainingLog(tmp_path, [{"step": 4, "loss": 0.5, "score": None}])
    log.write({"step": 6, "loss": 0.25, "score": None})
    assert calls == [("tensorboard", 5), ("loss", 0.25, 6), "flushed"]
    assert read_log(tmp_path) == [
        {"step": 4, "loss": 0.5, "score": None},
        {"step": 6, "loss": 0.25, "score": None},
    ]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
    TrainingLog(tmp_path, []).write({"step": 1, "loss": 1.0})
    assert (tmp_path / "training.jsonl").read_text(encoding="utf-8") == '{"step": 1, "loss": 1.0}\n'


def test_a_log_begins_anew_with_the_rows_that_a_checkpoint_knows(tmp_path):
    """A kill has torn the last line; the steps after the checkpoint are made again."""
    log = TrainingLog(tmp_path, [])
    for step in (4, 6, 8):
        log.write({"step": step, "loss": 1 / step})
    with open(tmp_path / "training.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 10, "lo')
    TrainingLog(tmp_path, [{"step": 4, "loss": 0.25}]).write({"step": 6, "loss": 0.5})
    assert (tmp_path / "training.jsonl").read_text(
        encoding="utf-8"
    ) == '{"step": 4, "loss": 0.25}\n{"step": 6, "loss": 0.5}\n'


def test_only_the_first_process_writes_a_log(tmp_path):
    TrainingLog(tmp_path / "run", [], writes=False).write({"step": 1, "loss": 1.0})
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":
    if sys.argv[-1] == "long":
        loop.LOG_ROWS = 300_000  # one at every step
        run.train_run(config(epochs=100_000), open_store(sys.argv[1]), Path(sys.argv[2]), CPU)
    else:
        killed_again_and_again(*sys.argv[1:])
