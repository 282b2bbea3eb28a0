"""The command ``reconcile provider``: a provider's report against our usage at the prices of a cost book."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brivionix_billing.cli.arguments import load_book
from brivionix_billing.cli.files import USAGE_HELP, add_usage_options, open_usage
from brivionix_billing.cli.reconcile.common import (
    add_result_options,
    add_source,
    naming_other_sources,
    parse_duration,
    print_result,
)
from brivionix_billing.decimals import parse_decimal
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.reconcile.provider.run import SOURCES, ProviderOptions, reconcile_provider
from brivionix_billing.reconcile.result import Input, input_of
from brivionix_billing.tables import find_files

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "provider",
        help="compare a report of a provider with your own usage",
        description="Compares the costs and the usage that a provider reports with your own usage at the prices of a "
        "cost book. Splits each difference into a quantity part and a price part, and names its cause.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "report", nargs="+", metavar="REPORT", help="files of the report: pages of the API, exports, or a ZIP archive"
    )
    add_source(parser, list(SOURCES), "the provider")
    parser.add_argument("--usage", required=True, metavar="USAGE", help=USAGE_HELP)
    add_usage_options(parser)
    parser.add_argument(
        "--prices", required=True, metavar="FILE", help="the cost book: a price file whose groups are the upstreams"
    )
    parser.add_argument(
        "--upstream", metavar="U", help="group of the cost book (the only one, or the one named like the source)"
    )
    parser.add_argument(
        "--project",
        action="append",
        default=[],
        metavar="PROJECT=UPSTREAM",
        help="a project of the report and its upstream, to compare by project; may be repeated",
    )
    parser.add_argument("--period", metavar="P", help="a month (2026-10), or FROM/TO (the whole report)")
    parser.add_argument("--zone", default="UTC", metavar="Z", help="time zone of the period and of days (UTC)")
    parser.add_argument(
        "--delay", default="15min", metavar="D", help="usage of the end of a day may be booked on the next day (15min)"
    )
    parser.add_argument(
        "--tolerance",
        metavar="A",
        help="greatest difference of a line that agrees (half a unit of the last decimal place of the report)",
    )
    parser.add_argument(
        "--quota-per-usd", type=int, default=500_000, metavar="N", help="quota of 1 USD at a new-api (500000)"
    )
    add_result_options(parser)
    parser.set_defaults(run=_run)


def _run(args: Namespace) -> int:
    if args.quota_per_usd <= 0:
        raise BillingError("invalid_argument", f"--quota-per-usd is {args.quota_per_usd}; use a number above zero")
    options = ProviderOptions(
        args.upstream,
        _projects(args.project),
        args.period,
        args.zone,
        parse_duration(args.delay, "--delay"),
        None if args.tolerance is None else parse_decimal(args.tolerance),
        args.quota_per_usd,
    )
    book = load_book(args)
    with naming_other_sources(args.source, args.report), open_usage(args, book) as lines:
        result = reconcile_provider(
            args.report,
            args.source,
            lines,
            _usage_inputs(args.usage),
            book,
            Path(args.out),
            options,
            format=args.format,
        )
    return print_result(result)


def _projects(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        project, separator, upstream = text.partition("=")
        if not separator or not project or not upstream:
            raise BillingError("invalid_argument", f"--project {safe_repr(text)} is not PROJECT=UPSTREAM; name both")
        found[project] = upstream
    return found


def _usage_inputs(path: str) -> list[Input]:
    """Return the digests of the usage files. Standard input has none: it is read only once."""
    return [] if path == "-" else [input_of(file) for file in find_files(path)]
