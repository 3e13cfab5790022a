from __future__ import annotations

from pathlib import Path

import pytest

from resight.catalogue.sources import FORMATS, detect, places, read
from resight.errors import InputError, UnknownName

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


@pytest.mark.parametrize("name", ["x.jpg", "x.MP4"])
def test_a_picture_or_video_alone_is_raw_photos_and_no_annotation_file(tmp_path: Path, name: str) -> None:
    file = write_pictures(tmp_path, name) / name
    assert detect(file)[0] == "photos"
    for asked in ("auto", "photos"):
        with pytest.raises(ValueError, match="photos are no annotation file"):
            read(file, format=asked)


@pytest.mark.parametrize("name", ["1.jpg", "1.avi"])
def test_a_folder_of_loose_photos(tmp_path: Path, name: str) -> None:
    assert detect(write_pictures(tmp_path, name))[0] == "photos"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["DCIM/100CANON/IMG_0001.JPG", "MISC/x.jpg"], "it is or has DCIM"),
        (["cam A/DCIM/100CANON/IMG_0001.JPG", "Ayo/1.jpg"], "it is or has DCIM"),
        (["dcim/1.jpg"], "it is or has DCIM"),
        (["DCIM/100GOPRO/GX010001.MP4"], "it is or has DCIM"),
        (["100CANON/a.jpg", "101_PANA/b.jpg"], "its sub-folders are named by a camera, such as 100CANON"),
        (["back yard/100RECNX/RCNX0001.JPG"], "its sub-folders are named by a camera, such as 100RECNX"),
        (["2024-05-06/a.jpg", "20240507/b.jpg"], "its sub-folders are days, such as 2024-05-06"),
        (["cam 2/IMG_0001.JPG", "cam 10/IMG_0001 (1).JPG"], "its sub-folders are stations, such as cam 2"),
        (["Site3/day one/DSC_0001.JPG"], "its sub-folders are stations, such as Site3"),
    ],
)
def test_a_card_is_photos_and_no_folder_of_individuals(tmp_path: Path, names: list[str], why: str) -> None:
    found, sentence = detect(write_pictures(tmp_path / "card", *names))
    assert found == "photos"
    assert sentence.startswith(f"{tmp_path / 'card'}: photos, for {why}")


def test_the_folder_of_a_card_itself(tmp_path: Path) -> None:
    write_pictures(tmp_path, "DCIM/my folder/1.jpg")
    assert detect(tmp_path / "DCIM")[0] == "photos"


@pytest.mark.parametrize(
    "names",
    [
        ["Ayo/1.jpg", "2024-05-06/1.jpg"],
        ["cam1/first.jpg", "cam2/second.jpg"],
        ["zebra/100/1.jpg", "zebra/101/1.jpg"],
        ["lion/Ayo/1.jpg", "lion/Zola/1.jpg"],
        ["100CANON/1.jpg", "Zola/1.jpg"],
        ["12345678/1.jpg", "20241399/1.jpg"],
    ],
)
def test_folders_of_individuals_stay_what_they_are(tmp_path: Path, names: list[str]) -> None:
    found, sentence = detect(write_pictures(tmp_path / "herd", *names))
    assert found == "folders"
    assert "--format photos" not in sentence


def test_individuals_with_files_as_cameras_name_them_may_be_doubted(tmp_path: Path) -> None:
    found, sentence = detect(write_pictures(tmp_path / "herd", "Ayo/IMG_0001.JPG", "Ayo/IMG_0002.JPG"))
    assert found == "folders"
    assert sentence.endswith(
        "such as Ayo, with files named by a camera; if they are no individuals, use --format photos"
    )


def test_a_table_that_is_none_beside_a_card(tmp_path: Path) -> None:
    write_pictures(tmp_path, "DCIM/100CANON/IMG_0001.JPG")
    write_table(tmp_path / "log.csv", [{"day": 1, "rain": 2}])
    with pytest.raises(
        InputError, match=r"log\.csv: no column names the picture.*to import its photos alone, use --format ph"
    ):
        detect(tmp_path)


def test_an_unknown_format_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'coco'"):
        read(tmp_path, format="cocoa")
    with pytest.raises(UnknownName) as caught:
        read(tmp_path, format="zzz")
    assert all(name in str(caught.value) for name in FORMATS)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        (
            "x.json",
            "{}",
            "JSON of no known format; expected COCO, an object with images and annotations, or results of Mega",
        ),
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
