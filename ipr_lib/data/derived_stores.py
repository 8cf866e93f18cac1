"""Stores made of a store, for experiments: depth withheld from some takes, or smaller crops.

Taught in notebooks/08_heatmap_vs_integral.ipynb.
"""

import contextlib

import cv2
import numpy as np

from ..evaluation.evaluation import take_index
from ..files import InputError
from ..geometry.transforms import compose_affine
from ..progress import progress
from .images import encode_jpeg
from .store import open_store, write_store

SPLIT_SEED = 8  # of the takes whose depth is withheld; the same for every run, whatever its seed


class PartOfStore:
    """Some items of a crop store, with depth known for some of them: what a 2D-only set is to training.

    Attributes: as CropStore's, as far as training asks for them.
    """

    def __init__(self, store, items, with_depth):
        """
        Args:
            store: CropStore.
            items: (m,) indices to keep.
            with_depth: (m,) bool.
        """
        self.store, self.items = store, np.asarray(items)
        self.columns = {name: column[self.items] for name, column in store.labels.items()}
        self.columns["has_depth"] = self.columns["has_depth"] & with_depth

    @property
    def path(self):
        """Path of the whole store."""
        return self.store.path

    @property
    def skeleton(self):
        """The joint set of its columns."""
        return self.store.skeleton

    @property
    def recipe(self):
        """What the whole store was built from."""
        return self.store.recipe

    def __len__(self):
        return len(self.items)

    def picture(self, item):
        """As `CropStore.picture`."""
        return self.store.picture(int(self.items[item]))


def withhold_depth(store, share, drop=False):
    """The store with depth known for a share of its takes alone: the same takes for all methods and seeds.

    Args:
        store: CropStore.
        share: of the takes that keep their depth, 0 … 1; at least one does.
        drop: leave the other takes out, instead of keeping them as 2D-only data.
    Returns:
        PartOfStore; the store itself where all takes keep their depth.
    """
    if share == 1:
        return store
    take = take_index(store.columns)
    order = np.random.default_rng(SPLIT_SEED).permutation(take.max() + 1)
    with_depth = np.isin(take, order[: max(1, round(share * len(order)))])
    if drop:
        items = np.flatnonzero(with_depth)
        return PartOfStore(store, items, np.ones(len(items), bool))
    return PartOfStore(store, np.arange(len(store)), with_depth)


def shrunken_store(store, crop_px):
    """The same crops, for a smaller crop: each block of pixels averaged to one. Written beside the store, once.

    Args:
        store: CropStore for crops of a whole multiple of `crop_px`.
        crop_px: side of the crops wanted, px.
    Returns:
        CropStore; the store itself where it fits already.
    Raises:
        InputError: the sizes do not divide.
    """
    block, rest = divmod(store.recipe["crop_px"], crop_px)
    if rest or block == 0:
        raise InputError(
            f"{store.path} holds crops for {store.recipe['crop_px']} px; {crop_px} px does not divide them"
        )
    if block == 1:
        return store
    path = store.path.with_name(f"{store.path.stem}-at-{crop_px}.crops")
    stored_px = store.recipe["stored_px"] // block
    crc = store.header["columns"]["crc"]["crc"]  # of all checksums: another store, another number
    recipe = store.recipe | {"crop_px": crop_px, "stored_px": stored_px, "shrunk_from": crc}
    with contextlib.suppress(InputError):  # missing or damaged: write it
        done = open_store(path)
        if done.recipe == recipe:
            return done

    def jpegs():
        for item in progress(range(len(store)), desc=f"crops at {crop_px} px", unit="crop"):
            crop = cv2.cvtColor(store.picture(item), cv2.COLOR_RGB2BGR)
            yield encode_jpeg(
                cv2.resize(crop, (stored_px, stored_px), interpolation=cv2.INTER_AREA)
            )

    columns = {name: np.array(column) for name, column in store.labels.items()}
    ratio = stored_px / store.recipe["stored_px"]
    shift = (ratio - 1) / 2  # pixel i of the small crop lies over (i + 0.5) / ratio - 0.5
    columns["affine"] = compose_affine(
        np.array([[ratio, 0, shift], [0, ratio, shift]]), columns["affine"]
    )
    write_store(path, columns, jpegs(), recipe)
    return open_store(path)
