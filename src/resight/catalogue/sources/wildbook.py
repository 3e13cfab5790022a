"""The spreadsheet of Wildbook's bulk import, and of its export of encounters and annotations.

A row is an encounter of one animal, and each of its media assets becomes an annotation: of the whole picture, or of the
box that an export has for it. The columns are those of https://wildbook.docs.wildme.org/data/bulk-import-beta.html.

The species is genus and specific epithet in small letters, joined by an underscore: ``panthera_leo`` for Panthera leo.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from resight.catalogue.sources import places, values
from resight.catalogue.sources.grid import Grid, read_grid
from resight.catalogue.sources.parsed import Findings, Parsed
from resight.catalogue.sources.spelling import Spelling
from resight.catalogue.sources.values import Bad, show
from resight.errors import InputError
from resight.progress import bar
from resight.types import Record

Value = TypeVar("Value")

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "encounter": ("encounter.catalognumber", "encounter.encounterid", "encounter.id", "encounter.sourceurl"),
    "sighting": ("encounter.sightingid", "sighting.sightingid", "encounter.occurrenceid", "occurrence.occurrenceid"),
    "individual": ("markedindividual.individualid", "encounter.individualid", "name0.value"),
    "genus": ("encounter.genus",),
    "epithet": ("encounter.specificepithet",),
    "year": ("encounter.year", "sighting.year", "occurrence.year"),
    "month": ("encounter.month", "sighting.month", "occurrence.month"),
    "day": ("encounter.day", "sighting.day", "occurrence.day"),
    "hour": ("encounter.hour", "sighting.hour", "occurrence.hour"),
    "minutes": ("encounter.minutes", "sighting.minutes", "occurrence.minutes"),
    "milliseconds": (
        "encounter.dateinmilliseconds", "sighting.dateinmilliseconds", "sighting.millis",
        "occurrence.dateinmilliseconds", "occurrence.millis",
    ),
    "latitude": (
        "encounter.decimallatitude", "encounter.latitude", "sighting.decimallatitude", "occurrence.decimallatitude",
    ),
    "longitude": (
        "encounter.decimallongitude", "encounter.longitude", "sighting.decimallongitude", "occurrence.decimallongitude",
    ),
}  # fmt: skip
"""What a sheet states, and the columns that state it, in small letters; of several the first that is known counts."""

_NUMBERED = {
    "photo": re.compile(r"encounter\.mediaasset\.?([0-9]{1,4})?"),
    "quality": re.compile(r"encounter\.(?:mediaasset([0-9]{1,4})\.quality|quality([0-9]{1,4}))"),
    "box": re.compile(r"annotation([0-9]{1,4})\.bbox"),
    "viewpoint": re.compile(r"annotation([0-9]{1,4})\.viewpoint"),
}
"""What a sheet states of each of a row's photos."""

_UNASSIGNED = "unassigned"  # what Wildbook shows, and once stored, for an individual that is not known
_EARLIEST_MOMENT = 1980  # the year of one in milliseconds; seconds taken for them lie in 1970
_MOST_ROWS_SHOWN = 10
_BETWEEN = "::"  # of the parts of a key
_STEP = 1000


@dataclass(frozen=True, slots=True)
class _Columns:
    """The positions of the columns: of a row's fields, and by number of its photos' fields."""

    fields: Mapping[str, Sequence[int]]
    numbered: Mapping[str, Mapping[int, int]]

    def used(self) -> set[int]:
        """All positions that state something."""
        one = {index for indexes in self.fields.values() for index in indexes}
        return one | {index for indexes in self.numbered.values() for index in indexes.values()}


@dataclass(frozen=True, slots=True)
class _Encounter:
    """One row; ``photos`` are its annotations, still without an id."""

    row: str
    catalogue_key: str | None
    sighting: str | None
    content: tuple[Any, ...]
    photos: tuple[Record, ...]
    is_bad: bool

    @property
    def first(self) -> str:
        """A photo that tells the row from others, whatever the order of its columns."""
        return min(photo.file_name for photo in self.photos)


def recognise(columns: Iterable[str]) -> str | None:
    """Why a header is that of such a sheet, as the end of a sentence; ``None`` where it is not."""
    if any(column.casefold().startswith("encounter.") for column in columns):
        return "columns of it begin with Encounter."
    return None


def read(file: Path, *, images: Path | None = None) -> Parsed:
    """Read a sheet.

    The id of an annotation is its photo and its row's key: the encounter's number in Wildbook where the sheet has one,
    else the sighting and the row's first photo, and the individual where several rows share these. So the order of rows
    makes no new annotations, and neither does a name that is filled in later, unless several animals are on the photo.

    An encounter is known by its number in Wildbook; else by sighting and individual, as in Wildbook; else by individual
    and day, as in every format; else each row is one.

    Args:
        file: The sheet.
        images: The folder that file names start from; ``None`` looks beside the sheet.

    Raises:
        InputError: The file cannot be read, is no table, has no column of photos, or names none.
    """
    findings = Findings()
    grid = read_grid(file, findings)
    columns = _match_columns(file, grid)
    assets = columns.numbered["photo"]
    names = [cells[index] for _, cells in grid.rows for index in assets.values() if not _is_blank(cells[index])]
    if not names and not findings.problems:
        raise InputError(f"{file}: no row names a photo in {grid.columns[min(assets.values())]}; expected one in each")
    folder, _, note = places.find_images(file, images, [names])
    if note:
        findings.remark(note)
    unused = [name for index, name in enumerate(grid.columns) if index not in columns.used() and name]
    if unused:
        findings.remark(f"columns not used: {', '.join(unused)}")
    encounters = _read_rows(grid, columns, Spelling(folder), findings)
    records = _keyed(encounters, findings)
    return Parsed(
        "wildbook", records, findings.problems, folder, places.source_name(file), findings.notes(), findings.faulty
    )


def _match_columns(file: Path, grid: Grid) -> _Columns:
    names = [column.casefold() for column in grid.columns]
    for index, name in enumerate(names):
        if name and names.index(name) != index:
            raise InputError(f"{file}: two columns are named {grid.columns[index]!r}; rename or remove one")
    fields = {field: [names.index(name) for name in known if name in names] for field, known in _FIELDS.items()}
    numbered: dict[str, dict[int, int]] = {kind: {} for kind in _NUMBERED}
    for index, name in enumerate(names):
        for kind, pattern in _NUMBERED.items():
            if found := pattern.fullmatch(name):
                number = int(next((digits for digits in found.groups() if digits is not None), 0))
                if number in numbered[kind]:
                    other = grid.columns[numbered[kind][number]]
                    raise InputError(
                        f"{file}: the columns {other} and {grid.columns[index]} state the same; remove one of them"
                    )
                numbered[kind][number] = index
    if not numbered["photo"]:
        raise InputError(
            f"{file}: no column names the photo; expected Encounter.mediaAsset0, found {show(list(grid.columns))}"
        )
    return _Columns(fields, {kind: dict(sorted(at.items())) for kind, at in numbered.items()})


def _read_rows(grid: Grid, columns: _Columns, spelling: Spelling, findings: Findings) -> list[_Encounter]:
    unused = [index for index in range(len(grid.columns)) if index not in columns.used()]
    encounters = []
    lacking = []
    with bar("rows", len(grid.rows)) as running:
        for number, (row, cells) in enumerate(grid.rows, start=1):
            for index in unused:
                if isinstance(cells[index], str):
                    findings.take(row, grid.columns[index], cells[index], values.check_encoding)
            if all(_is_blank(cells[index]) for index in columns.numbered["photo"].values()):
                lacking.append(row)
            else:
                encounters.append(_Row(row, cells, grid.columns, columns, findings).read(spelling))
            if number % _STEP == 0:
                running.advance(_STEP)
    if lacking:
        shown = ", ".join(lacking[:_MOST_ROWS_SHOWN])
        more = f" and {len(lacking) - _MOST_ROWS_SHOWN:,} more" if len(lacking) > _MOST_ROWS_SHOWN else ""
        findings.remark(f"rows without a photo left out: {shown}{more}")
    return encounters


@dataclass(frozen=True, slots=True)
class _Row:
    """One row while it is read."""

    row: str
    cells: Sequence[Any]
    names: Sequence[str]
    columns: _Columns
    findings: Findings

    def read(self, spelling: Spelling) -> _Encounter:
        before = len(self.findings.problems)
        catalogue_key = self._take("encounter", values.parse_text)
        sighting = self._take("sighting", values.parse_text)
        latitude = self._take("latitude", values.parse_latitude)
        longitude = self._take("longitude", values.parse_longitude)
        if len(self.findings.problems) == before:
            latitude, longitude, note = values.settle_position(latitude, longitude)
            if note:
                self.findings.count(f"rows with {note}")
        common = Record(
            row=self.row,
            file_name="",
            species=self._species(),
            individual=self._individual(),
            taken_at=self._taken_at(),
            latitude=latitude,
            longitude=longitude,
        )
        photos = self._photos(common, spelling)
        is_bad = len(self.findings.problems) > before
        return _Encounter(self.row, catalogue_key, sighting, tuple(self.cells), photos, is_bad)

    def _take(self, field: str, parse: Callable[[object], Value | Bad | None]) -> Value | None:
        """The first value that is known; a bad one before it is a problem."""
        for index in self.columns.fields[field]:
            value = self._take_cell(index, parse)
            if value is not None:
                return value
        return None

    def _take_cell(self, index: int, parse: Callable[[object], Value | Bad | None]) -> Value | None:
        return self.findings.take(self.row, self.names[index], self.cells[index], parse)

    def _photos(self, common: Record, spelling: Spelling) -> tuple[Record, ...]:
        photos: dict[tuple[str, str], Record] = {}
        numbered = self.columns.numbered
        for number, index in numbered["photo"].items():
            if _is_blank(self.cells[index]):
                continue
            file_name = self._take_cell(index, values.parse_file_name)
            if file_name is None:
                continue
            spelt = spelling.of(file_name)
            if spelt != file_name:
                self.findings.count("file names in other capitals than on the disk: those of the disk are taken")
            box = self._take_cell(numbered["box"][number], values.parse_box) if number in numbered["box"] else None
            photo = replace(common, file_name=spelt, box=box, quality=self._quality(number))
            if number in numbered["viewpoint"]:
                photo = replace(photo, viewpoint=self._take_cell(numbered["viewpoint"][number], values.parse_text))
            key = (spelt, str(box))
            if key in photos:
                self.findings.count("photos that stand twice in a row: taken once")
            photos.setdefault(key, photo)
        return tuple(photos.values())

    def _quality(self, number: int) -> float | None:
        index = self.columns.numbered["quality"].get(number)
        quality = None if index is None else values.parse_number(self.cells[index])
        if isinstance(quality, Bad):
            self.findings.count(values.NO_QUALITY)
            return None
        return quality

    def _species(self) -> str | None:
        genus, epithet = self._take("genus", values.parse_text), self._take("epithet", values.parse_text)
        if (genus is None) != (epithet is None):
            self.findings.count("rows with only one of genus and specific epithet: species taken as not known")
        if genus is None or epithet is None:
            return None
        return "_".join(f"{genus} {epithet}".lower().split())

    def _individual(self) -> str | None:
        """The name; two columns that name different animals are a problem."""
        names: dict[str, str] = {}
        for index in self.columns.fields["individual"]:
            name = self._take_cell(index, _parse_individual)
            if name is not None and self.names[index].casefold() != "name0.value":
                names[name] = self.names[index]
            elif name is not None and not names:
                return name
        if len(names) > 1:
            (first, one), (second, other) = list(names.items())[:2]
            self.findings.refuse(self.row, other, second, f"{one} names {show(first)}; expected the same in both")
            return None
        return next(iter(names), None)

    def _taken_at(self) -> str | None:
        """The day, or day and time, as the row has it in the place's own time; else a moment in UTC."""
        before = len(self.findings.problems)
        year, month = self._take("year", _parse_whole(0, 9999)), self._take("month", _parse_whole(0, 12))
        day = self._take("day", _parse_whole(0, 31))
        hour, minutes = self._take("hour", _parse_whole(0, 24)), self._take("minutes", _parse_whole(0, 60))
        milliseconds = self._take("milliseconds", values.parse_number)
        if len(self.findings.problems) > before:
            return None
        if not (year and month and day):  # 0 stands for what is not known
            moment = self._moment(milliseconds)
            if moment is None and (year or month or day):
                self.findings.count("rows with a year or month and no day: date taken as not known")
            return moment
        text = f"{year:04}-{month:02}-{day:02}"
        if hour is not None and minutes is not None:
            if hour < 24 and minutes < 60:
                text += f"T{hour:02}:{minutes:02}:00"
            else:
                self.findings.count("rows with hour 24 or minute 60: the day alone is taken")
        elif hour is not None:
            self.findings.count("rows with an hour and no minutes: the day alone is taken")
        names = ", ".join(self.names[self.columns.fields[field][0]] for field in ("year", "month", "day"))
        return self.findings.take(self.row, names, text, values.parse_date)

    def _moment(self, milliseconds: float | None) -> str | None:
        if not milliseconds:
            return None
        try:
            moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
        except (OverflowError, OSError, ValueError):
            moment = None
        if moment is None or not _EARLIEST_MOMENT <= moment.year < 2100:
            self.findings.count(
                "rows with milliseconds that are no date of a photo (seconds?): date taken as not known"
            )
            return None
        return moment.isoformat(timespec="seconds")


def _keyed(encounters: Sequence[_Encounter], findings: Findings) -> list[Record]:
    """All annotations, each with its id and encounter; repeated ones are problems."""
    keys = _keys([encounter for encounter in encounters if encounter.photos])
    records: list[Record] = []
    whole: Counter[str] = Counter()
    for encounter in encounters:
        keyed = [_with_key(encounter, photo, keys[encounter.row]) for photo in encounter.photos]
        is_repeat = any(
            findings.is_repeat(encounter.row, "encounter and photo", record.source_id, encounter.content)
            for record in keyed
        )
        if encounter.is_bad or is_repeat:
            for record in keyed:
                findings.set_aside(record)
            continue
        records.extend(keyed)
        whole.update(record.file_name for record in keyed if record.box is None)
    shared = sum(count > 1 for count in whole.values())
    findings.count("photos in several rows: each row is another animal, and all of them take the whole photo", shared)
    return records


def _with_key(encounter: _Encounter, photo: Record, key: str) -> Record:
    box = photo.box
    place = "" if box is None else f"{box.x:.9g},{box.y:.9g},{box.w:.9g},{box.h:.9g}"
    source_id = _BETWEEN.join(part for part in (key, photo.file_name, place) if part)
    return replace(photo, source_id=source_id, encounter=_encounter_of(encounter, photo, key))


def _encounter_of(encounter: _Encounter, photo: Record, key: str) -> str | None:
    if encounter.catalogue_key is not None:
        return encounter.catalogue_key
    if encounter.sighting is not None:
        return key if photo.individual is None else f"{encounter.sighting}{_BETWEEN}{photo.individual}"
    return key if photo.individual is None or photo.taken_at is None else None


def _keys(encounters: Sequence[_Encounter]) -> dict[str, str]:
    """What tells each row from all others, by the number of its line."""
    sharing: dict[str, list[_Encounter]] = defaultdict(list)
    keys: dict[str, str] = {}
    for encounter in encounters:
        if encounter.catalogue_key is not None:
            keys[encounter.row] = encounter.catalogue_key
        else:
            parts = (encounter.sighting, encounter.first)
            sharing[_BETWEEN.join(part for part in parts if part is not None)].append(encounter)
    for key, rows in sharing.items():
        if len(rows) == 1:
            keys[rows[0].row] = key
            continue
        nameless = {encounter.content for encounter in rows if encounter.photos[0].individual is None}
        # Of several unknown animals on one photo, the content of the rows tells which is which in any order.
        numbers = {content: number for number, content in enumerate(sorted(nameless, key=str), start=1)}
        for encounter in rows:
            individual = encounter.photos[0].individual
            name = individual or f"unknown {numbers[encounter.content]}"
            keys[encounter.row] = f"{key}{_BETWEEN}{name}"
    return keys


def _parse_individual(cell: object) -> str | Bad | None:
    name = values.parse_text(cell)
    return None if isinstance(name, str) and name.casefold() == _UNASSIGNED else name


def _parse_whole(lowest: int, highest: int) -> Callable[[object], int | Bad | None]:
    def parse(cell: object) -> int | Bad | None:
        number = values.parse_number(cell)
        if number is None or isinstance(number, Bad):
            return number
        if not number.is_integer() or not lowest <= number <= highest:
            return Bad(f"expected a whole number from {lowest} to {highest}")
        return int(number)

    return parse


def _is_blank(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and values.is_unknown(cell))
