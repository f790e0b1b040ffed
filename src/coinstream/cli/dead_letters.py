"""`dead-letters list | show`: what could not be accepted, why, and its raw bytes."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from coinstream import settings as settings_room
from coinstream.errors import FatalError, SettingsError
from coinstream.messages.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from coinstream.kafka import DeadLetter

dead_letters = typer.Typer(help="Records and frames that could not be accepted.", no_args_is_help=True)

LISTED_VALUE_BYTES = 16 * 1024
"""A list holds no more of each value; `show` has the whole."""

Topic = Annotated[str | None, typer.Option(help="only of this topic, such as market.trades or market.frames")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines; bytes that are no UTF-8 as base64, values cut")]


@dead_letters.command("list")
def list_letters(
    topic: Topic = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="the newest so many")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest last by Kafka's time, with where each stands, its origin and the reason."""
    from coinstream.kafka import newest, read_dead_letters

    settings = settings_room.load()
    _hold_to_table("--topic", topic)
    found = settings_room.addresses(settings, "kafka_bootstrap")
    totals: Counter[str] = Counter()

    def counted() -> Iterator[DeadLetter]:
        every = read_dead_letters(
            found.kafka_bootstrap, topic_prefix=settings.topic_prefix, topics=None if topic is None else [topic]
        )
        for letter in every:
            totals[f"{letter.topic} ({letter.error})"] += 1
            yield replace(letter, value=letter.value and letter.value[:LISTED_VALUE_BYTES])

    for letter in newest(counted(), limit):
        where = _where(letter, settings.topic_prefix)
        print(json.dumps({"letter": where, **_fields(letter)}) if as_json else _line(where, letter))
    summary = ", ".join(f"{count} {what}" for what, count in totals.most_common())
    sys.stderr.write(f"{totals.total()} dead letters{': ' + summary if summary else ''}\n")


@dead_letters.command("show")
def show(
    letter: Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="where it stands, as in the list")],
    raw: Annotated[bool, typer.Option(help="only the raw bytes, unchanged")] = False,
) -> None:
    """Show one dead letter with its raw bytes."""
    from coinstream.kafka import read_dead_letter

    settings = settings_room.load()
    topic, partition, offset = _place(letter)
    found = read_dead_letter(
        settings_room.addresses(settings, "kafka_bootstrap").kafka_bootstrap,
        topic,
        partition,
        offset,
        topic_prefix=settings.topic_prefix,
    )
    if found is None:
        raise FatalError(f"there is no dead letter {letter}; see `coinstream dead-letters list`")
    if raw:
        sys.stdout.buffer.write(found.value or b"")
    else:
        print(json.dumps({"letter": letter, **_fields(found)}, indent=2))


def _hold_to_table(option: str, topic: str | None, *, given: str | None = None) -> None:
    """Raise `SettingsError` for a topic that has no dead letters, before Kafka is asked, naming what was ``given``."""
    from coinstream.kafka import LETTER_TOPICS

    known = [it.name.removesuffix(DEAD_LETTERS) for it in LETTER_TOPICS]
    if topic is not None and topic.removesuffix(DEAD_LETTERS) not in known:
        raise SettingsError(option, given or topic, f"there is no such topic; one of {', '.join(known)}")


def _place(text: str) -> tuple[str, int, int]:
    """Return what `_where` wrote."""
    parts = re.fullmatch(r"(.+)/([0-9]{1,9})/([0-9]{1,18})", text, re.ASCII)
    if parts is None:
        raise SettingsError("LETTER", text, "TOPIC/PARTITION/OFFSET, as `coinstream dead-letters list` has it")
    _hold_to_table("LETTER", parts[1], given=text)
    return parts[1], int(parts[2]), int(parts[3])


def _where(letter: DeadLetter, prefix: str) -> str:
    """Name a letter for good: ``market.trades/0/17``, partition and offset those of the dead-letters topic."""
    place = letter.place
    if place is None:
        raise AssertionError("a letter that was read stands somewhere")
    return f"{place.topic.removeprefix(prefix).removesuffix(DEAD_LETTERS)}/{place.partition}/{place.offset}"


def _line(where: str, letter: DeadLetter) -> str:
    origin = "" if letter.offset is None else f"  [{letter.partition}] at {letter.offset}"
    return f"{where}{origin}  {letter.stage}  {letter.error}: {letter.reason}"


def _fields(letter: DeadLetter) -> dict[str, object]:
    return {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "stage": letter.stage,
        "error": letter.error,
        "reason": letter.reason,
        "time_us": letter.time_us,
        "written_ms": letter.place and letter.place.time_ms,
        "key": _text(letter.key),
        "value": _text(letter.value),
        "value_bytes": letter.value_bytes,
    }


def _text(raw: bytes | None) -> object:
    """Return bytes as text where they are UTF-8, else as ``{"base64": …}``."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}
