"""Reads a row of litellm's spend log: its amount, time and usage, and who made the request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from brivionix_billing.reconcile.gateway.log_values import missing_columns
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Usage

__all__ = [
    "RowTimes",
    "account_of",
    "find_contradiction",
    "find_own_traffic",
    "model_of",
    "plain_quantities",
    "read_spend",
    "read_usage",
]

_MAX_DIGITS: Final = 30
"""Digits of an amount or a count. Without a limit, 1e999999999 takes all memory."""
_MAX_PLACES: Final = 400
_MAX_COUNT: Final = 10**12
_MAX_TIMES: Final = 100_000
_MINUTE: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", re.ASCII)
_SECONDS: Final = {f":{second:02d}": second for second in range(60)}
_END: Final = re.compile(r"(?:\.(\d{1,6}))?(Z|\+00:00)?", re.ASCII)
_LAST_HOUR: Final = 23
_LAST_MINUTE: Final = 59
_OWN_TRAFFIC: Final = re.compile(
    r"health[-_ ]?check|litellm[-_ ]?(?:internal|dashboard|proxy[-_ ]?admin)|(?:^|[/_-])health(?:$|[/_-])",
    re.IGNORECASE,
)
OWN_COLUMNS: Final = ("call_type", "api_key", "user", "end_user", "team_id", "request_tags", "model_group")
OWN_METADATA: Final = (
    *("user_api_key_alias", "user_api_key_team_alias", "user_api_key_team_id", "user_api_key_user_id", "tags"),
    *("user_api_key", "status_message", "request_route"),
)
_USAGE_KEYS: Final = frozenset(
    {
        *("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"),
        *("cache_creation_input_tokens", "cache_read_input_tokens", "server_tool_use"),
    }
)
PLAIN_METERS: Final = ("input", "cache_read", "cache_write", "output", "web_search", "cache_write_1h")
"""Meters of the usage object that litellm writes for text, apart from reasoning."""
_WRITE_DETAILS: Final = frozenset({"cache_creation_tokens", "cache_creation_token_details"})
"""Details of input tokens that state again what was written to the cache."""
_FIVE_MINUTES: Final = "ephemeral_5m_input_tokens"
_ONE_HOUR: Final = "ephemeral_1h_input_tokens"
_WRITE_TIMES: Final = frozenset({_FIVE_MINUTES, _ONE_HOUR})
_IDLE_DETAILS: Final = frozenset({"audio_tokens", "image_tokens", "reasoning_tokens"})
"""Details that litellm writes as 0."""
_ZERO: Final = 0


def read_spend(row: Mapping[str, Any], place: str) -> Decimal | None:
    """Return the logged amount with all its digits, 0 for an empty cell; ``None`` if it is no number.

    Raises ``file_unreadable`` if the log has no such column.
    """
    if "spend" not in row:
        raise missing_columns(row, place, "has a row without spend; export all columns of the spend log")
    value = row["spend"]
    if value is None or value == "":
        return Decimal(0)
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    if not amount.is_finite() or amount.adjusted() > _MAX_DIGITS or amount.adjusted() < -_MAX_PLACES:
        return None
    return amount


def account_of(row: Mapping[str, Any]) -> str:
    """Return the account of a row."""
    return next((str(row[name]) for name in ("user", "end_user", "team_id", "api_key") if row.get(name)), "")


def model_of(row: Mapping[str, Any]) -> str:
    """Return the name of the model that the caller asked for."""
    return str(row.get("model_group") or row.get("model") or "")


class PlainTime(NamedTuple):
    """A time of the usual form."""

    seconds: float
    """Unix seconds."""
    text: str
    """In UTC, as :func:`~brivionix_billing.times.format_instant` writes it."""
    is_exact: bool
    """Whether it has a fraction of a second, so that two calls at this time are unlikely."""


class RowTimes:
    """Reads the times of one log. Their minutes and seconds repeat, so both are kept."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._local: dict[str, tuple[int, str]] = {}
        self._utc: dict[str, tuple[int, str]] = {}
        """Minute -> Unix seconds, and the minute in UTC."""
        self._ends: dict[str, tuple[float, str, bool, dict[str, tuple[int, str]]]] = {}
        """Fraction of a second with its zone -> the same as :class:`PlainTime`, and the minutes in this zone."""
        self._days: dict[str, int] = {}
        """Day in UTC -> Unix seconds."""
        self._is_utc = zone.utcoffset(None) == timedelta(0)

    def read(self, value: object) -> datetime | None:
        """Return a time in UTC; ``None`` if the value is none."""
        try:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return datetime.fromtimestamp(value / 1000 if value > 10**11 else value, UTC)
            found = datetime.fromisoformat(str(value))
            return (found if found.tzinfo else found.replace(tzinfo=self._zone)).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            return None

    def read_plain(self, text: str) -> PlainTime:
        """Return a time such as ``2026-10-01 00:00:00.120``. Raises ``ValueError`` for every other form."""
        second = text[16:19]
        try:
            fraction, end, is_exact, minutes = self._ends[text[19:]]
        except KeyError:
            fraction, end, is_exact, minutes = self._read_end(text[19:])
        try:
            start, minute = minutes[text[:16]]
        except KeyError:
            start, minute = self._read_minute(text[:16], minutes)
        return PlainTime(start + _SECONDS[second] + fraction, f"{minute}{second}{end}", is_exact)

    def _read_end(self, text: str) -> tuple[float, str, bool, dict[str, tuple[int, str]]]:
        found = _END.fullmatch(text)
        if found is None:
            raise ValueError("the second is unusual")
        fraction, offset = found.groups()
        micros = (fraction or "").ljust(6, "0")
        is_fraction = micros.strip("0") != ""
        minutes = self._utc if offset else self._local
        read = int(micros) / 1_000_000, f".{micros}Z" if is_fraction else "Z", has_fraction(text), minutes
        if len(self._ends) > _MAX_TIMES:
            self._ends.clear()
        self._ends[text] = read
        return read

    def _read_minute(self, text: str, minutes: dict[str, tuple[int, str]]) -> tuple[int, str]:
        if not _MINUTE.fullmatch(text):
            raise ValueError("the minute is unusual")
        if minutes is self._utc or self._is_utc:
            hour, minute = int(text[11:13]), int(text[14:])
            if hour > _LAST_HOUR or minute > _LAST_MINUTE:
                raise ValueError("the minute is unusual")
            read = self._read_day(text[:10]) + hour * 3_600 + minute * 60, f"{text[:10]}T{text[11:]}"
        else:
            at = self.read(f"{text}:00")
            if at is None or at.second or at.microsecond:
                raise ValueError("the minute does not begin at one of UTC")
            read = int(at.timestamp()), format_instant(at)[:16]
        if len(minutes) > _MAX_TIMES:
            minutes.clear()
        minutes[text] = read
        return read

    def _read_day(self, text: str) -> int:
        try:
            return self._days[text]
        except KeyError:
            at = self.read(f"{text} 00:00:00Z")
            if at is None:
                raise ValueError("the day is unusual") from None
            if len(self._days) > _MAX_TIMES:
                self._days.clear()
            return self._days.setdefault(text, int(at.timestamp()))


def has_fraction(text: str) -> bool:
    """Return whether the text of a time has a fraction of a second other than 0."""
    return text.partition(".")[2].strip("0Z+:") != ""


def read_usage(row: Mapping[str, Any], body: dict[str, Any] | None) -> Usage:
    """Return the usage of a row, by the provider's usage object if there is one. Raises what ``Usage`` raises."""
    if body:
        return Usage.from_response(body)
    prompt, completion = _whole(row.get("prompt_tokens")) or 0, _whole(row.get("completion_tokens")) or 0
    return Usage(input_tokens=prompt, output_tokens=completion)


def find_contradiction(row: Mapping[str, Any], body: Mapping[str, Any] | None) -> str:
    """Return where the row and its usage object state different counts; empty if nowhere."""
    for name in ("prompt_tokens", "completion_tokens"):
        stated = _whole(row.get(name))
        if stated is not None and stated < 0:
            return f"{name} is {stated}"
        reported = body.get(name) if body else None
        if isinstance(reported, int) and stated is not None and stated != reported:
            return f"{name} is {stated} in the row, and {reported} in its usage object"
    return ""


def _whole(value: object) -> int | None:
    try:
        number = Decimal(str(value))
        return int(number) if number.adjusted() <= _MAX_DIGITS else None
    except (ArithmeticError, ValueError):
        return None


def plain_quantities(body: Mapping[str, Any]) -> tuple[int, int, int, int, int, int] | None:
    """Return the quantities of :data:`PLAIN_METERS` of the usage object that litellm writes for text.

    ``None`` for every other usage object. It decides nothing: the prices of a row are only kept if these quantities are
    those of :class:`~brivionix_billing.usage.Usage`.
    """
    if not _USAGE_KEYS.issuperset(body):
        return None
    get = body.get
    prompt, output, total = body["prompt_tokens"], body["completion_tokens"], get("total_tokens")
    details, beside = get("prompt_tokens_details"), get("cache_read_input_tokens")
    written = get("cache_creation_input_tokens") or _ZERO
    cached = _only(details, "cached_tokens", prompt)
    reasoning = _only(get("completion_tokens_details"), "reasoning_tokens", output)
    calls = _only(get("server_tool_use"), "web_search_requests", _ZERO)
    hour = _ZERO
    if details:
        if beside is not None and details.get("cached_tokens") not in (None, beside):
            return None
        if details.get("cache_creation_tokens") not in (None, written):
            return None
        times = details.get("cache_creation_token_details")
        if times is not None:
            five, hour = times[_FIVE_MINUTES], times[_ONE_HOUR]
            if not _WRITE_TIMES.issuperset(times) or not type(five) is type(hour) is int or not five >= 0 <= hour:
                return None
            if five + hour != written:
                return None
    if beside is not None:
        cached = beside if cached is not None else None
    if (
        type(prompt) is type(output) is type(cached) is type(written) is type(reasoning) is type(calls) is int
        and cached >= 0 <= written
        and cached + written <= prompt <= _MAX_COUNT
        and 0 <= reasoning <= output <= _MAX_COUNT
        and 0 <= calls <= _MAX_COUNT
        and prompt + output
        and (total is None or (type(total) is int and total == prompt + output))
    ):
        return prompt - cached - written, cached, written - hour, output, calls, hour
    return None


def _only(details: Any, name: str, whole: int) -> Any:
    """Return a count of token details that have no other; ``None`` if there are others."""
    if details is None:
        return _ZERO
    found = _ZERO
    for key, count in details.items():
        if count is None or (key in _WRITE_DETAILS and name == "cached_tokens"):
            continue
        if key == name:
            found = count
        elif key == "text_tokens":
            if type(count) is not int or not 0 <= count <= whole:
                return None
        elif key not in _IDLE_DETAILS or count is not _ZERO:
            return None
    return found


def find_own_traffic(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """Return the text that shows that the proxy made a request itself; empty if none does."""
    for source, names in ((row, OWN_COLUMNS), (metadata, OWN_METADATA)):
        for name in names:
            value = source.get(name)
            if value and _is_own(text := value if type(value) is str else str(value)):
                return text
    return ""


@lru_cache(maxsize=10_000)
def _is_own(text: str) -> bool:
    return _OWN_TRAFFIC.search(text) is not None
