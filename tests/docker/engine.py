"""The Docker engine that the test runs on: one that answers, or one of our own, started and stopped here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coinstream" / "docker"
"""Keeps what is slow to make: the engine's images, a root file system, wheels, jars."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
NEWER_DEBIAN = "trixie"
"""Bookworm's Compose is version 1, which knows no `--wait`; the next release's needs nothing but glibc 2.34."""


def say(line: str) -> None:
    sys.stderr.write(f"test-docker: {line}\n")
    sys.stderr.flush()


class DockerTestError(Exception):
    """The test cannot go on, or found what must not be; the text says what."""


def run(
    *command: str | Path,
    environment: dict[str, str] | None = None,
    timeout_s: float = 600.0,
    may_fail: bool = False,
    stdin: bytes | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is shown when it fails and may not."""
    finished = subprocess.run(
        [str(part) for part in command],
        env=os.environ | (environment or {}),
        input=None if stdin is None else stdin.decode(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if finished.returncode != 0 and not may_fail:
        sys.stderr.write(finished.stdout[-8000:] + finished.stderr[-8000:])
        raise DockerTestError(f"`{' '.join(map(str, command[:8]))} …` ended with status {finished.returncode}")
    return finished


@dataclass
class Engine:
    """A running engine, and the commands that speak to it.

    Attributes:
        docker: The client's command.
        compose: Compose's, version 2.
        host: ``DOCKER_HOST``, or empty for the client's own choice.
        is_ours: Whether it was started here, so that images of the test may stand under official names.
    """

    docker: tuple[str, ...]
    compose: tuple[str, ...]
    host: str = ""
    is_ours: bool = False
    _daemon: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        # The stand-ins' Dockerfiles are plain; the old builder needs no plugin. Compose brings BuildKit's client.
        return ({"DOCKER_HOST": self.host} if self.host else {}) | {"DOCKER_BUILDKIT": "0"}

    def __call__(self, *arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run ``docker …``."""
        how["environment"] = self.environment | how.get("environment", {})
        return run(*self.docker, *arguments, **how)

    def has(self, image: str) -> bool:
        return self("image", "inspect", image, may_fail=True).returncode == 0

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("inspect", *names).stdout) if names else []
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._daemon is None:
            return
        say("stopping the engine that was started here")
        self._daemon.send_signal(signal.SIGTERM)
        try:
            self._daemon.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()


def find_or_start(*, may_install: bool) -> Engine:
    """Return the engine that answers, else one of our own.

    Ours keeps its data in `CACHE`, listens on a socket there, and leaves the machine's network alone: no bridge of
    its own and no rules of a firewall, so nothing stays when it ends.

    Raises:
        DockerTestError: There is no engine and none can be started; the text says what to do.
    """
    if may_install:
        _install()
    if shutil.which("docker") is None:
        raise DockerTestError(_advice("no docker on the PATH"))
    docker = ("docker",)
    compose = _find_compose()
    if run(*docker, "version", may_fail=True).returncode == 0:
        say("using the engine that answers")
        return Engine(docker, compose)
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        raise DockerTestError(_advice("no engine answers, and only root with dockerd installed can start one"))
    return _start(docker, compose)


def _start(docker: Sequence[str], compose: Sequence[str]) -> Engine:
    _demand_forwarding()
    home = CACHE / "engine"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket, log = home / "docker.sock", home / "dockerd.log"
    (home / "docker.pid").unlink(missing_ok=True)  # of an engine that was killed; the socket says who runs
    engine = Engine(tuple(docker), tuple(compose), host=f"unix://{socket}", is_ours=True)
    if engine("version", may_fail=True).returncode == 0:
        raise DockerTestError(f"another run's engine answers on {socket}; wait for it, or end it")
    say(f"starting an engine of our own; its log: {log}")
    with log.open("wb") as output:
        engine._daemon = subprocess.Popen(
            (
                *("dockerd", "--host", engine.host, "--data-root", str(home / "data")),
                *("--exec-root", str(home / "run"), "--pidfile", str(home / "docker.pid")),
                *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            ),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while engine("version", may_fail=True).returncode != 0:
        if engine._daemon.poll() is not None or time.monotonic() > deadline:
            engine.__exit__(None, None, None)
            sys.stderr.write(log.read_text(errors="replace")[-3000:])
            raise DockerTestError("dockerd does not start; the end of its log stands above")
        time.sleep(0.2)
    return engine


def _demand_forwarding() -> None:
    """See that containers will reach each other: an engine that ran here before may have left a firewall that drops.

    Seen: names were found, connections timed out, for the kernel shows the bridge's frames to the firewall.
    """
    bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    is_filtered = bridged.exists() and bridged.read_text().strip() == "1"
    if not is_filtered or shutil.which("iptables") is None:
        return
    if "-P FORWARD DROP" in run("iptables", "-S", "FORWARD", may_fail=True).stdout:
        raise DockerTestError(
            "this machine's firewall drops what containers say to each other, and our engine changes no firewall:"
            " start the engine that made those rules, or `iptables -P FORWARD ACCEPT`"
        )


def _find_compose() -> tuple[str, ...]:
    own = CACHE / "compose" / "docker-compose"
    for command in (("docker", "compose"), ("docker-compose",), (str(own),)):
        if shutil.which(command[0]) is None:
            continue
        said = run(*command, "version", "--short", may_fail=True)
        if said.returncode == 0 and said.stdout.strip().lstrip("v").startswith(("2.", "3.", "4.", "5.")):
            return command
    raise DockerTestError(_advice("no Compose of version 2 or later"))


def _advice(what: str) -> str:
    return f"{what}; on Debian, as root, `make test-docker ARGS=--install` installs what is missing"


def _install() -> None:
    """Install from Debian what is missing: the engine, debootstrap, and a Compose of version 2 into `CACHE`."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise DockerTestError("--install needs Debian and root")
    packages = {"dockerd": "docker.io", "debootstrap": "debootstrap", "iptables": "iptables"}
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    if missing:
        say(f"installing {', '.join(missing)}")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update")
        run("apt-get", "install", "--yes", "--no-install-recommends", *missing, environment=quiet)
    try:
        _find_compose()
    except DockerTestError:
        say(f"fetching docker-compose of Debian {NEWER_DEBIAN}")
        _fetch_compose()


def debian_mirror() -> str:
    """Return the address of Debian's archive as this machine's apt has it."""
    sites = run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)").stdout.split("\n")
    found = [line.split()[0] for line in sites if line and not line.split()[1].endswith(("-security", "-updates"))]
    if not found:
        raise DockerTestError("apt names no archive of Debian")
    return found[0]


def _fetch_compose() -> None:
    """Let apt fetch one package of a newer release with lists of its own, and unpack its program."""
    home = CACHE / "compose"
    shutil.rmtree(home, ignore_errors=True)
    (home / "lists" / "partial").mkdir(parents=True)
    (home / "archives" / "partial").mkdir(parents=True)
    source = home / "sources.list"
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    source.write_text(f"deb [signed-by={keys}] {debian_mirror()} {NEWER_DEBIAN} main\n")
    options = (
        *("-o", f"Dir::Etc::sourcelist={source}", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", f"Dir::State::lists={home}/lists", "-o", f"Dir::Cache={home}", "-o", "APT::Sandbox::User=root"),
    )
    run("apt-get", *options, "update")
    run("apt-get", *options, "install", "--yes", "--download-only", "--no-install-recommends", "docker-compose")
    (package,) = home.glob("archives/docker-compose_*.deb")
    run("dpkg-deb", "--extract", package, home / "unpacked")
    shutil.copy(home / "unpacked/usr/libexec/docker/cli-plugins/docker-compose", home / "docker-compose")
    for left in ("lists", "archives", "unpacked"):
        shutil.rmtree(home / left)
