"""Settings: `COINSTREAM_…` variables, then `coinstream.toml`, then defaults that work on a laptop.

Addresses of servers have no default of their own: what is not set is asked of the local servers
that run in the data folder (`coinstream local up`, or the demo).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from coinstream import local_servers
from coinstream.errors import FatalError, SettingsError

PREFIX = "COINSTREAM_"
FILE = "coinstream.toml"
LEAST_SECRET = 24
"""Characters of a password in a file. Nobody types it, so it need not be one that can be guessed."""
MAKE_SECRETS = "`make secrets` writes them all"


def _split(value: object) -> object:
    return [part.strip().upper() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _address_of(*schemes: str) -> AfterValidator:
    def check(value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and urlsplit(text).scheme not in schemes:
            raise ValueError("an address that begins with " + " or ".join(f"{scheme}://" for scheme in schemes))
        return value

    return AfterValidator(check)


PostgresUrl = Annotated[SecretStr | None, _address_of("postgresql", "postgres")]
MongoUrl = Annotated[SecretStr | None, _address_of("mongodb", "mongodb+srv")]
HttpUrl = Annotated[str | None, _address_of("http", "https")]
WebSocketUrl = Annotated[str | None, _address_of("ws", "wss")]


class Settings(BaseSettings):
    """Everything that can be set; each field is also the variable ``COINSTREAM_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file=FILE, extra="forbid", frozen=True)

    data_folder: Path = Field(Path(".coinstream"), description="where the local servers keep their data")
    local_kafka: Literal["auto", "apache", "noida"] = Field("auto", description="which broker runs locally")
    local_postgres_bin: Path | None = Field(None, description="another folder of PostgreSQL's programs")

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

    symbols: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "DOGE-USD", "LTC-USD", "ADA-USD"),
        min_length=1,
        description="BASE-QUOTE, with commas",
    )
    coinbase_websocket_url: WebSocketUrl = Field(None, description="another Advanced Trade address")
    coinbase_rest_url: HttpUrl = Field(None, description="another address of Coinbase's REST API")
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


def load(**given: object) -> Settings:
    """Return the settings; ``given`` are a command's own options, ``None`` where not used.

    Raises:
        SettingsError: A value cannot be used; the setting, the value and what is allowed are named.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name = f"--{field.replace('_', '-')}" if given.get(field) is not None else PREFIX + field.upper()
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{FILE}: {field}", first["input"], "there is no such setting") from None
        shown = re.sub(r"//[^@/]*@", "//…@", str(first["input"]))  # never a password, on a screen or in a log
        raise SettingsError(name, shown, first["msg"].removeprefix("Value error, ")) from None
    except ValueError as error:  # the file is no TOML
        raise SettingsError(FILE, "…", f"not readable as TOML ({error})") from None


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


def local_addresses(servers: local_servers.LocalServers) -> Addresses:
    """Return the addresses of running local servers; empty for one that does not run."""
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
