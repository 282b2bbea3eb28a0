"""The command about pages: page."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from brivionix_billing.cli.arguments import EXIT_OK, add_prices, load_book, parse_time_or_now, require_distinct_paths
from brivionix_billing.cli.files import atomic_write_bytes
from brivionix_billing.cli.output import print_rows
from brivionix_billing.pages import load_stylesheet, pricing_page
from brivionix_billing.pages.formatting import LANGUAGES

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser(
        "page",
        help="write the pricing page",
        description="Writes the pricing page as one self-contained HTML file, and tells the content security policy "
        "that it carries. Needs the extra 'pages'.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", required=True, metavar="FILE.html", help="where to write; a page there is replaced")
    parser.add_argument("--json", metavar="FILE.json", help="write the same content as JSON too")
    parser.add_argument("--group", action="append", metavar="G", help="a group to show; repeat (all of them)")
    parser.add_argument("--at", metavar="T", help="prices of this time, such as 2026-10-01 (now)")
    parser.add_argument("--locale", choices=LANGUAGES, default="en", help="the language to begin with (en)")
    parser.add_argument("--title", metavar="TEXT", help="instead of 'Model prices'")
    parser.add_argument("--note", action="append", default=[], metavar="TEXT", help="a paragraph for the foot; repeat")
    parser.add_argument("--style", metavar="FILE.css", help="a style sheet to append to the page's own")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    add_prices(parser)
    parser.set_defaults(run=_page)


def _page(args: Namespace) -> int:
    require_distinct_paths(args.prices, args.style, args.out, args.json)
    book, at = load_book(args), parse_time_or_now(args.at)
    style = load_stylesheet(args.style) if args.style else ""
    made = pricing_page(
        book, at=at, groups=args.group, locale=args.locale, title=args.title, notes=args.note, style=style
    )
    if args.json:
        text = json.dumps(made.prices, ensure_ascii=False, indent=1) + "\n"
        atomic_write_bytes(args.json, text.encode())
    atomic_write_bytes(args.out, made.encode())
    row = {"page": args.out, "bytes": len(made.encode()), "policy": made.policy}

    def people() -> str:
        return f"{args.out}: {row['bytes']} bytes\nContent-Security-Policy: {made.policy}"

    print_rows([row], args.format, people)
    return EXIT_OK
