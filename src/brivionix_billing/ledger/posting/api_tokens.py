"""Entries that create or change API tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.projections import TokenRow
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.units import to_units, units_from_column, units_to_text
from brivionix_billing.text_checks import require_text

__all__ = ["apply_settings", "change_token", "create_token", "validate_settings"]


def validate_settings(**settings: Any) -> dict[str, Any]:
    """Return settings of a token in the format of the journal. Raises ``invalid_argument``."""
    unknown = settings.keys() - _SETTINGS.keys()
    if unknown or not settings:
        problem = f"unknown settings {safe_repr(sorted(unknown))}" if unknown else "no settings"
        raise BillingError("invalid_argument", f"token: {problem}; use {', '.join(_SETTINGS)}")
    return {key: _SETTINGS[key](value) for key, value in settings.items()}


def _require_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise BillingError("invalid_argument", f"enabled is {safe_repr(value)}; use True or False")
    return value


_SETTINGS: Final[dict[str, Callable[[Any], Any]]] = {
    "group": lambda group: require_text("the group of a token", group),
    "name": lambda name: require_text("the name of a token", name) if name else "",
    "expires": lambda expires: None if expires is None else format_timestamp(expires),
    "limit": lambda limit: None if limit is None else units_to_text(to_units(limit, "the limit of a token")),
    "enabled": _require_flag,
}


def apply_settings(row: TokenRow, content: Mapping[str, Any]) -> None:
    """Apply the settings in the content of an entry to a row."""
    if "group" in content:
        row.group = content["group"]
    if "name" in content:
        row.name = content["name"]
    if "expires" in content:
        row.expires = content["expires"]
    if "limit" in content:
        row.limit = None if content["limit"] is None else units_from_column(content["limit"])
    if "enabled" in content:
        row.enabled = int(content["enabled"])


def _require_valid_expiry(account: LockedAccount, content: Mapping[str, Any]) -> None:
    expires = content.get("expires")
    if expires is not None and expires <= account.booked_at:
        raise BillingError(
            "invalid_argument",
            f"expires is {expires}; it must be later than the time of the operation. To end a token, disable it",
        )


def create_token(account: LockedAccount, id: str, content: Mapping[str, Any], secret_hash: str) -> EntryDraft:
    """Create a token. Raises ``operation_conflict`` if another token has the same secret."""
    draft = EntryDraft("token", account.booked_at, content)
    if account.store.fetch_one(TokenRow, account.store.sql.token_by_hash, secret_hash) is not None:
        raise BillingError(
            "operation_conflict",
            f"token {safe_repr(id)}: another token has the same secret; use another one, or omit it",
        )
    _require_valid_expiry(account, content)
    row = TokenRow(id, account.id, secret_hash, "", "", None, None, 1, 0, 0)
    apply_settings(row, content)
    draft.result["hash"] = secret_hash
    account.add_row(row)
    return draft


def change_token(account: LockedAccount, token_id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Change settings of a token. Raises ``unknown_token``."""
    draft = EntryDraft("token_changed", account.booked_at, content)
    row = account.token(token_id)
    _require_valid_expiry(account, content)
    apply_settings(row, content)
    account.mark_changed(row)
    return draft
