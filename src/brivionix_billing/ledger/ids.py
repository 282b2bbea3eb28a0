"""Ids that callers pass to the ledger."""

from __future__ import annotations

import re
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.text_checks import require_text

__all__ = ["MAX_ID_LENGTH", "require_id", "require_new_id"]

MAX_ID_LENGTH: Final = 240
"""Maximum length of the id of an account or a hold, in characters. Longer ids are derived: ``HOLD:settle``."""
_NEW_ID: Final = re.compile(r"[^\s~](?:.{0,254}\S)?", re.DOTALL)


def require_id(value: Any, name: str) -> str:
    """Return an id that may exist in the ledger. Raises ``invalid_argument`` if no id can have this value."""
    text = require_text(name, value)
    if text.startswith("sk-"):
        # A secret that is passed by mistake must not get into a message, and from there into a log.
        raise BillingError("invalid_argument", f"{name} looks like the secret of a token; use the id of the token")
    return text


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
