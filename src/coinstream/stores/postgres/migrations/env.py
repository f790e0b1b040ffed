"""What Alembic runs for each command; `coinstream.stores.postgres.migrate` hands the connection in."""

from __future__ import annotations

from alembic import context

config = context.config
connection = config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="pipeline",
    transaction_per_migration=True,
    on_version_apply=config.attributes["on_version_apply"],
)
with context.begin_transaction():
    context.run_migrations()
