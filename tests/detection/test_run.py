from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from resight.catalogue.detecting import RawPhoto
from resight.detection import run as run_room
from resight.detection.choosing import parse_detector
from resight.detection.detector import Found, Ready
from resight.detection.paths import Place
from resight.errors import ImageError, InputError, UnknownName
from resight.project import Project
from resight.settings import add_image_root
from resight.types import Box, Detection

from ..catalogue.projects import contents
from ..made_up import encoded, noise, stored
from .drawn import add_photos, box_of, finder, images, picture, raw_project, results, rows, run

BOX = Box(20, 30, 40, 50)
WHOLE = (0, 0, 1, 1)


class Answers:
    """A detector that answers by the photo's path."""

    name = "answers"

    def __init__(self, answers: Mapping[str, Found | Exception], *, reads: bool = True) -> None:
        self._answers = answers
        self._reads = reads
        self.asked: list[str] = []

    def ready(self, places: Mapping[int, Place]) -> Ready:
        return Ready(self._look)

    def _look(self, photo: RawPhoto, read: Callable[[], bytes]) -> Found:
        if self._reads:
            read()
        self.asked.append(photo.image_path)
        answer = self._answers.get(photo.image_path, Found())
        if isinstance(answer, Exception):
            raise answer
        return answer


def animals(*confidences: float) -> Found:
    return Found(tuple(Detection(Box(4 * n, 0, 4, 9), confidence) for n, confidence in enumerate(confidences)))


def numbered(count: int) -> dict[str, bytes]:
    return {f"{number}.png": encoded(noise(number)) for number in range(count)}


def test_a_network_finds_the_animals_of_a_card(tmp_path: Path) -> None:
    boxed = {"1.png": Box(8, 16, 40, 24), "dark.png": None}
    photos = {
        "DCIM/turned.jpg": stored(picture(512, 384, Box(64, 128, 128, 64)), 6, "JPEG", quality=95),
        **{name: encoded(picture(128, 96, box)) for name, box in boxed.items()},
        "broken.png": encoded(picture(128, 96))[:90],
    }
    project = raw_project(tmp_path, {name: photos[name] for name in photos if name != "broken.png"}, species="fox")
    add_photos(project, tmp_path / "cards", {"broken.png": photos["broken.png"]}, status="quarantined", problem="cut")
    report = run(project, parse_detector(f"onnx:{finder(tmp_path / 'net.onnx', 'channels')}"))
    assert (report.photos, report.looked_at, report.with_animals, report.without_animals) == (4, 3, 2, 1)
    assert (report.added, report.kept, report.removed, report.not_named) == (2, 0, 0, 0)
    assert list(report.failures) == ["broken.png"]
    assert report.images_per_second is not None
    assert report.images_per_second > 0
    found = {row["file_name"]: (box_of(row), row["species"]) for row in rows(project)}
    assert found == {"DCIM/turned.jpg": ((64, 128, 128, 64), "fox"), "1.png": ((8, 16, 40, 24), "fox")}
    state = images(project)
    assert (state["dark.png"]["detector"], state["broken.png"]["detector"]) == (report.detector, None)
    assert state["broken.png"]["status"] == "quarantined"
    again = run(project, parse_detector(f"onnx:{tmp_path / 'net.onnx'}"))
    assert (again.photos, again.looked_at, again.added, again.images_per_second) == (1, 0, 0, None)


def test_the_threshold_divides_and_everything_is_counted(tmp_path: Path) -> None:
    project = raw_project(tmp_path, numbered(3))
    answers = {
        "0.png": animals(0.2, 0.19, 0.9),
        "1.png": Found((Detection(None, 0.1), Detection(None, 0.15)), (0.5, 0.1), (0.2, 0.3, 0.1)),
    }
    report = run(project, Answers(answers))
    assert (report.with_animals, report.without_animals, report.added, report.below_threshold) == (1, 2, 2, 3)
    assert (report.persons, report.vehicles, report.threshold, report.detector) == (1, 2, 0.2, "answers")
    best = {name: row["detector_best"] for name, row in images(project).items()}
    assert best == {"0.png": None, "1.png": 0.15, "2.png": None}


def test_another_threshold_anew_adds_and_takes_away(tmp_path: Path) -> None:
    project = raw_project(tmp_path, numbered(1))
    detector = Answers({"0.png": animals(0.9, 0.5, 0.1)})
    assert run(project, detector).added == 2
    assert run(project, detector, threshold=0.05).photos == 0
    lower = run(project, detector, threshold=0.05, anew=True)
    assert (lower.added, lower.kept, lower.removed) == (1, 2, 0)
    higher = run(project, detector, threshold=0.6, anew=True)
    assert (higher.added, higher.kept, higher.removed) == (0, 1, 2)
    assert [row["confidence"] for row in rows(project)] == [0.9]
    none = run(project, detector, threshold=1.0, anew=True)
    assert (none.removed, none.without_animals, images(project)["0.png"]["detector_best"]) == (1, 1, 0.9)


def test_a_dry_run_writes_nothing_and_counts_the_same(tmp_path: Path) -> None:
    project = raw_project(tmp_path, numbered(3))
    (tmp_path / "cards" / "2.png").write_bytes(b"")
    before = contents(project)
    detector = Answers({"0.png": animals(0.9, 0.1), "1.png": animals(0.8)})
    dry = run(project, detector, dry_run=True)
    assert (dry.dry_run, dry.added, dry.looked_at) == (True, 2, 2)
    assert contents(project) == before
    real = run(project, detector)
    changing = ("dry_run", "images_per_second")
    assert {key: value for key, value in vars(dry).items() if key not in changing} == {
        key: value for key, value in vars(real).items() if key not in changing
    }


def test_failures_are_counted_and_named_and_stop_nothing(tmp_path: Path) -> None:
    project = raw_project(tmp_path, numbered(5))
    cards = tmp_path / "cards"
    (cards / "0.png").unlink()
    (cards / "1.png").write_bytes(b"another content")
    report = run(project, Answers({"2.png": ImageError("2.png: no luck"), "3.png": animals(0.9)}))
    assert (report.photos, report.looked_at, report.added) == (5, 2, 1)
    assert set(report.failures) == {"0.png", "1.png", "2.png"}
    assert "no such file" in report.failures["0.png"]
    assert "its content is not what the catalogue knows" in report.failures["1.png"]
    assert report.failures["2.png"] == "no luck"
    # None of these is the photo's fault: they are tried again.
    assert {row["status"] for row in images(project).values()} == {"ok"}
    assert run(project, Answers({})).photos == 3


def test_a_photo_that_cannot_be_decoded_is_quarantined_and_tried_again(tmp_path: Path) -> None:
    content = encoded(picture(128, 96, BOX))
    project = raw_project(tmp_path, {"a.png": content})
    root = tmp_path / "cards"
    add_photos(project, root, {"b.png": content[:-80]}, width=128, height=96, status="unverified")
    detector = parse_detector(f"onnx:{finder(tmp_path / 'net.onnx', 'channels')}")
    report = run(project, detector)
    assert (report.added, list(report.failures)) == (1, ["b.png"])
    bad = images(project)["b.png"]
    assert (bad["status"], bad["detector"]) == ("quarantined", None)
    assert bad["problem"] == report.failures["b.png"]
    assert "cannot be decoded" in bad["problem"]
    again = run(project, detector)
    assert (again.photos, again.failures) == (1, report.failures)


def test_a_quarantined_photo_that_can_be_read_now_is_looked_at(tmp_path: Path) -> None:
    project = raw_project(tmp_path, {"a.png": encoded(picture(128, 96, BOX))}, status="quarantined", problem="a drive")
    report = run(project, parse_detector("whole-image"))
    assert (report.looked_at, report.added, report.failures) == (1, 1, {})
    image = images(project)["a.png"]
    assert (image["status"], image["problem"], image["width"], image["height"]) == ("ok", None, 128, 96)


def test_a_moved_photo_is_found_and_its_new_place_kept(tmp_path: Path) -> None:
    project = raw_project(tmp_path, numbered(1))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cards" / "0.png").rename(tmp_path / "elsewhere" / "x.png")
    add_image_root(project.settings, "elsewhere", tmp_path / "elsewhere")
    project = Project(project.folder)
    assert run(project, Answers({"0.png": animals(0.9)})).added == 1
    image = images(project)["x.png"]
    assert (image["root"], image["detector"]) == ("elsewhere", "answers")


def test_a_detector_that_does_not_read_finds_no_file_missing(tmp_path: Path) -> None:
    project = raw_project(tmp_path, numbered(1))
    (tmp_path / "cards" / "0.png").unlink()
    assert run(project, Answers({"0.png": animals(0.9)}, reads=False)).added == 1


def test_results_in_a_file_are_matched_and_the_rest_stays_not_looked_at(tmp_path: Path) -> None:
    project = raw_project(tmp_path, {f"DCIM/{name}": content for name, content in numbered(4).items()})
    answers = {
        "E:\\trip\\DCIM\\0.png": [("1", 0.9, (0.25, 0.5, 0.5, 0.25)), ("2", 0.9, WHOLE), ("1", 0.1, WHOLE)],
        "E:\\trip\\DCIM\\1.png": [("4", 0.4, WHOLE)],
        "E:\\trip\\DCIM\\2.png": "Failure image access",
        "E:\\trip\\DCIM\\7.png": [],
    }
    report = run(project, parse_detector(f"json:{results(tmp_path / 'md.json', answers)}"), species="zebra")
    assert (report.photos, report.looked_at, report.not_named, report.with_animals) == (4, 2, 1, 2)
    assert (report.added, report.below_threshold, report.persons) == (2, 1, 1)
    assert list(report.failures) == ["DCIM/2.png"]
    assert list(report.unmatched) == ["E:/trip/DCIM/7.png"]
    assert [(row["file_name"], box_of(row), row["species"]) for row in rows(project)] == [
        ("DCIM/0.png", (8, 12, 16, 6), "zebra"),
        ("DCIM/1.png", (0, 0, 32, 24), "deer"),
    ]
    looked = {name: row["detector"] is not None for name, row in images(project).items()}
    assert looked == {"DCIM/0.png": True, "DCIM/1.png": True, "DCIM/2.png": False, "DCIM/3.png": False}


def test_what_was_looked_at_already_still_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    project = raw_project(tmp_path, {"A/0.png": encoded(noise(1)), "B/0.png": encoded(noise(2))})
    file = results(tmp_path / "one.json", {"A/0.png": [("1", 0.9, WHOLE)]})
    assert run(project, parse_detector(f"json:{file}")).added == 1
    # Only B/0.png is left to be looked at, and 0.png may still be either.
    report = run(project, parse_detector(f"json:{results(tmp_path / 'two.json', {'0.png': [('1', 0.9, WHOLE)]})}"))
    assert (report.added, report.not_named) == (0, 1)
    assert report.unmatched["0.png"].startswith("several photos fit equally well")


def test_only_one_source_is_looked_at(tmp_path: Path) -> None:
    project = raw_project(tmp_path, {"0.png": encoded(noise(1))})
    add_photos(project, tmp_path / "more", {"0.png": encoded(noise(2))}, source="more")
    project = Project(project.folder)
    answers = parse_detector(f"json:{results(tmp_path / 'md.json', {'0.png': [('1', 0.9, WHOLE)]})}")
    assert run(project, answers).added == 0  # it may be either
    report = run(project, answers, source="more")
    assert (report.photos, report.added) == (1, 1)
    with pytest.raises(UnknownName, match="no source named 'mor'"):
        run(project, answers, source="mor")


def test_failures_of_two_photos_of_one_path_are_both_named(tmp_path: Path) -> None:
    project = raw_project(tmp_path, {"0.png": encoded(noise(1))})
    add_photos(project, tmp_path / "more", {"0.png": encoded(noise(2))}, source="more")
    report = run(project, Answers({"0.png": ImageError("no luck")}, reads=False))
    assert dict(report.failures) == {"0.png": "no luck", "more/0.png": "no luck"}


def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_room, "BLOCK", 2)
    project = raw_project(tmp_path, numbered(7))
    answers: dict[str, Any] = {name: animals(0.9) for name in numbered(7)}
    with pytest.raises(RuntimeError, match="the power went"):
        run(project, Answers(answers | {"5.png": RuntimeError("the power went")}))
    assert [row["file_name"] for row in rows(project)] == ["0.png", "1.png", "2.png", "3.png"]
    second = Answers(answers)
    assert run(project, second).added == 3
    assert sorted(second.asked) == ["4.png", "5.png", "6.png"]
    assert len(rows(project)) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold 1.5: expected a confidence from 0 to 1"),
        ({"threshold": float("nan")}, "threshold nan"),
        ({"species": "  "}, "species '  ': expected the name of a species"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(raw_project(tmp_path, numbered(1)), Answers({}), **options)


def test_nothing_to_look_at_is_no_error(tmp_path: Path) -> None:
    report = run(raw_project(tmp_path, {}), Answers({}))
    assert (report.photos, report.looked_at, report.images_per_second) == (0, 0, None)
