"""Sphinx: the site."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import generate_docs
import site_calculator
import site_divergences
import site_messages
import site_navigation
import site_photos
import site_pictures
import site_search
import site_widget

import convspec

project = "convspec"
author = "the convspec authors"
copyright = "2026, the convspec authors"  # noqa: A001
release = version = convspec.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design", "site_math"]
html_math_renderer = "mathml"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_generated", "_data"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
napoleon_use_ivar = True

html_theme = "furo"
html_title = "convspec"
html_static_path = ["_static", "_generated/static"]
templates_path = ["_templates"]
html_favicon = "_static/favicon.svg"
html_baseurl = site_search.base(os.environ.get("CONVSPEC_SITE_URL", ""))  # with it: canonical addresses, a sitemap
html_copy_source = False

generate_docs.main()


def spare_colons(_app, what, _name, _object, _options, lines):
    """Napoleon takes what stands before the colon of a property's first line for its type; ours are sentences."""
    if what == "property" and lines:
        lines.insert(0, "\\")  # an escaped line break: nothing, and without a colon


def escape_bars(_app, _what, _name, _object, _options, lines):
    """Σ|x||w| is a formula, not reStructuredText's substitution."""
    lines[:] = [line if "`" in line else line.replace("|", "\\|") for line in lines]


def add_messages(app, exception):
    if exception is None and app.builder.format == "html":
        site_messages.main(Path(app.outdir))


def add_calculator(app, exception):
    """What the calculator needs; without a network the rest of the site is whole, and this says so."""
    if exception is None and app.builder.format == "html" and (missing := site_calculator.main(Path(app.outdir))):
        print(f"the calculator page cannot compute in this build: {missing}", file=sys.stderr)


def setup(app):
    app.connect("build-finished", add_calculator)
    app.connect("build-finished", add_messages)
    app.connect("build-finished", site_search.finish, priority=900)
    app.connect("source-read", site_divergences.add_issue)
    app.connect("html-page-context", site_navigation.breadcrumbs)
    app.connect("html-page-context", site_search.describe)
    app.add_directive("picture", site_pictures.Picture)
    app.add_directive("photos", site_photos.Photos)
    app.add_css_file("site.css")
    app.add_css_file("photos.css")
    app.add_js_file("accessible.js", loading_method="defer")
    site_widget.setup(app)
    app.connect("autodoc-process-docstring", spare_colons, priority=400)
    app.connect("autodoc-process-docstring", escape_bars)
