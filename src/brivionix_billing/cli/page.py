"""The command page: writes the pricing page."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from typing import Any, Final

from brivionix_billing.cli.arguments import (
    EXIT_OK,
    add_locale,
    add_prices,
    load_book,
    parse_time_or_now,
    require_distinct_paths,
)
from brivionix_billing.cli.output import print_rows
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import PUBLISHED, atomic_write_bytes
from brivionix_billing.pages import Branding, load_image, load_stylesheet, pricing_component, pricing_page
from brivionix_billing.rating.messages import resolve_locale

__all__ = ["add_commands"]

_LANGUAGE: Final = re.compile(r"[a-z]{2}([-_][A-Za-z]{2,4})?")
"""What looks like the name of a language."""


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser(
        "page",
        help="write the pricing page",
        description="Writes the pricing page as one self-contained HTML file and prints its content security policy.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE.html", help="the file to write; an existing file is replaced"
    )
    parser.add_argument("--json", metavar="FILE.json", help="also write the same content as JSON")
    parser.add_argument("--component", metavar="FILE.js", help="also write the prices as an element for other pages")
    parser.add_argument("--group", action="append", metavar="G", help="a group to show; repeatable (all groups)")
    parser.add_argument("--at", metavar="T", help="show the prices at this time, such as 2026-10-01 (now)")
    add_locale(parser, "the initial language (en)")
    parser.add_argument(
        "--title",
        action="append",
        default=[],
        metavar="TEXT",
        help="the heading, or that of a language: zh_CN=TEXT; repeatable (Model prices)",
    )
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="a paragraph for the footer, or for a language: zh_CN=TEXT; repeatable",
    )
    parser.add_argument("--logo", metavar="FILE", help="a logo: PNG, JPEG or SVG")
    parser.add_argument("--home", metavar="URL", help="the address of your site; the logo links to it")
    parser.add_argument("--favicon", metavar="FILE", help="the icon of the browser tab: PNG, JPEG or SVG")
    parser.add_argument(
        "--description",
        action="append",
        default=[],
        metavar="TEXT",
        help="a summary for search engines and previews, or that of a language: zh_CN=TEXT; repeatable",
    )
    parser.add_argument("--url", metavar="URL", help="the public address of the page, for previews")
    parser.add_argument("--preview-image", metavar="URL", help="the address of an image for previews")
    parser.add_argument("--style", metavar="FILE.css", help="a style sheet to append to the built-in one")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    add_prices(parser)
    parser.set_defaults(run=_page)


def _page(args: Namespace) -> int:
    require_distinct_paths(args.prices, args.style, args.logo, args.out, args.json, args.component)
    require_distinct_paths(args.favicon, args.out, args.json, args.component)
    book, at = load_book(args), parse_time_or_now(args.at)
    style = load_stylesheet(args.style) if args.style else ""
    notes = [dict([_language_and_text(note)]) for note in args.note]
    page = pricing_page(
        book,
        at=at,
        groups=args.group,
        locale=args.locale,
        title=_by_language("--title", args.title),
        notes=notes,
        style=style,
        branding=_branding(args),
    )
    if args.json:
        text = json.dumps(page.prices, ensure_ascii=False, indent=1) + "\n"
        atomic_write_bytes(args.json, text.encode(), PUBLISHED)
    if args.component:
        script = pricing_component(book, at=at, groups=args.group, notes=notes)
        atomic_write_bytes(args.component, script.encode(), PUBLISHED)
    atomic_write_bytes(args.out, page.encode(), PUBLISHED)
    row = {"page": args.out, "bytes": len(page.encode()), "policy": page.policy}

    def format_text() -> str:
        return f"{args.out}: {row['bytes']} bytes\nContent-Security-Policy: {page.policy}"

    print_rows([row], args.format, format_text)
    return EXIT_OK


def _branding(args: Namespace) -> Branding:
    return Branding(
        home=args.home,
        logo=load_image(args.logo) if args.logo else None,
        favicon=load_image(args.favicon) if args.favicon else None,
        description=_by_language("--description", args.description),
        url=args.url,
        preview_image=args.preview_image,
    )


def _language_and_text(value: str) -> tuple[str, str]:
    """Split ``zh_CN=TEXT``. A text that does not start with a language is for all languages."""
    name, separator, text = value.partition("=")
    try:
        return (resolve_locale(name), text) if separator else ("", value)
    except BillingError as error:
        if _LANGUAGE.fullmatch(name):
            raise BillingError(error.code, f"{safe_repr(value)}: {error.message}") from None
        return "", value


def _by_language(option: str, values: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for language, text in map(_language_and_text, values):
        if language in texts:
            raise BillingError("invalid_argument", f"{option}: two texts for {language or 'all languages'}; remove one")
        texts[language] = text
    return texts
