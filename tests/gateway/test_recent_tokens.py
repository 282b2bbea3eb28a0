"""Tokens that are looked up once a second, and checked again by each hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from brivionix_billing.gateway.recent_tokens import RecentTokens
from brivionix_billing.ledger import Ledger
from exchange_kit import AT, CHAT, Flow, run
from ledger_kit import refused


def count_look_ups(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each look-up of a secret adds it."""
    found: list[str] = []
    original = flow.ledger.authenticate

    def authenticate(secret: str, **options: object) -> object:
        found.append(secret)
        return original(secret, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(flow.ledger, "authenticate", authenticate)
    return found


REVOCATIONS: dict[str, Callable[[Ledger], object]] = {
    "token_disabled": lambda ledger: ledger.change_token("token", id="end", at=AT, enabled=False),
    "unknown_token": lambda ledger: ledger.rotate_secret("token", id="end", at=AT, grace=timedelta(0)),
    "token_changed": lambda ledger: ledger.change_token("token", id="end", at=AT, group="promo"),
}


@pytest.mark.parametrize("code", REVOCATIONS)
def test_a_revoked_token_cannot_start_a_request(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests for admission share a look-up. What ends the token or its prices is in force at the next hold."""

    monkeypatch.setattr("brivionix_billing.gateway.recent_tokens._MAX_AGE_SECONDS", 60)  # a second may pass in between

    async def work(flow: Flow) -> None:
        look_ups = count_look_ups(flow, monkeypatch)
        for number in range(2):
            token = await flow.billing.authenticate(flow.header, for_admission=True)
            admitted = await flow.billing.admit(CHAT, id=f"held_{number}", at=AT, token=token, api="chat")
            await flow.billing.release(admitted)
        assert len(look_ups) == 1
        REVOCATIONS[code](flow.ledger)
        token = await flow.billing.authenticate(flow.header, for_admission=True)
        with refused(code):
            await flow.billing.admit(CHAT, id="late", at=AT, token=token, api="chat")
        if code == "token_changed":  # a retry has the other prices
            token = await flow.billing.authenticate(flow.header, for_admission=True)
            assert (token.group, len(look_ups)) == ("promo", 2)
        else:
            with refused(code):
                await flow.billing.authenticate(flow.header)

    flow, _ = run(None, work)
    assert [entry.id for entry in flow.entries("hold")] == ["held_0", "held_1"]


def test_a_token_is_kept_for_less_than_a_second() -> None:
    """At one second it is looked up again, and what is older is dropped whenever a token is added."""
    with Flow().ledger as ledger:
        token = ledger.token("token")
    recent = RecentTokens()
    recent.add("a", token, 10.0)
    assert (recent.get("a", 10.9), recent.get("a", 11.0), recent.get("b", 10.0)) == (token, None, None)
    recent.add("b", token, 10.5)
    recent.add("a", token, 10.6)
    recent.add("c", token, 11.55)
    assert list(recent._tokens) == ["a", "c"]
