"""Files that are either whole or absent, and the one error that a user is meant to read."""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """Something a user can mend: the message names the file or value, what was expected and what to do.

    The command line prints it as one line and exits with code 2; it never means a bug in the library.
    """


@contextmanager
def atomic_path(path):
    """Give a temporary name beside `path`; move it there only when the block ends without an error.

    Args:
        path: final name of a file or folder. Its parent folder is made if missing.
    Yields:
        Path of the temporary name, with the same suffix. Write a file there, or make a folder there.
    Raises:
        InputError: the folder cannot be written to, or the disk is full. Nothing is left behind in either case.
    """
    path = Path(path)
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=path.parent))
        temporary = scratch / path.name
        yield temporary
        if temporary.is_file():
            with open(temporary, "rb") as file:  # a power cut after the rename must not leave an empty file
                os.fsync(file.fileno())
        elif path.is_dir():  # a folder cannot be renamed onto one that is not empty
            path.rename(scratch / "replaced")
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; check free space and permissions, then run again"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def write_json(path, value):
    """Write `value` as indented JSON, atomically. NaN and infinity are refused (ValueError): they are not JSON."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def read_json(path):
    """Read a JSON file; InputError names the file where it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; run the step that writes it first") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); delete it and run again") from error
