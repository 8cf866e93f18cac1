"""The sweep over seeds and processors: checks that record what they compare, and the table of what they leave."""

import json

import numpy as np
import pytest
import torch

from . import recorded_checks, sweep


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """A function that runs rewritten source and returns the lines that it notes."""
    record = tmp_path / "record"
    monkeypatch.setenv(recorded_checks.RECORD, str(record))

    def run(source, raises=False, **names):
        monkeypatch.delenv(
            "PYTEST_CURRENT_TEST", raising=False
        )  # it would be the place of all notes
        exec(
            recorded_checks.rewritten(source, "cell", raises),
            {"_recorded": recorded_checks, "np": np, **names},
        )
        return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]

    return run


def test_a_comparison_notes_its_numbers(noted):
    pair, whole = noted("assert a < 0.5, 'too large'", a=torch.tensor(0.4, requires_grad=True))
    assert pair == {
        "place": "cell",
        "text": "a < 0.5",
        "value": pytest.approx(0.4),
        "limit": 0.5,
        "margin": pytest.approx(0.2),
        "holds": True,
    }
    assert whole == {"place": "cell", "text": "a < 0.5", "holds": True, "message": ""}


def test_a_chain_notes_both_limits_and_an_array_its_worst_number(noted):
    lines = noted(
        "assert (1 < a < 4) and (b >= c).all()", a=2, b=np.array([5.0, 9]), c=np.array([4.0, 1])
    )
    found = [(line["text"], line["value"], line["limit"], line["margin"]) for line in lines[:-1]]
    assert found == [("1 < a", 2, 1, 0.5), ("a < 4", 2, 4, 0.5), ("b >= c", 5, 4, 0.2)]


@pytest.mark.parametrize(
    "source",
    [
        "assert not a > 2",
        "assert a > 2 or a < 2",
        "assert (x > 2).any()",
        "assert {1} <= {1, 2}",
        "assert x[x > 2].sum() == 3",
    ],
)
def test_what_need_not_hold_alone_is_no_check(noted, source):
    (line,) = noted(source, a=1, x=np.array([1, 3]))
    assert line["holds"] and "margin" not in line


def test_a_notebook_goes_on_and_a_test_stops(noted):
    lines = noted("for n in (1, 3):\n    assert n > 2, f'{n} of 2'")
    assert [(line["holds"], line.get("message")) for line in lines] == [
        (False, None),
        (False, "1 of 2"),
        (True, None),
        (True, ""),
    ]
    with pytest.raises(AssertionError, match="1 of 2"):
        noted("assert n > 2, f'{n} of 2'", raises=True, n=1)


def test_what_is_not_a_number_has_no_room(noted):
    line = noted("assert a < 1", a=np.nan)[0]
    assert line["margin"] == -np.inf and not line["holds"]


def test_closeness_is_a_share_of_the_tolerance(noted):
    line = noted(
        "assert np.allclose(a, b, atol=0.5, rtol=0)", a=np.array([1.0, 2]), b=np.array([1.1, 1.8])
    )[0]
    assert line["value"] == pytest.approx(0.4) and line["margin"] == pytest.approx(0.6)
    line = noted("assert 1.02 == approx(1, abs=0.04)", approx=pytest.approx)[-2]
    assert line["value"] == pytest.approx(0.02) and line["limit"] == 0.04


def test_exercise_checks_note_what_their_functions_compare(noted):
    lines = noted(
        "check(3, ('small?', lambda a: a < 4), ('one?', lambda a: helper(a) > 0))",
        check=lambda value, *pairs: [test(value) for _, test in pairs],
        helper=lambda a: a - 1,
    )
    assert [(line["text"], line["value"], line["limit"]) for line in lines] == [
        ("a < 4", 3, 4),
        ("helper(a) > 0", 2, 0),
    ]


def test_cells_without_checks_and_magics_stay():
    for source in ("a = 1  # one", "%time assert a"):
        assert recorded_checks.rewritten(source, "cell", False) == source


def test_conditions():
    conditions = sweep.default_conditions([0, 1, 2, 3, 4])
    assert len({condition.name for condition in conditions}) == len(conditions) == 10
    assert (
        {condition.seed for condition in conditions[:5]}
        == {condition.seed for condition in conditions[5:]}
        == set(range(5))
    )
    assert len({condition.name for condition in sweep.all_conditions([0, 1])}) == 2 * 2 * 2 * 3
    environment = sweep.Condition(3, 1, "AVX2", "default").environment()
    assert environment["OMP_NUM_THREADS"] == "1" and environment["IPR_TRAINING_SEED"] == "3"
    assert environment[sweep.ONEDNN] == "AVX2" and environment[sweep.ATEN] == "default"
    assert sweep.ONEDNN not in sweep.Condition(0).environment()


def test_table_puts_failures_first_and_then_the_least_room():
    def content(seed, values):
        checks = []
        for text, value in values.items():
            line = {"place": "cell", "text": text, "value": value, "limit": 10.0}
            checks.append(line | {"margin": 1 - value / 10, "holds": value < 10})
        summary = sweep.summary(
            [*checks, {"place": "cell", "text": "plain", "holds": True, "message": ""}]
        )
        run = {"stamp": "", "seconds": 60, "error": None, "checks": summary}
        return {
            "condition": {"seed": seed, "threads": 2, "onednn": None, "aten": None},
            "runs": {"07": run},
        }

    lines = sweep.table(
        [content(0, {"a": 1.0, "b": 8.0, "c": 9.0}), content(1, {"a": 2.0, "b": 9.5, "c": 11.0})]
    ).splitlines()
    assert lines[2:5] == [
        "| 07 cell | `c` | 9 | 11 | 10 | -10 % | 1 |",
        "| 07 cell | `b` | 8 | 9.5 | 10 | 5 % | 0 |",
        "| 07 cell | `a` | 1 | 2 | 10 | 80 % | 0 |",
    ]
    assert "2 conditions, 2 minutes. 1 further check" in lines[6]
    assert "failed under seed1-threads2" in lines[7]
