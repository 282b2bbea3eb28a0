"""Builds a price file that is certain to load: models that the price book rejects are left out, with the finding."""

from __future__ import annotations

from brivionix_billing.errors import BillingError, PriceFileError
from brivionix_billing.importing.catalog import Catalog
from brivionix_billing.importing.writer import WrittenFile, write_price_file
from brivionix_billing.pricebook import PriceBook

__all__ = ["build_price_file"]


def build_price_file(catalog: Catalog, start: str | None = None, origin: str = "") -> str:
    """Return the text of a price file with all models that load; the others are moved to the catalog's rejections.

    Raises ``invalid_price_file`` if a finding does not point at a model, and ``invalid_argument`` without any model.
    """
    while True:
        if not catalog.models:
            raise BillingError(
                "invalid_argument",
                f"{catalog.source}: no model is left to import; see --report for the reasons, or change --model",
            )
        written = write_price_file(catalog, start, origin)
        try:
            PriceBook.loads(written.text)
        except PriceFileError as error:
            limit = next((finding for finding in error.findings if not finding.path), None)
            if limit is not None:  # the whole file is too large, whatever model the position is in
                raise BillingError(
                    "invalid_argument",
                    f"{catalog.source}: the price file would have {limit.message}; choose fewer models by --model",
                ) from None
            reasons = _reasons(error, written)
            if not reasons:
                raise
            for name, reason in reasons.items():
                catalog.drop(name, reason)
            continue
        return written.text


def _reasons(error: PriceFileError, written: WrittenFile) -> dict[str, str]:
    """Return the first finding about each model."""
    reasons: dict[str, str] = {}
    for finding in error.findings:
        model = written.model_at(finding.line)
        if model is not None:
            reasons.setdefault(model, f"{finding.path}: {finding.message}; {finding.hint}")
    return reasons
