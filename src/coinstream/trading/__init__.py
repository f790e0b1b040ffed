"""The paper brokerage's rules: pure functions of account, market and time; the engine's loop is elsewhere."""

from coinstream.trading.account import Account, VersionGapError, fold
from coinstream.trading.decide import decide, wake
from coinstream.trading.evidence import explain
from coinstream.trading.ledger import Link, link_hash, unbalanced, verify_chain
from coinstream.trading.market import STALE_AFTER_US, Market, Markets
from coinstream.trading.money import scale_of
from coinstream.trading.reply import Decision
from coinstream.trading.resting import Resting

__all__ = [
    "STALE_AFTER_US",
    "Account",
    "Decision",
    "Link",
    "Market",
    "Markets",
    "Resting",
    "VersionGapError",
    "decide",
    "explain",
    "fold",
    "link_hash",
    "scale_of",
    "unbalanced",
    "verify_chain",
    "wake",
]
