"""A table of an experiment, once as values and then as CSV, JSON, Markdown and text for a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

from resight.artefacts import write_csv

Cell: TypeAlias = str | bool | int | float | tuple[float, float] | None
"""One value; ``None`` is not known, a pair is an interval from its lower to its upper end."""

UNKNOWN = "–"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
CSV_DIGITS = 10
"""Significant digits in a CSV; past them stands only what floating point added."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: Its name in rows, CSV and JSON.
        title: Its heading for a reader.
        unit: Such as ``%``; shown in the heading only.
        digits: Decimals shown of a number that is not whole; CSV and JSON keep them all.
        interval: It holds intervals. Need be said only where every one of them may be unknown, so that the CSV has the
            same two columns (``KEY_lo``, ``KEY_hi``) whatever the values.
    """

    key: str
    title: str
    unit: str = ""
    digits: int = 1
    interval: bool = False

    @property
    def heading(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """Columns and rows.

    Numbers of NumPy become plain ones, so that a table can always be written as JSON.

    Attributes:
        name: Lower-case letters, digits, ``-`` and ``_``: the name of its files.
        title: One line for a reader.
        columns: In order.
        rows: Column's key → value; a key that is missing is not known.
        note: What a reader must know beside the numbers.

    Raises:
        ValueError: a name that is no file name, a key that no column has, a value that is no cell.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    note: str = ""

    def __post_init__(self) -> None:
        """Check the names and make the values plain."""
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a table named {self.name!r}: lower-case letters, digits, - and _ were expected")
        keys = [column.key for column in self.columns]
        if len(set(keys)) < len(keys):
            raise ValueError(f"table {self.name} has two columns of one key: {', '.join(keys)}")
        rows = []
        for number, row in enumerate(self.rows):
            unknown = row.keys() - set(keys)
            if unknown:
                raise ValueError(f"row {number} of table {self.name} has {sorted(unknown)}; its columns are {keys}")
            rows.append({key: _cell(row.get(key), f"{key} in row {number} of table {self.name}") for key in keys})
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "rows", tuple(rows))

    def cells(self, key: str) -> list[Cell]:
        """The values of one column, in the order of the rows."""
        return [row[key] for row in self.rows]

    def is_interval(self, column: Column) -> bool:
        """Whether ``column`` holds intervals."""
        return column.interval or any(isinstance(cell, tuple) for cell in self.cells(column.key))

    def is_number(self, column: Column) -> bool:
        """Whether all that is known of ``column`` is numbers or intervals, and there is any."""
        known = [cell for cell in self.cells(column.key) if cell is not None]
        return bool(known) and not any(isinstance(cell, str | bool) for cell in known)

    def to_csv(self, path: Path) -> None:
        """Write it as UTF-8 CSV, unknown values empty and an interval as two columns."""
        header, *rows = self._csv_rows()
        write_csv(path, header, rows)

    def _csv_rows(self) -> Iterator[list[str]]:
        intervals = [self.is_interval(column) for column in self.columns]
        header: list[str] = []
        for column, interval in zip(self.columns, intervals, strict=True):
            header += [f"{column.key}_lo", f"{column.key}_hi"] if interval else [column.key]
        yield header
        for row in self.rows:
            line: list[str] = []
            for column, interval in zip(self.columns, intervals, strict=True):
                cell = row[column.key]
                if not interval:
                    line.append(_csv(cell))
                elif isinstance(cell, tuple):
                    line += [_csv(cell[0]), _csv(cell[1])]
                elif cell is None:
                    line += ["", ""]
                else:  # a single value among intervals
                    line += [_csv(cell), _csv(cell)]
            yield line

    def to_json(self) -> dict[str, Any]:
        """Plain values: name, title, note, columns and rows; an interval is a list of two."""
        return {
            "name": self.name,
            "title": self.title,
            "note": self.note,
            "columns": [
                {"key": column.key, "title": column.title, "unit": column.unit, "digits": column.digits}
                for column in self.columns
            ],
            "rows": [
                {key: list(cell) if isinstance(cell, tuple) else cell for key, cell in row.items()} for row in self.rows
            ],
        }

    def to_markdown(self) -> str:
        """A Markdown table with its title above and its note below, ending in a line break."""
        lines = [f"**{markdown(self.title)}**", ""]
        lines.append("| " + " | ".join(markdown(column.heading) for column in self.columns) + " |")
        lines.append("|" + "|".join("---:" if self.is_number(column) else "---" for column in self.columns) + "|")
        for row in self.rows:
            lines.append("| " + " | ".join(markdown(shown(row[c.key], c.digits)) for c in self.columns) + " |")
        if not self.rows:
            lines += ["", "No rows."]
        if self.note:
            lines += ["", markdown(self.note)]
        return "\n".join(lines) + "\n"


def shown(cell: Cell, digits: int = 1) -> str:
    """A value as a reader sees it: thousands apart, a real minus sign, ``–`` where it is not known.

    Args:
        cell: The value.
        digits: Decimals of a number that is not whole by its type.
    """
    if cell is None:
        return UNKNOWN
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, tuple):
        return f"[{_number(float(cell[0]), digits)}, {_number(float(cell[1]), digits)}]"
    return _number(cell, digits)


def _number(value: int | float, digits: int) -> str:
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    if text.startswith("-"):
        text = text[1:] if not text.strip("-0.,") else f"−{text[1:]}"
    return text


def markdown(text: str) -> str:
    """``text`` as it stands, in Markdown: nothing in it is taken for markup."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A bracket makes a link only with another bracket or a colon right after it.
    text = re.sub(r"([\\`*|~#$]|\](?=[(\[:]))", r"\\\1", text)
    # Inside a word an underscore marks nothing, and species are full of them.
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def _csv(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        text = f"{cell:.{CSV_DIGITS}g}"
        return "0" if text == "-0" else text
    return str(cell)


def _cell(value: object, where: str) -> Cell:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Real):
        return _plain(value, where)
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(end, Real) for end in value):
        low, high = (float(_plain(end, where)) for end in value)
        if low > high:
            raise ValueError(f"{where} is the interval {value!r}; the lower end comes first")
        return low, high
    item = getattr(value, "item", None)  # a NumPy scalar that is no Real, such as bool_
    if callable(item) and getattr(value, "shape", None) == ():
        return _cell(item(), where)
    raise ValueError(f"{where} is {value!r}; text, a number, yes or no, a pair of numbers, or None was expected")


def _plain(value: Real, where: str) -> int | float:
    if isinstance(value, Integral):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{where} is {number}; None stands for what is not known")
    return number
