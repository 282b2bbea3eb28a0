"""Subcommands of ``ledger`` for maintenance: migrate, expire, prune, verify, checkpoint, rebuild, archives."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.cli.arguments import EXIT_NEGATIVE, EXIT_OK, parse_time_or_now
from brivionix_billing.cli.ledger.common import (
    engine_from_args,
    open_ledger,
    open_ledger_for_update,
    redacted_url,
    subcommand,
)
from brivionix_billing.cli.output import as_json, print_rows, print_stderr, print_stdout
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import atomic_write_bytes, read_bounded
from brivionix_billing.times import Period, format_instant, parse_instant

if TYPE_CHECKING:
    from brivionix_billing.ledger import Audit, Ledger

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
    _add_accounts(parser)
    parser.add_argument("--ahead", action="store_true", help="confirm the expiry of lots that are still valid")

    parser = subcommand(
        commands,
        "prune",
        _prune,
        "delete counters of limits that ended more than 62 days ago",
        "Deletes the counters of limits by window whose windows ended more than 62 days before the last entry of their "
        "account. They count no more, and no result depends on them.",
        at=True,
    )
    _add_accounts(parser)

    parser = subcommand(
        commands,
        "verify",
        _verify,
        "verify the ledger",
        "Checks the schema of the database, replays the whole journal and compares it with all derived tables. Exit "
        "status 0 if the ledger is valid, 1 if it is inconsistent.",
        at=True,
        formats=("table", "json"),
    )
    checkpoints = parser.add_mutually_exclusive_group()
    checkpoints.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="a file written by 'checkpoint': with it, a truncated or rewritten journal is detected as well",
    )
    checkpoints.add_argument(
        "--checkpoint-log",
        metavar="FILE",
        help="a log of signed checkpoints: the journal must contain the newest one",
    )
    parser.add_argument("--key", metavar="FILE", help="the public key (PEM) of the log; default that of --sign-key")
    parser.add_argument(
        "--sign-key",
        metavar="FILE",
        help="if the ledger is valid, append a checkpoint signed with this private key (PEM)",
    )
    parser.add_argument(
        "--new-only", action="store_true", help="verify only the entries after the checkpoint, which takes less time"
    )
    parser.add_argument("--new-log", action="store_true", help="create the log with its first checkpoint")
    parser.add_argument("--archive", metavar="FOLDER", help="the files of archived entries: verify these as well")

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
    parser.add_argument("--archive", metavar="FOLDER", help="the files of archived entries, if there are any")

    parser = subcommand(
        commands,
        "archive",
        _archive,
        "move the content of old requests to a file",
        "Verifies the accounts, and moves the content of entries of requests that were booked before a time to a new "
        "file. Their rows stay in the journal, with their hashes. Payments, statements and balances do not change.",
        at=True,
    )
    _add_accounts(parser)
    parser.add_argument(
        "--before", metavar="PERIOD", required=True, help="a month (2026-10), whose start is the time, or a time"
    )
    parser.add_argument("--zone", default="UTC", metavar="Z", help="time zone of the month (default: UTC)")
    parser.add_argument("--to", metavar="FOLDER", required=True, help="write the file to this folder")

    parser = subcommand(
        commands,
        "restore",
        _restore,
        "move the content of archived requests back",
        "Moves the content of archived entries from the files in a folder back to the journal. The files stay.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="the files of archived entries")
    _add_accounts(parser)


def _add_accounts(parser: ArgumentParser) -> None:
    parser.add_argument("account", metavar="ACCOUNT", nargs="*", help="account (default: all)")


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
        count = ledger.expire(at=at, accounts=args.account or None, ahead=args.ahead)
    print_rows([{"entries": count}], args.format, lambda: f"{_pluralize(count, 'entry', 'entries')} posted")
    return EXIT_OK


def _prune(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        count = ledger.prune_counters(at=parse_time_or_now(args.at), accounts=args.account or None)
    print_rows([{"counters": count}], args.format, lambda: f"{_pluralize(count, 'counter')} deleted")
    return EXIT_OK


def _verify(args: Namespace) -> int:
    checkpoint = None if args.checkpoint is None else _read_checkpoint(args.checkpoint)
    log = None if args.checkpoint_log is None else _OpenLog(args)
    if log is None and (args.key or args.sign_key or args.new_log):
        raise BillingError("invalid_argument", "--key, --sign-key and --new-log require --checkpoint-log FILE; add it")
    if log is not None and log.newest is not None:
        checkpoint = dict(log.newest.heads)
    if args.new_only and (checkpoint is None or args.sign_key or args.archive):
        # A signed checkpoint states that everything was verified.
        raise BillingError(
            "invalid_argument",
            "--new-only requires a checkpoint, signs none and reads no archive; add --checkpoint, remove --sign-key "
            "and --archive",
        )
    with open_ledger(args) as ledger:
        audit = (
            _audit_new(ledger, checkpoint)
            if args.new_only and checkpoint
            else ledger.audit(checkpoint, archive=args.archive)
        )
    found = [*audit.inconsistencies, *([] if log is None else log.inconsistencies)]
    newest = None if log is None else log.newest
    matched = None if newest is None else {"number": newest.number, "at": format_instant(newest.at)}
    if args.format == "json":
        rows = [{"account": each.account, "number": each.number, "what": each.message} for each in found]
        verdict: dict[str, Any] = {"valid": not found, "inconsistencies": rows}
        verdict |= {"notes": audit.notes} if audit.notes else {}
        verdict |= {"checkpoint": matched} if log is not None else {}
        print_stdout(as_json(verdict))
    elif found:
        print_rows([], "table", lambda: "\n".join(map(str, found)))
    else:
        entries = sum(number for number, _ in audit.heads.values())
        valid = f"valid: {_pluralize(len(audit.heads), 'account')}, {_pluralize(entries, 'entry', 'entries')}"
        if matched is not None:
            valid += f"; contains checkpoint {matched['number']} of {matched['at']}"
        print_rows([], "table", lambda: valid)
    for note in audit.notes:
        print_stderr(f"note: {note}")
    if found:
        print_stderr(f"INVALID: {_pluralize(len(found), 'inconsistency', 'inconsistencies')}")
        return EXIT_NEGATIVE
    if log is not None:
        if audit.unproved and args.sign_key:
            # A signed checkpoint states that everything was verified.
            raise BillingError(
                "invalid_argument",
                f"{_pluralize(audit.unproved, 'account')} archived since the last checkpoint, so no checkpoint was "
                "signed; add --archive FOLDER",
            )
        log.append(audit.heads)
    elif checkpoint is None:
        print_stderr("note: a truncated or rewritten journal is detected only with --checkpoint-log or --checkpoint")
    return EXIT_OK


def _audit_new(ledger: Ledger, checkpoint: Mapping[str, tuple[int, str]]) -> Audit:
    from brivionix_billing.ledger import Audit

    return Audit(ledger.verify_new_entries(checkpoint), ["only new entries were verified"], ledger.checkpoint())


class _OpenLog:
    """The log of checkpoints that the arguments name, and the keys for it."""

    def __init__(self, args: Namespace) -> None:
        from brivionix_billing.cli.files import load_signing_key
        from brivionix_billing.invoice.signing import key_id, load_public_key
        from brivionix_billing.ledger import Inconsistency
        from brivionix_billing.ledger.checkpoint_log import SignedCheckpoint, read_checkpoint_log

        self.path, self.is_new, self.at = args.checkpoint_log, args.new_log, parse_time_or_now(args.at)
        self.private_key = load_signing_key(args.sign_key) if args.sign_key else None
        signer = None if self.private_key is None else self.private_key.public_key()
        key = load_public_key(args.key) if args.key else signer
        if key is None:
            raise BillingError("invalid_argument", "--checkpoint-log requires a key; add --key FILE or --sign-key FILE")
        if signer is not None and key_id(signer) != key_id(key):
            raise BillingError(
                "invalid_key", f"--key is {key_id(key)}, but --sign-key is {key_id(signer)}; use one pair"
            )
        self.newest: SignedCheckpoint | None = None
        self.inconsistencies: list[Inconsistency] = []
        if self.is_new:
            if self.private_key is None:
                raise BillingError("invalid_argument", "--new-log signs a checkpoint; add --sign-key FILE")
            if os.path.lexists(self.path):
                raise BillingError(
                    "invalid_argument", f"{safe_repr(self.path, 200)} exists; remove --new-log to use it"
                )
            return
        if not os.path.exists(self.path):
            # A log that was deleted must not look like the first run.
            raise BillingError(
                "file_unreadable",
                f"there is no checkpoint log {safe_repr(self.path, 200)}; restore it, or create one with --new-log",
            )
        self.newest, problems = read_checkpoint_log(self.path, key)
        place = f"checkpoint log {safe_repr(self.path, 200)}"
        self.inconsistencies = [Inconsistency(None, None, f"{place}: {problem}") for problem in problems]

    def append(self, heads: Mapping[str, tuple[int, str]]) -> None:
        """Append a checkpoint, if a private key was given."""
        from brivionix_billing.ledger.checkpoint_log import SignedCheckpoint, append_checkpoint

        if self.private_key is None:
            return
        number = 1 if self.newest is None else self.newest.number + 1
        append_checkpoint(self.path, SignedCheckpoint(number, self.at, heads), self.private_key, create=self.is_new)
        print_stderr(f"{self.path}: checkpoint {number} added; store a copy of this file elsewhere")


def _pluralize(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _read_checkpoint(path: str) -> dict[str, tuple[int, str]]:
    """Read a file written by ``checkpoint``. Raises ``file_unreadable``, ``invalid_document``."""
    from brivionix_billing.ledger.checkpoint_log import parse_heads

    return parse_heads(loads_strict(read_bounded(path, _MAX_BYTES, "the checkpoint"), path), safe_repr(path, 200))


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
        count = ledger.rebuild(accept_loss=args.accept_loss, archive=args.archive)
    print_rows([{"rows": count}], args.format, lambda: f"{_pluralize(count, 'row')} rebuilt from the journal")
    return EXIT_OK


def _archive(args: Namespace) -> int:
    is_month = len(args.before) == len("2026-10")
    before = Period.parse(args.before, args.zone).start if is_month else parse_instant(args.before)
    with open_ledger(args) as ledger:
        done = ledger.archive(args.to, before=before, at=parse_time_or_now(args.at), accounts=args.account or None)
    row = {"file": done.file and str(done.file), "accounts": done.accounts, "entries": done.entries}
    entries, accounts = _pluralize(done.entries, "entry", "entries"), _pluralize(done.accounts, "account")
    text = "nothing to archive" if done.file is None else f"{done.file}: {entries} of {accounts} archived"
    print_rows([row], args.format, lambda: text)
    return EXIT_OK


def _restore(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        count = ledger.restore(args.folder, accounts=args.account or None)
    print_rows([{"entries": count}], args.format, lambda: f"{_pluralize(count, 'entry', 'entries')} restored")
    return EXIT_OK
