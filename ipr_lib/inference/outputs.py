"""Poses of files on disk: overlays, tables and interactive pages.

Taught in notebooks/12_your_own_pictures.ipynb.
"""

import csv
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from matplotlib.colors import to_rgba_array
from PIL import Image

from ..data.images import open_video
from ..files import InputError, atomic_path, printable
from ..geometry.skeleton import HUMAN36M
from ..progress import progress
from ..views.plots import limb_colours
from .inputs import is_video, list_files, read_frames
from .networks import Network
from .poses import Poses, Prediction, join_poses, predict_inputs, timeline
from .videos import USUAL_RATE

WHITE = (255, 255, 255)
SPARE = 65536  # bytes; more than what a disk gives out at once
FASTEST = 60.0  # frames a second of an overlay video
LONGEST = 200  # bytes of an output's name, before its ending; disks allow 255 in all
COLUMNS = ("source", "frame", "time_s", "person", "joint", "x_px", "y_px", "x_mm", "y_mm", "z_mm")


def draw_overlay(image: np.ndarray, joints_img: np.ndarray) -> np.ndarray:
    """Draw skeletons into a copy of a picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        joints_img: (P, J, 2) px.

    Returns:
        (H, W, 3) uint8 RGB; the person's own right limbs orange, left ones blue, each with a white
        seam.
    """
    canvas = np.ascontiguousarray(image).copy()
    longer = max(canvas.shape[:2])
    width = max(1, round(longer / 250))
    colours = np.rint(255 * to_rgba_array(limb_colours(HUMAN36M))[:, :3]).tolist()
    far = 4 * longer  # OpenCV counts pixels in 32 bits
    for joints in joints_img:
        points = np.rint(np.clip(joints, -far, far)).astype(int).tolist()
        for child, parent in HUMAN36M.limbs:
            cv2.line(canvas, points[child], points[parent], WHITE, 3 * width, cv2.LINE_AA)
        for (child, parent), colour in zip(HUMAN36M.limbs, colours):
            cv2.line(canvas, points[child], points[parent], colour, 2 * width, cv2.LINE_AA)
    return canvas


def write_tables(poses: Poses, folder: str | Path) -> None:
    """Write `poses.npz` (Poses by name, and joint_names) and `poses.csv` (a line a joint) into a folder."""
    folder = Path(folder)
    with atomic_path(folder / "poses.npz") as temporary:
        columns = vars(poses) | {"source": poses.source.astype(str)}
        np.savez_compressed(temporary, joint_names=np.array(HUMAN36M.names), **columns)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in range(len(poses)):
        time_s = f"{poses.time_s[row]:.3f}"
        start = [printable(poses.source[row]), poses.frame[row], time_s, poses.person[row]]
        for joint, name in enumerate(HUMAN36M.names):
            numbers = [*poses.joints_img[row, joint], *poses.joints_rel[row, joint]]
            writer.writerow([*start, name, *(f"{number:.2f}" for number in numbers)])
    with atomic_path(folder / "poses.csv") as temporary:
        temporary.write_bytes(text.getvalue().encode())  # csv's own line ends stay as they are


def write_overlay_video(prediction: Prediction, target: str | Path, **span) -> None:
    """Write a video with everybody's skeleton in its pictures: VP8 in .webm, which browsers play.

    OpenCV writes so many frames a second. So a frame is repeated until the time of the next one.

    Args:
        prediction: of a video.
        target: the .webm file.
        span: every, start and end, as it was predicted with; see `read_frames`.

    Raises:
        InputError: this build of OpenCV cannot write VP8, or the file did not get onto the disk.
    """
    poses = prediction.poses
    rate, repeats = constant_rate(prediction.times)
    with atomic_path(target) as temporary:
        writer = cv2.VideoWriter()
        frames = read_frames(prediction.source, **span)
        name = Path(prediction.source).name
        bar = progress(frames, desc=f"drawing {name}", unit="frame", leave=False)
        try:
            for repeat, (number, _, image) in zip(repeats, bar):
                height, width = image.pixels.shape[:2]
                if not writer.isOpened():
                    _open_writer(writer, temporary, rate, (width, height))
                if not writer.isOpened():
                    raise InputError(
                        f"{target}: this build of OpenCV cannot write VP8 video; install opencv-python-headless"
                    )
                drawn = draw_overlay(image.pixels, poses.joints_img[poses.frame == number])
                drawn = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
                for _ in range(repeat):
                    writer.write(drawn)
        finally:
            writer.release()
        _check_written(temporary, target, sum(repeats))


def constant_rate(times: np.ndarray) -> tuple[float, list[int]]:
    """A steady rate at which frames keep their times, to half a step.

    Args:
        times: (F,) s, rising.

    Returns:
        frames a second; how often each frame is shown, 0 where two come within one step.
    """
    if len(times) == 1:
        return USUAL_RATE, [1]
    times = np.asarray(times) - times[0]
    rate = (len(times) - 1) / times[-1]
    if np.abs(times * rate - np.arange(len(times))).max() > 0.5:  # it is not steady
        rate = 1 / np.percentile(np.diff(times), 10)
    rate = round(min(rate, FASTEST), 3)
    shown_from = np.rint(times * rate).astype(int)
    return rate, [*np.diff(shown_from).tolist(), 1]


def _check_written(path, target, expected):
    """Raise where a video file lacks something: OpenCV does not say if the disk takes no more.

    Its last bytes are the index. Where they did not fit, a few more do not fit either.
    """
    packets = open_video(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])  # -1: not decoded
    found = 0
    while packets.grab():
        found += 1
    packets.release()
    if found < expected:
        raise InputError(
            f"cannot write {target}: {found} of {expected} frames got onto the disk; make room there, "
            "or allow larger files, then run again"
        )
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(bytes(SPARE))
    os.truncate(path, size)


def _open_writer(writer, path, fps, size):
    """Open a VP8 writer, without the warning about WebM that OpenCV writes to file descriptor 2."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            writer.open(os.fsencode(path), cv2.VideoWriter_fourcc(*"VP80"), fps, size)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def predict_files(
    paths: list,
    out: str | Path,
    network: Network,
    view: bool = True,
    recursive: bool = False,
    say: Callable[[str], None] = print,
    **choices,
) -> tuple[Poses, list[str]]:
    """Predict pictures, folders and videos, and write all that there is to see.

    Into `out` go `poses.npz`, `poses.csv` and, for each input, NAME_pose.jpg (or .webm) and
    NAME_pose.html. An input that cannot be used is reported in one line, and the others are still
    predicted. The two tables are replaced while the inputs are worked through, so that an
    interruption keeps what was found; where no input is usable, they stay as they were.

    Args:
        paths: files and folders.
        out: folder.
        network: see `networks.load_network`.
        view: also write the interactive .html pages.
        recursive: also take what lies in folders of the folders.
        say: called with each line.
        choices: see `poses.predict_inputs`.

    Returns:
        Poses of all inputs; problems, one line for each input that was not usable, not in full, or
        shows nobody.

    Raises:
        InputError: `out` is or lies in one of the input folders, or cannot be written.
    """
    out = Path(out)
    for path in map(Path, paths):
        inside = recursive and path.resolve() in out.resolve().parents
        if path.is_dir() and (inside or path.resolve() == out.resolve()):
            raise InputError(f"{out} is an input folder as well; name another folder to write to")
    if view:
        try:
            from ..views import SkeletonView  # noqa: F401
        except (InputError, ImportError) as error:
            say(f"no .html pages: {error}")
            view = False
    problems = []

    def report(problem):
        problems.append(problem)
        say(problem)

    files, skipped, dead_ends = list_files(paths, recursive)
    for line in skipped:
        say(line)
    for line in dead_ends + _unused_boxes(choices.get("box"), files):
        report(line)
    span = {name: choices[name] for name in ("every", "start", "end") if name in choices}
    parts, used_names, frame_count = [], set(), 0
    n_written, next_writing = 0, 0.0
    start = time.perf_counter()
    for prediction in predict_inputs(network, files, **choices):
        path, poses = prediction.source, prediction.poses
        if prediction.problem is not None:
            report(str(prediction.problem))
        if poses is None:
            continue
        frame_count += len(prediction.frames)
        if len(poses) == 0:
            report(
                f"{path}: no person found; name the box with --box, or take the whole picture with --whole"
            )
            continue
        parts.append(poses)
        people = len(np.unique(poses.person))
        counted = f"{len(prediction.frames)} frames, " if is_video(path) else ""
        noun = "person" if people == 1 else "people"
        say(f"{path}: {counted}{people} {noun}; {'; '.join(prediction.notes)}")
        try:
            _write_drawings(prediction, out / _free_name(path, used_names), span, view)
        except InputError as error:
            report(str(error))
        except Exception as error:  # whatever one input does, the others keep their results
            report(f"{path}: its overlay cannot be drawn ({type(error).__name__}: {error})")
        began = time.perf_counter()
        if began >= next_writing:
            write_tables(join_poses(parts), out)
            n_written, done = len(parts), time.perf_counter()
            # The tables grow, so that of very many inputs not each one can have its writing.
            next_writing = done + 9 * (done - began)
    poses = join_poses(parts)
    if n_written < len(parts):
        write_tables(poses, out)
    seconds = time.perf_counter() - start
    say(
        f"{frame_count} pictures, {len(poses)} poses in {seconds:.2f} s, reading and writing included: "
        f"{frame_count / seconds:.1f} pictures/s"
    )
    return poses, problems


def _unused_boxes(box, files):
    """A line for each file that a table of boxes names although it is no input; see `read_boxes`."""
    if not isinstance(box, dict):
        return []
    inputs = {file.resolve() for file in files}
    return [
        f"{file}: the table of boxes names it, but it is no input" for file in box.keys() - inputs
    ]


def _write_drawings(prediction, target, span, view):
    """Write the overlay of an input with people in it, and its page.

    Args:
        prediction: see `poses.Prediction`.
        target: of what is written, without the ending.
        span: every, start and end, as it was predicted with.
        view: whether to write the page, too.
    """
    path, poses, times = prediction.source, prediction.poses, prediction.times
    first = int(np.searchsorted(prediction.frames, poses.frame[0]))  # nobody may be there before
    choices = {"title": printable(path.name), "frame": first}
    if is_video(path):
        write_overlay_video(prediction, target.with_name(f"{target.name}.webm"), **span)
        seconds = times[-1] - times[0]
        choices["fps"] = round((len(times) - 1) / seconds, 3) if seconds else USUAL_RATE
    else:
        pixels = prediction.pixels
        with atomic_path(target.with_name(f"{target.name}.jpg")) as temporary:
            drawn = draw_overlay(pixels, poses.joints_img)
            Image.fromarray(drawn).save(temporary, quality=92)
        choices["images"], choices["joints_img"] = [pixels], poses.joints_img[:, None]
    if view:
        from ..views import SkeletonView  # needs an extra

        joints = timeline(poses, prediction.frames).astype(np.float32)
        page = SkeletonView(joints, HUMAN36M, **choices)
        page.to_html(target.with_name(f"{target.name}.html"), title=printable(path.name))


def _free_name(path, used_names):
    """The stem of an output's name; a number tells equal names of different folders apart."""
    stem = path.stem
    while len(os.fsencode(stem)) > LONGEST:
        stem = stem[:-1]
    name, number = f"{stem}_pose", 2
    while name.lower() in used_names:  # some disks take A and a for the same
        name = f"{stem}-{number}_pose"
        number += 1
    used_names.add(name.lower())
    return name
