import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import numpy as np
import pytest
import torch

from ipr_lib.__main__ import main
from ipr_lib.config import load_config
from ipr_lib.course import notebooks, pipeline
from ipr_lib.data.store import open_store, write_store
from ipr_lib.files import REPOSITORY, InputError, data_folder, read_json, write_json
from ipr_lib.geometry.skeleton import MPII
from ipr_lib.training import records

from .conftest import needs_posix, write_sequence
from .test_course_notebooks import COUNT, write_notebook
from .test_data_mixing import people_store

TINY = {
    "dataset": "made-up",
    "train_subjects": [1],
    "test_subjects": [9],
    "train_step": 3,
    "test_step": 3,
    "batch_size": 2,
    "epochs": 2,
    "backbone_width": 4,
    "head_width": 8,
    "workers": 1,
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a prepared set (S1 twice, S9 once), two notebooks and a place for results."""
    monkeypatch.setenv("IPR_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(
        pipeline, "REPOSITORY", tmp_path
    )  # notebooks run again when the library in it changes
    (tmp_path / "ipr_lib").mkdir()
    (tmp_path / "ipr_lib" / "module.py").write_text("a = 1", encoding="utf-8")
    for subject, action in ((1, 2), (1, 3), (9, 2)):
        write_sequence(tmp_path / "data" / "made-up", subject, action)
    write_json(tmp_path / "data" / "made-up" / "capture.json", {"version": 1})
    for name in ("00_first", "01_second"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", COUNT.format(name))
    return tmp_path


@pytest.fixture
def cfg():
    return load_config("smoke", **TINY)


# --- folders ---


def test_a_changed_capture_has_a_folder_of_its_own():
    plain, seeded = load_config("smoke"), load_config("smoke", seed=3, epochs=1)
    assert (
        pipeline.dataset_dir(plain)
        == pipeline.dataset_dir(seeded)
        == data_folder() / "capture-smoke"
    )
    changed = {
        pipeline.dataset_dir(load_config("smoke", **change)).name
        for change in ({"capture_frames": 77}, {"train_step": 7}, {"capture_cameras": [2]})
    }
    assert len(changed) == 3 and all(name.startswith("capture-smoke-") for name in changed)
    assert pipeline.dataset_dir(load_config("full")) == data_folder() / "human36m"


def test_a_capture_never_lands_in_a_real_set(monkeypatch):
    written = []
    monkeypatch.setattr(pipeline, "write_capture", lambda target, **_: written.append(target))
    assert pipeline.capture(load_config("full")) == data_folder() / "capture-full"
    pipeline.capture(load_config("full", dataset="human36m-lens"))
    assert written == [data_folder() / "capture-full"] * 2


# --- stores ---


def test_store_is_kept_while_nothing_changes(home, cfg):
    first = pipeline.crop_store(cfg, "train")
    assert len(first) == 6 and first.recipe["subjects"] == [1]
    assert len(pipeline.crop_store(cfg, "test")) == 3
    before = first.path.stat()
    again = pipeline.crop_store(cfg, "train").path.stat()
    assert (again.st_ino, again.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_store_follows_a_set_without_manifest(home, cfg):
    """A set that others prepared: its labels tell, of each part's own subjects."""
    (home / "data" / "made-up" / "capture.json").unlink()
    assert len(pipeline.crop_store(cfg, "train")) == 6
    inode = pipeline.crop_store(cfg, "test").path.stat().st_ino
    write_sequence(home / "data" / "made-up", 1, 4)
    store = pipeline.crop_store(cfg, "train")
    assert len(store) == 9 and pipeline.crop_store(cfg, "test").path.stat().st_ino == inode
    # One that came straight from the download has no prepared folder behind it, even where there is one.
    columns = {name: np.array(column) for name, column in store.labels.items()}
    direct = store.recipe | {"origin": None, "actions": [2, 3, 4]}
    write_store(store.path, direct, [(columns, list(map(store.jpeg, range(9))))])
    assert pipeline.crop_store(cfg, "train").recipe == direct
    thin = pipeline.crop_store(load_config("smoke", **TINY | {"train_step": 6}), "train")
    assert thin.recipe == direct | {"step": 6} and len(thin) == 6


def test_scores_follow_a_test_part_that_has_grown(home, cfg):
    (home / "data" / "made-up" / "capture.json").unlink()
    first = pipeline.evaluated(cfg, home / "results")
    write_sequence(home / "data" / "made-up", 9, 3)
    again = pipeline.evaluated(cfg, home / "results")
    assert (first["scores"]["n"], again["scores"]["n"]) == (3, 6) and again["checkpoint"] == first[
        "checkpoint"
    ]


def test_a_network_of_other_data_is_refused(home, cfg):
    pipeline.trained(cfg, home / "results")
    pipeline.trained(cfg, home / "results")
    write_json(home / "data" / "made-up" / "capture.json", {"version": 2})
    with pytest.raises(
        InputError, match="trained on another version of made-up; delete that folder"
    ):
        pipeline.trained(cfg, home / "results")
    with pytest.raises(InputError, match="trained on another version of made-up"):
        pipeline.evaluated(cfg, home / "results")


def test_2d_sets_are_mixed_into_training(home, monkeypatch):
    mixed = load_config("smoke", **TINY | {"mix": ["mpii"], "epochs": 1})
    with pytest.raises(
        InputError,
        match=r"mpii-train-64 is missing or damaged; build it with `.* prepare mpii .* --store 64`, or",
    ):
        pipeline.trained(mixed, home / "results")
    assert not (home / "data" / "stores").exists(), (
        "nothing may be built before all is known to be there"
    )
    path = home / "data" / "stores" / "mpii-train-64"
    path.parent.mkdir()
    people_store(home / "first", MPII, 9).path.rename(path)
    seen, train = [], pipeline.train_run

    def spy(cfg, store, folder, **options):
        seen.append(store)
        return train(cfg, store, folder, **options)

    monkeypatch.setattr(pipeline, "train_run", spy)
    content = pipeline.evaluated(mixed, home / "results")
    assert [len(part) for part in seen[0].stores] == [6, 9] and seen[0].ratio == (1, 1)
    assert (content["data"], content["train_items"], content["samples_seen"]) == (
        "made-up + mpii",
        6,
        18,
    )
    pipeline.trained(
        load_config(
            "smoke", **TINY | {"mix": ["mpii"], "epochs": 1, "mix_ratio": [3, 1], "batch_size": 4}
        ),
        home / "results",
    )
    assert seen[1].ratio == (3, 1)
    store = open_store(path)
    columns = store.labels
    recipe = store.recipe | {"origin": "another download"}
    write_store(path, recipe, [(columns, list(map(store.jpeg, range(9))))])
    with pytest.raises(
        InputError, match="trained on another version of made-up or mpii; delete that folder"
    ):
        pipeline.trained(mixed, home / "results")


def test_missing_data_is_named(home):
    cfg = load_config("smoke", **TINY | {"dataset": "human36m"})
    with pytest.raises(InputError, match="human36m: no such folder"):
        pipeline.evaluated(cfg, home / "results")


def test_the_split_names_subjects_that_are_there(home):
    asked = load_config("smoke", **TINY | {"test_subjects": [9, 11], "epochs": 1})
    assert pipeline.evaluated(asked, home / "results")["split"] == "S1 / S9", (
        "the set holds nothing of S11"
    )


@pytest.mark.parametrize(
    "part, subjects, expected",
    [
        ("train", (1, 5), 15),
        ("test", (9, 11), 64),
        ("validation", (8,), 75),
        ("test", (7, 8), 75),
        ("validation", (8, 9), 960),
    ],
)
def test_who_is_drawn_every_15th_frame_is_not_asked_for_the_64th(part, subjects, expected):
    others = {f"{other}_subjects": () for other in ("train", "validation", "test")}
    cfg = load_config("gpu", **others | {f"{part}_subjects": subjects})
    assert (cfg.train_step, cfg.test_step) == (15, 64)
    assert pipeline.split_step(cfg, part) == expected
    assert pipeline.split_step(
        load_config("gpu", dataset="made-up", **others | {f"{part}_subjects": subjects}), part
    ) == (15 if part == "train" else 64)


def test_the_other_split_and_validation_run_on_the_capture(home):
    """Train S1, S9, validate S5, test S11: S9 is drawn as often as training actors, and the usual capture stays as it is."""
    capture = {
        "dataset": "capture",
        "capture_subjects": [1, 5, 9, 11],
        "capture_actions": [5],
        "capture_cameras": [1],
        "capture_frames": 9,
        "train_step": 3,
        "test_step": 8,
        "epochs": 1,
    }
    split = {"train_subjects": [1, 9], "validation_subjects": [5], "test_subjects": [11]}
    cfg = load_config("smoke", **TINY | capture | split)
    assert pipeline.dataset_dir(cfg) != pipeline.dataset_dir(
        load_config("smoke", **TINY | capture | {"test_subjects": [9, 11]})
    )
    content = pipeline.evaluated(cfg, home / "results")
    assert (
        content["split"],
        content["train_items"],
        content["scores"]["n"],
        content["test_step"],
    ) == ("S1,9 / S11", 6, 2, 8)
    assert pipeline.crop_store(cfg, "validation").columns["frame"].tolist() == [
        0
    ]  # every 9th of 9 frames
    assert (pipeline.run_dir(cfg, home / "results") / "best.pt").exists()


# --- the whole run ---


def reproduce(home, **arguments):
    results_dir = home / "results"
    results_dir.mkdir(exist_ok=True)
    return pipeline.reproduce("smoke", overrides=TINY, results_dir=results_dir, **arguments)


def tally(home):
    path = home / "results" / "tally"
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def test_reproduce_then_reuse_then_change(home, cfg, capsys):
    metrics = reproduce(home)
    folder = pipeline.run_dir(cfg, home / "results")
    ran = [f"{name} smoke0{len(TINY)}" for name in ("00_first", "01_second")]
    assert tally(home) == ran
    assert metrics == read_json(folder / "metrics.json") and metrics["scores"]["n"] == 3
    assert (folder / "report.md").read_text(encoding="utf-8") in capsys.readouterr().out
    predictions = np.load(folder / "predictions.npz")
    assert predictions["pred_cam"].shape == predictions["target_cam"].shape == (3, 18, 3)
    seconds = torch.load(folder / records.CHECKPOINT, weights_only=True)["seconds"]
    assert metrics["minutes"]["training"] == pytest.approx(seconds / 60, abs=1e-3)
    for name in ("00", "01"):
        executed = nbformat.read(folder / name / "executed.ipynb", as_version=4)
        assert all(cell.execution_count for cell in executed.cells)

    written = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != "minutes.json"
    }
    written = {path: time for path, time in written.items() if path.name != "origin.json"}
    assert reproduce(home) == metrics
    assert tally(home) == ran, "a second run executes no notebook again"
    assert {path: path.stat().st_mtime_ns for path in written} == written

    write_notebook(
        home / "notebooks" / "01_second.ipynb", "changed = True", COUNT.format("01_second")
    )
    reproduce(home)
    assert tally(home) == [*ran, ran[1]], "the changed notebook runs again, and it alone"
    reproduce(home, only=["00"], fresh=True)
    assert tally(home) == [*ran, ran[1], ran[0]]
    (home / "ipr_lib" / "module.py").write_text("a = 2", encoding="utf-8")
    reproduce(home, only=["01"])
    assert tally(home) == [*ran, ran[1], ran[0], ran[1]], "notebooks run again on a changed library"
    (home / "ipr_lib" / "view.js").write_text(
        "a = 3", encoding="utf-8"
    )  # executed notebooks carry the views' scripts
    reproduce(home, only=["01"])
    assert tally(home) == [*ran, ran[1], ran[0], ran[1], ran[1]]


def test_a_notebook_that_fails_costs_the_others_nothing(home, cfg, capsys):
    """The table comes first, the other notebooks run, a list ends it; the next call runs the failed one alone."""
    broken = home / "notebooks" / "00_first.ipynb"
    write_notebook(
        broken,
        COUNT.format("00_first"),
        "limit = 65\nassert limit < 60, f'expected below 60 mm, got {limit}'",
    )
    with pytest.raises(notebooks.NotebookFailed) as caught:
        reproduce(home)
    folder = pipeline.run_dir(cfg, home / "results")
    first, failure = str(caught.value).splitlines()
    assert first == "1 notebook failed; the same command runs them again, and only them:"
    assert failure.startswith("  00_first.ipynb stopped in cell [")
    assert failure.endswith(
        "at `assert limit < 60, f'expected below 60 mm, got {limit}'`: "
        f"AssertionError: expected below 60 mm, got 65; see {folder / '00' / 'executed.ipynb'}"
    )
    assert [line.split()[0] for line in tally(home)] == ["00_first", "01_second"]
    assert (folder / "report.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert (folder / "01" / "stamp.json").exists() and not (folder / "00" / "stamp.json").exists()

    write_notebook(broken, COUNT.format("00_first"))
    reproduce(home)
    assert [line.split()[0] for line in tally(home)] == ["00_first", "01_second", "00_first"]


def test_the_table_is_printed_before_any_notebook_runs(home, cfg, monkeypatch, capsys):
    printed = []
    monkeypatch.setattr(
        pipeline, "run_notebook", lambda *arguments: printed.append(capsys.readouterr().out)
    )
    reproduce(home)
    assert (pipeline.run_dir(cfg, home / "results") / "report.md").read_text(
        encoding="utf-8"
    ) in printed[0]


def test_a_failure_that_follows_a_success_is_run_again(home, cfg):
    reproduce(home)
    second = home / "notebooks" / "01_second.ipynb"
    source = second.read_bytes()
    write_notebook(second, COUNT.format("01_second"), "raise ValueError('new')")
    with pytest.raises(notebooks.NotebookFailed):
        reproduce(home)
    second.write_bytes(
        source
    )  # the notebook that passed before: what lies there now is the failure
    reproduce(home)
    assert [line.split()[0] for line in tally(home)] == [
        "00_first",
        "01_second",
        "01_second",
        "01_second",
    ]


def test_failed_notebooks_are_exit_1_and_a_list(home, monkeypatch, capsys):
    write_notebook(home / "notebooks" / "01_second.ipynb", "raise ValueError('no such joint')")
    pairs = [f"{name}={json.dumps(value)}" for name, value in TINY.items()]
    code = main(
        ["reproduce", "--profile", "smoke", "--results-dir", str(home / "results"), "--set", *pairs]
    )
    assert code == 1
    error = capsys.readouterr().err
    assert "1 notebook failed" in error and "01_second.ipynb stopped in cell [" in error
    assert (
        "at `raise ValueError('no such joint')`: ValueError: no such joint" in error
        and "Traceback" not in error
    )


def test_unknown_notebook_is_refused_before_anything_is_done(home):
    with pytest.raises(InputError, match="no notebook 07, 99"):
        reproduce(home, only=["00", "99", "07"])
    assert not list((home / "results").iterdir())


def test_scores_follow_their_checkpoint(home, cfg):
    first = pipeline.evaluated(cfg, home / "results")
    folder = pipeline.run_dir(cfg, home / "results")
    retrained = torch.load(folder / records.CHECKPOINT, weights_only=True)
    retrained["network"]["final.weight"] *= 50
    torch.save(retrained, folder / records.CHECKPOINT)
    again = pipeline.evaluated(cfg, home / "results")
    assert again["checkpoint"] != first["checkpoint"]
    assert (
        abs(again["scores"]["mpjpe"]["frame_mean"] - first["scores"]["mpjpe"]["frame_mean"]) > 1e-3
    )
    assert read_json(folder / "metrics.json") == again
    predictions = np.load(folder / "predictions.npz")
    pred, target = predictions["pred_cam"][:, :17], predictions["target_cam"][:, :17]
    distance = np.linalg.norm((pred - pred[:, :1]) - (target - target[:, :1]), axis=-1).mean()
    assert distance == pytest.approx(again["scores"]["mpjpe"]["frame_mean"])


SCRIPT = """
import json, sys
from pathlib import Path
from ipr_lib.course import notebooks, pipeline
home, overrides = Path(sys.argv[1]), json.loads(sys.argv[2])
notebooks.NOTEBOOKS, pipeline.REPOSITORY = home / "notebooks", home
pipeline.reproduce("smoke", overrides=overrides, results_dir=home / "results")
"""


@needs_posix
def test_killed_run_goes_on(home, cfg):
    """kill -9 while the second notebook runs: the next call trains nothing again and runs the second notebook alone."""
    (home / "results").mkdir()
    wait = 'import pathlib, time; pathlib.Path(results_dir, "begun").touch()\n'
    wait += 'while not pathlib.Path(results_dir, "go").exists(): time.sleep(0.05)'
    write_notebook(home / "notebooks" / "01_second.ipynb", wait, COUNT.format("01_second"))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(home), json.dumps(TINY)],
        cwd=REPOSITORY,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1", "IPR_DATA": str(home / "data")},
    )
    deadline = time.monotonic() + 200
    while not (home / "results" / "begun").exists():
        assert process.poll() is None and time.monotonic() < deadline, (
            "the run did not reach its second notebook"
        )
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # its kernel, too
    process.wait()

    folder = pipeline.run_dir(cfg, home / "results")
    assert (folder / "00" / "stamp.json").exists() and not (folder / "01" / "stamp.json").exists()
    trained, metrics = (
        (folder / records.CHECKPOINT).stat().st_mtime_ns,
        read_json(folder / "metrics.json"),
    )
    (home / "results" / "go").touch()
    assert reproduce(home) == metrics
    assert [line.split()[0] for line in tally(home)] == ["00_first", "01_second"]
    assert (folder / records.CHECKPOINT).stat().st_mtime_ns == trained
    assert (folder / "01" / "stamp.json").exists()


# --- the built-in capture as the data ---


def test_capture_is_written_once_and_scored(tmp_path, monkeypatch):
    monkeypatch.setenv("IPR_DATA", str(tmp_path / "data"))
    small = {
        name: TINY[name]
        for name in ("batch_size", "epochs", "backbone_width", "head_width", "workers")
    }
    cfg = load_config(
        "smoke",
        **small,
        capture_subjects=[1, 9],
        capture_actions=[2],
        capture_cameras=[1],
        capture_frames=81,
        train_step=40,
    )
    train, test = pipeline.stores(cfg)
    assert (len(train), len(test)) == (3, 2)
    assert train.recipe["subjects"] == [1] and test.recipe["subjects"] == [9], (
        "actors that were not captured are left out"
    )
    pictures = {path: path.stat().st_mtime_ns for path in pipeline.dataset_dir(cfg).rglob("*.jpg")}
    assert len(pictures) == 5
    metrics = pipeline.evaluated(cfg, tmp_path / "results")
    assert (
        metrics["data"] == "built-in capture"
        and metrics["split"] == "S1 / S9"
        and metrics["train_items"] == 3
    )
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures
