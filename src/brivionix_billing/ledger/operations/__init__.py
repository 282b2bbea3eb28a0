"""The operations of a ledger by what they are about; :class:`brivionix_billing.ledger.Ledger` has all of them."""
