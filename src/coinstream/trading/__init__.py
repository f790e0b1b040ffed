"""Decisions of the paper brokerage."""

from coinstream.trading.account import Account, fold
from coinstream.trading.decide import decide, wake
from coinstream.trading.market import STALE_AFTER_US, Markets
from coinstream.trading.reply import Decision
from coinstream.trading.resting import Resting

__all__ = ["STALE_AFTER_US", "Account", "Decision", "Markets", "Resting", "decide", "fold", "wake"]
