"""Stand-ins for MPII and COCO, in their owners' formats, for notebooks/03_prepare_mpii_and_coco.ipynb.

Their pictures are cut out of frames of a prepared set. So the true place of every joint is known, which no
real set offers.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from PIL import Image

from ..data.h36m_layout import CameraView, frames_in_use, read_camera_view
from ..files import atomic_path
from ..geometry.skeleton import COCO, HUMAN36M, MPII, Skeleton, add_thorax
from ..geometry.transforms import box_at_root
from ..prepare.mpii import ANNOTATIONS

JPEG_QUALITY = 93
HIDDEN_MM = 150  # a joint that lies so far behind the pelvis counts as hidden
# Odd cases of the stand-in for MPII: indices of pictures.
WITH_BYSTANDERS, WITH_NOBODY, OF_TEST_PART = 3, 7, 11


@dataclass(frozen=True)
class Photo:
    """A picture of one person, cut out of a frame.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        joints_cam: name of a joint -> (3,) camera, mm.
        joints_img: name of a joint -> (2,) px of this picture.
        px_mm: what a pixel spans at the depth of the pelvis, mm.
    """

    image: np.ndarray
    joints_cam: dict[str, np.ndarray]
    joints_img: dict[str, np.ndarray]
    px_mm: float

    def joints(self, skeleton: Skeleton) -> np.ndarray:
        """(J, 2) px in the order of a joint set; the Neck of MPII is the upper neck."""
        joints = []
        for name in skeleton.names:
            if skeleton == MPII and name == "Neck":
                name = "upper neck"
            joints.append(self.joints_img[name])
        return np.array(joints)

    def inside(self, joints: np.ndarray) -> np.ndarray:
        """Which joints (J, 2) lie in the picture: (J,) bool."""
        height, width = self.image.shape[:2]
        return ((joints > -0.5) & (joints < np.array([width, height]) - 0.5)).all(axis=1)


def take_photos(folders: Sequence[Path], count: int, step: int, seed: int) -> list[Photo]:
    """Cut pictures out of camera views; one in six ends at the thighs, as many pictures of people do.

    Args:
        folders: of camera views; `count` of them are taken, evenly.
        count: number of pictures.
        step: every how many frames one is used.
        seed: of the frames and of the cuts.
    Returns:
        list of Photo.
    """
    rng = np.random.default_rng(seed)
    chosen = np.linspace(0, len(folders) - 1, count).astype(int)
    photos = []
    for number, index in enumerate(chosen):
        view = read_camera_view(folders[index])
        frame = rng.choice(frames_in_use(view, step))
        left_up = rng.uniform(0.5, 0.65, 2)
        right = rng.uniform(0.5, 0.65)
        down = 0.2 if number % 6 == 5 else 0.55
        photos.append(_cut(view, frame, left_up, np.array([right, down])))
    return photos


def _cut(view: CameraView, frame, left_up, right_down):
    """The part of a frame that reaches so many box sides from the pelvis."""
    joints_cam = _named_joints(view, frame)
    pelvis = joints_cam["Pelvis"]
    u, v, side = box_at_root(pelvis, view.camera)
    size = [view.camera.width, view.camera.height]
    low = np.clip([u, v] - side * left_up, 0, size).astype(int)
    high = np.clip([u, v] + side * right_down, 0, size).astype(int)
    whole = cv2.imread(str(view.image_path(frame)), cv2.IMREAD_COLOR_RGB)
    image = np.ascontiguousarray(whole[low[1] : high[1], low[0] : high[0]])
    joints_img = {}
    for name, place in joints_cam.items():
        joints_img[name] = view.camera.camera_to_image(place) - low
    return Photo(image, joints_cam, joints_img, float(pelvis[2] / view.camera.f.mean()))


def _named_joints(view, frame):
    """Joints by name, camera, mm; those that only MPII or COCO have are made up from the bones of the head."""
    pose = view.camera.world_to_camera(view.joints_world[frame])
    joints = dict(zip(HUMAN36M.names, add_thorax(pose)))
    neck, nose = joints["Neck"], joints["Nose"]
    up = joints["Head"] - neck
    left = np.cross(up, nose - neck)
    left = left / np.linalg.norm(left)
    joints["upper neck"] = neck + up / 3
    for side, sign in (("L_", 1), ("R_", -1)):
        joints[side + "Eye"] = nose + 0.12 * up + sign * 32 * left
        joints[side + "Ear"] = neck + 0.55 * up + sign * 75 * left
    return joints


# ---------------------------------------------------------------- MPII


def write_tiny_mpii(folder: Path, photos: Sequence[Photo]) -> None:
    """Write photos as MPII hands out its own: images and one MATLAB file, odd cases included.

    Args:
        folder: is made, or replaced.
        photos: one person each. Picture 3 has two bystanders without joints to train on, picture 7 is listed
            without its person, and picture 11 belongs to the test part.
    """
    with atomic_path(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        annolist = []
        for number, photo in enumerate(photos):
            name = f"{number:03d}.jpg"
            image = Image.fromarray(photo.image)
            image.save(temporary / "images" / name, quality=JPEG_QUALITY)
            people = [_annorect(photo)]
            if number == WITH_BYSTANDERS:
                top_of_head = {"x": 9.0, "y": 9.0, "id": 9.0}
                people += [{"x1": 5.0}, {"annopoints": {"point": top_of_head}}]
            if number == WITH_NOBODY:
                people = []
            annolist.append({"image": {"name": name}, "annorect": _structs(people)})
        is_training = np.arange(len(photos)) != OF_TEST_PART
        release = {"annolist": _structs(annolist), "img_train": is_training.astype(float)}
        scipy.io.savemat(temporary / ANNOTATIONS, {"RELEASE": release}, do_compression=True)


def _annorect(photo):
    """One person as MPII's file holds it: the head box, and the joints in the picture; MATLAB counts from 1."""
    joints = photo.joints(MPII)
    neck, top = joints[MPII.index("Neck")], joints[MPII.index("Head")]
    reach = 0.6 * np.linalg.norm(top - neck)
    x1, y1 = (neck + top) / 2 - reach + 1
    x2, y2 = (neck + top) / 2 + reach + 1
    inside = photo.inside(joints)
    points = []
    for j in (*range(6, 10), *range(6), *range(10, 16)):  # the trunk first, as in the file
        if inside[j]:
            points.append({"x": joints[j, 0] + 1, "y": joints[j, 1] + 1, "id": float(j)})
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "annopoints": {"point": _structs(points)}}


def _structs(rows):
    """A MATLAB struct array, 1 x n, of dicts; a field that a row lacks is empty, as MATLAB makes it."""
    if not rows:
        return np.zeros((0, 0))
    names = []
    for row in rows:
        names += [name for name in row if name not in names]
    array = np.empty((1, len(rows)), [(name, object) for name in names])
    for number, row in enumerate(rows):
        array[0, number] = tuple(row.get(name, np.zeros((0, 0))) for name in names)
    return array


# ---------------------------------------------------------------- COCO


def write_tiny_coco(folder: Path, photos: Sequence[Photo]) -> None:
    """Write photos as COCO hands out its own: images of 2017 and one json.

    Args:
        folder: is made, or replaced.
        photos: one person each. Three annotations of the first picture are odd: a crowd, a person without
            keypoints, and one with a single keypoint.
    """
    images, annotations = [], []
    for number, photo in enumerate(photos):
        height, width = photo.image.shape[:2]
        name = f"{number:012d}.jpg"
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations.append(_annotation(number, photo))
    first = annotations[0]
    crowd = {"id": 900, "iscrowd": 1}
    nothing = {"id": 901, "keypoints": [0] * 51, "num_keypoints": 0}
    single = {"id": 902, "keypoints": first["keypoints"][:3] + [0] * 48, "num_keypoints": 1}
    annotations += [first | crowd, first | nothing, first | single]
    names = []
    for name in COCO.names:
        names.append(name.lower().replace("l_", "left_").replace("r_", "right_"))
    category = {"id": 1, "name": "person", "keypoints": names}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    with atomic_path(folder) as temporary:
        (temporary / "annotations").mkdir(parents=True)
        (temporary / "train2017").mkdir()
        for image, photo in zip(images, photos):
            path = temporary / "train2017" / image["file_name"]
            Image.fromarray(photo.image).save(path, quality=JPEG_QUALITY)
        path = temporary / "annotations" / "person_keypoints_train2017.json"
        path.write_text(json.dumps(content), encoding="utf-8")


def _annotation(number, photo):
    """One person as COCO's json holds it; x, y, v of each joint in a row."""
    joints = photo.joints(COCO)
    inside = photo.inside(joints)
    behind = photo.joints_cam["Pelvis"][2] + HIDDEN_MM
    keypoints = []
    for j, name in enumerate(COCO.names):
        visibility = 1 if photo.joints_cam[name][2] > behind else 2
        keypoints += [*joints[j], visibility] if inside[j] else [0, 0, 0]
    low, high = joints[inside].min(axis=0), joints[inside].max(axis=0)
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": int(inside.sum()),
        "bbox": [*low, *(high - low)],
    }
