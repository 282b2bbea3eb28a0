"""The pricing component: a script that defines the element ``brivionix-prices``, for pages with their own theme."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from brivionix_billing.pages.pricing_view import VIEW_SCRIPTS, pricing_view
from brivionix_billing.pages.render import embed_json, read_asset, render_fragment
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.labels import Texts

__all__ = ["pricing_component"]

_BLOCK: Final = re.compile(r":root \{(.*?)\}", re.DOTALL)
_DARK_BLOCK: Final = re.compile(
    r"@media screen and \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}\s*\}\n", re.DOTALL
)
_PROPERTY: Final = re.compile(r"(--bb-[a-z-]+): ([^;]*);")


def pricing_component(
    book: PriceBook,
    *,
    at: datetime,
    groups: Sequence[str] | None = None,
    notes: Sequence[str | Texts] = (),
) -> str:
    """Return a script that defines the element ``brivionix-prices``: the pricing page without its heading.

    The element follows the language and the colour scheme of the page around it, and loads nothing. See
    :func:`pricing_page` for the arguments.

    Raises ``unknown_group``, ``invalid_argument``, ``missing_extra``.

    >>> from datetime import UTC
    >>> book = PriceBook.load("pricing.yaml")
    >>> script = pricing_component(book, at=datetime(2026, 10, 20, tzinfo=UTC), groups=["default"])
    >>> "customElements.define(" in script, len(script) < 150_000
    (True, True)
    """
    view = pricing_view(book, at=at, groups=groups, locale="en", title=None, notes=notes)
    content = render_fragment("pricing/component.html", {**view.values, "embedded": True})
    style = _component_style(read_asset("base.css")) + read_asset("pricing.css") + read_asset("pricing/component.css")
    return "".join(
        (
            "(() => {\n",
            # The data is text until an element needs it: parsing JSON is faster than parsing a program.
            f"const CONTENT = {embed_json(content)},\nSTYLE = {embed_json(style)},\n",
            f"DATA_TEXT = {embed_json(embed_json(view.data))};\n",
            "function createView(HOST, ROOT, DATA) {\nconst EMBEDDED = true;\n",
            *map(read_asset, VIEW_SCRIPTS),
            "start();\nreturn (lang) => { if (state.lang !== lang) updateState({ lang }); };\n}\n",
            read_asset("pricing/component.js"),
            "})();\n",
        )
    )


def _component_style(style: str) -> str:
    """Return the style sheet of the page for a component: a colour follows ``color-scheme``, which is inherited."""
    dark = dict(_PROPERTY.findall(_DARK_BLOCK.search(style)[1]))  # type: ignore[index]  # own asset
    light = dict(_PROPERTY.findall(_BLOCK.search(style)[1]))  # type: ignore[index]  # own asset
    del light["--bb-font"]  # the font is that of the page around it
    both = {name: f"light-dark({value}, {dark[name]})" if name in dark else value for name, value in light.items()}
    properties = " ".join(f"{name}: {value};" for name, value in both.items())
    rest = _BLOCK.sub("", _DARK_BLOCK.sub("", style), count=1)
    return f":host {{ {properties} }}\n{rest}"
