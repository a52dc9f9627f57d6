"""How the pages of this folder are built: ``make docs``. Nothing is fetched, and nothing is loaded from elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import generated  # noqa: E402 - found by the path above

import stabsim  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "stabsim"
author = copyright = "stabsim developers"
version = release = stabsim.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
nitpicky = True
# Types are those of other libraries, for which nothing is fetched, or words for people ("array (samples, inputs)").
nitpick_ignore_regex = [("py:(class|exc|data)", ".*")]
suppress_warnings = ["ref.python"]  # a word in a docstring that is the name of two attributes
default_role = "py:obj"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "stabsim"
html_copy_source = html_show_sourcelink = False
pygments_style, pygments_dark_style = "tango", "monokai"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what is made when the pages are read."""
    app.connect("source-read", generated.fill)
    app.connect("autodoc-process-docstring", generated.escape, priority=400)  # before napoleon adds marks of its own
    app.connect("missing-reference", generated.named)
    return {"parallel_read_safe": True}
