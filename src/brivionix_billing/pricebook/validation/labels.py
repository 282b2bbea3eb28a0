"""Checks the section ``labels``: each label is of a service tier, region or mode that the file has."""

from __future__ import annotations

from collections.abc import Iterator

from brivionix_billing.errors import safe_repr
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.validation.findings import ParsedSections, UnlocatedFinding, suggest
from brivionix_billing.rating import SERVICE_TIERS

__all__ = ["check_labels"]


def check_labels(file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Check that each label names something of the file."""
    regions: set[str] = {name for name in file.regions if name != "default"}
    modes: set[str] = set()
    for model in file.models.values():
        for entry in model.prices:
            for item in entry.tiers.values():
                _add_names(item, regions, modes)
    known = {
        "service_tier": (file.labels.service_tiers, {*SERVICE_TIERS, *file.service_tiers}),
        "region": (file.labels.regions, regions),
        "mode": (file.labels.modes, modes),
    }
    if len(file.models) < len(file.names):  # the names of models with findings are not known
        del known["region"], known["mode"]
    for kind, (labels, names) in known.items():
        for name in labels:
            if name not in names:
                yield UnlocatedFinding(
                    ("labels", f"{kind}s", name),
                    f"no {kind.replace('_', ' ')} {safe_repr(name)} in this file",
                    suggest(name, sorted(names), "remove the label, or correct its name"),
                    at_key=True,
                )


def _add_names(item: schema.PriceSet, regions: set[str], modes: set[str]) -> None:
    regions.update(item.regions)
    modes.update(item.modes)
    for variants in (item.regions, item.modes, item.windows):
        for variant in variants.values():
            _add_names(variant, regions, modes)
