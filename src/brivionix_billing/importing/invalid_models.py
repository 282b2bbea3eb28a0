"""Finds the models that no price file can have, and moves them to the rejections of a catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from brivionix_billing.errors import PriceFileError
from brivionix_billing.importing.catalog import Catalog
from brivionix_billing.importing.writer import WrittenFile, write_price_file
from brivionix_billing.pricebook import PriceBook

__all__ = ["drop_all", "drop_invalid", "reasons_by_model"]


def drop_invalid(catalog: Catalog, start: str | None = None) -> None:
    """Move the models that no price file can have to the catalog's rejections, by loading a few models at a time.

    A file reports a limited number of findings, so a file with thousands of invalid models would have to be loaded
    again and again.
    """
    names = list(catalog.models)
    for first in range(0, len(names), _BATCH):
        batch = replace(catalog, models={n: catalog.models[n] for n in names[first : first + _BATCH]}, groups={})
        while batch.models:
            written = write_price_file(batch, start)
            try:
                PriceBook.loads(written.text)
            except PriceFileError as error:
                reasons = reasons_by_model(error, written)
                if drop_all(catalog, reasons):
                    for name in reasons:
                        del batch.models[name]
                    continue
            break


_BATCH: Final = 200
"""Models that are loaded at a time."""


def drop_all(catalog: Catalog, reasons: Mapping[str, str]) -> bool:
    """Move models to the rejections. Returns whether there are any."""
    for name, reason in reasons.items():
        catalog.drop(name, reason)
    return bool(reasons)


def reasons_by_model(error: PriceFileError, written: WrittenFile) -> dict[str, str]:
    """Return the first finding about each model."""
    reasons: dict[str, str] = {}
    for finding in error.findings:
        model = written.model_at(finding.line)
        if model is not None:
            reasons.setdefault(model, f"{finding.path}: {finding.message}; {finding.hint}")
    return reasons
