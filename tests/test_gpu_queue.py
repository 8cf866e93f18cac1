import importlib.util
import json
import sys
from pathlib import Path

import pytest

from ipr_lib.experiment.plan import planned_cases

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_queue.py"


@pytest.fixture
def gpu_queue(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_queue", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_queue", module)  # dataclasses look their module up
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


def job(gpu_queue, name, folder, code):
    return gpu_queue.Job(name, "a test", ("-c", code), folder / f"{name}.json", ("score",), "mm")


def counts(folder):
    """A job that needs three starts: each adds a mark, the third writes the result, the others wait to be stopped."""
    return (
        f"import json, pathlib, time; p = pathlib.Path({str(folder)!r}); (p / 'marks').open('a').write('x');\n"
        "if len((p / 'marks').read_text()) < 3: time.sleep(60)\n"
        "(p / 'slow.json').write_text(json.dumps({'score': 12.34}))"
    )


def run(gpu_queue, monkeypatch, jobs, tmp_path, minutes):
    monkeypatch.setattr(gpu_queue, "queue", lambda toy: jobs)
    monkeypatch.setattr(gpu_queue, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(
        sys, "argv", ["gpu_queue", "--minutes", str(minutes), "--out", str(tmp_path / "out")]
    )
    return gpu_queue.main()


def test_stops_at_the_budget_and_goes_on(gpu_queue, monkeypatch, tmp_path, capsys):
    jobs = [
        job(gpu_queue, "slow", tmp_path, counts(tmp_path)),
        job(
            gpu_queue,
            "quick",
            tmp_path,
            f"open({str(tmp_path / 'quick.json')!r}, 'w').write('{{\"score\": 5}}')",
        ),
    ]
    marks = tmp_path / "marks"
    # Two starts sleep their budget out; where Python is slow to start, on a busy machine, more starts than two are stopped.
    while not marks.exists() or len(marks.read_text(encoding="utf-8")) < 2:
        assert not run(gpu_queue, monkeypatch, jobs, tmp_path, minutes=0.06)
        assert "stopped at the budget" in capsys.readouterr().out.splitlines()[1]
    assert not run(gpu_queue, monkeypatch, jobs, tmp_path, minutes=1)
    table = capsys.readouterr().out
    assert "done" in table.splitlines()[1] and "12.3 mm" in table
    run(gpu_queue, monkeypatch, jobs, tmp_path, minutes=0.2)
    assert "done before" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "slow.json").read_text(encoding="utf-8")) == {
        "score": 12.34
    }
    assert json.loads((tmp_path / "out" / "quick.json").read_text(encoding="utf-8")) == {"score": 5}


def test_a_failing_job_does_not_stop_the_others(gpu_queue, monkeypatch, tmp_path, capsys):
    jobs = [
        job(gpu_queue, "bad", tmp_path, "raise SystemExit(3)"),
        job(
            gpu_queue,
            "quick",
            tmp_path,
            f"open({str(tmp_path / 'quick.json')!r}, 'w').write('{{\"score\": 5}}')",
        ),
    ]
    assert run(gpu_queue, monkeypatch, jobs, tmp_path, minutes=0.2)
    table = capsys.readouterr().out
    assert "failed with exit code 3" in table and "5.0 mm" in table


def test_the_queue_names_jobs_that_exist(gpu_queue):
    for toy in (True, False):
        jobs = gpu_queue.queue(toy)
        assert len({job.name for job in jobs}) == len(jobs) > 0
        assert all(job.result.suffix == ".json" for job in jobs)
        assert all(
            job.command[:2] == ("-m", "ipr_lib") or (SCRIPT.parents[1] / job.command[0]).exists()
            for job in jobs
        )


def test_contests_of_the_queue_have_a_plan(gpu_queue):
    for toy in (True, False):
        contests = [job for job in gpu_queue.queue(toy) if job.name.startswith("contest")]
        assert contests
        for job in contests:
            assert planned_cases(job.command[job.command.index("--profile") + 1])


def test_single_runs_outlive_the_machine(gpu_queue, monkeypatch, tmp_path):
    """An unfinished comparison leaves its finished runs in --out; on a bare machine they are put back, nothing is overwritten."""
    monkeypatch.setattr(gpu_queue, "RESULTS", tmp_path / "first")
    run_file = tmp_path / "first" / "compare-gpu" / "ab12" / "result.json"
    run_file.parent.mkdir(parents=True)
    run_file.write_text("1", encoding="utf-8")
    (run_file.parent / "checkpoint.pt").write_text("large", encoding="utf-8")
    gpu_queue.keep(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["result.json"]

    monkeypatch.setattr(gpu_queue, "RESULTS", tmp_path / "second")
    gpu_queue.restore(tmp_path / "out")
    copied = tmp_path / "second" / "compare-gpu" / "ab12" / "result.json"
    assert copied.read_text(encoding="utf-8") == "1"
    copied.write_text("2", encoding="utf-8")
    gpu_queue.restore(tmp_path / "out")
    assert copied.read_text(encoding="utf-8") == "2"
