"""Adds the signals that an entry raises to its result and to the outbox."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from brivionix_billing.ledger.signals import apply_raised, evaluate_signals, signal_row

if TYPE_CHECKING:
    from brivionix_billing.ledger.entry import EntryDraft
    from brivionix_billing.ledger.locked_account import LockedAccount

__all__ = ["raise_signals"]


def raise_signals(account: LockedAccount, id: str, draft: EntryDraft) -> None:
    """Add the signals that an entry raises to its result and to the outbox."""
    if draft.kind == "hold" and account.row.limits is None:
        return  # a hold changes neither the balance nor the debt
    member = draft.member
    settings = {setting.name: setting for setting in account.signal_settings.of(member)}
    limit_use = partial(account.limit_use, member)
    found = evaluate_signals(settings.values(), account.row, draft.kind, draft.content, account.booked_at, limit_use)
    for name in found.rearmed:
        settings[name].quiet = None
        account.mark_changed(settings[name])
    if found.rearmed:
        draft.result["rearmed"] = found.rearmed
    if not found.signals:
        return
    if account.last_signal is None:
        account.last_signal = account.store.fetch_rows(account.store.sql.last_signal, account.id)[0][0] or 0
    for signal in found.signals:
        account.last_signal += 1
        signal["number"] = account.last_signal
        apply_raised(settings[signal["name"]], signal)
        account.mark_changed(settings[signal["name"]])
        account.add_row(signal_row(account.id, id, account.booked_at, signal))
    draft.result["signals"] = found.signals
