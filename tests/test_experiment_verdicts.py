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
        "commit": "abc",
        "device": "a machine",
        "config": {"deconvolutions": deconvolutions, "profile": "smoke"},
    }


def test_pick_orders_by_seed_and_reads_the_own_decoder():
    runs = [
        result("H2", [3, 4], seed=1, decoders={"expectation": [7, 8]}),
        result("H2", [1, 2], decoders={"expectation": [5, 6]}),
    ]
    assert verdicts.pick(runs, "H2").tolist() == [[1, 2], [3, 4]]
    assert verdicts.pick(runs, "H2", "expectation").tolist() == [[5, 6], [7, 8]]
    assert verdicts.pick(runs, "H1") is None


def test_constant_differences_have_no_width():
    rng = np.random.default_rng(0)
    hard = rng.uniform(50, 200, (2, 30))  # takes differ much, the two methods by 5 on each
    np.testing.assert_allclose(verdicts.paired_interval([(1, hard + 5), (-1, hard)]), (5, 5, 5))


def test_interval_of_noise_covers_its_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for i in range(60):
        mean, low, high = verdicts.paired_interval(
            [(1, rng.normal(3, 10, (1, 40)))], draws=400, seed=i
        )
        assert low < mean < high
        covered += low <= 3 <= high
    assert 50 <= covered <= 60


def test_seeds_widen_the_interval():
    takes = np.zeros((3, 40)) + np.array([[-10.0], [0.0], [10.0]])
    mean, low, high = verdicts.paired_interval([(1, takes)])
    assert mean == 0 and low < -5 and high > 5


def test_only_shared_seeds_are_compared():
    mean, *_ = verdicts.paired_interval(
        [(1, np.array([[4.0, 4], [100, 100]])), (-1, np.array([[1.0, 1]]))]
    )
    assert mean == 3


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
    runs += [on_axis("I*, 4 x the samples", [2, 2], "budget", samples=256)]
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
    row = judged(
        [result("I*", ours), result("R1", [90.0, 100, 110])],
        "integral from scratch beats direct regression",
    )
    assert row["holds"] == verdict and row["seeds"] == 1
    assert row["measured"][0] == pytest.approx(np.mean(ours) - 100)


def test_missing_runs_are_said_to_be_missing():
    assert all(
        row["holds"] == "not run" and row["measured"] is None
        for row in verdicts.judge([result("I*", [1.0])])
    )


def test_interaction_compares_differences():
    """Coarse maps cost I* 2 and H2 10: a claim about 8, named after the coarsest map that was run."""
    runs = [result("I*", [50.0, 60], deconvolutions=2), result("H2", [70.0, 80], deconvolutions=2)]
    for name, map_name, add, deconvolutions in (
        ("I*", "map 8", 2, 1),
        ("H2", "map 8", 10, 1),
        ("I*", "map 32", -90, 3),
    ):
        takes = [value + add for value in ([50.0, 60] if name == "I*" else [70.0, 80])]
        runs.append(result(f"{name}, {map_name}", takes, axis="map", deconvolutions=deconvolutions))
    row = judged(runs, "integral suffers less from a coarse map than argmax")
    assert row["measured"] == pytest.approx([-8, -8, -8]) and row["holds"] == "yes"


def test_a_finer_map_alone_is_not_taken_for_a_coarse_one():
    """From the base's map to a finer one I* gains 2 and H2 10: the coarse map, the base's, costs I* less."""
    runs = [result("I*", [50.0, 60]), result("H2", [70.0, 80])]
    runs += [
        result(f"{name}, map 16", takes, axis="map", deconvolutions=2)
        for name, takes in (("I*", [48.0, 58]), ("H2", [60.0, 70]))
    ]
    row = judged(runs, "integral suffers less from a coarse map than argmax")
    assert row["measured"] == pytest.approx([-8, -8, -8]) and row["holds"] == "yes"
    assert (
        judged(runs[2:], "integral suffers less from a coarse map than argmax")["holds"]
        == "not run"
    )


def test_claims_name_cases_that_exist():
    for profile in compare_plan.BASES:
        cases = {case.name for case in compare_plan.planned_cases(profile)}
        levels = {"coarse": f", {compare_plan.LEVELS[profile][0][1]}", "fine": ""}
        for claim, _, terms in verdicts.CLAIMS:
            for _, case, decoder in terms:
                assert case.format(**levels) in cases, claim
                method = case.partition(",")[0]
                assert decoder is None or decoder in verdicts.METHODS[method].decoders
            assert sum(sign for sign, *_ in terms) == 0


def test_share_of_rounding_by_hand():
    assert verdicts.rounding_share(result("H2", [80.0], cells=20.0)) == 0.25
    assert verdicts.rounding_share(result("R1", [80.0])) is None


def test_tables_and_summary(tmp_path):
    runs = [
        result("H2", [80.0, 100], seed, decoders={"expectation": [60.0, 70]}, cells=45.0)
        for seed in (0, 1)
    ]
    runs[1]["decoders"]["argmax"]["mpjpe"] = 94.0
    table = verdicts.case_table(runs)
    assert "| H2 | argmax | 92.0 ± 2.0 | 1.0 | 2.00 | 3.0 | 45.0 (49 %) | 64 | 2 | 0.5 |" in table
    assert "| H2 | expectation | 65.0 ± 0.0 |" in verdicts.case_table(runs, decoders=True)
    content = verdicts.write_summary(runs, tmp_path / "all.json")
    assert (
        content == read_json(tmp_path / "all.json")
        and content["headline"] == 90.0
        and content["minutes"] == 1.0
    )
    claims = verdicts.claim_table(content["claims"])
    assert (
        "| reading H2 by expectation beats reading it by argmax | question | -25.0 (-30.0 … -20.0) | 2 | yes |"
        in claims
    )
    assert "| – | – | not run |" in claims
    with pytest.raises(InputError, match="no run to summarise"):
        verdicts.write_summary([], tmp_path / "none.json")
