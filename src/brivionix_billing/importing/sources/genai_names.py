"""The match clauses of genai-prices: which names mean a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from brivionix_billing.importing.catalog import Catalog, ImportedModel
from brivionix_billing.importing.names import name_problem

__all__ = ["add_aliases", "matches"]

_MAX_DEPTH: Final = 5
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
            return len(value) <= 200 and bool(_SAFE_REGEX.fullmatch(value)) and re.search(value, name) is not None
        tests = {
            "equals": name == value,
            "starts_with": name.startswith(value),
            "ends_with": name.endswith(value),
            "contains": value in name,
        }
        return tests.get(kind, False)
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


def add_aliases(catalog: Catalog, models: Sequence[tuple[ImportedModel, Any]]) -> None:
    """Add the names and prefixes that mean exactly one imported model; note all other clauses.

    In genai-prices the first model that matches wins, in a price file the longest prefix. A prefix is added only if
    both choose the same model.
    """
    exact: dict[str, list[ImportedModel]] = {}
    prefixes: list[tuple[str, ImportedModel]] = []
    for model, match in models:
        for kind, value in _alternatives(match):
            if kind == "equals" and isinstance(value, str):
                if value != model.name:
                    exact.setdefault(value, []).append(model)
            elif kind == "starts_with" and isinstance(value, str):
                prefixes.append((value, model))
            elif not (kind == "regex" and isinstance(value, str) and _is_snapshot_of(value, model.name)):
                catalog.note("match_ignored", f"no alias for {kind}: {str(value)[:100]}", model.name, "match")
    taken = set(catalog.models) | {alias for model in catalog.models.values() for alias in model.aliases}
    for name, owners in exact.items():
        if len(owners) == 1 and name not in taken and not name_problem(name) and "*" not in name:
            owners[0].aliases.append(name)
        else:
            for owner in owners:
                catalog.note("match_ignored", f"{name[:100]} is not a name of this model alone", owner.name, "match")
    for index, (prefix, model) in enumerate(prefixes):
        hidden = any(other is not model and prefix.startswith(shorter) for shorter, other in prefixes[:index]) or any(
            other is not model and shorter == prefix for shorter, other in prefixes[index + 1 :]
        )
        pattern = f"{prefix}*"
        if hidden or name_problem(pattern) or "*" in prefix or pattern in model.aliases:
            catalog.note("match_ignored", f"{prefix[:100]}* does not mean this model alone", model.name, "match")
        else:
            model.aliases.append(pattern)


def _is_snapshot_of(regex: str, name: str) -> bool:
    """Return whether a regular expression means the dated snapshots of a model, which need no alias."""
    return bool(_SNAPSHOT_TAIL.search(regex)) and regex.replace("\\.", ".").lstrip("^").startswith(name)
