"""Reads what every row of the log of new-api has: type, quota, ids, account and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

from brivionix_billing.reconcile.gateway.log_values import missing_columns, parse_object, parse_row, to_fraction
from brivionix_billing.reconcile.gateway.reading import RawRow
from brivionix_billing.times import format_instant

__all__ = [
    "CONSUME",
    "REFUND",
    "UPSTREAM_KEYS",
    "describe",
    "ids_of",
    "parse_other",
    "read_quota",
    "read_row",
    "signed_quota",
    "upstream_call",
    "user_of",
]

CONSUME, REFUND = 2, 6
"""Types of rows that charge and refund. All other types charge nothing."""
UPSTREAM_KEYS: Final = frozenset({"upstream_request_id", "user_id", "model_name", "prompt_tokens", "completion_tokens"})
"""What identifies a call of the upstream."""
upstream_call: Final[Callable[[Mapping[str, Any]], tuple[object, ...]]] = itemgetter(*sorted(UPSTREAM_KEYS))
"""Return these values of a row."""
_NUMBERS: Final = ("id", "user_id", "created_at", "type", "quota", "prompt_tokens", "completion_tokens", "use_time")


def read_row(raw: RawRow, place: str) -> Mapping[str, Any]:
    """Return a row. Numbers that CSV has as texts become integers; other texts stay as they are.

    Raises ``file_unreadable`` with the place, the name of the log.
    """
    row = parse_row(raw, place)
    if "type" not in row or "quota" not in row:
        raise missing_columns(row, place, "has a row without type and quota; export all columns of new-api's logs")
    if type(row["type"]) is int:
        return row
    return {**row, **{name: _integer(row[name]) for name in _NUMBERS if name in row}}


def _integer(cell: object) -> object:
    """Return the number of a cell, 0 for an empty one."""
    number = to_fraction(cell)
    if number is None:
        return cell or 0
    return int(number) if number.denominator == 1 else cell


def parse_other(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``other``, which is JSON in a text; empty if it is none."""
    return parse_object(row.get("other"))


def read_quota(row: Mapping[str, Any]) -> int | None:
    """Return what a row charges: negative for a refund, and 0 for a row of another type.

    ``None`` if the quota of a charge or refund is no whole number.
    """
    kind, quota = row.get("type"), row.get("quota")
    if kind not in (CONSUME, REFUND):
        return 0
    if type(quota) is int:
        return quota if kind == CONSUME else -abs(quota)
    number = to_fraction(quota)
    if number is None or number.denominator != 1:
        return None
    return int(number) if kind == CONSUME else -abs(int(number))


def signed_quota(row: Mapping[str, Any]) -> int:
    """Return what a row charges, as :func:`read_quota`; 0 if that is no whole number."""
    return read_quota(row) or 0


def ids_of(row: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Return the ids of the request and of the task of a row."""
    return {str(row.get("request_id") or ""), str(other.get("task_id") or "")} - {""}


def user_of(row: Mapping[str, Any]) -> str:
    """Return the account of a row."""
    return str(row.get("username") or row.get("user_id") or "")


def describe(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that identify a row for people."""
    created = row.get("created_at")
    try:
        at = format_instant(datetime.fromtimestamp(int(created or 0), UTC)) if created else ""
    except (ValueError, OverflowError, OSError, TypeError):
        at = str(created)
    return {
        "log_id": str(row.get("id", "")),
        "at": at,
        "account": user_of(row),
        "model": str(row.get("model_name") or ""),
        "group": str(row.get("group") or ""),
    }
