"""From templates to one self-contained file. All text is escaped; nothing in the file asks for anything outside it.

Scripts and styles stand in the file and are named by their hashes in its content security policy, so nothing else runs,
whatever a name or a description holds.
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
from brivionix_billing.pages.formatting import LocaleFormatter, missing_extra_error

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
    "require_pages_extra",
]

_IN_SCRIPT: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_MAX_STYLE: Final = 256 * 1024


class HtmlPage(str):
    """An HTML file; ``policy`` is the content security policy that it carries, for a server that sends one as well."""

    __slots__ = ("policy", "prices")
    policy: str
    prices: dict[str, Any]
    """Of a pricing page: the price list that it shows."""


@lru_cache(32)
def read_asset(name: str) -> str:
    """A file of this package's ``assets`` folder."""
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def embed_json(value: Any) -> Markup:
    """JSON for a script element of type ``application/json``: as JSON the same, with nothing that could end it."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(re.sub("[<>&\u2028\u2029]", lambda found: _IN_SCRIPT[found[0]], text))  # noqa: S704  # escaped just here


def load_stylesheet(path: str | Path) -> str:
    """A style sheet of the user's own. Raises ``file_unreadable``, ``invalid_argument``.

    What could leave the style element is refused, and what loads something: the page's policy would block it, in
    silence.
    """
    # A character has up to 4 bytes, and a byte order mark has 3.
    content = read_bounded(path, 4 * _MAX_STYLE + 3, too_large="invalid_argument")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BillingError("file_unreadable", f"cannot read {safe_repr(str(path), 200)}: {error}") from None
    return validate_stylesheet(text, str(path))


def validate_stylesheet(text: str, what: str = "style") -> str:
    """A style sheet with the line ends that a browser hashes, whatever it had. Raises ``invalid_argument``."""
    if len(text) > _MAX_STYLE:
        raise BillingError("invalid_argument", f"{what}: more than {_MAX_STYLE} characters of style")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for bad, instead in (
        ("<", "leave it out; no rule of CSS needs it here"),
        ("\\", "write the letter itself"),
        ("\0", "remove it"),
        ("@import", "put its rules into this file"),
        ("url(", "the page loads nothing; use colours, borders and gradients"),
        ("image-set(", "the page loads nothing; use colours, borders and gradients"),
    ):
        if bad in text.lower():
            raise BillingError("invalid_argument", f"{what}: {bad!r} in the style sheet: {instead}")
    return text


def render_template(template: str, values: Mapping[str, Any], *, style: str, script: str) -> HtmlPage:
    """A template with its values, one style element and one script element."""
    from markupsafe import Markup

    policy = (
        f"default-src 'none'; script-src {_csp_hash_source(script)}; style-src {_csp_hash_source(style)}; img-src "
        "data:; "
        "base-uri 'none'; form-action 'none'"
    )
    text = (
        _environment()
        .get_template(template)
        .render({**values, "style": Markup(style), "script": Markup(script), "policy": policy})  # noqa: S704  # ours
    )
    made = HtmlPage(text)
    made.policy = policy
    return made


def require_pages_extra() -> None:
    """Nothing, or ``missing_extra`` where no page can be made here."""
    _environment()
    LocaleFormatter("en")


def _csp_hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode())).decode()}'"


@lru_cache(1)
def _environment() -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise missing_extra_error() from None
    return Environment(loader=FunctionLoader(read_asset), autoescape=True, undefined=StrictUndefined)
