from __future__ import annotations

from pathlib import Path

import pytest

from resight.detection.choosing import parse_detector
from resight.detection.detector import sort_out
from resight.errors import InputError
from resight.types import Detection

from .drawn import finder, photo, results


def test_every_kind_is_opened(tmp_path: Path) -> None:
    network = finder(tmp_path / "net.onnx", "channels")
    answers = results(tmp_path / "md.json", {"1.jpg": []})
    names = [parse_detector(text).name for text in (f"onnx:{network}", f"json:{answers}", " whole-image ")]
    assert [name.partition("@")[0] for name in names] == ["onnx:net.onnx", "json:md.json", "whole-image"]


@pytest.mark.parametrize("text", ["yolo:foo", "", "json", "json:", "onnx:", "megadetector:", "whole-image:x", "x.onnx"])
def test_another_text_is_an_error_that_says_what_there_is(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_detector(text)
    assert str(caught.value) == (f"--detector {text}: expected json:FILE, onnx:FILE, megadetector:MODEL or whole-image")


@pytest.mark.parametrize("kind", ["json", "onnx"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, kind: str) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=rf"--detector {kind}:.*: no such file; expected json:FILE"):
            parse_detector(f"{kind}:{path}")


def test_the_whole_image_is_one_animal_and_nothing_is_read() -> None:
    def unread() -> bytes:
        raise AssertionError("the photo need not be read")

    ready = parse_detector("whole-image").ready({})
    assert ready.covers is None
    assert ready.look(photo(), unread).animals == (Detection(None, 1.0),)


def test_categories_are_told_apart_in_any_case_and_nothing_is_no_animal() -> None:
    names = ("Animal", "PERSON", "human", "vehicle", "blank", "Red Deer")
    found = sort_out((name, Detection(None, number / 10)) for number, name in enumerate(names))
    assert [(one.confidence, one.species) for one in found.animals] == [(0.0, None), (0.5, "Red Deer")]
    assert (found.persons, found.vehicles) == ((0.1, 0.2), (0.3,))
