"""Commands that prepare servers: `local`, `topics` and `stores`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from coinstream import local_servers
from coinstream import settings as settings_room
from coinstream.errors import FatalError, SettingsError
from coinstream.local_servers import LocalServers
from coinstream.settings import Addresses, Settings

local = typer.Typer(help="The local servers: Kafka, PostgreSQL, MongoDB's stand-in.", no_args_is_help=True)
topics = typer.Typer(help="Kafka's topics.", no_args_is_help=True)
stores = typer.Typer(help="The databases.", no_args_is_help=True)
secrets = typer.Typer(help="Passwords in files.", no_args_is_help=True)

STORE_ADDRESSES = (
    "postgres_admin_url",
    "postgres_sink_url",
    "postgres_reader_url",
    "mongodb_admin_url",
    "mongodb_sink_url",
    "mongodb_reader_url",
)


def tell(line: str) -> None:
    """Write a line of progress to stderr; stdout is for results."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@local.command("up")
def up() -> None:
    """Start the local servers and leave them running; `coinstream local down` stops them."""
    settings = settings_room.load()
    running = local_servers.find(settings.data_folder)
    if running is not None and running.detached:
        _hold_complete(running)
        tell(f"the local servers of {settings.data_folder}/ run already")
        _tell_each(running)
        return
    servers = local_servers.start(
        settings.data_folder,
        kafka=settings.local_kafka,
        postgres_bin=settings.local_postgres_bin,
        detached=True,
        progress=tell,
    )
    _tell_each(servers)


def _hold_complete(running: LocalServers) -> None:
    """Raise `FatalError` when some of the servers have ended and others have not."""
    roles = [server.role for server in running.servers]
    missing = [role for role in local_servers.ROLES if role not in roles]
    if missing:
        raise FatalError(
            f"{' and '.join(roles)} run in {running.folder}, but {' and '.join(missing)} ended (logs/{missing[0]}.log"
            " there says why); run `coinstream local down`, then `coinstream local up`"
        )


def _tell_each(servers: LocalServers) -> None:
    for server in servers.servers:
        tell(f"{server.role}: {server.name} {server.version} at {server.address}")


@local.command("down")
def down() -> None:
    """Stop the local servers of the data folder; their data stays."""
    stopped = local_servers.down(settings_room.load().data_folder, progress=tell)
    tell(f"stopped: {', '.join(stopped)}" if stopped else "no local servers were running")


@local.command("status")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    show_passwords: Annotated[
        bool, typer.Option("--show-passwords", help="the readers' addresses as a client takes them")
    ] = False,
) -> None:
    """Print each running server, whether it is a stand-in, and the address at which to read each store."""
    running = local_servers.find(settings_room.load().data_folder)
    servers = running.servers if running else ()
    readers = _readers(running, show_passwords=show_passwords) if running else {}
    if as_json:
        print(json.dumps({"servers": [asdict(server) for server in servers], "readers": readers}, indent=2))
        return
    for server in servers:
        kind = "stand-in" if server.stand_in else "the real one"
        print(f"{server.role:<12}{server.name} {server.version} at {server.address} ({kind})")
    for role, address in readers.items():
        print(f"{'read':<12}{role} at {address}")
    if not servers:
        tell("no local servers run here; start them with `coinstream local up`")


def _readers(running: LocalServers, *, show_passwords: bool) -> dict[str, str]:
    """Return each store's address for its reader, by role.

    Without its password unless that was asked for, in JSON too: what a command prints is kept by terminals,
    logs and bug reports.
    """
    found = settings_room.local_addresses(running)
    addresses = {"postgresql": found.postgres_reader_url, "mongodb": found.mongodb_reader_url}
    return {
        role: address if show_passwords else settings_room.without_password(address)
        for role, address in addresses.items()
        if address
    }


@topics.command("apply")
def apply() -> None:
    """Make the cluster's topics match the table in the code; never deletes one."""
    from coinstream.kafka import apply_topics

    settings = settings_room.load()
    found = settings_room.addresses(settings, "kafka_bootstrap")
    changes = apply_topics(found.kafka_bootstrap, topic_prefix=settings.topic_prefix)
    for change in changes:
        tell(f"{change.topic}: {change.setting} {change.before or 'new'} → {change.after}")
    tell(f"topics: {len(changes)} changed" if changes else "topics: as they should be")


@stores.command("migrate")
def migrate() -> None:
    """Bring the schemas, roles, validators and indexes of both databases up to date."""
    settings = settings_room.load()
    migrate_stores(settings, settings_room.addresses(settings, *STORE_ADDRESSES))
    tell("stores: up to date")


def migrate_stores(settings: Settings, found: Addresses) -> None:
    """Do what `stores migrate` does, for addresses that are known."""
    from coinstream.stores.mongodb.migrate import migrate as migrate_mongodb
    from coinstream.stores.postgres.migrate import migrate as migrate_postgres

    migrate_postgres(
        found.postgres_admin_url,
        passwords=settings_room.passwords_of(found.postgres_sink_url, found.postgres_reader_url),
        progress=tell,
    )
    migrate_mongodb(
        found.mongodb_admin_url,
        passwords=settings_room.passwords_of(found.mongodb_sink_url, found.mongodb_reader_url),
        database=settings.mongodb_database,
        progress=tell,
    )


@secrets.command("check")
def check_secrets() -> None:
    """Refuse passwords that are missing or can be guessed, before any server is made with them."""
    folder = settings_room.load().secrets_folder
    if folder is None:
        raise SettingsError("COINSTREAM_SECRETS_FOLDER", "", "the folder of the passwords' files")
    paths = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not paths:
        raise SettingsError("COINSTREAM_SECRETS_FOLDER", str(folder), "a folder that holds files of passwords")
    for path in paths:
        settings_room.read_secret(path)
    tell(f"secrets: {len(paths)} as they should be")
