"""Reports of providers against our usage at the prices of a cost book, by day, model, tier, project and token kind."""

from brivionix_billing.reconcile.provider.run import ProviderOptions, read_report, reconcile_provider
from brivionix_billing.reconcile.result import input_of

__all__ = ["ProviderOptions", "input_of", "read_report", "reconcile_provider"]
