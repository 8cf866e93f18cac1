"""Human3.6M from its raw download to the prepared layout, or straight into crop stores.

Taught in notebooks/02_prepare_human36m.ipynb.
"""

import itertools
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..data import h36m_layout as layout
from ..data.h36m_layout import (
    ACTION_NUMBERS,
    CAMERAS,
    DAMAGED_SEQUENCES,
    META_NAME,
    SUBJECTS,
    TEST_STEP,
    TRAIN_STEP,
)
from ..files import InputError, atomic_path, scratch_folder
from ..parallel import parallel_map
from ..progress import progress
from .raw import (
    RAW_JOINTS,
    Metadata,
    extract,
    find_kind,
    find_metadata,
    name_archives,
    read_camera,
    read_metadata,
    read_pose,
    sequence_title,
    video_frames,
)

# Of the 32 recorded joints, those of skeleton.HUMAN36M in its order; the rest are copies and end points.
JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
ALL_ACTIONS = ACTION_NUMBERS
JPEG_QUALITY = 90
_REQUIRED, _FOR_CHECKS = ("D3_Positions", "Videos"), ("D3_Positions_mono", "D2_Positions")
# The files agree with each other to the rounding of float32, far below these.
_TOLERANCE_MM, _TOLERANCE_PX = 1.0, 0.5


@dataclass(frozen=True)
class Task:
    """One sequence and camera to prepare.

    Attributes:
        target: the sequence's folder (or file, of a store's part).
        subject, action, subaction, camera_id: Human3.6M's numbers.
        step: every how many frames one is used.
        lens: keep the camera's lens.
        reader: of the video, see raw.video_frames.
        metadata: Metadata.
        folders: folder of each kind of raw file, see raw.KINDS; kinds that are only for checks may be missing.
    """

    target: Path
    subject: int
    action: int
    subaction: int
    camera_id: int
    step: int
    lens: bool
    reader: str
    metadata: Metadata
    folders: dict

    @property
    def key(self):
        """(subject, action, subaction)."""
        return self.subject, self.action, self.subaction

    def raw_path(self, kind):
        """Path of the sequence's file of one kind."""
        name, camera = self.metadata.names[self.key], self.metadata.camera_names[self.camera_id - 1]
        name = {"D3_Positions": f"{name}.cdf", "Videos": f"{name}.{camera}.mp4"}.get(
            kind, f"{name}.{camera}.cdf"
        )
        return self.folders[kind] / name


def read_labels(task):
    """Poses of one sequence, with its camera checked against the data set's own camera coordinates and pixels.

    Args:
        task: Task.
    Returns:
        joints_world: (n, 17, 3) mm; checked: whether there was anything to check the camera against.
    Raises:
        InputError: a file is missing or damaged, a pose is not finite, or the camera contradicts the poses.
    """
    path = task.raw_path("D3_Positions")
    joints_world = read_pose(path, RAW_JOINTS * 3).reshape(-1, RAW_JOINTS, 3)[:, JOINTS]
    if not np.isfinite(joints_world).all():
        frame, joint = np.argwhere(~np.isfinite(joints_world).all(-1))[0]
        raise InputError(
            f"{path}: joint {JOINTS[joint]} of pose {frame} is not finite; download it again"
        )
    camera = read_camera(task.metadata, task.subject, task.camera_id, 0, 0, lens=True)
    joints_cam = camera.world_to_camera(joints_world)
    if (joints_cam[..., 2] <= 0).any():
        raise InputError(
            f"{path}: a joint lies behind camera {task.camera_id}; get {task.metadata.path} again"
        )
    ours = {"D3_Positions_mono": joints_cam, "D2_Positions": camera.camera_to_image(joints_cam)}
    limits = {"D3_Positions_mono": (_TOLERANCE_MM, "mm"), "D2_Positions": (_TOLERANCE_PX, "px")}
    checked = False
    for kind in _FOR_CHECKS:
        if kind not in task.folders or not task.raw_path(kind).is_file():
            continue
        other, size = task.raw_path(kind), ours[kind].shape[-1]
        theirs = read_pose(other, RAW_JOINTS * size).reshape(-1, RAW_JOINTS, size)[:, JOINTS]
        if len(theirs) != len(joints_world):
            raise InputError(
                f"{other} has {len(theirs)} poses, {path} has {len(joints_world)}; download both again"
            )
        errors = np.abs(theirs - ours[kind]).max((1, 2))
        (limit, unit), worst = limits[kind], int(np.argmax(errors))
        # The labels of these are known to be off; whether they are so alike in all files, nobody states.
        if not errors[worst] <= limit and task.key not in DAMAGED_SEQUENCES:
            raise InputError(
                f"{other} and {path}, moved by the camera of {task.metadata.path}, differ by {errors[worst]:.3g} {unit} at "
                f"pose {worst}, expected at most {limit} {unit}; one of the three is damaged or of another version"
            )
        checked = True
    return joints_world, checked


def read_frames(task, wanted, joints_world):
    """The pictures of some frames, and the camera for pictures of their size.

    Args:
        task: Task.
        wanted: ascending 0-based frames, at least one.
        joints_world: (n, 17, 3) of the sequence; the video must have n frames or more.
    Returns:
        Camera; iterator over (frame, (H, W, 3) uint8 BGR).
    """
    frames = video_frames(task.raw_path("Videos"), wanted, len(joints_world), task.reader)
    first = next(frames)
    height, width = first[1].shape[:2]
    camera = read_camera(task.metadata, task.subject, task.camera_id, width, height, task.lens)
    if (np.abs(camera.c / (width, height) - 0.5) > 0.1).any():
        x, y = camera.c
        raise InputError(
            f"{task.raw_path('Videos')} is {width} x {height} px, but its camera's centre is at ({x:.0f}, {y:.0f}); is it "
            "scaled or cut? Download it again"
        )

    def rest():
        yield first
        yield from frames

    return camera, rest()


def _write_sequence(task):
    """Prepare one sequence folder; runs in a worker. Returns (error line or None, checked)."""
    cv2.setNumThreads(1)
    try:
        joints_world, checked = read_labels(task)
        n = len(joints_world)
        wanted = sorted(
            set(range(0, n, task.step)) | {frame for frame in _present(task.target) if frame < n}
        )
        if _has_pictures(task):  # then it is the lens that differs
            size = layout.read_camera_view(task.target).camera
            camera = read_camera(
                task.metadata, task.subject, task.camera_id, size.width, size.height, task.lens
            )
            layout.write_meta(task.target / META_NAME, camera, joints_world)
            return None, checked
        with atomic_path(task.target) as folder:
            folder.mkdir()
            camera, frames = read_frames(task, wanted, joints_world)
            for frame, picture in frames:
                jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
                (folder / layout.image_name(folder.name, frame)).write_bytes(jpeg)
            layout.write_meta(folder / META_NAME, camera, joints_world)
    except InputError as error:
        return str(error), False
    return None, checked


def _has_pictures(task):
    """Whether a sequence folder is whole for the task's step."""
    try:
        layout.frames_in_use(layout.read_camera_view(task.target), task.step)
    except InputError:
        return False
    return True


def _present(folder):
    """0-based frames whose pictures an earlier run left in a folder, with whatever step; they are kept."""
    names = [path.stem for path in folder.glob(f"{folder.name}_??????.jpg")]
    return {int(name[-6:]) - 1 for name in names if name[-6:].isdecimal()}


def _is_written(task):
    return (
        _has_pictures(task)
        and (layout.read_camera_view(task.target).camera.k is not None) == task.lens
    )


def prepare(
    source,
    target,
    *,
    subjects=SUBJECTS,
    actions=ALL_ACTIONS,
    step=TRAIN_STEP,
    test_step=TEST_STEP,
    test_subjects=layout.TEST_SUBJECTS,
    lens=False,
    reader="opencv",
    metadata=None,
    workers=1,
):
    """Write the prepared layout from the raw download; what is there already is kept.

    Args:
        source: folder of the download, extracted or as .tgz archives.
        target: folder of the prepared set.
        subjects, actions: numbers to take.
        step, test_step: every how many frames one is used, of training subjects and of test subjects.
        test_subjects: those of `subjects` that are kept for tests; the others are for training.
        lens: write the full lens model into the labels; by default the customary pinhole.
        reader: "opencv" or "pyav".
        metadata: path of metadata.xml; by default it is looked for in `source`.
        workers: number of processes.
    Returns:
        list of lines that say what was done.
    Raises:
        InputError: nothing can be done at all; or, at the end, a list of the sequences that failed.
    """
    target = Path(target)
    steps = {subject: test_step if subject in test_subjects else step for subject in subjects}

    def place(name):
        return target / name

    return run(
        source,
        target.parent,
        steps,
        actions,
        place,
        _is_written,
        _write_sequence,
        lens,
        reader,
        metadata,
        workers,
    )


def run(source, scratch, steps, actions, place, is_done, work, lens, reader, metadata, workers):
    """Work through all sequences and cameras; a bad one does not stop the rest.

    Args:
        source, actions, lens, reader, metadata, workers: see `prepare`.
        scratch: folder with room for what is taken out of one subject's archives, for the time being.
        steps: step by subject.
        place: gives the target path of a folder name.
        is_done: tells whether a Task's target is whole.
        work: takes a Task, returns (error line or None, whether the camera was checked); importable by name.
    Returns, Raises: see `prepare`.
    """
    metadata = read_metadata(metadata or find_metadata(source))
    report, failures, tasks = [], {}, {}  # failures: what they hit, by message
    unchecked = total = 0
    for subject, step in steps.items():
        for action, subaction, camera_id in itertools.product(actions, (1, 2), CAMERAS):
            name = layout.folder_name(subject, action, subaction, camera_id)
            if name in layout.SKIPPED_FOLDERS:
                report.append(f"{name} is left out, as is customary: its video is damaged")
                continue
            total += 1
            task = Task(
                place(name), subject, action, subaction, camera_id, step, lens, reader, metadata, {}
            )
            if not is_done(task):
                tasks.setdefault(subject, []).append(task)
    todo = sum(map(len, tasks.values()))
    with progress(total=todo, desc="Human3.6M", unit="video", show=todo > 0) as bar:
        for subject, some in tasks.items():
            bar.set_postfix_str(f"S{subject}")
            try:
                with ExitStack() as stack:
                    folders = raw_folders(source, subject, some, scratch, stack)
                    some = [replace(task, folders=folders) for task in some]
                    for (error, checked), task in zip(parallel_map(work, some, workers), some):
                        bar.update()
                        unchecked += not (checked or error)
                        if error:
                            title = f"{sequence_title(metadata, *task.key)}, camera"
                            error = name_archives(error, source, subject, folders)
                            failures.setdefault((title, error), []).append(task.camera_id)
            except InputError as error:
                failures[f"S{subject}", str(error)] = []
    report.append(
        f"{total - todo} of {total} sequences and cameras were there already, {todo} were worked on"
    )
    if unchecked:
        report.append(
            f"{unchecked} cameras could not be checked: put Poses_D3_Positions_mono or Poses_D2_Positions beside the rest"
        )
    if failures:
        for (title, error), cameras in failures.items():
            report.append(f"{title} {', '.join(map(str, cameras))}".rstrip() + f": {error}")
        head = f"{len(failures)} {'failure' if len(failures) == 1 else 'failures'}, the rest is done; mend them and run the same command again:"
        raise InputError("\n  ".join([head, *report]))
    return report


def raw_folders(source, subject, tasks, scratch, stack):
    """Folder of each kind of a subject's raw files; archives are extracted for as long as `stack` is open.

    Raises:
        InputError: a kind that is needed is missing, or an archive is damaged or harmful.
    """
    places = {kind: find_kind(source, subject, kind) for kind in _REQUIRED + _FOR_CHECKS}
    for kind in _REQUIRED:
        if places[kind] is None:
            raise InputError(
                f"{source} holds neither a folder S{subject}/MyPoseFeatures/{kind} nor its archive for S{subject}, such as "
                f"{'Videos' if kind == 'Videos' else 'Poses_' + kind}_S{subject}.tgz; download it"
            )
    folders = {}
    for kind, path in places.items():
        if path is not None and path.is_file():
            try:
                folder = stack.enter_context(scratch_folder(scratch))
            except OSError as error:
                raise InputError(f"{scratch}: cannot write there ({error.strerror})") from error
            wanted = {replace(task, folders={kind: folder}).raw_path(kind).name for task in tasks}
            extract(path, subject, wanted, folder)
            path = folder
        if path is not None:
            folders[kind] = path
    return folders
