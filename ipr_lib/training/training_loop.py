"""The steps of one training, and what they leave in the run's folder. Taught in notebooks/09_training.ipynb."""

import contextlib
import copy
from pathlib import Path

import torch

from ..data.datasets import batches, normalise, prefetched
from ..files import InputError, write_json
from ..integral import METHODS
from ..progress import progress
from ..timing import work_seconds
from . import distributed, precision
from .checkpoints import BEST, CHECKPOINT, save_checkpoint
from .log import TrainingLog, item_names, memory_mb
from .microbatches import MicroBatches
from .optimizers import build_optimizer

NOT_FINITE = "not_finite.json"
SECONDS_BETWEEN_CHECKPOINTS = 60
LOG_ROWS = 400  # of a whole training, at most; each makes the computer wait for the device
LARGEST_RATE = 1e-3  # that is ever advised: from here on even Adam's first steps are large


class TrainingLoop:
    """All steps that a training has left, by `run`; in a process group, those of this process."""

    def __init__(self, cfg, model, optimizer, dataset, keys, state, run_dir, rate, validate=None):
        """
        Args:
            cfg: Config.
            model: network on its device; changed in place, as are optimizer and state.
            optimizer: of its parameters.
            dataset: CropDataset.
            keys: of its batches, see `datasets.training_keys`; they start where this training goes on.
            state: dict with step, seconds, log, best (MPJPE, mm): what a checkpoint says of the steps before.
            run_dir: folder for checkpoints and logs.
            rate: step (0-based) -> learning rate.
            validate: function that gives the MPJPE, mm, that the network has now; called after each epoch.
        Raises:
            InputError: the batch cannot be divided among processes and parts.
        """
        self.cfg, self.model, self.optimizer, self.dataset, self.keys = (
            cfg,
            model,
            optimizer,
            dataset,
            keys,
        )
        self.state, self.run_dir, self.rate, self.validate = state, Path(run_dir), rate, validate
        self.device = next(model.parameters()).device
        self.method = METHODS[cfg.method]
        self.parts = max(1, cfg.micro_batches // distributed.size())
        if cfg.batch_size % (self.parts * distributed.size()):
            raise InputError(
                f"batch_size={cfg.batch_size}: expected a multiple of {distributed.size()} processes times {self.parts} parts"
            )

    def run(self):
        """Take the steps; InputError where loss or weights stop being finite."""
        cfg, keys, first = self.cfg, self.keys, distributed.rank() == 0
        net = distributed.wrap(self.model.train(), cfg.sync_batch_norm)
        if cfg.compile:
            net = torch.compile(net)
        waits, losses, since, self.saved = [], [], work_seconds(), work_seconds()
        bar = progress(
            _timed(self._batches(), waits),
            initial=keys.start,
            total=keys.steps,
            desc="training",
            unit="step",
            show=first,
            smoothing=0.02,
            leave=None,  # below another bar, such as a comparison's, it goes when it is done
        )
        with contextlib.ExitStack() as stack:
            log = (
                stack.enter_context(TrainingLog(self.run_dir, self.state["log"])) if first else None
            )
            threads = distributed.size() == 1 and not cfg.compile
            micro_batches = stack.enter_context(
                MicroBatches(
                    net,
                    self.parts,
                    self._loss,
                    threads,
                    lambda weights: self.loss_now.counts(weights),
                )
            )
            for step, batch in enumerate(bar, start=keys.start):
                losses.append(self._step(step, batch, micro_batches))
                if not self._logs(step):
                    continue
                row = self._row(step, losses, waits, since)
                bar.set_postfix(
                    loss=f"{row['loss']:.4f}",
                    images_per_second=f"{row['images_per_second']:.0f}",
                    data_wait=f"{row['data_wait']:.0%}",
                    memory=f"{row['memory_mb'] or 0} MB",
                )
                if first:
                    log.write(row)
                    self._save(row)
                losses, since = [], work_seconds()
                waits.clear()
        distributed.broadcast_buffers(self.model)

    def _batches(self):
        """This process' batches, made ahead: on a CPU by a thread, for the network needs every core; else by processes."""
        sharded = distributed.ShardedKeys(self.keys) if distributed.size() > 1 else self.keys
        if self.device.type == "cuda":
            return batches(self.dataset, sharded, self.cfg.workers)
        return prefetched(batches(self.dataset, sharded))

    def _step(self, step, batch, micro_batches):
        """One step of the optimizer; returns the loss of this process' rows, on the device."""
        cfg, steps = self.cfg, self.keys.steps
        self.loss_now = self.method.loss(step / steps)
        if step and self.loss_now is not self.method.loss((step - 1) / steps):
            # Adam's memory of another loss' gradients, a thousand times as large, would stop it for as many steps.
            self.optimizer = build_optimizer(
                cfg.optimizer, self.model, cfg.learning_rate, cfg.weight_decay
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        used = ("crops", "colour", "joints", "weights")
        loss = micro_batches.backward(
            {name: batch[name].to(self.device, non_blocking=True) for name in used}
        )
        if cfg.clip_gradient:
            torch.nn.utils.clip_grad_norm_(micro_batches.parameters, cfg.clip_gradient)
        micro_batches.step(self.optimizer)
        return loss

    def _loss(self, net, batch):
        cfg = self.cfg
        with precision.autocast(cfg.precision, self.device):
            output = net(normalise(batch["crops"], batch["colour"]))
        return self.loss_now(output, batch["joints"], batch["weights"], cfg.crop_px, cfg.depth_mm)

    def _is_last(self, step):
        return step + 1 == self.keys.steps

    def _ends_epoch(self, step):
        return (step + 1) % self.keys.steps_per_epoch == 0

    def _logs(self, step):
        """Whether a row is written after `step`."""
        every = max(1, self.keys.steps // LOG_ROWS)
        return (
            (step + 1) % every == 0
            or self._is_last(step)
            or self.validate is not None
            and self._ends_epoch(step)
        )

    def _row(self, step, losses, waits, since):
        """What the log says after `step` of the steps since the last row; brings the state up to date.

        Args:
            step: 0-based.
            losses: scalars on the device, one a step.
            waits: seconds that each batch was waited for.
            since: time of the last row.
        """
        cfg, keys = self.cfg, self.keys
        values = distributed.all_reduce_sum(torch.stack(losses))
        loss = values.mean().item()  # the only place that waits for the device
        now = work_seconds()
        self._check(step, values)
        speed = len(losses) / (now - since)
        row = {
            "step": step + 1,
            "epoch": round((step + 1) / keys.steps_per_epoch, 3),
            "loss": loss,
            "learning_rate": self.rate(step),
            "images_per_second": speed * cfg.batch_size,
            "data_wait": round(sum(waits) / (now - since), 4),
            "memory_mb": memory_mb(self.device),
            "minutes_left": round((keys.steps - step - 1) / speed / 60, 2),
        }
        self.state["step"] = step + 1
        self.state["seconds"] += now - since
        if self.validate is not None:
            row["validation_mpjpe"] = (
                self._validated() if self._ends_epoch(step) or self._is_last(step) else None
            )
        self.state["log"].append(row)
        return row

    def _validated(self):
        """`validate` of the network in eval mode; every process gets the same."""
        distributed.broadcast_buffers(self.model)
        self.model.eval()
        score = self.validate()
        self.model.train()
        return score

    def _save(self, row):
        """Checkpoints: the best where this is it, the last one at times."""
        content = (self.cfg, self.model, self.optimizer, self.state)
        score = row.get("validation_mpjpe")
        if score is not None and score < self.state["best"]:
            self.state["best"] = score
            save_checkpoint(self.run_dir / BEST, *content)
        done = row["step"] == self.keys.steps
        if done or work_seconds() - self.saved > SECONDS_BETWEEN_CHECKPOINTS:
            save_checkpoint(self.run_dir / CHECKPOINT, *content, self.cfg.keep_checkpoints)
            self.saved = work_seconds()

    def _check(self, step, losses):
        """InputError unless all losses since the last log, up to `step`, and the weights after it are finite."""
        bad = (~losses.isfinite()).nonzero()
        sums = torch.stack([parameter.detach().sum() for parameter in self.model.parameters()])
        if len(bad) == 0 and sums.isfinite().all():
            return
        what, at = (
            ("loss is", step - len(losses) + 1 + int(bad[0])) if len(bad) else ("weights are", step)
        )
        keys = copy.copy(self.keys)
        keys.start = at
        epoch, _, items = next(iter(keys))
        if distributed.rank() == 0:
            write_json(
                self.run_dir / NOT_FINITE,
                {
                    "what": f"the {what} not finite",
                    "step": at,
                    "epoch": int(epoch),
                    "learning_rate": self.rate(at),
                    "items": items.tolist(),
                    "pictures": item_names(self.dataset.store, items),
                },
            )
        advice = [f"learning_rate={min(self.cfg.learning_rate / 3, LARGEST_RATE):.1g}"]
        advice += [f"warmup_steps={self.cfg.warmup_steps + 500}"]
        advice += ["clip_gradient=1.0"] if not self.cfg.clip_gradient else []
        raise InputError(
            f"the {what} not finite at step {at}; the last checkpoint is whole, the batch's pictures are named in "
            f"{self.run_dir / NOT_FINITE}. Try {' or '.join(advice)}"
        )


def _timed(loader, waits):
    """The items of `loader`; the seconds that each one takes to come are added to the list `waits`."""
    iterator, end = iter(loader), object()
    while True:
        start = work_seconds()
        item = next(iterator, end)
        if item is end:
            return
        waits.append(work_seconds() - start)
        yield item
