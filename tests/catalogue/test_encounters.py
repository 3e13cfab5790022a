from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.catalogue.encounters import TimedPhoto, encounter_keys
from resight.settings import EncounterRule

HOUR = EncounterRule("folder", 60)
MORNING = datetime(2024, 5, 1, 10)


def photo(number: int, path: str = "a/x.jpg", minutes: float | None = 0.0, **changes: Any) -> TimedPhoto:
    taken_at = None if minutes is None else (MORNING + timedelta(minutes=minutes)).isoformat()
    values = {"root": "card", "camera": None, "taken_at": taken_at} | changes
    return TimedPhoto(number, path=path, **values)


def test_a_gap_of_more_than_the_rule_says_begins_a_new_encounter() -> None:
    photos = [photo(1, minutes=0), photo(2, minutes=60), photo(3, minutes=120), photo(4, minutes=180.1)]
    first, second = "a@2024-05-01T10:00:00", "a@2024-05-01T13:00:06"
    assert encounter_keys(photos, HOUR, "card") == {1: first, 2: first, 3: first, 4: second}


def test_folders_are_apart_and_other_roots_are_named() -> None:
    photos = [photo(1, "a/1.jpg"), photo(2, "b/1.jpg"), photo(3, "1.jpg"), photo(4, "a/1.jpg", root="card-2")]
    assert encounter_keys(photos, HOUR, "card") == {
        1: "a@2024-05-01T10:00:00",
        2: "b@2024-05-01T10:00:00",
        3: ".@2024-05-01T10:00:00",
        4: "card-2:a@2024-05-01T10:00:00",
    }


def test_by_camera_folders_do_not_matter_and_photos_without_one_go_by_folder() -> None:
    photos = [
        photo(1, "a/1.jpg", 0, camera="D500 1"),
        photo(2, "b/1.jpg", 30, camera="D500 1"),
        photo(3, "a/2.jpg", 5, camera="D500 2"),
        photo(4, "a/3.jpg", 6),
    ]
    keys = encounter_keys(photos, EncounterRule("camera", 60), "card")
    assert keys[1] == keys[2] == "D500 1@2024-05-01T10:00:00"
    assert keys[3] == "D500 2@2024-05-01T10:05:00"
    assert keys[4] == "a@2024-05-01T10:06:00"


@pytest.mark.parametrize("taken_at", [None, "2024-05-01", "yesterday noon"])
def test_a_photo_without_a_time_of_day_is_in_no_encounter(taken_at: str | None) -> None:
    assert encounter_keys([photo(1, taken_at=taken_at)], HOUR, "card") == {}


def naive(photos: list[TimedPhoto], rule: EncounterRule) -> set[frozenset[int]]:
    """Photos reached from one another over gaps that are short enough, by looking at all pairs again and again."""
    groups = [{one.image_id} for one in photos if one.taken_at is not None]
    by_id = {one.image_id: one for one in photos}

    def near(one: TimedPhoto, other: TimedPhoto) -> bool:
        same = (
            one.camera == other.camera
            if rule.same == "camera" and one.camera and other.camera
            else one.path.rpartition("/")[0] == other.path.rpartition("/")[0]
            and (rule.same == "folder" or (one.camera is None and other.camera is None))
        )
        gap = abs(datetime.fromisoformat(str(one.taken_at)) - datetime.fromisoformat(str(other.taken_at)))
        return same and gap <= timedelta(minutes=rule.within_minutes)

    merged = True
    while merged:
        merged = False
        for group in groups:
            for other in groups:
                if group is not other and any(near(by_id[a], by_id[b]) for a in group for b in other):
                    group |= other
                    groups.remove(other)
                    merged = True
                    break
            if merged:
                break
    return {frozenset(group) for group in groups}


photos_drawn = st.lists(
    st.tuples(
        st.sampled_from(["a/1.jpg", "a/b/1.jpg", "c/1.jpg"]),
        st.none() | st.integers(0, 90),
        st.sampled_from([None, "one", "two"]),
    ),
    max_size=12,
)


@given(photos_drawn, st.sampled_from(["folder", "camera"]), st.integers(0, 20), st.randoms())
def test_encounters_are_those_of_a_naive_search_in_any_order(
    drawn: list[tuple[str, int | None, str | None]], same: str, minutes: int, random: Any
) -> None:
    photos = [photo(n, path, at, camera=camera) for n, (path, at, camera) in enumerate(drawn)]
    rule = EncounterRule(same, minutes)
    keys = encounter_keys(photos, rule, "card")
    found = {frozenset(n for n, key in keys.items() if key == one) for one in keys.values()}
    assert found == naive(photos, rule)
    shuffled = list(photos)
    random.shuffle(shuffled)
    assert encounter_keys(shuffled, rule, "card") == keys
