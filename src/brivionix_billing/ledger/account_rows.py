"""The rows of a locked account: read when they are needed, changed in memory, and marked to be written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Row, Store
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.limits import CountedRequest, CounterRow, LimitRow, change_counters
from brivionix_billing.ledger.member_rows import MemberRows
from brivionix_billing.ledger.plans import SubscriptionRow
from brivionix_billing.ledger.projections import (
    AccountRow,
    HoldRow,
    LotRow,
    MemberRow,
    TokenRow,
    apply_restricted,
)
from brivionix_billing.ledger.signals import LimitUse, SignalSettingRow
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.pricebook.lot_order import DEFAULT_LOT_ORDER

__all__ = ["AccountRows"]


class AccountRows:
    """The rows of an account that an operation reads and changes. Each row exists once in memory."""

    __slots__ = (
        *("_changed_rows", "_counters", "_holds", "_limits", "_lots", "_members", "_new_rows"),
        *("_signal_settings", "_subscription", "_tokens", "booked_at", "order", "row", "store"),
    )

    def __init__(self, store: Store, row: AccountRow, booked_at: str, order: Sequence[str] = DEFAULT_LOT_ORDER) -> None:
        self.store, self.row, self.booked_at, self.order = store, row, booked_at, order
        self._lots: list[LotRow] | None = None
        self._holds: dict[str, HoldRow] = {}
        self._tokens: dict[str, TokenRow] = {}
        self._members: dict[str, MemberRow] = {}
        self._limits: MemberRows[LimitRow] | None = None
        self._counters: dict[str, dict[str, CounterRow]] = {}  # limit -> start -> counter
        self._signal_settings: MemberRows[SignalSettingRow] | None = None
        self._subscription: SubscriptionRow | None = None
        self._changed_rows: dict[int, Row] = {}  # identity of the row -> row
        self._new_rows: list[Row] = []

    @property
    def id(self) -> str:
        """Id of the account."""
        return self.row.id

    @property
    def available(self) -> int:
        """Units that can be spent, by some requests or by all."""
        return self.row.balance - self.row.held

    @property
    def lots(self) -> list[LotRow]:
        """Lots with remaining Credits, the oldest first."""
        if self._lots is None:
            self._lots = self.store.fetch_all(LotRow, self.store.sql.live_lots, self.id)
        return self._lots

    def lot(self, id: str) -> LotRow:
        """Return a lot of this account, with remaining Credits or not. Raises ``unknown_lot``."""
        for lot in self.lots:
            if lot.id == id:
                return lot
        lot_row = self.store.fetch_one(LotRow, self.store.sql.lot, require_id(id, "the lot"))
        if lot_row is None or lot_row.account != self.id:
            raise BillingError("unknown_lot", f"account {safe_repr(self.id)} has no lot {safe_repr(id)}")
        self.lots.append(lot_row)
        self.lots.sort(key=lambda lot: lot.number)
        return lot_row

    def token(self, id: str) -> TokenRow:
        """Return a token of this account. Raises ``unknown_token``."""
        require_id(id, "the token")
        token = self._tokens.get(id)
        if token is None:
            token = self.store.fetch_one(TokenRow, self.store.sql.token, id)
            if token is None or token.account != self.id:
                raise BillingError("unknown_token", f"account {safe_repr(self.id)} has no token {safe_repr(id)}")
            self._tokens[id] = token
        return token

    def hold(self, id: str) -> HoldRow | None:
        """Return a hold. An expiry that this operation posts changes the same row."""
        row = self.store.fetch_one(HoldRow, self.store.sql.hold, id)
        if row is not None:
            self._holds[id] = row
        return row

    def open_holds(self) -> list[HoldRow]:
        """Return the open holds, sorted by expiry."""
        stored = self.store.fetch_all(HoldRow, self.store.sql.open_holds, self.id)
        # Holds that this operation has resolved or shrunk are not written yet: their rows in memory are used.
        holds = [self._holds.setdefault(hold.id, hold) for hold in stored]
        return [hold for hold in holds if hold.state == "open"]

    def member(self, id: str) -> MemberRow:
        """Return a member of this account. Raises ``unknown_member``."""
        require_id(id, "the member")
        member = self._members.get(id)
        if member is None:
            member = self.store.fetch_one(MemberRow, self.store.sql.member, self.id, id)
            if member is None:
                raise BillingError("unknown_member", f"account {safe_repr(self.id)} has no member {safe_repr(id)}")
            self._members[id] = member
        return member

    @property
    def subscription(self) -> SubscriptionRow | None:
        """The last subscription to a plan. An account without any costs no statement."""
        id = self.row.subscription
        if id is not None and (self._subscription is None or self._subscription.id != id):
            self._subscription = self.store.fetch_one(SubscriptionRow, self.store.sql.subscription, id)
        return self._subscription

    def use_subscription(self, row: SubscriptionRow) -> None:
        """Make a new subscription the current one."""
        self._subscription, self.row.subscription = row, row.id
        self.add_row(row)

    @property
    def limits(self) -> MemberRows[LimitRow]:
        """Active limits by window. An account without any costs no statement."""
        if self._limits is None:
            fetch = partial(self.store.fetch_all, LimitRow)
            self._limits = MemberRows(self.row.limits is not None, fetch, self.id, self.store.sql.active_limits)
        return self._limits

    def counters(self, limit: LimitRow, first: str, last: str) -> list[CounterRow]:
        """Return the counters of a limit that start from ``first`` to ``last``, sorted."""
        if first == last:
            row = self._counter(limit, first)
            return [] if row is None else [row]
        known = self._counters.setdefault(limit.id, {})
        for row in self.store.fetch_all(CounterRow, self.store.sql.counters, limit.id, first, last):
            known.setdefault(row.starts, row)
        return [known[start] for start in sorted(known) if first <= start <= last]

    def _counter(self, limit: LimitRow, start: str) -> CounterRow | None:
        known = self._counters.setdefault(limit.id, {})
        row = known.get(start)
        if row is None:
            row = self.store.fetch_one(CounterRow, self.store.sql.counters, limit.id, start, start)
            if row is not None:
                known[start] = row
        return row

    def change_counter(self, limit: LimitRow, start: str, amount: int) -> None:
        """Add an amount to a counter of a limit."""
        row = self._counter(limit, start)
        if row is not None:
            self.mark_changed(row)
        else:
            row = self._counters[limit.id][start] = CounterRow(limit.id, start, self.id, 0)
            self.add_row(row)
        row.used += amount

    def count(self, member: str | None, limits: Iterable[str], at: str, amounts: Mapping[str, int]) -> None:
        """Add what a request of a member at a time counts to its limits."""
        change_counters(self.limits.of(member), limits, at, amounts, self.change_counter)

    def recount(self, hold: HoldRow, *, was_open: bool, used: Mapping[str, int] | None) -> None:
        """Replace what a hold counts by what its request used; ``None``: it was not charged."""
        if hold.counted is not None:
            counted = CountedRequest.from_column(hold.counted)
            self.count(hold.member, counted.limits, hold.at, counted.change(was_open=was_open, used=used))

    @property
    def signal_settings(self) -> MemberRows[SignalSettingRow]:
        """Active settings that raise signals. An account without any costs no statement."""
        if self._signal_settings is None:
            fetch, queries = partial(self.store.fetch_all, SignalSettingRow), self.store.sql.active_settings
            self._signal_settings = MemberRows(self.row.signals is not None, fetch, self.id, queries)
        return self._signal_settings

    def limit_use(self, member: str | None, name: str) -> LimitUse | None:
        """Return the use of a limit that counts the requests of a member, by its name.

        ``None`` if there is none, or if its window does not include now.
        """
        limit = next((limit for limit in self.limits.of(member) if limit.name == name), None)
        now = parse_timestamp(self.booked_at)
        range = None if limit is None else limit.parsed_window.counters(now)
        if limit is None or range is None:
            return None
        used = sum(counter.used for counter in self.counters(limit, range.first, range.last))
        return LimitUse(used, limit.amount, limit.unit, limit.parsed_window.end(range.current, now))

    def add_row(self, row: Row) -> None:
        """Add a row that is written with the entry."""
        self._new_rows.append(row)
        if isinstance(row, LotRow):
            self.lots.append(row)
            apply_restricted(self.row, row, row.remaining)

    def mark_changed(self, row: Row) -> None:
        """Mark a row that is updated with the entry."""
        for new in self._new_rows:
            if new is row:
                return
        self._changed_rows[id(row)] = row
