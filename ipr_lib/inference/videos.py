"""Videos of any kind: each frame upright and at its own time, and a word where frames are missing.

Taught in notebooks/12_your_own_pictures.ipynb.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..data.images import open_video
from ..files import InputError

USUAL_RATE = 25.0  # frames a second, where a container states none
FAILURES = 1000  # so many in a row are the end; fewer are a damaged place, and reading goes on
# Containers that count their frames; of others, OpenCV tells the duration times the rate.
COUNTING = (".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".avi")
SAVE_AGAIN = "save it again, e.g. as H.264 in .mp4"


class IncompleteVideo(InputError):
    """Frames of a video are missing; raised after the last one that could be read."""


@dataclass(frozen=True)
class TrackHeader:
    """What an MP4 file says about how its video is shown.

    Attributes:
        matrix: (a, b, c, d): a pixel at (x, y), counted from the middle of the stored frame, is
            shown at (a x + c y, b x + d y).
        shown_s: seconds that are shown; an edit list leaves out the others. 0 where unknown.
    """

    matrix: tuple[float, float, float, float]
    shown_s: float

    @property
    def mirrors(self) -> bool:
        """Whether the matrix does more than turn."""
        a, b, c, d = self.matrix
        return a * d - b * c < 0


def read_video(
    path: str | Path, every: int = 1, start: float = 0.0, end: float = math.inf
) -> Iterator[tuple[int, float, np.ndarray, str]]:
    """Frames of a video, one after the other.

    Those before `start` are decoded, too, because a jump to a time is not exact.

    Args:
        path: the file.
        every: take every so many frames.
        start, end: take frames with start <= time < end, s.

    Yields:
        (number of the frame, its time stamp in s, (H, W, 3) uint8 RGB, a phrase about steps of time
        that differ, or "").

    Raises:
        InputError: the file is missing, not readable, or holds no frame between these times.
        IncompleteVideo: frames are missing, which is known only after the last one.
    """
    # In full, because FFmpeg takes what stands before a colon for the name of a protocol.
    video = open_video(Path(path).absolute(), cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            raise InputError(f"{path}: not a readable video; {SAVE_AGAIN}")
        rate = video.get(cv2.CAP_PROP_FPS)
        if not (math.isfinite(rate) and rate > 0):
            rate = USUAL_RATE
        header = read_track_header(path)
        if header.mirrors:  # OpenCV only turns
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        times, damaged, taken, failures = [], [], 0, 0
        shortest, longest = math.inf, 0.0
        while failures < FAILURES:
            if not video.grab():
                failures += 1
                continue
            time_s = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if times:
                if time_s <= times[-1]:  # it has no stamp of its own
                    time_s = times[-1] + 1 / rate
                step = time_s - times[-1]
                shortest, longest = min(shortest, step), max(longest, step)
                if failures:
                    damaged.append(step)
            failures = 0
            if time_s >= end:
                break
            times.append(time_s)
            number = len(times) - 1
            if number % every != 0 or time_s < start:
                continue
            complete, frame = video.retrieve()
            if not complete:
                continue
            if header.mirrors:
                frame = _shown(frame, header.matrix)
            steps = ""
            if longest > 2.5 * shortest:
                steps = f"frames {shortest:.3f} to {longest:.3f} s apart"
            taken += 1
            yield number, time_s, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), steps
        if not times:
            raise InputError(f"{path}: the video holds no frame; {SAVE_AGAIN}")
        if taken == 0:
            raise InputError(
                f"{path}: no frame between {start:g} and {end:g} s; the video ends at {times[-1]:.2f} s"
            )
        stated = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        counts = Path(path).suffix.lower() in COUNTING
    finally:
        video.release()
    if failures == 0:  # `end` came first
        stated = 0
    missing = count_missing(times, damaged, stated, rate, counts, header.shown_s)
    if missing > 0:
        raise IncompleteVideo(
            f"{path}: cut or damaged: {missing} frames are missing beside the {len(times)} that were "
            "read; get the video again"
        )


def count_missing(
    times: list[float],
    damaged: list[float],
    stated: int,
    rate: float,
    counts: bool,
    shown_s: float = 0.0,
) -> int:
    """How many frames of a video are missing.

    A recorder may leave out frames where nothing moves. So only the end of the video and places
    that could not be decoded count.

    Args:
        times: of the frames that were read, s, rising.
        damaged: steps of time across places that could not be decoded, s.
        stated: frames that the container states; 0 or less where it says nothing about the end.
        rate: frames a second that it states.
        counts: whether it has counted them; else they stand for its duration.
        shown_s: see `TrackHeader`.

    Returns:
        the number; where the container has not counted, as many as would fit into the time.
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1 / rate
    duration = stated / rate
    trimmed = 0 < shown_s < duration - 1.5 * step
    if trimmed:
        duration = shown_s
    end = duration - (times[-1] + step)
    # Sound may last somewhat longer than the pictures.
    ended_early = end > (1.5 * step if counts else max(3 * step, 0.5))
    if not ended_early and not damaged:
        return 0
    if counts and stated > 0 and not trimmed:
        return stated - len(times)
    missing = round(end / step) if ended_early else 0
    for gap in damaged:
        missing += max(1, round(gap / step) - 1)
    return missing


def _shown(frame, matrix):
    """A frame as a matrix of quarter turns and mirrors shows it; see `TrackHeader`."""
    a, b, c, d = matrix
    to_right, to_bottom = a, d
    if abs(b) > abs(a):
        frame = frame.transpose(1, 0, 2)
        to_right, to_bottom = c, b
    if to_right < 0:
        frame = frame[:, ::-1]
    if to_bottom < 0:
        frame = frame[::-1]
    return np.ascontiguousarray(frame)


# --- the header of an MP4 file, which OpenCV tells only in part ---


def read_track_header(path: str | Path) -> TrackHeader:
    """Display matrix and duration of the video in an MP4, MOV or 3GP file.

    Args:
        path: the file.

    Returns:
        TrackHeader; of another kind of file, one that changes nothing.
    """
    plain = TrackHeader((1.0, 0.0, 0.0, 1.0), 0.0)
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            for movie in _boxes(data, "moov", (0, len(data))):
                for track in _boxes(data, "trak", movie):
                    for start, _ in _boxes(data, "mdia/hdlr", track):
                        if data[start + 8 : start + 12] == b"vide":
                            return _track_header(data, movie, track)
    except (OSError, ValueError, IndexError, struct.error):  # empty or cut: the reader says so
        return plain
    return plain


def _track_header(data, movie, track):
    """TrackHeader of a track; `movie` and `track` are (start, end) of their boxes."""
    start, _ = _boxes(data, "mvhd", movie)[0]
    (ticks,) = struct.unpack_from(">I", data, start + (20 if data[start] else 12))
    start, end = _boxes(data, "tkhd", track)[0]
    if data[start]:  # version 1
        (shown,) = struct.unpack_from(">Q", data, start + 28)
    else:
        (shown,) = struct.unpack_from(">I", data, start + 20)
    a, b, _, c, d = struct.unpack_from(">5i", data, end - 44)
    matrix = (a / 65536, b / 65536, c / 65536, d / 65536)
    return TrackHeader(matrix, shown / ticks if ticks else 0.0)


def _boxes(data, kinds, within):
    """(start, end) of the contents of MP4's boxes of a kind, or under a path of kinds such as moov/trak."""
    kind, _, rest = kinds.partition("/")
    at, end = within
    found = []
    while at + 8 <= end:
        (size,) = struct.unpack_from(">I", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if size == 0:  # to the end of the file
            size = end - at
        if size < head:
            break
        if data[at + 4 : at + 8] == kind.encode():
            content = (at + head, min(at + size, end))
            found += _boxes(data, rest, content) if rest else [content]
        at += size
    return found
