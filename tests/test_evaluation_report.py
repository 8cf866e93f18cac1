import copy

import numpy as np
import pytest

from ipr_lib.evaluation import metrics, report
from ipr_lib.files import REPOSITORY, InputError, read_json, write_json

from .made_up_scores import made_up, table_after

REFERENCE = REPOSITORY / "results" / "reference" / "laptop.json"
README = REPOSITORY / "README.md"


# --- reports ---


def test_report_holds_the_table_in_the_order_of_the_actions():
    text = report.run_report(made_up())
    ours, *_ = table = table_after(text, "## Per action")
    assert ours == ["mm", *report.SHORT_ACTIONS, "frame mean", "action mean"]
    assert [row[0] for row in table[1:]] == [row[0] for row in report.action_rows(made_up())]
    assert table[1][1] == "40.0" and table[1][15] == "80.1" and table[1][2:15] == ["–"] * 13


def test_report_names_its_circumstances():
    text = report.run_report(made_up(seed=3))
    assert text.startswith("# made-up-3\n")
    assert (
        "MPJPE **50.0 mm**, 0.33 of the mean pose's 150.0 mm. 17 joints, pelvis included. Oracle inputs: box; root depth."
        in text
    )
    assert "With the flip test, which published tables of this method use: 48.0 mm." in text
    for fact in (
        "| test items | 4 |",
        "| seed | 3 |",
        "1.23 million parameters",
        "| commit, device | abc, a processor |",
        "| minutes | data 1.0, training 13.0, evaluation 1.0 |",
        "| error across / along the view | 33.3 / 22.2 mm |",
        "S1 / S9, 64 frames",
        "real Human3.6M; on **other data** they show",
    ):
        assert fact in text, fact
    for label in report.PUBLISHED:
        assert f"*{label}*" in text


def test_report_says_when_others_numbers_may_be_compared():
    """On Human3.6M alone, also with 2D sets beside it; nowhere else."""
    others = "on **other data** they show how such a table is read, not what to compare with"
    for data in ("human36m", "/sets/human36m", "human36m + mpii"):
        text = report.run_report(made_up() | {"data": data, "split": "S1,5,6,7,8 / S9,11"})
        assert others not in text
        assert "and so was this run. A row may be compared" in text
        assert "where its test subjects are the same: here, S9,11." in text
    for data in ("built-in capture", "made-up", "human36mm"):
        text = report.run_report(made_up() | {"data": data})
        assert others in text and "may be compared" not in text


# --- text files ---


def test_text_files_hold_a_pose_a_line(tmp_path):
    pred, target = np.random.default_rng(0).normal(0, 300, (2, 4, 18, 3)) + [100, 200, 4000]
    report.write_poses(tmp_path, pred, target)
    lines = (tmp_path / "pred_3d_kpt.txt").read_text(encoding="utf-8").split("\n")
    assert (
        len(lines) == 5
        and lines[-1] == ""
        and lines[0].startswith("0.000 0.000 0.000 ")
        and lines[0].endswith(" ")
    )
    assert len(lines[0].split()) == 54
    read = {
        name: np.loadtxt(tmp_path / f"{name}.txt").reshape(4, 18, 3)
        for name in ("pred_3d_kpt", "pred_3d_kpt_align", "gt_3d_kpt")
    }
    np.testing.assert_allclose(read["pred_3d_kpt"], pred - pred[:, :1], atol=6e-4)
    np.testing.assert_allclose(read["gt_3d_kpt"], target - target[:, :1], atol=6e-4)
    errors = np.linalg.norm(read["pred_3d_kpt_align"] - read["gt_3d_kpt"], axis=-1)
    assert errors.mean() == pytest.approx(metrics.pa_mpjpe(pred, target), abs=1e-3)


# --- several runs ---


@pytest.fixture
def runs(tmp_path):
    """Folders of two made-up runs; the second one's MPJPE lies 2 mm and its rigid PA-MPJPE of Directions 4 mm higher."""
    for seed, shift in ((0, 0.0), (1, 2.0)):
        write_json(tmp_path / f"run{seed}" / "metrics.json", made_up(seed, shift))
    return [tmp_path / "run0", tmp_path / "run1"]


def test_reference_by_hand(runs, tmp_path):
    content = report.write_reference(runs, tmp_path / "reference" / "laptop.json")
    assert read_json(tmp_path / "reference" / "laptop.json") == content
    assert content["mpjpe"]["mean"] == pytest.approx(51.045)
    assert content["mpjpe"]["spread"] == pytest.approx(2.0)
    assert content["mpjpe"]["seeds"] == pytest.approx([50.045, 52.045])
    assert content["pa_mpjpe"]["seeds"] == pytest.approx([35.0, 38.0])  # (3 * 34 + 50) / 4 = 38
    assert content["action_mean"]["mean"] == pytest.approx(61.05)
    assert content["flip_test"]["mpjpe"]["seeds"] == pytest.approx(
        [48.03, 51.03]
    )  # (3 * 42.04 + 78) / 4 = 51.03
    assert content["per_action"]["pa_mpjpe"]["2"] == {
        "mean": 32.0,
        "spread": 4.0,
        "seeds": [30.0, 34.0],
    }
    assert content["per_action"]["pa_mpjpe"]["16"]["spread"] == 0.0
    assert (
        content["mean_pose"] == 150.0 and content["seeds"] == [0, 1] and content["test_items"] == 4
    )
    assert [minutes["training"] for minutes in content["minutes"]] == [10.0, 11.0]
    assert content["commit"] == ["abc"] and content["device"] == ["a processor"]
    assert content["oracle"] == ["box", "root depth"]


@pytest.mark.parametrize(
    "change, named",
    [
        ({"config": {"epochs": 4}}, "epochs"),
        ({"config": {"lr_drops": [15]}}, "lr_drops"),
        ({"test_step": 32}, "test_step"),
        ({"split": "S1 / S11"}, "split"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_refused(runs, tmp_path, change, named):
    metrics = copy.deepcopy(made_up(seed=1))
    for name, value in change.items():
        metrics[name] = metrics[name] | value if isinstance(value, dict) else value
    write_json(runs[1] / "metrics.json", metrics)
    with pytest.raises(
        InputError, match=f"made-up-1 and made-up-0 differ in {named}, not only in the seed"
    ):
        report.write_reference(runs, tmp_path / "laptop.json")
    assert not (tmp_path / "laptop.json").exists()


def test_workers_may_differ(runs, tmp_path):
    metrics = made_up(seed=1)
    metrics["config"]["workers"] = 9
    write_json(runs[1] / "metrics.json", metrics)
    assert report.write_reference(runs, tmp_path / "laptop.json")["seeds"] == [0, 1]


def test_a_run_without_scores_is_named(runs, tmp_path):
    (runs[1] / "metrics.json").unlink()
    with pytest.raises(InputError, match="run1/metrics.json is missing"):
        report.write_reference(runs, tmp_path / "laptop.json")


def test_readme_table_by_hand(runs, tmp_path):
    text = report.readme_table(report.write_reference(runs, tmp_path / "laptop.json"))
    header, row = table_after(text, "")
    metrics = ["MPJPE", "MPJPE, flip test", "PA-MPJPE (rigid)", "PA-MPJPE (with scale)"]
    assert header == ["profile", "network", "mean pose", *metrics]
    assert row == [
        "`laptop`",
        "small, 64 px, 16 x 16 x 8",
        "150",
        "51.0 ± 1.0",
        "49.5 ± 1.5",
        "36.5 ± 1.5",
        "26.0 ± 0.0",
    ]
    note = report.reference_note(read_json(tmp_path / "laptop.json"))
    assert (
        note in text.splitlines()
        and "2 seeds" in note
        and "4 pictures" in note
        and "oracle inputs: box; root depth" in note
        and "commit abc" in note
    )


def test_one_seed_has_no_spread(runs, tmp_path):
    text = report.readme_table(report.write_reference(runs[:1], tmp_path / "laptop.json"))
    assert "±" not in text and "frame mean of seed 0 alone; " in text


def test_minutes_of_the_whole_run_are_in_the_readme_table(runs, tmp_path):
    """A run that only trained, and took longer over it beside other work, says nothing of what all takes."""
    slower = read_json(runs[0] / "metrics.json")
    write_json(
        runs[0] / "metrics.json", slower | {"minutes": slower["minutes"] | {"training": 90.0}}
    )
    write_json(runs[1] / "minutes.json", {"data": 99.0, "evaluation": 99.0, "comparison": 2.5})
    for number, minutes in (("00", 0.26), ("08", 1.0)):
        write_json(runs[1] / number / "stamp.json", {"stamp": {}, "minutes": minutes})
    parts = {
        "data": 1.0,
        "training": 11.0,
        "evaluation": 1.0,
        "comparison": 2.5,
        "00": 0.26,
        "08": 1.0,
    }
    assert report.run_minutes(runs[1]) == parts and len(report.run_minutes(runs[0])) == 3
    write_json(runs[0] / "metrics.json", slower | {"minutes": {"evaluation": 0.1}})  # only scored
    reference = report.write_reference(runs, tmp_path / "laptop.json")
    slow = reference | {
        "device": ["old processor"],
        "minutes": [{"data": 9.0, "training": 40.0, "evaluation": 0.5}],
    }
    text = report.readme_table(reference, [slow])
    header, row, other = table_after(text, "abc.")
    steps = ["data", "training", "evaluation", "comparison", "notebooks"]
    assert header == ["minutes on", *steps, "all"]
    # 0.26 + 1.0 of the notebooks; 1 + 11 + 1 + 2.5 + 1.26 in all.
    assert row[1:] == ["1.0", "11.0", "1.0", "2.5", "1.3", "17"]
    assert row[0] == ", ".join(reference["device"])
    assert other == ["old processor", "9.0", "40.0", "0.5", "0.0", "0.0", "50"]


def test_readme_names_the_runs_on_other_processors(runs, tmp_path):
    reference, other = tmp_path / "laptop.json", tmp_path / "laptop-avx2.json"
    content = report.write_reference(runs, reference)
    write_json(other, content | {"device": ["a processor without AMX"]})
    write_json(tmp_path / "compare-laptop.json", {"of": "another kind"})
    start, end = report.README_MARKS
    readme = tmp_path / "README.md"
    readme.write_text(f"{start}\n{end}\n", encoding="utf-8")
    report.update_readme(readme, reference)
    assert "| a processor without AMX | 1.0 |" in readme.read_text(encoding="utf-8")


def test_readme_is_written_between_its_marks_and_nowhere_else(runs, tmp_path):
    reference, readme = tmp_path / "laptop.json", tmp_path / "README.md"
    report.write_reference(runs, reference)
    start, end = report.README_MARKS
    readme.write_text(f"before\n\n{start}\nold | table\n{end}\n\nafter\n", encoding="utf-8")
    report.update_readme(readme, reference)
    once = readme.read_text(encoding="utf-8")
    assert once.startswith(f"before\n\n{start}\n| profile |") and once.endswith(
        f"|\n{end}\n\nafter\n"
    )
    assert "old" not in once and report.readme_table(read_json(reference)) in once
    report.update_readme(readme, reference)
    assert readme.read_text(encoding="utf-8") == once
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "laptop.json",
        "run0",
        "run1",
    ]


def test_each_notebook_has_its_minutes_in_the_readme(runs, tmp_path):
    write_json(runs[0] / "08" / "stamp.json", {"stamp": {}, "minutes": 1.26})
    reference, readme = tmp_path / "laptop.json", tmp_path / "README.md"
    report.write_reference(runs, reference)
    start, end = report.README_MARKS
    before = f"| 08 | above the table | |\n{start}\n{end}\n"
    after = (
        "| 08 | [rivals](08.ipynb) | read | 9.9 |\n| 09 | [train](09.ipynb) | go | |\n| 8 | a | |\n"
    )
    readme.write_text(before + after, encoding="utf-8")
    report.update_readme(readme, reference)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("| 08 | above the table | |\n")
    # Of 09 no minutes are known.
    assert text.endswith(
        "| 08 | [rivals](08.ipynb) | read | 1.3 |\n| 09 | [train](09.ipynb) | go | |\n| 8 | a | |\n"
    )


@pytest.mark.parametrize("text", ["no marks", "{start} only", "{end} before {start}"])
def test_readme_without_marks_is_left_alone(runs, tmp_path, text):
    start, end = report.README_MARKS
    readme, reference = tmp_path / "README.md", tmp_path / "laptop.json"
    readme.write_text(text := text.format(start=start, end=end), encoding="utf-8")
    report.write_reference(runs, reference)
    with pytest.raises(InputError, match="lacks the marks"):
        report.update_readme(readme, reference)
    assert readme.read_text(encoding="utf-8") == text


def test_readme_is_not_stale():
    if not REFERENCE.exists():
        pytest.skip("results/reference/laptop.json is not there: no run is quoted yet")
    text = README.read_text(encoding="utf-8")
    if report.README_MARKS[0] not in text:
        pytest.skip("README.md has no marks for the table")
    shown = text.partition(report.README_MARKS[0])[2].partition(report.README_MARKS[1])[0].strip()
    others = sorted(REFERENCE.parent.glob("laptop-*.json"))
    expected = report.readme_table(read_json(REFERENCE), [read_json(path) for path in others])
    assert shown == expected, "run `python -m ipr_lib report --readme`"
