"""Loads a price file: from text to a validated :class:`~schema.PriceFile`, or to one error with all findings."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from brivionix_billing.errors import BillingError, Finding, PriceFileError, closest_name, safe_repr
from brivionix_billing.file_kinds import PRICE_FILE, describe_kind
from brivionix_billing.files import similar_files
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.validation import ParsedSections, UnlocatedFinding, review, validate
from brivionix_billing.pricebook.yaml_reader import MAX_BYTES, MAX_FINDINGS, ParsedYaml, read_yaml

__all__ = ["load", "load_with_notes", "loads"]

M = TypeVar("M", bound=BaseModel)
_EMPTY: Final[dict[str, Any]] = {}

# pydantic's code of a wrong type -> (message, hint)
_TYPE_MESSAGES: Final = {
    "string_type": ("is not text", "write a word, in quotes if it looks like a number"),
    "list_type": ("is not a list", "write '- ' items, or [a, b]"),
    "dict_type": ("is not a mapping", "write 'name: value' lines below it"),
    "model_type": ("is not a mapping", "write 'name: value' lines below it"),
    "model_attributes_type": ("is not a mapping", "write 'name: value' lines below it"),
    "too_short": ("is empty", "give at least one entry"),
}


def load(path: str | Path) -> schema.PriceFile:
    """Return the validated content of a file. Raises ``file_unreadable`` or :class:`PriceFileError`."""
    return _load(_read(path), str(path))[0]


def load_with_notes(path: str | Path) -> tuple[schema.PriceFile, list[Finding]]:
    """Return the validated content of a file, and notes on what it states to no effect. Raises as :func:`load` does."""
    file, document = _load(_read(path), str(path))
    notes = sorted((_locate(document, note) for note in review(file)), key=lambda note: (note.line, note.column))
    return file, notes


def _read(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except TypeError:
        raise BillingError(
            "invalid_argument", f"the path of a price file is {safe_repr(path)}; use a str or a Path"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        near = similar_files(path) if isinstance(error, FileNotFoundError) else None
        raise BillingError(
            "file_unreadable", f"cannot read the price file {safe_repr(str(path), 200)}: {reason}", near=near
        ) from None


def loads(content: str | bytes, file: str = "<text>") -> schema.PriceFile:
    """Return the validated content of a text. Raises :class:`PriceFileError`, and ``invalid_argument`` for no text."""
    if not isinstance(content, str | bytes):
        raise BillingError(
            "invalid_argument",
            f"the content of a price file is {safe_repr(content)}; use str or bytes, or load(path)",
        )
    return _load(content, file)[0]


def _load(content: str | bytes, file: str) -> tuple[schema.PriceFile, ParsedYaml]:
    if isinstance(content, str):
        try:
            content = content.encode()
        except UnicodeEncodeError:
            finding = Finding(file, 1, 1, "", "half a surrogate pair", "write valid Unicode")
            raise PriceFileError([finding]) from None
    kind = describe_kind(content)
    if kind not in (None, PRICE_FILE):
        finding = Finding(file, 1, 1, "", f"not a price file, but {kind}", "give the price file")
        raise PriceFileError([finding])
    document, findings = read_yaml(content, file)
    omitted = 0
    try:
        parsed: schema.PriceFile | None = schema.PriceFile.model_validate(document.data)
    except ValidationError as error:
        parsed = None
        details = _without_misspelt(error.errors(include_url=False, include_input=False))
        findings += [_finding_from_pydantic(document, detail) for detail in details[:MAX_FINDINGS]]
        omitted = len(details[MAX_FINDINGS:])
    sections = _salvage_sections(document.data) if parsed is None else _to_sections(parsed)
    for problem in validate(sections):
        findings.append(_locate(document, problem))
        if len(findings) > MAX_FINDINGS:
            break
    if findings or parsed is None:
        ordered = sorted(dict.fromkeys(findings), key=lambda f: (f.line, f.column))
        raise PriceFileError(ordered[:MAX_FINDINGS], more=omitted + len(ordered[MAX_FINDINGS:]))
    return parsed, document


def _without_misspelt(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out keys that are missing only because they are misspelt: the misspelt key is a finding of its own."""
    unknown: dict[tuple[int | str, ...], list[str]] = {}
    for detail in details:
        if detail["type"] == "extra_forbidden":
            unknown.setdefault(detail["loc"][:-1], []).append(str(detail["loc"][-1]))
    return [
        detail
        for detail in details
        if detail["type"] != "missing"
        or not get_close_matches(str(detail["loc"][-1]), unknown.get(detail["loc"][:-1], ()))
    ]


def _locate(document: ParsedYaml, problem: UnlocatedFinding) -> Finding:
    return document.finding(problem.path, problem.message, problem.hint, key=problem.at_key)


def _to_sections(file: schema.PriceFile) -> ParsedSections:
    values = {name: getattr(file, name) for name in ParsedSections._fields if name != "names"}
    return ParsedSections(list(file.models), **values)


def _salvage_sections(data: Any) -> ParsedSections:
    """Return the sections of a file with errors that can still be validated, so that one run reports all findings."""
    top = data if isinstance(data, dict) else _EMPTY
    models = top.get("models")
    # The models of a misspelt section are known by name, so that groups do not seem to name models that do not exist.
    named = models if isinstance(models, dict) else top.get(next(iter(get_close_matches("models", list(top), 1)), ""))
    aliases = top.get("aliases")
    return ParsedSections(
        names=[name for name in named if isinstance(name, str)] if isinstance(named, dict) else [],
        credit=_parse_or_none(schema.Credit, top.get("credit")),
        meters=dict(_parse_each(schema.CustomMeter, top.get("meters"))),
        calendars=dict(_parse_each(schema.Calendar, top.get("calendars"))),
        service_tiers=_names_by_key(top.get("service_tiers")),
        regions=_names_by_key(top.get("regions")),
        labels=_parse_or_none(schema.NameLabels, top.get("labels")) or schema.NameLabels(),
        exchange_rates={
            currency: [rate for rate in (_parse_or_none(schema.ExchangeRate, raw) for raw in _as_list(rates)) if rate]
            for currency, rates in (top.get("exchange_rates") or _EMPTY).items()
        }
        if isinstance(top.get("exchange_rates"), dict)
        else {},
        aliases={
            text: target
            for text, target in (aliases if isinstance(aliases, dict) else _EMPTY).items()
            if isinstance(target, str)
        },
        unaccounted={
            path: action
            for path, action in (top.get("unaccounted") or _EMPTY).items()
            if isinstance(path, str) and isinstance(action, str)
        }
        if isinstance(top.get("unaccounted"), dict)
        else {},
        cache_discount=[
            d for d in (_parse_or_none(schema.CacheDiscount, raw) for raw in _as_list(top.get("cache_discount"))) if d
        ],
        tools=_parse_or_none(schema.Tools, top.get("tools")) or schema.Tools(),
        channels=dict(_parse_each(schema.Channel, top.get("channels"))),
        plans=dict(_parse_each(schema.Plan, top.get("plans"))),
        models=dict(_parse_each(schema.Model, models)),
        groups=dict(_parse_each(schema.Group, top.get("groups"))),
    )


def _names_by_key(raw: Any) -> dict[str, list[str]]:
    return {
        key: [name for name in _as_list(names) if isinstance(name, str)]
        for key, names in (raw if isinstance(raw, dict) else _EMPTY).items()
    }


def _as_list(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _parse_each(kind: type[M], raw: Any) -> Iterator[tuple[str, M]]:
    for name, value in raw.items() if isinstance(raw, dict) else ():
        parsed = _parse_or_none(kind, value)
        if parsed is not None:
            yield name, parsed


def _parse_or_none(kind: type[M], raw: Any) -> M | None:
    try:
        return kind.model_validate(raw)
    except ValidationError:
        return None


def _finding_from_pydantic(document: ParsedYaml, detail: ErrorDetails) -> Finding:
    path = tuple(step for step in detail["loc"] if step != "[key]")
    kind = detail["type"]
    if "prices" in path[:-1] and isinstance(path[-1], str) and kind in ("finding", "model_type"):
        # Every key of a price set may be a meter, and every key of an entry a tier. A misspelt key is not one.
        known = _known_keys(path[:-1])
        if path[-1] not in known and get_close_matches(path[-1], known, 1):
            return _unknown_key(document, path)
    if kind in ("finding", "extra_forbidden") and isinstance(path[-1], str) and path[-1].isdecimal():
        hint = "if it follows a decimal comma, write a point instead of the comma"
        return document.finding(path, f"the key {safe_repr(path[-1])} is not known", hint, key=True)
    if kind == "model_type" and path[-3:-2] == ("prices",) and path[-1] in schema.KNOWN_METERS:
        return document.finding(
            path,
            "is a price outside of a service tier",
            f"put meters in a tier: standard: {{{path[-1]}: ...}}",
            key=True,
        )
    if kind == "finding":
        context = detail["ctx"]
        return document.finding(path, context["message"], context["hint"], key="[key]" in detail["loc"])
    if kind == "missing":
        name = safe_repr(path[-1])
        return document.finding(path[:-1], f"{name} is missing", f"add {name} here")
    if kind == "extra_forbidden":
        return _unknown_key(document, path)
    if kind == "literal_error":
        return document.finding(path, "is not one of the possible values", f"write {detail['ctx']['expected']}")
    message, hint = _TYPE_MESSAGES.get(kind, (detail["msg"], "see docs/pricing-yaml.md"))
    return document.finding(path, message, hint)


def _unknown_key(document: ParsedYaml, path: tuple[int | str, ...]) -> Finding:
    known = _known_keys(path[:-1])
    close = closest_name(str(path[-1]), tuple(known), 0.6)
    hint = f"did you mean {safe_repr(close)}?" if close else f"known here: {', '.join(known)}"
    return document.finding(path, f"the key {safe_repr(path[-1])} is not known", hint, key=True)


@cache
def _full_schema() -> dict[str, Any]:
    return schema.json_schema()


@lru_cache(1024)
def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the model at a path. The JSON schema is used because it resolves lists and maps."""
    full = _full_schema()
    node: dict[str, Any] = full
    for step in path:
        node = _resolve_ref(node, full)
        if isinstance(step, int):
            node = node.get("items", _EMPTY)
        else:
            named = node.get("properties", _EMPTY).get(step)
            by_pattern = next(iter(node.get("patternProperties", _EMPTY).values()), None)
            node = named or node.get("additionalProperties") or by_pattern or _EMPTY
        if not isinstance(node, dict):
            return []
    return sorted(_resolve_ref(node, full).get("properties", _EMPTY))


def _resolve_ref(node: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", ()):
        if "$ref" in option:
            node = option
    if "$ref" in node:
        found: dict[str, Any] = full["$defs"][node["$ref"].rsplit("/", 1)[1]]
        return found
    return node
