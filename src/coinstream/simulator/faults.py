"""Misbehaviour on request: what is done to which frame, connection and request, decided by a seed. Pure.

Only frames with market data are at risk, snapshots of books among them. Answers, heartbeats and errors pass, so that
a run always gets going. Each kind draws from a generator of its own for each connection: a run with the same seed and
the same frames misbehaves alike, and one kind's decisions do not depend on which others are on.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from coinstream.errors import SettingsError

__all__ = ["RETRY_AFTER_S", "ConnectionFaults", "FaultKind", "FaultPlan", "Misbehaviour", "parse_faults"]

RETRY_AFTER_S = 1
"""What a refused request is told to wait."""
_MILLION = 1_000_000
_FARTHEST_JUMP = 100
_LEAST_SECONDS, _MOST_SECONDS = Decimal("0.01"), Decimal(86_400)


class FaultKind(StrEnum):
    """What can go wrong, as ``--fault`` names it.

    A frame is dropped; or it is corrupted (cut short, or with a control character in it), sent twice, or sent after
    the frame that follows it. A jump makes a sequence leave out up to 100 numbers though nothing is lost. A half-open
    connection is silent from some moment on, and answers no ping, without being closed. Too many requests: a REST
    route answers 429.
    """

    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    CORRUPT = "corrupt"
    JUMP = "jump"
    HALF_OPEN = "half-open"
    TOO_MANY_REQUESTS = "too-many-requests"


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """How often what goes wrong.

    Attributes:
        per_million: How many of a million frames (`FaultKind.TOO_MANY_REQUESTS`: requests) are concerned; a kind that
            is not named never happens.
        half_open_s: How long a connection lasts on average until it falls silent; None: for ever.
    """

    per_million: Mapping[FaultKind, int] = field(default_factory=dict)
    half_open_s: Decimal | None = None


def parse_faults(options: Iterable[str]) -> FaultPlan:
    """Read ``KIND=VALUE`` options.

    >>> parse_faults(["drop=0.001", "half-open=30"])
    FaultPlan(per_million={<FaultKind.DROP: 'drop'>: 1000}, half_open_s=Decimal('30'))

    Raises:
        SettingsError: A kind or a value cannot be used, or a kind is named twice.
    """
    per_million: dict[FaultKind, int] = {}
    half_open_s: Decimal | None = None
    seen: set[str] = set()
    for option in options:
        kind, _, text = option.partition("=")
        if kind not in FaultKind.__members__.values():
            raise SettingsError("--fault", option, f"KIND=VALUE, where KIND is one of {', '.join(FaultKind)}")
        if kind in seen:
            raise SettingsError("--fault", option, f"name {kind} once")
        seen.add(kind)
        if kind == FaultKind.HALF_OPEN:
            half_open_s = _number(text, _LEAST_SECONDS, _MOST_SECONDS)
            if half_open_s is None:
                raise SettingsError("--fault", option, f"{kind}=SECONDS, from {_LEAST_SECONDS} to {_MOST_SECONDS}")
            continue
        chance = _number(text, Decimal(0), Decimal(1))
        if chance is None or chance * _MILLION % 1:
            raise SettingsError("--fault", option, f"{kind}=PROBABILITY, from 0 to 1 in steps of 0.000001")
        per_million[FaultKind(kind)] = int(chance * _MILLION)
    return FaultPlan(per_million, half_open_s)


def _number(text: str, least: Decimal, most: Decimal) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and least <= number <= most else None


class _Chance:
    """One kind's decisions for one connection, or for all requests."""

    def __init__(self, plan: FaultPlan, kind: FaultKind, *, seed: str) -> None:
        self.rng = random.Random(f"{seed} {kind}")  # noqa: S311 (repeatable, not secret)
        self._per_million = plan.per_million.get(kind, 0)

    def strikes(self) -> bool:
        return self._per_million > 0 and self.rng.randrange(_MILLION) < self._per_million


class ConnectionFaults:
    """What goes wrong on one connection; `Misbehaviour.connection` makes it.

    Attributes:
        silent_after_s: When it falls silent, in seconds after it was opened; None: never.
    """

    def __init__(self, plan: FaultPlan, done: Counter[FaultKind], *, seed: str) -> None:
        self._done = done
        self._drop = _Chance(plan, FaultKind.DROP, seed=seed)
        self._duplicate = _Chance(plan, FaultKind.DUPLICATE, seed=seed)
        self._reorder = _Chance(plan, FaultKind.REORDER, seed=seed)
        self._corrupt = _Chance(plan, FaultKind.CORRUPT, seed=seed)
        self._held: list[bytes] = []  # a frame that the next one overtakes, twice if it is doubled too
        self.silent_after_s: float | None = None
        if plan.half_open_s is not None:
            rng = _Chance(plan, FaultKind.HALF_OPEN, seed=seed).rng
            self.silent_after_s = rng.expovariate(1 / float(plan.half_open_s))

    def frames(self, message: bytes, *, is_market_data: bool) -> list[bytes]:
        """Return what is sent instead of one message: most often itself, perhaps nothing, perhaps more.

        Args:
            message: As the venue means it.
            is_market_data: Whether it is at risk. What is not still brings out a frame that waited to be overtaken.
        """
        if not is_market_data:
            return self._with_held([message])
        # Each kind is asked about every frame: what one decides must not shift what another does later.
        is_dropped, is_doubled = self._drop.strikes(), self._duplicate.strikes()
        is_late, is_corrupt = self._reorder.strikes(), self._corrupt.strikes()
        if is_dropped:
            self._done[FaultKind.DROP] += 1
            return []
        if is_corrupt:
            message = _corrupted(message, self._corrupt.rng)
            self._done[FaultKind.CORRUPT] += 1
        self._done[FaultKind.DUPLICATE] += is_doubled
        frames = [message] * (1 + is_doubled)
        if is_late and not self._held:
            self._held = frames
            return []
        return self._with_held(frames)

    def fell_silent(self) -> None:
        """Note that the connection is half-open from now on."""
        self._done[FaultKind.HALF_OPEN] += 1

    def _with_held(self, frames: list[bytes]) -> list[bytes]:
        if not self._held:
            return frames
        self._done[FaultKind.REORDER] += 1
        held, self._held = self._held, []
        return frames + held


def _corrupted(message: bytes, rng: random.Random) -> bytes:
    # Never a digit for another digit: nobody could tell. A prefix of an object is no JSON, nor is what holds a
    # control character. (Not NUL, for which some readers take the text for UTF-16.)
    place = rng.randrange(1, len(message))
    return message[:place] if rng.getrandbits(1) else message[:place] + b"\x01" + message[place + 1 :]


class Misbehaviour:
    """All that goes wrong in one run.

    Args:
        plan: How often what goes wrong.
        seed: The market's.

    Attributes:
        done: What was done so far, by kind: frames dropped, doubled, overtaken, corrupted; jumps; connections that fell
            silent; requests refused.
    """

    def __init__(self, plan: FaultPlan, *, seed: int) -> None:
        self.done: Counter[FaultKind] = Counter()
        self._plan = plan
        self._seed = seed
        self._connections = 0
        self._jump = _Chance(plan, FaultKind.JUMP, seed=f"{seed}")
        self._refusal = _Chance(plan, FaultKind.TOO_MANY_REQUESTS, seed=f"{seed}")

    def connection(self) -> ConnectionFaults:
        """Return the faults of the next connection, by the number of connections before it."""
        self._connections += 1
        return ConnectionFaults(self._plan, self.done, seed=f"{self._seed} {self._connections}")

    def skip(self) -> int:
        """Return how many numbers the sequence of the next frame leaves out: mostly none."""
        if not self._jump.strikes():
            return 0
        self.done[FaultKind.JUMP] += 1
        return self._jump.rng.randint(1, _FARTHEST_JUMP)

    def refuses_request(self) -> bool:
        """Tell whether the next REST request is answered 429."""
        is_refused = self._refusal.strikes()
        self.done[FaultKind.TOO_MANY_REQUESTS] += is_refused
        return is_refused
