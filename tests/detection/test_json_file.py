from __future__ import annotations

import json
from pathlib import Path

import pytest

from resight.detection.json_file import JsonFile
from resight.detection.paths import Place
from resight.errors import ImageError, InputError
from resight.types import Box

from .drawn import photo, results


def unread() -> bytes:
    raise AssertionError("the photo need not be read")


def test_what_the_file_says_becomes_boxes_in_pixels(tmp_path: Path) -> None:
    found = [
        ("1", 0.9, (0.1, 0.2, 0.5, 0.4)),
        ("2", 0.8, (0, 0, 1, 1)),
        ("3", 0.7, (0, 0, 1, 1)),
        ("4", 0.6, (0, 0, 1, 1)),
    ]
    ready = JsonFile(results(tmp_path / "md.json", {"C:\\x\\A\\1.jpg": found})).ready({7: Place("A/1.jpg")})
    assert ready.covers == {7}
    seen = ready.look(photo(7), unread)
    assert [(one.box, one.confidence, one.species) for one in seen.animals] == [
        (Box(10, 10, 50, 20), 0.9, None),
        (Box(0, 0, 100, 50), 0.6, "deer"),
    ]
    assert (seen.persons, seen.vehicles) == ((0.8,), (0.7,))


def test_photos_it_does_not_name_are_not_covered_and_names_without_a_photo_are_listed(tmp_path: Path) -> None:
    file = results(tmp_path / "md.json", {"1.jpg": [], "9.jpg": []})
    ready = JsonFile(file).ready({1: Place("1.jpg"), 2: Place("2.jpg")})
    assert ready.covers == {1}
    assert ready.unmatched == {"9.jpg": "no photo of the catalogue has this path or the end of it"}
    assert ready.look(photo(1), unread).animals == ()


def test_a_photo_that_the_detector_failed_on_was_not_looked_at(tmp_path: Path) -> None:
    ready = JsonFile(results(tmp_path / "md.json", {"1.jpg": "Failure image access"})).ready({1: Place("1.jpg")})
    with pytest.raises(ImageError, match=r"1\.jpg: the detector did not look at it \(Failure image access\)"):
        ready.look(photo(1), unread)


@pytest.mark.parametrize(("size", "fits"), [((100, 50), True), ((50, 25), True), ((50, 100), True), ((100, 60), False)])
def test_a_picture_of_other_proportions_is_another_picture(tmp_path: Path, size: tuple[int, int], fits: bool) -> None:
    file = results(tmp_path / "md.json", {"1.jpg": [("1", 0.9, (0, 0, 1, 1))]})
    document = json.loads(file.read_text())
    document["images"][0] |= {"width": size[0], "height": size[1]}
    file.write_text(json.dumps(document))
    ready = JsonFile(file).ready({1: Place("1.jpg")})
    if fits:
        assert [one.box for one in ready.look(photo(1), unread).animals] == [Box(0, 0, 100, 50)]
    else:
        with pytest.raises(ImageError, match=r"a picture of 100 x 60 pixels and the photo has 100 x 50; it is another"):
            ready.look(photo(1), unread)


def test_outlines_are_kept_in_pixels_and_boxes_without_area_are_none(tmp_path: Path) -> None:
    file = results(tmp_path / "md.json", {"1.jpg": [("1", 0.9, (0, 0, 1, 1)), ("1", 0.9, (0.5, 0.5, 0, 0.2))]})
    document = json.loads(file.read_text())
    document["images"][0]["detections"][0]["segmentation"] = [[0.1, 0.1, 0.9, 0.1, 0.9, 0.8]]
    file.write_text(json.dumps(document))
    (one,) = JsonFile(file).ready({1: Place("1.jpg")}).look(photo(1), unread).animals
    assert one.outline == [[10, 5, 90, 5, 90, 40]]


def test_a_file_that_holds_no_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"md\.json: its list of images names no photo"):
        JsonFile(results(tmp_path / "md.json", {}))
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(InputError, match=r"coco\.json: no results of MegaDetector"):
        JsonFile(tmp_path / "coco.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json: no JSON"):
        JsonFile(tmp_path / "broken.json")


def test_its_name_follows_its_content(tmp_path: Path) -> None:
    one = JsonFile(results(tmp_path / "md.json", {"1.jpg": []})).name
    other = JsonFile(results(tmp_path / "md.json", {"2.jpg": []})).name
    assert one.startswith("json:md.json@")
    assert one != other
