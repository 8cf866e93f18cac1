"""Other people's pictures and videos: upright 8-bit RGB, the focal length, what was assumed.

Taught in notebooks/12_your_own_pictures.ipynb.
"""

import importlib
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from ..files import InputError
from ..geometry.camera import ASSUMED_FOCAL
from .videos import read_video

IMAGES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
    *(".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".tga", ".ppm", ".pgm", ".pbm", ".pnm"),
)
VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m2v"),
    *(".vob", ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf"),
)
UNKNOWN = "not known as picture or video"
# How files begin, after 8 bytes, that Pillow reads with the help of pillow-heif.
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
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


def list_files(paths: list, recursive: bool = False) -> tuple[list[Path], list[str], list[str]]:
    """Pictures and videos behind paths; a folder stands for what lies in it, in order of names.

    Args:
        paths: files and folders.
        recursive: also take what lies in folders of these folders.

    Returns:
        files; lines about what was skipped in folders, and why; problems, one line for each path
        that leads to nothing.
    """
    files, skipped, problems = [], [], []
    for path in map(Path, paths):
        if path.is_dir():
            n_known = len(files + problems)
            _add_folder(path, recursive, files, skipped, problems)
            if len(files + problems) == n_known:
                problems.append(f"{path}: no picture or video in this folder")
        elif not path.exists():
            problems.append(f"{path}: no such file or folder")
        elif path.suffix.lower() in IMAGES + VIDEOS:
            files.append(path)
        else:
            known = ", ".join(IMAGES + VIDEOS)
            problems.append(f"{path}: {UNKNOWN}; known are {known}")
    return files, skipped, problems


def _add_folder(folder, recursive, files, skipped, problems):
    """Add the pictures and videos of a folder to `files`, and to the others a line for each reason."""
    hidden, folders, unknown = [], [], []
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        problems.append(f"{folder}: this folder cannot be read ({error.strerror})")
        return
    for path in paths:
        if path.name.startswith("."):
            hidden.append(path.name)
        elif path.is_dir() and recursive and not path.is_symlink():
            _add_folder(path, recursive, files, skipped, problems)
        elif path.is_dir():
            folders.append(path.name)
        elif path.suffix.lower() in IMAGES + VIDEOS:
            files.append(path)
        else:
            unknown.append(path.name)
    in_folders = "links to folders" if recursive else "folders; --recursive takes what lies in them"
    for names, reason in (
        (unknown, UNKNOWN),
        (folders, in_folders),
        (hidden, "hidden"),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            skipped.append(f"{folder}: skipped {', '.join(names[:5])}{more} ({reason})")


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
        # From memory, because Pillow would map some TIFF files and then turn them wrongly.
        data = Path(path).read_bytes()
        if data[8:12] in HEIC and b"avif" not in data[:64]:  # whatever the name says
            importlib.import_module("pillow_heif").register_heif_opener()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd EXIF data: what cannot be read is assumed
            with Image.open(io.BytesIO(data)) as picture:
                pixels, notes = _upright_rgb(picture)
                exif, stored_size = picture.getexif(), picture.size
    except ImportError as error:
        raise InputError(
            f"{path}: HEIC needs pillow-heif, which is not installed: pip install pillow-heif "
            "(the extra `heif`)"
        ) from error
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        reason = str(error).partition(" <_io")[0]
        raise InputError(
            f"{path}: this picture cannot be read ({reason}); get or save it again"
        ) from error
    height, width = pixels.shape[:2]
    _check_size(path, width, height)
    focal_px, note = focal_length(width, height, focal_px, exif, stored_size)
    return InputImage(pixels, focal_px, (*notes, note))


def focal_length(
    width: int,
    height: int,
    given: float | None = None,
    exif: Image.Exif | None = None,
    stored_size: tuple[int, int] | None = None,
) -> tuple[float, str]:
    """Focal length of a picture, px, and where it comes from.

    EXIF's 35 mm equivalent f35 refers to the diagonal of the film frame: f = f35 * diagonal / 43.27
    mm. Where it is missing, the focal length in mm and the sensor's pixels per mm tell. Where these
    are missing, too, the focal length is assumed to be ASSUMED_FOCAL times the longer side; so it
    is in a cropped copy, which keeps the EXIF data of the picture that the camera took.

    Args:
        width, height: px, upright.
        given: px, from the user; or None.
        exif: Pillow's Exif, or None.
        stored_size: width and height as the pixels lie in the file, px; as upright by default.

    Returns:
        focal length, px; a phrase that says where it comes from.
    """
    longer = max(width, height)
    if given is not None:
        return float(given), f"focal length {given:.0f} px as given"
    tags = exif.get_ifd(ExifTags.IFD.Exif) if exif is not None else {}
    f35 = _number(tags, "FocalLengthIn35mmFilm")
    f_mm = _number(tags, "FocalLength")
    per_unit = _number(tags, "FocalPlaneXResolution")
    unit_mm = EXIF_UNITS_MM.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, INCH))
    taken_width, taken_height = _number(tags, "ExifImageWidth"), _number(tags, "ExifImageHeight")
    known = f35 or (f_mm and per_unit and unit_mm)
    cropped = known and _is_cropped(stored_size or (width, height), taken_width, taken_height)
    if f35 and not cropped:
        focal = f35 * math.hypot(width, height) / DIAGONAL_35MM
        return focal, f"focal length {focal:.0f} px from EXIF ({f35:g} mm on 35 mm film)"
    if known and not cropped:
        focal = f_mm * per_unit / unit_mm
        # A picture that was made smaller keeps the EXIF data of the one that the camera took.
        if taken_width or taken_height:
            focal *= longer / max(taken_width, taken_height)
        return focal, f"focal length {focal:.0f} px from EXIF ({f_mm:g} mm and the sensor's pixels)"
    focal = ASSUMED_FOCAL * longer
    why = "cropped: " if cropped else ""
    return focal, f"{why}focal length {focal:.0f} px assumed ({ASSUMED_FOCAL} x the longer side)"


def _is_cropped(size, taken_width, taken_height):
    """Whether pixels have another aspect than the picture that the camera took, as EXIF states it."""
    width, height = size
    if not (taken_width and taken_height):  # then nobody can tell
        return False
    # Each side of a smaller copy was rounded to whole pixels.
    off = abs(width * taken_height - height * taken_width)
    turned = (width, height) == (taken_height, taken_width)
    return off > taken_width + taken_height and not turned


def _number(tags, name):
    """A positive finite EXIF number as float; 0.0 for all else, which cameras write too."""
    try:
        number = float(tags.get(ExifTags.Base[name]))
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _upright_rgb(picture):
    """Pillow picture of any mode -> (H, W, 3) uint8 RGB, and phrases about what is unusual in it."""
    notes = []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # phones put a preview behind the picture
        notes.append(f"{frames} frames, the first is used")
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        notes.append(f"turned upright (EXIF orientation {orientation})")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        notes.append("more than 8 bits, scaled to its brightest pixel")
        values = np.nan_to_num(np.asarray(picture).astype(float)).clip(0)
        grey = np.rint(values * (255 / max(values.max(), 1e-9)))
        picture = Image.fromarray(grey.astype(np.uint8))
    if picture.mode in ("1", "L", "LA", "La"):
        notes.append("grey")
    if picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        picture = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    if picture.has_transparency_data:
        notes.append("transparency laid on white")
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB")), notes


def read_frames(
    path: str | Path | np.ndarray,
    every: int = 1,
    focal_px: float | None = None,
    start: float = 0.0,
    end: float = math.inf,
) -> Iterator[tuple[int, float, InputImage]]:
    """Frames of a video, one after the other; a picture is a video of one frame.

    Args:
        path: the file; or pixels (H, W, 3) uint8 RGB.
        every, start, end: of videos, see `read_video`.
        focal_px: see `read_image`.

    Yields:
        (number of the frame, its time in s, InputImage).

    Raises:
        InputError: the file is missing, not readable, without frames, or too small; or frames of a
            video are missing, see `read_video`.
    """
    if isinstance(path, np.ndarray):
        frames, path = [(0, 0.0, path, "")], "pixels"
    elif is_video(path):
        frames = read_video(path, every, start, end)
    else:
        yield 0, 0.0, read_image(path, focal_px)
        return
    for number, time_s, pixels, steps in frames:
        height, width = pixels.shape[:2]
        _check_size(path, width, height)
        focal, note = focal_length(width, height, focal_px)
        notes = (note, steps) if steps else (note,)
        yield number, time_s, InputImage(pixels, focal, notes)


def _check_size(path, width, height):
    """InputError where a picture is too small for anybody to be seen in it."""
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{path}: {width} x {height} px is too small; expected at least {MIN_SIDE} px a side"
        )
