"""Any picture and any video: kinds of files, turns and mirrors, times, what is missing, what is skipped."""

import re
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from ipr_lib.files import InputError
from ipr_lib.inference import focal_length, list_files, read_frames, read_image
from ipr_lib.inference.videos import count_missing
from tests.conftest import UNDO

RED, GREEN, BLUE, BLACK = (250, 10, 0), (0, 250, 30), (20, 0, 250), (0, 0, 0)
WAYS = {1: None} | UNDO  # from the upright picture to the pixels that a camera writes


def quarters(width=60, height=40):
    """Red, green / blue, black; (height, width, 3) uint8."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    return picture


def corners(pixels):
    """The colours of a picture's quarters, as a text such as "rgbk"."""
    height, width = pixels.shape[:2]
    text = ""
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            colour = pixels[y, x]
            text += "rgb"[int(colour.argmax())] if colour.max() > 100 else "k"
    return text


# --- pictures ---


def in_mode(mode):
    """`quarters` as a picture of a mode, and what is to come out of it."""
    picture = Image.fromarray(quarters())
    if mode in ("I;16", "I;16B", "I", "F"):
        red = quarters()[..., 0]
        deep = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
        scaled = np.rint(red * (255 / 250)).astype(np.uint8)  # the brightest becomes 255
        return Image.fromarray((red * 100.0).astype(deep)), np.repeat(scaled[..., None], 3, axis=2)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB"), quarters()
    if mode == "PA":
        picture = picture.convert("RGBA")
    picture = picture.convert(mode)
    return picture, np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "P", "PA", "I;16", "I;16B", "I", "F", "RGB", "RGBA", "RGBX", "CMYK", "LAB"],
)
def test_tiff_of_every_mode_and_orientation_comes_out_upright(tmp_path, mode, compression):
    picture, expected = in_mode(mode)
    for orientation, way in WAYS.items():
        path = tmp_path / f"{orientation}.tif"
        stored = picture if way is None else picture.transpose(way)
        tags = {ExifTags.Base.Orientation: orientation}
        stored.save(path, compression=compression, tiffinfo=tags)
        pixels = read_image(path).pixels
        assert pixels.shape == (40, 60, 3), orientation
        difference = np.abs(pixels.astype(int) - expected)
        # Eight bits of LAB are coarse at colours as bright as these.
        assert difference.max() <= (20 if mode == "LAB" else 0), orientation


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_avif_is_read_upright(tmp_path, orientation):
    way = WAYS[orientation]
    picture = Image.fromarray(quarters(96, 64))
    stored = picture if way is None else picture.transpose(way)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored.save(tmp_path / "a.avif", quality=90, exif=exif)
    pixels = read_image(tmp_path / "a.avif").pixels
    assert pixels.shape == (64, 96, 3) and corners(pixels) == "rgbk"


@pytest.mark.parametrize("name", ["a.HEIC", "really_heic.jpg"])
def test_heic_is_read_with_its_exif(tmp_path, name):
    """Its turns are not in the EXIF data; the decoder has done them."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = camera_exif(96, 64, FocalLengthIn35mmFilm=28)
    Image.fromarray(quarters(96, 64)).save(tmp_path / name, "HEIF", quality=90, exif=exif)
    picture = read_image(tmp_path / name)
    assert picture.pixels.shape == (64, 96, 3) and corners(picture.pixels) == "rgbk"
    assert picture.focal_px == pytest.approx(28 * np.hypot(96, 64) / 43.26661531)


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(InputError, match=r"a\.HEIC: HEIC .*pip install pillow-heif"):
        read_image(tmp_path / "a.HEIC")


def camera_exif(width, height, **tags):
    """EXIF data of a picture of width x height px, as its camera took it."""
    tags |= {"ExifImageWidth": width, "ExifImageHeight": height}
    exif = Image.Exif()
    for name, value in tags.items():
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base[name]] = value
    return exif


@pytest.mark.parametrize(
    "size, stored_size, cropped",
    [
        ((400, 300), (400, 300), False),  # a tenth of the size
        ((300, 400), (400, 300), False),  # and turned upright by its mark
        ((333, 250), (333, 250), False),  # 333.3, rounded
        ((3000, 4000), (3000, 4000), False),  # turned for good: nothing was cut off
        ((300, 300), (300, 300), True),
        ((2250, 3000), (2250, 3000), True),  # an upright part of a picture that lay
        ((390, 300), (390, 300), True),
    ],
)
def test_a_cropped_picture_does_not_take_the_focal_length_of_the_whole(size, stored_size, cropped):
    """28 mm on 43.27 mm of film; 4 mm at 1500 px a mm over 4000 px. Assumed: 1.2 x the longer side."""
    width, height = size
    longer = max(size)
    of_film = camera_exif(4000, 3000, FocalLengthIn35mmFilm=28)
    focal, note = focal_length(width, height, None, of_film, stored_size)
    assert focal == pytest.approx(
        1.2 * longer if cropped else 28 * np.hypot(width, height) / 43.26661531
    )
    assert note.startswith("cropped: focal length") == cropped
    of_sensor = camera_exif(
        4000, 3000, FocalLength=4.0, FocalPlaneXResolution=15000.0, FocalPlaneResolutionUnit=3
    )
    focal, note = focal_length(width, height, None, of_sensor, stored_size)
    assert focal == pytest.approx(1.2 * longer if cropped else 4 * 1500 * longer / 4000)


def test_a_cropped_file_is_told(tmp_path):
    exif = camera_exif(120, 90, FocalLengthIn35mmFilm=28)
    exif[ExifTags.Base.Orientation] = 6
    lying = Image.fromarray(quarters(120, 90))
    lying.save(tmp_path / "whole.jpg", exif=exif)
    lying.resize((60, 45)).save(tmp_path / "smaller.jpg", exif=exif)
    lying.crop((20, 0, 80, 90)).save(tmp_path / "cropped.jpg", exif=exif)
    assert read_image(tmp_path / "whole.jpg").focal_px == pytest.approx(28 * 150 / 43.26661531)
    assert read_image(tmp_path / "smaller.jpg").focal_px == pytest.approx(28 * 75 / 43.26661531)
    part = read_image(tmp_path / "cropped.jpg")
    assert part.focal_px == 1.2 * 90 and "cropped: focal length 108 px assumed" in part.notes[-1]


# --- what is taken from folders ---


def test_folders_say_what_they_skip(tmp_path):
    (tmp_path / "sub" / "deeper").mkdir(parents=True)
    for name in ("b.MTS", "a.heic", "c.3gp", "d.avif", "words.txt", "._a.jpg", "sub/deeper/e.jpg"):
        (tmp_path / name).touch()
    files, skipped, problems = list_files([tmp_path])
    assert [file.name for file in files] == ["a.heic", "b.MTS", "c.3gp", "d.avif"]
    assert skipped == [
        f"{tmp_path}: skipped words.txt (not known as picture or video)",
        f"{tmp_path}: skipped sub (folders; --recursive takes what lies in them)",
        f"{tmp_path}: skipped ._a.jpg (hidden)",
    ]
    assert problems == []
    files, skipped, problems = list_files([tmp_path], recursive=True)
    assert files[-1] == tmp_path / "sub" / "deeper" / "e.jpg" and len(files) == 5
    assert len(skipped) == 2 and problems == []
    files, skipped, problems = list_files([tmp_path / "sub"])
    assert files == [] and len(skipped) == 1 and "no picture or video" in problems[0]


def test_a_folder_that_cannot_be_read_costs_the_others_nothing(tmp_path, monkeypatch):
    for name in ("a", "closed", "z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b.jpg").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    listing = Path.iterdir

    def iterdir(folder):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    files, skipped, problems = list_files([tmp_path], recursive=True)
    assert files == [tmp_path / "a" / "b.jpg", tmp_path / "z" / "b.jpg"]
    assert skipped == [f"{tmp_path}: skipped loop (links to folders)"]
    assert problems == [f"{tmp_path / 'closed'}: this folder cannot be read (Permission denied)"]


def test_many_skipped_files_are_one_line(tmp_path):
    for number in range(17):
        (tmp_path / f"{number:02}.txt").touch()
    (tmp_path / "a.jpg").touch()
    _, (line,), _ = list_files([tmp_path])
    assert line.endswith(
        "skipped 00.txt, 01.txt, 02.txt, 03.txt, 04.txt and 12 more (not known as picture or video)"
    )


# --- videos ---

PAUSES = [0, 0.033, 0.066, 0.1, 0.133, 1.5, 1.533, 1.6, 3.0, 3.1]  # s
WIDTH, HEIGHT = 128, 96


def write_video(path, times, codec="libx264", rate=30, format=None, **options):
    """A video of `quarters` that become darker, with frames at given times (s)."""
    ticks = rate if path.suffix == ".avi" else 90_000  # a second
    with av.open(str(path), "w", format=format, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, ticks)
        stream.codec_context.gop_size = 10
        for number, time_s in enumerate(times):
            pixels = quarters(WIDTH, HEIGHT) - np.uint8(number % 50) * (
                quarters(WIDTH, HEIGHT) > 60
            )
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time_s * ticks), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    "name, codec, options",
    [
        ("a.mp4", "libx264", {}),  # with frames that are stored before earlier ones
        ("a.mov", "libx264", {}),
        ("a.3gp", "libx264", {}),
        ("a.mkv", "libx264", {}),
        ("a.mts", "libx264", {"format": "mpegts"}),
        ("a.webm", "libvpx", {}),
        ("browser.webm", "libvpx", {"live": "1"}),  # states no duration
    ],
)
def test_frames_come_at_their_own_times(tmp_path, name, codec, options):
    path = write_video(tmp_path / name, PAUSES, codec, **options)
    numbers, times, images = zip(*read_frames(path))
    assert numbers == tuple(range(10))
    np.testing.assert_allclose(times, PAUSES, atol=1e-3)  # some containers count ms
    assert images[-1].notes[-1] == "frames 0.033 to 1.400 s apart"
    numbers, times, _ = zip(*read_frames(path, every=2, start=0.1, end=3.1))
    assert numbers == (4, 6, 8)  # of 3 … 8
    np.testing.assert_allclose(times, [0.133, 1.533, 3.0], atol=1e-3)


def test_between_times_without_frames_is_an_error(tmp_path):
    path = write_video(tmp_path / "a.mp4", PAUSES)
    with pytest.raises(InputError, match=r"no frame between 4 and 5 s; the video ends at 3\.10 s"):
        list(read_frames(path, start=4, end=5))


def read_until_it_ends(path, **choices):
    """Times of the frames that can be read, and the error after them, or None."""
    times = []
    try:
        for _, time_s, _ in read_frames(path, **choices):
            times.append(time_s)
    except InputError as error:
        return times, error
    return times, None


STEADY = [number / 30 for number in range(90)]


@pytest.mark.parametrize(
    "name, codec, options",
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.avi", "mpeg4", {}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx", {}),
    ],
)
def test_a_cut_video_says_how_many_frames_are_missing(tmp_path, name, codec, options):
    path = write_video(tmp_path / name, STEADY, codec, **options)
    assert read_until_it_ends(path) == (pytest.approx(STEADY, abs=1e-3), None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 5])
    times, error = read_until_it_ends(path)
    assert 20 < len(times) < 80
    missing = int(re.search(r"(\d+) frames are missing", str(error))[1])
    # Where times alone tell, those of the frame that was cut through may mislead by one.
    assert abs(missing - (90 - len(times))) <= (0 if name in ("a.mp4", "a.avi") else 1)
    assert f"beside the {len(times)} that were read" in str(error) and str(path) in str(error)
    assert read_until_it_ends(path, end=0.5) == (pytest.approx(STEADY[:15], abs=1e-3), None)


def test_a_damaged_video_is_read_to_its_end(tmp_path):
    path = write_video(tmp_path / "a.mp4", STEADY)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)
    times, error = read_until_it_ends(path)
    assert 60 < len(times) < 90 and times[-1] == pytest.approx(STEADY[-1], abs=1e-3)
    assert f"{90 - len(times)} frames are missing" in str(error)


@pytest.mark.parametrize(
    "times, damages, stated, duration, missing",
    [
        ([0, 0.1, 0.2, 0.3], 0, 4, 0.4, 0),
        ([0, 0.1, 0.2, 0.3], 0, 9, 0.9, 5),
        ([0, 0.1, 0.2, 0.3], 0, 9, 0.4, 0),  # an edit list shows these four alone
        ([0, 0.1, 0.2, 0.3], 0, 0, 1.0, 6),  # 0.4 s of 1.0
        ([0, 0.1, 0.2, 0.3], 0, 0, 0.8, 0),  # sound may last 0.4 s longer
        ([0, 0.1, 0.2, 0.3], 0, 0, 0.0, 0),  # a browser states nothing
        ([0, 0.1, 0.2, 0.8], 0, 0, 0.9, 0),  # a pause
        ([0, 0.1, 0.2, 0.8], 5, 0, 0.9, 5),  # 0.3 … 0.7 could not be decoded
        ([0, 0.1, 0.2, 0.8], 2, 9, 0.9, 5),  # the container knows better
        ([0], 0, 4, 0.4, 3),
    ],
)
def test_missing_frames_by_hand(times, damages, stated, duration, missing):
    assert count_missing(times, damages, stated, duration, 0.1) == missing


@pytest.mark.parametrize(
    "matrix, expected",
    [
        ((1, 0, 0, 1), "rgbk"),
        ((-1, 0, 0, 1), "grkb"),  # x to the left
        ((1, 0, 0, -1), "bkrg"),  # y upwards
        ((-1, 0, 0, -1), "kbgr"),
        ((0, 1, 1, 0), "rbgk"),  # x becomes y, y becomes x
        ((0, 1, -1, 0), "brkg"),  # a quarter turn clockwise: x goes down, y to the left
        ((0, -1, 1, 0), "gkrb"),
        ((0, -1, -1, 0), "kgbr"),
    ],
)
def test_display_matrices_turn_and_mirror(tmp_path, matrix, expected):
    path = write_video(tmp_path / "a.mp4", [0, 0.1])
    data = bytearray(path.read_bytes())
    kind = data.index(b"tkhd")
    (size,) = struct.unpack_from(">I", data, kind - 4)
    a, b, c, d = (number << 16 for number in matrix)
    # The last 44 bytes of this box are the matrix, by rows, then width and height.
    struct.pack_into(">9i", data, kind - 4 + size - 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    _, _, image = next(read_frames(path))
    assert corners(image.pixels) == expected
    assert image.pixels.shape == ((HEIGHT, WIDTH, 3) if matrix[0] else (WIDTH, HEIGHT, 3))


@pytest.mark.parametrize("content", [b"", struct.pack(">I4sI4s", 64, b"moov", 56, b"trak"), None])
def test_what_is_no_video_is_one_line(tmp_path, content):
    """An empty file, one that is cut in its header, and none at all."""
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mp4: not a readable video") as error:
        list(read_frames(tmp_path / "a.mp4"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a:b.mp4", "12:30,x.mp4", "file:c.mp4", "100%d.mp4", "-d.mp4"])
def test_names_of_videos_may_hold_anything(tmp_path, monkeypatch, name):
    write_video(tmp_path / "a.mp4", STEADY[:3]).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(read_frames(name))) == 3
