"""What an adapter returns, and the notebook in which it gathers problems while it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from resight.catalogue.sources.values import Bad, show
from resight.types import Problem, Record

Value = TypeVar("Value")


@dataclass(frozen=True)
class Parsed:
    """A dataset as its files state it, before pictures are looked at and before the catalogue knows it.

    Attributes:
        format: The name of the format that was read, such as ``coco``.
        records: The rows without fault, in the order of the file.
        problems: Everything that is wrong, in the order in which it was found; all ``refused``.
        images_dir: The folder below which every ``file_name`` is sought.
        source_name: The name of the source where the user gives none.
        notes: Lines for the user: what the file was taken for, what was tolerated and how often, what was not
            used.
        faulty: The rows with a fault of which the picture is known: it is looked at as well, so that one report
            has everything.
        photos: Photos that the source names and in which it found no animal: records without a box. Where a detector
            looked, ``detector`` names it, and ``confidence`` is that of the best that it was not sure enough of.
    """

    format: str
    records: list[Record]
    problems: list[Problem]
    images_dir: Path
    source_name: str
    notes: list[str] = field(default_factory=list)
    faulty: list[Record] = field(default_factory=list)
    photos: list[Record] = field(default_factory=list)


class Findings:
    """The notebook of one reading: problems, counted tolerances, and the rows seen so far."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.faulty: list[Record] = []
        self._remarks: list[str] = []
        self._counts: Counter[str] = Counter()
        self._unknown: Counter[tuple[str, str]] = Counter()
        self._first: dict[Hashable, tuple[str, object]] = {}

    def take(self, row: str, name: str, cell: object, parse: Callable[[object], Value | Bad | None]) -> Value | None:
        """Read one cell; a bad one becomes a problem of its row and gives ``None``.

        A spelling that means "not known", other than an empty cell, is counted for the notes.

        Args:
            row: Where the row stands.
            name: The column or key, as the file writes it.
            cell: What stands there.
            parse: One of the functions in ``values``.
        """
        value = parse(cell)
        if isinstance(value, Bad):
            self.refuse(row, name, cell, value.why)
            return None
        if value is None and cell is not None and cell != "":
            self._unknown[name, show(cell)] += 1
        return value

    def refuse(self, row: str, name: str, cell: object, why: str) -> None:
        """Write down one problem."""
        self.problems.append(Problem(row, name, show(cell), why))

    def set_aside(self, record: Record) -> None:
        """Keep a row that has a problem, as far as it could be read."""
        if record.file_name:
            self.faulty.append(record)

    def remark(self, line: str) -> None:
        """Write down a line that is said once."""
        self._remarks.append(line)

    def count(self, what: str, times: int = 1) -> None:
        """Count something that was tolerated or left out; the notes say how often."""
        if times:
            self._counts[what] += times

    def is_repeat(self, row: str, name: str, key: Hashable, content: object) -> bool:
        """Whether an earlier row has the same key; if so, that is a problem of this row.

        Args:
            row: Where the row stands.
            name: The column or key that should differ from row to row.
            key: What it holds.
            content: The whole row, to tell a row that stands twice from two rows with one key.
        """
        first_row, first_content = self._first.setdefault((name, key), (row, content))
        if first_row == row:
            return False
        if first_content == content:
            why = f"the same row stands twice; the first is {first_row}"
        else:
            why = f"{first_row} has it already; expected another in every row"
        self.refuse(row, name, key, why)
        return True

    def is_repeat_of_place(self, record: Record) -> bool:
        """Whether an earlier row without an id has the same file, box and theta; if so, that is a problem."""
        box = record.box
        place = [record.file_name, *((box.x, box.y, box.w, box.h) if box else ()), record.theta_rad]
        key = " ".join(map(str, place))
        return self.is_repeat(record.row, "file name, box and theta", key, replace(record, row=""))

    def notes(self) -> list[str]:
        """All lines for the user."""
        unknown = [
            f"{name} {spelling!r}: taken as not known ({_often(times)})"
            for (name, spelling), times in sorted(self._unknown.items())
        ]
        return self._remarks + unknown + [f"{what} ({_often(n)})" for what, n in self._counts.items()]


def _often(times: int) -> str:
    return "once" if times == 1 else f"{times} times"
