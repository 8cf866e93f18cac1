"""JPEG files and crops out of them: size from the header, checked decoding, encoding of a crop."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..files import InputError
from ..geometry.transforms import compose_affine, shrinkage, warp_shrinking

# Some cameras and programs write a few bytes after a JPEG's end marker.
_TRAILER = 512
# Of stored crops. Colours stay at full size: at half size they would cost as many grey levels as all other noise.
_STORED_CROP = [
    cv2.IMWRITE_JPEG_QUALITY,
    92,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


def image_size(source: Path | str | bytes) -> tuple[int, int]:
    """Size of an image from its header, without decoding it.

    Args:
        source: path of the file, or its bytes.
    Returns:
        (width, height), px.
    Raises:
        InputError: the file is missing or is no image.
    """
    name = "the picture" if isinstance(source, bytes) else source
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            # About odd EXIF data, and about sizes that callers compare anyway.
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                return image.size
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
        InputError: the file is missing, truncated, damaged, or of another size. An orientation mark is ignored, since
            labels refer to the pixels as they lie.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    incomplete = InputError(
        f"{path} is not a complete JPEG picture ({len(data)} bytes); prepare this set again"
    )
    # A truncated JPEG decodes to a half-grey image without complaint; its end marker tells.
    if b"\xff\xd9" not in data[-_TRAILER:].tobytes():
        raise incomplete
    try:
        size = image_size(data.tobytes())  # before memory is spent on a size that damage made up
    except InputError as error:
        raise InputError(f"{path} is not a readable picture; get or prepare it again") from error
    if size != (width, height):
        raise InputError(
            f"{path}: the picture is not of the {width} x {height} px that its labels state but {size[0]} x {size[1]}; "
            "prepare this set again"
        )
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
    if image is None or image.shape[:2] != (-(-height // block), -(-width // block)):
        raise incomplete
    half = (block - 1) / 2
    return image, np.array([[block, 0, half], [0, block, half]], float)


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
