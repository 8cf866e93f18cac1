"""Train, evaluate, predict. Taught in notebooks/09_training.ipynb and notebooks/10_evaluation.ipynb."""

import contextlib
import copy
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from . import distributed, precision, results
from .checkpoints import BEST, CHECKPOINT, load_checkpoint, save_checkpoint, set_random_states
from .datasets import BatchKeys, CropDataset, batches, crop_to_camera, normalise, prefetched, training_keys
from .files import InputError, write_json
from .methods import METHODS, decode_expectation
from .methods import decode as decode_output
from .metrics import score
from .microbatches import MicroBatches
from .models import DirectNet, PoseNet, build_trunk
from .optimizers import build_optimizer
from .skeleton import HUMAN36M, SCORED_JOINTS
from .training_log import CSV, TrainingLog, item_names, memory_mb
from .transforms import Augmentation, flip_joints

LOG, NOT_FINITE = CSV, "not_finite.json"
SECONDS_BETWEEN_CHECKPOINTS = 60
LARGEST_RATE = 1e-3  # that is ever advised: from here on even Adam's first steps are large


def default_device():
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_model(cfg):
    """The network that `cfg` describes, its random start drawn from cfg.seed."""
    with torch.random.fork_rng():
        torch.manual_seed(cfg.seed)
        trunk = build_trunk(cfg.trunk, cfg.trunk_width, cfg.pretrained)
        if METHODS[cfg.method].head == "direct":
            return DirectNet(trunk, len(HUMAN36M))
        return PoseNet(trunk, len(HUMAN36M), cfg.depth_bins, cfg.head_width, cfg.deconvolutions)


def blank_model(cfg):
    """The network that `cfg` describes, for weights that come from a file or for counting: no ImageNet weights are fetched."""
    return build_model(dataclasses.replace(cfg, pretrained=False))


def build_augmentation(cfg):
    """The Augmentation that `cfg` describes."""
    return Augmentation(cfg.scale, cfg.rotation, cfg.shift, cfg.flip, cfg.colour, cfg.hue, cfg.contrast, cfg.occlusion)


def decode(volume, crop_px, depth_mm):
    """Volume of logits (B, J, D, H, W) -> joints (B, J, 3) by expectation: x, y in crop px, z in mm. Always float32."""
    return decode_expectation(volume, crop_px, depth_mm)


def learning_rate(cfg, step, steps_per_epoch):
    """Learning rate of global `step` (0-based): a linear warm-up times the schedule of `cfg`."""
    warmup = min(1.0, (step + 1) / (cfg.warmup_steps + 1))
    if cfg.schedule == "cosine":
        factor = 0.5 * (1 + np.cos(np.pi * step / (cfg.epochs * steps_per_epoch)))
    else:
        factor = 0.1 ** sum(step // steps_per_epoch >= epoch for epoch in cfg.lr_drops)
    return float(cfg.learning_rate * warmup * factor)


def train(cfg, store, run_dir, device=None, validation=None):
    """Train the network of `cfg` on `store`, or go on where an interrupted run stopped.

    A finished run is recognised by its checkpoint and costs nothing. On one machine and CPU, a resumed run ends with
    the very weights of an undisturbed one: batches and augmentation follow from (seed, epoch, step) alone. Called by
    several processes inside `distributed.process_group`, it trains one network on the batches that one process would see.

    Args:
        cfg: Config. Its batch_size and learning_rate are those of all processes together.
        store: CropStore of the training subjects, or a StoreMix of it and 2D stores.
        run_dir: folder for `checkpoint.pt` and for `training.csv` and `training.jsonl`: step, epoch, loss, learning_rate,
            images_per_second, data_wait (share of the time spent waiting for batches), memory_mb, minutes_left.
        device: torch device; by default the GPU where there is one.
        validation: CropStore to score after each epoch; the log then has its MPJPE, mm, and `best.pt` is kept. The
            training loss is no such judge: it falls to the end.
    Returns:
        the trained model, in eval mode.
    Raises:
        InputError: the folder holds a checkpoint of another config or architecture; fewer items than a batch; the
            loss or the weights stopped being finite; processes that do not share the folder.
    """
    device = device or default_device()
    run_dir = Path(run_dir)
    dataset = CropDataset(store, cfg.crop_px, cfg.depth_mm, build_augmentation(cfg), cfg.seed)
    keys = training_keys(store, cfg.batch_size, cfg.epochs, cfg.seed)
    if keys.steps == 0:
        raise InputError(f"{store.path} holds {len(store)} items, fewer than one batch of {cfg.batch_size}")
    path = run_dir / CHECKPOINT
    model = blank_model(cfg) if path.exists() else build_model(cfg)
    model = model.to(device, memory_format=precision.memory_format(cfg.precision, device))
    optimizer = build_optimizer(cfg.optimizer, model, cfg.learning_rate, cfg.weight_decay)
    state = {"step": 0, "seconds": 0.0, "log": [], "best": float("inf")}
    if path.exists():
        state |= load_checkpoint(path, cfg, model, optimizer)
        random = state.pop("random", None)
        if random is not None and state["step"] < keys.steps:
            set_random_states(random)
    steps = distributed.summed(torch.tensor(state["step"], device=device)).item()
    if steps != state["step"] * distributed.size():
        raise InputError(
            f"{path} is at step {state['step']} for this process and at another for others; several machines need {run_dir} on "
            "a disk that they share"
        )
    keys.start = state["step"]
    if keys.start < keys.steps:
        Run(cfg, model, optimizer, dataset, keys, state, run_dir, device, validation).go()
    return model.eval()


class Run:
    """The training loop proper and what it leaves in the run's folder; arguments as in `train`."""

    def __init__(self, cfg, model, optimizer, dataset, keys, state, run_dir, device, validation):
        self.cfg, self.model, self.optimizer, self.dataset, self.keys = cfg, model, optimizer, dataset, keys
        self.state, self.run_dir, self.device, self.validation = state, run_dir, device, validation
        self.parts = max(1, cfg.micro_batches // distributed.size())
        if cfg.batch_size % (self.parts * distributed.size()):
            raise InputError(
                f"batch_size={cfg.batch_size}: expected a multiple of {distributed.size()} processes times {self.parts} parts"
            )
        state["commit"] = results.commit()

    def go(self):
        """All steps that are left; state, optimizer and network change in place."""
        cfg, keys = self.cfg, self.keys
        net = distributed.parallel(self.model.train(), cfg.sync_batch_norm)
        if cfg.compile:
            net = torch.compile(net)
        sharded = distributed.ShardedKeys(keys) if distributed.size() > 1 else keys
        # On a CPU the network needs every core: batches come from a thread, not from processes of their own.
        cuda = self.device.type == "cuda"
        loader = batches(self.dataset, sharded, cfg.workers) if cuda else prefetched(batches(self.dataset, sharded))
        waits = []
        first = distributed.rank() == 0
        progress = tqdm(
            _timed(loader, waits), initial=keys.start, total=keys.steps, desc="training", unit="batch",
            disable=None if first else True, smoothing=0.02,
        )
        losses, since, self.saved = [], time.perf_counter(), time.perf_counter()
        log_every = max(1, keys.steps // 400)
        method = METHODS[cfg.method]
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(TrainingLog(self.run_dir, self.state["log"])) if first else None
            threads = distributed.size() == 1 and not cfg.compile
            micro_batches = stack.enter_context(MicroBatches(
                net, self.parts, self._loss, threads, lambda weights: self.loss_now.counts(weights)
            ))
            for step, batch in enumerate(progress, start=keys.start):
                rate = learning_rate(cfg, step, keys.steps_per_epoch)
                self.loss_now = method.loss(step / keys.steps)
                if step and self.loss_now is not method.loss((step - 1) / keys.steps):
                    # Adam's memory of another loss' gradients, a thousand times as large, would stop it for as many steps.
                    self.optimizer = build_optimizer(cfg.optimizer, self.model, cfg.learning_rate, cfg.weight_decay)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                used = ("crops", "colour", "joints", "weights")
                losses.append(micro_batches.backward({n: batch[n].to(self.device, non_blocking=True) for n in used}))
                if cfg.clip_gradient:
                    torch.nn.utils.clip_grad_norm_(micro_batches.parameters, cfg.clip_gradient)
                micro_batches.step(self.optimizer)
                last = step + 1 == keys.steps
                epoch_ends = self.validation is not None and (step + 1) % keys.steps_per_epoch == 0
                if not ((step + 1) % log_every == 0 or last or epoch_ends):
                    continue
                values = distributed.summed(torch.stack(losses))
                value = values.mean().item()  # the only place that waits for the device
                now = time.perf_counter()
                self._check(step, values)
                speed = len(losses) / (now - since)
                row = {
                    "step": step + 1, "epoch": round((step + 1) / keys.steps_per_epoch, 3), "loss": value,
                    "learning_rate": rate, "images_per_second": speed * cfg.batch_size,
                    "data_wait": round(sum(waits) / (now - since), 4), "memory_mb": memory_mb(self.device),
                    "minutes_left": round((keys.steps - step - 1) / speed / 60, 2),
                }
                self.state["step"] = step + 1
                self.state["seconds"] += now - since
                if self.validation is not None:
                    row["validation_mpjpe"] = self._validate() if epoch_ends or last else None
                self.state["log"].append(row)
                progress.set_postfix(loss=f"{value:.4f}", images_per_second=f"{row['images_per_second']:.0f}",
                                     data_wait=f"{row['data_wait']:.0%}", memory=f"{row['memory_mb'] or 0} MB")
                if first:
                    log.write(row)
                    self._save(row, last)
                losses, since = [], time.perf_counter()
                waits.clear()
        distributed.copy_buffers(self.model)

    def _loss(self, net, batch):
        cfg = self.cfg
        with precision.autocast(cfg.precision, self.device):
            output = net(normalise(batch["crops"], batch["colour"]))
        if self.device.type == "cpu":  # where a small volume is summed faster joint by joint
            output = output.contiguous()
        return self.loss_now(output, batch["joints"], batch["weights"], cfg.crop_px, cfg.depth_mm)

    def _validate(self):
        """MPJPE of the validation store, mm; every process gets the same."""
        distributed.copy_buffers(self.model)
        predictions = predict_store(self.model.eval(), self.validation, self.cfg)
        self.model.train()
        return float(evaluate(predictions["pred_cam"], self.validation)["mpjpe"]["frame_mean"])

    def _save(self, row, last):
        """Checkpoints: the best where this is it, the last one at times."""
        score = row.get("validation_mpjpe")
        if score is not None and score < self.state["best"]:
            self.state["best"] = score
            save_checkpoint(self.run_dir / BEST, self.cfg, self.model, self.optimizer, self.state)
        if last or time.perf_counter() - self.saved > SECONDS_BETWEEN_CHECKPOINTS:
            path = self.run_dir / CHECKPOINT
            save_checkpoint(path, self.cfg, self.model, self.optimizer, self.state, self.cfg.keep_checkpoints)
            self.saved = time.perf_counter()

    def _check(self, step, losses):
        """InputError unless all losses since the last log, up to `step`, and the weights after it are finite."""
        bad = (~losses.isfinite()).nonzero()
        sums = torch.stack([parameter.detach().sum() for parameter in self.model.parameters()])
        if len(bad) == 0 and sums.isfinite().all():
            return
        what, at = ("loss is", step - len(losses) + 1 + int(bad[0])) if len(bad) else ("weights are", step)
        keys = copy.copy(self.keys)
        keys.start = at
        epoch, _, items = next(iter(keys))
        rate = learning_rate(self.cfg, at, self.keys.steps_per_epoch)
        if distributed.rank() == 0:
            write_json(self.run_dir / NOT_FINITE, {
                "what": f"the {what} not finite", "step": at, "epoch": int(epoch), "learning_rate": rate,
                "items": items.tolist(), "pictures": item_names(self.dataset.store, items),
            })
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
        start = time.perf_counter()
        item = next(iterator, end)
        if item is end:
            return
        waits.append(time.perf_counter() - start)
        yield item


@torch.no_grad()
def predict(model, crops, cfg, flip_test=False, decoder=None):
    """Joints in a batch of crops.

    Args:
        model: network in eval mode.
        crops: (B, S, S, 3) uint8, on any device.
        cfg: Config; crop_px, depth_mm, precision and method are used.
        flip_test: average with the un-mirrored prediction of the mirrored crop.
        decoder: one of methods.DECODERS; the method's own by default.
    Returns:
        (B, J, 3) float32 array: x, y in crop px, z in mm behind the root.
    """
    device = next(model.parameters()).device

    def once(pixels):
        with precision.autocast(cfg.precision, device):
            output = model(pixels)
        return decode_output(cfg.method, output, cfg.crop_px, cfg.depth_mm, decoder).cpu().numpy()

    pixels = normalise(crops.to(device))
    joints = once(pixels)
    if flip_test:
        joints = (joints + flip_joints(once(pixels.flip(3)), HUMAN36M.flip_order, cfg.crop_px)) / 2
    return joints


def predict_store(model, store, cfg, flip_test=False):
    """Predict every item of a store, with the oracle box, root depth and intrinsics of its labels.

    The processes of a group share the batches out; each gets all predictions, to the bit those of a single process.

    Args:
        model: network in eval mode.
        store: CropStore.
        cfg: Config.
        flip_test: see `predict`.
    Returns:
        dict of arrays: pred_cam, target_cam (N, J, 3) float64 mm; joints_crop (N, J, 3) as predicted; affine (N, 2, 3);
        items (N,).
    """
    dataset = CropDataset(store, cfg.crop_px, cfg.depth_mm)
    keys = distributed.SomeKeys(BatchKeys(len(store), max(cfg.batch_size, 64), shuffle=False))
    parts = []
    for batch in tqdm(batches(dataset, keys), desc="predicting", unit="batch", disable=None, leave=False):
        joints = predict(model, batch["crops"], cfg, flip_test)
        items, affine = batch["items"].numpy(), batch["affine"].numpy()
        target = store.columns["joints_cam"][items].astype(float)
        pred = crop_to_camera(joints, affine, store.cameras(items), target[:, HUMAN36M.root, 2])
        parts.append({"pred_cam": pred, "target_cam": target, "joints_crop": joints, "affine": affine, "items": items})
    return distributed.gathered(parts)


def evaluate(pred_cam, store):
    """Score predictions of a whole store; see `metrics.score`.

    Args:
        pred_cam: (N, J, 3) camera, mm, in the store's order.
        store: CropStore of the test subjects.
    Returns:
        dict of `metrics.score`.
    """
    return score(pred_cam, store.columns["joints_cam"], store.columns["action"], SCORED_JOINTS)


def mean_pose(train_store, test_store):
    """Baseline: the mean root-relative pose of the training set, in camera axes, for every test item.

    Args:
        train_store, test_store: CropStore.
    Returns:
        (N, J, 3) float64 "predictions" for the test store, camera axes, mm, root at 0.
    """
    joints = train_store.columns["joints_cam"].astype(float)
    mean = (joints - joints[:, HUMAN36M.root, None]).mean(0)
    return np.broadcast_to(mean, (len(test_store), *mean.shape))
