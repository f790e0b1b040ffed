"""The servers of a laptop: Kafka, PostgreSQL and a stand-in for MongoDB, without Docker and without root.

One data folder holds everything: data, logs, ports, passwords and, while they run, who runs. No server
outlives the command that started it, however that ends, unless it was detached on purpose.
"""

from coinstream.local_servers.lifecycle import ROLES, down, find, remove, start, status
from coinstream.local_servers.postgresql_server import missing_programs
from coinstream.local_servers.running import LocalServers, RunningServer

__all__ = [
    "ROLES",
    "LocalServers",
    "RunningServer",
    "down",
    "find",
    "missing_programs",
    "remove",
    "start",
    "status",
]
