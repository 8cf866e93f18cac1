"""3D and 2D stores in one batch. Taught in notebooks/03_prepare_mpii_and_coco.ipynb."""

import numpy as np
from torch.utils.data import Sampler

from ..files import InputError
from ..geometry.skeleton import HUMAN36M, convert_joints
from .store import CropStore


class StoreMix:
    """Several crop stores served as one, their joints brought to the reference skeleton by name.

    Items count through the stores in order. Joints without a partner have visible False, so their weight is 0; items of
    2D stores have has_depth False, so z has weight 0. Columns are gathered for the items asked for, never as a whole.

    Attributes:
        stores: the CropStores. ratio: shares of a training batch, one whole number a store.
        starts: (k + 1,) first item of each store, and the number of items. columns: as CropStore's, indexed by items.
    """

    skeleton = HUMAN36M

    def __init__(self, stores, ratio=None):
        """
        Args:
            stores: CropStores, 3D or 2D.
            ratio: see the class; equal shares by default, so 1 : 1 for two stores.
        """
        self.stores = tuple(stores)
        self.ratio = (1,) * len(self.stores) if ratio is None else tuple(ratio)
        self.starts = np.concatenate([[0], np.cumsum([len(store) for store in self.stores])])
        shared = set.intersection(*(set(store.labels) for store in self.stores))
        lens = {"k", "p"} if any("k" in store.columns for store in self.stores) else set()
        self.columns = {name: _MixedColumn(self, name) for name in shared | lens}

    @property
    def path(self):
        """Path of the first store, for messages."""
        return self.stores[0].path

    def __len__(self):
        return int(self.starts[-1])

    def sources(self, items):
        """Which store each item belongs to: (m,) items -> (m,) indices into `stores`."""
        return np.searchsorted(self.starts, items, side="right") - 1

    def picture(self, item):
        """As `CropStore.picture`."""
        source = self.sources(item)
        return self.stores[source].picture(int(item - self.starts[source]))

    cameras = CropStore.cameras  # it asks for columns alone; made up for 2D items


class _MixedColumn:
    """One column of a StoreMix, indexed with an array of items."""

    def __init__(self, mix, name):
        self.mix, self.name = mix, name

    def __getitem__(self, items):
        items = np.asarray(items)
        sources, values = self.mix.sources(items), None
        for source in np.unique(sources):
            store, mine = self.mix.stores[source], sources == source
            if self.name in store.columns:
                rows = store.columns[self.name][items[mine] - self.mix.starts[source]]
            else:  # a pinhole among lenses
                rows = np.zeros((mine.sum(), {"k": 3, "p": 2}[self.name]))
            if self.name in ("joints_cam", "joints_img"):
                rows = convert_joints(rows, store.skeleton, self.mix.skeleton)[0]
            elif self.name == "visible":
                rows = convert_joints(rows[..., None], store.skeleton, self.mix.skeleton)[0][..., 0]
            if values is None:
                values = np.empty((len(items), *rows.shape[1:]), rows.dtype)
            values[mine] = rows
        return values


class MixedKeys(Sampler):
    """Keys (epoch, step, items) of mixed batches, as `datasets.BatchKeys` gives for one store.

    Each batch holds items of every store in the stated ratio, store by store. The store that lasts longest at its share
    sets the pass: each of its items comes exactly once a pass, its batches even in size, so that none is short; at
    most one of its items a batch more or fewer than the ratio says (on sets larger than the square of its share).
    The others fill the batch up and start over, in a new order, as often as that takes.

    Args:
        sizes: number of items of each store.
        batch_size: items a batch, a multiple of the ratio's sum.
        ratio: whole numbers, one a store.
        epochs, seed, start: see BatchKeys.
    Raises:
        InputError: batch_size and ratio do not fit; a store is empty.
    """

    def __init__(self, sizes, batch_size, ratio=(1, 1), epochs=1, seed=0, start=0):
        self.sizes, self.batch_size, self.ratio, self.seed, self.start = (
            sizes,
            batch_size,
            ratio,
            seed,
            start,
        )
        stated = " : ".join(map(str, ratio))
        if len(ratio) != len(sizes) or min(ratio) < 1 or batch_size % sum(ratio):
            raise InputError(
                f"batch_size={batch_size} of {len(sizes)} stores at {stated}: expected one whole number above 0 a "
                "store, and a batch size that is a multiple of their sum"
            )
        if min(sizes) == 0:
            raise InputError(f"a store to be mixed is empty (items: {', '.join(map(str, sizes))})")
        shares = [batch_size // sum(ratio) * part for part in ratio]
        passes = [size / share for size, share in zip(sizes, shares)]
        self.longest = int(np.argmax(passes))
        # round keeps the batches' size as near to the share as can be without a short one.
        self.steps_per_epoch = max(1, round(passes[self.longest]))
        self.steps = epochs * self.steps_per_epoch
        self._counts = self._items_per_step(shares)

    def _items_per_step(self, shares):
        """(steps_per_epoch, stores): how many items of each store a batch holds; rows sum to batch_size."""
        counts = np.tile(shares, (self.steps_per_epoch, 1))
        size, steps = self.sizes[self.longest], self.steps_per_epoch
        counts[:, self.longest] = np.diff(np.arange(steps + 1) * size // steps)
        others = [i for i in range(len(shares)) if i != self.longest]
        spare = self.batch_size - counts.sum(1)
        for n, i in enumerate(
            others
        ):  # what the longest leaves over, or takes, goes round the others evenly
            counts[:, i] += np.diff(
                np.arange(len(others) + 1)[:, None] * spare // len(others), axis=0
            )[n]
        if (counts < 0).any():
            raise InputError(
                f"{size} items are too few for batches of {self.batch_size}; use smaller batches or another ratio"
            )
        return counts

    def __len__(self):
        return max(0, self.steps - self.start)

    def __iter__(self):
        epoch = None
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        ends = np.concatenate(
            [np.zeros((1, len(self.sizes)), int), np.cumsum(self._counts, axis=0)]
        )
        for global_step in range(self.start, self.steps):
            if epoch != global_step // self.steps_per_epoch:
                epoch = global_step // self.steps_per_epoch
                orders = [
                    starts[i] + self._order(epoch, i, ends[-1, i]) for i in range(len(self.sizes))
                ]
            step = global_step % self.steps_per_epoch
            yield (
                epoch,
                step,
                np.concatenate(
                    [
                        order[low:high]
                        for order, low, high in zip(orders, ends[step], ends[step + 1])
                    ]
                ),
            )

    def _order(self, epoch, store, count):
        """`count` items of a store: permutations one after the other."""
        rounds = [
            # Longer than BatchKeys' stream and the augmentations', so apart from both.
            np.random.default_rng([self.seed, epoch, 2**32 - 1, store + 1, turn]).permutation(
                self.sizes[store]
            )
            for turn in range(-(-count // self.sizes[store]))
        ]
        return np.concatenate(rounds)[:count]
