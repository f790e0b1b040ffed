"""Health: a process is healthy while it vouches for every part of its work."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from coinstream import health, telemetry
from coinstream.health import complaints

NOW_S = 1_764_000_000.0


def exposition(**leases: float) -> str:
    """What prometheus_client serves for the very metric that the processes set."""
    registry = CollectorRegistry()
    metric = telemetry.HEALTHY_UNTIL.describe()[0]
    gauge = Gauge(metric.name, metric.documentation, ["part"], registry=registry)
    for part, until_s in leases.items():
        gauge.labels(part).set(until_s)
    return generate_latest(registry).decode()


def test_process_is_healthy_while_all_its_leases_last() -> None:
    assert complaints(exposition(venue=NOW_S + 1, kafka=NOW_S + 60), NOW_S) == []


def test_part_whose_lease_ended_is_named_with_its_silence() -> None:
    wrong = complaints(exposition(venue=NOW_S - 12, kafka=NOW_S + 60), NOW_S)
    assert wrong == ["venue: silent for 12 s longer than it may be"]


def test_part_that_never_spoke_makes_a_process_unhealthy_however_well_the_others_are() -> None:
    assert complaints(exposition(venue=0, kafka=NOW_S + 60), NOW_S) == ["venue: no word yet"]


def test_process_that_says_nothing_is_unhealthy() -> None:
    assert complaints("coinstream_lag_messages 0\n", NOW_S) == ["it does not say what it does yet"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A port that serves ``served["metrics"]``, named by the variable."""
    said = {"metrics": ""}

    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said["metrics"].encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv(health.PORT_VARIABLE, str(server.server_port))
        yield said
        server.shutdown()
        thread.join()


def test_probe_exits_0_only_for_a_healthy_process(served: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    served["metrics"] = exposition(store=NOW_S + 10_000_000_000)
    health.main()
    assert capsys.readouterr().out == "healthy\n"
    served["metrics"] = exposition(store=NOW_S - 10_000_000)
    with pytest.raises(SystemExit, match=r"unhealthy: store: silent"):
        health.main()


@pytest.mark.parametrize(("port", "words"), [("", "not the port"), ("metrics", "not the port"), ("1", "no metrics on")])
def test_probe_without_a_process_is_unhealthy(monkeypatch: pytest.MonkeyPatch, port: str, words: str) -> None:
    monkeypatch.setenv(health.PORT_VARIABLE, port)
    with pytest.raises(SystemExit, match=f"unhealthy: .*{words}"):
        health.main()
