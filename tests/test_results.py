import copy
import csv

import numpy as np
import pytest

from ipr_lib import results, tables
from ipr_lib.config import REPOSITORY
from ipr_lib.files import InputError, read_json, write_json
from ipr_lib.layout import ACTIONS

REFERENCE = REPOSITORY / "results" / "reference" / "laptop.json"
README = REPOSITORY / "README.md"


def made_up(seed=0, shift=0.0):
    """A metrics.json by hand: Directions (2) and WalkTogether (16) alone, 3 and 1 pictures, given out of order."""
    def scores(first, last):
        return {
            "frame_mean": (3 * first + last) / 4, "action_mean": (first + last) / 2,
            "without_pelvis": {"frame_mean": first + 1, "action_mean": last + 1},
            "per_action": {"16": last, "2": first}, "per_joint": [first] * 16 + [last],
        }

    def every(mpjpe, pa_mpjpe, pa_mpjpe_scale):
        metrics = {
            "mpjpe": scores(*mpjpe) | {"interval": [30.0, 70.06]}, "pa_mpjpe": scores(*pa_mpjpe) | {"interval": None},
            "pa_mpjpe_scale": scores(*pa_mpjpe_scale),
        }
        sound = {name: {"frame_mean": 0.5 * values["frame_mean"], "action_mean": 0.0} for name, values in metrics.items()}
        parts = {"mpjpe_xy_per_joint": [1.0] * 17, "mpjpe_z_per_joint": [2.0] * 16 + [7.06]}
        return {"n": 4, **metrics, "without_damaged": {"n": 2, **sound}, "mpjpe_xy": 33.3, "mpjpe_z": 22.2, **parts}

    return {
        "run": f"made-up-{seed}", "profile": "laptop", "data": "built-in capture", "split": "S1 / S9", "test_step": 64,
        "train_items": 10, "samples_seen": 20, "oracle": ["box", "root depth"], "network": "small, 64 px, 16 x 16 x 8",
        "parameters": 1_234_567, "seed": seed, "commit": "abc", "device": "a processor", "checkpoint": f"{seed}",
        "minutes": {"data": 1.0, "training": 10.0 + seed, "evaluation": 1.0},
        "scores": every((40.04 + shift, 80.06 + shift), (30.0 + 2 * shift, 50.0), (20.0, 44.0)),
        "scores_flip": every((38.04 + 2 * shift, 78.0), (29.0, 49.0), (19.0, 43.0)),
        "mean_pose": every((100.0, 300.0), (90.0, 190.0), (1.0, 2.0)),
        "config": {"profile": "laptop", "seed": seed, "workers": 2, "epochs": 3, "lr_drops": [15, 17]},
    }


def table_after(text, heading):
    """Cells of the first Markdown table after `heading`, rule line left out."""
    lines = text[text.index(heading) + len(heading):].strip().splitlines()
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[:1] + rows[2:]


# --- the per-action table ---

def test_action_rows_by_hand():
    rows = results.action_rows(made_up())
    assert [row[0] for row in rows] == [
        "ours, MPJPE", "ours, PA-MPJPE (rigid)", "ours, PA-MPJPE (with scale)",
        "ours, flip test, MPJPE", "ours, flip test, PA-MPJPE (rigid)", "mean pose, MPJPE", "mean pose, PA-MPJPE (rigid)",
    ]
    missing = ["–"] * 13
    assert rows[0][1:] == ["40.0", *missing, "80.1", "50.0", "60.0"]  # (3 * 40.04 + 80.06) / 4 = 50.045
    assert rows[1][1:] == ["30.0", *missing, "50.0", "35.0", "40.0"]
    assert rows[2][1:] == ["20.0", *missing, "44.0", "26.0", "32.0"]
    assert rows[3][1:] == ["38.0", *missing, "78.0", "48.0", "58.0"]  # (3 * 38.04 + 78) / 4 = 48.03
    assert rows[5][1:] == ["100.0", *missing, "300.0", "150.0", "200.0"]


def test_rows_take_action_numbers_as_they_come_from_memory_too():
    metrics = made_up()
    for part in ("scores", "scores_flip", "mean_pose"):
        for metric in results.METRICS:
            per_action = metrics[part][metric]["per_action"]
            metrics[part][metric]["per_action"] = {int(action): value for action, value in per_action.items()}
    assert results.action_rows(metrics) == results.action_rows(made_up())


def test_report_holds_the_table_in_the_order_of_the_actions():
    text = results.report(made_up())
    ours, *_ = table = table_after(text, "## Per action")
    assert ours == ["mm", *results.SHORT_ACTIONS, "frame mean", "action mean"]
    assert len(results.SHORT_ACTIONS) == len(ACTIONS) == 15
    assert [row[0] for row in table[1:]] == [row[0] for row in results.action_rows(made_up())]
    assert table[1][1] == "40.0" and table[1][15] == "80.1" and table[1][2:15] == ["–"] * 13


def test_report_names_its_circumstances():
    text = results.report(made_up(seed=3))
    assert text.startswith("# made-up-3\n")
    assert "MPJPE **50.0 mm**, 0.33 of the mean pose's 150.0 mm. 17 joints, pelvis included. Oracle: box; root depth." in text
    assert "With the flip test, which published tables of this method use: 48.0 mm." in text
    for fact in (
        "| test items | 4 |", "| seed | 3 |", "1.23 million parameters", "| commit, device | abc, a processor |",
        "| minutes | data 1.0, training 13.0, evaluation 1.0 |", "| error across / along the view | 33.3 / 22.2 mm |",
        "S1 / S9, 64 frames", "**other data**, real Human3.6M",
    ):
        assert fact in text, fact
    for label in results.PUBLISHED:
        assert f"*{label}*" in text


def test_convention_rows_by_hand():
    scores = made_up()["scores"]
    rows = results.convention_rows("one look", scores)
    assert all(len(row) == len(results.CONVENTION_HEADER) for row in rows)
    assert rows[0] == ["one look, MPJPE", "50.0", "30.0 – 70.1", "60.0", "41.0", "25.0"]
    assert rows[1] == ["one look, PA-MPJPE (rigid)", "35.0", "–", "40.0", "31.0", "17.5"]
    assert results.convention_rows("", scores | {"without_damaged": {}})[0][-1] == "–", "nothing is left without them"


def test_joint_rows_by_hand():
    rows = results.joint_rows(made_up()["scores"])
    assert len(rows) == 17 and all(len(row) == len(results.JOINT_HEADER) for row in rows)
    assert rows[0] == ["Pelvis", "40.0", "30.0", "20.0", "1.0", "2.0"]
    assert rows[-1] == ["R_Wrist", "80.1", "50.0", "44.0", "1.0", "7.1"]


# --- formats ---

def test_markdown_table_by_hand():
    assert tables.markdown_table(["a", "b"], [["x", 1], ["y", "–"]]) == "| a | b |\n| :-- | --: |\n| x | 1 |\n| y | – |"


def test_csv_reads_back():
    text = tables.csv_table(["mm", "a, b"], [["x", "1.5"], ['say "y"', "–"]])
    assert text == 'mm,"a, b"\nx,1.5\n"say ""y""",\n'
    assert list(csv.reader(text.splitlines())) == [["mm", "a, b"], ["x", "1.5"], ['say "y"', ""]]


def test_latex_table_by_hand():
    text = tables.latex_table(["mm", "95 %"], [["a_1 & b", "1.0 – 2.0"], ["~x\\^{3}", "5 ± 1"]])
    assert text.splitlines() == [
        r"\begin{tabular}{lr}", r"\toprule", r"mm & 95 \% \\", r"\midrule", r"a\_1 \& b & 1.0 -- 2.0 \\",
        r"\textasciitilde{}x\textbackslash{}\textasciicircum{}\{3\} & 5 $\pm$ 1 \\", r"\bottomrule", r"\end{tabular}",
    ]


# --- numbers of others ---

def test_published_rows_have_fifteen_actions_and_the_printed_mean():
    rows = results.published_rows()
    assert len(rows) == 4
    for row, (label, values) in zip(rows, results.PUBLISHED.items()):
        assert len(values) == 16 and row == [f"*{label}*", *map("{:.1f}".format, values), "–"]
        assert not {"frame mean", "action mean"} & set(label.split(", "))


@pytest.mark.parametrize("label, action_mean", [
    ("paper, S11 only, PA-MPJPE (rigid)", 40.51),
    ("paper, S9+S11, MPJPE", 49.72),
    ("mks0601, S9+S11, PA-MPJPE (rigid)", 41.26),
    ("mks0601, S9+S11, MPJPE", 53.65),
])
def test_published_averages(label, action_mean):
    """A typing error in a cell would move the mean of its row; none of the printed averages is that very mean."""
    *values, printed = results.PUBLISHED[label]
    assert np.mean(values) == pytest.approx(action_mean, abs=0.005)
    assert 0.05 < abs(np.mean(values) - printed) < 1, "frame mean and action mean differ, by less than 1 mm"


# --- the reference, and the README's table ---

@pytest.fixture
def runs(tmp_path):
    """Folders of two made-up runs; the second one's MPJPE lies 2 mm and its rigid PA-MPJPE of Directions 4 mm higher."""
    for seed, shift in ((0, 0.0), (1, 2.0)):
        write_json(tmp_path / f"run{seed}" / "metrics.json", made_up(seed, shift))
    return [tmp_path / "run0", tmp_path / "run1"]


def test_reference_by_hand(runs, tmp_path):
    content = results.write_reference(runs, tmp_path / "reference" / "laptop.json")
    assert read_json(tmp_path / "reference" / "laptop.json") == content
    assert content["mpjpe"]["mean"] == pytest.approx(51.045)
    assert content["mpjpe"]["spread"] == pytest.approx(2.0)
    assert content["mpjpe"]["seeds"] == pytest.approx([50.045, 52.045])
    assert content["pa_mpjpe"]["seeds"] == pytest.approx([35.0, 38.0])  # (3 * 34 + 50) / 4 = 38
    assert content["action_mean"]["mean"] == pytest.approx(61.05)
    assert content["flip_test"]["mpjpe"]["seeds"] == pytest.approx([48.03, 51.03])  # (3 * 42.04 + 78) / 4 = 51.03
    assert content["per_action"]["pa_mpjpe"]["2"] == {"mean": 32.0, "spread": 4.0, "seeds": [30.0, 34.0]}
    assert content["per_action"]["pa_mpjpe"]["16"]["spread"] == 0.0
    assert content["mean_pose"] == 150.0 and content["seeds"] == [0, 1] and content["test_items"] == 4
    assert [minutes["training"] for minutes in content["minutes"]] == [10.0, 11.0]
    assert content["commit"] == ["abc"] and content["device"] == ["a processor"]
    assert content["oracle"] == ["box", "root depth"]


@pytest.mark.parametrize("change, named", [
    ({"config": {"epochs": 4}}, "epochs"), ({"config": {"lr_drops": [15]}}, "lr_drops"), ({"test_step": 32}, "test_step"),
    ({"split": "S1 / S11"}, "split"),
])
def test_runs_that_differ_in_more_than_the_seed_are_refused(runs, tmp_path, change, named):
    metrics = copy.deepcopy(made_up(seed=1))
    for name, value in change.items():
        metrics[name] = metrics[name] | value if isinstance(value, dict) else value
    write_json(runs[1] / "metrics.json", metrics)
    with pytest.raises(InputError, match=f"made-up-1 and made-up-0 differ in {named}, not only in the seed"):
        results.write_reference(runs, tmp_path / "laptop.json")
    assert not (tmp_path / "laptop.json").exists()


def test_workers_may_differ(runs, tmp_path):
    metrics = made_up(seed=1)
    metrics["config"]["workers"] = 9
    write_json(runs[1] / "metrics.json", metrics)
    assert results.write_reference(runs, tmp_path / "laptop.json")["seeds"] == [0, 1]


def test_a_run_without_scores_is_named(runs, tmp_path):
    (runs[1] / "metrics.json").unlink()
    with pytest.raises(InputError, match="run1/metrics.json is missing"):
        results.write_reference(runs, tmp_path / "laptop.json")


def test_readme_table_by_hand(runs, tmp_path):
    text = results.readme_table(results.write_reference(runs, tmp_path / "laptop.json"))
    header, row = table_after(text, "")
    metrics = ["MPJPE", "MPJPE, flip test", "PA-MPJPE (rigid)", "PA-MPJPE (with scale)"]
    assert header == ["profile", "network", "mean pose", *metrics, "minutes"]
    # Minutes: the longer of 1 + 10 + 1 and 1 + 11 + 1.
    assert row == ["`laptop`", "small, 64 px, 16 x 16 x 8", "150", "51.0 ± 1.0", "49.5 ± 1.5", "36.5 ± 1.5", "26.0 ± 0.0", "13"]
    note = results.reference_note(read_json(tmp_path / "laptop.json"))
    assert note in text.splitlines() and "2 seeds" in note and "4 pictures" in note and "oracle: box; root depth" in note and "commit abc" in note


def test_minutes_of_the_whole_run_are_in_the_readme_table(runs, tmp_path):
    """A run that only trained, and took longer over it beside other work, says nothing of what all takes."""
    slower = read_json(runs[0] / "metrics.json")
    write_json(runs[0] / "metrics.json", slower | {"minutes": slower["minutes"] | {"training": 90.0}})
    write_json(runs[1] / "minutes.json", {"data": 99.0, "evaluation": 99.0, "comparison": 2.5})
    for number, minutes in (("00", 0.26), ("08", 1.0)):
        write_json(runs[1] / number / "stamp.json", {"stamp": {}, "minutes": minutes})
    parts = {"data": 1.0, "training": 11.0, "evaluation": 1.0, "comparison": 2.5, "00": 0.26, "08": 1.0}
    assert results.run_minutes(runs[1]) == parts and len(results.run_minutes(runs[0])) == 3
    text = results.readme_table(results.write_reference(runs, tmp_path / "laptop.json"))
    header, row = table_after(text, "abc.")
    assert header == ["minutes", *parts, "all"]
    assert row == ["measured", "1.0", "11.0", "1.0", "2.5", "0.3", "1.0", "17"]
    assert table_after(text, "")[1][-1] == "17", "the first table names the same sum"


def test_readme_table_of_a_reference_without_flip_test(runs, tmp_path):
    reference = results.write_reference(runs, tmp_path / "laptop.json")
    del reference["flip_test"]
    header, row = table_after(results.readme_table(reference), "")
    assert header == ["profile", "network", "mean pose", *results.METRICS.values(), "minutes"]
    assert row[3:5] == ["51.0 ± 1.0", "36.5 ± 1.5"]


def test_readme_is_written_between_its_marks_and_nowhere_else(runs, tmp_path):
    reference, readme = tmp_path / "laptop.json", tmp_path / "README.md"
    results.write_reference(runs, reference)
    start, end = results.README_MARKS
    readme.write_text(f"before\n\n{start}\nold | table\n{end}\n\nafter\n")
    results.update_readme(readme, reference)
    once = readme.read_text()
    assert once.startswith(f"before\n\n{start}\n| profile |") and once.endswith(f"|\n{end}\n\nafter\n")
    assert "old" not in once and results.readme_table(read_json(reference)) in once
    results.update_readme(readme, reference)
    assert readme.read_text() == once
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "laptop.json", "run0", "run1"]


@pytest.mark.parametrize("text", ["no marks", "{start} only", "{end} before {start}"])
def test_readme_without_marks_is_left_alone(runs, tmp_path, text):
    start, end = results.README_MARKS
    readme, reference = tmp_path / "README.md", tmp_path / "laptop.json"
    readme.write_text(text := text.format(start=start, end=end))
    results.write_reference(runs, reference)
    with pytest.raises(InputError, match="lacks the marks"):
        results.update_readme(readme, reference)
    assert readme.read_text() == text


def test_readme_is_not_stale():
    if not REFERENCE.exists():
        pytest.skip("results/reference/laptop.json is not there: no run is quoted yet")
    text = README.read_text()
    if results.README_MARKS[0] not in text:
        pytest.skip("README.md has no marks for the table")
    shown = text.partition(results.README_MARKS[0])[2].partition(results.README_MARKS[1])[0].strip()
    assert shown == results.readme_table(read_json(REFERENCE)), "run `python -m ipr_lib report --readme`"


# --- circumstances ---

def test_device_and_commit_are_named():
    import torch

    assert results.device_name(torch.device("cpu")).endswith(f"{torch.get_num_threads()} threads")
    assert results.commit() == "unknown" or len(results.commit().rstrip("+")) == 10
