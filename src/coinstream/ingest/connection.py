"""One WebSocket connection, from opening to its end, and how long to wait before the next.

A `Connection` never reconnects by itself: whoever opened it must know that what it carried was
interrupted. Messages wait in memory up to a bound; beyond it nothing is read from the socket, so a
slow reader is felt by the venue, which may then hang up: a loss that is seen, never a silent one.

Source:
    RFC 6455. Compression (RFC 7692) is not offered: picows has none, and it would cost more time
    than it saves.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import picows
from picows.url import WSInvalidURL

from coinstream.errors import FatalError, TransientError

_LOOK_EVERY_S = 0.25
_CLOSE_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much, for one connection.

    Attributes:
        connect_timeout_s: For name, TCP and TLS together, and again for the WebSocket handshake.
        idle_timeout_s: Without a message for so long the connection is given up, though it may answer
            pings: a venue that sends heartbeats each second has forgotten us.
        ping_after_s: Not a byte for so long: ask for a pong …
        pong_timeout_s: … and give up when nothing comes within this.
        max_message_bytes: A longer message ends the connection; a venue's first book has some 10 MB.
        max_waiting_bytes: Messages that wait for their reader; beyond, the socket is not read. Should
            that last as long as a ping and its time-out, the connection is given up.
        max_waiting_messages: The same, by number.
    """

    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 30.0
    ping_after_s: float = 10.0
    pong_timeout_s: float = 10.0
    max_message_bytes: int = 64 * 1024 * 1024
    max_waiting_bytes: int = 32 * 1024 * 1024
    max_waiting_messages: int = 20_000


class Backoff:
    """Full-jitter exponential backoff between attempts to connect.

    Each wait is drawn evenly from zero to a ceiling that doubles, so that many clients that lost the
    same venue do not come back together.

    Args:
        chance: Draws the waits.
        first_s: The first ceiling.
        last_s: The greatest ceiling.
        healthy_after_s: After a connection that lasted so long the ceiling is the first again.
    """

    def __init__(
        self, chance: random.Random, *, first_s: float = 0.5, last_s: float = 30.0, healthy_after_s: float = 60.0
    ) -> None:
        self._chance = chance
        self._first_s = first_s
        self._last_s = last_s
        self._healthy_after_s = healthy_after_s
        self._ceiling_s = first_s

    def next_s(self, *, lasted_s: float) -> float:
        """Return how long to wait after a connection that lasted so long; 0 for one that never was."""
        if lasted_s >= self._healthy_after_s:
            self._ceiling_s = self._first_s
        wait_s = self._chance.uniform(0, self._ceiling_s)
        self._ceiling_s = min(2 * self._ceiling_s, self._last_s)
        return wait_s


class Arrived(NamedTuple):
    """One message: when it was read from the socket, microseconds since 1970, UTC, and its bytes."""

    received_time_us: int
    data: bytes


class Connection(picows.WSListener):
    """An open WebSocket; `open_connection` makes it, and picows calls its ``on_ws_…`` methods.

    Attributes:
        ended: Why it is over, in words; ``None`` while it is not.
    """

    def __init__(self, limits: Limits, now_us: Callable[[], int]) -> None:
        self.ended: str | None = None
        self._limits = limits
        self._now_us = now_us
        self._loop = asyncio.get_running_loop()
        self._message_s = self._loop.time()
        self._transport: picows.WSTransport | None = None
        self._waiting: list[Arrived] = []
        self._waiting_bytes = 0
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._is_paused = False
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Wait until there is something to take or the connection is over."""
        if not self._waiting and self.ended is None:
            self._news.clear()
            await self._news.wait()

    def take(self) -> list[Arrived]:
        """Return all messages that have come, oldest first, perhaps none; there may be some after the end."""
        arrived, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._is_paused and self._transport is not None and self.ended is None:
            self._is_paused = False
            self._message_s = self._loop.time()
            self._transport.underlying_transport.resume_reading()
        return arrived

    def send(self, text: str) -> None:
        """Send a text message; nothing happens once the connection is over."""
        if self._transport is not None and self.ended is None:
            self._transport.send(picows.WSMsgType.TEXT, text.encode())

    async def close(self, reason: str = "closed by us") -> None:
        """Say goodbye and let go; who does not answer within two seconds is hung up on."""
        self._give_up(reason, picows.WSCloseCode.OK, is_graceful=True)
        if self._transport is None:
            return
        try:
            await asyncio.wait_for(self._transport.wait_disconnected(), _CLOSE_WITHIN_S)
        except TimeoutError:
            self._transport.disconnect(graceful=False)
        except picows.WSError as error:
            self.ended = self.ended or str(error)

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Begin to watch."""
        self._transport = transport
        self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Take a frame: this is the moment that counts as received."""
        received_time_us = self._now_us()
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            code, reason = frame.get_close_code(), frame.get_close_reason()
            self._over(f"the venue closed the connection ({code.value}{': ' if reason else ''}{reason or ''})")
            transport.send_close(code)
            transport.disconnect()
            return
        if kind == picows.WSMsgType.PONG:
            return
        self._message_s = self._loop.time()
        data = frame.get_payload_as_bytes()
        if self._parts or not frame.fin:
            whole = self._joined(data, is_last=frame.fin)
            if whole is None:
                return
            data = whole
        self._waiting.append(Arrived(received_time_us, data))
        self._waiting_bytes += len(data)
        if not self._is_paused and (
            self._waiting_bytes > self._limits.max_waiting_bytes
            or len(self._waiting) > self._limits.max_waiting_messages
        ):
            self._is_paused = True  # what picows has read already still comes: a read buffer at most
            transport.underlying_transport.pause_reading()
        self._news.set()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """Note the end, which only picows knows the reason of where it is ours."""
        handshake: picows.picows.WSCloseHandshake | None = transport.close_handshake
        sent = handshake.sent if handshake is not None else None
        self._over(sent.reason if sent is not None and sent.reason else "the connection was cut")

    def _joined(self, data: bytes, *, is_last: bool) -> bytes | None:
        """Return the whole of a message that came in fragments, once its last is here."""
        self._parts.append(data)
        self._parts_bytes += len(data)
        if self._parts_bytes > self._limits.max_message_bytes:
            self._parts, self._parts_bytes = [], 0
            reason = f"a message is longer than {self._limits.max_message_bytes} bytes"
            self._give_up(reason, picows.WSCloseCode.MESSAGE_TOO_BIG, is_graceful=True)
            return None
        if not is_last:
            return None
        whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
        return whole

    def _look(self) -> None:
        now_s = self._loop.time()
        if self._is_paused:
            self._message_s = now_s  # we do not listen, so silence means nothing
        if now_s - self._message_s >= self._limits.idle_timeout_s:
            # A dead link would hold a graceful end up until TCP itself gives in: minutes.
            reason = f"no message for {self._limits.idle_timeout_s:g} s"
            self._give_up(reason, picows.WSCloseCode.GOING_AWAY, is_graceful=False)
            return
        self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def _give_up(self, reason: str, code: picows.WSCloseCode, *, is_graceful: bool) -> None:
        if self.ended is None and self._transport is not None:
            self._transport.send_close(code)
            self._transport.disconnect(graceful=is_graceful)
        self._over(reason)

    def _over(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
        if self._timer is not None:
            self._timer.cancel()
        self._news.set()


async def open_connection(
    url: str, *, limits: Limits, now_us: Callable[[], int], tls: ssl.SSLContext | None = None
) -> Connection:
    """Open a WebSocket.

    Args:
        url: ``ws://…`` or ``wss://…``.
        limits: How long and how much.
        now_us: The clock that stamps messages, microseconds since 1970, UTC.
        tls: For ``wss``; by default the system's authorities are trusted.

    Raises:
        TransientError: The name, the server, TLS or the handshake failed; the text says how.
        FatalError: It is no WebSocket's address.
    """
    try:
        async with asyncio.timeout(2 * limits.connect_timeout_s):
            transport, connection = await picows.ws_connect(
                lambda: Connection(limits, now_us),
                url,
                ssl_context=tls,
                websocket_handshake_timeout=limits.connect_timeout_s,
                enable_auto_ping=True,
                auto_ping_idle_timeout=limits.ping_after_s,
                auto_ping_reply_timeout=limits.pong_timeout_s,
                max_frame_size=limits.max_message_bytes,
            )
    except (WSInvalidURL, UnicodeError) as error:
        raise FatalError(f"{url} is no address of a WebSocket ({error}); correct it in the settings") from None
    except picows.WSHandshakeError as error:
        status = f"HTTP {error.response.status.value}" if error.response is not None else str(error)
        raise TransientError(f"the WebSocket was refused ({status})") from None
    except TimeoutError:
        raise TransientError(f"no answer within {limits.connect_timeout_s:g} s") from None
    except (OSError, picows.WSError) as error:
        raise TransientError(str(error) or type(error).__name__) from None
    if not isinstance(connection, Connection) or transport.is_disconnected:
        raise TransientError("the connection was cut during the handshake")
    return connection
