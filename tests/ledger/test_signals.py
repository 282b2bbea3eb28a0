"""Signals: what raises them, how often, and how a gateway reads them from the outbox."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.ledger import Ledger
from ledger_kit import BOOK, NOW, forge, later, opened, refused, tables, with_credits


@pytest.fixture
def ledger() -> Any:
    """Yield a ledger with an account of 100 Credits. At the end it is valid, and a rebuild changes nothing."""
    with opened("sqlite://") as ledger:
        yield with_credits(ledger)
        assert ledger.verify() == []
        before = tables(ledger)
        ledger.rebuild()
        assert tables(ledger) == before


def kinds(ledger: Ledger, account: str = "acct") -> list[str]:
    """Return the names of all signals raised so far."""
    return [signal.name for signal in ledger.signals(account, pending=False)]


def use(ledger: Ledger, credits: Any, seconds: float = 0) -> str:
    """Charge Credits. Returns the id."""
    id = f"use-{ledger.checkpoint()['acct'][0]}"
    ledger.charge("acct", credits, id=id, at=later(seconds))
    return id


def top_up(ledger: Ledger, credits: int, seconds: float = 0) -> None:
    """Purchase Credits, at 0.85 CNY each."""
    id = f"pay-{ledger.checkpoint()['acct'][0]}"
    paid = BOOK.quote("rmb", at=NOW, credits=credits)
    ledger.top_up("acct", paid, reference=id, id=id, at=later(seconds))


# --- what raises them ---


def test_a_low_balance_is_signalled_once_per_crossing(ledger: Ledger) -> None:
    """The signal is raised by the charge that crosses the threshold, and again only after a recovery."""
    ledger.set_signal("acct", "low", "low_balance", threshold=20, id="s", at=NOW)
    use(ledger, 80)  # exactly the threshold
    assert kinds(ledger) == []
    operation = use(ledger, "0.000000000000000001")
    use(ledger, 5)
    assert [(signal.operation, signal.content) for signal in ledger.signals("acct")] == [
        (operation, {"balance": "19.999999999999999999", "threshold": "20"})
    ]
    top_up(ledger, 50)
    use(ledger, 60)
    assert kinds(ledger) == ["low", "low"]


def test_holds_do_not_make_a_balance_low(ledger: Ledger) -> None:
    """Holds in flight do not cross a threshold: each request would raise a signal."""
    ledger.set_signal("acct", "low", "low_balance", threshold=50, id="s", at=NOW)
    ledger.hold("acct", 99, id="r", at=NOW)
    ledger.release("r", at=NOW)
    assert kinds(ledger) == []


def test_credits_that_expire_make_a_balance_low(ledger: Ledger) -> None:
    """The entry that posts an expiry raises the signal."""
    ledger.grant("acct", 50, reason="gift", id="gift", at=NOW, expires=later(60))
    ledger.set_signal("acct", "low", "low_balance", threshold=101, id="s", at=NOW)
    ledger.expire(at=later(61))
    assert [signal.operation[0] for signal in ledger.signals("acct")] == ["~"]


def test_a_condition_that_is_true_already_is_signalled_at_once(ledger: Ledger) -> None:
    """Setting a signal raises it if its condition is true, and so does setting it again."""
    for number in range(2):
        ledger.set_signal("acct", "low", "low_balance", threshold=200, id=f"s{number}", at=NOW)
        assert len(kinds(ledger)) == number + 1


def test_debt_is_signalled_until_it_is_settled(ledger: Ledger) -> None:
    """Debt is signalled when it begins, and again after it was settled."""
    ledger.set_signal("acct", "debt", "debt", id="s", at=NOW)
    for _ in range(2):
        use(ledger, 101)
        use(ledger, 1)
        top_up(ledger, 102)
    assert kinds(ledger) == ["debt", "debt"]


def test_an_automatic_top_up_never_exceeds_its_monthly_cap(ledger: Ledger) -> None:
    """The Credits of all signals in a month of the zone are at most the cap, also if the signal is set again."""
    terms: dict[str, Any] = {"threshold": 50, "credits": 40, "cap": 100, "zone": "Asia/Shanghai"}
    ledger.set_signal("acct", "auto", "top_up_due", **terms, id="s", at=NOW)
    use(ledger, 300)
    for number in range(5):
        top_up(ledger, 1)  # not enough: due again
        ledger.remove_signal("acct", "auto", id=f"off{number}", at=NOW)
        ledger.set_signal("acct", "auto", "top_up_due", **terms, id=f"on{number}", at=NOW)
    assert [signal.content["month_credits"] for signal in ledger.signals("acct")] == ["40", "80"]
    begin = datetime(2026, 11, 30, 16, tzinfo=UTC)  # December in Shanghai
    ledger.charge("acct", 1, id="before", at=begin - timedelta(microseconds=1))
    assert len(kinds(ledger)) == 2
    ledger.charge("acct", 1, id="after", at=begin)
    ledger.charge("acct", 1, id="skewed", at=begin - timedelta(minutes=1))  # a clock that is behind
    assert [signal.content["month"] for signal in ledger.signals("acct")] == ["2026-11", "2026-11", "2026-12"]


def test_each_payment_that_is_not_enough_makes_the_next_top_up_due(ledger: Ledger) -> None:
    """A payment that leaves the balance below the threshold raises the signal again; a charge does not."""
    ledger.set_signal("acct", "auto", "top_up_due", threshold=50, credits=40, id="s", at=NOW)
    use(ledger, 150)
    use(ledger, 1)
    assert len(kinds(ledger)) == 1
    top_up(ledger, 40)
    assert len(kinds(ledger)) == 2
    top_up(ledger, 100)
    assert len(kinds(ledger)) == 2


def test_a_frozen_account_is_not_topped_up(ledger: Ledger) -> None:
    """While an account is frozen, no top-up is due. It is due when the account is unfrozen."""
    ledger.set_signal("acct", "auto", "top_up_due", threshold=50, credits=40, id="s", at=NOW)
    ledger.hold("acct", 90, id="r", at=NOW)
    ledger.freeze("acct", reason="chargeback", id="f", at=NOW)
    ledger.settle("r", 90, at=NOW)
    assert kinds(ledger) == []
    ledger.unfreeze("acct", reason="won", id="u", at=NOW)
    assert kinds(ledger) == ["auto"]


@pytest.mark.parametrize(("window", "again"), [("day", 43_200), ("1h", 3_660)])
def test_a_limit_is_signalled_once_per_window(ledger: Ledger, window: str, again: int) -> None:
    """A limit is signalled once in its window, however often its use crosses the share; then again."""
    ledger.set_limit("acct", "l", 10, window=window, id="l", at=NOW)
    ledger.set_signal("acct", "near", "limit_near", limit="l", share="0.8", id="s", at=NOW)
    for number in range(3):
        ledger.hold("acct", 8, id=f"r{number}", at=NOW)
        ledger.release(f"r{number}", at=NOW)
    assert kinds(ledger) == ["near"]
    assert ledger.signals("acct")[0].content["used"] == "8"
    use(ledger, 9, again - 1)
    assert kinds(ledger) == ["near"]
    use(ledger, 9, again)
    assert kinds(ledger) == ["near", "near"]


def test_a_limit_that_is_changed_is_signalled_anew(ledger: Ledger) -> None:
    """A new amount of a limit begins anew: a higher one is reached again, and a lower one may be reached already."""
    ledger.set_limit("acct", "l", 10, window="month", id="l", at=NOW)
    ledger.set_signal("acct", "near", "limit_near", limit="l", share="0.8", id="s", at=NOW)
    use(ledger, 8)
    ledger.set_limit("acct", "l", 20, window="month", id="l2", at=NOW)
    use(ledger, 8)
    ledger.set_limit("acct", "l", 19, window="month", id="l3", at=NOW)
    assert kinds(ledger) == ["near"] * 3
    ledger.remove_limit("acct", "l", id="l4", at=NOW)
    use(ledger, 8)
    assert kinds(ledger) == ["near"] * 3


def test_a_crashed_gateway_raises_one_signal_an_hour(ledger: Ledger) -> None:
    """Many holds that expire raise one signal, and those of the next hour another one."""
    ledger.set_signal("acct", "lost", "hold_expired", id="s", at=NOW)
    for number in range(9):
        ledger.hold("acct", 1, id=f"r{number}", at=NOW, ttl=timedelta(minutes=1 + number))
    for minute in range(1, 10):
        ledger.expire(at=later(60 * minute))
    assert [signal.content for signal in ledger.signals("acct")] == [{"hold": "r0"}]
    ledger.hold("acct", 1, id="late", at=later(600), ttl=timedelta(hours=1))
    ledger.expire(at=later(5000))
    assert kinds(ledger) == ["lost", "lost"]


def test_times_at_the_end_of_the_calendar_raise_signals(ledger: Ledger) -> None:
    """A signal at the last instant of the calendar is raised as any other."""
    last = datetime.max.replace(tzinfo=UTC)
    ledger.set_signal("acct", "lost", "hold_expired", id="s", at=NOW)
    ledger.set_signal("acct", "auto", "top_up_due", threshold=9, credits=1, zone="Pacific/Auckland", id="s2", at=NOW)
    ledger.hold("acct", 1, id="r", at=NOW)
    ledger.charge("acct", 99, id="c", at=last)
    assert kinds(ledger) == ["lost", "auto"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("other", {}),
        ("low_balance", {}),
        ("low_balance", {"threshold": "-1"}),
        ("low_balance", {"threshold": 1, "credits": 1}),
        ("debt", {"share": 1}),
        ("top_up_due", {"threshold": 1}),
        ("top_up_due", {"threshold": 1, "credits": 0}),
        ("top_up_due", {"threshold": 1, "credits": 2, "cap": 1}),
        ("top_up_due", {"threshold": 1, "credits": 2, "zone": "Mars"}),
        ("top_up_due", {"threshold": 1, "credits": 0.5}),
        ("limit_near", {"share": "0.5"}),
        ("limit_near", {"share": "0.5", "limit": "none"}),
        ("limit_near", {"share": "1.1", "limit": "l"}),
        ("limit_near", {"share": 0, "limit": "l"}),
    ],
)
def test_a_signal_that_cannot_be_set(ledger: Ledger, kind: Any, options: dict[str, Any]) -> None:
    """Missing, foreign and impossible options are errors that change nothing."""
    ledger.set_limit("acct", "l", 10, window="day", id="l", at=NOW)
    before = tables(ledger)
    with pytest.raises(BillingError) as caught:
        ledger.set_signal("acct", "name", kind, **options, id="s", at=NOW)
    assert caught.value.code in ("invalid_argument", "invalid_money", "invalid_period")
    assert tables(ledger) == before


def test_an_account_has_at_most_twenty_signals(ledger: Ledger) -> None:
    """The number of signals is limited, and one that was removed makes room."""
    for number in range(20):
        ledger.set_signal("acct", f"n{number}", "debt", id=f"s{number}", at=NOW)
    with refused("invalid_argument"):
        ledger.set_signal("acct", "more", "debt", id="more", at=NOW)
    ledger.set_signal("acct", "n3", "low_balance", threshold=1, id="same", at=NOW)
    ledger.remove_signal("acct", "n4", id="off", at=NOW)
    with refused("invalid_argument"):
        ledger.remove_signal("acct", "n4", id="off2", at=NOW)
    ledger.set_signal("acct", "more", "debt", id="more", at=NOW)
    assert len(ledger.signal_settings("acct")) == 20


def test_an_account_without_signals_costs_no_statement(ledger: Ledger) -> None:
    """Hold and settle execute no statement on the tables of signals if the account has none."""
    with ledger.engine.begin() as connection:
        statements: list[str] = []
        driver: Any = connection.connection.dbapi_connection
        driver.set_trace_callback(statements.append)
        ledger.hold("acct", 1, id="r", at=NOW, connection=connection)
        ledger.settle("r", 1, at=NOW, connection=connection)
        driver.set_trace_callback(None)
    assert len(statements) > 8
    assert not [statement for statement in statements if "billing_signal" in statement]


# --- the outbox ---


def with_signals(ledger: Ledger, accounts: int, each: int) -> None:
    """Open accounts, and raise some signals of each."""
    for account in range(accounts):
        name = f"a{account}"
        ledger.open_account(name, at=NOW)
        for number in range(each):
            ledger.set_signal(name, f"n{number}", "low_balance", threshold=1, id=f"{name}-{number}", at=NOW)


def leased(ledger: Ledger, seconds: float = 0, limit: int = 100) -> list[tuple[str, int]]:
    """Lease a batch for a minute."""
    return [(signal.account, signal.number) for signal in ledger.lease_signals(at=later(seconds), limit=limit)]


def test_a_batch_is_leased_to_one_reader(ledger: Ledger) -> None:
    """Until the lease ends, no reader gets the signals of the batch, nor later ones of their accounts."""
    with_signals(ledger, 2, 2)
    assert leased(ledger, limit=3) == [("a0", 1), ("a0", 2), ("a1", 1)]
    assert leased(ledger) == []  # the second signal of a1 waits for the first
    ledger.acknowledge_signals("a1", 1, at=NOW)
    assert leased(ledger) == [("a1", 2)]
    assert leased(ledger, 60) == [("a0", 1), ("a0", 2), ("a1", 2)]


def test_a_receiver_that_fails_does_not_keep_others_waiting(ledger: Ledger) -> None:
    """Signals that were never read come before those whose delivery has failed."""
    with_signals(ledger, 3, 1)
    assert leased(ledger, limit=1) == [("a0", 1)]
    assert leased(ledger, 60, limit=2) == [("a1", 1), ("a2", 1)]
    assert leased(ledger, 60) == [("a0", 1)]


def test_acknowledging_again_changes_nothing(ledger: Ledger) -> None:
    """A late acknowledgement of another reader returns the entry of the first one."""
    with_signals(ledger, 1, 3)
    first = ledger.acknowledge_signals("a0", 2, at=NOW)
    again = [
        ledger.acknowledge_signals("a0", 2, at=NOW),
        ledger.acknowledge_signals("a0", 1, at=NOW),
        ledger.acknowledge_signals("a0", 1, id="late", at=NOW),
    ]
    assert all(entry.repeated and entry.hash == first.hash for entry in again)
    assert [signal.number for signal in ledger.signals("a0")] == [3]


@pytest.mark.parametrize("through", [0, -1, 4, True, "1", 2**63, None])
def test_an_unknown_number_cannot_be_acknowledged(ledger: Ledger, through: Any) -> None:
    """A number that no signal has is an error: signals that are raised later must not be acknowledged already."""
    with_signals(ledger, 1, 3)
    with refused("invalid_argument"):
        ledger.acknowledge_signals("a0", through, at=NOW)


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 1001}, {"limit": True}, {"lease": timedelta(0)}])
def test_an_invalid_batch(ledger: Ledger, options: dict[str, Any]) -> None:
    """A batch has 1 to 1000 signals, and a lease is longer than zero."""
    with refused("invalid_argument"):
        ledger.lease_signals(at=NOW, **options)


def test_pages_of_signals(ledger: Ledger) -> None:
    """Pages of an account continue after a number, with or without the acknowledged ones."""
    with_signals(ledger, 2, 3)
    ledger.acknowledge_signals("a0", 1, at=NOW)
    pages: list[Callable[[], Any]] = [
        lambda: ledger.signals(limit=3),
        lambda: ledger.signals("a0", pending=False, limit=2),
        lambda: ledger.signals("a0", pending=False, after=2),
        lambda: ledger.signals("a0", after=2),
    ]
    numbers = [[(signal.account, signal.number) for signal in page()] for page in pages]
    assert numbers == [[("a0", 2), ("a0", 3), ("a1", 1)], [("a0", 1), ("a0", 2)], [("a0", 3)], [("a0", 3)]]
    with refused("invalid_argument"):
        ledger.signals(pending=False)


def test_readers_and_writers_at_the_same_time(database: str) -> None:
    """Four readers and a writer: each signal is read by one reader, in order per account, and none is lost."""
    with opened(database) as ledger:
        with_signals(ledger, 6, 5)
        seen: list[list[tuple[str, int]]] = [[], [], [], []]

        def read(own: list[tuple[str, int]]) -> None:
            for _ in range(30):
                for signal in ledger.lease_signals(at=NOW, limit=2):
                    own.append((signal.account, signal.number))
                    ledger.acknowledge_signals(signal.account, signal.number, at=NOW)

        def write() -> None:
            for number in range(5, 10):
                for account in range(6):
                    name = f"a{account}"
                    ledger.set_signal(name, f"n{number}", "low_balance", threshold=1, id=f"{name}-{number}", at=NOW)

        with ThreadPoolExecutor(5) as pool:
            done = [pool.submit(write), *(pool.submit(read, own) for own in seen)]
            assert [future.result() for future in done] == [None] * 5
        read(seen[0])
        everything = [pair for own in seen for pair in own]
        assert len(everything) == 60
        assert sorted(everything) == [(f"a{account}", number) for account in range(6) for number in range(1, 11)]
        for own in seen:
            assert all(own.index(pair) == position for position, pair in enumerate(own))
            for account in range(6):
                numbers = [number for name, number in own if name == f"a{account}"]
                assert numbers == sorted(numbers)
        assert ledger.signals() == []
        assert ledger.verify() == []


# --- forgeries ---


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"number":1', '"number":2'),
        ('"balance":"19"', '"balance":"18"'),
        ('"kind":"low_balance","name"', '"kind":"debt","name"'),
        ('"quiet":"recovery"', '"quiet":"9999"'),
        ('"name":"low"', '"name":"hi"'),
    ],
)
def test_a_forged_signal_is_detected(old: str, new: str) -> None:
    """A signal that does not follow from the balance is detected, also if the hash of its entry matches."""
    with opened("sqlite://") as ledger:
        with_credits(ledger)
        ledger.set_signal("acct", "low", "low_balance", threshold=20, id="s", at=NOW)
        use(ledger, 81)
        forge(ledger, old, new)
        assert "entry" in str(ledger.verify()[0])


def test_a_signal_that_was_suppressed_is_detected() -> None:
    """An entry without the signal that it must raise is detected, also if its hash matches."""
    with opened("sqlite://") as ledger:
        with_credits(ledger)
        ledger.set_signal("acct", "low", "low_balance", threshold=20, id="s", at=NOW)
        use(ledger, 81)
        content = '{"balance":"19","threshold":"20"},"kind":"low_balance","name":"low","number":1,"quiet":"recovery"'
        forge(ledger, f'"signals":[{{"content":{content}}}]', '"signals":[]')
        assert "does not have the signal" in str(ledger.verify()[0])


def test_signals_share_the_transaction_of_their_operation(ledger: Ledger) -> None:
    """An operation in a transaction that is rolled back leaves no signal."""
    ledger.set_signal("acct", "low", "low_balance", threshold=100, id="s", at=NOW)
    with ledger.engine.connect() as connection:
        transaction = connection.begin()
        ledger.charge("acct", 1, id="c", at=NOW, connection=connection)
        assert len(ledger.signals("acct", connection=connection)) == 1
        transaction.rollback()
    assert kinds(ledger) == []
