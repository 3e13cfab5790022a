from __future__ import annotations

from datetime import timedelta

import pytest

from resight.catalogue.clocks import Clock, WrongClocks, clock_of, shown, taken_at

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("camera", "path", "name"),
    [
        ("D500 1", "DCIM/101/x.jpg", "D500 1"),  # the camera goes before the folder
        ("other", "DCIM/101/x.jpg", "DCIM/101"),  # the longest folder
        (None, "DCIM/101/deeper/x.jpg", "DCIM/101"),
        (None, "DCIM/102/x.jpg", "DCIM/"),
        (None, "DCIM/1012/x.jpg", "DCIM/"),  # 101 is not the beginning of a name
        (None, "elsewhere/x.jpg", None),
        (None, "x.jpg", None),
    ],
)
def test_whose_clock_counts(camera: str | None, path: str, name: str | None) -> None:
    clocks = {"D500 1": HOUR, "DCIM/101": 2 * HOUR, "DCIM/": 3 * HOUR}
    found = clock_of(camera, path, clocks)
    assert found == (None if name is None else Clock(name, clocks[name]))


def test_a_clock_for_the_whole_card() -> None:
    assert clock_of(None, "a/x.jpg", {".": HOUR}) == Clock(".", HOUR)


@pytest.mark.parametrize(
    ("camera_time", "offset", "expected"),
    [
        (None, HOUR, None),
        ("2024-05-01T10:00:00", None, "2024-05-01T10:00:00"),
        ("2024-05-01T23:30:00", HOUR, "2024-05-02T00:30:00"),
        ("2024-05-01T00:30:00", -HOUR, "2024-04-30T23:30:00"),
        ("1970-01-01T00:10:00", None, None),
        ("1970-01-01T00:10:00", timedelta(days=19844), "2024-05-01T00:10:00"),
        ("2098-01-01T00:00:00", None, None),
        ("2098-01-01T00:00:00", timedelta(days=-27000), "2024-01-30T00:00:00"),
        ("9999-12-31T23:00:00", 2 * HOUR, None),
    ],
)
def test_times(camera_time: str | None, offset: timedelta | None, expected: str | None) -> None:
    assert taken_at(camera_time, None if offset is None else Clock("x", offset)) == expected


@pytest.mark.parametrize(
    ("offset", "text"),
    [(HOUR, "+01:00:00"), (-HOUR / 2, "-00:30:00"), (timedelta(days=500, seconds=1), "+12000:00:01")],
)
def test_an_offset_is_shown_as_it_is_written(offset: timedelta, text: str) -> None:
    assert shown(offset) == text


def test_a_wrong_clock_is_told_with_the_line_that_mends_it() -> None:
    wrong = WrongClocks.none_yet()
    for second in range(3):
        wrong.count('Trail "X" 7', "a/x.jpg", f"1970-01-01T00:00:0{second}")
    for number in range(6):
        wrong.count(None, f"folder{number}/x.jpg", "1980-01-01T00:00:00")
    notes = list(wrong.notes())
    assert "3 photos from 1970-01-01T00:00:00 to 1970-01-01T00:00:02" in notes[0]
    assert '"Trail \\"X\\" 7" = { showed = "1970-01-01T00:00:00", was = ' in notes[0]
    assert '"folder0" = ' in notes[1]
    assert notes[-1].startswith("2 more photos of 2 more")
    assert len(notes) == 6
