"""Finds the rows of the log of new-api that repeat or refund earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from brivionix_billing.reconcile.gateway.causes import Verdict
from brivionix_billing.reconcile.gateway.log_values import fingerprint, to_fraction
from brivionix_billing.reconcile.gateway.new_api_row import CONSUME, UPSTREAM_KEYS, ids_of, upstream_key
from brivionix_billing.reconcile.rows import State

__all__ = ["Repeats"]


@dataclass(slots=True)
class Repeats:
    """What the rows so far have charged."""

    refunded: frozenset[str] = frozenset()
    """Ids of requests and tasks that have a refund in the log."""
    request_ids: set[str] = field(default_factory=set)
    """Ids of the requests seen."""
    upstream_calls: set[int] = field(default_factory=set)
    """Hashes of the calls that an upstream knows by an id."""
    _seen: set[object] = field(default_factory=set)
    _charges: dict[str, int] = field(default_factory=dict)
    """Id of a request or task with a refund -> what was charged and not yet refunded."""

    def charge(self, row: Mapping[str, Any], other: Mapping[str, Any], logged: int) -> bool:
        """Keep a charge that a later row refunds, and return whether one does."""
        names = ids_of(row, other) & self.refunded
        for name in names:
            self._charges[name] = self._charges.get(name, 0) + logged
        return bool(names)

    def find(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
        """Return by what a row repeats an earlier one; empty if it does not."""
        settlement = (row.get("type"), str(other.get("task_id") or ""), str(other.get("quota_delta") or ""))
        is_plain = row.get("type") == CONSUME and not other.get("quota_delta")
        request_id = str(row.get("request_id") or "")
        if request_id:
            if is_plain:
                if request_id in self.request_ids:
                    return "the request id is already in the log"
                self.request_ids.add(request_id)
            elif (request_id, *settlement) in self._seen:
                return "the request id is already in the log"
            else:
                self._seen.add((request_id, *settlement))
        elif row.get("id") is not None:
            key = fingerprint(("id", row.get("id"), row.get("created_at"), row.get("quota")))
            if key in self._seen:
                return "the row is already in the log"
            self._seen.add(key)
        if is_plain and row.get("upstream_request_id") and row.keys() >= UPSTREAM_KEYS:
            key_hash = upstream_key(row)
            if key_hash in self.upstream_calls:
                return "the same call of the upstream is already in the log"
            self.upstream_calls.add(key_hash)
        return ""

    def refund(self, row: Mapping[str, Any], other: Mapping[str, Any], logged: int) -> Verdict:
        """Return what is found about a refund."""
        paid, actual, delta = (to_fraction(other.get(key)) for key in ("pre_consumed", "actual_quota", "quota_delta"))
        if paid is not None and actual is not None:
            expected = int(actual - paid)
        elif delta is not None:
            expected = -abs(int(delta))
        else:
            for name in (str(row.get("request_id") or ""), str(other.get("task_id") or "")):
                charged = self._charges.get(name)
                if name and charged is not None and charged + logged >= 0:
                    self._charges[name] = charged + logged
                    return Verdict(State.MATCHED, "refunded", logged, f"refunds a charge of {charged}")
            return Verdict(State.ONLY_THEIRS, "refunded", None, "the log has no charge that it refunds")
        if expected == logged and (delta is None or int(delta) == expected):
            return Verdict(State.MATCHED, "refunded", logged, "what was paid in advance and not used")
        return Verdict(State.DIFFERS, "refunded", expected, f"the figures of the row give a refund of {-expected}")
