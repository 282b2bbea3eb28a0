"""API tokens."""

from __future__ import annotations

from datetime import datetime
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
    """Operations on tokens."""

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
        connection: Connection | None = None,
    ) -> ApiToken:
        """A new API token of an account; ``id`` becomes its id. ``limit``: Credits that it may spend over its life.

        The secret is made, or may be given (one that exists already, say). It is told by this call only; asked for
        again, the token comes without it.
        """
        content = posting.validate_settings(group=group, name=name, expires=expires, limit=limit, enabled=enabled)
        given = None if secret is None else api_tokens.hash_secret(secret)
        made = api_tokens.new_secret() if secret is None else secret
        hash = api_tokens.hash_secret(made)
        if given is not None:
            content["hash"] = given
        entry = self._run_operation(
            account, id, "token", content, at, lambda d: posting.create(d, id, content, hash), connection
        )
        # Also if the operation was tried twice, and only the first time was told to have failed, it is this secret.
        return self.token(entry.id, connection=connection, secret=made if entry.result["hash"] == hash else None)

    def change_token(
        self,
        token: str,
        *,
        id: str,
        at: datetime,
        connection: Connection | None = None,
        **settings: Any,
    ) -> ApiToken:
        """Other settings for a token: any of ``group``, ``name``, ``expires``, ``limit``, ``enabled``."""
        content = {"token": token, **posting.validate_settings(**settings)}
        account = self.token(token, connection=connection).account
        self._run_operation(
            account, id, "token_changed", content, at, lambda d: posting.change(d, token, content), connection
        )
        return self.token(token, connection=connection)

    def token(self, token: str, *, connection: Connection | None = None, secret: str | None = None) -> ApiToken:
        """A token by its id. Raises ``unknown_token``."""
        require_id(token, "the token")
        row = self._run_read(lambda store: store.fetch_one(TokenRow, store.sql.token, token), connection)
        if row is None:
            raise BillingError("unknown_token", f"there is no token {safe_repr(token)}")
        return api_tokens.api_token_from_row(row, secret)

    def tokens(self, account: str, *, connection: Connection | None = None) -> list[ApiToken]:
        """All tokens of an account."""
        return self._run_read(lambda store: reports.tokens_of(store, account), connection)

    def authenticate(self, secret: str, *, at: datetime, connection: Connection | None = None) -> ApiToken:
        """The token that a client showed.

        Raises ``unknown_token``, ``token_disabled``, ``token_expired``, ``token_exhausted``; a gateway answers 401.
        """
        booked = format_timestamp(at)
        return self._run_read(lambda store: api_tokens.authenticate(store, secret, booked), connection)
