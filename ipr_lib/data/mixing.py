"""Which items a batch holds, of one crop store or of 3D and 2D stores mixed.

Taught in notebooks/03_prepare_mpii_and_coco.ipynb and notebooks/09_training.ipynb.
"""

from collections.abc import Sequence

import numpy as np

from ..files import InputError
from ..geometry.camera import Camera
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

    def __init__(self, stores: Sequence[CropStore], ratio: Sequence[int] | None = None):
        """
        Args:
            stores: CropStores, 3D or 2D.
            ratio: see the class; equal shares by default, so 1 : 1 for two stores.
        """
        self.stores = tuple(stores)
        self.ratio = (1,) * len(self.stores) if ratio is None else tuple(ratio)
        self.starts = np.cumsum([0] + [len(store) for store in self.stores])
        names = set(self.stores[0].labels)
        for store in self.stores:
            names &= set(store.labels)
        if any("k" in store.columns for store in self.stores):
            names |= {"k", "p"}
        self.columns = {name: _MixedColumn(self, name) for name in names}

    @property
    def path(self):
        """Folder of the first store, for messages."""
        return self.stores[0].path

    def __len__(self):
        return int(self.starts[-1])

    def sources(self, items: np.ndarray) -> np.ndarray:
        """Which store each item belongs to: (m,) items -> (m,) indices into `stores`."""
        return np.searchsorted(self.starts, items, side="right") - 1

    def image(self, item: int) -> np.ndarray:
        """As `CropStore.image`."""
        source = self.sources(item)
        return self.stores[source].image(int(item - self.starts[source]))

    def cameras(self, items: np.ndarray) -> Camera:
        """As `CropStore.cameras`; those of 2D items are made up."""
        return CropStore.cameras(self, items)


class _MixedColumn:
    """One column of a StoreMix, indexed with an array of items."""

    def __init__(self, mix, name):
        self.mix, self.name = mix, name

    def __getitem__(self, items):
        items = np.asarray(items)
        sources = self.mix.sources(items)
        values = None
        for source in np.unique(sources):
            mine = sources == source
            rows = self._rows(self.mix.stores[source], items[mine] - self.mix.starts[source])
            if values is None:
                values = np.empty((len(items), *rows.shape[1:]), rows.dtype)
            values[mine] = rows
        return values

    def _rows(self, store, items):
        """Rows of one store, in the reference skeleton."""
        if self.name not in store.columns:  # the lens of a pinhole
            return np.zeros((len(items), {"k": 3, "p": 2}[self.name]))
        rows = store.columns[self.name][items]
        if self.name in ("joints_cam", "joints_img"):
            return convert_joints(rows, store.skeleton, HUMAN36M)[0]
        if self.name == "visible":
            return convert_joints(rows[..., None], store.skeleton, HUMAN36M)[0][..., 0]
        return rows


class BatchKeys:
    """Keys (epoch, step, items) of every batch of a run: one loader, and its workers, serve all epochs.

    Args:
        n: number of items.
        batch_size: items a batch.
        epochs: passes over the items.
        seed: of the order.
        start: step of the whole run to begin at.
        shuffle: each epoch in an order of its own, without a short last batch. False gives items in order and keeps a
            short last batch, as evaluation needs.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        epochs: int = 1,
        seed: int = 0,
        start: int = 0,
        shuffle: bool = True,
    ):
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.shuffle = shuffle
        self.steps_per_epoch = n // batch_size if shuffle else -(-n // batch_size)
        self.steps = epochs * self.steps_per_epoch

    def __len__(self):
        return max(0, self.steps - self.start)

    def __iter__(self):
        order = None
        for global_step in range(self.start, self.steps):
            epoch, step = divmod(global_step, self.steps_per_epoch)
            if order is None or step == 0:
                order = self._order(epoch)
            yield epoch, step, order[step * self.batch_size : (step + 1) * self.batch_size]

    def _order(self, epoch):
        if not self.shuffle:
            return np.arange(self.n)
        # 2**32 - 1 keeps the order's stream apart from the augmentations', which use (seed, epoch, step).
        return np.random.default_rng([self.seed, epoch, 2**32 - 1]).permutation(self.n)


class MixedKeys:
    """Keys (epoch, step, items) of mixed batches, as `BatchKeys` gives for one store.

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

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        ratio: Sequence[int] = (1, 1),
        epochs: int = 1,
        seed: int = 0,
        start: int = 0,
    ):
        self.sizes = sizes
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        stated = " : ".join(str(part) for part in ratio)
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
        # Rounding keeps the batches' size as near to the share as can be without a short one.
        self.steps_per_epoch = max(1, round(passes[self.longest]))
        self.steps = epochs * self.steps_per_epoch
        self._counts = self._items_per_step(shares)

    def _items_per_step(self, shares):
        """(steps_per_epoch, stores): how many items of each store a batch holds; rows sum to batch_size."""
        size, steps = self.sizes[self.longest], self.steps_per_epoch
        counts = np.tile(shares, (steps, 1))
        counts[:, self.longest] = np.diff(np.arange(steps + 1) * size // steps)
        # What the longest leaves over, or takes, goes round the others evenly.
        spare = self.batch_size - counts.sum(axis=1)
        others = [store for store in range(len(shares)) if store != self.longest]
        for n, store in enumerate(others):
            counts[:, store] += (n + 1) * spare // len(others) - n * spare // len(others)
        if (counts < 0).any():
            raise InputError(
                f"{size} items are too few for batches of {self.batch_size}; use smaller batches or another ratio"
            )
        return counts

    def __len__(self):
        return max(0, self.steps - self.start)

    def __iter__(self):
        ends = np.cumsum(self._counts, axis=0)
        starts = ends - self._counts
        orders = None
        for global_step in range(self.start, self.steps):
            epoch, step = divmod(global_step, self.steps_per_epoch)
            if orders is None or step == 0:
                orders = self._orders(epoch, ends[-1])
            items = []
            for order, start, end in zip(orders, starts[step], ends[step]):
                items.append(order[start:end])
            yield epoch, step, np.concatenate(items)

    def _orders(self, epoch, counts):
        """For each store, the items that an epoch takes of it, in order: permutations one after the other."""
        orders, first_item = [], 0
        for store, (size, count) in enumerate(zip(self.sizes, counts)):
            rounds = []
            for turn in range(-(-count // size)):
                # A longer seed than BatchKeys' and the augmentations', so a stream apart from both.
                rng = np.random.default_rng([self.seed, epoch, 2**32 - 1, store + 1, turn])
                rounds.append(first_item + rng.permutation(size))
            orders.append(np.concatenate(rounds)[:count])
            first_item += size
        return orders
