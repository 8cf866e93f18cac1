"""Two real processes over gloo, on a CPU, against one."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ipr_lib import run
from ipr_lib.__main__ import ON_EACH_MACHINE, main
from ipr_lib.config import load_config
from ipr_lib.data.datasets import BatchKeys, CropDataset, keys_in_order
from ipr_lib.data.store import open_store
from ipr_lib.evaluation import prediction
from ipr_lib.files import InputError
from ipr_lib.geometry.transforms import Augmentation
from ipr_lib.integral.methods import INTEGRAL
from ipr_lib.training import distributed, records
from ipr_lib.training.distributed import all_gather_rows, sharded, share_of
from ipr_lib.training.loop import MicroBatches, training_step

from .conftest import THREADS, TINY_NETWORK, TRAINING_SEED, needs_posix

REPOSITORY = Path(__file__).parents[1]
TINY = TINY_NETWORK | dict(batch_size=6, epochs=3)
# What each way of sharing a batch out must agree with: the parts of one process, or the whole batch.
WAYS = {
    "own": (dict(micro_batches=1), dict(micro_batches=2)),
    "clipped": (
        dict(micro_batches=2, clip_gradient=0.05),
        dict(micro_batches=2, clip_gradient=0.05),
    ),
}


def config(**changes):
    return load_config(
        "smoke", seed=TRAINING_SEED, **TINY | dict(optimizer="adamw", learning_rate=1e-3) | changes
    )


def predict(model, store, cfg):
    """Batches of four and of two: the second process has one to do."""
    return prediction.predict_store(
        lambda crops: run.predict_crops(model, crops, cfg),
        store,
        prediction.oracle_inputs(store),
        cfg.crop_px,
        batch_size=4,
    )


def work(store_path, folder):
    """What each of the two processes does; run by torchrun, see below."""
    torch.set_num_threads(THREADS)
    store, folder = open_store(store_path), Path(folder)
    with distributed.process_group() as device:
        for way, (changes, _) in WAYS.items():
            model = run.train_run(config(**changes), store, folder / way, device, validation=store)
            torch.save(model.state_dict(), folder / way / f"rank{distributed.rank()}.pt")
        with distributed.rank0_first():
            if distributed.rank() == 0:
                (folder / "alone").write_text("written", encoding="utf-8")
            assert (folder / "alone").read_text(encoding="utf-8") == "written"
        predictions = predict(model, store, config(**changes))
        np.savez(folder / f"predictions{distributed.rank()}.npz", **predictions)
        torch.save(gradients(store), folder / f"gradients{distributed.rank()}.pt")
        (folder / f"done{distributed.rank()}").touch()


def gradients(store):
    """Gradients of one step in four parts: each of two processes works through two of them, a single one through all.

    Half of the depths are unknown, all of them among the rows of the first process, so that the two know unequally much.
    """
    network = run.build_network(config()).train()
    dataset = CropDataset(store, 64, 2000.0)
    batch = dataset[0, 0, np.arange(4), (distributed.rank(), distributed.size())]
    if distributed.size() == 1:
        batch["weights"][::2, :, 2] = 0
    elif distributed.rank() == 0:
        batch["weights"][:, :, 2] = 0
    parts = 4 // distributed.size()
    micro_batches = MicroBatches(distributed.wrap(network), parts, threads=False)
    still = torch.optim.SGD(network.parameters(), lr=0.0)
    training_step(micro_batches, batch, INTEGRAL, [still], 64, 2000.0)
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def torchrun(*arguments, **environment):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        *arguments,
    ]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment,
    )


@pytest.fixture
def two(store, tmp_path):
    """Folder of what two processes have made of `work`."""
    result = torchrun(
        "-m", "tests.test_training_distributed", str(store.path), str(tmp_path / "two")
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return tmp_path / "two"


@pytest.mark.usefixtures("training_seed")
def test_two_processes_do_what_one_does(two, store, tmp_path):
    """Gradients and losses to float tolerance, predictions to the last bit."""
    assert (two / "done0").exists() and (two / "done1").exists()
    compare_gradients(two, store)
    cpu = torch.device("cpu")
    for way, (_, alone) in WAYS.items():
        model = run.train_run(config(**alone), store, tmp_path / "one" / way, cpu, validation=store)
        first, second = (
            torch.load(folder / way / records.CHECKPOINT, weights_only=True)
            for folder in (two, tmp_path / "one")
        )
        assert len(first["log"]) == len(second["log"]) == 3
        for a, b in zip(first["log"], second["log"]):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-3), way
        assert first["network"].keys() == second["network"].keys()
        for rank in (0, 1):
            state = torch.load(two / way / f"rank{rank}.pt", weights_only=True)
            for name, tensor in first["network"].items():
                assert torch.equal(state[name], tensor), f"{way}, process {rank}: {name}"
        assert first["log"][-1]["validation_mpjpe"] == pytest.approx(
            second["log"][-1]["validation_mpjpe"], rel=0.02
        )
    cfg = config(**WAYS["clipped"][0])
    records.load_checkpoint(two / "clipped" / records.CHECKPOINT, model)
    alone = predict(model.eval(), store, cfg)
    for rank in (0, 1):
        together = np.load(two / f"predictions{rank}.npz")
        for name, values in alone.items():
            np.testing.assert_array_equal(together[name], values, err_msg=name)


def compare_gradients(two, store):
    """Averaged over processes, and each known coordinate counting the same wherever it lies."""
    alone = gradients(store)
    assert max(gradient.abs().max() for gradient in alone.values()) > 1e-4
    for rank in (0, 1):
        found = torch.load(two / f"gradients{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        for name, gradient in alone.items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(
                found[name], gradient, rtol=1e-3, atol=1e-3 * scale, msg=f"process {rank}: {name}"
            )


def test_synchronous_batch_norm_wants_gpus(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(
        InputError, match="sync_batch_norm=True between processes on CPUs: expected GPUs"
    ):
        distributed.wrap(torch.nn.Sequential(torch.nn.BatchNorm2d(3)), sync_batch_norm=True)


def test_shards_make_the_rows_of_the_whole_batch(store, monkeypatch):
    dataset = CropDataset(store, 64, 2000.0, Augmentation(), seed=5)
    monkeypatch.setattr(distributed, "size", lambda: 3)
    for key in BatchKeys(6, 5, epochs=2, seed=5):
        whole = dataset[key]
        for rank in range(3):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            (mine,) = sharded([key])
            for name, rows in dataset[mine].items():
                assert torch.equal(rows, whole[name][rank::3]), name


def test_whole_batches_are_shared_out(monkeypatch):
    keys = keys_in_order(11, 3)
    monkeypatch.setattr(distributed, "size", lambda: 3)
    found = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found.append([items.tolist() for _, _, items in share_of(keys)])
    assert found == [[[0, 1, 2], [9, 10]], [[3, 4, 5]], [[6, 7, 8]]]


def test_gathered_rows_are_in_the_order_of_items():
    parts = [
        {"items": np.array([4, 5]), "x": np.array([40, 50])},
        {"items": np.array([1]), "x": np.array([10])},
    ]
    result = all_gather_rows(parts)
    assert result["items"].tolist() == [1, 4, 5] and result["x"].tolist() == [10, 40, 50]


def test_gpus_that_are_not_there(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="no GPU 2, 3; this machine has 1"):
        distributed.launch(["train"], [0, 2, 3])
    assert main(["train", "--profile", "smoke", "--gpus", "0,1"]) == 2
    assert "no GPU 1" in capsys.readouterr().err
    assert main(["train", "--profile", "smoke", "--gpus", "all"]) == 2
    assert "--gpus: all: expected a whole number" in capsys.readouterr().err


# Each machine's process leaves the number of all that have found each other.
MEET = """
import os, sys
from ipr_lib.training import distributed
with distributed.process_group():
    open(os.path.join(sys.argv[1], os.environ["GROUP_RANK"]), "w").write(str(distributed.size()))
"""


def test_the_line_for_several_machines(tmp_path, capsys):
    """It stands in the help and in the book, its arguments are known, and processes that it starts apart find each other."""
    assert ON_EACH_MACHINE in (REPOSITORY / "book" / "trouble.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert ON_EACH_MACHINE in capsys.readouterr().out
    ours, arguments = ON_EACH_MACHINE.split(" -m -- ")
    assert main([*arguments.split()[1:], "--set", "epochs=-1"]) == 2, (
        "so far it is read as it should be"
    )
    assert "epochs=-1" in capsys.readouterr().err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = (
        ours.replace("--nproc-per-node 8", "--nproc-per-node 1")
        .replace("HOST:29500", f"127.0.0.1:{port}")
        .split()
    )
    (tmp_path / "meet.py").write_text(MEET, encoding="utf-8")
    (tmp_path / "met").mkdir()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *line[1:],
        str(tmp_path / "meet.py"),
        str(tmp_path / "met"),
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(REPOSITORY),
    }
    machines = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2)
    ]
    errors = [machine.communicate(timeout=300)[1].decode() for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], errors
    assert {
        path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "met").iterdir()
    } == {
        "0": "2",
        "1": "2",
    }


def test_launch_hands_visible_gpus_on(monkeypatch):
    calls = []

    def run(command, env):
        calls.append((command, env))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert distributed.launch(["train", "--profile", "full"], [0, 2]) == 3
    command, environment = calls[0]
    assert command[1:] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "--",
        "ipr_lib",
        "train",
        "--profile",
        "full",
    ]
    assert environment["CUDA_VISIBLE_DEVICES"] == "4,7"
    # What follows is ours, whatever it begins like; torchrun has options --run-path, --no-python and many more.
    arguments = [
        "train",
        "--run",
        "mine",
        "--resume",
        "--profile",
        "full",
        "--set",
        "epochs=3",
        "--times",
        "2",
        "--n",
    ]
    distributed.launch(arguments, [0, 2])
    assert_handed_on(calls[1][0][3:], arguments)


def assert_handed_on(command, arguments):
    """torchrun's own parser takes `ipr_lib` for the module to run, and hands it these arguments untouched."""
    from torch.distributed.run import parse_args

    read = parse_args(command)
    assert (
        read.module and read.training_script == "ipr_lib" and read.training_script_args == arguments
    )


def test_torchrun_hands_the_book_s_line_on():
    (line,) = re.findall(
        r"^torchrun (.*)$",
        (REPOSITORY / "book" / "trouble.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    command = line.split()
    assert "--run" in command
    assert_handed_on(command, command[command.index("ipr_lib") + 1 :])


@needs_posix
def test_the_slurm_script_starts_the_same_training(tmp_path):
    """Slurm's own commands are played; torchrun's parser reads what `srun` gets."""
    text = (REPOSITORY / "book" / "trouble.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", text, flags=re.DOTALL)
    for name, body in (("scontrol", 'printf "node7\\nnode8\\n"'), ("srun", 'printf "%s\\n" "$@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    played = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NNODES": "2"}
    played |= {"SLURM_JOB_ID": "31", "SLURM_JOB_NODELIST": "node[7-8]"}
    result = subprocess.run(
        ["bash", "-c", script], env=os.environ | played, capture_output=True, text=True
    )
    program, *command = result.stdout.splitlines()
    assert program == "torchrun" and result.returncode == 0, result.stderr
    assert command[command.index("--rdzv-endpoint") + 1] == "node7:29500"
    ours = ["train", "--profile", "full", "--run", "NAME", "--times", "16"]
    assert_handed_on(command, ours)
    assert f"-m -- ipr_lib {' '.join(ours)}\n" in text.partition("#!/bin/bash")[0], (
        "the same as without Slurm"
    )
    assert "#SBATCH --signal=TERM@120" in script


def test_batches_that_cannot_be_shared_out(store, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setattr(distributed, "rank0_first", contextlib.nullcontext)
    monkeypatch.setattr(distributed, "size", lambda: 4)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda tensor: 4 * tensor)
    with pytest.raises(
        InputError, match="batch_size=6: expected a multiple of 4 processes times 1 parts"
    ):
        run.train_run(config(), store, tmp_path, torch.device("cpu"))


def test_machines_that_share_no_disk(store, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setattr(distributed, "rank0_first", contextlib.nullcontext)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(
        distributed, "all_reduce_sum", lambda tensor: 2 * tensor + 7
    )  # the other has found a checkpoint
    with pytest.raises(
        InputError,
        match="is at step 0 for this process and at another for others; several machines need",
    ):
        run.train_run(config(), store, tmp_path, torch.device("cpu"))


if __name__ == "__main__":
    work(*sys.argv[1:])
