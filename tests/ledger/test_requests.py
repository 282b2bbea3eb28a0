"""Requests with their cost and state, and usage by other keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from brivionix_billing import Money
from brivionix_billing.ledger import Ledger, Request
from brivionix_billing.times import Period
from ledger_kit import NOW, body, charge, later, opened, quote, refused, with_credits

SECRET = "sk-" + "x" * 30
MODELS = ("gpt-5.4-mini", "gpt-5.4")


def all_requests(ledger: Ledger, limit: int = 3, **filters: object) -> list[Request]:
    """Return the requests of all pages."""
    found: list[Request] = []
    after = None
    while True:
        page = ledger.requests("acct", at=later(10_000), limit=limit, after=after, **filters)  # type: ignore[arg-type]
        assert len(page.requests) <= limit
        found += page.requests
        after = page.next
        if after is None:
            return found


def fill(ledger: Ledger) -> None:
    """Make 60 requests over two hours: of two tokens and two models, released, expired, late, open and charged."""
    for token in ("a", "b"):
        ledger.create_token("acct", id=token, at=NOW, group="default", secret=f"{token:x>30}")
    for n in range(60):
        at, end = later(n * 120), n % 7
        user = ("a", "b", None)[n % 3]
        if end == 6:
            ledger.charge("acct", charge(at=at, model=MODELS[n % 2]), usage=body(), id=f"r{n}", at=at, token=user)
            continue
        ledger.hold("acct", "0.5", id=f"r{n}", at=at, token=user, ttl=timedelta(seconds=60 if end == 5 else 20_000))
        if end < 3:
            ledger.settle(f"r{n}", charge(at=at, model=MODELS[n % 2]), usage=body(), at=at)
        elif end == 3:
            ledger.release(f"r{n}", at=at)
        elif end == 5 and n % 2:
            ledger.expire(at=later(n * 120 + 61))
            ledger.settle(f"r{n}", charge(at=at, model=MODELS[n % 2]), usage=body(), at=later(n * 120 + 62))


class TestRequests:
    """Requests, the newest first."""

    def test_pages_and_filters_agree_with_the_journal(self, database: str) -> None:
        """Every request appears once, in order, with the state that the operations gave it; filters select exactly."""
        with opened(database) as ledger:
            fill(with_credits(ledger))
            every = all_requests(ledger)
            assert [request.id for request in every] == [f"r{n}" for n in reversed(range(60))]
            expected = {
                f"r{n}": (
                    ("a", "b", None)[n % 3],
                    MODELS[n % 2] if n % 7 in (0, 1, 2, 6) or (n % 7 == 5 and n % 2) else None,
                    ("settled", "settled", "settled", "released", "open", "settled" if n % 2 else "expired", "charged")[
                        n % 7
                    ],
                    n % 7 == 5 and n % 2 == 1,
                )
                for n in range(60)
            }
            assert {r.id: (r.token, r.model, r.state, r.late) for r in every} == expected
            for token in ("a", "b", "unknown"):
                for model in (None, *MODELS):
                    selected = all_requests(ledger, token=token, model=model)
                    assert selected == [r for r in every if r.token == token and model in (None, r.model)]
            period = Period(later(1200), later(3600))
            assert all_requests(ledger, period=period) == [r for r in every if period.contains(r.at)]
            assert all_requests(ledger, period=period, model=MODELS[0]) == [
                r for r in every if period.contains(r.at) and r.model == MODELS[0]
            ]
            held = ledger.open_holds("acct", at=later(10_000))
            assert held == [r for r in every if r.state == "open"]
            assert sum(r.held for r in held) == ledger.balance("acct", at=later(10_000)).held

    def test_their_sums_are_the_usage(self, ledger: Ledger) -> None:
        """The Credits and tokens of the requests of a period are those of its usage."""
        fill(ledger)
        period = Period(later(1000), later(5000))
        requests, lines = all_requests(ledger, period=period), ledger.usage("acct", period)
        assert sum(r.credits for r in requests) == sum(line.credits for line in lines) > 0
        assert sum(r.input_tokens or 0 for r in requests) == sum(line.input_tokens for line in lines)
        assert sum(r.state in ("settled", "charged") for r in requests) == sum(line.requests for line in lines)

    def test_the_cost_is_that_of_its_own_lots(self, ledger: Ledger) -> None:
        """A request costs the price of the lots it used, by currency."""
        ledger.top_up("acct", quote("12", "stripe"), reference="pi", id="usd", at=NOW)
        usd = next(lot for lot in ledger.lots("acct") if lot.id == "usd")
        ledger.grant("acct", "1", reason="gift", id="gift", at=NOW)
        every = 101 + usd.credits
        ledger.hold("acct", every, id="r1", at=NOW)
        ledger.settle("r1", every + 2, at=later(1))
        (request,) = ledger.requests("acct", at=later(1)).requests
        assert request.cost == (Money("85", "CNY"), Money("12", "USD"))
        assert (request.credits, request.owed, request.state) == (every + 2, Decimal(2), "settled")
        assert request.as_dict()["cost"] == {"CNY": "85", "USD": "12"}

    def test_a_debt_that_it_settles_is_not_its_cost(self, ledger: Ledger) -> None:
        """If the rest of a hold settles the debt of another request, the other one keeps the debt as its own."""
        ledger.hold("acct", "100", id="r1", at=NOW)
        ledger.charge("acct", "2", id="other", at=NOW)
        ledger.settle("r1", "60", at=later(1))
        assert ledger.balance("acct", at=later(1)).owed == 0
        found = {request.id: request for request in ledger.requests("acct", at=later(1)).requests}
        assert (found["r1"].cost, found["r1"].owed) == ((Money("51", "CNY"),), Decimal(0))
        assert (found["other"].cost, found["other"].owed) == ((), Decimal(2))

    @pytest.mark.parametrize("end", ["open", "released", "expired"])
    def test_a_token_that_was_never_charged(self, ledger: Ledger, end: str) -> None:
        """The requests of a token are found, although none was charged and all are older than any usage."""
        ledger.create_token("acct", id="quiet", at=NOW, group="default", secret=SECRET)
        ledger.hold(
            "acct", "1", id="r0", at=NOW, token="quiet", ttl=timedelta(seconds=60 if end == "expired" else 9999)
        )
        if end == "released":
            ledger.release("r0", at=later(1))
        ledger.charge("acct", "1", id="c", at=later(3600))
        (request,) = ledger.requests("acct", at=later(3600), token="quiet").requests
        assert (request.id, request.state) == ("r0", end)

    def test_a_hold_is_expired_at_its_time(self, ledger: Ledger) -> None:
        """An expired hold is not open, although its expiry has not been posted."""
        ledger.hold("acct", "1", id="r1", at=NOW, ttl=timedelta(seconds=60))
        for seconds, state in ((59, "open"), (60, "expired")):
            (request,) = ledger.requests("acct", at=later(seconds)).requests
            assert (request.state, request.held) == (state, Decimal(1))
            assert len(ledger.open_holds("acct", at=later(seconds))) == (state == "open")

    @pytest.mark.parametrize("after", ["", "x", "2026-11-01/1", "2026-11-01T12:00:00.000000Z/" + "9" * 30, 7])
    def test_a_cursor_of_another_kind_is_rejected(self, ledger: Ledger, after: str) -> None:
        """A cursor that no page returned is an error, not the first page."""
        with refused("invalid_argument"):
            ledger.requests("acct", at=NOW, after=after)
        with refused("invalid_argument"):
            ledger.requests("acct", at=NOW, limit=1001)

    def test_a_page_reads_a_bounded_number_of_entries(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        """A page that finds nothing within the bound is empty with a cursor, and the next pages find the rest."""
        fill(ledger)
        monkeypatch.setattr("brivionix_billing.ledger.requests._MAX_SCANNED", 4)
        page = ledger.requests("acct", at=later(10_000), token="b", model=MODELS[1])
        assert len(page.requests) < 2
        assert page.next is not None
        found = all_requests(ledger, token="b", model=MODELS[1])
        monkeypatch.undo()
        assert found == all_requests(ledger, token="b", model=MODELS[1]) != []


class TestUsageBy:
    """Usage by other keys."""

    def test_every_key_sums_the_requests(self, ledger: Ledger) -> None:
        """Each line is the sum of the requests with its keys, in a zone with an offset of a quarter hour."""
        fill(ledger)
        period = Period(later(0), later(7200), "Asia/Kathmandu")
        offset = timedelta(hours=5, minutes=45)
        charged = [r for r in all_requests(ledger, period=period) if r.model is not None]

        def key(request: Request, name: str) -> str:
            local = request.at + offset
            times = {"hour": f"{local:%Y-%m-%dT%H}:00+05:45", "day": f"{local:%Y-%m-%d}", "month": f"{local:%Y-%m}"}
            return times.get(name) or getattr(request, name) or ""

        for by in (("hour",), ("month", "token"), ("group",), ("hour", "model", "token"), ("day", "group", "model")):
            lines = ledger.usage("acct", period, by=by)
            sums: dict[tuple[str, ...], Decimal] = {}
            for request in charged:
                keys = tuple(key(request, name) for name in by)
                sums[keys] = sums.get(keys, Decimal(0)) + request.credits
            assert {tuple(getattr(line, name) for name in by): line.credits for line in lines} == sums
        assert len(ledger.usage("acct", period, by=("hour",))) == 3

    def test_an_hour_that_clocks_repeat_is_two(self, ledger: Ledger) -> None:
        """When clocks are put back, both hours have lines of their own."""
        for n, minute in enumerate((30, 90)):
            at = datetime(2026, 10, 25, tzinfo=UTC) + timedelta(minutes=minute)
            ledger.charge("acct", charge(at=at), id=f"c{n}", at=NOW)
        lines = ledger.usage("acct", Period.parse("2026-10-25/2026-10-26", "Europe/Berlin"), by=("hour",))
        assert [line.hour for line in lines] == ["2026-10-25T02:00+01:00", "2026-10-25T02:00+02:00"]

    def test_a_reversed_charge_leaves_its_group(self, ledger: Ledger) -> None:
        """The usage of a group is less the charges of that group that were reversed."""
        ledger.charge("acct", charge(), id="c", at=NOW)
        ledger.charge("acct", charge(), id="d", at=NOW)
        ledger.reverse_charge("acct", "c", reason="wrong", author="Ada", id="undo", at=NOW)
        (line,) = ledger.usage("acct", "2026-11", by=("group",))
        assert (line.group, line.requests, line.credits) == ("default", 1, Decimal("0.00585"))

    @pytest.mark.parametrize("by", [(), ("week",), "day", ("day", "day")])
    def test_other_keys_are_rejected(self, ledger: Ledger, by: tuple[str, ...]) -> None:
        """An unknown or repeated key is an error."""
        with refused("invalid_argument"):
            ledger.usage("acct", "2026-11", by=by)
