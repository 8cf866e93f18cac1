"""Steps of the comparison of notebook 08: one process with all cores, or one with a single core for each.

    python benchmarks/side_by_side.py --methods R1 H1 I* --steps 20

Prints milliseconds of the machine for each step: where N processes take a step of their own each in the same time, it
counts as an Nth of that. See `KEEP_MEMORY` in ipr_lib/experiment/run.py for the last column.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # a machine without a registry has the folder, not the package

from ipr_lib.evaluation import markdown_table  # noqa: E402
from ipr_lib.experiment import case_config, planned_cases  # noqa: E402
from ipr_lib.experiment.run import KEEP_MEMORY  # noqa: E402
from ipr_lib.integral import build_method  # noqa: E402
from ipr_lib.run import build_network  # noqa: E402
from ipr_lib.training.loop import MicroBatches, build_optimizers, training_step  # noqa: E402

WARM_UP = 3  # steps that do not count


def seconds_a_step(profile, name, steps, threads):
    """Seconds of a training step on made-up crops, the median of `steps`."""
    torch.set_num_threads(threads)
    (case,) = [case for case in planned_cases(profile) if case.name == name]
    cfg = case_config(profile, case, seed=0)
    network = build_network(cfg).train()
    optimizers = build_optimizers(cfg.optimizer, network, cfg.learning_rate)
    loss = build_method(cfg.method, cfg.target_height, cfg.ball_radius).loss(0)
    B, J, S = cfg.batch_size, 18, cfg.crop_px
    colour = torch.cat([torch.eye(3), torch.zeros(3, 1)], dim=1)
    batch = {
        "crops": torch.randint(0, 256, (B, S, S, 3), dtype=torch.uint8),
        "colour": colour.expand(B, 3, 4),
        "joints": torch.rand(B, J, 3) * torch.tensor([S, S, 0.0]),
        "weights": torch.ones(B, J, 3),
    }
    taken = []
    with closing(MicroBatches(network, cfg.micro_batches)) as micro_batches:
        for _ in range(WARM_UP + steps):
            start = time.perf_counter()
            training_step(micro_batches, batch, loss, optimizers, S, cfg.depth_mm, cfg.precision)
            taken.append(time.perf_counter() - start)
    return sorted(taken[WARM_UP:])[steps // 2]


def milliseconds(profile, name, steps, processes, threads):
    """Milliseconds of the machine for a step, `processes` of them at a time."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        jobs = []
        for _ in range(processes):
            jobs.append(pool.submit(seconds_a_step, profile, name, steps, threads))
        slowest = max(job.result() for job in jobs)
    return f"{1000 * slowest / processes:.0f}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="laptop", help="smoke, laptop or gpu")
    parser.add_argument("--methods", nargs="+", default=["R1", "H1", "H2", "I*", "SimCC"])
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    cores = os.cpu_count()
    rows = []
    for name in options.methods:
        together = milliseconds(options.profile, name, options.steps, 1, cores)
        apart = milliseconds(options.profile, name, options.steps, cores, 1)
        before = dict(os.environ)
        os.environ.update(KEEP_MEMORY)
        kept = milliseconds(options.profile, name, options.steps, cores, 1)
        os.environ.clear()
        os.environ.update(before)
        rows.append([name, together, apart, kept])
        print(rows[-1], flush=True)
    header = ["ms a step", "1 process", f"{cores} processes", "the same, memory kept"]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
