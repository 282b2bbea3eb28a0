"""API tokens: credentials of an account. A secret is shown only once, and only its hash is stored."""

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
from brivionix_billing.ledger.projections import MemberRow, TokenRow
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
    "require_active_member",
    "require_unchanged_token",
    "require_usable_token",
]

_PREFIX: Final = "sk-"
_MIN_SECRET_LENGTH: Final = 20
"""Minimum length of a secret, in characters."""
_MAX_SECRET_LENGTH: Final = 512
"""Maximum length of a secret in a header, in characters."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """The current state of an API token."""

    id: str
    account: str
    name: str
    group: str
    expires: datetime | None
    limit: Decimal | None
    """Maximum that it may spend over its life, in Credits; ``None``: unlimited."""
    spent: Decimal
    held: Decimal
    enabled: bool
    secret: str | None = field(default=None, repr=False)
    """The bearer secret that the client sends. Only the call that creates or rotates it returns it."""
    previous_secret_expires: datetime | None = None
    """End of the grace period of the secret that the last rotation replaced; ``None``: there is none."""
    secret_hash: str | None = field(default=None, repr=False, compare=False)
    """Hash of the secret by which it was authenticated. A hold with it checks the secret and the group again."""
    member: str | None = None
    """Member of the account that has the token; ``None``: the account itself."""


def api_token_from_row(row: TokenRow, secret: str | None = None, secret_hash: str | None = None) -> ApiToken:
    """Convert a row to an :class:`ApiToken`."""
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
        None if row.previous_expires is None else parse_timestamp(row.previous_expires),
        secret_hash,
        row.member,
    )


def new_secret() -> str:
    """Generate a secret of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Hash a secret for storage. A plain hash is enough, because a secret is long and random.

    Raises ``invalid_argument`` if the secret has less than 20 characters.
    """
    if not isinstance(secret, str) or len(secret) < _MIN_SECRET_LENGTH:
        raise BillingError(
            "invalid_argument",
            f"secret: less than {_MIN_SECRET_LENGTH} characters; use a longer one, or omit it to have one generated",
        )
    return _hash(secret)


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def parse_bearer(header: str | None) -> str:
    """Return the secret in an ``Authorization`` header. Raises ``malformed_authorization`` if there is none.

    >>> parse_bearer("Bearer sk-abc")
    'sk-abc'
    """
    kind, _, secret = (header or "").strip().partition(" ")
    secret = secret.strip()
    is_secret = bool(secret) and secret.isprintable() and " " not in secret and len(secret) <= _MAX_SECRET_LENGTH
    if kind.lower() != "bearer" or not is_secret:
        raise BillingError(
            "malformed_authorization", "missing or malformed header; expected: Authorization: Bearer YOUR_TOKEN"
        )
    return secret


def authenticate(store: Store, secret: str, now: str) -> ApiToken:
    """Return the token of a secret.

    Raises ``unknown_token``, and the errors of :func:`require_usable_token` and :func:`require_active_member`.
    """
    if not isinstance(secret, str):
        raise BillingError("unknown_token", "no such token")
    secret_hash = _hash(secret)
    row = store.fetch_one(TokenRow, store.sql.token_by_hash, secret_hash, secret_hash)
    if row is None:
        raise BillingError("unknown_token", "no such token")
    _require_valid_secret(row, secret_hash, now)
    require_usable_token(row, now)
    if row.member is not None:
        member = store.fetch_one(MemberRow, store.sql.member, row.account, row.member)
        if member is None:
            raise BillingError("unknown_token", f"token {safe_repr(row.id)} is of a member that does not exist")
        require_active_member(member)
    return api_token_from_row(row, secret_hash=secret_hash)


def require_unchanged_token(row: TokenRow, token: ApiToken, now: str) -> None:
    """Check the secret and the group of an authenticated token again, because it may have changed since.

    Raises ``unknown_token`` if the secret is not valid any more, and ``token_changed`` for another group, which has
    other prices.
    """
    if token.secret_hash is None:
        return
    _require_valid_secret(row, token.secret_hash, now)
    if row.group != token.group:
        raise BillingError(
            "token_changed",
            f"token {safe_repr(row.id)} is in group {safe_repr(row.group)} now, and was authenticated in "
            f"{safe_repr(token.group)}; authenticate it again",
        )


def _require_valid_secret(row: TokenRow, secret_hash: str, now: str) -> None:
    is_previous = row.previous_hash == secret_hash and row.previous_expires is not None and row.previous_expires > now
    if row.hash != secret_hash and not is_previous:
        raise BillingError(
            "unknown_token", f"this secret of token {safe_repr(row.id)} was replaced, and its grace period is over"
        )


def require_usable_token(token: TokenRow, now: str) -> None:
    """Raise ``token_disabled``, ``token_expired`` or ``token_exhausted`` if the token cannot be used now."""
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


def require_active_member(member: MemberRow) -> None:
    """Raise ``member_frozen`` or ``member_removed`` if the member cannot make requests."""
    if member.state != "active":
        fix = "unfreeze it to serve its requests" if member.state == "frozen" else "move its tokens to another member"
        raise BillingError(
            f"member_{member.state}",
            f"member {safe_repr(member.id)} of account {safe_repr(member.account)} is {member.state} since "
            f"{format_instant(parse_timestamp(member.changed))}; {fix}",
        )
