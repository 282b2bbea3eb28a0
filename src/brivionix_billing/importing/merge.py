"""Merges a catalog into an existing price file: appends dated entries and models, and changes nothing else.

The file is edited as text. New lines are inserted, and every old line stays as it is, with its comments and layout.
The result is read back and must be exactly the old content with the additions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from brivionix_billing.errors import BillingError, PriceFileError, safe_repr
from brivionix_billing.importing.calendar_matching import compiled_calendars, match_calendars
from brivionix_billing.importing.catalog import SOURCE_CURRENCY, Catalog, DatedPrices, ImportedModel, PriceSet
from brivionix_billing.importing.comparison import FileDefaults, changed_tiers, lost_contexts, set_in_force
from brivionix_billing.importing.invalid_models import drop_invalid
from brivionix_billing.importing.text_edits import TextEdits
from brivionix_billing.importing.writer import entries_from, model_section, used_sections
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.calendars import Calendar
from brivionix_billing.pricebook.loading import loads
from brivionix_billing.pricebook.name_changes import changed_names
from brivionix_billing.pricebook.yaml_reader import read_yaml
from brivionix_billing.times import parse_instant

__all__ = ["MergedFile", "merge_catalog"]


class MergedFile(NamedTuple):
    """The new text of a price file, and the models by what was done."""

    text: str
    added: list[str]
    changed: list[str]
    unchanged: list[str]


class _Plan(NamedTuple):
    """The additions to a price file."""

    entries: dict[str, list[DatedPrices]]
    """Existing model -> entries to append."""
    models: dict[str, dict[str, Any]]
    unchanged: list[str]
    sections: dict[str, dict[str, Any]]


def merge_catalog(
    catalog: Catalog, content: bytes, file: str, start: str, requested: Collection[str] = ()
) -> MergedFile:
    """Return the price file with the models of the catalog. New prices start at ``start``, or later as the source says.

    Models that cannot be merged are moved to the catalog's rejections, and so are those that would take a name from a
    model of the file. Raises ``invalid_price_file`` if the old file is invalid, and ``invalid_argument`` if its layout
    does not allow insertions, or if a ``requested`` model would take a name.
    """
    before = PriceBook(loads(content, file))
    data = read_yaml(content, file)[0].data
    match_calendars(catalog, before.calendars(), parse_instant(start))
    while True:
        plan = _plan(catalog, data, start, before)
        text = _edit(content, plan)
        try:
            after = PriceBook.loads(text)
            culprits = _name_takers(before, after, catalog, plan.models)
        except PriceFileError as error:
            culprits = _culprits(error, plan.entries.keys() | plan.models.keys())
            if not culprits:
                raise
            if error.omitted_count:
                for name, reason in culprits.items():
                    catalog.drop(name, reason)
                drop_invalid(catalog, start)
                continue
        for name, reason in culprits.items():
            if reason:
                catalog.drop(name, reason)
        if culprits:
            continue
        _require_free(catalog, requested, before, file)
        if read_yaml(text.encode(), file)[0].data != _expected(data, plan):
            raise BillingError(
                "invalid_argument",
                f"{file}: entries cannot be appended to this layout; write each model and its prices on lines of their "
                "own, without anchors",
            )
        return MergedFile(text, list(plan.models), list(plan.entries), plan.unchanged)


def _require_free(catalog: Catalog, requested: Collection[str], before: PriceBook, file: str) -> None:
    """Raise ``invalid_argument`` if a model that was asked for by its exact name means another model already."""
    for rejection in catalog.rejections:
        meaning = before.resolver.names.resolve(rejection.model)
        if rejection.model in requested and not rejection.field and meaning not in (None, rejection.model):
            raise BillingError(
                "invalid_argument",
                f"{safe_repr(rejection.model)} means {safe_repr(meaning)} in {file}; as a model of its own, bills of "
                f"the past would change; add new prices to {safe_repr(meaning)}, or import without --model "
                f"{rejection.model}",
            )


def _name_takers(before: PriceBook, after: PriceBook, catalog: Catalog, added: Collection[str]) -> dict[str, str]:
    """Return the new models that take a snapshot or a pattern from a model of the file, with the reason.

    An alias of the new model that does so is left out first.
    """
    found: dict[str, str] = {}
    for name, old, taker in changed_names(before.resolver.names, after.resolver.names):
        if old is None or taker is None or taker not in added:
            continue
        reason = f"would take the name {name} from {old}"
        aliases = catalog.models[taker].aliases
        if name in aliases:
            aliases.remove(name)
            catalog.note("alias_taken", reason, taker)
            found.setdefault(taker, "")
        else:
            found[taker] = reason
    return found


def _plan(catalog: Catalog, data: Mapping[str, Any], start: str, before: PriceBook) -> _Plan:
    models: dict[str, Any] = data["models"]
    aliases: dict[str, str] = {}
    calendars = {**compiled_calendars(catalog), **before.calendars()}
    entries: dict[str, list[DatedPrices]] = {}
    added: dict[str, dict[str, Any]] = {}
    unchanged: list[str] = []
    for name, model in list(catalog.models.items()):
        conflict = _conflict(catalog, model, data) or _currency_conflict(model, data)
        meaning = before.resolver.names.resolve(name)
        if conflict:
            catalog.drop(name, conflict)
        elif name in models:
            appended = _new_entries(catalog, model, data, start, calendars)
            if appended:
                entries[name] = appended
            elif appended is not None:
                unchanged.append(name)
        elif meaning is not None:
            catalog.drop(name, f"means {meaning} in the price file; a model of this name would change past bills")
        elif name in aliases:
            catalog.drop(name, f"is an alias of {aliases[name]}")
        else:
            kept = [a for a in model.aliases if before.resolver.names.resolve(a) is None and a not in aliases]
            for alias in model.aliases:
                if alias not in kept:
                    catalog.note("alias_taken", f"{alias} has a meaning in the price file", name)
            model.aliases = kept
            aliases |= dict.fromkeys(kept, name)
            if data["credit"]["currency"] != SOURCE_CURRENCY:
                model.currency = model.currency or SOURCE_CURRENCY
            section = model_section(
                model,
                start,
                has_discount=bool(data.get("cache_discount")),
                unpriced_tokens=data.get("unpriced_tokens") or "refuse",
            )
            section.pop("aliases", None)
            prices = section.pop("prices")
            added[name] = {**section, **({"aliases": kept} if kept else {}), "prices": prices}
    if catalog.groups:
        catalog.note("groups_ignored", "groups are not merged into an existing price file")
    touched = [ImportedModel(name, parts) for name, parts in entries.items()]
    touched += [catalog.models[name] for name in added]
    used = used_sections(catalog, touched)
    sections = {
        key: {name: value for name, value in found.items() if not _declares(data, key, name)}
        for key, found in used.items()
    }
    return _Plan(entries, added, unchanged, {key: value for key, value in sections.items() if value})


def _declares(data: Mapping[str, Any], section: str, name: str) -> bool:
    stated = data.get(section) or {}
    more = [other for names in stated.values() if isinstance(names, list) for other in names]
    return name in stated or (section == "service_tiers" and name in more)


def _conflict(catalog: Catalog, model: ImportedModel, data: Mapping[str, Any]) -> str | None:
    """Return why the declarations that a model needs contradict those of the price file, or ``None``."""
    for section, found in used_sections(catalog, [model]).items():
        stated = data.get(section) or {}
        for name, value in found.items():
            if section == "meters" and name in stated and not _same_declaration(stated[name], value):
                return f"the price file has {name} in {section} with another meaning"
            if section == "regions" and name not in stated and any(name in names for names in stated.values()):
                return f"the price file has {name} as a name of another region"
    return None


def _currency_conflict(model: ImportedModel, data: Mapping[str, Any]) -> str | None:
    """Return that a model of the file has its prices in another currency, or ``None``."""
    if model.name not in data["models"]:
        return None
    ours = data["models"][model.name].get("currency") or data["credit"]["currency"]
    theirs = model.currency or SOURCE_CURRENCY
    return None if ours == theirs else f"its prices are in {ours} in the price file, and in {theirs} in the source"


def _same_declaration(stated: object, value: Mapping[str, Any]) -> bool:
    return isinstance(stated, dict) and all(stated.get(key) == item for key, item in value.items())


def _new_entries(
    catalog: Catalog, model: ImportedModel, data: Mapping[str, Any], start: str, calendars: Mapping[str, Calendar]
) -> list[DatedPrices] | None:
    """Return the entries to append to an existing model, or ``None`` if it was rejected."""
    stated = list(data["models"][model.name]["prices"])
    appended: list[DatedPrices] = []
    for entry in entries_from(model, start):
        since = entry.start or start
        at = parse_instant(since)
        minutes = {name: calendar.week_minutes(at) for name, calendar in calendars.items()}
        tiers = changed_tiers(stated, entry.tiers, at, FileDefaults(data, model.name, at), minutes)
        if not tiers:
            continue
        lost = lost_contexts(stated, tiers, at)
        if lost:
            catalog.drop(model.name, f"the source has no prices of long context in {', '.join(lost)}; add them by hand")
            return None
        _note_replaced_windows(catalog, model.name, stated, tiers, at)
        last = stated[-1]["from"]
        if parse_instant(last) >= at:
            catalog.drop(model.name, f"has an entry from {last} in the price file; use a later --from")
            return None
        appended.append(DatedPrices(since, tiers))
        stated.append({"from": since, **tiers})
    return appended


def _note_replaced_windows(
    catalog: Catalog, model: str, stated: list[Any], tiers: Mapping[str, PriceSet], at: datetime
) -> None:
    for tier, prices in tiers.items():
        kept, current = prices.get("windows") or {}, set_in_force(stated, tier, at) or {}
        gone = [name for name in current.get("windows") or () if name not in kept]
        if gone:
            message = f"the source states the windows of {tier}, so the new entry does not have {', '.join(gone)}"
            catalog.note("windows_replaced", message, model)


def _expected(data: Mapping[str, Any], plan: _Plan) -> dict[str, Any]:
    out: dict[str, Any] = _copy(data)
    for name, appended in plan.entries.items():
        out["models"][name]["prices"] += [{"from": entry.start, **entry.tiers} for entry in appended]
    out["models"] |= plan.models
    for section, content in plan.sections.items():
        out[section] = {**(out.get(section) or {}), **content}
    return out


def _copy(node: Any) -> Any:
    """Return a copy in which nothing is shared: an anchor must not hide that an entry went to two models."""
    if isinstance(node, Mapping):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _edit(content: bytes, plan: _Plan) -> str:
    edits = TextEdits(content)
    for name, appended in plan.entries.items():
        edits.append_items(("models", name, "prices"), [{"from": e.start, **e.tiers} for e in appended])
    if plan.models:
        edits.append_entries("models", plan.models)
    for section, found in plan.sections.items():
        edits.append_entries(section, found)
    return edits.apply()


def _named_in(text: str, separators: str, names: Collection[str]) -> str | None:
    """Return the longest name that a text begins with, if the text ends or one of the separators follows."""
    ends = [index for index, character in enumerate(text) if character in separators]
    return next((text[:end] for end in (len(text), *reversed(ends)) if text[:end] in names), None)


def _culprits(error: PriceFileError, names: Collection[str]) -> dict[str, str]:
    """Return the models that findings point at, or group's own terms for them, with the first finding of each."""
    found: dict[str, str] = {}
    for finding in error.findings:
        rest = finding.path.removeprefix("models.")
        if rest == finding.path:
            rest = finding.path.partition(".overrides.")[2]
        inside = [_named_in(rest, ".[", names)]
        if ".overrides." in finding.path:  # by a pattern: the message begins with the model
            inside.append(_named_in(finding.message, ":", names))
        model = max((name for name in inside if name), key=len, default=None)
        if model is not None:
            found.setdefault(model, f"{finding.path}: {finding.message}; {finding.hint}")
    return found
