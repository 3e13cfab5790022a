from __future__ import annotations

from pathlib import Path

import pytest

from resight.catalogue.sources import FORMATS, detect, places, read
from resight.errors import InputError, NotBuiltYet, UnknownName

from .drawn import coco_annotation, coco_document, wild_me_annotation, write_json, write_pictures, write_table

TABLE = [{"path": "1.jpg", "individual": "Ayo"}]
WILDLIFE = [{"image_id": 0, "identity": "Ayo", "path": "1.jpg"}]


def test_a_file_is_recognised_by_its_content(tmp_path: Path) -> None:
    herd = tmp_path / "herd"
    coco = write_json(herd / "annotations.json", coco_document([wild_me_annotation(0)]))
    assert detect(coco) == (
        "coco",
        f"{coco}: COCO, for it holds images, annotations and categories; "
        "Wild Me flavour, for its annotations have individual_ids, theta, image_uuid",
    )
    table = write_table(tmp_path / "a.tsv", TABLE, "\t")
    assert detect(table) == ("csv", f"{table}: table, for its columns path and individual name files and animals")
    wildlife = write_table(tmp_path / "b.csv", WILDLIFE)
    assert detect(wildlife)[0] == "wildlife-datasets"


def test_a_folder_with_one_annotation_file_is_taken_for_that_file(tmp_path: Path) -> None:
    herd = tmp_path / "herd"
    file = write_json(herd / "annotations.json", coco_document([coco_annotation(0)]))
    write_pictures(herd, "images/0.jpg", "notes.txt", ".hidden.csv", "~$open.xlsx")
    format_name, why = detect(herd)
    assert format_name == "coco"
    assert why.startswith(f"{file}: COCO")
    assert why.endswith(f"; the one annotation file in {herd}")
    parsed = read(herd)
    assert parsed.source_name == "herd"
    assert parsed.notes[0] == why
    assert [record.file_name for record in parsed.records] == ["0.jpg"]
    assert read(file).source_name == "herd"


def test_other_files_are_named_in_why(tmp_path: Path) -> None:
    write_table(tmp_path / "herd.csv", TABLE)
    write_table(tmp_path / "weather.csv", [{"day": 1, "rain": 2}])
    format_name, why = detect(tmp_path)
    assert format_name == "csv"
    assert "not read:" in why
    assert "weather.csv: no column names the picture" in why


def test_several_annotation_files_are_listed(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", TABLE)
    write_json(tmp_path / "b.json", coco_document([coco_annotation(0)]))
    with pytest.raises(InputError, match=r"2 annotation files: a\.csv, b\.json; name the one to import"):
        detect(tmp_path)


def test_a_format_by_name_chooses_among_several_files(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", TABLE)
    write_table(tmp_path / "b.csv", WILDLIFE)
    write_json(tmp_path / "c.json", coco_document([coco_annotation(0)]))
    assert read(tmp_path, format="coco").format == "coco"
    assert read(tmp_path, format="wildlife-datasets").records[0].source_id == "0"
    assert read(tmp_path / "b.csv", format="csv").format == "csv"
    write_table(tmp_path / "d.csv", TABLE)
    with pytest.raises(InputError, match=r"one file of format csv in it, there are: a\.csv, d\.csv"):
        read(tmp_path, format="csv")


def test_a_folder_of_folders_of_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a/1.jpg", "b/1.jpg")
    assert detect(tmp_path) == (
        "folders",
        f"{tmp_path}: folders of individuals, for it has sub-folders with pictures, such as a",
    )
    assert len(read(tmp_path).records) == 2


def test_a_broken_annotation_file_does_not_turn_its_pictures_into_an_individual(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/1.jpg")
    (tmp_path / "annotations.json").write_text('{"images": [')
    with pytest.raises(InputError, match=r"annotations\.json: no JSON: .* use --format folders"):
        read(tmp_path)
    assert [record.individual for record in read(tmp_path, format="folders").records] == ["images"]


@pytest.mark.parametrize(
    ("name", "content", "format_name"),
    [
        ("x.jpg", "", "photos"),
        ("x.json", '{"images": [], "detection_categories": {}}', "megadetector"),
        ("x.csv", "Encounter.mediaAsset0,Encounter.genus\n1.jpg,Panthera\n", "wildbook"),
    ],
)
def test_formats_to_come_are_recognised_and_refused(tmp_path: Path, name: str, content: str, format_name: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    assert detect(file)[0] == format_name
    for asked in ("auto", format_name):
        with pytest.raises(NotBuiltYet, match=f"the format {format_name} cannot be read yet") as caught:
            read(file, format=asked)
        assert caught.value.exit_code == 2


def test_a_folder_of_loose_photos(tmp_path: Path) -> None:
    assert detect(write_pictures(tmp_path, "1.jpg"))[0] == "photos"


def test_an_unknown_format_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'coco'"):
        read(tmp_path, format="cocoa")
    with pytest.raises(UnknownName) as caught:
        read(tmp_path, format="zzz")
    assert all(name in str(caught.value) for name in FORMATS)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("x.json", "{}", "JSON of no known format"),
        ("x.csv", "day,rain\n", "no column names the picture"),
        ("x.xls", "", "save it as .xlsx"),
        ("x.zip", "", "no known format"),
        ("x", "", "without suffix"),
    ],
)
def test_what_cannot_be_recognised_is_one_line(tmp_path: Path, name: str, content: str, part: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        detect(tmp_path / name)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to import"):
        detect(tmp_path)
    for format_name in ("auto", "coco", "csv", "folders"):
        with pytest.raises(InputError, match="no such"):
            read(tmp_path / "nowhere", format=format_name)


def test_the_name_of_the_source(tmp_path: Path) -> None:
    assert places.source_name(tmp_path / "herd_2024.csv") == "herd_2024"
    assert places.source_name(tmp_path / "cow_face" / "annotations.csv") == "cow_face"
    assert places.source_name(tmp_path / "nyala" / "annotations" / "instances_train2020.json") == "nyala"
    (tmp_path / "herd v1.2").mkdir()
    assert places.source_name(tmp_path / "herd v1.2") == "herd v1.2"
    assert places.source_name(Path("/data.csv")) == "data"
