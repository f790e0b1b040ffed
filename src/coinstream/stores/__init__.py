"""The stores: what a write reports, and the error that a lost partition raises.

Each store's schema, migrations, write and read stand together in a room of its own. Both keep the
rules of `docs/architecture.md` about natural keys and who wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coinstream.errors import TransientError

__all__ = ["LostPartitionError", "Written"]


class LostPartitionError(TransientError):
    """Another consumer has stored a position for this partition: nothing was written.

    Whoever catches it drops its batch and reads the stored positions anew, if it still has the partition.
    """


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did.

    Attributes:
        inserted: Of each table or collection, how many rows or documents are truly new.
        duplicates: Of each, how many messages found their key there already (whoever won).
        refused: How many messages the store would not take.
    """

    inserted: Mapping[str, int] = field(default_factory=dict)
    duplicates: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
