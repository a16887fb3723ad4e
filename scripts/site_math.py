"""Formulas of the site as MathML, which browsers set by themselves: no script and no network."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(f'<span class="math">{convert(node.astext())}</span>')
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    formulas = convert(node.astext(), display="block")
    self.body.append(f'<div class="math">{formulas}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Add the renderer; ``html_math_renderer`` selects it."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
