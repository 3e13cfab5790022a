from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resight.artefacts import Passport
from resight.chips import SHOWN_FAILURES, ChipSet, ChipSpec, make_chips
from resight.errors import ArtefactMismatch, InputError
from resight.images import cut_chip
from resight.types import Annotation, Box

from .made_up import annotation, encoded, noise, write_photo

SPEC = ChipSpec(16)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def made(annotations: list[Annotation], photos: Path, spec: ChipSpec = SPEC) -> ChipSet:
    return make_chips(annotations, {"drawn": photos}, photos.parent / "chips", spec)


def photo_of(photos: Path, name: str, seed: int = 0, **changes: Any) -> Annotation:
    """An annotation whose photo lies there and whose content the catalogue knows."""
    content = encoded(noise(seed))
    digest = write_photo(photos, f"{name}.png", content)
    return annotation(name, **{"content_hash": digest, "image_bytes": len(content), **changes})


def test_a_chip_is_what_is_cut_from_the_photo(photos: Path) -> None:
    a = photo_of(photos, "a", 1, box=Box(3, 4, 20, 10), theta_rad=0.4)
    b = photo_of(photos, "b", 2)
    chips = made([a, b], photos)
    assert (chips.made, chips.failures) == (2, ())
    assert [found.modified_ns for found in chips.found] == [
        (photos / name).stat().st_mtime_ns for name in ("a.png", "b.png")
    ]
    loaded = chips.load(["b", "a"])
    assert (loaded.shape, loaded.dtype) == ((2, 16, 16, 3), np.uint8)
    assert (loaded[0] == cut_chip(encoded(noise(2)), "b", None, 0, 16)).all()
    assert (loaded[1] == cut_chip(encoded(noise(1)), "a", a.box, 0.4, 16)).all()
    assert Passport.read(chips.folder / "passport.json").decides["size"] == 16


def test_a_photo_that_changed_is_reported_even_where_its_chip_is_there(photos: Path) -> None:
    known = photo_of(photos, "a", 1)
    facts = (photos / "a.png").stat()
    known = replace(known, image_bytes=facts.st_size, image_modified_ns=facts.st_mtime_ns)
    assert made([known], photos).made == 1
    assert made([known], photos).found == ()
    os.utime(photos / "a.png", ns=(1, 1))
    [touched] = made([known], photos).found  # written again with the same content: still the photo
    assert touched.modified_ns == 1
    write_photo(photos, "a.png", encoded(noise(99)))
    [failure] = made([known], photos).failures
    assert failure.reason == "changed"
    (photos / "a.png").unlink()
    assert made([known], photos).failures == ()  # gone, but what is known of it by its content is still right


def test_a_second_call_makes_nothing(photos: Path) -> None:
    wanted = [photo_of(photos, name, seed) for seed, name in enumerate("abc")]
    first = made(wanted, photos)
    times = {name: first.path(name).stat().st_mtime_ns for name in "abc"}
    second = made(wanted, photos)
    assert (first.made, second.made) == (3, 0)
    assert second.keys == first.keys
    assert {name: second.path(name).stat().st_mtime_ns for name in "abc"} == times


def test_photos_whose_content_was_not_known_are_told_and_not_cut_twice(photos: Path) -> None:
    known = photo_of(photos, "a", 1)
    unknown = annotation("a", image_status="unverified")
    first = made([unknown], photos)
    [found] = first.found
    assert (found.image_id, found.facts.content_hash, found.byte_size) == (unknown.image_id, known.content_hash,
                                                                     known.image_bytes)  # fmt: skip
    assert (found.facts.width, found.facts.height, found.moved_to) == (32, 24, None)
    again = made([unknown], photos)
    assert again.made == 0
    assert again.keys == first.keys == made([known], photos).keys


def test_the_same_content_has_the_same_chip_and_another_box_has_another(photos: Path) -> None:
    copies = [photo_of(photos, "a", 1), photo_of(photos, "copy of a", 1)]
    chips = made(copies, photos)
    assert chips.keys["a"] == chips.keys["copy of a"]
    box = Box(2, 3, 10, 12)
    variants = {
        "box": photo_of(photos, "box", 1, box=box),
        "corrected": photo_of(photos, "corrected", 1, box=Box(2, 3, 10, 12.5)),
        "turned": photo_of(photos, "turned", 1, box=box, theta_rad=0.1),
        "other": photo_of(photos, "other", 2, box=box),
    }
    keys = made(list(variants.values()), photos).keys
    assert len({chips.keys["a"], *keys.values()}) == 5
    assert made([variants["box"]], photos, ChipSpec(32)).keys["box"] not in keys.values()


def test_whole_numbers_and_floats_are_the_same_box() -> None:
    assert SPEC.key("ab", Box(1, 2, 3, 4), 0) == SPEC.key("ab", Box(1.0, 2.0, 3.0, 4.0), 0.0)


def test_a_photo_that_fails_is_named_and_stops_nothing(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = [photo_of(photos, f"good{seed}", seed) for seed in range(12)]
    text = annotation("text", content_hash=write_photo(photos, "text.png", b"not a picture"))
    cut_short = encoded(noise(5))[:400]
    bad = {
        "text": text,
        "short": annotation("short", content_hash=write_photo(photos, "short.png", cut_short)),
        "empty": annotation("empty", image_path="empty.png"),
        "gone": annotation("gone"),
        "changed": photo_of(photos, "changed", 7, content_hash="0" * 64),
        "no root": photo_of(photos, "no root", 7, image_root="elsewhere", image_bytes=None),
        "box": photo_of(photos, "box", 8, box=Box(100, 100, 5, 5)),
        "known bad": photo_of(photos, "known bad", 9, image_status="quarantined"),
    }
    write_photo(photos, "empty.png", b"")
    with caplog.at_level(logging.WARNING):
        chips = made([*good[:6], *bad.values(), *good[6:]], photos)
    assert set(chips.keys) == {a.annotation_id for a in good}
    assert chips.made == 12
    assert {failure.annotation_id: failure.reason for failure in chips.failures} == {
        "text": "unreadable", "short": "unreadable", "empty": "unreadable", "gone": "missing", "changed": "changed",
        "no root": "missing", "box": "box", "known bad": "unreadable",
    }  # fmt: skip
    for failure in chips.failures:
        assert failure.annotation_id in failure.message
        assert failure.file_name == f"{failure.annotation_id}.png"
        assert failure.image_id == bad[failure.annotation_id].image_id
        assert "\n" not in failure.message
    # The one quarantined before is not news; of the seven others the first are named and the rest counted.
    assert len(caplog.records) == SHOWN_FAILURES + 1
    assert "2 more" in caplog.records[-1].message


def test_a_photo_that_was_moved_is_used_and_its_place_told(photos: Path) -> None:
    wanted = photo_of(photos, "a", 1)
    (photos / "2023").mkdir()
    (photos / "a.png").rename(photos / "2023" / "renamed.PNG")
    photo_of(photos, "b", 2)  # as large, and another
    chips = made([wanted], photos)
    [found] = chips.found
    assert found.moved_to == ("drawn", "2023/renamed.PNG")
    assert (chips.load(["a"])[0] == cut_chip(encoded(noise(1)), "a", None, 0, 16)).all()


def test_a_chip_that_was_cut_short_is_made_again(photos: Path) -> None:
    wanted = photo_of(photos, "a", 1)
    chips = made([wanted], photos)
    whole = chips.path("a").read_bytes()
    for content in (b"", whole[:100], whole[:500]):
        chips.path("a").write_bytes(content)
        assert made([wanted], photos).made == 1
        assert chips.path("a").read_bytes() == whole


def test_a_folder_of_chips_made_otherwise_is_refused(photos: Path) -> None:
    wanted = photo_of(photos, "a", 1)
    folder = made([wanted], photos).folder
    Passport("chips", {**SPEC.passport.decides, "resize": "letterbox"}).write(folder / "passport.json")
    with pytest.raises(ArtefactMismatch, match=r"resize is 'letterbox' there and 'squash' now; delete that folder"):
        made([wanted], photos)
    (folder / "passport.json").unlink()
    with pytest.raises(ArtefactMismatch, match="holds chips without a passport; delete it"):
        made([wanted], photos)


def test_a_folder_in_which_a_passport_is_just_being_written_is_not_refused(photos: Path) -> None:
    folder = photos.parent / "chips" / SPEC.folder_name
    folder.mkdir(parents=True)
    (folder / ".passport.json.x1y2.json").write_text("{", encoding="utf-8")
    assert made([photo_of(photos, "a", 1)], photos).made == 1


def test_no_annotation_is_no_chip(photos: Path) -> None:
    chips = made([], photos)
    assert (chips.keys, chips.made, chips.failures, chips.found) == ({}, 0, (), ())


@pytest.mark.parametrize("size", [0, -1, 15, 2049])
def test_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"image_size {size}: expected 16 to 2048 pixels"):
        ChipSpec(size)
