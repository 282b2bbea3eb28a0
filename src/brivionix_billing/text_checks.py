"""Checks of short texts that callers pass, such as names and labels."""

from __future__ import annotations

from typing import Final

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["MAX_TEXT_LENGTH", "require_text"]

MAX_TEXT_LENGTH: Final = 256
"""Maximum length of a name, an id or a label, in characters."""


def require_text(what: str, value: object, *, limit: int = MAX_TEXT_LENGTH, code: str = "invalid_argument") -> str:
    """Return ``value`` if it is 1 to ``limit`` printable characters.

    ``what`` names the text in the message. Raises an error with the code ``code`` for any other value.
    """
    if isinstance(value, str) and 0 < len(value) <= limit and value.isprintable():
        return value
    raise BillingError(code, f"{what} is {safe_repr(value)}; use 1 to {limit} printable characters")
