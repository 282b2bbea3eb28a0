"""Replays the entries of an account: derives its rows in all other tables from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from brivionix_billing.errors import safe_repr
from brivionix_billing.ledger.database.store import Row
from brivionix_billing.ledger.entry import SUBACCOUNTS, Entry, purchase_terms
from brivionix_billing.ledger.entry_checks import broken_entry_error, check_invariants, check_postings
from brivionix_billing.ledger.limits import CountedRequest, LimitState, charged_amounts
from brivionix_billing.ledger.members import MEMBER_STATES, MemberState
from brivionix_billing.ledger.opened_lots import opened_lot
from brivionix_billing.ledger.plan_replay import PLAN_KINDS, PlanReplay
from brivionix_billing.ledger.posting.api_tokens import apply_rotation, apply_settings
from brivionix_billing.ledger.posting.orders import money_units, order_row, payment_credits, payment_row
from brivionix_billing.ledger.posting.transfers import moved_lot, moved_payment
from brivionix_billing.ledger.projections import (
    AccountRow,
    HoldRow,
    LotRow,
    OrderRow,
    PaymentRow,
    TokenRow,
    UsageRow,
    add_payment,
    add_usage,
    apply_freeze,
    apply_lot_change,
    apply_postings,
    apply_restricted,
    quarter_hour,
    reverse_usage,
)
from brivionix_billing.ledger.restrictions import EVERY_LOT, RequestScope, entry_scope
from brivionix_billing.ledger.signals import SignalState
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.units import units_from_column

__all__ = ["AccountReplay"]


@dataclass
class AccountReplay:
    """The state of one account, derived from its entries."""

    account: AccountRow
    lots: dict[str, LotRow] = field(default_factory=dict)
    holds: dict[str, HoldRow] = field(default_factory=dict)
    tokens: dict[str, TokenRow] = field(default_factory=dict)
    payments: dict[str, PaymentRow] = field(default_factory=dict)
    orders: dict[str, OrderRow] = field(default_factory=dict)
    limits: LimitState = field(init=False)
    members: MemberState = field(init=False)
    signals: SignalState = field(init=False)
    plans: PlanReplay = field(init=False)
    usage: dict[tuple[str, str, str, str], UsageRow] = field(default_factory=dict)
    reversals: dict[str, int] = field(default_factory=dict)
    """Charge -> Credits of it that were reversed."""
    latest: datetime | None = None
    """Time of the last entry."""
    transfers: list[Entry] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUBACCOUNTS, 0))

    def __post_init__(self) -> None:
        self.limits = LimitState(self.account.id)
        self.members = MemberState(self.account.id)
        self.signals = SignalState(self.account)
        self.plans = PlanReplay(self.account, self.lots, self.orders)

    def apply(self, entry: Entry) -> None:
        """Apply the next entry. Raises ``journal_broken`` if it cannot follow the entries before."""
        try:
            self._apply(entry)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise broken_entry_error(
                entry, f"it refers to something that does not exist ({type(error).__name__}: {error})"
            ) from None

    def _apply(self, entry: Entry) -> None:
        account, content, result = self.account, entry.content, entry.result
        if entry.number != account.number + 1 or entry.previous != account.head:
            raise broken_entry_error(entry, f"it does not follow entry {account.number}")
        if sum(entry.postings.values()):
            raise broken_entry_error(entry, "its postings do not balance")
        for subaccount, amount in entry.postings.items():
            if subaccount not in self.totals:
                raise broken_entry_error(entry, f"unknown subaccount {safe_repr(subaccount)}")
            self.totals[subaccount] += amount
        check_postings(entry)
        account.number, account.head, self.latest = entry.number, entry.hash, entry.booked_at
        apply_postings(account, entry.postings)
        booked = format_timestamp(entry.booked_at)
        if entry.kind == "hold":
            amount = units_from_column(content["credits"])
            token = content.get("token")
            self.holds[entry.id] = HoldRow(entry.id, account.id, token, amount, booked, result["expires"], "open", None)
            if token is not None:
                self.tokens[token].held += amount
            if "scope" in result:
                self.holds[entry.id].scope = RequestScope.from_dict(result["scope"]).as_column()
            if "counted" in result:
                counted = CountedRequest.from_dict(result["counted"])
                self.holds[entry.id].counted = counted.to_column(counted.as_dict())
                self.limits.count(counted.limits, booked, counted.amounts)
            self.holds[entry.id].member = self.members.of_request(content, result, self.tokens)
        elif entry.kind in _RESOLUTION_STATES:
            self._resolve(entry, self.holds[content["hold"]])
        elif entry.kind == "token":
            row = TokenRow(entry.id, account.id, result["hash"], "", "", None, None, 1, 0, 0)
            self.members.require_present(content.get("member"))
            apply_settings(row, content)
            self.tokens[entry.id] = row
        elif entry.kind == "order":
            self.orders[entry.id] = order_row(entry.id, account.id, content, booked)
        elif entry.kind == "order_cancelled":
            self.orders[content["order"]].state = "cancelled"
        elif entry.kind == "token_changed":
            self.members.require_present(content.get("member"))
            apply_settings(self.tokens[content["token"]], content)
        elif entry.kind in ("account_frozen", "account_unfrozen"):
            apply_freeze(account, entry.kind, booked)
        elif entry.kind == "expiry_changed":
            self._change_expiry(entry, booked)
        elif entry.kind in MEMBER_STATES:
            self.members.apply(entry.kind, content["member"], booked)
        elif entry.kind in ("set_limit", "remove_limit"):
            account.limits = self.limits.apply(entry.id, content)
            if entry.kind == "set_limit":
                self.members.require_present(content.get("member"))
                self.signals.follow(content)
        elif entry.kind in ("set_signal", "remove_signal"):
            self.signals.set(content, result.get("member"))
        elif entry.kind == "signals_acknowledged":
            self.signals.acknowledge(content["through"], entry.id)
        elif entry.kind == "secret_rotated":
            apply_rotation(self.tokens[content["token"]], result)
        elif entry.kind in ("top_up", *PLAN_KINDS):
            self.plans.apply(entry, booked)
        if entry.kind in ("transfer_out", "transfer_in"):
            self.transfers.append(entry)  # its other entry is checked by `verify`
        if any(delta.kind == "moved_out" for delta in entry.lot_deltas):
            self._move_out(entry)
        for id, part in result.get("shrunk", ()):
            hold = self.holds[id]
            hold.credits -= units_from_column(part)
            if hold.token is not None:
                self.tokens[hold.token].held -= units_from_column(part)
        if entry.kind in ("settle", "charge"):
            self._charge(entry)
        elif entry.kind == "charge_reversed":
            self._reverse_charge(entry, booked)
        scope = self._scope(entry)
        for delta in entry.lot_deltas:
            if delta.kind == "opened":
                self.lots[entry.id] = self._open_lot(entry, booked)
                apply_restricted(account, self.lots[entry.id], self.lots[entry.id].remaining)
            elif delta.kind == "moved_in":
                self._move_in(entry, delta.lot, booked)
            before = self.lots[delta.lot].remaining if delta.lot in self.lots else 0
            if delta.lot not in self.lots or apply_lot_change(self.lots[delta.lot], *delta[1:4]) != delta:
                raise broken_entry_error(
                    entry, f"its change of lot {safe_repr(delta.lot)} does not follow from the entries before"
                )
            lot = self.lots[delta.lot]
            apply_restricted(account, lot, lot.remaining - before)
            if delta.kind == "used" and delta.credits and not scope.may_use(lot.restriction):
                raise broken_entry_error(entry, f"it uses lot {safe_repr(lot.id)}, which is for other requests")
            if entry.purchases.get(lot.id) != (None if lot.currency is None else purchase_terms(lot)):
                raise broken_entry_error(entry, f"it states another purchase of lot {safe_repr(lot.id)}")
        check_invariants(entry, account, [self.lots[delta.lot] for delta in entry.lot_deltas])
        problem = self.signals.apply(entry.id, entry.kind, booked, result)
        if problem:
            raise broken_entry_error(entry, problem)
        if "gross" in content:
            self._receive(entry)
        elif "tax" in result:
            self._return_tax(entry)

    def _scope(self, entry: Entry) -> RequestScope:
        """Return the scope of an entry, which decides the restricted lots that it may use."""
        if entry.kind == "settle":
            return entry_scope(entry.content, RequestScope.from_column(self.holds[entry.content["hold"]].scope))
        if entry.kind == "charge":
            return entry_scope(entry.content, RequestScope(None, None, entry.content.get("tags", {})))
        return EVERY_LOT if entry.kind == "adjust" else RequestScope.from_column(None)

    def _receive(self, entry: Entry) -> None:
        """Apply the parts of a received payment, and its order."""
        content = entry.content
        payment = payment_row(entry.id, self.account.id, content)
        paid = self.lots[entry.id].paid
        if payment.gross != paid + payment.tax:
            raise broken_entry_error(entry, "its parts do not add up to its gross amount")
        self.payments[entry.id] = payment
        if payment.order is not None:
            order, worth = self.orders[payment.order], paid + payment.coupon
            credits, in_time = units_from_column(content["credits"]), entry.result["in_time"]
            if in_time and credits != payment_credits(order, worth):
                raise broken_entry_error(entry, "its Credits do not follow from its order")
            add_payment(order, worth, credits, in_time=in_time)

    def _return_tax(self, entry: Entry) -> None:
        payment = self.payments[entry.lot_deltas[0].lot]
        payment.tax_refunded += money_units(entry.result["tax"])
        if payment.tax_refunded < 0 or payment.tax_gone > payment.tax:
            raise broken_entry_error(entry, "it pays back another tax than was paid")

    def _resolve(self, entry: Entry, hold: HoldRow) -> None:
        late = entry.kind == "settle" and hold.state == "expired"
        if hold.state != "open" and not late:
            raise broken_entry_error(entry, f"hold {safe_repr(hold.id)} was already {hold.state}")
        if entry.postings.get("held", 0) != (0 if late else -hold.credits):
            raise broken_entry_error(entry, f"it does not release the Credits of hold {safe_repr(hold.id)}")
        if hold.token is not None and not late:
            self.tokens[hold.token].held -= hold.credits
        hold.state, hold.resolved_by = _RESOLUTION_STATES[entry.kind], entry.id
        if hold.counted is not None:
            counted = CountedRequest.from_column(hold.counted)
            used = None
            if entry.kind == "settle":
                used = charged_amounts(units_from_column(entry.content["credits"]), entry.result.get("counts"))
            self.limits.count(counted.limits, hold.at, counted.change(was_open=not late, used=used))

    def _charge(self, entry: Entry) -> None:
        amount = units_from_column(entry.content["credits"])
        if entry.postings.get("used", 0) != amount:
            raise broken_entry_error(entry, "its postings do not match its charge")
        token = entry.result.get("token")
        if token is not None:
            self.tokens[token].spent += amount
        if entry.kind == "charge":
            member = self.members.of_request(entry.content, entry.result, self.tokens)
        else:
            member = self.members.of_hold(self.holds[entry.content["hold"]], entry.result)
        key = (quarter_hour(format_timestamp(entry.at)), entry.content.get("model", ""), token or "", member or "")
        row = self.usage.setdefault(key, UsageRow(self.account.id, *key))
        counts = entry.result.get("counts")
        add_usage(row, counts, amount)
        if entry.kind == "charge" and "counted" in entry.result:
            limits = entry.result["counted"]["limits"]
            self.limits.count(limits, format_timestamp(entry.at), charged_amounts(amount, counts))

    def _reverse_charge(self, entry: Entry, booked: str) -> None:
        result = entry.result
        amount, token = units_from_column(result["credits"]), result.get("token")
        if token is not None:
            self.tokens[token].spent -= amount
        key = (quarter_hour(booked), result["model"], token or "", result.get("member") or "")
        row = self.usage.setdefault(key, UsageRow(self.account.id, *key))
        reverse_usage(row, result.get("counts"), amount, complete=result["complete"])
        self.reversals[result["charge"]] = self.reversals.get(result["charge"], 0) + amount

    def _change_expiry(self, entry: Entry, booked: str) -> None:
        lot, expires = self.lots[entry.content["lot"]], entry.content["expires"]
        if (lot.expires, expires) != (entry.result["previous_expires"], entry.result["expires"]):
            raise broken_entry_error(entry, f"it states another expiry of lot {safe_repr(lot.id)}")
        if not lot.remaining or any(time is not None and time <= booked for time in (lot.expires, expires)):
            raise broken_entry_error(entry, f"lot {safe_repr(lot.id)} was closed, or its new expiry had passed")
        lot.expires = expires

    def _move_in(self, entry: Entry, id: str, booked: str) -> None:
        """Open a lot that another account sent."""
        terms = next(each for each in entry.result["lots"] if each["lot"] == id)
        lot = self.lots[id] = moved_lot(terms, self.account.id, entry.number, booked)
        apply_restricted(self.account, lot, lot.remaining)
        payment = moved_payment(lot, terms)
        if payment is not None:
            self.payments[id] = payment

    def _move_out(self, entry: Entry) -> None:
        """Check the terms with which Credits leave lots for others, and apply the tax that moves with them."""
        moves = [delta for delta in entry.lot_deltas if delta.kind == "moved_out"]
        for terms, delta in zip(entry.result["lots"], moves, strict=True):
            lot = self.lots[delta.lot]
            stated = terms["from"], units_from_column(terms.get("paid", "0"))
            kept = tuple(terms.get(name) for name in ("channel", "currency", "origin"))
            same = (stated, kept) == ((delta.lot, delta.money), (lot.channel, lot.currency, lot.origin or lot.id))
            if entry.kind == "transfer_out":  # a change of the plan changes Credits and expiry
                same &= (units_from_column(terms["credits"]), terms.get("expires")) == (delta.credits, lot.expires)
            if not same:
                raise broken_entry_error(entry, f"it moves other Credits than those of lot {safe_repr(lot.id)}")
            if "tax" in terms:
                payment = self.payments[lot.id]
                payment.tax_moved = (payment.tax_moved or 0) + units_from_column(terms["tax"])

    def _open_lot(self, entry: Entry, booked: str) -> LotRow:
        credits, (opened, *_) = units_from_column(entry.content["credits"]), entry.lot_deltas
        return opened_lot(entry.id, self.account.id, entry.number, booked, entry.content, credits, opened.money)

    def check_sums(self) -> Iterator[str]:
        """Yield a message for each amount of the account that is not the sum of its lots, holds or subaccounts."""
        account = self.account
        for name, amount, parts in (
            ("the balance", account.balance, (lot.remaining for lot in self.lots.values())),
            ("the held amount", account.held, (hold.credits for hold in self.holds.values() if hold.state == "open")),
            (
                "the sum of restricted Credits",
                account.restricted or 0,
                (lot.remaining for lot in self.lots.values() if lot.is_restricted),
            ),
            ("the debt", account.owed, (-self.totals["owed"],)),
            ("the sum of all subaccounts", 0, self.totals.values()),
        ):
            if amount != sum(parts):
                yield f"{name} is not the sum of its parts"

    def rows(self) -> Iterator[Row]:
        """Yield all rows that are derived from the entries."""
        expiries = [hold.expires for hold in self.holds.values() if hold.state == "open"]
        expiries += [lot.expires for lot in self.lots.values() if lot.remaining and lot.expires is not None]
        expiries += self.plans.renews_at()
        self.account.next_expiry = min(expiries, default=None)
        yield self.account
        for rows in (self.lots, self.holds, self.tokens, self.usage, self.payments, self.orders):
            yield from rows.values()
        yield from self.members.rows()
        yield from self.limits.rows()
        yield from self.signals.rows()
        yield from self.plans.subscriptions.values()


_RESOLUTION_STATES: Final = {"settle": "settled", "release": "released", "hold_expired": "expired"}
"""Kind of entry -> the state of the hold that it resolves."""
