"""Poses from pictures and videos of one's own, as notebook 12 teaches it.

Read `inputs` first (pictures and frames as they come; `videos` reads and writes the latter), then
`networks` (any network, used alike), `poses` (where people are, prediction, people followed through
a video, smoothing) and `outputs` (overlays, tables and pages). `motion` takes the poses of a video
to animation programs, and `export` takes a network to programs without PyTorch.
"""

from .export import export_onnx, network_card
from .inputs import InputImage, focal_length, list_files, read_frames, read_image
from .motion import Motion, fit_motion, motions_of, parse_up, write_bvh, write_glb
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
    "Motion",
    "Network",
    "Poses",
    "assumed_cameras",
    "box_from_pose",
    "detect_people",
    "draw_overlay",
    "export_onnx",
    "find_boxes",
    "finished_run",
    "fit_motion",
    "focal_length",
    "join_poses",
    "link_people",
    "list_files",
    "load_detector",
    "load_network",
    "motions_of",
    "network_card",
    "one_euro",
    "parse_box",
    "parse_up",
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
    "write_bvh",
    "write_glb",
    "write_tables",
]
