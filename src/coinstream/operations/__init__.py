"""One public function each: how far the stores lag, whether they hold what the log says, what a feed missed."""

from coinstream.operations.compare import Baseline, Comparison, count_rows, take_baseline
from coinstream.operations.holes import Hole, find_holes, unnamed_holes
from coinstream.operations.lag import Lag

__all__ = ["Baseline", "Comparison", "Hole", "Lag", "count_rows", "find_holes", "take_baseline", "unnamed_holes"]
