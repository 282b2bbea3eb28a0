"""Statements of payment processors against the ledger: payments, refunds, disputes, fees and payouts."""

from brivionix_billing.reconcile.payments.run import PaymentOptions, read_statement, reconcile_payments

__all__ = ["PaymentOptions", "read_statement", "reconcile_payments"]
