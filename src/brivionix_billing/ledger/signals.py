"""Signals: the settings that raise them, and the decision whether an entry raises one.

A signal is raised once when its condition begins to hold, and again only after the condition has ended. The result of
an entry has the signals that it raises (``signals``), and the settings that it makes ready again (``rearmed``). So the
outbox is derived from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, get_args

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.ledger.journal_text import read_column
from brivionix_billing.ledger.projections import AccountRow
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_text
from brivionix_billing.rating import UNITS_PER_CREDIT
from brivionix_billing.times import load_zone

__all__ = [
    "SIGNAL_KINDS",
    "LimitUse",
    "RaisedSignals",
    "SignalKind",
    "SignalRow",
    "SignalSettingRow",
    "SignalState",
    "apply_raised",
    "apply_setting",
    "evaluate_signals",
    "follow_limit",
    "read_content",
    "signal_row",
]

SignalKind = Literal["low_balance", "limit_near", "top_up_due", "hold_expired", "debt"]
SIGNAL_KINDS: Final = get_args(SignalKind)

_UNTIL_RECOVERY: Final = "recovery"
_HOLD_EXPIRED_PAUSE: Final = timedelta(hours=1)
"""Minimum time between two signals of expired holds: a gateway that crashes loses many holds at once."""
_COUNTING_KINDS: Final = ("hold", "settle", "charge", "set_signal", "set_limit")
"""Kinds of entries after which a window can be fuller, or a limit smaller."""
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class SignalSettingRow:
    """A setting of an account that raises signals. A removed one stays, because it has the sum of the month."""

    account: str
    name: str
    kind: str
    threshold: int
    """Credits; the share of a limit for ``limit_near``."""
    credits: int
    """Credits to purchase for ``top_up_due``."""
    cap: int | None
    """Maximum sum of ``credits`` in a calendar month; ``None``: no maximum."""
    zone: str
    """Time zone of the month."""
    limit: str | None
    """Name of the limit by window for ``limit_near``."""
    active: int
    """1, or 0 if it was removed."""
    quiet: str | None
    """``None``: it is ready. ``recovery``: until its condition ends. Otherwise the time at which it is ready again."""
    month: str | None
    """Month of the last signal, such as ``2026-11``, for ``top_up_due``."""
    month_credits: int
    """Credits of the signals of that month."""
    member: str | None = None
    """The member of the limit for ``limit_near``; ``None``: the limit is not that of a member."""

    @property
    def id(self) -> str:
        """Key of the row in its account."""
        return self.name


@dataclass(slots=True)
class SignalRow:
    """A signal in the outbox. It is pending until an operation acknowledges it."""

    account: str
    number: int
    """Position in the account's signals, from 1."""
    name: str
    """Name of the setting."""
    kind: str
    at: str
    operation: str
    """Id of the entry that raised it."""
    content: str
    """Figures at that moment, as JSON."""
    acknowledged_by: str | None
    leased_until: str | None
    """Time until which a reader has it. The only column that the journal does not have."""

    @property
    def id(self) -> str:
        """Key of the row in its account."""
        return str(self.number)


class LimitUse(NamedTuple):
    """The use of a limit by window, for signals."""

    used: int
    amount: int
    unit: str
    ends: datetime
    """Time at which the window of now ends. Of a rolling one, its use of now has ended by then."""


class RaisedSignals(NamedTuple):
    """The effect of an entry on the settings of its account, in the format of the journal."""

    signals: list[dict[str, Any]]
    rearmed: list[str]
    """Names of the settings whose condition has ended."""


def evaluate_signals(
    settings: Iterable[SignalSettingRow],
    account: AccountRow,
    kind: str,
    content: Mapping[str, Any],
    booked_at: str,
    limit_use: Callable[[str], LimitUse | None],
) -> RaisedSignals:
    """Return what an entry raises. ``account`` is its account after the entry. The signals have no number yet.

    ``limit_use`` returns the use of a limit by its name; ``None`` if it does not exist, or does not count now.
    """
    found = RaisedSignals([], [])
    for setting in settings:
        if setting.kind == "limit_near":
            is_rearmed, signal = _check_limit(setting, kind, content, booked_at, limit_use)
        elif setting.kind == "hold_expired":
            is_rearmed, signal = False, _check_expired_hold(setting, kind, content, booked_at)
        else:
            is_rearmed, signal = _check_balance(setting, account, kind, booked_at)
        if is_rearmed:
            found.rearmed.append(setting.name)
        if signal is not None:
            quiet, figures = signal
            found.signals.append({"name": setting.name, "kind": setting.kind, "quiet": quiet, "content": figures})
    return found


_Signal = tuple[str, dict[str, Any]]
"""Until when the setting is quiet, and the figures of the signal."""


def _check_balance(
    setting: SignalSettingRow, account: AccountRow, kind: str, booked_at: str
) -> tuple[bool, _Signal | None]:
    """Check the balance or debt. Holds in flight do not change either: they would cross a threshold back and forth."""
    is_debt = setting.kind == "debt"
    value = account.owed if is_debt else account.balance - account.owed
    is_due = value > setting.threshold if is_debt else value < setting.threshold
    is_rearmed = setting.quiet is not None and (not is_due or (setting.kind == "top_up_due" and kind == "top_up"))
    if not is_due or (setting.quiet is not None and not is_rearmed):
        return is_rearmed, None
    figures = {"owed" if is_debt else "balance": units_to_text(value), "threshold": units_to_text(setting.threshold)}
    if setting.kind == "top_up_due":
        month, before = _month(setting, booked_at)
        if account.frozen_at is not None or (setting.cap is not None and before + setting.credits > setting.cap):
            return is_rearmed, None
        figures["credits"] = units_to_text(setting.credits)
        figures |= {"month": month, "month_credits": units_to_text(before + setting.credits)}
    return is_rearmed, (_UNTIL_RECOVERY, figures)


def _month(setting: SignalSettingRow, booked_at: str) -> tuple[str, int]:
    """Return the month of a time, and the Credits of its signals so far.

    A clock that is behind does not go back to the month before, whose sum is gone.
    """
    try:
        month = parse_timestamp(booked_at).astimezone(load_zone(setting.zone)).isoformat()[:7]
    except OverflowError:  # at the limits of the calendar
        month = booked_at[:7]
    if setting.month is not None and month <= setting.month:
        return setting.month, setting.month_credits
    return month, 0


def _check_limit(
    setting: SignalSettingRow,
    kind: str,
    content: Mapping[str, Any],
    booked_at: str,
    limit_use: Callable[[str], LimitUse | None],
) -> tuple[bool, _Signal | None]:
    """Check the use of a limit. It raises at most one signal per window, and one more if the limit is changed."""
    is_changed = kind in ("set_limit", "remove_limit") and content["limit"] == setting.limit
    is_rearmed = is_changed and setting.quiet is not None
    is_ready = is_changed or setting.quiet is None or setting.quiet <= booked_at
    use = limit_use(str(setting.limit)) if is_ready and kind in _COUNTING_KINDS else None
    if use is None or not use.used or use.used * UNITS_PER_CREDIT < use.amount * setting.threshold:
        return is_rearmed, None
    ends = format_timestamp(use.ends)
    figures = {"limit": setting.limit, **({} if setting.member is None else {"member": setting.member})}
    figures |= {"used": units_to_text(use.used), "amount": units_to_text(use.amount)}
    return is_rearmed, (ends, {**figures, "unit": use.unit, "window_ends": ends})


def _check_expired_hold(
    setting: SignalSettingRow, kind: str, content: Mapping[str, Any], booked_at: str
) -> _Signal | None:
    if kind != "hold_expired" or (setting.quiet is not None and setting.quiet > booked_at):
        return None
    at = parse_timestamp(booked_at)
    ready = at + _HOLD_EXPIRED_PAUSE if at < _LAST - _HOLD_EXPIRED_PAUSE else _LAST
    return format_timestamp(ready), {"hold": content["hold"]}


def apply_raised(setting: SignalSettingRow, signal: Mapping[str, Any]) -> None:
    """Apply a signal to its setting in place."""
    setting.quiet = signal["quiet"]
    if "month" in signal["content"]:
        setting.month = signal["content"]["month"]
        setting.month_credits = units_from_column(signal["content"]["month_credits"])


def signal_row(account: str, operation: str, booked_at: str, signal: Mapping[str, Any]) -> SignalRow:
    """Return the row of a new signal."""
    text = canonical_json(signal["content"]).decode()
    return SignalRow(account, signal["number"], signal["name"], signal["kind"], booked_at, operation, text, None, None)


def apply_setting(
    setting: SignalSettingRow | None, account: str, content: Mapping[str, Any], member: str | None = None
) -> SignalSettingRow:
    """Apply an entry that sets or removes a setting, in place. Returns its row. What is set is ready.

    ``member`` is that of the limit.
    """
    if "kind" not in content:
        if setting is None or not setting.active:
            raise ValueError(content["signal"])
        setting.active, setting.quiet = 0, None
        return setting
    if setting is None:
        setting = SignalSettingRow(account, content["signal"], "", 0, 0, None, "", None, 1, None, None, 0)
    cap = content.get("cap")
    setting.kind, setting.active, setting.quiet = content["kind"], 1, None
    setting.threshold = units_from_column(content["threshold"])
    setting.credits = units_from_column(content.get("purchase", "0"))
    setting.cap = None if cap is None else units_from_column(cap)
    setting.zone, setting.limit, setting.member = content.get("zone", "UTC"), content.get("limit"), member
    return setting


def follow_limit(settings: Iterable[SignalSettingRow], content: Mapping[str, Any]) -> Iterator[SignalSettingRow]:
    """Apply an entry that sets a limit to active settings, in place. Yields those that change their member.

    The name of a limit that was removed may become that of another member's limit.
    """
    for setting in settings:
        if setting.limit == content["limit"] and setting.member != content.get("member"):
            setting.member = content.get("member")
            yield setting


class SignalState:
    """The settings and signals of an account, as a replay of its entries derives them."""

    def __init__(self, account: AccountRow) -> None:
        self._account = account
        self.settings: dict[str, SignalSettingRow] = {}
        self.signals: dict[int, SignalRow] = {}

    def put(self, row: SignalSettingRow | SignalRow) -> None:
        """Add a row that earlier entries made."""
        if isinstance(row, SignalSettingRow):
            self.settings[row.name] = row
        else:
            self.signals[row.number] = row

    def set(self, content: Mapping[str, Any], member: str | None) -> None:
        """Apply an entry that sets or removes a setting. ``member`` is that of its limit."""
        name = content["signal"]
        self.settings[name] = apply_setting(self.settings.get(name), self._account.id, content, member)
        self._account.signals = sum(setting.active for setting in self.settings.values()) or None

    def follow(self, content: Mapping[str, Any]) -> None:
        """Apply an entry that sets a limit."""
        for _ in follow_limit((setting for setting in self.settings.values() if setting.active), content):
            pass

    def acknowledge(self, through: int, operation: str) -> None:
        """Apply an entry that acknowledges the signals up to a number. Raises ``ValueError`` if none is pending."""
        pending = [row for row in self.signals.values() if row.acknowledged_by is None and row.number <= through]
        if not pending or through not in self.signals:
            raise ValueError(f"signal {through}")
        for row in pending:
            row.acknowledged_by = operation

    def apply(self, operation: str, kind: str, booked_at: str, result: Mapping[str, Any]) -> str | None:
        """Apply what an entry raised. Returns a message if it does not follow from the account."""
        for name in result.get("rearmed", ()):
            setting = self._active(name)
            if setting.quiet is None:
                return f"setting {name} was ready before"
            setting.quiet = None
        for signal in result.get("signals", ()):
            setting, number = self._active(signal["name"]), signal["number"]
            if (signal["kind"], number) != (setting.kind, len(self.signals) + 1) or (
                setting.quiet is not None and (setting.quiet == _UNTIL_RECOVERY or setting.quiet > booked_at)
            ):
                return f"signal {number} does not follow from the entries before"
            if setting.kind not in ("limit_near", "hold_expired"):
                _, expected = _check_balance(setting, self._account, kind, booked_at)
                if expected != (signal["quiet"], signal["content"]):
                    return f"signal {number} does not follow from the balance"
            apply_raised(setting, signal)
            self.signals[number] = signal_row(self._account.id, operation, booked_at, signal)
        for setting in self.settings.values():
            if setting.active and setting.kind in ("low_balance", "debt"):
                is_rearmed, missing = _check_balance(setting, self._account, kind, booked_at)
                if is_rearmed or missing is not None:
                    return f"it does not have the signal of setting {setting.name}"
        return None

    def _active(self, name: str) -> SignalSettingRow:
        setting = self.settings[name]
        if not setting.active:
            raise ValueError(name)
        return setting

    def rows(self) -> Iterable[SignalSettingRow | SignalRow]:
        """Yield all settings and signals."""
        yield from self.settings.values()
        yield from self.signals.values()


def read_content(text: str) -> dict[str, Any]:
    """Return the figures of a signal."""
    return read_column(text, dict)
