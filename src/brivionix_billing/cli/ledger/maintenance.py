"""Subcommands of ``ledger`` that keep it in order: migrate, expire, verify, checkpoint, rebuild."""

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

__all__ = ["add_commands"]

_MAX_BYTES: Final = 256 * 1024 * 1024


def add_commands(commands: Any) -> None:
    """Add these subcommands to the parser."""
    subcommand(
        commands,
        "migrate",
        _migrate,
        "make the tables, or bring them to this version",
        "Makes the tables of the ledger in a database that has none, or brings those of an older version to this one. "
        "Make a backup first. It is the only subcommand that makes a SQLite file.",
    )

    parser = subcommand(
        commands,
        "expire",
        _expire,
        "book what has expired",
        "Books holds and lots that have expired, of all accounts or some. No balance depends on it; it brings the "
        "journal of accounts that nobody uses up to date.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT", nargs="*", help="(all)")

    parser = subcommand(
        commands,
        "verify",
        _verify,
        "is the ledger sound?",
        "Replays the whole journal, and compares all that is derived from it. Exit status 0 if it is sound, 1 if not.",
        formats=("table", "json"),
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="what 'checkpoint' wrote before: then entries that were cut off at the end are found as well",
    )

    parser = subcommand(
        commands,
        "checkpoint",
        _checkpoint,
        "number and hash of the last entry of every account",
        "Writes a JSON object: account -> number and hash of its last entry. Keep it where those who can write to the "
        "database cannot.",
        formats=(),
    )
    parser.add_argument("--out", metavar="FILE", help="write it there, whole or not at all (stdout)")

    parser = subcommand(
        commands,
        "rebuild",
        _rebuild,
        "make all other tables anew from the journal",
        "Makes balances, lots, holds, tokens and usage anew from the journal, which must be sound. The ledger waits "
        "meanwhile. Verify it first, and make a backup.",
    )
    parser.add_argument("--yes", action="store_true", help="do it; without, nothing is done")
    parser.add_argument(
        "--accept-loss", action="store_true", help="also where the journal lacks entries that the tables know of"
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
    was = "new" if before is None else "as it was" if before == SCHEMA_VERSION else f"was {before}"
    print_rows([row], args.format, lambda: f"{row['db']}: version {SCHEMA_VERSION} ({was})")
    return EXIT_OK


def _expire(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, _, at):
        made = ledger.expire(at=at, accounts=args.account or None)
    print_rows([{"entries": made}], args.format, lambda: f"{made} {'entry' if made == 1 else 'entries'} booked")
    return EXIT_OK


def _verify(args: Namespace) -> int:
    noted = None if args.checkpoint is None else _read_checkpoint(args.checkpoint)
    with open_ledger(args) as ledger:
        faults = ledger.verify(noted)
        heads = ledger.checkpoint()
    if args.format == "json":
        told = [{"account": fault.account, "number": fault.number, "what": fault.message} for fault in faults]
        print_stdout(as_json({"sound": not faults, "faults": told}))
    else:
        entries = sum(number for number, _ in heads.values())
        sound = f"sound: {_pluralize(len(heads), 'account')}, {_pluralize(entries, 'entry', 'entries')}"
        print_rows([], "table", lambda: "\n".join(map(str, faults)) if faults else sound)
    if faults:
        print_stderr(f"NOT SOUND: {_pluralize(len(faults), 'fault')}")
    elif noted is None:
        print_stderr("note: without --checkpoint, entries that were cut off at the end of a journal are not missed")
    return EXIT_NEGATIVE if faults else EXIT_OK


def _pluralize(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _read_checkpoint(path: str) -> dict[str, tuple[int, str]]:
    """What ``checkpoint`` wrote. Raises ``file_unreadable``, ``invalid_document``."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read the checkpoint {safe_repr(path, 200)}: {reason}") from None
    if len(content) > _MAX_BYTES:
        raise BillingError("invalid_document", f"{safe_repr(path, 200)}: more than {_MAX_BYTES} bytes")
    said = loads_strict(content, path)
    if not isinstance(said, dict):
        raise BillingError(
            "invalid_document", f'{safe_repr(path, 200)}: not an object such as {{"acct_1": [7, "0af1..."]}}'
        )
    heads = {}
    for account, head in said.items():
        match head:
            case [int(number), str(hash)] if number > 0 and number is not True:
                heads[account] = (number, hash)
            case _:
                raise BillingError(
                    "invalid_document",
                    f"{safe_repr(path, 200)}: {safe_repr(account)} has {safe_repr(head)}, not the number and hash "
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
            "invalid_argument", "this makes all tables but the journal anew; make a backup, then say --yes"
        )
    with open_ledger(args) as ledger:
        made = ledger.rebuild(accept_loss=args.accept_loss)
    print_rows([{"rows": made}], args.format, lambda: f"{_pluralize(made, 'row')} made from the journal")
    return EXIT_OK
