"""What the losses of maps cost, forward and backward: time, and on a GPU memory.

    python benchmarks/heatmap_losses.py                  on a processor, 16^3 and 64^3 cells, one thread
    python benchmarks/heatmap_losses.py --device cuda    on a GPU, 64^3 cells in batches of 32
    python benchmarks/heatmap_losses.py --toy            small, to see that it runs

Half of the pictures have no depth. Time is the least of some rounds in which the losses take turns: of the processor,
or by the GPU's own clock. Memory is the peak beyond the logits that the network holds anyway, the gradient included.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # a machine without a registry has the folder, not the package

from ipr_lib.evaluation.report import markdown_table  # noqa: E402
from ipr_lib.files import commit, device_name, write_json  # noqa: E402
from ipr_lib.integral import (  # noqa: E402
    binary_heatmap_loss,
    expected_error_loss,
    integral_loss,
    js_prior_loss,
    soft_argmax,
    softmax_heatmap_loss,
    squared_heatmap_loss,
)

JOINTS = 18


def integral(volume, cells, weights):
    return integral_loss(soft_argmax(volume), cells, weights, tuple(volume.shape[:1:-1]))


LOSSES = {
    "integral": integral,
    "H1, Gaussian": squared_heatmap_loss,
    "H2, true cell": softmax_heatmap_loss,
    "H3, ball": binary_heatmap_loss,
    "Jensen-Shannon prior": js_prior_loss,
    "expected error": expected_error_loss,
}


def milliseconds(function, device):
    """Time of one call: of the processor, or by the GPU's own clock."""
    if device.type == "cuda":
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)
    start = time.process_time()
    function()
    return (time.process_time() - start) * 1e3


def extra_gigabytes(function, device):
    """Peak memory of one call beyond what is there before, GB; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def measure(batch, side, rounds, device):
    """{loss: {ms, extra_gb}} for one size of volume."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(batch, JOINTS, side, side, side, generator=generator).to(device)
    volume.requires_grad_()
    cells = (torch.rand(batch, JOINTS, 3, generator=generator) * (side - 1)).to(device)
    weights = torch.ones(batch, JOINTS, 3, device=device)
    weights[::2, :, 2] = 0
    rows = {name: {"ms": float("inf")} for name in LOSSES}
    for _ in range(rounds + 1):  # the first is for warming up
        for name, loss in LOSSES.items():

            def call(loss=loss):
                volume.grad = None
                loss(volume, cells, weights).backward()

            rows[name]["ms"] = min(rows[name]["ms"], milliseconds(call, device))
            volume.grad = None
            rows[name]["extra_gb"] = extra_gigabytes(call, device)
    return rows


def print_case(shape, rows):
    print(f"\n{' x '.join(map(str, shape))} float32, logits {math.prod(shape) * 4 / 1e9:.2f} GB\n")
    table = []
    for name, row in rows.items():
        extra = "–" if row["extra_gb"] is None else f"{row['extra_gb']:.2f}"
        ratio = row["ms"] / rows["integral"]["ms"]
        table.append([name, f"{row['ms'] / shape[0]:.3f}", f"{ratio:.1f}", extra])
    print(markdown_table(["loss", "ms a picture", "of the integral's", "extra memory, GB"], table))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=5, help="how often each loss is timed")
    parser.add_argument("--json", type=Path, default=None, help="where the numbers go")
    parser.add_argument("--toy", action="store_true", help="8^3 cells alone")
    options = parser.parse_args()
    device = torch.device(options.device)
    sizes = [(32, 64)] if device.type == "cuda" else [(16, 16), (2, 64)]
    if options.toy:
        sizes = [(4, 8)]
    if device.type == "cpu":
        torch.set_num_threads(1)
    print(device_name(device))
    cases = []
    for batch, side in sizes:
        shape = (batch, JOINTS, side, side, side)
        rows = measure(batch, side, options.rounds, device)
        print_case(shape, rows)
        cases.append({"shape": shape, "losses": rows})
    report = {"device": device_name(device), "commit": commit(), "cases": cases}
    report["headline"] = cases[-1]["losses"]["H3, ball"]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, report)


if __name__ == "__main__":
    main()
