"""A naive model of the ledger: a list of lots in Fractions, without a database, written independently.

It has no projections, no stored sums and no units: every balance is computed from the lots and holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from math import floor

from plan_model import ModelPlan, ModelTerms
from signal_model import ModelSetting, ModelSignals

ZERO = Fraction(0)


def half_up(value: Fraction) -> int:
    """Round to a whole number."""
    return floor(value + Fraction(1, 2))


def counted_amount(limit: ModelLimit, credits: Fraction) -> Fraction:
    """Return what a limit counts of a request for some Credits."""
    return credits if limit.unit == "credits" else Fraction(1)


def smallest_rest(
    usable: frozenset[str], needs: list[tuple[frozenset[str], Fraction]], left: dict[str, Fraction]
) -> Fraction:
    """Return the most that can be taken from ``usable``, so that each need can be met from the sources that it may use.

    By Hall's theorem: for each set of needs, their sources must have enough for them.
    """
    kinds: dict[frozenset[str], Fraction] = {}
    for sources, amount in needs:
        if amount:
            kinds[sources] = kinds.get(sources, ZERO) + amount
    found = sum((left[source] for source in usable), ZERO)
    for size in range(1, len(kinds) + 1):
        for chosen in combinations(kinds, size):
            sources = usable.union(*chosen)
            rest = sum((left[source] for source in sources), ZERO) - sum((kinds[kind] for kind in chosen), ZERO)
            found = min(found, rest)
    return max(found, ZERO)


class RefusedError(Exception):
    """The ledger must reject the operation with this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class ModelLot:
    """A lot. ``coins``: minor units paid for it, or ``None`` for a promotional lot."""

    id: str
    credits: Fraction
    coins: int | None
    expires: int | None
    remaining: Fraction = ZERO
    used: Fraction = ZERO
    expired: Fraction = ZERO
    returned: Fraction = ZERO
    refunded: int = 0
    tax: int = 0
    tax_back: int = 0
    model: str | None = None
    priority: int = 50
    moved: Fraction = ZERO
    moved_coins: int = 0
    moved_tax: int = 0
    origin: str | None = None
    plan: str | None = None

    @property
    def gone(self) -> int:
        """Minor units that were paid back or moved."""
        return self.refunded + self.moved_coins

    @property
    def worth(self) -> int:
        """Purchase price of the remaining Credits, in minor units, rounded half up."""
        if self.coins is None:
            return 0
        return floor(self.coins * self.remaining / self.credits + Fraction(1, 2))

    @property
    def recognised(self) -> int:
        """Recognised revenue: payment less refunds less the value of the remaining Credits."""
        return (self.coins or 0) - self.gone - self.worth


@dataclass
class ModelOrder:
    """An order, and the minor units received for it in time, without tax."""

    credits: Fraction
    pay: int
    tax: int
    expires: int
    state: str = "open"
    received: int = 0
    plan: ModelPlan | None = None
    starts: int | None = None
    ends: int | None = None

    def worth(self, coins: int) -> Fraction:
        """Credits for an amount, in millionths."""
        return Fraction(floor(self.credits * coins / self.pay * 10**6), 10**6)


@dataclass(eq=False)
class ModelLimit:
    """A limit by window, and what it counts: id of a request -> its time and amount."""

    unit: str
    window: str
    token: str | None
    amount: Fraction
    member: str | None = None
    counts: dict[str, tuple[int, Fraction]] = field(default_factory=dict)

    def used(self, now: int) -> Fraction:
        """What the window contains. Days begin 12 hours before the time 0, and a rolling hour has steps of a minute."""
        noon, day, minute = 43_200, 86_400, 60
        if self.window == "day":
            return sum((n for at, n in self.counts.values() if (at + noon) // day == (now + noon) // day), ZERO)
        return sum((n for at, n in self.counts.values() if at // minute + 61 > now / minute), ZERO)


@dataclass
class ModelHold:
    """A hold."""

    id: str
    credits: Fraction
    at: int
    expires: int
    token: str | None
    state: str = "open"
    model: str | None = None
    limits: list[ModelLimit] = field(default_factory=list)
    member: str | None = None
    plan: str | None = None

    def end(self, state: str) -> None:
        """Resolve the hold without a charge: no limit counts it any more."""
        self.state = state
        for limit in self.limits:
            del limit.counts[self.id]


@dataclass
class ModelCharge:
    """A charge: what each lot paid of it, in order, and what was reversed of it."""

    parts: list[tuple[str, Fraction]]
    credits: Fraction
    token: str | None
    member: str | None = None


@dataclass
class ModelToken:
    """An API token."""

    limit: Fraction | None
    spent: Fraction = ZERO
    enabled: bool = True
    member: str | None = None
    secrets: dict[str, int | None] = field(default_factory=dict)
    """Every secret that it had, and the time at which it ended; ``None``: valid."""

    def rotate(self, secret: str, now: int, grace: int) -> None:
        """Replace the secret. Any older secret ends at once."""
        current = next(reversed(self.secrets))
        for old in self.secrets:
            if self.secrets[old] is None or self.secrets[old] > now:  # type: ignore[operator]  # mypy knows no dict
                self.secrets[old] = now
        self.secrets[current] = now + grace
        self.secrets[secret] = None


@dataclass
class Model:
    """One account."""

    now: int = 0
    lots: list[ModelLot] = field(default_factory=list)
    holds: dict[str, ModelHold] = field(default_factory=dict)
    tokens: dict[str, ModelToken] = field(default_factory=dict)
    owed: Fraction = ZERO
    used: Fraction = ZERO
    frozen: bool = False
    limits: dict[str, ModelLimit] = field(default_factory=dict)
    orders: dict[str, ModelOrder] = field(default_factory=dict)
    charges: dict[str, ModelCharge] = field(default_factory=dict)
    waived: Fraction = ZERO
    undone: dict[str, tuple[str, Fraction, int, int] | None] = field(default_factory=dict)
    signals: ModelSignals = field(default_factory=ModelSignals)
    expired_holds: int = 0
    members: dict[str, str] = field(default_factory=dict)
    """Member -> its state."""
    member_used: dict[str, Fraction] = field(default_factory=dict)
    """Member, or ``""`` -> Credits that it used."""
    plan: ModelPlan | None = None

    @property
    def open(self) -> list[ModelHold]:
        return [hold for hold in self.holds.values() if hold.state == "open"]

    @property
    def held(self) -> Fraction:
        return sum((hold.credits for hold in self.open), ZERO)

    @property
    def total(self) -> Fraction:
        return sum((lot.remaining for lot in self.lots), ZERO) - self.owed

    @property
    def available(self) -> Fraction:
        return sum((lot.remaining for lot in self.lots), ZERO) - self.held

    def lot(self, id: str) -> ModelLot:
        return next(lot for lot in self.lots if lot.id == id)

    def usable_by(self, model: str | None, at: int, plan: str | None = None) -> frozenset[str]:
        """Return the lots that a request of a model at a time may use; ``plan``: only those of a subscription."""
        lots = [lot for lot in self.lots if lot.expires is None or lot.expires > at]
        return frozenset(lot.id for lot in lots if lot.model in (None, model) and plan in (None, lot.plan))

    def usable_by_hold(self, hold: ModelHold) -> frozenset[str]:
        return self.usable_by(hold.model, hold.at, hold.plan)

    @property
    def binding(self) -> str | None:
        """The subscription that must pay for new requests."""
        return self.plan.id if self.plan is not None and self.plan.binds(self.now) else None

    def room(self, usable: frozenset[str], left: dict[str, Fraction] | None = None) -> Fraction:
        """Return what a request may take from some lots, so that every hold can still be paid (Hall's theorem)."""
        left = {lot.id: lot.remaining for lot in self.lots} if left is None else left
        needs = [(self.usable_by_hold(hold), hold.credits) for hold in self.open]
        return smallest_rest(usable, needs, left)

    def tick(self) -> None:
        """Apply due expiries."""
        for hold in sorted(self.open, key=lambda hold: (hold.expires, hold.id)):
            if hold.expires <= self.now:
                hold.end("expired")
                self.expired_holds += 1
                self.repay()
        for lot, keep in self.kept():
            lot.expired += lot.remaining - keep
            lot.remaining = keep

    def kept(self) -> list[tuple[ModelLot, Fraction]]:
        """Return expired lots with the Credits that they retain for holds made before their expiry."""
        found: list[tuple[ModelLot, Fraction]] = []
        needs = {hold.id: hold.credits for hold in self.open}
        for lot in sorted(self.lots, key=lambda lot: lot.expires or 0):
            if self.is_expired(lot):
                kept = [(self.holds_of(earlier), keep) for earlier, keep in found]
                found.append((lot, min(lot.remaining, smallest_rest(self.holds_of(lot), kept, needs))))
        return found

    def holds_of(self, lot: ModelLot) -> frozenset[str]:
        """Return the open holds that may use a lot."""
        return frozenset(hold.id for hold in self.open if lot.id in self.usable_by_hold(hold))

    def is_expired(self, lot: ModelLot) -> bool:
        return lot.expires is not None and lot.expires <= self.now

    def use(
        self, amount: Fraction, good_at: int, model: str | None = None, plan: str | None = None, *, every: bool = False
    ) -> Fraction:
        """Consume lots: expired ones first, then by priority, expiry, promotional before purchased, the oldest first.

        No hold loses what only it can use.
        """
        left = amount
        usable = self.usable_by(model, good_at, plan)
        for lot in sorted(self.lots, key=self.rank):
            if lot.id in usable or (every and (lot.expires is None or lot.expires > good_at)):
                part = min(left, self.room(frozenset([lot.id])))
                lot.remaining -= part
                lot.used += part
                left -= part
        return amount - left

    def rank(self, lot: ModelLot) -> tuple[bool, int, bool, int, bool, int]:
        return (
            not self.is_expired(lot),
            lot.priority,
            lot.expires is None,
            lot.expires or 0,
            lot.coins is not None,
            self.lots.index(lot),
        )

    def in_order(self, parts: list[tuple[str, Fraction]]) -> list[tuple[str, Fraction]]:
        return sorted(parts, key=lambda part: self.rank(self.lot(part[0])))

    def give_back(self, lot: ModelLot, most: Fraction) -> Fraction:
        part = min(most, lot.used)
        lot.used -= part
        if self.is_expired(lot):
            pays = min(part, self.owed) if lot.model is None else ZERO
            self.owed -= pays
            lot.used += pays
            lot.expired += part - pays
        else:
            lot.remaining += part
        return part

    def reverse_charge(self, id: str, credits: Fraction | None) -> None:
        charge = self.charges[id]
        rest = charge.credits if credits is None else credits
        if not 0 < rest <= charge.credits:
            raise RefusedError("not_reversible")
        charge.credits -= rest
        self.used -= rest
        self.member_used[charge.member or ""] -= rest
        if charge.token is not None:
            self.tokens[charge.token].spent -= rest
        parts = dict(charge.parts)
        for name in reversed(list(parts)):
            part = self.give_back(self.lot(name), min(rest, parts[name]))
            parts[name] -= part
            rest -= part
        pays = min(rest, self.owed)
        self.owed -= pays
        rest -= pays
        used_before = [lot for lot in self.lots if lot.used]
        for lot in reversed(used_before):
            part = self.give_back(lot, rest)
            if lot.id in parts:
                parts[lot.id] = max(ZERO, parts[lot.id] - part)
            rest -= part
        charge.parts = list(parts.items())
        self.waived -= rest
        self.repay()

    def void(self, id: str, *, owe: bool) -> None:
        lot = self.lot(id)
        if lot.returned + lot.moved == lot.credits:
            raise RefusedError("not_reversible")
        self.shrink(lot, lot.remaining)
        if owe:
            self.owed += lot.used
        else:
            self.waived += lot.used
        lot.remaining = lot.used = lot.expired = ZERO
        lot.returned = lot.credits - lot.moved
        lot.refunded, lot.tax_back = (lot.coins or 0) - lot.moved_coins, lot.tax - lot.moved_tax
        self.repay()

    def change_expiry(self, id: str, expires: int | None) -> None:
        lot = self.lot(id)
        if self.is_expired(lot) or not lot.remaining:
            raise RefusedError("lot_closed")
        lot.expires = expires

    def shrink(self, lot: ModelLot, taken: Fraction) -> None:
        """Shrink what cannot be paid any more, the oldest hold last."""
        left = {each.id: each.remaining - (taken if each is lot else ZERO) for each in self.lots}
        paid: list[tuple[frozenset[str], Fraction]] = []
        for hold in sorted(self.open, key=lambda hold: (hold.at, hold.id)):
            usable = self.usable_by_hold(hold)
            hold.credits = min(hold.credits, smallest_rest(usable, paid, left))
            paid.append((usable, hold.credits))

    def repay(self) -> None:
        self.owed -= self.use(self.owed, self.now)

    def bring_in(
        self,
        id: str,
        credits: Fraction,
        coins: int | None,
        expires: int | None,
        tax: int = 0,
        model: str | None = None,
        priority: int = 50,
        plan: str | None = None,
        *,
        repay: bool = True,
    ) -> None:
        lot = ModelLot(id, credits, coins, expires, remaining=credits, tax=tax, model=model, priority=priority)
        lot.plan = plan
        self.lots.append(lot)
        if repay:
            self.repay()

    def create_order(self, id: str, credits: Fraction, pay: int, tax: int, expires: int) -> None:
        self.orders[id] = ModelOrder(credits, pay, tax, expires)

    def cancel_order(self, id: str) -> None:
        if self.orders[id].state != "open":
            raise RefusedError("order_closed")
        self.orders[id].state = "cancelled"

    def receive(self, id: str, gross: int, paid_at: int, name: str, credits_now: Fraction) -> None:
        """Receive a payment of an order. ``credits_now``: Credits at the price of its time."""
        order = self.orders[name]
        tax = half_up(Fraction(gross * order.tax, order.pay + order.tax))
        paid = gross - tax
        if order.state == "cancelled" or paid_at >= order.expires:
            order.state = "late"
            self.bring_in(id, credits_now, paid, None, tax)
            return
        credits = order.worth(order.received + paid) - order.worth(order.received) or self.tiny(order, paid)
        plan = order.plan
        if order.state not in ("open", "partial") or (order.ends is not None and order.ends <= self.now):
            plan = None
        order.received += paid
        if order.state != "late":
            order.state = {-1: "partial", 0: "paid", 1: "overpaid"}[
                (order.received > order.pay) - (order.received < order.pay)
            ]
        if plan is None:
            self.bring_in(id, credits, paid, None, tax)
            return
        if order.starts is None or order.ends is None:
            order.starts, order.ends = plan.following(self.now)
        begins = plan.starts is None or order.starts > plan.starts
        terms = (plan.later if begins else None) or plan.terms
        self.bring_in(
            id, credits, paid, order.ends, tax, terms.model, 40, None if terms.overflow else plan.id, repay=False
        )
        plan.allow(self, id, order.starts, order.ends)
        self.repay()

    @staticmethod
    def tiny(order: ModelOrder, paid: int) -> Fraction:
        """Credits of a payment that is too small for a millionth of a Credit."""
        return Fraction(floor(order.credits * paid / order.pay * 10**18), 10**18)

    def renew(self, lot: str) -> None:
        """Open the allowance of a free plan."""
        plan = self.plan
        assert plan is not None
        terms, (starts, ends) = plan.later or plan.terms, plan.following(self.now)
        bound = None if terms.overflow else plan.id
        self.bring_in(lot, Fraction(terms.credits), None, ends, 0, terms.model, 40, bound, repay=False)
        plan.allow(self, lot, starts, ends)
        self.repay()

    def subscribe(self, id: str, terms: ModelTerms) -> None:
        if self.plan is not None and not self.plan.has_ended(self.now):
            raise RefusedError("subscription_active")
        self.plan = ModelPlan(id, terms)

    def active_plan(self) -> ModelPlan:
        assert self.plan is not None
        if self.plan.cancelled:
            raise RefusedError("subscription_closed")
        return self.plan

    def order_period(self, id: str, tax: int) -> None:
        plan = self.active_plan()
        terms = plan.later or plan.terms
        if not terms.price or (plan.starts is not None and plan.starts > self.now):
            raise RefusedError("invalid_argument")
        starts, ends = plan.following(self.now)
        plan.drop_order(self.orders, current=plan.starts is None)
        order = ModelOrder(
            Fraction(terms.credits), terms.price, half_up(Fraction(terms.price * tax, 100)), ends, plan=plan
        )
        if plan.starts is not None:
            order.starts, order.ends = starts, ends
        self.orders[id], plan.order = order, id

    def change_plan(self, id: str, terms: ModelTerms, *, at_end: bool) -> None:
        plan, now = self.active_plan(), self.now
        if plan.ends is not None and (at_end or plan.ends <= now):
            plan.later = None if terms == plan.terms else terms
            plan.drop_order(self.orders, current=False)
            return
        if plan.starts is None or plan.ends is None:
            plan.drop_order(self.orders, current=True)
            plan.terms, plan.later = terms, None
            return
        if not terms.price or plan.starts > now:
            raise RefusedError("invalid_argument")
        plan.drop_order(self.orders, current=True)
        price, credits = terms.share(Fraction(plan.ends - now, plan.ends - plan.starts))
        new, paid, gone, opened = list[ModelLot](), 0, ZERO, ZERO
        for name in plan.lots if plan.terms.price else ():
            part, money = plan.unused(self, name, now, price - paid, gone)
            bought = Fraction(floor(credits * (paid + money) / price * 10**6), 10**6) - opened if price else ZERO
            if not money or not bought:
                continue
            lot = self.lot(name)
            lot.remaining -= part
            lot.moved += part
            lot.moved_coins += money
            tax = self.tax_due(lot)
            lot.moved_tax += tax
            fresh = ModelLot(f"~{id}:{len(new) + 1:04}", bought, money, plan.ends, remaining=bought, tax=tax)
            fresh.model, fresh.priority, fresh.origin = terms.model, 40, lot.origin or name
            fresh.plan = None if terms.overflow else plan.id
            new.append(fresh)
            paid, gone, opened = paid + money, gone + part, opened + bought
        self.lots += new
        before, plan.lots = plan.lots, [lot.id for lot in new]
        plan.terms, plan.later, plan.since = terms, None, now
        plan.bind(self, before)
        if price > paid and credits > opened:
            order = ModelOrder(credits - opened, price - paid, 0, plan.ends, plan=plan)
            order.starts, order.ends = plan.starts, plan.ends
            self.orders[id], plan.order = order, id
        self.repay()

    def cancel_plan(self) -> None:
        plan = self.active_plan()
        plan.drop_order(self.orders, current=plan.starts is None)
        plan.cancelled, plan.later = True, None

    @staticmethod
    def split(lot: ModelLot, gross: int) -> tuple[int, int]:
        """Split an amount paid back into money and tax."""
        if not lot.tax or lot.coins is None:
            return gross, 0
        untaxed = lot.tax - lot.tax_back - lot.moved_tax
        if gross > lot.coins - lot.gone + untaxed:
            raise RefusedError("not_refundable")
        total = lot.gone + lot.tax_back + lot.moved_tax + gross
        money = half_up(Fraction(lot.coins * total, lot.coins + lot.tax)) - lot.gone
        money = min(max(money, gross - untaxed), lot.coins - lot.gone, gross)
        return money, gross - money

    @staticmethod
    def tax_due(lot: ModelLot) -> int:
        """Tax to pay back after an amount of money was."""
        return max(0, half_up(Fraction(lot.tax * lot.gone, lot.coins or 1)) - lot.tax_back - lot.moved_tax)

    def add_member(self, id: str) -> None:
        if id in self.members:
            raise RefusedError("member_exists")
        self.members[id] = "active"

    def present_member(self, id: str) -> None:
        if id not in self.members:
            raise RefusedError("unknown_member")
        if self.members[id] == "removed":
            raise RefusedError("member_removed")

    def change_member(self, id: str, state: str) -> None:
        self.present_member(id)
        self.members[id] = state

    def move_token(self, token: str, member: str | None) -> None:
        if member is not None:
            self.present_member(member)
        self.tokens[token].member = member

    def member_of(self, token: str | None, stated: str | None) -> str | None:
        """Return the member of a request."""
        own = None if token is None else self.tokens[token].member
        if own is not None and stated not in (None, own):
            raise RefusedError("invalid_argument")
        member = own or stated
        if member is not None:
            self.present_member(member)
            if self.members[member] == "frozen":
                raise RefusedError("member_frozen")
        return member

    def hold(
        self,
        id: str,
        credits: Fraction,
        ttl: int,
        token: str | None,
        model: str | None = None,
        stated: str | None = None,
    ) -> None:
        if self.frozen:
            raise RefusedError("account_frozen")
        if token is not None:
            of = self.tokens[token]
            if not of.enabled:
                raise RefusedError("token_disabled")
            if of.limit is not None and of.spent >= of.limit:
                raise RefusedError("token_exhausted")
        member = self.member_of(token, stated)
        if token is not None:
            of = self.tokens[token]
            used = of.spent + sum((h.credits for h in self.open if h.token == token), ZERO)
            if of.limit is not None and used + credits > of.limit:
                raise RefusedError("token_limit")
        if credits > self.room(self.usable_by(model, self.now, self.binding)):
            raise RefusedError("insufficient_credits")
        limits = self.limits_of(token, member)
        if any(limit.used(self.now) + counted_amount(limit, credits) > limit.amount for limit in limits):
            raise RefusedError("limit_reached")
        if not self.binding and not any(lot.remaining and (lot.model or lot.plan) for lot in self.lots):
            model = None  # the ledger does not store the model of a hold if the account has no restricted lots
        self.holds[id] = ModelHold(id, credits, self.now, self.now + ttl, token, model=model, limits=limits)
        self.holds[id].member = member
        self.holds[id].plan = self.binding
        for limit in limits:
            limit.counts[id] = self.now, counted_amount(limit, credits)

    def limits_of(self, token: str | None, member: str | None) -> list[ModelLimit]:
        limits = [limit for limit in self.limits.values() if limit.token in (None, token)]
        return [limit for limit in limits if limit.member in (None, member)]

    def set_limit(
        self, name: str, unit: str, window: str, token: str | None, amount: int, member: str | None = None
    ) -> None:
        """Set a limit. It keeps its counts if only its amount changes."""
        old, new = self.limits.get(name), ModelLimit(unit, window, token, Fraction(amount), member)
        if member is not None:
            self.present_member(member)
        if old is not None and old.member != member:
            raise RefusedError("invalid_argument")
        if old is not None and (old.unit, old.window, old.token) == (unit, window, token):
            old.amount = new.amount
        else:
            self.limits[name] = new

    def set_signal(self, name: str, setting: ModelSetting) -> None:
        if not self.signals.set(self, name, setting):
            raise RefusedError("invalid_argument")

    def settle(self, id: str, amount: Fraction, operation: str) -> None:
        hold = self.holds[id]
        if hold.state not in ("open", "expired"):
            raise RefusedError("hold_resolved")
        good_at = hold.at if hold.state == "open" and hold.credits else self.now
        hold.state = "settled"
        for limit in hold.limits:
            limit.counts[id] = hold.at, counted_amount(limit, amount)
        self.charge(operation, amount, hold.token, good_at, hold.model, hold.member, hold.plan)

    def charge(
        self,
        id: str,
        amount: Fraction,
        token: str | None,
        good_at: int | None = None,
        model: str | None = None,
        member: str | None = None,
        plan: str | None = None,
    ) -> None:
        """Charge a request. ``good_at``: the time of its hold; ``None``: it has none."""
        if good_at is None:
            if self.frozen:
                raise RefusedError("account_frozen")
            member = self.member_of(token, member)
        for limit in self.limits_of(token, member) if good_at is None else ():
            limit.counts[id] = self.now, counted_amount(limit, amount)
        before = [lot.used for lot in self.lots]
        if not any(lot.remaining and (lot.model or lot.plan) for lot in self.lots):
            plan = None  # nothing is left of the plan
        self.owed += amount - self.use(amount, self.now if good_at is None else good_at, model, plan)
        parts = [(lot.id, lot.used - was) for lot, was in zip(self.lots, before, strict=True)]
        self.charges[id] = ModelCharge([part for part in self.in_order(parts) if part[1]], amount, token, member)
        self.used += amount
        self.member_used[member or ""] = self.member_used.get(member or "", ZERO) + amount
        if token is not None:
            self.tokens[token].spent += amount
        self.repay()

    def release(self, id: str) -> None:
        if self.holds[id].state != "open":
            raise RefusedError("hold_resolved")
        self.holds[id].end("released")
        self.repay()

    def refund(self, operation: str, id: str, credits: Fraction | None, coins: int | None) -> int:
        lot = self.lot(id)
        if lot.coins is None or self.is_expired(lot):
            raise RefusedError("not_refundable")
        most = self.room(frozenset([lot.id]))
        before, short = lot.worth, min(0, lot.recognised)
        tax = None
        if coins is not None:
            coins, tax = self.split(lot, coins)
            if coins > before + short:
                raise RefusedError("not_refundable")
            credits = self.bought_by(lot, coins - short)
        elif credits is None:
            credits = most
        if not 0 < credits <= most:
            raise RefusedError("not_refundable")
        lot.remaining -= credits
        paid = before - lot.worth + short
        if paid <= 0:
            lot.remaining += credits
            raise RefusedError("not_refundable")
        lot.returned += credits
        lot.refunded += paid
        tax = self.tax_due(lot) if tax is None else tax
        lot.tax_back += tax
        self.undone[operation] = (id, credits, paid, tax)
        return paid + tax

    @staticmethod
    def bought_by(lot: ModelLot, coins: int) -> Fraction:
        """Return the Credits for an amount of minor units, in steps of 10^-18, at most the remaining ones."""
        step = Fraction(1, 10**18)
        found = min(lot.remaining, floor(coins * lot.credits / (lot.coins or 1) / step) * step)
        kept = ModelLot(lot.id, lot.credits, lot.coins, None, remaining=lot.remaining - found)
        return found if lot.worth - kept.worth == coins else found + step

    def dispute(self, operation: str, id: str, coins: int | None) -> None:
        lot = self.lot(id)
        if lot.coins is None:
            raise RefusedError("not_refundable")
        whole = lot.coins - lot.gone
        gross = whole + lot.tax - lot.tax_back - lot.moved_tax
        coins = gross if coins is None else coins
        if not 0 < coins <= gross:
            raise RefusedError("not_refundable")
        coins, tax = self.split(lot, coins)
        lot.tax_back += tax
        worth = lot.worth
        taken = lot.remaining if coins >= worth else self.bought_by(lot, coins)
        self.shrink(lot, taken)
        lot.remaining -= taken
        lot.returned += taken
        back = ZERO
        if coins > worth or coins == whole:
            gone = lot.used + lot.expired
            units = (coins - worth) * lot.credits / lot.coins * 10**18
            back = gone if coins == whole else min(gone, Fraction(floor(units + Fraction(1, 2)), 10**18))
            owes = min(back, lot.used)
            lot.used -= owes
            lot.expired -= back - owes
            lot.returned += back
            self.owed += owes
        lot.refunded += coins
        self.undone[operation] = (id, taken + back, coins, tax)
        self.repay()

    def reverse(self, operation: str) -> None:
        done = self.undone[operation]
        if done is None:
            raise RefusedError("not_reversible")
        id, credits, coins, tax = done
        self.undone[operation] = None
        lot = self.lot(id)
        lot.returned -= credits
        lot.refunded -= coins
        lot.tax_back -= tax
        if self.is_expired(lot):
            pays = min(credits, self.owed) if lot.model is None else ZERO
            self.owed -= pays
            lot.used += pays
            lot.expired += credits - pays
        else:
            lot.remaining += credits
        self.repay()

    def transfer(self, target: Model, credits: Fraction, prefix: str) -> None:
        """Move Credits to another account. Their lots there are named after the operation."""
        if self.frozen:
            raise RefusedError("account_frozen")
        valid = frozenset(lot.id for lot in self.lots if not self.is_expired(lot))
        if credits > self.room(valid):
            raise RefusedError("insufficient_credits")
        left, new = credits, list[ModelLot]()
        for lot in sorted(self.lots, key=self.rank):
            part = min(left, self.room(frozenset([lot.id]))) if lot.id in valid else ZERO
            if part:
                before = lot.worth
                lot.remaining -= part
                lot.moved += part
                coins = None if lot.coins is None else before - lot.worth
                lot.moved_coins += coins or 0
                tax = self.tax_due(lot) if lot.coins else 0
                lot.moved_tax += tax
                left -= part
                name = f"~{prefix}:{len(new) + 1:04}"
                new.append(ModelLot(name, part, coins, lot.expires, remaining=part, tax=tax))
                new[-1].model, new[-1].priority, new[-1].origin = lot.model, lot.priority, lot.origin or lot.id
        target.lots += new
        target.repay()

    def take_out(self, credits: Fraction, id: str | None = None) -> None:
        if credits > self.room(frozenset(lot.id for lot in self.lots if not self.is_expired(lot))):
            raise RefusedError("insufficient_credits")
        if id is None:
            self.use(credits, self.now, every=True)
            return
        lot = self.lot(id)
        if self.is_expired(lot) or credits > self.room(frozenset([id])):
            raise RefusedError("insufficient_credits")
        lot.remaining -= credits
        lot.used += credits
