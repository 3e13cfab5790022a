from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.catalogue.sources import Parsed, tables, wildlife_datasets
from resight.errors import InputError
from resight.types import Box, Problem, Record

from .drawn import write_pictures, write_sheet, write_table

MIEWID = {
    "theta": 0.5,
    "viewpoint": "left",
    "name": "Ayo",
    "file_name": "1.jpg",
    "species": "lion+head",
    "file_path": "images/1.jpg",
    "x": 10,
    "y": 20,
    "w": 200,
    "h": 100,
}


def read_text(folder: Path, text: str | bytes, name: str = "herd.csv") -> Parsed:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tables.read(file)


def one(folder: Path, **cells: object) -> Record:
    """The record of a table with one row, which must be without problems."""
    parsed = tables.read(write_table(folder / "herd.csv", [{"path": "1.jpg", **cells}], "\t"))
    assert parsed.problems == []
    (record,) = parsed.records
    return record


def problem(folder: Path, **cells: object) -> Problem:
    """The one problem of a table with one row, which must give no record."""
    parsed = tables.read(write_table(folder / "herd.csv", [{"path": "1.jpg", **cells}], "\t"))
    assert parsed.records == []
    (found,) = parsed.problems
    assert (found.row, found.severity) == ("2", "refused")
    return found


def test_miewid_columns(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/1.jpg")
    parsed = tables.read(write_table(tmp_path / "herd.csv", [{**MIEWID, "date": "2024-05-06"}]))
    assert (parsed.format, parsed.source_name, parsed.images_dir) == ("csv", "herd", tmp_path)
    assert parsed.problems == []
    assert parsed.records == [
        Record(
            row="2",
            file_name="images/1.jpg",
            species="lion+head",
            individual="Ayo",
            viewpoint="left",
            box=Box(10, 20, 200, 100),
            theta_rad=0.5,
            taken_at="2024-05-06",
        )
    ]


def test_file_path_is_taken_where_it_leads_to_files_else_file_name(tmp_path: Path) -> None:
    file = write_table(tmp_path / "herd.csv", [MIEWID])
    write_pictures(tmp_path, "1.jpg")
    parsed = tables.read(file)
    assert parsed.records[0].file_name == "1.jpg"
    assert any("file_name as file" in note for note in parsed.notes)
    assert "columns not used: file_path" in parsed.notes
    write_pictures(tmp_path, "images/1.jpg")
    parsed = tables.read(file)
    assert parsed.records[0].file_name == "images/1.jpg"
    assert any("file_path as file" in note for note in parsed.notes)


def test_absolute_file_paths_give_way_to_file_names(tmp_path: Path) -> None:
    parsed = tables.read(write_table(tmp_path / "herd.csv", [{**MIEWID, "file_path": "/home/someone/1.jpg"}]))
    assert parsed.problems == []
    assert parsed.records[0].file_name == "1.jpg"


def test_file_path_stands_where_no_file_is_there(tmp_path: Path) -> None:
    parsed = tables.read(write_table(tmp_path / "herd.csv", [MIEWID]))
    assert (parsed.records[0].file_name, parsed.images_dir) == ("images/1.jpg", tmp_path)


def test_the_folder_of_images_may_be_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", "1.jpg")
    parsed = tables.read(write_table(tmp_path / "herd.csv", [MIEWID]), images=tmp_path / "photos")
    assert (parsed.images_dir, parsed.records[0].file_name) == (tmp_path / "photos", "1.jpg")


@pytest.mark.parametrize(
    ("column", "cell", "field", "value"),
    [
        ("individual", "Ayo", "individual", "Ayo"),
        ("identity", "Ayo", "individual", "Ayo"),
        ("Individual ID", "Ayo", "individual", "Ayo"),
        ("id_name", "Ayo", "individual", "Ayo"),
        ("individual", "____", "individual", None),
        ("Side", "left", "viewpoint", "left"),
        ("orientation", "back", "viewpoint", "back"),
        ("position", "up", "viewpoint", "up"),
        ("encounter_id", "e1", "encounter", "e1"),
        ("video", "v1", "encounter", "video v1"),
        ("bbox", "[1, 2, 30, 40]", "box", Box(1, 2, 30, 40)),
        ("bbox", "", "box", None),
        ("taken_at", "2024/05/06", "taken_at", "2024-05-06"),
        ("timestamp", "2024:05:06 07:08:09", "taken_at", "2024-05-06T07:08:09"),
        ("date", "NA", "taken_at", None),
        ("theta", "none", "theta_rad", 0.0),
        ("theta", "", "theta_rad", 0.0),
        ("annotation_id", "17", "source_id", "17"),
        ("uuid", "17", "source_id", "17"),
        ("id", "17", "source_id", "17"),
        ("quality", "0.5", "quality", 0.5),
        ("quality", "good", "quality", None),
        ("image_width", "400", "image_width", 400),
        ("image_width", "wide", "image_width", None),
        ("segmentation", "[[1, 2, 3, 4]]", "outline", [[1, 2, 3, 4]]),
        ("segmentation", "[1.5, 2, 3, 4, 5, 6]", "outline", [1.5, 2, 3, 4, 5, 6]),
        ("segmentation", '{"size": [2, 3], "counts": "02"}', "outline", {"size": [2, 3], "counts": "02"}),
        ("segmentation", "{'size': [2, 3], 'counts': b'0\\\\2'}", "outline", {"size": [2, 3], "counts": "0\\2"}),
        ("segmentation", "{'size': [1, 2]}", "outline", None),
        ("segmentation", "nan", "outline", None),
        ("segmentation", "", "outline", None),
    ],
)
def test_a_column_by_its_names(tmp_path: Path, column: str, cell: str, field: str, value: object) -> None:
    assert getattr(one(tmp_path, **{column: cell}), field) == value


def test_columns_of_our_own_export_are_understood(tmp_path: Path) -> None:
    columns = "annotation_id,source,file_name,species,individual,viewpoint,encounter,identity"
    columns += ",box_x,box_y,box_w,box_h,theta,subset"
    parsed = read_text(tmp_path, columns + "\na1,s,1.jpg,lion,Ayo,left,e1,Ayo|left,1,2,30,40,0.5,train\n")
    (record,) = parsed.records
    assert (record.source_id, record.file_name, record.individual) == ("a1", "1.jpg", "Ayo")
    assert (record.encounter, record.box, record.theta_rad) == ("e1", Box(1, 2, 30, 40), 0.5)
    assert "columns not used: source, identity, subset" in parsed.notes


def test_a_position_needs_both(tmp_path: Path) -> None:
    record = one(tmp_path, lat="-1.25", lon="36.5")
    assert (record.latitude, record.longitude) == (-1.25, 36.5)
    assert one(tmp_path, latitude="0", longitude="0").latitude is None
    assert one(tmp_path, latitude="12", longitude="").latitude is None
    assert one(tmp_path, latitude="-1", longitude="-1").latitude == -1.0
    assert one(tmp_path, gps_lat_captured="-1.000000", gps_lon_captured="-1.000000").latitude is None


def test_a_video_stands_for_the_encounter_only_where_there_is_nothing_better(tmp_path: Path) -> None:
    assert one(tmp_path, video="v1", date="2024-05-06").encounter is None
    assert one(tmp_path, video="v1", encounter="e1").encounter == "e1"


def test_columns_that_are_not_understood_are_named(tmp_path: Path) -> None:
    parsed = read_text(tmp_path, "path,colour,,individual,weather\n1.jpg,brown,0,Ayo,rain\n")
    assert "columns not used: colour, weather" in parsed.notes
    assert "columns without a name not used (once)" in parsed.notes
    assert "columns: path as file, individual as individual" in parsed.notes


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    rows = [{"path": "1.jpg", "individual": "Ayo", "species": "lion"}]
    (record,) = tables.read(write_table(tmp_path / "herd.csv", rows, delimiter)).records
    assert (record.file_name, record.individual, record.species) == ("1.jpg", "Ayo", "lion")


def test_excels_first_line_and_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    parsed = read_text(tmp_path, b"\xef\xbb\xbfsep=;\r\npath;individual\r\n1.jpg;a,b\r\n")
    assert [(record.row, record.individual) for record in parsed.records] == [("3", "a,b")]


def test_one_column_is_enough(tmp_path: Path) -> None:
    assert [record.file_name for record in read_text(tmp_path, "file\n1.jpg\n2.jpg\n").records] == ["1.jpg", "2.jpg"]


def test_a_blank_line_of_delimiters_before_the_header(tmp_path: Path) -> None:
    assert [record.row for record in read_text(tmp_path, ",,\npath,name\n1.jpg,a\n").records] == ["3"]


def test_pictures_in_a_folder_of_images_are_found(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/1.jpg")
    parsed = read_text(tmp_path, "path,name\n1.jpg,a\n")
    assert parsed.images_dir == tmp_path / "images"
    assert any("pictures are sought below" in note for note in parsed.notes)


def test_line_numbers_are_the_files_own(tmp_path: Path) -> None:
    text = '\npath,individual,remark\n1.jpg,a,"two\nlines"\n\n , ,\n2.jpg,b,x\n'
    parsed = read_text(tmp_path, text)
    assert [(record.row, record.individual) for record in parsed.records] == [("3", "a"), ("7", "b")]
    assert "blank lines skipped (3 times)" in parsed.notes


@pytest.mark.parametrize(
    ("cells", "field", "value", "part"),
    [
        ({"path": "", "individual": "Ayo"}, "path", "", "no file name"),
        ({"path": "../1.jpg"}, "path", "../1.jpg", "climbs out"),
        ({"path": "C:\\1.jpg"}, "path", "C:\\1.jpg", "absolute"),
        ({"bbox": "[1, 2, 0, 4]"}, "bbox", "[1, 2, 0, 4]", "zero-area"),
        ({"x": 1, "y": 2, "w": 3, "h": 0}, "x, y, w, h", "[1, 2, 3, 0]", "zero-area"),
        ({"x": 1, "y": "", "w": 3, "h": 4}, "x, y, w, h", "[1, , 3, 4]", "lacks y"),
        ({"x": 1, "y": "1,5", "w": 3, "h": 4}, "x, y, w, h", "[1, 1,5, 3, 4]", "write 1.5"),
        ({"x": 1, "y": "1e400", "w": 3, "h": 4}, "x, y, w, h", "[1, 1e400, 3, 4]", "too large"),
        ({"theta": "90"}, "theta", "90", "degrees"),
        ({"date": "03/04/2024"}, "date", "03/04/2024", "YYYY-MM-DD"),
        ({"date": "2024-02-30"}, "date", "2024-02-30", "no such date"),
        ({"date": "soon"}, "date", "soon", "no date"),
        ({"latitude": "91", "longitude": "5"}, "latitude", "91", "latitude 91 is not between -90 and 90"),
        ({"lat": "9", "lon": "-181"}, "lon", "-181", "longitude -181"),
        ({"individual": "a\x07"}, "individual", "a\\x07", "control character"),
        ({"individual": "#REF!"}, "individual", "#REF!", "could not compute"),
    ],
)
def test_a_bad_cell_is_a_problem(tmp_path: Path, cells: dict[str, Any], field: str, value: str, part: str) -> None:
    found = problem(tmp_path, **cells)
    assert (found.field, found.value) == (field, value)
    assert part in found.problem


@pytest.mark.parametrize("column", ["individual", "remark"])
def test_a_cell_that_is_no_utf8_refuses_its_row_alone(tmp_path: Path, column: str) -> None:
    parsed = read_text(tmp_path, f"path,{column}\n1.jpg,Zo!\n2.jpg,b\n".encode().replace(b"!", b"\xe9"))
    assert [record.file_name for record in parsed.records] == ["2.jpg"]
    (found,) = parsed.problems
    assert (found.row, found.field, found.value) == ("2", column, "Zo\\xe9")
    assert "UTF-8" in found.problem


def test_rows_with_too_many_or_too_few_cells(tmp_path: Path) -> None:
    parsed = read_text(tmp_path, "path,individual\n1.jpg\n2.jpg,a,b\n3.jpg,c\n")
    assert [record.row for record in parsed.records] == ["4"]
    assert [(p.row, p.problem.split(":")[0]) for p in parsed.problems] == [
        ("2", "too few cells"),
        ("3", "too many cells"),
    ]


def test_a_quote_that_is_not_closed_is_reported_where_it_begins(tmp_path: Path) -> None:
    parsed = read_text(tmp_path, 'path,individual\n1.jpg,a\n2.jpg,"b\n3.jpg,c\n')
    assert [record.row for record in parsed.records] == ["2"]
    assert [(p.row, p.field) for p in parsed.problems] == [("3", "row")]
    parsed = read_text(tmp_path, 'path,individual\n1.jpg,"a"b\n2.jpg,c\n')
    assert [record.row for record in parsed.records] == ["3"]
    assert [(p.row, p.field) for p in parsed.problems] == [("2", "row")]


def test_repeated_ids_name_the_first_row(tmp_path: Path) -> None:
    parsed = read_text(tmp_path, "uuid,path,name\n7,1.jpg,a\n7,2.jpg,b\n7,1.jpg,a\n8,1.jpg,a\n")
    assert [record.row for record in parsed.records] == ["2", "5"]
    assert [(p.row, p.field, p.value) for p in parsed.problems] == [("3", "uuid", "7"), ("4", "uuid", "7")]
    assert parsed.problems[0].problem.startswith("2 has it already")
    assert parsed.problems[1].problem == "the same row stands twice; the first is 2"


def test_a_bad_row_with_a_repeated_id_has_two_problems(tmp_path: Path) -> None:
    parsed = read_text(tmp_path, "uuid,path,theta\n7,1.jpg,0\n7,2.jpg,90\n")
    assert [(p.row, p.field) for p in parsed.problems] == [("3", "uuid"), ("3", "theta")]


def test_without_ids_the_place_is_the_key(tmp_path: Path) -> None:
    text = "path,name,bbox\n1.jpg,a,1 2 30 40\n1.jpg,b,2 2 30 40\n1.jpg,c,1 2 30 40\n1.jpg,a,1 2 30 40\n"
    parsed = read_text(tmp_path, text)
    assert [record.row for record in parsed.records] == ["2", "3"]
    assert [p.row for p in parsed.problems] == ["4", "5"]
    assert parsed.problems[1].problem == "the same row stands twice; the first is 2"


def test_a_column_called_id_is_used_only_where_it_tells_rows_apart(tmp_path: Path) -> None:
    def ids(text: str) -> tuple[list[str | None], int]:
        parsed = read_text(tmp_path, text)
        return [record.source_id for record in parsed.records], len(parsed.problems)

    assert ids("id,path\n1,a.jpg\n2,b.jpg\n") == (["1", "2"], 0)
    # Of an image: two boxes on one photo.
    assert ids("id,path,bbox\n1,a.jpg,1 2 30 40\n1,a.jpg,5 2 30 40\n2,b.jpg,\n") == ([None, None, None], 0)
    # Of an individual: few values for many photos.
    assert ids("id,path\n1,a.jpg\n1,b.jpg\n1,c.jpg\n2,d.jpg\n") == ([None] * 4, 0)
    # Of a row, with a slip, and with a row that stands twice.
    assert ids("id,path\n1,a.jpg\n2,b.jpg\n2,c.jpg\n3,d.jpg\n") == (["1", "2", "3"], 1)
    assert ids("id,path\n1,a.jpg\n1,a.jpg\n2,b.jpg\n") == (["1", "2"], 1)


def test_all_bad_things_at_once_are_all_reported(tmp_path: Path) -> None:
    lines = [
        b"uuid,path,name,x,y,w,h,theta,date,lat,lon",
        b"1,1.jpg,a,1,2,30,40,0,2024-05-06,1,2",
        b"2,../2.jpg,a,1,2,30,0,90,2024-05-32,91,181",
        b"3,3.jpg,Zo\xe9,1,,30,40,0,,,",
        b"1,4.jpg,a,1,2,30,40,0,,,",
        b"5,5.jpg",
        b"",
        b"6,,a,1,2,30,-40,x,03/04/2024,1,2",
        b"7,7.jpg,____,,,,,none,NA,0,0",
    ]
    parsed = read_text(tmp_path, b"\n".join(lines))
    assert [(p.row, p.field) for p in parsed.problems] == [
        ("6", "row"),  # the shape of rows is checked before their cells
        ("3", "path"),
        ("3", "x, y, w, h"),
        ("3", "theta"),
        ("3", "date"),
        ("3", "lat"),
        ("3", "lon"),
        ("4", "name"),
        ("4", "x, y, w, h"),
        ("5", "uuid"),
        ("8", "path"),
        ("8", "x, y, w, h"),
        ("8", "theta"),
        ("8", "date"),
    ]
    assert [record.row for record in parsed.records] == ["2", "9"]
    assert parsed.records[1] == Record(row="9", file_name="7.jpg", source_id="7")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"path,name\n", "no rows"),
        (b"colour,name\nred,a\n", "no column names the picture"),
        (b"path,Name,name\n1.jpg,a,b\n", "two columns are named 'name'"),
        (b"path,x,y\n1.jpg,1,2\n", "lack the column w, h"),
        (b"path,xmin,ymin,xmax,ymax\n1.jpg,1,2,3,4\n", "corner"),
        (b"\x89PNG\r\n\x00\x00", "zero byte stands at position 6"),
        ("path,name\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path: Path, content: bytes, part: str) -> None:
    with pytest.raises(InputError, match=r"herd\.csv") as caught:
        read_text(tmp_path, content)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


SHEET = [
    ["path", "individual", "date", "x", "y", "w", "h", "remark"],
    ["1.jpg", 7, datetime(2024, 5, 6), 1, 2.0, 30, 40],
    [],
    ["2.jpg", 7.5, datetime(2024, 5, 6, 7, 8, 9), None, None, None, None, "x"],
]


def test_a_spreadsheet_reads_as_a_table(tmp_path: Path) -> None:
    file = write_sheet(tmp_path / "herd.xlsx", SHEET, {"more": [["a"]], "empty": []})
    parsed = tables.read(file)
    assert parsed.problems == []
    assert parsed.records == [
        Record(row="2", file_name="1.jpg", individual="7", box=Box(1, 2, 30, 40), taken_at="2024-05-06"),
        Record(row="4", file_name="2.jpg", individual="7.5", taken_at="2024-05-06T07:08:09"),
    ]
    assert "sheet 'Sheet' was read, not 'more'" in parsed.notes
    assert "blank lines skipped (once)" in parsed.notes


def test_bad_cells_of_a_spreadsheet(tmp_path: Path) -> None:
    rows = [["path", "individual", "date"], ["1.jpg", datetime(2024, 5, 6), 45000], ["2.jpg", True, "x", "y"]]
    parsed = tables.read(write_sheet(tmp_path / "herd.xlsx", rows, {}))
    assert [(p.row, p.field) for p in parsed.problems] == [("3", "row"), ("2", "individual"), ("2", "date")]


@pytest.mark.parametrize("content", [b"", b"path,name\n1.jpg,a\n", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_spreadsheet_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "herd.xlsx"
    file.write_bytes(content)
    with pytest.raises(InputError, match="no spreadsheet"):
        tables.read(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("herd.csv", "herd.xlsx"):
        with pytest.raises(InputError, match="herd"):
            tables.read(tmp_path / name)


def test_an_empty_spreadsheet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        tables.read(write_sheet(tmp_path / "herd.xlsx", [], {}))


def wildlife(folder: Path, **cells: object) -> Record:
    row = {"image_id": 0, "identity": "Ayo", "path": "train/Ayo/1.jpg", **cells}
    parsed = wildlife_datasets.read(write_table(folder / "metadata.csv", [row], "\t"))
    assert (parsed.format, parsed.problems) == ("wildlife-datasets", [])
    return parsed.records[0]


def test_wildlife_datasets(tmp_path: Path) -> None:
    expected = Record(row="2", file_name="train/Ayo/1.jpg", source_id="0", individual="Ayo")
    assert wildlife(tmp_path) == expected
    record = wildlife(tmp_path, bbox="[1.0, 2.0, 30.0, 40.0]", date="2024-05-06", position="left", species="lion")
    assert (record.box, record.taken_at) == (Box(1, 2, 30, 40), "2024-05-06")
    assert (record.viewpoint, record.species) == ("left", "lion")
    assert wildlife(tmp_path, orientation="Left_Face").viewpoint == "Left_Face"
    assert wildlife(tmp_path, identity="unknown").individual is None
    assert wildlife(tmp_path, video="12").encounter == "video 12"
    assert wildlife(tmp_path, video="12", date="2024-05-06").encounter is None


def test_a_box_of_wildlife_datasets_is_data_not_code(tmp_path: Path) -> None:
    row = {"image_id": 0, "identity": "Ayo", "path": "1.jpg", "bbox": "__import__('os').mkdir('x')"}
    parsed = wildlife_datasets.read(write_table(tmp_path / "metadata.csv", [row], "\t"))
    assert [(p.row, p.field) for p in parsed.problems] == [("2", "bbox")]


def test_wildlife_datasets_ids_must_differ_and_other_columns_are_named(tmp_path: Path) -> None:
    rows = [{"image_id": 0, "identity": "a", "path": f"{n}.jpg", "keypoints": ""} for n in range(2)]
    parsed = wildlife_datasets.read(write_table(tmp_path / "metadata.csv", rows))
    assert [(p.row, p.field) for p in parsed.problems] == [("3", "image_id")]
    assert "columns not used: keypoints" in parsed.notes


def test_why_columns_are_recognised() -> None:
    assert tables.recognise(["path", "individual", "species"]) == (
        "its columns path and individual and species name files and animals"
    )
    assert tables.recognise(list(MIEWID)) == "it has MiewID's columns theta, viewpoint and name"
    assert tables.recognise(["colour", "individual"]) is None
    assert wildlife_datasets.recognise(["", "image_id", "identity", "path"]) is not None
    assert wildlife_datasets.recognise(["identity", "path"]) is None


PLAIN = st.text(st.characters(codec="utf-8", categories=("Lu", "Ll", "Nd")), min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(PLAIN, st.floats(0, 6), st.integers(1, 500)), min_size=1, max_size=8))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    file = tmp_path_factory.mktemp("table") / "herd.csv"
    cells = [
        {"path": f"{number}.jpg", "name": f"n{name}", "theta": theta, "bbox": f"[0, 0, {side}, {side}]"}
        for number, (name, theta, side) in enumerate(rows)
    ]
    parsed = tables.read(write_table(file, cells, ";"))
    assert parsed.problems == []
    assert [(r.theta_rad, r.box) for r in parsed.records] == [(theta, Box(0, 0, s, s)) for _, theta, s in rows]
