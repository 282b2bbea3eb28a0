"""API tokens: what a client shows for an account. The secret is shown once, and only its hash is kept."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.posting.holds import require_usable_token
from brivionix_billing.ledger.projections import TokenRow
from brivionix_billing.ledger.units import (
    format_timestamp,
    parse_timestamp,
    to_units,
    units_from_column,
    units_to_credits,
    units_to_text,
)

__all__ = [
    "ApiToken",
    "parse_bearer",
    "change",
    "create",
    "hash_secret",
    "new_secret",
    "apply_settings",
    "validate_settings",
    "require_text",
    "authenticate",
    "api_token_from_row",
]

_PREFIX: Final = "sk-"
_MIN_SECRET_LENGTH: Final = 20


@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token as it stands now."""

    id: str
    account: str
    name: str
    group: str
    expires: datetime | None
    limit: Decimal | None
    """Credits that it may spend over its life; ``None``: as many as the account has."""
    spent: Decimal
    held: Decimal
    enabled: bool
    secret: str | None = field(default=None, repr=False)
    """What the client sends. Told once, by the call that made it."""


def api_token_from_row(row: TokenRow, secret: str | None = None) -> ApiToken:
    """A token for those who asked."""
    return ApiToken(
        row.id,
        row.account,
        row.name,
        row.group,
        None if row.expires is None else parse_timestamp(row.expires),
        None if row.limit is None else units_to_credits(row.limit),
        units_to_credits(row.spent),
        units_to_credits(row.held),
        bool(row.enabled),
        secret,
    )


def new_secret() -> str:
    """A secret of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """What is kept of a secret. It is random and long, so a plain hash cannot be guessed back.

    Raises ``invalid_argument`` for a secret shorter than 20 characters.
    """
    if not isinstance(secret, str) or len(secret) < _MIN_SECRET_LENGTH:
        raise BillingError(
            "invalid_argument", f"a secret has at least {_MIN_SECRET_LENGTH} characters; leave it out, and one is made"
        )
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def parse_bearer(header: str | None) -> str:
    """The secret in an ``Authorization`` header. Raises ``malformed_authorization`` where there is none.

    >>> parse_bearer("Bearer sk-abc")
    'sk-abc'
    """
    kind, _, secret = (header or "").strip().partition(" ")
    secret = secret.strip()
    if kind.lower() != "bearer" or not secret or not secret.isprintable() or " " in secret or len(secret) > 512:
        raise BillingError("malformed_authorization", "the header is to be: Authorization: Bearer YOUR_TOKEN")
    return secret


def authenticate(store: Store, secret: str, now: str) -> ApiToken:
    """The token of a secret. Raises ``unknown_token``, ``token_disabled``, ``token_expired``, ``token_exhausted``."""
    if not isinstance(secret, str):
        raise BillingError("unknown_token", "no such token")
    row = store.fetch_one(
        TokenRow, store.sql.token_by_hash, sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
    )
    if row is None:
        raise BillingError("unknown_token", "no such token")
    require_usable_token(row, now)
    return api_token_from_row(row)


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


def require_text(value: object, what: str, most: int = 256) -> str:
    """A text for people. Raises ``invalid_argument`` for what is not 1 to ``most`` printable characters."""
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise BillingError("invalid_argument", f"{what} is {safe_repr(value)}; give 1 to {most} printable characters")
    return value


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
