"""Human3.6M from its raw download to the prepared layout, or straight into crop stores.

Both ways read the same labels and videos, camera view by camera view, and check each camera against
the data set's own numbers. Taught in notebooks/02_prepare_human36m.ipynb.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path

import cv2
import numpy as np

from ..data import h36m_layout as layout
from ..data.h36m_layout import (
    ACTION_NUMBERS,
    ARCHIVE_GB,
    CAMERAS,
    DAMAGED_SEQUENCES,
    META_NAME,
    SKIPPED_FOLDERS,
    SUBACTIONS,
    SUBJECTS,
    TEST_STEP,
    TEST_SUBJECTS,
    TRAIN_STEP,
    action_name,
    folder_name,
)
from ..data.images import encode_jpeg
from ..data.store import (
    MARGIN,
    find_store,
    join_stores,
    label_columns,
    open_store,
    write_store,
)
from ..files import InputError, atomic_path, scratch_folder, writing
from ..geometry import Camera, warp_shrinking
from ..parallel import parallel_map
from ..progress import progress
from .people import check_choices, check_range
from .raw import (
    KINDS,
    RAW_JOINTS,
    URL,
    Metadata,
    extract,
    find_kind,
    find_metadata,
    read_camera,
    read_metadata,
    read_pose,
    video_frames,
)

# Of the 32 recorded joints, those of HUMAN36M in its order; the others are copies and end points.
JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
JPEG_QUALITY = 90
# The files agree with each other to the rounding of float32, far below these.
_TOLERANCE_MM, _TOLERANCE_PX = 1.0, 0.5


# ---------------------------------------------------------------- one camera view


@dataclass
class Task:
    """One camera view to prepare: one sequence, seen by one camera.

    Attributes:
        target: folder of the camera view, or of its crop store.
        subject, action, subaction, camera_id: Human3.6M's numbers.
        step: every how many frames one is used.
        lens: keep the camera's lens.
        reader: of the video, see `raw.video_frames`.
        stored_px: side of the crops of a store, px; None where whole images are written.
        metadata: of the download, known when the work begins.
        files: path of the raw file of each kind, see `raw.KINDS`, known when the work begins; those
            that are only for checks may be missing.
    """

    target: Path
    subject: int
    action: int
    subaction: int
    camera_id: int
    step: int
    lens: bool
    reader: str
    stored_px: int | None
    metadata: Metadata | None = None
    files: dict = field(default_factory=dict)

    @property
    def sequence(self) -> tuple[int, int, int]:
        """(subject, action, subaction)."""
        return self.subject, self.action, self.subaction

    def camera(self, width: int, height: int, lens: bool) -> Camera:
        """The camera, for images of a size in px, with or without its lens."""
        return read_camera(self.metadata, self.subject, self.camera_id, width, height, lens)


def read_labels(task: Task) -> tuple[np.ndarray, bool]:
    """Read the poses of a sequence, and check the camera against the data set's own numbers.

    Args:
        task: the camera view.
    Returns:
        joints_world: (n, 17, 3) mm.
        checked: whether there was anything to check the camera against.
    Raises:
        InputError: a file is missing or damaged, a pose is not finite, or the camera contradicts
            the poses.
    """
    path = task.files["D3_Positions"]
    joints_world = _read_joints(path, 3)
    if not np.isfinite(joints_world).all():
        frame, joint = np.argwhere(~np.isfinite(joints_world).all(axis=-1))[0]
        raise InputError(
            f"{path}: joint {JOINTS[joint]} of pose {frame} is not finite; download it again"
        )
    camera = task.camera(0, 0, lens=True)
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
    """Whether a raw file of this kind is there; InputError if it is farther than `limit` from `joints`."""
    path, world = task.files[kind], task.files["D3_Positions"]
    if not path.is_file():
        return False
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
        InputError: as `raw.video_frames`, when the first frame or a later one is read; or the video
            is of another size than its camera's.
    """
    path = task.files["Videos"]
    frames = video_frames(path, wanted, len(joints_world), task.reader)
    first = next(frames)
    height, width = first[1].shape[:2]
    camera = task.camera(width, height, task.lens)
    if (np.abs(camera.c / (width, height) - 0.5) > 0.1).any():
        x, y = camera.c
        raise InputError(
            f"{path} is {width} x {height} px, but its camera's centre is at ({x:.0f}, {y:.0f}); is it "
            "scaled or cut? Download it again"
        )
    return camera, chain([first], frames)


def _prepare_view(task):
    """Prepare one camera view; runs in a worker.

    Returns:
        (error or None, whether the camera was checked).
    """
    write = _write_images if task.stored_px is None else _write_crops
    try:
        joints_world, checked = read_labels(task)
        write(task, joints_world)
    except InputError as error:
        return str(error), False
    return None, checked


def _write_images(task, joints_world):
    """Write images and labels; frames that an earlier run wrote with another step are kept."""
    there = _complete_camera(task)
    if there is not None:  # then it is the lens that differs
        camera = task.camera(there.width, there.height, task.lens)
        layout.write_meta(task.target / META_NAME, camera, joints_world)
        return
    wanted = []
    for frame in range(len(joints_world)):
        name = layout.image_name(task.target.name, frame)
        if frame % task.step == 0 or (task.target / name).exists():
            wanted.append(frame)
    with atomic_path(task.target) as folder:
        folder.mkdir()
        camera, frames = read_frames(task, wanted, joints_world)
        for frame, image in frames:
            jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            (folder / layout.image_name(folder.name, frame)).write_bytes(jpeg)
        layout.write_meta(folder / META_NAME, camera, joints_world)


def _complete_camera(task):
    """The camera of a folder that holds all images of the task's step; None where it does not."""
    try:
        view = layout.read_camera_view(task.target)
        layout.frames_in_use(view, task.step)
    except InputError:
        return None
    return view.camera


def _write_crops(task, joints_world):
    """Write the crop store of one camera view."""
    wanted = np.arange(0, len(joints_world), task.step)
    camera, frames = read_frames(task, wanted, joints_world)
    view = layout.CameraView(task.target, *task.sequence, task.camera_id, camera, joints_world)
    columns = label_columns(view, wanted, task.stored_px)
    jpegs = []
    for (_, image), affine in zip(frames, columns["affine"], strict=True):
        jpegs.append(encode_jpeg(warp_shrinking(image, affine, task.stored_px)))
    write_store(task.target, _crops_recipe(task), [(columns, jpegs)])


def _crops_recipe(task):
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


def _is_done(task):
    """Whether nothing is left to do for a camera view."""
    if task.stored_px is not None:
        return _has_recipe(task.target, _crops_recipe(task))
    camera = _complete_camera(task)
    return camera is not None and (camera.k is not None) == task.lens


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
    store_px: int | None = None,
    archive_gb: float = ARCHIVE_GB,
    workers: int = 1,
) -> list[str]:
    """Write the prepared layout or crop stores from the raw download; what is there is kept.

    With `store_px`, no whole images are written. Each camera view becomes a small store of its own
    first, so that an interrupted run goes on where it stopped. When all are there, they are joined
    and removed; until then, crops need room twice.

    Args:
        source: folder of the download, extracted or as .tgz archives.
        target: folder of the prepared set. Stores are called `stores/NAME-train-PX` and
            `stores/NAME-test-PX` beside it, after its name.
        subjects, actions: numbers to take.
        step, test_step: every how many frames one is used, of training subjects and of test
            subjects.
        test_subjects: those of `subjects` that are kept for tests; the others are for training.
        lens: write the full lens model into the labels; by default the customary pinhole.
        reader: one of `raw.READERS`.
        metadata: path of metadata.xml; by default it is looked for in `source`.
        store_px: side of the crops that training will cut, px; stored crops are `store.MARGIN`
            times as wide. None writes the prepared layout instead.
        archive_gb: what one archive may unfold to at most, GB.
        workers: number of processes.
    Returns:
        lines that say what was done.
    Raises:
        InputError: nothing can be done at all; or, at the end, a list of the camera views that
            failed. No store is written before all camera views are there.
    """
    for name, number in (("step", step), ("test_step", test_step), ("archive_gb", archive_gb)):
        check_range(f"{name} (--{name.replace('_', '-')})", number, 1, 1_000_000)
    check_choices(store_px, workers=workers)
    target = Path(target)
    layout.refuse_capture(target)
    views, stored_px = target, None
    if store_px is not None:
        views = target.parent / "stores" / f".views-{target.name}-{store_px}"
        stored_px = round(store_px * MARGIN)
    with writing(target):
        tasks, joins, report = [], [], []
        for split, split_step in (("train", step), ("test", test_step)):
            own = [s for s in subjects if (s in test_subjects) == (split == "test")]
            recipe = {
                "source": target.name,
                "subjects": own,
                "step": split_step,
                "crop_px": store_px,
                "stored_px": stored_px,
                "origin": None,
                "lens": lens,
                "actions": list(actions),
            }
            store = views.parent / f"{target.name}-{split}-{store_px}"
            if store_px is not None and _has_recipe(store, recipe):
                report.append(f"{store} was there already: {len(open_store(store))} items")
                continue
            split_tasks = []
            for numbers in product(own, actions, SUBACTIONS, CAMERAS):
                name = folder_name(*numbers)
                if name in SKIPPED_FOLDERS:
                    report.append(f"{name} is left out, as is customary: its video is damaged")
                    continue
                split_tasks.append(
                    Task(views / name, *numbers, split_step, lens, reader, stored_px)
                )
            if store_px is not None and split_tasks:
                parts = sorted(task.target for task in split_tasks)
                joins.append((store, parts, recipe))
            tasks += split_tasks
        try:
            if tasks:
                report += _run_tasks(
                    Path(source), target.parent, tasks, metadata, archive_gb, workers
                )
        finally:
            if store_px is None and target.is_dir():
                layout.add_choice(target, subjects, actions)
        for store, parts, recipe in joins:
            with writing(store):
                join_stores(store, parts, recipe)
            report.append(f"{store}: {len(open_store(store))} items")
        if store_px is not None:
            shutil.rmtree(views, ignore_errors=True)
        return report


def _run_tasks(source, scratch_parent, tasks, metadata, archive_gb, workers):
    """Work on all camera views that are not done; a bad one does not stop the others.

    Args:
        source, metadata, archive_gb, workers: see `prepare_human36m`.
        scratch_parent: folder with room for what is taken out of one subject's archives.
        tasks: list of Task.
    Returns, Raises: see `prepare_human36m`.
    """
    todo = {}  # tasks by subject
    for task in tasks:
        if not _is_done(task):
            todo.setdefault(task.subject, []).append(task)
    n_todo = sum(len(own) for own in todo.values())
    if n_todo > 0:
        metadata = read_metadata(metadata or find_metadata(source))
    n_unchecked = 0
    failures = {}  # cameras by (sequence or subject, error)
    with progress(total=n_todo, desc="Human3.6M", unit="video", show=n_todo > 0) as bar:
        for subject, own in todo.items():
            bar.set_postfix_str(f"S{subject}")
            try:
                with scratch_folder(scratch_parent) as scratch:
                    _find_files(source, scratch, subject, own, metadata, archive_gb)
                    results = parallel_map(_prepare_view, own, workers)
                    for task, (error, checked) in zip(own, results):
                        bar.update()
                        if error is None:
                            n_unchecked += not checked
                            continue
                        title = (
                            f"S{subject} {action_name(task.action)} {task.subaction} "
                            f'("{metadata.names[task.sequence]}")'
                        )
                        # What was extracted is called by its place in the archive.
                        error = error.replace(str(scratch), str(source))
                        failures.setdefault((title, error), []).append(task.camera_id)
            except InputError as error:
                failures[f"S{subject}", str(error)] = []
            except OSError as error:
                problem = f"{scratch_parent}: cannot write there ({error.strerror})"
                failures[f"S{subject}", problem] = []
    report = [
        f"{len(tasks) - n_todo} of {len(tasks)} camera views were there already, {n_todo} were worked on"
    ]
    if n_unchecked:
        report.append(
            f"{n_unchecked} cameras could not be checked: put Poses_D3_Positions_mono or Poses_D2_Positions "
            "beside the rest"
        )
    if failures:
        count = "1 failure" if len(failures) == 1 else f"{len(failures)} failures"
        report.insert(
            0, f"{count}, the rest is done; mend what is listed and run the same command again:"
        )
        for (title, error), cameras in failures.items():
            if cameras:
                title += ", camera " + ", ".join(map(str, cameras))
            report.append(f"{title}: {error}")
        raise InputError("\n  ".join(report))
    return report


def _find_files(source, scratch, subject, tasks, metadata, archive_gb):
    """Give a subject's tasks their metadata and the paths of their raw files.

    What lies in archives is extracted to `scratch`, below the archive's name.

    Raises:
        InputError: a kind that is needed is missing, or an archive is damaged or harmful.
    """
    for kind in KINDS:
        place = find_kind(source, subject, kind)
        if kind in ("D3_Positions", "Videos") and not place.exists():
            raise InputError(
                f"{source} holds neither a folder S{subject}/MyPoseFeatures/{kind} nor its archive for "
                f"S{subject}, such as {KINDS[kind]}_S{subject}.tgz; download it from {URL}"
            )
        names = [_raw_name(metadata, task, kind) for task in tasks]
        if place.is_file():
            folder = scratch / place.relative_to(source)
            extract(place, subject, set(names), folder, archive_gb)
            place = folder
        for task, name in zip(tasks, names):
            task.metadata = metadata
            task.files[kind] = place / name


def _raw_name(metadata, task, kind):
    """Name of the raw file of one kind for a camera view."""
    name = metadata.names[task.sequence]
    if kind != "D3_Positions":  # those are in the world, for all cameras
        name += f".{metadata.camera_names[task.camera_id - 1]}"
    return name + (".mp4" if kind == "Videos" else ".cdf")
