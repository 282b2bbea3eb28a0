"""The pricing page: one HTML file with the price list. Without scripts, it shows the nominal prices of all groups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from brivionix_billing.pages.branding import NO_BRANDING, Branding, branding_values
from brivionix_billing.pages.pricing_view import VIEW_SCRIPTS, pricing_view
from brivionix_billing.pages.render import HtmlPage, embed_json, read_asset, render_template
from brivionix_billing.pages.stylesheet import validate_stylesheet
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.labels import Texts

__all__ = ["pricing_page"]

_FIRST_ROWS: Final = 60
"""Rows of the first group that a reader sees if a policy blocks the scripts. The others are for readers without them,
because a browser lays out every row before it runs the script that replaces them."""


def pricing_page(
    book: PriceBook,
    *,
    at: datetime,
    groups: Sequence[str] | None = None,
    locale: str = "en",
    title: str | Texts | None = None,
    notes: Sequence[str | Texts] = (),
    style: str = "",
    branding: Branding = NO_BRANDING,
) -> HtmlPage:
    """Render the prices of some groups at a time as one self-contained HTML file.

    Without ``groups``, the page has all groups that have terms at that time. It opens with the first group, in the
    language ``locale`` (``en``, or ``zh_CN`` or ``zh``); the reader can switch both. ``title`` replaces "Model prices",
    ``notes`` are paragraphs of the footer, each a text or a mapping of language to text. ``style`` is appended to the
    style sheet, and ``branding`` has logo, links and previews (see ``docs/pages.md``).

    Raises ``unknown_group``, ``invalid_argument``, ``missing_extra``.

    >>> from datetime import UTC
    >>> book = PriceBook.load("pricing.yaml")
    >>> html = pricing_page(book, at=datetime(2026, 10, 20, tzinfo=UTC), groups=["default"])
    >>> html[:15], len(html) < 150_000
    ('<!doctype html>', True)
    """
    style = validate_stylesheet(style)
    view = pricing_view(book, at=at, groups=groups, locale=locale, title=title, notes=notes)
    page = render_template(
        "pricing.html",
        {
            **view.values,
            "branding": branding_values(branding, view.language.name),
            "embedded": False,
            "first_rows": _FIRST_ROWS,
            "data": embed_json(view.data),
        },
        style=read_asset("base.css") + read_asset("pricing.css") + style,
        script="".join(map(read_asset, ("pricing/page.js", *VIEW_SCRIPTS, "pricing/page_start.js"))),
    )
    page.prices = view.prices
    return page
