from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resight.catalogue.sources import values
from resight.catalogue.sources.values import Bad
from resight.types import Box


def why(value: object) -> str:
    assert isinstance(value, Bad)
    return value.why


NOT_KNOWN = "|  |none|None|NA|n/a|NaN|null|____|_|Unknown|unidentified|not known|-|--|?|<NA>|#N/A"


@pytest.mark.parametrize("cell", [None, math.nan, *NOT_KNOWN.split("|")])
def test_spellings_of_not_known_are_none(cell: object) -> None:
    assert values.parse_text(cell) is None
    assert values.parse_number(cell) is None
    assert values.parse_date(cell) is None
    if not isinstance(cell, float):
        assert values.parse_box(cell) is None


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (" Ayo ", "Ayo"),
        ("001", "001"),
        ("unknown_7", "unknown_7"),
        ("No Name", "No Name"),
        (7, "7"),
        (7.0, "7"),
        (7.5, "7.5"),
        ("Zoe\u0308", "Zo\u00eb"),
    ],
)
def test_text(cell: object, text: str) -> None:
    assert values.parse_text(cell) == text


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        (True, "true or false"),
        (["a"], "list"),
        (math.inf, "infinite"),
        (date(2024, 5, 6), "format the cell as text"),
        ("#REF!", "could not compute"),
        ("a\nb", "control character"),
        ("a\x00b", "control character"),
        (b"Zo\xe9".decode("utf-8", "surrogateescape"), "not UTF-8"),
        ("\ud83d", "not UTF-8"),
    ],
)
def test_bad_text(cell: object, part: str) -> None:
    assert part in why(values.parse_text(cell))


@pytest.mark.parametrize(
    ("cell", "number"),
    [(3, 3.0), (2.5, 2.5), (" 2.5 ", 2.5), ("-0.1", -0.1), ("+1e3", 1000.0), (".5", 0.5), ("5.", 5.0)],
)
def test_number(cell: object, number: float) -> None:
    assert values.parse_number(cell) == number


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ("1e400", "too large"),
        (10**400, "too large"),
        (math.inf, "finite"),
        ("inf", "expected a number"),
        ("1,5", "write 1.5"),
        ("1_000", "expected a number"),
        ("١٢", "expected a number"),
        ("0x10", "expected a number"),
        ("ten", "expected a number"),
        (False, "true or false"),
        ([1], "list"),
    ],
)
def test_bad_number(cell: object, part: str) -> None:
    assert part in why(values.parse_number(cell))


def test_theta_is_in_radians() -> None:
    assert values.parse_theta("none") is None
    assert values.parse_theta("-1.5708") == -1.5708
    assert values.parse_theta("6.2832") == 6.2832  # a full turn, rounded up
    assert "degrees" in why(values.parse_theta(90))
    assert "degrees" in why(values.parse_theta("-6.3"))


@pytest.mark.parametrize(
    "cell", [[1, 2, 3, 4], (1, "2", 3.0, 4), "[1, 2, 3, 4]", "(1,2,3,4)", "1, 2, 3, 4", "[1. 2. 3. 4.]"]
)
def test_box(cell: object) -> None:
    assert values.parse_box(cell) == Box(1, 2, 3, 4)


def test_a_box_may_begin_outside_the_image() -> None:
    assert values.parse_box([-5, -2, 30, 40]) == Box(-5, -2, 30, 40)


def test_a_box_of_unknown_numbers_is_unknown() -> None:
    assert values.parse_box("[nan, nan, nan, nan]") is None
    assert values.box_of("", None, "NA", math.nan) is None


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ([1, 2, 0, 4], "zero-area"),
        ([1, 2, 3, 0], "zero-area"),
        ([1, 2, -3, 4], "negative"),
        ([1, 2, 3], "found 3"),
        ([], "found 0"),
        ("[]", "found 0"),
        ("[1, 2, 3, 4, 5]", "found 5"),
        ([1, 2, None, 4], "lacks w"),
        ([1, "left", 3, 4], "y of the box"),
        ([1, 2, math.inf, 4], "w of the box"),
        ("[1, 2, 1e400, 4]", "too large"),
        ([0.1, 0.2, 0.5, 0.5], "fractions"),
        ({"x": 1}, "expected a box"),
        ("__import__('os').getcwd()", "found 1"),
    ],
)
def test_bad_box(cell: object, part: str) -> None:
    assert part in why(values.parse_box(cell))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("2024-05-06", "2024-05-06"),
        ("2024/5/6", "2024-05-06"),
        ("2024.05.06", "2024-05-06"),
        ("20240506", "2024-05-06"),
        ("2024-05-06T07:08:09", "2024-05-06T07:08:09"),
        ("2024-05-06 07:08", "2024-05-06T07:08:00"),
        ("2024:05:06 07:08:09", "2024-05-06T07:08:09"),
        ("2024-05-06T07:08:09.25", "2024-05-06T07:08:09.250000"),
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06 07:08:09 +0300", "2024-05-06T07:08:09+03:00"),
        ("2024-05-06T07:08:09-03:30", "2024-05-06T07:08:09-03:30"),
        ("2024-02-29", "2024-02-29"),
        (date(2024, 5, 6), "2024-05-06"),
        (datetime(2024, 5, 6), "2024-05-06"),
        (datetime(2024, 5, 6, 7, 8, 9), "2024-05-06T07:08:09"),
    ],
)
def test_date(cell: object, text: str) -> None:
    assert values.parse_date(cell) == text


@pytest.mark.parametrize("cell", ["NA", "NaT", "0000:00:00 00:00:00", "0000-00-00"])
def test_unknown_date(cell: str) -> None:
    assert values.parse_date(cell) is None


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ("03/04/2024", "cannot be told apart"),
        ("3.4.24", "cannot be told apart"),
        ("13/04/2024 10:00", "cannot be told apart"),
        ("2024-13-45", "no such date"),
        ("2023-02-29", "no such date"),
        ("2024-05-06T25:00:00", "no such date"),
        ("2024-05-06T07:08:09+99:00", "no such date"),
        ("06052024", "no such date"),
        ("1715000000", "bare number"),
        ("2024", "bare number"),
        (1715000000, "bare number"),
        ("0204-05-06", "year 204"),
        ("2024-05", "no date"),
        ("2024-05/06", "no date"),
        ("yesterday", "YYYY-MM-DD"),
    ],
)
def test_bad_date(cell: object, part: str) -> None:
    assert part in why(values.parse_date(cell))


def test_degrees() -> None:
    assert values.parse_latitude("-90") == -90
    assert values.parse_longitude(180) == 180
    assert why(values.parse_latitude("91")) == "latitude 91 is not between -90 and 90"
    assert why(values.parse_longitude(-180.5)) == "longitude -180.5 is not between -180 and 180"
    assert "south and west negative" in why(values.parse_latitude("12.5 S"))


def test_position_is_both_or_none() -> None:
    assert values.settle_position(-1.25, 36.5) == (-1.25, 36.5, None)
    assert values.settle_position(0.0, 36.5) == (0.0, 36.5, None)
    assert values.settle_position(None, None) == (None, None, None)
    for latitude, longitude in ((0.0, 0.0), (4.0, None), (None, 4.0)):
        assert values.settle_position(latitude, longitude)[:2] == (None, None)
        assert values.settle_position(latitude, longitude)[2] is not None


def test_minus_one_is_a_place_outside_the_wild_me_flavour() -> None:
    assert values.settle_position(-1.0, -1.0) == (-1.0, -1.0, None)
    assert values.settle_position(-1.0, -1.0, minus_one_is_unknown=True)[:2] == (None, None)
    assert values.settle_position(-1.0, 30.0, minus_one_is_unknown=True) == (-1.0, 30.0, None)


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("./a//b.jpg", "a/b.jpg"),
        ("a/../b.jpg", "b.jpg"),
        ("é x.jpg", "é x.jpg"),
        ("..b/c..jpg", "..b/c..jpg"),
        (12, "12"),
    ],
)
def test_file_name(cell: object, name: str) -> None:
    assert values.parse_file_name(cell) == name


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ("../x.jpg", "climbs out"),
        ("a/../../x.jpg", "climbs out"),
        ("..\\x.jpg", "climbs out"),
        ("a/..", "a folder"),
        ("a/", "a folder"),
        (".", "a folder"),
        ("/etc/passwd", "absolute"),
        ("\\\\server\\x.jpg", "absolute"),
        ("C:\\x.jpg", "absolute"),
        ("c:x.jpg", "absolute"),
        ("https://example.org/x.jpg", "web address"),
        ("file:/x.jpg", "web address"),
        ("", "no file name"),
        (None, "no file name"),
        ("  ", "no file name"),
        ("a\0b.jpg", "control character"),
        (b"\xff.jpg".decode("utf-8", "surrogateescape"), "not UTF-8"),
        (["a.jpg"], "list"),
    ],
)
def test_bad_file_name(cell: object, part: str) -> None:
    assert part in why(values.parse_file_name(cell))


def test_show_is_one_printable_line() -> None:
    assert values.show(b"Zo\xe9".decode("utf-8", "surrogateescape")) == "Zo\\xe9"
    assert values.show("\ud83d") == "\\ud83d"
    assert values.show("a\nb") == "a\\nb"
    assert values.show([1, 2, "x"]) == "[1, 2, x]"
    assert values.show(None) == ""
    assert len(values.show("x" * 500)) == 80


PARSERS: list[Callable[[object], object]] = [
    values.parse_text,
    values.parse_number,
    values.parse_pixels,
    values.parse_theta,
    values.parse_box,
    values.parse_date,
    values.parse_latitude,
    values.parse_longitude,
    values.parse_file_name,
    values.check_encoding,
]
ANY_TEXT = st.text(st.characters(exclude_categories=()))
NUMBERISH = st.text("0123456789+-.,:/eETZ[]() ", max_size=30)
ANY_CELL = st.one_of(
    ANY_TEXT,
    NUMBERISH,
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.datetimes(),
    st.lists(st.one_of(st.floats(), st.integers(), ANY_TEXT, st.none()), max_size=5),
)


@settings(deadline=None)
@given(ANY_CELL)
@example("9" * 5000)
@example("[" * 50)
@example("2024-05-06T07:08:09+99")
def test_no_parser_raises_and_none_gives_what_cannot_be_stored(cell: object) -> None:
    for parse in PARSERS:
        value = parse(cell)
        if isinstance(value, str) and parse is not values.check_encoding:
            value.encode("utf-8")
            assert value
            assert "\0" not in value
        if isinstance(value, float):
            assert math.isfinite(value)
    shown = values.show(cell)
    assert shown.isprintable()
    shown.encode("utf-8")


@settings(deadline=None)
@given(ANY_TEXT)
def test_a_file_name_never_leaves_the_folder(cell: str) -> None:
    name = values.parse_file_name(cell)
    if not isinstance(name, Bad):
        parts = name.split("/")
        assert ".." not in parts
        assert "" not in parts
        assert values.parse_file_name(name) == name


@settings(deadline=None)
@given(st.datetimes(datetime(1800, 1, 1), datetime(2199, 12, 31)))
def test_dates_come_back(moment: datetime) -> None:
    assert values.parse_date(moment.isoformat()) == moment.isoformat()
    assert values.parse_date(f"{moment:%Y:%m:%d %H:%M:%S}") == moment.replace(microsecond=0).isoformat()
    assert values.parse_date(moment.date().isoformat()) == moment.date().isoformat()


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back(number: float) -> None:
    assert values.parse_number(repr(number)) == number


FINITE = st.floats(-1e6, 1e6)
SIDE = st.floats(1, 1e6)


@settings(deadline=None)
@given(FINITE, FINITE, SIDE, SIDE)
def test_boxes_come_back(x: float, y: float, w: float, h: float) -> None:
    assert values.parse_box(str([x, y, w, h])) == Box(x, y, w, h)
    assert values.parse_box([x, y, w, h]) == Box(x, y, w, h)
