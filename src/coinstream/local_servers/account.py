"""Under whose account PostgreSQL runs: it refuses root, and an ordinary user cannot reach a clone in root's home."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coinstream.errors import FatalError

# In a user namespace of its own PostgreSQL sees itself as user 1000 and the kernel still sees the owner
# of the folder: no file changes hands, no parent folder is opened.
_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
# Where namespaces are refused. Root's alone to write, so that nobody else can lay out a folder for us.
_ELSEWHERE = Path("/var/lib/coinstream")


@dataclass(frozen=True, slots=True)
class Place:
    """Where and as whom PostgreSQL runs.

    Attributes:
        folder: Holds its data folder.
        programs: Its bin folder, as that user reaches it.
        prefix: Words before each of its commands.
        user: The user to become, or None.
    """

    folder: Path
    programs: Path
    prefix: tuple[str, ...] = ()
    user: int | None = None

    def identity(self) -> dict[str, Any]:
        """Word the change of user as options of `subprocess.run`."""
        return {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}


def choose(home: Path, programs: Path, progress: Callable[[str], None]) -> Place:
    """Choose the account: ours, if we are not root; else ours in a namespace; else an ordinary user's elsewhere.

    Args:
        home: PostgreSQL's part of the data folder.
        programs: Its bin folder.
        progress: Told, in a line, if the data has to be kept elsewhere.

    Raises:
        FatalError: We are root and there is no ordinary user to become.
    """
    if os.geteuid() != 0:
        return Place(home, programs)
    elsewhere = elsewhere_of(home)
    refusal = _namespace_refusal()
    if refusal is None and not elsewhere.exists():
        return Place(home, programs, prefix=_NAMESPACE)
    if (home / "data").exists():
        raise FatalError(
            f"PostgreSQL refuses to run as root, {home} was made in a user namespace and none can be made now"
            f" ({refusal}): allow them, or name another data folder"
        )
    progress(f"postgresql: root without user namespaces; its data is kept for an ordinary user in {elsewhere}")
    return _of_ordinary_user(elsewhere, programs)


def elsewhere_of(home: Path) -> Path:
    """Return where the data of a ``home`` is kept instead, for root where namespaces are refused."""
    return _ELSEWHERE / f"postgresql-{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"


def _namespace_refusal() -> str | None:
    try:
        tried = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return str(error)
    return (tried.stderr.strip() or f"status {tried.returncode}") if tried.returncode else None


def _of_ordinary_user(folder: Path, programs: Path) -> Place:
    user = next((entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody")), None)
    if not user:
        raise FatalError("PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody' to become")
    _ELSEWHERE.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    # The user may look into it and write its data; what it runs stays root's.
    os.chown(folder, user, user)
    place = Place(folder, programs, user=user)
    try:
        subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, **place.identity())
    except (OSError, subprocess.CalledProcessError):
        return Place(folder, _copy(programs, folder / "programs"), user=user)
    return place


def _copy(programs: Path, into: Path) -> Path:
    """Copy an installation, with the libraries that its wheel keeps beside the package; return its bin folder."""
    installation = programs.parent
    package = installation.parent
    copied = into / package.name / installation.name
    if not (into / "complete").exists():
        shutil.copytree(installation, copied, symlinks=True, dirs_exist_ok=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, into / libraries.name, symlinks=True, dirs_exist_ok=True)
        (into / "complete").touch()
    return copied / programs.name
