from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resight import quality
from resight.artefacts import content_hash
from resight.catalogue.measuring import Measurement
from resight.quality import measure
from resight.quality.numbers import measured_key, numbers_of
from resight.types import Annotation, Box

from ..made_up import annotation, encoded, noise, waves, write_photo


def photo(root: Path, number: int, **changes: Any) -> Annotation:
    hashed = write_photo(root, f"{number}.png", encoded(noise(number)))
    return annotation(f"a{number}", image_path=f"{number}.png", content_hash=hashed, image_id=number, **changes)


def all_of(blocks: Any) -> tuple[list[Measurement], list[Any], list[Any]]:
    blocks = list(blocks)
    return (
        [one for block in blocks for one in block.measurements],
        [one for block in blocks for one in block.failures],
        [one for block in blocks for one in block.found],
    )


def test_only_what_lacks_its_numbers_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_BLOCK", 2)
    mine = [photo(tmp_path, number) for number in range(5)]
    roots = {mine[0].image_root: tmp_path}
    measured, failures, _ = all_of(measure(mine, roots, {}))
    assert [one.annotation_id for one in measured] == ["a0", "a1", "a2", "a3", "a4"]
    assert not failures
    known = {one.annotation_id: one.measured_key for one in measured}
    assert all_of(measure(mine, roots, known)) == ([], [], [])
    del known["a1"]
    known["a3"] = measured_key(str(mine[3].content_hash), Box(1, 1, 9, 9), 0.0)
    again, _, _ = all_of(measure(mine, roots, known))
    assert again == [measured[1], measured[3]]


def test_a_photo_that_cannot_be_measured_stops_no_other(tmp_path: Path) -> None:
    good, gone, torn, outside, known_bad = (photo(tmp_path, number) for number in range(5))
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes(encoded(noise(2))[:-200])
    torn = annotation("a2", image_path="2.png", image_id=2)
    outside = annotation("a3", image_path="3.png", content_hash=outside.content_hash, image_id=3, box=Box(900, 9, 9, 9))
    known_bad = annotation("a4", image_path="4.png", image_id=4, image_status="quarantined")
    mine = [good, gone, torn, outside, known_bad]
    measured, failures, _ = all_of(measure(mine, {good.image_root: tmp_path}, {}))
    assert [one.annotation_id for one in measured] == ["a0"]
    assert {one.annotation_id: one.reason for one in failures} == {
        "a1": "missing", "a2": "unreadable", "a3": "box", "a4": "unreadable",
    }  # fmt: skip


def test_two_animals_of_one_photo_are_measured_each_by_its_box(tmp_path: Path) -> None:
    content = encoded(waves(200, 100))
    hashed = write_photo(tmp_path, "p.png", content)
    boxes = {"a": Box(5, 10, 60, 50), "b": Box(100, 20, 80, 70), "c": None}
    mine = [annotation(key, image_path="p.png", content_hash=None, image_id=7, box=box) for key, box in boxes.items()]
    measured, _, found = all_of(measure(mine, {mine[0].image_root: tmp_path}, {}))
    assert {one.annotation_id: one.numbers for one in measured} == {
        key: numbers_of(content, "p", box, 0.0) for key, box in boxes.items()
    }
    (facts,) = found  # the photo was read for the first time
    assert (facts.image_id, facts.facts.content_hash, content_hash(content)) == (7, hashed, hashed)
