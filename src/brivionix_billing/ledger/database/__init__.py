"""Everything that knows SQL: engine, transactions, tables, store and migrations."""
