"""API tokens: what a client shows for an account. The secret is shown once, and only its hash is kept."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Final

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.projections import TokenRow
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.ledger.units import units_to_credits
from brivionix_billing.times import format_instant

__all__ = [
    "ApiToken",
    "api_token_from_row",
    "authenticate",
    "hash_secret",
    "new_secret",
    "parse_bearer",
    "require_usable_token",
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


def require_usable_token(token: TokenRow, now: str) -> None:
    """Raises ``token_disabled``, ``token_expired`` or ``token_exhausted``."""
    if not token.enabled:
        raise BillingError("token_disabled", f"token {safe_repr(token.id)} is disabled")
    if token.expires is not None and token.expires <= now:
        raise BillingError(
            "token_expired", f"token {safe_repr(token.id)} expired at {format_instant(parse_timestamp(token.expires))}"
        )
    if token.limit is not None and token.spent >= token.limit:
        raise BillingError(
            "token_exhausted",
            f"token {safe_repr(token.id)} has spent its limit of {format_plain(units_to_credits(token.limit))} Credits",
        )
