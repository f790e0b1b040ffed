"""Run one server and see that it never outlives the command that wanted it.

A program of its own, started by its path with the standard library only, so that it is up in 20 ms. It
ends the server, in order and then by force, when the first of these happens:

1. the pipe from the command that started it closes (that command ended, even by SIGKILL), unless a byte
   came through it before: then the server is known to all by its record, and outlives the command;
2. its parent changes (the same, where a forked copy of that command still holds the pipe);
3. it gets SIGTERM or SIGINT (`coinstream local down`);
4. it is itself killed: Linux then kills the server, by PR_SET_PDEATHSIG.

Its one argument is a JSON object: ``command``, ``environment``, ``folder``, ``log``, ``stop_signal``,
``stop_timeout_s``, ``pipe`` (a file descriptor) and ``user`` (a user id to become, or null). It prints the
server's process id as one line.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
WATCH_INTERVAL_S = 1.0


def die_with(parent: int) -> None:
    """Have Linux kill this process when ``parent`` dies; runs in the child, between fork and exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def start(plan: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the server of a plan, in a process group of its own, its output appended to the plan's log."""
    supervisor = os.getpid()
    user = plan["user"]
    identity: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with open(plan["log"], "ab") as log:
        return subprocess.Popen(
            plan["command"],
            cwd=plan["folder"],
            env={**os.environ, **plan["environment"]},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            # Single-threaded, so safe; it runs after the change of user, which would clear the setting.
            preexec_fn=lambda: die_with(supervisor),  # noqa: PLW1509
            **identity,
        )


def stop(server: subprocess.Popen[bytes], first_signal: int, timeout_s: float) -> None:
    """End the server in order; after the time-out kill its whole process group."""
    if server.poll() is None:
        server.send_signal(first_signal)
        try:
            server.wait(timeout_s)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"supervisor: no end after {timeout_s} s, killing {server.pid}\n")
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def watch(server: subprocess.Popen[bytes], pipe: int, wakeup: int) -> bool:
    """Wait until the server ended (False) or must be ended (True)."""
    parent = os.getppid()
    watched = [wakeup, pipe]
    while server.poll() is None:
        readable, _, _ = select.select(watched, [], [], WATCH_INTERVAL_S)
        if pipe in watched:
            if pipe in readable and os.read(pipe, 1):
                watched.remove(pipe)  # let go
            elif pipe in readable or os.getppid() != parent:
                return True
        # The wake-up pipe carries signal numbers; a child's end only makes us look again.
        if wakeup in readable and set(os.read(wakeup, 64)) & {signal.SIGTERM, signal.SIGINT}:
            return True
    return False


def main() -> int:
    """Supervise the server of the plan in the first argument; return 0 when it was asked to end."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    wakeup, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    server = start(plan)
    os.write(1, f"{server.pid}\n".encode())
    # The log alone hears from us now: whoever started us need not read on.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    started = time.monotonic()
    asked = watch(server, plan["pipe"], wakeup)
    if not asked:
        lived_s = time.monotonic() - started
        sys.stderr.write(f"supervisor: the server ended by itself, status {server.returncode}, after {lived_s:.1f} s\n")
        return 1
    stop(server, plan["stop_signal"], plan["stop_timeout_s"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
