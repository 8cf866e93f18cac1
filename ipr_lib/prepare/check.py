"""Is a prepared set complete and plausible? One table, and a list of what is wrong.

Taught in notebooks/02_prepare_human36m.ipynb.
"""

import os
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from ..data.h36m_layout import (
    ACTION_NUMBERS,
    CAMERAS,
    CAPTURE_NAME,
    CHOICES_NAME,
    DAMAGED_SEQUENCES,
    SKIPPED_FOLDERS,
    SUBACTIONS,
    action_name,
    folder_name,
    image_frames,
    image_name,
    list_folders,
    parse_folder_name,
    read_camera_view,
)
from ..data.images import image_size
from ..files import InputError, read_json
from ..geometry import HUMAN36M, SCORED_JOINTS, add_thorax, bone_lengths
from ..parallel import parallel_map
from ..progress import progress
from .raw import Metadata

# Bones of one subject may differ by this much between poses, and between left and right.
BONE_MM = 1.0
# Share of a camera view's joints that may lie outside of its images; a wrong camera throws all out.
OUTSIDE = 0.1


@dataclass(frozen=True)
class ViewSummary:
    """What the check keeps of one camera view, that is of one folder.

    Attributes:
        name: of the folder.
        subject, action, subaction, camera_id: Human3.6M's numbers.
        n_poses: number of poses.
        frames: 0-based numbers of the images that are there, ascending.
        size: (width, height) of the images, px.
        lens: whether the camera has the coefficients of a lens.
        bones: (2, 16) shortest and longest length of each bone over all poses, mm; bone i ends at
            joint i + 1.
        outside: share of joints that lie outside of their image.
    """

    name: str
    subject: int
    action: int
    subaction: int
    camera_id: int
    n_poses: int
    frames: list
    size: tuple
    lens: bool
    bones: np.ndarray
    outside: float


def check_set(
    root: Path, metadata: Metadata | None = None, workers: int = 1
) -> tuple[str, list[str]]:
    """Inspect every folder of a prepared set.

    Args:
        root: folder of the set.
        metadata: to compare sequences and numbers of poses with; None compares the set with itself.
        workers: number of processes.
    Returns:
        report: a table as text.
        problems: lines, none where the set is usable.
    Raises:
        InputError: there is no such set.
    """
    root = Path(root)
    folders = list_folders(root)
    results = parallel_map(inspect_folder, folders, workers)
    results = progress(results, total=len(folders), desc="check", unit="folder")
    by_subject = {}
    problems = []
    for folder, result in zip(folders, results):
        if isinstance(result, ViewSummary):
            by_subject.setdefault(result.subject, []).append(result)
        else:
            problems.append(f"{folder.name}: {result}")
    header = ["folders", "poses", "step", "images", "size", "lens"]
    rows = [["", *header, "bones vary", "left-right", "outside"]]
    counts = []  # subject, action, camera and number of images in use of each camera view
    for subject, views in by_subject.items():
        # The step of most camera views: a short one agrees with several steps.
        step = Counter(map(_smallest_step, views)).most_common(1)[0][0]
        vary, uneven, bone_problems = _check_bones(subject, views)
        problems += bone_problems
        n_poses = n_images = 0
        for view in views:
            problems += _view_problems(view, step, metadata)
            n = len(range(0, view.n_poses, step))
            counts.append((subject, view.action, view.camera_id, n))
            n_poses += view.n_poses
            n_images += n
        sizes = {f"{view.size[0]}x{view.size[1]}" for view in views}
        lenses = {"full" if view.lens else "pinhole" for view in views}
        outside = np.mean([view.outside for view in views])
        row = [f"S{subject}", len(views), n_poses, step, n_images]
        row += [" ".join(sorted(sizes)), "/".join(sorted(lenses))]
        rows.append([*row, f"{vary:.2f} mm", f"{uneven:.2f} mm", f"{outside:.2%}"])
    views = sum(by_subject.values(), [])
    there = {folder.name for folder in folders}
    missing = _expected_folders(root, views, metadata) - there - set(SKIPPED_FOLDERS)
    problems += _missing_lines(missing, metadata)
    lines = [*_aligned(rows), "", *_aligned(_image_table(counts)), ""]
    if not (root / CAPTURE_NAME).exists():  # in the real set only
        lines += _known_faults(views, metadata)
    return "\n".join(lines), problems


def inspect_folder(folder: Path) -> ViewSummary | str:
    """Inspect one folder of a prepared set; runs in a worker.

    Returns:
        ViewSummary, or what is wrong with the folder.
    """
    try:
        view = read_camera_view(folder)
        camera, n_poses = view.camera, len(view.joints_world)
        frames = image_frames(folder, n_poses)
        if not frames:
            raise InputError("there are no images; prepare this set again")
        for frame in frames:
            _check_image(view.image_path(frame), camera)
        joints_img = camera.camera_to_image(camera.world_to_camera(view.joints_world[frames]))
        size = (camera.width, camera.height)
        outside = ((joints_img < -0.5) | (joints_img > np.array(size) - 0.5)).any(axis=-1).mean()
        if outside > OUTSIDE:
            raise InputError(
                f"{outside:.0%} of the joints lie outside of the images; is it the right camera?"
            )
    except (InputError, OSError) as error:
        return str(error).removeprefix(f"{folder}/")
    bones = bone_lengths(add_thorax(view.joints_world), HUMAN36M)[:, : SCORED_JOINTS - 1]
    return ViewSummary(
        folder.name,
        *parse_folder_name(folder.name),
        n_poses,
        frames,
        size,
        lens=camera.k is not None,
        bones=np.array([bones.min(axis=0), bones.max(axis=0)]),
        outside=outside,
    )


def _check_image(path, camera):
    width, height = image_size(path)
    if (width, height) != (camera.width, camera.height):
        raise InputError(
            f"{path.name} is of {width} x {height} px, its label says {camera.width} x {camera.height}"
        )
    with open(path, "rb") as file:
        file.seek(-2, os.SEEK_END)
        if file.read() != b"\xff\xd9":  # the end marker of a JPEG
            raise InputError(f"{path.name} is truncated")


# ---------------------------------------------------------------- problems


def _smallest_step(view):
    """The smallest step whose images are all there."""
    frames = set(view.frames)
    for step in view.frames[1:]:
        if frames.issuperset(range(0, view.n_poses, step)):
            return step
    return view.n_poses


def _view_problems(view, step, metadata):
    """Lines on images that a camera view lacks, and on a wrong number of poses."""
    lines = []
    lost = sorted(set(range(0, view.n_poses, step)) - set(view.frames))
    if lost:
        first = image_name(view.name, lost[0])
        lines.append(
            f"{view.name}: {len(lost)} images of step {step} are missing, the first is {first}"
        )
    if metadata is not None:
        expected = metadata.counts.get((view.subject, view.action, view.subaction), view.n_poses)
        if view.n_poses != expected:
            lines.append(f"{view.name}: {view.n_poses} poses, {metadata.path} implies {expected}")
    return lines


def _check_bones(subject, views):
    """Whether bones of a subject stretch, and whether left and right differ.

    Returns:
        how much a bone varies, and how much left and right differ, at most, mm; lines on what is
        too much.
    """
    bones = np.array([view.bones for view in views])  # (views, 2, 16)
    shortest, longest = bones[:, 0].min(axis=0), bones[:, 1].max(axis=0)
    lines = []
    worst = int(np.argmax(longest - shortest))
    vary = longest[worst] - shortest[worst]
    if vary > BONE_MM:
        away = np.abs(bones[..., worst] - np.median(bones[..., worst])).max(axis=1)
        lines.append(
            f"S{subject}: the bone above {HUMAN36M.names[worst + 1]} is {shortest[worst]:.1f} to "
            f"{longest[worst]:.1f} mm long, expected one length; see {views[np.argmax(away)].name}"
        )
    uneven = 0.0
    for right, left in HUMAN36M.flip_pairs:
        right_mm, left_mm = longest[right - 1], longest[left - 1]
        uneven = max(uneven, abs(right_mm - left_mm))
        if abs(right_mm - left_mm) > BONE_MM:
            lines.append(
                f"S{subject}: the bone above {HUMAN36M.names[right]} is {right_mm:.1f} mm long, above "
                f"{HUMAN36M.names[left]} {left_mm:.1f} mm; left and right should be alike"
            )
    return vary, uneven, lines


def _expected_folders(root, views, metadata):
    """Names of the folders that should be there."""
    manifest = root / CAPTURE_NAME
    capture = read_json(manifest) if manifest.exists() else {}
    if "motion" in capture:  # of own motion: no subject needs what others have there
        names = set()
        for each, camera in product(capture["motion"], capture["cameras"]):
            names.add(folder_name(each["subject"], each["action"], each["take"], camera))
        return names
    if (root / CHOICES_NAME).exists():  # what `prepare human36m` was asked for
        names = set()
        for choice in read_json(root / CHOICES_NAME):
            for numbers in product(choice["subjects"], choice["actions"], SUBACTIONS, CAMERAS):
                names.add(folder_name(*numbers))
        return names
    actions, subactions, cameras = ACTION_NUMBERS, SUBACTIONS, CAMERAS
    if metadata is None:  # every subject should have what any of them has
        actions = {view.action for view in views}
        subactions = {view.subaction for view in views}
        cameras = {view.camera_id for view in views}
    subjects = {view.subject for view in views}
    return {folder_name(*numbers) for numbers in product(subjects, actions, subactions, cameras)}


def _title(sequence, metadata):
    """What a sequence is called by the folders of the prepared set, and by the files of the download."""
    subject, action, subaction = sequence
    folders = folder_name(subject, action, subaction, 1).removesuffix("_ca_01")
    if metadata is None:
        return f"{folders} (S{subject} {action_name(action)})"
    return f'{folders} (S{subject} "{metadata.names[sequence]}")'


def _missing_lines(missing, metadata):
    """A line for each sequence with missing folders, which names the cameras."""
    cameras = {}
    for name in sorted(missing):
        *sequence, camera = parse_folder_name(name)
        cameras.setdefault(tuple(sequence), []).append(camera)
    lines = []
    for sequence, numbers in cameras.items():
        listed = ", ".join(map(str, numbers))
        lines.append(f"{_title(sequence, metadata)}: missing for camera {listed}")
    return lines


def _known_faults(views, metadata):
    """Lines on what is known to be wrong in the real set, for the subjects that are there."""
    lines = []
    sequences = {(view.subject, view.action, view.subaction) for view in views}
    for sequence in DAMAGED_SEQUENCES:
        if sequence in sequences:
            lines.append(
                f"{_title(sequence, metadata)}: its labels are known to drift; score with and without it"
            )
    for name in SKIPPED_FOLDERS:
        if parse_folder_name(name)[0] in {view.subject for view in views}:
            lines.append(f"{name} is left out by convention")
    return lines


# ---------------------------------------------------------------- tables


def _image_table(counts):
    """Rows: numbers of images of each subject by action, then by camera, then all."""
    subject, action, camera, images = np.array(counts, int).reshape(-1, 4).T
    groups = [(action_name(number), action == number) for number in np.unique(action)]
    groups += [(f"camera {number}", camera == number) for number in np.unique(camera)]
    groups += [("all", images > 0)]
    subjects = list(dict.fromkeys(subject.tolist()))
    rows = [["images", *(f"S{number}" for number in subjects), "all"]]
    for title, in_group in groups:
        row = [images[in_group & (subject == number)].sum() for number in subjects]
        rows.append([title, *row, sum(row)])
    return rows


def _aligned(rows):
    """Lines of a table: the first column begins at the left, the others end at the right."""
    table = np.array(rows, str)
    widths = np.char.str_len(table).max(axis=0)
    lines = []
    for first, *others in table:
        lines.append("  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]))
    return lines
