"""environment.yml, requirements.lock, pyproject.toml and CITATION.cff say the same; the README's cell for Colab runs."""

import os
import re
import sys
import tomllib
from itertools import combinations
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from ipr_lib import __version__
from ipr_lib.files import REPOSITORY, data_folder, results_folder

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = [
    line
    for line in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
REQUIREMENTS = [
    Requirement(line)
    for line in PROJECT["dependencies"]
    + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
]
# What a marker may ask for: each system that the lock serves, on each Python from the lower bound on.
MACHINES = [
    default_environment()
    | {
        "sys_platform": system,
        "platform_system": name,
        "os_name": "nt" if system == "win32" else "posix",
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    for system, name, machine in (
        ("linux", "Linux", "x86_64"),
        ("darwin", "Darwin", "arm64"),
        ("win32", "Windows", "AMD64"),
    )
    for python in ("3.11", "3.12", "3.13", "3.14")
]


def pinned(machine):
    """{name: version} that the lock installs on a machine; fails on a package that is pinned twice there."""
    found = {}
    for requirement in map(Requirement, LOCK):
        if requirement.marker is None or requirement.marker.evaluate(machine):
            name = canonicalize_name(requirement.name)
            assert name not in found, (
                f"{name} is pinned twice on {machine['sys_platform']} {machine['python_version']}"
            )
            (pin,) = requirement.specifier
            found[name] = pin.version
    return found


def test_environment_file_is_thin_and_agrees():
    content = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    assert content["name"] == "ipr" and "conda-forge" in content["channels"]
    *plain, pip = content["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert "pip" in plain and len(plain) == 2
    python = Requirement(next(line for line in plain if line != "pip"))
    assert python.name == "python" and python.specifier == SpecifierSet(PROJECT["requires-python"])


def test_lock_holds_exact_versions_and_nothing_else():
    for line in LOCK:
        assert "://" not in line and " @ " not in line and not line.startswith("-"), (
            f"more than a version: {line}"
        )
        requirement = Requirement(line)
        assert re.fullmatch(r"==[\w.+!-]+", str(requirement.specifier)), (
            f"not one exact version: {line}"
        )


@pytest.mark.parametrize(
    "machine", MACHINES, ids=lambda m: f"{m['sys_platform']}-{m['python_version']}"
)
def test_lock_serves_every_dependency_once(machine):
    found = pinned(machine)
    for requirement in REQUIREMENTS:
        name = canonicalize_name(requirement.name)
        assert name in found, f"{requirement} is not in the lock; run `make lock`"
        assert requirement.specifier.contains(found[name], prereleases=True), (
            f"{name} {found[name]} is not {requirement}"
        )


def test_forks_of_a_package_carry_markers():
    names = [requirement.name for requirement in map(Requirement, LOCK)]
    for first, second in combinations(map(Requirement, LOCK), 2):
        if first.name == second.name:
            assert (
                first.marker and second.marker and str(first.specifier) != str(second.specifier)
            ), first.name
    assert names == sorted(names), "the lock is not in the order that `make lock` writes"


def test_every_dependency_has_a_lower_bound():
    for requirement in REQUIREMENTS:
        assert [pin.operator for pin in requirement.specifier] == [">="], (
            f"{requirement}: expected one lower bound"
        )
    assert len({requirement.name for requirement in REQUIREMENTS}) == len(REQUIREMENTS), (
        "a dependency stands twice"
    )


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((\S+)\)$", changes, re.MULTILINE)
    assert PROJECT["version"] == __version__ == citation["version"] == newest[1]
    assert str(citation["date-released"]) == newest[2]


def test_the_citation_is_one_of_the_paper():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    paper = citation["preferred-citation"]
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    names = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    for name, value in (("title", paper["title"]), ("author", names), ("year", paper["year"])):
        assert f"{name} = {{{value}}}" in readme


def test_the_cell_for_colab_sets_up_the_course(monkeypatch):
    """Colab's own module and IPython's commands are played; what they are asked for is looked at."""
    from IPython.core.inputtransformer2 import TransformerManager

    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (cell,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    asked = []
    colab = ModuleType("google.colab")
    colab.drive = SimpleNamespace(mount=lambda folder: asked.append(("mount", folder)))
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setattr(sys, "path", list(sys.path))
    shell = SimpleNamespace(
        system=lambda line: asked.append(("system", line)),
        run_line_magic=lambda name, line: asked.append((name, line)),
    )
    exec(TransformerManager().transform_cell(cell), {"get_ipython": lambda: shell})
    assert [name for name, _ in asked] == ["mount", "system", "pip", "cd"]
    clone, install, working = asked[1][1], asked[2][1], asked[3][1]
    folder = clone.split()[-1]
    extra = re.fullmatch(rf'install --quiet -e "{folder}\[(\w+)\]"', install)
    assert extra[1] in PROJECT["optional-dependencies"]
    assert sys.path[0] == folder and working == f"{folder}/notebooks"
    mounted = asked[0][1]
    for place in (data_folder(), results_folder()):
        assert str(place).startswith(f"{mounted}/MyDrive/")
    assert os.environ["IPR_DATA"] == str(data_folder())
