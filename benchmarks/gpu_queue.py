"""What waits for a GPU: run it in order within a time budget, go on where the last call stopped, print a table last.

    python benchmarks/gpu_queue.py --minutes 9 --out DIR      on a machine with a GPU, as often as it takes
    python benchmarks/gpu_queue.py --toy --minutes 9          the same jobs at smoke size, on any machine
    python benchmarks/gpu_queue.py --earlier OLD --out DIR    on a new, bare machine: OLD is the DIR of before
    python benchmarks/gpu_queue.py --list

A job is a command that goes on by itself when it is started again, and the JSON that it leaves when it is done.
Results are copied to --out; those that are kept go to results/reference/ in a commit.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # a machine without a registry has the folder, not the package

from ipr_lib.config import load_config  # noqa: E402
from ipr_lib.course.pipeline import run_dir  # noqa: E402
from ipr_lib.experiment import CONTEST  # noqa: E402

RESULTS = REPOSITORY / "results"
# What later calls need to know of earlier ones, each a few kB: single runs of a comparison, scores, timings.
KEPT = ("compare-*/*/result.json", "compare-*/*.json", "benchmarks/*.json", "*/metrics.json")


@dataclass(frozen=True)
class Job:
    """One thing to run.

    Attributes:
        name: short, unique.
        why: what its result is for.
        command: arguments for this Python.
        result: the JSON that exists when it is done.
        headline: keys that lead from the JSON's top to the number shown in the table.
        unit: of that number.
    """

    name: str
    why: str
    command: tuple[str, ...]
    result: Path
    headline: tuple[str, ...]
    unit: str


def queue(toy):
    """All jobs, in order; at smoke size if `toy`."""
    size = ("--toy",) if toy else ("--device", "cuda")
    where = "toy" if toy else "cuda"
    gpu, laptop = ("smoke", "smoke") if toy else ("gpu", "laptop")
    benchmarks = RESULTS / "benchmarks"
    soft_argmax = benchmarks / f"soft_argmax-{where}.json"
    losses = benchmarks / f"heatmap_losses-{where}.json"
    training = benchmarks / f"training-{gpu}.json"
    jobs = [
        Job(
            soft_argmax.stem,
            "time of the integral, plain over ours; its tables belong in benchmarks/README.md",
            ("benchmarks/soft_argmax.py", "--json", str(soft_argmax), *size),
            soft_argmax,
            ("headline", "plain_over_it"),
            "x",
        ),
        Job(
            losses.stem,
            "time and memory of the losses of maps, 32 volumes of 18 x 64^3; for benchmarks/README.md",
            ("benchmarks/heatmap_losses.py", "--json", str(losses), *size),
            losses,
            ("headline", "ms"),
            "ms",
        ),
        Job(
            training.stem,
            "images a second of training, ours over the plain loop; for benchmarks/README.md",
            (
                "benchmarks/training.py",
                "--profile",
                gpu,
                "--json",
                str(training),
                *(("--toy",) if toy else ()),
            ),
            training,
            ("headline", "ours_over_plain"),
            "x",
        ),
        contest(laptop),
    ]
    for seed in (0, 1):
        run = run_dir(load_config(gpu, seed=seed))
        jobs.append(
            Job(
                f"{gpu}-seed{seed}",
                "capture, training and scores of the gpu profile: results/reference/gpu.json",
                ("-m", "ipr_lib", "test", "--profile", gpu, "--seed", str(seed)),
                run / "metrics.json",
                ("scores", "mpjpe", "frame_mean"),
                "mm",
            )
        )
    if not toy:
        jobs.append(contest(gpu))
    return jobs


def contest(profile):
    """The job of a profile's comparison: as many runs at a time as there are cores."""
    cores = str(os.cpu_count())
    return Job(
        f"contest-{profile}",
        f"heat map against integral: results/reference/compare-{profile}.json",
        (
            *("-m", "ipr_lib", "compare", "--profile", profile),
            *("--processes", cores, "--set", f"workers={cores}"),
        ),
        RESULTS / f"compare-{profile}" / f"{'-'.join(CONTEST)}.json",
        ("headline",),
        "mm",
    )


def run_job(job, seconds, log):
    """Run one job for at most `seconds`; it is interrupted as by Ctrl-C then. Returns its state in words."""
    if job.result.exists():
        return "done before"
    with open(log, "a", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *job.command], cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return "stopped at the budget, goes on next time"
    return (
        "done"
        if code == 0 and job.result.exists()
        else f"failed with exit code {code}, see {log.name}"
    )


def keep(out):
    """Copy what is done, single runs of unfinished jobs too, to `out`/kept: a lent machine is bare the next time."""
    for pattern in KEPT:
        for path in RESULTS.glob(pattern):
            target = out / "kept" / path.relative_to(RESULTS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def restore(folder):
    """Put back what `keep` saved under `folder`; what is there already stays."""
    kept = folder / "kept"
    for path in kept.rglob("*.json"):
        target = RESULTS / path.relative_to(kept)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def number(job):
    """The job's headline, or a dash."""
    if not job.result.exists():
        return "–"
    value = json.loads(job.result.read_text(encoding="utf-8"))
    for key in job.headline:
        value = value[key]
    return f"{value:.1f} {job.unit}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="budget of this call")
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "results" / "gpu_queue",
        help="where results are copied",
    )
    parser.add_argument(
        "--earlier", type=Path, help="an --out of before, from another machine: go on from there"
    )
    parser.add_argument("--toy", action="store_true", help="smoke size")
    parser.add_argument("--list", action="store_true", help="only print what waits")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    if options.earlier:
        restore(options.earlier)
    rows = []
    for job in queue(options.toy):
        start = time.monotonic()
        if options.list or start > deadline:
            state = "done before" if job.result.exists() else "waits"
        else:
            state = run_job(job, deadline - start, options.out / f"{job.name}.log")
        if job.result.exists():
            shutil.copy(job.result, options.out / f"{job.name}.json")
        keep(options.out)
        rows.append(
            (job.name, state, f"{(time.monotonic() - start) / 60:.1f}", number(job), job.why)
        )
    header = ("job", "state", "minutes now", "result", "for")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return any("failed" in row[1] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
