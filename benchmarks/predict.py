"""Where the time of `predict` goes: reading, detector, cutting, network, drawing and writing, apart.

    python benchmarks/predict.py [VIDEO] [--frames N]

Without a video, one of 720p is made of a picture of the repository. Processor time is printed beside
the time on the clock, because other work on the machine does not change it.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision

from ipr_lib.files import REPOSITORY, device_name
from ipr_lib.inference import detect_people, draw_overlay, load_network, predict_files, read_frames
from ipr_lib.inference.poses import DETECTOR
from ipr_lib.inference.videos import VideoWriter

RATE = 30.0


def make_video(path, frames):
    """A 720p video that moves about in a picture."""
    picture = cv2.imread(str(REPOSITORY / "notebooks" / "images" / "capture.jpg"))
    picture = cv2.resize(picture, (1600, 900))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), RATE, (1280, 720))
    for frame in range(frames):
        x = int(160 + 150 * np.sin(frame / 20))
        y = int(90 + 80 * np.cos(frame / 25))
        writer.write(picture[y : y + 720, x : x + 1280])
    writer.release()


def timed(name, count, work):
    """Print what one of `count` equal pieces of work takes; gives what the work gives."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    on_clock = 1e3 * (time.perf_counter() - clock) / count
    on_processor = 1e3 * (time.process_time() - processor) / count
    print(f"{name:34} {on_clock:8.2f} ms, processor {on_processor:8.2f} ms")
    return result


def write_all(writer, pictures):
    """Write pictures by a VideoWriter."""
    for number, picture in enumerate(pictures):
        writer.write(picture, number / RATE)
    writer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=120)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        video = options.video or folder / "made.mp4"
        if options.video is None:
            make_video(video, options.frames)
        measure(video, folder)


def measure(video, folder):
    """Print all the parts, and then the whole; each a frame or a crop."""
    network = load_network()
    device = next(network.model.parameters()).device
    print(f"{network.cfg.network}, on {device_name(device)}")
    count = sum(1 for _ in read_frames(video))
    frames = timed("reading", count, lambda: list(read_frames(video)))
    images = [image.pixels for _, _, image in frames[:48]]
    # The detector's weights change nothing about its time but for how many boxes it sorts.
    detector = torchvision.models.get_model(DETECTOR, weights=None, weights_backbone=None)
    detector = detector.to(device).eval()
    timed("detector", 4, lambda: [detect_people(detector, image) for image in images[:4]])

    height, width = images[0].shape[:2]
    box = np.array([[width / 2, height / 2, 0.95 * height]])
    affine = network.crop_affine(box)[0]
    crops = timed("cutting, a pass", len(images), lambda: [network.cut(i, affine) for i in images])
    crops = torch.from_numpy(np.stack(crops))
    for size in (1, 4, 16, 32):
        batches = crops.split(size)
        network.joints(batches[0])  # the first of a size takes longer
        name = f"network, a pass, batch {size}"
        timed(name, len(crops), lambda batches=batches: [network.joints(b) for b in batches])

    pose = np.random.default_rng(0).uniform(0, height, (1, 18, 2))
    drawn = timed("drawing", len(images), lambda: [draw_overlay(image, pose) for image in images])
    with open(folder / "overlay.webm", "wb") as file:
        writer = VideoWriter(file, "webm", RATE)
        timed("writing VP8", len(drawn), lambda: write_all(writer, drawn))

    out = folder / "out"
    work = timed("all of predict, box given", count, lambda: whole(video, out, network, box))
    print(work)


def whole(video, out, network, box):
    """The last line that `predict` says of a video."""
    lines = []
    predict_files([video], out, network, box=box, say=lines.append)
    return lines[-1]


if __name__ == "__main__":
    main()
