"""Settings: where values come from, and what a mistake is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coinstream.adapters import VENUES
from coinstream.cli.servers import check_secrets
from coinstream.errors import FatalError, SettingsError
from coinstream.settings import addresses, chosen_symbols, load, passwords_of, venue_urls


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable and no file but those of the test."""
    for name in [name for name in os.environ if name.startswith("COINSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_option_wins_over_variable_and_variable_over_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("coinstream.toml").write_text('log_level = "error"\nsymbols = "btc-usd, eth-usd"\n')
    assert load().log_level == "error"
    assert load().symbols == ("BTC-USD", "ETH-USD")
    monkeypatch.setenv("COINSTREAM_LOG_LEVEL", "warning")
    assert load().log_level == "warning"
    assert load(log_level="debug", symbols=None).log_level == "debug"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("KAFKA_SESSION_TIMEOUT_MS", "5", "greater than or equal to 6000"),
        ("KAFKA_SESSION_TIMEOUT_MS", "soon", "integer"),
        ("POSTGRES_SINK_URL", "mysql://localhost/x", "postgresql://"),
        ("COINGECKO_URL", "ftp://x", "http:// or https://"),
        ("BINANCE_FUTURES_REST_URL", "wss://x", "http:// or https://"),
        ("COINBASE_WEBSOCKET_URL", "http://x", "ws:// or wss://"),
        ("COINBASE_WEBSOCKET_URL", "ws://", "names a host"),
        ("COINBASE_REST_URL", "http://:80", "names a host"),
        ("POSTGRES_ADMIN_URL", "postgresql://", "names a host"),
        ("POSTGRES_ADMIN_URL", "postgresql://u:p@/x", "names a host"),
        ("MONGODB_SINK_URL", "mongodb:///x", "names a host"),
        ("SYMBOLS", "", "at least 1 item"),
        ("SYMBOLS", "BTCUSD,;;", "BASE-QUOTE"),
        ("SYMBOLS", "BTC-USD,ETH-", "BASE-QUOTE"),
        ("DATA_FOLDER", "", "path of a folder"),
        ("LOCAL_POSTGRES_BIN", "", "path of a folder"),
        ("LOCAL_POSTGRES_BIN", "/nonexistent", "PostgreSQL 15 or later"),
        ("TYPO", "hidden", "no such setting; the nearest is COINSTREAM_"),
        ("POSTGRES_SINK", "hidden", "no such setting; the nearest is COINSTREAM_POSTGRES_SINK_URL"),
        ("SYMBOL", "hidden", "no such setting; the nearest is COINSTREAM_SYMBOLS"),
        ("TOPIC_PREFIX", "a b", "pattern"),
    ],
)
def test_mistake_names_setting_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(f"COINSTREAM_{name}", value)
    with pytest.raises(SettingsError) as mistake:
        load()
    assert mistake.value.setting == f"COINSTREAM_{name}"
    assert allowed in str(mistake.value)
    assert "\n" not in str(mistake.value)
    assert "hidden" not in str(mistake.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEST_KAFKA", "127.0.0.1:9092"),
        ("SOAK_S", "600"),
        ("SYMBOLS", "btc-usd, 1000SHIB-USDT-PERP,BTC-USDT-210924,币安人生-USDT"),
        ("POSTGRES_READER_URL", "postgresql:///coinstream?host=/run/postgresql"),
        ("POSTGRES_READER_URL", "postgresql://u:p%40@[::1]:5432/x"),
        ("MONGODB_READER_URL", "mongodb://u:p@a:1,b:2/?replicaSet=r"),
    ],
)
def test_what_can_be_used_is_not_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"COINSTREAM_{name}", value)
    load()


def test_unknown_setting_of_the_file_is_named() -> None:
    Path("coinstream.toml").write_text("kafka_bootstap = 'x'\n")
    with pytest.raises(SettingsError, match=r"coinstream\.toml: kafka_bootstap.*no such setting"):
        load()


def test_file_that_is_no_toml_is_named() -> None:
    Path("coinstream.toml").write_text("= 1")
    with pytest.raises(SettingsError, match=r"coinstream\.toml.*TOML"):
        load()


def test_password_of_an_address_is_never_shown() -> None:
    settings = load(postgres_sink_url="postgresql://coinstream_sink:hidden@127.0.0.1/coinstream")
    assert "hidden" not in repr(settings)
    with pytest.raises(SettingsError) as mistake:
        load(postgres_sink_url="mysql://u:hidden@127.0.0.1/x")
    assert "hidden" not in str(mistake.value)


def test_missing_address_says_which_and_what_to_do() -> None:
    with pytest.raises(FatalError, match=r"COINSTREAM_KAFKA_BOOTSTRAP.*coinstream local up"):
        addresses(load(), "kafka_bootstrap")


def test_passwords_are_those_of_the_addresses() -> None:
    assert passwords_of("postgresql://a:p%40ss@h/x", "mongodb://b:q@h") == {"a": "p@ss", "b": "q"}
    with pytest.raises(SettingsError):
        passwords_of("postgresql://h/x")


def test_every_venue_has_its_two_addresses_from_variables_and_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("coinstream.toml").write_text('coinbase_rest_url = "http://127.0.0.1:2"\n')
    for venue in VENUES:
        assert venue_urls(load(), venue)[0] is None
        monkeypatch.setenv(f"COINSTREAM_{venue.upper()}_WEBSOCKET_URL", f"ws://{venue.replace('_', '-')}.example.org")
    assert venue_urls(load(), "coinbase") == ("ws://coinbase.example.org", "http://127.0.0.1:2")
    assert venue_urls(load(), "binance_futures") == ("ws://binance-futures.example.org", None)
    assert venue_urls(load(), "mtgox") == (None, None)


def test_symbols_are_chosen_by_somebody_or_left_to_the_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_symbols(load()) is None
    assert chosen_symbols(load(symbols="btc-usdt")) == ("BTC-USDT",)
    monkeypatch.setenv("COINSTREAM_SYMBOLS", "eth-usdt")
    assert chosen_symbols(load()) == ("ETH-USDT",)


SECRET = "0123456789abcdef" * 4


def test_address_without_password_takes_it_from_the_file_of_its_user(tmp_path: Path) -> None:
    (tmp_path / "coinstream_sink").write_text(f"{SECRET}\n")
    (tmp_path / "coinstream_mongo_sink").write_text("p@ss/word:of %twenty4 random")
    settings = load(
        secrets_folder=tmp_path,
        kafka_bootstrap="kafka:9092",
        postgres_sink_url="postgresql://coinstream_sink@postgres:5432/coinstream",
        postgres_reader_url="postgresql://coinstream_reader@postgres:5432/coinstream",
        mongodb_sink_url="mongodb://coinstream_mongo_sink@mongo:27017/?authSource=admin",
        mongodb_admin_url="mongodb://root:in_the_address@mongo/",
    )
    found = addresses(settings, "kafka_bootstrap", "postgres_sink_url", "mongodb_sink_url", "mongodb_admin_url")
    assert found.kafka_bootstrap == "kafka:9092"
    assert found.postgres_sink_url == f"postgresql://coinstream_sink:{SECRET}@postgres:5432/coinstream"
    assert passwords_of(found.mongodb_sink_url) == {"coinstream_mongo_sink": "p@ss/word:of %twenty4 random"}
    assert found.mongodb_sink_url.endswith("@mongo:27017/?authSource=admin")
    assert found.mongodb_admin_url == "mongodb://root:in_the_address@mongo/"
    # A process that does not need an address needs no secret of it either.
    assert found.postgres_reader_url == "postgresql://coinstream_reader@postgres:5432/coinstream"


@pytest.mark.parametrize("held", [None, "", "changeme", "coinstream_sink", "a" * 40, f" {SECRET}", f"{SECRET}\n\n"])
def test_missing_or_guessable_secret_is_refused_and_not_shown(tmp_path: Path, held: str | None) -> None:
    if held is not None:
        (tmp_path / "coinstream_sink").write_text(held)
    settings = load(secrets_folder=tmp_path, postgres_sink_url="postgresql://coinstream_sink@h/coinstream")
    with pytest.raises(SettingsError, match="make secrets") as refusal:
        addresses(settings, "postgres_sink_url")
    assert str(tmp_path / "coinstream_sink") in str(refusal.value)
    assert not held or held in ("", "coinstream_sink") or held not in str(refusal.value)


def test_check_of_secrets_names_the_first_that_can_be_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingsError, match="COINSTREAM_SECRETS_FOLDER"):
        check_secrets()
    folder = tmp_path / "secrets"
    monkeypatch.setenv("COINSTREAM_SECRETS_FOLDER", str(folder))
    with pytest.raises(SettingsError, match="holds files of passwords"):
        check_secrets()
    folder.mkdir()
    (folder / "a").write_text(SECRET)
    check_secrets()
    assert capsys.readouterr().err == "secrets: 1 as they should be\n"
    (folder / "b").write_text("postgres")
    with pytest.raises(SettingsError, match=r"/b'.*make secrets"):
        check_secrets()
