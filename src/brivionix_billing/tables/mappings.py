"""The mapping of a table's columns: from the command line, from a YAML file, or ready-made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded
from brivionix_billing.tables.columns import Columns, TableOptions, convert_value, parse_mapping, parse_values
from brivionix_billing.tables.presets import PRESETS, PresetColumns
from brivionix_billing.times import load_zone

__all__ = ["ColumnMapping", "TableColumns", "columns_of", "read_mappings"]

_MAX_BYTES: Final = 1024 * 1024
_KEYS: Final = ("preset", "map", "set", "naive_time_zone")


class ColumnMapping(NamedTuple):
    """How the columns of a table are named."""

    preset: str | None
    """A name of :data:`PRESETS`."""
    mapping: dict[str, str]
    """Name of the table -> name of this library."""
    values: dict[str, str]
    """Values of all rows."""
    naive_time_zone: str | None = None
    """The time zone of times without an offset."""


class TableColumns(Protocol):
    """The columns of one table."""

    names: list[str]

    def line(self, values: Sequence[Any]) -> bytes:
        """Return the line of a usage file for a row."""


def columns_of(names: Sequence[str], options: TableOptions) -> TableColumns:
    """Return the columns of a table with these names. Raises ``invalid_argument``."""
    if options.preset is None:
        return Columns(names, options)

    def count_skipped(reason: str) -> None:
        options.skipped[reason] += 1

    convert: Callable[[str, Any], Any] = convert_value
    if options.naive_time_zone is not None:
        convert = partial(convert_value, zone=load_zone(options.naive_time_zone))
    return PresetColumns(names, options.preset, options.mapping, options.values, convert, count_skipped)


def read_mappings(maps: Iterable[str], sets: Iterable[str], naive_time_zone: str | None = None) -> ColumnMapping:
    """Return the mapping that options give: ready-made names, YAML files, and pairs such as ``at=created_at``.

    A later pair replaces one of a file, and ``naive_time_zone`` that of a file. Raises ``invalid_argument``,
    ``file_unreadable``, and ``invalid_period`` for an unknown time zone.
    """
    preset: str | None = None
    zone = naive_time_zone
    pairs: list[str] = []
    from_files: dict[str, str] = {}
    values: dict[str, str] = {}
    for item in maps:
        if "=" in item:
            pairs.append(item)
        elif item in PRESETS:
            preset = _only(preset, item)
        else:
            stated = _read_file(item)
            preset = _only(preset, stated.preset)
            zone = zone or stated.naive_time_zone
            from_files |= {ours: theirs for theirs, ours in stated.mapping.items()}
            values |= stated.values
    given = {ours: theirs for theirs, ours in parse_mapping(pairs).items()}
    merged = parse_mapping(f"{ours}={theirs}" for ours, theirs in (from_files | given).items())
    if zone is not None:
        load_zone(zone)
    return ColumnMapping(preset, merged, values | parse_values(sets), zone)


def _only(known: str | None, further: str | None) -> str | None:
    if known is not None and further is not None and known != further:
        raise BillingError("invalid_argument", f"mapping {further}: {known} is used already; name one of them")
    return further or known


def _read_file(path: str) -> ColumnMapping:
    """Read a YAML file: ``preset``, ``map`` (our name: column), ``set`` (our name: value), ``naive_time_zone``."""
    import yaml

    known = f"use NAME=COLUMN, {', '.join(PRESETS)}, or a YAML file"
    try:
        text = read_bounded(path, _MAX_BYTES, "the mapping", too_large="invalid_argument")
    except BillingError as error:
        raise BillingError(error.code, f"mapping {safe_repr(path, 200)}: {error.message}; {known}") from None
    try:
        data = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  # the base loader makes texts only
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BillingError("invalid_argument", f"mapping {safe_repr(path, 200)}: not valid YAML: {error}") from None
    if not isinstance(data, dict) or not set(data) <= set(_KEYS):
        raise BillingError(
            "invalid_argument", f"mapping {safe_repr(path, 200)}: write an object with the keys {', '.join(_KEYS)}"
        )
    parts = {}
    for key in ("map", "set"):
        part = data.get(key) or {}
        if not isinstance(part, Mapping) or not all(isinstance(value, str) for value in part.values()):
            raise BillingError("invalid_argument", f"mapping {safe_repr(path, 200)}: {key}: write NAME: COLUMN lines")
        parts[key] = [f"{name}={value}" for name, value in part.items()]
    preset = data.get("preset") or None
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
        # Aliases of YAML can make a small file a list of billions of items, so only a text is shown.
        shown = safe_repr(preset) if isinstance(preset, str) else "that is no text"
        raise BillingError(
            "invalid_argument",
            f"mapping {safe_repr(path, 200)}: preset {shown} is unknown; use {', '.join(PRESETS)}",
        )
    zone = data.get("naive_time_zone") or None
    if zone is not None and not isinstance(zone, str):
        raise BillingError(
            "invalid_argument",
            f"mapping {safe_repr(path, 200)}: naive_time_zone: write a name such as Asia/Shanghai",
        )
    return ColumnMapping(preset, parse_mapping(parts["map"]), parse_values(parts["set"]), zone)
