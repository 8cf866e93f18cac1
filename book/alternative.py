"""Figures in words, for who cannot see them: from the figure's own titles and labels, and the prose round it."""

import ast
import re

WORDS = {"title": "panels", "axis": "axes", "label": "shown"}
ROLES = {
    "title": "title",
    "set_title": "title",
    "suptitle": "title",
    "xlabel": "axis",
    "ylabel": "axis",
    "set_xlabel": "axis",
    "set_ylabel": "axis",
    "label": "label",
}


def alternative_text(cells, number):
    """What a figure of a code cell shows, in words.

    Args:
        cells: of a notebook.
        number: of the code cell that draws.
    Returns:
        one line: the heading that the figure stands under, its titles, axes and legend as the code names them, and what
        the prose says of it.
    """
    prose = [_plain(cell.source) if cell.cell_type == "markdown" else "" for cell in cells]
    below = next((text for text in prose[number + 1 :] if text), "")
    above = next((text for text in reversed(prose[:number]) if text), "")
    headings = re.findall(
        r"^#+ (.+)$",
        "\n".join(cell.source for cell in cells[:number] if cell.cell_type == "markdown"),
        flags=re.M,
    )
    words = "; ".join(
        f"{WORDS[role]}: {', '.join(texts)}"
        for role, texts in figure_words(cells[number].source).items()
    )
    said = _sentences(below)[0] if not below.startswith("#") else _sentences(above)[-1]
    return ". ".join(
        filter(
            None, (_without_marks(headings[-1]) if headings else "", words, _without_marks(said))
        )
    )


def figure_words(source):
    """{role: texts} of the titles, axes and legend entries that a cell's code names; values that it fills in read "…"."""
    found = {}
    tree = ast.parse(re.sub(r"^[ \t]*[%!].*$", "", source, flags=re.MULTILINE))
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        named = [(keyword.arg, keyword.value) for keyword in call.keywords]
        if isinstance(call.func, ast.Attribute) and call.args:
            named.append((call.func.attr, call.args[0]))
        for name, value in named:
            text = _text(value) if name in ROLES else ""
            if re.search(
                r"[^\W\d_]", re.sub(r"\b(mm|px|x)\b", "", text)
            ) and text not in found.setdefault(ROLES[name], []):
                found[ROLES[name]].append(text)
    return {role: found[role] for role in WORDS if found.get(role)}


def _text(node):
    """The string that an expression stands for, as far as the code tells it."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        return " ".join("".join(parts).split())
    return (
        " ".join(node.value.split())
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        else ""
    )


def _plain(markdown):
    """Prose in one line, without tables, code blocks and formulas in lines of their own; a heading keeps its mark."""
    return " ".join(
        re.sub(
            r"```.*?```|\$\$.*?\$\$|^\|.*?$", " ", markdown, flags=re.DOTALL | re.MULTILINE
        ).split()
    )


def _sentences(text):
    return re.split(r"(?<=[.?!:]) (?=[A-Z*#])", text)


def _without_marks(text):
    return re.sub(r"^#+ |\]\([^)]*\)|[*`$\[\]\\{}]|\.$", "", text.strip())
