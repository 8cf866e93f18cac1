"""JPEGs of stored crops: what a training crop hardly shows is dropped, so that they decode faster.

Decoding is most of what an item of training costs, and its time goes with the cosines that are left, not with the bytes.
Taught in notebooks/04_crops_and_augmentation.ipynb.
"""

import io
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

_BLOCK = 8  # px; JPEG turns blocks of 8 x 8 into cosines
_STEP = 4  # what the cosines that stay are rounded to, grey levels; the same for all
# Cosines below these grey levels are dropped: for the coarsest, and for the finest, which a bilinear warp blurs anyway. So
# for a crop of this side, px; in a smaller one a pixel is more of the person, and the limits go with the side's root.
_LIMITS, _SIDE = (3.0, 6.0), 343
# Margins are seen by few crops: from here on, as a share of half the side from the middle, limits double every so often.
_INNER, _DOUBLING = 0.6, 0.2


def encode_jpeg(crop):
    """Encode one crop for a store, with colours at full size: at half size they would cost as much as all other noise.

    Args:
        crop: (H, W, 3) uint8 RGB, the person in its middle.
    Returns:
        JPEG bytes.
    """
    file = io.BytesIO()
    Image.fromarray(drop_cosines(crop), "YCbCr").save(
        file, "JPEG", subsampling=0, qtables=[[_STEP] * _BLOCK**2] * 2, optimize=True
    )
    return file.getvalue()


def drop_cosines(crop):
    """A crop without the cosines of its 8 x 8 px blocks that lie below their limit.

    Rounding to whole grey levels puts back less than half a step of any of them, so JPEG rounds them to 0.

    Args:
        crop: (H, W, 3) uint8 RGB.
    Returns:
        (H, W, 3) uint8, brightness and colours (Y, Cb, Cr).
    """
    height, width = crop.shape[:2]
    limits = _limits(height, width)
    colours = cv2.cvtColor(crop, cv2.COLOR_RGB2YCrCb)
    bottom, right = limits.shape[0] - height, limits.shape[1] - width
    colours = cv2.copyMakeBorder(
        colours, 0, bottom, 0, right, cv2.BORDER_REPLICATE
    )  # as JPEG fills its last blocks
    planes = np.empty((3, *limits.shape), np.float32)
    for plane, source in zip(planes, (0, 2, 1)):
        cv2.add(cv2.extractChannel(colours, source), -128.0, dst=plane, dtype=cv2.CV_32F)
    basis = _cosines()
    cosines = _transform(planes, basis)
    cosines *= np.abs(cosines) >= limits
    planes = _transform(cosines, np.ascontiguousarray(basis.T))
    return cv2.merge([cv2.add(plane, 128.0, dtype=cv2.CV_8U)[:height, :width] for plane in planes])


def _transform(planes, matrix):
    """matrix @ block @ matrix.T for every 8 x 8 block, in place: two matrix products, and no block is moved."""
    width, other = planes.shape[2], np.empty_like(planes)
    np.matmul(planes.reshape(-1, width, _BLOCK), matrix.T, out=other.reshape(-1, width, _BLOCK))
    np.matmul(matrix, other.reshape(-1, _BLOCK, width), out=planes.reshape(-1, _BLOCK, width))
    return planes


def _cosines():
    """(8, 8) float32: row k is the k-th cosine of JPEG's transform, of length 1."""
    k = np.arange(_BLOCK)
    basis = np.cos((2 * k + 1) * k[:, None] * np.pi / (2 * _BLOCK)) * np.sqrt(2 / _BLOCK)
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


@lru_cache
def _limits(height, width):
    """Below which grey level each cosine is dropped: (H, W) float32, sides filled up to whole blocks."""
    k = np.arange(_BLOCK)
    fineness = np.add.outer(k, k) / (2 * (_BLOCK - 1))
    of_cosine = (_LIMITS[0] + (_LIMITS[1] - _LIMITS[0]) * fineness) * min(
        1, np.sqrt(max(height, width) / _SIDE)
    )
    of_cosine[0, 0] = 0  # a block's mean stays
    middles = [np.arange(0, side, _BLOCK) + (_BLOCK - side) / 2 for side in (height, width)]
    away = np.hypot(middles[0][:, None] / (height / 2), middles[1] / (width / 2))
    of_block = 2 ** (np.maximum(0, away - _INNER) / _DOUBLING)
    return np.kron(of_block, of_cosine).astype(np.float32)
