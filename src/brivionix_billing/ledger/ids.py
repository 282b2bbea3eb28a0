"""Ids and texts that callers pass to the ledger."""

from __future__ import annotations

import re
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["MAX_ID_LENGTH", "require_id", "require_new_id", "require_text"]

MAX_ID_LENGTH: Final = 240
"""Maximum length of the id of an account or a hold, in characters. Longer ids are derived: ``HOLD:settle``."""
_NEW_ID: Final = re.compile(r"[^\s~](?:.{0,254}\S)?", re.DOTALL)


def require_id(value: Any, name: str) -> str:
    """Return an id that may exist in the ledger. Raises ``invalid_argument`` if no id can have this value."""
    if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable():
        if value.startswith("sk-"):
            # A secret that is passed by mistake must not get into a message, and from there into a log.
            raise BillingError("invalid_argument", f"{name} looks like the secret of a token; use the id of the token")
        return value
    raise BillingError("invalid_argument", f"{name} is {safe_repr(value)}; use 1 to 256 printable characters")


def require_new_id(value: Any, name: str, max_length: int = 256) -> str:
    """Return a new id: printable characters, no space at either end, no ``~`` at the start.

    Ids that start with ``~`` are reserved for the ledger. Raises ``invalid_argument``.
    """
    if isinstance(value, str) and len(value) <= max_length and value.isprintable() and _NEW_ID.fullmatch(value):
        return require_id(value, name)
    raise BillingError(
        "invalid_argument",
        f"{name} is {safe_repr(value)}; use 1 to {max_length} printable characters, without ~ at the start and "
        "without a space at either end",
    )


def require_text(value: object, name: str, max_length: int = 256) -> str:
    """Return a human-readable text. Raises ``invalid_argument`` if it is not 1 to ``max_length`` printable characters.

    The text is for display only; the ledger never compares it.
    """
    if not isinstance(value, str) or not 0 < len(value) <= max_length or not value.isprintable():
        raise BillingError(
            "invalid_argument", f"{name} is {safe_repr(value)}; use 1 to {max_length} printable characters"
        )
    return value
