"""The library against the course, without running either: no dead code, and what says it is taught is."""

import ast
import functools
import re

import nbformat
import pytest

from ipr_lib.config import REPOSITORY
from ipr_lib.course.notebooks import NOTEBOOKS, list_notebooks

LIBRARY = REPOSITORY / "ipr_lib"
TAUGHT = re.compile(r"[Tt]aught in notebooks/(\d\d)_\w+\.ipynb((?:(?:,| and) (?:notebooks/)?\d\d(?:_\w+\.ipynb)?)*)")


def module_name(path):
    """ipr_lib/studio/scenes/body.py -> ipr_lib.studio.scenes.body; a package's __init__.py -> the package."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text()) for path in sorted(LIBRARY.rglob("*.py"))}
PACKAGES = {module_name(path) for path in LIBRARY.rglob("__init__.py")}


def imports(tree, module=""):
    """What a file's import statements make of names: {name: (module, name in it)}, (module, None) for modules."""
    found = {}
    package = module if module in PACKAGES else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "ipr_lib":
                    found[alias.asname or "ipr_lib"] = (alias.name if alias.asname else "ipr_lib", None)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join([*parts[:len(parts) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            if base.split(".")[0] == "ipr_lib":
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    found[alias.asname or alias.name] = (whole, None) if whole in TREES else (base, alias.name)
    return found


def references(node, names, module=None):
    """Every (module, name) of the library that a piece of code mentions; plain names are looked up in `module` too."""
    def resolve(expression):
        if isinstance(expression, ast.Name):
            return names.get(expression.id, (module, expression.id))
        if isinstance(expression, ast.Attribute):
            owner, name = resolve(expression.value)
            if name is None:
                whole = f"{owner}.{expression.attr}"
                return (whole, None) if whole in TREES else (owner, expression.attr)
        return None, ""

    found = {resolve(part) for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute)}
    for part in ast.walk(node):  # module_when_needed().name: any module that this file imports may be meant
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Call) and resolve(part.value.func)[0] == module:
            found |= {(owner, part.attr) for owner, name in names.values() if name is None}
    return found


def definitions(module):
    """{name: its node} for functions, classes and constants of a module; the rest, which runs on import, under ""."""
    found, rest = {}, []
    for node in TREES[module].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not references_a_registry(node):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            found |= {target.id: node for target in node.targets}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            found |= {target.id: node for target in node.targets[0].elts}
        else:
            rest.append(node)
    return found | {"": ast.Module(body=rest, type_ignores=[])}


def references_a_registry(node):
    """Whether a decorator hands a function to somebody who calls it: `torch.library.impl(...)` and the like."""
    return any("register" in (text := ast.unparse(decorator)) or ".impl(" in text for decorator in node.decorator_list)


def notebook_code(*paths):
    """The syntax tree of the code of notebooks that run in one namespace."""
    notebooks = [nbformat.read(path, as_version=4) for path in paths if path.exists()]
    cells = [cell.source for notebook in notebooks for cell in notebook.cells if cell.cell_type == "code"]
    return ast.parse(re.sub(r"^[ \t]*[%!].*$", "", "\n".join(cells), flags=re.MULTILINE))


def named_in_prose(path):
    """(module, name) of each `module.name` in a notebook's prose: exercises ask for such functions."""
    prose = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    pairs = re.findall(r"`(?:ipr_lib\.)?((?:\w+\.)*\w+)\.(\w+)(?:\([^`]*)?`", prose)
    return ast.parse("\n".join(f"import ipr_lib.{module}\nipr_lib.{module}.{name}" for module, name in pairs))


def users():
    """The syntax trees of what calls on the library from outside: command line, notebooks, site, benchmarks."""
    yield ast.parse("import ipr_lib.__main__\nipr_lib.__main__.main")
    for path in list_notebooks():
        yield notebook_code(path, NOTEBOOKS / "solutions" / path.name)
        yield named_in_prose(path)
    for path in [path for folder in ("book", "benchmarks") for path in sorted((REPOSITORY / folder).glob("*.py"))]:
        yield ast.parse(path.read_text())


def edges():
    """{(module, name): what its definition mentions, and what its module does on import}; names passed on by import too."""
    graph = {}
    for module, tree in TREES.items():
        names = imports(tree, module)
        graph |= {(module, name): {target} for name, target in names.items()}
        for name, node in definitions(module).items():
            graph[module, name] = references(node, names, module) | {(module, "")}
    return graph


EDGES = edges()


def used_by(tree):
    """(module, name) that a piece of code outside of the library mentions."""
    names = imports(tree)
    return references(tree, names) | set(names.values())


def reach(ahead, graph=EDGES):
    """All (module, name) that some of them lead to, step by step, themselves included."""
    seen = set()
    while ahead:
        seen |= ahead
        ahead = {target for source in ahead for target in graph.get(source, ())} - seen
    return seen


def dead(graph):
    """What nobody but tests could call: "module.name"."""
    reached = reach(set().union(*map(used_by, users())), graph)
    return [
        f"{module}.{name}" for module, name in graph
        if name in definitions(module) and name and (module, name) not in reached and not name.startswith("__")
    ]


def test_nothing_in_the_library_is_dead():
    """Each function, class and constant is reached from a notebook, the command line, the site or a benchmark."""
    assert not dead(EDGES), "remove it, or teach it"


def test_dead_code_is_noticed(monkeypatch):
    """Two functions that nobody calls but each other, put into a module that is in use."""
    pair = ast.parse("def one():\n    return other()\n\n\ndef other():\n    return one()")
    monkeypatch.setattr(TREES["ipr_lib.files"], "body", [*TREES["ipr_lib.files"].body, *pair.body])
    assert dead(edges()) == ["ipr_lib.files.one", "ipr_lib.files.other"]


def claims():
    """(module, name or None for the whole module, numbers of notebooks) of each docstring that says where it is taught."""
    for module, tree in TREES.items():
        for node in [tree, *(node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))]:
            text = " ".join((ast.get_docstring(node) or "").split())
            if found := TAUGHT.search(text):
                yield module, getattr(node, "name", None), [found[1], *re.findall(r"\b\d\d\b|\d\d(?=_)", found[2])]


@functools.cache
def used_in(number):
    """(module, name) that a notebook mentions."""
    (path,) = [path for path in list_notebooks() if path.name.startswith(number)]
    return used_by(notebook_code(path))


@pytest.mark.parametrize("module, name, numbers", list(claims()), ids=str)
def test_what_says_it_is_taught_is(module, name, numbers):
    """The notebook that a docstring names uses the function by name, or gets to the module; packages by any of their modules."""
    for number in numbers:
        used = used_in(number)
        if name:
            used = used | {target for source in used for target in EDGES.get(source, ()) if source[1] == target[1]}  # passed on
            assert (module, name) in used, f"{module}.{name} is said to be taught in notebook {number}, which never uses it"
        else:
            assert any(f"{owner}.".startswith(f"{module}.") for owner, _ in reach(used)), f"{number} does not get to {module}"


def test_every_mention_of_teaching_is_understood():
    """A docstring that says "taught in" in other words would go unchecked."""
    texts = [path.read_text() for path in sorted(LIBRARY.rglob("*.py"))]
    assert sum(len(re.findall(r"\b[Tt]aught in\b", text)) for text in texts) == len(list(claims()))


# --- size ---

@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_a_module_holds_one_idea(path):
    """Past 300 lines there are two, as a rule; a function of more than 60 lines of code is hard to follow."""
    assert len(path.read_text().splitlines()) <= 300, "split it by idea"
    lines = path.read_text().splitlines()
    for node in ast.walk(TREES[module_name(path)]):
        if isinstance(node, ast.FunctionDef):
            text = len((ast.get_docstring(node, clean=False) or "").splitlines())
            code = [line for line in lines[node.lineno - 1:node.end_lineno] if line.strip() and not line.strip().startswith("#")]
            assert len(code) - text <= 60, f"split {node.name}"


# --- the order to read it in ---

def reading_order(package):
    """[(place, module)] as a package's docstring lists them: lines of "place: module, module"."""
    lists = re.findall(r"^([\w' ,]+): ([\w., ]+)(?:;.*)?$", ast.get_docstring(TREES[package]).partition("\n")[2], flags=re.MULTILINE)
    return [(place, f"{package}.{name}") for place, names in lists for name in names.split(", ")]


@pytest.mark.parametrize("package", ["ipr_lib", "ipr_lib.studio"])
def test_the_reading_order_names_each_module_once(package):
    listed = sorted(module for _, module in reading_order(package))
    there = [module for module in TREES if module.startswith(f"{package}.") and module not in PACKAGES]
    if package == "ipr_lib":
        there = [module for module in there if not module.startswith("ipr_lib.studio.")]
    assert listed == sorted(there), "the docstring of the package's __init__.py lists other modules"


def test_the_reading_order_is_the_course_s():
    order = reading_order("ipr_lib")
    numbers = [place for place, _ in order if place != "throughout"]
    assert numbers == sorted(numbers)
    taught = {module: numbers for module, name, numbers in claims() if name is None}
    for place, module in order:
        assert place in taught.get(module, [place]), f"{module} stands under {place}, and says {taught[module]} itself"


def test_imports_run_one_way():
    """No circle of modules that import each other when they are loaded; imports within functions wait until then."""
    below = {}
    for module, tree in TREES.items():
        loaded = ast.Module(body=[node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], type_ignores=[])
        below[module] = {owner for owner, _ in imports(loaded, module).values()} - PACKAGES
    while below:
        lowest = {module for module, needs in below.items() if not needs & set(below)}
        assert lowest, f"these import each other: {', '.join(sorted(below))}"
        below = {module: needs for module, needs in below.items() if module not in lowest}
