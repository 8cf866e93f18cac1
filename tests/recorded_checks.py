"""Rewrite the checks of notebooks and tests so that they record the numbers which they compare; see `sweep`.

An `assert a < b` becomes a call that notes a, b and whether it held. The comparisons inside an exercise's `check(...)` are
noted as well. The notes go to the file that IPR_CHECKS_RECORD names, one JSON object a line.
"""

import ast
import json
import operator
import os

import numpy as np

RECORD = "IPR_CHECKS_RECORD"
CALLS = "_recorded"  # this module's name in rewritten code
OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
SYMBOLS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=="}


# --- what rewritten code calls ---


def comparison(place, texts, limits, symbols, *operands):
    """Compare as `operands[0] < operands[1] < ...` does, and note each pair of numbers.

    Args:
        place: where the check stands, for instance the id of a cell.
        texts: source of each pair's comparison.
        limits: for each pair "left" or "right", the side that is the limit.
        symbols: for each pair a key of OPERATORS.
        operands: one more than there are pairs.
    Returns:
        what Python's own comparison returns.
    """
    result = True
    for text, limit, symbol, left, right in zip(texts, limits, symbols, operands, operands[1:]):
        outcome = OPERATORS[symbol](left, right)
        numbers = worst_pair(symbol, left, right)
        if numbers is not None:
            value, bound, margin = numbers
            if limit == "left":
                value, bound = bound, value
            holds = bool(np.all(as_numbers(outcome)))
            note(place, text=text, value=value, limit=bound, margin=margin, holds=holds)
        result = result and outcome
    return result


def closeness(place, text, function, left, right, **tolerances):
    """Call np.allclose, np.isclose or torch.allclose, and note the largest difference as a share of the tolerance."""
    outcome = function(left, right, **tolerances)
    left, right = as_numbers(left), as_numbers(right)
    if left is not None and right is not None and left.size and right.size:
        allowed = tolerances.get("atol", 1e-8) + tolerances.get("rtol", 1e-5) * np.abs(right)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = float(
                np.max(np.nan_to_num(np.abs(left - right) / allowed, nan=0.0, posinf=1e9))
            )
        holds = bool(np.all(as_numbers(outcome)))
        note(
            place,
            text=text,
            value=share,
            limit=1.0,
            margin=float(relative_margin(share, 1.0)),
            holds=holds,
        )
    return outcome


def result(place, text, passed, message, raises):
    """Note whether a whole assert holds.

    Args:
        place, text: see `comparison`.
        passed: value of the assert's test.
        message: function that returns the assert's message.
        raises: whether a check that fails stops the run; a notebook goes on, so that one run shows all of its checks.
    Raises:
        AssertionError: the check failed and `raises` is true.
    """
    told = "" if passed else str(message())
    note(place, text=text, holds=bool(passed), message=told)
    if raises and not passed:
        raise AssertionError(told or text)


def note(place, **content):
    """Append one line to the record."""
    place = os.environ.get("PYTEST_CURRENT_TEST", place).removesuffix(" (call)")
    with open(os.environ[RECORD], "a", encoding="utf-8") as file:
        file.write(json.dumps({"place": place, **content}) + "\n")


# --- numbers ---


def worst_pair(symbol, left, right):
    """The pair of two arrays that is nearest to failing.

    Returns:
        (left, right, margin), or None where the two are not numbers. `==` counts only against `pytest.approx`: then left is
        the difference and right the tolerance.
    """
    if symbol == "==":
        left, right = difference_and_tolerance(left, right)
    left, right = as_numbers(left), as_numbers(right)
    if left is None or right is None or not left.size or not right.size:
        return None
    left, right = np.broadcast_arrays(np.atleast_1d(left), np.atleast_1d(right))
    small, large = (left, right) if symbol in ("<", "<=", "==") else (right, left)
    margins = relative_margin(small, large)
    worst = int(np.argmin(margins))
    return float(left.flat[worst]), float(right.flat[worst]), float(margins.flat[worst])


def relative_margin(small, large):
    """How far `small` stays below `large`, as a share of the larger magnitude of the two; -inf where one is not a number."""
    with np.errstate(invalid="ignore"):
        margin = (large - small) / np.maximum(np.maximum(np.abs(small), np.abs(large)), 1e-300)
    return np.where(np.isnan(margin), -np.inf, margin)


def difference_and_tolerance(left, right):
    """What `left == pytest.approx(right)` compares; (None, None) for any other two."""
    if not hasattr(right, "tolerance") or not hasattr(right, "expected"):
        return None, None
    number = as_numbers(left)
    if number is None:
        return None, None
    return np.abs(number - right.expected), right.tolerance


def as_numbers(value):
    """An array of float, or None where `value` is not made of numbers."""
    if value is None:
        return None
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None


# --- rewriting ---


def rewritten(source, place, raises):
    """Source code whose checks are recorded.

    Args:
        source: of a cell or a module.
        place: where it stands.
        raises: see `result`.
    Returns:
        source code; unchanged where nothing is checked, or where it is not plain Python (a cell with a magic).
    """
    if "assert" not in source and "check(" not in source:
        return source
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    return ast.unparse(ast.fix_missing_locations(CheckRewriter(place, raises).visit(tree)))


class CheckRewriter(ast.NodeTransformer):
    """Replaces asserts, and the comparisons in the functions given to `check(...)`."""

    def __init__(self, place, raises):
        self.place = place
        self.raises = raises

    def visit_Assert(self, node):
        text = ast.unparse(node.test)
        message = node.msg or ast.Constant("")
        no_arguments = ast.arguments(
            posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]
        )
        arguments = [
            ast.Constant(self.place),
            ast.Constant(text),
            self.recorded(node.test),
            ast.Lambda(no_arguments, message),
            ast.Constant(self.raises),
        ]
        return ast.Expr(call("result", arguments))

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "check":
            for part in ast.walk(ast.Module([ast.Expr(node)], [])):
                if isinstance(part, ast.Lambda):
                    part.body = self.recorded(part.body)
        return node

    def recorded(self, node):
        """A condition whose comparisons are recorded wherever the whole can hold only if they do."""
        if isinstance(node, ast.Compare):
            return self.recorded_comparison(node)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            node.values = [self.recorded(value) for value in node.values]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
            node.left, node.right = self.recorded(node.left), self.recorded(node.right)
        elif isinstance(node, ast.GeneratorExp):
            node.elt = self.recorded(node.elt)
        elif isinstance(node, ast.Call):
            return self.recorded_call(node)
        return node

    def recorded_call(self, node):
        """`x.all()`, `all(x)`, `bool(x)` and the closeness of two arrays; other calls stay as they are."""
        name = ast.unparse(node.func)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "all" and not node.args:
            node.func.value = self.recorded(node.func.value)
        elif name in ("all", "bool", "np.all"):
            node.args = [self.recorded(argument) for argument in node.args]
        elif name in ("np.allclose", "np.isclose", "torch.allclose") and plain_closeness(node):
            arguments = [
                ast.Constant(self.place),
                ast.Constant(ast.unparse(node)),
                node.func,
                *node.args,
            ]
            return call("closeness", arguments, node.keywords)
        return node

    def recorded_comparison(self, node):
        kinds = [type(each) for each in node.ops]
        if not set(kinds) <= set(SYMBOLS):
            return node
        operands = [node.left, *node.comparators]
        symbols = [SYMBOLS[kind] for kind in kinds]
        texts, limits = [], []
        for left, symbol, right in zip(operands, symbols, operands[1:]):
            texts.append(f"{ast.unparse(left)} {symbol} {ast.unparse(right)}")
            limits.append("left" if is_literal(left) and symbol != "==" else "right")
        constants = [ast.Constant(self.place), literal(texts), literal(limits), literal(symbols)]
        return call("comparison", [*constants, *operands])


def call(name, arguments, keywords=()):
    """A call of this module's function."""
    return ast.Call(
        ast.Attribute(ast.Name(CALLS, ast.Load()), name, ast.Load()), arguments, list(keywords)
    )


def literal(texts):
    """A list of texts as code."""
    return ast.List([ast.Constant(text) for text in texts], ast.Load())


def is_literal(node):
    """Whether a value is written out as it is."""
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def plain_closeness(node):
    """Whether a call of allclose has two arrays, and its tolerances by name."""
    if len(node.args) != 2 or any(isinstance(argument, ast.Starred) for argument in node.args):
        return False
    return {keyword.arg for keyword in node.keywords} <= {"atol", "rtol"}


def rewritten_module(source, place):
    """A test module whose checks are recorded; they still raise."""
    tree = ast.parse(rewritten(source, place, raises=True))
    imported = ast.parse(f"from tests import recorded_checks as {CALLS}").body
    after_docstring = 1 if ast.get_docstring(tree) is not None else 0
    tree.body[after_docstring:after_docstring] = imported
    return ast.unparse(tree)


# --- as a pytest plugin: only tests whose check rests on a training, and how each ended ---


def pytest_collection_modifyitems(config, items):
    chosen = [item for item in items if "training_seed" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_runtest_logreport(report):
    if report.when == "call" or report.failed:
        lines = str(report.longrepr).splitlines()
        errors = [line for line in lines if line.startswith("E ")]
        message = " ".join(errors[:1]) if report.failed else ""
        note(report.nodeid, text="the test passes", holds=not report.failed, message=message)
