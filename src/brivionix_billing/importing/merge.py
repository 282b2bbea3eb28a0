"""Merges a catalog into an existing price file: appends dated entries and models, and changes nothing else.

The file is edited as text. New lines are inserted, and every old line stays as it is, with its comments and layout.
The result is read back and must be exactly the old content with the additions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from brivionix_billing.errors import BillingError, PriceFileError
from brivionix_billing.importing.catalog import Catalog, DatedPrices, ImportedModel
from brivionix_billing.importing.comparison import FileDefaults, changed_tiers
from brivionix_billing.importing.text_edits import TextEdits
from brivionix_billing.importing.writer import entries_from, model_section, used_sections
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.loading import loads
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


def merge_catalog(catalog: Catalog, content: bytes, file: str, start: str) -> MergedFile:
    """Return the price file with the models of the catalog. New prices start at ``start``, or later as the source says.

    Models that cannot be merged are moved to the catalog's rejections. Raises ``invalid_price_file`` if the old file is
    invalid, and ``invalid_argument`` if its layout does not allow insertions.
    """
    loads(content, file)
    data = read_yaml(content, file)[0].data
    while True:
        plan = _plan(catalog, data, start)
        text = _edit(content, plan)
        try:
            PriceBook.loads(text)
        except PriceFileError as error:
            culprits = _culprits(error, [*plan.entries, *plan.models])
            if not culprits:
                raise
            for name, reason in culprits.items():
                catalog.drop(name, reason)
            continue
        if read_yaml(text.encode(), file)[0].data != _expected(data, plan):
            raise BillingError(
                "invalid_argument",
                f"{file}: entries cannot be appended to this layout; write each model and its prices on lines of their "
                "own, without anchors",
            )
        return MergedFile(text, list(plan.models), list(plan.entries), plan.unchanged)


def _plan(catalog: Catalog, data: Mapping[str, Any], start: str) -> _Plan:
    models: dict[str, Any] = data["models"]
    aliases = {alias: name for name, model in models.items() for alias in model.get("aliases", ())}
    entries: dict[str, list[DatedPrices]] = {}
    added: dict[str, dict[str, Any]] = {}
    unchanged: list[str] = []
    for name, model in list(catalog.models.items()):
        conflict = _conflict(catalog, model, data)
        if conflict:
            catalog.drop(name, conflict)
        elif name in models:
            appended = _new_entries(catalog, model, data, start)
            if appended:
                entries[name] = appended
            elif appended is not None:
                unchanged.append(name)
        elif name in aliases:
            catalog.drop(name, f"is an alias of {aliases[name]} in the price file")
        else:
            kept = [alias for alias in model.aliases if alias not in models and alias not in aliases]
            if len(kept) < len(model.aliases):
                catalog.note("alias_taken", "some of its names are taken in the price file", name)
            aliases |= dict.fromkeys(kept, name)
            section = model_section(model, start)
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
            if section in ("meters", "calendars") and name in stated and not _same_declaration(stated[name], value):
                return f"the price file has {name} in {section} with another meaning"
            if section == "regions" and name not in stated and any(name in names for names in stated.values()):
                return f"the price file has {name} as a name of another region"
    return None


def _same_declaration(stated: object, value: Mapping[str, Any]) -> bool:
    return isinstance(stated, dict) and all(stated.get(key) == item for key, item in value.items())


def _new_entries(
    catalog: Catalog, model: ImportedModel, data: Mapping[str, Any], start: str
) -> list[DatedPrices] | None:
    """Return the entries to append to an existing model, or ``None`` if it was rejected."""
    stated = list(data["models"][model.name]["prices"])
    appended: list[DatedPrices] = []
    for entry in entries_from(model, start):
        since = entry.start or start
        defaults = FileDefaults(data, model.name, parse_instant(since))
        tiers = changed_tiers(stated, entry.tiers, parse_instant(since), defaults)
        if not tiers:
            continue
        last = stated[-1]["from"]
        if parse_instant(last) >= parse_instant(since):
            catalog.drop(model.name, f"has an entry from {last} in the price file; use a later --from")
            return None
        appended.append(DatedPrices(since, tiers))
        stated.append({"from": since, **tiers})
    return appended


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


def _points_at(path: str, model: str) -> bool:
    """Return whether a finding is about a model, or about a group's own terms for it."""
    rest = path.removeprefix("models.")
    if rest == path:
        rest = path.partition(".overrides.")[2]
    return rest == model or rest.startswith((f"{model}.", f"{model}["))


def _culprits(error: PriceFileError, names: list[str]) -> dict[str, str]:
    """Return the models that findings point at, with the first finding of each."""
    found: dict[str, str] = {}
    for finding in error.findings:
        inside = [name for name in names if _points_at(finding.path, name)]
        if inside:
            found.setdefault(max(inside, key=len), f"{finding.path}: {finding.message}; {finding.hint}")
    return found
