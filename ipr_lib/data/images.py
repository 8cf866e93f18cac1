"""JPEG files and crops out of them: size from the header, checked decoding, encoding of a crop."""

import io
import warnings

import cv2
import numpy as np
from PIL import Image

from ..files import InputError
from ..geometry.transforms import compose_affine, warp_shrinking

# Some cameras and programs write a few bytes after a JPEG's end marker.
_TRAILER = 512
# Of stored crops. Colours stay at full size: at half size they would cost as many grey levels as all other noise.
_STORED_CROP = [
    cv2.IMWRITE_JPEG_QUALITY,
    92,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


def picture_size(source):
    """Size of a picture from its header, without decoding it.

    Args:
        source: path of the file, or its bytes.
    Returns:
        (width, height), px.
    Raises:
        InputError: the file is missing or is no picture.
    """
    name = "the picture" if isinstance(source, bytes) else source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about odd EXIF data, and sizes that callers compare anyway
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                return picture.size
    except FileNotFoundError as error:
        raise InputError(f"{name} is missing; get the data set's pictures again") from error
    except (
        Exception
    ) as error:  # Pillow raises a dozen kinds for damaged files; each means the same to a user
        raise InputError(
            f"{name} is not a readable picture ({type(error).__name__}); get it again"
        ) from error


def read_picture(path, width, height, shrink=1.0):
    """Decode a whole JPEG of a known size, at half or quarter size where no more is needed.

    Args:
        path: the file.
        width, height: px, as the labels state.
        shrink: how many picture px the finest crop pixel will cover.
    Returns:
        picture (H', W', 3) uint8 BGR; affine (2, 3) from its px to px of the whole picture.
    Raises:
        InputError: the file is missing, truncated, damaged, or of another size. A picture that carries an orientation
            mark is taken as its pixels lie, as labels are.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    # A truncated JPEG decodes to a half-grey picture without complaint; its end marker tells.
    whole = b"\xff\xd9" in data[-_TRAILER:].tobytes()
    picture = None
    if whole:
        try:
            size = picture_size(
                data.tobytes()
            )  # before memory is spent on a size that damage made up
        except InputError as error:
            raise InputError(
                f"{path} is not a readable picture; get or prepare it again"
            ) from error
        if size != (width, height):
            raise InputError(
                f"{path}: the picture is not of the {width} x {height} px that its labels state but {size[0]} x {size[1]}; "
                "prepare this set again"
            )
        # JPEG decodes at 1/2 or 1/4 size for a fraction of the time; pixel i then lies over (i + 0.5) * block - 0.5.
        block = 4 if shrink >= 4 else 2 if shrink >= 2 else 1
        flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}[
            block
        ]
        try:
            picture = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            picture = None
    if picture is None or picture.shape[:2] != (-(-height // block), -(-width // block)):
        raise InputError(
            f"{path} is not a whole JPEG picture ({len(data)} bytes); prepare this set again"
        )
    half = (block - 1) / 2
    return picture, np.array([[block, 0, half], [0, block, half]], float)


def encode_crop(picture, affine, crop_px, to_picture=None):
    """Cut one crop out of a picture and encode it.

    Args:
        picture: (H, W, 3) uint8 BGR.
        affine: (2, 3) px of the whole picture -> crop px.
        crop_px: side of the crop, px.
        to_picture: (2, 3) px of `picture` -> px of the whole picture, as `read_picture` gives; None where it is whole.
    Returns:
        JPEG bytes.
    """
    if to_picture is not None:
        affine = compose_affine(affine, to_picture)
    return encode_jpeg(warp_shrinking(picture, affine, crop_px))


def encode_jpeg(crop):
    """Encode one crop for a store.

    Args:
        crop: (H, W, 3) uint8 BGR.
    Returns:
        JPEG bytes.
    """
    return cv2.imencode(".jpg", crop, _STORED_CROP)[1].tobytes()


def shrinkage(affines):
    """How many picture px one crop pixel covers along each axis; (..., 2, 3) -> (...)."""
    return 1 / np.sqrt(np.abs(np.linalg.det(affines[..., :2])))
