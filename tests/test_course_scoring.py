import csv

import numpy as np
import pytest
import torch

from ipr_lib.__main__ import main
from ipr_lib.config import load_config
from ipr_lib.course import pipeline
from ipr_lib.evaluation import metrics, report
from ipr_lib.evaluation.report import PASSES
from ipr_lib.files import InputError, read_json, write_json
from ipr_lib.run import find_run

from .conftest import TRAINING_SEED, write_sequence
from .test_evaluation_published import Net, checkpoint

TINY = {
    "dataset": "made-up",
    "train_subjects": [1],
    "test_subjects": [9, 11],
    "train_step": 3,
    "test_step": 3,
    "batch_size": 2,
    "epochs": 1,
    "backbone_width": 4,
    "head_width": 8,
    "workers": 1,
}


def config():
    return load_config("smoke", seed=TRAINING_SEED, **TINY)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A prepared set, S1 to train, S9 and S11 to test, one of S9's takes of a damaged number; a trained run of it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPR_DATA", str(home / "data"))
        for subject, action, subaction in (
            (1, 2, 1),
            (9, 2, 1),
            (9, 5, 2),
            (11, 2, 1),
            (11, 16, 2),
        ):
            write_sequence(home / "data" / "made-up", subject, action, subaction)
        write_json(home / "data" / "made-up" / "capture.json", {"version": 1})
        metrics = pipeline.evaluated(config(), home / "results")
        yield home, home / "results" / metrics["run"], metrics


@pytest.fixture(autouse=True)
def data(home, monkeypatch):
    monkeypatch.setenv("IPR_DATA", str(home[0] / "data"))


# --- runs ---


def test_runs_are_found_by_name_or_path(home):
    _, folder, _ = home
    assert find_run(folder.name, folder.parent) == folder == find_run(folder, "elsewhere")
    with pytest.raises(InputError, match=f"no run smok in .*; choose one of {folder.name}"):
        find_run("smok", folder.parent)
    with pytest.raises(InputError, match="no run a in .*; train one first"):
        find_run("a", folder.parent.parent / "data")


def test_a_checkpoint_brings_its_config(home, tmp_path):
    _, folder, _ = home
    model, cfg, path = pipeline.open_run(folder)
    assert cfg == config() and path == folder / "checkpoint.pt" and not model.training
    copy = tmp_path / "other.pt"
    copy.write_bytes(path.read_bytes())
    other, _, found = pipeline.open_run(folder, copy)
    assert found == copy and all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values())
    )
    (folder / "best.pt").write_bytes(path.read_bytes())
    assert pipeline.open_run(folder, "best")[2] == folder / "best.pt"
    (folder / "best.pt").unlink()
    with pytest.raises(InputError, match="best.pt is missing; pass --checkpoint last"):
        pipeline.open_run(folder, "best")
    copy.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="other.pt is not a complete checkpoint of this library"):
        pipeline.open_run(folder, copy)


def test_subjects_without_a_picture_are_named(home):
    _, folder, _ = home
    with pytest.raises(InputError, match="no test picture of S1,5: the test split holds S9,11"):
        pipeline.evaluate_run(folder, "last", [9, 5, 1])


@pytest.mark.usefixtures("training_seed")
def test_the_same_scores_as_the_run_has(home):
    _, folder, metrics = home
    content, target = pipeline.evaluate_run(folder)
    assert target == folder / "test" / "checkpoint"
    for name in ("scores", "scores_flip"):
        assert content[name]["n"] == metrics[name]["n"] == 12
        for metric in ("mpjpe", "pa_mpjpe", "pa_mpjpe_scale"):
            assert content[name][metric]["frame_mean"] == pytest.approx(
                metrics[name][metric]["frame_mean"], rel=1e-6
            )
    assert content["scores"]["mpjpe"] != content["scores_flip"]["mpjpe"]
    assert content["scores"]["without_damaged"]["n"] == 9, "three pictures of S9, action 5, take 2"
    assert content["oracle"] == metrics["oracle"] and content["split"] == "S1 / S9,11"
    assert (
        content["checkpoint"] == metrics["checkpoint"]
        and content["checkpoint_file"] == "checkpoint.pt"
    )


def test_files_of_a_scoring(home):
    _, folder, _ = home
    content, target = pipeline.evaluate_run(
        folder, "last", [11], "estimated", "box", "assumed", texts=True
    )
    assert target == folder / "test" / "checkpoint-box-estimated-root-box-intrinsics-assumed-S11"
    assert sorted(path.name for path in target.iterdir()) == [
        "gt_3d_kpt.txt",
        "metrics.json",
        "pred_3d_kpt.txt",
        "pred_3d_kpt_align.txt",
        "predictions.npz",
        "report.md",
        "table.csv",
        "table.md",
        "table.tex",
    ]
    assert read_json(target / "metrics.json")["scores"]["n"] == 6 and content["split"] == "S1 / S11"
    predictions = np.load(target / "predictions.npz")
    _, test_store = pipeline.stores(config())
    assert set(test_store.columns["subject"][predictions["items"]]) == {11}
    again = metrics.score_items(
        predictions["pred_cam_flip"],
        {
            name: test_store.columns[name][predictions["items"]]
            for name in ("joints_cam", "subject", "action", "subaction")
        },
    )
    assert again["mpjpe"]["frame_mean"] == pytest.approx(
        content["scores_flip"]["mpjpe"]["frame_mean"]
    )
    header, *rows = csv.reader((target / "table.csv").read_text(encoding="utf-8").splitlines())
    assert len(rows) == 8 and {len(row) for row in rows} == {len(header)} == {18}
    assert (
        rows[0][0] == "ours, MPJPE"
        and rows[0][-2] == f"{content['scores']['mpjpe']['frame_mean']:.1f}"
    )
    assert rows[0][2] == "" and rows[0][1] != "" and rows[0][15] != "", "actions 2 and 16 alone"
    assert np.loadtxt(target / "pred_3d_kpt.txt").shape == (6, 54)


def test_a_network_of_other_data_is_refused(home):
    root, folder, _ = home
    manifest = root / "data" / "made-up" / "capture.json"
    write_json(manifest, {"version": 2})
    try:
        with pytest.raises(InputError, match="trained on another version of made-up"):
            pipeline.evaluate_run(folder)
    finally:
        write_json(manifest, {"version": 1})


# --- published networks ---


def test_published_is_scored_both_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("IPR_RESULTS", str(tmp_path))
    torch.manual_seed(1)
    torch.save(checkpoint(Net("mks0601")), tmp_path / "snapshot_16.pth.tar")
    cfg = config()
    content, folder = pipeline.evaluate_published(tmp_path / "snapshot_16.pth.tar", cfg, texts=True)
    assert (
        folder == tmp_path / f"published-mks0601-made-up-snapshot_16-{content['fingerprint'][:8]}"
    )
    assert content["release"] == "mks0601"
    assert set(content["released"]) == set(content["ours"]) == set(PASSES)
    for name in PASSES:
        # The roots are put together both ways; the alignments are over 18 joints and over 17.
        assert content["released"][name]["mpjpe"]["frame_mean"] == pytest.approx(
            content["ours"][name]["mpjpe"]["frame_mean"]
        )
        assert (
            content["released"][name]["pa_mpjpe"]["frame_mean"]
            != content["ours"][name]["pa_mpjpe"]["frame_mean"]
        )
    with np.load(folder / "predictions.npz") as file:
        assert file["pred_cam, one look"].shape == file["target_cam"].shape == (12, 18, 3)
        released = file["pred_cam, flip test as released"]
    texts = np.loadtxt(folder / "pred_3d_kpt.txt").reshape(12, 18, 3)
    np.testing.assert_allclose(texts, released - released[:, :1], atol=6e-4)
    text = report.published_report(content)
    assert "release of mks0601, epoch 16" in text and "*mks0601" not in text, (
        "its printed row is of Human3.6M"
    )
    shown = content | {"data": "human36m"}
    assert "| *mks0601, S9+S11, MPJPE* | 50.8 |" in report.published_report(shown)


# --- the command ---


def test_command(home, capsys):
    _, folder, metrics = home
    arguments = ["test", "--results-dir", str(folder.parent)]
    assert main([*arguments, "--run", folder.name, "--root", "mean"]) == 0
    shown = capsys.readouterr().out
    assert (
        shown.startswith(f"# {folder.name}, checkpoint.pt")
        and "root depth assumed (" in shown
        and "## Per joint" in shown
    )
    assert str(folder / "test" / "checkpoint-root-mean") in shown
    fields = [f"{name}={str(value).replace(' ', '')}" for name, value in TINY.items()]
    assert (
        main([*arguments, "--profile", "smoke", "--seed", str(TRAINING_SEED), "--set", *fields])
        == 0
    )
    shown = capsys.readouterr().out
    assert (
        f"# {metrics['run']}" in shown
        and f"**{metrics['scores']['mpjpe']['frame_mean']:.1f} mm**" in shown
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--run", "a", "--profile", "smoke"],
            "--profile has no effect with --run, which brings its own config",
        ),
        (["--run", "nothing"], "no run nothing in"),
        (["--published", "a.pth", "--root", "mean"], "--root has no effect with --published"),
        (["--published", "nowhere.pth"], "nowhere.pth is missing"),
    ],
)
def test_wrong_arguments_are_one_line(home, capsys, arguments, message):
    assert main(["test", "--results-dir", str(home[1].parent), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
