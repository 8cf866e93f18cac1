"""Human3.6M's download: `metadata.xml` with names and cameras, archives, poses and videos.

The file follows the way through a download: what the sequences are called, where the cameras stand,
where the files lie, and what they hold. Taught in notebooks/02_prepare_human36m.ipynb.
"""

import re
import shutil
import signal
import tarfile
import threading
import xml.etree.ElementTree as ElementTree
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from ..data.h36m_layout import ACTION_NUMBERS, ARCHIVE_GB, CAMERAS, SUBACTIONS, SUBJECTS
from ..data.images import open_video
from ..files import InputError
from ..geometry import Camera

URL = "http://vision.imar.ro/human3.6m"  # of the data set's owners
METADATA_NAME = "metadata.xml"
RAW_JOINTS = 32  # joints of a recorded pose
# Kind of file -> name of its archive, and of the folder that some tools extract it to. The download's
# own tree is S#/MyPoseFeatures/KIND.
KINDS = {
    "D3_Positions": "Poses_D3_Positions",
    "D3_Positions_mono": "Poses_D3_Positions_mono",
    "D2_Positions": "Poses_D2_Positions",
    "Videos": "Videos",
}
READERS = ("opencv", "pyav")

_ALL_SUBJECTS = 11  # metadata.xml knows S2, S3, S4 and S10 too, whose poses were never handed out
_READ_SECONDS = 20.0  # a pose file takes milliseconds
_DOWNLOAD_AGAIN = "download or extract it again"
_GET_METADATA = f"get metadata.xml again; it lies in the code archive (Release-v1.x) of {URL}"


# ---------------------------------------------------------------- metadata.xml


@dataclass(frozen=True)
class Metadata:
    """What the preparation needs of `metadata.xml`.

    Attributes:
        path: the file.
        names: sequence name, e.g. "SittingDown 2", by (subject, action, subaction). The digit in a
            name means nothing.
        camera_names: names of cameras 1 … 4, as they stand in file names.
        w0: (300,) calibration of all cameras.
        counts: number of poses by (subject, action, subaction); empty where the file does not state
            them in the known form.
    """

    path: Path
    names: dict
    camera_names: tuple
    w0: np.ndarray
    counts: dict


def find_metadata(source: Path) -> Path:
    """Find `metadata.xml` in the folder of the download, or one folder below.

    Raises:
        InputError: there is no such folder, or it holds no metadata.xml.
    """
    source = Path(source)
    if not source.is_dir():
        raise InputError(
            f"{source}: no such folder; name the folder that holds the download of Human3.6M"
        )
    found = sorted(source.glob(METADATA_NAME)) + sorted(source.glob(f"*/{METADATA_NAME}"))
    if not found:
        raise InputError(
            f"{source} holds no {METADATA_NAME}; copy it there from the code archive (Release-v1.x) "
            f"of {URL}"
        )
    return found[0]


def read_metadata(path: Path) -> Metadata:
    """Read and check `metadata.xml`.

    Raises:
        InputError: the file is missing or damaged, or is not of the version that this library
            knows.
    """
    path = Path(path)
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {_GET_METADATA}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        # The latter two come from a damaged encoding mark.
        raise InputError(f"{path} is not a complete XML file ({error}); {_GET_METADATA}") from error
    try:
        names = _sequence_names(root)
        cameras = [_text(item) for item in root.findall("dbcameras/index2id/*")]
        if len(set(cameras)) != len(CAMERAS) or not all(name.isdecimal() for name in cameras):
            raise ValueError(
                f"dbcameras/index2id names the cameras {cameras}, expected four numbers"
            )
        w0 = _numbers(root.findtext("w0", ""))
        if w0.shape != (300,):
            raise ValueError(f"w0 holds {w0.size} numbers, expected 300")
    except ValueError as error:
        raise InputError(
            f"{path}: {error}; this is not the known version of the file, {_GET_METADATA}"
        ) from error
    return Metadata(path, names, tuple(cameras), w0, _pose_counts(root))


def _sequence_names(root):
    """Sequence name by (subject, action, subaction), out of the table `mapping`."""
    table = _table(root, "mapping")
    named = {}  # by title of the column, such as S1, and texts of action and subaction
    for row in table:
        for title, name in zip(table[0][2:], row[2:]):
            named[title, *row[:2]] = name
    names, seen = {}, set()
    for numbers in product(SUBJECTS, ACTION_NUMBERS, SUBACTIONS):
        subject, action, subaction = numbers
        name = named.get((f"S{subject}", str(action), str(subaction)), "")
        # Each name becomes part of a path, and no two sequences may share one.
        if not re.fullmatch(r"[A-Za-z0-9_ ]+", name):
            raise ValueError(
                f"mapping calls action {action}, subaction {subaction} of S{subject} {name!r}"
            )
        if (subject, name) in seen:
            raise ValueError(f"mapping gives two sequences of S{subject} one name, {name!r}")
        seen.add((subject, name))
        names[numbers] = name
    return names


def _pose_counts(root):
    """Number of poses by sequence: the shortest of four videos, and of motion capture.

    Videos and poses run at 50 Hz, motion capture ran at 200 Hz. Only the check of a prepared set
    compares the counts, so a table of another form is no reason to refuse the file.
    """
    table = _table(root, "frames")
    counts = {}
    try:
        for subject, action, subaction in product(SUBJECTS, ACTION_NUMBERS, SUBACTIONS):
            # The data set's own code looks up column action * 2 + subaction - 1, counted from 1.
            *videos, mocap = _numbers(table[subject - 1][action * 2 + subaction - 2])
            counts[subject, action, subaction] = int(min([*videos, mocap // 4]))
    except (ValueError, IndexError, OverflowError):
        return {}
    return counts


def _table(root, tag):
    """Rows of an XML table, each a list of its cells' texts."""
    rows = []
    for row in root.findall(f"{tag}/*"):
        rows.append([_text(cell) for cell in row])
    return rows


def _text(element):
    return (element.text or "").strip()


def _numbers(text):
    """Numbers of "[1 2.5 3]"; ValueError if it is anything else."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"expected numbers in brackets, found {text[:20]!r}")
    return np.array(text[1:-1].split(), float)


def read_camera(
    metadata: Metadata, subject: int, camera_id: int, width: int, height: int, lens: bool = False
) -> Camera:
    """Take one subject's camera out of `w0`.

    `w0` holds six numbers for each camera and subject (angles about x, y, z in rad; centre in mm),
    then nine for each camera (f, c, k, p), as the data set's own code reads them. R = Rx Ry Rz.

    Args:
        metadata: of the download.
        subject, camera_id: Human3.6M's numbers.
        width, height: size of the video's images, px.
        lens: keep the coefficients of the lens; without them the camera is the customary pinhole.
    Returns:
        Camera.
    Raises:
        InputError: `w0` holds no such camera.
    """
    place = 6 * ((camera_id - 1) * _ALL_SUBJECTS + subject - 1)
    angles, centre = np.split(metadata.w0[place : place + 6], 2)
    place = 6 * len(CAMERAS) * _ALL_SUBJECTS + 9 * (camera_id - 1)
    lens_numbers = metadata.w0[place : place + 9]
    f, c, k, p = np.split(lens_numbers, [2, 4, 7])
    finite = np.isfinite([*angles, *centre, *lens_numbers]).all()
    if not finite or not centre.any() or (f <= 0).any():
        raise InputError(
            f"{metadata.path}: w0 holds no camera {camera_id} for S{subject}; {_GET_METADATA}"
        )
    R = Rotation.from_euler("XYZ", angles).as_matrix()
    if not lens:
        k = p = None
    return Camera(R, centre, f, c, width, height, k, p)


# ---------------------------------------------------------------- where files lie, archives


def find_kind(source: Path, subject: int, kind: str) -> Path:
    """Find one kind of file of one subject.

    Args:
        source: folder of the download.
        subject: number.
        kind: one of KINDS.
    Returns:
        Path of a folder or of a .tgz archive; where there is neither, of the folder that is
        missing.
    """
    source, name = Path(source), KINDS[kind]
    person = source / f"S{subject}"
    features = person / "MyPoseFeatures"
    places = [features / kind, features / name, person / name, person / kind]
    for folder in (source, person, source / "archives"):
        for ending in ("tgz", "tar.gz"):
            places.append(folder / f"{name}_S{subject}.{ending}")
    for place in places:
        if place.exists():
            return place
    return places[0]


def extract(
    archive: Path, subject: int, wanted: set, target: Path, limit_gb: float = ARCHIVE_GB
) -> None:
    """Take some files out of an archive, into one flat folder.

    Every member is checked before the first byte is written.

    Args:
        archive: path of a .tgz.
        subject: number; a member that lies in another subject's folder is an error.
        wanted: file names to take, without folders.
        target: the folder, made if it is missing.
        limit_gb: what the archive may unfold to at most, GB.
    Raises:
        InputError: the archive is too large, truncated, damaged or another subject's; or it has a member that
            no such archive needs, which is a path that leads outside, a link or a device.
    """
    target = Path(target)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members, n_bytes = [], 0
            for member in tar:
                n_bytes += member.size
                if n_bytes > limit_gb * 1e9:
                    raise InputError(
                        f"{archive} unfolds to {n_bytes / 1e9:.3g} GB or more, and at most {limit_gb:g} GB "
                        "are allowed; download it again, or allow more by --archive-gb"
                    )
                members.append(member)
            while tar.fileobj.read(1 << 20):  # to the end, where the checksum lies
                pass
            for member in members:
                _check_member(archive, member, subject)
            target.mkdir(parents=True, exist_ok=True)
            for member in members:
                name = PurePosixPath(member.name).name
                if member.isreg() and name in wanted:
                    with tar.extractfile(member) as content, open(target / name, "wb") as file:
                        shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise InputError(
            f"{archive} is truncated or damaged ({error}); download it again"
        ) from error
    except OSError as error:
        raise InputError(f"{archive} cannot be extracted to {target}: {error}") from error


def _check_member(archive, member, subject):
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
        raise InputError(
            f"{archive}: member {member.name!r} leads outside of its folder, or is a link or a device; "
            "get the archive again"
        )
    for folder in path.parts:
        if re.fullmatch(r"S\d+", folder) and folder != f"S{subject}":
            raise InputError(
                f"{archive}: {member.name!r} belongs to {folder}, expected S{subject}; "
                "rename the archive"
            )


# ---------------------------------------------------------------- poses


def read_pose(path: Path, width: int) -> np.ndarray:
    """Read the variable `Pose` of a NASA CDF file.

    Args:
        path: the file.
        width: numbers of one pose, e.g. 96 for 32 joints in 3D.
    Returns:
        (n, width) float64, as in the file; not yet checked to be finite.
    Raises:
        InputError: the file is missing, truncated or damaged, has no `Pose`, or one of another
            width.
    """
    try:
        import cdflib
    except ImportError as error:
        raise InputError("reading poses needs the package cdflib: pip install cdflib") from error

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing; {_DOWNLOAD_AGAIN}")
    try:
        with _time_limit(_READ_SECONDS):
            file = cdflib.CDF(path)
            info = file.cdf_info()
            if "Pose" not in info.zVariables + info.rVariables:
                raise InputError(f"{path} has no variable Pose; is it a file of poses?")
            shape = file.varinq("Pose").Dim_Sizes
            # Compression gains a factor of 1032 at most. A larger size is damage, and would fill the memory.
            most = 1032 * path.stat().st_size / 4  # float32
            if not 0 < np.prod(shape, dtype=float) <= most:
                raise InputError(
                    f"{path}: Pose has {shape} numbers, expected n poses of {width}; download it again"
                )
            pose = np.asarray(file.varget("Pose"), np.float64)
    except InputError:
        raise
    except Exception as error:  # cdflib raises a dozen kinds for damaged files; all mean the same
        raise InputError(
            f"{path} is not a complete CDF file ({type(error).__name__}: {error}); {_DOWNLOAD_AGAIN}"
        ) from error
    if pose.ndim != 3 or len(pose) != 1 or pose.shape[2] != width:
        raise InputError(
            f"{path}: Pose has {pose.shape} numbers, expected n poses of {width}; download it again"
        )
    return pose[0]


@contextmanager
def _time_limit(seconds):
    """Raise TimeoutError in the block after `seconds` of work.

    A damaged count sends cdflib through billions of rounds. The limit needs signals, that is a main
    thread and not Windows; elsewhere there is none.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not hasattr(signal, "setitimer"):
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


# ---------------------------------------------------------------- videos


def video_frames(path: Path, wanted, n_frames: int, reader: str = "opencv"):
    """Read some frames of a video, forward and once; the other frames are never turned into arrays.

    Args:
        path: the file.
        wanted: ascending 0-based frame numbers.
        n_frames: number of frames that the video must have at least.
        reader: one of READERS.
    Yields:
        (frame, (H, W, 3) uint8 BGR), one for each wanted frame.
    Raises:
        InputError: the file is missing or unreadable, damaged in the middle, or too short.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing; {_DOWNLOAD_AGAIN}")
    wanted = {int(frame) for frame in wanted}
    read = _read_opencv if reader == "opencv" else _read_pyav
    n_read = 0
    shape = None
    for frame, image in read(path, wanted):
        if image is not None:
            if shape is None:
                shape = image.shape
            if image.shape != shape:
                raise InputError(
                    f"{path}: frame {frame} is of another size than those before it; download it again"
                )
            yield frame, image
        n_read = frame + 1
        if n_read == n_frames:
            return
    raise InputError(
        f"{path} has {n_read} frames, but there are {n_frames} poses; {_DOWNLOAD_AGAIN}"
    )


def _read_opencv(path, wanted):
    """Yield (frame, image or None) for each frame of a video."""
    capture = open_video(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise InputError(f"{path} is not a readable video; {_DOWNLOAD_AGAIN}")
        frame = 0
        time = 0.0
        longest = 0.0  # ms between two frames, so far
        while capture.grab():
            before = time
            time = capture.get(cv2.CAP_PROP_POS_MSEC)
            # OpenCV skips a damaged frame silently, and every later image would get its neighbour's label.
            if frame >= 2 and longest > 0 and time - before > 1.5 * longest:
                raise InputError(
                    f"{path} is damaged at frame {frame}: its time jumps from {before:.0f} to {time:.0f} ms; "
                    f"{_DOWNLOAD_AGAIN}, or try --reader pyav"
                )
            if frame >= 1:
                longest = max(longest, time - before)
            image = None
            if frame in wanted:
                decoded, image = capture.retrieve()
                if not decoded:
                    raise InputError(f"{path}: frame {frame} cannot be decoded; {_DOWNLOAD_AGAIN}")
            yield frame, image
            frame += 1
    except cv2.error as error:
        raise InputError(f"{path} cannot be decoded ({error.err}); {_DOWNLOAD_AGAIN}") from error
    finally:
        capture.release()


def _read_pyav(path, wanted):
    """Yield (frame, image or None) for each frame of a video."""
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
                image = decoded.to_ndarray(format="bgr24") if frame in wanted else None
                yield frame, image
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise InputError(
            f"{path} is not a complete, readable video ({error}); {_DOWNLOAD_AGAIN}"
        ) from error
