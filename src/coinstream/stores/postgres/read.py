"""What operations ask of PostgreSQL."""

from __future__ import annotations
