"""The commands that compare prices: ``drift`` with a public source, ``diff`` with another price file."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK, add_prices, load_book, parse_time_or_now
from brivionix_billing.cli.importing import print_rejections, read_source
from brivionix_billing.cli.output import as_json, count_noun, print_stderr, print_stdout
from brivionix_billing.errors import escape_unprintable
from brivionix_billing.importing.drift import PriceDifference, find_drift
from brivionix_billing.importing.sources import SOURCES
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.changes import is_edit, price_changes
from brivionix_billing.pricebook.price_change import PriceChange
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
        description="Lists the prices, terms, settings and meanings of names that differ between two price files, and "
        "from when. With --published, exit status 1 if what was in force before that time was edited.",
        allow_abbrev=False,
    )
    parser.add_argument("old", metavar="OLD", help="the price file before the change")
    parser.add_argument("new", metavar="NEW", help="the price file after it")
    parser.add_argument("--published", metavar="T", help="what was in force before this time must not change")
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
        f"{args.source}: {count_noun(len(drift.compared), 'model')} compared, "
        f"{count_noun(len(drift.differences), 'difference')}; only in the price file: "
        f"{count_noun(len(drift.only_ours), 'model')}, only in the source: {len(drift.only_theirs)}"
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
    edits = [change for change in changes if published is not None and is_edit(change, old, published)]
    if args.format == "json":
        edited = set(map(id, edits))
        rows = [{**change.as_dict(), "edits_published": id(change) in edited} for change in changes]
        print_stdout(as_json({"old": old.digest, "new": new.digest, "changes": rows}))
    else:
        for line in _overview(changes, old, new):
            print_stdout(escape_unprintable(line) + "\n")
        if not changes:
            print_stdout(f"no price changes{_remaining_difference(old, new)}\n")
    for line in _overview(edits, old, new):
        print_stderr(escape_unprintable(f"edits what is published: {line}"))
    return EXIT_NEGATIVE if edits else EXIT_OK


def _remaining_difference(old: PriceBook, new: PriceBook) -> str:
    if old.digest != new.digest:
        return "; the new file states the same prices in another form"
    return "" if old.file == new.file else "; limits, texts or the order do"


def _overview(changes: list[PriceChange], old: PriceBook, new: PriceBook) -> Iterator[str]:
    """Yield one line per change. A model, a group or a plan that only one file has is a single line."""
    models = set(old.model_names) ^ set(new.model_names)
    groups = set(old.group_names) ^ set(new.group_names)
    plans = set(old.file.plans) ^ set(new.file.plans)
    parts: dict[tuple[str, str] | int, list[PriceChange]] = {}
    for index, change in enumerate(changes):
        parts.setdefault(_whole_part(change, models, groups, plans) or index, []).append(change)
    for whole, found in parts.items():
        yield _change_text(found[0]) if isinstance(whole, int) else _part_text(*whole, found)


def _whole_part(change: PriceChange, models: set[str], groups: set[str], plans: set[str]) -> tuple[str, str] | None:
    """Return the model, group or plan that is new or gone, if the change is only a part of that."""
    if change.kind == "plan" and change.subject[0] in plans:
        return "plan", change.subject[0]
    if change.kind in ("list_price", "price_entry") and change.subject[0] in models:
        return "model", change.subject[0]
    if change.kind in ("access", "ratio", "group_price"):
        if change.subject[0] in groups:
            return "group", change.subject[0]
        if len(change.subject) > 1 and change.subject[1] in models:
            return "model", change.subject[1]
    return None


def _part_text(kind: str, name: str, changes: list[PriceChange]) -> str:
    is_new = changes[0].old is None
    prices = [change for change in changes if change.kind in ("list_price", "group_price")]
    allowed = [change for change in changes if change.kind == "access"]
    details = []
    if kind == "model":
        # A group may have access by a pattern long before the model has a price.
        prices = [change for change in prices if change.kind == "list_price"]
        tiers = dict.fromkeys(change.subject[1] for change in prices)
        details.append(
            f"{count_noun(len({change.subject for change in prices}), 'price')} in {', '.join(tiers) or 'no tier'}"
        )
        groups = dict.fromkeys(change.subject[0] for change in allowed)
        details.append(f"groups {', '.join(groups)}" if groups else "no group may use it")
    elif kind == "plan":
        rows = [change.as_dict() for change in changes if change.start == changes[0].start]
        terms = {tuple(row["subject"][1:]): row["new" if is_new else "old"] for row in rows}
        details.append(f"Credits per {terms['period',]} {terms['credits',]}")
        details += [f"{term[1]} {price} {term[2]}" for term, price in terms.items() if term[0] == "price"] or ["free"]
    else:
        ratio = next(change for change in changes if change.kind == "ratio").as_dict()
        details.append(f"ratio {ratio['new' if is_new else 'old']}")
        details.append(count_noun(len({change.subject[1] for change in allowed}), "model"))
        if prices:
            details.append(count_noun(len({change.subject for change in prices}), "price"))
    dated = prices if kind == "model" and prices else changes
    start = format_instant(min(change.start for change in dated))
    return f"from {start}: {'new' if is_new else 'removed'} {kind} {name}: {'; '.join(details)}"


def _change_text(change: PriceChange) -> str:
    row = change.as_dict()
    kind = row["kind"].replace("_", " ")
    subject = " ".join(part for part in (kind, *row["subject"]) if part not in ("", "any"))
    values = [value if value is not None else "none" for value in (row["old"], row["new"])]
    percent = "" if row["percent"] is None else f" ({row['percent']} %)"
    period = f"from {row['from']}" + (f" until {row['until']}" if row["until"] else "")
    groups = f"; groups {', '.join(row['groups'])}" if row["groups"] else ""
    return f"{period}: {subject}: {values[0]} -> {values[1]}{percent}{groups}"
