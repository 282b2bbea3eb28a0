"""Signals and the settings that raise them, as the gateway reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.reports import PAGE_SIZE, require_account
from brivionix_billing.ledger.signals import SignalRow, SignalSettingRow, read_content
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.ledger.units import units_to_credits
from brivionix_billing.times import format_instant

__all__ = ["Signal", "SignalSetting", "lease", "require_page", "signal_from_row", "signal_settings", "signals"]


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal of an account, for its receiver."""

    account: str
    number: int
    """Position in the account's signals, from 1. A receiver that has seen it ignores it: it may arrive again."""
    name: str
    """Name of the setting that raised it."""
    kind: str
    """``low_balance``, ``limit_near``, ``top_up_due``, ``hold_expired`` or ``debt``."""
    at: datetime
    """Time of the operation that raised it."""
    operation: str
    """Id of the entry that raised it."""
    content: Mapping[str, Any]
    """Figures at that moment; amounts are strings."""
    acknowledged_by: str | None
    """Id of the operation that acknowledged it; ``None``: it is pending."""
    leased_until: datetime | None
    """Time until which no other reader gets it; ``None``: no reader has it."""

    def as_dict(self) -> dict[str, Any]:
        """Return the signal as JSON values. It contains no secret."""
        return {
            "account": self.account,
            "number": self.number,
            "name": self.name,
            "kind": self.kind,
            "at": format_instant(self.at),
            "operation": self.operation,
            "content": dict(self.content),
        }


@dataclass(frozen=True, slots=True)
class SignalSetting:
    """A setting of an account that raises signals."""

    account: str
    name: str
    kind: str
    threshold: Decimal | None
    """Credits; ``None`` if the kind has none."""
    share: Decimal | None
    """Share of a limit, for ``limit_near``."""
    limit: str | None
    """Name of the limit by window, for ``limit_near``."""
    credits: Decimal | None
    """Credits to purchase, for ``top_up_due``."""
    cap: Decimal | None
    """Maximum of these Credits in a calendar month; ``None``: no maximum."""
    zone: str | None
    """Time zone of the month, for ``top_up_due``."""
    quiet: str | None
    """``None``: it is ready to raise a signal. ``recovery``: it raises the next one after its condition has ended.
    Otherwise the time at which it is ready again."""

    def as_dict(self) -> dict[str, str | None]:
        """Return the setting as JSON values; amounts are strings."""
        values = {slot: getattr(self, slot) for slot in self.__slots__}
        return {name: format_plain(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def signal_settings(store: Store, account: str) -> list[SignalSetting]:
    """Return the signals that are set for an account: see :meth:`Ledger.signal_settings`."""
    require_account(store, account)
    rows = store.fetch_all(SignalSettingRow, store.sql.active_settings.all, account)
    return [_setting_from_row(row) for row in sorted(rows, key=lambda row: row.name)]


def _setting_from_row(row: SignalSettingRow) -> SignalSetting:
    is_limit, is_top_up = row.kind == "limit_near", row.kind == "top_up_due"
    threshold = units_to_credits(row.threshold)
    return SignalSetting(
        row.account,
        row.name,
        row.kind,
        None if is_limit or row.kind == "hold_expired" else threshold,
        threshold if is_limit else None,
        row.limit,
        units_to_credits(row.credits) if is_top_up else None,
        None if row.cap is None else units_to_credits(row.cap),
        row.zone if is_top_up else None,
        row.quiet,
    )


def signals(store: Store, account: str | None, *, pending: bool, after: int, limit: int) -> list[Signal]:
    """Return signals: see :meth:`Ledger.signals`."""
    if account is None:
        if not pending or after:
            raise BillingError(
                "invalid_argument", "only the pending signals of all accounts are listed; add an account"
            )
        rows = store.fetch_all(SignalRow, store.sql.all_pending_signals, "", "", 0, limit)
    else:
        require_account(store, account)
        statement = store.sql.pending_signals if pending else store.sql.signals
        rows = store.fetch_all(SignalRow, statement, account, after, limit)
    return [signal_from_row(row) for row in rows]


def lease(store: Store, now: str, until: str, limit: int) -> list[Signal]:
    """Lease signals to a reader: see :meth:`Ledger.lease_signals`."""
    found: list[Signal] = []
    for (account,) in store.fetch_rows(store.sql.first_free_signals, now, limit):
        rows = store.fetch_all(SignalRow, store.sql.pending_signals, account, 0, limit - len(found))
        if rows:
            store.execute(store.sql.lease_signals, until, account, rows[-1].number)
        for row in rows:
            row.leased_until = until
            found.append(signal_from_row(row))
        if len(found) >= limit:
            break
    return found


def require_page(limit: int) -> int:
    """Return the maximum number of signals in a page. Raises ``invalid_argument``."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= PAGE_SIZE:
        raise BillingError("invalid_argument", f"limit is {safe_repr(limit)}; use an int from 1 to {PAGE_SIZE}")
    return limit


def signal_from_row(row: SignalRow) -> Signal:
    """Return a signal for its receiver."""
    return Signal(
        row.account,
        row.number,
        row.name,
        row.kind,
        parse_timestamp(row.at),
        row.operation,
        read_content(row.content),
        row.acknowledged_by,
        None if row.leased_until is None else parse_timestamp(row.leased_until),
    )
