"""JPEG files and crops out of them: size from the header, checked decoding, encoding of a crop."""

import io
import os
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from ..files import InputError
from ..geometry.transforms import compose_affine, shrinkage, warp_shrinking

# FFmpeg's own complaints about a video would stand beside our one line. OpenCV reads this once, when
# it opens its first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# A marker of a JPEG; the others stand within its data, where a byte of 255 is followed by 0.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
# Of stored crops. Colours stay at full size: at half size they would cost as many grey levels as all other noise.
_STORED_CROP = [
    cv2.IMWRITE_JPEG_QUALITY,
    92,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


def image_size(source: Path | str | bytes) -> tuple[int, int]:
    """Size of an image from its header, upright if EXIF says how to turn it, without decoding it.

    Args:
        source: path of the file, or its bytes.
    Returns:
        (width, height), px.
    Raises:
        InputError: the file is missing or is no image.
    """
    width, height, orientation = _read_header(source)
    return (height, width) if orientation >= 5 else (width, height)


def _read_header(source):
    """(width, height) of an image as its pixels lie, and its EXIF orientation, 1 where it has none."""
    name = "the picture" if isinstance(source, bytes) else source
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            # About odd EXIF data, and about sizes that callers compare anyway.
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                width, height = image.size
                try:
                    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
                except Exception:  # EXIF data are damaged in a dozen ways; the image is still good
                    orientation = 1
                return width, height, orientation if orientation in range(2, 9) else 1
    except FileNotFoundError as error:
        raise InputError(f"{name} is missing; get the data set's pictures again") from error
    # Pillow raises a dozen kinds of errors for damaged files; each means the same to a user.
    except Exception as error:
        raise InputError(
            f"{name} is not a readable picture ({type(error).__name__}); get it again"
        ) from error


def read_image(
    path: Path | str, width: int, height: int, shrink: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Decode a whole JPEG of a known size, at half or quarter size where no more is needed.

    Args:
        path: the file.
        width, height: px, as the labels state.
        shrink: how many image px the finest crop pixel will cover.
    Returns:
        image (H', W', 3) uint8 BGR; affine (2, 3) from its px to px of the whole image.
    Raises:
        InputError: the file is missing, truncated, damaged, or of another size. An image with an EXIF orientation is
            turned where `exif_turn` says so.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    incomplete = InputError(
        f"{path} is not a complete JPEG picture ({len(data)} bytes); prepare this set again"
    )
    if not _has_end(data.tobytes()):
        raise incomplete
    orientation = exif_turn(path, width, height)[0]  # before memory is spent on a made-up size
    # JPEG decodes at 1/2 or 1/4 size for a fraction of the time; pixel i then lies over (i + 0.5) * block - 0.5.
    block, flag = 1, cv2.IMREAD_COLOR
    if shrink >= 4:
        block, flag = 4, cv2.IMREAD_REDUCED_COLOR_4
    elif shrink >= 2:
        block, flag = 2, cv2.IMREAD_REDUCED_COLOR_2
    try:
        image = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise incomplete from error
    if image is None:
        raise incomplete
    flip_x, flip_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    n_rows, n_columns = image.shape[:2]
    if (n_rows, n_columns) != (-(-height // block), -(-width // block)):
        raise incomplete
    half = (block - 1) / 2
    # The last block may be cut short; a mirrored image begins with it.
    x = half + (width - n_columns * block if flip_x else 0)
    y = half + (height - n_rows * block if flip_y else 0)
    return np.ascontiguousarray(image), np.array([[block, 0, x], [0, block, y]], float)


def exif_turn(path: Path | str, width: int, height: int) -> tuple[int, str]:
    """Decide whether labels refer to an image upright, or to its pixels as they lie; both conventions exist.

    Args:
        path: the file.
        width, height: px, as the labels state. Where they fit both ways, upright is taken.
    Returns:
        EXIF orientation to turn the pixels by, 1 for not at all; "" for an image without such a mark, else "upright" or
        "as the pixels lie".
    Raises:
        InputError: the file is no image, or of another size.
    """
    try:
        stored_width, stored_height, orientation = _read_header(path)
    except InputError as error:
        raise InputError(f"{path} is not a readable picture; get or prepare it again") from error
    stored = stored_width, stored_height
    upright = stored[::-1] if orientation >= 5 else stored
    if (width, height) == upright:
        return orientation, "" if orientation == 1 else "upright"
    if (width, height) == stored:
        return 1, "as the pixels lie"
    raise InputError(
        f"{path}: the picture is not of the {width} x {height} px that its labels state but {stored[0]} x {stored[1]}; "
        "prepare this set again"
    )


def _has_end(data):
    """Whether a JPEG runs to its end marker. A truncated one decodes to a half-grey image without complaint.

    What follows is no matter: phones put a film there, others a second image. A preview before the image has an end of
    its own, and lies within a segment that is passed over.
    """
    at = 2
    while True:
        marker = _MARKER.search(data, at)
        if marker is None:
            return False
        if marker[0] == b"\xff\xd9":
            return True
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        at = marker.end() + length


def open_video(path: Path | str, *choices) -> cv2.VideoCapture:
    """Open a video by OpenCV, without a word of FFmpeg's or OpenCV's own on the terminal.

    Args:
        path: the file; its name need not be UTF-8.
        choices: further arguments of cv2.VideoCapture.
    Returns:
        cv2.VideoCapture; its isOpened() is False where there is no readable video.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(os.fsencode(path), *choices)


def cut_crops(
    path: Path | str, width: int, height: int, affines: np.ndarray, crop_px: int
) -> list[bytes]:
    """Cut crops out of an image file and encode them for a store.

    Args:
        path, width, height: see `read_image`.
        affines: (n, 2, 3) image px -> crop px.
        crop_px: side of the crops, px.
    Returns:
        JPEG bytes of the n crops.
    Raises:
        InputError: see `read_image`.
    """
    image, to_whole = read_image(path, width, height, shrinkage(affines).min())
    jpegs = []
    for affine in compose_affine(affines, to_whole):
        jpegs.append(encode_jpeg(warp_shrinking(image, affine, crop_px)))
    return jpegs


def encode_jpeg(crop: np.ndarray) -> bytes:
    """Encode one crop for a store.

    Args:
        crop: (H, W, 3) uint8 BGR.
    Returns:
        JPEG bytes.
    """
    return cv2.imencode(".jpg", crop, _STORED_CROP)[1].tobytes()
