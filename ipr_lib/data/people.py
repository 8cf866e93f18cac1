"""2D-only people: COCO-style json in and out. Taught in notebooks/03_prepare_mpii_and_coco.ipynb.

MPII's and COCO's people go through here alike; `prepare.mpii` and `prepare.coco` only differ in where people come from.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from ..files import InputError, atomic_path, read_json
from ..geometry.skeleton import SKELETONS, Skeleton

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
    """Annotated people as columns: n people in m images.

    Attributes:
        skeleton: their joint set.
        image_id: (m,) int64. image_name: m file names with forward slashes, below one folder.
        image_size: (m, 2) int64 width, height, px.
        person_id: (n,) int64. image: (n,) int64, row of each person's image.
        joints_img: (n, J, 2) float64 px, pixel p centred at p; 0 where unknown.
        visibility: (n, J) int64: 0 unknown, 1 annotated or hidden, 2 seen (COCO tells 1 and 2 apart, MPII writes 1).
        bbox: (n, 4) float64 x, y, width, height, px; may reach out of the image.
        head_box: (n, 4) float64 x1, y1, x2, y2, px; NaN where there is none.
        area: (n,) float64 px², of the person's segment, which COCO's scores refer to; NaN where the source has none.
    """

    skeleton: Skeleton
    image_id: np.ndarray
    image_name: list
    image_size: np.ndarray
    person_id: np.ndarray
    image: np.ndarray
    joints_img: np.ndarray
    visibility: np.ndarray
    bbox: np.ndarray
    head_box: np.ndarray
    area: np.ndarray

    def __len__(self):
        return len(self.person_id)

    def select(self, people: np.ndarray) -> "People":
        """The same images with some people only; `people` is a mask or indices."""
        names = ("person_id", "image", "joints_img", "visibility", "bbox", "head_box", "area")
        return replace(self, **{name: getattr(self, name)[people] for name in names})

    def select_images(self, listed: np.ndarray) -> "People":
        """Only the images where the mask `listed` (m,) holds, and the people in them."""
        some = self.select(listed[self.image])
        new_row = np.cumsum(listed) - 1
        return replace(
            some,
            image_id=self.image_id[listed],
            image_size=self.image_size[listed],
            image_name=[name for name, kept in zip(self.image_name, listed) if kept],
            image=new_row[some.image],
        )


def as_people(skeleton: Skeleton, images: list, persons: list) -> People:
    """Make `People` of rows.

    Args:
        skeleton: Skeleton.
        images: list of (id, name, width, height).
        persons: list of (id, row of the image, keypoints (3 J) x, y, v, bbox (4), head box (4) or None, area or NaN).
    Returns:
        People.
    """
    keypoints = np.array([person[2] for person in persons], np.float64)
    keypoints = keypoints.reshape(-1, len(skeleton), 3)
    visibility = keypoints[..., 2].astype(np.int64)
    head_boxes = []
    for person in persons:
        head_boxes.append([np.nan] * 4 if person[4] is None else person[4])
    return People(
        skeleton=skeleton,
        image_id=np.array([image[0] for image in images], np.int64),
        image_name=[image[1] for image in images],
        image_size=np.array([image[2:] for image in images], np.int64).reshape(-1, 2),
        person_id=np.array([person[0] for person in persons], np.int64),
        image=np.array([person[1] for person in persons], np.int64),
        joints_img=np.where(visibility[..., None] > 0, keypoints[..., :2], 0.0),
        visibility=visibility,
        bbox=np.array([person[3] for person in persons], np.float64).reshape(-1, 4),
        head_box=np.array(head_boxes, np.float64).reshape(-1, 4),
        area=np.array([person[5] for person in persons], np.float64),
    )


# ---------------------------------------------------------------- json


def read_people(path: Path | str) -> tuple[People, Counter, list[str]]:
    """Read people from a COCO-style json: the official keypoint files, ours, or those of published converters.

    Crowd boxes and people without a single keypoint are skipped.

    Args:
        path: the json. Its category's keypoint names say which joint set of `skeleton.SKELETONS` it speaks.
    Returns:
        people: People.
        skipped: Counter of reason -> people left out as data sets mean them to be.
        problems: list of lines, one for each image or annotation left out because it is damaged.
    Raises:
        InputError: the file is missing, is not COCO-style json, speaks an unknown joint set, or holds nobody.
    """
    path = Path(path)
    coco = read_json(path, mend="get the annotation file of the data set again")
    for name in ("images", "annotations", "categories"):
        if not isinstance(coco, dict) or not isinstance(coco.get(name), list):
            raise InputError(
                f"{path} has no list called {name}, so it is not COCO-style json; get the file again"
            )
    category, skeleton = _find_category(path, coco["categories"])
    problems, skipped = [], Counter()

    images, rows = [], {}
    for record in coco["images"]:
        try:
            image = checked_image(record)
            if image[0] in rows:
                raise InputError("its id is used twice")
        except InputError as error:
            problems.append(f"{path}: picture {_label(record)} is left out: {error}")
            continue
        rows[image[0]] = len(images)
        images.append(image)

    persons, used = [], set()
    for record in coco["annotations"]:
        try:
            if not isinstance(record, dict):
                raise InputError("it is not an object")
            if record.get("category_id") != category:
                skipped["other category"] += 1
                continue
            if record.get("iscrowd") == 1:
                skipped["crowd"] += 1
                continue
            person = _checked_person(record, used, rows, images, len(skeleton))
        except InputError as error:
            problems.append(f"{path}: annotation {_label(record)} is left out: {error}")
            continue
        if person is None:
            skipped["no keypoints"] += 1
        else:
            persons.append(person)

    if not persons:
        found = f"{len(coco['annotations'])} annotations, {len(problems)} problems"
        if problems:
            found += f"; the first: {problems[0].removeprefix(f'{path}: ')}"
        raise InputError(f"{path} holds no usable person ({found})")
    return as_people(skeleton, images, persons), skipped, problems


def write_people(path: Path | str, people: People) -> None:
    """Write people as COCO-style json, atomically; `read_people` and pycocotools read it.

    Args:
        path: the file.
        people: People. Images without people stay in the list. `area` is that of the box where people.area has none,
            and `info` says for how many; `head_box` (x1, y1, x2, y2) is written where there is one.
    """
    skeleton = people.skeleton
    sizes = people.image_size.tolist()
    images = [
        {"id": i, "file_name": name, "width": width, "height": height}
        for i, name, (width, height) in zip(people.image_id.tolist(), people.image_name, sizes)
    ]
    keypoints = np.concatenate([people.joints_img, people.visibility[..., None]], axis=-1).reshape(
        len(people), -1
    )
    box_area = people.bbox[:, 2] * people.bbox[:, 3]
    area = np.where(np.isfinite(people.area), people.area, box_area)
    annotations = []
    for i in range(len(people)):
        annotation = {
            "id": int(people.person_id[i]),
            "image_id": int(people.image_id[people.image[i]]),
            "category_id": 1,
            "area": float(area[i]),
            "bbox": people.bbox[i].tolist(),
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
        "skeleton": (skeleton.limbs + 1).tolist(),  # COCO counts keypoints from 1
    }
    info = {"area": area_source(people)}
    content = {"info": info, "images": images, "annotations": annotations, "categories": [category]}
    text = json.dumps(content, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def area_source(people: People) -> str:
    """Say whose area the json states for each person: OKS, COCO's score, divides by it."""
    of_segment = int(np.isfinite(people.area).sum())
    return f"area of the segment for {of_segment} people, of the box for {len(people) - of_segment}"


def _find_category(path, categories):
    """Id of the category with keypoints, and the Skeleton that its names spell."""
    for category in categories:
        names = category.get("keypoints") if isinstance(category, dict) else None
        if isinstance(names, list):
            spelled = " ".join(map(str, names)).lower()
            for alias, ours in _ALIASES.items():
                spelled = spelled.replace(alias, ours)
            for skeleton in SKELETONS.values():
                if spelled == " ".join(skeleton.names).lower():
                    return category.get("id"), skeleton
            raise InputError(
                f"{path}: the keypoints {spelled} are no joint set of {', '.join(SKELETONS)}"
            )
    raise InputError(f"{path}: no category lists its keypoints; expected a person keypoints file")


# ---------------------------------------------------------------- is an annotation what it should be?


def checked_image(record: dict) -> tuple[int, str, int, int]:
    """(id, name, width, height) of one entry of a json's `images`; InputError says what is wrong with it."""
    if not isinstance(record, dict) or not _is_whole_number(record.get("id")):
        raise InputError("it has no whole number as id")
    name, width, height = record.get("file_name"), record.get("width"), record.get("height")
    if not isinstance(name, str) or not name or "\0" in name:
        raise InputError("it has no file_name")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise InputError(f"file_name {name!r} cannot be the name of a file") from error
    path = PurePosixPath(name)
    if path.is_absolute() or Path(name).drive or ".." in path.parts or "\\" in name:
        raise InputError(f"file_name {name!r} leads out of the picture folder")
    for side in (width, height):
        if not _is_whole_number(side) or not 0 < side < 1 << 16:
            raise InputError(f"width and height are {width!r} and {height!r}")
    return record["id"], name, width, height


def _checked_person(record, used, rows, images, n_joints):
    """Check one entry of a json's `annotations`, a dict; InputError says what is wrong with it.

    Args:
        record: the entry. used: ids of earlier ones, to which its own is added. rows: row of each image, by its id.
        images: list of (id, name, width, height). n_joints: of its joint set.
    Returns:
        person row, see `as_people`; None for a person without keypoints.
    """
    if record.get("iscrowd", 0) != 0:
        raise InputError(f"iscrowd is {record['iscrowd']!r}, expected 0 or 1")
    if not _is_whole_number(record.get("id")) or record["id"] in used:
        raise InputError("its id is missing or used twice")
    image_id = record.get("image_id")
    if not _is_whole_number(image_id) or image_id not in rows:
        raise InputError(f"image_id {image_id!r} is none of the pictures")
    used.add(record["id"])
    row = rows[image_id]

    keypoints = _numbers(record, "keypoints", 3 * n_joints)
    joints, v = np.split(keypoints.reshape(-1, 3), [2], axis=1)
    if not np.isin(v, (0, 1, 2)).all():
        raise InputError("a visibility is not 0, 1 or 2")
    known = int((v > 0).sum())
    stated = record.get("num_keypoints", known)
    if stated != known:
        raise InputError(f"num_keypoints is {stated!r}, but {known} are annotated")
    if known == 0:
        return None
    bbox = _numbers(record, "bbox", 4)
    check_place(joints[v[:, 0] > 0], bbox, np.array(images[row][2:]))
    head = None if record.get("head_box") is None else _numbers(record, "head_box", 4)
    area = record.get("area")
    if type(area) not in (int, float) or not 0 < area < 1e9:
        area = np.nan
    return record["id"], row, keypoints, bbox, head, area


def check_place(joints_img: np.ndarray, bbox: np.ndarray, size: np.ndarray):
    """InputError where a person's place in the image cannot be right.

    Args:
        joints_img: (k, 2) annotated joints, px. bbox: x, y, width, height, px. size: (2,) width, height, px.
    """
    x, y, width, height = bbox
    picture = f"its {size[0]} x {size[1]} px picture"
    if width <= 0 or height <= 0:
        raise InputError(f"the box is empty ({width:g} x {height:g} px)")
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        raise InputError(
            f"the box (x {x:g}, y {y:g}, {width:g} x {height:g} px) lies outside {picture}"
        )
    if width > 3 * size[0] or height > 3 * size[1]:
        raise InputError(f"the box ({width:g} x {height:g} px) is far larger than {picture}")
    # Joints just outside are guesses that annotators do make; further out they are damage.
    if (joints_img < -size).any() or (joints_img > 2 * size).any():
        raise InputError(f"a joint lies far outside {picture}")


def _numbers(record, name, count):
    """A field that holds a list of `count` finite numbers, as a float64 array; InputError if it does not."""
    numbers = record.get(name)
    fits = isinstance(numbers, list) and len(numbers) == count
    for number in numbers if fits else ():
        fits = fits and type(number) in (int, float) and abs(number) < 1e9
    if not fits:
        raise InputError(f"expected {count} finite numbers as {name}")
    return np.array(numbers, np.float64)


def _is_whole_number(value):
    """Whether a json's value is a whole number, one that an int64 holds."""
    return type(value) is int and abs(value) < 1 << 62


def _label(record):
    """What to call an entry in a message: its id, as far as it has one."""
    return repr(record.get("id", "?"))[:40] if isinstance(record, dict) else "?"
