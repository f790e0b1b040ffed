"""Alembic's environment and revisions; `coinstream.stores.postgres.migrate` runs them."""

HEAD = "0001"
"""The newest revision: what `coinstream.stores.postgres.connection` demands of a database."""
