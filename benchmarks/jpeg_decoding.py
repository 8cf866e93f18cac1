"""Crops of training out of stored JPEGs: decoded and warped on a device, against one CPU core.

    python benchmarks/jpeg_decoding.py --device cuda [--json FILE] [--batches 30] [--px 256]

The crops are made here, from the built-in capture. Both ways end in the same normalised batch on the device; the CPU way
includes the copy to it. Times are on the clock, medians.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # a machine without a registry has the folder, not the package

from ipr_lib.data.datasets import BatchKeys, CropDataset, normalise
from ipr_lib.data.device_crops import decode_crops, warp_crops
from ipr_lib.data.store import build_store
from ipr_lib.files import write_json
from ipr_lib.geometry.transforms import Augmentation, compose_affine, invert_affine
from ipr_lib.studio.capture import write_capture

BATCH = 32


def clock(device):
    """Seconds, when the device has caught up."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def compare(store, crop_px, device, n_batches):
    """ms a crop: CPU way; JPEGs decoded on the device; the whole device way (medians); mean difference, grey levels."""
    dataset = CropDataset(store, crop_px, 2000.0, Augmentation())
    size = min(BATCH, len(store))
    keys = list(BatchKeys(len(store), size, -(-(n_batches + 1) // (len(store) // size))))[
        : n_batches + 1
    ]
    times, differences = [], []
    for key in keys:  # the first is for warming up
        start = clock(device)
        batch = dataset[key]
        crops, colour = batch["crops"].to(device), batch["colour"].to(device)
        normalise(crops, colour)
        ours = clock(device)
        from_stored = compose_affine(
            batch["affine"].numpy(), invert_affine(store.columns["affine"][key[2]])
        )
        begun = clock(device)
        pictures = decode_crops([store.jpeg(i) for i in key[2]], device)
        decoded = clock(device)
        warped = warp_crops(pictures, from_stored, crop_px)
        normalise(warped, colour)
        times.append([ours - start, decoded - begun, clock(device) - begun])
        differences.append((warped.float() - crops.float()).abs().mean().item())
    return 1000 * np.median(times[1:], axis=0) / size, float(np.mean(differences))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the numbers there, too")
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--px", type=int, default=256, help="side of the crops")
    parser.add_argument(
        "--frames",
        type=int,
        default=21,
        help="poses of the take; every 5th becomes a picture of 4 cameras",
    )
    options = parser.parse_args()
    device = torch.device(options.device)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        write_capture(
            Path(scratch, "capture"),
            subjects=(1,),
            actions=(2,),
            takes=(1,),
            cameras=(1, 2, 3, 4),
            n_frames=options.frames,
            train_step=5,
            test_step=5,
        )
        store = build_store(
            Path(scratch, "capture"),
            Path(scratch, "one.crops"),
            subjects=(1,),
            step=5,
            crop_px=options.px,
        )
        (core, decoding, whole), difference = compare(store, options.px, device, options.batches)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
    print(
        f"ms a crop of {options.px} px: {core:.3f} by one core and a copy to {name}, {whole:.3f} on {name} "
        f"(decoding {decoding:.3f}): {core / whole:.2f} x; {difference:.2f} grey levels apart"
    )
    if options.json:
        write_json(
            options.json,
            {
                "device": name,
                "torch": torch.__version__,
                "crop_px": options.px,
                "core_ms": core,
                "device_ms": whole,
                "decoding_ms": decoding,
                "grey_levels": difference,
                "headline": {"device_over_core": core / whole},
            },
        )


if __name__ == "__main__":
    main()
