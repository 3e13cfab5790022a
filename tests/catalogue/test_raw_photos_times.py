"""Raw photos: clocks, cameras, places and encounters."""

from __future__ import annotations

import os

from sqlalchemy import select

from resight.catalogue import schema

from .test_raw_photos import Place, kinds, place, write

__all__ = ["place"]


def test_a_clock_that_was_never_set_gives_no_time_but_a_remedy(place: Place) -> None:
    for second in range(3):
        write(place.card / "x" / f"{second}.jpg", second, taken=f"1970-01-02T03:04:0{second}", camera="Trail 7")
    write(place.card / "y" / "good.jpg", 9, taken="2024-05-01T10:00:00", camera="D500")
    report = place.take()
    assert report.encounters == 1
    (note,) = [note for note in report.notes if "cannot be right" in note]
    assert '"Trail 7" = { showed = "1970-01-02T03:04:00", was = ' in note
    assert [(c.camera, c.photos, c.first, c.offset) for c in report.cameras] == [
        ("Trail 7", 3, "1970-01-02T03:04:00", None),
        ("D500", 1, "2024-05-01T10:00:00", None),
    ]
    assert [row["taken_at"] for row in place.images()] == [None, None, None, "2024-05-01T10:00:00"]
    place.add_settings("clocks", '"Trail 7" = { showed = "1970-01-02T03:04:00", was = "2024-06-01T12:00:00" }')
    again = place.take()
    assert kinds(again) == {"unchanged": 4}
    assert "3 photos that were known have another time now, by [clocks] in resight.toml" in again.notes
    assert not any("cannot be right" in note for note in again.notes)
    assert [row["taken_at"] for row in place.images()][:3] == [f"2024-06-01T12:00:0{n}" for n in range(3)]
    assert place.images()[0]["camera_time"] == "1970-01-02T03:04:00"
    assert again.encounters == 2
    before = place.everything()
    place.take()
    assert place.everything() == before


def test_each_camera_has_its_clock_and_folders_may_have_theirs(place: Place) -> None:
    place.add_settings("clocks", '"D500" = "+01:00:00"\n"DCIM/101" = "-02:00:00"')
    write(place.card / "DCIM" / "101" / "1.jpg", 1, taken="2024-05-01T10:00:00", camera="D500")
    write(place.card / "DCIM" / "101" / "2.jpg", 2, taken="2024-05-01T10:00:00")
    write(place.card / "3.jpg", 3, taken="2024-05-01T10:00:00")
    report = place.take()
    times = {row["path"]: row["taken_at"] for row in place.images()}
    assert times == {
        "3.jpg": "2024-05-01T10:00:00",
        "DCIM/101/1.jpg": "2024-05-01T11:00:00",
        "DCIM/101/2.jpg": "2024-05-01T08:00:00",
    }
    assert [(c.camera, c.offset) for c in report.cameras] == [(None, "by folder"), ("D500", "+01:00:00")]


def test_a_date_that_somebody_stated_is_kept(place: Place) -> None:
    write(place.card / "1.jpg", 1)
    place.take()
    with place.database.writing() as (connection, _):
        connection.execute(schema.images.update().values(taken_at="1978-07-14"))
    os.utime(place.card / "1.jpg", ns=(5, 5))
    place.take()
    assert place.images()[0]["taken_at"] == "1978-07-14"


def test_a_place_of_zero_zero_is_counted_and_not_kept(place: Place) -> None:
    write(place.card / "1.jpg", 1, zero=True)
    report = place.take()
    assert (place.images()[0]["latitude"], place.images()[0]["longitude"]) == (None, None)
    assert any("1 photos are placed at 0 N 0 E" in note for note in report.notes)


def test_another_rule_puts_photos_into_other_encounters(place: Place) -> None:
    for minute in (0, 20, 40):
        write(place.card / f"{minute}.jpg", minute, taken=f"2024-05-01T10:{minute:02}:00")
    assert place.take().encounters == 1
    place.add_settings("encounters", "within_minutes = 10")
    assert place.take().encounters == 3
    with place.database.reading() as connection:
        assert len(connection.execute(select(schema.encounters)).all()) == 3  # none that is empty is left
    place.add_settings("encounters", 'same = "camera"')
    assert place.take().encounters == 3
