"""MongoDB: collections and their validators, the sink's writes, and the reads of operations.

`write.MongoWriter` is what the sink drives, `read.MongoReader` what comparisons ask, and
`migrate.migrate` makes a database match the code. This package names none of them here, so that
each stays behind its own import contract.
"""

from coinstream.messages import AssetSnapshot, BookSnapshot, Instrument, Message, Quote, Trade

__all__ = ["MONGODB_KINDS"]

MONGODB_KINDS: frozenset[type[Message]] = frozenset({Trade, Instrument, Quote, BookSnapshot, AssetSnapshot})
"""The messages that MongoDB keeps something of."""
