"""Entries that create or change API tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.posting.members import require_present
from brivionix_billing.ledger.projections import TokenRow
from brivionix_billing.ledger.timestamps import expiry_timestamp, format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import to_units, units_from_column, units_to_text
from brivionix_billing.text_checks import require_text

__all__ = [
    "apply_rotation",
    "apply_settings",
    "change_token",
    "create_token",
    "rotate_secret",
    "rotation_content",
    "validate_settings",
]


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
    "member": lambda member: None if member is None else require_id(member, "the member"),
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
    if "member" in content:
        row.member = content["member"]


def _require_valid_expiry(account: LockedAccount, content: Mapping[str, Any]) -> None:
    expires = content.get("expires")
    if expires is not None and expires <= account.booked_at:
        raise BillingError(
            "invalid_argument",
            f"expires is {expires}; it must be later than the time of the operation. To end a token, disable it",
        )


def _require_member(account: LockedAccount, content: Mapping[str, Any]) -> None:
    if content.get("member") is not None:
        require_present(account, content["member"])


def create_token(account: LockedAccount, id: str, content: Mapping[str, Any], secret_hash: str) -> EntryDraft:
    """Create a token.

    Raises ``operation_conflict`` if another token has the same secret, ``unknown_member`` and ``member_removed``.
    """
    draft = EntryDraft("token", account.booked_at, content)
    _require_new_secret(account, id, secret_hash)
    _require_valid_expiry(account, content)
    _require_member(account, content)
    row = TokenRow(id, account.id, secret_hash, "", "", None, None, 1, 0, 0)
    apply_settings(row, content)
    draft.result["hash"] = secret_hash
    account.add_row(row)
    return draft


def change_token(account: LockedAccount, token_id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Change settings of a token. Raises ``unknown_token``, ``unknown_member`` and ``member_removed``."""
    draft = EntryDraft("token_changed", account.booked_at, content)
    row = account.token(token_id)
    _require_valid_expiry(account, content)
    _require_member(account, content)
    apply_settings(row, content)
    account.mark_changed(row)
    return draft


def rotation_content(token: str, grace: timedelta) -> dict[str, Any]:
    """Return the content that identifies a repeated rotation. Raises ``invalid_argument`` for a negative period."""
    if not isinstance(grace, timedelta) or grace < timedelta(0):
        raise BillingError("invalid_argument", f"grace is {safe_repr(grace)}; use a timedelta of zero or more")
    return {"token": token, "seconds": str(grace.total_seconds())}


def rotate_secret(
    account: LockedAccount, token_id: str, grace: timedelta, content: Mapping[str, Any], secret_hash: str
) -> EntryDraft:
    """Give a token another secret; the present one stays valid for the grace period. An older one ends at once.

    Raises ``unknown_token``, and ``operation_conflict`` if a token has the same secret.
    """
    draft = EntryDraft("secret_rotated", account.booked_at, content)
    row = account.token(token_id)
    _require_new_secret(account, token_id, secret_hash)
    draft.result["hash"] = secret_hash
    if grace:
        draft.result["until"] = expiry_timestamp(parse_timestamp(account.booked_at), grace)
    apply_rotation(row, draft.result)
    account.mark_changed(row)
    return draft


def apply_rotation(row: TokenRow, result: Mapping[str, Any]) -> None:
    """Apply the result of a rotation to a row."""
    row.previous_expires = result.get("until")
    row.previous_hash = row.hash if row.previous_expires is not None else None
    row.hash = result["hash"]


def _require_new_secret(account: LockedAccount, id: str, secret_hash: str) -> None:
    """Raise ``operation_conflict`` if a token has the secret, also as its previous one."""
    store = account.store
    if store.fetch_one(TokenRow, store.sql.token_by_hash, secret_hash, secret_hash) is not None:
        raise BillingError(
            "operation_conflict",
            f"token {safe_repr(id)}: another token has the same secret; use another one, or omit it",
        )
