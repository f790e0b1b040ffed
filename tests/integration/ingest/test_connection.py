"""One connection against real sockets: what arrives, how it ends, and why opening fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import picows
import pytest

from coinstream.errors import FatalError, TransientError
from coinstream.ingest.connection import Arrived, Connection, Limits, open_connection

TEXT, BINARY, CONTINUATION = picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION


class Peer(picows.WSListener):
    """The other end, played by hand."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.transport: picows.WSTransport | None = None
        self.code: int | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            self.code = frame.get_close_code().value
            transport.disconnect()
        else:
            self.received.append(frame.get_payload_as_bytes())

    def send(self, data: bytes, kind: picows.WSMsgType = TEXT, *, fin: bool = True) -> None:
        assert self.transport is not None
        self.transport.send(kind, data, fin)


@contextlib.asynccontextmanager
async def connected(limits: Limits | None = None) -> AsyncIterator[tuple[Connection, Peer]]:
    peer = Peer()
    server = await picows.ws_create_server(lambda _: peer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await open_connection(f"ws://127.0.0.1:{port}/", limits=limits or Limits(), now_us=now_us)
    try:
        yield connection, peer
    finally:
        await connection.close()
        server.close()


def now_us() -> int:
    return time.time_ns() // 1000


async def taken(connection: Connection, count: int) -> list[Arrived]:
    found: list[Arrived] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            await connection.wait()
            found += connection.take()
    return found


async def ended(connection: Connection) -> str:
    async with asyncio.timeout(10):
        while connection.ended is None:
            await connection.wait()
            connection.take()
    return connection.ended


async def until(is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 5
    while not is_true():
        assert time.monotonic() < deadline_s, "it did not come about in time"
        await asyncio.sleep(0.01)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_messages_arrive_in_order_as_their_bytes_and_with_the_time_of_reading() -> None:
    async def scenario() -> None:
        async with connected() as (connection, peer):
            before_us = now_us()
            for data in (b"one", b"\xff\x00", b""):
                peer.send(data, BINARY)
            found = await taken(connection, 3)
            assert [one.data for one in found] == [b"one", b"\xff\x00", b""]
            assert before_us <= found[0].received_time_us <= found[2].received_time_us <= now_us()
            connection.send("thanks")
            await until(lambda: peer.received == [b"thanks"])

    run(scenario)


def test_message_in_fragments_is_put_together() -> None:
    async def scenario() -> None:
        async with connected() as (connection, peer):
            peer.send(b"a", fin=False)
            peer.send(b"b", CONTINUATION, fin=False)
            peer.send(b"c", CONTINUATION)
            peer.send(b"d")
            assert [one.data for one in await taken(connection, 2)] == [b"abc", b"d"]

    run(scenario)


def test_first_book_of_twelve_megabytes_arrives_whole() -> None:
    async def scenario() -> None:
        async with connected() as (connection, peer):
            body = b"0123456789ab" * 1024 * 1024
            peer.send(body)
            (one,) = await taken(connection, 1)
            assert one.data == body

    run(scenario)


@pytest.mark.parametrize("is_fragmented", [False, True])
def test_message_over_the_limit_ends_the_connection_with_the_reason(is_fragmented: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        async with connected(Limits(max_message_bytes=10_000)) as (connection, peer):
            if is_fragmented:
                for number in range(11):
                    peer.send(b"x" * 1000, TEXT if number == 0 else CONTINUATION, fin=False)
            else:
                peer.send(b"x" * 11_000)
            assert "10000" in await ended(connection)

    run(scenario)


def test_slow_reader_is_felt_by_the_other_side_and_gets_everything_in_the_end() -> None:
    """Memory stays at the bound: what is not taken waits in sockets, and then at the peer."""

    async def scenario() -> None:
        async with connected(Limits(max_waiting_bytes=1_000_000)) as (connection, peer):
            assert peer.transport is not None
            for number in range(400):
                peer.send(bytes([number % 256]) * 100_000)
            await asyncio.sleep(0.5)
            unsent = peer.transport.underlying_transport.get_write_buffer_size()
            assert unsent > 20_000_000
            found = await taken(connection, 400)
            assert [one.data[0] for one in found] == [number % 256 for number in range(400)]

    run(scenario)


def test_silence_ends_the_connection_though_pings_are_answered() -> None:
    async def scenario() -> None:
        limits = Limits(idle_timeout_s=0.6, ping_after_s=0.2, pong_timeout_s=0.2)
        async with connected(limits) as (connection, _):
            began_s = time.monotonic()
            assert await ended(connection) == "no message for 0.6 s"
            assert 0.5 < time.monotonic() - began_s < 5

    run(scenario)


def test_close_of_the_venue_is_told_with_its_code_and_what_came_before_is_kept() -> None:
    async def scenario() -> None:
        async with connected() as (connection, peer):
            assert peer.transport is not None
            peer.send(b"last")
            peer.transport.send_close(picows.WSCloseCode.SERVICE_RESTART, b"back soon")
            await until(lambda: connection.ended is not None)
            assert connection.ended == "the venue closed the connection (1012: back soon)"
            assert [one.data for one in connection.take()] == [b"last"]

    run(scenario)


def test_cut_connection_is_told() -> None:
    async def scenario() -> None:
        async with connected() as (connection, peer):
            assert peer.transport is not None
            peer.transport.disconnect(graceful=False)
            assert await ended(connection) == "the connection was cut"
            connection.send("into the void")

    run(scenario)


def test_our_close_says_goodbye_properly() -> None:
    async def scenario() -> None:
        async with connected() as (connection, peer):
            await connection.close()
            await until(lambda: peer.code is not None)
            assert peer.code == 1000
            assert connection.ended == "closed by us"

    run(scenario)


def test_frame_that_breaks_the_protocol_ends_the_connection_with_the_reason() -> None:
    async def scenario() -> None:
        async with connected() as (connection, peer):
            assert peer.transport is not None
            peer.transport.underlying_transport.write(b"\x83\x01x")  # opcode 3 is none
            reason = await ended(connection)
            assert "opcode" in reason.lower() or "3" in reason

    run(scenario)


def refused(url: str, *, match: str, error: type[Exception] = TransientError, limits: Limits | None = None) -> None:
    async def scenario() -> None:
        with pytest.raises(error, match=match):
            await open_connection(url, limits=limits or Limits(), now_us=now_us)

    run(scenario)


def test_refused_port_is_transient() -> None:
    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        refused(f"ws://127.0.0.1:{taken_port.getsockname()[1]}", match="refused|Connect call failed")


def test_name_that_does_not_resolve_is_transient() -> None:
    refused("ws://no-such-host.invalid", match=r"\w")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ws://", "no address"])
def test_what_is_no_websocket_address_is_fatal_and_named(url: str) -> None:
    refused(url, match="is no address of a WebSocket", error=FatalError)


@pytest.mark.parametrize("status", [403, 429, 503])
def test_refused_upgrade_is_transient_and_names_the_status(status: int) -> None:
    async def scenario() -> None:
        response = picows.WSUpgradeResponse.create_error_response(status, b"no")
        server = await picows.ws_create_server(
            lambda _: picows.WSUpgradeResponseWithListener(response, None), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransientError, match=f"HTTP {status}"):
            await open_connection(f"ws://127.0.0.1:{port}", limits=Limits(), now_us=now_us)
        server.close()

    run(scenario)


@pytest.mark.parametrize("first", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"], ids=["silence", "another protocol"])
def test_server_that_speaks_no_websocket_is_transient(first: bytes) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(first)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransientError):
            await open_connection(f"ws://127.0.0.1:{port}", limits=Limits(connect_timeout_s=0.3), now_us=now_us)
        await asyncio.sleep(0.1)
        server.close()

    run(scenario)
