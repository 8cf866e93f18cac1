"""Videos that are written: overlays in VP8 and H.264, and small tracks for pages.

PyAV, which writes most of them, belongs to the extra `video`. Used in notebooks/12_your_own_pictures.ipynb.
"""

import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..files import InputError

TICKS = 90_000  # a second, as time stamps count; the usual clock of videos
TRACK_PX = 256  # longer side of a track for a page
TRACK_BYTES = 2_000_000  # of the whole track at most
TRACK_BITS_PER_S = 150_000  # enough for a track of that size


class AvWriter:
    """A video by PyAV, with the times as they are.

    Args:
        file: binary file, open for writing.
        container: "mp4" or "webm".
        codec: "libx264" (H.264) or "libvpx" (VP8).
        rate: frames a second, for players that ask; the times decide.
        bits_per_s: of the result; None where the options decide.
        **options: of the codec.

    Raises:
        InputError: PyAV is not installed.
    """

    def __init__(self, file, container: str, codec: str, rate: float, bits_per_s=None, **options):
        self.av = import_av()
        self.container = self.av.open(file, "w", format=container)
        self.stream = self.container.add_stream(codec, Fraction(rate).limit_denominator(1000))
        self.stream.pix_fmt = "yuv420p"  # what browsers play
        self.stream.options = options
        self.stream.codec_context.thread_count = 1  # more would wait for each other, not help
        if bits_per_s is not None:
            self.stream.bit_rate = bits_per_s
        self.clock = Fraction(1, TICKS)
        self.stream.codec_context.time_base = self.clock
        self.start_s = None

    def write(self, picture: np.ndarray, time_s: float) -> None:
        """Show a picture (H, W, 3) uint8 RGB from a time on, s; times rise."""
        height, width = picture.shape[:2]
        odd = (0, height % 2, 0, width % 2)  # two pixels share a colour: sides must be even
        picture = cv2.copyMakeBorder(picture, *odd, cv2.BORDER_REPLICATE)
        if self.start_s is None:
            self.start_s = time_s
            self.stream.height, self.stream.width = picture.shape[:2]
        frame = self.av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = round((time_s - self.start_s) * TICKS)
        frame.time_base = self.clock
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        if self.start_s is not None:
            self.container.mux(self.stream.encode())
        self.container.close()


def import_av():
    """PyAV; InputError where it is missing."""
    try:
        import av
    except ImportError as error:
        raise InputError(
            "H.264 needs PyAV, which is not installed: pip install av (the extra `video`)"
        ) from error
    return av


def h264_writer(file, rate: float) -> AvWriter:
    """An AvWriter of H.264 in MP4, of good quality."""
    return AvWriter(file, "mp4", "libx264", rate, crf="20", preset="veryfast")


def webm_writer(file, rate: float) -> AvWriter:
    """An AvWriter of VP8 in WebM, of good quality: a fifth of the time that OpenCV's takes."""
    quality = {"deadline": "good", "cpu-used": "5", "crf": "10"}
    return AvWriter(file, "webm", "libvpx", rate, bits_per_s=20_000_000, **quality)


class OpenCvWriter:
    """VP8 in WebM at a steady rate, where PyAV is not installed.

    Args:
        path: the .webm file.
        rate: frames a second.
    """

    def __init__(self, path: str | Path, rate: float):
        self.path = path
        self.rate = rate
        self.writer = cv2.VideoWriter()

    def write(self, picture: np.ndarray, time_s: float) -> None:
        """Show the next picture (H, W, 3) uint8 RGB; its time is that of the rate."""
        if not self.writer.isOpened():
            self._open(picture.shape[1], picture.shape[0])
        self.writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def _open(self, width, height):
        """Open the file, without the warning about WebM that OpenCV writes to file descriptor 2."""
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            kept = os.dup(2)
            os.dup2(nowhere.fileno(), 2)
            try:
                vp8 = cv2.VideoWriter_fourcc(*"VP80")
                self.writer.open(os.fsencode(self.path), vp8, self.rate, (width, height))
            finally:
                os.dup2(kept, 2)
                os.close(kept)
        if not self.writer.isOpened():
            raise InputError(
                f"{self.path}: this build of OpenCV cannot write VP8 video; install av (the extra "
                "`video`), or opencv-python-headless"
            )

    def close(self) -> None:
        """Finish the file."""
        self.writer.release()


class Track:
    """A video as a small WebM track in memory, for a page that shows it beside its skeletons.

    Args:
        rate: frames a second.
        frames: numbers of the frames that it shows; the more they are, the fewer bytes each has.
    """

    def __init__(self, rate: float, frames: Sequence[int]):
        self.frames = set(frames)
        self.rate = rate
        self.file = io.BytesIO()
        bits_per_s = min(TRACK_BITS_PER_S, int(8 * TRACK_BYTES * rate / len(frames)))
        # Quick rather than small, and a picture to begin with every two seconds, to be found soon.
        options = {"deadline": "realtime", "cpu-used": "6", "g": str(max(1, round(2 * rate)))}
        self.writer = AvWriter(self.file, "webm", "libvpx", rate, bits_per_s, **options)
        self.written = 0
        self.size = (0, 0)

    def write(self, number: int, picture: np.ndarray) -> None:
        """Add the next frame, (H, W, 3) uint8 RGB, if it is one of those that are shown."""
        if number not in self.frames:
            return
        height, width = picture.shape[:2]
        self.size = (width, height)
        share = min(1, TRACK_PX / max(width, height))
        small = (max(2, round(width * share)), max(2, round(height * share)))
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        self.writer.write(picture, self.written / self.rate)
        self.written += 1

    def close(self) -> bytes:
        """Finish the track; the bytes of its file."""
        self.writer.close()
        return self.file.getvalue()
