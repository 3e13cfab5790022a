"""The one progress bar: on a terminal it draws, elsewhere it is silent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")


class Bar:
    """A running count of work done; ``advance`` after each piece."""

    def advance(self, pieces: int = 1) -> None:
        """Note that ``pieces`` more are done."""


class _RichBar(Bar):
    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def advance(self, pieces: int = 1) -> None:
        self._advance(pieces)


_drawing: ContextVar[bool] = ContextVar("drawing", default=False)


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs.

    A terminal has room for one at a time: a bar within a bar is silent.

    Args:
        label: What is being done, such as ``chips``.
        total: How many pieces there are, or ``None`` where that is not known.
    """
    if _drawing.get() or not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    before = _drawing.set(True)
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(label, total=total)
            yield _RichBar(lambda pieces: progress.advance(task, pieces))
    finally:
        _drawing.reset(before)


def track(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` and show how far we are."""
    with bar(label, total) as running:
        for item in items:
            yield item
            running.advance()
