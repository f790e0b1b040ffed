"""The simulated exchange as one asyncio process: a WebSocket port, an HTTP port and a schedule."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

import msgspec
import picows
import structlog

from coinstream.errors import FatalError, SettingsError
from coinstream.simulator.binance_publisher import BinancePublisher
from coinstream.simulator.coinbase_publisher import CoinbasePublisher
from coinstream.simulator.faults import RETRY_AFTER_S, ConnectionFaults, FaultKind, FaultPlan, Misbehaviour
from coinstream.simulator.market import Market
from coinstream.simulator.products import BINANCE_PRODUCTS, PRODUCTS, Product
from coinstream.simulator.publisher import Publisher, Reply, Session
from coinstream.simulator.routes import reply_to
from coinstream.simulator.schedule import Schedule

__all__ = ["Done", "SimulatorAddresses", "serve"]

_log = structlog.get_logger(__name__)

_TICK_NS = 20_000_000
_MOST_UNSENT_BYTES = 8 * 1024 * 1024  # a connection that has not read this much is closed: it must not grow memory
_MOST_REQUEST_BYTES = 64 * 1024
_CLOSE_TIMEOUT_S = 2.0
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_LEAST_RATE, _MOST_RATE = 0.01, 200_000.0


class SimulatorAddresses(NamedTuple):
    """Where the simulator listens (``ws://127.0.0.1:40001`` and ``http://127.0.0.1:40002``)."""

    websocket_url: str
    http_url: str


@dataclass(slots=True)
class Done:
    """What a run has done so far.

    Attributes:
        connections: WebSocket connections accepted.
        frames: WebSocket messages sent on all of them.
        requests: REST requests answered.
        events: Market events that happened; see `coinstream.simulator.schedule.Schedule`.
        events_skipped: Those that an overload left out.
        faults: What was done wrong on request, by kind; see `coinstream.simulator.faults.Misbehaviour`.
    """

    connections: int = 0
    frames: int = 0
    requests: int = 0
    events: int = 0
    events_skipped: int = 0
    faults: dict[FaultKind, int] = field(default_factory=dict)


class _Connection(picows.WSListener):
    """One client's WebSocket: the outlet of its session, with what was wished to go wrong between them."""

    def __init__(
        self, publisher: Publisher, faults: ConnectionFaults, done: Done, connections: "set[_Connection]"
    ) -> None:
        self._publisher = publisher
        self._faults = faults
        self._done = done
        self._connections = connections
        self._is_silent = False
        self._session: Session | None = None
        self._transport: picows.WSTransport | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        self._connections.add(self)
        self._done.connections += 1
        self._session = self._publisher.connect(_target(transport.request), self)
        loop = asyncio.get_running_loop()
        if self._publisher.subscribe_timeout_s is not None:
            self._timers.append(loop.call_later(self._publisher.subscribe_timeout_s, self._expire))
        if self._faults.silent_after_s is not None:
            self._timers.append(loop.call_later(self._faults.silent_after_s, self._fall_silent))

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002 (picows passes it)
        self._forget()
        self._connections.discard(self)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if self._is_silent or self._session is None:
            return
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            self._session.receive(frame.get_payload_as_bytes())

    def send_user_specific_ping(self, transport: picows.WSTransport) -> None:
        if not self._is_silent:
            transport.send_ping()
            return
        # picows would hang up on a client that does not answer: one that was asked nothing is not to blame.
        asyncio.get_running_loop().call_soon(transport.notify_user_specific_pong_received)

    def send(self, message: bytes, *, is_market_data: bool) -> None:
        transport = self._transport
        if transport is None or self._is_silent:
            return
        unsent = transport.underlying_transport.get_write_buffer_size()
        if unsent > _MOST_UNSENT_BYTES:
            _log.warning("simulator.slow_client_disconnected", unsent_bytes=unsent)
            self._forget()
            transport.disconnect(graceful=False)
            return
        for frame in self._faults.frames(message, is_market_data=is_market_data):
            transport.send(picows.WSMsgType.TEXT, frame)
            self._done.frames += 1

    def close(self, reason: str, code: picows.WSCloseCode = picows.WSCloseCode.POLICY_VIOLATION) -> None:
        transport = self._transport
        if transport is not None:
            self._forget()
            transport.send_close(code, reason.encode())
            transport.disconnect()

    def _forget(self) -> None:
        if self._session is not None:
            self._session.end()
            self._session = None
        self._transport = None
        for timer in self._timers:
            timer.cancel()

    def _expire(self) -> None:
        if self._session is not None and not self._session.has_subscribed:
            self.close("nothing was subscribed to")

    def _fall_silent(self) -> None:
        self._is_silent = True
        self._faults.fell_silent()


async def serve(  # noqa: PLR0913  (each is a setting of the command)
    *,
    protocol: str = "coinbase",
    host: str = "127.0.0.1",
    websocket_port: int = 0,
    http_port: int = 0,
    seed: int,
    rate: float,
    start_time_us: int,
    symbols: Sequence[str] | None = None,
    faults: FaultPlan | None = None,
    on_ready: Callable[[SimulatorAddresses], None],
    stop: asyncio.Event,
    done: Done | None = None,
) -> Done:
    """Run the exchange until ``stop`` is set, then close all connections and say what was done.

    Args:
        protocol: Which venue's: ``coinbase`` or ``binance``.
        host: Address to listen on.
        websocket_port: Port of the venue's feed; 0 takes a free one.
        http_port: Port of the REST routes; 0 takes a free one.
        seed: Decides the market and the faults.
        rate: Market events a second, all symbols together, 0.01 to 200,000. An event is one order that arrives or
            leaves; it makes 0.8 trades on average, see `coinstream.simulator.schedule.Schedule`.
        start_time_us: The time now. Trade ids count up from it, and all times sent are it plus the time since.
        symbols: Which instruments to trade; None for all of the venue's.
        faults: What goes wrong; None for nothing.
        on_ready: Called once, when both ports listen.
        stop: Ends the run.
        done: Kept up to date while the exchange runs, for whoever wants to look.

    Returns:
        What was done.

    Raises:
        SettingsError: The protocol, the rate or a symbol cannot be used.
        FatalError: A port is in use or may not be opened.
    """
    if protocol not in _PROTOCOLS:
        raise SettingsError("protocol", protocol, " or ".join(_PROTOCOLS))
    if not _LEAST_RATE <= rate <= _MOST_RATE:
        raise SettingsError("rate", rate, f"market events a second, {_LEAST_RATE} to {_MOST_RATE:.0f}")
    products, make_publisher = _PROTOCOLS[protocol]
    # Chance of a market that must be repeatable, not of anything secret.
    rng = random.Random(seed)  # noqa: S311
    market = Market(rng=rng, start_time_us=start_time_us, symbols=symbols, products=products)
    schedule = Schedule(market, start_time_us=start_time_us, rate=rate)
    misbehaviour = Misbehaviour(faults or FaultPlan(), seed=seed)
    publisher = make_publisher(schedule, skip=misbehaviour.skip)
    done = Done() if done is None else done
    done.faults = misbehaviour.done
    connections: set[_Connection] = set()

    def accept(request: picows.WSUpgradeRequest) -> picows.WSListener | picows.WSUpgradeResponseWithListener:
        if not publisher.accepts(_target(request)):
            return _http(Reply(HTTPStatus.NOT_FOUND, msgspec.json.encode({"error": "NOT_FOUND"})))
        return _Connection(publisher, misbehaviour.connection(), done, connections)

    def answer(request: picows.WSUpgradeRequest) -> picows.WSUpgradeResponseWithListener:
        done.requests += 1
        if misbehaviour.refuses_request():
            return _http(_TOO_MANY_REQUESTS, {"Retry-After": str(RETRY_AFTER_S)})
        return _http(reply_to(_target(request), publisher))

    websocket = await _listen(accept, host, websocket_port)
    try:
        http = await _listen(answer, host, http_port)
        try:
            on_ready(SimulatorAddresses(f"ws://{_address(websocket)}", f"http://{_address(http)}"))
            await _keep_schedule(publisher, done, stop)
        finally:
            await _close(http)
    finally:
        for connection in list(connections):
            connection.close("the simulator ends", picows.WSCloseCode.GOING_AWAY)
        await _close(websocket)
    _log.info(
        "simulator.ended",
        protocol=protocol,
        connections=done.connections,
        frames=done.frames,
        requests=done.requests,
        events=done.events,
        events_skipped=done.events_skipped,
        faults={str(kind): number for kind, number in done.faults.items() if number},
    )
    return done


_PROTOCOLS: Mapping[str, tuple[tuple[Product, ...], Callable[..., Publisher]]] = {
    "coinbase": (PRODUCTS, CoinbasePublisher),
    "binance": (BINANCE_PRODUCTS, BinancePublisher),
}
_TOO_MANY_REQUESTS = Reply(
    HTTPStatus.TOO_MANY_REQUESTS,
    msgspec.json.encode({"code": -1003, "msg": "Too many requests.", "error": "TOO_MANY_REQUESTS"}),
)


async def _listen(factory: picows.api.WSServerListenerFactory, host: str, port: int) -> asyncio.Server:
    try:
        return await picows.ws_create_server(
            factory,
            host,
            port,
            max_frame_size=_MOST_REQUEST_BYTES,
            websocket_handshake_timeout=5,
            enable_auto_ping=True,
            enable_auto_pong=False,  # a half-open connection answers none
        )
    except OSError as error:
        message = (
            f"the simulator cannot listen on {host}:{port} ({error.strerror}); choose another port, or 0 for a free one"
        )
        raise FatalError(message) from error


def _target(request: picows.WSUpgradeRequest) -> str:
    return request.path.decode("latin-1")


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"{host}:{port}"


def _http(reply: Reply, headers: Mapping[str, str] | None = None) -> picows.WSUpgradeResponseWithListener:
    # picows answers plain HTTP too: what is no 101 is sent as it is, and the connection closed.
    headers = _JSON | dict(headers or {})
    if reply.status < HTTPStatus.BAD_REQUEST:
        response = picows.WSUpgradeResponse.create_ok_response(reply.body, headers)
    else:
        response = picows.WSUpgradeResponse.create_error_response(reply.status, reply.body, headers)
    return picows.WSUpgradeResponseWithListener(response, None)


async def _close(server: asyncio.Server) -> None:
    server.close()
    try:
        await asyncio.wait_for(server.wait_closed(), timeout=_CLOSE_TIMEOUT_S)
    except TimeoutError:
        _log.warning("simulator.connections_left_open", timeout_s=_CLOSE_TIMEOUT_S)


async def _keep_schedule(publisher: Publisher, done: Done, stop: asyncio.Event) -> None:
    start_ns = time.monotonic_ns()
    tick = 0
    while not stop.is_set():
        elapsed_ns = time.monotonic_ns() - start_ns
        publisher.advance(elapsed_ns)
        schedule = publisher.schedule
        done.events, done.events_skipped = schedule.events_published, schedule.events_skipped
        # The next tick's time follows from its number, not from when this one was done: no drift.
        tick = max(tick + 1, elapsed_ns // _TICK_NS + 1)
        delay_ns = max(tick * _TICK_NS - (time.monotonic_ns() - start_ns), 0)
        try:
            await asyncio.wait_for(stop.wait(), timeout=delay_ns / 1_000_000_000)
        except TimeoutError:
            continue
