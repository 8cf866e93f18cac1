import pickle
import shutil

import numpy as np
import pytest
import torch

from ipr_lib import compare, engine
from ipr_lib.compare import Case, PartOfStore, case_config, plan, shrunken_store, training_part
from ipr_lib.config import load_config
from ipr_lib.datasets import CropDataset
from ipr_lib.files import InputError, read_json, write_json
from ipr_lib.heatmaps import joints_to_cells
from ipr_lib.methods import METHODS
from ipr_lib.store import build_store, open_store
from ipr_lib.training_log import item_names

TINY = {"trunk_width": 4, "head_width": 8, "batch_size": 2, "epochs": 1, "crop_px": 32, "depth_bins": 4}


@pytest.fixture
def test_store(prepared, tmp_path):
    """The crop store of S9: 3 items, crops of 64 px."""
    return build_store(prepared, tmp_path / "s9.crops", subjects=(9,), step=3, crop_px=64)


# --- plan ---

@pytest.mark.parametrize("profile", compare.BASES)
def test_plan_covers_the_methods_and_names_each_case_once(profile):
    cases = plan(profile)
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    assert [case.name for case in cases if case.axis == "method"] == list(METHODS)
    assert {case.axis for case in cases} <= set(compare.AXES)
    configs = {(case_config(profile, case, 0).hash(), case.depth_share, case.only_depth) for case in cases}
    assert len(configs) == len(cases), "each case is a run of its own"


def test_levels_change_what_their_names_say():
    base = case_config("laptop", Case("I*", "method", {"method": "I*"}), 0)
    assert base.volume_shape == (16, 16, 16) and base.crop_px == 64
    shapes = {case.name: case_config("laptop", case, 0) for case in plan("laptop")}
    assert shapes["H2, map 32"].volume_shape == (16, 32, 32) and shapes["I*, map 8"].volume_shape == (16, 8, 8)
    assert shapes["I*, depth 32"].volume_shape == (32, 16, 16)
    for name in ("I*, crop 128", "I*, crop 32"):
        assert shapes[name].volume_shape == (16, 16, 16), "another crop, the same map"
    assert case_config("gpu", next(c for c in plan("gpu") if c.name == "H2, map 64"), 0).volume_shape == (32, 64, 64)
    assert not any(case.axis in ("map", "depth") for case in plan("gpu") if case.name.startswith("R1"))


def test_a_quarter_of_the_pictures_is_seen_four_times_as_often():
    whole, alone = (next(c for c in plan("laptop") if c.name == name) for name in ("R1", "R1, a quarter alone"))
    assert case_config("laptop", alone, 0).epochs == 4 * case_config("laptop", whole, 0).epochs
    assert case_config("laptop", alone, 1, {"epochs": 2}).epochs == 8


def test_a_larger_budget_keeps_its_ratio_and_its_schedules_shape():
    base, more = (
        case_config("laptop", next(c for c in plan("laptop") if c.name == name), 0, {"epochs": 3, "lr_drops": [1, 2]})
        for name in ("I*", "I*, 4 x the samples")
    )
    assert (base.epochs, base.lr_drops, more.epochs, more.lr_drops) == (3, (1, 2), 12, (4, 8))
    assert {case.name for case in plan("gpu") if case.axis == "budget"} == {f"{m}, 4 x the samples" for m in compare.MAIN}


def test_seeds_and_methods_share_everything_else():
    one, other = (case_config("smoke", Case(name, "method", {"method": name}), 3) for name in ("R1", "H3"))
    assert one.seed == other.seed == 3
    assert {name for name in vars(one) if vars(one)[name] != vars(other)[name]} == {"method"}


def test_unknown_names_are_refused(store, test_store, tmp_path):
    with pytest.raises(InputError, match="profile 'full' has no comparison; choose one of smoke, laptop, gpu"):
        plan("full")
    with pytest.raises(InputError, match="unknown case 'H4'"):
        compare.compare("smoke", (store, test_store), tmp_path, names=("H4",))
    with pytest.raises(InputError, match="unknown axis 'colour'"):
        compare.compare("smoke", (store, test_store), tmp_path, axes=("colour",))


# --- data ---

def test_depth_is_withheld_from_whole_takes(store):
    """S1 has two takes of three pictures each; half of the takes keep their depth, the same ones in either use."""
    mixed = training_part(store, Case("a", "2D", {}, depth_share=0.5))
    alone = training_part(store, Case("b", "2D", {}, depth_share=0.5, only_depth=True))
    assert len(mixed) == 6 and len(alone) == 3 and alone.columns["has_depth"].all()
    known = mixed.columns["has_depth"]
    assert known.sum() == 3 and np.ptp(mixed.columns["action"][known]) == 0
    np.testing.assert_array_equal(alone.items, np.flatnonzero(known))
    batch = CropDataset(mixed, 64, 2000.0)[0, 0, np.arange(6)]
    np.testing.assert_array_equal(batch["weights"][..., 2].numpy().any(1), known)
    assert batch["weights"][..., :2].numpy().any(1).all(), "x and y stay"
    assert training_part(store, Case("c", "method")) is store


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
    assert half.recipe["crop_px"] == 32 and half.recipe["stored_px"] == 44 and half.picture(0).shape == (44, 44, 3)
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


# --- runs ---

def run(case, stores, folder, seed=0, **overrides):
    return compare.run_case(case, case_config("smoke", case, seed, TINY | overrides), *stores, folder)


def test_each_run_is_done_once(store, test_store, tmp_path):
    stores, folder = (store, test_store), tmp_path / "runs"
    case = Case("H2", "method", {"method": "H2"})
    first = run(case, stores, folder)
    assert first["samples_seen"] == 6 and first["train_items"] == first["with_depth"] == 6
    assert list(first["decoders"])[0] == "argmax" and len(first["decoders"]) == 4
    assert all(len(scores["takes"]) == 1 for scores in first["decoders"].values()), "S9 has one take"
    (result,) = folder.glob("*/result.json")
    written = result.stat().st_mtime_ns
    assert run(case, stores, folder) == first and result.stat().st_mtime_ns == written
    assert not list(folder.glob("*/checkpoint.pt"))
    assert run(case, stores, folder, seed=1)["seed"] == 1
    assert len(list(folder.glob("*/result.json"))) == 2


def test_another_capture_is_another_experiment(store, test_store, tmp_path):
    folder, case = tmp_path / "runs", Case("R1", "method", {"method": "R1"})
    run(case, (store, test_store), folder)
    (result,) = folder.glob("*/result.json")
    content = read_json(result)
    write_json(result, content | {"data": {"train": 1, "test": 2}, "commit": "old"})
    assert run(case, (store, test_store), folder)["commit"] != "old"


def test_an_interrupted_run_goes_on(store, test_store, tmp_path, monkeypatch):
    case, stores = Case("I2", "method", {"method": "I2"}), (store, test_store)
    calm = run(case, stores, tmp_path / "calm", epochs=2)
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    pulled = shutil.copy(store.path, tmp_path / "copy.crops")
    half = shrunken_store(open_store(pulled), 32)
    picture, left = type(half).picture, [9]

    def unplugged(self, item):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return picture(self, item)

    monkeypatch.setattr(type(half), "picture", unplugged)
    with pytest.raises(KeyboardInterrupt):
        run(case, (open_store(pulled), test_store), tmp_path / "stopped", epochs=2)
    monkeypatch.undo()
    resumed = run(case, (open_store(pulled), test_store), tmp_path / "stopped", epochs=2)
    assert resumed["decoders"] == calm["decoders"]


class Oracle(torch.nn.Module):
    """A "network" that puts a sharp peak into the true cells of the store's items, in order."""

    def __init__(self, store, cfg):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        joints = CropDataset(store, cfg.crop_px, cfg.depth_mm)[0, 0, np.arange(len(store))]["joints"]
        shape = cfg.volume_shape
        cells = (joints_to_cells(joints, shape, cfg.crop_px, cfg.depth_mm) + 0.5).floor().long()
        cells = cells.clamp(min=0).minimum(torch.tensor([shape[2] - 1, shape[1] - 1, shape[0] - 1]))
        self.volume = torch.zeros(*cells.shape[:2], *shape)
        n, j = np.indices(cells.shape[:2])
        self.volume[n, j, cells[..., 2], cells[..., 1], cells[..., 0]] = 200.0

    def forward(self, pixels):
        return self.volume[: len(pixels)]


def test_perfect_cells_score_as_the_rounding_does(test_store):
    cfg = load_config("smoke", method="H2")
    decoders, cells = compare.read_out(Oracle(test_store, cfg), test_store, cfg)
    for name in ("argmax", "expectation"):
        for key in ("mpjpe", "xy_px", "z_mm"):
            assert decoders[name][key] == pytest.approx(cells[key], rel=1e-4), name
    # Half a cell of 8 px at most along each axis, a quarter on average: 2 px each way. (Joints out of the volume err more.)
    assert 1 < cells["xy_px"] < 8 and cells["mpjpe"] > 0
    finer = load_config("smoke", method="H2", deconvolutions=3)
    assert compare.read_out(Oracle(test_store, finer), test_store, finer)[1]["xy_px"] < cells["xy_px"]


def test_direct_regression_has_no_cells(test_store):
    cfg = load_config("smoke", method="R1")
    decoders, cells = compare.read_out(engine.build_model(cfg).eval(), test_store, cfg)
    assert cells is None and list(decoders) == ["direct"]
