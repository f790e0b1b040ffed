"""The local Kafka: Apache Kafka on one node, or noida-db where Apache's jars cannot be had."""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coinstream.errors import FatalError, TransientError
from coinstream.local_servers import jars
from coinstream.local_servers.folder import Folder, read_json, write_private
from coinstream.local_servers.processes import Plan, run

_HEAP = "512m"
# Measured with 0.2.3: killed right after acknowledging 50 messages it came back without them, and every
# topic's id was zero, so that a topic made anew looks like the old one.
NOIDA_LACKS = "killed, it loses messages it had acknowledged, and its topics have no ids"


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that can be started.

    Attributes:
        plan: How.
        name: The product's real name.
        version: Its version.
        stand_in: Whether it stands in for Apache Kafka.
        note: What a reader of a summary should know, or None.
    """

    plan: Plan
    name: str
    version: str
    stand_in: bool
    note: str | None


def prepare(folder: Folder, *, product: str, ports: dict[str, int], progress: Callable[[str], None]) -> Broker:
    """Make a broker ready to start.

    Args:
        folder: The data folder.
        product: ``apache``, ``noida``, or ``auto``: Apache Kafka where it can be had, else noida-db.
        ports: ``kafka`` and ``kafka_controller``.
        progress: Told of each step.

    Raises:
        FatalError: The product asked for cannot be had, or the folder's data is not its.
    """
    if product not in ("auto", "apache", "noida"):
        raise FatalError(f"kafka={product!r} is unknown: apache, noida or auto")
    if product == "noida":
        return _noida(folder, ports["kafka"], "asked for")
    try:
        java = jars.find_java()
        class_path = jars.kafka_jars(jars.cache_folder(folder.path), progress)
    except (TransientError, FatalError) as error:
        if product == "apache":
            raise FatalError(f"Apache Kafka {jars.VERSION} cannot be had: {error}") from error
        progress(f"kafka: Apache Kafka cannot be had ({error}); noida-db stands in: {NOIDA_LACKS}")
        return _noida(folder, ports["kafka"], "Maven's registry or Java was out of reach")
    return _apache(folder, java, class_path, ports)


def _apache(folder: Folder, java: Path, class_path: list[Path], ports: dict[str, int]) -> Broker:
    home = folder.path / "kafka"
    data = home / "data"
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    properties = home / "server.properties"
    properties.write_text(_properties(data, ports))
    environment = {"LOG_DIR": str(home)}
    base = (
        str(java),
        "-XX:+UseSerialGC",  # half the memory of G1's regions at this heap, and a quicker start
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={temporary}",  # snappy and zstd unpack their native code there
        "--enable-native-access=ALL-UNNAMED",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-Dorg.slf4j.simpleLogger.showThreadName=false",
        "-cp",
        os.pathsep.join(map(str, class_path)),
    )
    check_version(home, data)
    if not (data / "meta.properties").exists():
        command = (*base, "kafka.tools.StorageTool", "format", "-t", _cluster_id(home), "-c", str(properties))
        run(command, what="formatting Kafka's data folder", environment=environment)
        write_private(home / "made_by.json", json.dumps({"version": jars.VERSION}))
    plan = Plan(
        role="kafka",
        command=(base[0], "-Xms128m", f"-Xmx{_HEAP}", *base[1:], "kafka.Kafka", str(properties)),
        folder=home,
        log=folder.log("kafka"),
        environment=environment,
        stop_timeout_s=30,
    )
    return Broker(plan=plan, name="Apache Kafka", version=jars.VERSION, stand_in=False, note=None)


def _cluster_id(home: Path) -> str:
    """Return the cluster's id, made once: a format that was interrupted goes on with the same."""
    path = home / "cluster_id"
    if not path.exists():
        made = "-"
        while made.startswith("-"):  # the tool would read it as an option
            made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        write_private(path, made)
    return path.read_text().strip()


def check_version(home: Path, data: Path) -> None:
    """Look at the data before anything starts on it.

    Raises:
        FatalError: It is of another format, another node or a later Kafka; the text says what to do.
    """
    meta = data / "meta.properties"
    if not meta.exists():
        return
    found = dict(
        line.split("=", 1) for line in meta.read_text().splitlines() if "=" in line and not line.startswith("#")
    )
    if (found.get("version"), found.get("node.id")) != ("1", "1"):
        raise FatalError(
            f"{meta} says version {found.get('version')}, node {found.get('node.id')}; Apache Kafka {jars.VERSION}"
            " wants version 1, node 1 here: name another folder, or move this one away"
        )
    made_by = str((read_json(home / "made_by.json") or {}).get("version", jars.VERSION))
    if [int(part) for part in made_by.split(".")[:2]] > [int(part) for part in jars.VERSION.split(".")[:2]]:
        raise FatalError(
            f"{data} was made by Apache Kafka {made_by} and this is {jars.VERSION}, which cannot read it:"
            " name another folder, or move this one away"
        )


def _properties(data: Path, ports: dict[str, int]) -> str:
    client = f"PLAINTEXT://127.0.0.1:{ports['kafka']}"
    controller = f"127.0.0.1:{ports['kafka_controller']}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"{client},CONTROLLER://{controller}",
        "advertised.listeners": client,
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        # A misspelt topic shall be an error, not a new topic with the wrong settings.
        "auto.create.topics.enable": "false",
        # One node: its own topics have one copy. Eight partitions start quicker than fifty.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # After a crash the new broker waits until the old one's session has ended (9 s by default).
        "broker.session.timeout.ms": 5_000,
        "broker.heartbeat.interval.ms": 1_000,
        # There is no herd of consumers to wait for.
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 33_554_432,  # of 128 MB: a quarter of the heap would be too much
    }
    # Backslashes would start an escape in this format; paths here have none.
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _noida(folder: Folder, port: int, why: str) -> Broker:
    found = importlib.util.find_spec("noida_db")
    binary = Path(found.origin).with_name("noida-db") if found is not None and found.origin else None
    if binary is None or not binary.exists():
        raise FatalError("noida-db is not installed; install coinstream[local]")
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)  # the wheel forgets it, and its own launcher does the same
    home = folder.path / "noida"
    (home / "data").mkdir(parents=True, exist_ok=True)
    version = importlib.metadata.version("noida-db")
    plan = Plan(
        role="kafka",
        command=(
            *(str(binary), "start", "--only", "kafka", "--host", "127.0.0.1"),
            *("--kafka-port", str(port), "--data-dir", str(home / "data")),
        ),
        folder=home,
        log=folder.log("kafka"),
    )
    return Broker(plan=plan, name="noida-db", version=version, stand_in=True, note=f"{why}; {NOIDA_LACKS}")
