"""Entries that set signals, remove them, and acknowledge raised ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.signals import SIGNAL_KINDS, SignalRow, SignalSettingRow, apply_setting
from brivionix_billing.ledger.units import Amount, to_units, units_to_text
from brivionix_billing.rating import UNITS_PER_CREDIT
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import load_zone

__all__ = ["acknowledge", "remove_signal", "set_signal", "setting_content"]

_MAX_SETTINGS: Final = 20
"""Maximum number of settings of an account, and of limits of each member: entries are compared with all of them."""
_OPTIONS: Final = {
    "low_balance": ("threshold",),
    "limit_near": ("limit", "share"),
    "top_up_due": ("threshold", "credits", "cap", "zone"),
    "hold_expired": (),
    "debt": ("threshold",),
}
"""Kind of signal -> the options that it takes."""
_OPTIONAL: Final = {"cap", "zone"}


def setting_content(name: str, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of an entry that sets a signal. An option is not given if it is ``None``.

    Raises ``invalid_argument``, ``invalid_money`` and ``invalid_period``.
    """
    if kind not in SIGNAL_KINDS:
        raise BillingError("invalid_argument", f"kind is {safe_repr(kind)}; use {', '.join(SIGNAL_KINDS)}")
    given = {option: value for option, value in options.items() if value is not None}
    if kind == "debt":
        given.setdefault("threshold", 0)
    for option in given:
        if option not in _OPTIONS[kind]:
            raise BillingError("invalid_argument", f"a signal {kind} does not take {option}; remove it")
    for option in _OPTIONS[kind]:
        if option not in given and option not in _OPTIONAL:
            raise BillingError("invalid_argument", f"a signal {kind} needs {option}; add it")
    content = {"signal": require_text("the name of a signal", name), "kind": kind, "threshold": "0"}
    if "threshold" in given:
        content["threshold"] = _amount(given["threshold"], "the threshold")
    if kind == "limit_near":
        share = to_units(given["share"], "the share")
        if not 0 < share <= UNITS_PER_CREDIT:
            raise BillingError(
                "invalid_argument", f"share is {safe_repr(given['share'])}; use a share above 0 and at most 1"
            )
        content["limit"] = require_text("the name of the limit", given["limit"])
        content["threshold"] = units_to_text(share)
    elif kind == "top_up_due":
        credits = to_units(given["credits"], "the Credits of a top-up")
        if not credits:
            raise BillingError("invalid_argument", "credits is 0; use the Credits to purchase, above 0")
        content["purchase"], content["zone"] = units_to_text(credits), given.get("zone", "UTC")
        load_zone(require_text("the time zone", content["zone"]))
        if "cap" in given:
            cap = to_units(given["cap"], "the cap")
            if cap < credits:
                raise BillingError(
                    "invalid_argument",
                    f"cap is {safe_repr(given['cap'])}, below the Credits of one top-up; raise it, or remove it",
                )
            content["cap"] = units_to_text(cap)
    return content


def _amount(value: Amount, name: str) -> str:
    return units_to_text(to_units(value, name))


def set_signal(account: LockedAccount, content: Mapping[str, Any]) -> EntryDraft:
    """Set a signal, or replace the one with the same name. Raises ``invalid_argument``."""
    name, limit, member = content["signal"], content.get("limit"), None
    if limit is not None:
        found = next((found for found in account.limits.all() if found.name == limit), None)
        if found is None:
            raise BillingError(
                "invalid_argument",
                f"account {safe_repr(account.id)} has no limit {safe_repr(limit)}; set the limit first",
            )
        member = found.member
    known, active = _find(account, name), account.signal_settings.all()
    others = sum(setting.member == member and setting is not known for setting in active)
    if others >= _MAX_SETTINGS:
        owner = f"account {safe_repr(account.id)}" if member is None else f"member {safe_repr(member)}"
        raise BillingError("invalid_argument", f"{owner} has {_MAX_SETTINGS} signals; remove one before adding one")
    row = apply_setting(known, account.id, content, member)
    if known is None:
        account.add_row(row)
    else:
        account.mark_changed(row)
    account.signal_settings.add(row)
    draft = _finish(account, "set_signal", content)
    if member is not None:
        draft.result["member"] = member
    return draft


def remove_signal(account: LockedAccount, content: Mapping[str, Any]) -> EntryDraft:
    """Remove a signal. Raises ``invalid_argument`` if the account has none of this name."""
    known = _find(account, content["signal"])
    if known is None or not known.active:
        active = account.signal_settings.all()[:_MAX_SETTINGS]
        names = ", ".join(safe_repr(setting.name) for setting in active) or "none"
        raise BillingError(
            "invalid_argument",
            f"account {safe_repr(account.id)} has no signal {safe_repr(content['signal'])}; its signals are: {names}",
        )
    account.mark_changed(apply_setting(known, account.id, content))
    return _finish(account, "remove_signal", content)


def _find(account: LockedAccount, name: str) -> SignalSettingRow | None:
    """Return a setting, also one that was removed."""
    for setting in account.signal_settings.all():
        if setting.name == name:
            return setting
    return account.store.fetch_one(SignalSettingRow, account.store.sql.signal_setting, account.id, name)


def _finish(account: LockedAccount, kind: str, content: Mapping[str, Any]) -> EntryDraft:
    """Keep the number of settings in the row of the account, and return the entry."""
    account.row.signals = len(account.signal_settings.all()) or None
    return EntryDraft(kind, account.booked_at, content)


def acknowledge(account: LockedAccount, id: str, pending: list[SignalRow], content: Mapping[str, Any]) -> EntryDraft:
    """Acknowledge pending signals. No reader gets them any more."""
    for row in pending:
        row.acknowledged_by, row.leased_until = id, None
        account.mark_changed(row)
    return EntryDraft("signals_acknowledged", account.booked_at, content)
