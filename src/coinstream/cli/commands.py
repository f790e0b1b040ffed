"""Every command of `coinstream`, and how a command ends."""

from __future__ import annotations

import os
import select
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from coinstream import telemetry
from coinstream.cli import dead_letters, demo, processes, prove, recordings, servers, trace
from coinstream.cli.signals import StoppedError
from coinstream.cli.workers import stop_with_stdin
from coinstream.errors import CoinstreamError, SettingsError

STDOUT = 1


class _Quiet(TyperGroup):
    """All commands; one whose stdout is read no more (`| head`) ends as it would have, without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError as error:
            if not _nobody_reads_stdout():
                raise  # another pipe, or a socket
            os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # for what Python writes out at its end
            if isinstance(error.__context__, typer.Exit):
                raise error.__context__ from None
            raise typer.Exit(0) from None


def _nobody_reads_stdout() -> bool:
    poll = select.poll()
    poll.register(STDOUT, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


app = typer.Typer(
    cls=_Quiet,
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
    # A command that runs for long sets its own. The others say what is wrong in the one line they end with.
    telemetry.configure_logging(level="error")
    if with_stdin:
        stop_with_stdin()


app.command("demo")(demo.demo)
app.command("prove")(prove.prove)
app.add_typer(servers.local, name="local")
app.add_typer(servers.topics, name="topics")
app.add_typer(servers.stores, name="stores")
app.add_typer(servers.secrets, name="secrets")
app.command("ingest")(processes.ingest)
app.add_typer(processes.sink, name="sink")
app.command("engine")(processes.engine)
app.add_typer(processes.simulate, name="simulate")
app.command("normalise")(recordings.normalise)
app.command("trace")(trace.trace)
app.add_typer(dead_letters.dead_letters, name="dead-letters")


def run() -> NoReturn:
    """Run the command line; errors made on purpose are one line, others a traceback."""
    try:
        app(standalone_mode=True)
    except StoppedError as error:
        _fail(error, 130)
    except SettingsError as error:
        _fail(error, 2)
    except CoinstreamError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _fail(error: CoinstreamError, status: int) -> NoReturn:
    sys.stderr.write(f"coinstream: {error}\n")
    sys.exit(status)
