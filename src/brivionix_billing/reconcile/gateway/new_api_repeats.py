"""Finds the rows of the log of new-api that repeat or refund earlier ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from brivionix_billing.reconcile.gateway.causes import Verdict
from brivionix_billing.reconcile.gateway.log_part import NO_KEYS, LogPart, RepeatKeys
from brivionix_billing.reconcile.gateway.log_values import to_fraction
from brivionix_billing.reconcile.gateway.merging import rewrite_row, split_line
from brivionix_billing.reconcile.gateway.new_api_row import CONSUME, REFUND, UPSTREAM_KEYS, upstream_call
from brivionix_billing.reconcile.rows import NO_CAUSE, State

__all__ = ["Refunds", "describe_repeated", "refund_by_figures", "repeat_keys"]

REFUNDED_LATER: Final = "a later row refunds it"


def repeat_keys(row: Mapping[str, Any], other: Mapping[str, Any]) -> RepeatKeys:
    """Return what a row has in common with one that repeats it. Rows that charge nothing are never repeated."""
    if row.get("type") not in (CONSUME, REFUND):
        return NO_KEYS
    is_plain = row.get("type") == CONSUME and not other.get("quota_delta")
    request: str | tuple[str, ...] | None = str(row.get("request_id") or "")
    if request and not is_plain:
        settlement = row.get("type"), str(other.get("task_id") or ""), str(other.get("quota_delta") or "")
        request = (str(request), *map(str, settlement))
    elif not request:
        named = row.get("id"), row.get("created_at"), row.get("quota")
        request = None if named[0] is None else ("", *map(str, named))
    has_call = is_plain and row.get("upstream_request_id") and row.keys() >= UPSTREAM_KEYS
    return RepeatKeys(request, upstream_call(row) if has_call else None)


def describe_repeated(keys: RepeatKeys) -> str:
    """Return the explanation of a row that repeats an earlier one with one of these keys."""
    if keys.call is not None:
        return "the same call of the upstream is already in the log"
    is_nameless = isinstance(keys.request, tuple) and not keys.request[0]
    return "the row is already in the log" if is_nameless else "the request id is already in the log"


def refund_by_figures(other: Mapping[str, Any], logged: int) -> Verdict | None:
    """Return what is found about a refund that states what it is made of; ``None`` if its charge decides."""
    paid, actual, delta = (to_fraction(other.get(key)) for key in ("pre_consumed", "actual_quota", "quota_delta"))
    if paid is not None and actual is not None:
        expected = int(actual - paid)
    elif delta is not None:
        expected = -abs(int(delta))
    else:
        return None
    if expected == logged and (delta is None or int(delta) == expected):
        return Verdict(State.MATCHED, "refunded", logged, "what was paid in advance and not used")
    return Verdict(State.DIFFERS, "refunded", expected, f"the figures of the row give a refund of {-expected}")


class Refunds:
    """Finds the charges of a log that a refund takes back, and what the refunds without figures take back."""

    def __init__(self, refunded: frozenset[str]) -> None:
        """``refunded`` has the ids of requests and tasks that have a refund in the log."""
        self._refunded = refunded
        self._charges: dict[str, int] = {}
        """Id of a request or task -> what was charged and not yet refunded."""
        self.waiting: list[Mapping[str, Any]] = []
        """Refunds whose charge decides."""

    def amend(self, part: LogPart, repeated: Collection[int]) -> None:
        """Keep the charges and the refunds of a part, and mark the charges that are refunded."""
        names: dict[int, set[str]] = {}
        for index, event in part.events:
            if index in repeated:
                continue
            if isinstance(event, Mapping):
                self.waiting.append(event)
            else:
                names[index] = event & self._refunded
        if not self._refunded.isdisjoint(part.requests):
            for index, request in enumerate(part.requests):
                if request in self._refunded and index not in repeated:
                    names.setdefault(index, set()).add(str(request))
        for index, found in names.items():
            if found:
                self._charge(part, index, found)

    def _charge(self, part: LogPart, index: int, names: set[str]) -> None:
        _, state, cause, logged, *_ = split_line(part.lines[index])
        for name in names:
            self._charges[name] = self._charges.get(name, 0) + int(logged or 0)
        if state == State.MATCHED and cause in (NO_CAUSE, "subscription"):
            rewrite_row(part, index, State.MATCHED, "refunded", REFUNDED_LATER)

    def refund(self, row: Mapping[str, Any], other: Mapping[str, Any], logged: int) -> Verdict:
        """Return what is found about a refund without figures, after all charges."""
        for name in (str(row.get("request_id") or ""), str(other.get("task_id") or "")):
            charged = self._charges.get(name)
            if name and charged is not None and charged + logged >= 0:
                self._charges[name] = charged + logged
                return Verdict(State.MATCHED, "refunded", logged, f"refunds a charge of {charged}")
        return Verdict(State.ONLY_THEIRS, "refunded", None, "the log has no charge that it refunds")
