"""What the subcommands of ``reconcile`` share: the options of a result, and its summary."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from datetime import timedelta
from typing import Final

from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK
from brivionix_billing.cli.output import print_stdout, printable
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.reconcile.result import FORMATS, Result

__all__ = ["add_result_options", "parse_duration", "print_result"]

_DURATION: Final = re.compile(r"([0-9]{1,5})(d|h|min|s)", re.ASCII)
_UNITS: Final = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds"}


def add_result_options(parser: ArgumentParser) -> None:
    """Add the options of every subcommand: where its result goes, and how."""
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for rows.csv and summary.json")
    parser.add_argument("--format", choices=FORMATS, default="csv", help="format of the file of rows (csv)")


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
