"""Poses of files on disk: overlays, tables and interactive pages. Taught in notebooks/12_your_own_pictures.ipynb."""

import csv
import os
import time
from pathlib import Path

import cv2
import numpy as np
from matplotlib.colors import to_rgb

from ..files import InputError, atomic_path
from ..geometry.skeleton import HUMAN36M
from ..progress import progress
from ..views.plots import limb_colours
from .inputs import frame_rate, is_video, list_files, read_frames
from .poses import PASSES, join_poses, predict_picture, predict_video, timeline


def draw_overlay(picture, joints_img):
    """Draw skeletons into a copy of a picture.

    Args:
        picture: (H, W, 3) uint8 RGB. joints_img: (P, J, 2) px.
    Returns:
        (H, W, 3) uint8 RGB; the person's own right limbs orange, left ones blue, each with a white seam.
    """
    canvas = np.ascontiguousarray(picture).copy()
    width = max(1, round(max(canvas.shape[:2]) / 250))
    colours = [
        tuple(round(255 * channel) for channel in to_rgb(colour))
        for colour in limb_colours(HUMAN36M)
    ]
    far = 4 * max(canvas.shape[:2])  # OpenCV counts pixels in 32 bits
    for joints in joints_img:
        points = np.rint(np.clip(joints, -far, far)).astype(int).tolist()
        for thickness, seam in ((3 * width, True), (2 * width, False)):
            for (child, parent), colour in zip(HUMAN36M.limbs, colours):
                colour = (255, 255, 255) if seam else colour
                cv2.line(canvas, points[child], points[parent], colour, thickness, cv2.LINE_AA)
    return canvas


def write_view(poses, frames, path, title, pixels=None, fps=None):
    """Save the interactive skeleton view of one input.

    Args:
        poses, frames: see `predict.timeline`.
        path: the .html file.
        title: of the page.
        pixels: (H, W, 3) uint8 RGB of a single picture, shown beside the skeletons; or None.
        fps: frames a second of a video; or None.
    Raises:
        InputError: the file cannot be written.
    """
    from ..views.skeleton_view import SkeletonView  # needs an extra

    shown = (
        {"pictures": [pixels], "joints_img": poses.joints_img[:, None]}
        if pixels is not None
        else {}
    )
    joints = timeline(poses, frames).astype(np.float32)
    first = int(np.searchsorted(frames, poses.frame.min()))  # nobody may be there before
    SkeletonView(joints, HUMAN36M, fps=fps, title=title, frame=first, **shown).to_html(
        path, title=title
    )


def write_tables(poses, folder):
    """Write `poses.npz` (all of Poses by name, and joint_names) and `poses.csv` (one line a joint) into a folder."""
    folder = Path(folder)
    with atomic_path(folder / "poses.npz") as temporary:
        columns = vars(poses) | {"source": poses.source.astype(str)}
        np.savez_compressed(temporary, joint_names=np.array(HUMAN36M.names), **columns)
    with (
        atomic_path(folder / "poses.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(
            ["source", "frame", "time_s", "person", "joint", "x_px", "y_px", "x_mm", "y_mm", "z_mm"]
        )
        for row in range(len(poses)):
            start = [
                poses.source[row],
                poses.frame[row],
                f"{poses.time_s[row]:.3f}",
                poses.person[row],
            ]
            for name, image, mm in zip(
                HUMAN36M.names, poses.joints_img[row], poses.joints_rel[row]
            ):
                writer.writerow([*start, name, *(f"{value:.2f}" for value in (*image, *mm))])


def write_overlay_video(path, target, poses, every=1):
    """Write a video with everybody's skeleton in its pictures: VP8 in .webm, which browsers play.

    Args:
        path: the input. target: the .webm file. poses: of this input. every: as it was predicted with.
    Raises:
        InputError: this build of OpenCV cannot write VP8, or the disk is full.
    """
    rate = frame_rate(path) / every
    with atomic_path(target) as temporary:
        writer = cv2.VideoWriter()
        try:
            seen = progress(
                read_frames(path, every),
                desc=f"drawing {Path(path).name}",
                unit="frame",
                leave=False,
            )
            for number, _, pixels in seen:
                height, width = pixels.shape[:2]
                if not (
                    writer.isOpened() or _open_writer(writer, temporary, rate, (width, height))
                ):
                    raise InputError(
                        f"{target}: this build of OpenCV cannot write VP8 video; install opencv-python-headless"
                    )
                drawn = draw_overlay(pixels, poses.joints_img[poses.frame == number])
                writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        finally:
            writer.release()


def _open_writer(writer, path, rate, size):
    """Open a VP8 writer; whether it worked. OpenCV warns of WebM's lack of codec tags past Python, on file descriptor 2."""
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            return writer.open(str(path), cv2.VideoWriter_fourcc(*"VP80"), rate, size)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def predict_files(
    paths,
    out,
    model,
    cfg,
    box=None,
    detector=None,
    focal_px=None,
    every=1,
    smooth=False,
    passes=PASSES,
    view=True,
    say=print,
):
    """Predict pictures, folders and videos and write everything that there is to see.

    Into `out` go `poses.npz`, `poses.csv` and for each input NAME_pose.jpg (or .webm) and NAME_pose.html. An input that
    cannot be used is told in one line, and the rest goes on.

    Args:
        paths: files and folders. out: folder.
        model, cfg: network in eval mode and its Config.
        box, detector, focal_px, passes: see `predict_picture`; every, smooth: see `predict_video`.
        view: also write the interactive .html pages.
        say: called with each line.
    Returns:
        Poses of all inputs; list of problems, one line an input that was not usable or holds nobody.
    Raises:
        InputError: `out` is one of the input folders, or cannot be written.
    """
    out = Path(out)
    if any(Path(path).is_dir() and Path(path).resolve() == out.resolve() for path in paths):
        raise InputError(f"{out} is an input folder as well; name another folder to write to")
    files, problems = list_files(paths)
    for problem in problems:
        say(problem)
    view = view and _can_view(say)
    parts, taken, pictures, start = [], set(), 0, time.perf_counter()
    for path in files:
        name = _free_name(path, taken)
        try:
            pixels, fps = None, None
            if is_video(path):
                fps = frame_rate(path) / every
                poses, frames, _, phrases = predict_video(
                    model, cfg, path, box, detector, focal_px, every, smooth, passes
                )
                if len(poses):
                    write_overlay_video(path, out / f"{name}.webm", poses, every)
            else:
                poses, pixels, phrases = predict_picture(
                    model, cfg, path, box, detector, focal_px, passes
                )
                frames = np.zeros(1, int)
                if len(poses):
                    _write_picture(out / f"{name}.jpg", draw_overlay(pixels, poses.joints_img))
            if len(poses) and view:
                write_view(poses, frames, out / f"{name}.html", path.name, pixels, fps)
        except InputError as error:
            problems.append(str(error))
            say(str(error))
            continue
        pictures += len(frames)
        people = len(np.unique(poses.person))
        if not people:
            problems.append(
                f"{path}: nobody found; name the box with --box, or take the whole picture with --whole"
            )
            say(problems[-1])
            continue
        parts.append(poses)
        counted = f"{len(frames)} frames, " if is_video(path) else ""
        say(
            f"{path}: {counted}{people} {'person' if people == 1 else 'people'}; {'; '.join(phrases)}"
        )
    poses, seconds = join_poses(parts), time.perf_counter() - start
    write_tables(poses, out)
    say(
        f"{pictures} pictures, {len(poses)} poses in {seconds:.2f} s, reading and writing included: "
        f"{pictures / seconds:.1f} pictures/s"
    )
    return poses, problems


def _can_view(say):
    """Whether the interactive pages can be written; says why not."""
    try:
        from ..views.skeleton_view import SkeletonView  # noqa: F401
    except (InputError, ImportError) as error:
        say(f"no .html pages: {error}")
        return False
    return True


def _free_name(path, taken):
    """The stem of an output's name; a number tells equal names of different folders apart."""
    name, number = f"{path.stem}_pose", 2
    while name in taken:
        name, number = f"{path.stem}-{number}_pose", number + 1
    taken.add(name)
    return name


def _write_picture(path, pixels):
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92]
    )
    if not ok:
        raise InputError(f"{path} cannot be encoded as JPEG; make the picture smaller")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
