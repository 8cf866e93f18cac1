"""What preparing MPII and COCO ends with: json, crop stores, a summary and the list of what is damaged."""

import hashlib
from pathlib import Path

from ..data.people import write_people
from ..data.store import find_store, open_store
from ..files import InputError
from . import coco, mpii
from .people_store import BOX_SCALE, build_people_store


def prepare_mpii(source, target, validation_list=None, published=False, **stores):
    """Write `annotations/train.json` (and `validation.json`) of MPII.

    Args:
        source: see `mpii.find_source`. target: folder of the prepared set.
        validation_list: see `mpii.read_list`; None puts everybody into train.
        published: see `mpii.read_mpii`.
        **stores: see `write_parts`.
    Returns:
        summary, lines.
    Raises:
        InputError: nothing could be written, or, once all else is done, the list of what was left out as damaged.
    """
    names = None if validation_list is None else mpii.read_list(validation_list)
    path, pictures = mpii.find_source(source)
    people, skipped, problems = mpii.read_mpii(path, pictures, published)
    parts = dict(
        zip(("train", "validation"), mpii.split_people(people, names) if names else (people,))
    )
    return write_parts(target, parts, pictures, skipped, problems, **stores)


def prepare_coco(
    source, target, parts=tuple(coco.PARTS), year=2017, min_keypoints=1, min_box_px=0.0, **stores
):
    """Write `annotations/train.json` and `validation.json` of COCO's people.

    Args:
        source, year: see `coco.find_source`. target: folder of the prepared set.
        parts: which of `coco.PARTS`.
        min_keypoints, min_box_px: see `coco.read_coco`.
        **stores: see `write_parts`.
    Returns, Raises:
        as `prepare_mpii`.
    """
    sources = {
        part: coco.find_source(source, part, year) for part in parts
    }  # all of them before any work
    lines, failures = [], []
    for part, (path, folder) in sources.items():
        try:
            people, skipped, problems = coco.read_coco(path, folder, min_keypoints, min_box_px)
            lines += write_parts(target, {part: people}, folder.parent, skipped, problems, **stores)
        except InputError as error:
            failures.append(str(error))
    if failures:
        raise InputError("\n".join(failures))
    return lines


def write_parts(
    target,
    parts,
    pictures,
    skipped,
    problems,
    store_px=None,
    store_dir=None,
    box_scale=BOX_SCALE,
    workers=1,
):
    """Write each part's json and, on request, its crop store.

    A file that is there already is only replaced when nothing was damaged. A store that fits is kept as it is.

    Args:
        target: folder of the prepared set; its name goes into the stores' names.
        parts: People by part.
        pictures: folder that picture names are relative to.
        skipped: Counter of people left out by the rules. problems: lines about what is damaged.
        store_px: side of the crops that training will cut; None builds no store.
        store_dir: folder for the stores `<set>-<part>-<store_px>`; by default `stores` beside `target`.
        box_scale: see `people_store.square_boxes`.
        workers: number of processes.
    Returns:
        summary, lines.
    Raises:
        InputError: something was damaged or could not be written; all else is done by then.
    """
    target, problems, lines = Path(target), list(problems), []
    labels_damaged = bool(problems)
    for part, people in parts.items():
        path = target / "annotations" / f"{part}.json"
        if labels_damaged and path.exists():
            problems.append(
                f"{path} is kept as it was; mend what is listed, or delete it to write it without"
            )
            continue
        write_people(path, people)
        lines.append(f"{path}: {len(people)} people in {len(people.image_name)} pictures")
        if store_px is None:
            continue
        origin = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        store_dir = Path(store_dir or target.parent / "stores")
        store_path = store_dir / f"{target.name}-{part}-{store_px}"
        wanted = {"crop_px": store_px, "box_scale": box_scale, "origin": origin}
        try:
            if not _fits(store_path, wanted):
                _, damaged = build_people_store(
                    people,
                    pictures,
                    store_path,
                    crop_px=store_px,
                    box_scale=box_scale,
                    workers=workers,
                    origin=origin,
                )
                problems += damaged
            lines.append(f"{store_path}: {len(open_store(store_path))} crops")
        except InputError as error:
            problems.append(str(error))
    lines += [f"skipped, {reason}: {count} people" for reason, count in skipped.items() if count]
    if problems:
        raise InputError("\n".join([*lines, f"{len(problems)} problems:", *problems]))
    return lines


def _fits(path, wanted):
    """Whether a complete store of this recipe lies there."""
    store = find_store(path)
    return store is not None and wanted.items() <= store.recipe.items()
