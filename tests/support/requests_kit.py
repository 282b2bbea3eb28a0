"""Checks that the list of requests agrees with the journal."""

from __future__ import annotations

from datetime import datetime

from brivionix_billing.ledger import Ledger, Request


def check_requests(ledger: Ledger, at: datetime) -> None:
    """Check that every hold and charge of ``acct`` is listed once, and that Credits charged and held are the sums."""
    listed: list[Request] = []
    after = None
    while True:
        page = ledger.requests("acct", at=at, limit=7, after=after)
        listed += page.requests
        after = page.next
        if after is None:
            break
    entries = list(ledger.journal("acct"))
    assert sorted(request.id for request in listed) == sorted(
        entry.id for entry in entries if entry.kind in ("hold", "charge")
    )
    charged = [entry for entry in entries if entry.kind in ("settle", "charge")]
    assert sum(request.credits for request in listed) == sum(entry.credits for entry in charged)
    held = ledger.open_holds("acct", at=at)
    assert [request.id for request in listed if request.state == "open"] == [request.id for request in held]
    assert sum(request.held for request in held) == ledger.balance("acct", at=at).held
