"""A whole training on one page: learning rate, optimizers, step, gradients, loop.

Taught in notebooks/09_training.ipynb.

The loop knows no Config and no metric: all choices are plain arguments, and a validation is a
function handed in.
"""

import contextlib
import copy
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..data.datasets import BatchKeys, CropDataset, batches, lost_workers, normalise, prefetched
from ..files import InputError
from ..integral import Loss, Method
from ..progress import progress, work_seconds
from . import distributed
from .precision import autocast, uses_tf32
from .records import (
    BEST,
    CHECKPOINT,
    StepMeter,
    TrainingLog,
    resume,
    save_checkpoint,
    stop_if_not_finite,
)

SECONDS_BETWEEN_CHECKPOINTS = 60
STEPS_BETWEEN_AGREEMENTS = 10  # of the processes of a group, whether one of them was told to stop
USED = ("crops", "colour", "joints", "weights")  # what a step uses of a batch
LOG_ROWS = 400  # of a whole training, at most; each makes the computer wait for the device


@dataclass(frozen=True)
class Schedule:
    """How many steps a training has, and the learning rate of each; steps count from 0.

    Attributes:
        learning_rate: the highest one.
        epochs, steps_per_epoch: the training's length.
        kind: "steps", a tenth of the rate from each epoch of `drops` on; "cosine", half a cosine
            down to zero.
        drops: epochs, for "steps".
        warmup_steps: the rate climbs in a straight line so long.
    """

    learning_rate: float
    epochs: int
    steps_per_epoch: int
    kind: str = "steps"
    drops: tuple[int, ...] = ()
    warmup_steps: int = 0

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.kind == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        else:
            epoch = step // self.steps_per_epoch
            factor = 0.1 ** sum(epoch >= drop for drop in self.drops)
        return self.learning_rate * warmup * factor


# --- what moves the weights ---


class Muon(torch.optim.Optimizer):
    """Momentum, each kernel's step made orthogonal:
    all directions of a layer move alike, the rare ones too.

    Jordan 2024 (kellerjordan.github.io/posts/muon); the step is scaled as Liu et al. 2025 (arXiv
    2502.16982) do, so that AdamW's learning rate fits. torch.optim.Muon takes matrices alone, and
    rounds to bfloat16, which processors without it emulate many times slower; here kernels (out,
    in, h, w) count as matrices (out, in * h * w), in float32.
    """

    def __init__(
        self,
        kernels: list[torch.Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        """
        Args:
            kernels: parameters of two or more axes.
            lr: learning rate.
            momentum: of the gradient, Nesterov's form.
            weight_decay: decoupled, as AdamW's.
        """
        super().__init__(kernels, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            rate, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
            for kernel in group["params"]:
                state = self.state[kernel]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(kernel)
                average = state["momentum_buffer"].lerp_(kernel.grad, 1 - momentum)
                gradient = kernel.grad.lerp(average, momentum)
                update = orthogonal(gradient.flatten(1).float())
                length = rate * 0.2 * max(update.shape) ** 0.5
                kernel.mul_(1 - rate * decay).sub_(length * update.view_as(kernel))


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearly the nearest orthogonal matrix:
    singular vectors kept, singular values brought to about 0.7 … 1.2.

    Newton-Schulz iteration with Jordan's coefficients, which trade exactness for few steps. Each
    step is a polynomial of the small square matrix X X'. The polynomials commute, so their product
    is applied to X once, which halves the time.

    Args:
        matrix: (rows, columns).
        steps: of the iteration.
    Returns:
        (rows, columns).
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonal(matrix.T, steps).T
    X = matrix / matrix.norm().clamp(min=1e-7)
    gram = X @ X.T
    identity = torch.eye(len(X), dtype=X.dtype, device=X.device)
    product = identity
    for _ in range(steps):
        step = 3.4445 * identity - 4.7750 * gram + 2.0315 * gram @ gram
        product = step @ product
        gram = step @ gram @ step
    return product @ X


OPTIMIZERS = ("adamw", "muon")


def build_optimizers(
    name: str, network: torch.nn.Module, learning_rate: float, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """Make the optimizers of a network, which share its parameters out among them.

    Args:
        name: one of OPTIMIZERS. "adamw": Adam with decoupled weight decay, for all parameters.
            "muon": `Muon` for the kernels of all convolutions but the first and the network's
            `final` one, AdamW for these and all the rest.
        network: module whose parameters begin with those of its first convolution.
        learning_rate, weight_decay: of all of them.
    Returns:
        [AdamW] or [Muon, AdamW].
    """
    first = next(network.parameters())
    kernels, others = [], []
    for key, parameter in network.named_parameters():
        hidden = parameter.ndim == 4 and parameter is not first and not key.startswith("final.")
        if name == "muon" and hidden:
            kernels.append(parameter)
        else:
            others.append(parameter)
    adamw = torch.optim.AdamW(others, learning_rate, weight_decay=weight_decay, fused=True)
    if name == "adamw":
        return [adamw]
    return [Muon(kernels, learning_rate, weight_decay=weight_decay), adamw]


# --- the step and the loop ---


class MicroBatches:
    """Fills `.grad` with the gradients of a batch that is worked through in equal parts.

    Part i takes rows i, i + parts, …: a mixed batch holds its sources one after the other, and each
    part should see all of them. Batch normalisation sees one part at a time; the loss is that of
    the whole batch, every known coordinate, or joint, counting the same. On a CPU the parts run
    side by side in threads, each with its share of the cores. That stays because it pays: a step of
    profile laptop takes 63 ms instead of 141 (bfloat16), and 106 ms instead of 167 (float32, AVX2),
    on two idle cores. On a GPU the parts run one after the other, which saves memory. Either way
    the gradients follow from the batch and the count of parts alone, and where the processes of a
    group hold rows i, i + processes, … of a batch, they and their parts give the gradients of that
    many parts of the whole. `close` ends the threads:

        with contextlib.closing(MicroBatches(network, parts=2)) as micro_batches:
            loss = micro_batches.backward(batch, loss_of)
    """

    def __init__(self, network: nn.Module, parts: int, threads: bool = True):
        """
        Args:
            network: module, or a DistributedDataParallel of it. Its running statistics are those of
                the first part in threads, of all parts in turn otherwise.
            parts: how many; the batch size must be a multiple of it.
            threads: False works one part after the other on a CPU, too.
        """
        self.network, self.parts = network, parts
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.cores = torch.get_num_threads()
        self.pool = None
        if threads and parts > 1 and self.parameters[0].device.type == "cpu":
            # Copies share the parameters and keep running statistics of their own, so that no
            # thread waits for another.
            shared = {id(parameter): parameter for parameter in network.parameters()}
            copies = [copy.deepcopy(network, dict(shared)) for _ in range(parts - 1)]
            self.networks = [network, *copies]
            cores_each = max(1, self.cores // parts)
            self.pool = ThreadPoolExecutor(parts, None, torch.set_num_threads, (cores_each,))

    def close(self):
        """End the threads and give the cores back."""
        if self.pool is not None:
            self.pool.shutdown()
            torch.set_num_threads(self.cores)

    def backward(
        self, batch: dict[str, torch.Tensor], loss_of: Callable, counts: Callable | None = None
    ) -> torch.Tensor:
        """Set the gradients of the network's parameters.

        Args:
            batch: dict of tensors with B rows each, "weights" among them; in a process group, this
                process' rows.
            loss_of: (network, part of the batch) -> scalar, a mean over the part weighted by
                counts(part["weights"]).
            counts: weights -> the weights that the mean divides by; by default they are these
                themselves.
        Returns:
            scalar: the loss of the whole batch, detached; in a process group, what these rows add
                to it.
        """
        parts, sums = [], []
        for first in range(self.parts):
            part = {name: tensor[first :: self.parts] for name, tensor in batch.items()}
            weights = part["weights"] if counts is None else counts(part["weights"])
            parts.append(part)
            sums.append(weights.sum())
        # Each part's share of the whole batch's weights: a mean is the parts' weighted mean.
        total = distributed.all_reduce_sum(sum(sums))
        total = total.clamp(min=torch.finfo(total.dtype).tiny)
        shares = [part_sum / total for part_sum in sums]

        def gradients(network, part, share):
            loss = loss_of(network, part) * share
            return loss.detach(), torch.autograd.grad(loss, self.parameters)

        if self.pool is not None:
            results = list(self.pool.map(gradients, self.networks, parts, shares))
            for i, parameter in enumerate(self.parameters):
                parameter.grad = sum(of_part[i] for _, of_part in results)
            return sum(loss for loss, _ in results)

        self.network.zero_grad()
        whole = 0.0
        for part, share in zip(parts, shares):
            loss = loss_of(self.network, part) * share
            # DistributedDataParallel divides the sum of gradients by the number of processes.
            (loss * distributed.size()).backward()
            whole = whole + loss.detach()
        return whole


def training_step(
    micro_batches: MicroBatches,
    batch: dict[str, torch.Tensor],
    loss_function: Loss,
    optimizers: list[torch.optim.Optimizer],
    crop_px: int,
    depth_mm: float,
    number_format: str = "float32",
    clip_gradient: float = 0.0,
) -> torch.Tensor:
    """One step, as notebook 09 writes it: crops in, gradients out, weights moved.

    Args:
        micro_batches: MicroBatches of the network.
        batch: dict of tensors on the network's device, see `datasets.CropDataset`.
        loss_function: of a Method.
        optimizers: of the network's parameters; their learning rate is set.
        crop_px, depth_mm: side of the crops, px, and depth range of the volume, mm.
        number_format: one of precision.PRECISIONS, for the network; the loss is always float32.
        clip_gradient: largest norm of all gradients together; 0 leaves them as they are.
    Returns:
        scalar on the device: the loss of the batch; in a process group, what this process' rows add
        to it.
    """

    def loss_of(network, part):
        images = normalise(part["crops"], part["colour"])  # (B, 3, S, S)
        with autocast(number_format, images.device):
            output = network(images)  # (B, J, D, H, W), or (B, J, 3) of a direct network
        return loss_function(output, part["joints"], part["weights"], crop_px, depth_mm)

    loss = micro_batches.backward(batch, loss_of, loss_function.counts)
    if clip_gradient:
        torch.nn.utils.clip_grad_norm_(micro_batches.parameters, clip_gradient)
    for optimizer in optimizers:
        optimizer.step()
    return loss


def train(
    network: nn.Module,
    dataset: CropDataset,
    keys: BatchKeys,
    method: Method,
    schedule: Schedule,
    new_optimizers: Callable,
    run_dir: Path,
    *,
    record: dict,
    validate: Callable | None,
    number_format: str,
    micro_batches: int,
    clip_gradient: float,
    sync_batch_norm: bool,
    compiled: bool,
    workers: int,
    keep_checkpoints: int,
) -> nn.Module:
    """Train a network, or go on where an interrupted run stopped.

    On one machine and CPU, a resumed run ends with the very weights of an undisturbed one: batches
    and augmentation follow from (seed, epoch, step) alone. Inside `distributed.process_group`,
    several processes train one network on the batches that one process would see.

    Args:
        network: on its device; trained in place.
        dataset: what batches are made of, augmentation included.
        keys: of its batches, see `datasets.training_keys`.
        method: its loss may change from one stage of the training to the next.
        schedule: steps and learning rates.
        new_optimizers: function from the network to the optimizers of its parameters.
        run_dir: folder for `checkpoint.pt` and `training.jsonl`, a line a row: step, epoch, loss,
            learning_rate, images_per_second, data_wait (share of the time spent waiting for
            batches), memory_mb, minutes_left, tf32 (see `precision.uses_tf32`).
        record: dict that each checkpoint keeps, such as the config and the commit.
        validate: function from the network in eval mode to its MPJPE, mm, called after each epoch.
            The log then has validation_mpjpe, and `best.pt` is kept.
        number_format, clip_gradient: see `training_step`.
        micro_batches: parts that a batch is worked through in, see `MicroBatches`.
        sync_batch_norm: in a process group, normalise by the statistics of the whole batch.
        compiled: run the network by torch.compile.
        workers: processes that make batches for a GPU.
        keep_checkpoints: the last how many.
    Returns:
        the network, in eval mode.
    Raises:
        InputError: the checkpoint in `run_dir` does not fit; the batch cannot be divided among
            processes and parts; the loss or the weights stopped being finite; processes do not
            share the folder.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the step was finished, and a checkpoint written.
    """
    run_dir, device = Path(run_dir), next(network.parameters()).device
    optimizers = new_optimizers(network)
    state = resume(run_dir / CHECKPOINT, network, optimizers, schedule.steps)
    if state["step"] == schedule.steps:
        return network.eval()
    state |= record
    keys.start = state["step"]
    parts = max(1, micro_batches // distributed.size())
    if keys.batch_size % (parts * distributed.size()):
        raise InputError(
            f"batch_size={keys.batch_size}: expected a multiple of {distributed.size()} processes times {parts} parts"
        )

    # All batches have one shape: let the first one find the fastest convolutions of a GPU.
    torch.backends.cudnn.benchmark = True
    network.train()
    parallel = distributed.wrap(network, sync_batch_norm)
    if compiled:
        parallel = torch.compile(parallel)
    threads = distributed.size() == 1 and not compiled
    is_first = distributed.rank() == 0
    log = TrainingLog(run_dir, state["log"], writes=is_first)
    meter = StepMeter(schedule, keys.batch_size, state["seconds"])
    # This process' batches are made ahead: for a GPU by processes; on a CPU, whose cores the network
    # needs, by a thread.
    sharded = distributed.sharded(keys)
    if device.type == "cuda":
        loader = batches(dataset, sharded, workers)
    else:
        loader = prefetched(batches(dataset, sharded))
    bar = progress(
        meter.timed(loader),
        initial=keys.start,
        total=schedule.steps,
        desc="training",
        unit="step",
        show=is_first,
        smoothing=0.02,
        leave=None,  # below another bar, such as a comparison's, it goes when it is done
    )
    steps_per_row = max(1, schedule.steps // LOG_ROWS)
    saved = work_seconds()
    with (
        contextlib.closing(MicroBatches(parallel, parts, threads)) as micro_batches,
        noted_signals() as signals,
        lost_workers(),
    ):
        for step, batch in enumerate(bar, start=keys.start):
            loss_function = method.loss(step / schedule.steps)
            if step > 0 and loss_function is not method.loss((step - 1) / schedule.steps):
                # Adam's memory of another loss' gradients, a thousand times as large, would stop it
                # for as many steps.
                optimizers = new_optimizers(network)
            set_learning_rate(optimizers, schedule.rate(step))
            network.train()  # a validation leaves it in eval mode
            loss = training_step(
                micro_batches,
                {name: batch[name].to(device, non_blocking=True) for name in USED},
                loss_function,
                optimizers,
                dataset.crop_px,
                dataset.depth_mm,
                number_format,
                clip_gradient,
            )
            meter.losses.append(loss)

            done = step + 1
            validates = validate is not None and done % schedule.steps_per_epoch == 0
            stops = stop_is_due(signals, done, device)
            is_last = done == schedule.steps
            if not (validates or stops or is_last or done % steps_per_row == 0):
                continue
            losses, row = meter.row(done)
            row["tf32"] = uses_tf32(number_format, device)
            stop_if_not_finite(
                losses, network, done, dataset.store, keys, schedule, clip_gradient, run_dir
            )
            if validate is not None:
                row["validation_mpjpe"] = None
            if validates:
                distributed.broadcast_buffers(network)
                row["validation_mpjpe"] = validate(network.eval())  # the same in every process
            log.write(row)
            state["log"].append(row)
            state["step"], state["seconds"] = done, meter.seconds
            bar.set_postfix(
                refresh=False,  # a log would get a line for each row
                loss=f"{row['loss']:.4f}",
                images_per_second=f"{row['images_per_second']:.0f}",
                data_wait=f"{row['data_wait']:.0%}",
                memory=f"{row['memory_mb'] or 0} MB",
            )
            if validates and row["validation_mpjpe"] < state["best"]:
                state["best"] = row["validation_mpjpe"]
                if is_first:
                    save_checkpoint(run_dir / BEST, network, optimizers, state)
            due = work_seconds() - saved > SECONDS_BETWEEN_CHECKPOINTS
            if is_first and (due or stops or is_last):
                save_checkpoint(run_dir / CHECKPOINT, network, optimizers, state, keep_checkpoints)
                saved = work_seconds()
            if stops:
                if is_first:
                    message = f"stopped after step {done}; {run_dir / CHECKPOINT} was written"
                    print(message, file=sys.stderr, flush=True)
                raise KeyboardInterrupt
    distributed.broadcast_buffers(network)
    return network.eval()


def set_learning_rate(optimizers: list[torch.optim.Optimizer], rate: float):
    """Set the learning rate of all parameters."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Note Ctrl-C and SIGTERM, which a cluster's scheduler sends, instead of stopping amid a step.

    Yields:
        the signals received so far. The second one of a kind stops the process at once.
    """
    received = []
    if threading.current_thread() is not threading.main_thread():  # others may not handle signals
        yield received
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number, frame):
        received.append(number)
        signal.signal(number, handlers[number])

    for number in handlers:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def stop_is_due(signals: list[int], done: int, device: torch.device) -> bool:
    """Whether to stop after `done` steps:
    a signal came, to this process or to another one of its group.
    """
    if distributed.size() == 1:
        return len(signals) > 0
    if done % STEPS_BETWEEN_AGREEMENTS != 0:
        return False
    return bool(distributed.all_reduce_sum(torch.tensor(len(signals), device=device)) > 0)
