"""Human3.6M from its raw download to the prepared layout, or straight into crop stores.

Both ways read the same labels and videos, camera view by camera view, and check each camera against the
data set's own numbers. Taught in notebooks/02_prepare_human36m.ipynb.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, product
from pathlib import Path

import cv2
import numpy as np

from ..data import h36m_layout as layout
from ..data.h36m_layout import (
    ACTION_NUMBERS,
    CAMERAS,
    DAMAGED_SEQUENCES,
    META_NAME,
    SKIPPED_FOLDERS,
    SUBACTIONS,
    SUBJECTS,
    TEST_STEP,
    TEST_SUBJECTS,
    TRAIN_STEP,
    folder_name,
)
from ..data.images import encode_crop
from ..data.store import (
    MARGIN,
    find_store,
    is_joined,
    join_folder,
    join_stores,
    label_columns,
    open_store,
    write_store,
)
from ..files import InputError, atomic_path, scratch_folder
from ..geometry import Camera
from ..parallel import parallel_map
from ..progress import progress
from .raw import (
    KINDS,
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

# Of the 32 recorded joints, those of HUMAN36M in its order; the others are copies and end points.
JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
JPEG_QUALITY = 90
_REQUIRED = ("D3_Positions", "Videos")
# The files agree with each other to the rounding of float32, far below these.
_TOLERANCE_MM, _TOLERANCE_PX = 1.0, 0.5


# ---------------------------------------------------------------- one camera view


@dataclass(frozen=True)
class Task:
    """One camera view to prepare: one sequence, seen by one camera.

    Attributes:
        target: folder of the camera view, or of its crop store.
        subject, action, subaction, camera_id: Human3.6M's numbers.
        step: every how many frames one is used.
        lens: keep the camera's lens.
        reader: of the video, see `raw.video_frames`.
        metadata: of the download.
        folders: folder of each kind of raw file, see `raw.KINDS`; kinds that are only for checks may be
            missing.
        stored_px: side of the crops of a store, px; None where whole images are written.
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
    folders: dict = field(default_factory=dict)
    stored_px: int | None = None

    @property
    def sequence(self) -> tuple[int, int, int]:
        """(subject, action, subaction)."""
        return self.subject, self.action, self.subaction

    def raw_name(self, kind: str) -> str:
        """Name of the raw file of one kind."""
        name = self.metadata.names[self.sequence]
        camera = self.metadata.camera_names[self.camera_id - 1]
        if kind == "D3_Positions":  # in the world, for all cameras
            return f"{name}.cdf"
        if kind == "Videos":
            return f"{name}.{camera}.mp4"
        return f"{name}.{camera}.cdf"

    def raw_path(self, kind: str) -> Path:
        """Path of the raw file of one kind."""
        return self.folders[kind] / self.raw_name(kind)


def read_labels(task: Task) -> tuple[np.ndarray, bool]:
    """Read the poses of a sequence, and check the camera against the data set's own coordinates and pixels.

    Args:
        task: the camera view.
    Returns:
        joints_world: (n, 17, 3) mm.
        checked: whether there was anything to check the camera against.
    Raises:
        InputError: a file is missing or damaged, a pose is not finite, or the camera contradicts the poses.
    """
    path = task.raw_path("D3_Positions")
    joints_world = _read_joints(path, 3)
    if not np.isfinite(joints_world).all():
        frame, joint = np.argwhere(~np.isfinite(joints_world).all(axis=-1))[0]
        raise InputError(
            f"{path}: joint {JOINTS[joint]} of pose {frame} is not finite; download it again"
        )
    camera = read_camera(task.metadata, task.subject, task.camera_id, 0, 0, lens=True)
    joints_cam = camera.world_to_camera(joints_world)
    if (joints_cam[..., 2] <= 0).any():
        raise InputError(
            f"{path}: a joint lies behind camera {task.camera_id}; get {task.metadata.path} again"
        )
    joints_img = camera.camera_to_image(joints_cam)
    checked_mm = _agrees(task, "D3_Positions_mono", joints_cam, _TOLERANCE_MM, "mm")
    checked_px = _agrees(task, "D2_Positions", joints_img, _TOLERANCE_PX, "px")
    return joints_world, checked_mm or checked_px


def _read_joints(path, n_coordinates):
    """(n, 17, 2 or 3) of a pose file, in the order of HUMAN36M."""
    pose = read_pose(path, RAW_JOINTS * n_coordinates)
    return pose.reshape(-1, RAW_JOINTS, n_coordinates)[:, JOINTS]


def _agrees(task, kind, joints, limit, unit):
    """Whether a raw file of this kind is there; InputError if it differs from `joints` by more than `limit`."""
    if kind not in task.folders or not task.raw_path(kind).is_file():
        return False
    path, world = task.raw_path(kind), task.raw_path("D3_Positions")
    theirs = _read_joints(path, joints.shape[-1])
    if len(theirs) != len(joints):
        raise InputError(
            f"{path} has {len(theirs)} poses, {world} has {len(joints)}; download both again"
        )
    errors = np.abs(theirs - joints).max(axis=(1, 2))
    worst = int(np.argmax(errors))
    agrees = errors[worst] <= limit  # False for NaN
    # The labels of some sequences are known to be off. Whether all files are off alike, nobody states.
    if not agrees and task.sequence not in DAMAGED_SEQUENCES:
        raise InputError(
            f"{path} and {world}, moved by the camera of {task.metadata.path}, differ by "
            f"{errors[worst]:.3g} {unit} at pose {worst}, expected at most {limit} {unit}; one of the three "
            "is damaged or of another version"
        )
    return True


def read_frames(
    task: Task, wanted: Iterable, joints_world: np.ndarray
) -> tuple[Camera, Iterator[tuple[int, np.ndarray]]]:
    """Read some frames of a video, and the camera for images of their size.

    Args:
        task: the camera view.
        wanted: ascending 0-based frames, at least one.
        joints_world: (n, 17, 3) of the sequence; the video must have n frames or more.
    Returns:
        camera: with the size of the video's images.
        frames: iterator over (frame, (H, W, 3) uint8 BGR).
    Raises:
        InputError: as `raw.video_frames`, when the first frame or a later one is read; or the video is of
            another size than its camera's.
    """
    path = task.raw_path("Videos")
    frames = video_frames(path, wanted, len(joints_world), task.reader)
    first = next(frames)
    height, width = first[1].shape[:2]
    camera = read_camera(task.metadata, task.subject, task.camera_id, width, height, task.lens)
    if (np.abs(camera.c / (width, height) - 0.5) > 0.1).any():
        x, y = camera.c
        raise InputError(
            f"{path} is {width} x {height} px, but its camera's centre is at ({x:.0f}, {y:.0f}); is it "
            "scaled or cut? Download it again"
        )
    return camera, chain([first], frames)


def _write_view(task):
    """Prepare the folder of one camera view; runs in a worker.

    Returns:
        (error or None, whether the camera was checked).
    """
    cv2.setNumThreads(1)
    try:
        joints_world, checked = read_labels(task)
        if _has_images(task):  # then it is the lens that differs
            size = layout.read_camera_view(task.target).camera
            camera = read_camera(
                task.metadata, task.subject, task.camera_id, size.width, size.height, task.lens
            )
            layout.write_meta(task.target / META_NAME, camera, joints_world)
        else:
            _write_images(task, joints_world)
    except InputError as error:
        return str(error), False
    return None, checked


def _write_images(task, joints_world):
    """Write images and labels; frames that an earlier run wrote with another step are kept."""
    n = len(joints_world)
    wanted = set(range(0, n, task.step))
    for path in task.target.glob(f"{task.target.name}_??????.jpg"):
        number = path.stem[-6:]
        if number.isdecimal() and 1 <= int(number) <= n:
            wanted.add(int(number) - 1)
    with atomic_path(task.target) as folder:
        folder.mkdir()
        camera, frames = read_frames(task, sorted(wanted), joints_world)
        for frame, image in frames:
            jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            (folder / layout.image_name(folder.name, frame)).write_bytes(jpeg)
        layout.write_meta(folder / META_NAME, camera, joints_world)


def _has_images(task):
    """Whether the folder of a camera view is complete for the task's step."""
    try:
        layout.frames_in_use(layout.read_camera_view(task.target), task.step)
    except InputError:
        return False
    return True


def _is_written(task):
    """Whether nothing is left to do for the folder of a camera view."""
    if not _has_images(task):
        return False
    has_lens = layout.read_camera_view(task.target).camera.k is not None
    return has_lens == task.lens


def _write_view_store(task):
    """Write the crop store of one camera view; runs in a worker. Returns as `_write_view`."""
    cv2.setNumThreads(1)
    try:
        joints_world, checked = read_labels(task)
        wanted = np.arange(0, len(joints_world), task.step)
        camera, frames = read_frames(task, wanted, joints_world)
        view = layout.CameraView(task.target, *task.sequence, task.camera_id, camera, joints_world)
        columns = label_columns(view, wanted, task.stored_px)
        jpegs = []
        for (_, image), affine in zip(frames, columns["affine"], strict=True):
            jpegs.append(encode_crop(image, affine, task.stored_px))
        write_store(task.target, columns, jpegs, _view_recipe(task))
    except InputError as error:
        return str(error), False
    return None, checked


def _view_recipe(task):
    return {
        "source": task.target.name,
        "step": task.step,
        "stored_px": task.stored_px,
        "lens": task.lens,
    }


def _has_recipe(path, recipe):
    """Whether a complete store of this recipe lies there."""
    store = find_store(path)
    return store is not None and store.recipe == recipe


# ---------------------------------------------------------------- the whole set


def prepare_human36m(
    source: Path,
    target: Path,
    *,
    subjects: tuple = SUBJECTS,
    actions: tuple = ACTION_NUMBERS,
    step: int = TRAIN_STEP,
    test_step: int = TEST_STEP,
    test_subjects: tuple = TEST_SUBJECTS,
    lens: bool = False,
    reader: str = "opencv",
    metadata: Path | None = None,
    workers: int = 1,
) -> list[str]:
    """Write the prepared layout from the raw download; what is there already is kept.

    Args:
        source: folder of the download, extracted or as .tgz archives.
        target: folder of the prepared set.
        subjects, actions: numbers to take.
        step, test_step: every how many frames one is used, of training subjects and of test subjects.
        test_subjects: those of `subjects` that are kept for tests; the others are for training.
        lens: write the full lens model into the labels; by default the customary pinhole.
        reader: one of `raw.READERS`.
        metadata: path of metadata.xml; by default it is looked for in `source`.
        workers: number of processes.
    Returns:
        lines that say what was done.
    Raises:
        InputError: nothing can be done at all; or, at the end, a list of the camera views that failed.
    """
    target = Path(target)
    metadata = read_metadata(metadata or find_metadata(source))
    tasks = []
    for subject in subjects:
        subject_step = test_step if subject in test_subjects else step
        tasks += _list_tasks(target, subject, actions, subject_step, lens, reader, metadata)
    report = _left_out(subjects, actions)
    return report + _run_tasks(source, target.parent, tasks, _is_written, _write_view, workers)


def prepare_human36m_stores(
    source: Path,
    target: Path,
    name: str,
    *,
    crop_px: int,
    subjects: tuple = SUBJECTS,
    actions: tuple = ACTION_NUMBERS,
    step: int = TRAIN_STEP,
    test_step: int = TEST_STEP,
    test_subjects: tuple = TEST_SUBJECTS,
    lens: bool = False,
    reader: str = "opencv",
    metadata: Path | None = None,
    workers: int = 1,
) -> list[str]:
    """Write the crop stores of training and test subjects from the raw download, without whole images.

    Each camera view becomes a small store of its own first, so that an interrupted run goes on where it
    stopped. When all are there, they are joined, and each is removed on the way, so that crops need room
    once. A store of the same choices that is there already is kept.

    Args:
        source, subjects, actions, step, test_step, test_subjects, lens, reader, metadata, workers: see
            `prepare_human36m`.
        target: folder of the stores.
        name: of the set; the stores are called NAME-train-PX and NAME-test-PX.
        crop_px: side of the crops that training will cut, px; stored crops are `store.MARGIN` times as
            wide.
    Returns:
        lines that say what was done.
    Raises:
        InputError: as `prepare_human36m`; no store is written before all camera views are there.
    """
    target = Path(target)
    stored_px = round(crop_px * MARGIN)
    report = []
    recipes = {}  # of the stores that are to be built
    for split in ("train", "test"):
        own = [s for s in subjects if (s in test_subjects) == (split == "test")]
        path = target / f"{name}-{split}-{crop_px}"
        recipe = {
            "source": name,
            "subjects": own,
            "step": test_step if split == "test" else step,
            "crop_px": crop_px,
            "stored_px": stored_px,
            "origin": None,
            "lens": lens,
            "actions": list(actions),
        }
        if not own:
            continue
        if _has_recipe(path, recipe):
            report.append(f"{path} was there already: {len(open_store(path))} items")
        else:
            recipes[path] = recipe
    if not recipes:
        return report

    metadata = read_metadata(metadata or find_metadata(source))
    views = target / f".views-{name}-{crop_px}"
    tasks = []
    parts = {}  # the camera views of each store
    join_folders = {}  # where each camera view ends up
    for path, recipe in recipes.items():
        own = []
        for subject in recipe["subjects"]:
            own += _list_tasks(
                views, subject, actions, recipe["step"], lens, reader, metadata, stored_px
            )
        parts[path] = sorted(task.target for task in own)
        folder = join_folder(parts[path], recipe)
        join_folders |= dict.fromkeys(parts[path], folder)
        tasks += own

    def is_done(task):
        if is_joined(join_folders[task.target], task.target):
            return True
        return _has_recipe(task.target, _view_recipe(task))

    report += _left_out(subjects, actions)
    report += _run_tasks(source, target, tasks, is_done, _write_view_store, workers)
    for path, recipe in recipes.items():
        join_stores(path, parts[path], recipe)
        report.append(f"{path}: {len(open_store(path))} items")
    shutil.rmtree(views, ignore_errors=True)
    return report


def _list_tasks(target, subject, actions, step, lens, reader, metadata, stored_px=None):
    """One Task for each camera view of a subject, except those that everyone leaves out."""
    tasks = []
    for action, subaction, camera_id in product(actions, SUBACTIONS, CAMERAS):
        name = folder_name(subject, action, subaction, camera_id)
        if name not in SKIPPED_FOLDERS:
            task = Task(
                target / name, subject, action, subaction, camera_id, step, lens, reader, metadata
            )
            tasks.append(replace(task, stored_px=stored_px))
    return tasks


def _left_out(subjects, actions):
    lines = []
    for name in SKIPPED_FOLDERS:
        subject, action = layout.parse_folder_name(name)[:2]
        if subject in subjects and action in actions:
            lines.append(f"{name} is left out, as is customary: its video is damaged")
    return lines


def _run_tasks(source, scratch, tasks, is_done, work, workers):
    """Work on all camera views that are not done; a bad one does not stop the others.

    Args:
        source, workers: see `prepare_human36m`.
        scratch: folder with room for what is taken out of one subject's archives.
        tasks: list of Task.
        is_done: tells whether a Task's target is complete.
        work: takes a Task, returns (error or None, whether the camera was checked); importable by name.
    Returns, Raises: see `prepare_human36m`.
    """
    todo = {}  # tasks by subject
    for task in tasks:
        if not is_done(task):
            todo.setdefault(task.subject, []).append(task)
    n_todo = sum(len(own) for own in todo.values())
    n_unchecked = 0
    failures = {}  # cameras by (sequence or subject, error)
    with progress(total=n_todo, desc="Human3.6M", unit="video", show=n_todo > 0) as bar:
        for subject, own in todo.items():
            bar.set_postfix_str(f"S{subject}")
            try:
                with raw_folders(source, subject, own, scratch) as folders:
                    own = [replace(task, folders=folders) for task in own]
                    results = parallel_map(work, own, workers)
                    for (error, checked), task in zip(results, own):
                        bar.update()
                        if error:
                            title = sequence_title(task.metadata, *task.sequence)
                            error = name_archives(error, source, subject, folders)
                            failures.setdefault((title, error), []).append(task.camera_id)
                        elif not checked:
                            n_unchecked += 1
            except InputError as error:
                failures[f"S{subject}", str(error)] = []
    report = [
        f"{len(tasks) - n_todo} of {len(tasks)} camera views were there already, {n_todo} were worked on"
    ]
    if n_unchecked:
        report.append(
            f"{n_unchecked} cameras could not be checked: put Poses_D3_Positions_mono or Poses_D2_Positions "
            "beside the rest"
        )
    if failures:
        _raise_failures(failures, report)
    return report


def _raise_failures(failures, report):
    count = "1 failure" if len(failures) == 1 else f"{len(failures)} failures"
    lines = [f"{count}, the rest is done; mend what is listed and run the same command again:"]
    lines += report
    for (title, error), cameras in failures.items():
        if cameras:
            title += ", camera " + ", ".join(str(camera) for camera in cameras)
        lines.append(f"{title}: {error}")
    raise InputError("\n  ".join(lines))


@contextmanager
def raw_folders(source: Path, subject: int, tasks: list[Task], scratch: Path):
    """Find a subject's raw files; what lies in archives is extracted for as long as the block runs.

    Args:
        source: folder of the download.
        subject: number.
        tasks: of this subject; only their files are extracted.
        scratch: folder with room for them.
    Yields:
        dict of kind -> folder; kinds that are only for checks may be missing.
    Raises:
        InputError: a kind that is needed is missing, or an archive is damaged or harmful.
    """
    places = {kind: find_kind(source, subject, kind) for kind in KINDS}
    for kind in _REQUIRED:
        if places[kind] is None:
            raise InputError(
                f"{source} holds neither a folder S{subject}/MyPoseFeatures/{kind} nor its archive for "
                f"S{subject}, such as {KINDS[kind]}_S{subject}.tgz; download it"
            )
    folders = {}
    with ExitStack() as stack:
        for kind, place in places.items():
            if place is None:
                continue
            if place.is_dir():
                folders[kind] = place
                continue
            try:
                folders[kind] = stack.enter_context(scratch_folder(scratch))
            except OSError as error:
                raise InputError(f"{scratch}: cannot write there ({error.strerror})") from error
            wanted = {task.raw_name(kind) for task in tasks}
            extract(place, subject, wanted, folders[kind])
        yield folders
