"""The few bytes of BSON that the MongoDB probe writes and reads, against PyMongo's own."""

from __future__ import annotations

import bson
import pytest
from bson import Int64, ObjectId, Timestamp

from coinstream.errors import FatalError
from coinstream.local_servers import probes


def test_written_command_is_the_document_it_means() -> None:
    command = {"createUser": "ü", "pwd": "p", "roles": [{"role": "root", "db": "admin"}], "n": 7, "$db": "admin"}

    assert bson.decode(probes._document(command)) == command


def test_answer_is_read_with_everything_else_skipped() -> None:
    answer = {
        "ok": 1.0, "yes": True, "small": 3, "large": Int64(2**40), "text": "é", "users": [{"a": [1]}], "none": [],
        "id": ObjectId(), "at": Timestamp(1, 2), "inner": {"x": {}}, "bytes": b"abc", "null": None, "end": 9,
    }  # fmt: skip

    assert probes._plain_fields(bson.encode(answer)) == {
        "ok": 1.0, "yes": True, "small": 3, "large": 2**40, "text": "é", "users": True, "none": False, "end": 9,
    }  # fmt: skip


def test_answer_with_an_unknown_type_is_a_clear_error() -> None:
    with pytest.raises(FatalError, match="field 'pattern' of type 0xb"):
        probes._plain_fields(bson.encode({"pattern": bson.regex.Regex("x")}))
