"""Keys and rows, as many at a time as one query or one transaction takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

KEYS_A_QUERY = 500  # below every database's limit on the values of one query

Item = TypeVar("Item")


def by_blocks(items: Iterable[Item], size: int | None = None) -> Iterator[list[Item]]:
    """Yield ``items`` in their order, at most ``size`` at a time; ``None``: as many as a query takes."""
    most = KEYS_A_QUERY if size is None else size
    remaining = iter(items)
    while block := list(islice(remaining, most)):
        yield block
