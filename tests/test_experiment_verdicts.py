import numpy as np
import pytest

from ipr_lib.experiment import plan as compare_plan
from ipr_lib.experiment import verdicts
from ipr_lib.files import InputError, read_json


def result(
    case, takes, seed=0, method=None, decoders=None, axis="method", deconvolutions=1, cells=None
):
    """One run's result with the same errors for all numbers; `decoders` gives others than the method's own."""
    method = method or case.partition(",")[0]
    own = verdicts.METHODS[method].decoder
    scores = {
        name: {
            "mpjpe": float(np.mean(values)),
            "pa_mpjpe": 1.0,
            "xy_px": 2.0,
            "z_mm": 3.0,
            "takes": list(values),
        }
        for name, values in ({own: takes} | (decoders or {})).items()
    }
    return {
        "case": case,
        "axis": axis,
        "method": method,
        "seed": seed,
        "decoders": scores,
        "samples_seen": 64,
        "minutes": 0.5,
        "cells": None if cells is None else {"mpjpe": cells},
        "mean_pose": 200.0,
        "commit": "abc",
        "device": "a machine",
        "config": {"deconvolutions": deconvolutions, "profile": "smoke"},
    }


def test_readings_are_found_by_case_and_decoder():
    runs = [
        result("H2", [3, 4], seed=1, decoders={"expectation": [7, 8]}),
        result("H2", [1, 2], decoders={"expectation": [5, 6]}),
    ]
    own = verdicts.errors_by_seed(runs, "H2")
    assert {seed: errors.tolist() for seed, errors in own.items()} == {0: [1, 2], 1: [3, 4]}
    other = verdicts.errors_by_seed(runs, "H2: expectation")
    assert {seed: errors.tolist() for seed, errors in other.items()} == {0: [5, 6], 1: [7, 8]}
    assert verdicts.errors_by_seed(runs, "H1") == verdicts.errors_by_seed(runs, "H2: direct") == {}


def test_signed_sums_pair_the_seeds_that_all_readings_have():
    runs = [result("I*", [10, 20], seed=4), result("I*", [30, 40], seed=1)]
    runs += [result("H2", [1, 2], seed=1), result("H2", [5, 6], seed=3), result("H2", [3, 4], 4)]
    assert verdicts.signed_sum(runs, ["I*"], ["H2"]).tolist() == [[29, 38], [7, 16]]
    assert verdicts.signed_sum(runs, ["I*", "H2"]).tolist() == [[31, 42], [13, 24]]
    assert len(verdicts.signed_sum(runs, ["I*"], ["H1"])) == 0


def test_constant_differences_have_no_width():
    assert [float(value) for value in verdicts.crossed_interval(np.full((3, 30), 5.0))] == [5, 5, 5]


def test_interval_by_hand():
    """Three seeds and two sequences: errors = 10 + seed (-3, 0, 3) + sequence (-2, 2) + rest.

    The rest is (1, -1), (-2, 2), (1, -1): it changes no mean. V(seed means) = 9, V(sequence means)
    = 8, V(rest) = (1 + 1 + 4 + 4 + 1 + 1) / 2 = 6, so SE^2 = 9/3 + 8/2 - 6/6 = 6. The degrees of
    freedom are 36 / (9/2 + 16/1 + 1/2) = 36/21; with them t = 5.1035 and the half width is 12.50.
    But the two sequence means alone have 12.7062 sqrt(4) = 25.41, which is more.
    """
    errors = np.array([[6.0, 8.0], [6.0, 14.0], [12.0, 14.0]])
    mean, low, high = verdicts.crossed_interval(errors)
    assert [mean, low, high] == pytest.approx([10, 10 - 25.4124, 10 + 25.4124], abs=1e-3)


def test_interval_by_hand_where_the_sum_of_both_parts_counts():
    """Sequence means 10 ± 2 four times over: V = 32/7, T = 8; V(seed means) = 9; no rest.

    SE^2 = 3 + 4/7 = 25/7, degrees of freedom (25/7)^2 / (9/2 + (16/49)/7) = 2.8058, where t is
    3.3106: half width 6.2564. The seed means alone have 4.3027 sqrt(3) = 7.4524, which is more.
    With a tenth of the seed effects, SE^2 = 0.03 + 4/7, degrees of freedom 0.6014^2 / (0.0009/2 +
    0.046647) = 7.681, t = 2.3229 and the half width is 1.8015.
    """
    sequences = np.array([-2.0, 2, -2, 2, -2, 2, -2, 2])
    seeds = np.array([[-3.0], [0], [3]])
    errors = np.stack([10 + seeds + sequences, 10 + seeds / 10 + sequences])
    mean, low, high = verdicts.crossed_interval(errors)
    assert mean == pytest.approx([10, 10])
    assert high - mean == pytest.approx([7.4524, 1.8015], abs=1e-3)
    assert mean - low == pytest.approx(high - mean)


@pytest.mark.parametrize("seed_effect", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_interval_covers_the_truth_as_often_as_it_says(seeds, seed_effect):
    """4,000 made-up comparisons of 60 sequences: 93 to 97 % of the intervals hold the true mean, 3 mm."""
    rng = np.random.default_rng(seeds)
    errors = 3 + rng.normal(0, seed_effect, (4000, seeds, 1))
    errors = errors + rng.normal(0, 12, (4000, 1, 60)) + rng.normal(0, 8, (4000, seeds, 60))
    _, low, high = verdicts.crossed_interval(errors)
    covered = np.mean((low <= 3) & (high >= 3))
    assert 0.93 <= covered <= 0.97


def on_axis(case, takes, axis, seed=0, samples=64, **config):
    run = result(case, takes, seed, axis=axis if "," in case else "method")
    config = {
        "profile": "laptop",
        "crop_px": 64,
        "trunk": "small",
        "trunk_width": 16,
        "depth_bins": 16,
        "deconvolutions": 2,
    } | config
    data = {
        "train_items": 15 if "alone" in case else 60,
        "with_depth": 15 if "quarter" in case else 60,
    }
    network = {
        "network": f"small (width {config['trunk_width']}), 64 px",
        "parameters": 1000 * config["trunk_width"],
    }
    return run | data | network | {"samples_seen": samples, "config": config}


def test_levels_of_an_axis_hold_the_base_and_ascend():
    runs = [
        on_axis("I*", [4, 6], "map"),
        on_axis("I*", [6, 8], "map", seed=1),
        on_axis("R1", [1, 3], "map"),
    ]
    runs += [
        on_axis("I*, map 32", [1, 1], "map", deconvolutions=3),
        on_axis("I*, map 8", [9, 9], "map", deconvolutions=1),
    ]
    runs += [on_axis("I*, three times the samples", [2, 2], "budget", samples=256)]
    effect = verdicts.axis_effect(runs, "map")
    assert (
        list(effect) == ["R1", "I*"]
        and list(effect["I*"]) == [8, 16, 32]
        and list(effect["R1"]) == [16]
    )
    assert effect["I*"][16].tolist() == [[4, 6], [6, 8]] and effect["I*"][32].tolist() == [[1, 1]]
    assert {
        level: errors.mean() for level, errors in verdicts.axis_effect(runs, "budget")["I*"].items()
    } == {64: 6, 256: 2}


def test_levels_in_words_go_from_little_to_much():
    words = "a quarter with depth, rest 2D", "a quarter alone"
    runs = [on_axis("H2", [1], "2D"), *(on_axis(f"H2, {word}", [2], "2D") for word in words)]
    assert list(verdicts.axis_effect(runs, "2D")["H2"]) == [
        "a quarter alone",
        "a quarter with depth, rest 2D",
        "all with depth",
    ]
    runs = [
        on_axis("H2, twice the width", [2], "trunk", trunk_width=32),
        on_axis("H2", [1], "trunk"),
    ]
    assert list(verdicts.axis_effect(runs, "trunk")["H2"]) == [
        "small (width 16)",
        "small (width 32)",
    ]


def judged(runs, claim):
    (row,) = [row for row in verdicts.judge(runs) if row["claim"] == claim]
    return row


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [([80.0, 90, 100], "yes"), ([100.0, 110, 120], "no"), ([70.0, 130, 102], "cannot tell")],
)
def test_verdicts_by_hand(ours, verdict):
    runs = []
    for seed in range(3):
        runs.append(result("I*", ours, seed))
        runs.append(result("R1", [90.0, 100, 110], seed))
    row = judged(runs, "integral from scratch beats direct regression")
    assert row["holds"] == verdict and row["seeds"] == 3
    assert row["measured"][0] == pytest.approx(np.mean(ours) - 100)


def test_two_seeds_cannot_tell():
    """However clear the difference: two trainings say too little about a third."""
    runs = [
        result(case, errors, seed)
        for seed in (0, 1)
        for case, errors in (("I*", [50.0, 51]), ("R1", [90.0, 91]))
    ]
    row = judged(runs, "integral from scratch beats direct regression")
    assert row["holds"] == "cannot tell" and row["measured"] == [-40, None, None]
    assert "| -40.0 | 2 | cannot tell |" in verdicts.claim_table([row])


@pytest.mark.parametrize(
    ("theirs", "verdict"), [([149.0, 151.0], "yes"), ([150.0, 152.0], "not judged")]
)
def test_a_network_that_has_learned_nothing_is_no_evidence(theirs, verdict):
    """The mean pose errs by 200 mm: H2 must reach 150 to be compared."""
    runs = []
    for seed in range(3):
        runs += [result("I*", [99.0, 101.0], seed), result("H2", theirs, seed)]
    row = judged(runs, "integral from scratch beats heat map + argmax: H2")
    assert row["holds"] == verdict and row["measured"][0] == 100 - np.mean(theirs)


def test_a_network_that_is_read_badly_has_learned():
    """H2's argmax errs by 190 mm, which its cells may cost, but its expectation by 90."""
    runs = []
    for seed in range(3):
        runs.append(result("H2", [190.0, 190], seed, decoders={"expectation": [90.0, 90]}))
        runs.append(result("I*", [80.0, 80], seed))
    assert judged(runs, "H2 read by expectation is still worse than I*")["holds"] == "yes"
    row = judged(runs, "reading H2 by expectation beats reading it by argmax")
    assert row["holds"] == "yes"
    row = judged(runs, "integral from scratch beats heat map + argmax: H2")
    assert row["holds"] == "yes" and row["measured"][0] == 80 - 190


def test_missing_runs_are_said_to_be_missing():
    assert all(
        row["holds"] == "not run" and row["measured"] is None
        for row in verdicts.judge([result("I*", [1.0])])
    )


def test_interaction_compares_differences():
    """A coarse map costs I* 2 mm and H2 10: a claim about 8."""
    runs = []
    for seed in range(3):
        runs += [result("I*", [50.0, 60], seed), result("I*, coarse map", [52.0, 62], seed)]
        runs += [result("H2", [70.0, 80], seed), result("H2, coarse map", [80.0, 90], seed)]
    row = judged(runs, "integral suffers less from a coarse map than argmax")
    assert row["measured"] == pytest.approx([-8, -8, -8]) and row["holds"] == "yes"


def test_claims_name_cases_that_exist():
    for profile in compare_plan.BASES:
        cases = {case.name for case in compare_plan.planned_cases(profile)}
        for claim, _, plus, minus in verdicts.CLAIMS:
            assert len(plus) == len(minus), "what all methods share cancels"
            for reading in [*plus, *minus]:
                case, _, decoder = reading.partition(": ")
                assert case in cases, claim
                method = case.partition(",")[0]
                assert decoder in ("", *verdicts.METHODS[method].decoders)


def test_sweep_table_marks_what_was_picked():
    runs = []
    for rate, height, error in ((0.002, 1.0, 90.0), (0.006, 1.0, 80.0), (0.006, 4.0, 70.0)):
        run = result("sweep of H1", [error], axis="sweep", method="H1")
        run["config"] = {"learning_rate": rate, "target_height": height}
        runs.append(run)
    table = verdicts.sweep_table([*runs, runs[1], result("H1", [50.0])])
    assert table.splitlines()[2:] == [
        "| H1 | 0.002 | target_height 1 | 90.0 |",
        "| H1 | 0.006 | target_height 1 | 80.0 |",
        "| H1 | 0.006 | target_height 4 | **70.0** |",
    ]
    assert "sweep" not in verdicts.case_table([*runs, result("H1", [50.0], cells=20.0)])


def test_tables_and_summary(tmp_path):
    runs = [
        result("H2", [80.0, 100], seed, decoders={"expectation": [60.0, 70]}, cells=45.0)
        for seed in (0, 1, 2)
    ]
    runs[1]["decoders"]["argmax"]["mpjpe"] = 94.0
    table = verdicts.case_table(runs)
    assert "| H2 | argmax | 91.3 ± 2.0 | 1.0 | 2.00 | 3.0 | 45.0 (49 %) | 64 | 3 | 0.5 |" in table
    assert "| H2 | expectation | 65.0 ± 0.0 |" in verdicts.case_table(runs, decoders=True)
    content = verdicts.write_summary(runs, tmp_path / "all.json")
    assert (
        content == read_json(tmp_path / "all.json")
        and content["headline"] == 90.0
        and content["minutes"] == 1.5
    )
    claims = verdicts.claim_table(content["claims"])
    assert (
        "| reading H2 by expectation beats reading it by argmax | question | -25.0 (-88.5 … +38.5) | 3 | cannot tell |"
        in claims
    )
    assert "| – | – | not run |" in claims
    with pytest.raises(InputError, match="no run to summarise"):
        verdicts.write_summary([], tmp_path / "none.json")
