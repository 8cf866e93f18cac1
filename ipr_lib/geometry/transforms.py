"""Person box -> affine crop and its exact inverse; image, joints and depth always move together.

The file goes from boxes to affine maps, to pixels, and to what augmentation draws.
Taught in notebooks/04_crops_and_augmentation.ipynb. Pixel p has its centre at p, in images and crops alike.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from .camera import Camera

BOX_MM = 2000.0  # the person cube of Sun et al. 2018, section 4.2: 2 m to each side
# Crop side over the longer side of a person's 2D box. One of the two releases has this factor too, with
# other boxes: for COCO's, and for MPII's `scale * 200` px; the other one has it commented out for MPII.
# With it, training's zoom and turns leave nearly all joints in the crop; see benchmarks/box_scale.py.
BOX_SCALE = 1.25
_LANCZOS = 3  # half the filter's width, in pixels of the smaller image

# Shapes laid over a crop: at most so many, half their length and width in crop sides, the corners of
# the polygon that stands for one, and the pixels a side of its colours, which are enlarged to the crop.
MOST_SHAPES = 8
SMALLEST_SHAPE, LARGEST_SHAPE = 0.03, 0.22
SHAPE_CORNERS = 32
SHAPE_PIXELS = 3


# ---------------------------------------------------------------- boxes


def box_at_root(root_cam: np.ndarray, camera: Camera, size_mm: float = BOX_MM) -> np.ndarray:
    """Square box that a cube of `size_mm` around the root covers in the image.

    Args:
        root_cam: (..., 3) root joint, camera, mm.
        camera: of the image.
        size_mm: side of the cube, mm.
    Returns:
        (..., 3) box: centre x, centre y, side; px. An oracle box: it knows the true root.
    """
    root_cam = np.asarray(root_cam, float)
    centre = camera.camera_to_image(root_cam)
    side = size_mm * camera.f.mean() / root_cam[..., 2]
    return np.concatenate([centre, side[..., None]], axis=-1)


def square_boxes(bbox: np.ndarray, scale: float = BOX_SCALE) -> np.ndarray:
    """Square boxes about 2D person boxes: side = max(width, height) * scale.

    A person keeps its aspect. Joints outside of the square are lost to training, and a wider square leaves
    the person fewer pixels: benchmarks/box_scale.py prints both, by scale. MPII's boxes in the release by
    mks0601 are used as they are, scale 1. That by JimmySuen takes 1.25 times `scale * 200` px of the
    annotation, about a centre moved down by 15 px times `scale`, or 1.25 times the joints' extent, and 1.25
    times COCO's box. Taught in notebooks/03_prepare_mpii_and_coco.ipynb.

    Args:
        bbox: (n, 4) x, y, width, height; px.
        scale: of the longer side.
    Returns:
        (n, 3) centre x, centre y, side; px.
    """
    bbox = np.asarray(bbox, float)
    corner, size = bbox[:, :2], bbox[:, 2:]
    side = size.max(axis=1, keepdims=True) * scale
    return np.concatenate([corner + size / 2, side], axis=1)


# ---------------------------------------------------------------- affine maps


def crop_affine(
    box: np.ndarray,
    crop_px: int,
    scale: np.ndarray | float = 1.0,
    rotation: np.ndarray | float = 0.0,
    shift: np.ndarray | tuple = (0.0, 0.0),
    flip: np.ndarray | bool = False,
) -> np.ndarray:
    """Affine maps from image px to crop px; all arguments broadcast over leading axes.

    Args:
        box: (..., 3) centre x, centre y, side; px.
        crop_px: side of the square crop, px.
        scale: (...) zoom of the person about the box centre; 2 makes it twice as large.
        rotation: (...) turn of the content, degrees, clockwise on the screen (y points down).
        shift: (..., 2) the crop's centre lies this many box sides right of and below the box centre.
        flip: (...) mirror left and right, x -> crop_px - 1 - x, after all else.
    Returns:
        (..., 2, 3) float64 A, with joints_crop = A[:, :2] @ joints_img + A[:, 2].
    """
    box, shift = np.asarray(box, float), np.asarray(shift, float)
    centre = box[..., :2] + shift * box[..., 2:]
    zoom = np.asarray(scale, float) * crop_px / box[..., 2]
    angle = np.deg2rad(rotation)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    mirror = np.where(flip, -1.0, 1.0)
    shape = np.broadcast_shapes(cos.shape, mirror.shape, centre.shape[:-1])
    linear = np.empty((*shape, 2, 2))
    linear[..., 0, 0] = mirror * cos
    linear[..., 0, 1] = mirror * -sin
    linear[..., 1, 0] = sin
    linear[..., 1, 1] = cos
    # The crop's centre goes to the middle of the crop.
    offset = (crop_px - 1) / 2 - linear @ centre[..., None]
    return np.concatenate([linear, offset], axis=-1)


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points by affine maps: (..., 2, 3) and (..., J, 2) -> (..., J, 2)."""
    linear, offset = affine[..., :2], affine[..., 2]
    return points @ np.swapaxes(linear, -1, -2) + offset[..., None, :]


def invert_affine(affine: np.ndarray) -> np.ndarray:
    """Inverse of affine maps, (..., 2, 3) -> (..., 2, 3)."""
    linear = np.linalg.inv(affine[..., :2])
    offset = -linear @ affine[..., 2:]
    return np.concatenate([linear, offset], axis=-1)


def compose_affine(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The affine map that applies `first`, then `second`; (..., 2, 3) each."""
    linear = second[..., :2] @ first[..., :2]
    offset = second[..., :2] @ first[..., 2:] + second[..., 2:]
    return np.concatenate([linear, offset], axis=-1)


def flip_joints(joints: np.ndarray, flip_order: np.ndarray, crop_px: int) -> np.ndarray:
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


# ---------------------------------------------------------------- pixels


def warp(
    image: np.ndarray, affine: np.ndarray, crop_px: int, border: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    """Cut one crop out of an image.

    Args:
        image: (H, W, 3) uint8.
        affine: (2, 3) map from image px to crop px.
        crop_px: side of the crop, px.
        border: what lies beyond the image's edge. cv2.BORDER_CONSTANT is black; cv2.BORDER_REPLICATE
            goes on with the outermost pixels, the best guess where a stored crop ends but not the scene.
    Returns:
        (crop_px, crop_px, 3) uint8, bilinear.
    """
    size = (crop_px, crop_px)
    return cv2.warpAffine(image, affine, size, flags=cv2.INTER_LINEAR, borderMode=border)


def warp_shrinking(image: np.ndarray, affine: np.ndarray, crop_px: int) -> np.ndarray:
    """Cut one crop like `warp`, without aliasing where the crop is smaller than its source.

    The part that the crop sees is first resized by a Lanczos filter, until its pixels are as large as
    the crop's. A turn or a mirror is then left to `warp`. For an upright crop the pixels coincide, and
    nothing is left to do.
    """
    shrink = shrinkage(affine)
    if shrink <= 1:
        return warp(image, affine, crop_px)
    # Cell i of the resized image reaches from low + i * shrink to low + (i + 1) * shrink, where `low`
    # is the upper left corner of the crop's outline.
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * float(crop_px) - 0.5
    outline = apply_affine(invert_affine(affine), corners)
    low, high = outline.min(axis=0), outline.max(axis=0)
    n_cells = np.ceil((high - low) / shrink - 1e-6).astype(int)
    # The pixels that the filter reaches around the outline; what lies off the image is black.
    reach = np.ceil(_LANCZOS * shrink)
    start = np.floor(low + 0.5) - reach
    end = np.ceil(high + 0.5) + reach
    part = Image.fromarray(image).crop((*start.astype(int), *end.astype(int)))
    box_low = low + 0.5 - start  # from the edge of `part`
    box = (*box_low, *(box_low + n_cells * shrink))
    resized = part.resize(tuple(n_cells.tolist()), Image.Resampling.LANCZOS, box=box)
    to_image = np.array([[shrink, 0, 0], [0, shrink, 0]])
    to_image[:, 2] = low + 0.5 * shrink
    return warp(np.asarray(resized), compose_affine(affine, to_image), crop_px)


def shrinkage(affine: np.ndarray) -> np.ndarray:
    """How many image px one crop pixel covers along each axis; (..., 2, 3) -> (...)."""
    return 1 / np.sqrt(np.abs(np.linalg.det(affine[..., :2])))


# ---------------------------------------------------------------- augmentation


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
        contrast: saturation and contrast are multiplied by 1 - contrast … 1 + contrast, and up to half
            of it is added to the brightness (of 1) or taken away.
        occlusion: probability that shapes are laid over the crop, see `draw_occluders`.
    """

    scale: float = 0.25
    rotation: float = 30.0
    shift: float = 0.0
    flip: float = 0.5
    colour: float = 0.2
    hue: float = 0.0
    contrast: float = 0.0
    occlusion: float = 0.0


# The plain box, as for scores.
NO_AUGMENTATION = Augmentation(scale=0, rotation=0, shift=0, flip=0, colour=0)


def draw_augmentation(augmentation: Augmentation, rng: np.random.Generator, n: int) -> dict:
    """Draw `n` augmentations.

    Args:
        augmentation: the ranges.
        rng: source of the draws.
        n: how many.
    Returns:
        dict of arrays: scale (n,), rotation (n,) degrees, shift (n, 2) in box sides, flip (n,) bool,
        colour (n, 3, 4) float32: affine maps of RGB in 0 … 1, for `data.normalise`.
    """
    a = augmentation
    return {
        "scale": rng.uniform(1 - a.scale, 1 + a.scale, n),
        "rotation": rng.uniform(-a.rotation, a.rotation, n),
        "shift": rng.uniform(-a.shift, a.shift, (n, 2)),
        "flip": rng.random(n) < a.flip,
        "colour": _draw_colour_maps(a, rng, n),
    }


def _draw_colour_maps(a, rng, n):
    """(n, 3, 4) float32 maps: turn and saturate colours about the grey axis, scale channels, then contrast."""
    turn = np.deg2rad(rng.uniform(-a.hue, a.hue, n))
    saturation = rng.uniform(1 - a.contrast, 1 + a.contrast, n)
    contrast = rng.uniform(1 - a.contrast, 1 + a.contrast, n)
    brightness = rng.uniform(-a.contrast / 2, a.contrast / 2, n)
    gain = rng.uniform(1 - a.colour, 1 + a.colour, (n, 3, 1))
    # `grey` projects a colour on the grey axis. What is left of it turns around that axis, as
    # cos * left + sin * (across @ left), where `across` is the cross product with the axis.
    grey = np.full((3, 3), 1 / 3)
    left = np.eye(3) - grey
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    cos = (saturation * np.cos(turn))[:, None, None]
    sin = (saturation * np.sin(turn))[:, None, None]
    linear = contrast[:, None, None] * gain * (grey + cos * left + sin * across)
    offset = 0.5 * (1 - contrast) + brightness
    offset = np.broadcast_to(offset[:, None, None], (n, 3, 1))
    return np.concatenate([linear, offset], axis=2).astype(np.float32)


def draw_occluders(probability: float, rng: np.random.Generator, n: int) -> dict:
    """Draw shapes that hide parts of `n` crops: none, or one to MOST_SHAPES on each.

    After Sárándi, Linder, Arras, Leibe 2018, How Robust is 3D Human Pose Estimation to Occlusion?, who
    paste objects cut out of photographs. Here all shapes are drawn from numbers, between rectangles,
    ellipses and diamonds, in soft changing colours.

    Args:
        probability: that a crop gets any.
        rng: source of the draws.
        n: how many crops.
    Returns:
        dict of arrays: count (n,) shapes on each crop; outline (n, MOST_SHAPES, SHAPE_CORNERS, 2)
        float32 x, y in crop sides, where 0 … 1 is the crop; colours (n, MOST_SHAPES, SHAPE_PIXELS,
        SHAPE_PIXELS, 3) uint8 RGB.
    """
    hidden = rng.random(n) < probability
    count = np.where(hidden, rng.integers(1, MOST_SHAPES + 1, n), 0)
    centre = rng.uniform(0, 1, (n, MOST_SHAPES, 1, 2))
    smallest, largest = np.log(SMALLEST_SHAPE), np.log(LARGEST_SHAPE)
    half = np.exp(rng.uniform(smallest, largest, (n, MOST_SHAPES, 1, 2)))
    turn = rng.uniform(0, np.pi, (n, MOST_SHAPES, 1))
    # Superellipses (Lamé): power 0 gives a rectangle, 1 an ellipse, 2 a diamond; up to there it is convex.
    power = rng.uniform(0, 2, (n, MOST_SHAPES, 1, 1))
    around = np.linspace(0, 2 * np.pi, SHAPE_CORNERS, endpoint=False) + np.pi / SHAPE_CORNERS
    circle = np.stack([np.cos(around), np.sin(around)], axis=-1)
    upright = half * np.sign(circle) * np.abs(circle) ** power
    x, y = upright[..., 0], upright[..., 1]
    cos, sin = np.cos(turn), np.sin(turn)
    turned = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    pixels = (n, MOST_SHAPES, SHAPE_PIXELS, SHAPE_PIXELS, 3)
    return {
        "count": count,
        "outline": (centre + turned).astype(np.float32),
        "colours": rng.integers(0, 256, pixels, np.uint8),
    }


def occlude(crops: np.ndarray, occluders: dict) -> None:
    """Lay shapes over crops, in place, each over those before it.

    Args:
        crops: (B, S, S, 3) uint8 RGB, contiguous.
        occluders: of `draw_occluders`, for B crops.
    """
    bits = 4  # behind the point, for corners between pixels
    for i, crop in enumerate(crops):
        for k in range(occluders["count"][i]):
            corners = occluders["outline"][i, k] * len(crop) - 0.5
            mask = np.zeros(crop.shape[:2], np.uint8)
            fixed_point = np.round(corners * 2**bits).astype(np.int32)
            cv2.fillConvexPoly(mask, fixed_point, 1, shift=bits)
            colours = cv2.resize(occluders["colours"][i, k], crop.shape[:2])
            cv2.copyTo(colours, mask, crop)
