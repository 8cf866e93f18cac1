import csv

import numpy as np
import pytest

from ipr_lib.data.h36m_layout import ACTIONS
from ipr_lib.evaluation import results, tables

from .made_up_scores import made_up, table_after

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


# --- circumstances ---

def test_a_limit_on_the_instructions_is_named(monkeypatch):
    """It costs a training half of its speed, so minutes mean nothing without it."""
    import torch

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert results.device_name(torch.device("cpu")).endswith(f"{torch.get_num_threads()} threads, limited to AVX2")


def test_device_and_commit_are_named(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    import torch

    assert results.device_name(torch.device("cpu")).endswith(f"{torch.get_num_threads()} threads")
    assert results.commit() == "unknown" or len(results.commit().rstrip("+")) == 10
