from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resight.catalogue.sources import Parsed, coco
from resight.errors import InputError
from resight.types import Box, Problem, Record

from .drawn import (
    LACKING,
    coco_annotation,
    coco_document,
    coco_image,
    wild_me_annotation,
    wild_me_image,
    write_json,
    write_pictures,
)


def read(folder: Path, document: Any, **options: Any) -> Parsed:
    return coco.read(write_json(folder / "herd.json", document), **options)


def one(folder: Path, *, image: dict[str, Any] | None = None, **changes: Any) -> Record:
    """The record of a file with one annotation, which must be without problems."""
    document = coco_document([coco_annotation(0, **changes)], [coco_image(0, **(image or {}))])
    parsed = read(folder, document)
    assert parsed.problems == []
    (record,) = parsed.records
    return record


def problem(folder: Path, *, image: dict[str, Any] | None = None, **changes: Any) -> Problem:
    """The one problem of a file with one annotation, which must give no record."""
    document = coco_document([coco_annotation(0, **changes)], [coco_image(0, **(image or {}))])
    parsed = read(folder, document)
    assert parsed.records == []
    (found,) = parsed.problems
    assert found.severity == "refused"
    return found


def test_plain_coco(tmp_path: Path) -> None:
    parsed = read(tmp_path, coco_document([coco_annotation(0, segmentation=[[1, 2, 3, 4, 5, 6]], quality=0.5)]))
    assert parsed.format == "coco"
    assert parsed.source_name == "herd"
    assert parsed.images_dir == tmp_path
    assert parsed.problems == []
    assert parsed.records == [
        Record(
            row="annotations[0]",
            file_name="0.jpg",
            source_id="0",
            species="zebra",
            individual="z0",
            viewpoint="left",
            box=Box(10, 20, 200, 100),
            image_width=400,
            image_height=300,
            quality=0.5,
            outline=[[1, 2, 3, 4, 5, 6]],
        )
    ]


def test_wild_me_flavour_states_unknown_in_its_own_way(tmp_path: Path) -> None:
    images = [wild_me_image(0), wild_me_image(1, gps_lat_captured="-1.25", gps_lon_captured="36.5")]
    annotations = [
        wild_me_annotation(0, name="____"),
        wild_me_annotation(1, theta=0.5, encounter_id="e7", category_id=2),
    ]
    categories = [{"id": 1, "name": "lion"}, {"id": 2, "name": "lion+head"}]
    first, second = read(tmp_path, coco_document(annotations, images, categories=categories)).records
    assert first.source_id == "annot-0"
    assert (first.individual, first.theta_rad, first.taken_at) == (None, 0.0, None)
    assert (first.latitude, first.longitude) == (None, None)
    assert (second.species, second.theta_rad, second.encounter) == ("lion+head", 0.5, "e7")
    assert (second.latitude, second.longitude) == (-1.25, 36.5)


def test_what_was_tolerated_is_counted(tmp_path: Path) -> None:
    numbers = range(3)
    annotations = [wild_me_annotation(number, name="____") for number in numbers]
    notes = read(tmp_path, coco_document(annotations, [wild_me_image(number) for number in numbers])).notes
    assert "name '____': taken as not known (3 times)" in notes
    assert "theta 'none': taken as not known (3 times)" in notes
    assert "date_captured 'NA': taken as not known (3 times)" in notes
    assert "images with latitude -1, longitude -1: position taken as not known (3 times)" in notes


def test_minus_one_is_a_place_in_plain_coco(tmp_path: Path) -> None:
    record = one(tmp_path, image={"latitude": -1, "longitude": -1})
    assert (record.latitude, record.longitude) == (-1.0, -1.0)


def test_zero_zero_is_no_place(tmp_path: Path) -> None:
    record = one(tmp_path, image={"gps_lat": 0, "gps_lon": 0})
    assert (record.latitude, record.longitude) == (None, None)


def test_half_a_place_is_no_place(tmp_path: Path) -> None:
    assert one(tmp_path, image={"gps_lat": 12.5}).latitude is None


@pytest.mark.parametrize(
    ("keys", "individual"),
    [
        ({"name": "a", "individual": "b"}, "a"),
        ({"name": "____", "individual": "b"}, "b"),
        ({"name": LACKING, "individual_id": "b"}, "b"),
        ({"name": LACKING, "identity": 12}, "12"),
        ({"name": LACKING, "attributes": {"individual": "b"}}, "b"),
        ({"name": LACKING, "individual_ids": ["b"], "attributes": {"name": "a"}}, "a"),
        ({"name": LACKING, "individual_ids": ["b"]}, "b"),
        ({"name": None, "individual_ids": [5]}, "5"),
        ({"name": LACKING, "individual_ids": ["b", "c"]}, None),
        ({"name": LACKING, "individual_ids": []}, None),
        ({"name": LACKING}, None),
    ],
)
def test_where_the_individual_comes_from(tmp_path: Path, keys: dict[str, Any], individual: str | None) -> None:
    assert one(tmp_path, **keys).individual == individual


def test_several_individual_ids_are_counted(tmp_path: Path) -> None:
    document = coco_document([coco_annotation(0, name=LACKING, individual_ids=["b", "c"])])
    assert any("several individual_ids" in note for note in read(tmp_path, document).notes)


@pytest.mark.parametrize("key", ["encounter_id", "encounter"])
def test_encounter_of_the_annotation_or_else_of_the_image(tmp_path: Path, key: str) -> None:
    assert one(tmp_path, **{key: 17}).encounter == "17"
    assert one(tmp_path, image={key: "e1"}).encounter == "e1"
    assert one(tmp_path, image={key: "e1"}, **{key: "e2"}).encounter == "e2"


def test_viewpoint_may_stand_in_attributes(tmp_path: Path) -> None:
    assert one(tmp_path, viewpoint=LACKING, attributes={"viewpoint": "back"}).viewpoint == "back"


@pytest.mark.parametrize("box", [LACKING, None, "none"])
def test_without_a_box_the_whole_image_is_taken_and_counted(tmp_path: Path, box: object) -> None:
    assert one(tmp_path, bbox=box).box is None
    notes = read(tmp_path, coco_document([coco_annotation(0, bbox=box)])).notes
    assert any("whole image" in note for note in notes)


def test_without_a_category_the_species_is_not_known(tmp_path: Path) -> None:
    assert one(tmp_path, category_id=LACKING).species is None


def test_image_by_uuid(tmp_path: Path) -> None:
    record = one(tmp_path, image={"uuid": "u"}, image_id=LACKING, image_uuid="u")
    assert record.file_name == "0.jpg"


def test_a_date_of_exif(tmp_path: Path) -> None:
    assert one(tmp_path, image={"date_captured": "2024:05:06 07:08:09"}).taken_at == "2024-05-06T07:08:09"


def test_words_for_quality_and_wrong_sizes_are_left_out_and_counted(tmp_path: Path) -> None:
    record = one(tmp_path, image={"width": "wide", "height": 0}, quality="good")
    assert (record.quality, record.image_width, record.image_height) == (None, None, None)
    document = coco_document([coco_annotation(0, quality="good")], [coco_image(0, width="wide", height=0)])
    notes = read(tmp_path, document).notes
    assert "quality that is no number left out (once)" in notes
    assert "image width or height that is no whole number above 0 left out (2 times)" in notes


def test_an_image_without_annotation_is_counted(tmp_path: Path) -> None:
    parsed = read(tmp_path, coco_document([coco_annotation(0)], [coco_image(0), coco_image(1), coco_image(2)]))
    assert len(parsed.records) == 1
    assert any(note.startswith("images left out") and "2 times" in note for note in parsed.notes)


def test_without_ids_the_place_is_the_key(tmp_path: Path) -> None:
    annotations = [coco_annotation(0, id=LACKING, image_id=0, bbox=bbox) for bbox in ([1, 2, 30, 40], [2, 2, 30, 40])]
    assert [record.source_id for record in read(tmp_path, coco_document(annotations)).records] == [None, None]
    parsed = read(tmp_path, coco_document([annotations[0], {**annotations[0], "name": "other"}]))
    assert len(parsed.records) == 1
    (found,) = parsed.problems
    assert (found.row, found.field) == ("annotations[1]", "file name, box and theta")
    assert "annotations[0]" in found.problem


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"bbox": [1, 2, 0, 4]}, "bbox", "zero-area"),
        ({"bbox": [1, 2, 3]}, "bbox", "four numbers"),
        ({"bbox": [1, 2, float("inf"), 4]}, "bbox", "finite"),
        ({"theta": 90}, "theta", "degrees"),
        ({"theta": "half"}, "theta", "number"),
        ({"name": ["a"]}, "name", "text"),
        ({"name": "a\nb"}, "name", "control"),
        ({"viewpoint": {}}, "viewpoint", "text"),
        ({"image_id": 9}, "image_id", "no image"),
        ({"image_id": [0]}, "image_id", "no image"),
        ({"image_id": LACKING}, "image_id", "no image"),
        ({"image_id": LACKING, "image_uuid": "u"}, "image_uuid", "no image"),
        ({"category_id": 9}, "category_id", "no category"),
        ({"id": True}, "id", "text"),
    ],
)
def test_a_bad_annotation_is_a_problem(tmp_path: Path, changes: dict[str, Any], field: str, part: str) -> None:
    found = problem(tmp_path, **changes)
    assert (found.row, found.field) == ("annotations[0]", field)
    assert part in found.problem


@pytest.mark.parametrize(
    ("changes", "field", "value", "part"),
    [
        ({"file_name": "../../etc/x.jpg"}, "file_name", "../../etc/x.jpg", "climbs out"),
        ({"file_name": ""}, "file_name", "", "no file name"),
        ({"date_captured": "03/04/2024"}, "date_captured", "03/04/2024", "YYYY-MM-DD"),
        ({"gps_lat_captured": "91", "gps_lon_captured": "5"}, "gps_lat_captured", "91", "latitude 91"),
        ({"gps_lat": 5, "gps_lon": 181}, "gps_lon", "181", "longitude 181"),
    ],
)
def test_a_bad_image_is_one_problem(tmp_path: Path, changes: dict[str, Any], field: str, value: str, part: str) -> None:
    found = problem(tmp_path, image=changes)
    assert (found.row, found.field, found.value) == ("images[0]", field, value)
    assert part in found.problem


def test_annotations_of_a_refused_image_are_counted(tmp_path: Path) -> None:
    annotations = [coco_annotation(0), coco_annotation(1, image_id=0)]
    parsed = read(tmp_path, coco_document(annotations, [coco_image(0, file_name="/x.jpg")]))
    assert (len(parsed.records), len(parsed.problems)) == (0, 1)
    assert "annotations left out with their image, which is refused (2 times)" in parsed.notes


def test_repeated_ids_name_the_first_row(tmp_path: Path) -> None:
    annotations = [
        wild_me_annotation(0),
        wild_me_annotation(1, id=0),
        wild_me_annotation(2, uuid="annot-0"),
        wild_me_annotation(0),
    ]
    images = [wild_me_image(number) for number in range(3)]
    parsed = read(tmp_path, coco_document(annotations, images))
    assert [record.row for record in parsed.records] == ["annotations[0]"]
    assert [(p.row, p.field, p.value) for p in parsed.problems] == [
        ("annotations[1]", "id", "0"),
        ("annotations[2]", "uuid", "annot-0"),
        ("annotations[3]", "id", "0"),
    ]
    assert parsed.problems[0].problem.startswith("annotations[0] has it already")
    assert parsed.problems[2].problem == "the same row stands twice; the first is annotations[0]"


def test_repeated_image_and_category_ids(tmp_path: Path) -> None:
    document = coco_document(
        [coco_annotation(0)],
        [coco_image(0), coco_image(0, file_name="b.jpg"), coco_image(0, id=LACKING)],
        categories=[{"id": 1, "name": "zebra"}, {"id": 1, "name": "lion"}, "lion"],
    )
    parsed = read(tmp_path, document)
    assert [(p.row, p.field) for p in parsed.problems] == [
        ("images[1]", "id"),
        ("images[2]", "id"),
        ("categories[1]", "id"),
        ("categories[2]", "id"),
    ]
    assert parsed.records[0].species == "zebra"


def test_all_bad_things_at_once_are_all_reported(tmp_path: Path) -> None:
    images = [
        coco_image(0),
        coco_image(1, file_name="../1.jpg"),
        coco_image(2, date_captured="2024-13-45", latitude=91, longitude=181),
        coco_image(0),
        "4.jpg",
    ]
    annotations = [
        coco_annotation(0),
        coco_annotation(1),
        coco_annotation(2, bbox=[1, 2, 3, 0]),
        coco_annotation(3, image_id=0, bbox=[1, 2], theta=45, category_id=7),
        coco_annotation(0, bbox=[5, 5, 5, 5]),
        coco_annotation(5, image_id=77),
        None,
        coco_annotation(7, image_id=0),
    ]
    parsed = read(tmp_path, coco_document(annotations, images))
    assert [(p.row, p.field) for p in parsed.problems] == [
        ("images[1]", "file_name"),
        ("images[2]", "date_captured"),
        ("images[2]", "latitude"),
        ("images[2]", "longitude"),
        ("images[3]", "id"),
        ("images[4]", "image"),
        ("annotations[2]", "bbox"),
        ("annotations[3]", "category_id"),
        ("annotations[3]", "bbox"),
        ("annotations[3]", "theta"),
        ("annotations[4]", "id"),
        ("annotations[5]", "image_id"),
        ("annotations[6]", "annotation"),
    ]
    assert [record.row for record in parsed.records] == ["annotations[0]", "annotations[7]"]
    # annotations[2] lies on a refused image too, and has a problem of its own.
    assert "annotations left out with their image, which is refused (once)" in parsed.notes


def test_bytes_that_are_no_utf8_refuse_one_row(tmp_path: Path) -> None:
    text = json.dumps(coco_document([coco_annotation(0, name="Zo!"), coco_annotation(1)]))
    file = tmp_path / "herd.json"
    file.write_bytes(text.encode().replace(b"Zo!", b"Zo\xe9"))
    parsed = coco.read(file)
    assert [record.individual for record in parsed.records] == ["z1"]
    (found,) = parsed.problems
    assert (found.row, found.field, found.value) == ("annotations[0]", "name", "Zo\\xe9")
    assert "UTF-8" in found.problem


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    file = tmp_path / "herd.json"
    file.write_text(json.dumps(coco_document([coco_annotation(0)])), encoding="utf-8-sig")
    assert len(coco.read(file).records) == 1


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "line 1, column 1"),
        (b'{"images": [],\n "annotations": [}', "line 2, column 18"),
        (b"[" * 100_000, "no JSON"),
        (b'{"images": ' + b"9" * 5000 + b"}", "no JSON"),
        ('{"images": []}'.encode("utf-16"), "save it as UTF-8"),
        (b"[1, 2]", "no COCO"),
        (b'{"images": []}', "no COCO"),
        (b'{"images": [], "annotations": []}', "nothing to import"),
        (b'{"images": {}, "annotations": [1]}', "expected a list"),
    ],
)
def test_what_is_no_coco_file_is_one_line(tmp_path: Path, content: bytes, part: str) -> None:
    file = tmp_path / "herd.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"herd\.json") as caught:
        coco.read(file)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        coco.read(tmp_path / "herd.json")


def test_pictures_in_a_folder_of_images_are_found(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/0.jpg")
    parsed = read(tmp_path, coco_document([coco_annotation(0)]))
    assert parsed.images_dir == tmp_path / "images"
    assert any("pictures are sought below" in note for note in parsed.notes)


def test_the_folder_of_images_may_be_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "elsewhere", "0.jpg")
    document = coco_document([coco_annotation(0)])
    assert read(tmp_path, document, images=tmp_path / "elsewhere").images_dir == tmp_path / "elsewhere"
    with pytest.raises(InputError, match="--images"):
        read(tmp_path, document, images=tmp_path / "nowhere")


def test_why_a_document_is_coco() -> None:
    plain = coco_document([coco_annotation(0)])
    assert coco.recognise(plain) == "it holds images, annotations and categories; plain"
    wild_me = coco_document([wild_me_annotation(0)], categories=LACKING)
    assert coco.recognise(wild_me) == (
        "it holds images and annotations; Wild Me flavour, for its annotations have individual_ids, theta, image_uuid"
    )
    by_image = coco_document([coco_annotation(0)], [wild_me_image(0)])
    assert "its images have gps_lat_captured" in str(coco.recognise(by_image))
    assert coco.recognise({"images": []}) is None
    assert coco.recognise([1]) is None
