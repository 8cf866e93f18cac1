"""Several processes on one run: torchrun starts them,
DistributedDataParallel joins their gradients.

Each process takes its rows of every batch, so that N processes see the batches of one. Everything
here also works in a single process, where it costs nothing. Taught in notebooks/09_training.ipynb.
"""

import contextlib
import datetime
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..files import InputError, writing
from .precision import default_device

# Longer than the first process may take over capture and crop store, while the others wait.
TIMEOUT = datetime.timedelta(hours=12)


def size() -> int:
    """Number of processes that work on this run."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def rank() -> int:
    """Number of this process, 0 … size - 1. Process 0 writes files."""
    return distributed.get_rank() if size() > 1 else 0


@contextlib.contextmanager
def process_group():
    """Join the processes that torchrun has started; in a process that it did not start, do nothing.

    Yields:
        torch device of this process: its GPU (NCCL), or the CPU where there is none (gloo).
    """
    device = default_device()
    if "TORCHELASTIC_RUN_ID" not in os.environ or distributed.is_initialized():
        yield device
        return
    if device.type == "mps":
        raise InputError(
            "several processes on an Apple GPU: expected one; start it without torchrun"
        )
    cuda = device.type == "cuda"
    if cuda:
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InputError(
                f"process {local} finds {torch.cuda.device_count()} GPUs; start as many processes as there are"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        yield torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    finally:
        distributed.destroy_process_group()


def launch(arguments: list[str], gpus: list[int]) -> int:
    """Run `python -m ipr_lib ARGUMENTS` by torchrun, one process a GPU.

    Args:
        arguments: of `python -m ipr_lib`.
        gpus: as CUDA counts them.
    Returns:
        the exit code.
    Raises:
        InputError: this machine has no such GPU.
    """
    there = torch.cuda.device_count()
    missing = [gpu for gpu in gpus if gpu not in range(there)]
    if missing:
        raise InputError(
            f"--gpus: no GPU {', '.join(map(str, missing))}; this machine has {there or 'none'}"
        )
    chosen = [str(gpu) for gpu in gpus]
    if os.environ.get("CUDA_VISIBLE_DEVICES"):  # where some are hidden, numbers count the others
        visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        chosen = [visible[gpu] for gpu in gpus]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}"]
    command = [sys.executable, *torchrun, "-m", "--", "ipr_lib", *arguments]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}
    return subprocess.run(command, env=environment).returncode


@contextlib.contextmanager
def rank0_first():
    """The block runs in process 0, then in the others: what it writes they find."""
    if rank() > 0:
        distributed.barrier()
    try:
        yield
    finally:
        # After an error, too: else the others would wait for ever. They meet the same error.
        if rank() == 0 and size() > 1:
            distributed.barrier()


@contextlib.contextmanager
def writing_run(run_dir: Path):
    """Keep other trainings from writing the same run while the block runs, see `files.writing`.

    Process 0 holds the lock, and the others wait until it has it.
    """
    with contextlib.ExitStack() as stack:
        with rank0_first():
            if rank() == 0:
                stack.enter_context(writing(run_dir))
        yield


def sharded(keys: Iterable) -> Iterator:
    """Keys (epoch, step, items, shard) for this process, out of those of a whole run.

    Shard (rank, size) lets `CropDataset` make rows rank, rank + size, … of the batch, augmented as
    in the whole. A mixed batch holds its sources one after the other, so each process gets its
    share of all.
    """
    for key in keys:
        yield *key, (rank(), size())


def share_of(keys: Iterable) -> list:
    """Every size-th key for this process:
    whole batches, so that each is worked through as in a single process.
    """
    return list(keys)[rank() :: size()]


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over all processes; the tensor itself in a single one."""
    if size() == 1:
        return tensor
    tensor = tensor.clone()
    distributed.all_reduce(tensor)
    return tensor


def all_gather_rows(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The rows of all processes, in every process.

    Args:
        rows: dicts of arrays, "items" among them, one row an item; a process may hold none.
    Returns:
        The arrays, joined and in the order of "items".
    """
    parts = rows
    if size() > 1:
        of_all = [None] * size()
        distributed.all_gather_object(of_all, rows)
        parts = sum(of_all, [])
    order = np.argsort(np.concatenate([part["items"] for part in parts]), kind="stable")
    joined = {}
    for name in parts[0]:
        joined[name] = np.concatenate([part[name] for part in parts])[order]
    return joined


def broadcast_buffers(network: nn.Module):
    """Give every process the first one's buffers:
    since the last step each has running statistics of its own rows.
    """
    if size() > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)


def wrap(network: nn.Module, sync_batch_norm: bool = False) -> nn.Module:
    """The network as DistributedDataParallel in a process group, else as it is.

    Args:
        network: on its device. Its parameters are those of the result.
        sync_batch_norm: normalise by the statistics of the whole batch; layers of `network` are
            replaced in place.
    Returns:
        module with the same forward.
    Raises:
        InputError: sync_batch_norm without GPUs.
    """
    if size() == 1:
        return network
    device = next(network.parameters()).device
    if sync_batch_norm:
        if device.type != "cuda":
            raise InputError(
                "sync_batch_norm=True between processes on CPUs: expected GPUs, which torch.nn.SyncBatchNorm needs; "
                "train with sync_batch_norm=False"
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
