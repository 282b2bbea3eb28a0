"""Ready-made mappings: rows of the logs of new-api and litellm as records of a usage file.

A row that is no request, such as a top-up, is skipped and counted. A request whose tokens the log does not have is a
record without a usage, which is rejected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["PRESETS", "Preset", "PresetColumns"]

Row = Mapping[str, Any]
_TRUE: Final = frozenset({"true", "1", "t", "yes"})


class Preset(NamedTuple):
    """How the rows of one kind of log become records."""

    columns: Mapping[str, tuple[str, ...]]
    """Field of a record -> the columns of the log that have it; the first one that is not empty is read."""
    required: tuple[str, ...]
    """Columns that the log must have."""
    skip_reason: Callable[[Row], str]
    """Returns why a row is no request; empty if it is one."""
    usage: Callable[[Row], Any]
    """Returns the usage body of a row; ``None`` if the log does not have its tokens."""


def _number(value: Any) -> int:
    """Return a count of a log; raises ``ValueError`` for anything but a whole number."""
    if value is None or value == "":
        return 0
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError(value)
    return number


def _object(value: Any) -> dict[str, Any]:
    """Return a JSON object that is a value or a text; raises ``ValueError`` for anything else."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = loads_strict(value, "the column")
        except BillingError as error:
            raise ValueError(error.message) from None
    if not isinstance(value, Mapping):
        raise ValueError("not an object")
    return dict(value)


# --- new-api ---

_ROW_TYPES: Final = {
    0: "unknown",
    1: "top-up",
    3: "manage",
    4: "system",
    5: "error",
    6: "refund",
    7: "login",
}


def _new_api_skip(row: Row) -> str:
    kind = _number(row.get("type"))
    return "" if kind == 2 else f"type {kind} ({_ROW_TYPES.get(kind, 'other')})"  # consume


def _new_api_usage(row: Row) -> Any:
    """Return the counts of a row. Prompts of Anthropic semantics do not contain cached and written tokens."""
    other = _object(row.get("other"))
    prompt, completion = _number(row.get("prompt_tokens")), _number(row.get("completion_tokens"))
    if not prompt and not completion and _number(row.get("quota")) and not _is_priced_per_call(other):
        return None
    long_writes = _number(other.get("cache_creation_tokens_1h"))
    writes = max(_number(other.get(name)) for name in ("cache_creation_tokens", "cache_write_tokens"))
    short_writes = _number(other.get("cache_creation_tokens_5m")) or max(0, writes - long_writes)
    counts = {
        "input_tokens": prompt,
        "output_tokens": completion,
        "cache_read_tokens": _number(other.get("cache_tokens")),
        "cache_write_tokens": short_writes,
        "cache_write_1h_tokens": long_writes,
        "audio_input_tokens": _number(other.get("audio_input")) or _number(other.get("audio_input_token_count")),
        "audio_output_tokens": _number(other.get("audio_output")),
        "image_input_tokens": _number(other.get("image_output")) if other.get("image") else 0,
    }
    if other.get("claude") or other.get("usage_semantic") == "anthropic":
        counts["input_tokens"] += counts["cache_read_tokens"] + short_writes + long_writes
    for surcharge in other.get("tool_surcharges") or ():
        name = "web_search" if "web_search" in surcharge["name"] else surcharge["name"]
        counts[f"{name}_calls"] = counts.get(f"{name}_calls", 0) + _number(surcharge["count"])
    kept = {name: count for name, count in counts.items() if count or name in ("input_tokens", "output_tokens")}
    return {"usage": {"counts": kept}}


def _is_priced_per_call(other: Mapping[str, Any]) -> bool:
    price = other.get("model_price")
    return (isinstance(price, int | float) and price > 0) or other.get("billing_unit") == "request"


# --- litellm ---


def _litellm_skip(row: Row) -> str:
    if str(row.get("cache_hit") or "").strip().lower() in _TRUE:
        return "answered from the cache of the gateway"
    has_tokens = _number(row.get("total_tokens")) or float(row.get("spend") or 0)
    return "failed" if str(row.get("status") or "") == "failure" and not has_tokens else ""


def _litellm_usage(row: Row) -> Any:
    """Return the usage object of the provider in ``metadata``; without one, the counts of the row."""
    metadata = _object(row.get("metadata"))
    usage = metadata.get("usage_object")
    if isinstance(usage, Mapping) and usage:
        return dict(usage)
    prompt, completion = _number(row.get("prompt_tokens")), _number(row.get("completion_tokens"))
    if not prompt and not completion:
        return None
    further = _object(metadata.get("additional_usage_values"))
    details = {
        "cached_tokens": _number(further.get("cache_read_input_tokens")),
        "cache_write_tokens": _number(further.get("cache_creation_input_tokens")),
    }
    return {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}


PRESETS: Final[Mapping[str, Preset]] = {
    "new-api": Preset(
        {
            "request_id": ("request_id",),
            "at": ("created_at",),
            "account": ("username", "user_id"),
            "group": ("group",),
            "model": ("model_name",),
            "token": ("token_name",),
        },
        ("type", "other", "prompt_tokens", "completion_tokens"),
        _new_api_skip,
        _new_api_usage,
    ),
    "litellm": Preset(
        {
            "request_id": ("request_id",),
            "at": ("startTime",),
            "account": ("user",),
            "model": ("model_group", "model"),
            "token": ("api_key",),
            "tags": ("request_tags",),
        },
        ("metadata", "prompt_tokens", "completion_tokens"),
        _litellm_skip,
        _litellm_usage,
    ),
}
"""Ready-made mappings by name."""


class PresetColumns:
    """The columns of a log that a preset reads. Raises ``invalid_argument`` if the table does not have them.

    ``mapping`` has further columns (of the log -> of the record), which replace those of the preset, and ``values`` has
    values for all rows.
    """

    def __init__(
        self,
        names: Sequence[str],
        preset: str,
        mapping: Mapping[str, str],
        values: Mapping[str, str],
        convert: Callable[[str, Any], Any],
        count_skipped: Callable[[str], None],
    ) -> None:
        self.names = list(names)
        self._preset, self._values, self._convert, self._count_skipped = PRESETS[preset], values, convert, count_skipped
        own = {field: (column,) for column, field in mapping.items()}
        self._fields = {**self._preset.columns, **own}
        needed = [*self._preset.required, *mapping]
        missing = [name for name in needed if name not in names]
        missing += [
            columns[0]
            for field, columns in self._fields.items()
            if field not in values and field not in ("token", "tags") and not any(name in names for name in columns)
        ]
        if missing:
            raise BillingError(
                "invalid_argument",
                f"the table has no column {safe_repr(missing[0])}, which the mapping {preset} reads; is it a log of "
                f"{preset}? It has {', '.join(names[:20]) or 'none'}",
            )
        if "group" not in self._fields and "group" not in values:
            raise BillingError(
                "invalid_argument", f"a log of {preset} has no groups; add --set group=NAME, or --map group=COLUMN"
            )

    def line(self, values: Sequence[Any]) -> bytes:
        """Return the line of a usage file for a row; an empty line if it is no request."""
        if len(values) != len(self.names):
            problem = f"a row of {len(values)} cells in a table of {len(self.names)} columns"
            return json.dumps(problem).encode() + b"\n"
        row = dict(zip(self.names, values, strict=True))
        record: dict[str, Any] = dict(self._values)
        try:
            reason = self._preset.skip_reason(row)
            if reason:
                self._count_skipped(reason)
                return b"\n"
            record["usage"] = self._preset.usage(row)
        except (ValueError, TypeError, KeyError, OverflowError):
            record["usage"] = None  # a record without a usage is rejected, with its id
        for field, columns in self._fields.items():
            value = next((row[name] for name in columns if row.get(name) not in (None, "")), None)
            if value is not None:
                record[field] = self._convert(field, value)
        return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
