"""Is this machine ready for the course? `python -m ipr_lib doctor` prints a line for each thing that the course needs.

A line begins with OK, with NOTE where the course works without the thing, or with FAIL where it does not.
"""

import os
import platform
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..files import INSTALL, InputError, data_folder, device_name, results_folder

OK, NOTE, FAIL = "OK", "NOTE", "FAIL"
FREE_GB = 8  # what data and results of profile laptop may take


def diagnose() -> list[tuple[str, str]]:
    """Check what the course needs: Python, packages, torch, processor, folders, a GPU, the real data.

    Returns:
        pairs of OK, NOTE or FAIL, and a text: what was found and, unless it is OK, what to do.
    """
    try:
        project = metadata.metadata("ipr_lib")
    except metadata.PackageNotFoundError:
        return [(FAIL, f"ipr_lib is not installed in this Python: {INSTALL}")]
    lines = [check_python(project["Requires-Python"], platform.python_version())]
    for requirement in project.get_all("Requires-Dist"):
        lines.append(check_package(requirement))
    lines += check_torch()
    lines.append(check_folder(data_folder()))
    lines.append(check_folder(results_folder()))
    lines.append(check_space(data_folder()))
    lines.append(check_real_data(data_folder()))
    return lines


def check_python(wanted: str, found: str) -> tuple[str, str]:
    """Compare the version of Python with the one that the project asks for, such as ">=3.11"."""
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return OK, f"Python {found}"
    return FAIL, f"Python {found}, needs {wanted}: run `make env PYTHON=...` with a newer one"


def check_package(text: str) -> tuple[str, str]:
    """Compare an installed package with what the project asks for.

    Args:
        text: a requirement as the project's metadata states it, such as 'av>=13; extra == "dev"'. What the library
            itself and the extra `course` ask for is needed by every notebook.
    """
    wanted = Requirement(text)
    is_needed = wanted.marker is None or wanted.marker.evaluate({"extra": "course"})
    sign = FAIL if is_needed else NOTE
    advice = INSTALL
    if not is_needed:
        advice += ", or do without: no notebook fails without it"
    try:
        found = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return sign, f"{wanted.name} is missing, needs {wanted.specifier}: {advice}"
    if not wanted.specifier.contains(found, prereleases=True):
        return sign, f"{wanted.name} {found}, needs {wanted.specifier}: {advice}"
    return OK, f"{wanted.name} {found}"


def check_torch() -> list[tuple[str, str]]:
    """Load PyTorch, and look for its threads and for a GPU."""
    try:
        import torch
        import torchvision  # noqa: F401 - a build that does not fit torch fails here

        from ..run import default_device
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        return [(FAIL, f"torch and torchvision do not load together ({reason}): {INSTALL}")]
    lines = []
    threads, cores = torch.get_num_threads(), os.cpu_count()
    if 2 * threads >= cores:
        lines.append((OK, f"{threads} threads on {cores} cores"))
    else:
        text = f"{threads} threads on {cores} cores: unset OMP_NUM_THREADS for full speed"
        lines.append((NOTE, text))
    try:
        device = default_device()
    except InputError as error:
        return [*lines, (FAIL, str(error))]
    if device.type == "cpu":
        text = f"no GPU, {device_name(device)}: profiles smoke and laptop do not need one"
        return [*lines, (NOTE, text)]
    return [*lines, (OK, f"GPU: {device_name(device)}")]


def check_folder(folder: Path) -> tuple[str, str]:
    """Write a file into a folder, and remove it; the folder is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return FAIL, f"cannot write into {folder} ({error.strerror}): check its permissions"
    return OK, f"can write into {folder}"


def check_space(folder: Path) -> tuple[str, str]:
    """Compare the free space of a folder's disk with what the course takes under profile laptop."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if free < FREE_GB:
        return NOTE, f"{free:.0f} GB free on disk: profile laptop may take {FREE_GB} GB"
    return OK, f"{free:.0f} GB free on disk"


def check_real_data(folder: Path) -> tuple[str, str]:
    """Whether the prepared Human3.6M lies in the folder of data."""
    if (folder / "human36m").is_dir():
        return OK, "Human3.6M is prepared"
    return NOTE, "no Human3.6M: only profile full needs it, and notebook 02 prepares it"
