"""`dead-letters list | show`: what could not be accepted, why, and its raw bytes."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from coinstream import settings as settings_room

if TYPE_CHECKING:
    from coinstream.kafka import DeadLetter

dead_letters = typer.Typer(help="Records and frames that could not be accepted.", no_args_is_help=True)

Topic = Annotated[str | None, typer.Option(help="only of this topic, such as market.trades or market.frames")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines; bytes that are no UTF-8 as base64")]


def _letters(topic: str | None) -> Iterator[DeadLetter]:
    from coinstream.kafka import read_dead_letters

    settings = settings_room.load()
    found = settings_room.addresses(settings, "kafka_bootstrap")
    return read_dead_letters(
        found.kafka_bootstrap, topic_prefix=settings.topic_prefix, topics=None if topic is None else [topic]
    )


@dead_letters.command("list")
def list_letters(
    topic: Topic = None,
    limit: Annotated[int, typer.Option(min=1, help="the newest so many")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest last, with their number, place and reason."""
    letters = list(enumerate(_letters(topic)))
    for number, letter in letters[-limit:]:
        print(_line(number, letter) if not as_json else json.dumps(_fields(number, letter)))
    totals = Counter(f"{letter.topic} ({letter.error})" for _, letter in letters)
    summary = ", ".join(f"{count} {what}" for what, count in totals.most_common())
    sys.stderr.write(f"{len(letters)} dead letters{': ' + summary if summary else ''}\n")


@dead_letters.command("show")
def show(
    number: Annotated[int, typer.Argument(min=0, help="as `list` numbers them")],
    topic: Topic = None,
    raw: Annotated[bool, typer.Option(help="only the raw bytes, unchanged")] = False,
) -> None:
    """Show one dead letter with its raw bytes; give the same --topic as to `list`."""
    for place, letter in enumerate(_letters(topic)):
        if place != number:
            continue
        if raw:
            sys.stdout.buffer.write(letter.value or b"")
        else:
            print(json.dumps(_fields(place, letter), indent=2))
        return
    sys.stderr.write(f"coinstream: there is no dead letter {number}; see `coinstream dead-letters list`\n")
    raise typer.Exit(1)


def _line(number: int, letter: DeadLetter) -> str:
    place = "" if letter.offset is None else f" [{letter.partition}] at {letter.offset}"
    return f"{number:>6}  {letter.topic}{place}  {letter.stage}  {letter.error}: {letter.reason}"


def _fields(number: int, letter: DeadLetter) -> dict[str, object]:
    return {
        "number": number,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "stage": letter.stage,
        "error": letter.error,
        "reason": letter.reason,
        "time_us": letter.time_us,
        "key": _text(letter.key),
        "value": _text(letter.value),
    }


def _text(raw: bytes | None) -> object:
    """Return bytes as text where they are UTF-8, else as ``{"base64": …}``."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}
