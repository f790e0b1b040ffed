"""Make `.venv-peers` and install each peer of `requirements.txt` into it; a failure is a note, not an error.

A peer that cannot be installed leaves ``<peer>.failed`` with the reason, which the table then shows.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent.parent / ".venv-peers"
PYTHON = ENVIRONMENT / "bin" / "python"
NEEDS = {"quixstreams": ("quixstreams",), "cryptofeed": ("cryptofeed", "asyncpg")}
INSTALL_TIMEOUT_S = 600


def main() -> None:
    """Install what is missing."""
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    wanted = [line for line in (HERE / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    for peer, names in NEEDS.items():
        some = [line for line in wanted if line.startswith(names)]
        note = ENVIRONMENT / f"{peer}.failed"
        note.unlink(missing_ok=True)
        reason = _install(some)
        if reason:
            note.write_text(reason + "\n")
        print(f"{peer}: {reason or 'installed'}", file=sys.stderr)


def _install(requirements: list[str]) -> str:
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"cannot be installed: not within {INSTALL_TIMEOUT_S} s"
    lines = [line for line in done.stderr.splitlines() if line.lower().startswith("error")] or ["no reason given"]
    return f"cannot be installed: {lines[-1][:200]}" if done.returncode else ""


if __name__ == "__main__":
    main()
