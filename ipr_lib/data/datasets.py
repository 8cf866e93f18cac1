"""Crop store -> batches. Taught in notebooks/04_crops_and_augmentation.ipynb and notebooks/09_training.ipynb.

What a batch holds follows from (seed, epoch, step) alone, so the number of workers changes nothing and a resumed run
meets the very batches it would have met.
"""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..geometry.occlusion import draw_occluders, occlude
from ..geometry.skeleton import HUMAN36M
from ..geometry.transforms import (
    apply_affine,
    compose_affine,
    crop_affine,
    draw_augmentation,
    invert_affine,
    warp_small,
)
from .mixing import MixedKeys, StoreMix


class CropDataset(Dataset):
    """Batches of crops and joints out of a crop store.

    Indexed with a key (epoch, step, items) it returns a whole batch, a dict of tensors; with (epoch, step, items, (i, n))
    rows i, i + n, … of that batch:
        crops (B, S, S, 3) uint8 RGB;
        joints (B, J, 3) float32: x, y in crop px, z in mm behind the root times the zoom;
        weights (B, J, 3) float32: 1 where the coordinate is known and inside the volume, else 0;
        colour (B, 3, 4) float32 affine maps of RGB, to be applied by `normalise`;
        affine (B, 2, 3) float64, picture px -> crop px; items (B,) int64.
    """

    def __init__(self, store, crop_px, depth_mm, augmentation=None, seed=0):
        """
        Args:
            store: CropStore or StoreMix; joints of another joint set are brought to HUMAN36M by name.
            crop_px: side of the crops, px.
            depth_mm: depth range of the volume, mm; joints outside get weight 0.
            augmentation: Augmentation, or None for the plain box.
            seed: of the augmentation.
        """
        self.store = store if store.skeleton == HUMAN36M else StoreMix([store])
        self.crop_px, self.depth_mm = crop_px, depth_mm
        self.augmentation, self.seed = augmentation, seed

    def __len__(self):
        return len(self.store)

    def __getitem__(self, key):
        epoch, step, items, (first, stride) = key if len(key) == 4 else (*key, (0, 1))
        occluders = None
        if self.augmentation is None:
            draw = {"scale": np.ones(len(items)), "flip": np.zeros(len(items), bool)}
            draw["colour"] = np.repeat(np.eye(3, 4, dtype=np.float32)[None], len(items), axis=0)
        else:
            rng = np.random.default_rng([self.seed, epoch, step])
            draw = draw_augmentation(self.augmentation, rng, len(items))
            if self.augmentation.occlusion:
                occluders = draw_occluders(self.augmentation.occlusion, rng, len(items))
        items, draw = (
            items[first::stride],
            {name: values[first::stride] for name, values in draw.items()},
        )
        columns, colour = self.store.columns, draw.pop("colour")
        box = columns["box"][items]
        affine = crop_affine(box, self.crop_px, **draw)
        cv2.setNumThreads(0)  # the crops are small, the cores belong to the network
        from_stored = compose_affine(affine, invert_affine(columns["affine"][items]))
        crops = np.empty((len(items), self.crop_px, self.crop_px, 3), np.uint8)
        warp_small(map(self.store.picture, items), from_stored, crops)
        if occluders is not None:
            occlude(crops, {name: values[first::stride] for name, values in occluders.items()})
        joints, weights = self.targets(items, affine, draw["scale"], draw["flip"])
        batch = {
            "crops": crops,
            "joints": joints,
            "weights": weights,
            "colour": colour,
            "affine": affine,
        }
        return {name: torch.from_numpy(array) for name, array in batch.items()} | {
            "items": torch.as_tensor(items)
        }

    def targets(self, items, affine, scale, flip):
        """Joints in the crop and their weights; see the class.

        Args:
            items: (B,) indices.
            affine: (B, 2, 3) picture px -> crop px, mirror included.
            scale: (B,) zoom. The whole cube is zoomed, depth with it: a crop shows shape, not size.
            flip: (B,) bool.
        Returns:
            joints, weights: (B, J, 3) float32.
        """
        columns = self.store.columns
        cam = columns["joints_cam"][items]
        depth = cam[..., 2] - cam[:, HUMAN36M.root, None, 2]
        xy = apply_affine(affine, columns["joints_img"][items].astype(float))
        joints = np.concatenate([xy, (depth * scale[:, None])[..., None]], axis=-1)
        visible, has_depth = columns["visible"][items], columns["has_depth"][items]
        # The affine has mirrored x already; what is left is that partners change places.
        joints = np.where(flip[:, None, None], joints[:, HUMAN36M.flip_order], joints)
        visible = np.where(flip[:, None], visible[:, HUMAN36M.flip_order], visible)
        half = np.array([self.crop_px / 2, self.crop_px / 2, self.depth_mm / 2])
        middle = np.array([(self.crop_px - 1) / 2, (self.crop_px - 1) / 2, 0.0])
        weights = (np.abs(joints - middle) <= half) & visible[..., None]
        weights[..., 2] &= has_depth[:, None]
        return joints.astype(np.float32), weights.astype(np.float32)


class BatchKeys(Sampler):
    """Keys (epoch, step, items) of every batch of a run: one loader, and its workers, serve all epochs.

    Args:
        n: number of items.
        batch_size: items a batch.
        epochs: passes over the items.
        seed: of the order.
        start: global step to begin at, epochs counted through.
        shuffle: each epoch in an order of its own, without a short last batch. False gives items in order and keeps a
            short last batch, as evaluation needs.
    """

    def __init__(self, n, batch_size, epochs=1, seed=0, start=0, shuffle=True):
        self.n, self.batch_size, self.seed, self.start, self.shuffle = (
            n,
            batch_size,
            seed,
            start,
            shuffle,
        )
        self.steps_per_epoch = n // batch_size if shuffle else -(-n // batch_size)
        self.steps = epochs * self.steps_per_epoch

    def __len__(self):
        return max(0, self.steps - self.start)

    def __iter__(self):
        epoch, order = None, np.arange(self.n)
        for global_step in range(self.start, self.steps):
            if self.shuffle and epoch != global_step // self.steps_per_epoch:
                epoch = global_step // self.steps_per_epoch
                # 2**32 - 1 keeps the order's stream apart from the augmentations', which use (seed, epoch, step).
                order = np.random.default_rng([self.seed, epoch, 2**32 - 1]).permutation(self.n)
            step = global_step % self.steps_per_epoch
            yield epoch or 0, step, order[step * self.batch_size : (step + 1) * self.batch_size]


def training_keys(store, batch_size, epochs, seed):
    """Shuffled keys for a CropStore, or mixed ones for a StoreMix."""
    if isinstance(store, StoreMix):
        return MixedKeys(
            [len(part) for part in store.stores], batch_size, store.ratio, epochs, seed
        )
    return BatchKeys(len(store), batch_size, epochs, seed)


def batches(dataset, keys, workers=0):
    """DataLoader over whole batches.

    Args:
        dataset: CropDataset.
        keys: BatchKeys.
        workers: number of loading processes.
    """
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
    )


def prefetched(iterable):
    """The items of `iterable`, each made in a thread while its forerunner is in use."""
    iterator, end = iter(iterable), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item


# ImageNet's channel statistics, for crops in 0 … 1: the usual input scaling of torchvision's networks.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tint(crops, colour):
    """uint8 crops -> RGB in 0 … 1, each under its own affine colour map, on the crops' device.

    Args:
        crops: (B, S, S, 3) uint8 RGB.
        colour: (B, 3, 4) maps of RGB in 0 … 1, as `draw_augmentation` draws them.
    Returns:
        (B, 3, S, S) float32, clipped to 0 … 1.
    """
    pixels = _planes(crops)
    return (
        torch.baddbmm(colour[..., 3:], colour[..., :3] / 255, pixels.flatten(2))
        .clamp_(0, 1)
        .view(pixels.shape)
    )


def _planes(crops):
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, each channel in one piece: several times faster to work on."""
    return crops.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def normalise(crops, colour=None):
    """uint8 crops -> network input, on the crops' device; always float32, whatever autocast says.

    The colour map, the clipping to 0 … 1 and the scaling by MEAN and STD are one affine map between two limits.

    Args:
        crops: (B, S, S, 3) uint8 RGB.
        colour: (B, 3, 4) affine colour maps, see `tint`; or None.
    Returns:
        (B, 3, S, S) float32; channels-last in memory on a GPU, as its convolutions like it.
    """
    # non_blocking: with device= instead, every step would wait until the GPU has caught up.
    mean, std = (
        torch.tensor(values).to(crops.device, non_blocking=True)[:, None] for values in (MEAN, STD)
    )
    if colour is None:
        colour = torch.eye(3, 4, device=crops.device).expand(len(crops), 3, 4)
    with torch.autocast(crops.device.type, enabled=False):
        linear, offset = colour[..., :3] / (255 * std), (colour[..., 3:] - mean) / std
        paint = _paint_planes if crops.device.type == "cpu" else _paint_interleaved
        return paint(crops, linear, offset, -mean / std, (1 - mean) / std)


def _paint_planes(crops, linear, offset, lowest, highest):
    """linear @ pixel + offset between limits, contiguous; a crop at a time, through memory that stays in a core's cache."""
    size = crops.shape[1:3]
    painted = torch.empty((len(crops), 3, *size))
    planes = np.empty((3, *size), np.uint8)
    parts = list(planes)  # views cost as much as a tenth of a crop, so they are made once
    mixed = (linear * (1 - torch.eye(3))).flatten(1).any(1).tolist()
    gains = torch.diagonal(linear, dim1=1, dim2=2)[..., None]
    tables = torch.clamp(offset + gains * torch.arange(256.0), lowest, highest).numpy()
    for i, (crop, channels) in enumerate(zip(crops.numpy(), painted.numpy())):
        cv2.split(crop, parts)  # as bytes: several times faster than to part floats
        if mixed[i]:
            paint = painted[i].flatten(1)
            torch.addmm(
                offset[i], linear[i], torch.from_numpy(planes).flatten(1).float(), out=paint
            )
            for channel, low, high in zip(
                paint, lowest.flatten().tolist(), highest.flatten().tolist()
            ):
                channel.clamp_(
                    low, high
                )  # between numbers: with tensors this takes several times longer
        else:  # 256 values in a table
            for part, table, channel in zip(parts, tables[i], channels):
                cv2.LUT(part, table, dst=channel)
    return painted


def _paint_interleaved(crops, linear, offset, lowest, highest):
    """The same, channels-last: no pixel changes its place."""
    painted = torch.baddbmm(offset.mT, crops.flatten(1, 2).to(torch.float32), linear.mT)
    return painted.clamp_(lowest.mT, highest.mT).view(crops.shape).permute(0, 3, 1, 2)


def crop_to_camera(joints, affine, cameras, root_depth):
    """Crop px and mm -> camera mm.

    Args:
        joints: (B, J, 3): x, y in crop px; z in mm behind the root.
        affine: (B, 2, 3) picture px -> crop px.
        cameras: Camera with leading axes (B, 1), as `CropStore.cameras` gives.
        root_depth: (B,) depth of the root, mm. From the labels it is an oracle.
    Returns:
        (B, J, 3) float64, camera, mm.
    """
    joints = np.asarray(joints, np.float64)
    joints_img = apply_affine(invert_affine(affine), joints[..., :2])
    return cameras.image_to_camera(joints_img, joints[..., 2] + root_depth[:, None])
