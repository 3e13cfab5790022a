from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ExifTags, Image

from resight.catalogue.checking import check_images, stated
from resight.types import Record

from ..made_up import encoded, noise


def record(name: str, taken_at: str | None = None) -> Record:
    return Record(row=name, file_name=name, species="zebra", taken_at=taken_at)


def photo(folder: Path, name: str, taken: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    (folder / name).write_bytes(encoded(noise(len(name)), "JPEG", exif=exif))


def test_the_time_of_a_clock_that_was_never_set_makes_no_day(tmp_path: Path) -> None:
    photo(tmp_path, "set.jpg", "2024:05:01 10:00:00")
    photo(tmp_path, "unset.jpg", "1970:01:01 00:10:00")
    photo(tmp_path, "to come.jpg", "2098:01:01 00:00:00")
    records = [record(name) for name in ("set.jpg", "unset.jpg", "to come.jpg")]
    found = check_images(records, tmp_path, verify=True, known={})
    assert [found.images[one.file_name].taken_at for one in records] == ["2024-05-01T10:00:00", None, None]
    assert found.problems == ()
    assert [note for note in found.notes if "never set" in note] == [
        "2 images have the time of a clock that was never set (before 1990, or to come); it is not used"
    ]
    # Known from an earlier import that believed it: it is asked again.
    known = {one.file_name: found.images[one.file_name] for one in records}
    assert check_images(records, tmp_path, verify=True, known=known).images["unset.jpg"].taken_at is None


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ([None], None),
        (["1970-01-01"], None),
        (["1970-01-01T00:00:00", "2024-05-01"], "2024-05-01"),
        (["2098-01-01"], None),
        (["1978-07-14"], "1978-07-14"),  # on paper, and scanned since
        (["2024-05-02", "2024-05-01"], "2024-05-01"),
    ],
)
def test_a_stated_date_is_believed_unless_it_cannot_be_right(dates: list[str | None], expected: str | None) -> None:
    assert stated([record("a.jpg", date) for date in dates])[0] == expected


def test_stated_dates_that_cannot_be_right_are_counted() -> None:
    rows = [record("a.jpg", "1970-01-01"), record("b.jpg", "2024-05-01"), record("c.jpg", "2098-01-01")]
    notes = check_images(rows, Path("nowhere"), verify=False, known={}).notes
    assert "2 rows have a date that cannot be right (1970-01-01, or to come); it counts as not known" in notes
