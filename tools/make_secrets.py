"""Write the passwords that compose.yaml wants, each a file of random characters; never overwrite one.

Run by `make secrets`, with nothing but the machine's Python. Compose mounts such a file into a container with
the owner and mode that it has here, and the servers' images read it as users of their own (999, 1000, 10001):
with mode 0600 they could not. So the folder is closed to everybody else, and the files in it can be read by
whoever has been handed one.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "secrets"
ENVIRONMENT = ROOT / ".env"
VARIABLE = "COINSTREAM_SECRETS"
NAMES = (
    "postgres",  # PostgreSQL's superuser; this and the next ones are named after their users
    "coinstream_sink",
    "coinstream_reader",
    "mongodb_root",
    "coinstream_mongo_sink",
    "coinstream_mongo_reader",
    "mongodb_key",  # members of the replica set know each other by it
)
_BYTES = 32  # as 64 hexadecimal digits: MongoDB's key may hold nothing but base64's alphabet


def make_secrets(folder: Path, names: tuple[str, ...] = NAMES) -> list[str]:
    """Write the files that are missing, and return their names.

    Args:
        folder: Made with mode 0700 if it is not there, and given it if it is.
        names: Of the files.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    made = []
    for name in names:
        try:
            # Exclusive: two runs at once, or one after the servers were made, must not change a password.
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        except FileExistsError:
            continue
        with os.fdopen(handle, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o444)  # whatever the umask says
            file.write(secrets.token_hex(_BYTES))
        made.append(name)
    return made


def name_folder(environment: Path, folder: str) -> bool:
    """Tell Compose where the secrets are, unless its file of variables says so already.

    compose.yaml has no default for this variable: without it Compose starts nothing and names `make secrets`.
    """
    lines = environment.read_text(encoding="utf-8").splitlines() if environment.exists() else []
    if any(line.strip().startswith(f"{VARIABLE}=") for line in lines):
        return False
    environment.write_text("".join(f"{line}\n" for line in (*lines, f"{VARIABLE}={folder}")), encoding="utf-8")
    return True


def main() -> None:
    """Make the secrets of this clone, or of the folder named."""
    parser = argparse.ArgumentParser(description="Write the passwords that compose.yaml wants.")
    parser.add_argument("--folder", type=Path, help="instead of secrets/; then COINSTREAM_SECRETS is yours to set")
    folder = parser.parse_args().folder
    made = make_secrets(folder or FOLDER)
    if folder is None:
        name_folder(ENVIRONMENT, f"./{FOLDER.name}")
    kept = len(NAMES) - len(made)
    sys.stderr.write(f"secrets: {len(made)} written to {folder or FOLDER.name}/, {kept} were there and stay\n")


if __name__ == "__main__":
    main()
