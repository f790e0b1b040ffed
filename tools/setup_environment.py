"""Make `.venv` from `requirements.lock`, with nothing but the machine's Python.

Run by `make setup`. Idempotent: a stamp holds the digest of whatever decides what the environment
holds, and a second run that finds it unchanged returns at once.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "setup.sha256"
LOCK = ROOT / "requirements.lock"
INSTALLER = "uv==0.13.9"
SUPPORTED = ((3, 11), (3, 14))


def digest_of_inputs() -> str:
    """Return the SHA-256 of everything that decides what the environment holds."""
    import tomllib  # here, so that an older Python gets as far as the sentence about versions

    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    decisive = repr((sys.version, metadata["project"], metadata["build-system"]))  # not the linters' settings
    return hashlib.sha256(decisive.encode() + LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()


def made_by_this_python() -> bool:
    """Return whether `.venv` is there and belongs to the interpreter that runs this."""
    configuration = ENVIRONMENT / "pyvenv.cfg"
    return configuration.exists() and f"version = {sys.version.split()[0]}\n" in configuration.read_text()


def run(*command: str) -> None:
    """Run a command; on failure explain it in a sentence and exit 1."""
    finished = subprocess.run(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, check=False)
    if finished.returncode == 0:
        return
    sys.stderr.write(finished.stderr)
    # uv names the package either as `name==1.2` or in backticks beside the words about wheels.
    missing = re.search(r"([A-Za-z0-9_.-]+==[^\s,`]+)[^\n]*(?:no wheels|only-binary|usable wheels)", finished.stderr)
    if missing or "wheel" in finished.stderr:
        name = missing.group(1) if missing else "one of the packages above"
        sys.exit(
            f"\nsetup: {name} has no wheel for {sys.platform} on Python {sys.version.split()[0]}."
            "\nUse Docker instead: see 'With Docker' in README.md."
        )
    sys.exit(f"\nsetup: '{' '.join(command)}' failed with status {finished.returncode}; the reason stands above.")


def main() -> None:
    """Make the environment, or return at once when it is up to date."""
    if not SUPPORTED[0] <= sys.version_info[:2] < SUPPORTED[1]:
        sys.exit(
            f"setup: coinstream runs on Python 3.11 to 3.13; this is {sys.version.split()[0]}."
            "\nName another with: make setup PYTHON=python3.12"
        )
    digest = digest_of_inputs()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == digest:
        return
    print("setup: making .venv (a minute the first time)", file=sys.stderr)
    try:
        venv.create(ENVIRONMENT, with_pip=True, clear=not made_by_this_python())
    except subprocess.CalledProcessError:
        sys.exit("setup: this Python cannot make virtual environments; on Debian: apt-get install python3-venv")
    run(str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", INSTALLER)
    uv = str(ENVIRONMENT / "bin" / "uv")
    target = ("--quiet", "--python", str(PYTHON))
    run(uv, "pip", "install", *target, "--only-binary", ":all:", "--require-hashes", "-r", str(LOCK))
    run(uv, "pip", "install", *target, "--no-deps", "--editable", str(ROOT))
    STAMP.write_text(digest)


if __name__ == "__main__":
    main()
