"""The order of the library's folders, and what loads without torch."""

import ast
import collections
import re
import subprocess
import sys

import pytest

from ipr_lib.files import REPOSITORY

LIBRARY = REPOSITORY / "ipr_lib"
# Lowest first: a folder, or a module at the top, imports only from those that stand before it.
ORDER = [
    "files",
    "progress",
    "parallel",
    "geometry",
    "data",
    "prepare",
    "studio",
    "integral",
    "network",
    "training",
    "evaluation",
    "config",
    "run",
    "experiment",
    "views",
    "inference",
    "course",
    "options",
    "__main__",
]
WITHOUT_TORCH = [
    "files",
    "parallel",
    "progress",
    "geometry",
    "data.h36m_layout",
    "prepare",
    "studio",
]


def imported_modules(path, inside):
    """Full names of what a file of the library imports of it, imports inside functions included.

    Args:
        path: of the file.
        inside: its package as a list of names, such as ["ipr_lib", "data"].
    """
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            parts = [node.module] if node.module else []
            if node.level:
                parts = inside[: len(inside) - node.level + 1] + parts
            base = ".".join(parts)
            # "from . import x" may name a module, "from .x import y" a function: the folder is the same.
            found += [f"{base}.{alias.name}" for alias in node.names]
    return [name for name in found if name.startswith("ipr_lib.")]


def imports_between_folders(library):
    """Set of (file, folder, imported folder) of all imports that leave their folder.

    Args:
        library: path of the package.
    """
    found = set()
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        own = parts[0]
        if own == "__init__":
            continue
        inside = ["ipr_lib", *parts[:-1]]
        for name in imported_modules(path, inside):
            other = name.split(".")[1]
            if other != own and other != "__version__":
                found.add((str(path.relative_to(library)), own, other))
    return found


def wrong_way(library):
    """The imports of `imports_between_folders` that go up, as lines to read."""
    lines = []
    for file, own, other in sorted(imports_between_folders(library)):
        assert own in ORDER, f"{file}: {own} has no place in the order of folders"
        if ORDER.index(other) >= ORDER.index(own):
            lines.append(f"{file} imports {other}, which stands above {own}")
    return lines


def test_folders_import_only_from_those_below():
    assert wrong_way(LIBRARY) == []


def test_an_import_that_goes_up_is_noticed(tmp_path):
    """Also inside a function, and between packages, which a circle of folders needs."""
    for name, text in {
        "data/store.py": "from ..files import InputError\n",
        "data/images.py": "def read():\n    from ..studio.drawing import render\n",
        "geometry/camera.py": "from .. import config\n",
    }.items():
        path = tmp_path / "ipr_lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert wrong_way(tmp_path / "ipr_lib") == [
        "data/images.py imports studio, which stands above data",
        "geometry/camera.py imports config, which stands above geometry",
    ]


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_preparation_loads_no_torch(module):
    """A worker process starts with nothing loaded; torch would cost it seconds and hundreds of MB."""
    code = f"import sys, ipr_lib.{module}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_spawned_worker_loads_no_torch(tmp_path):
    """The workers that write a capture and build stores, as they really start."""
    script = tmp_path / "ask.py"
    script.write_text(
        "import sys\n"
        "from ipr_lib.parallel import parallel_map\n"
        "def ask(_):\n"
        "    return 'torch' in sys.modules\n"
        "if __name__ == '__main__':\n"
        "    import ipr_lib.studio, ipr_lib.prepare\n"
        "    print(list(parallel_map(ask, [1, 2, 3], 2)))\n",
        encoding="utf-8",
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[False, False, False]"


def shadowed_names(library):
    """Public names of a folder that one of its own modules has as well.

    Args:
        library: path of the package.
    """
    found = []
    for init in sorted(library.rglob("__init__.py")):
        names = set()
        for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names |= {alias.name for alias in node.names}
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(
                    node.value
                )  # in __all__, or in a table of names that are loaded when asked for
        functions = names & public_names(init.parent)
        modules = {path.stem for path in init.parent.glob("*.py")}
        modules |= {path.parent.name for path in init.parent.glob("*/__init__.py")}
        found += [f"{init.parent.name}.{name}" for name in sorted(functions & modules)]
    return found


def public_names(folder):
    """Names of the public functions and classes that the modules of a folder define, inner folders included."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
    return {name for name in found if not name.startswith("_")}


def test_no_module_has_the_name_of_a_public_function_of_its_folder():
    """Else `from ipr_lib.x import name` gives a module or a function, as imports before it happened to go."""
    assert shadowed_names(LIBRARY) == []


def test_a_shadowed_name_is_noticed(tmp_path):
    folder = tmp_path / "ipr_lib" / "integral"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from .soft_argmax import soft_argmax\n", encoding="utf-8")
    (folder / "soft_argmax.py").write_text("def soft_argmax():\n    return 1\n", encoding="utf-8")
    assert shadowed_names(tmp_path / "ipr_lib") == ["integral.soft_argmax"]


def test_every_folder_says_what_it_is_for():
    for path in sorted(LIBRARY.rglob("__init__.py")):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), (
            f"{path} has no docstring"
        )


def unused_names(library, users):
    """Functions, classes and constants whose name stands nowhere but in their definition.

    Args:
        library: paths of the library's files.
        users: paths of what else may use them: notebooks, benchmarks, the site.
    """
    counts = collections.Counter()
    for path in [*library, *users]:
        counts.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    unused = []
    for path in library:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names = [node.name]
            if isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            unused += [f"{path.stem}.{name}" for name in names if counts[name] == 1]
    return unused


def test_nothing_in_the_library_is_dead():
    """Each function, class and constant is mentioned somewhere beside its definition and the tests."""
    library = sorted(LIBRARY.rglob("*.py"))
    users = [*REPOSITORY.glob("notebooks/**/*.ipynb"), *REPOSITORY.glob("b*/*.py")]
    allowed = {"__init__.__getattr__", "__init__.__dir__", "__init__.__version__", "conf"}
    assert [name for name in unused_names(library, users) if name not in allowed] == []


def test_dead_code_is_noticed(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "LIMIT = 3\n\n\ndef used():\n    return LIMIT\n\n\ndef dead():\n    return used()\n",
        encoding="utf-8",
    )
    assert unused_names([path], []) == ["module.dead"]


def programs():
    """All Python files of the repository."""
    found = []
    for folder in ("ipr_lib", "tests", "book", "benchmarks", "notebooks"):
        found += sorted((REPOSITORY / folder).rglob("*.py"))
    return found


def without_encoding(text):
    """Lines of a program that read or write text by the encoding of the system, which differs on Windows.

    Args:
        text: of the program.
    """
    lines = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        is_text = False
        if isinstance(node.func, ast.Attribute):
            is_text = node.func.attr in ("read_text", "write_text")
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            mode = node.args[1].value if len(node.args) > 1 else "r"
            is_text = "b" not in mode
        if is_text and "encoding" not in [keyword.arg for keyword in node.keywords]:
            lines.append(node.lineno)
    return lines


def test_text_is_utf8_on_every_system():
    found = []
    for path in programs():
        for line in without_encoding(path.read_text(encoding="utf-8")):
            found.append(f'{path.relative_to(REPOSITORY)}:{line}: add encoding="utf-8"')
    assert found == []


def test_text_without_encoding_is_noticed():
    program = (
        "path.read_text()\npath.write_text('a')\nopen(path)\nopen(path, 'w')\n"
        "path.read_text(encoding='utf-8')\nopen(path, 'rb')\nopen(path, 'a', encoding='utf-8')\n"
    )
    assert without_encoding(program) == [1, 2, 3, 4]
