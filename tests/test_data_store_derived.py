"""Stores made of stores: joined, thinned, shrunken, without depth."""

import pickle
import shutil

import numpy as np
import pytest
import torch

from ipr_lib.data import store as stores
from ipr_lib.data.datasets import CropDataset
from ipr_lib.data.store import (
    build_store,
    join_stores,
    open_store,
    sequence_index,
    shrunken_store,
    split_store,
    withhold_depth,
)
from ipr_lib.files import InputError, write_json
from ipr_lib.training.records import item_name
from tests.conftest import write_sequence
from tests.test_data_store import flip

RECIPE = {"step": 3}

# ---------------------------------------------------------------- sequences, frames, depth


def test_the_cameras_of_a_sequence_share_its_number():
    columns = {
        "subject": np.array([5, 9, 1, 9, 5]),
        "action": np.array([2, 3, 16, 3, 2]),
        "subaction": np.array([1, 2, 2, 1, 1]),
        "camera_id": np.array([1, 2, 3, 4, 2]),
    }
    assert sequence_index(columns).tolist() == [1, 3, 0, 2, 1]


def test_every_sixth_frame_of_a_store_of_every_third(prepared):
    store = get(prepared)
    thin = get(prepared, step=6)
    assert thin.columns["frame"].tolist() == [0, 6, 0, 6]
    assert thin.recipe == store.recipe | {"step": 6}
    np.testing.assert_array_equal(thin.image(3), store.image(5))
    assert pickle.loads(pickle.dumps(thin)).recipe["step"] == 6


def test_depth_is_withheld_from_whole_sequences(store):
    """S1 has two sequences of three images each; half of them keep their depth, the same ones in either use."""
    mixed = withhold_depth(store, 0.5)
    alone = withhold_depth(store, 0.5, drop=True)
    assert len(mixed) == 6 and len(alone) == 3 and alone.columns["has_depth"].all()
    known = mixed.columns["has_depth"]
    assert known.sum() == 3 and np.ptp(mixed.columns["action"][known]) == 0
    np.testing.assert_array_equal(alone.columns["action"], mixed.columns["action"][known])
    batch = CropDataset(mixed, 64, 2000.0)[0, 0, np.arange(6)]
    np.testing.assert_array_equal(batch["weights"][..., 2].numpy().any(1), known)
    assert batch["weights"][..., :2].numpy().any(1).all(), "x and y stay"
    assert withhold_depth(store, 1) is store
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mixed)).columns["has_depth"], known)
    assert store.columns["has_depth"].all() and open_store(store.path).columns["has_depth"].all()


def test_some_items_give_the_batches_of_the_whole_store(store):
    again = pickle.loads(pickle.dumps(store.select(np.array([4, 1]))))
    assert [item_name(again, 0), item_name(again, 1)] == [
        item_name(store, 4),
        item_name(store, 1),
    ], "a loss that is not finite names them"
    whole = CropDataset(store, 64, 2000.0)[0, 0, np.array([4, 1])]
    some = CropDataset(again, 64, 2000.0)[0, 0, np.array([0, 1])]
    assert torch.equal(whole["crops"], some["crops"]) and torch.equal(
        whole["joints"], some["joints"]
    )


# ---------------------------------------------------------------- smaller crops


def test_shrunken_crops_show_the_same_at_half_the_size(store):
    half = shrunken_store(store, 32)
    assert (
        half.recipe["crop_px"] == 32
        and half.recipe["stored_px"] == 43
        and half.image(0).shape == (43, 43, 3)
    )
    full = CropDataset(store, 64, 2000.0)[0, 0, np.arange(6)]
    small = CropDataset(half, 32, 2000.0)[0, 0, np.arange(6)]
    # Joints: px of the small crop lie over (p + 0.5) / 2 - 0.5 of the large one's.
    np.testing.assert_allclose(
        (full["joints"][..., :2] + 0.5) / 2 - 0.5, small["joints"][..., :2], atol=1e-4
    )
    np.testing.assert_allclose(full["joints"][..., 2], small["joints"][..., 2])
    averaged = full["crops"].float().view(6, 32, 2, 32, 2, 3).mean(dim=(2, 4))
    assert (averaged - small["crops"].float()).abs().mean() < 4, "two roundings of JPEG apart"
    assert shrunken_store(store, 64) is store


def test_shrunken_store_is_written_once_and_again_for_another_source(store, prepared):
    path = shrunken_store(store, 32).path
    before = path.stat().st_ino
    assert shrunken_store(store, 32).path.stat().st_ino == before
    other = build_store(prepared, store.path, subjects=(1,), step=6, crop_px=64)
    assert len(shrunken_store(other, 32)) == len(other) == 4
    (path / "jpegs.npy").write_bytes((path / "jpegs.npy").read_bytes()[:-100])
    assert len(shrunken_store(other, 32)) == 4
    for px in (48, 128):
        with pytest.raises(
            InputError, match=f"holds crops for 64 px; {px} px does not divide them"
        ):
            shrunken_store(other, px)


# ---------------------------------------------------------------- the store of a split


def get(prepared, subjects=(1,), step=3):
    return split_store(prepared, prepared.parent / "stores", "train", subjects, step, 64)


def test_recipes_take_turns_without_building_anything_twice(prepared, monkeypatch):
    """Subjects or a step that the shared store lacks have a store of their own; every 6th frame is in that of every 3rd."""
    built, build = [], stores.build_store

    def spy(source, target, *choices):
        built.append(target.name)
        return build(source, target, *choices)

    monkeypatch.setattr(stores, "build_store", spy)
    write_sequence(prepared, 5, 2)
    choices = [((1,), 3), ((1,), 6), ((1, 5), 3), ((5,), 3)]
    for _ in range(2):
        assert [len(get(prepared, *choice)) for choice in choices] == [6, 4, 9, 3]
    assert built == [
        "prepared-train-64",
        "prepared-train-64-S1-5-every-3",
        "prepared-train-64-S5-every-3",
    ]
    assert len(get(prepared, (1,), 6)) == 4 and get(prepared, (1,), 6).recipe["step"] == 6
    # A manifest, so other data: all are built again, each where it was.
    write_json(prepared / "capture.json", {"version": 2})
    names = list(built)
    built.clear()
    assert [len(get(prepared, *choice)) for choice in choices] == [6, 4, 9, 3] and built == names


def test_a_finer_step_is_not_taken_from_a_coarser_store(prepared):
    assert len(get(prepared, step=6)) == 4
    fine = get(prepared, step=3)
    assert len(fine) == 6 and fine.path.name == "prepared-train-64-S1-every-3"


@pytest.mark.parametrize("spoil", ["labels", "version", "cut"])
def test_a_stale_or_damaged_store_is_built_again(prepared, spoil):
    first = get(prepared)
    header, before = first.path / "store.json", first.path.stat().st_ino
    assert get(prepared).path.stat().st_ino == before
    if spoil == "labels":
        write_sequence(prepared, 1, 4)
    elif spoil == "version":
        header.write_text(
            header.read_text(encoding="utf-8").replace('"version": 5', '"version": 4'),
            encoding="utf-8",
        )
    else:
        header.write_text(header.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    again = get(prepared)
    assert (
        again.path == first.path
        and header.is_file()
        and len(again) == (9 if spoil == "labels" else 6)
    )


def test_an_old_file_in_the_place_of_a_store_is_refused(prepared):
    old = prepared.parent / "stores" / "prepared-train-64.crops"
    old.parent.mkdir()
    old.write_bytes(b"IPRSTORE")
    with pytest.raises(
        InputError, match="prepared-train-64.crops is a crop store of an older version"
    ):
        get(prepared)
    old.unlink()
    assert len(get(prepared)) == 6


# ---------------------------------------------------------------- joining


@pytest.fixture
def parts(tmp_path):
    """Three stores of 3, 2 and 1 crops."""
    found = []
    for subject, n in ((9, 7), (1, 5), (5, 2)):
        write_sequence(tmp_path / "set", subject, n=n)
        path = tmp_path / "parts" / f"s_{subject:02d}"
        build_store(tmp_path / "set", path, subjects=(subject,), step=3, crop_px=64)
        found.append(path)
    return found


def test_joined_stores_hold_the_items_of_all(parts, tmp_path):
    before = []
    for store in map(open_store, parts):
        labels = {name: np.array(column) for name, column in store.labels.items()}
        before.append((labels, [store.image(item) for item in range(len(store))]))
    join_stores(tmp_path / "both", parts, RECIPE)
    both = open_store(tmp_path / "both")
    assert both.columns["subject"].tolist() == [9] * 3 + [1] * 2 + [5] and both.recipe == RECIPE
    crops = [crop for _, some in before for crop in some]
    for item in range(6):
        np.testing.assert_array_equal(both.image(item), crops[item])
    for name in ("joints_cam", "affine", "R", "frame"):
        np.testing.assert_array_equal(
            both.columns[name], np.concatenate([labels[name] for labels, _ in before])
        )


def test_damaged_and_missing_parts_are_named(parts, tmp_path):
    start = int(open_store(parts[1]).columns["start"][1])
    flip(parts[1] / "jpegs.npy", 128 + start + 50)
    target = tmp_path / "both"
    with pytest.raises(InputError, match="s_01: crop 1 is damaged"):
        join_stores(target, parts, RECIPE)
    assert not target.exists() and all(part.exists() for part in parts)
    shutil.rmtree(parts[1])
    with pytest.raises(InputError, match="s_01 is missing"):
        join_stores(target, parts, RECIPE)
