import csv

import numpy as np
import pytest

from ipr_lib.evaluation import report
from ipr_lib.evaluation.metrics import METRICS

from .made_up_scores import made_up

# --- the per-action table ---


def test_action_rows_by_hand():
    rows = report.action_rows(made_up())
    assert [row[0] for row in rows] == [
        "ours, MPJPE",
        "ours, PA-MPJPE (rigid)",
        "ours, PA-MPJPE (with scale)",
        "ours, flip test, MPJPE",
        "ours, flip test, PA-MPJPE (rigid)",
        "ours, flip test, PA-MPJPE (with scale)",
        "mean pose, MPJPE",
        "mean pose, PA-MPJPE (rigid)",
    ]
    missing = ["–"] * 13
    assert rows[0][1:] == [
        "40.0",
        *missing,
        "80.1",
        "50.0",
        "60.0",
    ]  # (3 * 40.04 + 80.06) / 4 = 50.045
    assert rows[1][1:] == ["30.0", *missing, "50.0", "35.0", "40.0"]
    assert rows[2][1:] == ["20.0", *missing, "44.0", "26.0", "32.0"]
    assert rows[3][1:] == ["38.0", *missing, "78.0", "48.0", "58.0"]  # (3 * 38.04 + 78) / 4 = 48.03
    assert rows[6][1:] == ["100.0", *missing, "300.0", "150.0", "200.0"]


def test_rows_take_action_numbers_as_they_come_from_memory_too():
    metrics = made_up()
    for part in ("scores", "scores_flip", "mean_pose"):
        for metric in METRICS:
            per_action = metrics[part][metric]["per_action"]
            metrics[part][metric]["per_action"] = {
                int(action): value for action, value in per_action.items()
            }
    assert report.action_rows(metrics) == report.action_rows(made_up())


def test_each_action_has_its_short_name_and_its_column():
    """The numbers of Human3.6M's actions: 2 is Directions, 3 Discussion, …, 12 TakingPhoto, …, 16 WalkTogether."""
    names = {
        2: "Dir.",
        3: "Dis.",
        4: "Eat",
        5: "Gre.",
        6: "Phon.",
        7: "Pose",
        8: "Pur.",
        9: "Sit.",
        10: "Sit D.",
        11: "Smo.",
        12: "Phot.",
        13: "Wait",
        14: "Walk",
        15: "Walk D.",
        16: "Walk P.",
    }
    header = report.ACTION_HEADER
    assert header[0] == "mm" and header[16:] == ["frame mean", "action mean"]
    for action, name in names.items():
        scores = {"mpjpe": {"per_action": {action: 77.0}, "frame_mean": 1.0, "action_mean": 2.0}}
        (row,) = report.score_rows("", scores, ["mpjpe"])
        assert header[row.index("77.0")] == name


def test_convention_rows_by_hand():
    scores = made_up()["scores"]
    rows = report.convention_rows("one look", scores)
    assert all(len(row) == len(report.CONVENTION_HEADER) for row in rows)
    assert rows[0] == ["one look, MPJPE", "50.0", "30.0 – 70.1", "60.0", "41.0", "25.0"]
    assert rows[1] == ["one look, PA-MPJPE (rigid)", "35.0", "–", "40.0", "31.0", "17.5"]
    assert report.convention_rows("", scores | {"without_damaged": {}})[0][-1] == "–", (
        "nothing is left without them"
    )


def test_joint_rows_by_hand():
    rows = report.joint_rows(made_up()["scores"])
    assert len(rows) == 17 and all(len(row) == len(report.JOINT_HEADER) for row in rows)
    assert rows[0] == ["Pelvis", "40.0", "30.0", "20.0", "1.0", "2.0"]
    assert rows[-1] == ["R_Wrist", "80.1", "50.0", "44.0", "1.0", "7.1"]


# --- formats ---


def test_markdown_table_by_hand():
    assert (
        report.markdown_table(["a", "b"], [["x", 1], ["y", "–"]])
        == "| a | b |\n| :-- | --: |\n| x | 1 |\n| y | – |"
    )


def test_csv_reads_back():
    text = report.csv_table(["mm", "a, b"], [["x", "1.5"], ['say "y"', "–"]])
    assert text == 'mm,"a, b"\nx,1.5\n"say ""y""",\n'
    assert list(csv.reader(text.splitlines())) == [["mm", "a, b"], ["x", "1.5"], ['say "y"', ""]]


def test_latex_table_by_hand():
    text = report.latex_table(["mm", "95 %"], [["a_1 & b", "1.0 – 2.0"], ["~x\\^{3}", "5 ± 1"]])
    assert text.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"mm & 95 \% \\",
        r"\midrule",
        r"a\_1 \& b & 1.0 -- 2.0 \\",
        r"\textasciitilde{}x\textbackslash{}\textasciicircum{}\{3\} & 5 $\pm$ 1 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


# --- numbers of others ---


def test_published_rows_have_fifteen_actions_and_the_printed_mean():
    rows = report.published_rows()
    assert len(rows) == 4
    for row, (label, values) in zip(rows, report.PUBLISHED.items()):
        assert len(values) == 16 and row == [f"*{label}*", *map("{:.1f}".format, values), "–"]
        assert not {"frame mean", "action mean"} & set(label.split(", "))


@pytest.mark.parametrize(
    "label, action_mean",
    [
        ("paper, S11 only, PA-MPJPE (rigid)", 40.51),
        ("paper, S9+S11, MPJPE", 49.72),
        ("mks0601, S9+S11, PA-MPJPE (rigid)", 41.26),
        ("mks0601, S9+S11, MPJPE", 53.65),
    ],
)
def test_published_averages(label, action_mean):
    """A typing error in a cell would move the mean of its row; none of the printed averages is that very mean."""
    *values, printed = report.PUBLISHED[label]
    assert np.mean(values) == pytest.approx(action_mean, abs=0.005)
    assert 0.05 < abs(np.mean(values) - printed) < 1, (
        "frame mean and action mean differ, by less than 1 mm"
    )
