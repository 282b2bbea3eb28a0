"""The match clauses of genai-prices: which names mean a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from brivionix_billing.importing.catalog import Catalog, ImportedModel
from brivionix_billing.importing.names import name_problem

__all__ = ["PlainModel", "add_aliases", "matches", "owner_of"]

_MAX_DEPTH: Final = 5
_MAX_ROWS: Final = 3000
"""Models of larger providers get no aliases: finding them would take too long."""
_SAFE_REGEX: Final = re.compile(
    r"\^?(?:[A-Za-z0-9_./:@-]|\\[.d/-]|\[[A-Za-z0-9.-]{1,20}\]|\{[0-9]{1,2}\})*\$?", re.ASCII
)
"""Regular expressions without groups and without open repetition: they take linear time."""
_SNAPSHOT_TAIL: Final = re.compile(r"[-@](?:\\d\{8\}|\\d\{4\}-\\d\{2\}-\\d\{2\})\$?")


def matches(clause: object, name: str, depth: int = 0) -> bool:
    """Return whether a clause matches a name. Regular expressions that may be slow never match."""
    if not isinstance(clause, dict) or depth > _MAX_DEPTH:
        return False
    for kind, value in clause.items():
        if kind in ("or", "and"):
            parts = [matches(part, name, depth + 1) for part in value] if isinstance(value, list) else []
            return any(parts) if kind == "or" else bool(parts) and all(parts)
        if not isinstance(value, str):
            return False
        if kind == "regex":
            return _regex_matches(value, name)
        tests = {
            "equals": name == value,
            "starts_with": name.startswith(value),
            "ends_with": name.endswith(value),
            "contains": value in name,
        }
        return tests.get(kind, False)
    return False


def _regex_matches(regex: str, name: str) -> bool:
    if len(regex) > 200 or not _SAFE_REGEX.fullmatch(regex):
        return False
    try:
        return re.search(regex, name) is not None
    except re.error:
        return False


def _alternatives(clause: object, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a clause each of which suffices."""
    if isinstance(clause, dict) and depth <= _MAX_DEPTH:
        for kind, value in clause.items():
            if kind == "or" and isinstance(value, list):
                for part in value:
                    yield from _alternatives(part, depth + 1)
            else:
                yield kind, value


def owner_of(providers: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """Return the provider that genai-prices means by a name without a provider."""
    return next((str(each.get("id")) for each in providers if matches(each.get("model_match"), name)), None)


class PlainModel(NamedTuple):
    """A model whose name has no provider."""

    model: ImportedModel
    row: Mapping[str, Any]
    provider: Mapping[str, Any]


def add_aliases(catalog: Catalog, models: Sequence[PlainModel], providers: Sequence[Mapping[str, Any]]) -> None:
    """Add the names and prefixes that mean exactly one imported model; note all other clauses.

    In genai-prices the first model that matches wins, in a price file the longest prefix. A name or prefix is added
    only if both choose the same model.
    """
    exact: dict[str, list[PlainModel]] = {}
    prefixes: list[tuple[str, PlainModel]] = []
    for plain in models:
        for kind, value in _alternatives(plain.row.get("match")):
            if kind == "equals" and isinstance(value, str):
                if value != plain.model.name:
                    exact.setdefault(value, []).append(plain)
            elif kind == "starts_with" and isinstance(value, str):
                prefixes.append((value, plain))
            elif not (kind == "regex" and isinstance(value, str) and _is_snapshot_of(value, plain.model.name)):
                catalog.note("match_ignored", f"no alias for {kind}: {str(value)[:100]}", plain.model.name, "match")
    taken = set(catalog.models) | {alias for model in catalog.models.values() for alias in model.aliases}
    for name, found in exact.items():
        is_free = name not in taken and not name_problem(name) and "*" not in name
        if is_free and len(found) == 1 and _means(name, found[0], providers):
            found[0].model.aliases.append(name)
            continue
        for plain in found:
            catalog.note("match_ignored", f"{name[:100]} is not a name of this model alone", plain.model.name, "match")
    for index, (prefix, plain) in enumerate(prefixes):
        others = [(text, other) for text, other in prefixes if other is not plain]
        hidden = any(prefix.startswith(text) for text, other in prefixes[:index] if other is not plain)
        hidden = hidden or any(text == prefix for text, _ in others)
        pattern = f"{prefix}*"
        is_valid = not name_problem(pattern) and "*" not in prefix and pattern not in plain.model.aliases
        if is_valid and not hidden and all(_means(name, plain, providers) for name in (prefix, f"{prefix}~")):
            plain.model.aliases.append(pattern)
        else:
            message = f"{prefix[:100]}* does not mean this model alone"
            catalog.note("match_ignored", message, plain.model.name, "match")


def _means(name: str, plain: PlainModel, providers: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether genai-prices finds this model by a name, at its provider."""
    rows = plain.provider.get("models")
    if not isinstance(rows, list) or len(rows) > _MAX_ROWS:
        return False
    if owner_of(providers, name) not in (None, str(plain.provider.get("id"))):
        return False
    first = next((row for row in rows if isinstance(row, dict) and matches(row.get("match"), name)), None)
    return first is plain.row


def _is_snapshot_of(regex: str, name: str) -> bool:
    """Return whether a regular expression means the dated snapshots of a model, which need no alias."""
    return bool(_SNAPSHOT_TAIL.search(regex)) and regex.replace("\\.", ".").lstrip("^").startswith(name)
