"""Settings: `COINSTREAM_…` variables, then `coinstream.toml`, then defaults that work on a laptop.

Addresses of servers have no default of their own: what is not set is asked of the local servers
that run in the data folder (`coinstream local up`, or the demo). Every venue that has an adapter has two
settings by its name, `COINSTREAM_<VENUE>_WEBSOCKET_URL` and `COINSTREAM_<VENUE>_REST_URL`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from coinstream import local_servers
from coinstream.adapters import VENUES
from coinstream.errors import FatalError, SettingsError

PREFIX = "COINSTREAM_"
FILE = "coinstream.toml"
OF_TESTS = re.compile(rf"{PREFIX}(TEST_\w+|SOAK_S)", re.ASCII)
"""Variables that only the test suite reads."""
_is_symbol = re.compile(r"[^\s,;:/|-]+(-[^\s,;:/|-]+)+").fullmatch
LEAST_SECRET = 24
"""Characters of a password in a file. Nobody types it, so it need not be one that can be guessed."""
MAKE_SECRETS = "`make secrets` writes them all"


def _split(value: object) -> object:
    return [part.strip().upper() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _address_of(*schemes: str) -> AfterValidator:
    allowed = "an address that begins with " + " or ".join(f"{scheme}://" for scheme in schemes) + " and names a host"

    def check(value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not (urlsplit(text).scheme in schemes and _names_host(text)):
            raise ValueError(allowed)
        return value

    return AfterValidator(check)


def _names_host(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].partition(":")[0]
    # PostgreSQL takes the folder of its socket as a parameter.
    return bool(host) or bool(parse_qs(parts.query).get("host"))


def _path(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("the path of a folder")  # "" would be the folder that we happen to stand in
    return value


def _has_programs(folder: Path | None) -> Path | None:
    missing = local_servers.missing_programs(folder) if folder is not None else ()
    if missing:
        raise ValueError(f"the bin folder of a PostgreSQL 15 or later; there is no {', '.join(missing)} in it")
    return folder


def _symbol(text: str) -> str:
    if not _is_symbol(text):
        raise ValueError("symbols as BASE-QUOTE, with commas between them")
    return text


PostgresUrl = Annotated[SecretStr | None, _address_of("postgresql", "postgres")]
MongoUrl = Annotated[SecretStr | None, _address_of("mongodb", "mongodb+srv")]
HttpUrl = Annotated[str | None, _address_of("http", "https")]
WebSocketUrl = Annotated[str | None, _address_of("ws", "wss")]


class _Settings(BaseSettings):
    """Everything that can be set; each field is also the variable ``COINSTREAM_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file=FILE, extra="forbid", frozen=True)

    data_folder: Annotated[Path, BeforeValidator(_path)] = Field(
        Path(".coinstream"), description="where the local servers keep their data"
    )
    local_kafka: Literal["auto", "apache", "noida"] = Field("auto", description="which broker runs locally")
    local_postgres_bin: Annotated[Path | None, BeforeValidator(_path), AfterValidator(_has_programs)] = Field(
        None, description="another folder of PostgreSQL's programs"
    )

    kafka_bootstrap: str | None = Field(None, description="host:port of Kafka, several with commas")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="goes before every topic's name")
    kafka_session_timeout_ms: int = Field(10_000, ge=6_000, le=300_000, description="a silent consumer is out after it")
    postgres_admin_url: PostgresUrl = Field(None, description="superuser; only `stores migrate` uses it")
    postgres_sink_url: PostgresUrl = Field(None, description="role coinstream_sink")
    postgres_reader_url: PostgresUrl = Field(None, description="role coinstream_reader")
    mongodb_admin_url: MongoUrl = Field(None, description="administrator; only `stores migrate` uses it")
    mongodb_sink_url: MongoUrl = Field(None, description="user coinstream_mongo_sink")
    mongodb_reader_url: MongoUrl = Field(None, description="user coinstream_mongo_reader")
    mongodb_database: str = Field("coinstream", pattern=r"^[A-Za-z0-9_-]{1,38}$", description="its database")

    symbols: Annotated[tuple[Annotated[str, AfterValidator(_symbol)], ...], NoDecode, BeforeValidator(_split)] = Field(
        ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "DOGE-USD", "LTC-USD", "ADA-USD"),
        min_length=1,
        description="BASE-QUOTE, with commas",
    )
    coinpaprika_url: HttpUrl = Field(None, description="another address of CoinPaprika's API")
    coingecko_url: HttpUrl = Field(None, description="another address of CoinGecko's API")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level written")
    metrics_port: int | None = Field(None, ge=1, le=65_535, description="where Prometheus' metrics are served")
    metrics_host: str = Field("127.0.0.1", description="the address of that port; 0.0.0.0 in a container")
    secrets_folder: Path | None = Field(None, description="files named after users of addresses: their passwords")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments of a command, variables, the file, defaults."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def _venue_fields() -> dict[str, Any]:
    """Return the two addresses of each venue that has an adapter, as fields of the settings."""
    fields: dict[str, Any] = {}
    for venue in VENUES:
        fields[f"{venue}_websocket_url"] = WebSocketUrl, Field(None, description=f"another WebSocket of {venue}")
        fields[f"{venue}_rest_url"] = HttpUrl, Field(None, description=f"another address of {venue}'s REST API")
    return fields


if TYPE_CHECKING:
    Settings = _Settings
else:
    Settings = create_model("Settings", __base__=_Settings, **_venue_fields())


def venue_urls(settings: Settings, venue: str) -> tuple[str | None, str | None]:
    """Return the WebSocket and the REST address set for a venue; ``None`` where its own is to be used."""
    return getattr(settings, f"{venue}_websocket_url", None), getattr(settings, f"{venue}_rest_url", None)


def chosen_symbols(settings: Settings) -> tuple[str, ...] | None:
    """Return the symbols that somebody asked for; ``None`` where nobody did, and a venue's own are read."""
    return settings.symbols if "symbols" in settings.model_fields_set else None


def load(**given: object) -> Settings:
    """Return the settings; ``given`` are a command's own options, ``None`` where not used.

    Raises:
        SettingsError: A value cannot be used; the setting, the value and what is allowed are named. Or there is
            no such setting: a misspelt one that is passed over would run the process on other servers or symbols.
    """
    _hold_to_table(os.environ)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name = f"--{field.replace('_', '-')}" if given.get(field) is not None else PREFIX + field.upper()
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{FILE}: {field}", "…", _no_such(field)) from None
        shown = re.sub(r"//[^@/]*@", "//…@", str(first["input"]))  # never a password, on a screen or in a log
        raise SettingsError(name, shown, first["msg"].removeprefix("Value error, ")) from None
    except ValueError as error:  # the file is no TOML
        raise SettingsError(FILE, "…", f"not readable as TOML ({error})") from None


def _hold_to_table(variables: Mapping[str, str]) -> None:
    """Raise `SettingsError` for a variable of ours that is no setting; its value may be a password."""
    for variable in variables:
        name = variable.upper()
        if name.startswith(PREFIX) and not OF_TESTS.fullmatch(name):
            field = name.removeprefix(PREFIX).lower()
            if field not in Settings.model_fields:
                raise SettingsError(variable, "…", _no_such(field, prefix=PREFIX))


def _no_such(field: str, *, prefix: str = "") -> str:
    nearest = get_close_matches(field.lower(), Settings.model_fields, n=1, cutoff=0.0)[0]
    spelt = prefix + nearest.upper() if prefix else nearest
    return f"there is no such setting; the nearest is {spelt}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers are, set or found running locally; only what a process asked for is there."""

    kafka_bootstrap: str
    postgres_admin_url: str
    postgres_sink_url: str
    postgres_reader_url: str
    mongodb_admin_url: str
    mongodb_sink_url: str
    mongodb_reader_url: str


def addresses(settings: Settings, *needed: str) -> Addresses:
    """Return the addresses of servers: what is set, else the local servers of the data folder.

    Args:
        settings: As loaded.
        needed: Names of `Addresses` that must not be missing.

    Raises:
        FatalError: A needed address is neither set nor found; it says which, and what to do.
    """
    names = Addresses.__dataclass_fields__
    found = {name: getattr(settings, name) for name in names}
    if any(found[name] is None for name in needed):
        running = local_servers.find(settings.data_folder)
        local = asdict(local_addresses(running)) if running else {}
        found = {name: local.get(name) if value is None else value for name, value in found.items()}
    missing = [name for name in needed if not found[name]]
    if missing:
        raise FatalError(
            f"{PREFIX}{missing[0].upper()} is not set and no local server runs in {settings.data_folder}/: "
            "set it, or start the local servers with `coinstream local up`"
        )
    plain = {n: v.get_secret_value() if isinstance(v, SecretStr) else v or "" for n, v in found.items()}
    if settings.secrets_folder is not None:
        plain |= {name: with_secret_password(plain[name], settings.secrets_folder) for name in needed}
    return Addresses(**plain)


def with_secret_password(url: str, folder: Path) -> str:
    """Return an address with its user's password, which the file of the user's name in ``folder`` holds.

    An address that names no user, or has a password already, stays as it is.

    Raises:
        SettingsError: The file is missing, or what it holds can be guessed.
    """
    parts = urlsplit(url) if "://" in url else None
    if parts is None or not parts.username or parts.password:
        return url
    user = unquote(parts.username)
    return _as_user(url, user, read_secret(folder / user))


def read_secret(path: Path) -> str:
    """Return what a file of secrets holds, without the newline at its end.

    Raises:
        SettingsError: It cannot be read, or is so short that it is a default or can be guessed.
    """
    try:
        secret = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise SettingsError("a secret", str(path), f"a file that can be read ({reason}); {MAKE_SECRETS}") from None
    if len(secret) < LEAST_SECRET or len(set(secret)) < LEAST_SECRET // 2 or secret != secret.strip():
        raise SettingsError("a secret", str(path), f"{LEAST_SECRET} random characters or more; {MAKE_SECRETS}")
    return secret


def local_addresses(*groups: local_servers.LocalServers) -> Addresses:
    """Return the addresses of running local servers, of one data folder or several; empty for one that does not run."""
    each = [asdict(_addresses_of(servers)) for servers in groups]
    return Addresses(**{name: next(filter(None, (one[name] for one in each)), "") for name in each[0]})


def _addresses_of(servers: local_servers.LocalServers) -> Addresses:
    postgres, mongodb, passwords = servers.postgres_admin_dsn or "", servers.mongodb_uri or "", servers.passwords

    def of(url: str, role: str) -> str:
        return _as_user(url, role, passwords[role]) if url else ""

    return Addresses(
        kafka_bootstrap=servers.kafka_bootstrap or "",
        postgres_admin_url=postgres,
        postgres_sink_url=of(postgres, "coinstream_sink"),
        postgres_reader_url=of(postgres, "coinstream_reader"),
        mongodb_admin_url=mongodb,
        mongodb_sink_url=of(mongodb, "coinstream_mongo_sink"),
        mongodb_reader_url=of(mongodb, "coinstream_mongo_reader"),
    )


def _as_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"))


def without_password(url: str) -> str:
    """Return an address as it may be shown: the user without the password."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login.partition(':')[0]}{at}{host}"))


def passwords_of(*urls: str) -> dict[str, str]:
    """Return each role's password as its address has it: what `stores migrate` gives the role.

    Raises:
        SettingsError: An address names no user, or no password.
    """
    passwords: dict[str, str] = {}
    for url in urls:
        parts = urlsplit(url)
        if not parts.username or not parts.password:
            raise SettingsError("an address of a store", parts.hostname, "one with the role's user and password")
        passwords[unquote(parts.username)] = unquote(parts.password)
    return passwords
