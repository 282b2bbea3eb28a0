"""The rules for the order in which a ledger consumes the lots of an account. No price depends on them."""

from __future__ import annotations

from typing import Final

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["DEFAULT_LOT_ORDER", "LOT_ORDER_RULES", "MAX_PRIORITY", "require_priority"]

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

MAX_PRIORITY: Final = 100


def require_priority(priority: int) -> int:
    """Return the priority of a lot, from 0 (used first) to 100. Raises ``invalid_argument``."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:
        raise BillingError(
            "invalid_argument",
            f"priority is {safe_repr(priority)}; use an int from 0 (used first) to {MAX_PRIORITY} (used last)",
        )
    return priority
