"""The schema of the plans of a price file. No price of usage depends on them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from brivionix_billing.errors import safe_repr
from brivionix_billing.pricebook.lot_order import MAX_PRIORITY
from brivionix_billing.pricebook.plans import DEFAULT_PLAN_PRIORITY, PlanPeriod
from brivionix_billing.pricebook.schema_base import DatedEntry, StrictModel
from brivionix_billing.pricebook.schema_values import Amount, LocalizedText, Name, TimeZone, finding_error

__all__ = ["Plan", "PlanTerms"]


def _priority(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_PRIORITY:
        raise finding_error(
            f"{safe_repr(value)} is not a priority", f"write a whole number from 0 (used first) to {MAX_PRIORITY}"
        )
    return value


def _tag(value: Any) -> str:
    name, _, text = value.partition("=") if isinstance(value, str) else ("", "", "")
    if not name or not text or not value.isprintable() or len(value) > 256:
        raise finding_error(f"{safe_repr(value)} is not a tag", "write it as name=value")
    return str(value)


Priority = Annotated[
    int, BeforeValidator(_priority), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY})
]
Tag = Annotated[str, BeforeValidator(_tag), WithJsonSchema({"type": "string", "pattern": "^[^=]+=.+$"})]


class PlanTerms(DatedEntry):
    """The terms of a plan from a time on, for new subscriptions. Existing ones keep theirs."""

    credits: Amount = Field(description="Allowance of a period.")
    period: PlanPeriod
    time_zone: TimeZone = "UTC"
    prices: dict[Name, Amount] = Field(
        default={}, description="Channel -> price of a period, without tax. The plan is free without any."
    )
    models: list[Name] = Field(default=[], description="Models, or patterns, that may use it; all if not given.")
    groups: list[Name] = Field(default=[], description="Groups, or patterns, that may use it; all if not given.")
    tags: list[Tag] = Field(default=[], description="Tags of requests that may use it; all if not given.")
    priority: Priority = DEFAULT_PLAN_PRIORITY
    rollover: bool = Field(default=False, description="true: unused Credits stay after the end of their period.")
    overflow: bool = Field(default=True, description="false: requests may use no other Credits of the account.")


class Plan(StrictModel):
    """A recurring allowance of Credits."""

    display_name: LocalizedText | None = None
    description: LocalizedText | None = None
    terms: list[PlanTerms] = Field(min_length=1)
