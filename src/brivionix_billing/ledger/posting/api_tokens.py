"""API tokens: what making and changing one posts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.ids import require_text
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.projections import TokenRow
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.units import to_units, units_from_column, units_to_text

__all__ = ["apply_settings", "change", "create", "validate_settings"]


def validate_settings(**given: Any) -> dict[str, Any]:
    """What is set on a token, as the journal keeps it. Raises ``invalid_argument`` for what no token has."""
    unknown = given.keys() - _SETTINGS.keys()
    if unknown or not given:
        wrong = f"{safe_repr(sorted(unknown))} is nothing that a token has" if unknown else "nothing is to be set"
        raise BillingError("invalid_argument", f"{wrong}; there are {', '.join(_SETTINGS)}")
    return {key: _SETTINGS[key](value) for key, value in given.items()}


def _require_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise BillingError("invalid_argument", f"enabled is {safe_repr(value)}; give True or False")
    return value


_SETTINGS: Final[dict[str, Callable[[Any], Any]]] = {
    "group": lambda group: require_text(group, "the group of a token"),
    "name": lambda name: require_text(name, "the name of a token") if name else "",
    "expires": lambda expires: None if expires is None else format_timestamp(expires),
    "limit": lambda limit: None if limit is None else units_to_text(to_units(limit, "the limit of a token")),
    "enabled": _require_flag,
}


def apply_settings(row: TokenRow, content: Mapping[str, Any]) -> None:
    """Set on a row what the content of an entry says."""
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


def create(desk: LockedAccount, id: str, content: Mapping[str, Any], hash: str) -> EntryDraft:
    """A new token. Raises ``operation_conflict`` if another token has its secret."""
    draft = EntryDraft("token", desk.booked_at, content)
    if desk.store.fetch_one(TokenRow, desk.store.sql.token_by_hash, hash) is not None:
        raise BillingError("operation_conflict", "another token has this secret; leave it out, and one is made")
    row = TokenRow(id, desk.account.id, hash, "", "", None, None, 1, 0, 0)
    apply_settings(row, content)
    draft.result["hash"] = hash
    desk.add_row(row)
    return draft


def change(desk: LockedAccount, token_id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Other settings of a token."""
    draft = EntryDraft("token_changed", desk.booked_at, content)
    row = desk.token(token_id)
    apply_settings(row, content)
    desk.mark_changed(row)
    return draft
