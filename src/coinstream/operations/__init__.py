"""One public function each: how far the stores lag, whether they hold what the log says, where a trade is.

Beside that, `find_holes` and `unnamed_holes`: what a feed missed, and whether coverage says so.
"""

from coinstream.operations.compare import Baseline, Comparison, count_rows, take_baseline
from coinstream.operations.holes import Hole, find_holes, unnamed_holes
from coinstream.operations.lag import Lag
from coinstream.operations.trace import TradeTrace, trace_trade

__all__ = [
    "Baseline",
    "Comparison",
    "Hole",
    "Lag",
    "TradeTrace",
    "count_rows",
    "find_holes",
    "take_baseline",
    "trace_trade",
    "unnamed_holes",
]
