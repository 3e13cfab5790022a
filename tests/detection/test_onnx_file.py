from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resight.detection.detector import Found
from resight.detection.onnx_file import OnnxFile
from resight.errors import ImageUnreadable, InputError
from resight.types import Box

from ..made_up import encoded, stored
from .drawn import MEGADETECTOR, constant, finder, photo, picture

LAYOUTS = ("anchors", "channels", "end to end")


def look(file: Path, content: bytes) -> Found:
    return OnnxFile(file).ready({}).look(photo(), lambda: content)


def only_box(found: Found) -> tuple[float, float, float, float]:
    (animal,) = found.animals
    assert animal.box is not None
    return animal.box.x, animal.box.y, animal.box.w, animal.box.h


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((128, 96), Box(20, 30, 40, 50)),  # landscape: 8 rows above
        ((96, 128), Box(20, 30, 40, 50)),  # portrait: 8 columns to the left
        ((128, 128), Box(0, 0, 128, 128)),
        ((256, 252), Box(4, 8, 100, 40)),  # 63 rows: none above and one below
        ((32, 16), Box(3, 4, 10, 5)),  # enlarged
    ],
)
def test_a_box_comes_back_to_where_the_animal_is(
    tmp_path: Path, layout: str, half: bool, size: tuple[int, int], box: Box
) -> None:
    file = finder(tmp_path / "net.onnx", layout, half=half)
    found = look(file, encoded(picture(*size, box)))
    assert only_box(found) == (box.x, box.y, box.w, box.h)
    assert found.animals[0].confidence == pytest.approx(0.75)
    assert (found.animals[0].species, found.persons, found.vehicles) == (None, (), ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_looked_at_upright(tmp_path: Path, orientation: int) -> None:
    box = Box(64, 128, 128, 64)  # of a JPEG that the decoder reduces by 8
    content = stored(picture(512, 384, box), orientation, "JPEG", quality=95)
    assert only_box(look(finder(tmp_path / "net.onnx", "channels"), content)) == (64, 128, 128, 64)


def test_a_frame_need_not_be_square(tmp_path: Path) -> None:
    file = finder(tmp_path / "net.onnx", "channels", width=64, height=32)
    detector = OnnxFile(file)
    assert (detector.width, detector.height) == (64, 32)
    assert only_box(look(file, encoded(picture(64, 64, Box(8, 16, 20, 30))))) == (8, 16, 20, 30)


def test_scales_of_the_axes_are_those_of_whole_pixels(tmp_path: Path) -> None:
    # 100 x 33 fits as 64 x 21: the rows are 33 / 21 pixels high, the columns 100 / 64.
    file = constant(tmp_path / "net.onnx", np.array([[[32, 21, 64, 42, 0.9, 0]]], np.float32))
    assert only_box(look(file, encoded(picture(100, 33)))) == (50, 0, 50, 33)


def test_boxes_are_cut_at_the_photo_and_those_in_the_frame_around_it_are_none(tmp_path: Path) -> None:
    rows = [[-10, 4, 32, 40, 0.9, 0], [0, 0, 64, 7, 0.8, 0], [10, 60, 20, 90, 0.7, 0]]
    file = constant(tmp_path / "net.onnx", np.array([rows], np.float32))
    assert only_box(look(file, encoded(picture(128, 96)))) == (0, 0, 64, 64)


def test_persons_and_vehicles_are_counted_and_other_names_are_species(tmp_path: Path) -> None:
    rows = [[0, 0, 9, 9, 0.9, 0], [10, 0, 19, 9, 0.8, 1], [20, 0, 29, 9, 0.7, 2], [30, 0, 39, 9, 0.003, 0]]
    output = np.array([rows], np.float32)
    found = look(constant(tmp_path / "a.onnx", output, metadata={"names": MEGADETECTOR}), encoded(picture(64, 64)))
    assert (len(found.animals), len(found.persons), len(found.vehicles)) == (1, 1, 1)  # 0.003 is noise
    names = {"names": "['Person', 'red deer', 'animal']"}
    found = look(constant(tmp_path / "b.onnx", output, metadata=names), encoded(picture(64, 64)))
    assert [animal.species for animal in found.animals] == ["red deer", None]
    assert len(found.persons) == 1


def test_overlapping_boxes_are_one_animal_unless_the_network_chose_itself(tmp_path: Path) -> None:
    rows = np.zeros((1, 7, 40), np.float32)
    rows[0, :5, 0], rows[0, :5, 1] = [20, 20, 20, 20, 0.6], [21, 20, 20, 20, 0.9]
    found = look(constant(tmp_path / "a.onnx", rows), encoded(picture(64, 64)))
    assert [animal.confidence for animal in found.animals] == [pytest.approx(0.9)]
    chosen = np.array([[[10, 10, 30, 30, 0.6, 0], [11, 10, 31, 30, 0.9, 0]]], np.float32)
    assert len(look(constant(tmp_path / "b.onnx", chosen), encoded(picture(64, 64))).animals) == 2


@pytest.mark.parametrize(
    ("metadata", "side"),
    [
        ({}, 640),
        ({"stride": "64"}, 1280),
        ({"stride": "32"}, 640),
        ({"imgsz": "[96, 96]", "stride": "64"}, 96),
        ({"imgsz": "96"}, 96),
        ({"imgsz": "os.system('x')"}, 640),
    ],
)
def test_a_free_input_takes_the_size_that_the_exporter_wrote(
    tmp_path: Path, metadata: dict[str, str], side: int
) -> None:
    file = constant(tmp_path / "net.onnx", np.zeros((1, 5, 6)), metadata=metadata, sides=["b", 3, "h", "w"])
    detector = OnnxFile(file)
    assert (detector.width, detector.height) == (side, side)


def test_a_free_input_works(tmp_path: Path) -> None:
    file = finder(tmp_path / "net.onnx", "anchors", dynamic=True, metadata={"imgsz": "[64, 64]"})
    assert only_box(look(file, encoded(picture(128, 96, Box(20, 30, 40, 50))))) == (20, 30, 40, 50)


def test_the_name_tells_the_file_and_its_content(tmp_path: Path) -> None:
    one = OnnxFile(finder(tmp_path / "one" / "net.onnx", "channels")).name
    other = OnnxFile(finder(tmp_path / "two" / "net.onnx", "channels", confidence=0.5)).name
    assert one.startswith("onnx:net.onnx@")
    assert (len(one), one == other) == (len("onnx:net.onnx@") + 8, False)
    assert OnnxFile(finder(tmp_path / "three" / "net.onnx", "channels")).name == one


def test_a_photo_that_cannot_be_decoded_is_an_error_of_that_photo(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match=r"1\.jpg: not a picture"):
        look(finder(tmp_path / "net.onnx", "channels"), b"no picture")


def written(content: bytes) -> Callable[[Path], Path]:
    def write(file: Path) -> Path:
        file.write_bytes(content)
        return file

    return write


def given(output: Any, **options: Any) -> Callable[[Path], Path]:
    return lambda file: constant(file, np.asarray(output, np.float32), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (written(b""), r"onnx:.*net\.onnx: no ONNX network that can be read"),
        (written(b"no protobuf"), r"onnx:.*net\.onnx: no ONNX network that can be read"),
        (given(np.zeros((1, 5, 6)), sides=[1, 3, 64]), r"it takes images tensor\(float\) \[1, 3, 64\]; expected"),
        (given(np.zeros((1, 5, 6)), sides=[4, 3, 64, 64]), "it takes 4 pictures of 3 channels at once"),
        (given(np.zeros((1, 5, 6)), sides=[1, 1, 64, 64]), "it takes 1 pictures of 1 channels at once"),
        (given(np.zeros((1, 5, 6)), sides=[1, 3, 64, 7]), "its pictures have a side of 7; expected 32 to 8192"),
        (given(np.zeros((1, 300, 7))), r"its output has the shape \[1, 300, 7\]"),
        (given(np.zeros((5, 6))), r"its outputs have the shapes \[5, 6\]; expected one of 3 dimensions"),
        (given([[[0, 0, 9, 9, 0.9, 3]]]), "it has a class 3 and names 3; export it with its classes' names"),
        (given([[[0, 0, 9, 9, np.nan, 0]]]), "a confidence of nan"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_detector_is_one_clear_error(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    file = make(tmp_path / "net.onnx")
    with pytest.raises(InputError, match=message) as caught:
        look(file, encoded(Image.new("RGB", (64, 64))))
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
