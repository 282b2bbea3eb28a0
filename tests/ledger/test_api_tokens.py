"""API tokens: who may ask for what."""

from __future__ import annotations

from decimal import Decimal

import pytest

from brivionix_billing.ledger import Ledger, parse_bearer
from ledger_kit import NOW, got, later, refused, tables

SECRET = "sk-" + "x" * 30


class TestTokens:
    """API tokens: who may ask for what, told apart by code."""

    def test_the_secret_is_kept_nowhere(self, ledger: Ledger) -> None:
        """It is told once; the database, the journal and repr have its hash at most."""
        token = ledger.create_token("acct", id="tok", at=NOW, group="default")
        assert token.secret is not None
        assert token.secret.startswith("sk-")
        assert token.secret not in str(tables(ledger))
        assert token.secret not in repr(token)
        assert ledger.authenticate(token.secret, at=NOW).id == "tok"
        again = ledger.create_token("acct", id="tok", at=NOW, group="default")
        assert again.secret is None

    def test_each_reason_has_its_code(self, ledger: Ledger) -> None:
        """Unknown, disabled, expired and exhausted are 401, each with a code of its own."""
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

    def test_a_limit_counts_what_is_spent_and_what_is_held(self, ledger: Ledger) -> None:
        """Two requests at once cannot pass a limit that has room for one; raising it lets the second in."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", limit="2", secret=SECRET)
        ledger.hold("acct", "1.5", id="r1", at=NOW, token="tok")
        with refused("token_limit") as caught:
            ledger.hold("acct", "0.6", id="r2", at=NOW, token="tok")
        assert caught.value.http_status == 402
        ledger.settle("r1", "0.4", at=NOW)
        ledger.hold("acct", "1.6", id="r2", at=NOW, token="tok")
        token = ledger.token("tok")
        assert got(token.spent, token.held) == (Decimal("0.4"), Decimal("1.6"))

    def test_a_token_is_of_its_account(self, ledger: Ledger) -> None:
        """No hold of one account goes through the token of another."""
        ledger.open_account("other", at=NOW)
        ledger.create_token("other", id="tok", at=NOW, group="default", secret=SECRET)
        with refused("unknown_token"):
            ledger.hold("acct", "1", id="r1", at=NOW, token="tok")

    @pytest.mark.parametrize(
        "header",
        [None, "", "Bearer", "Bearer ", "Basic abc", "sk-abc", "Bearer a b", "Bearer a\x00", "Bearer " + "x" * 600],
    )
    def test_a_header_without_a_token_is_malformed(self, header: str | None) -> None:
        """Whatever is no ``Bearer TOKEN`` is 401 with a code of its own."""
        with refused("malformed_authorization") as caught:
            parse_bearer(header)
        assert caught.value.http_status == 401

    def test_settings_that_are_none_are_refused(self, ledger: Ledger) -> None:
        """A misspelt setting is an error, not a token without a limit."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
        with refused("invalid_argument"):
            ledger.change_token("tok", id="ch", at=NOW, limits="1")
        with refused("invalid_argument"):
            ledger.create_token("acct", id="short", at=NOW, group="default", secret="short")
