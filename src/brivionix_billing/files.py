"""Reads files whole, up to a size limit."""

from __future__ import annotations

from pathlib import Path

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["read_bounded"]


def read_bounded(path: str | Path, limit: int, what: str = "", *, too_large: str = "invalid_document") -> bytes:
    """Return the content of a file of at most ``limit`` bytes.

    ``what`` names the file in a message, such as ``the key``. Raises ``file_unreadable`` if it cannot be read, and an
    error with the code ``too_large`` if it has more bytes.
    """
    name = " ".join(filter(None, (what, safe_repr(str(path), 200))))
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read {name}: {reason}") from None
    if len(content) > limit:
        raise BillingError(too_large, f"{name}: the file has more than {limit} bytes")
    return content
