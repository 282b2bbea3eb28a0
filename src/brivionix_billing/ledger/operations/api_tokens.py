"""Operations on API tokens."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger import api_tokens, reports
from brivionix_billing.ledger.api_tokens import ApiToken
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.posting import api_tokens as posting
from brivionix_billing.ledger.projections import TokenRow
from brivionix_billing.ledger.timestamps import format_timestamp

__all__ = ["ApiTokens"]


class ApiTokens(LedgerBase):
    """Operations on API tokens."""

    def create_token(
        self,
        account: str,
        *,
        id: str,
        at: datetime,
        group: str,
        name: str = "",
        expires: datetime | None = None,
        limit: Decimal | int | str | None = None,
        enabled: bool = True,
        secret: str | None = None,
        member: str | None = None,
        connection: Connection | None = None,
    ) -> ApiToken:
        """Create an API token of an account, or of one of its members. ``id`` becomes its id.

        ``limit`` is the maximum that it may spend over its life, in Credits. The secret is generated, unless an
        existing one is passed. Only the first call returns it: a retry returns the token without its secret.

        Raises ``unknown_member`` and ``member_removed``.
        """
        settings = {} if member is None else {"member": member}
        content = posting.validate_settings(
            group=group, name=name, expires=expires, limit=limit, enabled=enabled, **settings
        )
        if secret is None:
            secret = api_tokens.new_secret()
            secret_hash = api_tokens.hash_secret(secret)
        else:
            content["hash"] = secret_hash = api_tokens.hash_secret(secret)
        entry = self._run_operation(
            account,
            id,
            "token",
            content,
            at,
            lambda locked: posting.create_token(locked, id, content, secret_hash),
            connection,
        )
        # An internal retry after a lost commit finds the entry with this secret, and must return the secret.
        is_own = entry.result["hash"] == secret_hash
        return self.token(entry.id, connection=connection, secret=secret if is_own else None)

    def change_token(
        self,
        token: str,
        *,
        id: str,
        at: datetime,
        connection: Connection | None = None,
        **settings: Any,
    ) -> ApiToken:
        """Change settings of a token: any of ``group``, ``name``, ``expires``, ``limit``, ``enabled``, ``member``.

        ``member`` moves it to another member, or to the account itself (``None``). What it has used stays with the
        member before. Raises ``unknown_member`` and ``member_removed``.
        """
        content = {"token": token, **posting.validate_settings(**settings)}
        account = self.token(token, connection=connection).account
        self._run_operation(
            account,
            id,
            "token_changed",
            content,
            at,
            lambda locked: posting.change_token(locked, token, content),
            connection,
        )
        return self.token(token, connection=connection)

    def rotate_secret(
        self,
        token: str,
        *,
        id: str,
        at: datetime,
        grace: timedelta,
        secret: str | None = None,
        connection: Connection | None = None,
    ) -> ApiToken:
        """Give a token a new secret, which is valid at once. The present one stays valid for ``grace``.

        A secret that an earlier rotation replaced ends at once, so at most two are valid. If a secret was stolen, use
        a grace period of zero. The secret is generated, unless an existing one is passed. Only the first call returns
        it. Raises ``unknown_token``.
        """
        content = posting.rotation_content(token, grace)
        if secret is None:
            secret = api_tokens.new_secret()
            secret_hash = api_tokens.hash_secret(secret)
        else:
            content["hash"] = secret_hash = api_tokens.hash_secret(secret)
        account = self.token(token, connection=connection).account
        entry = self._run_operation(
            account,
            id,
            "secret_rotated",
            content,
            at,
            lambda locked: posting.rotate_secret(locked, token, grace, content, secret_hash),
            connection,
        )
        is_own = entry.result["hash"] == secret_hash  # as in create_token
        return self.token(token, connection=connection, secret=secret if is_own else None)

    def token(self, token: str, *, connection: Connection | None = None, secret: str | None = None) -> ApiToken:
        """Return a token by its id. Raises ``unknown_token``."""
        require_id(token, "the token")
        row = self._run_read(lambda store: store.fetch_one(TokenRow, store.sql.token, token), connection)
        if row is None:
            raise BillingError("unknown_token", f"there is no token {safe_repr(token)}")
        return api_tokens.api_token_from_row(row, secret)

    def tokens(self, account: str, *, connection: Connection | None = None) -> list[ApiToken]:
        """Return all tokens of an account, sorted by id."""
        return self._run_read(lambda store: reports.tokens(store, account), connection)

    def authenticate(self, secret: str, *, at: datetime, connection: Connection | None = None) -> ApiToken:
        """Return the token of a secret that a client sent.

        Raises ``unknown_token``, ``token_disabled``, ``token_expired``, ``token_exhausted``: a gateway answers 401.
        Raises ``member_frozen`` and ``member_removed``: it answers 403.
        """
        now = format_timestamp(at)
        return self._run_lookup(lambda store: api_tokens.authenticate(store, secret, now), connection)
