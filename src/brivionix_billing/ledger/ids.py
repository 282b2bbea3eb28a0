"""Ids and texts that callers give."""

from __future__ import annotations

import re
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["MAX_ID_LENGTH", "require_id", "require_new_id", "require_text"]

MAX_ID_LENGTH: Final = 240
"""Characters of an account or a hold: ids are made of theirs, such as ``HOLD:settle``."""
_NAME: Final = re.compile(r"[^\s~](?:.{0,254}\S)?", re.DOTALL)


def require_id(value: Any, what: str) -> str:
    """An id that something may have: what no id is, no database is asked for. Raises ``invalid_argument``."""
    if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable():
        if value.startswith("sk-"):
            # A secret in the place of an id must not get into a message, and from there into a log.
            raise BillingError("invalid_argument", f"{what} looks like the secret of a token; give the token's id")
        return value
    raise BillingError("invalid_argument", f"{what} is {safe_repr(value)}; an id is 1 to 256 printable characters")


def require_new_id(value: Any, what: str, most: int = 256) -> str:
    """A new id: printable characters, no space at either end, not ``~`` first: those are the ledger's.

    Raises ``invalid_argument``.
    """
    if isinstance(value, str) and len(value) <= most and value.isprintable() and _NAME.fullmatch(value):
        return require_id(value, what)
    raise BillingError(
        "invalid_argument",
        f"{what} is {safe_repr(value)}; it is 1 to {most} printable characters, no space at either end, no ~ first",
    )


def require_text(value: object, what: str, most: int = 256) -> str:
    """A text for people. Raises ``invalid_argument`` for what is not 1 to ``most`` printable characters."""
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise BillingError("invalid_argument", f"{what} is {safe_repr(value)}; give 1 to {most} printable characters")
    return value
