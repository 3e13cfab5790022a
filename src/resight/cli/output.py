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


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None, spare: Sequence[str] = ()
) -> None:
    """Write a table; numbers stand to the right, unknown values are a dash.

    Args:
        columns: Their names.
        rows: Values, one a column.
        title: Stands above.
        spare: Columns that may go where the terminal is narrow, the first to go first; the reader is told.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    values = [list(row) for row in rows]
    cells = [[_cell(item) for item in row] for row in values]
    # Away from a terminal a table keeps its full width instead of breaking at 80 characters.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    shown = _fitting(columns, cells, console.width, spare)
    drawn = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number in shown:
        numeric = bool(values) and all(isinstance(row[number], int | float) or row[number] is None for row in values)
        drawn.add_column(columns[number], justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*(escape(row[number]) for number in shown))
    console.print(drawn)
    if len(shown) < len(columns):
        left_out = ", ".join(name for number, name in enumerate(columns) if number not in shown)
        say(f"not shown for want of room: {left_out}; a wider terminal or --json has them")


def _fitting(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int, spare: Sequence[str]) -> list[int]:
    """The columns that fit: spare ones go while the table is wider than the terminal."""
    wide = [max(len(name), *(len(row[number]) for row in cells), 0) + 3 for number, name in enumerate(columns)]
    shown = list(range(len(columns)))
    for name in spare:
        if sum(wide[number] for number in shown) + 1 <= width:
            break
        shown = [number for number in shown if columns[number] != name]
    return shown


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
