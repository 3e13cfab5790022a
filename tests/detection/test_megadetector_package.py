from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from resight.detection.megadetector_package import MegaDetectorPackage
from resight.errors import ImageError, InputError
from resight.types import Box

from ..made_up import stored
from .drawn import BRIGHT, DARK, photo, picture

Answer = Callable[[Image.Image], Any]


class StandIn:
    """A detector as the package gives it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[Image.Image, str, float]] = []

    def generate_detections_one_image(
        self, image: Image.Image, image_id: str = "unknown", detection_threshold: float = 0.00001
    ) -> Any:
        print("looking")
        self.asked.append((image, image_id, detection_threshold))
        return self.answer(image)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], StandIn]:
    """Puts a package in the place of the real one."""

    def install(answer: Answer) -> StandIn:
        detector = StandIn(answer)

        def load_detector(model: str) -> StandIn:
            print("GPU available: False")
            if model == "broken.xyz":
                raise ValueError("Unrecognized model format: broken.xyz\nmore")
            return detector

        outer, middle, inner = (
            ModuleType(name)
            for name in ("megadetector", "megadetector.detection", "megadetector.detection.run_detector")
        )
        inner.load_detector = load_detector  # type: ignore[attr-defined]
        for module in (outer, middle, inner):
            module.__path__ = []
            module.__spec__ = ModuleSpec(module.__name__, None, is_package=True)
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return detector

    return install


def seen(*detections: tuple[str, float, list[float]]) -> Answer:
    entries = [{"category": key, "conf": conf, "bbox": box} for key, conf, box in detections]
    return lambda image: {"file": "x", "detections": entries, "max_detection_conf": 0.9}


def test_what_the_package_says_becomes_boxes_in_pixels(
    package: Callable[[Answer], StandIn], capsys: pytest.CaptureFixture[str]
) -> None:
    detector = package(seen(("1", 0.9, [0.1, 0.2, 0.5, 0.4]), ("2", 0.5, [0, 0, 1, 1]), ("3", 0.4, [0, 0, 1, 1])))
    adapter = MegaDetectorPackage("MDV5A")
    content = stored(picture(200, 100, Box(0, 0, 100, 50)), 6, "PNG")
    found = adapter.ready({}).look(photo(), lambda: content)
    assert [(one.box, one.confidence, one.species) for one in found.animals] == [(Box(20, 20, 100, 40), 0.9, None)]
    assert (found.persons, found.vehicles) == ((0.5,), (0.4,))
    assert adapter.name == "megadetector:MDV5A"
    ((image, name, threshold),) = detector.asked
    assert (image.size, name, threshold) == ((200, 100), "1.jpg", 0.005)
    assert [image.getpixel(place) for place in ((10, 10), (190, 90))] == [(BRIGHT,) * 3, (DARK,) * 3]
    assert capsys.readouterr().out == ""  # standard output is for results


def test_a_large_photo_is_decoded_at_the_size_the_network_looks_at(package: Callable[[Answer], StandIn]) -> None:
    detector = package(seen(("1", 0.9, [0, 0, 1, 1])))
    content = stored(picture(2560, 1000), 1, "JPEG")
    found = MegaDetectorPackage("MDV5A").ready({}).look(photo(), lambda: content)
    assert detector.asked[0][0].size == (1280, 500)
    assert found.animals[0].box == Box(0, 0, 2560, 1000)


def raising(image: Image.Image) -> Any:
    raise RuntimeError("out of memory\nand more")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda image: {"file": "x", "failure": "Failure inference"}, r"could not look at it \(Failure inference\)"),
        (raising, r"failed on it \(out of memory\)"),
    ],
)
def test_a_failure_is_one_of_the_photo(package: Callable[[Answer], StandIn], answer: Answer, message: str) -> None:
    package(answer)
    content = stored(picture(20, 10), 1, "PNG")
    with pytest.raises(ImageError, match=rf"1\.jpg: megadetector:MDV5A {message}"):
        MegaDetectorPackage("MDV5A").ready({}).look(photo(), lambda: content)


def test_a_model_that_cannot_be_loaded_or_answers_otherwise_is_one_clear_error(
    package: Callable[[Answer], StandIn],
) -> None:
    package(seen(("7", 0.9, [0, 0, 1, 1])))
    with pytest.raises(InputError, match=r"megadetector:broken\.xyz cannot be loaded \(Unrecognized model") as caught:
        MegaDetectorPackage("broken.xyz")
    assert "\n" not in str(caught.value)
    content = stored(picture(20, 10), 1, "PNG")
    with pytest.raises(InputError, match=r"gives the category '7'; expected 1 \(animal\), 2 \(person\)"):
        MegaDetectorPackage("MDV5A").ready({}).look(photo(), lambda: content)


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("resight.models.runtimes.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'resight\[megadetector\]'"):
        MegaDetectorPackage("MDV5A")
