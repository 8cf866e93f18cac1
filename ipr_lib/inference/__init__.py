"""Poses from pictures and videos of one's own, as notebook 12 teaches it.

Read `inputs` first (pictures and frames as they come), then `poses` (where people are, prediction,
people followed through a video, smoothing) and `outputs` (overlays, tables and pages).
"""

from .inputs import InputImage, focal_length, list_files, read_frames, read_image
from .outputs import draw_overlay, predict_files, write_tables
from .poses import (
    Poses,
    assumed_camera,
    box_from_pose,
    detect_people,
    find_boxes,
    join_poses,
    link_people,
    load_detector,
    one_euro,
    parse_box,
    predict_file,
    predict_people,
    smooth_poses,
    timeline,
    whole_box,
)

__all__ = [
    "InputImage",
    "Poses",
    "assumed_camera",
    "box_from_pose",
    "detect_people",
    "draw_overlay",
    "find_boxes",
    "focal_length",
    "join_poses",
    "link_people",
    "list_files",
    "load_detector",
    "one_euro",
    "parse_box",
    "predict_file",
    "predict_files",
    "predict_people",
    "read_frames",
    "read_image",
    "smooth_poses",
    "timeline",
    "whole_box",
    "write_tables",
]
