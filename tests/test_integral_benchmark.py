import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from ipr_lib.integral.expectation import soft_argmax

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "soft_argmax.py"


@pytest.fixture
def benchmark(monkeypatch):
    spec = importlib.util.spec_from_file_location("soft_argmax_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


def test_toy_run_compares_the_ways_and_names_what_it_left_out(benchmark, monkeypatch, tmp_path, capsys):
    def without_compiler(function, **options):
        def fail(volume):
            raise RuntimeError("no compiler\nand more")
        return fail

    monkeypatch.setattr(benchmark.torch, "compile", without_compiler)
    target = tmp_path / "deeper" / "times.json"
    monkeypatch.setattr(sys, "argv", ["soft_argmax", "--toy", "--device", "cpu", "--json", str(target)])
    benchmark.main()
    report = json.loads(target.read_text())
    assert report["left_out"]["compiled"] == "no compiler" and "left out: compiled, no compiler" in capsys.readouterr().out
    assert len(report["cases"]) == 2
    for case in report["cases"]:
        assert {"plain", "ours", "ours, loss"} <= set(case["ways"])
        for row in case["ways"].values():
            assert row["ms"] > 0 and row["wall_ms"] > 0 and row["error_cells"] < 1e-4
        assert case["ways"]["plain"]["plain_over_it"] == 1
    assert report["headline"] == report["cases"][0]["ways"]["ours"]


def test_the_plain_way_is_the_same_sum(benchmark):
    volume = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(benchmark.plain(volume), soft_argmax(volume))


def test_memory_of_a_call_is_seen(benchmark):
    volume = torch.zeros(40_000_000)

    def call():
        gradient = torch.ones(40_000_000)
        return gradient + 1  # one more than the gradient

    seen = benchmark.extra_bytes(call, volume)
    assert seen is None or seen == pytest.approx(volume.nbytes, rel=0.2)
