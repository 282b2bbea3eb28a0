"""The documentation as a site, built by ``make docs``: the pages of this repository, and a reference of all modules.

The source folder is that of the repository, so that the links in its Markdown files are those of the site, too.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Final

from pygments.lexers.data import JsonLexer
from sphinx.application import Sphinx

from brivionix_billing import __version__

ROOT: Final = Path(__file__).resolve().parent.parent.parent
_API: Final = ROOT / "docs" / "site" / "api"
_NAVIGATION: Final = {
    "Start": ("README.md", "README.zh.md", "docs/tutorial.md", "docs/concepts.md", "docs/recipes.md"),
    "Project": ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "examples/README.md"),
}
"""Pages beside those that the tables of docs/README.md list."""
_HEADING: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE: Final = re.compile(r"^\| \[[^\]]+\]\(([a-z-]+\.md)\) \|", re.MULTILINE)
_MODULE: Final = re.compile(r"^## `(brivionix_billing[a-z_.]*)`$", re.MULTILINE)

project = "brivionix-billing"
author = "the authors of brivionix-billing"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/README"
include_patterns = ["docs/**", "*.md", "benchmarks/*.md", "tests/data/README.md"]
include_patterns += ["examples/README.md", "examples/gateway/README.md", "examples/spark/README.md"]
exclude_patterns = ["docs/site/conf.py", "docs/schema/**"]
exclude_patterns += [".*", "build", "dist", "src"]  # else the search for pages reads all of .venv
myst_heading_anchors = 4
myst_enable_extensions = ["strikethrough"]
suppress_warnings = ["myst.header", "toc.not_included"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"show-inheritance": True}
pygments_style = "default"
html_theme = "furo"
html_title = f"brivionix-billing {__version__}"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_additional_pages = {"index": "index.html"}
templates_path = ["."]


def _documents(section: str) -> list[str]:
    return [f"docs/{name}" for name in dict.fromkeys(_PAGE.findall(section))]


def _toctree(caption: str, paths: list[str]) -> str:
    entries = "\n".join(f"/{path.removesuffix('.md').removesuffix('.rst')}" for path in paths)
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def _add_navigation(_app: Sphinx, name: str, source: list[str]) -> None:
    """Append the navigation to the first page: its own tables, then what belongs to the project."""
    if name != root_doc:
        return
    sections = _HEADING.split(source[0])
    trees = [_toctree("Start", [path for path in _NAVIGATION["Start"] if (ROOT / path).exists()])]
    for caption, section in zip(sections[1::2], sections[2::2], strict=True):
        trees.append(_toctree(caption, _documents(section)))
    trees.append(_toctree("Reference of all modules", [f"docs/site/api/{module}" for module in _modules()]))
    trees.append(_toctree("Project", list(_NAVIGATION["Project"])))
    source[0] += "\n" + "\n".join(trees)


def _modules() -> list[str]:
    """Return the public modules: those that docs/python.md describes."""
    return _MODULE.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8"))


def _own_names(module: str) -> list[str]:
    """Return the public names to describe at a module. The top module repeats names of others."""
    names: list[str] = importlib.import_module(module).__all__
    if module != "brivionix_billing":
        return names
    others = {name for other in _modules()[1:] for name in importlib.import_module(other).__all__}
    return [name for name in names if name not in others and not name.startswith("__")]


def _write_reference(_app: Sphinx) -> None:
    """Write a page for each public module. Sphinx reads sources from files only."""
    _API.mkdir(exist_ok=True)
    for module in _modules():
        path = _API / f"{module}.rst"
        members = f"   :members: {', '.join(_own_names(module))}\n"
        text = f"{module}\n{'=' * len(module)}\n\n.. automodule:: {module}\n{members}   :imported-members:\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the functions above."""
    app.add_lexer("jsonl", JsonLexer)
    app.connect("config-inited", lambda app, _config: _write_reference(app))
    app.connect("source-read", _add_navigation)
    return {"parallel_read_safe": True}
