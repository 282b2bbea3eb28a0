"""Entries that freeze and unfreeze an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.projections import apply_freeze
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.times import format_instant

__all__ = ["freeze", "require_not_frozen"]


def freeze(account: LockedAccount, kind: str, content: Mapping[str, Any]) -> EntryDraft:
    """Freeze an account (kind ``account_frozen``) or unfreeze it (``account_unfrozen``)."""
    draft = EntryDraft(kind, account.booked_at, content)
    apply_freeze(account.row, kind, account.booked_at)
    return draft


def require_not_frozen(account: LockedAccount) -> None:
    """Raise ``account_frozen`` if the account is frozen."""
    frozen_at = account.row.frozen_at
    if frozen_at is not None:
        raise BillingError(
            "account_frozen",
            f"account {safe_repr(account.id)} is frozen since {format_instant(parse_timestamp(frozen_at))}; "
            "unfreeze it to serve new requests",
        )
