"""Builds a price file that is certain to load: models that the price book rejects are left out, with the finding."""

from __future__ import annotations

from brivionix_billing.errors import BillingError, PriceFileError
from brivionix_billing.importing.catalog import Catalog
from brivionix_billing.importing.invalid_models import drop_all, drop_invalid, reasons_by_model
from brivionix_billing.importing.writer import write_price_file
from brivionix_billing.pricebook import PriceBook

__all__ = ["build_price_file"]


def build_price_file(catalog: Catalog, start: str | None = None, origin: str = "") -> str:
    """Return the text of a price file with all models that load; the others are moved to the catalog's rejections.

    Raises ``invalid_price_file`` if a finding does not point at a model, and ``invalid_argument`` without any model, or
    if the file would be larger than a price file may be.
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
                    f"{catalog.source}: the price file would be too large: {limit.message}; choose fewer models by "
                    "--model",
                ) from None
            if not drop_all(catalog, reasons_by_model(error, written)):
                raise
            if error.omitted_count:
                drop_invalid(catalog, start)
            continue
        return written.text
