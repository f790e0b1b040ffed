"""Whether a long-running process does its work: `coinstream-health` asks the metrics of one on this machine.

A process that is only alive is not healthy. Each vouches for the parts of its work, for a minute or two:

- ``venue``: a frame has come from the exchange (a feed)
- ``kafka``: Kafka has acknowledged a message (a feed, a poll)
- ``store``: the sink's loop has come round; the store and Kafka have answered

It is healthy while it vouches for all of its parts. Waiting for a server that is away it is not, though it
loses nothing and needs no restart. Only the standard library's lightest is imported, for a container runtime
starts this every few seconds.
"""

from __future__ import annotations

import http.client
import os
import re
import sys
import time

PORT_VARIABLE = "COINSTREAM_METRICS_PORT"
TIMEOUT_S = 3.0

_LEASE = re.compile(r'^coinstream_healthy_until_time_seconds\{part="([a-z]+)"\} (\S+)$', re.MULTILINE)


def complaints(metrics: str, now_s: float) -> list[str]:
    """Return what is wrong with a process, in words; nothing if it is healthy.

    Args:
        metrics: In the Prometheus text format.
        now_s: The time, seconds since 1970.
    """
    leases = {part: float(until) for part, until in _LEASE.findall(metrics)}
    if not leases:
        return ["it does not say what it does yet"]
    return [
        f"{part}: silent for {now_s - until:.0f} s longer than it may be" if until else f"{part}: no word yet"
        for part, until in sorted(leases.items())
        if until < now_s
    ]


def main() -> None:
    """Exit 0 if the process whose metrics stand on `PORT_VARIABLE` is healthy, else say why not and exit 1."""
    port = os.environ.get(PORT_VARIABLE, "")
    if not port.isdecimal():
        sys.exit(f"unhealthy: {PORT_VARIABLE} is {port!r}, not the port of a process's metrics")
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        wrong = complaints(connection.getresponse().read().decode(), time.time_ns() / 1e9)
    except (OSError, http.client.HTTPException) as error:
        wrong = [f"no metrics on port {port} ({error})"]
    finally:
        connection.close()
    if wrong:
        sys.exit(f"unhealthy: {'; '.join(wrong)}")
    sys.stdout.write("healthy\n")


if __name__ == "__main__":
    main()
