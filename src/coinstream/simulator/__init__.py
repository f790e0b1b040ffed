"""An exchange to practise on: a venue's public protocol and the asset sources' REST routes, well-behaved or not.

Behind them stands a market of integers that a seed decides. A stranger to everything that reads it.
"""

from coinstream.simulator.faults import FaultKind, FaultPlan, parse_faults
from coinstream.simulator.server import Done, SimulatorAddresses, serve

__all__ = ["Done", "FaultKind", "FaultPlan", "SimulatorAddresses", "parse_faults", "serve"]
