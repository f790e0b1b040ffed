"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "src" / "coinstream").rglob("*.py"))
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "handler", "service"}
EXACT_ROOMS = ("messages", "market", "adapters", "stores", "trading")
# Where a float is the thing itself: seconds to wait, never a number of the market.
SECONDS = re.compile(r"(_s|_seconds|speed|rate)$")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_is_short_and_named_after_what_it_knows(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 800
    assert path.stem not in BANNED_NAMES
    assert path.parent.name not in BANNED_NAMES


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(ROOT / "src" / "coinstream").parts[0] in EXACT_ROOMS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_exact_rooms_make_no_float_of_a_number(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) == "float"]
    assert not made, f"float() in lines {made}"
    typed = [
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _name(node.annotation) == "float"
    ]
    assert not [name for name in typed if not SECONDS.search(name.lower())]


def _name(node: ast.AST) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def test_lock_files_hold_no_address() -> None:
    locks = [*ROOT.glob("*.lock"), *ROOT.glob("package-lock.json")]
    assert ROOT / "requirements.lock" in locks
    for path in locks:
        assert "://" not in path.read_text(encoding="utf-8"), path.name


def test_glossary_is_sorted_and_has_each_word_once() -> None:
    rows = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    words = [row.split("|")[1].strip() for row in rows if row.startswith("| ")][2:]
    assert words == sorted(set(words), key=str.lower)
    assert len(words) > 40


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\(([0-9]{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))


def test_every_promise_names_tests_that_exist() -> None:
    folder = ROOT / "docs"
    rows = [row for row in (folder / "promises.md").read_text(encoding="utf-8").splitlines() if "](../tests/" in row]
    assert len(rows) > 8
    for row in rows:
        path: Path | None = None
        for target, test in re.findall(r"\]\((\.\./tests/[^)]+)\)|`(test_[a-z0-9_]+)`", row):
            if target:
                path = folder / target
            else:
                assert path is not None, row
                assert f"def {test}(" in path.read_text(encoding="utf-8"), f"{path.name} has no {test}"
