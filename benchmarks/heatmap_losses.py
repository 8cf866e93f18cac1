"""Times the heat-map losses against the integral loss, forward and backward: processor time, in turns.

    python benchmarks/heatmap_losses.py            16^3 and 64^3 cells
    python benchmarks/heatmap_losses.py --toy      small, to see that it runs

Targets: no loss slower than integral training. Half of the pictures have no depth. What is trained is network and loss
together, so the time of profile laptop's network, forward and backward in float32, stands below.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # a machine without a registry has the folder, not the package

import torch

from ipr_lib.config import load_config
from ipr_lib.evaluation.results import device_name
from ipr_lib.evaluation.tables import markdown_table
from ipr_lib.integral import losses
from ipr_lib.run import build_network

JOINTS = 18


WAYS = {
    "integral": losses.soft_argmax_loss,
    "H1, Gaussian": losses.squared_heatmap_loss,
    "H2, true cell": losses.softmax_heatmap_loss,
    "H2, Gaussian": lambda *arguments: losses.softmax_heatmap_loss(*arguments, sigma=1.0),
    "H3, ball": losses.binary_heatmap_loss,
    "Jensen-Shannon prior": losses.js_prior_loss,
    "expected error": losses.expected_error_loss,
}


def measure(batch, side, rounds):
    """Least processor time of each way, ms a picture."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(batch, JOINTS, side, side, side, generator=generator)
    cells = torch.rand(batch, JOINTS, 3, generator=generator) * (side - 1)
    weights = torch.ones(batch, JOINTS, 3)
    weights[::2, :, 2] = 0
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(rounds):
        for name, way in WAYS.items():
            logits = volume.clone().requires_grad_()
            start = time.process_time()
            way(logits, cells, weights).backward()
            best[name] = min(best[name], (time.process_time() - start) * 1e3 / batch)
    return best


def network(profile, rounds):
    """Least processor time of a profile's network, forward and backward, ms a picture; and the shape of its volume."""
    cfg = load_config(profile)
    model, crops = build_network(cfg), torch.randn(16, 3, cfg.crop_px, cfg.crop_px)
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        volume = model(crops)
        volume.backward(torch.ones_like(volume))
        best = min(best, (time.process_time() - start) * 1e3 / len(crops))
    return best, tuple(volume.shape[1:])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="8^3 cells alone")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = ((4, 8),) if options.toy else ((16, 16), (2, 64))
    times = [measure(batch, side, options.rounds) for batch, side in sizes]
    print(
        f"{device_name(torch.device('cpu'))}, load {os.getloadavg()[0]:.0f}; ms of processor time a picture (of the integral's)\n"
    )
    rows = [
        [name, *(f"{t[name]:.3f} ({t[name] / t['integral']:.1f})" for t in times)] for name in WAYS
    ]
    print(
        markdown_table(
            [
                "loss, forward and backward",
                *(f"18 x {side}^3, batch {batch}" for batch, side in sizes),
            ],
            rows,
        )
    )
    took, shape = network("smoke" if options.toy else "laptop", options.rounds)
    print(
        f"\nthe network, forward and backward, batch 16: {took:.2f} ms a picture, volumes {' x '.join(map(str, shape))}"
    )


if __name__ == "__main__":
    main()
