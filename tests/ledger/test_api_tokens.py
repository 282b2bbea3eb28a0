"""API tokens: authentication, limits and settings."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brivionix_billing.ledger import Ledger, parse_bearer
from ledger_kit import NOW, got, later, refused, tables

SECRET = "sk-" + "x" * 30


class TestTokens:
    """API tokens: authentication, limits and settings."""

    def test_the_secret_is_not_stored(self, ledger: Ledger) -> None:
        """A secret is returned once; the database, the journal and repr do not contain it."""
        token = ledger.create_token("acct", id="tok", at=NOW, group="default")
        assert token.secret is not None
        assert token.secret.startswith("sk-")
        assert token.secret not in str(tables(ledger))
        assert token.secret not in repr(token)
        assert ledger.authenticate(token.secret, at=NOW).id == "tok"
        again = ledger.create_token("acct", id="tok", at=NOW, group="default")
        assert again.secret is None

    def test_each_reason_has_its_code(self, ledger: Ledger) -> None:
        """Unknown, disabled, expired and exhausted tokens have status 401 and different codes."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", limit="1", expires=later(60), secret=SECRET)
        assert ledger.authenticate(SECRET, at=later(59)).group == "default"
        for secret, seconds, code in (("sk-other", 0, "unknown_token"), (SECRET, 60, "token_expired")):
            with refused(code) as caught:
                ledger.authenticate(secret, at=later(seconds))
            assert caught.value.http_status == 401
        ledger.charge("acct", "1", id="c", at=NOW, token="tok")
        with refused("token_exhausted"):
            ledger.authenticate(SECRET, at=NOW)
        ledger.change_token("tok", id="ch", at=NOW, enabled=False)
        with refused("token_disabled"):
            ledger.authenticate(SECRET, at=NOW)

    def test_a_limit_includes_spent_and_held_credits(self, ledger: Ledger) -> None:
        """A second concurrent request is rejected if the limit covers only one, until the limit is raised."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", limit="2", secret=SECRET)
        ledger.hold("acct", "1.5", id="r1", at=NOW, token="tok")
        with refused("token_limit") as caught:
            ledger.hold("acct", "0.6", id="r2", at=NOW, token="tok")
        assert caught.value.http_status == 402
        ledger.settle("r1", "0.4", at=NOW)
        ledger.hold("acct", "1.6", id="r2", at=NOW, token="tok")
        token = ledger.token("tok")
        assert got(token.spent, token.held) == (Decimal("0.4"), Decimal("1.6"))

    def test_a_token_belongs_to_one_account(self, ledger: Ledger) -> None:
        """A hold with the token of another account is rejected."""
        ledger.open_account("other", at=NOW)
        ledger.create_token("other", id="tok", at=NOW, group="default", secret=SECRET)
        with refused("unknown_token"):
            ledger.hold("acct", "1", id="r1", at=NOW, token="tok")

    @pytest.mark.parametrize(
        "header",
        [None, "", "Bearer", "Bearer ", "Basic abc", "sk-abc", "Bearer a b", "Bearer a\x00", "Bearer " + "x" * 600],
    )
    def test_a_header_without_a_token_is_malformed(self, header: str | None) -> None:
        """A header that is not ``Bearer TOKEN`` has status 401 and its own code."""
        with refused("malformed_authorization") as caught:
            parse_bearer(header)
        assert caught.value.http_status == 401

    def test_invalid_settings_are_rejected(self, ledger: Ledger) -> None:
        """A misspelt setting is an error, so that no token is created without its limit."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
        with refused("invalid_argument"):
            ledger.change_token("tok", id="ch", at=NOW, limits="1")
        with refused("invalid_argument"):
            ledger.create_token("acct", id="short", at=NOW, group="default", secret="short")
