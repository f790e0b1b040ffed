"""Download Kafka's jars with jgo and print their paths as JSON; a process of its own.

jgo's imports cost 0.4 s and warn on stderr about folders it does not need here (platformdirs'
RuntimeDirWarning), and a download may hang: so the parent runs this with a time limit and keeps what it
says for the case that it fails. Arguments: the Maven endpoint, the folder for the jars.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Resolve the endpoint of the first argument into the folder of the second."""
    import jgo  # noqa: PLC0415 - the parent's import of this package must not pay for it

    environment = jgo.build(sys.argv[1], cache_dir=Path(sys.argv[2]), update=True)
    # jgo parts the jars for Java's module path from the others; a plain class path wants both.
    jars = sorted(str(path) for part in ("jars", "modules") for path in (environment.path / part).glob("*.jar"))
    print(json.dumps(jars))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main()
