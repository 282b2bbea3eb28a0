"""The command ``reconcile``: compares two sets of books, and names the cause of every difference."""

from __future__ import annotations

from typing import Any

from brivionix_billing.cli.reconcile import gateway, payments, provider

__all__ = ["add_commands"]

_ABOUT = """\
Compares two sets of books row by row. Writes every row with its state, its cause and its difference to a folder, and
prints a summary by cause. Exit status: 0 the books agree, 1 they disagree, 2 invalid input.
"""


def add_commands(commands: Any) -> None:
    """Add the command and its subcommands to the parser."""
    subcommands = commands.add_parser(
        "reconcile",
        help="compare logs and statements with your own books, row by row",
        description=_ABOUT,
        allow_abbrev=False,
    ).add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    for module in (gateway, provider, payments):
        module.add_commands(subcommands)
