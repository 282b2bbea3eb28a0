"""The commands that read prices: check, prices, quote, schema."""

from __future__ import annotations

import json
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from brivionix_billing.cli.arguments import EXIT_ERROR, EXIT_OK, add_prices, load_book, parse_time_or_now, plain_amount
from brivionix_billing.cli.output import as_json, print_rows, print_stderr, print_stdout
from brivionix_billing.decimals import format_plain, to_scaled
from brivionix_billing.errors import PriceFileError, escape_unprintable
from brivionix_billing.meters import MINIMUM_METER, REQUEST_METERS
from brivionix_billing.pages.calendars import calendar_section, calendar_texts
from brivionix_billing.pages.formatting import LocaleFormatter
from brivionix_billing.pages.messages import price_unit
from brivionix_billing.pages.price_cards import minimum_price, optional_plain, topup_price
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.rating.labels import pick_text
from brivionix_billing.rating.messages import range_text
from brivionix_billing.tabular import format_table
from brivionix_billing.times import format_instant

__all__ = ["add_commands"]

_CONDITIONS = ("region", "mode", "window", "list_currency", "exchange_rate")
"""Columns of the price table that only files with such prices have."""


def add_commands(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "check",
        help="check a price file",
        description="Reads a price file strictly and lists findings with file, line and column. Notes name what the "
        "file states to no effect, such as a model that no group may use; they do not make it invalid.",
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="the price file (the value of --prices)")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    add_prices(parser)
    parser.set_defaults(run=_check)

    parser = commands.add_parser(
        "prices",
        help="print the price table of a group",
        description="Prints the prices of a group: list-price value in USD (nominal quota), or the Top Up price of a "
        "channel.\n"
        "Token prices are per 1 M tokens, searches per 1000 calls.",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--group", default="default", metavar="G", help="the group (default)")
    parser.add_argument("--view", choices=["nominal", "topup"], default="nominal")
    parser.add_argument("--channel", metavar="C", help="with --view topup: one channel (all channels)")
    parser.add_argument("--at", metavar="T", help="the prices at this time, such as 2026-10-01 (now)")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    add_prices(parser)
    parser.set_defaults(run=_prices)

    parser = commands.add_parser(
        "quote",
        help="print what a top-up costs or buys",
        description="Prints the price of Credits (--credits), or the Credits that money buys (--pay).",
        allow_abbrev=False,
    )
    parser.add_argument("--channel", required=True, metavar="C")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--credits", metavar="N", help="Credits to buy")
    amount.add_argument("--pay", metavar="AMOUNT", help="money to pay, in the channel's currency")
    parser.add_argument("--at", metavar="T", help="the prices at this time (now)")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    add_prices(parser)
    parser.set_defaults(run=_quote)

    parser = commands.add_parser(
        "schema",
        help="print a JSON Schema",
        description="Prints the JSON Schema of the price file, of the invoice, of a receipt or of the price list.",
    )
    names = ["pricing", "invoice", "receipt", "price-list"]
    parser.add_argument("of", choices=names, metavar="{" + ",".join(names) + "}")
    parser.set_defaults(run=_schema)


def _check(args: Namespace) -> int:
    path = args.file or args.prices
    try:
        book, notes = PriceBook.load_with_notes(path)
    except PriceFileError as error:
        findings = [finding._asdict() for finding in error.findings]
        if args.format == "json":
            print_stdout(as_json({"valid": False, "findings": findings}))
        else:
            print_stdout("\n".join(escape_unprintable(str(finding)) for finding in error.findings) + "\n")
        count = len(error.findings) + error.omitted_count
        print_stderr(f"{path}: invalid, {count} finding{'s' if count != 1 else ''}")
        return EXIT_ERROR
    if args.format == "json":
        listed = [note._asdict() for note in notes]
        print_stdout(as_json({"valid": True, "findings": [], "notes": listed, "digest": book.digest}))
    else:
        parts = (book.model_names, "model"), (book.group_names, "group"), (book.channels(), "channel")
        counts = ", ".join(f"{len(names)} {what}{'s' if len(names) != 1 else ''}" for names, what in parts)
        print_stdout(f"{path}: valid; {counts}; {book.digest}\n")
        for note in notes:
            print_stdout(escape_unprintable(f"note: {note}") + "\n")
    return EXIT_OK


def _prices(args: Namespace) -> int:
    book, at = load_book(args), parse_time_or_now(args.at)
    channels: list[str | None] = [None]
    if args.view == "topup":
        channels = [args.channel] if args.channel else list(book.channels())
    elif args.channel:
        print_stderr("note: --channel has no effect in the nominal view; add --view topup")
    cards = list(_iter_rate_cards(book, args.group, at))
    for name in channels:
        if name is not None:
            book.channel(name)
    names = [*book.meters, *(name for name in REQUEST_METERS if name != MINIMUM_METER.name)]
    shown = [name for name in names if any(name in card.unit_rates for card in cards)]
    has_minimum = any(card.minimum for card in cards)
    conditions = [name for name in _CONDITIONS if any(name in card.conditions() for card in cards)]
    rows = [
        {
            "model": card.model,
            "group": card.group,
            "service_tier": card.service_tier,
            "context_tier": str(card.context),
            **{name: card.conditions().get(name) for name in conditions},
            "currency": card.currency if channel is None else card.channel(channel).currency,
            **({} if channel is None else {"channel": channel}),
            **{name: _price(card, name, channel) for name in shown},
            **({"minimum": optional_plain(minimum_price(card, channel))} if has_minimum else {}),
        }
        for channel in channels
        for card in cards
        if channel is None or channel in card.channels
    ]

    def format_text() -> str:
        view = "nominal quota price" if args.view == "nominal" else "Top Up price"
        other = [name for name in shown if cards and not _has_usual_unit(cards[0], name)]
        units = [f"{name} {price_unit('en', cards[0].meter(name))}" for name in other]
        usual = "per 1 M tokens, searches per 1000 calls"
        group = book.labels.named("groups", args.group, "en")
        head = f"Group {group}, {view}, at {format_instant(at)}; {', '.join([usual, *units])}."
        if not rows:
            return f"{head}\nNo model is sold to this group at that time."
        names = list(rows[0])
        words = {str(card.context): range_text("en", card.context.bounds) or "any" for card in cards}
        texts = [{**row, "context_tier": words[str(row["context_tier"])]} for row in rows]
        cells = [["" if row[name] is None else str(row[name]) for name in names] for row in texts]
        heads = [name.replace("_", " ") for name in names]
        table = format_table([heads, *cells], left=6 - (args.view == "nominal"))
        return "\n\n".join([head, table, *_legend(book, rows, at)])

    print_rows(rows, args.format, format_text)
    return EXIT_OK


_LABELLED: Final = {
    "model": "models",
    "service_tier": "service_tiers",
    "region": "regions",
    "mode": "modes",
    "window": "windows",
    "channel": "channels",
}
"""Column -> kind of the label that the price file may have for its names."""


def _legend(book: PriceBook, rows: Sequence[Mapping[str, Any]], at: datetime) -> list[str]:
    """Return what names in a table are called, and the hours of the windows: blocks of lines, if there are any."""
    labels = [
        f"{column.replace('_', ' ')} {name}: {label}"
        for column, kind in _LABELLED.items()
        for name in dict.fromkeys(row.get(column) for row in rows)
        if name and (label := book.labels.of(kind, name, "en"))
    ]
    labels += [
        f"meter {name}: {pick_text(meter.labels, 'en')}"
        for name, meter in book.meters.items()
        if meter.labels and any(name in row for row in rows)
    ]
    shown = {row.get("window") for row in rows}
    calendars = [calendar_section(item, at, {}) for name, item in book.calendars().items() if name in shown]
    language = LocaleFormatter("en")
    hours = [
        f"window {text['name']}, {text['time_zone']}: {rule}"
        for text in (calendar_texts(calendar, language) for calendar in calendars)
        for rule in text["rules"]
    ]
    return ["\n".join(lines) for lines in (labels, hours) if lines]


def _iter_rate_cards(book: PriceBook, group: str, at: Any) -> Iterator[RateCard]:
    for model in book.models(group=group, at=at):
        for tier in book.service_tiers(model, at):
            yield from book.rate_cards(model, group=group, at=at, service_tier=tier)


def _has_usual_unit(card: RateCard, name: str) -> bool:
    """Return whether a price is per 1 M tokens or per 1000 calls, as the head of the table says."""
    meter = card.meter(name)
    return meter.is_token or meter.is_tool or meter.unit == "token"


def _price(card: RateCard, meter: str, channel: str | None) -> str | None:
    price = card.unit_prices.get(meter) if channel is None else topup_price(card, meter, channel)
    return None if price is None else format_plain(price)


def _quote(args: Namespace) -> int:
    book = load_book(args)
    quote = book.quote(
        args.channel, at=parse_time_or_now(args.at), credits=plain_amount(args.credits), pay=plain_amount(args.pay)
    )
    row = {
        "channel": quote.channel,
        "at": format_instant(quote.at),
        "pay": str(quote.pay.amount),
        "currency": quote.pay.currency,
        "credits": format_plain(quote.credits),
        "requested_credits": None if quote.requested_credits is None else format_plain(quote.requested_credits),
        "price_per_credit": format_plain(quote.price_per_credit),
        "undiscounted": format_plain(quote.undiscounted.amount),
        "discount": format_plain(quote.discount.amount),
    }

    def format_text() -> str:
        out = f"By {quote.channel}: pay {quote.pay}, get {row['credits']} Credits."
        out += f"\n1 Credit = {row['price_per_credit']} {row['currency']} at {row['at']}."
        if to_scaled(quote.discount.amount)[0]:
            out += f"\nVolume discount: {row['discount']} off {row['undiscounted']} {row['currency']}."
        if quote.requested_credits is not None and quote.requested_credits != quote.credits:
            out += (
                f"\nRequested: {row['requested_credits']} Credits. The smallest payment that covers them buys slightly "
                "more; all Credits bought are credited."
            )
        return out

    print_rows([row], args.format, format_text)
    return EXIT_OK


def _schema(args: Namespace) -> int:
    if args.of == "pricing":
        from brivionix_billing.pricebook.schema import json_schema
    elif args.of == "receipt":
        from brivionix_billing.invoice.receipts.schema import json_schema
    elif args.of == "price-list":
        from brivionix_billing.pages.price_list_schema import json_schema
    else:
        from brivionix_billing.invoice.document import json_schema
    print_stdout(json.dumps(json_schema(), indent=2, sort_keys=True) + "\n")
    return EXIT_OK
