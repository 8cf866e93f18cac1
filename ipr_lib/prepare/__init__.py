"""From what the owners of data sets hand out to what training reads; NumPy and OpenCV, no torch.

Read `raw` (Human3.6M's download), `human36m` (download -> prepared set or crop stores) and `check`
with notebook 02; then `mpii` and `coco` (download -> people), which end in `people` (people -> json
and crop stores), with notebook 03.
"""

from .check import check_set
from .coco import prepare_coco, read_coco
from .human36m import prepare_human36m
from .mpii import prepare_mpii, read_mpii
from .people import build_people_store
from .raw import Metadata, read_camera, read_metadata, read_pose, video_frames

__all__ = [
    "Metadata",
    "build_people_store",
    "check_set",
    "prepare_coco",
    "prepare_human36m",
    "prepare_mpii",
    "read_camera",
    "read_coco",
    "read_metadata",
    "read_mpii",
    "read_pose",
    "video_frames",
]
