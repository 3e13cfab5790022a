"""The one progress bar: on a terminal it draws, elsewhere it is silent."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


class Bar:
    """A running count of work done; ``advance`` after each piece."""

    def advance(self, pieces: int = 1) -> None:
        """Note that ``pieces`` more are done."""


class _RichBar(Bar):
    def __init__(self, advance: object) -> None:
        self._advance = advance

    def advance(self, pieces: int = 1) -> None:
        self._advance(pieces)  # type: ignore[operator]


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs.

    Args:
        label: What is being done, such as ``chips``.
        total: How many pieces there are, or ``None`` where that is not known.
    """
    if not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield _RichBar(lambda pieces: progress.advance(task, pieces))


def track(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` and show how far we are."""
    with bar(label, total) as running:
        for item in items:
            yield item
            running.advance()
