"""An exchange to practise on: Coinbase Advanced Trade's public protocol and the asset sources' REST routes.

Behind them stands a market of integers that a seed decides. A stranger to everything that reads it.
"""

from coinstream.simulator.server import SimulatorAddresses, serve

__all__ = ["SimulatorAddresses", "serve"]
