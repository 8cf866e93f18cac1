"""Joints, cameras, and what moves both: geometry in NumPy alone, without torch.

Read `skeleton` (joint sets as data), then `camera` (world, camera and image), both taught in notebook 01;
then `transforms` (person box -> crop and back, augmentation), taught in notebook 04.
"""

from .camera import ASSUMED_FOCAL, Camera, distort, look_at, undistort
from .skeleton import (
    COCO,
    HUMAN36M,
    MPII,
    SCORED_JOINTS,
    SKELETONS,
    Skeleton,
    add_thorax,
    bone_lengths,
    convert_joints,
)
from .transforms import (
    BOX_MM,
    BOX_SCALE,
    NO_AUGMENTATION,
    Augmentation,
    apply_affine,
    box_at_root,
    compose_affine,
    crop_affine,
    draw_augmentation,
    draw_occluders,
    flip_joints,
    invert_affine,
    occlude,
    shrinkage,
    square_boxes,
    warp,
    warp_shrinking,
)

__all__ = [
    "ASSUMED_FOCAL",
    "BOX_MM",
    "BOX_SCALE",
    "COCO",
    "HUMAN36M",
    "MPII",
    "NO_AUGMENTATION",
    "SCORED_JOINTS",
    "SKELETONS",
    "Augmentation",
    "Camera",
    "Skeleton",
    "add_thorax",
    "apply_affine",
    "bone_lengths",
    "box_at_root",
    "compose_affine",
    "convert_joints",
    "crop_affine",
    "distort",
    "draw_augmentation",
    "draw_occluders",
    "flip_joints",
    "invert_affine",
    "look_at",
    "occlude",
    "shrinkage",
    "square_boxes",
    "undistort",
    "warp",
    "warp_shrinking",
]
