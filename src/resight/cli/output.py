"""What commands write: one JSON document, or text and tables for a person."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

SHOWN_PROBLEMS = 20


def emit(value: object, *, as_json: bool, show: Callable[[], None]) -> None:
    """Write the result of a command: as JSON on standard output and nothing else, or as ``show`` does."""
    if as_json:
        sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        show()
    sys.stdout.flush()


def plain(value: object) -> Any:
    """Bring dataclasses, tuples and paths to what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def say(line: str = "") -> None:
    """Write one line for a person."""
    sys.stdout.write(f"{line}\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Write a table; numbers stand to the right, unknown values are a dash."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    listed = [list(row) for row in rows]
    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[number], int | float) or row[number] is None for row in listed)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        drawn.add_row(*(escape(_cell(item)) for item in row))
    # Away from a terminal a table keeps its full width instead of breaking at 80 characters.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(drawn)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
