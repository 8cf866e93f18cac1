"""What the integral costs: soft-argmax, L1 loss and backward, in several ways that take turns in one process.

    python benchmarks/soft_argmax.py [--device cpu] [--turns 9] [--threads 2] [--ways plain ours] [--json FILE] [--toy]

plain      softmax over the volume, three sums, three dot products, autograd
compiled   the same through torch.compile; left out, with the reason, where there is no compiler
dsntnn     flat_softmax and dsnt, where that package is installed
ours       ipr_lib.integral.soft_argmax: plain PyTorch with a gradient in closed form on a CPU, a Triton kernel on a GPU
pipelined  the kernel with four tiles on their way from memory at a time; on a GPU only

A GPU is timed by its own clock. On a CPU both clocks are shown: the processor time of all threads does not mind other
work on the machine, the time on the wall does. Medians over the turns. At least the logits must be read forward, and
read and the gradient written backward: "of its bytes" is the time over what these three would take at the rate of a
measured copy. "extra memory" is the peak beyond logits and gradient as a fraction of the logits; it is measured on a
GPU only. "error" is the largest distance from the same sum in float64, cells.
"""

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch._dynamo.utils

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # a machine without a registry has the folder, not the package

from ipr_lib.files import commit, device_name, write_json  # noqa: E402
from ipr_lib.integral import soft_argmax  # noqa: E402
from ipr_lib.run import default_device  # noqa: E402

JOINTS = 18
PLAIN, COMPILED, DSNTNN, OURS = "plain", "compiled", "dsntnn", "ours"
PIPELINED = "pipelined"
HEADER = ("way", "ms", "on the wall", "GB/s", "of its bytes", "extra memory", "error", "plain / it")


def plain(volume):
    """The formulation that everyone writes first: (B, J, D, H, W) -> (B, J, 3), order x, y, z."""
    volume = volume if volume.dtype == torch.float64 else volume.float()
    prob = volume.flatten(2).softmax(dim=-1).view(volume.shape)
    marginals = prob.sum(dim=(2, 3)), prob.sum(dim=(2, 4)), prob.sum(dim=(3, 4))
    return torch.stack(
        [marginal @ torch.arange(marginal.shape[-1]).to(marginal) for marginal in marginals], dim=-1
    )


def with_stages(stages):
    """soft_argmax by the GPU's kernel, which loads so many tiles at a time."""
    from ipr_lib.integral import kernel

    def way(volume):
        kernel.STAGES = stages  # of the backward pass, too, which follows at once
        return soft_argmax(volume)

    return way


def ways(wanted, device):
    """Name -> (volume) -> joints, and name -> reason for those left out; plain and ours are always there."""
    found, left_out = {PLAIN: plain}, {}
    found[COMPILED] = torch.compile(plain, dynamic=False)
    if importlib.util.find_spec("dsntnn"):
        import dsntnn

        def by_dsntnn(volume):
            size = volume.new_tensor(volume.shape[:1:-1], dtype=torch.float32)
            return (dsntnn.dsnt(dsntnn.flat_softmax(volume.float())) * size + size - 1) / 2

        found[DSNTNN] = by_dsntnn
    else:
        left_out[DSNTNN] = "not installed"
    left_out["kornia"] = "sums a 3-D volume window by window only, never as a whole"
    found[OURS] = soft_argmax
    if device.type == "cuda":
        found |= {OURS: with_stages(1), PIPELINED: with_stages(4)}
    else:
        left_out[PIPELINED] = "there is no kernel on a CPU"
    for name in set(found) - {PLAIN, OURS, *wanted}:
        left_out[name] = "not asked for"
        del found[name]
    return found, left_out


def cases(device, toy):
    """List of (shape, dtype, whether channels-last)."""
    if toy:
        return [((2, 3, 8, 8, 8), torch.float32, False), ((2, 3, 8, 8, 8), torch.bfloat16, True)]
    if device.type == "cpu":
        large, small = (8, JOINTS, 64, 64, 64), (16, JOINTS, 16, 16, 16)
        return [
            (large, torch.float32, False),
            (large, torch.bfloat16, False),
            (large, torch.float32, True),
            (small, torch.float32, False),
            (small, torch.float32, True),
        ]
    return [
        ((batch, JOINTS, 64, 64, 64), dtype, last)
        for batch in (32, 128)
        for dtype in (torch.float32, torch.bfloat16)
        for last in (False, True)
    ]


def make_volume(shape, dtype, last, device):
    """Logits with a peak in each joint's volume, as a network in training gives them."""
    generator = torch.Generator(device).manual_seed(0)
    volume = torch.randn(shape, generator=generator, device=device).mul_(3).to(dtype)
    if last:
        volume = (
            volume.flatten(1, 2)
            .contiguous(memory_format=torch.channels_last)
            .unflatten(1, shape[1:3])
        )
    return volume.requires_grad_()


def step(way, volume, target):
    """One loss and its gradient; what training does with the volume."""
    (way(volume) - target).abs().mean().backward()


def timed(function, device):
    """Processor and wall seconds of one call; a GPU's own clock for both."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        return (start.elapsed_time(end) / 1000,) * 2
    processor, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - processor, time.perf_counter() - wall


def extra_bytes(function, volume):
    """Peak memory of one call beyond what is there before and the gradient; None on a CPU."""
    if volume.device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before - volume.nbytes


def worst_error(way, volume):
    """Largest distance from the sum in float64, cells; sample by sample, for the reference needs room."""
    with torch.no_grad():
        found = way(volume)
        pairs = zip(found, volume)
        return max(
            (one.double() - plain(sample[None].double())[0]).abs().max().item()
            for one, sample in pairs
        )


def compare(found, left_out, shape, dtype, last, device, turns):
    """All ways on one volume: dict of way -> numbers, and the measured rate of a copy, bytes/s."""
    volume = make_volume(shape, dtype, last, device)
    target = torch.rand((*shape[:2], 3), device=device) * (shape[2] - 1)
    copied = torch.empty_like(volume).detach()
    rows, calls = {}, {}
    # Each case compiles anew: after a few shapes the compiler would give up, and run the plain way without a word.
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for name, way in list(found.items()):

        def call(way=way):
            step(way, volume, target)
            volume.grad = None

        try:
            call()
            if name == COMPILED and torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0:
                raise RuntimeError("the compiler fell back to eager")
        except Exception as error:  # a compiler can be missing in many ways; the reason is printed
            if name != COMPILED:
                raise
            left_out[name] = str(error).strip().splitlines()[0][:120]
            del found[name]
            continue
        call()
        rows[name] = {
            "error_cells": worst_error(way, volume),
            "extra_bytes": extra_bytes(call, volume),
        }
        calls[name] = call
    calls["copy"] = lambda: copied.copy_(volume.detach())
    seconds = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            took = timed(call, device)
            if turn:  # the first is for warming up
                seconds[name].append(took)
    medians = {name: np.median(took, axis=0) for name, took in seconds.items()}
    rate = 2 * volume.nbytes / medians.pop("copy")[1]
    for name, (processor, wall) in medians.items():
        rows[name] |= {
            "ms": 1000 * processor,
            "wall_ms": 1000 * wall,
            "bytes_per_second": 3 * volume.nbytes / wall,
            "times_its_bytes": wall * rate / (3 * volume.nbytes),
            "plain_over_it": medians[PLAIN][0] / processor,
        }
    return rows, rate, volume.nbytes


def print_case(case, rows, rate, nbytes):
    shape, dtype, last = case
    layout = ", channels-last" if last else ""
    print(
        f"\n{' x '.join(map(str, shape))}, {str(dtype).removeprefix('torch.')}{layout}: logits {nbytes / 1e6:.1f} MB, "
        f"a copy runs at {rate / 1e9:.1f} GB/s\n"
    )
    print("| " + " | ".join(HEADER) + " |\n| --- |" + " ---: |" * (len(HEADER) - 1))
    for name, row in rows.items():
        extra = (
            "not measured" if row["extra_bytes"] is None else f"{row['extra_bytes'] / nbytes:.1%}"
        )
        print(
            f"| {name} | {row['ms']:.3f} | {row['wall_ms']:.3f} | {row['bytes_per_second'] / 1e9:.1f} | "
            f"{row['times_its_bytes']:.2f} | {extra} | {row['error_cells']:.1e} | {row['plain_over_it']:.2f} |"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default=None, help="cpu or cuda; by default the GPU where there is one"
    )
    parser.add_argument("--turns", type=int, default=9, help="how often each way is timed")
    parser.add_argument("--threads", type=int, default=None, help="of a CPU; by default all")
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=(PLAIN, COMPILED, DSNTNN, OURS, PIPELINED),
        default=(PLAIN, COMPILED, DSNTNN, OURS, PIPELINED),
        help="which to time; all by default",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=None,
        help="where the numbers go; by default results/benchmarks/",
    )
    parser.add_argument(
        "--toy", action="store_true", help="a few small volumes, to see that it runs"
    )
    options = parser.parse_args()
    device = torch.device(options.device) if options.device else default_device()
    if options.threads:
        torch.set_num_threads(options.threads)
    path = (
        options.json
        or REPOSITORY
        / "results"
        / "benchmarks"
        / f"soft_argmax-{'toy' if options.toy else device.type}.json"
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{device_name(device)}, torch {torch.__version__}; {os.cpu_count()} cores, load {load:.1f} at the start"
    )
    found, left_out = ways(options.ways, device)
    report = {
        "device": device_name(device),
        "torch": torch.__version__,
        "commit": commit(),
        "load": load,
        "cases": [],
    }
    turns = 2 if options.toy else options.turns
    for case in cases(device, options.toy):
        rows, rate, nbytes = compare(found, left_out, *case, device, turns)
        print_case(case, rows, rate, nbytes)
        shape, dtype, last = case
        report["cases"].append(
            {
                "shape": shape,
                "dtype": str(dtype),
                "channels_last": last,
                "logits_bytes": nbytes,
                "copy_bytes_per_second": rate,
                "ways": rows,
            }
        )
    for name, reason in left_out.items():
        print(f"\nleft out: {name}, {reason}")
    report |= {"left_out": left_out, "headline": report["cases"][0]["ways"][OURS]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)


if __name__ == "__main__":
    main()
