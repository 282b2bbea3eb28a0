"""The log of signed checkpoints: a text file with one checkpoint per line, as JSON.

A user who can write to the database can rewrite the whole journal, with all hashes. They cannot write a checkpoint,
because they do not have the key. They can repeat an older line, but the numbers of the checkpoints show this.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import append_line, read_bounded
from brivionix_billing.invoice.signing import SignatureState, check_signature, key_id, seal
from brivionix_billing.times import format_instant, parse_instant

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["CheckpointLog", "SignedCheckpoint", "append_checkpoint", "parse_heads", "read_checkpoint_log"]

CHECKPOINT_SCHEMA: Final = "brivionix-billing/checkpoint/1"
_KEYS: Final = {"schema", "number", "at", "heads", "signing_key", "hash", "signature"}
_MAX_BYTES: Final = 1024 * 1024 * 1024
_MAX_PROBLEMS: Final = 20
"""Maximum number of problems that are reported of one log."""


class SignedCheckpoint(NamedTuple):
    """A checkpoint of the log: the heads of the journal at one time."""

    number: int
    """Number in the log, from 1, without gaps."""
    at: datetime
    heads: Mapping[str, tuple[int, str]]
    """Account -> number and hash of its last entry."""


class CheckpointLog(NamedTuple):
    """The content of a log."""

    newest: SignedCheckpoint | None
    """The valid checkpoint with the highest number, or ``None`` if there is none."""
    problems: list[str]
    """Lines that are not valid checkpoints, and numbers that are missing or repeated."""


def read_checkpoint_log(path: str, key: Ed25519PublicKey) -> CheckpointLog:
    """Read a log, and check the signature of every checkpoint with ``key``. Raises ``file_unreadable``."""
    newest: SignedCheckpoint | None = None
    problems = []
    for number, line in enumerate(read_bounded(path, _MAX_BYTES, "the checkpoint log").splitlines(), 1):
        if not line.strip():
            continue
        try:
            checkpoint = _parse(loads_strict(line, f"line {number}"), key)
        except BillingError as error:
            problems.append(f"line {number} is not a valid checkpoint: {error.message}")
            continue
        # A checkpoint with the number of the newest one is that of a verification at the same time, or a copy.
        if newest is not None and checkpoint.number not in (newest.number, newest.number + 1):
            problems.append(f"line {number} has checkpoint {checkpoint.number}, which does not follow {newest.number}")
        if newest is None or checkpoint.number >= newest.number:
            newest = checkpoint
    if newest is None:
        problems.append("it has no valid checkpoint")
    if len(problems) > _MAX_PROBLEMS:
        problems[_MAX_PROBLEMS:] = [f"{len(problems) - _MAX_PROBLEMS} more problems"]
    return CheckpointLog(newest, problems)


def append_checkpoint(path: str, checkpoint: SignedCheckpoint, key: Ed25519PrivateKey, *, create: bool = False) -> None:
    """Sign a checkpoint and append it to a log, on disk before this returns.

    With ``create``, the log must not exist, else it must exist. A symbolic link is not followed. Raises
    ``file_unreadable``.
    """
    document = {
        "schema": CHECKPOINT_SCHEMA,
        "number": checkpoint.number,
        "at": format_instant(checkpoint.at),
        "heads": {account: list(head) for account, head in checkpoint.heads.items()},
        "signing_key": key_id(key.public_key()),
    }
    append_line(path, canonical_json(seal(document, key)) + b"\n", create=create)


def parse_heads(value: Any, place: str) -> dict[str, tuple[int, str]]:
    """Parse the heads of a checkpoint. Raises ``invalid_document``."""
    if not isinstance(value, dict):
        raise BillingError(
            "invalid_document",
            f'{place}: not a checkpoint; expected an object such as {{"acct_1": [7, "0af1..."]}}',
        )
    heads = {}
    for account, head in value.items():
        match head:
            case [int(number), str(hash)] if number > 0 and number is not True:
                heads[account] = (number, hash)
            case _:
                raise BillingError(
                    "invalid_document",
                    f"{place}: {safe_repr(account)} has {safe_repr(head)}; expected the number and hash of an entry",
                )
    return heads


def _parse(document: Any, key: Ed25519PublicKey) -> SignedCheckpoint:
    if not isinstance(document, dict) or document.get("schema") != CHECKPOINT_SCHEMA or document.keys() != _KEYS:
        raise BillingError("invalid_document", f"it does not have the schema {CHECKPOINT_SCHEMA}")
    state, error = check_signature(document, key)
    if state is not SignatureState.VALID:
        raise BillingError("invalid_document", error or state)
    # From here on, the line is one that the owner of the key wrote.
    return SignedCheckpoint(document["number"], parse_instant(document["at"]), parse_heads(document["heads"], "heads"))
