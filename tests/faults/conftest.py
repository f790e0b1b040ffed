"""A pipeline of its own for each test, on the session's servers."""

from __future__ import annotations

from pipeline import pipeline

__all__ = ["pipeline"]
