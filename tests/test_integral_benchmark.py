import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from ipr_lib.integral import soft_argmax

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def benchmark(monkeypatch):
    return load("soft_argmax", monkeypatch)


def test_toy_run_compares_the_ways_and_names_what_it_left_out(
    benchmark, monkeypatch, tmp_path, capsys
):
    def without_compiler(function, **options):
        def fail(volume):
            raise RuntimeError("no compiler\nand more")

        return fail

    monkeypatch.setattr(benchmark.torch, "compile", without_compiler)
    target = tmp_path / "deeper" / "times.json"
    monkeypatch.setattr(
        sys, "argv", ["soft_argmax", "--toy", "--device", "cpu", "--json", str(target)]
    )
    benchmark.main()
    report = json.loads(target.read_text(encoding="utf-8"))
    assert (
        report["left_out"]["compiled"] == "no compiler"
        and "left out: compiled, no compiler" in capsys.readouterr().out
    )
    assert len(report["cases"]) == 2
    for case in report["cases"]:
        assert {"plain", "ours"} <= set(case["ways"])
        for row in case["ways"].values():
            assert row["ms"] > 0 and row["wall_ms"] > 0 and row["error_cells"] < 1e-4
        assert case["ways"]["plain"]["plain_over_it"] == 1
    assert report["headline"] == report["cases"][0]["ways"]["ours"]


def run_toy(benchmark, monkeypatch, target):
    """The report of a toy run on a CPU."""
    arguments = ["soft_argmax", "--toy", "--device", "cpu", "--json", str(target)]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()
    return json.loads(target.read_text(encoding="utf-8"))


def test_a_compiler_that_falls_back_to_eager_is_left_out(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark.torch, "compile", lambda function, **options: function)
    report = run_toy(benchmark, monkeypatch, tmp_path / "times.json")
    assert report["left_out"]["compiled"] == "the compiler fell back to eager"


def test_every_case_is_compiled(benchmark, monkeypatch, tmp_path):
    """More shapes than the compiler keeps by default, with its front alone, which needs no C++ compiler."""
    compile_ = torch.compile

    def traced(function, dynamic):
        return compile_(function, dynamic=dynamic, backend="aot_eager")

    shapes = [(1, 2, depth, 3, 4) for depth in range(2, 12)]
    assert len(shapes) > torch._dynamo.config.recompile_limit
    monkeypatch.setattr(benchmark.torch, "compile", traced)
    monkeypatch.setattr(
        benchmark, "cases", lambda device, toy: [(shape, torch.float32, False) for shape in shapes]
    )
    report = run_toy(benchmark, monkeypatch, tmp_path / "times.json")
    assert len(report["cases"]) == 10
    assert all("compiled" in case["ways"] for case in report["cases"])


def test_the_plain_way_is_the_same_sum(benchmark):
    volume = torch.randn(
        2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    torch.testing.assert_close(benchmark.plain(volume), soft_argmax(volume))


def test_toy_run_of_the_losses(monkeypatch, tmp_path, capsys):
    losses = load("heatmap_losses", monkeypatch)
    target = tmp_path / "losses.json"
    monkeypatch.setattr(
        sys, "argv", ["heatmap_losses", "--toy", "--device", "cpu", "--json", str(target)]
    )
    losses.main()
    report = json.loads(target.read_text(encoding="utf-8"))
    (case,) = report["cases"]
    assert case["shape"] == [4, 18, 8, 8, 8]
    assert len(case["losses"]) == 6 and all(row["ms"] > 0 for row in case["losses"].values())
    assert "H3, ball" in capsys.readouterr().out
