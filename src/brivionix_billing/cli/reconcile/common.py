"""What the subcommands of ``reconcile`` share: the options of a result, and its summary."""

from __future__ import annotations

from argparse import ArgumentParser

from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK
from brivionix_billing.cli.output import print_stdout, printable
from brivionix_billing.reconcile.result import FORMATS, Result

__all__ = ["add_result_options", "print_result"]


def add_result_options(parser: ArgumentParser) -> None:
    """Add the options of every subcommand: where its result goes, and how."""
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for rows.csv and summary.json")
    parser.add_argument("--format", choices=FORMATS, default="csv", help="format of the file of rows (csv)")


def print_result(result: Result) -> int:
    """Print the summary for people, and return the exit status."""
    print_stdout(printable(result.as_text() + "\n"))
    return EXIT_OK if result.agrees else EXIT_NEGATIVE
