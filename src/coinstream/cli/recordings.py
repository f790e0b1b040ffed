"""`normalise`: recorded frames in, messages out as JSON lines; the adapters without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinstream.cli.servers import tell
from coinstream.cli.venues import venue_named
from coinstream.errors import SettingsError

if TYPE_CHECKING:
    from coinstream.adapters import Channel


def normalise(
    files: Annotated[list[Path], typer.Argument(help="recordings, .jsonl or .jsonl.gz", exists=False)],
    venue: Annotated[str | None, typer.Option(help="whose frames; else told from their addresses")] = None,
    messages: Annotated[str, typer.Option(help="which, with commas")] = "trades,quotes,books",
) -> None:
    """Print the messages of recordings as JSON lines on stdout, and a summary on stderr."""
    from coinstream.ingest.normalise import Summary
    from coinstream.ingest.normalise import normalise as messages_of
    from coinstream.ingest.recording import read_frames
    from coinstream.messages import BookSnapshot, Quote, Trade, encode

    names = {Trade: b"trade", Quote: b"quote", BookSnapshot: b"book_snapshot"}
    summary = Summary()
    out = sys.stdout.buffer
    frames = read_frames(files, on_cut=tell)
    kinds = _kinds(messages)
    try:
        for message in messages_of(frames, venue=venue_named(venue), kinds=kinds, summary=summary):
            if type(message) in names:
                out.write(b'{"type":"' + names[type(message)] + b'",' + encode(message)[1:] + b"\n")
    finally:
        out.flush()  # what came before an error stands before it
    sys.stderr.write(f"{summary}\n")


def _kinds(text: str) -> list[Channel]:
    from coinstream.adapters import CHANNELS

    names = [part.strip() for part in text.split(",")]
    if not set(names) <= set(CHANNELS):
        raise SettingsError("--messages", text, f"some of {', '.join(CHANNELS)}, with commas")
    return [channel for channel in CHANNELS if channel in names]
