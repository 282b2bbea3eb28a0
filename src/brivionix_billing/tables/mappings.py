"""The mapping of a table's columns: from the command line, from a YAML file, or ready-made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded
from brivionix_billing.tables.columns import Columns, TableOptions, convert_value, parse_mapping, parse_values
from brivionix_billing.tables.presets import PRESETS, PresetColumns

__all__ = ["ColumnMapping", "TableColumns", "columns_of", "read_mappings"]

_MAX_BYTES: Final = 1024 * 1024
_KEYS: Final = ("preset", "map", "set")


class ColumnMapping(NamedTuple):
    """How the columns of a table are named."""

    preset: str | None
    """A name of :data:`PRESETS`."""
    mapping: dict[str, str]
    """Name of the table -> name of this library."""
    values: dict[str, str]
    """Values of all rows."""


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

    return PresetColumns(names, options.preset, options.mapping, options.values, convert_value, count_skipped)


def read_mappings(maps: Iterable[str], sets: Iterable[str]) -> ColumnMapping:
    """Return the mapping that options give: ready-made names, YAML files, and pairs such as ``at=created_at``.

    A later pair replaces one of a file. Raises ``invalid_argument`` and ``file_unreadable``.
    """
    preset: str | None = None
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
            from_files |= {ours: theirs for theirs, ours in stated.mapping.items()}
            values |= stated.values
    given = {ours: theirs for theirs, ours in parse_mapping(pairs).items()}
    merged = parse_mapping(f"{ours}={theirs}" for ours, theirs in (from_files | given).items())
    return ColumnMapping(preset, merged, values | parse_values(sets))


def _only(known: str | None, further: str | None) -> str | None:
    if known is not None and further is not None and known != further:
        raise BillingError("invalid_argument", f"mapping {further}: {known} is used already; name one of them")
    return further or known


def _read_file(path: str) -> ColumnMapping:
    """Read a YAML file with the keys ``preset``, ``map`` (our name: column) and ``set`` (our name: value)."""
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
    return ColumnMapping(preset, parse_mapping(parts["map"]), parse_values(parts["set"]))
