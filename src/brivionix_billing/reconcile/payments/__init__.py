"""Statements of payment processors against the ledger: payments, refunds, disputes, fees and payouts."""
