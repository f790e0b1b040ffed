"""JSON Schemas of every message, for readers in other languages."""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec

from coinstream.messages.topics import TOPICS


def json_schemas() -> dict[str, str]:
    """Return each message's JSON Schema (2020-12) as indented text, by file name ``trade-1.json``."""
    return {_file_name(kind): _schema(kind, topic.name) for topic in TOPICS for kind in topic.carries}


def _file_name(kind: Any) -> str:
    return str(kind.SCHEMA).replace("/", "-") + ".json"


def _schema(kind: Any, topic: str) -> str:
    schema = msgspec.json.schema(kind)
    for definition in schema["$defs"].values():
        # From 3.13 on the compiler itself takes a docstring's indentation away; the schema must not tell which it was.
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"schema header {kind.SCHEMA}, topic {topic}; times are microseconds since 1970, UTC",
    }
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"
