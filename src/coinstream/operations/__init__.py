"""One public function each: how far the stores lag, and whether they hold what the log says."""

from coinstream.operations.compare import Baseline, Comparison, take_baseline
from coinstream.operations.lag import Lag

__all__ = ["Baseline", "Comparison", "Lag", "take_baseline"]
