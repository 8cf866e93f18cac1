"""COCO person keypoints: the official json and images -> people to train on.

Taught in notebooks/03_prepare_mpii_and_coco.ipynb.
"""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.people import People, read_people
from ..files import InputError
from ..geometry import COCO

# The name of each split in COCO's file names.
SPLITS = {"train": "train", "validation": "val"}


def find_source(source: Path, split: str, year: int = 2017) -> tuple[Path, Path]:
    """Find the annotation file and the images of one split of a download.

    Args:
        source: folder that holds `annotations/` and the images' folders, which may lie in `images/`.
        split: one of SPLITS.
        year: of the release, 2014 or 2017.
    Returns:
        Path of the json, Path of the folder with the images (e.g. `train2017`).
    Raises:
        InputError: the json or the folder is missing.
    """
    source, name = Path(source), f"{SPLITS[split]}{year}"
    path = source / "annotations" / f"person_keypoints_{name}.json"
    if not path.is_file():
        raise InputError(f"{path} is missing; extract annotations_trainval{year}.zip in {source}")
    for folder in (source / name, source / "images" / name):
        if folder.is_dir():
            return path, folder
    raise InputError(f"{source} holds neither {name} nor images/{name}; extract {name}.zip there")


def read_coco(
    path: Path, folder: Path, min_keypoints: int = 1, min_box_px: float = 0.0
) -> tuple[People, Counter, list[str]]:
    """Read the people of one split who are worth training on.

    Crowd boxes and people without keypoints are always skipped.

    Args:
        path: `person_keypoints_*.json`.
        folder: the images; they are only checked to be there.
        min_keypoints: people with fewer annotated joints are skipped.
        min_box_px: people whose box has a longer side below this are skipped.
    Returns:
        people: without images that show nobody; file names start with the name of `folder`.
        skipped: reason -> number of people left out by the rules.
        problems: lines, one for each image or annotation left out because it is missing or damaged.
    Raises:
        InputError: as `data.read_people`; the json speaks another joint set; the rules leave nobody.
    """
    folder = Path(folder)
    people, skipped, problems = read_people(path)
    if people.skeleton != COCO:
        raise InputError(
            f"{path} holds another joint set than COCO's 17; name a person_keypoints_*.json"
        )
    try:
        present = set(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error

    enough = (people.visibility > 0).sum(axis=1) >= min_keypoints
    large = people.bbox[:, 2:].max(axis=1) >= min_box_px
    skipped[f"fewer than {min_keypoints} keypoints"] = int((~enough).sum())
    skipped[f"box smaller than {min_box_px:g} px"] = int((enough & ~large).sum())
    skipped = +skipped  # without reasons that nobody met
    people = people.select(enough & large)

    shows_people = np.bincount(people.image, minlength=len(people.image_name)) > 0
    is_there = np.array([name in present for name in people.image_name], bool)
    missing = np.flatnonzero(shows_people & ~is_there)
    for row in missing:
        problems.append(f"{folder / people.image_name[row]} is missing")
    people = people.select_images(shows_people & is_there)
    if len(people) == 0:
        raise InputError(
            f"{path} and {folder} leave nobody: {dict(skipped)} skipped, {len(missing)} images missing"
        )
    names = [f"{folder.name}/{name}" for name in people.image_name]
    return replace(people, image_name=names), skipped, problems
