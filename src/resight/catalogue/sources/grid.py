"""Tables as rows of cells: comma, semicolon or tab separated text, and the sheets of a workbook."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile

from resight.catalogue.sources.parsed import Findings
from resight.catalogue.sources.values import show
from resight.errors import InputError

SHEET_SUFFIXES = (".xlsx", ".xlsm")
_DELIMITERS = ",;\t"
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # written by Excel
_BEGINNING_BYTES = 1024

Line = tuple[str, Sequence[Any]]
"""The number of a line in its file, as text, and its cells."""


@dataclass(frozen=True)
class Grid:
    """A table of which every row has as many cells as there are columns.

    Attributes:
        columns: The names in the header, as the file writes them, without blanks around them.
        rows: The line of the file on which the row begins (the first is 1), and its cells: text, or in a workbook
            also numbers, dates, true or false, and ``None``.
    """

    columns: tuple[str, ...]
    rows: list[Line]

    def column(self, index: int) -> list[Any]:
        """All cells of one column."""
        return [cells[index] for _, cells in self.rows]


def read_grid(file: Path, findings: Findings) -> Grid:
    """Read a table; rows with too many or too few cells become problems, blank lines are counted.

    Args:
        file: A workbook where the name ends as one, else text.
        findings: The notebook for problems and counts.

    Raises:
        InputError: The file cannot be read, is no table, or is empty.
    """
    lines = _lines(file, findings)
    columns = _header(file, lines)
    rows: list[Line] = []
    for row, cells in lines:
        if len(cells) == len(columns):
            rows.append((row, cells))
            continue
        word = "few" if len(cells) < len(columns) else "many"
        why = f"too {word} cells: expected {len(columns)} as in the header, found {len(cells)}"
        findings.refuse(row, "row", cells, why)
    return Grid(columns, rows)


def read_columns(file: Path) -> tuple[str, ...]:
    """The names in the header.

    Raises:
        InputError: The file cannot be read, is no table, or is empty.
    """
    return _header(file, _lines(file, Findings()))


def _header(file: Path, lines: Iterator[Line]) -> tuple[str, ...]:
    for _, cells in lines:
        return tuple(show(cell).strip() for cell in cells)
    raise InputError(f"{file}: the table is empty; expected a header and rows")


def _lines(file: Path, findings: Findings) -> Iterator[Line]:
    """The lines that are not blank."""
    read = _sheet_lines if file.suffix.lower() in SHEET_SUFFIXES else _text_lines
    for row, cells in read(file, findings):
        if any(cell is not None and (not isinstance(cell, str) or cell.strip()) for cell in cells):
            yield row, cells
        else:
            findings.count("blank lines skipped")


def _text_lines(file: Path, findings: Findings) -> Iterator[Line]:
    content = _content(file)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{file}: the file is UTF-16; save it as UTF-8")
    zero_byte = content.find(b"\0", 0, _BEGINNING_BYTES)
    if zero_byte >= 0:
        raise InputError(f"{file}: no table, for a zero byte stands at position {zero_byte}")
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    separator_line = _SEPARATOR_LINE.match(text)
    delimiter = separator_line[1] if separator_line else _sniff(text)
    stream = io.StringIO(text, newline="")
    before = 0
    if separator_line:
        stream.readline()
        before = 1
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    while True:
        row = str(before + reader.line_num + 1)
        try:
            yield row, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The reader goes on with the next line.
            findings.refuse(row, "row", "", f"the row that begins here cannot be read: {error}; check its quotes")


def _sniff(text: str) -> str:
    """The delimiter that stands most often in the first line with anything on it, outside quotes."""
    header = text.lstrip().partition("\n")[0]
    unquoted = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=unquoted.count)


def _sheet_lines(file: Path, findings: Findings) -> Iterator[Line]:
    """The lines of the first sheet that has any, filled to the width of the first that is not blank."""
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    content = _content(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles and extensions, which hold no data
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            sheets = {sheet.title: _sheet_rows(sheet) for sheet in book.worksheets}
            book.close()
    except (BadZipFile, InvalidFileException, ParseError, KeyError, ValueError, TypeError, OSError) as error:
        reason = show(error.args[0] if error.args else type(error).__name__)
        raise InputError(f"{file}: no spreadsheet that can be read ({reason}); save it as .xlsx again") from error
    filled = [title for title, rows in sheets.items() if any(rows)]
    if len(filled) > 1:
        others = ", ".join(repr(title) for title in filled[1:])
        findings.remark(f"sheet {filled[0]!r} was read, not {others}")
    width = 0
    for number, cells in enumerate(sheets[filled[0]] if filled else (), start=1):
        width = width or len(cells)
        yield str(number), cells + [None] * (width - len(cells))


def _sheet_rows(sheet: Any) -> list[list[Any]]:
    """All rows, without the empty cells at their end, which mean nothing in a spreadsheet."""
    sheet.reset_dimensions()  # some programs write a wrong size, by which openpyxl would cut the sheet
    rows = [list(cells) for cells in sheet.iter_rows(values_only=True)]
    for cells in rows:
        while cells and cells[-1] is None:
            cells.pop()
    return rows


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
