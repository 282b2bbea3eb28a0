"""What each operation of the ledger posts."""
