"""The command line. ``brivionix-billing COMMAND --help`` explains each command."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Collection, Iterable, Sequence
from importlib import import_module
from typing import Final

from brivionix_billing import __version__
from brivionix_billing.cli.arguments import EXIT_ERROR, EXIT_OK
from brivionix_billing.cli.output import print_stderr
from brivionix_billing.cli.parser import CommandParser
from brivionix_billing.errors import BillingError

__all__ = ["main"]

_MODULES: Final = {
    "prices": ("check", "prices", "quote", "schema"),
    "importing": ("import",),
    "changes": ("drift", "diff"),
    "page": ("page",),
    "rate": ("rate", "explain"),
    "tokens": ("tokens",),
    "report": ("report",),
    "invoices": ("invoice",),
    "notes": ("credit-note",),
    "render": ("render",),
    "verify": ("verify", "prove"),
    "receipts": ("receipt", "rate-cards"),
    "reconcile": ("reconcile",),
    "ledger": ("ledger",),
    "export": ("export",),
}
"""Module of this package -> its commands, in the order of the help."""
_ABOUT = """\
Exact prices and bills for LLM gateways.

Start with:
  brivionix-billing check                     check the price file
  brivionix-billing prices --group default    print the prices of a group
  brivionix-billing page --out pricing.html   write the pricing page
  brivionix-billing tokens request.json       count the tokens of a request
  brivionix-billing report usage.jsonl --by account,model --period 2026-10
  brivionix-billing invoice usage.jsonl --all --period 2026-10 --out bills
  brivionix-billing verify bills --usage usage.jsonl
  brivionix-billing receipt usage.jsonl --request ID --key receipts.pem
  brivionix-billing ledger --help             the ledger of Credits
  brivionix-billing export --help             exports for finance systems

Results go to stdout, everything else to stderr; '-' reads a usage file from stdin.
Exit status: 0 success, 1 a check failed (a bill does not verify), 2 invalid input.
"""


def _modules(words: Iterable[str]) -> Sequence[str]:
    """Return the module of the command among the words of a command line; without a known command all modules.

    Only this module is imported: the imports of all commands take longer than most commands run.
    """
    command = next((word for word in words if not word.startswith("-")), None)
    return [name for name, commands in _MODULES.items() if command in commands] or list(_MODULES)


def _parser(words: Collection[str] | None = None) -> ArgumentParser:
    """Return the parser of the command line ``words``, or of all commands."""
    parser = CommandParser(
        prog="brivionix-billing",
        description=_ABOUT,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        words=words,
    )
    parser.add_argument("--version", action="version", version=f"brivionix-billing {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a traceback if a command fails")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _modules(words or ()):
        import_module(f"{__name__}.{name}").add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = sys.argv[1:] if argv is None else argv
    args = _parser(words).parse_args(words)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BillingError as error:
        if args.debug:
            raise
        print_stderr(f"error: {error} [{error.code}]")
        return EXIT_ERROR
    except BrokenPipeError:
        # The reader closed the pipe. Redirect stdout so that Python does not report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        print_stderr("stopped")
        return 130
    except OSError as error:
        if args.debug:
            raise
        print_stderr(f"error: {error.strerror or error}: {error.filename or ''}")
        return EXIT_ERROR
    except Exception as error:
        if args.debug:
            raise
        print_stderr(
            f"error: {type(error).__name__}: {error}. "
            "This is a bug in brivionix-billing; report it with the output of --debug"
        )
        return EXIT_ERROR
    return status
