"""One WebSocket connection, kept: opened, watched, closed, opened again.

Ping and idle time-out find a peer that has gone without a word; the wait between attempts is drawn
at random below a ceiling that doubles ("full jitter"), so that many clients of a venue that comes
back do not all knock at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import picows

from coinstream.telemetry import logger

CONNECT_TIMEOUT_S = 10.0
PING_AFTER_S = 10.0
PONG_WITHIN_S = 10.0
IDLE_TIMEOUT_S = 30.0
"""Without a frame for so long the connection counts as dead: every venue sends heartbeats or books."""
FIRST_DELAY_S = 0.5
LAST_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0
"""A connection that lived so long begins its attempts anew."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A whole book of a big market comes as one frame of several megabytes."""

log = logger("ingest")
Send = Callable[[str], None]


class Session(Protocol):
    """What stands at our end of a connection; all calls come from the event loop's thread."""

    def opened(self, send: Send) -> None:
        """The connection is open; ``send`` writes a text frame to it."""

    def received(self, data: bytes, time_us: int) -> None:
        """A whole message came, at a time in microseconds since 1970; an error raised here closes."""

    def closed(self, reason: str) -> None:
        """The connection is gone."""


class _Listener(picows.WSListener):
    """Puts fragments together and hands whole messages on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._fragments: list[bytes] = []
        self.last_frame_s = time.monotonic()
        self.error: Exception | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._session.opened(lambda text: transport.send(picows.WSMsgType.TEXT, text.encode()))

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        if kind not in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION):
            return  # pings and pongs are no sign that the venue still publishes
        time_us = time.time_ns() // 1000
        self.last_frame_s = time.monotonic()
        data = frame.get_payload_as_bytes()
        if self._fragments or not frame.fin:
            self._fragments.append(data)
            if not frame.fin:
                return
            data = b"".join(self._fragments)
            self._fragments.clear()
        try:
            self._session.received(data, time_us)
        except Exception as error:  # noqa: BLE001 - the loop would only log it; `keep_connected` raises it
            self.error = error
            transport.disconnect(graceful=False)


async def keep_connected(  # noqa: PLR0913 - all keyword-only, each a matter of its own
    url: str,
    session: Session,
    *,
    before: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    chance: random.Random,
    on_retry: Callable[[], None],
    idle_timeout_s: float = IDLE_TIMEOUT_S,
    first_delay_s: float = FIRST_DELAY_S,
) -> None:
    """Keep a connection until told to stop.

    Args:
        url: ``wss://…`` or ``ws://…``.
        session: Hears what happens.
        before: Awaited before each attempt.
        stop: Ends it.
        chance: Draws the waits.
        on_retry: Called before each attempt after the first.
        idle_timeout_s: Close and begin anew when no frame came for so long.
        first_delay_s: Ceiling of the first wait.

    Raises:
        Exception: Whatever ``session.received`` raised; the connection is closed then.
    """
    ceiling_s = first_delay_s
    while not stop.is_set():
        await before()
        began_s = time.monotonic()
        reason = await _one_connection(url, session, stop=stop, idle_timeout_s=idle_timeout_s)
        if stop.is_set():
            return
        if time.monotonic() - began_s >= HEALTHY_AFTER_S:
            ceiling_s = first_delay_s
        delay_s = chance.uniform(0, ceiling_s)
        ceiling_s = min(2 * ceiling_s, LAST_DELAY_S)
        log.warning("disconnected", url=url, why=reason, next=f"again in {delay_s:.1f} s")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), delay_s)
        on_retry()


async def _one_connection(url: str, session: Session, *, stop: asyncio.Event, idle_timeout_s: float) -> str:
    """Open a connection, wait for its end, and return why it ended."""
    listener = _Listener(session)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, _ = await picows.ws_connect(
                lambda: listener,
                url,
                websocket_handshake_timeout=CONNECT_TIMEOUT_S,
                enable_auto_ping=True,
                auto_ping_idle_timeout=PING_AFTER_S,
                auto_ping_reply_timeout=PONG_WITHIN_S,
                max_frame_size=MAX_FRAME_BYTES,
            )
    except (OSError, TimeoutError, picows.WSError) as error:
        return f"cannot connect: {str(error) or type(error).__name__}"
    reason = "the venue closed the connection"
    ended = asyncio.ensure_future(transport.wait_disconnected())
    asked = asyncio.ensure_future(stop.wait())
    try:
        while not ended.done() and not asked.done():
            quiet_s = time.monotonic() - listener.last_frame_s
            if quiet_s >= idle_timeout_s:
                reason = f"no frame for {quiet_s:.0f} s"
                break
            await asyncio.wait({ended, asked}, timeout=idle_timeout_s - quiet_s, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            reason = "told to stop"
    finally:
        asked.cancel()
        transport.disconnect(graceful=False)
        with contextlib.suppress(picows.WSError, OSError, TimeoutError):
            await asyncio.wait_for(ended, CONNECT_TIMEOUT_S)
        session.closed(reason)
    if listener.error is not None:
        raise listener.error
    return reason
