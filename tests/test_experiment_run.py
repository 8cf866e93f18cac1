import dataclasses
import shutil

import numpy as np
import pytest
import torch

from ipr_lib.config import load_config
from ipr_lib.data.datasets import CropDataset
from ipr_lib.data.store import open_store, shrunken_store
from ipr_lib.experiment import run as compare
from ipr_lib.experiment.plan import Case, case_config
from ipr_lib.files import InputError, read_json, write_json
from ipr_lib.integral import joints_to_cells
from ipr_lib.run import build_network
from ipr_lib.training import loop
from ipr_lib.training.records import Diverged

TINY = {
    "backbone_width": 4,
    "head_width": 8,
    "batch_size": 2,
    "epochs": 1,
    "crop_px": 32,
    "depth_bins": 4,
}


def test_unknown_names_are_refused(store, test_store, tmp_path):
    with pytest.raises(InputError, match="unknown case 'H4'"):
        compare.compare("smoke", (store, test_store), tmp_path / "all.json", names=("H4",))
    with pytest.raises(InputError, match="unknown axis 'colour'"):
        compare.compare("smoke", (store, test_store), tmp_path / "all.json", axes=("colour",))


def made_up_runs(monkeypatch, errors):
    """Replace training by `errors`(cfg) -> MPJPE; returns the list of runs that were asked for."""
    asked = []

    def run_case(case, cfg, train_store, test_store, folder):
        asked.append((case, cfg, train_store, test_store))
        scores = {"mpjpe": errors(cfg), "takes": [errors(cfg)]}
        return {
            "case": case.name,
            "axis": case.axis,
            "method": cfg.method,
            "seed": cfg.seed,
            "decoders": {compare.METHODS[cfg.method].decoder: scores},
            "mean_pose": 200.0,
            "samples_seen": 6,
            "commit": "abc",
            "device": "a machine",
            "minutes": 0.5,
            "config": cfg.record(),
        }

    monkeypatch.setattr(compare, "run_case", run_case)
    return asked


def two_actors(store):
    """The store with its last two items those of S5."""
    subject = store.columns["subject"].copy()
    subject[4:] = 5
    return dataclasses.replace(store, columns=store.columns | {"subject": subject})


def test_the_sweep_picks_on_a_training_actor(store, test_store, tmp_path, monkeypatch):
    """H3 errs least at the highest rate and, with it, at the smallest ball: both are used in the contest."""
    best = {"learning_rate": 0.009, "ball_radius": 1.0}

    def errors(cfg):
        return 100 + 1000 * abs(cfg.learning_rate - 0.009) + abs(cfg.ball_radius - 1.0)

    asked = made_up_runs(monkeypatch, errors)
    stores = (two_actors(store), test_store)
    content = compare.compare("smoke", stores, tmp_path / "all.json", (4,), names=("H3",))
    *swept, (case, cfg, train_store, scored_store) = asked
    assert len(swept) == 6 and case.name == "H3" and cfg.seed == 4
    assert {name: getattr(cfg, name) for name in best} == best
    assert (train_store, scored_store) == stores
    for case, cfg, train_store, scored_store in swept:
        assert case.axis == "sweep" and cfg.seed == 0
        assert set(train_store.columns["subject"]) == {1} and len(train_store) == 4
        assert set(scored_store.columns["subject"]) == {5} and len(scored_store) == 2
    assert [run["axis"] for run in content["runs"]] == ["sweep"] * 6 + ["method"]
    assert read_json(tmp_path / "all.json") == content
    assert not (tmp_path / "all.partial.json").exists()


def test_a_rate_that_diverges_is_not_picked(store, test_store, tmp_path, monkeypatch):
    def errors(cfg):
        if cfg.learning_rate > 0.004:
            raise Diverged("the loss is not finite at step 3")
        return 100 - 1000 * cfg.learning_rate

    asked = made_up_runs(monkeypatch, errors)
    stores = (two_actors(store), test_store)
    content = compare.compare("smoke", stores, tmp_path / "all.json", (0,), names=("R1",))
    assert [cfg.learning_rate for _, cfg, *_ in asked] == [0.001, 0.003, 0.009, 0.003]
    assert len(content["runs"]) == 3


def test_the_most_telling_runs_come_first(store, test_store, tmp_path, monkeypatch):
    asked = made_up_runs(monkeypatch, lambda cfg: 100.0)
    stores = (two_actors(store), test_store)
    compare.compare("smoke", stores, tmp_path / "all.json", axes=("method", "map"))
    swept = [case for case, *_ in asked if case.axis == "sweep"]
    assert len(swept) == 9 * 3 + 4 * 3, "nine methods, four of which have a target"
    order = [(case.axis, cfg.seed) for case, cfg, *_ in asked[len(swept) :]]
    expected = []
    for seed in range(5):
        expected += [("method", seed)] * 9
    for seed in range(3):
        expected += [("map", seed)] * 3
    assert order == expected


def test_what_is_found_is_written_after_each_run(store, test_store, tmp_path, monkeypatch):
    left = [4]

    def errors(cfg):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return 100.0

    made_up_runs(monkeypatch, errors)
    stores = (two_actors(store), test_store)
    with pytest.raises(KeyboardInterrupt):
        compare.compare(
            "smoke", stores, tmp_path / "all.json", (0, 1, 2), names=("R1",), sweep=False
        )
    content = read_json(tmp_path / "all.partial.json")
    assert [run["seed"] for run in content["runs"]] == [0, 1]
    assert not (tmp_path / "all.json").exists()


def test_runs_side_by_side_are_those_of_one_process(store, test_store, tmp_path):
    """Processes of one thread each give the results of one by one."""
    stores = (two_actors(store), test_store)
    names = ("H2", "I*")

    def results(folder, processes):
        content = compare.compare(
            "smoke",
            stores,
            tmp_path / folder / "all.json",
            (0, 1),
            names,
            overrides=TINY,
            processes=processes,
        )
        return [(run["case"], run["seed"], run["decoders"]) for run in content["runs"]]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one_by_one = results("alone", 1)
    finally:
        torch.set_num_threads(threads)
    assert len(one_by_one) == 2 * 3 + 2 * 2
    assert results("together", 2) == one_by_one


def run(case, stores, folder, seed=0, **overrides):
    return compare.run_case(
        case, case_config("smoke", case, seed, TINY | overrides), *stores, folder
    )


def test_each_run_is_done_once(store, test_store, tmp_path):
    stores, folder = (store, test_store), tmp_path / "runs"
    case = Case("H2", "method", {"method": "H2"})
    first = run(case, stores, folder)
    assert first["samples_seen"] == 6 and first["train_items"] == first["with_depth"] == 6
    assert list(first["decoders"])[0] == "argmax" and len(first["decoders"]) == 4
    assert all(len(scores["takes"]) == 1 for scores in first["decoders"].values()), (
        "S9 has one take"
    )
    (result,) = folder.glob("*/result.json")
    written = result.stat().st_mtime_ns
    assert run(case, stores, folder) == first and result.stat().st_mtime_ns == written
    assert not list(folder.glob("*/checkpoint.pt"))
    assert run(case, stores, folder, seed=1)["seed"] == 1
    assert len(list(folder.glob("*/result.json"))) == 2


def test_results_carry_the_error_of_the_mean_pose(store, test_store, tmp_path):
    """Over 17 joints, root-relative: by hand from the labels of both stores."""
    found = run(Case("R1", "method", {"method": "R1"}), (store, test_store), tmp_path)
    poses = store.columns["joints_cam"].astype(float)
    mean = (poses - poses[:, :1]).mean(axis=0)
    truth = test_store.columns["joints_cam"].astype(float)
    errors = np.linalg.norm(truth - truth[:, :1] - mean, axis=2)[:, :17]
    assert found["mean_pose"] == pytest.approx(errors.mean())


def test_another_capture_is_another_experiment(store, test_store, tmp_path):
    folder, case = tmp_path / "runs", Case("R1", "method", {"method": "R1"})
    run(case, (store, test_store), folder)
    (result,) = folder.glob("*/result.json")
    content = read_json(result)
    write_json(result, content | {"data": {"train": 1, "test": 2}, "commit": "old"})
    assert run(case, (store, test_store), folder)["commit"] != "old"


def test_an_interrupted_run_goes_on(store, test_store, tmp_path, monkeypatch, training_seed):
    case, stores = Case("I2", "method", {"method": "I2"}), (store, test_store)
    calm = run(case, stores, tmp_path / "calm", epochs=2)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    pulled = shutil.copytree(store.path, tmp_path / "copy")
    half = shrunken_store(open_store(pulled), 32)
    image, left = type(half).image, [9]

    def unplugged(self, item):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return image(self, item)

    monkeypatch.setattr(type(half), "image", unplugged)
    with pytest.raises(KeyboardInterrupt):
        run(case, (open_store(pulled), test_store), tmp_path / "stopped", epochs=2)
    monkeypatch.undo()
    resumed = run(case, (open_store(pulled), test_store), tmp_path / "stopped", epochs=2)
    assert resumed["decoders"] == calm["decoders"]


# --- scores of every decoder ---


class Oracle(torch.nn.Module):
    """A "network" that puts a sharp peak into the true cells of the store's items, in order."""

    def __init__(self, store, cfg):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        joints = CropDataset(store, cfg.crop_px, cfg.depth_mm)[0, 0, np.arange(len(store))][
            "joints"
        ]
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
    decoders, cells = compare.score_decoders(Oracle(test_store, cfg), test_store, cfg)
    for name in ("argmax", "expectation"):
        for key in ("mpjpe", "xy_px", "z_mm"):
            assert decoders[name][key] == pytest.approx(cells[key], rel=1e-4), name
    # Half a cell of 8 px at most along each axis, a quarter on average: 2 px each way. (Joints out of the volume err more.)
    assert 1 < cells["xy_px"] < 8 and cells["mpjpe"] > 0
    finer = load_config("smoke", method="H2", deconvolutions=3)
    assert (
        compare.score_decoders(Oracle(test_store, finer), test_store, finer)[1]["xy_px"]
        < cells["xy_px"]
    )


def test_direct_regression_has_no_cells(test_store):
    cfg = load_config("smoke", method="R1")
    decoders, cells = compare.score_decoders(build_network(cfg).eval(), test_store, cfg)
    assert cells is None and list(decoders) == ["direct"]
