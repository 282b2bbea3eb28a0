"""Renders templates to self-contained HTML files. All text is escaped, and a page loads nothing.

Script and style are inline. The content security policy of the page allows them by hash, so no other script runs, even
if a name or a description contains one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.canonical_json import sha256

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = [
    "HtmlPage",
    "read_asset",
    "embed_json",
    "render_fragment",
    "render_template",
]

_SCRIPT_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class HtmlPage(str):
    """An HTML file."""

    __slots__ = ("policy", "prices")
    policy: str
    """The content security policy of the page, for a server that sends one as a header."""
    prices: dict[str, Any]
    """The price list of a pricing page."""


@lru_cache(32)
def read_asset(name: str) -> str:
    """Read a file of the ``assets`` folder of this package."""
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def embed_json(value: Any) -> Markup:
    """Encode JSON for a script element, with escapes for all characters that could end the element."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(re.sub("[<>&\u2028\u2029]", lambda match: _SCRIPT_ESCAPES[match[0]], text))  # noqa: S704  # escaped above


def render_template(template: str, values: Mapping[str, Any], *, style: str, script: str) -> HtmlPage:
    """Render a template with its values, one style element and one script element."""
    from markupsafe import Markup

    policy = (
        f"default-src 'none'; script-src {_csp_hash_source(script)}; style-src {_csp_hash_source(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    text = (
        _environment()
        .get_template(template)
        .render({**values, "style": Markup(style), "script": Markup(script), "policy": policy})  # noqa: S704  # own assets
    )
    page = HtmlPage(text)
    page.policy = policy
    return page


def render_fragment(template: str, values: Mapping[str, Any]) -> str:
    """Render a template that is a part of a page."""
    return _environment().get_template(template).render(values)


def _csp_hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode())).decode()}'"


@lru_cache(1)
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(loader=FunctionLoader(read_asset), autoescape=True, undefined=StrictUndefined)
