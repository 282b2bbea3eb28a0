"""The operations of the ledger, grouped by what they change."""
