"""Environment of Alembic: runs the migrations on the connection of ``brivionix_billing.ledger.database.migrate``."""

from alembic import context

from brivionix_billing.ledger.database.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
