"""A pipeline of its own for each test, on the session's servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import Pipeline


@pytest.fixture
def pipeline(tmp_path: Path, kafka_bootstrap: str, postgres_admin_dsn: str, mongodb_uri: str) -> Iterator[Pipeline]:
    """Topics, schemas and roles are there; nothing runs."""
    made = Pipeline(tmp_path / "data", kafka_bootstrap, postgres_admin_dsn, mongodb_uri)
    try:
        made.prepare()
        yield made
    finally:
        made.close()
