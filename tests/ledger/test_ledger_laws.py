"""Laws of the ledger: no sequence of operations loses, duplicates or overdraws a Credit or a minor unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from brivionix_billing import BillingError, Payable
from brivionix_billing.ledger import Entry, Ledger, Restriction
from brivionix_billing.times import Period
from brivionix_billing.topup import Quote
from exports_kit import check_exports
from ledger_kit import BOOK, later, payment, tables
from ledger_model import Model, ModelToken, RefusedError, half_up
from plan_rules import TERMS, PlanRules
from profiles import examples
from requests_kit import check_requests
from signal_model import ModelSetting

CREDITS = st.one_of(
    st.sampled_from(["0.000000000000000001", "0.00585", "1", "33.333333333333333333"]),
    st.integers(1, 60 * 10**18).map(lambda units: format(Decimal(units).scaleb(-18), "f")),
)
HELD = st.one_of(
    st.integers(1, 20).map(str), st.sampled_from(["0", "0.00585", "33.333333333333333333", "all", "all and more"])
)
MODELS = st.sampled_from([None, None, "a", "b"])
TOKENS = st.sampled_from([None, None, "free", "tight"])
MEMBERS = st.sampled_from([None, None, "ann", "ann", "bob"])
SHARES = st.sampled_from(["0", "0.5", "0.9", "1", "1.5", "4", "12"])
TIMES = st.one_of(st.none(), st.integers(1, 500))
SIGNALS: tuple[dict[str, Any], ...] = (
    {"kind": "low_balance", "threshold": 30},
    {"kind": "low_balance", "threshold": 99},
    {"kind": "debt"},
    {"kind": "debt", "threshold": 15},
    {"kind": "top_up_due", "threshold": 60, "credits": 10},
    {"kind": "top_up_due", "threshold": 60, "credits": 10, "cap": 25},
    {"kind": "hold_expired"},
    {"kind": "limit_near", "limit": "one", "share": "0.5"},
)


class Machine(PlanRules, RuleBasedStateMachine):
    """An account in the ledger, and the same account in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger.open("sqlite://", BOOK)
        self.model = Model()
        self.other = Model()
        self.count = 0
        self.done: list[tuple[Callable[[], Any], Entry]] = []
        self.folder = TemporaryDirectory(prefix="brivionix-archive-")
        self.is_archived = False

    def teardown(self) -> None:
        try:
            self.restore()
            assert self.ledger.verify() == []
            if self.model.tokens:
                self.post_expiries()
            before = tables(self.ledger)
            self.ledger.rebuild()
            assert tables(self.ledger) == before  # rebuild changes nothing
            self.usage_is_split_by_member()
            assert self.ledger.verify() == []
            for entry in self.ledger.journal("acct"):
                assert sum(entry.postings.values()) == 0
            check_exports(self.ledger, later(0), later(self.model.now))
            check_requests(self.ledger, later(self.model.now))
        finally:
            self.ledger.close()
            self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        self.ledger.open_account("acct", at=later(0))
        self.ledger.open_account("other", at=later(0))
        for token, limit in (("free", None), ("tight", "20")):
            self.ledger.create_token(
                "acct", id=token, at=later(0), group="default", limit=limit, secret=f"{token:->30}"
            )
            self.model.tokens[token] = ModelToken(None if limit is None else Fraction(limit))
            self.model.tokens[token].secrets[f"{token:->30}"] = None
        for member in ("ann", "bob"):
            self.add_member(member)
        self.top_up(8_500, "rmb", None)

    def new(self, kind: str) -> str:
        self.count += 1
        return f"{kind}-{self.count}"

    def both(self, ask: Callable[[], Entry], expected: Callable[[], Any]) -> Entry | None:
        """Run an operation in both. If the model rejects it, the ledger must raise the same code and change nothing."""
        self.renew_free_plan()
        before = tables(self.ledger)
        self.model.tick()
        signals = deepcopy(self.model.signals)
        self.model.signals.watch_expiries(self.model)
        try:
            expected()
        except RefusedError as refusal:
            self.model.signals = signals
            with pytest.raises(BillingError) as caught:
                ask()
            assert caught.value.code == refusal.code  # noqa: PT017  # the caught error is compared with another one
            assert tables(self.ledger) == before
            return None
        entry = ask()
        self.model.signals.watch(self.model, entry.kind, entry.content.get("limit"), member_of(entry))
        self.done.append((ask, entry))
        return entry

    @rule(age=st.sampled_from([0, 30, 300]))
    def archive(self, age: int) -> None:
        """Archive what is older. All else goes on as before; what reads the journal restores it."""
        self.renew_free_plan()
        now = self.model.now
        done = self.ledger.archive(self.folder.name, before=later(max(0, now - age)), at=later(now), accounts=["acct"])
        if done.entries:
            self.is_archived = True
            self.model.tick()
            self.model.signals.watch_expiries(self.model)
            self.model.signals.watch(self.model, "archived", None, None)
        assert self.ledger.verify() == []
        assert self.ledger.verify(archive=self.folder.name) == []

    def restore(self) -> None:
        """Restore the archived entries, if there are any."""
        if self.is_archived:
            assert self.ledger.verify() == []
            assert self.ledger.restore(self.folder.name)
            self.is_archived = False

    @rule(credits=HELD, back=st.sampled_from([False, False, True]))
    def transfer(self, credits: str, back: bool) -> None:
        """Move Credits to the other account of the owner, or back."""
        id, now = self.new("move"), self.model.now
        source, target = (self.other, self.model) if back else (self.model, self.other)
        names = ("other", "acct") if back else ("acct", "other")
        self.other.now = now
        self.other.tick()
        if credits.startswith("all"):
            self.model.tick()
            room = source.room(frozenset(lot.id for lot in source.lots if not source.is_expired(lot)))
            credits = exact(room + (Fraction(1, 10**18) if credits != "all" else 0))
        amount = credits
        if not Fraction(amount):
            return
        self.both(
            lambda: self.ledger.transfer(*names, amount, reason="the same owner", id=id, at=later(now)),
            lambda: source.transfer(target, Fraction(amount), id),
        )

    @rule(seconds=st.one_of(st.integers(0, 200), st.integers(0, 200), st.just(40_000)))
    def wait(self, seconds: int) -> None:
        self.model.now += seconds

    @rule(pay=st.integers(1, 9_000), channel=st.sampled_from(["rmb", "stripe"]), lasts=TIMES)
    def top_up(self, pay: int, channel: str, lasts: int | None) -> None:
        id, now = self.new("lot"), self.model.now
        quote: Quote = BOOK.quote(channel, at=later(0), pay=f"{pay // 100}.{pay % 100:02d}")
        expires = None if lasts is None else now + lasts
        self.both(
            lambda: self.ledger.top_up(
                "acct",
                quote,
                reference=id,
                id=id,
                at=later(now),
                expires=None if expires is None else later(expires),
            ),
            lambda: self.model.bring_in(id, Fraction(quote.credits), pay, expires),
        )

    @rule(credits=st.integers(1, 90), tax=st.sampled_from([0, 0, 1, 19, 160]), lasts=st.integers(1, 300))
    def order(self, credits: int, tax: int, lasts: int) -> None:
        id, now = self.new("order"), self.model.now
        quote = BOOK.quote("stripe", at=later(0), credits=credits)
        tax = quote.pay.minor * tax // 100
        self.both(
            lambda: self.ledger.create_order(
                "acct", quote, id=id, at=later(now), expires=later(now + lasts), tax=Payable(tax, "USD")
            ),
            lambda: self.model.create_order(id, Fraction(quote.credits), quote.pay.minor, tax, now + lasts),
        )

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data())
    def cancel_order(self, data: st.DataObject) -> None:
        order, now = data.draw(st.sampled_from(sorted(self.model.orders))), self.model.now
        id = self.new("cancel")
        self.both(
            lambda: self.ledger.cancel_order("acct", order, id=id, at=later(now)),
            lambda: self.model.cancel_order(order),
        )

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data(), share=st.sampled_from(["1", "1", "0.5", "1/3", "1.2"]), late=st.integers(0, 60))
    def receive(self, data: st.DataObject, share: str, late: int) -> None:
        """Pay an order, or a part of it, or more; the notice arrives some seconds after the payment."""
        self.paid(data.draw(st.sampled_from(sorted(self.model.orders))), share, late)

    def paid(self, order: str, share: str, late: int) -> None:
        id, now, has = self.new("lot"), self.model.now, self.model.orders[order]
        gross = max(1, int((has.pay + has.tax) * Fraction(share)))
        paid_at = max(0, now - late)
        tax = half_up(Fraction(gross * has.tax, has.pay + has.tax))
        if tax == gross:
            return  # a minor unit that is all tax buys nothing
        at_once = BOOK.quote("stripe", at=later(paid_at), pay=Payable(gross - tax, "USD"), received=True)
        self.both(
            lambda: self.ledger.receive_payment(
                "acct", payment(f"{gross // 100}.{gross % 100:02d}", paid_at, id), id=id, at=later(now), order=order
            ),
            lambda: self.model.receive(id, gross, paid_at, order, Fraction(at_once.credits)),
        )

    @rule(credits=CREDITS, lasts=TIMES, only=MODELS, priority=st.sampled_from([50, 50, 10, 90]))
    def grant(self, credits: str, lasts: int | None, only: str | None, priority: int) -> None:
        id, now = self.new("lot"), self.model.now
        expires = None if lasts is None else now + lasts
        when = None if expires is None else later(expires)
        self.both(
            lambda: self.ledger.grant(
                "acct",
                credits,
                reason="gift",
                id=id,
                at=later(now),
                expires=when,
                only=None if only is None else Restriction(models=[only]),
                priority=priority,
            ),
            lambda: self.model.bring_in(id, Fraction(credits), None, expires, model=only, priority=priority),
        )

    @rule(credits=CREDITS, up=st.booleans())
    def adjust(self, credits: str, up: bool) -> None:
        id, now = self.new("lot"), self.model.now
        self.both(
            lambda: self.ledger.adjust(
                "acct", credits if up else f"-{credits}", reason="wrong", author="Ada", id=id, at=later(now)
            ),
            lambda: (
                self.model.bring_in(id, Fraction(credits), None, None) if up else self.model.take_out(Fraction(credits))
            ),
        )

    @precondition(lambda self: self.model.lots)
    @rule(data=st.data(), credits=CREDITS)
    def adjust_lot(self, data: st.DataObject, credits: str) -> None:
        lot, now = data.draw(st.sampled_from([lot.id for lot in self.model.lots])), self.model.now
        id = self.new("minus")
        self.both(
            lambda: self.ledger.adjust(
                "acct", f"-{credits}", reason="wrong", author="Ada", id=id, at=later(now), lot=lot
            ),
            lambda: self.model.take_out(Fraction(credits), lot),
        )

    @precondition(lambda self: self.model.lots)
    @rule(data=st.data(), owe=st.booleans())
    def void(self, data: st.DataObject, owe: bool) -> None:
        lot, now = data.draw(st.sampled_from([lot.id for lot in self.model.lots])), self.model.now
        id = self.new("void")
        self.both(
            lambda: self.ledger.void(
                "acct", lot, used="owe" if owe else "waive", reason="wrong", author="Ada", id=id, at=later(now)
            ),
            lambda: self.model.void(lot, owe=owe),
        )

    @precondition(lambda self: self.model.lots)
    @rule(data=st.data(), lasts=TIMES)
    def change_expiry(self, data: st.DataObject, lasts: int | None) -> None:
        lot, now = data.draw(st.sampled_from([lot.id for lot in self.model.lots])), self.model.now
        id, expires = self.new("expiry"), None if lasts is None else now + lasts
        when = None if expires is None else later(expires)
        self.both(
            lambda: self.ledger.change_expiry(
                "acct", lot, expires=when, reason="wrong", author="Ada", id=id, at=later(now)
            ),
            lambda: self.model.change_expiry(lot, expires),
        )

    @precondition(lambda self: self.model.charges)
    @rule(data=st.data(), credits=st.one_of(st.none(), CREDITS))
    def reverse_charge(self, data: st.DataObject, credits: str | None) -> None:
        charge, now = data.draw(st.sampled_from(sorted(self.model.charges))), self.model.now
        id = self.new("unbill")
        self.restore()
        self.both(
            lambda: self.ledger.reverse_charge(
                "acct", charge, credits=credits, reason="wrong", author="Ada", id=id, at=later(now)
            ),
            lambda: self.model.reverse_charge(charge, None if credits is None else Fraction(credits)),
        )

    @rule(credits=HELD, ttl=st.integers(1, 300), token=TOKENS, model=MODELS, member=MEMBERS)
    def hold(self, credits: str, ttl: int, token: str | None, model: str | None, member: str | None) -> None:
        self.held(credits, ttl, token, model, member)

    def held(self, credits: str, ttl: int, token: str | None, model: str | None, member: str | None = None) -> str:
        id, now = self.new("hold"), self.model.now
        if credits.startswith("all"):
            self.model.tick()
            room = self.model.room(self.model.usable_by(model, now, self.model.binding))
            credits = exact(room + (Fraction(1, 10**18) if credits != "all" else 0))
        amount = credits
        self.both(
            lambda: self.ledger.hold(
                "acct",
                amount,
                id=id,
                at=later(now),
                ttl=timedelta(seconds=ttl),
                token=token,
                model=model,
                member=member,
            ),
            lambda: self.model.hold(id, Fraction(amount), ttl, token, model, member),
        )
        return id

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), share=SHARES)
    def settle(self, data: st.DataObject, share: str) -> None:
        self.settled(data.draw(st.sampled_from(sorted(self.model.holds))), share)

    @rule(
        credits=HELD,
        token=TOKENS,
        share=SHARES,
        seconds=st.sampled_from([0, 1, 1, 1, 40]),
        model=MODELS,
        member=MEMBERS,
    )
    def request(
        self, credits: str, token: str | None, share: str, seconds: int, model: str | None, member: str | None
    ) -> None:
        """Hold, and settle in time or after the hold expired."""
        id = self.held(credits, 30, token, model, member)
        self.model.now += seconds
        if id in self.model.holds:
            self.settled(id, share)

    def settled(self, id: str, share: str) -> None:
        now, operation = self.model.now, self.new("settle")
        amount = exact(Fraction(int(self.model.holds[id].credits * Fraction(share) * 10**18), 10**18))
        self.both(
            lambda: self.ledger.settle(id, amount, id=operation, at=later(now)),
            lambda: self.model.settle(id, Fraction(amount), operation),
        )

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        id, now = data.draw(st.sampled_from(sorted(self.model.holds))), self.model.now
        operation = self.new("release")
        self.both(
            lambda: self.ledger.release(id, id=operation, at=later(now)),
            lambda: self.model.release(id),
        )

    @rule(credits=CREDITS, token=st.sampled_from([None, "tight"]), member=MEMBERS)
    def charge(self, credits: str, token: str | None, member: str | None) -> None:
        id, now = self.new("charge"), self.model.now
        self.both(
            lambda: self.ledger.charge("acct", credits, id=id, at=later(now), token=token, member=member),
            lambda: self.model.charge(id, Fraction(credits), token, member=member),
        )

    @rule(member=st.sampled_from(["ann", "eve"]))
    def add_member(self, member: str) -> None:
        id, now = self.new("join"), self.model.now
        self.both(
            lambda: self.ledger.add_member("acct", member, id=id, at=later(now)),
            lambda: self.model.add_member(member),
        )

    @rule(member=st.sampled_from(["ann", "bob", "eve"]), state=st.sampled_from([*["active"] * 4, "frozen", "removed"]))
    def change_member(self, member: str, state: str) -> None:
        id, now = self.new("member"), self.model.now
        operation = {
            "frozen": self.ledger.freeze_member,
            "active": self.ledger.unfreeze_member,
            "removed": self.ledger.remove_member,
        }[state]
        self.both(
            lambda: operation("acct", member, reason="policy", id=id, at=later(now)),
            lambda: self.model.change_member(member, state),
        )

    @rule(token=st.sampled_from(["free", "tight"]), member=MEMBERS)
    def move_token(self, token: str, member: str | None) -> None:
        """Move a token to a member, or to the account itself."""
        id, now = self.new("owner"), self.model.now

        def move() -> Entry:
            self.ledger.change_token(token, id=id, at=later(now), member=member)
            entry = self.ledger.entry(id)
            assert entry is not None
            return replace(entry, repeated=True)

        self.both(move, lambda: self.model.move_token(token, member))

    @precondition(lambda self: self.model.lots)
    @rule(data=st.data(), credits=st.one_of(st.none(), CREDITS), coins=st.one_of(st.none(), st.integers(1, 5_000)))
    def refund(self, data: st.DataObject, credits: str | None, coins: int | None) -> None:
        id, now = data.draw(st.sampled_from([lot.id for lot in self.model.lots])), self.model.now
        operation, currency = self.new("refund"), self.currency(id)
        if coins is not None:
            credits = None
        pay = None if coins is None else Payable(coins, currency)
        paid: list[int] = []
        entry = self.both(
            lambda: self.ledger.refund("acct", id, id=operation, at=later(now), credits=credits, pay=pay),
            lambda: paid.append(
                self.model.refund(operation, id, None if credits is None else Fraction(credits), coins)
            ),
        )
        if entry is not None:
            assert entry.refund_amount == Payable(paid[0], currency)
            assert coins is None or coins == paid[0]

    @precondition(lambda self: self.model.lots)
    @rule(data=st.data(), coins=st.one_of(st.none(), st.integers(1, 9_000)))
    def dispute(self, data: st.DataObject, coins: int | None) -> None:
        id, now = data.draw(st.sampled_from([lot.id for lot in self.model.lots])), self.model.now
        operation = self.new("dispute")
        pay = None if coins is None else Payable(coins, self.currency(id))
        self.both(
            lambda: self.ledger.dispute("acct", id, id=operation, at=later(now), pay=pay),
            lambda: self.model.dispute(operation, id, coins),
        )

    @precondition(lambda self: self.model.undone)
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        undoes, now = data.draw(st.sampled_from(sorted(self.model.undone))), self.model.now
        operation = self.new("reverse")
        self.both(
            lambda: self.ledger.reverse("acct", undoes, id=operation, at=later(now), reason="it was won"),
            lambda: self.model.reverse(undoes),
        )

    @rule(frozen=st.sampled_from([True, False, False]))
    def freeze(self, frozen: bool) -> None:
        id, now = self.new("freeze"), self.model.now
        operation = self.ledger.freeze if frozen else self.ledger.unfreeze
        self.both(
            lambda: operation("acct", reason="suspicion", id=id, at=later(now)),
            lambda: setattr(self.model, "frozen", frozen),
        )
        assert (self.ledger.balance("acct", at=later(now)).frozen_at is not None) == frozen

    @rule(
        name=st.sampled_from(["one", "two"]),
        terms=st.sampled_from([("credits", (5, 40, 200)), ("requests", (2, 10, 50))]),
        window=st.sampled_from(["day", "1h"]),
        subject=st.sampled_from([None, "free", "ann", "ann", "bob"]),
        size=st.integers(0, 2),
    )
    def set_limit(
        self, name: str, terms: tuple[Any, tuple[int, ...]], window: str, subject: str | None, size: int
    ) -> None:
        id, now, (unit, amounts) = self.new("limit"), self.model.now, terms
        token, member = (subject, None) if subject == "free" else (None, subject)
        self.both(
            lambda: self.ledger.set_limit(
                "acct", name, amounts[size], unit=unit, window=window, token=token, member=member, id=id, at=later(now)
            ),
            lambda: self.model.set_limit(name, unit, window, token, amounts[size], member),
        )

    @precondition(lambda self: self.model.limits)
    @rule(data=st.data())
    def remove_limit(self, data: st.DataObject) -> None:
        id, now, name = self.new("limit"), self.model.now, data.draw(st.sampled_from(sorted(self.model.limits)))
        self.both(
            lambda: self.ledger.remove_limit("acct", name, id=id, at=later(now)), lambda: self.model.limits.pop(name)
        )

    @rule(name=st.sampled_from(["a", "b", "c"]), terms=st.sampled_from(SIGNALS))
    def set_signal(self, name: str, terms: dict[str, Any]) -> None:
        id, now = self.new("signal"), self.model.now
        threshold = Fraction(terms.get("threshold", 0)) or Fraction(terms.get("share", 0))
        cap = Fraction(terms["cap"]) if "cap" in terms else None
        setting = ModelSetting(terms["kind"], threshold, Fraction(terms.get("credits", 0)), cap, terms.get("limit", ""))
        self.both(
            lambda: self.ledger.set_signal("acct", name, **terms, id=id, at=later(now)),
            lambda: self.model.set_signal(name, setting),
        )

    @precondition(lambda self: self.model.signals.settings)
    @rule(data=st.data())
    def remove_signal(self, data: st.DataObject) -> None:
        id, now = self.new("signal"), self.model.now
        name = data.draw(st.sampled_from(sorted(self.model.signals.settings)))
        self.both(
            lambda: self.ledger.remove_signal("acct", name, id=id, at=later(now)),
            lambda: self.model.signals.settings.pop(name),
        )

    @precondition(lambda self: len(self.model.signals.raised) > self.model.signals.acknowledged)
    @rule(data=st.data(), most=st.integers(1, 3))
    def read_signals(self, data: st.DataObject, most: int) -> None:
        """Lease a batch, and acknowledge a part of it, or signals that were not leased, or none."""
        signals, now = self.model.signals, self.model.now
        leased = self.ledger.lease_signals(at=later(now), limit=most, lease=timedelta(seconds=100))
        assert [signal.number for signal in leased] == signals.lease(now, most, 100)
        numbers = range(signals.acknowledged + 1, len(signals.raised) + 1)
        through = data.draw(st.sampled_from([None, *numbers[:most]]))
        if through is not None:
            id = self.new("read")
            self.both(
                lambda: self.ledger.acknowledge_signals("acct", through, id=id, at=later(now)),
                lambda: setattr(self.model.signals, "acknowledged", through),
            )

    @rule(token=st.sampled_from(["free", "tight"]), grace=st.sampled_from([0, 60, 300]))
    def rotate(self, token: str, grace: int) -> None:
        id, now = self.new("rotate"), self.model.now
        self.model.tokens[token].rotate(f"{id:->30}", now, grace)
        for _ in range(2):  # the second call is a retry
            self.ledger.rotate_secret(token, id=id, at=later(now), grace=timedelta(seconds=grace), secret=f"{id:->30}")

    @rule(token=st.sampled_from(["free", "tight"]), data=st.data())
    def authenticate(self, token: str, data: st.DataObject) -> None:
        secret, until = data.draw(st.sampled_from(sorted(self.model.tokens[token].secrets.items())))
        code = None
        try:
            assert self.ledger.authenticate(secret, at=later(self.model.now)).id == token
        except BillingError as error:
            code = error.code
        if until is None or until > self.model.now:
            member = self.model.tokens[token].member
            refusals = {"active": (None,), "frozen": ("member_frozen",), "removed": ("member_removed",)}
            state = "active" if member is None else self.model.members[member]
            assert code in ("token_exhausted", *refusals[state])
        else:
            assert code == "unknown_token"

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """A repeated operation returns its first result and changes nothing."""
        operation, entry = data.draw(st.sampled_from(self.done))
        self.restore()
        before = tables(self.ledger)
        repeated = operation()
        assert repeated.repeated
        assert (repeated.hash, repeated.credits, repeated.lot_changes) == (entry.hash, entry.credits, entry.lot_changes)
        assert tables(self.ledger) == before

    @property
    def restricts(self) -> bool:
        return any((lot.model or lot.plan) and lot.remaining for lot in self.model.lots)

    def currency(self, lot: str) -> str:
        row = next(row for row in self.ledger.lots("acct") if row.id == lot)
        return row.paid.currency if row.paid else "CNY"

    @invariant()
    def the_same_as_the_model(self) -> None:
        self.renew_free_plan()
        self.model.tick()
        has = self.ledger.balance("acct", at=later(self.model.now))
        assert Fraction(has.available) == self.model.available >= 0
        assert Fraction(has.held) == self.model.held
        assert Fraction(has.owed) == self.model.owed >= 0
        now = self.other.now = self.model.now
        self.other.tick()
        assert Fraction(self.ledger.balance("other", at=later(now)).available) == self.other.available
        assert Fraction(has.available - has.restricted) == self.model.room(self.model.usable_by(None, now))
        if self.restricts:
            usable = self.ledger.balance("acct", at=later(now), model="a").usable
            assert usable is not None
            assert Fraction(usable) == self.model.room(self.model.usable_by("a", now, self.model.binding))
        for limit in self.ledger.limits("acct", at=later(self.model.now)) if self.model.limits else ():
            assert Fraction(limit.used) == self.model.limits[limit.name].used(self.model.now) >= 0
        if self.model.signals.raised:
            raised = self.ledger.signals("acct", pending=False)
            assert [signal.number for signal in raised] == list(range(1, len(raised) + 1))
            assert Counter(signal.name for signal in raised) == Counter(self.model.signals.raised)
            pending = [signal.number for signal in raised if signal.acknowledged_by is None]
            assert pending == list(range(self.model.signals.acknowledged + 1, len(raised) + 1))

    @rule()
    def post_expiries(self) -> None:
        """Post expiries, which the next operation would do otherwise; the sums are the same."""
        self.model.tick()
        self.ledger.expire(at=later(self.model.now))
        self.model.signals.watch_expiries(self.model)
        self.same_lots()

    def same_lots(self) -> None:
        self.restore()  # a statement of less than a quarter of an hour reads the charges themselves
        period = Period(later(0), later(self.model.now + 1), "UTC")
        statement = self.ledger.statement("acct", period)
        assert Fraction(statement.used) == self.model.used
        assert Fraction(statement.closing) == self.model.available + self.model.held - self.model.owed
        assert statement.balance().closing == statement.closing
        self.other.now = self.model.now
        self.other.tick()
        stored_lots = self.ledger.lots("acct") + self.ledger.lots("other")
        for lot, stored in zip(self.model.lots + self.other.lots, stored_lots, strict=True):
            assert (stored.id, stored.origin, Fraction(stored.moved)) == (lot.id, lot.origin, lot.moved)
            assert stored.expires == (None if lot.expires is None else later(lot.expires))
            got = (stored.remaining, stored.used, stored.expired, stored.returned)
            assert tuple(map(Fraction, got)) == (lot.remaining, lot.used, lot.expired, lot.returned)
            assert min(got) >= 0
            assert Fraction(stored.credits) == sum(map(Fraction, got)) + lot.moved
            if lot.coins is not None:
                assert stored.paid is not None
                assert stored.recognised is not None
                assert stored.refunded is not None
                assert stored.deferred is not None
                assert (
                    stored.paid.minor
                    == lot.coins
                    == stored.recognised.minor + stored.refunded.minor + stored.deferred.minor + lot.moved_coins
                )
                assert (stored.recognised.minor, stored.refunded.minor) == (lot.recognised, lot.refunded)
            else:
                assert stored.paid is None
        bought = {lot.id: lot for lot in self.model.lots if lot.coins is not None}
        for paid in self.ledger.payments("acct"):
            lot = bought.pop(paid.lot)
            assert paid.gross.minor == (lot.coins or 0) + lot.tax
            assert (paid.tax.minor, paid.tax_refunded.minor) == (lot.tax, lot.tax_back)
            assert paid.refunded.minor == lot.refunded + lot.tax_back <= paid.gross.minor - paid.moved.minor
            assert paid.moved.minor == lot.moved_coins + lot.moved_tax
        assert not bought
        for order in self.ledger.orders("acct", at=later(0)):
            expected = self.model.orders[order.id]
            assert (order.state, order.received.minor) == (expected.state, expected.received)
        self.same_plan()
        self.money_is_conserved()
        for token in self.ledger.tokens("acct"):
            assert Fraction(token.spent) == self.model.tokens[token.id].spent
            assert Fraction(token.held) == sum(h.credits for h in self.model.open if h.token == token.id)

    def usage_is_split_by_member(self) -> None:
        """What the members used, and the account itself, is what they were charged."""
        period = Period(later(0), later(self.model.now + 1), "UTC")
        used = {line.member: Fraction(line.credits) for line in self.ledger.usage("acct", period, by=["member"])}
        assert {name: credits for name, credits in used.items() if credits} == {
            name: credits for name, credits in self.model.member_used.items() if credits
        }

    def money_is_conserved(self) -> None:
        """The money of all entries sums to zero, and its accounts are those of the payments."""
        self.restore()
        sums: dict[tuple[str, str], Fraction] = {}
        for entry in self.ledger.journal("acct"):
            for currency, accounts in entry.money().items():
                assert sum(Fraction(money.amount) for money in accounts.values()) == 0
                for name, money in accounts.items():
                    sums[currency, name] = sums.get((currency, name), Fraction(0)) + Fraction(money.amount)
        for currency in ("CNY", "USD"):
            paid = [payment for payment in self.ledger.payments("acct") if payment.gross.currency == currency]
            own = [payment for payment in paid if payment.origin is None]
            tax = sum(payment.tax.minor for payment in own) - sum(payment.tax_refunded.minor for payment in paid)
            assert sums.get((currency, "tax"), 0) == Fraction(-tax, 100)
            kept = sum(payment.gross.minor for payment in own) - sum(payment.refunded.minor for payment in paid)
            fees = sums.get((currency, "fees"), Fraction(0))
            assert sums.get((currency, "cash"), 0) == Fraction(kept, 100) - fees
            assert 0 <= fees <= Fraction(sum(payment.fee.minor for payment in paid), 100)


def member_of(entry: Entry) -> str | None:
    """Return the member that an entry concerns."""
    member: str | None = entry.result.get("member", entry.content.get("member"))
    return member


def exact(value: Fraction) -> str:
    """Format a fraction with denominator 10^18."""
    units = value * 10**18
    assert units.denominator == 1
    return f"{int(units) // 10**18}.{int(units) % 10**18:018d}"


class TestLaws(Machine.TestCase):  # type: ignore[misc,valid-type]  # Hypothesis generates it
    """Any sequence of operations has the same result in the ledger and in the naive model, and is valid."""

    settings = settings(
        max_examples=examples(100), stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )


class PlanMachine(Machine):
    """An account with a plan from the start. Of the other rules, those that move Credits and money stay."""

    order = cancel_order = adjust = adjust_lot = freeze = rotate = authenticate = transfer = None  # type: ignore[assignment]
    set_limit = remove_limit = set_signal = remove_signal = read_signals = None  # type: ignore[assignment]

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.subscribe(TERMS[0], "1")


class TestPlanLaws(PlanMachine.TestCase):  # type: ignore[misc,valid-type]  # Hypothesis generates it
    """Any sequence of operations on plans has the same result in the ledger and in the naive model, and is valid."""

    settings = settings(
        max_examples=examples(80), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
