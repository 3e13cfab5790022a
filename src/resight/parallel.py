"""Run one function over many items on every core, in order, with a bounded queue and a progress bar."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from resight import progress
from resight.memory import freed_memory_kept

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    label: str,
    total: int | None = None,
    workers: int | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order.

    Threads serve: decoding and resizing of pictures run outside the interpreter's lock. At most a few items a
    worker wait at once, so memory does not grow with the number of items. What one picture has freed the next one
    takes, without asking the system for it.

    Args:
        function: What to do; its exceptions reach the caller.
        items: Any number of them.
        label: What the progress bar says.
        total: How many items there are, where known.
        workers: Threads; ``None`` takes one a core.
    """
    count = workers or os.cpu_count() or 1
    remaining = iter(items)
    with freed_memory_kept(), ThreadPoolExecutor(count) as pool, progress.bar(label, total) as running:
        waiting: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(remaining, count * 4))
        while waiting:
            result = waiting.popleft().result()
            for item in islice(remaining, 1):
                waiting.append(pool.submit(function, item))
            running.advance()
            yield result
