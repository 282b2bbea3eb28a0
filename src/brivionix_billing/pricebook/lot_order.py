"""The rules for the order in which a ledger consumes the lots of an account. No price depends on them."""

from __future__ import annotations

from typing import Final

__all__ = ["DEFAULT_LOT_ORDER", "LOT_ORDER_RULES"]

LOT_ORDER_RULES: Final = {
    "expiring": "lots that expire sooner first, lots that never expire last",
    "promotional": "granted lots before purchased ones",
    "paid": "purchased lots before granted ones",
    "oldest": "older lots first",
    "newest": "newer lots first",
}
"""Rule -> which lots are consumed first."""

DEFAULT_LOT_ORDER: Final = ("expiring", "promotional", "oldest")
"""The rules of a price file that states none. The first rule that distinguishes two lots decides."""
