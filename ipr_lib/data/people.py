"""2D-only people: COCO-style json in and out. Taught in notebooks/03_prepare_mpii_and_coco.ipynb.

MPII's and COCO's people go through here alike; `prepare.mpii` and `prepare.coco` only differ in where people come from.
"""

import contextlib
import io
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..files import InputError, atomic_path
from ..geometry.skeleton import SKELETONS, Skeleton
from .annotation_checks import checked_person, checked_picture, hashable, label, whole_number

# Other spellings of joint names in the json of data-set owners and of published converters (one of them misspells).
_ALIASES = {
    "left_": "l_",
    "right_": "r_",
    "upper_neck": "neck",
    "head_top": "head",
    "throax": "thorax",
}


@dataclass(frozen=True)
class People:
    """Annotated people as columns: n people in m pictures.

    Attributes:
        skeleton: their joint set.
        picture_id: (m,) int64. picture_name: m file names with forward slashes, below one folder.
        picture_size: (m, 2) int64 width, height, px.
        person_id: (n,) int64. picture: (n,) int64, row of each person's picture.
        joints_img: (n, J, 2) float64 px, pixel p centred at p; 0 where unknown.
        visibility: (n, J) int64: 0 unknown, 1 annotated or hidden, 2 seen (COCO tells 1 and 2 apart, MPII writes 1).
        bbox: (n, 4) float64 x, y, width, height, px; may reach out of the picture.
        head_box: (n, 4) float64 x1, y1, x2, y2, px; NaN where there is none.
    """

    skeleton: Skeleton
    picture_id: np.ndarray
    picture_name: list
    picture_size: np.ndarray
    person_id: np.ndarray
    picture: np.ndarray
    joints_img: np.ndarray
    visibility: np.ndarray
    bbox: np.ndarray
    head_box: np.ndarray

    def __len__(self):
        return len(self.person_id)

    def select(self, people):
        """The same pictures with some people only; `people` is a mask or indices."""
        names = ("person_id", "picture", "joints_img", "visibility", "bbox", "head_box")
        return replace(self, **{name: getattr(self, name)[people] for name in names})

    def of_pictures(self, listed):
        """Only the pictures where the mask `listed` (m,) holds, and the people in them."""
        part = self.select(listed[self.picture])
        return replace(
            part,
            picture_id=self.picture_id[listed],
            picture_size=self.picture_size[listed],
            picture_name=[name for name, kept in zip(self.picture_name, listed) if kept],
            picture=(np.cumsum(listed) - 1)[part.picture],
        )


def as_people(skeleton, pictures, persons):
    """Make `People` of rows.

    Args:
        skeleton: Skeleton.
        pictures: list of (id, name, width, height).
        persons: list of (id, row of the picture, keypoints (3 J) x, y, v, bbox (4), head box (4) or None).
    Returns:
        People.
    """
    ids, names, widths, heights = zip(*pictures) if pictures else ((), (), (), ())
    person_id, picture, keypoints, bbox, head = zip(*persons) if persons else ((), (), (), (), ())
    keypoints = np.array(keypoints, np.float64).reshape(-1, len(skeleton), 3)
    visibility = keypoints[..., 2].astype(np.int64)
    no_head = (np.nan,) * 4
    return People(
        skeleton=skeleton,
        picture_id=np.array(ids, np.int64),
        picture_name=list(names),
        picture_size=np.array([widths, heights], np.int64).reshape(2, -1).T,
        person_id=np.array(person_id, np.int64),
        picture=np.array(picture, np.int64),
        joints_img=np.where(visibility[..., None] > 0, keypoints[..., :2], 0.0),
        visibility=visibility,
        bbox=np.array(bbox, np.float64).reshape(-1, 4),
        head_box=np.array([no_head if box is None else box for box in head], np.float64).reshape(
            -1, 4
        ),
    )


# ---------------------------------------------------------------- json


def read_people(path):
    """Read people from a COCO-style json: the official keypoint files, ours, or those of published converters.

    Crowd boxes and people without a single keypoint are skipped.

    Args:
        path: the json. Its category's keypoint names say which joint set of `skeleton.SKELETONS` it speaks.
    Returns:
        people: People.
        skipped: Counter of reason -> people left out as data sets mean them to be.
        problems: list of lines, one for each picture or annotation left out because it is damaged.
    Raises:
        InputError: the file is missing, is not COCO-style json, speaks an unknown joint set, or holds nobody.
    """
    path = Path(path)
    coco = _load_coco(path)
    category, skeleton = _find_category(path, coco)
    problems, skipped = [], Counter()
    pictures, rows = [], {}
    for record in coco.dataset["images"]:
        picture, reason = checked_picture(record)
        if reason is None and picture[0] in rows:
            reason = "its id is used twice"
        if reason:
            problems.append(f"{path}: picture {label(record)} is left out: {reason}")
        else:
            rows[picture[0]] = len(pictures)
            pictures.append(picture)
    persons, used = [], set()
    for record in coco.dataset["annotations"]:
        reason = None
        if not isinstance(record, dict):
            reason = "it is not an object"
        elif record.get("category_id") != category:
            skipped["other category"] += 1
            continue
        elif record.get("iscrowd", 0) not in (0, 1):
            reason = f"iscrowd is {record['iscrowd']!r}, expected 0 or 1"
        elif record.get("iscrowd", 0) == 1:
            skipped["crowd"] += 1
            continue
        elif not whole_number(record.get("id")) or record["id"] in used:
            reason = "its id is missing or used twice"
        elif not hashable(record.get("image_id")) or record.get("image_id") not in rows:
            reason = f"image_id {record.get('image_id')!r} is none of the pictures"
        if reason is None:
            used.add(record["id"])
            row = rows[record["image_id"]]
            person, reason = checked_person(record, row, pictures[row], len(skeleton))
        if reason:
            problems.append(f"{path}: annotation {label(record)} is left out: {reason}")
        elif person is None:
            skipped["no keypoints"] += 1
        else:
            persons.append(person)
    if not persons:
        raise InputError(
            f"{path} holds no usable person ({len(coco.dataset['annotations'])} annotations, {len(problems)} problems"
            + (f"; the first: {problems[0].removeprefix(f'{path}: ')})" if problems else ")")
        )
    return as_people(skeleton, pictures, persons), skipped, problems


def write_people(path, people):
    """Write people as COCO-style json, atomically; `read_people` and pycocotools read it.

    Args:
        path: the file.
        people: People. Pictures without people stay in the list. `area` is that of the box; `head_box` (x1, y1, x2, y2)
            is written where there is one.
    """
    skeleton = people.skeleton
    sizes = people.picture_size.tolist()
    images = [
        {"id": i, "file_name": name, "width": width, "height": height}
        for i, name, (width, height) in zip(people.picture_id.tolist(), people.picture_name, sizes)
    ]
    keypoints = np.concatenate([people.joints_img, people.visibility[..., None]], axis=-1).reshape(
        len(people), -1
    )
    annotations = []
    for i in range(len(people)):
        bbox = people.bbox[i].tolist()
        annotation = {
            "id": int(people.person_id[i]),
            "image_id": int(people.picture_id[people.picture[i]]),
            "category_id": 1,
            "area": bbox[2] * bbox[3],
            "bbox": bbox,
            "iscrowd": 0,
            "keypoints": keypoints[i].tolist(),
            "num_keypoints": int((people.visibility[i] > 0).sum()),
        }
        if np.isfinite(people.head_box[i]).all():
            annotation["head_box"] = people.head_box[i].tolist()
        annotations.append(annotation)
    category = {
        "supercategory": "person",
        "id": 1,
        "name": "person",
        "keypoints": [name.lower() for name in skeleton.names],
        "skeleton": skeleton.limbs.tolist(),
    }
    content = {"images": images, "annotations": annotations, "categories": [category]}
    text = json.dumps(content, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _load_coco(path):
    """The json through pycocotools, its structure checked down to the lists."""
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise InputError(
            "pycocotools is not installed; run: pip install 'ipr_lib[prepare]'"
        ) from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            coco = COCO(str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; name the annotation file of the data set") from error
    except Exception as error:  # whatever indexing stumbles over, it is not a json of this form
        raise InputError(
            f"{path} is not COCO-style json ({type(error).__name__}: {error}); get the file again"
        ) from error
    for name in ("images", "annotations", "categories"):
        if not isinstance(coco.dataset.get(name), list):
            raise InputError(
                f"{path} has no list called {name}, so it is not COCO-style json; get the file again"
            )
    return coco


def _find_category(path, coco):
    """Id of the category with keypoints, and the Skeleton that its names spell."""
    for category in coco.dataset["categories"]:
        names = category.get("keypoints") if isinstance(category, dict) else None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            spelled = []
            for name in names:
                name = name.lower()
                for alias, ours in _ALIASES.items():
                    name = name.replace(alias, ours)
                spelled.append(name)
            for skeleton in SKELETONS.values():
                if spelled == [name.lower() for name in skeleton.names]:
                    return category.get("id"), skeleton
            raise InputError(
                f"{path}: the keypoints {', '.join(names)} are no joint set of {', '.join(SKELETONS)}"
            )
    raise InputError(f"{path}: no category lists its keypoints; expected a person keypoints file")
