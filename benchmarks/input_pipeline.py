"""What feeding the training costs: the crop store against the plain way, in one process on one core.

    python benchmarks/input_pipeline.py [--frames 81] [--items 312188] [--toy]

All data are made here, in a temporary folder, from the built-in capture. The plain way is what public code does for
each sample: decode the whole 1000 x 1000 JPEG, copy it, mirror it, warp the crop out of it, turn it into normalised
floats.
Both ways take the same draws of the augmentation, and take turns. Times are processor time of this one process, all
threads but one switched off: on an idle machine that is the time on the clock. The table gives medians and their ratio.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # read when numpy is imported; its waiting threads would count as processor time
)

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the store that a test opens, too

from ipr_lib.data import h36m_layout as layout
from ipr_lib.data.datasets import MEAN, STD, BatchKeys, CropDataset, normalise
from ipr_lib.data.store import build_store, open_store
from ipr_lib.geometry.transforms import Augmentation, compose_affine, invert_affine, warp
from ipr_lib.studio import write_capture
from tests.large_store import probe, write_large_store

CROP_PX, BATCH = 256, 32
STEP = 5


def plain_crop(path, affine):
    """uint8 RGB crop the plain way; `affine` (2, 3) maps picture px to crop px, mirrored or not."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    picture = picture.copy()
    if np.linalg.det(affine[:, :2]) < 0:
        picture = picture[:, ::-1, :]
        affine = compose_affine(affine, np.array([[-1, 0, picture.shape[1] - 1], [0, 1, 0]], float))
    return cv2.warpAffine(picture, affine, (CROP_PX, CROP_PX), flags=cv2.INTER_LINEAR)[:, :, ::-1]


def plain_normalise(crop, gain):
    """(3, S, S) float32, channel by channel, as public code does."""
    pixels = np.transpose(crop, (2, 0, 1)).astype(np.float32)
    for channel in range(3):
        pixels[channel] = np.clip(pixels[channel] * gain[channel], 0, 255)
        pixels[channel] = (pixels[channel] / 255 - MEAN[channel]) / STD[channel]
    return torch.from_numpy(pixels)


def compare_items(root, store, n_batches):
    """Times of one item each way, ms (medians); mean difference of their pixels, everywhere and where the stored crop
    reaches, grey levels; the share of pixels where it does not: corners of crops that are both turned and zoomed out."""
    dataset = CropDataset(store, CROP_PX, 2000, Augmentation())
    batch_size = min(BATCH, len(store))
    epochs = -(-n_batches // (len(store) // batch_size))
    keys = list(BatchKeys(len(store), batch_size, epochs))[:n_batches]
    paths = [layout.item_path(root, store.columns, item) for item in range(len(store))]
    times, differences = [], []
    white = np.full((store.recipe["stored_px"],) * 2, 255, np.uint8)
    for key in [keys[0], *keys]:  # the first is for warming up
        start = time.process_time()
        batch = dataset[key]
        loaded = time.process_time()
        normalise(batch["crops"], batch["colour"])
        ready = time.process_time()
        affines = batch["affine"].numpy()
        gains = torch.diagonal(batch["colour"][..., :3], dim1=1, dim2=2).numpy()
        plain_start = time.process_time()
        plain = [plain_crop(paths[int(item)], affine) for item, affine in zip(key[2], affines)]
        plain_loaded = time.process_time()
        torch.stack([plain_normalise(crop, gain) for crop, gain in zip(plain, gains)])
        plain_ready = time.process_time()
        times.append(
            [loaded - start, ready - start, plain_loaded - plain_start, plain_ready - plain_start]
        )
        difference = cv2.absdiff(
            batch["crops"].numpy().reshape(-1), np.stack(plain).reshape(-1)
        ).reshape(-1, 3)
        from_stored = compose_affine(affines, invert_affine(store.columns["affine"][key[2]]))
        reached = np.ravel([warp(white, affine, CROP_PX) == 255 for affine in from_stored])
        differences.append([difference.mean(), difference[reached].mean(), 1 - reached.mean()])
    ms = 1000 * np.median(times[1:], axis=0) / batch_size
    return ms, *np.mean(differences[1:], axis=0)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=81,
        help="poses a take; every 5th becomes a picture of 4 cameras",
    )
    parser.add_argument("--items", type=int, default=312_188, help="items of the large store")
    parser.add_argument(
        "--toy", action="store_true", help="a few of everything, to see that it runs"
    )
    options = parser.parse_args()
    frames, n_items, actions, n_batches = options.frames, options.items, (2, 9, 13), 40
    if options.toy:
        frames, n_items, actions, n_batches = 11, 5000, (2,), 2
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "capture")
        cameras = layout.CAMERAS[: 1 if options.toy else 4]
        write_capture(
            root,
            subjects=(1,),
            actions=actions,
            takes=(1,),
            cameras=cameras,
            n_frames=frames,
            train_step=STEP,
            test_step=STEP,
            workers=2,
        )
        store = build_store(
            root, Path(scratch, "full"), subjects=(1,), step=STEP, crop_px=CROP_PX, workers=2
        )
        ms, difference, inside, outside = compare_items(root, store, n_batches)
        small = build_store(root, Path(scratch, "small"), subjects=(1,), step=STEP, crop_px=32)
        large = Path(scratch, "large")
        write_large_store(large, small, n_items)
        probes = [probe(large) for _ in range(1 if options.toy else 5)]
        columns = sum(column.nbytes for column in open_store(large).columns.values())
        size = store.columns["size"].mean()
    seconds, busy = (np.median([one[name] for one in probes]) for name in ("seconds", "busy"))
    extra = max(one["highest"] - one["before"] for one in probes)
    total = max(one["highest"] for one in probes)
    rows = (
        ("one item, uint8 crop and labels, ms", ms[0], ms[2]),
        ("one item, ready for training, ms", ms[1], ms[3]),
    )
    print(
        f"{len(store)} crops of {store.recipe['stored_px']} px, {size / 1000:.0f} kB each; "
        f"{n_batches} batches of {min(BATCH, len(store))}"
    )
    print(
        f"\n| {'':48} | crop store | plain way | ratio |\n| {'-' * 48} | ---------: | --------: | ----: |"
    )
    for name, ours, plain in rows:
        print(f"| {name:48} | {ours:10.3f} | {plain:9.3f} | {plain / ours:5.1f} |")
    print(
        f"\npixels differ by {inside:.2f} grey levels on average where the stored crop reaches, by {difference:.2f} with "
        f"the {outside:.1%} where it does not"
    )
    print(
        f"a store of {n_items} items ({columns / 1e6:.0f} MB of labels) opens in {seconds:.2f} s on the clock, "
        f"{busy:.2f} s on the processor (medians of {len(probes)}), and takes {extra:.0f} MB for it; "
        f"the whole process {total:.0f} MB at most"
    )


if __name__ == "__main__":
    main()
