"""Compares the log of a gateway with the price file: new-api and litellm.

``reading`` yields the rows of a log, ``new_api_call`` and ``expression`` say what a row of new-api was charged for,
``offers`` says what the price file asks for it, ``alternatives`` finds the cause of a difference by recomputing, and
``new_api`` and ``litellm`` run the whole.
"""

from brivionix_billing.reconcile.gateway.litellm import reconcile_litellm
from brivionix_billing.reconcile.gateway.new_api_log import reconcile_new_api
from brivionix_billing.reconcile.gateway.reading import LogSource, database_source, file_source

__all__ = ["LogSource", "database_source", "file_source", "reconcile_litellm", "reconcile_new_api"]
