"""What training costs: the plain loop against the library's, same network, same pictures, same machine, in one run.

    python benchmarks/training.py [--profile laptop] [--turns 5] [--steps 30] [--json FILE] [--toy]

All data are made here, in a temporary folder, from the built-in capture. The plain loop is what public code does: worker
processes decode whole 1000 x 1000 JPEGs, cut the crop out and turn it into floats; float32, planes in NCHW order, AdamW
parameter by parameter, a softmax over the flattened volume, the loss read at every step. Ours is what `train_run` runs:
crop store, colour on the device, micro-batches, fused AdamW, on a GPU channels-last and the profile's precision.

Ways take turns; times are of the clock, for both work in several threads, and the machine's load is printed beside them.
"End to end" takes batches from the loader; "network alone" works through one batch again and again. A turn's first batches,
which wait ready from the turn before, are not counted. The tables give medians over turns. Last, ours takes a few steps with
a large batch: does it fit, and how much memory does a picture take beyond weights and the optimizer's state?
"""

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ipr_lib.config import load_config
from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.datasets import MEAN, STD, BatchKeys, CropDataset, batches, prefetched
from ipr_lib.data.store import build_store, open_store
from ipr_lib.files import commit, device_name, write_json
from ipr_lib.geometry.transforms import compose_affine, crop_affine, draw_augmentation
from ipr_lib.integral import integral_loss
from ipr_lib.integral.methods import INTEGRAL
from ipr_lib.run import build_augmentation, build_network, default_device
from ipr_lib.studio import write_capture
from ipr_lib.training.loop import USED, MicroBatches, build_optimizers, training_step
from ipr_lib.training.precision import memory_format, resolved

READY = 8  # batches that may wait ready when a turn begins: not counted
STEP = 5


class PlainDataset(Dataset):
    """One item at a time out of whole pictures: floats and targets, as public code makes them."""

    def __init__(self, root, store_path, cfg):
        store = open_store(store_path)
        self.columns = {name: np.array(store.columns[name]) for name in store.columns}
        self.dataset = CropDataset(
            store, cfg.crop_px, cfg.depth_mm
        )  # its targets; they cost next to nothing
        self.crop_px, self.augmentation = cfg.crop_px, build_augmentation(cfg)
        self.paths = [str(layout.item_path(root, self.columns, item)) for item in range(len(store))]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        cv2.setNumThreads(0)
        draw = draw_augmentation(self.augmentation, np.random.default_rng(), 1)
        colour = draw.pop("colour")[0]
        affine = crop_affine(self.columns["box"][i : i + 1], self.crop_px, **draw)
        joints, weights = self.dataset.targets(np.array([i]), affine, draw["scale"], draw["flip"])
        picture = cv2.imread(self.paths[i], cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION).copy()
        affine = affine[0]
        if draw["flip"][0]:
            picture = picture[:, ::-1, :]
            affine = compose_affine(
                affine, np.array([[-1, 0, picture.shape[1] - 1], [0, 1, 0]], float)
            )
        crop = cv2.warpAffine(
            picture, affine, (self.crop_px, self.crop_px), flags=cv2.INTER_LINEAR
        )[:, :, ::-1]
        pixels = np.transpose(crop, (2, 0, 1)).astype(np.float32)
        pixels = np.tensordot(colour[:, :3], pixels, 1) + 255 * colour[:, 3, None, None]
        for channel in range(3):
            pixels[channel] = (np.clip(pixels[channel], 0, 255) / 255 - MEAN[channel]) / STD[
                channel
            ]
        return pixels.astype(np.float32), joints[0], weights[0]


def plain_soft_argmax(volume):
    """(B, J, D, H, W) -> (B, J, 3) cells: a softmax over the flattened volume, then sums along each axis."""
    B, J, D, H, W = volume.shape
    prob = torch.softmax(volume.reshape(B, J, -1), dim=2).reshape(B, J, D, H, W)
    axes = (prob.sum(dim=(2, 3)), prob.sum(dim=(2, 4)), prob.sum(dim=(3, 4)))
    return torch.stack(
        [(axis * torch.arange(axis.shape[2], device=axis.device)).sum(2) for axis in axes], dim=2
    )


class Plain:
    """The plain loop's network, step and loader."""

    def __init__(self, cfg, root, store, device, workers):
        self.cfg, self.device = cfg, device
        self.model = build_network(cfg).to(device).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=cfg.learning_rate, foreach=False, fused=False
        )
        dataset = PlainDataset(root, store.path, cfg)
        self.loader = DataLoader(
            dataset,
            cfg.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            multiprocessing_context="spawn" if workers else None,
        )

    def batches(self):
        while True:
            yield from self.loader

    def step(self, batch):
        pixels, target, weights = (tensor.to(self.device) for tensor in batch)
        volume = self.model(pixels)
        D, H, W = volume.shape[2:]
        cells = plain_soft_argmax(volume)
        size = torch.tensor([W, H, D], device=self.device)
        extent = torch.tensor(
            [self.cfg.crop_px, self.cfg.crop_px, self.cfg.depth_mm], device=self.device
        )
        middle = torch.tensor(
            [0.5, 0.5, 0.0], device=self.device
        )  # pixel centres; depth about the root
        joints = (
            (cells + 0.5) / size - torch.tensor([0.0, 0.0, 0.5], device=self.device)
        ) * extent - middle
        loss = integral_loss(joints, target, weights, extent.tolist())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def close(self):
        self.loader = None


class Ours:
    """The parts of `train_run`."""

    def __init__(self, cfg, store, device, workers):
        self.cfg, self.device = cfg, device
        cuda = device.type == "cuda"
        self.model = (
            build_network(cfg)
            .to(device, memory_format=memory_format(cfg.precision, device))
            .train()
        )
        self.optimizers = build_optimizers("adamw", self.model, cfg.learning_rate)
        self.dataset = CropDataset(store, cfg.crop_px, cfg.depth_mm, build_augmentation(cfg))
        keys = BatchKeys(len(store), cfg.batch_size, epochs=100_000)
        self.loader = (
            batches(self.dataset, keys, workers)
            if cuda
            else prefetched(batches(self.dataset, keys))
        )
        self.micro_batches = MicroBatches(self.model, cfg.micro_batches)

    def batches(self):
        return iter(self.loader)

    def step(self, batch):
        return training_step(
            self.micro_batches,
            {name: batch[name].to(self.device, non_blocking=True) for name in USED},
            INTEGRAL,
            self.optimizers,
            self.cfg.crop_px,
            self.cfg.depth_mm,
            self.cfg.precision,
        )

    def close(self):
        self.loader = None
        self.micro_batches.close()


def turn(way, source, steps):
    """Over `steps` steps: images a second, the share of the time spent waiting for batches, MB of GPU memory an image."""
    for _ in range(READY):
        way.step(next(source))
    _wait(way.device)
    memory = StepMemory(way.device)
    start, waited = time.perf_counter(), 0.0
    for _ in range(steps):
        before = time.perf_counter()
        batch = next(source)
        waited += time.perf_counter() - before
        way.step(batch)
    _wait(way.device)
    seconds = time.perf_counter() - start
    return steps * way.cfg.batch_size / seconds, waited / seconds, memory.mb() / way.cfg.batch_size


class StepMemory:
    """The largest GPU memory in use from now on, beyond what is held now; not a number on a CPU."""

    def __init__(self, device):
        self.device, self.held = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.held = torch.cuda.memory_allocated(device)

    def mb(self):
        return (
            (torch.cuda.max_memory_allocated(self.device) - self.held) / 1e6
            if self.device.type == "cuda"
            else float("nan")
        )


def large_batch(cfg, store, device, size, steps=3):
    """A few steps of ours with a batch of `size` pictures, some of them alike where the store holds fewer.

    Returns:
        dict: batch, fits, and where it does images_per_second, network alone, and mb_per_image (None on a CPU).
    """
    way = Ours(dataclasses.replace(cfg, batch_size=size), store, device, workers=0)
    batch = way.dataset[0, 0, np.arange(size) % len(store)]
    try:
        way.step(batch)  # makes the optimizer's state
        _wait(device)
        memory, start = StepMemory(device), time.perf_counter()
        for _ in range(steps):
            way.step(batch)
        _wait(device)
        speed = steps * size / (time.perf_counter() - start)
        return {
            "batch": size,
            "fits": True,
            "images_per_second": speed,
            "mb_per_image": _number(memory.mb() / size),
        }
    except torch.OutOfMemoryError:
        return {"batch": size, "fits": False}
    finally:
        way.close()


def _number(value):
    """A float for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeated(batch):
    while True:
        yield batch


def matrix_rate(device, precision):
    """Operations a second in a large matrix product, the best of five."""
    cuda = device.type == "cuda"
    n, dtype = 8192 if cuda else 1024, getattr(torch, resolved(precision, device))
    a, seconds = torch.randn(n, n, device=device, dtype=dtype), []
    for _ in range(6):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds[1:])


def step_flops(cfg):
    """Floating-point operations of the network, forward and backward, for one crop."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_network(cfg)(torch.zeros(1, 3, cfg.crop_px, cfg.crop_px)).sum().backward()
    return counter.get_total_flops()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--profile", default="laptop", help="whose network, batch and precision: laptop, gpu"
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30, help="a turn")
    parser.add_argument(
        "--frames",
        type=int,
        default=161,
        help="poses a take; every 5th becomes a picture of 4 cameras",
    )
    parser.add_argument(
        "--large", type=int, default=256, metavar="N", help="the large batch that is tried last"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument(
        "--toy", action="store_true", help="a few of everything, to see that it runs"
    )
    options = parser.parse_args()
    profile, actions, cameras = options.profile, (2, 9, 13), layout.CAMERAS
    if options.toy:
        profile, actions, cameras = "smoke", (2,), layout.CAMERAS[:2]
        options.turns, options.steps, options.frames, options.large = 2, 2, 41, 48
    cfg = load_config(profile, optimizer="adamw", pretrained=False)
    device = default_device()
    result = {"profile": profile, "device": device_name(device), "commit": commit(), "ways": {}}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "capture")
        write_capture(
            root,
            subjects=(1,),
            actions=actions,
            takes=(1,),
            cameras=cameras,
            n_frames=options.frames,
            train_step=STEP,
            test_step=STEP,
            workers=cfg.workers,
        )
        store = build_store(
            root,
            Path(scratch, "train"),
            subjects=(1,),
            step=STEP,
            crop_px=cfg.crop_px,
            workers=cfg.workers,
        )
        ways = {
            "plain": Plain(cfg, root, store, device, cfg.workers),
            "ours": Ours(cfg, store, device, cfg.workers),
        }
        sources = {name: way.batches() for name, way in ways.items()}
        alone = {name: repeated(next(source)) for name, source in sources.items()}
        rates = {(name, kind): [] for name in ways for kind in ("end to end", "network alone")}
        for number in range(options.turns + 1):
            for name, way in ways.items():
                for kind, source in (("end to end", sources[name]), ("network alone", alone[name])):
                    measured = turn(way, source, options.steps)
                    if number:  # the first is for warming up
                        rates[name, kind].append(measured)
        for name, way in ways.items():
            whole, network = (
                np.array(rates[name, kind]) for kind in ("end to end", "network alone")
            )
            result["ways"][name] = {
                "images_per_second": float(np.median(whole[:, 0])),
                "data_wait": float(np.median(whole[:, 1])),
                "network_alone": float(np.median(network[:, 0])),
                "mb_per_image": _number(np.median(network[:, 2])),
                "lowest": float(whole[:, 0].min()),
                "highest": float(whole[:, 0].max()),
            }
            way.close()
        del sources, alone, ways, way
        result["large_batch"] = large = large_batch(cfg, store, device, options.large)
    ours, plain = result["ways"]["ours"], result["ways"]["plain"]
    rate, flops = matrix_rate(device, cfg.precision), step_flops(cfg)
    result |= {
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cores": os.cpu_count(),
        "gflop_per_image": flops / 1e9,
        "matrix_gflops": rate / 1e9,
        "share_of_matrix_rate": ours["network_alone"] * flops / rate,
        "headline": {"ours_over_plain": ours["images_per_second"] / plain["images_per_second"]},
    }
    print(
        f"{result['device']}; load {result['load']:.1f} on {result['cores']} cores"
        if result["load"] is not None
        else result["device"]
    )
    print(
        f"profile {profile}: {cfg.backbone}, {cfg.crop_px} px, volume {cfg.volume_shape}, batches of {cfg.batch_size}; "
        f"medians of {options.turns} turns of {options.steps} steps"
    )
    print(
        f"\n| {'':32} | {'ours':>8} | {'plain':>8} | ratio |\n| {'-' * 32} | -------: | -------: | ----: |"
    )
    for label, name in (
        ("end to end, images/s", "images_per_second"),
        ("network alone, images/s", "network_alone"),
    ):
        print(
            f"| {label:32} | {ours[name]:8.1f} | {plain[name]:8.1f} | {ours[name] / plain[name]:5.1f} |"
        )
    print(
        f"| {'share of time waiting for data':32} | {ours['data_wait']:8.1%} | {plain['data_wait']:8.1%} | {'':5} |"
    )
    for label, way in (("ours", ours), ("plain", plain)):
        print(
            f"\n{label}: between {way['lowest']:.1f} and {way['highest']:.1f} images/s from turn to turn",
            end="",
        )
    print(
        f"\n{result['gflop_per_image']:.2f} GFLOP an image, forward and backward; ours, network alone, runs at "
        f"{result['share_of_matrix_rate']:.0%} of a large matrix product's {result['matrix_gflops']:.0f} GFLOP/s"
    )
    if device.type == "cuda":
        print(
            f"GPU memory of a step, beyond weights and optimizer: ours {ours['mb_per_image']:.0f} MB an image, "
            f"plain {plain['mb_per_image']:.0f} MB"
        )
    memory = f", {large['mb_per_image']:.0f} MB an image" if large.get("mb_per_image") else ""
    print(
        f"a batch of {large['batch']}: "
        + (
            f"{large['images_per_second']:.1f} images/s, network alone{memory}"
            if large["fits"]
            else "does not fit into memory"
        )
    )
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
