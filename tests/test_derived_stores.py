import pickle

import numpy as np
import pytest
import torch

from ipr_lib.data.datasets import CropDataset
from ipr_lib.data.derived_stores import PartOfStore, shrunken_store, withhold_depth
from ipr_lib.data.store import build_store
from ipr_lib.files import InputError
from ipr_lib.training.log import item_names


def test_depth_is_withheld_from_whole_takes(store):
    """S1 has two takes of three pictures each; half of the takes keep their depth, the same ones in either use."""
    mixed = withhold_depth(store, 0.5)
    alone = withhold_depth(store, 0.5, drop=True)
    assert len(mixed) == 6 and len(alone) == 3 and alone.columns["has_depth"].all()
    known = mixed.columns["has_depth"]
    assert known.sum() == 3 and np.ptp(mixed.columns["action"][known]) == 0
    np.testing.assert_array_equal(alone.items, np.flatnonzero(known))
    batch = CropDataset(mixed, 64, 2000.0)[0, 0, np.arange(6)]
    np.testing.assert_array_equal(batch["weights"][..., 2].numpy().any(1), known)
    assert batch["weights"][..., :2].numpy().any(1).all(), "x and y stay"
    assert withhold_depth(store, 1) is store


def test_part_of_a_store_holds_the_same_pictures_and_travels(store):
    part = PartOfStore(store, [4, 1], [True, False])
    again = pickle.loads(pickle.dumps(part))
    assert len(again) == 2 and again.columns["has_depth"].tolist() == [True, False]
    assert item_names(again, [0, 1]) == item_names(store, [4, 1]), "a loss that is not finite names them"
    np.testing.assert_array_equal(again.picture(0), store.picture(4))
    np.testing.assert_array_equal(again.columns["joints_cam"], store.columns["joints_cam"][[4, 1]])
    whole, some = (CropDataset(s, 64, 2000.0)[0, 0, np.array(i)] for s, i in ((store, [4, 1]), (again, [0, 1])))
    assert torch.equal(whole["crops"], some["crops"]) and torch.equal(whole["joints"], some["joints"])


def test_shrunken_crops_show_the_same_at_half_the_size(store):
    half = shrunken_store(store, 32)
    assert half.recipe["crop_px"] == 32 and half.recipe["stored_px"] == 43 and half.picture(0).shape == (43, 43, 3)
    full, small = (CropDataset(s, px, 2000.0)[0, 0, np.arange(6)] for s, px in ((store, 64), (half, 32)))
    # Joints: px of the small crop lie over (p + 0.5) / 2 - 0.5 of the large one's.
    np.testing.assert_allclose((full["joints"][..., :2] + 0.5) / 2 - 0.5, small["joints"][..., :2], atol=1e-4)
    np.testing.assert_allclose(full["joints"][..., 2], small["joints"][..., 2])
    averaged = full["crops"].float().view(6, 32, 2, 32, 2, 3).mean(dim=(2, 4))
    assert (averaged - small["crops"].float()).abs().mean() < 4, "two roundings of JPEG apart"
    assert shrunken_store(store, 64) is store


def test_shrunken_store_is_written_once_and_again_for_another_source(store, prepared):
    path = shrunken_store(store, 32).path
    before = path.stat().st_ino
    assert shrunken_store(store, 32).path.stat().st_ino == before
    other = build_store(prepared, store.path, subjects=(1,), step=6, crop_px=64)
    assert len(shrunken_store(other, 32)) == len(other) == 4 and path.stat().st_ino != before
    path.write_bytes(path.read_bytes()[:-100])
    assert len(shrunken_store(other, 32)) == 4
    for px in (48, 128):
        with pytest.raises(InputError, match=f"holds crops for 64 px; {px} px does not divide them"):
            shrunken_store(other, px)
