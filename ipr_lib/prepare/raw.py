"""The files of Human3.6M's download: where they lie, archives, poses, videos.

Taught in notebooks/02_prepare_human36m.ipynb.
"""

import re
import signal
import tarfile
import threading
import zlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from ..files import InputError

# Kind of file -> name of its archive and of the folder that some tools extract it to; S#/MyPoseFeatures/… is the
# download's own tree.
KINDS = {
    "D3_Positions": "Poses_D3_Positions",
    "D3_Positions_mono": "Poses_D3_Positions_mono",
    "D2_Positions": "Poses_D2_Positions",
    "Videos": "Videos",
}
RAW_JOINTS = 32
_READ_SECONDS = 20.0  # a pose file takes milliseconds
READERS = ("opencv", "pyav")


def find_kind(source, subject, kind):
    """Where one kind of file of one subject lies.

    Args:
        source: folder of the download.
        subject: number.
        kind: one of KINDS.
    Returns:
        Path of a folder or of a .tgz archive, or None where there is neither.
    """
    source, person = Path(source), f"S{subject}"
    for folder in (
        Path("MyPoseFeatures", kind),
        Path("MyPoseFeatures", KINDS[kind]),
        Path(KINDS[kind]),
        Path(kind),
    ):
        if (source / person / folder).is_dir():
            return source / person / folder
    for folder in (source, source / person, source / "archives"):
        for ending in (".tgz", ".tar.gz"):
            archive = folder / f"{KINDS[kind]}_{person}{ending}"
            if archive.is_file():
                return archive
    return None


def extract(archive, subject, wanted, target):
    """Take some files out of an archive, into one flat folder.

    Every member is checked before the first byte is written.

    Args:
        archive: path of a .tgz.
        subject: number; a member that lies in another subject's folder is an error.
        wanted: file names to take, without folders.
        target: the folder; made if missing.
    Raises:
        InputError: the archive is truncated, damaged or another subject's, or has a member that no such archive needs:
            a path that leads outside, a link, a device.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = [
                member
                for member in _checked(tar, archive, subject)
                if Path(member.name).name in wanted
            ]
            Path(target).mkdir(parents=True, exist_ok=True)
            for member in members:
                with (
                    tar.extractfile(member) as content,
                    open(Path(target) / Path(member.name).name, "wb") as file,
                ):
                    while block := content.read(1 << 20):
                        file.write(block)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise InputError(
            f"{archive} is truncated or damaged ({error}); download it again"
        ) from error
    except OSError as error:
        raise InputError(f"{archive} cannot be extracted to {target}: {error}") from error


def name_archives(text, source, subject, folders):
    """An error's text, with the archive in place of the folder that it was extracted to and that is gone by then.

    Args:
        text: str.
        source, subject: as for `find_kind`.
        folders: folder by kind, extracted or found.
    """
    for kind, folder in folders.items():
        found = find_kind(source, subject, kind)
        if found is not None and found.is_file():
            text = text.replace(str(folder / "x")[:-1], f"{found}: ")
    return text


def _checked(tar, archive, subject):
    members = tar.getmembers()
    while tar.fileobj.read(1 << 20):  # to the end, where the checksum lies
        pass
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
            raise InputError(
                f"{archive}: member {member.name!r} leads outside of its folder; get the archive again"
            )
        if not (member.isreg() or member.isdir()):
            raise InputError(
                f"{archive}: member {member.name!r} is a link or a device; get the archive again"
            )
        people = [part for part in path.parts if re.fullmatch(r"S\d+", part)]
        if people and people[0] != f"S{subject}":
            raise InputError(
                f"{archive}: {member.name!r} belongs to {people[0]}, expected S{subject}; rename the archive"
            )
    return [member for member in members if member.isreg()]


def read_pose(path, width):
    """Read variable `Pose` of a NASA CDF file.

    Args:
        path: the file.
        width: numbers a pose, e.g. 96.
    Returns:
        (n, width) float64, as in the file, not yet checked to be finite.
    Raises:
        InputError: the file is missing, truncated or damaged, has no `Pose`, or one of another width.
    """
    try:
        import cdflib
    except ImportError as error:
        raise InputError("reading poses needs the package cdflib: pip install cdflib") from error

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing; download or extract it again")
    try:
        with _time_limit(_READ_SECONDS):
            file = cdflib.CDF(path)
            if "Pose" not in file.cdf_info().zVariables + file.cdf_info().rVariables:
                raise InputError(f"{path} has no variable Pose; is it a file of poses?")
            shape = file.varinq("Pose").Dim_Sizes
            # Compression gains a factor of 1032 at most: more is a damaged size, and would fill the memory.
            if (
                len(shape) != 2
                or width not in shape
                or not 0 < np.prod(shape, dtype=float) <= 258 * path.stat().st_size
            ):
                raise InputError(
                    f"{path}: Pose has {shape} numbers, expected n poses of {width}; download it again"
                )
            pose = np.asarray(file.varget("Pose"), np.float64)
    except InputError:
        raise
    except (
        Exception,
        RecursionError,
    ) as error:  # cdflib raises a dozen kinds for damaged files; all mean the same
        raise InputError(
            f"{path} is no whole CDF file ({type(error).__name__}: {error}); download or extract it again"
        ) from error
    if pose.ndim != 3 or pose.shape[::2] != (1, width):
        raise InputError(
            f"{path}: Pose has shape {pose.shape}, expected (1, n, {width}); download it again"
        )
    return pose[0]


@contextmanager
def _time_limit(seconds):
    """Raise TimeoutError in the block after `seconds` of work: a damaged count sends cdflib through billions of rounds.

    Only where signals work, that is in a main thread and not on Windows; elsewhere there is no limit.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(*_):
        raise TimeoutError(f"not read within {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def video_frames(path, wanted, n_frames, reader="opencv"):
    """Some frames of a video, read forward once; frames that are not wanted are never turned into arrays.

    Args:
        path: the file.
        wanted: ascending 0-based frame numbers.
        n_frames: number of frames that the video must have at least.
        reader: "opencv" or "pyav".
    Yields:
        (frame, (H, W, 3) uint8 BGR), one for each wanted frame.
    Raises:
        InputError: the file is missing or unreadable, damaged in the middle, or too short.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing; download or extract it again")
    wanted = {int(frame) for frame in wanted}
    read, size = 0, None
    for frame, picture in _READ[reader](path, wanted):
        if picture is not None:
            if size is None:
                size = picture.shape
            if picture.shape != size or picture.dtype != np.uint8:
                raise InputError(
                    f"{path}: frame {frame} is of another size than those before it; download it again"
                )
            yield frame, picture
        read = frame + 1
        if read == n_frames:
            return
    raise InputError(
        f"{path} has {read} frames, but there are {n_frames} poses; download or extract it again"
    )


def _read_opencv(path, wanted):
    """(frame, picture or None) for each frame of a video."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise InputError(f"{path} is no readable video; download or extract it again")
        frame, before, period = 0, None, None
        while capture.grab():
            now = capture.get(cv2.CAP_PROP_POS_MSEC)
            # OpenCV steps over a damaged frame without a word; every later picture would get its neighbour's label.
            if frame >= 2 and period > 0 and now - before > 1.5 * period:
                raise InputError(
                    f"{path} is damaged at frame {frame}: its time jumps from {before:.0f} to {now:.0f} ms; download or "
                    "extract it again, or try --reader pyav"
                )
            if frame >= 1:
                period = now - before if period is None else max(period, now - before)
            picture = None
            if frame in wanted:
                good, picture = capture.retrieve()
                if not good:
                    raise InputError(
                        f"{path}: frame {frame} cannot be decoded; download or extract it again"
                    )
            yield frame, picture
            frame, before = frame + 1, now
    except cv2.error as error:
        raise InputError(
            f"{path} cannot be decoded ({error.err}); download or extract it again"
        ) from error
    finally:
        capture.release()


def _read_pyav(path, wanted):
    try:
        import av
    except ImportError as error:
        raise InputError(
            "--reader pyav needs the package av: pip install av; or use --reader opencv"
        ) from error
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            for frame, decoded in enumerate(container.decode(stream)):
                yield frame, decoded.to_ndarray(format="bgr24") if frame in wanted else None
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise InputError(
            f"{path} is no whole readable video ({error}); download or extract it again"
        ) from error


_READ = {"opencv": _read_opencv, "pyav": _read_pyav}
