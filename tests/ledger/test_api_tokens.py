"""API tokens: authentication, limits and settings."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing.ledger import Ledger, parse_bearer
from ledger_kit import NOW, got, later, opened, refused, tables, with_credits

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

    def test_a_hold_checks_an_authenticated_token_again(self, database: str) -> None:
        """A hold raises ``unknown_token`` for a secret that is over, and ``token_changed`` for another group."""
        with opened(database) as ledger:
            with_credits(ledger)
            ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
            token = ledger.authenticate(SECRET, at=NOW)
            ledger.rotate_secret("tok", id="rot", at=NOW, grace=timedelta(seconds=60))
            ledger.hold("acct", "1", id="r1", at=later(59), token=token)
            with refused("unknown_token"):
                ledger.hold("acct", "1", id="r2", at=later(60), token=token)
            ledger.change_token("tok", id="vip", at=NOW, group="vip")
            with refused("token_changed"):
                ledger.hold("acct", "1", id="r3", at=NOW, token=token)
            assert ledger.hold("acct", "1", id="r1", at=later(61), token=token).repeated
            ledger.hold("acct", "1", id="r4", at=NOW, token=ledger.token("tok"))

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


class TestRotation:
    """A new secret, while the present one stays valid for a grace period."""

    def test_both_secrets_are_valid_until_the_grace_period_ends(self, database: str) -> None:
        """The new secret is valid at once; the old one exactly until the end of its grace period, on both databases."""
        with opened(database) as ledger:
            ledger.open_account("acct", at=NOW)
            ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
            token = ledger.rotate_secret("tok", id="rot", at=NOW, grace=timedelta(seconds=60))
            assert token.secret is not None
            assert (token.id, token.previous_secret_expires) == ("tok", later(60))
            for seconds in (0, 59, 60):
                assert ledger.authenticate(token.secret, at=later(seconds)).id == "tok"
            assert ledger.authenticate(SECRET, at=later(59)).id == "tok"
            with refused("unknown_token"):
                ledger.authenticate(SECRET, at=later(60))
            assert ledger.rotate_secret("tok", id="rot", at=later(9), grace=timedelta(seconds=60)).secret is None
            assert ledger.verify() == []
            before = tables(ledger)
            assert token.secret not in str(before)
            ledger.rebuild()
            assert tables(ledger) == before

    def test_without_a_grace_period_the_old_secret_ends_at_once(self, ledger: Ledger) -> None:
        """After a rotation with a grace period of zero, only the newest secret is valid, not one in an older period."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
        second = ledger.rotate_secret("tok", id="r1", at=NOW, grace=timedelta(days=1)).secret
        third = ledger.rotate_secret("tok", id="r2", at=NOW, grace=timedelta(0)).secret
        assert second is not None
        assert third is not None
        for old in (SECRET, second):
            with refused("unknown_token"):
                ledger.authenticate(old, at=NOW)
        assert ledger.authenticate(third, at=NOW).previous_secret_expires is None

    def test_a_second_rotation_ends_the_oldest_secret(self, ledger: Ledger) -> None:
        """After two rotations within a grace period, the two newest secrets are valid and the oldest is not."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
        newer = [ledger.rotate_secret("tok", id=id, at=NOW, grace=timedelta(days=1)).secret for id in ("r1", "r2")]
        for secret in newer:
            assert secret is not None
            assert ledger.authenticate(secret, at=NOW).id == "tok"
        with refused("unknown_token"):
            ledger.authenticate(SECRET, at=NOW)

    def test_no_two_tokens_share_a_secret(self, ledger: Ledger) -> None:
        """A secret that a token has or had until now is rejected for any token."""
        ledger.create_token("acct", id="tok", at=NOW, group="default", secret=SECRET)
        ledger.rotate_secret("tok", id="r1", at=NOW, grace=timedelta(days=1), secret=SECRET[::-1])
        for secret in (SECRET, SECRET[::-1]):
            with refused("operation_conflict"):
                ledger.create_token("acct", id="other", at=NOW, group="default", secret=secret)
            with refused("operation_conflict"):
                ledger.rotate_secret("tok", id="r2", at=NOW, grace=timedelta(0), secret=secret)
        with refused("invalid_argument"):
            ledger.rotate_secret("tok", id="r2", at=NOW, grace=timedelta(-1))
        with refused("unknown_token"):
            ledger.rotate_secret("none", id="r2", at=NOW, grace=timedelta(0))

    def test_authenticate_is_one_query_by_indexes(self, ledger: Ledger) -> None:
        """A look-up of a secret is one statement, which searches an index for the new and one for the old secret."""
        statement = ledger.statements.token_by_hash
        with ledger.engine.connect() as connection:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ("a", "a")).all()
            traced: list[str] = []
            driver: Any = connection.connection.driver_connection
            driver.set_trace_callback(traced.append)
            with refused("unknown_token"):
                ledger.authenticate(SECRET, at=NOW, connection=connection)
            driver.set_trace_callback(None)
        plan = " ".join(str(row[-1]) for row in rows)
        assert ("SCAN" in plan, "billing_token_previous" in plan) == (False, True)
        assert sum(statement.startswith("SELECT") for statement in traced) == 1
