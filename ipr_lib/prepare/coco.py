"""COCO person keypoints: the official json and pictures -> people to train on. Taught in notebooks/03_prepare_mpii_and_coco.ipynb."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.people import read_people
from ..files import InputError
from ..geometry.skeleton import COCO

# The name of each part in COCO's file names.
PARTS = {"train": "train", "validation": "val"}


def find_source(source, part, year=2017):
    """Annotation file and pictures of one part of a download.

    Args:
        source: folder that holds `annotations/` and the pictures' folders, which may lie in `images/`.
        part: one of PARTS. year: of the release, 2014 or 2017.
    Returns:
        Path of the json, Path of the folder with the pictures (e.g. `train2017`).
    Raises:
        InputError: the json or the folder is missing.
    """
    source, name = Path(source), f"{PARTS[part]}{year}"
    path = source / "annotations" / f"person_keypoints_{name}.json"
    if not path.is_file():
        raise InputError(f"{path} is missing; extract annotations_trainval{year}.zip in {source}")
    for folder in (source / name, source / "images" / name):
        if folder.is_dir():
            return path, folder
    raise InputError(f"{source} holds neither {name} nor images/{name}; extract {name}.zip there")


def read_coco(path, folder, min_keypoints=1, min_box_px=0.0):
    """Read the people of one part who are worth training on.

    Crowd boxes and people without keypoints are always skipped.

    Args:
        path: `person_keypoints_*.json`.
        folder: the pictures; they are only checked to be there.
        min_keypoints: people with fewer annotated joints are skipped.
        min_box_px: people whose box has a longer side below this are skipped.
    Returns:
        people: People; pictures without people are not listed, file names start with the name of `folder`.
        skipped: Counter of reason -> people left out by the rules.
        problems: list of lines, one for each picture or annotation left out because it is missing or damaged.
    Raises:
        InputError: as `annotations.read_people`; the json speaks another joint set; the filters leave nobody.
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
    enough = (people.visibility > 0).sum(1) >= min_keypoints
    large = people.bbox[:, 2:].max(1) >= min_box_px
    skipped[f"fewer than {min_keypoints} keypoints"] += int((~enough).sum())
    skipped[f"box smaller than {min_box_px:g} px"] += int((enough & ~large).sum())
    people = people.select(enough & large)
    wanted = np.bincount(people.image, minlength=len(people.image_name)) > 0
    there = np.array([name in present for name in people.image_name], bool)
    problems += [
        f"{folder / people.image_name[row]} is missing" for row in np.flatnonzero(wanted & ~there)
    ]
    people = people.select_images(wanted & there)
    if not len(people):
        raise InputError(
            f"{path} and {folder} leave nobody: {dict(+skipped)} skipped, {int((wanted & ~there).sum())} pictures missing"
        )
    return (
        replace(people, image_name=[f"{folder.name}/{name}" for name in people.image_name]),
        +skipped,
        problems,
    )
