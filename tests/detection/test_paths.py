from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.detection.paths import Place, match_files

A, B = 1, 2


def matched(files: list[str], *paths: str) -> tuple[dict[str, int], set[str]]:
    """Which photos, numbered from 1, and the files that are none."""
    found = match_files(files, {number: Place(path) for number, path in enumerate(paths, start=1)})
    return dict(found.image_of), set(found.unmatched)


def test_the_path_below_the_root_comes_first() -> None:
    assert matched(["IMG_1.JPG"], "IMG_1.JPG", "A/IMG_1.JPG") == ({"IMG_1.JPG": A}, set())


@pytest.mark.parametrize(
    "file",
    [
        "A/1.jpg",
        "./A/1.jpg",
        "/mnt/cards/A/1.jpg",
        "E:\\cards\\A\\1.jpg",
        "E:/A/1.jpg",
        "cards\\A/1.jpg",
        "//nas/A/1.jpg",
    ],
)
def test_other_prefixes_and_backslashes_are_seen_through(file: str) -> None:
    assert matched([file], "A/1.jpg", "B/1.jpg") == ({file: A}, set())


def test_a_file_of_a_deeper_folder_is_the_only_photo_that_ends_so() -> None:
    assert matched(["100CANON/1.jpg"], "DCIM/100CANON/1.jpg", "DCIM/101CANON/1.jpg") == ({"100CANON/1.jpg": A}, set())


def test_the_longest_end_wins() -> None:
    assert matched(["x/A/B/1.jpg"], "1.jpg", "A/B/1.jpg", "B/1.jpg") == ({"x/A/B/1.jpg": 2}, set())


def test_the_same_name_in_another_folder_is_another_photo() -> None:
    assert matched(["C/1.jpg"], "A/1.jpg") == ({}, {"C/1.jpg"})
    assert matched(["E:/x/B/DCIM/1.jpg"], "A/DCIM/1.jpg") == ({}, {"E:/x/B/DCIM/1.jpg"})
    assert matched(["11.jpg", "A1.jpg"], "1.jpg") == ({}, {"11.jpg", "A1.jpg"})


def test_what_fits_several_photos_is_none_of_them_and_says_so() -> None:
    found = match_files(["1.jpg"], {A: Place("A/1.jpg", "/cards/A/1.jpg"), B: Place("B/1.jpg", "/cards/B/1.jpg")})
    assert found.image_of == {}
    assert found.unmatched == {"1.jpg": "several photos fit equally well: /cards/A/1.jpg, /cards/B/1.jpg"}


def test_cards_that_are_roots_of_their_own_are_told_apart_by_the_names_of_the_roots() -> None:
    places = {A: Place("DCIM/1.jpg", "/media/CARD_A/DCIM/1.jpg"), B: Place("DCIM/1.jpg", "/media/CARD_B/DCIM/1.jpg")}
    assert match_files(["CARD_B/DCIM/1.jpg"], places).image_of == {"CARD_B/DCIM/1.jpg": B}
    assert match_files(["DCIM/1.jpg"], places).image_of == {}
    assert match_files(["E:/DCIM/1.jpg"], places).image_of == {}


def test_two_files_of_one_photo_are_neither_unless_one_fits_better() -> None:
    assert matched(["x/1.jpg", "y/1.jpg"], "1.jpg") == ({}, {"x/1.jpg", "y/1.jpg"})
    assert matched(["1.jpg", "y/1.jpg"], "1.jpg") == ({"1.jpg": A}, {"y/1.jpg"})
    found = match_files(["x/1.jpg", "y/1.jpg"], {A: Place("1.jpg")})
    assert found.unmatched["x/1.jpg"] == "its photo 1.jpg is also that of y/1.jpg"


def test_composed_and_decomposed_letters_are_the_same() -> None:
    composed, decomposed = (unicodedata.normalize(form, "été/1.jpg") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert matched([composed], decomposed)[0] == {composed: A}


def test_nothing_fits_nothing() -> None:
    assert matched(["", "/", "C:"], "1.jpg") == ({}, {"", "/", "C:"})
    assert matched([], "1.jpg") == ({}, set())
    assert matched(["1.jpg"]) == ({}, {"1.jpg"})


paths = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join)


@given(st.lists(paths, unique=True, max_size=5), st.lists(paths, unique=True, max_size=5))
def test_every_file_is_matched_or_listed_and_no_photo_twice(files: list[str], photos: list[str]) -> None:
    found, unmatched = matched(files, *photos)
    assert set(found) | unmatched == set(files)
    assert not set(found) & unmatched
    assert len(set(found.values())) == len(found)
    for file, image_id in found.items():
        photo = photos[image_id - 1]
        assert f"/{file}".endswith(f"/{photo}") or f"/{photo}".endswith(f"/{file}")
        if file in photos:
            assert photo == file
    for file in set(files) & set(photos):
        assert file in found


def test_thousands_of_videos_whose_frames_bear_one_name_are_matched_at_once() -> None:
    """Each file is looked up, not held against every photo of its name: that would take minutes."""
    places = {n: Place(f"{n:016x}/00000.000.jpg", f"/data/frames/{n:016x}/00000.000.jpg") for n in range(20_000)}
    started = time.perf_counter()
    found = match_files([f"E:/frames/{n:016x}/00000.000.jpg" for n in places], places)
    assert time.perf_counter() - started < 20
    assert found.image_of == {f"E:/frames/{n:016x}/00000.000.jpg": n for n in places}
    assert found.unmatched == {}
