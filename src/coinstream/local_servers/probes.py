"""Asking a server, in its own protocol, whether it is ready: no driver, only the few bytes needed."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from coinstream.errors import FatalError

_TIMEOUT_S = 2.0


def _exchange(port: int, request: bytes, length_at: str, *, includes_itself: bool, timeout_s: float) -> bytes:
    """Send one request and return the answer after its length field."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            head = answer.read(4)
            if len(head) < 4:
                raise ConnectionError("the server closed the connection")
            (length,) = struct.unpack(length_at, head)
            rest = length - 4 if includes_itself else length
            body = answer.read(rest)
    if len(body) < rest:
        raise ConnectionError("the server closed the connection")
    return body


def kafka_answers(port: int) -> bool:
    """Send ApiVersions, version 0, and say whether the broker answers without error.

    Source:
        https://kafka.apache.org/protocol#The_Messages_ApiVersions
    """
    client = b"coinstream"
    # api_key 18, api_version 0, correlation_id 1, client_id
    request = struct.pack(">hhih", 18, 0, 1, len(client)) + client
    try:
        body = _exchange(
            port, struct.pack(">i", len(request)) + request, ">i", includes_itself=False, timeout_s=_TIMEOUT_S
        )
        correlation, error = struct.unpack_from(">ih", body)
    except (OSError, struct.error):
        return False
    return (correlation, error) == (1, 0)


def mongodb_answers(port: int) -> bool:
    """Send ``hello`` and say whether the server answers that it takes writes."""
    try:
        answer = mongodb_command(port, {"hello": 1, "$db": "admin"}, timeout_s=_TIMEOUT_S)
    except (OSError, struct.error, FatalError):
        return False
    return bool(answer.get("ok")) and answer.get("isWritablePrimary") is True


def mongodb_command(port: int, command: Mapping[str, Any], *, timeout_s: float = 30.0) -> dict[str, Any]:
    """Run one command without authentication and return the answer's plain fields.

    Args:
        port: Of 127.0.0.1.
        command: Keys to text, integers, objects and arrays; the command's name first, ``$db`` last.
        timeout_s: For each read.

    Returns:
        Numbers, booleans and text; of an array only whether it holds anything.

    Raises:
        OSError: No connection.
        FatalError: The server refused; the text is its own.

    Source:
        https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/#op_msg
    """
    body = struct.pack("<I", 0) + b"\0" + _document(command)
    request = struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body
    answer = _exchange(port, request, "<i", includes_itself=True, timeout_s=timeout_s)
    # After the length: request id, response to, opcode, flags, section kind; then the document.
    fields = _plain_fields(answer[17:])
    if not fields.get("ok"):
        raise FatalError(f"MongoDB refused {next(iter(command))}: {fields.get('errmsg', fields)}")
    return fields


def _document(fields: Mapping[str, Any]) -> bytes:
    content = b"".join(_element(name, value) for name, value in fields.items())
    return struct.pack("<i", len(content) + 5) + content + b"\0"


def _element(name: str, value: object) -> bytes:
    key = name.encode() + b"\0"
    if isinstance(value, str):
        text = value.encode() + b"\0"
        return b"\x02" + key + struct.pack("<i", len(text)) + text
    if isinstance(value, int):
        return b"\x10" + key + struct.pack("<i", value)
    if isinstance(value, Mapping):
        return b"\x03" + key + _document(value)
    if isinstance(value, Sequence):
        return b"\x04" + key + _document({str(place): item for place, item in enumerate(value)})
    raise TypeError(f"no BSON for {type(value).__name__}")


# BSON's fixed-width types and their widths; documents and arrays carry their own length.
_WIDTHS = {0x01: 8, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}


def _plain_fields(document: bytes) -> dict[str, Any]:
    """Read the top level of a BSON document: numbers, booleans, text, and whether an array holds anything."""
    fields: dict[str, Any] = {}
    at = 4
    while document[at] != 0:
        kind = document[at]
        end = document.index(b"\0", at + 1)
        name, at = document[at + 1 : end].decode(), end + 1
        if kind in _WIDTHS:
            width = _WIDTHS[kind]
        elif kind == 0x02:
            width = 4 + struct.unpack_from("<i", document, at)[0]
        elif kind in (0x03, 0x04):
            width = struct.unpack_from("<i", document, at)[0]
        elif kind == 0x05:
            width = 5 + struct.unpack_from("<i", document, at)[0]
        else:
            raise FatalError(f"MongoDB answered with a field {name!r} of type {kind:#x}, which the probe cannot read")
        raw = document[at : at + width]
        if kind == 0x02:
            fields[name] = raw[4:-1].decode()
        elif kind == 0x04:
            fields[name] = width > 5  # an empty one is its length and its end
        elif kind == 0x08:
            fields[name] = raw == b"\1"
        elif kind in (0x01, 0x10, 0x12):
            fields[name] = struct.unpack({0x01: "<d", 0x10: "<i", 0x12: "<q"}[kind], raw)[0]
        at += width
    return fields
