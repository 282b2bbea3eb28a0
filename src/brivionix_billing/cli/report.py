"""The command report: totals that match the bills, margins, and the same usage by another price file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import IO, Any, Final

from brivionix_billing.cli.arguments import (
    EXIT_ERROR,
    EXIT_OK,
    add_locale,
    add_prices,
    add_workers,
    load_book,
    require_distinct_paths,
    worker_count,
)
from brivionix_billing.cli.files import USAGE_HELP, add_usage_options, open_usage, source_position
from brivionix_billing.cli.output import count_noun, print_stderr, print_stdout, printable, progress
from brivionix_billing.cli.skipped import found_days, print_duplicates, print_groups, print_out_of_scope
from brivionix_billing.errors import BillingError
from brivionix_billing.files import atomic_write, atomic_write_bytes
from brivionix_billing.report import Report, build_report, report_page, writers
from brivionix_billing.report.workbook import require_xlsx_extra
from brivionix_billing.tabular import format_csv
from brivionix_billing.times import Period

__all__ = ["add_commands"]

_FORMATS: Final = ("table", "csv", "json", "parquet", "xlsx", "html")
_BINARY: Final = ("parquet", "xlsx")


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    parser: ArgumentParser = commands.add_parser(
        "report",
        help="add up usage by columns; margins; another price file",
        description="Adds up usage by columns, with exactly the figures of the bills of the same period. Records that "
        "are not billed are summarised on stderr; if there are any rejected ones, the exit status is 2.",
        allow_abbrev=False,
    )
    parser.add_argument("usage", metavar="USAGE", nargs="*", help=USAGE_HELP)
    add_usage_options(parser)
    parser.add_argument(
        "--by",
        required=True,
        metavar="C,C",
        help="the columns: account, model, group, tier, upstream, region, token, project, tags, tag:NAME, day, hour, "
        "month",
    )
    parser.add_argument("--period", metavar="P", help="a month (2026-10), or FROM/TO (all records)")
    parser.add_argument("--zone", default="UTC", metavar="Z", help="the time zone of the period and of days (UTC)")
    parser.add_argument("--account", metavar="A", help="only this account")
    parser.add_argument("--costs", metavar="FILE", help="a price file whose groups are the upstreams, for margins")
    parser.add_argument("--channel", metavar="C", help="the sales channel of the margins (every channel)")
    parser.add_argument("--losses", metavar="FILE", help="with --costs: write every request that makes a loss, as CSV")
    parser.add_argument("--compare", metavar="FILE", help="another price file for the same usage")
    parser.add_argument(
        "--changed-requests",
        metavar="FILE",
        help="with --compare: write every request whose charge differs, as CSV",
    )
    parser.add_argument("--rejected", metavar="FILE", help="write the rejected records with their reasons, as CSV")
    parser.add_argument("--format", choices=_FORMATS, default="table")
    add_locale(parser, "the language of table, xlsx and html (en)")
    parser.add_argument("--out", metavar="FILE", help="write to FILE instead of stdout; required for parquet and xlsx")
    add_workers(parser)
    add_prices(parser)
    parser.set_defaults(run=_report)


def _report(args: Namespace) -> int:
    _check(args)
    book = load_book(args)
    costs = load_book(args, "costs") if args.costs else None
    compare = load_book(args, "compare") if args.compare else None
    with ExitStack() as stack:
        # The files with single requests replace what was there only if all of the report succeeds.
        losses = _RowFile.open(stack, args.losses)
        changed = _RowFile.open(stack, args.changed_requests)
        rejected = _RowFile.open(stack, args.rejected)
        with open_usage(args, book) as lines:
            report = build_report(
                lines,
                book,
                by=[name.strip() for name in args.by.split(",")],
                period=Period.parse(args.period, args.zone) if args.period else None,
                zone=args.zone,
                account=args.account,
                costs=costs,
                compare=compare,
                channel=args.channel,
                on_rejected=None if rejected is None else lambda record: rejected.write(record.as_dict()),
                on_loss=None if losses is None else lambda loss: losses.write(writers.loss_row(loss)),
                on_changed=None if changed is None else lambda request: changed.write(writers.changed_row(request)),
                progress=progress(source_position(args)),
                workers=worker_count(args),
            )
        content = _content(report, args)
        if args.out:
            atomic_write_bytes(args.out, content)
    if args.out:
        print_stderr(f"{args.out}: {len(content)} bytes")
    else:
        print_stdout(content.decode())
    _print_notes(report)
    is_incomplete = report.records.rejected or report.problems
    return EXIT_ERROR if is_incomplete else EXIT_OK


def _check(args: Namespace) -> None:
    """Raise an error that needs no usage before the usage is read."""
    if args.format in _BINARY and not args.out:
        raise BillingError("invalid_argument", f"--format {args.format} needs a file; add --out FILE")
    for option, needed in (("losses", "costs"), ("channel", "costs"), ("changed_requests", "compare")):
        if getattr(args, option) and not getattr(args, needed):
            name = option.replace("_", "-")
            raise BillingError("invalid_argument", f"--{name} needs --{needed}; add --{needed} FILE")
    if args.format == "xlsx":
        require_xlsx_extra()
    inputs = [path for path in args.usage if path != "-"]
    require_distinct_paths(
        *dict.fromkeys(inputs),
        *dict.fromkeys((args.prices, args.costs, args.compare)),
        *(args.out, args.losses, args.changed_requests, args.rejected),
    )


def _content(report: Report, args: Namespace) -> bytes:
    if args.format == "csv":
        return writers.report_csv(report).encode()
    if args.format == "json":
        return writers.report_json(report).encode()
    if args.format == "parquet":
        return writers.report_parquet(report)
    if args.format == "xlsx":
        return writers.report_xlsx(report, args.locale)
    if args.format == "html":
        return report_page(report, locale=args.locale).encode()
    return printable(writers.report_table(report, args.locale) + "\n").encode()


def _print_notes(report: Report) -> None:
    """Print on stderr what the rows do not contain, and what the costs are based on."""
    records = report.records
    print_duplicates(report.duplicates, records.duplicates)
    print_out_of_scope(records.out_of_scope)
    if records.out_of_scope and not records.billed:
        print_stderr(f"no record in the report; {found_days(report.found)}; check --period, --zone and --account")
    if records.rejected:
        print_stderr(f"{count_noun(records.rejected, 'record')} rejected, NOT billed:")
        print_groups(report.rejected)
    for channel, text in report.basis_texts.items():
        print_stderr(f"margin of channel {channel}: cost by {text}")
    for channel, currency in report.unknown_bases.items():
        print_stderr(
            f"no margin of channel {channel}: the cost book has no price in {currency}; "
            f"add a channel in {currency} to it"
        )
    if report.loss_count:
        reasons = ", ".join(f"{count} by {reason}" for reason, count in report.loss_reasons.items())
        print_stderr(f"{count_noun(report.loss_count, 'request')} with a loss, {reasons}; --losses FILE writes them")
    for role, what in (("cost", "without a cost, NOT in the margin"), ("other", "without a price in the other file")):
        if role in report.problems:
            count = sum(group.records for group in report.problems[role])
            print_stderr(f"{count_noun(count, 'billed request')} {what}:")
            print_groups(report.problems[role])


class _RowFile:
    """A CSV file with rows of the same columns, written row by row. It appears only when it is complete."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.has_heading = False

    @classmethod
    def open(cls, stack: ExitStack, path: str | None) -> _RowFile | None:
        """Open a file until the end of the stack, if there is a path."""
        return None if path is None else cls(stack.enter_context(atomic_write(path)))

    def write(self, row: dict[str, Any]) -> None:
        """Write a row, after the heading if it is the first one."""
        text = format_csv([row])
        self.file.write((text.split("\n", 1)[1] if self.has_heading else text).encode("utf-8", "backslashreplace"))
        self.has_heading = True
