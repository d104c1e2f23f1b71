"""How Sphinx builds the site; the reference pages are written from the code first."""

from __future__ import annotations

import sys
from pathlib import Path

from fleetops.version import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import reference  # noqa: E402 - beside this file

project = "fleetops"
author = "The fleetops authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_site"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "undoc-members": False}
napoleon_use_ivar = True
html_theme = "furo"
html_title = f"fleetops {__version__}"
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
highlight_language = "none"

reference.write(HERE / "generated")
