"""Tables of annotations: MiewID's CSV, and any other whose columns have names that are known here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from resight.catalogue.sources import places, values
from resight.catalogue.sources.grid import Grid, read_grid
from resight.catalogue.sources.parsed import Findings, Parsed
from resight.catalogue.sources.segmentations import read_segmentation
from resight.catalogue.sources.values import Bad, show
from resight.errors import InputError
from resight.progress import bar
from resight.types import Box, Record

Value = TypeVar("Value")

Columns = Mapping[str, tuple[str, ...]]
"""What a table states, and the names of columns that state it, squashed, the preferred one first."""

COLUMNS: Columns = {
    "file": ("filepath", "path", "filename", "file", "imagepath", "imagefile", "imagename", "image", "photo"),
    "id": ("annotationid", "annotationuuid", "annotid", "uuid", "id"),
    "species": ("species",),
    "individual": ("name", "individual", "individualname", "individualid", "idname", "identity", "animalid"),
    "viewpoint": ("viewpoint", "side", "orientation", "position"),
    "encounter": ("encounter", "encounterid"),
    "video": ("video", "videoid"),
    "box": ("bbox", "box", "boundingbox"),
    "x": ("x", "boxx", "bboxx"),
    "y": ("y", "boxy", "bboxy"),
    "w": ("w", "boxw", "bboxw"),
    "h": ("h", "boxh", "bboxh"),
    "theta": ("theta", "thetarad"),
    "date": ("date", "takenat", "datecaptured", "datetime", "timestamp"),
    "latitude": ("latitude", "lat", "gpslat", "gpslatcaptured"),
    "longitude": ("longitude", "lon", "gpslon", "gpsloncaptured"),
    "image width": ("imagewidth",),
    "image height": ("imageheight",),
    "quality": ("quality",),
    "segmentation": ("segmentation",),
}
_BOX = ("x", "y", "w", "h")
_CORNERS = frozenset({"xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2", "bboxx1", "bboxy1", "bboxx2", "bboxy2"})
_MIEWID = ("theta", "viewpoint", "name")
_ROW_ID_SHARE = 0.75  # of the rows with a bare id, how many differ at least where it is an id of rows with slips
_STEP = 1000


def recognise(columns: Iterable[str]) -> str | None:
    """Why a header is that of such a table, as the end of a sentence; ``None`` where it is not."""
    names = list(columns)
    found = match_columns(names, COLUMNS)
    if "file" not in found:
        return None
    if {*_MIEWID} <= {_squash(name) for name in names}:
        return "it has MiewID's columns theta, viewpoint and name"
    used = [names[found[field][0]] for field in ("file", "individual", "species") if field in found]
    if len(used) == 1:
        return f"its column {used[0]} names files"
    return f"its columns {' and '.join(used)} name files and animals"


def read(file: Path, *, images: Path | None = None) -> Parsed:
    """Read a table as text or as a workbook.

    Args:
        file: The table.
        images: The folder that file names start from; ``None`` looks beside the table.

    Raises:
        InputError: The file cannot be read, is no table, names no pictures, or holds no rows.
    """
    return read_as("csv", file, COLUMNS, images=images)


def read_as(format_name: str, file: Path, known: Columns, *, images: Path | None = None) -> Parsed:
    """Read a table whose columns have other names.

    Args:
        format_name: What the result calls the format.
        file: The table.
        known: As :data:`COLUMNS`, with the same keys.
        images: The folder that file names start from; ``None`` looks beside the table.

    Raises:
        InputError: The file cannot be read, is no table, names no pictures, or holds no rows.
    """
    findings = Findings()
    grid = read_grid(file, findings)
    found = match_columns(grid.columns, known)
    _check(file, grid, found, known)
    if not grid.rows and not findings.problems:
        raise InputError(f"{file}: the table has no rows; expected one for each annotation")
    folder, choice, note = places.find_images(file, images, [grid.column(index) for index in found["file"]])
    at = {field: indexes[0] for field, indexes in found.items()}
    at["file"] = found["file"][choice]
    if "id" in at and _squash(grid.columns[at["id"]]) == "id" and not _is_row_id(grid, at["id"], at["file"]):
        del at["id"]
    if "box" in at:
        at = {field: index for field, index in at.items() if field not in _BOX}
    _explain_columns(grid.columns, at, findings)
    if note:
        findings.remark(note)
    records = _records(grid, at, findings)
    return Parsed(
        format_name, records, findings.problems, folder, places.source_name(file), findings.notes(), findings.faulty
    )


def match_columns(columns: Sequence[str], known: Columns) -> dict[str, list[int]]:
    """What a header states, and the positions of the columns that state it, the preferred one first."""
    squashed = [_squash(column) for column in columns]
    found = {}
    for field, names in known.items():
        if indexes := [index for name in names for index, column in enumerate(squashed) if column == name]:
            found[field] = indexes
    return found


def _squash(column: str) -> str:
    """A name of a column without capitals, blanks and marks: ``Individual ID`` is ``individualid``."""
    return "".join(character for character in column.casefold() if character.isalnum())


def _check(file: Path, grid: Grid, found: Mapping[str, list[int]], known: Columns) -> None:
    if "file" not in found:
        raise InputError(
            f"{file}: no column names the picture; expected one of {', '.join(known['file'])}, "
            f"found {show(list(grid.columns))}"
        )
    squashed = [_squash(column) for column in grid.columns]
    for indexes in found.values():
        for index in indexes:
            if squashed.index(squashed[index]) != index:
                raise InputError(f"{file}: two columns are named {grid.columns[index]!r}; rename or remove one")
    lacking = [name for name in _BOX if name not in found]
    if "box" in found or not lacking:
        return
    if corners := [column for column, name in zip(grid.columns, squashed, strict=True) if name in _CORNERS]:
        raise InputError(
            f"{file}: the columns {', '.join(corners)} give a box by its corners; expected x, y, w, h, "
            "the upper left corner and the size in pixels"
        )
    if len(lacking) < len(_BOX):
        there = ", ".join(grid.columns[found[name][0]] for name in _BOX if name in found)
        raise InputError(
            f"{file}: the columns {there} lack the column {', '.join(lacking)}; expected x, y, w, h, or none of them"
        )


def _is_row_id(grid: Grid, id_column: int, file_column: int) -> bool:
    """Whether a column called ``id`` tells rows apart.

    It does not where it is an image's, the same for all rows of one picture, or an individual's, the same for many.
    """
    rows = {tuple(cells) for _, cells in grid.rows}  # a row that stands twice says nothing
    ids = [cells[id_column] for cells in rows if cells[id_column] not in (None, "")]
    different = set(ids)
    if len(different) == len(ids):
        return True
    files = {(cells[id_column], cells[file_column]) for cells in rows if cells[id_column] not in (None, "")}
    return len(files) > len(different) and len(different) >= _ROW_ID_SHARE * len(ids)


def _explain_columns(columns: Sequence[str], at: Mapping[str, int], findings: Findings) -> None:
    fields = {index: field for field, index in at.items()}
    used = [f"{column} as {fields[index]}" for index, column in enumerate(columns) if index in fields]
    findings.remark(f"columns: {', '.join(used)}")
    if unused := [column for index, column in enumerate(columns) if index not in fields and column]:
        findings.remark(f"columns not used: {', '.join(unused)}")
    findings.count("columns without a name not used", columns.count(""))


def _records(grid: Grid, at: Mapping[str, int], findings: Findings) -> list[Record]:
    unused = [index for index in range(len(grid.columns)) if index not in at.values()]
    records = []
    with bar("rows", len(grid.rows)) as running:
        for number, (row, cells) in enumerate(grid.rows, start=1):
            before = len(findings.problems)
            for index in unused:
                if isinstance(cells[index], str):
                    findings.take(row, grid.columns[index], cells[index], values.check_encoding)
            record = _record(row, grid.columns, cells, at, findings)
            if len(findings.problems) == before and not (
                record.source_id is None and findings.is_repeat_of_place(record)
            ):
                records.append(record)
            else:
                findings.set_aside(record)
            if number % _STEP == 0:
                running.advance(_STEP)
    return records


def _record(
    row: str, columns: Sequence[str], cells: Sequence[Any], at: Mapping[str, int], findings: Findings
) -> Record:
    """One row; it is of no use where ``findings`` has a new problem."""

    def take(field: str, parse: Callable[[object], Value | Bad | None]) -> Value | None:
        index = at.get(field)
        return None if index is None else findings.take(row, columns[index], cells[index], parse)

    def take_or_leave(field: str, parse: Callable[[object], Value | Bad | None], left_out: str) -> Value | None:
        value = parse(cells[at[field]]) if field in at else None
        if isinstance(value, Bad):
            findings.count(left_out)
            return None
        return value

    source_id = take("id", values.parse_text)
    if source_id is not None:
        findings.is_repeat(row, columns[at["id"]], source_id, tuple(cells))
    file_name = take("file", values.parse_file_name)
    species = take("species", values.parse_text)
    individual = take("individual", values.parse_text)
    viewpoint = take("viewpoint", values.parse_text)
    encounter = take("encounter", values.parse_text)
    video = take("video", values.parse_text)
    box = take("box", values.parse_box) if "box" in at else _box_of_columns(row, columns, cells, at, findings)
    theta_rad = take("theta", values.parse_theta)
    taken_at = take("date", values.parse_date)
    before = len(findings.problems)
    latitude = take("latitude", values.parse_latitude)
    longitude = take("longitude", values.parse_longitude)
    if len(findings.problems) == before:
        latitude, longitude = _position(latitude, longitude, columns, at, findings)
    if encounter is None and taken_at is None and video is not None:
        encounter = f"video {video}"
        findings.count("video taken for the encounter, for neither encounter nor date is known")
    return Record(
        row=row,
        file_name=file_name or "",
        source_id=source_id,
        species=species,
        individual=individual,
        viewpoint=viewpoint,
        encounter=encounter,
        box=box,
        theta_rad=theta_rad or 0.0,
        taken_at=taken_at,
        latitude=latitude,
        longitude=longitude,
        image_width=take_or_leave("image width", values.parse_pixels, values.NO_SIZE),
        image_height=take_or_leave("image height", values.parse_pixels, values.NO_SIZE),
        quality=take_or_leave("quality", values.parse_number, values.NO_QUALITY),
        outline=read_segmentation(cells[at["segmentation"]], findings) if "segmentation" in at else None,
    )


def _box_of_columns(
    row: str, columns: Sequence[str], cells: Sequence[Any], at: Mapping[str, int], findings: Findings
) -> Box | None:
    if "x" not in at:
        return None
    four = [cells[at[name]] for name in _BOX]
    if all(cell is None or cell == "" for cell in four):
        return None
    return findings.take(row, ", ".join(columns[at[name]] for name in _BOX), four, values.parse_box)


def _position(
    latitude: float | None,
    longitude: float | None,
    columns: Sequence[str],
    at: Mapping[str, int],
    findings: Findings,
) -> tuple[float | None, float | None]:
    is_wild_me = "latitude" in at and _squash(columns[at["latitude"]]) == "gpslatcaptured"
    latitude, longitude, note = values.settle_position(latitude, longitude, minus_one_is_unknown=is_wild_me)
    if note:
        findings.count(f"rows with {note}")
    return latitude, longitude
