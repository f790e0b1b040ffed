"""An exchange to practise on, well-behaved or not, and people who trade.

Behind the venues' public protocols and the asset sources' REST routes stands a market of integers that a seed
decides. A stranger to everything that reads it; its people meet the engine in Kafka alone.
"""

from coinstream.simulator.faults import FaultKind, FaultPlan, parse_faults
from coinstream.simulator.server import Done, SimulatorAddresses, serve
from coinstream.simulator.users import UsersDone, run_users

__all__ = ["Done", "FaultKind", "FaultPlan", "SimulatorAddresses", "UsersDone", "parse_faults", "run_users", "serve"]
