# ruff: noqa: N999
"""Skeleton of the next adapter: a list of pictures and individuals, with a tab between them.

To add a format: copy this file; write ``recognise`` and ``read``; name the format in ``detection.FORMATS``, find it in
``detection``, and read it in ``__init__``. Drawn files and tests of every tolerated and every bad value go to
``tests/catalogue``. An adapter reads what the annotation file states and opens no picture. It reports every problem,
not only the first, and counts what it leaves out.
"""

from __future__ import annotations

from pathlib import Path

from resight.catalogue.sources import places, values
from resight.catalogue.sources.parsed import Findings, Parsed
from resight.errors import InputError
from resight.types import Record


def recognise(first_line: str) -> str | None:
    """Why a file is of this format, as the end of a sentence; ``None`` where it is not."""
    return "its lines have a tab between picture and individual" if first_line.count("\t") == 1 else None


def read(file: Path, *, images: Path | None = None) -> Parsed:
    """Read a list of pictures and individuals.

    Args:
        file: The list.
        images: The folder that file names start from; ``None`` looks beside the list.

    Raises:
        InputError: The list cannot be read, or is empty.
    """
    try:
        # Bytes that are no UTF-8 refuse their own row, not the whole: ``values`` finds them in the cells.
        lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    if not any(line.strip() for line in lines):
        raise InputError(f"{file}: the list is empty; expected lines with a picture, a tab and an individual")
    if not lines[-1]:
        lines.pop()  # what follows the last line's end is no line
    findings = Findings()
    records = []
    for number, line in enumerate(lines, start=1):
        record = _record(str(number), line, findings)
        if record is not None and not findings.is_repeat_of_place(record):
            records.append(record)
    folder, _, note = places.find_images(file, images, [[line.partition("\t")[0] for line in lines]])
    if note:
        findings.remark(note)
    return Parsed("template", records, findings.problems, folder, places.source_name(file), findings.notes())


def _record(row: str, line: str, findings: Findings) -> Record | None:
    if not line.strip():
        findings.count("blank lines skipped")
        return None
    cells = line.split("\t")
    if len(cells) != 2:
        findings.refuse(row, "row", line, f"expected a picture, a tab and an individual, found {len(cells)} cells")
        return None
    before = len(findings.problems)
    file_name = findings.take(row, "file", cells[0], values.parse_file_name)
    individual = findings.take(row, "individual", cells[1], values.parse_text)
    if file_name is None or len(findings.problems) > before:
        return None
    return Record(row=row, file_name=file_name, individual=individual)
