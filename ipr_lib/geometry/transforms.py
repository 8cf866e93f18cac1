"""Person box -> affine crop and its exact inverse; picture, joints and depth always move together.

Taught in notebooks/04_crops_and_augmentation.ipynb. Pixel p has its centre at p, in pictures and crops alike.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

BOX_MM = 2000.0  # the person cube of Sun et al. 2018, section 4.2: 2 m to each side
_LANCZOS = 3  # half the filter's width, in pixels of the smaller picture


def box_at_root(root_cam, camera, size_mm=BOX_MM):
    """Square box that a cube of `size_mm` round the root covers in the picture.

    Args:
        root_cam: (..., 3) root joint, camera, mm.
        camera: Camera.
        size_mm: side of the cube, mm.
    Returns:
        (..., 3) box: centre x, centre y, side; px. An oracle box: it knows the true root.
    """
    root_cam = np.asarray(root_cam, float)
    centre = camera.camera_to_image(root_cam)
    side = size_mm * camera.f.mean() / root_cam[..., 2]
    return np.concatenate([centre, side[..., None]], axis=-1)


@dataclass(frozen=True)
class Augmentation:
    """Ranges that training draws from, uniformly.

    Attributes:
        scale: zoom of the person lies in 1 - scale … 1 + scale.
        rotation: turn about the box centre lies in -rotation … +rotation, degrees.
        shift: the box centre moves by up to this share of its side, along x and y.
        flip: probability of a mirrored crop.
        colour: each channel is multiplied by 1 - colour … 1 + colour.
        hue: colours turn by -hue … +hue, degrees; greys stay.
        contrast: saturation and contrast are multiplied by 1 - contrast … 1 + contrast, and up to half of it is added
            to the brightness (of 1) or taken away.
        occlusion: probability that shapes are laid over the crop, see `occlusion.draw_occluders`.
    """

    scale: float = 0.25
    rotation: float = 30.0
    shift: float = 0.0
    flip: float = 0.5
    colour: float = 0.2
    hue: float = 0.0
    contrast: float = 0.0
    occlusion: float = 0.0


def draw_augmentation(augmentation, rng, n):
    """Draw `n` augmentations.

    Args:
        augmentation: Augmentation.
        rng: numpy Generator.
        n: how many.
    Returns:
        dict of arrays: scale (n,), rotation (n,) degrees, shift (n, 2) in box sides, flip (n,) bool, colour (n, 3, 4)
        float32: affine maps of RGB in 0 … 1, for `datasets.normalise`.
    """
    a = augmentation
    return {
        "scale": rng.uniform(1 - a.scale, 1 + a.scale, n),
        "rotation": rng.uniform(-a.rotation, a.rotation, n),
        "shift": rng.uniform(-a.shift, a.shift, (n, 2)),
        "flip": rng.random(n) < a.flip,
        "colour": _colour_maps(a, rng, n),
    }


def _colour_maps(a, rng, n):
    """(n, 3, 4) float32 maps: turn and saturate colours about the grey axis, scale channels, then contrast."""
    turn = np.deg2rad(rng.uniform(-a.hue, a.hue, n))
    saturation, contrast = rng.uniform(1 - a.contrast, 1 + a.contrast, (2, n))
    brightness = rng.uniform(-a.contrast / 2, a.contrast / 2, n)
    gain = rng.uniform(1 - a.colour, 1 + a.colour, (n, 3, 1))
    grey = np.full(
        (3, 3), 1 / 3
    )  # projects on the grey axis; what is left of a colour turns round that axis
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    cos, sin = (
        (saturation * np.cos(turn))[:, None, None],
        (saturation * np.sin(turn))[:, None, None],
    )
    linear = contrast[:, None, None] * gain * (grey + cos * (np.eye(3) - grey) + sin * across)
    offset = np.broadcast_to((0.5 * (1 - contrast) + brightness)[:, None, None], (n, 3, 1))
    return np.concatenate([linear, offset], axis=2).astype(np.float32)


def crop_affine(box, crop_px, scale=1.0, rotation=0.0, shift=(0.0, 0.0), flip=False):
    """Affine maps from picture px to crop px; all arguments broadcast over leading axes.

    Args:
        box: (..., 3) centre x, centre y, side; px.
        crop_px: side of the square crop, px.
        scale: (...) zoom of the person about the box centre; 2 makes it twice as large.
        rotation: (...) turn of the picture content, degrees, clockwise on the screen (y points down).
        shift: (..., 2) the crop's centre lies this many box sides right of and below the box centre.
        flip: (...) mirror left and right, x -> crop_px - 1 - x, after all else.
    Returns:
        (..., 2, 3) float64 A, with joints_crop = A[:, :2] @ joints_img + A[:, 2].
    """
    box, scale, shift = (np.asarray(value, float) for value in (box, scale, shift))
    rotation, flip = np.asarray(rotation, float), np.asarray(flip, bool)
    zoom = scale * crop_px / box[..., 2]
    cos, sin = zoom * np.cos(np.deg2rad(rotation)), zoom * np.sin(np.deg2rad(rotation))
    mirror = np.where(flip, -1.0, 1.0)
    x, y = (box[..., i] + shift[..., i] * box[..., 2] for i in range(2))
    rows = (mirror * cos, -mirror * sin), (sin, cos)
    affine = np.empty((*np.broadcast_shapes(cos.shape, mirror.shape, x.shape), 2, 3))
    for i, (of_x, of_y) in enumerate(
        rows
    ):  # number by number: several times faster than to stack them
        affine[..., i, 0], affine[..., i, 1] = of_x, of_y
        affine[..., i, 2] = (crop_px - 1) / 2 - (of_x * x + of_y * y)
    return affine


def apply_affine(affine, points):
    """Map points by affine maps.

    Args:
        affine: (..., 2, 3).
        points: (..., J, 2).
    Returns:
        (..., J, 2).
    """
    return points @ np.swapaxes(affine[..., :2], -1, -2) + affine[..., None, :, 2]


def invert_affine(affine):
    """Inverse of affine maps, (..., 2, 3) -> (..., 2, 3)."""
    linear = np.linalg.inv(affine[..., :2])
    offset = -np.einsum("...ij,...j->...i", linear, affine[..., 2])
    return np.concatenate([linear, offset[..., None]], axis=-1)


def compose_affine(second, first):
    """The affine map that applies `first`, then `second`; (..., 2, 3) each."""
    linear = second[..., :2] @ first[..., :2]
    offset = np.einsum("...ij,...j->...i", second[..., :2], first[..., 2]) + second[..., 2]
    return np.concatenate([linear, offset[..., None]], axis=-1)


def warp(picture, affine, crop_px):
    """Cut one crop out of a picture.

    Args:
        picture: (H, W, 3) uint8.
        affine: (2, 3) map from picture px to crop px.
        crop_px: side of the crop, px.
    Returns:
        (crop_px, crop_px, 3) uint8, bilinear; black where the picture ends.
    """
    return cv2.warpAffine(picture, affine, (crop_px, crop_px), flags=cv2.INTER_LINEAR)


def warp_small(pictures, affines, crops):
    """`warp` of stored crops into an array that is there already.

    The same pixels inside; past its edge a stored crop goes on with its outermost pixels, the best guess at a picture
    that does not end there. OpenCV warps four channels much faster than three, and here the fourth is cheap to add.

    Args:
        pictures: iterable of (H, W, 3) uint8; each is taken when its turn comes.
        affines: (B, 2, 3) maps from picture px to crop px.
        crops: (B, crop_px, crop_px, 3) uint8, written to.
    """
    wide = cut = None  # memory that serves crop after crop stays in a core's cache
    size = crops.shape[2:0:-1]
    for picture, affine, crop in zip(pictures, affines, crops):
        wide = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA, wide)
        cut = cv2.warpAffine(wide, affine, size, cut, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
        cv2.cvtColor(cut, cv2.COLOR_RGBA2RGB, crop)


def warp_shrinking(picture, affine, crop_px):
    """Like `warp`, without aliasing and as sharp as can be where the crop is smaller than its source.

    The part that the crop sees is first resized with a Lanczos filter until its pixels are as large as the crop's. What
    is then left, a turn or a mirror, is a `warp`; for an upright crop the pixels coincide and nothing is left.
    """
    shrink = 1 / np.sqrt(abs(np.linalg.det(affine[:, :2])))
    if shrink <= 1:
        return warp(picture, affine, crop_px)
    # Cell i of the resized picture reaches from low + i * shrink to low + (i + 1) * shrink; `low` is the crop's outline.
    size = np.array(picture.shape[1::-1])
    outline = apply_affine(
        invert_affine(affine), np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * float(crop_px) - 0.5
    )
    low = outline.min(0)
    count = np.ceil((outline.max(0) - low) / shrink - 1e-6)
    first = np.clip(
        np.floor((-0.5 - low) / shrink), 0, count
    )  # cells that lie off the picture are left to `warp`
    last = np.clip(np.ceil((size - 0.5 - low) / shrink), 0, count)
    if (last <= first).any():
        return np.zeros((crop_px, crop_px, 3), np.uint8)
    box = low + 0.5 + np.stack([first, last]) * shrink  # in px from the picture's edge
    reach = np.ceil(_LANCZOS * shrink)
    start, end = (np.floor(box[0]) - reach).astype(int), (np.ceil(box[1]) + reach).astype(int)
    inner, outer = np.clip(start, 0, size), np.clip(end, 0, size)
    (left, top), (right, bottom) = inner - start, end - outer
    part = picture[inner[1] : outer[1], inner[0] : outer[0]]
    part = cv2.copyMakeBorder(
        part, int(top), int(bottom), int(left), int(right), cv2.BORDER_CONSTANT
    )
    count = tuple(int(n) for n in last - first)
    small = np.asarray(
        Image.fromarray(part).resize(
            count, Image.Resampling.LANCZOS, (*(box[0] - start), *(box[1] - start))
        )
    )
    offset = low + (first + 0.5) * shrink
    to_picture = np.array([[shrink, 0, offset[0]], [0, shrink, offset[1]]])
    return warp(small, compose_affine(affine, to_picture), crop_px)


def flip_joints(joints, flip_order, crop_px):
    """Mirror joints of a crop: x -> crop_px - 1 - x, and each joint takes its partner's place.

    Args:
        joints: (..., J, 2 or 3), x first, px.
        flip_order: (J,) of the skeleton.
        crop_px: width of the crop, px.
    Returns:
        same shape. Applying it twice gives the input back.
    """
    flipped = np.array(joints)[..., flip_order, :]
    flipped[..., 0] = crop_px - 1 - flipped[..., 0]
    return flipped
