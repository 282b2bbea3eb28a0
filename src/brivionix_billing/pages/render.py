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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.canonical_json import sha256
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = [
    "HtmlPage",
    "read_asset",
    "validate_stylesheet",
    "embed_json",
    "load_stylesheet",
    "render_template",
]

_SCRIPT_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_MAX_STYLE_LENGTH: Final = 256 * 1024
"""Maximum length of a style sheet, in characters."""


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


def load_stylesheet(path: str | Path) -> str:
    """Read a custom style sheet.

    Raises ``file_unreadable``; raises ``invalid_argument`` for text that could end the style element, and for rules
    that load something, because the policy of the page would silently block them.
    """
    # A character has up to 4 bytes, and a byte order mark has 3.
    content = read_bounded(path, 4 * _MAX_STYLE_LENGTH + 3, too_large="invalid_argument")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BillingError("file_unreadable", f"cannot read {safe_repr(str(path), 200)}: {error}") from None
    return validate_stylesheet(text, str(path))


def validate_stylesheet(text: str, name: str = "style") -> str:
    """Return a style sheet with the line ends that a browser hashes. Raises ``invalid_argument`` if it is unsafe."""
    if len(text) > _MAX_STYLE_LENGTH:
        raise BillingError("invalid_argument", f"{name}: more than {_MAX_STYLE_LENGTH} characters; shorten it")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for forbidden, hint in (
        ("<", "remove it"),
        ("\\", "write the character itself"),
        ("\0", "remove it"),
        ("@import", "copy the imported rules into this file"),
        ("url(", "use colours, borders and gradients, because the page loads nothing"),
        ("image-set(", "use colours, borders and gradients, because the page loads nothing"),
    ):
        if forbidden in text.lower():
            raise BillingError("invalid_argument", f"{name}: {forbidden!r} is not allowed in a style sheet; {hint}")
    return text


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


def _csp_hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode())).decode()}'"


@lru_cache(1)
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(loader=FunctionLoader(read_asset), autoescape=True, undefined=StrictUndefined)
