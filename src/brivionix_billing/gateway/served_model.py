"""Compares the model that served a request with the requested one."""

from __future__ import annotations

import logging
from typing import Final

from brivionix_billing.errors import BillingError
from brivionix_billing.gateway.admission import AdmittedRequest
from brivionix_billing.gateway.safe_log import loggable
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.usage import Usage

__all__ = ["other_model"]

_LOG: Final = logging.getLogger("brivionix_billing.gateway")


def other_model(book: PriceBook, admitted: AdmittedRequest, usage: Usage) -> str | None:
    """Return the model that served a request in the place of the requested one, or ``None``.

    A router serves any of its models. A name that the price file does not have may be the provider's own name of the
    requested model, so it is logged only.
    """
    served, requested = usage.model, admitted.counter.model
    charge = admitted.worst_case.charge
    if served is None or served == requested or (charge is not None and charge.card.router is not None):
        return None
    try:
        model = book.resolve_model(served)
    except BillingError:
        _LOG.info("%s: %s was served as %s", admitted.id, requested, loggable(served))
        return None
    if model == requested:
        return None
    _LOG.warning("%s: %s was requested, and %s was served", admitted.id, requested, model)
    return model
