from __future__ import annotations

import random
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.catalogue.importing import source_key
from resight.catalogue.sources import Parsed, detect, read, wildbook
from resight.errors import InputError
from resight.types import Box, Problem, Record

from .drawn import write_pictures, write_sheet, write_table

LEO = {"Encounter.genus": "Panthera", "Encounter.specificEpithet": "leo"}
DATE = "Encounter.year, Encounter.month, Encounter.day"


def parse(folder: Path, *rows: dict[str, object], **options: Any) -> Parsed:
    return wildbook.read(write_table(folder / "sheet.csv", rows, "\t"), **options)


def one(folder: Path, **cells: object) -> Record:
    """The record of a sheet with one row, which must be without problems; ``_`` in a name stands for a dot."""
    row = {"Encounter.mediaAsset0": "1.jpg", **{name.replace("_", "."): cell for name, cell in cells.items()}}
    parsed = parse(folder, row)
    assert parsed.problems == []
    (record,) = parsed.records
    return record


def problem(folder: Path, **cells: object) -> Problem:
    """The one problem of a sheet with one row, which must give no record."""
    row = {"Encounter.mediaAsset0": "1.jpg", **{name.replace("_", "."): cell for name, cell in cells.items()}}
    parsed = parse(folder, row)
    assert parsed.records == []
    (found,) = parsed.problems
    assert (found.row, found.severity) == ("2", "refused")
    return found


def test_a_sheet_as_the_documentation_has_it(tmp_path: Path) -> None:
    parsed = parse(
        tmp_path,
        {
            "Encounter.mediaAsset0": "20180905/12345.jpg",
            "Encounter.mediaAsset1": "20180905/12346.jpg",
            "Encounter.mediaAsset0.keywords": "left_scar",
            "Encounter.mediaAsset0.quality": 3,
            **LEO,
            "Encounter.year": 2020,
            "Encounter.month": 8,
            "Encounter.day": 24,
            "Encounter.hour": 11,
            "Encounter.minutes": 5,
            "Encounter.decimalLatitude": -35.46,
            "Encounter.decimalLongitude": 54.678,
            "Encounter.locationID": "Zone 5",
            "Encounter.sightingID": "S1",
            "MarkedIndividual.individualID": "Lion045",
            "MarkedIndividual.nickname": "Barry",
            "Encounter.sex": "male",
        },
    )
    assert (parsed.format, parsed.source_name, parsed.images_dir) == ("wildbook", "sheet", tmp_path)
    assert (parsed.problems, parsed.photos) == ([], [])
    shared: dict[str, Any] = {
        "species": "panthera_leo",
        "individual": "Lion045",
        "encounter": "S1::Lion045",
        "taken_at": "2020-08-24T11:05:00",
        "latitude": -35.46,
        "longitude": 54.678,
    }
    assert parsed.records == [
        Record("2", "20180905/12345.jpg", "S1::20180905/12345.jpg::20180905/12345.jpg", quality=3, **shared),
        Record("2", "20180905/12346.jpg", "S1::20180905/12345.jpg::20180905/12346.jpg", **shared),
    ]
    assert parsed.notes == [
        "columns not used: Encounter.mediaAsset0.keywords, Encounter.locationID, MarkedIndividual.nickname, "
        "Encounter.sex"
    ]


def test_a_workbook_with_numbers_and_blank_rows(tmp_path: Path) -> None:
    header = [
        "Encounter.MediaAsset0",
        "Encounter.MediaAsset1",
        *LEO,
        "Encounter.individualID",
        "Encounter.year",
        "Encounter.month",
        "Encounter.day",
    ]
    rows = [
        header,
        ["1.jpg", "2.jpg", "Panthera", "leo", 45, 2020, 8, 24],
        [None] * 8,
        ["3.jpg", None, "Panthera", "leo", 45.0, 2020, 8, 25.0],
    ]
    file = tmp_path / "sheet.xlsx"
    write_sheet(file, rows, {})
    parsed = wildbook.read(file)
    assert parsed.problems == []
    assert [(r.row, r.file_name, r.individual, r.taken_at) for r in parsed.records] == [
        ("2", "1.jpg", "45", "2020-08-24"),
        ("2", "2.jpg", "45", "2020-08-24"),
        ("4", "3.jpg", "45", "2020-08-25"),
    ]
    assert parsed.notes == ["blank lines skipped (once)"]


@pytest.mark.parametrize(
    ("cells", "field", "value"),
    [
        ({"MarkedIndividual_individualID": "Ayo"}, "individual", "Ayo"),
        ({"Encounter_individualID": "Ayo"}, "individual", "Ayo"),
        ({"MarkedIndividual_individualID": "", "Encounter_individualID": "Ayo"}, "individual", "Ayo"),
        ({"MarkedIndividual_individualID": "Ayo", "Encounter_individualID": "Ayo"}, "individual", "Ayo"),
        ({"MarkedIndividual_individualID": "Ayo", "Name0_value": "Barry"}, "individual", "Ayo"),
        ({"Name0_value": "Barry"}, "individual", "Barry"),
        ({"Encounter_individualID": "Unassigned"}, "individual", None),
        ({"Encounter_individualID": "____"}, "individual", None),
        (
            {"Encounter_genus": "Equus", "Encounter_specificEpithet": "quagga burchellii"},
            "species",
            "equus_quagga_burchellii",
        ),
        ({"Encounter_genus": "Equus", "Encounter_specificEpithet": ""}, "species", None),
        ({"Encounter_latitude": -1.5, "Encounter_longitude": 36}, "latitude", -1.5),
        ({"Encounter_decimalLatitude": 0, "Encounter_decimalLongitude": 0}, "latitude", None),
        ({"Encounter_decimalLatitude": 1}, "latitude", None),
        ({"Occurrence_decimalLatitude": 1, "Occurrence_decimalLongitude": 2}, "longitude", 2),
        ({"Encounter_catalogNumber": "e7"}, "encounter", "e7"),
        ({"Encounter_encounterID": "e7", "Encounter_sightingID": "S1"}, "encounter", "e7"),
        ({"Encounter_sightingID": "S1"}, "encounter", "S1::1.jpg"),
        ({"Encounter_occurrenceID": "S1", "Encounter_individualID": "Ayo"}, "encounter", "S1::Ayo"),
        ({"Sighting_sightingID": 7, "Encounter_individualID": "Ayo"}, "encounter", "7::Ayo"),
        ({"Encounter_individualID": "Ayo"}, "encounter", "1.jpg"),
        ({"Encounter_sex": "male"}, "encounter", "1.jpg"),
        ({"Encounter_mediaAsset0_quality": "good"}, "quality", None),
        ({"Encounter_quality0": 2}, "quality", 2),
        ({"Annotation0_bbox": "[250, 250, 500, 400]"}, "box", Box(250, 250, 500, 400)),
        ({"Annotation0_ViewPoint": "left"}, "viewpoint", "left"),
    ],
)
def test_columns_that_are_known(tmp_path: Path, cells: dict[str, object], field: str, value: object) -> None:
    assert getattr(one(tmp_path, **cells), field) == value


def day(year: object = 2020, month: object = 8, day: object = 24, **more: object) -> dict[str, object]:
    return {
        "Encounter_year": year,
        "Encounter_month": month,
        "Encounter_day": day,
        **{f"Encounter_{name}": value for name, value in more.items()},
    }


@pytest.mark.parametrize(
    ("cells", "taken_at"),
    [
        (day(), "2020-08-24"),
        (day(hour=0, minutes=0), "2020-08-24T00:00:00"),
        (day(hour=23, minutes="59"), "2020-08-24T23:59:00"),
        (day(hour=24, minutes=0), "2020-08-24"),
        (day(hour=11, minutes=60), "2020-08-24"),
        (day(hour=11), "2020-08-24"),
        (day(minutes=5), "2020-08-24"),
        (day(day=""), None),
        (day(day=0), None),
        (day(month="", day=""), None),
        (day(year=""), None),
        (day(day="", dateInMilliseconds=1516685992499), "2018-01-23T05:39:52+00:00"),
        (day(dateInMilliseconds=1516685992499), "2020-08-24"),
        ({"Encounter_dateInMilliseconds": 1516685992499}, "2018-01-23T05:39:52+00:00"),
        ({"Encounter_dateInMilliseconds": 1589554848}, None),
        ({"Encounter_dateInMilliseconds": 0}, None),
        ({"Encounter_dateInMilliseconds": 1e300}, None),
        ({"Sighting_year": 2020, "Sighting_month": 8, "Occurrence_day": 24}, "2020-08-24"),
        ({"Encounter_year": "", **{k.replace("Encounter", "Sighting"): v for k, v in day().items()}}, "2020-08-24"),
    ],
)
def test_dates(tmp_path: Path, cells: dict[str, object], taken_at: str | None) -> None:
    assert one(tmp_path, **cells).taken_at == taken_at


def test_dates_that_are_not_whole_are_counted(tmp_path: Path) -> None:
    rows = [
        {
            "Encounter.mediaAsset0": f"{n}.jpg",
            "Encounter.year": 2020,
            "Encounter.month": month,
            "Encounter.day": "",
            "Encounter.hour": "",
        }
        for n, month in enumerate(("", 8))
    ]
    rows.append(
        {**rows[0], "Encounter.mediaAsset0": "2.jpg", "Encounter.month": 8, "Encounter.day": 24, "Encounter.hour": 5}
    )
    assert parse(tmp_path, *rows).notes == [
        "rows with a year or month and no day: date taken as not known (2 times)",
        "rows with an hour and no minutes: the day alone is taken (once)",
    ]


@pytest.mark.parametrize(
    ("cells", "field", "part"),
    [
        (day(month="June"), "Encounter.month", "expected a number"),
        (day(month=13), "Encounter.month", "expected a whole number from 0 to 12"),
        (day(day=32), "Encounter.day", "expected a whole number from 0 to 31"),
        (day(month=2, day=30), DATE, "no such date"),
        (day(year=20), DATE, "year 20 is not between"),
        (day(year=2020.5), "Encounter.year", "expected a whole number"),
        (day(hour=25, minutes=0), "Encounter.hour", "expected a whole number from 0 to 24"),
        (day(hour=5, minutes=-1), "Encounter.minutes", "expected a whole number from 0 to 60"),
        ({"Encounter_dateInMilliseconds": "yesterday"}, "Encounter.dateInMilliseconds", "expected a number"),
        ({"Encounter_decimalLatitude": "12°"}, "Encounter.decimalLatitude", "decimal degrees"),
        ({"Encounter_decimalLongitude": 181}, "Encounter.decimalLongitude", "not between"),
        ({"Encounter_genus": "#REF!"}, "Encounter.genus", "spreadsheet could not compute"),
        ({"Annotation0_bbox": "[1, 2]"}, "Annotation0.bbox", "expected four numbers"),
        ({"Encounter_mediaAsset1": "/data/1.jpg"}, "Encounter.mediaAsset1", "an absolute path"),
        ({"Encounter_mediaAsset1": "../1.jpg"}, "Encounter.mediaAsset1", "climbs out"),
        (
            {"MarkedIndividual_individualID": "Ayo", "Encounter_individualID": "Zola"},
            "Encounter.individualID",
            "MarkedIndividual.individualID names Ayo",
        ),
    ],
)
def test_bad_cells_are_problems_of_their_row(tmp_path: Path, cells: dict[str, object], field: str, part: str) -> None:
    found = problem(tmp_path, **cells)
    assert found.field == field
    assert part in found.problem


def test_a_row_with_a_problem_still_has_its_pictures_looked_at(tmp_path: Path) -> None:
    parsed = parse(tmp_path, {"Encounter.mediaAsset0": "1.jpg", "Encounter.day": "x"})
    assert [record.file_name for record in parsed.faulty] == ["1.jpg"]


# Photos


def test_all_numbers_of_assets_are_read_in_their_order(tmp_path: Path) -> None:
    names = ("Encounter.mediaAsset10", "Encounter.mediaAsset2", "encounter.MediaAsset.0")
    parsed = parse(tmp_path, dict(zip(names, ("10.jpg", "2.jpg", "0.jpg"), strict=True)))
    assert [record.file_name for record in parsed.records] == ["0.jpg", "2.jpg", "10.jpg"]
    parsed = parse(tmp_path, {"Encounter.mediaAsset": "1.jpg"})
    assert [record.file_name for record in parsed.records] == ["1.jpg"]


def test_rows_without_a_photo_are_named(tmp_path: Path) -> None:
    rows = [{"Encounter.mediaAsset0": name, "Encounter.sex": "male"} for name in ("", "1.jpg", "NA")]
    parsed = parse(tmp_path, *rows)
    assert (len(parsed.records), parsed.problems) == (1, [])
    assert "rows without a photo left out: 2, 4" in parsed.notes
    parsed = parse(tmp_path, *rows[1:2], *[rows[0]] * 12)
    assert "rows without a photo left out: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more" in parsed.notes
    with pytest.raises(InputError, match=r"no row names a photo in Encounter\.mediaAsset0"):
        parse(tmp_path, rows[0])


def test_a_photo_twice_in_a_row_is_one(tmp_path: Path) -> None:
    parsed = parse(tmp_path, {"Encounter.mediaAsset0": "1.jpg", "Encounter.mediaAsset1": "./1.jpg"})
    assert len(parsed.records) == 1
    assert parsed.notes == ["photos that stand twice in a row: taken once (once)"]


def test_two_boxes_on_one_photo_are_two_annotations(tmp_path: Path) -> None:
    row = {f"Encounter.mediaAsset{n}": "1.jpg" for n in range(2)}
    boxes = {f"Annotation{n}.bbox": f"[{n}, 2, 30, 40]" for n in range(2)}
    parsed = parse(tmp_path, {**row, **boxes, "Encounter.id": "e1"})
    assert [(record.source_id, record.box) for record in parsed.records] == [
        ("e1::1.jpg::0,2,30,40", Box(0, 2, 30, 40)),
        ("e1::1.jpg::1,2,30,40", Box(1, 2, 30, 40)),
    ]


def test_capitals_are_those_of_the_disk(tmp_path: Path) -> None:
    write_pictures(tmp_path, "Day1/IMG_1.JPG", "Day1/img_2.jpg", "x.jpg", "X.jpg")
    names = ("day1/img_1.jpg", "Day1/IMG_1.JPG", "Day1/img_2.jpg", "day1/gone.jpg", "x.jpg", "X.jpg", "X.JPG")
    rows = [{"Encounter.mediaAsset0": name, "Encounter.catalogNumber": n} for n, name in enumerate(names)]
    parsed = parse(tmp_path, *rows)
    assert parsed.problems == []
    assert [record.file_name for record in parsed.records] == [
        "Day1/IMG_1.JPG",
        "Day1/IMG_1.JPG",
        "Day1/img_2.jpg",
        "Day1/gone.jpg",
        "x.jpg",
        "X.jpg",
        "X.JPG",
    ]
    assert "file names in other capitals than on the disk: those of the disk are taken (2 times)" in parsed.notes


# What tells annotations apart


def test_one_photo_in_two_rows_is_two_animals(tmp_path: Path) -> None:
    def row(name: str, sex: str = "") -> dict[str, object]:
        return {
            "Encounter.mediaAsset0": "1.jpg",
            "Encounter.sightingID": "S1",
            "Encounter.individualID": name,
            "Encounter.sex": sex,
        }

    parsed = parse(tmp_path, row("Ayo"), row("Zola"), row("", "male"), row("", "female"))
    assert parsed.problems == []
    assert {record.source_id: record.encounter for record in parsed.records} == {
        "S1::1.jpg::Ayo::1.jpg": "S1::Ayo",
        "S1::1.jpg::Zola::1.jpg": "S1::Zola",
        "S1::1.jpg::unknown 1::1.jpg": "S1::1.jpg::unknown 1",
        "S1::1.jpg::unknown 2::1.jpg": "S1::1.jpg::unknown 2",
    }
    (note,) = [note for note in parsed.notes if "several rows" in note]
    assert note.endswith("take the whole photo (once)")


@pytest.mark.parametrize("name", ["Ayo", ""])
def test_a_row_that_stands_twice(tmp_path: Path, name: str) -> None:
    row = {"Encounter.mediaAsset0": "1.jpg", "Encounter.mediaAsset1": "2.jpg", "Encounter.individualID": name}
    parsed = parse(tmp_path, row, {**row, "Encounter.mediaAsset0": "0.jpg"}, row)
    assert [record.row for record in parsed.records] == ["2", "2", "3", "3"]
    (found,) = parsed.problems
    assert (found.row, found.problem) == ("4", "the same row stands twice; the first is 2")


def test_one_animal_twice_on_one_photo(tmp_path: Path) -> None:
    row = {"Encounter.mediaAsset0": "1.jpg", "Encounter.individualID": "Ayo", "Encounter.sex": "male"}
    parsed = parse(tmp_path, row, {**row, "Encounter.sex": "female"})
    (found,) = parsed.problems
    assert (found.row, found.field) == ("3", "encounter and photo")
    assert "2 has it already" in found.problem


def test_a_name_that_is_filled_in_later_makes_no_new_annotation(tmp_path: Path) -> None:
    row = {"Encounter.mediaAsset0": "1.jpg", "Encounter.sightingID": "S1", "Encounter.individualID": ""}
    before = parse(tmp_path, row).records[0]
    after = parse(tmp_path, {**row, "Encounter.individualID": "Ayo"}).records[0]
    assert (before.individual, after.individual) == (None, "Ayo")
    assert source_key(before) == source_key(after)


def test_rows_of_one_individual_on_one_day_are_left_to_the_common_rule(tmp_path: Path) -> None:
    row = {"Encounter.individualID": "Ayo", "Encounter.year": 2020, "Encounter.month": 8, "Encounter.day": 24}
    parsed = parse(tmp_path, *({"Encounter.mediaAsset0": f"{n}.jpg", **row} for n in range(2)))
    assert [record.encounter for record in parsed.records] == [None, None]


ROWS: list[dict[str, object]] = [
    {
        "Encounter.mediaAsset0": f"{n % 4}.jpg",
        "Encounter.mediaAsset1": f"{n % 3}b.jpg" if n % 2 else "",
        "Encounter.catalogNumber": f"e{n}" if n > 9 else "",
        "Encounter.sightingID": f"S{n % 2}" if n % 3 else "",
        "Encounter.individualID": f"i{n}" if n % 4 else "",
        "Encounter.sex": n,
    }
    for n in range(14)
]


@given(st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_of_columns_makes_new_annotations(chance: random.Random) -> None:
    def keys(rows: list[dict[str, object]]) -> set[tuple[str, str | None, str | None]]:
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        file.write_text("\n".join(lines))
        parsed = wildbook.read(file)
        assert parsed.problems == []
        return {(source_key(record), record.individual, record.encounter) for record in parsed.records}

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sheet.tsv"
        expected = keys(ROWS)
        assert len(expected) == sum(bool(row[f"Encounter.mediaAsset{n}"]) for row in ROWS for n in range(2))
        names = list(ROWS[0])
        chance.shuffle(names)
        shuffled = [{name: row[name] for name in names} for row in ROWS]
        chance.shuffle(shuffled)
        assert keys(shuffled) == expected


# The whole sheet


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("Encounter.genus\tEncounter.year", "no column names the photo; expected Encounter.mediaAsset0"),
        ("Encounter.mediaAsset0\tencounter.mediaasset0", "two columns are named 'encounter.mediaasset0'"),
        ("Encounter.mediaAsset0\tEncounter.mediaAsset.0", "state the same; remove one"),
    ],
)
def test_what_is_no_sheet_is_one_line(tmp_path: Path, header: str, part: str) -> None:
    file = tmp_path / "sheet.tsv"
    file.write_text(f"{header}\n1.jpg\t2.jpg\n")
    with pytest.raises(InputError) as caught:
        wildbook.read(file)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_recognised(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/1.jpg")
    file = write_table(tmp_path / "sheet.csv", [{"Encounter.mediaAsset0": "1.jpg", **LEO}])
    for path in (file, tmp_path):
        assert detect(path)[0] == "wildbook"
        parsed = read(path)
        assert (parsed.format, parsed.images_dir) == ("wildbook", tmp_path / "images")
        assert "Wildbook's bulk import, for columns of it begin with Encounter." in parsed.notes[0]
        assert read(path, format="wildbook").records == parsed.records
    assert [record.species for record in parsed.records] == ["panthera_leo"]


def test_cells_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "sheet.xlsx"
    write_sheet(file, [["Encounter.mediaAsset0", "Encounter.individualID"], [datetime(2024, 5, 6), True]], {})
    parsed = wildbook.read(file)
    assert parsed.records == []
    assert [found.field for found in parsed.problems] == ["Encounter.individualID", "Encounter.mediaAsset0"]


def test_bytes_that_are_no_utf8_are_a_problem_even_in_a_column_that_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "sheet.csv"
    file.write_bytes(b"Encounter.mediaAsset0,Encounter.state\n1.jpg,\xe9\n")
    (found,) = wildbook.read(file).problems
    assert (found.row, found.field) == ("2", "Encounter.state")
