"""The base classes of the schema of the price file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from brivionix_billing.pricebook.schema_values import Instant

__all__ = ["DatedEntry", "StrictModel"]


class StrictModel(BaseModel):
    """A model that forbids unknown keys, conversions and changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatedEntry(StrictModel):
    """Effective from ``from`` until the next entry starts, or until its own ``until``. Append entries, never edit."""

    since: Instant = Field(alias="from")
    until: Instant | None = None
