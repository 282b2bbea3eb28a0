"""The commands that compare prices: ``drift`` with a public source, ``diff`` with another price file."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK, add_prices, load_book, parse_time_or_now
from brivionix_billing.cli.importing import print_rejections, read_source
from brivionix_billing.cli.output import as_json, print_stderr, print_stdout
from brivionix_billing.errors import escape_unprintable
from brivionix_billing.importing.drift import PriceDifference, find_drift
from brivionix_billing.importing.sources import SOURCES
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.changes import PriceChange, is_edit, price_changes
from brivionix_billing.times import format_instant, parse_instant

__all__ = ["add_commands"]

_MAX_NAMED = 10
"""Most tiers and regions of the source that the text output names."""


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "drift",
        help="compare list prices with a public source",
        description="Lists the prices that a price file and a source state differently. Exit status 1 if any do.",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE", choices=list(SOURCES), help=f"the source: {', '.join(SOURCES)}")
    parser.add_argument("file", metavar="FILE", help="the file of the source; - for stdin")
    parser.add_argument("--model", metavar="P", action="append", help="compare only source models that match")
    parser.add_argument("--at", metavar="T", help="compare the prices at this time (now)")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    add_prices(parser)
    parser.set_defaults(run=_drift)

    parser = commands.add_parser(
        "diff",
        help="show what a change of the price file changes",
        description="Lists the prices, ratios and terms that differ between two price files, and from when. With "
        "--published, exit status 1 if a price that was in force before that time was edited.",
        allow_abbrev=False,
    )
    parser.add_argument("old", metavar="OLD", help="the price file before the change")
    parser.add_argument("new", metavar="NEW", help="the price file after it")
    parser.add_argument("--published", metavar="T", help="prices before this time are published and must not change")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.set_defaults(run=_diff)


def _drift(args: Namespace) -> int:
    book, at = load_book(args), parse_time_or_now(args.at)
    catalog = read_source(args.source, args.file, args.model)
    drift = find_drift(book, catalog, at)
    if args.format == "json":
        print_stdout(
            as_json(
                {
                    "at": format_instant(at),
                    "differences": [difference.as_dict() for difference in drift.differences],
                    "compared": drift.compared,
                    "only_in_price_file": drift.only_ours,
                    "only_in_source": drift.only_theirs,
                    "priced_only_by_source": drift.unstated,
                }
            )
        )
    else:
        for difference in drift.differences:
            print_stdout(escape_unprintable(_difference_text(difference)) + "\n")
    print_stderr(
        f"{args.source}: {len(drift.compared)} models compared, {len(drift.differences)} differences; "
        f"{len(drift.only_ours)} models are only in the price file, {len(drift.only_theirs)} only in the source"
    )
    if drift.unstated:
        shown = ", ".join(drift.unstated[:_MAX_NAMED]) + (", ..." if len(drift.unstated) > _MAX_NAMED else "")
        print_stderr(escape_unprintable(f"priced only by the source: {shown}"))
    print_rejections(catalog, has_report=False)
    return EXIT_NEGATIVE if drift.differences else EXIT_OK


def _difference_text(difference: PriceDifference) -> str:
    row = difference.as_dict()
    name = row["model"] if row["model"] == row["source_model"] else f"{row['model']} ({row['source_model']})"
    where = " ".join(
        filter(None, [name, row["service_tier"], _context(row["context"]), row["variation"], row["meter"]])
    )
    ours = "no price" if row["ours"] is None else row["ours"]
    percent = "" if row["percent"] is None else f" ({row['percent']} %)"
    return f"{where}: price file {ours}, source {row['theirs']}{percent}"


def _context(context: str) -> str:
    return "" if context == "any" else context


def _diff(args: Namespace) -> int:
    published = None if args.published is None else parse_instant(args.published)
    old, new = PriceBook.load(args.old), PriceBook.load(args.new)
    changes = price_changes(old, new)
    edits = [c for c in changes if published is not None and c.start < published and is_edit(c, old)]
    if args.format == "json":
        rows = [{**change.as_dict(), "edits_published": change in edits} for change in changes]
        print_stdout(as_json({"old": old.digest, "new": new.digest, "changes": rows}))
    else:
        for change in changes:
            print_stdout(escape_unprintable(_change_text(change)) + "\n")
        if not changes:
            same = old.file == new.file
            print_stdout("no price changes" + ("\n" if same else "; names, limits or texts do\n"))
    for change in edits:
        print_stderr(escape_unprintable(f"edits what is published: {_change_text(change)}"))
    return EXIT_NEGATIVE if edits else EXIT_OK


def _change_text(change: PriceChange) -> str:
    row = change.as_dict()
    kind = row["kind"].replace("_", " ")
    subject = " ".join(part for part in row["subject"] if part not in ("", "any"))
    values = [value if value is not None else "none" for value in (row["old"], row["new"])]
    percent = "" if row["percent"] is None else f" ({row['percent']} %)"
    period = f"from {row['from']}" + (f" until {row['until']}" if row["until"] else "")
    groups = f"; groups {', '.join(row['groups'])}" if row["groups"] else ""
    return f"{period}: {kind} {subject}: {values[0]} -> {values[1]}{percent}{groups}"
