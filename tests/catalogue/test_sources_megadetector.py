from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resight.catalogue.importing import source_key
from resight.catalogue.sources import Parsed, detect, megadetector, read
from resight.catalogue.sources.megadetector import RelativeDetection, box_in_pixels, outline_in_pixels
from resight.errors import InputError
from resight.types import Box, Problem, Record

from .drawn import write_json

INFO = {"format_version": "1.5", "detector": "md_v5a.0.0.pt"}
CATEGORIES = {"1": "animal", "2": "person", "3": "vehicle"}


def found(*bbox: Any, conf: Any = 0.9, category: Any = "1", **more: Any) -> dict[str, Any]:
    """A detection as the file has it."""
    return {"category": category, "conf": conf, "bbox": list(bbox or (0.1, 0.2, 0.5, 0.25)), **more}


def picture(name: Any, *detections: Any, **more: Any) -> dict[str, Any]:
    """The entry of a picture of 400 x 300 pixels."""
    return {"file": name, "width": 400, "height": 300, "detections": list(detections), **more}


def results(*images: Any, **changes: Any) -> dict[str, Any]:
    return {"info": INFO, "detection_categories": CATEGORIES, "images": list(images), **changes}


def parse(folder: Path, document: Any, **options: Any) -> Parsed:
    return megadetector.read(write_json(folder / "card.json", document), **options)


def problem(folder: Path, detection: Any) -> Problem:
    """The one problem of a file with one detection, which must give no record."""
    parsed = parse(folder, results(picture("1.jpg", detection)))
    assert parsed.records == []
    (one,) = parsed.problems
    return one


def draw(file: Path, width: int, height: int, orientation: int = 1) -> None:
    """A JPEG whose pixels are stored ``width`` x ``height``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), "green").save(file, exif=exif)


def test_animals_become_annotations_in_pixels(tmp_path: Path) -> None:
    document = results(
        picture("a/1.jpg", found(0.1, 0.2, 0.5, 0.25), found(0.5, 0.5, 0.1, 0.1, conf=0.2)),
        picture("a\\2.jpg", found(0.0, 0.0, 1.0, 1.0, conf=1)),
    )
    parsed = parse(tmp_path, document)
    assert (parsed.format, parsed.source_name, parsed.images_dir) == ("megadetector", "card", tmp_path)
    assert (parsed.problems, parsed.photos, parsed.faulty) == ([], [], [])
    shared: dict[str, Any] = {"detector": "md_v5a.0.0.pt", "image_width": 400, "image_height": 300}
    one, two, three = "images[0].detections[0]", "images[0].detections[1]", "images[1].detections[0]"
    assert parsed.records == [
        Record(one, "a/1.jpg", box=Box(40, 60, 200, 75), confidence=0.9, **shared),
        Record(two, "a/1.jpg", box=Box(200, 150, 40, 30), confidence=0.2, **shared),
        Record(three, "a/2.jpg", box=Box(0, 0, 400, 300), confidence=1, **shared),
    ]


def test_below_the_threshold_a_picture_is_a_photo_with_its_best_confidence(tmp_path: Path) -> None:
    document = results(
        picture("low.jpg", found(0, 0, 0.1, 0.1, conf=0.05), found(conf=0.19)),
        picture("empty.jpg", max_detection_conf=0.0),
        picture("people.jpg", found(conf=0.99, category="2")),
        picture("both.jpg", found(0, 0, 0.1, 0.1, conf=0.1), found(conf=0.5)),
    )
    parsed = parse(tmp_path, document)
    assert [record.file_name for record in parsed.records] == ["both.jpg"]
    said = {photo.file_name: (photo.row, photo.box, photo.detector, photo.confidence) for photo in parsed.photos}
    assert said == {
        "low.jpg": ("images[0]", None, "md_v5a.0.0.pt", 0.19),
        "empty.jpg": ("images[1]", None, "md_v5a.0.0.pt", None),
        "people.jpg": ("images[2]", None, "md_v5a.0.0.pt", None),
    }
    assert set(parsed.notes) == {
        "detections of animals below the confidence 0.2 left out (3 times)",
        "pictures without an animal at or above the confidence 0.2 (3 times)",
        "detections of category person, which is no animal, left out (once)",
    }
    lower = parse(tmp_path, document, threshold=0.05)
    assert [record.confidence for record in lower.records] == [0.05, 0.19, 0.1, 0.5]
    assert [photo.file_name for photo in lower.photos] == ["empty.jpg", "people.jpg"]
    with pytest.raises(InputError, match=r"threshold 1\.5: expected a confidence from 0 to 1"):
        parse(tmp_path, document, threshold=1.5)


def test_pictures_that_were_not_looked_at_are_photos_without_a_detector(tmp_path: Path) -> None:
    document = results(
        {"file": "1.jpg", "failure": "Failure image access", "detections": None},
        {"file": "2.jpg", "failed": "Failure image access"},
        {"file": "3.jpg"},
        picture("4.jpg", failure=None),
    )
    parsed = parse(tmp_path, document)
    assert [photo.detector for photo in parsed.photos] == [None, None, None, "md_v5a.0.0.pt"]
    assert "pictures of which the detector says nothing (Failure image access) (2 times)" in parsed.notes
    assert "pictures of which the detector says nothing (no detections stated) (once)" in parsed.notes


def test_another_category_than_animal_names_the_species_and_a_class_does_not(tmp_path: Path) -> None:
    document = results(
        picture(
            "1.jpg",
            found(0.1, 0.1, 0.1, 0.1, category="7"),
            found(0.2, 0.2, 0.1, 0.1, category="8"),
            found(0.3, 0.3, 0.1, 0.1, classifications=[["0", 0.9], ["1", 0.1]]),
            found(0.4, 0.4, 0.1, 0.1, category="44"),
            found(0.5, 0.5, 0.1, 0.1, category="0"),
        ),
        detection_categories={"1": "animal", "7": "plains zebra", "8": "Animal", "0": "empty"},
        classification_categories={"0": "fox", "1": "elk"},
    )
    parsed = parse(tmp_path, document)
    assert [record.species for record in parsed.records] == ["plains zebra", None, None]
    assert parsed.notes == [
        "classifications are not used (fox 1); name the species with --species",
        "detections of category 44, which the file does not name, left out (once)",
        "detections of category empty, which is no animal, left out (once)",
    ]


def test_many_classes_make_one_note(tmp_path: Path) -> None:
    detections = [found(n / 100, 0, 0.1, 0.1, classifications=[[str(n % 8), 0.9]]) for n in range(9)]
    (note,) = parse(tmp_path, results(picture("1.jpg", *detections))).notes
    assert (
        note
        == "classifications are not used (0 2, 1 1, 2 1, 3 1, 4 1 and 3 more kinds); name the species with --species"
    )


@pytest.mark.parametrize("info", [{}, {"detector": ""}, {"detector": "unknown"}, {"detector": ["x"]}, None, "x"])
def test_a_file_that_names_no_detector(tmp_path: Path, info: Any) -> None:
    (record,) = parse(tmp_path, results(picture("1.jpg", found()), info=info)).records
    assert record.detector == "megadetector"


def test_the_size_is_that_of_the_upright_picture(tmp_path: Path) -> None:
    draw(tmp_path / "upright.jpg", 40, 20)
    draw(tmp_path / "turned.jpg", 40, 20, orientation=6)
    Image.new("RGB", (60, 50)).save(tmp_path / "other.png")
    document = results(
        *(
            {"file": name, "detections": [found(0.5, 0.5, 0.5, 0.5)]}
            for name in ("upright.jpg", "turned.jpg", "other.png")
        )
    )
    parsed = parse(tmp_path, document)
    assert parsed.problems == []
    assert {record.file_name: record.box for record in parsed.records} == {
        "upright.jpg": Box(20, 10, 20, 10),
        "turned.jpg": Box(10, 20, 10, 20),
        "other.png": Box(30, 25, 30, 25),
    }
    assert [(record.image_width, record.image_height) for record in parsed.records] == [(40, 20), (20, 40), (60, 50)]


def test_a_jpeg_with_its_size_behind_much_metadata(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (40, 20)).save(stream, "JPEG")
    content = stream.getvalue()
    comment = b"\xff\xfe\xff\xff" + bytes(0xFFFD)
    (tmp_path / "1.jpg").write_bytes(content[:2] + comment * 3 + content[2:])
    (record,) = parse(tmp_path, results({"file": "1.jpg", "detections": [found(0, 0, 1, 1)]})).records
    assert record.box == Box(0, 0, 40, 20)


def test_sizes_of_smaller_copies_are_not_believed(tmp_path: Path) -> None:
    draw(tmp_path / "1.jpg", 800, 600)
    document = results(picture("1.jpg", found(0.5, 0.5, 0.5, 0.5)), picture("gone.jpg", found(0.5, 0.5, 0.5, 0.5)))
    parsed = parse(tmp_path, document)
    assert [record.box for record in parsed.records] == [Box(400, 300, 400, 300), Box(200, 150, 200, 150)]
    assert "pictures have another size than the file states; theirs is taken" in parsed.notes


def test_a_picture_whose_size_cannot_be_known(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    document = results(
        {"file": "gone.jpg", "detections": [found(), found(0, 0, 1, 1)]},
        {"file": "broken.jpg", "detections": [found()]},
        {"file": "gone too.jpg", "detections": []},
    )
    parsed = parse(tmp_path, document)
    assert parsed.records == []
    (one,) = parsed.problems
    assert (one.row, one.field, one.value) == ("images[0]", "file", "gone.jpg")
    assert "--images" in one.problem
    assert "fractions" in one.problem
    assert [photo.file_name for photo in parsed.photos] == ["broken.jpg", "gone too.jpg"]
    assert [photo.detector for photo in parsed.photos] == [None, "md_v5a.0.0.pt"]
    assert "pictures that cannot be decoded: their boxes left out (once)" in parsed.notes


@pytest.mark.parametrize(
    ("detection", "field", "part"),
    [
        (found(0.1, 0.2, 0.5), "bbox", "expected a box [x, y, width, height] in fractions"),
        (found(40, 60, 200, 75), "bbox", "outside 0 to 1: pixels?"),
        (found(0.9, 0.2, 0.5, 0.25), "bbox", "outside 0 to 1"),
        (found(-0.2, 0.2, 0.5, 0.25), "bbox", "outside 0 to 1"),
        (found(0.5, 0.2, -0.1, 0.25), "bbox", "negative width or height"),
        (found(0.1, float("nan"), 0.5, 0.25), "bbox", "y of the box: expected a number"),
        (found(0.1, 0.2, float("inf"), 0.25), "bbox", "width of the box: expected a finite number"),
        (found(0.1, 0.2, 0.5, "wide"), "bbox", "height of the box: expected a number"),
        ({**found(), "bbox": {"x": 0.1}}, "bbox", "expected a box"),
        ({**found(), "bbox": None}, "bbox", "expected a box"),
        ({"category": "1", "conf": 0.9}, "bbox", "expected a box"),
        (found(conf=1.2), "conf", "expected a confidence from 0 to 1"),
        (found(conf=-0.1), "conf", "expected a confidence from 0 to 1"),
        (found(conf=float("nan")), "conf", "no confidence"),
        (found(conf="high"), "conf", "expected a number"),
        (found(conf=None), "conf", "no confidence"),
        (found(category=None), "category", "no category"),
        (found(category=["1"]), "category", "expected text"),
        ("animal", "detection", "expected an object with category, conf and bbox"),
    ],
)
def test_bad_detections_are_problems_of_their_row(tmp_path: Path, detection: Any, field: str, part: str) -> None:
    one = problem(tmp_path, detection)
    assert (one.row, one.field) == ("images[0].detections[0]", field)
    assert part in one.problem


def test_a_picture_whose_detection_is_refused_is_not_said_to_be_empty(tmp_path: Path) -> None:
    parsed = parse(tmp_path, results(picture("1.jpg", found(conf=2)), picture("2.jpg", found(conf=2), found())))
    assert [(photo.file_name, photo.detector) for photo in parsed.photos] == [("1.jpg", None)]
    assert [record.file_name for record in parsed.records] == ["2.jpg"]


@pytest.mark.parametrize(
    ("detection", "box"),
    [
        (found(-0.0003, 0.2, 0.5, 0.25), Box(-0.12, 60, 200, 75)),
        (found(0.5, 0.75, 0.5004, 0.2503), Box(200, 225, 200.16, 75.09)),
        (found("0.1", "0.2", "0.5", "0.25"), Box(40, 60, 200, 75)),
        (found(category=1), Box(40, 60, 200, 75)),
    ],
)
def test_what_is_tolerated(tmp_path: Path, detection: Any, box: Box) -> None:
    parsed = parse(tmp_path, results(picture("1.jpg", detection)))
    assert parsed.problems == []
    assert [record.box for record in parsed.records] == [box]


def test_boxes_that_say_nothing_more_are_left_out_and_counted(tmp_path: Path) -> None:
    document = results(
        picture("1.jpg", found(conf=0.5), found(conf=0.8), found(conf=0.6), found(0.3, 0.3, 0, 0.1)),
        picture("2.jpg", found(0.3, 0.3, 0.1, 0)),
    )
    parsed = parse(tmp_path, document)
    assert [(record.row, record.confidence) for record in parsed.records] == [("images[0].detections[1]", 0.8)]
    assert [photo.file_name for photo in parsed.photos] == ["2.jpg"]
    assert "detections with the very box of a surer one left out (2 times)" in parsed.notes
    assert "detections with a box of no area left out (2 times)" in parsed.notes


@pytest.mark.parametrize(
    ("image", "field", "part"),
    [
        ({"detections": []}, "file", "no file name"),
        (picture("../1.jpg"), "file", "climbs out"),
        (picture(["1.jpg"]), "file", "expected text"),
        (picture("https://x.org/1.jpg"), "file", "a web address"),
        ({"file": "1.jpg", "detections": {"1": 2}}, "detections", "expected a list"),
        ("1.jpg", "image", "expected an object with file and detections"),
    ],
)
def test_bad_images_are_problems_of_their_row(tmp_path: Path, image: Any, field: str, part: str) -> None:
    parsed = parse(tmp_path, results(image, picture("good.jpg", found())))
    assert [record.file_name for record in parsed.records] == ["good.jpg"]
    (one,) = parsed.problems
    assert (one.row, one.field) == ("images[0]", field)
    assert part in one.problem


def test_a_picture_that_stands_twice(tmp_path: Path) -> None:
    parsed = parse(tmp_path, results(picture("a/1.jpg", found()), picture(".\\a\\1.jpg", found())))
    assert len(parsed.records) == 1
    (one,) = parsed.problems
    assert (one.row, one.field) == ("images[1]", "file")
    assert "images[0] has it already" in one.problem


def test_videos_are_left_out_and_counted(tmp_path: Path) -> None:
    video = {"file": "v.bin", "frame_rate": 20, "frames_processed": [0], "detections": [found(frame_number=0)]}
    parsed = parse(tmp_path, results(video, picture("w.MP4", found()), picture("1.jpg", found())))
    assert [record.file_name for record in parsed.records] == ["1.jpg"]
    (note,) = parsed.notes
    assert note.startswith("videos left out")
    assert note.endswith("(2 times)")


def test_sizes_that_are_none_are_read_from_the_picture(tmp_path: Path) -> None:
    draw(tmp_path / "1.jpg", 40, 20)
    parsed = parse(tmp_path, results(picture("1.jpg", found(0, 0, 1, 1), width="wide", height=-1)))
    assert [record.box for record in parsed.records] == [Box(0, 0, 40, 20)]
    assert parsed.notes == ["image width or height that is no whole number above 0 left out (2 times)"]


# Absolute paths


def test_absolute_paths_start_where_they_agree(tmp_path: Path) -> None:
    card = tmp_path / "card"
    draw(card / "a" / "1.jpg", 40, 20)
    draw(card / "b" / "2.jpg", 40, 20)
    document = results(
        *({"file": str(card / name), "detections": [found(0, 0, 1, 1)]} for name in ("a/1.jpg", "b/2.jpg"))
    )
    parsed = parse(tmp_path / "elsewhere", document)
    assert parsed.problems == []
    assert parsed.images_dir == card
    assert [record.file_name for record in parsed.records] == ["a/1.jpg", "b/2.jpg"]
    assert f"absolute paths are taken from {card} on and sought below {card}" in parsed.notes
    above = parse(tmp_path / "elsewhere", document, images=tmp_path)
    assert above.problems == []
    assert [record.file_name for record in above.records] == ["card/a/1.jpg", "card/b/2.jpg"]


def test_absolute_paths_of_another_machine(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "1.jpg", 40, 20)
    document = results(
        {"file": "D:\\cards\\a\\1.jpg", "detections": [found(0, 0, 1, 1)]},
        {"file": "D:\\cards\\b\\2.jpg", "detections": []},
    )
    parsed = parse(tmp_path / "elsewhere", document, images=tmp_path)
    assert parsed.problems == []
    assert [record.file_name for record in parsed.records] == ["a/1.jpg"]
    assert [photo.file_name for photo in parsed.photos] == ["b/2.jpg"]
    parsed = parse(tmp_path, results(picture("C:/a/1.jpg", found()), picture("D:/a/2.jpg", found())))
    assert [one.field for one in parsed.problems] == ["file", "file"]
    assert parsed.records == []


def test_a_relative_and_an_absolute_path_of_one_picture(tmp_path: Path) -> None:
    parsed = parse(tmp_path, results(picture("1.jpg", found()), picture(f"{tmp_path}/1.jpg", found())))
    assert len(parsed.records) == 1
    assert [(one.row, one.field) for one in parsed.problems] == [("images[1]", "picture")]


# The whole file


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ([], "no results of MegaDetector; expected an object with images and detection_categories"),
        ({"images": []}, "no results of MegaDetector"),
        (results(images={"1": 2}), "images is {1: 2}; expected a list"),
        (results(), "its list of images is empty"),
        (results(picture("1.jpg"), detection_categories=["animal"]), "detection_categories is [animal]"),
        (results(picture("1.jpg"), detection_categories={"1": None}), "detection_categories has no name for 1"),
        (results(picture("1.jpg"), classification_categories=3), "classification_categories is 3"),
    ],
)
def test_what_is_no_file_of_results_is_one_line(tmp_path: Path, document: Any, part: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(tmp_path, document)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_recognised(tmp_path: Path) -> None:
    file = write_json(tmp_path / "card.json", results(picture("1.jpg", found())))
    for path in (file, tmp_path):
        assert detect(path)[0] == "megadetector"
        parsed = read(path)
        assert parsed.format == "megadetector"
        assert "results of MegaDetector, for it holds images and detection_categories" in parsed.notes[0]
        assert read(path, format="megadetector").records == parsed.records
    assert [record.box for record in parsed.records] == [Box(40, 60, 200, 75)]


# What ``detect`` uses


def test_detections_by_file(tmp_path: Path) -> None:
    document = results(
        picture("a\\1.jpg", found(0.1, 0.2, 0.5, 0.25), found(conf=0.01, category="2")),
        picture("/data/2.jpg"),
        {"file": "3.jpg", "failure": "Failure inference"},
    )
    by_file = megadetector.detections_by_file(document, tmp_path / "card.json")
    assert list(by_file) == ["a/1.jpg", "/data/2.jpg", "3.jpg"]
    first = by_file["a/1.jpg"]
    assert first.detections[0] == RelativeDetection("animal", 0.9, 0.1, 0.2, 0.5, 0.25, row="images[0].detections[0]")
    assert (first.detections[1].category, first.detections[1].confidence) == ("person", 0.01)
    assert (first.width, first.height, first.size, first.failure) == (400, 300, (400, 300), None)
    assert by_file["/data/2.jpg"].detections == ()
    assert (by_file["3.jpg"].failure, by_file["3.jpg"].size) == ("Failure inference", None)
    bad = results(picture("1.jpg", found(conf=2), found(conf=3)))
    with pytest.raises(InputError, match=r"card\.json: images\[0\]\.detections\[0\]: conf '2': .*, and 1 more problem"):
        megadetector.detections_by_file(bad, tmp_path / "card.json")


def test_outlines_are_kept(tmp_path: Path) -> None:
    runs = {"size": [300, 400], "counts": "abc"}
    document = results(
        picture(
            "1.jpg",
            found(0.1, 0.1, 0.1, 0.1, segmentation=[[0.1, 0.1, 0.2, 0.1, 0.2, 0.25]]),
            found(0.2, 0.1, 0.1, 0.1, segmentation=[40, 30, 80, 30, 80, 75]),
            found(0.3, 0.1, 0.1, 0.1, segmentation=runs),
            found(0.4, 0.1, 0.1, 0.1, segmentation="mask.png"),
        )
    )
    parsed = parse(tmp_path, document)
    assert [record.outline for record in parsed.records] == [
        [[40, 30, 80, 30, 80, 75]],
        [40, 30, 80, 30, 80, 75],
        runs,
        None,
    ]
    assert parsed.notes == ["segmentation that is neither polygons nor an RLE left out (once)"]
    assert outline_in_pixels(RelativeDetection("animal", 1, 0, 0, 1, 1, [["x", 1]]), 10, 10) == [["x", 1]]


# Properties


@given(st.randoms(use_true_random=False))
def test_the_order_of_images_and_detections_makes_no_new_annotations(chance: random.Random) -> None:
    images = [
        picture(f"{n}.jpg", *(found(round(chance.uniform(0, 0.4), 4), k / 10, 0.5, 0.1, conf=0.5) for k in range(3)))
        for n in range(4)
    ]
    document = results(*images)
    file = Path("/nowhere/card.json")
    expected = {source_key(record) for record in megadetector.read(file, document=document).records}
    assert len(expected) == 12
    for image in images:
        chance.shuffle(image["detections"])
    chance.shuffle(images)
    shuffled = megadetector.read(file, document=json.loads(json.dumps(results(*images))))
    assert {source_key(record) for record in shuffled.records} == expected


@given(
    st.integers(20, 6000),
    st.integers(20, 6000),
    st.tuples(*[st.integers(0, 1000)] * 4),
)
def test_a_box_in_pixels_comes_back_to_a_hundredth(width: int, height: int, parts: tuple[int, int, int, int]) -> None:
    a, b, c, d = (part / 1000 for part in parts)
    box = (min(a, b) * width, min(c, d) * height, abs(a - b) * width, abs(c - d) * height)
    relative = found(box[0] / width, box[1] / height, box[2] / width, box[3] / height)
    document = results(picture("1.jpg", relative))
    (one,) = megadetector.detections_by_file(document, Path("card.json"))["1.jpg"].detections
    back = box_in_pixels(one, width, height)
    assert (back.x, back.y, back.w, back.h) == pytest.approx(box, abs=0.00501)
