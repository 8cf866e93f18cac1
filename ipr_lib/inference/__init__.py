"""Poses from pictures and videos of one's own, as notebook 12 teaches it.

Read `inputs` first (pictures and frames as they come; `videos` reads the latter), then `networks`
(any network, used alike), `poses` (where people are, prediction, people followed through a video,
smoothing) and `outputs` (overlays, tables and pages).
"""

from .inputs import InputImage, focal_length, list_files, read_frames, read_image
from .networks import Network, finished_run, load_network
from .outputs import draw_overlay, predict_files, write_tables
from .poses import (
    Poses,
    assumed_cameras,
    box_from_pose,
    detect_people,
    find_boxes,
    join_poses,
    link_people,
    load_detector,
    one_euro,
    parse_box,
    predict,
    predict_inputs,
    predict_people,
    read_boxes,
    smooth_poses,
    timeline,
    whole_box,
)

__all__ = [
    "InputImage",
    "Network",
    "Poses",
    "assumed_cameras",
    "box_from_pose",
    "detect_people",
    "draw_overlay",
    "find_boxes",
    "finished_run",
    "focal_length",
    "join_poses",
    "link_people",
    "list_files",
    "load_detector",
    "load_network",
    "one_euro",
    "parse_box",
    "predict",
    "predict_files",
    "predict_inputs",
    "predict_people",
    "read_boxes",
    "read_frames",
    "read_image",
    "smooth_poses",
    "timeline",
    "whole_box",
    "write_tables",
]
