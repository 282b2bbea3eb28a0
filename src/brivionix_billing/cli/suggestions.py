"""Suggests names for those in a usage file that the price file does not have.

The library does not: a gateway passes its messages on, and they must not disclose the names of other groups.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.usage.record_file import RequestAttributes

__all__ = ["name_suggester"]

_CUTOFF = 0.8


def name_suggester(book: PriceBook) -> Callable[[BillingError, RequestAttributes], str]:
    """Return a function that returns the message of an error, with a group or model that was probably meant."""

    @lru_cache(1000)
    def closest(kind: str, name: str) -> str | None:
        known = book.group_names if kind == "unknown_group" else list(book.resolver.names.exact)
        return next(iter(get_close_matches(name[:128], known, 1, _CUTOFF)), None)

    def message_of(error: BillingError, origin: RequestAttributes) -> str:
        name = {"unknown_group": origin.group, "unknown_model": origin.model}.get(error.code)
        close = closest(error.code, name) if isinstance(name, str) else None
        return error.message if close in (None, name) else f"{error.message}; did you mean {safe_repr(close)}?"

    return message_of
