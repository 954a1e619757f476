"""Sphinx configuration: ``python -m sphinx -W -b html docs docs/_build/html``; needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

ROOT = Path(__file__).resolve().parent.parent
if find_spec("dja_photplug") is None:  # a bare checkout
    sys.path.insert(0, str(ROOT))

import dja_photplug  # noqa: E402

project = "dja_photplug"
version = release = dja_photplug.__version__
copyright = "the authors of dja_photplug"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "scripts", "example_plugin"]
myst_heading_anchors = 3
default_role = "py:obj"
smartquotes = False  # 0.36" is an angle

napoleon_google_docstring = False
napoleon_use_ivar = True  # attributes of dataclasses are documented once, in their class
autodoc_typehints = "none"  # numpydoc sections hold the types
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # `SIZE`, not all that it holds

html_theme = "furo"
html_title = f"dja_photplug {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme_options = {"source_edit_link": "", "sidebar_hide_name": False}
html_copy_source = False
html_show_sourcelink = False


def run_tutorial(app: Sphinx) -> None:
    """Run docs/tutorial.md; what it prints otherwise than it shows is a warning."""
    command = [sys.executable, str(ROOT / "docs" / "scripts" / "pages.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        getLogger("tutorial").warning("the tutorial does not run as it is shown: %s", done.stderr or done.stdout)


def link_figures(_app: Sphinx, page: nodes.document) -> None:
    """Make each figure a link to its file, as its panels are small here; Sphinx links those that have a width."""
    for figure in page.findall(nodes.image):
        figure["width"] = "100%"  # wide.css shows it in its own


def shorten_signature(
    _app: Sphinx, _what: str, _name: str, _item: object, _options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Leave out what groups of options hold by default: the page of commands has a table of it."""
    nested = re.compile(r"(\w+Options)\((?:[^()]|\([^()]*\))+\)")
    return signature and nested.sub(r"\1()", signature), returned


def part_attributes(_app: Sphinx, _what: str, _name: str, _item: object, _options: object, lines: list[str]) -> None:
    """Give each of several attributes of one line its own: napoleon takes the last for their name."""
    together = re.compile(r"^(\w+(?:, \w+)+) : (.*)\n((?:    .*\n)*)", re.MULTILINE)
    text = together.sub(
        lambda match: "".join(f"{name} : {match[2]}\n{match[3]}" for name in match[1].split(", ")),
        "\n".join([*lines, ""]),
    )
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", run_tutorial)
    app.connect("doctree-read", link_figures)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-process-docstring", part_attributes, priority=400)  # before napoleon
