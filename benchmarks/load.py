"""Whose CPU it was: ours and our servers', by process tree, and everybody else's."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]  # it ships no types

SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CPU seconds used since the machine or the process began.

    Attributes:
        at_s: The time, monotonic.
        machine_s: By everybody, interrupts and what a hypervisor took from us included.
        tree_s: By each process and its descendants, by the process's id; of the ended ones too, once their
            parents have waited for them.
    """

    at_s: float
    machine_s: float
    tree_s: Mapping[int, float]


def snapshot(roots: Sequence[int]) -> Snapshot:
    """Read the CPU of the machine and of some process trees now."""
    own: dict[int, float] = {}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for process in psutil.process_iter(["ppid", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is None:
            continue  # it ended, or may not be read
        own[process.pid] = times.user + times.system + times.children_user + times.children_system
        children[process.info["ppid"]].append(process.pid)
    busy = psutil.cpu_times()
    machine_s = sum(getattr(busy, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return Snapshot(time.monotonic(), machine_s, {root: of_tree(root, own, children) for root in roots})


def of_tree(root: int, own: Mapping[int, float], children: Mapping[int, Sequence[int]]) -> float:
    """Return the CPU seconds of a process and all its descendants."""
    used_s, waiting = 0.0, [root]
    while waiting:
        pid = waiting.pop()
        used_s += own.get(pid, 0.0)
        waiting += children.get(pid, ())
    return used_s


def foreign_cores(before: Snapshot, after: Snapshot, ours: int) -> float:
    """Return what everybody but one process tree used between two snapshots, in cores."""
    ours_s = after.tree_s[ours] - before.tree_s[ours]
    others_s = after.machine_s - before.machine_s - ours_s
    return max(0.0, others_s) / (after.at_s - before.at_s)


@dataclass(slots=True)
class Watched:
    """What a stretch of time came to; filled when it ends.

    Attributes:
        foreign_cores: What processes that are not ours used, in cores.
        cpu_s: CPU seconds by name of what was watched.
    """

    foreign_cores: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)


@contextmanager
def watching(servers: Mapping[str, int]) -> Iterator[Watched]:
    """Watch the machine for the length of the block.

    Args:
        servers: Process ids by name; they must be descendants of this process.
    """
    mine = os.getpid()
    watched = Watched()
    before = snapshot([mine, *servers.values()])
    yield watched
    after = snapshot([mine, *servers.values()])
    watched.foreign_cores = foreign_cores(before, after, mine)
    watched.cpu_s = {name: after.tree_s[pid] - before.tree_s[pid] for name, pid in servers.items()}


class Patience:
    """Waits for the machine to be quiet, so that fewer rounds must be dropped; only so long in all.

    Args:
        seconds: For all waits together; when they are used up, nothing is waited for.
        most_foreign_cores: What counts as quiet.
    """

    def __init__(self, seconds: float, most_foreign_cores: float) -> None:
        self._left_s = seconds
        self._most = most_foreign_cores

    def wait(self) -> None:
        """Return when others used next to nothing for half a second, or patience is at its end."""
        mine = os.getpid()
        before = snapshot([mine])
        while self._left_s > 0:
            time.sleep(SAMPLE_S)
            after = snapshot([mine])
            self._left_s -= after.at_s - before.at_s
            if foreign_cores(before, after, mine) <= self._most:
                return
            before = after
