"""Run by Alembic: applies migrations on the connection that :mod:`brivionix_billing.ledger.migrate` hands over."""

from alembic import context

from brivionix_billing.ledger.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
