"""Members of an account: one pays for all, each with its tokens, limits, requests and usage."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.ledger import Ledger, LimitReachedError, ShortfallError
from brivionix_billing.times import Period
from ledger_kit import NOW, body, charge, forge, got, later, opened, refused, tables, traced, with_credits


def with_members(ledger: Ledger, *members: str) -> Ledger:
    """Add members, each with a token ``tok-MEMBER``. Returns the same ledger."""
    for member in members:
        ledger.add_member("acct", member, id=f"add-{member}", at=NOW)
        ledger.create_token("acct", id=f"tok-{member}", at=NOW, group="default", member=member, secret=secret(member))
    return ledger


def secret(member: str) -> str:
    """Return the secret of a member's token."""
    return f"{member:->30}"


def use(ledger: Ledger, *by: str) -> dict[tuple[str, ...], Decimal]:
    """Return the Credits used in November by some keys."""
    lines = ledger.usage("acct", "2026-11", by=by)
    return {tuple(getattr(line, key) for key in by): line.credits for line in lines}


def test_a_request_is_of_the_member_that_has_its_token(database: str) -> None:
    """Holds, charges, requests, usage and statements name the member, and rebuild derives the same rows."""
    with opened(database) as ledger:
        with_members(with_credits(ledger), "ann", "bob")
        ledger.hold("acct", "1", id="r1", at=later(1), token="tok-ann")
        ledger.settle("r1", charge(at=later(1)), usage=body(), at=later(2))
        ledger.charge("acct", "2", id="c1", at=later(3), token="tok-bob")
        ledger.charge("acct", "4", id="c2", at=later(3), member="bob")  # the gateway authenticates by itself
        ledger.charge("acct", "8", id="c3", at=later(3))
        ledger.hold("acct", "1", id="r2", at=later(4), token="tok-bob")
        ledger.release("r2", at=later(5))
        cost = ledger.requests("acct", at=later(6), member="ann").requests[0].credits
        assert use(ledger, "member") == got_use({"": 8, "ann": cost, "bob": 6})
        assert use(ledger, "member", "token")[("bob", "tok-bob")] == 2
        found = [(each.id, each.member) for each in ledger.requests("acct", at=later(6)).requests]
        assert found == [("r2", "bob"), ("c3", None), ("c2", "bob"), ("c1", "bob"), ("r1", "ann")]
        of_bob = ledger.requests("acct", at=later(6), member="bob").requests
        assert [each.id for each in of_bob] == ["r2", "c2", "c1"]
        assert [each.id for each in ledger.requests("acct", at=later(6), member="bob", token="tok-bob").requests] == [
            "r2",
            "c1",
        ]
        lines = ledger.statement("acct", "2026-11").members
        assert [(line.member, line.credits) for line in lines] == [("", 8), ("ann", cost), ("bob", 6)]
        assert sum(line.credits for line in lines) == ledger.statement("acct", "2026-11").used
        assert ledger.verify() == []
        before = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == before


def got_use(expected: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return usage by member as :func:`use` does."""
    return {(member,): credits for member, credits in expected.items()}


def test_usage_in_parts_of_a_quarter_hour_is_by_member_too(ledger: Ledger) -> None:
    """A period that begins in a quarter of an hour reads the journal, with the same members."""
    with_members(ledger, "ann")
    for n in range(3):
        ledger.charge("acct", "1", id=f"c{n}", at=later(60 * n), token="tok-ann")
    period = Period.parse("2026-11-01T12:01:00Z/2026-11-02T00:00:00Z")
    assert [(line.member, int(line.credits)) for line in ledger.usage("acct", period, by=("member",))] == [("ann", 2)]


def test_a_bill_is_split_by_member(ledger: Ledger) -> None:
    """The project of a record is its member; without one, a record has no project."""
    with_members(ledger, "ann")
    ledger.charge("acct", charge(at=NOW), usage=body(), id="c1", at=NOW, token="tok-ann")
    ledger.charge("acct", charge(at=NOW), usage=body(), id="c2", at=NOW)
    assert [record.get("project") for record in ledger.records("acct", "2026-11")] == ["ann", None]


def test_limits_bound_members_one_by_one_and_all_together(database: str) -> None:
    """A member is refused by its own limit or a shared one, never by that of another member."""
    with opened(database) as ledger:
        with_members(with_credits(ledger), "ann", "bob")
        ledger.set_limit("acct", "all", 10, window="day", id="l1", at=NOW)
        ledger.set_limit("acct", "ann day", 3, window="day", member="ann", id="l2", at=NOW)
        ledger.set_limit("acct", "bob day", 9, window="day", member="bob", id="l3", at=NOW)
        ledger.hold("acct", 3, id="a1", at=NOW, token="tok-ann")
        with pytest.raises(LimitReachedError) as caught:
            ledger.hold("acct", 1, id="a2", at=NOW, member="ann")
        error = caught.value
        assert (error.limit, error.member, error.hidden_from, error.used) == got("ann day", "ann", None, 3)
        assert str(error).startswith("limit 'ann day' of member 'ann': 3 of 3 Credits are used")
        ledger.hold("acct", 6, id="b1", at=NOW, token="tok-bob")
        with pytest.raises(LimitReachedError) as caught:
            ledger.hold("acct", 2, id="b2", at=NOW, token="tok-bob")
        assert (caught.value.limit, caught.value.member, caught.value.hidden_from) == ("all", None, "bob")
        ledger.settle("a1", "1", at=later(1))
        assert [(limit.name, int(limit.used)) for limit in ledger.limits("acct", at=later(1))] == [
            ("all", 7),
            ("ann day", 1),
            ("bob day", 6),
        ]
        assert [limit.name for limit in ledger.limits("acct", at=NOW, member="bob")] == ["bob day"]
        assert ledger.verify() == []


def test_no_refusal_tells_a_member_what_the_account_has(ledger: Ledger) -> None:
    """Neither the message of a shortfall nor that of a shared limit has an amount of the account."""
    with_members(ledger, "ann")
    ledger.charge("acct", "33", id="c", at=NOW)
    with pytest.raises(ShortfallError) as short:
        ledger.hold("acct", "500", id="x", at=NOW, token="tok-ann")
    ledger.set_limit("acct", "all", 41, window="day", id="l1", at=NOW)
    ledger.hold("acct", "19", id="h", at=NOW)
    with pytest.raises(LimitReachedError) as reached:
        ledger.hold("acct", "30", id="x", at=NOW, token="tok-ann")
    for error in (short.value, reached.value):
        assert not any(figure in str(error) for figure in ("67", "433", "41", "19", "48"))
        assert error.hidden_from == "ann"
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "retry after 2026-11-02T00:00:00Z" in str(reached.value)
    with pytest.raises(ShortfallError, match="has 48 Credits available"):
        ledger.hold("acct", "500", id="x", at=NOW)  # the account itself may know


def test_a_frozen_or_removed_member_gets_no_new_requests(database: str) -> None:
    """Its tokens and requests are refused with 403, its open holds settle, and others are not affected."""
    with opened(database) as ledger:
        with_members(with_credits(ledger), "ann", "bob")
        ledger.hold("acct", "1", id="r1", at=NOW, token="tok-ann")
        known = ledger.authenticate(secret("ann"), at=NOW)
        assert known.member == "ann"
        ledger.freeze_member("acct", "ann", reason="leaked", id="f", at=later(1))
        for code, seconds in (("member_frozen", 2), ("member_removed", 12)):
            before = tables(ledger)
            with refused(code) as caught:
                ledger.authenticate(secret("ann"), at=later(seconds))
            assert caught.value.http_status == 403
            with refused(code):
                ledger.hold("acct", "1", id="r2", at=later(seconds), token=known)
            with refused(code):
                ledger.hold("acct", "1", id="r2", at=later(seconds), member="ann")
            with refused(code):
                ledger.charge("acct", "1", id="c", at=later(seconds), token="tok-ann")
            assert tables(ledger) == before
            if code == "member_frozen":
                ledger.unfreeze_member("acct", "ann", reason="a mistake", id="u", at=later(3))
                ledger.hold("acct", "1", id="r3", at=later(4), token="tok-ann")
                ledger.remove_member("acct", "ann", reason="left", id="rm", at=later(5))
        assert ledger.settle("r1", "0.5", at=later(13)).result["member"] == "ann"
        ledger.hold("acct", "1", id="r4", at=later(13), token="tok-bob")
        states = [(member.id, member.state, member.changed) for member in ledger.members("acct")]
        assert states == [("ann", "removed", later(5)), ("bob", "active", NOW)]
        assert use(ledger, "member") == got_use({"ann": Decimal("0.5")})  # its history stays
        assert ledger.verify() == []


def test_a_removed_member_stays_removed(ledger: Ledger) -> None:
    """Its id cannot join again, and nothing can be set or changed for it."""
    with_members(ledger, "ann")
    ledger.remove_member("acct", "ann", reason="left", id="rm", at=NOW)
    with refused("member_exists"):
        ledger.add_member("acct", "ann", id="again", at=NOW)
    for change in (ledger.freeze_member, ledger.unfreeze_member, ledger.remove_member):
        with refused("member_removed"):
            change("acct", "ann", reason="x", id="x", at=NOW)
    with refused("member_removed"):
        ledger.set_limit("acct", "l", 1, window="day", member="ann", id="x", at=NOW)
    with refused("member_removed"):
        ledger.create_token("acct", id="x", at=NOW, group="default", member="ann")
    assert ledger.remove_member("acct", "ann", reason="left", id="rm", at=NOW).repeated
    assert ledger.verify() == []


def test_limits_of_a_removed_member_are_listed_only_for_it(ledger: Ledger) -> None:
    """They limit nothing any more, but its history can still be read."""
    with_members(ledger, "ann", "bob")
    for member in ("ann", "bob"):
        ledger.set_limit("acct", f"l-{member}", 9, window="day", member=member, id=f"l-{member}", at=NOW)
    ledger.remove_member("acct", "ann", reason="left", id="rm", at=NOW)
    assert [limit.name for limit in ledger.limits("acct", at=NOW)] == ["l-bob"]
    assert [limit.name for limit in ledger.limits("acct", at=NOW, member="ann")] == ["l-ann"]


def test_a_token_moves_to_another_member_and_its_history_does_not(database: str) -> None:
    """What the token used stays with the member before, in one quarter of an hour, and of an open hold."""
    with opened(database) as ledger:
        with_members(with_credits(ledger), "ann", "bob")
        ledger.charge("acct", "1", id="c1", at=NOW, token="tok-ann")
        ledger.hold("acct", "5", id="r1", at=NOW, token="tok-ann")
        assert ledger.change_token("tok-ann", id="move", at=later(1), member="bob").member == "bob"
        ledger.charge("acct", "2", id="c2", at=later(1), token="tok-ann")
        ledger.settle("r1", "4", at=later(2))
        assert use(ledger, "member", "token") == {("ann", "tok-ann"): 5, ("bob", "tok-ann"): 2}
        ledger.reverse_charge("acct", "c1", reason="wrong", author="Ada", id="undo", at=later(3))
        assert use(ledger, "member") == got_use({"ann": 4, "bob": 2})
        ledger.change_token("tok-ann", id="out", at=later(4), member=None)
        ledger.charge("acct", "8", id="c3", at=later(4), token="tok-ann")
        assert use(ledger, "member") == got_use({"": 8, "ann": 4, "bob": 2})
        assert ledger.verify() == []
        before = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == before


def test_members_of_two_accounts_may_have_the_same_id(ledger: Ledger) -> None:
    """An id is unique in its account only, and a member of another account is unknown."""
    with_members(with_credits(ledger, account="other"), "ann")
    with refused("unknown_member"):
        ledger.hold("other", "1", id="x", at=NOW, member="ann")
    ledger.add_member("other", "ann", id="add-2", at=NOW)
    ledger.remove_member("other", "ann", reason="left", id="rm", at=NOW)
    ledger.hold("acct", "1", id="r1", at=NOW, member="ann")
    assert ledger.verify() == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"member": "bob", "token": "tok-ann"}, "omit member"),
        ({"member": 7}, "member"),
        ({"member": "sk-" + "x" * 30}, "secret of a token"),
    ],
)
def test_a_request_names_one_member(ledger: Ledger, options: dict[str, Any], problem: str) -> None:
    """A member that contradicts the token is refused; a token of the account itself may serve any member."""
    with_members(ledger, "ann", "bob")
    with pytest.raises(BillingError, match=problem) as caught:
        ledger.hold("acct", "1", id="x", at=NOW, **options)
    assert caught.value.code == "invalid_argument"
    ledger.create_token("acct", id="service", at=NOW, group="default")
    assert ledger.hold("acct", "1", id="r1", at=NOW, token="service", member="bob").result["member"] == "bob"
    with refused("operation_conflict"):
        ledger.hold("acct", "1", id="r1", at=NOW, token="service", member="ann")


def test_a_limit_does_not_change_its_member(ledger: Ledger) -> None:
    """The name of one member's limit cannot silently replace it by that of another member, or of the account."""
    with_members(ledger, "ann", "bob")
    ledger.set_limit("acct", "day", 5, window="day", member="ann", id="l1", at=NOW)
    for member in ("bob", None):
        with pytest.raises(BillingError, match="that of member 'ann'"):
            ledger.set_limit("acct", "day", 5, window="day", member=member, id="l2", at=NOW)
    ledger.set_limit("acct", "day", 6, window="day", member="ann", id="l3", at=NOW)
    with pytest.raises(BillingError, match="not several"):
        ledger.set_limit("acct", "x", 5, window="day", member="ann", token="tok-ann", id="l4", at=NOW)


def test_each_member_can_have_twenty_limits(ledger: Ledger) -> None:
    """The maximum applies to each member, so an account with many members has room for all of their limits."""
    with_members(ledger, "ann", "bob")
    for member in ("ann", "bob"):
        for n in range(20):
            ledger.set_limit("acct", f"{member}{n}", 5, window="day", member=member, id=f"{member}{n}", at=NOW)
    with pytest.raises(BillingError, match="member 'ann' has 20 limits"):
        ledger.set_limit("acct", "one more", 5, window="day", member="ann", id="x", at=NOW)
    ledger.set_limit("acct", "one more", 5, window="day", id="x", at=NOW)


def test_a_signal_is_raised_for_the_limit_of_a_member(database: str) -> None:
    """It names the member; requests of others do not raise it; a removed limit raises none."""
    with opened(database) as ledger:
        with_members(with_credits(ledger), "ann", "bob")
        ledger.set_limit("acct", "ann day", 10, window="day", member="ann", id="l1", at=NOW)
        ledger.set_signal("acct", "near", "limit_near", limit="ann day", share="0.5", id="s1", at=NOW)
        ledger.hold("acct", 9, id="b1", at=NOW, token="tok-bob")
        assert not ledger.signals("acct")
        ledger.hold("acct", 6, id="a1", at=later(1), token="tok-ann")
        ledger.hold("acct", 1, id="a2", at=later(2), token="tok-ann")
        (signal,) = ledger.signals("acct")
        assert (signal.operation, signal.content["limit"], signal.content["member"]) == ("a1", "ann day", "ann")
        ledger.set_limit("acct", "ann day", 11, window="day", member="ann", id="l2", at=later(3))
        assert [signal.operation for signal in ledger.signals("acct")] == ["a1", "l2"]  # as of any changed limit
        ledger.remove_limit("acct", "ann day", id="l3", at=later(4))
        ledger.hold("acct", 9, id="a3", at=later(5), token="tok-ann")
        assert ledger.verify() == []
        before = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == before


def test_an_expired_hold_of_a_member_frees_its_limit(ledger: Ledger) -> None:
    """The expiry is posted by a request of another member, and reaches the counters of the first one."""
    with_members(ledger, "ann", "bob")
    ledger.set_limit("acct", "ann", 5, window="day", member="ann", id="l1", at=NOW)
    ledger.set_limit("acct", "bob", 5, window="day", member="bob", id="l2", at=NOW)
    ledger.hold("acct", 5, id="a1", at=NOW, token="tok-ann", ttl=timedelta(seconds=10))
    ledger.hold("acct", 5, id="b1", at=later(20), token="tok-bob")
    ledger.hold("acct", 5, id="a2", at=later(20), token="tok-ann")
    assert ledger.verify() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [('"member":"ann","token"', '"member":"bob","token"'), ('"member":"ann","token"', '"token"')],
)
def test_verify_finds_a_request_of_another_member(ledger: Ledger, old: str, new: str) -> None:
    """An entry whose member is not that of its token is an inconsistency, also with a matching hash."""
    with_members(ledger, "ann", "bob")
    ledger.charge("acct", "1", id="c1", at=NOW, token="tok-ann")
    forge(ledger, old, new)
    assert any("another member" in str(found) for found in ledger.verify())


def test_writers_of_members_never_exceed_a_window(database: str) -> None:
    """8 writers and 4 members: each member's limit and the shared one are used up, and never exceeded by one unit."""
    with opened(database) as ledger:
        with_members(with_credits(ledger), "m0", "m1", "m2", "m3")
        ledger.set_limit("acct", "all", 60, unit="requests", window="day", id="l", at=NOW)
        for n in range(4):
            ledger.set_limit("acct", f"m{n}", 20, unit="requests", window="day", member=f"m{n}", id=f"l{n}", at=NOW)
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def write(writer: int) -> None:
        with opened(database) as own:
            for n in range(writer, 160, 8):
                outcome = "granted"
                try:
                    own.hold("acct", "0.01", id=f"r{n}", at=later(n / 100), token=f"tok-m{n % 4}")
                    own.settle(f"r{n}", "0.005", at=later(n / 100))
                except BillingError as error:
                    outcome = error.code
                with lock:
                    outcomes[outcome] += 1

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"granted": 60, "limit_reached": 100}
    with opened(database) as ledger:
        by_member = {line.member: line.requests for line in ledger.usage("acct", "2026-11", by=("member",))}
        assert max(by_member.values()) <= 20
        assert sum(by_member.values()) == 60
        assert ledger.verify() == []


def test_members_cost_the_other_requests_of_their_account_nothing(ledger: Ledger) -> None:
    """With members and their limits, a request of a member executes one statement more; others execute as many."""
    ledger.create_token("acct", id="own", at=NOW, group="default")
    ledger.set_limit("acct", "all", 90, window="day", id="l", at=NOW)
    statements, counts = traced(ledger), []

    def request(id: str, token: str) -> int:
        statements.clear()
        ledger.hold("acct", "1", id=id, at=NOW, token=token)
        ledger.settle(id, "0.5", at=NOW)
        return len(statements)

    request("first", "own")  # which also inserts the usage of the quarter of an hour
    counts.append(request("r0", "own"))
    with_members(ledger, "ann", "bob")
    ledger.set_limit("acct", "bob", 5, window="day", member="bob", id="l2", at=NOW)
    request("second", "tok-ann")
    counts += [request("r1", "own"), request("r2", "tok-ann")]
    assert counts == [counts[0], counts[0], counts[0] + 1]


def test_a_hold_reads_no_limits_of_other_members(ledger: Ledger) -> None:
    """The query of the limits of a member searches an index by account and member, also in SQLite."""
    plan = ledger.engine.raw_connection()
    cursor = plan.cursor()
    cursor.execute(f"EXPLAIN QUERY PLAN {ledger.statements.active_limits.of_member}", ("acct", "acct", "ann"))
    searches = [row[3] for row in cursor.fetchall() if "SEARCH" in row[3]]
    plan.close()
    assert len(searches) == 2
    assert all("(account=? AND member=?)" in search for search in searches)
