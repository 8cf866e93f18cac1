"""Which items a batch holds, of one crop store or of 3D and 2D stores mixed.

Taught in notebooks/03_prepare_mpii_and_coco.ipynb and notebooks/09_training.ipynb.
"""

from collections.abc import Sequence

import numpy as np

from ..files import InputError
from .store import CropStore


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

    Each epoch has an order of its own; there is no short last batch.

    Args:
        n: number of items.
        batch_size: items a batch.
        epochs: passes over the items.
        seed: of the order.
        start: step of the whole run to begin at.
    """

    def __init__(self, n: int, batch_size: int, epochs: int = 1, seed: int = 0, start: int = 0):
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.steps_per_epoch = n // batch_size
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
        # 2**32 - 1 keeps the order's stream apart from the augmentations', which use (seed, epoch, step).
        order = np.random.default_rng([self.seed, epoch, 2**32 - 1]).permutation(self.n)
        return order[: self.steps_per_epoch * self.batch_size].reshape(-1, self.batch_size)


class MixedKeys(BatchKeys):
    """Keys (epoch, step, items) of mixed batches.

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
        super().__init__(sum(sizes), batch_size, epochs, seed, start)
        self.sizes = sizes
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
        longest = int(np.argmax(passes))
        # Rounding keeps the batches' size as near to the share as can be without a short one.
        self.steps_per_epoch = max(1, round(passes[longest]))
        self.steps = epochs * self.steps_per_epoch

        # (steps_per_epoch, stores): how many items of each store a batch holds; rows sum to batch_size.
        self._counts = np.tile(shares, (self.steps_per_epoch, 1))
        ends = np.arange(self.steps_per_epoch + 1) * sizes[longest] // self.steps_per_epoch
        self._counts[:, longest] = np.diff(ends)
        # What the longest leaves over, or takes, goes round the others evenly.
        spare = batch_size - self._counts.sum(axis=1)
        others = [store for store in range(len(sizes)) if store != longest]
        for n, store in enumerate(others):
            due = [(n + i) * spare // len(others) for i in (0, 1)]
            self._counts[:, store] += due[1] - due[0]
        if (self._counts < 0).any():
            raise InputError(
                f"{sizes[longest]} items are too few for batches of {batch_size}; use smaller batches or another ratio"
            )

    def _batches(self, epoch):
        """The items of each batch of an epoch, store by store."""
        batches = [[] for _ in range(self.steps_per_epoch)]
        first_item = 0
        for store, size in enumerate(self.sizes):
            # As many permutations, one after the other, as the epoch needs items of this store.
            ends = np.cumsum(self._counts[:, store])
            rounds = []
            for turn in range(-(-ends[-1] // size)):
                # A longer seed than BatchKeys' and the augmentations', so a stream apart from both.
                rng = np.random.default_rng([self.seed, epoch, 2**32 - 1, store + 1, turn])
                rounds.append(first_item + rng.permutation(size))
            pieces = np.split(np.concatenate(rounds), ends)
            for batch, items in zip(batches, pieces):
                batch.append(items)
            first_item += size
        return [np.concatenate(batch) for batch in batches]
