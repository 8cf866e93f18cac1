"""The comparison of notebook 08 as many small runs side by side, because one alone leaves most of a GPU idle,
and two with one core each finish sooner on a CPU than one after the other with two.

    python benchmarks/contest.py --minutes 8                     as often as it takes
    python benchmarks/contest.py --profile smoke --processes 2   the same at smoke size, on any machine

Each process makes its own batches and takes the next run that waits: first the sweep of each method, then the methods
seed by seed, then the other axes. The runs and their folders are those of `python -m ipr_lib compare`, so either goes on
where the other one stopped. When all runs are done, the summary is written where `compare` writes it.
"""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # a machine without a registry has the folder, not the package

from ipr_lib.config import load_config  # noqa: E402
from ipr_lib.course import pipeline  # noqa: E402
from ipr_lib.data.store import open_store  # noqa: E402
from ipr_lib.experiment.plan import CONTEST, case_config, planned_cases  # noqa: E402
from ipr_lib.experiment.run import compare, pick_settings, run_case, run_order  # noqa: E402
from ipr_lib.files import results_folder  # noqa: E402

# Large tensors come and go in each step. By default the C library gives their memory back to the system and gets it
# cleared again, which makes a step of H1 and H2 a third slower on a CPU.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
OVERRIDES = {"workers": 0}  # of batches: as many processes as cores are busy already


def sweep(profile, stores, folder, method):
    """Run the sweep of one method, or read what it gave: its settings."""
    return pick_settings(profile, method, open_store(stores[0]), folder, OVERRIDES, [])


def train(profile, stores, folder, case, seed):
    """Train and score one case."""
    settings = sweep(profile, stores, folder, case.overrides["method"])
    cfg = case_config(profile, case, seed, OVERRIDES | settings)
    run_case(case, cfg, open_store(stores[0]), open_store(stores[1]), folder)


def one_thread():
    """Each process has one core."""
    torch.set_num_threads(1)


def run_all(profile, names, stores, folder, processes, deadline):
    """Work through all runs, or those of the cases `names`, until the deadline.

    Returns:
        how many of them are left; those that were stopped go on next time.
    """
    cases = []
    for case in planned_cases(profile):
        wanted = case.name in names if names else case.axis in CONTEST
        if wanted:
            cases.append(case)
    waiting = run_order(cases)
    # The methods first, seed by seed; of the other axes the cheap runs first.
    waiting.sort(key=lambda run: (run[0].axis != "method", run[0].budget))
    methods = list(dict.fromkeys(case.overrides["method"] for case, _ in waiting))
    # A long sweep, of two steps, goes first.
    waiting_sweeps = sorted(methods, key=lambda method: method not in ("H1", "H3", "I1", "I3"))
    swept, running, failed = set(), [], []
    start = time.monotonic()
    os.environ.update(KEEP_MEMORY)  # the C library of each new process reads it when it starts
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, one_thread) as pool:
        while (waiting or waiting_sweeps or running) and time.monotonic() < deadline:
            for job in [job for job in running if job[1].ready()]:
                running.remove(job)
                name, result, method = job
                minutes = (time.monotonic() - start) / 60
                try:
                    found = result.get()
                except Exception as error:  # whatever it is, the other runs go on
                    failed.append(name)
                    print(f"{minutes:5.2f} min: {name} failed: {error}", flush=True)
                    continue
                if method is not None:
                    swept.add(method)
                print(f"{minutes:5.2f} min: {name} done {found or ''}", flush=True)
            while len(running) < processes:
                ready = [run for run in waiting if run[0].overrides["method"] in swept]
                if waiting_sweeps:
                    method = waiting_sweeps.pop(0)
                    result = pool.apply_async(sweep, (profile, stores, folder, method))
                    running.append((f"sweep of {method}", result, method))
                elif ready:
                    case, seed = ready[0]
                    waiting.remove(ready[0])
                    result = pool.apply_async(train, (profile, stores, folder, case, seed))
                    running.append((f"{case.name}, seed {seed}", result, None))
                else:
                    break
            if not running:  # what is left waits for a sweep that failed
                break
            time.sleep(0.1)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    return len(waiting) + len(waiting_sweeps) + len(running)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="laptop", help="smoke, laptop or gpu")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="only these, e.g. R1 'I*'")
    parser.add_argument("--minutes", type=float, default=8.0, help="budget of this call")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument(
        "--stores",
        type=Path,
        nargs=2,
        metavar=("TRAIN", "TEST"),
        help="crop stores from another machine; default: the profile's own, made where they are missing",
    )
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    stores = options.stores
    if stores is None:
        cfg = load_config(options.profile, workers=options.processes)
        stores = [store.path for store in pipeline.stores(cfg)]
    folder = results_folder() / f"compare-{options.profile}"
    left = run_all(options.profile, options.cases, stores, folder, options.processes, deadline)
    if left:
        print(f"{left} left; the same command goes on")
        return
    opened = (open_store(stores[0]), open_store(stores[1]))
    summary = folder / ("chosen.json" if options.cases else f"{'-'.join(CONTEST)}.json")
    compare(options.profile, opened, summary, names=options.cases, overrides=OVERRIDES)
    print(f"all done: {summary}")


if __name__ == "__main__":
    main()
