"""A naive model of the signals of an account, written independently of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger_model import Model, ModelLimit

_DAY, _NOON, _HOUR, _MINUTE = 86_400, 43_200, 3_600, 60
_FOREVER = 10**12


def window_end(limit: ModelLimit, now: int) -> int:
    """Return the end of the window of a time. Days begin 12 hours before the time 0."""
    if limit.window == "day":
        return ((now + _NOON) // _DAY + 1) * _DAY - _NOON
    return now // _MINUTE * _MINUTE + _HOUR + _MINUTE


@dataclass
class ModelSetting:
    """A signal that is set. ``ready``: the time from which it is raised again."""

    kind: str
    threshold: Fraction = Fraction(0)
    credits: Fraction = Fraction(0)
    cap: Fraction | None = None
    limit: str = ""
    ready: int = 0


@dataclass
class ModelSignals:
    """The signals of an account: what is set, and the names of those raised, in any order."""

    settings: dict[str, ModelSetting] = field(default_factory=dict)
    raised: list[str] = field(default_factory=list)
    purchased: dict[str, Fraction] = field(default_factory=dict)
    """Name -> Credits of its signals in the month. It outlives the setting."""
    acknowledged: int = 0
    leased: dict[int, int] = field(default_factory=dict)
    """Number -> end of its lease."""
    seen: tuple[Fraction, Fraction, int] = (Fraction(0), Fraction(0), 0)

    def set(self, model: Model, name: str, setting: ModelSetting) -> bool:
        """Set a signal. Returns whether that is possible."""
        if setting.kind == "limit_near" and setting.limit not in model.limits:
            return False
        self.settings[name] = setting
        return True

    def watch_expiries(self, model: Model) -> None:
        """Look at the account after holds and lots have expired."""
        if (model.total, model.owed, model.expired_holds) != self.seen:
            for name, setting in self.settings.items():
                if setting.kind == "hold_expired":
                    if model.expired_holds > self.seen[2] and setting.ready <= model.now:
                        setting.ready = model.now + _HOUR
                        self.raised.append(name)
                elif setting.kind != "limit_near":
                    self._watch_balance(model, name, setting, False)
        self.seen = model.total, model.owed, model.expired_holds

    def watch(self, model: Model, kind: str, limit: str | None, member: str | None = None) -> None:
        """Look at the account after an operation that concerns a member, or none."""
        if kind != "hold" or model.limits:
            for name, setting in self.settings.items():
                if setting.kind == "limit_near":
                    self._watch_limit(model, name, setting, kind, limit, member)
                elif setting.kind != "hold_expired":
                    self._watch_balance(model, name, setting, kind == "top_up")
        self.seen = model.total, model.owed, model.expired_holds

    def _watch_balance(self, model: Model, name: str, setting: ModelSetting, is_payment: bool) -> None:
        is_due = model.owed > setting.threshold if setting.kind == "debt" else model.total < setting.threshold
        if not is_due or (is_payment and setting.kind == "top_up_due"):
            setting.ready = 0
        if not is_due or setting.ready:
            return
        if setting.kind == "top_up_due":
            sum = self.purchased.get(name, Fraction(0)) + setting.credits
            if model.frozen or (setting.cap is not None and sum > setting.cap):
                return
            self.purchased[name] = sum
        setting.ready = _FOREVER
        self.raised.append(name)

    def _watch_limit(
        self, model: Model, name: str, setting: ModelSetting, kind: str, changed: str | None, member: str | None
    ) -> None:
        if kind in ("set_limit", "remove_limit") and changed == setting.limit:
            setting.ready = 0
        limit = model.limits.get(setting.limit)
        if (
            limit is None
            or limit.member not in (None, member)
            or setting.ready > model.now
            or kind not in ("hold", "settle", "charge", "set_signal", "set_limit")
        ):
            return
        used = limit.used(model.now)
        if used and used >= limit.amount * setting.threshold:
            setting.ready = window_end(limit, model.now)
            self.raised.append(name)

    def lease(self, now: int, most: int, seconds: int) -> list[int]:
        """Return the numbers that a reader gets."""
        pending = range(self.acknowledged + 1, len(self.raised) + 1)
        if not pending or self.leased.get(pending[0], 0) > now:
            return []
        found = list(pending[:most])
        self.leased |= dict.fromkeys(found, now + seconds)
        return found
