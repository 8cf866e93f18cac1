"""Full-size pictures per second that the built-in capture writes, motion, rendering and JPEG files included.

    python benchmarks/capture.py [--workers 2] [--frames 40]

Starting the processes and building the empty rooms, once per worker, is measured apart. The time on the processors
stands beside the time on the clock: on a machine that is busy with other things only the former means much.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from ipr_lib.studio import write_capture


def record(folder, actions, n_frames, workers):
    """Seconds on the clock and on the processors that a capture takes, and the number of pictures in it."""
    start, busy = time.perf_counter(), sum(os.times()[:4])
    write_capture(
        folder,
        subjects=(1, 5),
        actions=actions,
        takes=(1,),
        cameras=(1, 2, 3, 4),
        n_frames=n_frames,
        train_step=1,
        test_step=1,
        workers=workers,
    )
    return (
        time.perf_counter() - start,
        sum(os.times()[:4]) - busy,
        sum(1 for _ in Path(folder).rglob("*.jpg")),
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=int, default=40, help="pictures per take and camera")
    options = parser.parse_args()
    actions = (2, 9, 13, 15)  # standing, on a chair, walking, with a dog
    with tempfile.TemporaryDirectory() as scratch:
        started, busy_start, few = record(f"{scratch}/start", actions, 1, options.workers)
        seconds, busy, pictures = record(
            f"{scratch}/capture", actions, options.frames + 1, options.workers
        )
        size = (
            sum(path.stat().st_size for path in Path(scratch, "capture").rglob("*.jpg")) / pictures
        )
    print(
        f"start and empty rooms: {started:.1f} s; {pictures} pictures of {size / 1000:.0f} kB in {seconds:.1f} s"
    )
    print(
        f"{(pictures - few) / (seconds - started):.1f} pictures/s with {options.workers} workers "
        f"({pictures / seconds:.1f} with the start)"
    )
    each = (busy - busy_start) / (pictures - few)
    print(
        f"{1000 * each:.0f} ms of processor time a picture: {options.workers / each:.1f} pictures/s "
        f"where {options.workers} workers have a core each"
    )


if __name__ == "__main__":
    main()
