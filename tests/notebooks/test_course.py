"""The course without running it: format and anatomy of every notebook, its links, and the names it takes from ipr_lib."""

import ast
import importlib
import inspect
import re
import types
import urllib.parse
from pathlib import Path

import nbformat
import pytest

from ipr_lib.course import exercises
from ipr_lib.course.notebooks import list_notebooks
from ipr_lib.files import REPOSITORY

NOTEBOOKS = list_notebooks()
PARAMETERS = {"profile": "laptop", "seed": 0, "overrides": {}, "results_dir": None}
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|Users|root|work|tmp|mnt|content)/|\b[A-Z]:\\")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def own(notebook):
    """The notebook without its exercises, which test_solutions.py looks at."""
    kept = [cell for cell in notebook.cells if exercises.kind_of(cell) is None]
    return nbformat.from_dict({**notebook, "cells": kept})


def tree(cell):
    """The syntax tree of a code cell; lines of IPython's own (%, !) count as blank."""
    return ast.parse(re.sub(r"^[ \t]*[%!].*$", "", cell.source, flags=re.MULTILINE))


def place(notebook, pattern):
    """Position in the whole prose of the first match of `pattern`, with the cell's number; (-1, 0) if there is none."""
    for number, cell in enumerate(notebook.cells):
        match = (
            re.search(pattern, cell.source, flags=re.MULTILINE)
            if cell.cell_type == "markdown"
            else None
        )
        if match:
            return number, match.start()
    return -1, 0


def test_the_course_begins_at_00():
    assert NOTEBOOKS and NOTEBOOKS[0].name == "00_start_here.ipynb"
    numbers = [path.name[:2] for path in NOTEBOOKS]
    assert len(set(numbers)) == len(numbers)


# --- format ---


def test_format_is_valid_and_clean(notebook):
    check_format(notebook)


def check_format(notebook):
    """Current format, the kernel's metadata alone, tags alone, and nothing that a run leaves."""
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert (
        notebook.metadata.kernelspec.name == "python3"
        and notebook.metadata.kernelspec.language == "python"
    )
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}, (
        "metadata beyond the kernel (widget state?)"
    )
    assert set(notebook.metadata.get("language_info", {})) <= {"name"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, f"cell {cell.id} holds metadata beyond tags"
    for cell in cells(notebook, "code"):
        assert not cell.outputs, f"cell {cell.id} holds outputs"
        assert cell.execution_count is None, f"cell {cell.id} holds an execution count"
    assert not cells(notebook, "raw")
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name) for name in ids)


def test_parameters_are_the_four_literals(notebook):
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    body = tree(cell).body
    assert all(isinstance(node, ast.Assign) for node in body), "something other than assignments"
    assert {node.targets[0].id: ast.literal_eval(node.value) for node in body} == PARAMETERS


def test_config_follows_the_parameters(notebook):
    code = cells(notebook, "code")
    number = next(i for i, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", []))
    assert re.search(
        r"cfg = (config\.)?load_config\(profile, seed=seed, \*\*overrides\)",
        code[number + 1].source,
    )
    assert "print(" in code[number + 1].source


def test_no_machine_paths(notebook):
    check_paths(notebook)


def check_paths(notebook):
    """No cell names a path of one machine."""
    for cell in notebook.cells:
        assert not MACHINE_PATH.search(cell.source), f"cell {cell.id} names a path of one machine"


# --- anatomy ---


def test_data_are_found_whatever_the_working_folder_is(notebook):
    """Editors differ in the working folder of a notebook, so no cell opens a file by a relative path."""
    for cell in cells(notebook, "code"):
        for node in ast.walk(tree(cell)):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            assert name not in ("cwd", "getcwd"), cell.id
            if name == "Path":
                assert node.args, f"{cell.id}: Path() is the working folder"
            if name not in ("Path", "open", "imread", "load", "Image") or not node.args:
                continue
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                assert Path(first.value).is_absolute(), f"{cell.id}: {first.value}"


def test_anatomy(path, notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    title = re.match(r"# (\d\d) · \S.*\n", first.source)
    assert title and title[1] == path.name[:2], "the first line is not '# NN · Title'"
    order = {
        "title": place(notebook, r"^# "),
        "You will": place(notebook, r"^(#+ |\*\*)You will"),
        "reading time": place(notebook, r"(?i)\breading\b.*\bmin"),
        "Summary": place(notebook, r"^#+ .*Summary"),
        "Exercises": place(notebook, r"^#+ .*Exercises"),
        "previous / next": place(notebook, r"(?i)(previous|next): \[|←|→"),
        "References": place(notebook, r"^#+ .*References"),
    }
    missing = [name for name, found in order.items() if found[0] < 0]
    assert not missing, f"missing: {', '.join(missing)}"
    names = list(order)
    assert sorted(names, key=order.get) == names, (
        f"order: {', '.join(sorted(names, key=order.get))}"
    )
    assert order["Summary"][0] >= len(own(notebook).cells) - 8


# --- what a notebook leans on ---


def test_relative_links_resolve(path, notebook):
    check_links(path, notebook)


def check_links(path, notebook):
    """What a notebook at `path` links to by a relative address is there, inside the repository."""
    for cell in cells(notebook, "markdown"):
        text = re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
        links = re.findall(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=[\"']([^\"']+)", text)
        for link in filter(None, (target for pair in links for target in pair)):
            if re.match(r"[a-z]+:|#|//", link):
                continue
            target = path.parent / urllib.parse.unquote(link.partition("#")[0])
            assert target.exists(), f"cell {cell.id} links to {link}, which is not there"
            assert target.resolve().is_relative_to(REPOSITORY), (
                f"cell {cell.id} links out of the repository: {link}"
            )


def imported(node):
    """(name in the notebook, object) of everything that an import statement takes from ipr_lib."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == "ipr_lib":
                module = importlib.import_module(alias.name)
                yield (
                    (alias.asname, module)
                    if alias.asname
                    else ("ipr_lib", importlib.import_module("ipr_lib"))
                )
    elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ipr_lib":
        module = importlib.import_module(node.module)
        for alias in node.names:
            assert alias.name != "*", "import * hides where names come from"
            assert not alias.name.startswith("_"), f"{node.module}.{alias.name} is private"
            if not hasattr(module, alias.name):  # a submodule that nobody has imported yet
                importlib.import_module(f"{node.module}.{alias.name}")
            yield alias.asname or alias.name, getattr(module, alias.name)


def resolve(node, names):
    """The object of ipr_lib that an expression a.b.c stands for, or None; AttributeError where it does not exist."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        base = resolve(node.value, names)
        if isinstance(base, types.ModuleType):
            assert not node.attr.startswith("_") or node.attr.startswith("__"), (
                f"{base.__name__}.{node.attr} is private"
            )
            return getattr(base, node.attr)
    return None


def test_names_of_the_library_exist(notebook):
    check_names(notebook)


def check_names(notebook):
    """Every name imported from ipr_lib, every attribute of its modules, and the arguments of every call of theirs."""
    trees = [tree(cell) for cell in cells(notebook, "code")]
    names = dict(pair for parsed in trees for node in ast.walk(parsed) for pair in imported(node))
    assert names, "the notebook does not use the library"
    assigned = {
        node.id
        for parsed in trees
        for node in ast.walk(parsed)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {node.arg for parsed in trees for node in ast.walk(parsed) if isinstance(node, ast.arg)}
    assert not assigned & set(names), f"{assigned & set(names)} hides a name of the library"
    for parsed in trees:
        for node in ast.walk(parsed):
            if isinstance(node, ast.Attribute):
                resolve(node, names)
            if not isinstance(node, ast.Call) or not callable(
                function := resolve(node.func, names)
            ):
                continue
            starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            if starred or any(keyword.arg is None for keyword in node.keywords):
                continue
            try:
                inspect.signature(function).bind(
                    *node.args, **{keyword.arg: None for keyword in node.keywords}
                )
            except TypeError as error:
                pytest.fail(f"line {node.lineno}: {ast.unparse(node)}: {error}")


# --- written out once ---


def written_out(tree):
    """Functions of a syntax tree that are written out to be compared: called naive_… or …_by_hand."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {
        node.name: node
        for node in functions
        if node.name.startswith("naive_") or node.name.endswith("_by_hand")
    }


def names_in(node):
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def comparisons(tree):
    """What a syntax tree asserts: assert statements, and calls of the testing functions of NumPy and PyTorch."""
    for node in ast.walk(tree):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Assert) or re.match(r"(np|torch)\.testing\.assert_", called):
            yield node


def compared(trees):
    """Names whose values some comparison of a notebook depends on: through assignments, loops and other functions."""
    depends = [
        (names_in(node), names_in(node.value))
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
    ]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.For):
                depends.append((names_in(node.target), names_in(node.iter)))
            elif isinstance(node, ast.FunctionDef):
                depends.append(({node.name}, set().union(*map(names_in, node.body))))
    found = set().union(*(names_in(node) for tree in trees for node in comparisons(tree)))
    while (
        more := {name for targets, sources in depends if targets & found for name in sources}
        - found
    ):
        found |= more
    return found


def test_what_is_written_out_is_compared(notebook):
    """The rule of entry: a function written out in a notebook has to give what the library's gives, or another count does."""
    trees = [tree(cell) for cell in cells(notebook, "code")]
    written = set().union(*(written_out(parsed) for parsed in trees))
    assert written <= compared(trees), f"never compared: {written - compared(trees)}"


def test_a_function_that_nobody_compares_is_noticed():
    plain = [
        ast.parse(
            "def naive_sum(x):\n    return x\n\ndef naive_mean(x):\n    return naive_sum(x) / 2"
        ),
        ast.parse("y = naive_mean(3)"),
    ]
    assert {"naive_sum", "naive_mean"} & compared(plain) == set()
    assert {"naive_sum", "naive_mean"} <= compared([*plain, ast.parse("assert np.isclose(y, 1.5)")])


def test_nothing_is_written_out_twice():
    """No two notebooks write out a function of the same name, or of the same shape under another one."""
    names, shapes = {}, {}
    for path in NOTEBOOKS:
        for cell in cells(nbformat.read(path, as_version=4), "code"):
            parsed = tree(cell)
            for name in written_out(parsed):
                assert name not in names, (
                    f"{name} is written out in {names[name]} and in {path.name}"
                )
                names[name] = path.name
            for node in ast.walk(parsed):
                if (
                    isinstance(node, ast.FunctionDef)
                    and sum(isinstance(part, ast.stmt) for part in ast.walk(node)) > 4
                ):
                    shape = re.sub(r"(?:id|arg|name)='\w+'", "", ast.dump(node))
                    assert shape not in shapes, (
                        f"{node.name} of {path.name} does what {shapes[shape]} does"
                    )
                    shapes[shape] = f"{node.name} of {path.name}"
