"""Crop stores -> batches, of one store or of 3D and 2D stores mixed.

Taught in notebooks 03 (mixing), 04 (crops and augmentation) and 09 (training).

What a batch holds follows from (seed, epoch, step) alone, so the number of workers changes nothing,
and a resumed run meets the very batches that it would have met.
"""

import contextlib
import math
import multiprocessing.queues
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..files import InputError, can_be_socket
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
from .store import CropStore

# ImageNet's channel statistics, for crops in 0 … 1: the usual input scaling of torchvision's networks.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# --- which items a batch holds ---


class StoreMix:
    """Several crop stores served as one.

    Items count through the stores in order. Joints of other joint sets are brought to the reference skeleton by name, see
    `CropStore.rows`; items of 2D stores have has_depth False, so z has weight 0.

    Attributes:
        stores: the CropStores. ratio: shares of a training batch, one whole number a store.
        starts: (k + 1,) first item of each store, and the number of items.
    """

    def __init__(self, stores: Sequence[CropStore], ratio: Sequence[int] | None = None):
        """
        Args:
            stores: CropStores, 3D or 2D.
            ratio: see the class; equal shares by default, so 1 : 1 for two stores.
        """
        self.stores = tuple(stores)
        self.ratio = (1,) * len(self.stores) if ratio is None else tuple(ratio)
        self.starts = np.cumsum([0] + [len(store) for store in self.stores])
        self.path = self.stores[0].path  # for messages

    def __len__(self):
        return int(self.starts[-1])

    def sources(self, items: np.ndarray) -> np.ndarray:
        """Which store each item belongs to: (m,) items -> (m,) indices into `stores`."""
        return np.searchsorted(self.starts, items, side="right") - 1

    def rows(self, name: str, items: np.ndarray) -> np.ndarray:
        """As `CropStore.rows`."""
        rows = []
        for source, item in zip(self.sources(items), items):
            rows.append(self.stores[source].rows(name, [item - self.starts[source]]))
        return np.concatenate(rows)

    def image(self, item: int) -> np.ndarray:
        """As `CropStore.image`."""
        source = self.sources(item)
        return self.stores[source].image(item - self.starts[source])


def keys_in_order(n: int, batch_size: int) -> list[tuple[int, int, np.ndarray]]:
    """Keys (epoch, step, items) of one pass over n items in order, with a short last batch, as evaluation needs."""
    batches = np.split(np.arange(n), range(batch_size, n, batch_size))
    return [(0, step, items) for step, items in enumerate(batches)]


class BatchKeys:
    """Keys (epoch, step, items) of every batch of a run: one loader, and its workers, serve all epochs.

    A batch holds items of each store in a fixed ratio, store by store. The store that lasts longest
    at its share sets the epoch: each of its items comes at most once, in an order of each epoch's
    own, and there is no short last batch. The others start over, in a new order, as often as that
    takes.

    Args:
        sizes: number of items; of a StoreMix, that of each store.
        batch_size: items a batch, a multiple of the ratio's sum.
        epochs: how many.
        seed: of the orders.
        start: step of the whole run to begin at.
        ratio: shares of a batch, one whole number a store.
    Raises:
        InputError: batch_size and ratio do not fit; a store is empty.
    """

    def __init__(
        self,
        sizes: int | Sequence[int],
        batch_size: int,
        epochs: int = 1,
        seed: int = 0,
        start: int = 0,
        ratio: Sequence[int] = (1,),
    ):
        self.sizes = np.atleast_1d(sizes).tolist()
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        if len(ratio) != len(self.sizes) or min(ratio) < 1 or batch_size % sum(ratio):
            stated = " : ".join(str(part) for part in ratio)
            raise InputError(
                f"batch_size={batch_size} of {len(self.sizes)} stores at {stated}: expected one whole number above 0 a "
                "store, and a batch size that is a multiple of their sum"
            )
        if min(self.sizes) == 0:
            raise InputError(f"a store is empty (items: {', '.join(map(str, self.sizes))})")
        self.shares = [batch_size // sum(ratio) * part for part in ratio]
        self.steps_per_epoch = max(size // share for size, share in zip(self.sizes, self.shares))
        self.steps = epochs * self.steps_per_epoch

    def __len__(self):
        return max(0, self.steps - self.start)

    def __iter__(self):
        batches = None
        for global_step in range(self.start, self.steps):
            epoch, step = divmod(global_step, self.steps_per_epoch)
            if batches is None or step == 0:
                batches = self._batches(epoch)
            yield epoch, step, batches[step]

    def _batches(self, epoch):
        """(steps_per_epoch, batch_size): the items of each batch of an epoch."""
        columns = []
        first_item, turn = 0, 0
        for size, share in zip(self.sizes, self.shares):
            needed = self.steps_per_epoch * share
            orders = []
            for _ in range(math.ceil(needed / size)):
                # 2**32 - 1 keeps the stream apart from the augmentations', which use (seed, epoch, step).
                rng = np.random.default_rng([self.seed, epoch, 2**32 - 1, turn])
                orders.append(first_item + rng.permutation(size))
                turn += 1
            columns.append(np.concatenate(orders)[:needed].reshape(-1, share))
            first_item += size
        return np.concatenate(columns, axis=1)


def training_keys(
    store: CropStore | StoreMix, batch_size: int, epochs: int, seed: int
) -> BatchKeys:
    """Keys of all batches of a training on a store or on mixed ones, in the ratio of the mix."""
    if isinstance(store, StoreMix):
        sizes = [len(part) for part in store.stores]
        return BatchKeys(sizes, batch_size, epochs, seed, ratio=store.ratio)
    return BatchKeys(len(store), batch_size, epochs, seed)


# --- the batches ---


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
        worker_init_fn=_start_worker,
    )


def _start_worker(_):
    """A process that makes batches, and cannot hand one over, ends; the main one would wait for ever."""

    def give_up(error, _):
        print(f"a batch could not be handed over: {error}", file=sys.stderr, flush=True)
        os._exit(1)

    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(give_up)
    # Batches are handed over by a socket in the folder for temporary files, which has such a name.
    socket = os.path.join(tempfile.gettempdir(), "pymp-12345678", "listener-12345678")
    if os.name == "posix" and not can_be_socket(socket):
        tempfile.tempdir = "/tmp"


@contextlib.contextmanager
def lost_workers():
    """InputError where, while the block runs, a process that makes its batches ends."""
    try:
        yield
    except RuntimeError as error:  # of torch.utils.data, wherever the main process is by then
        if not str(error).startswith("DataLoader worker"):
            raise
        raise InputError(
            "a process that makes batches ended: too little shared memory, or memory; in a container, give more "
            "by `docker run --shm-size=8g`, or make batches in the main process by --set workers=0"
        ) from error


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
