"""Videos, read and written by PyAV: each frame upright and at its own time.

Taught in notebooks/12_your_own_pictures.ipynb.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ..files import InputError

USUAL_RATE = 25.0  # frames a second, where a container states none
SAVE_AGAIN = "save it again, e.g. as H.264 in .mp4"
CLOCK = Fraction(1, 90_000)  # s, in which time stamps are written; the usual clock of videos
CODECS = {  # of each kind of file that is written: its codec, and options for good quality
    "mp4": ("libx264", {"crf": "20", "preset": "veryfast"}),
    "webm": ("libvpx", {"deadline": "good", "cpu-used": "5", "crf": "10", "b": "20M"}),
}
TRACK_PX = 256  # longer side of a track for a page
TRACK_BYTES = 2_000_000  # of the whole track at most
TRACK_BITS_PER_S = 150_000  # enough for a track of that size


# --- reading ---


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
        InputError: the file is missing, not readable, or holds no frame between these times; or
            frames are missing, which is known only after the last one.
    """
    try:
        # In full, because FFmpeg takes what stands before a colon for the name of a protocol.
        container = av.open(str(Path(path).absolute()), metadata_errors="ignore")
        stream = container.streams.video[0]
    except (OSError, IndexError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", "there is no picture in it")
        raise InputError(f"{path}: not a readable video ({reason}); {SAVE_AGAIN}") from error
    with container:
        stream.thread_type = "AUTO"
        usual_step = 1 / float(stream.average_rate or USUAL_RATE)
        begin = float((stream.start_time or 0) * stream.time_base)
        times, damages, taken = [], [], 0
        shortest, longest = math.inf, 0.0
        for frame in _decoded(container, stream, damages):
            time_s = float((frame.pts or 0) * stream.time_base) - begin
            if times:
                if time_s <= times[-1]:  # it has no stamp of its own
                    time_s = times[-1] + usual_step
                step = time_s - times[-1]
                shortest, longest = min(shortest, step), max(longest, step)
            if time_s >= end:
                break
            times.append(time_s)
            number = len(times) - 1
            if number % every != 0 or time_s < start:
                continue
            steps = ""
            if longest > 2.5 * shortest:
                steps = f"frames {shortest:.3f} to {longest:.3f} s apart"
            taken += 1
            yield number, time_s, _upright(frame), steps
        if not times:
            raise InputError(f"{path}: the video holds no frame; {SAVE_AGAIN}")
        if taken == 0:
            raise InputError(
                f"{path}: no frame between {start:g} and {end:g} s; "
                f"the video ends at {times[-1]:.2f} s"
            )
        if time_s >= end:  # nobody has asked for what comes then
            return
        duration = (container.duration or 0) / av.time_base
        if stream.duration:  # without the sound, and without what an edit list leaves out
            duration = float(stream.duration * stream.time_base)
        missing = count_missing(times, len(damages), stream.frames, duration, usual_step)
        if missing > 0:
            raise InputError(
                f"{path}: cut or damaged: {missing} frames are missing beside the {len(times)} that "
                "were read; get the video again"
            )


def _decoded(container, stream, damages):
    """Frames of a stream, as far as they can be decoded; errors are added to `damages`."""
    try:
        for packet in container.demux(stream):
            if packet.size == 0:  # the end
                break
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                damages.append(error)
        yield from stream.decode(None)  # what the decoder has kept back
    except av.FFmpegError as error:
        damages.append(error)


def count_missing(
    times: list[float], damages: int, stated: int, duration: float, usual_step: float
) -> int:
    """How many frames of a video are missing.

    A recorder may leave out frames where nothing moves. So only the end of the video and places
    that could not be decoded count.

    Args:
        times: of the frames that were read, s, rising.
        damages: how often decoding failed.
        stated: frames that the container has counted; 0 where it counts none.
        duration: that it states, s; 0 where it states none.
        usual_step: s between frames, for a video of one frame.

    Returns:
        the number; where the container has not counted, as many as would fit into the time.
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else usual_step
    left = duration - times[-1] - step
    # Sound may last somewhat longer than the pictures.
    missing = damages
    if left > (1.5 * step if stated else max(3 * step, 0.5)):
        missing += round(left / step)
    return stated - len(times) if missing and stated else missing


def _upright(frame):
    """Pixels (H, W, 3) uint8 RGB of a frame, turned and mirrored as it is to be shown."""
    pixels = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # A pixel at (x, y), counted from the middle, is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    if abs(b) > abs(a):
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


# --- writing ---


class VideoWriter:
    """A video with the times as they are.

    Args:
        file: binary file, open for writing.
        kind: "mp4" (H.264) or "webm" (VP8, which browsers play).
        rate: frames a second, for players that ask; the times decide.
        **options: of the codec, in place of those in `CODECS`.
    """

    def __init__(self, file, kind: str, rate: float, **options):
        codec, usual = CODECS[kind]
        self.container = av.open(file, "w", format=kind)
        rate = Fraction(rate).limit_denominator(1000)
        self.stream = self.container.add_stream(codec, rate, options=usual | options)
        self.stream.pix_fmt = "yuv420p"  # what browsers play
        self.stream.codec_context.thread_count = 1  # more would wait for each other, not help
        self.stream.codec_context.time_base = CLOCK
        self.start_s = None

    def write(self, picture: np.ndarray, time_s: float) -> None:
        """Show a picture (H, W, 3) uint8 RGB from a time on, s; times rise."""
        height, width = picture.shape[:2]
        odd = (0, height % 2, 0, width % 2)  # two pixels share a colour: sides must be even
        picture = cv2.copyMakeBorder(picture, *odd, cv2.BORDER_REPLICATE)
        if self.start_s is None:
            self.start_s = time_s
            self.stream.height, self.stream.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(picture)
        frame.time_base = CLOCK
        frame.pts = round((time_s - self.start_s) / CLOCK)
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        if self.start_s is not None:
            self.container.mux(self.stream.encode())
        self.container.close()


def track_writer(file, rate: float, count: int) -> VideoWriter:
    """A VideoWriter of a small WebM track, for a page that shows it beside its skeletons.

    Args:
        file: binary file, open for writing.
        rate: frames a second.
        count: of its frames; the more they are, the fewer bytes each has.
    """
    bits_per_s = min(TRACK_BITS_PER_S, int(8 * TRACK_BYTES * rate / count))
    # Quick rather than small, and a picture to begin with every two seconds, to be found soon.
    options = {"deadline": "realtime", "cpu-used": "6", "g": str(max(1, round(2 * rate)))}
    return VideoWriter(file, "webm", rate, **options, b=str(bits_per_s))


def shrink(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 made small enough for a track."""
    height, width = picture.shape[:2]
    share = min(1, TRACK_PX / max(width, height))
    small = (max(2, round(width * share)), max(2, round(height * share)))
    return cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
