"""The state of an account after its archived entries, from which a replay of the later ones starts.

Two tables grow with the number of requests. Their rows are not in the state, but in two digests:

- Holds that were settled or released never change again. The digest of an archive has those of its entries. All others,
  open or expired, are in the state, and stay there in all later states of the account.
- A sum of usage may change later, because a request may be settled late. Changes are additive, so the sums after the
  archived entries are the present ones less those of the later entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.counter_pruning import is_compared
from brivionix_billing.ledger.database.store import TABLE_MAPPINGS, Row
from brivionix_billing.ledger.limits import CounterRow, LimitRow
from brivionix_billing.ledger.plans import SubscriptionRow
from brivionix_billing.ledger.projections import (
    AccountRow,
    HoldRow,
    LotRow,
    MemberRow,
    OrderRow,
    PaymentRow,
    TokenRow,
    UsageRow,
)
from brivionix_billing.ledger.replay import AccountReplay
from brivionix_billing.ledger.signals import SignalRow, SignalSettingRow
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_text

__all__ = ["OpeningState", "StateTaker", "hold_digest", "resume", "subtract_usage", "usage_digest"]

_FINAL_STATES: Final = ("settled", "released")
"""States of a hold that never change."""
_CLASSES: Final = {mapping.table.name.partition("_")[2]: row_class for row_class, mapping in TABLE_MAPPINGS.items()}
"""Name of a table -> the class of its rows."""
_USAGE_SUMS: Final = ("requests", "estimated", "input_tokens", "cache_read_tokens", "output_tokens", "credits")
UsageRows = Mapping[tuple[str, str, str, str], UsageRow]


class OpeningState(NamedTuple):
    """The state of an account after an entry."""

    text: str
    """All rows but those of the digests, as JSON."""
    holds: str
    """Digest of the holds since the state before that were settled or released."""


class StateTaker:
    """Takes the states of a replay, one after the other."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """Begin at the start of an account, or after a state with the ``known`` holds."""
        self._seen = set(known)
        self._kept = set(self._seen)

    def take(self, replay: AccountReplay) -> OpeningState:
        """Take the state of a replay. Counters that are no longer compared are dropped from the replay."""
        limits = {row.id: row for row in replay.limits.rows() if isinstance(row, LimitRow)}
        replay.limits.keep(lambda counter: is_compared(limits.get(counter.limit), counter.starts, replay.latest))
        new = [hold for hold in replay.holds.values() if hold.id not in self._seen]
        self._seen.update(hold.id for hold in new)
        self._kept.update(hold.id for hold in new if hold.state not in _FINAL_STATES)
        rows = [
            *(row for row in replay.rows() if not isinstance(row, AccountRow | HoldRow | UsageRow)),
            *(replay.holds[id] for id in self._kept),
        ]
        state = {
            "account": _row_values(replay.account),
            "rows": sorted([_table(row), *_row_values(row)] for row in rows),
            "totals": {name: units_to_text(amount) for name, amount in replay.totals.items()},
            "reversals": {charge: units_to_text(amount) for charge, amount in replay.reversals.items()},
            "latest": None if replay.latest is None else format_timestamp(replay.latest),
        }
        return OpeningState(
            canonical_json(state).decode(), hold_digest(hold for hold in new if hold.state in _FINAL_STATES)
        )


def resume(account: str, text: str) -> AccountReplay:
    """Return a replay in a state. Raises ``journal_broken`` if it was altered."""
    try:
        state = json.loads(text)
        replay = AccountReplay(_read_row(AccountRow, state["account"]))
        for name, *values in state["rows"]:
            _put(replay, _read_row(_CLASSES[name], values))
        replay.totals.update((name, units_from_column(amount)) for name, amount in state["totals"].items())
        replay.reversals.update((charge, units_from_column(amount)) for charge, amount in state["reversals"].items())
        replay.latest = None if state["latest"] is None else parse_timestamp(state["latest"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise BillingError(
            "journal_broken", f"archive of {safe_repr(account)}: its state was altered: {type(error).__name__}"
        ) from None
    return replay


def _put(replay: AccountReplay, row: Any) -> None:
    """Add a row to a replay."""
    match row:
        case LimitRow() | CounterRow():
            replay.limits.put(row)
        case MemberRow():
            replay.members.put(row)
        case SignalSettingRow() | SignalRow():
            replay.signals.put(row)
        case SubscriptionRow():
            replay.plans.subscriptions[row.id] = row
        case LotRow():
            replay.lots[row.id] = row
        case HoldRow():
            replay.holds[row.id] = row
        case TokenRow():
            replay.tokens[row.id] = row
        case PaymentRow():
            replay.payments[row.id] = row
        case OrderRow():
            replay.orders[row.id] = row
        case _:
            raise TypeError(type(row).__name__)


def hold_digest(holds: Iterable[HoldRow]) -> str:
    """Return the SHA-256 of rows of holds, in the order of their entries."""
    digest = sha256()
    for hold in holds:
        digest.update(canonical_json(_row_values(hold)) + b"\n")
    return digest.hexdigest()


def usage_digest(rows: Iterable[UsageRow]) -> str:
    """Return the SHA-256 of sums of usage. Sums that are all zero do not count."""
    digest = sha256()
    for line in sorted(canonical_json(_row_values(row)) for row in rows if any(_sums(row))):
        digest.update(line + b"\n")
    return digest.hexdigest()


def subtract_usage(rows: Iterable[UsageRow], less: UsageRows) -> dict[tuple[str, str, str, str], UsageRow]:
    """Return sums of usage less others; the rows are copies."""
    found: dict[tuple[str, str, str, str], UsageRow] = {}
    for row in rows:
        key = (row.quarter_hour, row.model, row.token, row.member)
        found[key] = UsageRow(row.account, *key, *_sums(row))
    for key, row in less.items():
        target = found.setdefault(key, UsageRow(row.account, *key))
        for name in _USAGE_SUMS:
            setattr(target, name, getattr(target, name) - getattr(row, name))
    return found


def _sums(row: UsageRow) -> list[int]:
    return [getattr(row, name) for name in _USAGE_SUMS]


def _table(row: Row) -> str:
    return TABLE_MAPPINGS[type(row)].table.name.partition("_")[2]


def _row_values(row: Row) -> list[Any]:
    mapping = TABLE_MAPPINGS[type(row)]
    values = list(mapping.all_values(row))
    for index in mapping.amounts:
        if values[index] is not None:
            values[index] = units_to_text(values[index])
    return values


def _read_row(row_class: Any, values: list[Any]) -> Any:
    values = list(values)
    for index in TABLE_MAPPINGS[row_class].amounts:
        if index < len(values) and values[index] is not None:
            values[index] = units_from_column(values[index])
    return row_class(*values)
