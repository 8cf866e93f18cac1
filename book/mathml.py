"""Formulas as MathML, which browsers draw themselves: no script, no font and no request is needed."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)
# TeX takes single digits as arguments without braces, docutils does not: \tfrac12 -> \tfrac{1}{2}.
_BARE = re.compile(r"\\([dt]?frac)\s*(\d)\s*(\d)")


def to_mathml(text, block):
    """TeX -> MathML.

    Args:
        text: TeX, without dollar signs.
        block: as a line of its own.
    Returns:
        str, one <math> element.
    Raises:
        MathError: TeX that docutils does not know.
    """
    return tex2mathml(_BARE.sub(r"\\\1{\2}{\3}", text.strip()), as_block=block)


def _write(translator, node, block):
    text = node.astext()
    try:
        translator.body.append(to_mathml(text, block))
    except MathError as error:
        logger.warning(
            "formula %r cannot be written as MathML: %s", text, error, location=node, type="mathml"
        )
        translator.body.append(f'<code class="math">{translator.encode(text)}</code>')


def visit_inline(translator, node):
    """Write an inline formula."""
    _write(translator, node, block=False)
    raise nodes.SkipNode


def visit_block(translator, node):
    """Write a formula that has a line of its own."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    _write(translator, node, block=True)
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Make "mathml" a choice of html_math_renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
