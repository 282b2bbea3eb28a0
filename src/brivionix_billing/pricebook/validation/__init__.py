"""Validates what the schema cannot express: dates in order, names that exist, prices that the unit can represent."""

from __future__ import annotations

from collections.abc import Iterator

from brivionix_billing.pricebook.validation.channels import check_channel
from brivionix_billing.pricebook.validation.exactness import check_exactness
from brivionix_billing.pricebook.validation.findings import ParsedSections, UnlocatedFinding
from brivionix_billing.pricebook.validation.groups import check_group
from brivionix_billing.pricebook.validation.labels import check_labels
from brivionix_billing.pricebook.validation.models import check_defaults, check_model
from brivionix_billing.pricebook.validation.names import check_declarations, check_names
from brivionix_billing.pricebook.validation.plans import check_plan
from brivionix_billing.pricebook.validation.review import review

__all__ = ["ParsedSections", "UnlocatedFinding", "review", "validate"]


def validate(file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Yield all findings, in no particular order."""
    yield from check_declarations(file)
    yield from check_labels(file)
    yield from check_defaults(file)
    for name, channel in file.channels.items():
        yield from check_channel(("channels", name), channel)
    yield from check_names(file)
    for name, model in file.models.items():
        yield from check_model(("models", name), model, file)
    for name, group in file.groups.items():
        yield from check_group(("groups", name), group, file)
    for name, plan in file.plans.items():
        yield from check_plan(("plans", name), plan, file)
    if file.credit is not None:
        yield from check_exactness(file, file.credit)
