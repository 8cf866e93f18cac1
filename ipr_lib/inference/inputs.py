"""Other people's pictures and videos: upright 8-bit RGB, the focal length, what was assumed.

Taught in notebooks/12_your_own_pictures.ipynb.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..data.images import open_video
from ..files import InputError
from ..geometry.camera import ASSUMED_FOCAL

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
MIN_SIDE = 32  # px; less holds nobody
DIAGONAL_35MM = math.hypot(36, 24)  # of the film frame that "35 mm equivalent" refers to, mm
INCH, CENTIMETRE = 2, 3  # EXIF's numbers of these units
EXIF_UNITS_MM = {INCH: 25.4, CENTIMETRE: 10.0}


@dataclass(frozen=True)
class InputImage:
    """A picture of one's own, ready for use.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright.
        focal_px: focal length, px.
        notes: what was done to it or assumed about it, one short phrase each.
    """

    pixels: np.ndarray
    focal_px: float
    notes: tuple[str, ...]


def list_files(paths: list) -> tuple[list[Path], list[str]]:
    """Pictures and videos behind paths; a folder stands for what lies in it, in order of names.

    Args:
        paths: files and folders.

    Returns:
        files; problems, one line for each path that leads to nothing.
    """
    known = f"known are {', '.join(IMAGES + VIDEOS)}"
    files, problems = [], []
    for path in map(Path, paths):
        if not path.exists():
            problems.append(f"{path}: no such file or folder")
            continue
        found = []
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix.lower() in IMAGES + VIDEOS and file.is_file():
                found.append(file)
        files += found
        if not found:
            problems.append(f"{path}: no picture or video; {known}")
    return files, problems


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its name."""
    return Path(path).suffix.lower() in VIDEOS


def read_image(path: str | Path, focal_px: float | None = None) -> InputImage:
    """Read a picture of any common kind.

    Args:
        path: the file.
        focal_px: focal length, px, if the user knows it; else EXIF's is taken, else an assumed one.

    Returns:
        InputImage.

    Raises:
        InputError: the file is missing, damaged, incomplete, no picture, or too small.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd EXIF data: what cannot be read is assumed
            with Image.open(path) as picture:
                notes = _notes(picture)
                exif = picture.getexif()
                pixels = _rgb(ImageOps.exif_transpose(picture))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        raise InputError(
            f"{path}: this picture cannot be read ({error}); get or save it again"
        ) from error
    height, width = pixels.shape[:2]
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{path}: {width} x {height} px is too small; expected at least {MIN_SIDE} px a side"
        )
    focal_px, note = focal_length(width, height, focal_px, exif)
    return InputImage(pixels, focal_px, (*notes, note))


def focal_length(
    width: int, height: int, given: float | None = None, exif: Image.Exif | None = None
) -> tuple[float, str]:
    """Focal length of a picture, px, and where it comes from.

    EXIF's 35 mm equivalent f35 refers to the diagonal of the film frame: f = f35 * diagonal / 43.27
    mm. Where it is missing, the focal length in mm and the sensor's pixels per mm tell. Where these
    are missing, too, the focal length is assumed to be ASSUMED_FOCAL times the longer side.

    Args:
        width, height: px.
        given: px, from the user; or None.
        exif: Pillow's Exif, or None.

    Returns:
        focal length, px; a phrase that says where it comes from.
    """
    longer = max(width, height)
    if given is not None:
        return float(given), f"focal length {given:.0f} px as given"
    tags = exif.get_ifd(ExifTags.IFD.Exif) if exif is not None else {}
    f35 = _number(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if f35:
        focal = f35 * math.hypot(width, height) / DIAGONAL_35MM
        return focal, f"focal length {focal:.0f} px from EXIF ({f35:g} mm on 35 mm film)"
    f_mm = _number(tags.get(ExifTags.Base.FocalLength))
    per_unit = _number(tags.get(ExifTags.Base.FocalPlaneXResolution))
    unit_mm = EXIF_UNITS_MM.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, INCH))
    if f_mm and per_unit and unit_mm:
        focal = f_mm * per_unit / unit_mm
        # A picture that was made smaller keeps the EXIF data of the one that the camera took.
        taken_width = _number(tags.get(ExifTags.Base.ExifImageWidth))
        taken_height = _number(tags.get(ExifTags.Base.ExifImageHeight))
        if taken_width or taken_height:
            focal *= longer / max(taken_width, taken_height)
        return focal, f"focal length {focal:.0f} px from EXIF ({f_mm:g} mm and the sensor's pixels)"
    focal = ASSUMED_FOCAL * longer
    return focal, f"focal length {focal:.0f} px assumed ({ASSUMED_FOCAL} x the longer side)"


def _number(value):
    """A positive finite EXIF number as float; 0.0 for all else, which cameras write too."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _notes(picture):
    """Phrases about what is unusual in an open Pillow picture."""
    notes = []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # phones put a preview behind the picture
        notes.append(f"{frames} frames, the first is used")
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        notes.append(f"turned upright (EXIF orientation {orientation})")
    if picture.mode.startswith(("I", "F")):
        notes.append("more than 8 bits, scaled to its brightest pixel")
    if picture.mode.startswith(("1", "L", "I", "F")):
        notes.append("grey")
    if "A" in picture.mode or "transparency" in picture.info:
        notes.append("transparency laid on white")
    return notes


def _rgb(picture):
    """Pillow picture of any mode -> (H, W, 3) uint8 RGB."""
    if picture.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(picture).astype(np.float64)).clip(0)
        grey = np.rint(values * (255 / max(values.max(), 1e-9))).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "A" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"))


def read_frames(
    path: str | Path, every: int = 1, focal_px: float | None = None
) -> Iterator[tuple[int, float, InputImage]]:
    """Frames of a video, one after the other; a picture is a video of one frame.

    Args:
        path: the file.
        every: take every so many frames.
        focal_px: see `read_image`.

    Yields:
        (number of the frame, its time in s, InputImage).

    Raises:
        InputError: the file is missing, not readable, without frames, or too small.
    """
    if not is_video(path):
        yield 0, 0.0, read_image(path, focal_px)
        return
    video = open_video(path)
    try:
        if not video.isOpened():
            raise InputError(f"{path}: not a readable video; save it again, e.g. as H.264 in .mp4")
        rate = video.get(cv2.CAP_PROP_FPS)
        if not (math.isfinite(rate) and rate > 0):
            rate = 25.0  # the container states none
        number = -1
        while video.grab():
            number += 1
            if number % every != 0:
                continue
            complete, frame = video.retrieve()
            if not complete or min(frame.shape[:2]) < MIN_SIDE:
                raise InputError(
                    f"{path}: frame {number} cannot be read or is smaller than {MIN_SIDE} px"
                )
            focal, note = focal_length(frame.shape[1], frame.shape[0], focal_px)
            pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            yield number, number / rate, InputImage(pixels, focal, (note,))
        if number < 0:
            raise InputError(
                f"{path}: the video holds no frame; save it again, e.g. as H.264 in .mp4"
            )
    finally:
        video.release()
