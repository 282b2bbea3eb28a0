"""What the subcommands of ``reconcile`` share: source, result, and what a file of another source looks like."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK
from brivionix_billing.cli.output import print_stdout, printable
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.file_kinds import gateway_of
from brivionix_billing.reconcile.exported_files import ExportedFile, read_files
from brivionix_billing.reconcile.result import FORMATS, Result

__all__ = ["add_result_options", "add_source", "naming_other_sources", "parse_duration", "print_result"]

_DURATION: Final = re.compile(r"([0-9]{1,5})(d|h|min|s)", re.ASCII)
_UNITS: Final = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds"}
_HEAD: Final = 4096
"""Number of characters from which a source is recognised."""
_SIGNS: Final[Sequence[tuple[str, tuple[str, str, str]]]] = (
    ("reporting_category|balance_transaction", ("a report of Stripe", "payments", "stripe")),
    ("微信订单号", ("a bill of WeChat Pay", "payments", "wechat")),
    ("支付宝", ("details of Alipay", "payments", "alipay")),
    (r"organization\.(costs|usage)|amount_value|input_cached_tokens", ("a report of OpenAI", "provider", "openai")),
    ('"starting_at"', ("a report of Anthropic", "provider", "anthropic")),
    ('"total_cost"|generation_id', ("a report of OpenRouter", "provider", "openrouter")),
)
"""Texts at the start of a file, what it is, and the subcommand and source that read it."""


def add_source(parser: ArgumentParser, sources: Sequence[str], what: str) -> None:
    """Add the option that names who made the files."""
    parser.add_argument("--source", required=True, choices=sources, help=what)


def add_result_options(parser: ArgumentParser) -> None:
    """Add the options of every subcommand: where its result goes, and how."""
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for rows.csv and summary.json")
    parser.add_argument("--format", choices=FORMATS, default="csv", help="format of the file of rows (csv)")


@contextmanager
def naming_other_sources(source: str, paths: Sequence[str]) -> Iterator[None]:
    """Let the error of a file that is another source's name this source, and the command that reads it."""
    try:
        yield
    except BillingError as error:
        if error.code not in ("invalid_statement", "file_unreadable"):
            raise
        for path in paths:
            if str(path) not in error.message and safe_repr(path.rpartition("/")[2], 200) not in error.message:
                continue
            found = _recognise(path)
            # A log of new-api is also a report of an upstream.
            if found is not None and found[2] != source:
                raise BillingError(
                    error.code, f"{path}: this looks like {found[0]}; use 'reconcile {found[1]} --source {found[2]}'"
                ) from None
        raise


def _recognise(path: str) -> tuple[str, str, str] | None:
    try:
        files = read_files([path])
        gateways = (gateway_of(file.content[:_HEAD]) for file in files)
        gateway = next(filter(None, gateways), None)
        text = "\n".join(_head(file) for file in files)
    except BillingError:
        return None
    if gateway is not None:
        return f"a log of {gateway}", "gateway", gateway
    return next((use for sign, use in _SIGNS if re.search(sign, text)), None)


def _head(file: ExportedFile) -> str:
    return file.text()[:_HEAD]


def print_result(result: Result) -> int:
    """Print the summary for people, and return the exit status."""
    print_stdout(printable(result.as_text() + "\n"))
    return EXIT_OK if result.agrees else EXIT_NEGATIVE


def parse_duration(text: str, option: str) -> timedelta:
    """Return a duration such as ``3d``, ``12h``, ``15min`` or ``0s``. Raises ``invalid_argument``."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BillingError(
            "invalid_argument", f"{option} {safe_repr(text)} is not a duration; use one such as 3d, 12h, 15min or 0s"
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
