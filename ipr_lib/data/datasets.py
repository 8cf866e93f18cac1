"""Crop store -> batches. Taught in notebooks/04_crops_and_augmentation.ipynb and notebooks/09_training.ipynb.

What a batch holds follows from (seed, epoch, step) alone, so the number of workers changes nothing, and a resumed run
meets the very batches that it would have met.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..geometry.camera import Camera
from ..geometry.skeleton import HUMAN36M
from ..geometry.transforms import (
    NO_AUGMENTATION,
    Augmentation,
    apply_affine,
    compose_affine,
    crop_affine,
    draw_augmentation,
    draw_occluders,
    invert_affine,
    occlude,
    warp,
)
from .mixing import BatchKeys, MixedKeys, StoreMix
from .store import CropStore

# ImageNet's channel statistics, for crops in 0 … 1: the usual input scaling of torchvision's networks.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CropDataset(Dataset):
    """Batches of crops and joints out of a crop store.

    Indexed with a key (epoch, step, items) it returns a whole batch, a dict of tensors; with (epoch, step, items, (i, n))
    rows i, i + n, … of that batch:
        crops (B, S, S, 3) uint8 RGB;
        joints (B, J, 3) float32: x, y in crop px, z in mm behind the root times the zoom;
        weights (B, J, 3) float32: 1 where the coordinate is known and inside the volume, else 0;
        colour (B, 3, 4) float32 affine maps of RGB, to be applied by `normalise`;
        affine (B, 2, 3) float64, image px -> crop px; items (B,) int64.
    """

    def __init__(
        self,
        store: CropStore | StoreMix,
        crop_px: int,
        depth_mm: float,
        augmentation: Augmentation = NO_AUGMENTATION,
        seed: int = 0,
    ):
        """
        Args:
            store: joints of another joint set are brought to HUMAN36M by name.
            crop_px: side of the crops, px.
            depth_mm: depth range of the volume, mm; joints outside get weight 0.
            augmentation: what training draws from; by default the plain box.
            seed: of the augmentation.
        """
        self.store = store
        self.crop_px = crop_px
        self.depth_mm = depth_mm
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self):
        return len(self.store)

    def __getitem__(self, key):
        epoch, step, items = key[:3]
        first, stride = key[3] if len(key) == 4 else (0, 1)
        # The draws are those of the whole batch, of which a process sees its share.
        rng = np.random.default_rng([self.seed, epoch, step])
        draw = draw_augmentation(self.augmentation, rng, len(items))
        draw = {name: values[first::stride] for name, values in draw.items()}
        occluders = draw_occluders(self.augmentation.occlusion, rng, len(items))
        occluders = {name: values[first::stride] for name, values in occluders.items()}
        items = np.asarray(items)[first::stride]

        affine = crop_affine(
            self.store.rows("box", items),
            self.crop_px,
            scale=draw["scale"],
            rotation=draw["rotation"],
            shift=draw["shift"],
            flip=draw["flip"],
        )
        from_stored = compose_affine(affine, invert_affine(self.store.rows("affine", items)))
        cv2.setNumThreads(0)  # the crops are small, the cores belong to the network
        crops = np.empty((len(items), self.crop_px, self.crop_px, 3), np.uint8)
        for crop, item, map_ in zip(crops, items, from_stored):
            crop[:] = warp(self.store.image(item), map_, self.crop_px, cv2.BORDER_REPLICATE)
        occlude(crops, occluders)
        joints, weights = self.targets(items, affine, draw["scale"], draw["flip"])
        return {
            "crops": torch.from_numpy(crops),
            "joints": torch.from_numpy(joints),
            "weights": torch.from_numpy(weights),
            "colour": torch.from_numpy(draw["colour"]),
            "affine": torch.from_numpy(affine),
            "items": torch.from_numpy(items),
        }

    def targets(
        self, items: np.ndarray, affine: np.ndarray, scale: np.ndarray, flip: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Joints in the crop and their weights; see the class.

        Args:
            items: (B,) indices.
            affine: (B, 2, 3) image px -> crop px, mirror included.
            scale: (B,) zoom. The whole cube is zoomed, depth with it: a crop shows shape, not size.
            flip: (B,) bool.
        Returns:
            joints, weights: (B, J, 3) float32.
        """
        joints_cam = self.store.rows("joints_cam", items)
        depth = joints_cam[..., 2] - joints_cam[:, HUMAN36M.root, None, 2]
        xy = apply_affine(affine, self.store.rows("joints_img", items).astype(float))
        z = depth * scale[:, None]
        joints = np.concatenate([xy, z[..., None]], axis=-1)

        visible = self.store.rows("visible", items)
        # The affine has mirrored x already; what is left is that partners change places.
        joints = np.where(flip[:, None, None], joints[:, HUMAN36M.flip_order], joints)
        visible = np.where(flip[:, None], visible[:, HUMAN36M.flip_order], visible)

        middle = np.array([(self.crop_px - 1) / 2, (self.crop_px - 1) / 2, 0.0])
        half = np.array([self.crop_px / 2, self.crop_px / 2, self.depth_mm / 2])
        inside = np.abs(joints - middle) <= half
        weights = inside & visible[..., None]
        weights[..., 2] &= self.store.rows("has_depth", items)[:, None]
        return joints.astype(np.float32), weights.astype(np.float32)


def training_keys(
    store: CropStore | StoreMix, batch_size: int, epochs: int, seed: int
) -> BatchKeys | MixedKeys:
    """Keys of all batches of a training: of one store, or mixed ones."""
    if isinstance(store, StoreMix):
        sizes = [len(part) for part in store.stores]
        return MixedKeys(sizes, batch_size, store.ratio, epochs, seed)
    return BatchKeys(len(store), batch_size, epochs, seed)


def batches(dataset: CropDataset, keys: Iterable, workers: int = 0) -> DataLoader:
    """A DataLoader of the batches that `keys` name, made by `workers` processes; 0 makes them in this one."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=keys,
        # Of its own: from the global one, an iterator would draw a seed, which a resumed run would draw once more.
        generator=torch.Generator(),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
    )


def prefetched(iterable: Iterable) -> Iterator:
    """The items of `iterable`, each made in a thread while the one before it is in use."""
    iterator, end = iter(iterable), object()
    with ThreadPoolExecutor(1) as pool:
        item = pool.submit(next, iterator, end).result()
        while item is not end:
            coming = pool.submit(next, iterator, end)
            yield item
            item = coming.result()


def tint(crops: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """uint8 crops -> RGB in 0 … 1, each under its own affine colour map, on the crops' device.

    Args:
        crops: (B, S, S, 3) uint8 RGB.
        colour: (B, 3, 4) maps of RGB in 0 … 1, as `draw_augmentation` draws them.
    Returns:
        (B, 3, S, S) float32, clipped to 0 … 1.
    """
    pixels = _to_float(crops)
    linear, offset = colour[..., :3], colour[..., 3:]
    with torch.autocast(crops.device.type, enabled=False):
        tinted = linear @ pixels.flatten(2) + offset
    return tinted.clamp(0, 1).view(pixels.shape)


def normalise(crops: torch.Tensor, colour: torch.Tensor | None = None) -> torch.Tensor:
    """uint8 crops -> network input, on the crops' device; always float32, whatever autocast says.

    Args:
        crops: (B, S, S, 3) uint8 RGB.
        colour: (B, 3, 4) affine colour maps, see `tint`; or None.
    Returns:
        (B, 3, S, S) float32; channels-last in memory on a GPU, as its convolutions like it.
    """
    pixels = _to_float(crops) if colour is None else tint(crops, colour)
    # non_blocking: otherwise every step would wait until the GPU has caught up.
    mean = torch.tensor(MEAN).view(3, 1, 1).to(crops.device, non_blocking=True)
    std = torch.tensor(STD).view(3, 1, 1).to(crops.device, non_blocking=True)
    images = (pixels - mean) / std
    if crops.device.type == "cuda":
        images = images.contiguous(memory_format=torch.channels_last)
    return images


def _to_float(crops):
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 in 0 … 1, each channel in one piece."""
    planes = crops.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return planes / 255


def crop_to_camera(
    joints: np.ndarray, affine: np.ndarray, cameras: Camera, root_depth: np.ndarray
) -> np.ndarray:
    """Crop px and mm -> camera mm.

    Args:
        joints: (B, J, 3): x, y in crop px; z in mm behind the root.
        affine: (B, 2, 3) image px -> crop px.
        cameras: Camera with leading axes (B, 1), as `CropStore.cameras` gives.
        root_depth: (B,) depth of the root, mm. From the labels it is an oracle.
    Returns:
        (B, J, 3) float64, camera, mm.
    """
    joints = np.asarray(joints, np.float64)
    joints_img = apply_affine(invert_affine(affine), joints[..., :2])
    depth = joints[..., 2] + root_depth[:, None]
    return cameras.image_to_camera(joints_img, depth)
