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
    DAMAGED_SEQUENCES,
    SKIPPED_FOLDERS,
    SUBACTIONS,
    action_name,
    folder_name,
    image_name,
    list_folders,
    parse_folder_name,
    read_camera_view,
)
from ..data.images import image_size
from ..files import InputError, read_json
from ..geometry import HUMAN36M, SCORED_JOINTS, Skeleton, bone_lengths
from ..parallel import parallel_map
from ..progress import progress
from .raw import Metadata

# Bones of one subject may differ by this much between poses, and between left and right.
BONE_MM = 1.0
# Share of a camera view's joints that may lie outside of its images; a wrong camera throws all out.
OUTSIDE = 0.1

_MEASURED = Skeleton(
    HUMAN36M.names[:SCORED_JOINTS],
    HUMAN36M.parents[:SCORED_JOINTS],
    HUMAN36M.flip_pairs,
    HUMAN36M.root,
)


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
        shortest, longest: (16,) length of each bone over all poses, mm.
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
    shortest: np.ndarray
    longest: np.ndarray
    outside: float

    @property
    def sequence(self):
        """(subject, action, subaction)."""
        return self.subject, self.action, self.subaction


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
    views = []
    problems = []
    for folder, (view, error) in zip(folders, results):
        if error is None:
            views.append(view)
        else:
            problems.append(f"{folder.name}: {error}")
    by_subject = {}
    for view in views:
        by_subject.setdefault(view.subject, []).append(view)
    steps = {subject: _common_step(own) for subject, own in by_subject.items()}
    for view in views:
        problems += _missing_images(view, steps[view.subject])
    problems += _missing_folders(root, views, {folder.name for folder in folders}, metadata)
    if metadata is not None:
        problems += _wrong_counts(views, metadata)
    for subject, own in by_subject.items():
        problems += _bone_problems(subject, own)
    lines = _subject_table(by_subject, steps) + [""] + _image_table(by_subject, steps) + [""]
    if not (root / "capture.json").exists():  # in the real set only
        lines += _known_faults(views)
    return "\n".join(lines), problems


def inspect_folder(folder: Path) -> tuple[ViewSummary | None, str | None]:
    """Inspect one folder of a prepared set; runs in a worker.

    Returns:
        (summary, None), or (None, what is wrong with the folder).
    """
    folder = Path(folder)
    try:
        return _summarise(folder), None
    except (InputError, OSError) as error:
        return None, str(error).removeprefix(f"{folder}/")


def _summarise(folder):
    view = read_camera_view(folder)
    camera = view.camera
    frames = _image_frames(folder, len(view.joints_world))
    for frame in frames:
        _check_image(folder / image_name(folder.name, frame), camera)
    joints_img = camera.camera_to_image(camera.world_to_camera(view.joints_world[frames]))
    size = np.array([camera.width, camera.height])
    outside = ((joints_img < -0.5) | (joints_img > size - 0.5)).any(axis=-1).mean()
    if outside > OUTSIDE:
        raise InputError(
            f"{outside:.0%} of the joints lie outside of the images; is it the right camera?"
        )
    lengths = bone_lengths(view.joints_world, _MEASURED)
    return ViewSummary(
        folder.name,
        *parse_folder_name(folder.name),
        n_poses=len(view.joints_world),
        frames=frames,
        size=(camera.width, camera.height),
        lens=camera.k is not None,
        shortest=lengths.min(axis=0),
        longest=lengths.max(axis=0),
        outside=outside,
    )


def _image_frames(folder, n_poses):
    """0-based frames of the images in a folder; InputError where a name is not one of its poses'."""
    names = sorted(path.name for path in folder.glob("*.jpg"))
    expected = {image_name(folder.name, frame): frame for frame in range(n_poses)}
    if not names or not set(names) <= set(expected):
        raise InputError(
            f"expected images 1 … {n_poses} with names like {image_name(folder.name, 0)}"
        )
    return [expected[name] for name in names]


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


def _common_step(views):
    """The step of most camera views of a subject: a short one agrees with several steps."""
    steps = Counter(_smallest_step(view) for view in views)
    return steps.most_common(1)[0][0]


def _smallest_step(view):
    """The smallest step whose images are all there."""
    frames = set(view.frames)
    for step in view.frames[1:]:
        if frames.issuperset(range(0, view.n_poses, step)):
            return step
    return view.n_poses


def _missing_images(view, step):
    lost = sorted(set(range(0, view.n_poses, step)) - set(view.frames))
    if not lost:
        return []
    first = image_name(view.name, lost[0])
    return [f"{view.name}: {len(lost)} images of step {step} are missing, the first is {first}"]


def _missing_folders(root, views, there, metadata):
    """Lines on folders that should be there; `there` names those that are, sound or not."""
    wanted = _own_motion_folders(root)
    if not wanted:
        subjects = {view.subject for view in views}
        if metadata is None:  # every subject should have what any of them has
            actions = {view.action for view in views}
            subactions = {view.subaction for view in views}
            cameras = {view.camera_id for view in views}
        else:
            actions, subactions, cameras = ACTION_NUMBERS, SUBACTIONS, CAMERAS
        for numbers in product(subjects, actions, subactions, cameras):
            wanted.add(folder_name(*numbers))
    missing = wanted - there - set(SKIPPED_FOLDERS)
    return [f"{name} is missing" for name in sorted(missing)]


def _own_motion_folders(root):
    """Folders of a capture of own motion, where `root` is one; no subject needs what others have there."""
    path = root / "capture.json"
    manifest = read_json(path) if path.exists() else {}
    folders = set()
    try:
        for take in manifest.get("motion", ()):
            for camera in manifest["cameras"]:
                folders.add(folder_name(take["subject"], take["action"], take["take"], camera))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a capture's recipe ({error!r}); write the capture again"
        ) from error
    return folders


def _wrong_counts(views, metadata):
    lines = []
    for view in views:
        expected = metadata.counts.get(view.sequence, view.n_poses)
        if view.n_poses != expected:
            lines.append(f"{view.name}: {view.n_poses} poses, {metadata.path} implies {expected}")
    return lines


def _bone_problems(subject, views):
    """Lines on bones that stretch, or that differ between left and right."""
    shortest, longest = _bone_range(views)
    names = [_MEASURED.names[child] for child, _ in _MEASURED.limbs]
    lines = []
    worst = int(np.argmax(longest - shortest))
    if longest[worst] - shortest[worst] > BONE_MM:
        odd = _oddest_view(views, worst)
        lines.append(
            f"S{subject}: the bone above {names[worst]} is {shortest[worst]:.1f} to {longest[worst]:.1f} mm "
            f"long, expected one length; see {odd.name}"
        )
    for right, left in _sides():
        if abs(longest[right] - longest[left]) > BONE_MM:
            lines.append(
                f"S{subject}: the bone above {names[right]} is {longest[right]:.1f} mm long, above "
                f"{names[left]} {longest[left]:.1f} mm; left and right should be alike"
            )
    return lines


def _oddest_view(views, bone):
    """The camera view whose bone is farthest from the usual length."""
    usual = np.median([(view.shortest[bone] + view.longest[bone]) / 2 for view in views])
    away = [max(view.longest[bone] - usual, usual - view.shortest[bone]) for view in views]
    return views[int(np.argmax(away))]


def _bone_range(views):
    """Shortest and longest length of each bone over some camera views, (16,) mm each."""
    shortest = np.min([view.shortest for view in views], axis=0)
    longest = np.max([view.longest for view in views], axis=0)
    return shortest, longest


def _sides():
    """(right, left) index pairs of bones."""
    bone_of_joint = {child: bone for bone, (child, _) in enumerate(_MEASURED.limbs)}
    return [(bone_of_joint[right], bone_of_joint[left]) for right, left in _MEASURED.flip_pairs]


def _known_faults(views):
    """Lines on what is known to be wrong in the real set, for the subjects that are there."""
    lines = []
    for sequence in DAMAGED_SEQUENCES:
        if any(view.sequence == sequence for view in views):
            subject, action, subaction = sequence
            lines.append(
                f"S{subject} {action_name(action)} {subaction}: its labels are known to drift; "
                "score with and without it"
            )
    subjects = {view.subject for view in views}
    for name in SKIPPED_FOLDERS:
        if parse_folder_name(name)[0] in subjects:
            lines.append(f"{name} is left out by convention")
    return lines


# ---------------------------------------------------------------- table


def _subject_table(by_subject, steps):
    """Lines, one for each subject."""
    header = ["folders", "poses", "step", "images", "size", "lens"]
    rows = [["", *header, "bones vary", "left-right", "outside"]]
    for subject, views in by_subject.items():
        shortest, longest = _bone_range(views)
        sides = max(abs(longest[right] - longest[left]) for right, left in _sides())
        sizes = {f"{width}x{height}" for width, height in (view.size for view in views)}
        lenses = {"full" if view.lens else "pinhole" for view in views}
        rows.append(
            [
                f"S{subject}",
                len(views),
                sum(view.n_poses for view in views),
                steps[subject],
                sum(_images_in_use(view, steps) for view in views),
                " ".join(sorted(sizes)),
                "/".join(sorted(lenses)),
                f"{(longest - shortest).max():.2f} mm",
                f"{sides:.2f} mm",
                f"{np.mean([view.outside for view in views]):.2%}",
            ]
        )
    return _aligned(rows)


def _images_in_use(view, steps):
    return len(range(0, view.n_poses, steps[view.subject]))


def _image_table(by_subject, steps):
    """Lines: numbers of images of each subject by action, then by camera."""
    counts = Counter()
    actions, cameras = set(), set()
    for subject, views in by_subject.items():
        for view in views:
            n = _images_in_use(view, steps)
            counts["action", view.action, subject] += n
            counts["camera", view.camera_id, subject] += n
            counts["all", 0, subject] += n
            actions.add(view.action)
            cameras.add(view.camera_id)
    groups = [(action_name(action), "action", action) for action in sorted(actions)]
    groups += [(f"camera {camera}", "camera", camera) for camera in sorted(cameras)]
    groups += [("all", "all", 0)]
    rows = [["images", *(f"S{subject}" for subject in by_subject), "all"]]
    for title, kind, number in groups:
        row = [counts[kind, number, subject] for subject in by_subject]
        rows.append([title, *row, sum(row)])
    return _aligned(rows)


def _aligned(rows):
    """Lines of a table: the first column begins at the left, the others end at the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:]):
            cells.append(cell.rjust(width))
        lines.append("  ".join(cells))
    return lines
