"""COCO person keypoints: the official json and images -> people to train on.

Taught in notebooks/03_prepare_mpii_and_coco.ipynb.
"""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from ..data.people import People, read_people
from ..files import InputError, writing
from ..geometry import COCO
from .people import check_choices, check_range, write_splits

# Where COCO's owners keep the files.
URL = "http://images.cocodataset.org"
# The name of each split in COCO's file names.
SPLITS = {"train": "train", "validation": "val"}


def prepare_coco(
    source: Path,
    target: Path,
    splits: tuple = tuple(SPLITS),
    year: int = 2017,
    min_keypoints: int = 1,
    min_box_px: float = 0.0,
    **store_choices,
) -> list[str]:
    """Write `annotations/train.json` and `validation.json` of COCO's people.

    Args:
        source, year: see `find_source`.
        target: folder of the prepared set.
        splits: which of SPLITS.
        min_keypoints, min_box_px: see `read_coco`.
        **store_choices: store_px, box_scale, workers; see `people.write_splits`.
    Returns, Raises:
        as `mpii.prepare_mpii`.
    """
    check_range("min_keypoints (--min-keypoints)", min_keypoints, 1, len(COCO))
    check_range("min_box_px (--min-box)", min_box_px, 0, 65535)
    check_choices(**store_choices)
    # All sources are found before any work begins.
    sources = {split: find_source(source, split, year) for split in splits}
    lines, failures = [], []
    for split, (path, folder) in sources.items():
        try:
            people, skipped, problems = read_coco(path, folder, min_keypoints, min_box_px)
            with writing(target):  # its stores are written by nobody else
                lines += write_splits(
                    target, {split: people}, folder.parent, skipped, problems, **store_choices
                )
        except InputError as error:
            failures.append(str(error))
    if failures:
        raise InputError("\n".join(failures))
    return lines


def find_source(source: Path, split: str, year: int = 2017) -> tuple[Path, Path]:
    """Find the annotation file and the images of one split of a download.

    Args:
        source: folder that holds `annotations/` and the images' folders, which may lie in
            `images/`.
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
        years = set()
        for other in path.parent.glob("person_keypoints_*.json"):
            years.update(re.findall(r"_(?:train|val)(\d{4})\.json", other.name))
        years.discard(str(year))
        archive = f"annotations_trainval{year}.zip"
        mend = f"extract {archive} in {source} ({URL}/annotations/{archive})"
        if years:
            mend = f"{path.parent} holds the year {' and '.join(sorted(years))}: name it by --year"
        raise InputError(f"{path} is missing; {mend}")
    folder = _image_folder(source, name)
    if folder is not None:
        return path, folder
    mend = f"extract {name}.zip there ({URL}/zips/{name}.zip)"
    for other, other_name in SPLITS.items():
        if _image_folder(source, f"{other_name}{year}") is not None:
            mend += f", or take the images that are there alone by --splits {other}"
    raise InputError(f"{source} holds neither {name} nor images/{name}; {mend}")


def _image_folder(source, name):
    """The folder `name` in `source` or in its `images`; None where there is neither."""
    for folder in (source / name, source / "images" / name):
        if folder.is_dir():
            return folder
    return None


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
        InputError: as `data.read_people`; the json speaks another joint set; the rules leave
            nobody.
    """
    folder = Path(folder)
    people, skipped, problems = read_people(path)
    if people.skeleton != COCO:
        raise InputError(
            f"{path} holds another joint set than COCO's 17; name a person_keypoints_*.json"
        )
    enough = (people.visibility > 0).sum(axis=1) >= min_keypoints
    large = people.bbox[:, 2:].max(axis=1) >= min_box_px
    skipped[f"fewer than {min_keypoints} keypoints"] = int((~enough).sum())
    skipped[f"box smaller than {min_box_px:g} px"] = int((enough & ~large).sum())
    skipped = +skipped  # without reasons that nobody met
    people = people.select(enough & large)

    shows_people = np.bincount(people.image, minlength=len(people.image_name)) > 0
    names = list(people.image_name)
    is_there = np.zeros(len(names), bool)
    for row in np.flatnonzero(shows_people):
        # Some converters put the folder before the name, others a folder below it.
        for name in (f"{folder.name}/{names[row]}", names[row]):
            # Not Path.is_file, which refuses names that are too long for the system.
            if not is_there[row] and os.path.isfile(folder.parent / name):
                is_there[row] = True
                people.image_name[row] = name
        if not is_there[row]:
            problems.append(f"{folder / names[row]} is missing")
    people = people.select_images(shows_people & is_there)
    if len(people) == 0:
        raise InputError(
            f"{path} and {folder} leave nobody: {dict(skipped)} skipped, {len(problems)} problems"
        )
    return people, skipped, problems
