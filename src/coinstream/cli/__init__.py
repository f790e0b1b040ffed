"""The command line: each command reads settings, builds the parts and runs one of them.

Exit status: 0 done, 1 it failed and said why, 2 a setting or an option cannot be used, 130 stopped
by Ctrl-C before it could finish.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from coinstream.cli import dead_letters, demo, processes, recordings, servers
from coinstream.cli.workers import stop_with_stdin
from coinstream.errors import CoinstreamError, SettingsError

app = typer.Typer(
    name="coinstream",
    help="Cryptocurrency market and user data: exchanges to Kafka to PostgreSQL and MongoDB, without loss.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _before_any_command(
    with_stdin: Annotated[bool, typer.Option("--stop-with-stdin", hidden=True)] = False,
) -> None:
    if with_stdin:
        stop_with_stdin()


app.command("demo")(demo.demo)
app.add_typer(servers.local, name="local")
app.add_typer(servers.topics, name="topics")
app.add_typer(servers.stores, name="stores")
app.add_typer(servers.secrets, name="secrets")
app.command("ingest")(processes.ingest)
app.add_typer(processes.sink, name="sink")
app.add_typer(processes.simulate, name="simulate")
app.command("normalise")(recordings.normalise)
app.add_typer(dead_letters.dead_letters, name="dead-letters")


def main() -> NoReturn:
    """Run the command line; errors made on purpose are one line, others a traceback."""
    try:
        app(standalone_mode=True)
    except SettingsError as error:
        _fail(error, 2)
    except CoinstreamError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our stdout (head, less) has gone; nothing is wrong with us.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(0)


def _fail(error: CoinstreamError, status: int) -> NoReturn:
    sys.stderr.write(f"coinstream: {error}\n")
    sys.exit(status)
