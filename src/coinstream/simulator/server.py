"""The simulated exchange as one asyncio process: a WebSocket port, an HTTP port and a schedule."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

import picows
import structlog

from coinstream.errors import FatalError, SettingsError
from coinstream.simulator.market import Market
from coinstream.simulator.publisher import Publisher, Session
from coinstream.simulator.routes import reply_to

__all__ = ["SimulatorAddresses", "serve"]

_log = structlog.get_logger(__name__)

_TICK_NS = 20_000_000
_MOST_UNSENT_BYTES = 8 * 1024 * 1024  # a connection that has not read this much is closed: it must not grow memory
_MOST_REQUEST_BYTES = 64 * 1024
_SUBSCRIBE_TIMEOUT_S = 5.0  # the venue's: who asks for nothing is disconnected
_CLOSE_TIMEOUT_S = 2.0
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_LEAST_RATE, _MOST_RATE = 0.01, 200_000.0


class SimulatorAddresses(NamedTuple):
    """Where the simulator listens (``ws://127.0.0.1:40001`` and ``http://127.0.0.1:40002``)."""

    websocket_url: str
    http_url: str


class _Connection(picows.WSListener):
    def __init__(self, publisher: Publisher, connections: "set[_Connection]") -> None:
        self._publisher = publisher
        self._connections = connections
        self._session = Session(self._send)
        self._transport: picows.WSTransport | None = None
        self._timeout: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        self._publisher.sessions[self._session] = None
        self._connections.add(self)
        self._timeout = asyncio.get_running_loop().call_later(_SUBSCRIBE_TIMEOUT_S, self._expire)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002 (picows passes it)
        self._publisher.sessions.pop(self._session, None)
        self._connections.discard(self)
        self._transport = None
        if self._timeout is not None:
            self._timeout.cancel()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            self._publisher.handle(self._session, frame.get_payload_as_bytes())

    def close(self, code: picows.WSCloseCode) -> None:
        if self._transport is not None:
            self._transport.send_close(code)
            self._transport.disconnect()

    def _expire(self) -> None:
        if not self._session.subscriptions:
            self.close(picows.WSCloseCode.POLICY_VIOLATION)

    def _send(self, message: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        unsent = transport.underlying_transport.get_write_buffer_size()
        if unsent > _MOST_UNSENT_BYTES:
            _log.warning("simulator.slow_client_disconnected", unsent_bytes=unsent)
            self._publisher.sessions.pop(self._session, None)
            self._transport = None
            transport.disconnect(graceful=False)
            return
        transport.send(picows.WSMsgType.TEXT, message)


async def serve(  # noqa: PLR0913  (each is a setting of the command)
    *,
    host: str = "127.0.0.1",
    websocket_port: int = 0,
    http_port: int = 0,
    seed: int,
    rate: float,
    start_time_us: int,
    symbols: Sequence[str] | None = None,
    on_ready: Callable[[SimulatorAddresses], None],
    stop: asyncio.Event,
) -> None:
    """Run the exchange until ``stop`` is set, then close all connections.

    Args:
        host: Address to listen on.
        websocket_port: Port of the Advanced Trade protocol; 0 takes a free one.
        http_port: Port of the REST routes; 0 takes a free one.
        seed: Decides the market.
        rate: Market events a second, all symbols together, 0.01 to 200,000. An event is one order that arrives or
            leaves; it makes 0.8 trades on average, see `coinstream.simulator.publisher.Publisher`.
        start_time_us: The time now. Trade ids count up from it, and all times sent are it plus the time since.
        symbols: Which instruments to trade; None for all.
        on_ready: Called once, when both ports listen.
        stop: Ends the run.

    Raises:
        SettingsError: The rate or a symbol cannot be used.
        FatalError: A port is in use or may not be opened.
    """
    if not _LEAST_RATE <= rate <= _MOST_RATE:
        raise SettingsError("rate", rate, f"market events a second, {_LEAST_RATE} to {_MOST_RATE:.0f}")
    # Chance of a market that must be repeatable, not of anything secret.
    market = Market(rng=random.Random(seed), start_time_us=start_time_us, symbols=symbols)  # noqa: S311
    publisher = Publisher(market, start_time_us=start_time_us, rate=rate)
    connections: set[_Connection] = set()
    websocket = await _listen(lambda _: _Connection(publisher, connections), host, websocket_port)
    try:
        http = await _listen(lambda request: _answer(request, publisher), host, http_port)
        try:
            on_ready(SimulatorAddresses(f"ws://{_address(websocket)}", f"http://{_address(http)}"))
            await _keep_schedule(publisher, stop)
        finally:
            await _close(http)
    finally:
        for connection in list(connections):
            connection.close(picows.WSCloseCode.GOING_AWAY)
        await _close(websocket)


async def _listen(factory: picows.api.WSServerListenerFactory, host: str, port: int) -> asyncio.Server:
    try:
        return await picows.ws_create_server(
            factory,
            host,
            port,
            max_frame_size=_MOST_REQUEST_BYTES,
            websocket_handshake_timeout=5,
            enable_auto_ping=True,
        )
    except OSError as error:
        message = (
            f"the simulator cannot listen on {host}:{port} ({error.strerror}); choose another port, or 0 for a free one"
        )
        raise FatalError(message) from error


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"{host}:{port}"


def _answer(request: picows.WSUpgradeRequest, publisher: Publisher) -> picows.WSUpgradeResponseWithListener:
    reply = reply_to(request.path.decode("latin-1"), publisher)
    # picows answers plain HTTP too: what is no 101 is sent as it is, and the connection closed.
    if reply.status < HTTPStatus.BAD_REQUEST:
        response = picows.WSUpgradeResponse.create_ok_response(reply.body, _JSON)
    else:
        response = picows.WSUpgradeResponse.create_error_response(reply.status, reply.body, _JSON)
    return picows.WSUpgradeResponseWithListener(response, None)


async def _close(server: asyncio.Server) -> None:
    server.close()
    try:
        await asyncio.wait_for(server.wait_closed(), timeout=_CLOSE_TIMEOUT_S)
    except TimeoutError:
        _log.warning("simulator.connections_left_open", timeout_s=_CLOSE_TIMEOUT_S)


async def _keep_schedule(publisher: Publisher, stop: asyncio.Event) -> None:
    start_ns = time.monotonic_ns()
    tick = 0
    while not stop.is_set():
        elapsed_ns = time.monotonic_ns() - start_ns
        publisher.advance(elapsed_ns)
        # The next tick's time follows from its number, not from when this one was done: no drift.
        tick = max(tick + 1, elapsed_ns // _TICK_NS + 1)
        delay_ns = max(tick * _TICK_NS - (time.monotonic_ns() - start_ns), 0)
        try:
            await asyncio.wait_for(stop.wait(), timeout=delay_ns / 1_000_000_000)
        except TimeoutError:
            continue
