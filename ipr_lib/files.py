"""Files that are either whole or absent, and the one error that a user is meant to read."""

import errno
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from . import __version__

# The checkout that this library lies in; an installed copy has none.
REPOSITORY = Path(__file__).resolve().parents[1]

# How the environment is built; Windows has no make.
INSTALL = "run `make env`" if os.name == "posix" else 'run `pip install -e ".[course]"`'
# What a user can do where the system refuses to write; other errors have other causes.
_MEND = {
    errno.ENOSPC: "make room on that disk, then run again",
    errno.EDQUOT: "make room within your quota on that disk, then run again",
    errno.EACCES: "check the permissions of its folder, then run again",
    errno.EPERM: "check the permissions of its folder, then run again",
    errno.EROFS: "that disk is read-only; name another folder",
}
# Bytes in the name of a socket that every system takes; macOS, with 104, takes the fewest.
_LONGEST_SOCKET = 100
_PARTIAL, _LOCK = ".partial-", ".lock"
_SHORT = 0.2  # seconds that one waits for a lock without a word
_YOUNG = 60.0  # seconds; between making a folder and locking it lies a moment in which it looks like a leftover


class InputError(Exception):
    """Something a user can mend: the message names the file or value, what was expected and what to do.

    The command line prints it as one line and exits with its code; it never means a bug in the library.
    """

    exit_code = 2


def data_folder() -> Path:
    """Folder of captures, prepared sets and crop stores: IPR_DATA, or `data` where `_default` says."""
    return _default("IPR_DATA", "data")


def results_folder() -> Path:
    """Folder of the runs: IPR_RESULTS, or `results` where `_default` says."""
    return _default("IPR_RESULTS", "results")


def home_folder() -> Path:
    """The checkout; an installed copy has none, and works in the working directory."""
    return REPOSITORY if (REPOSITORY / "notebooks").is_dir() else Path.cwd()


def _default(variable, name):
    """The folder that a variable names; else NAME in `home_folder`."""
    return Path(os.environ.get(variable) or home_folder() / name).expanduser().absolute()


@contextmanager
def atomic_path(path):
    """Give a temporary name beside `path`; move it there only when the block ends without an error.

    Args:
        path: final name of a file or folder. Its parent folder is made if missing.
    Yields:
        Path of the temporary name, with the same suffix. Write a file there, or make a folder there.
    Raises:
        InputError: the system refuses something within the block, because the disk is full for example. Nothing is left
            behind then.
    """
    path = Path(path)
    try:
        with scratch_folder(path.parent) as scratch:
            temporary = scratch / path.name
            yield temporary
            if temporary.is_file():
                # A power cut after the rename must not leave an empty file. Windows wants it open for writing.
                with open(temporary, "r+b") as file:
                    os.fsync(file.fileno())
            elif path.is_dir():  # a folder cannot be renamed onto one that is not empty
                path.rename(scratch / "replaced")
            temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _MEND:
            reason += f"; {_MEND[error.errno]}"
        elif error.filename is not None and _PARTIAL not in str(error.filename):
            reason += f": {error.filename}"
        raise InputError(f"cannot write {path}: {reason}") from error


@contextmanager
def scratch_folder(parent):
    """A folder for the time being, removed at the end; leftovers of killed processes beside it are removed first.

    Args:
        parent: folder to make it in, made itself if missing.
    Yields:
        Path of the folder. While the block runs it is locked, which tells it from a leftover.
    Raises:
        OSError: it cannot be made.
    """
    parent = Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent.resolve())
    folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=parent))
    try:
        with _locked(folder / _LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(thing):
    """Keep other processes from writing the same thing while the block runs.

    Where one does so, wait until it is done, and say for whom. Inside the block, a thread may say
    once more that it writes the same thing.

    Args:
        thing: folder or file that is written, such as a run's folder, a capture, a prepared set or
            a crop store.
    """
    thing = Path(thing).resolve()
    lock = thing.with_name(f".{thing.name}{_LOCK}")
    owner = thing.with_name(f".{thing.name}.owner")
    if FileLock(lock, is_singleton=True).is_locked:  # by a caller of this one
        yield
        return
    with ExitStack() as stack:
        if not stack.enter_context(_locked(lock, _SHORT)):
            with suppress(OSError):  # it has not said, or ended meanwhile
                name = owner.read_text(encoding="utf-8")
                line = f"{thing} is being written by {name}; waiting until that is done"
                print(line, file=sys.stderr, flush=True)
            stack.enter_context(_locked(lock))
        command = " ".join(" ".join(sys.orig_argv).split())  # on one line
        with suppress(OSError):  # without a name the lock holds all the same
            text = f"process {os.getpid()} on {platform.node()} ({printable(command)})"
            owner.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                owner.unlink()


@contextmanager
def _locked(file, seconds=-1):
    """Hold a lock while the block runs.

    Args:
        file: of the lock, removed at the end.
        seconds: to wait for another process that holds it; below 0, as long as it takes.
    Yields:
        False where another process still holds it after that time; True otherwise.
    """
    lock = FileLock(file, is_singleton=True)
    held = True
    try:
        lock.acquire(seconds)
    except Timeout:
        held = False
    except OSError:  # nobody can write there, or the disk knows no locks: nothing to wait for
        held = seconds < 0
    try:
        yield held
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows removes it when it is released, not before
                file.unlink()
            lock.release()


@functools.cache  # once a process is enough
def _sweep(parent):
    """Remove scratch folders whose process ended without a chance to do so: nobody holds their lock."""
    for folder in parent.glob(f"{_PARTIAL}*"):
        with suppress(OSError):  # its owner, or another sweeper, was faster
            if time.time() - folder.stat().st_mtime < _YOUNG:
                continue
            with _locked(folder / _LOCK, 0) as nobody_holds_it:
                pass
            if nobody_holds_it:
                shutil.rmtree(folder, ignore_errors=True)


def write_json(path, value):
    """Write `value` as indented JSON, atomically. NaN and infinity are refused (ValueError): they are not JSON."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path, mend=None):
    """Read a JSON file.

    Args:
        path: the file.
        mend: what to do where it is missing or damaged; by default, to run again what writes it.
    Raises:
        InputError: the file is missing or damaged, or would fill the memory.
    """
    try:
        data = Path(path).read_bytes()
        # What Python needs for it, roughly: 200 bytes an object, 80 a list, 40 a value.
        values = data.count(b",") * 40 + data.count(b"[") * 80 + data.count(b"{") * 200
        check_unfolded(path, len(data) + values)
        return json.loads(data)
    except FileNotFoundError as error:
        mend = mend or "run the step that writes it first"
        raise InputError(f"{path} is missing; {mend}") from error
    except (ValueError, OSError, RecursionError) as error:
        mend = mend or "delete it and run again"
        raise InputError(f"{path} cannot be read as JSON ({error}); {mend}") from error


def check_unfolded(path, n_bytes):
    """InputError where a file from outside would unfold to more than the memory should be filled with."""
    limit = float(
        os.environ.get("IPR_UNFOLD_GB", 4)
    )  # set by --unfold-gb, which worker processes inherit
    if n_bytes > limit * 1e9:
        raise InputError(
            f"{path} unfolds to {n_bytes / 1e9:.3g} GB, and at most {limit:g} GB are allowed; get it again, or allow more "
            "by --unfold-gb"
        )


def can_be_socket(path) -> bool:
    """Whether a socket may have this name: the system knows sockets with names, and it is short enough."""
    return os.name == "posix" and len(os.fsencode(path)) <= _LONGEST_SOCKET


def printable(path) -> str:
    """A file's name as text that every program can show: bytes that are not UTF-8 are written out, as in a\\xff.jpg."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# --- what a number was made by ---


def commit() -> str:
    """Short hash of the repository's commit, with "+" where its files have changed since; the version outside of git."""
    if not (REPOSITORY / ".git").exists():  # git would answer for a repository further up
        return f"version {__version__}"
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--exclude=*"]
    try:
        done = subprocess.run(
            [*command, "--abbrev=10", "--dirty=+"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"
    return done.stdout.strip()


def device_name(device) -> str:
    """A torch device in words: the GPU's name, or the processor's with the threads in use and a limit on its instructions."""
    import torch  # here alone: worker processes import this module, and need no torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine() or "unknown processor"
    if Path("/proc/cpuinfo").exists():  # Linux
        model = re.search(
            r"model name\s*: (.*\S)", Path("/proc/cpuinfo").read_text(encoding="utf-8")
        )
        if model:
            name = model[1]
    name = f"{name}, {torch.get_num_threads()} threads"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{name}, limited to {limit}" if limit else name
