"""compose.yaml as the test runs it: unmodified, in a project of its own, on free ports."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from engine import DockerTestError, Engine, run, say

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "coinstream-test"
PROCESSES = ("ingest", "poll", "sink-postgres", "sink-mongodb", "simulator")
SERVERS = ("kafka", "postgres", "mongo")
PORTS = {"COINSTREAM_KAFKA_PORT": "kafka", "COINSTREAM_POSTGRES_PORT": "postgres", "COINSTREAM_MONGO_PORT": "mongo"}


def pinned_images() -> dict[str, str]:
    """Return the images that Dockerfile and compose.yaml name, by product."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    base = next(line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE="))
    return {"python": base, **{server: services[server]["image"] for server in SERVERS}}


@dataclass(frozen=True)
class Stack:
    """A project of Compose.

    Attributes:
        engine: Where it runs.
        secrets: The folder of its secrets, or ``None`` where there are none.
        ports: On 127.0.0.1, by server.
    """

    engine: Engine
    secrets: Path | None
    ports: dict[str, int]

    @classmethod
    def on_free_ports(cls, engine: Engine, secrets: Path | None) -> Stack:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
        ports = dict(zip(PORTS.values(), (listener.getsockname()[1] for listener in listeners), strict=True))
        for listener in listeners:
            listener.close()
        return cls(engine, secrets, ports)

    def compose(self, *arguments: str, files: tuple[str, ...] = (), **how: Any) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose …`` on compose.yaml and compose.simulated.yaml, and no file of variables."""
        environment = {name: str(self.ports[server]) for name, server in PORTS.items()}
        # Empty counts as not set, and wins over a developer's .env.
        environment["COINSTREAM_SECRETS"] = "" if self.secrets is None else str(self.secrets)
        # Compose brings a client of BuildKit, which the Dockerfile's secret wants; the old builder knows none.
        environment |= self.engine.environment | {"DOCKER_BUILDKIT": "1"} | how.pop("environment", {})
        chosen = [
            word for name in ("compose.yaml", "compose.simulated.yaml", *files) for word in ("--file", str(ROOT / name))
        ]
        project = ("--project-name", PROJECT, "--project-directory", str(ROOT))
        return run(*self.engine.compose, *project, *chosen, *arguments, environment=environment, **how)

    def up(self, *arguments: str) -> float:
        """Bring everything up healthy; return how many seconds it took."""
        began = time.monotonic()
        try:
            self.compose("up", "--detach", "--wait", "--no-build", "--quiet-pull", *arguments, timeout_s=420)
        except DockerTestError:
            self.show_trouble()
            raise
        return time.monotonic() - began

    def down(self) -> None:
        """Remove containers, networks and volumes, whether or not the secrets are still there."""
        somewhere = {"COINSTREAM_SECRETS": str(self.secrets or "/nonexistent")}
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "60", environment=somewhere)

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Return what the engine knows of the containers, exited ones included."""
        ids = self.compose("ps", "--all", "--quiet", *services).stdout.split()
        return self.engine.inspect(*ids)

    def health(self, service: str) -> list[str]:
        """Return the health of each container of a service, or its status where it has no check."""
        return [
            it["State"].get("Health", {"Status": it["State"]["Status"]})["Status"] for it in self.containers(service)
        ]

    def wait_until(self, what: str, holds: Callable[[], bool], *, timeout_s: float) -> float:
        """Wait until something holds; return how many seconds it took."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > timeout_s:
                self.show_trouble()
                raise DockerTestError(f"not within {timeout_s:.0f} s: {what}")
            time.sleep(1)
        took_s = time.monotonic() - began
        say(f"{what}: after {took_s:.0f} s")
        return took_s

    def show_trouble(self) -> None:
        """Write to stderr what is not as it should be, with the last lines of each log."""
        for it in self.containers():
            state = it["State"]
            health = state.get("Health", {})
            if (state["Status"], state["ExitCode"]) == ("exited", 0) or health.get("Status") == "healthy":
                continue
            sys.stderr.write(
                f"\n{it['Name']}: {state['Status']} {state['ExitCode']} {state['Error']} {health.get('Status')}\n"
            )
            for probe in health.get("Log", [])[-1:]:
                sys.stderr.write(f"  probe: {probe['Output'].strip()[:500]}\n")
            logs = self.engine("logs", "--tail", "30", it["Id"], may_fail=True)
            sys.stderr.write(logs.stdout + logs.stderr)

    def environment_of_host(self) -> dict[str, str]:
        """Return the addresses of the published ports as coinstream's settings."""
        host = {server: f"127.0.0.1:{port}" for server, port in self.ports.items()}
        mongo = f"{host['mongo']}/?authSource=admin&directConnection=true"
        return {
            "COINSTREAM_SECRETS_FOLDER": str(self.secrets),
            "COINSTREAM_KAFKA_BOOTSTRAP": host["kafka"],
            "COINSTREAM_POSTGRES_READER_URL": f"postgresql://coinstream_reader@{host['postgres']}/coinstream",
            "COINSTREAM_MONGODB_READER_URL": f"mongodb://coinstream_mongo_reader@{mongo}",
        }


def status_of(process: dict[str, Any], field: str) -> str:
    """Return a field of a container's first process from this machine's /proc: one kernel runs both."""
    for line in Path(f"/proc/{process['State']['Pid']}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return line.split(":", 1)[1].strip()
    raise DockerTestError(f"no {field} in the status of {process['Name']}")


def as_json(text: str) -> Any:
    """Return the last line of a program's output as JSON."""
    return json.loads(text.strip().splitlines()[-1])
