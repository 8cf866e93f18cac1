"""Videos that are written: each picture at its time, sizes, small tracks."""

import io

import av
import cv2
import numpy as np

from ipr_lib.inference.videos import TRACK_BYTES, VideoWriter, shrink, track_writer


def shade(number, height=36, width=64):
    """A picture of one grey level, by which it can be told: 40, 80, 120, ..."""
    return np.full((height, width, 3), 40 + 40 * number, np.uint8)


def shown(path):
    """Numbers of the pictures that the frames of a video show."""
    video, numbers = cv2.VideoCapture(str(path)), []
    complete, frame = video.read()
    while complete:
        numbers.append(round((frame.mean() - 40) / 40))
        complete, frame = video.read()
    return numbers


def test_h264_keeps_the_times_and_odd_sizes(tmp_path):
    with open(tmp_path / "a.mp4", "wb") as file:
        writer = VideoWriter(file, "mp4", 10)
        for number, time_s in enumerate((3.0, 3.1, 3.25, 3.5)):
            writer.write(shade(number, 37, 65), time_s)
        writer.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and (stream.width, stream.height) == (66, 38)
        frames = list(container.decode(stream))
    np.testing.assert_allclose([frame.time for frame in frames], [0, 0.1, 0.25, 0.5], atol=1e-4)
    assert shown(tmp_path / "a.mp4") == [0, 1, 2, 3]


def test_a_track_is_small_and_has_each_frame(tmp_path):
    rng = np.random.default_rng(0)
    still = cv2.resize(rng.integers(0, 256, (9, 16, 3)).astype(np.uint8), (640, 360))
    file = io.BytesIO()
    track = track_writer(file, 25, 50)
    for frame in range(50):
        moving = still.copy()
        moving[100:200, 8 * frame : 8 * frame + 100] = 255
        track.write(shrink(moving), frame / 25)
    track.close()
    data = file.getvalue()
    assert len(data) < TRACK_BYTES / 10
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 50 and (frames[0].width, frames[0].height) == (256, 144)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(50) / 25, atol=1e-3)
    # The bright square of frame 30 begins at 240 px, which is 96 of 256.
    bright = frames[30].to_ndarray(format="rgb24")[60].min(axis=-1) > 220
    assert abs(np.flatnonzero(bright)[0] - 96) <= 2
