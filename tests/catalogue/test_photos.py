from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resight.catalogue.photos import PhotoReader
from resight.errors import ImageChanged, ImageMissing, ImageUnreadable
from resight.types import Annotation

from ..detection.drawn import photo
from ..made_up import annotation, write_photo

CONTENT = b"the bytes of a photo"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return tmp_path / "one"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return tmp_path / "two"


def known(one: Path, **changes: Any) -> Annotation:
    digest = write_photo(one, "day 1/a.jpg", CONTENT)
    values = {"content_hash": digest, "image_bytes": len(CONTENT), "image_root": "one", "image_path": "day 1/a.jpg"}
    return annotation("a", **{**values, **changes})


def reader(one: Path, two: Path) -> PhotoReader:
    return PhotoReader({"one": one, "two": two})


def test_a_photo_is_read_where_the_catalogue_says(one: Path, two: Path) -> None:
    a = known(one)
    found = reader(one, two).read(a)
    assert (found.content, found.content_hash, found.name, found.moved_to) == (CONTENT, a.content_hash, "a.png", None)


def test_a_photo_never_read_before_is_taken_as_it_is(one: Path, two: Path) -> None:
    a = known(one, content_hash=None, image_bytes=None)
    assert reader(one, two).read(a).content_hash == known(one).content_hash


def test_a_moved_photo_is_found_by_its_content_below_any_root(one: Path, two: Path) -> None:
    a = known(one)
    two.mkdir()
    (one / "day 1" / "a.jpg").rename(two / "anything.jpeg")
    write_photo(one, "first/same size.jpg", b"the bytes of a photX")
    found = reader(one, two).read(a)
    assert (found.content, found.moved_to) == (CONTENT, ("two", "anything.jpeg"))


def test_a_photo_that_was_thrown_away_is_not_found_there(one: Path, two: Path) -> None:
    known_one = known(one)
    (two / ".Trashes").mkdir(parents=True, exist_ok=True)
    (one / "day 1" / "a.jpg").rename(two / ".Trashes" / "a.jpg")
    with pytest.raises(ImageMissing):
        reader(one, two).read(known_one)


def test_a_moved_photo_is_found_though_its_root_left_the_settings(one: Path, two: Path) -> None:
    a = known(one)
    write_photo(two, "copy/a.jpg", CONTENT)
    assert PhotoReader({"two": two}).read(a).moved_to == ("two", "copy/a.jpg")
    with pytest.raises(ImageMissing, match=r"a\.png: its image root 'one' is not in resight\.toml; add it"):
        PhotoReader({}).read(a)


def test_anything_that_says_where_its_photo_lies_can_be_read(one: Path, two: Path) -> None:
    a = known(one)
    raw = photo(image_root="one", image_path=a.image_path, content_hash=a.content_hash, image_bytes=len(CONTENT))
    assert reader(one, two).read(raw).content == CONTENT
    assert not reader(one, two).seems_changed(raw)  # nobody noted when it was written
    (one / "day 1" / "a.jpg").rename(one / "b.jpg")
    assert reader(one, two).read(raw).moved_to == ("one", "b.jpg")


def test_a_missing_photo_is_an_error_that_names_it(one: Path, two: Path) -> None:
    a = known(one)
    (one / "day 1" / "a.jpg").unlink()
    with pytest.raises(ImageMissing, match=r"day 1/a\.jpg: no such file, and none of the same content was found"):
        reader(one, two).read(a)
    with pytest.raises(ImageMissing):
        reader(one, two).read(known(one, image_path="b.jpg", content_hash=None))


def test_a_changed_photo_is_never_used(one: Path, two: Path) -> None:
    a = known(one)
    write_photo(one, "day 1/a.jpg", b"other bytes, edited.")
    with pytest.raises(ImageChanged, match=r"a\.jpg: its content is not what the catalogue knows; put the photo back"):
        reader(one, two).read(a)
    write_photo(two, "backup/a.jpg", CONTENT)
    assert reader(one, two).read(a).moved_to == ("two", "backup/a.jpg")


def test_a_known_photo_that_is_empty_now_has_changed_and_a_new_one_is_unreadable(one: Path, two: Path) -> None:
    a = known(one)
    write_photo(one, "day 1/a.jpg", b"")
    with pytest.raises(ImageChanged, match=r"the file is empty \(0 bytes\); the catalogue knows another content"):
        reader(one, two).read(a)
    with pytest.raises(ImageUnreadable, match="empty"):
        reader(one, two).read(annotation("b", image_root="one", image_path="day 1/a.jpg"))
    write_photo(two, "backup/a.jpg", CONTENT)
    assert reader(one, two).read(a).moved_to == ("two", "backup/a.jpg")


def test_a_file_that_goes_while_it_is_looked_at_does_not_end_the_search(one: Path, two: Path) -> None:
    a = known(one)
    (one / "day 1" / "a.jpg").rename(one / "day 1" / "b.jpg")
    write_photo(two, "copy.jpg", CONTENT)
    once = reader(one, two)
    assert once.read(a).moved_to == ("one", "day 1/b.jpg")
    (one / "day 1" / "b.jpg").unlink()
    assert once.read(a).moved_to == ("two", "copy.jpg")


def test_only_pictures_are_searched_and_a_root_may_be_gone(one: Path, two: Path) -> None:
    a = known(one)
    (one / "day 1" / "a.jpg").rename(one / "a.txt")
    with pytest.raises(ImageMissing):
        PhotoReader({"one": one, "gone": two / "not there"}).read(a)
