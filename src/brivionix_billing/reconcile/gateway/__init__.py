"""Compares the log of a gateway with the price file: new-api and litellm.

``reading`` yields the rows of a log, and ``comparing`` compares them: those with ``known_prices`` at once, all others
by the full check of their gateway. ``merging`` joins the parts of a log, and finds repeated rows. ``offers`` says what
the price file asks for a row. Of each gateway, ``*_log`` or ``litellm`` runs the whole, ``*_row`` and ``*_reading`` say
what a row states, ``*_known`` prices the usual rows, and ``price_causes``, ``quota_causes`` and ``litellm_causes`` find
the cause of a difference by recomputing.
"""

from brivionix_billing.reconcile.gateway.litellm import reconcile_litellm
from brivionix_billing.reconcile.gateway.new_api_log import reconcile_new_api
from brivionix_billing.reconcile.gateway.reading import LogSource, database_source, file_source

__all__ = ["LogSource", "database_source", "file_source", "reconcile_litellm", "reconcile_new_api"]
