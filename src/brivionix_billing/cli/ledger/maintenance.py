"""Subcommands of ``ledger`` for maintenance: migrate, expire, verify, checkpoint, rebuild."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any, Final

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK
from brivionix_billing.cli.files import atomic_write_bytes
from brivionix_billing.cli.ledger.common import (
    engine_from_args,
    open_ledger,
    open_ledger_for_update,
    redacted_url,
    subcommand,
)
from brivionix_billing.cli.output import as_json, print_rows, print_stderr, print_stdout
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded

__all__ = ["add_commands"]

_MAX_BYTES: Final = 256 * 1024 * 1024
"""Maximum size of a checkpoint, in bytes."""


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    subcommand(
        commands,
        "migrate",
        _migrate,
        "create the tables, or migrate them to this version",
        "Creates the tables of the ledger in a database that has none, or migrates those of an older version. Make a "
        "backup first. No other subcommand creates a SQLite file.",
    )

    parser = subcommand(
        commands,
        "expire",
        _expire,
        "post expiries",
        "Posts expired holds and lots of all or some accounts. No balance depends on it; it brings the journal of idle "
        "accounts up to date.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT", nargs="*", help="account (default: all)")

    parser = subcommand(
        commands,
        "verify",
        _verify,
        "verify the ledger",
        "Replays the whole journal and compares it with all derived tables. Exit status 0 if the ledger is valid, 1 if "
        "it is inconsistent.",
        formats=("table", "json"),
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="a file written by 'checkpoint': with it, a truncated journal is detected as well",
    )

    parser = subcommand(
        commands,
        "checkpoint",
        _checkpoint,
        "write the number and hash of the last entry of every account",
        "Writes a JSON object: account -> number and hash of its last entry. Store it where users with write access to "
        "the database have none.",
        formats=(),
    )
    parser.add_argument("--out", metavar="FILE", help="write to this file, atomically (default: stdout)")

    parser = subcommand(
        commands,
        "rebuild",
        _rebuild,
        "rebuild all other tables from the journal",
        "Rebuilds balances, lots, holds, tokens and usage from the journal, which must be consistent. Other operations "
        "wait meanwhile. Verify the ledger first, and make a backup.",
    )
    parser.add_argument("--yes", action="store_true", help="confirm; without it, nothing is changed")
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help="rebuild even if the journal was truncated, as far as the tables show",
    )


def _migrate(args: Namespace) -> int:
    from brivionix_billing.ledger import Ledger
    from brivionix_billing.ledger.database.migrate import SCHEMA_VERSION, schema_version
    from brivionix_billing.ledger.database.transactions import run_read

    engine = engine_from_args(args, new=True)
    try:
        before = run_read(engine, schema_version)
        Ledger(engine).migrate()
    finally:
        engine.dispose()
    row = {"db": redacted_url(engine), "before": before, "version": SCHEMA_VERSION}
    note = "new" if before is None else "unchanged" if before == SCHEMA_VERSION else f"was {before}"
    print_rows([row], args.format, lambda: f"{row['db']}: version {SCHEMA_VERSION} ({note})")
    return EXIT_OK


def _expire(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        count = ledger.expire(at=at, accounts=args.account or None)
    print_rows([{"entries": count}], args.format, lambda: f"{_pluralize(count, 'entry', 'entries')} posted")
    return EXIT_OK


def _verify(args: Namespace) -> int:
    checkpoint = None if args.checkpoint is None else _read_checkpoint(args.checkpoint)
    with open_ledger(args) as ledger:
        inconsistencies = ledger.verify(checkpoint)
        heads = ledger.checkpoint()
    if args.format == "json":
        rows = [{"account": found.account, "number": found.number, "what": found.message} for found in inconsistencies]
        print_stdout(as_json({"valid": not inconsistencies, "inconsistencies": rows}))
    else:
        entries = sum(number for number, _ in heads.values())
        valid = f"valid: {_pluralize(len(heads), 'account')}, {_pluralize(entries, 'entry', 'entries')}"
        print_rows([], "table", lambda: "\n".join(map(str, inconsistencies)) if inconsistencies else valid)
    if inconsistencies:
        print_stderr(f"INVALID: {_pluralize(len(inconsistencies), 'inconsistency', 'inconsistencies')}")
    elif checkpoint is None:
        print_stderr("note: a truncated journal is detected only with --checkpoint")
    return EXIT_NEGATIVE if inconsistencies else EXIT_OK


def _pluralize(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _read_checkpoint(path: str) -> dict[str, tuple[int, str]]:
    """Read a file written by ``checkpoint``. Raises ``file_unreadable``, ``invalid_document``."""
    document = loads_strict(read_bounded(path, _MAX_BYTES, "the checkpoint"), path)
    if not isinstance(document, dict):
        raise BillingError(
            "invalid_document",
            f'{safe_repr(path, 200)}: not a checkpoint; expected an object such as {{"acct_1": [7, "0af1..."]}}',
        )
    heads = {}
    for account, head in document.items():
        match head:
            case [int(number), str(hash)] if number > 0 and number is not True:
                heads[account] = (number, hash)
            case _:
                raise BillingError(
                    "invalid_document",
                    f"{safe_repr(path, 200)}: {safe_repr(account)} has {safe_repr(head)}; expected the number and hash "
                    "of an entry",
                )
    return heads


def _checkpoint(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        heads = ledger.checkpoint()
    lines = [f"{json.dumps(account)}: {json.dumps(head)}" for account, head in heads.items()]
    content = "{\n" + ",\n".join(lines) + "\n}\n"
    if args.out is None:
        print_stdout(content)
    else:
        atomic_write_bytes(args.out, content.encode())
        print_stderr(f"{args.out}: {_pluralize(len(heads), 'account')}")
    return EXIT_OK


def _rebuild(args: Namespace) -> int:
    if not args.yes:
        raise BillingError(
            "invalid_argument", "rebuild replaces all tables except the journal; make a backup, then add --yes"
        )
    with open_ledger(args) as ledger:
        count = ledger.rebuild(accept_loss=args.accept_loss)
    print_rows([{"rows": count}], args.format, lambda: f"{_pluralize(count, 'row')} rebuilt from the journal")
    return EXIT_OK
