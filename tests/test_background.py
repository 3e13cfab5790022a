from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resight.artefacts import Passport
from resight.chips import SURROUNDINGS, BackgroundChips, ChipSpec, make_background_chips, make_chips
from resight.errors import ArtefactMismatch, ImageError
from resight.images import COVER_GREY, cut_chip, cut_covered_chip, share_covered, upright_size
from resight.types import Annotation, Box

from .made_up import annotation, encoded, noise, stored, waves, write_photo

SPEC = ChipSpec(16)
GREY = (COVER_GREY,) * 3
WIDTH, HEIGHT = 32, 24  # of the photos that are drawn here
BOX = Box(8, 4, 16, 16)  # as large as a chip, so that nothing is resized
TRIANGLE = [[12, 8, 19, 8, 12, 15]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def made(annotations: list[Annotation], outlines: dict[str, Any], photos: Path) -> BackgroundChips:
    return make_background_chips(annotations, outlines, {"drawn": photos}, photos.parent / "chips", SPEC)


def photo_of(photos: Path, name: str, seed: int = 0, **changes: Any) -> Annotation:
    """An annotation on a photo of noise that the catalogue has read."""
    content = encoded(noise(seed, WIDTH, HEIGHT))
    digest = write_photo(photos, f"{name}.png", content)
    values = {"content_hash": digest, "image_width": WIDTH, "image_height": HEIGHT, "image_bytes": len(content)}
    return annotation(name, **{**values, "box": BOX, **changes})


def is_grey(chip: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(size, size) bool; in a picture of noise no other pixel is."""
    found: NDArray[np.bool_] = (chip == COVER_GREY).all(axis=-1)
    return found


def in_triangle() -> NDArray[np.bool_]:
    """The pixels of the chip of BOX that TRIANGLE covers: 8 in its first row, one less in every other."""
    covered = np.zeros((16, 16), bool)
    for step in range(8):
        covered[4 + step, 4 : 12 - step] = True
    return covered


def as_runs(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The RLE of a mask, walked down its columns."""
    counts, now = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != now:
            counts.append(0)
            now = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


# With an outline


@pytest.mark.parametrize("by", ["polygon", "runs"])
def test_what_is_inside_the_outline_is_grey_and_all_else_is_the_ordinary_chip(photos: Path, by: str) -> None:
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[4:20, 8:24] = in_triangle()
    a = photo_of(photos, "a", 1)
    chips = made([a], {"a": TRIANGLE if by == "polygon" else as_runs(whole)}, photos)
    [chip] = chips.load(["a"])
    ordinary = cut_chip(encoded(noise(1, WIDTH, HEIGHT)), "a", BOX, 0, 16)
    assert (chip[in_triangle()] == COVER_GREY).all()
    assert (chip[~in_triangle()] == ordinary[~in_triangle()]).all()
    assert (chips.made, chips.failures, chips.by_outline, chips.broken) == (1, (), {"a"}, {})


@pytest.mark.parametrize("theta_rad", [0.0, 0.4, -1.3])
@pytest.mark.parametrize("box", [None, Box(6, 5, 20, 12), Box(-4, 3, 22, 30)])
def test_the_chip_is_cut_from_the_photo_with_the_animal_painted_over(
    photos: Path, theta_rad: float, box: Box | None
) -> None:
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[7:15, 9:21] = True
    painted = np.asarray(noise(1, WIDTH, HEIGHT)).copy()
    painted[whole] = GREY
    expected = cut_chip(encoded(Image.fromarray(painted)), "a", box, theta_rad, 16)
    a = photo_of(photos, "a", 1, box=box, theta_rad=theta_rad)
    assert (made([a], {"a": as_runs(whole)}, photos).load(["a"])[0] == expected).all()


def test_an_outline_that_covers_all_leaves_grey_alone(photos: Path) -> None:
    chips = made([photo_of(photos, "a", 1)], {"a": [[0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]]}, photos)
    assert (chips.load(["a"]) == COVER_GREY).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("box", [None, Box(200, 101.5, 901, 601)])
def test_nothing_of_the_animal_is_left_in_a_photo_that_is_down_scaled_while_decoding(
    orientation: int, box: Box | None
) -> None:
    # A white animal, in a JPEG of an odd size, stored as a camera that was turned stores it.
    animal = np.zeros((803, 1201), bool)
    animal[303:551, 405:777] = True
    mask = Image.fromarray(animal.astype(np.uint8) * 255)

    def chip_of(ground: int) -> NDArray[np.int64]:
        pixels = np.full((803, 1201, 3), ground, np.uint8)
        pixels[animal] = 255
        content = stored(Image.fromarray(pixels), orientation, "JPEG", quality=95)
        assert upright_size(content, "x") == (1201, 803)
        return cut_covered_chip(content, "x", box, 0, 48, mask).astype(np.int64)

    assert np.abs(chip_of(COVER_GREY) - COVER_GREY).max() <= 4
    chip = chip_of(20)
    grey_share = (chip.mean() - 20) / (COVER_GREY - 20)
    w, h = (1201, 803) if box is None else (box.w, box.h)
    # Covered are all pixels of the reduced picture that the animal touches: at most 7 more of the photo's on each side.
    assert animal.sum() * 0.98 <= grey_share * w * h <= (372 + 14) * (248 + 14)
    assert share_covered(mask, "x", box, 0) == pytest.approx(animal.sum() / (w * h), rel=0.01)


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_outline_is_in_upright_pixels(photos: Path, orientation: int) -> None:
    content = stored(noise(1, WIDTH, HEIGHT), orientation, "PNG")
    a = annotation("a", content_hash=write_photo(photos, "a.png", content), box=BOX)
    [chip] = made([a], {"a": TRIANGLE}, photos).load(["a"])
    assert (is_grey(chip) == in_triangle()).all()
    [by_catalogue] = made([replace(a, image_width=WIDTH, image_height=HEIGHT)], {"a": TRIANGLE}, photos).load(["a"])
    assert (by_catalogue == chip).all()


# Without one


def test_without_an_outline_the_box_is_covered_and_its_surroundings_are_shown(photos: Path) -> None:
    spec, box = ChipSpec(48), Box(60, 50, 32, 32)  # surroundings of 48 x 48: nothing is resized
    content = encoded(noise(1, 160, 130))
    a = annotation("a", content_hash=write_photo(photos, "a.png", content), box=box)
    chips = make_background_chips([a], {}, {"drawn": photos}, photos.parent / "chips", spec)
    [chip] = chips.load(["a"])
    around = cut_chip(content, "a", Box(52, 42, 48, 48), 0, 48)
    assert is_grey(chip)[8:40, 8:40].all()
    outside = np.ones((48, 48), bool)
    outside[8:41, 8:41] = False  # the far edges of the box count as inside
    assert (chip[outside] == around[outside]).all()
    assert (chips.by_outline, chips.broken) == (frozenset(), {})


@pytest.mark.parametrize("theta_rad", [0.5, math.pi / 2, -2.0])
def test_a_turned_box_is_covered_and_shown_turned(photos: Path, theta_rad: float) -> None:
    content = encoded(waves(160, 130))
    box = Box(60, 55, 40, 20)
    a = annotation("a", content_hash=write_photo(photos, "a.png", content), box=box, theta_rad=theta_rad)
    spec = ChipSpec(60)
    chips = make_background_chips([a], {}, {"drawn": photos}, photos.parent / "chips", spec)
    [chip] = chips.load(["a"]).astype(int)
    around = cut_chip(content, "a", Box(50, 50, 60, 30), theta_rad, 60).astype(int)
    assert (chip[14:46, 12:48] == COVER_GREY).all()
    outside = np.ones((60, 60), bool)
    outside[5:55, 7:53] = False
    assert np.abs(chip - around)[outside].max() <= 1
    assert np.abs(chip - around)[14:46, 12:48].max() > 50


def test_surroundings_outside_the_photo_are_black(photos: Path) -> None:
    a = photo_of(photos, "a", 1, box=Box(0, 4, 16, 16))
    [chip] = made([a], {}, photos).load(["a"])
    assert (chip[:, :2] == 0).all()
    assert (chip[3:13, 3:13] == COVER_GREY).all()
    assert chip[:, 14:].max() > 0
    assert SURROUNDINGS == 1.5


def test_where_nothing_is_background_there_is_no_chip_and_the_reason_is_told_once(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole_photo = Box(0, 0, WIDTH, HEIGHT)
    wanted = [
        photo_of(photos, "no box", 1, box=None),
        photo_of(photos, "no box, not read", 2, box=None, content_hash=None, image_width=None, image_height=None),
        photo_of(photos, "whole", 3, box=whole_photo),
        photo_of(photos, "whole, turned", 4, box=whole_photo, theta_rad=math.pi),
        photo_of(photos, "broken", 5, box=None),
        photo_of(photos, "good", 6),
        photo_of(photos, "quarter turn", 7, box=whole_photo, theta_rad=math.pi / 2),  # the photo's sides stick out
        photo_of(photos, "outlined", 8, box=None),
    ]
    outlines = {"broken": [[1, 2]], "outlined": TRIANGLE}
    with caplog.at_level(logging.WARNING):
        chips = made(wanted, outlines, photos)
    assert set(chips.keys) == {"good", "quarter turn", "outlined"}
    reasons = {failure.annotation_id: failure.message for failure in chips.failures}
    assert {failure.reason for failure in chips.failures} == {"no_background"}
    for name in ("no box", "no box, not read", "broken"):
        assert reasons[name].startswith(f"{name}.png: neither a box nor an outline that can be used")
    for name in ("whole", "whole, turned"):
        assert reasons[name].startswith(
            f"{name}.png: no outline that can be used, and nothing of the photo lies around"
        )
    assert len(reasons) == 5
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert any("no background chip of 5 annotations, such as no box.png: neither" in message for message in messages)
    assert any("1 outlines count as none" in message for message in messages)
    (photos / "whole.png").unlink()
    [again] = made([wanted[2]], {}, photos).failures
    assert again.reason == "no_background"  # told without reading the photo


# Broken outlines


def test_outlines_that_cannot_be_used_count_as_none_and_are_told_once(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outlines: dict[str, Any] = {
        "broken": [[1, 2, 3]],
        "empty": [[]],
        "other size": as_runs(np.ones((WIDTH, HEIGHT), bool)),
        "elsewhere": [[0, 0, 4, 0, 4, 3, 0, 3]],
        "shares": [[0.1, 0.2, 0.9, 0.2, 0.9, 0.8]],  # of width and height instead of pixels
        "good": TRIANGLE,
    }
    names = [*outlines, "none"]
    wanted = [photo_of(photos, name, seed) for seed, name in enumerate(names)]
    with caplog.at_level(logging.WARNING):
        chips = made(wanted, outlines, photos)
    assert set(chips.keys) == set(names)
    assert set(chips.broken) == set(names) - {"good", "none"}
    assert "height and width" in chips.broken["other size"]
    assert chips.broken["elsewhere"] == "the outline covers 0.0% of its box"
    assert chips.by_outline == {"good"}
    [record] = caplog.records
    assert record.getMessage().startswith("5 outlines count as none; the first is that of annotation broken: a polygon")
    assert chips.keys == {**made(wanted, {"good": TRIANGLE}, photos).keys}
    again = made(wanted, outlines, photos)  # whether the photos are read or not
    assert (again.made, again.keys, again.broken, again.by_outline) == (0, chips.keys, chips.broken, chips.by_outline)


# Kept and made again


def test_a_changed_outline_makes_another_chip_and_an_unchanged_one_none(photos: Path) -> None:
    wanted = [photo_of(photos, "a", 1), photo_of(photos, "b", 2)]
    first = made(wanted, {"a": TRIANGLE}, photos)
    assert first.made == 2
    same = made(wanted, {"a": [[float(number) for number in TRIANGLE[0]]]}, photos)
    assert (same.made, same.keys) == (0, first.keys)
    moved = made(wanted, {"a": [[12, 8, 19, 8, 12, 16]]}, photos)
    assert (moved.made, moved.keys["b"]) == (1, first.keys["b"])
    without = made(wanted, {}, photos)
    assert without.made == 1
    assert len({chips.keys["a"] for chips in (first, moved, without)}) == 3
    for changed in ({"box": Box(8, 4, 16, 15)}, {"theta_rad": 0.1}):
        assert made([replace(wanted[0], **changed)], {"a": TRIANGLE}, photos).made == 1
    unread = replace(wanted[0], content_hash=None, image_width=None, image_height=None)
    again = made([unread], {"a": TRIANGLE}, photos)
    assert (again.made, again.keys["a"]) == (0, first.keys["a"])
    [found] = again.found
    assert (found.facts.width, found.facts.height) == (WIDTH, HEIGHT)


def test_background_chips_lie_apart_from_the_others_with_a_passport_of_their_own(photos: Path) -> None:
    a = photo_of(photos, "a", 1)
    ordinary = make_chips([a], {"drawn": photos}, photos.parent / "chips", SPEC)
    background = made([a], {"a": TRIANGLE}, photos)
    assert background.folder.name == f"{ordinary.folder.name}-background1" == "16-v1-background1"
    assert background.keys["a"] != ordinary.keys["a"]  # vectors are kept by the keys of chips
    passport = Passport.read(background.folder / "passport.json")
    assert (passport.kind, passport.decides["grey"], passport.decides["surroundings"]) == ("background chips", 127, 1.5)
    Passport(passport.kind, {**passport.decides, "grey": 0}).write(background.folder / "passport.json")
    with pytest.raises(ArtefactMismatch, match="grey is 0 there and 127 now; delete that folder"):
        made([a], {"a": TRIANGLE}, photos)


def test_a_photo_that_fails_stops_nothing(photos: Path) -> None:
    good = [photo_of(photos, f"good{seed}", seed) for seed in range(6)]
    size = {"image_width": WIDTH, "image_height": HEIGHT}
    bad = {
        "text": annotation("text", content_hash=write_photo(photos, "text.png", b"no picture"), box=BOX, **size),
        "gone": annotation("gone", content_hash="0" * 64, box=BOX, **size),
        "changed": photo_of(photos, "changed", 7, content_hash="0" * 64),
        "known bad": photo_of(photos, "known bad", 8, image_status="quarantined"),
        "outside": photo_of(photos, "outside", 9, box=Box(33, 4, 16, 16)),  # its surroundings are inside the photo
        "outside, outlined": photo_of(photos, "outside, outlined", 10, box=Box(33, 4, 16, 16)),
    }
    outlines = dict.fromkeys(("good0", "text", "gone", "outside, outlined"), TRIANGLE)
    chips = made([*good[:3], *bad.values(), *good[3:]], outlines, photos)
    assert set(chips.keys) == {a.annotation_id for a in good}
    assert chips.by_outline == {"good0"}
    assert {failure.annotation_id: failure.reason for failure in chips.failures} == {
        "text": "unreadable", "gone": "missing", "changed": "changed", "known bad": "unreadable",
        "outside": "box", "outside, outlined": "box",
    }  # fmt: skip


def test_the_share_of_a_box_outside_the_photo_is_refused() -> None:
    with pytest.raises(ImageError, match="does not fit the picture of 32 x 24 pixels"):
        share_covered(Image.new("L", (WIDTH, HEIGHT)), "x", Box(40, 0, 5, 5), 0)
