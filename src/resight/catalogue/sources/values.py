"""Reading one cell: each function gives a value, ``None`` where it is not known, or ``Bad`` with the reason.

A cell comes from a text table, a spreadsheet or JSON, so it may be text, a number, a date, a list or nothing. No
function raises. Text from files is decoded with ``surrogateescape``: bytes that are no UTF-8 stand in it as lone
surrogates, and are refused here, cell by cell.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone

from resight.types import Box

# What the notes of every format say of cells that are left out without refusing their row.
NO_QUALITY = "quality that is no number left out"
NO_SIZE = "image width or height that is no whole number above 0 left out"

UNKNOWN_SPELLINGS = frozenset(
    {"none", "na", "n/a", "nan", "null", "unknown", "unidentified", "not known", "<na>", "#n/a"}
)
_LONGEST_UNKNOWN = max(map(len, UNKNOWN_SPELLINGS))
_UNKNOWN_MARKS = "_-?"
_SHEET_ERRORS = frozenset({"#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"})

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"([+-]?[0-9]+),([0-9]+)")
_FULL_TURN_RAD = 2 * math.pi + 0.001  # a full turn written with three or more decimals may lie a little over 2π
_LARGEST_SIDE_PX = 2**31 - 1

_DATE = re.compile(
    r"([0-9]{4})([-/.:])([0-9]{1,2})\2([0-9]{1,2})"
    r"(?:[Tt ] *(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    r" *(?P<offset>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_COMPACT_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_ZERO_DATE = re.compile(r"0000[-/.:]00[-/.:]00(?:[T ].*)?")
_DAY_AND_MONTH_FIRST = re.compile(r"[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ][0-9]{2,4}(?:[^0-9].*)?")
_DATE_WANTED = "expected YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS"
_EARLIEST_YEAR = 1800
_LATEST_YEAR = 2199

_DRIVE = re.compile(r"[A-Za-z]:")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_LONGEST_PART_BYTES = 255  # of a path; file systems store no longer name

_NOT_UTF8 = "not UTF-8: save the file as UTF-8"
_SHOWN_LENGTH = 80
_SHOWN_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Bad:
    """A cell that cannot be used.

    Attributes:
        why: What is wrong with it and what was expected.
    """

    why: str


def show(cell: object) -> str:
    """A cell as one printable line of at most 80 characters; a byte that is no UTF-8 as ``\\xe9``."""
    text = _flat(cell, 0)[: _SHOWN_LENGTH + 1]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else _escaped(character) for character in text)
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"


def _flat(cell: object, depth: int) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, (list, tuple, dict)):
        if depth == _SHOWN_DEPTH:
            return "…"
        if isinstance(cell, dict):
            pairs = list(cell.items())[:_SHOWN_LENGTH]
            return "{" + ", ".join(f"{key}: {_flat(value, depth + 1)}" for key, value in pairs) + "}"
        return "[" + ", ".join(_flat(item, depth + 1) for item in cell[:_SHOWN_LENGTH]) + "]"
    if isinstance(cell, int):
        return _digits(cell)
    return str(cell)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of thousands of digits"


def _kind(cell: object) -> str:
    if isinstance(cell, bool):
        return "true or false"
    if isinstance(cell, (list, tuple)):
        return "a list"
    if isinstance(cell, dict):
        return "an object"
    if isinstance(cell, (date, time, timedelta)):
        return "a date or time; format the cell as text and write it again"
    return "an infinite number" if isinstance(cell, float) else type(cell).__name__


def is_unknown(text: str) -> bool:
    """Whether a text says that something is not known; an empty one does."""
    text = text.strip()
    return not text.strip(_UNKNOWN_MARKS) or (len(text) <= _LONGEST_UNKNOWN and text.casefold() in UNKNOWN_SPELLINGS)


def _wrong_characters(text: str) -> Bad | None:
    if text.isprintable():
        return None
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            return Bad(_NOT_UTF8)
        if category in ("Cc", "Zl", "Zp"):
            return Bad(f"the control character {_escaped(character)} stands in it; remove it")
    return None


def check_encoding(cell: object) -> str | Bad:
    """A cell that is not used: it must be UTF-8 without a zero byte, and is otherwise taken as it is."""
    text = cell if isinstance(cell, str) else show(cell)
    if "\0" in text:
        return Bad("the control character \\x00 stands in it; remove it")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return Bad(_NOT_UTF8)
    return text


def parse_text(cell: object) -> str | Bad | None:
    """A name or a word, without blanks around it, in Unicode's composed form (NFC).

    A whole number of a spreadsheet, such as 7.0, is ``7``.
    """
    if isinstance(cell, str):
        text = cell.strip()
        if is_unknown(text):
            return None
        if text in _SHEET_ERRORS:
            return Bad("the spreadsheet could not compute this cell; write the value itself")
        return _wrong_characters(text) or (text if text.isascii() else unicodedata.normalize("NFC", text))
    if cell is None:
        return None
    if isinstance(cell, int) and not isinstance(cell, bool):
        return _digits(cell)
    if isinstance(cell, float) and not math.isinf(cell):
        if math.isnan(cell):
            return None
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    return Bad(f"expected text, found {_kind(cell)}")


def parse_number(cell: object) -> float | Bad | None:
    """A finite number, with a decimal point."""
    if cell is None:
        return None
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        try:
            number = float(cell)
        except OverflowError:
            return Bad("too large for a number")
        if math.isfinite(number):
            return number
        return None if math.isnan(number) else Bad("expected a finite number")
    if isinstance(cell, str):
        return _number_of_text(cell.strip())
    return Bad(f"expected a number, found {_kind(cell)}")


def _number_of_text(text: str) -> float | Bad | None:
    if _NUMBER.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else Bad("too large for a number")
    if is_unknown(text):
        return None
    if comma := _DECIMAL_COMMA.fullmatch(text):
        return Bad(f"expected a number with a decimal point: write {show(comma[1] + '.' + comma[2])}")
    return _wrong_characters(text) or Bad("expected a number")


def parse_pixels(cell: object) -> int | Bad | None:
    """The width or height of a picture: a whole number above 0."""
    number = parse_number(cell)
    if number is None or isinstance(number, Bad):
        return number
    if not number.is_integer() or not 0 < number <= _LARGEST_SIDE_PX:
        return Bad("expected a whole number above 0")
    return int(number)


def parse_theta(cell: object) -> float | Bad | None:
    """An angle in radians, at most a full turn either way."""
    number = parse_number(cell)
    if isinstance(number, float) and abs(number) > _FULL_TURN_RAD:
        return Bad(f"{number:g} is more than a full turn: degrees? expected radians, from -6.2832 to 6.2832")
    return number


def parse_box(cell: object) -> Box | Bad | None:
    """A box ``x, y, w, h`` in pixels: a list, or the text of one, with or without brackets; never evaluated."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    numbers: list[object]
    if isinstance(cell, str):
        text = cell.strip()
        if is_unknown(text):
            return None
        if text[0] + text[-1] in ("[]", "()"):
            text = text[1:-1].strip()
        numbers = [*(text.split(",") if "," in text else text.split())]
    elif isinstance(cell, (list, tuple)):
        numbers = list(cell)
    else:
        return Bad(f"expected a box [x, y, w, h], found {_kind(cell)}")
    if len(numbers) != 4:
        return Bad(f"expected four numbers x, y, w, h, found {len(numbers)}")
    return box_of(*numbers)


def box_of(x: object, y: object, w: object, h: object) -> Box | Bad | None:
    """A box of four cells, in pixels; ``None`` where none of the four is known."""
    numbers: list[float] = []
    lacking: list[str] = []
    for name, cell in (("x", x), ("y", y), ("w", w), ("h", h)):
        number = parse_number(cell)
        if isinstance(number, Bad):
            return Bad(f"{name} of the box: {number.why}")
        if number is None:
            lacking.append(name)
        else:
            numbers.append(number)
    if lacking:
        return None if len(lacking) == 4 else Bad(f"the box lacks {', '.join(lacking)}; expected x, y, w, h")
    box = Box(*numbers)
    if box.w < 0 or box.h < 0:
        return Bad("negative width or height; expected x, y, w, h with w and h above 0")
    if box.w == 0 or box.h == 0:
        return Bad("zero-area box; expected x, y, w, h with w and h above 0")
    if box.w < 1 and box.h < 1:
        return Bad("the box is smaller than a pixel: fractions? expected pixels")
    return box


def parse_date(cell: object) -> str | Bad | None:
    """A day, or a day and a time, as ISO 8601; the first ten characters are always the day.

    A spreadsheet writes a plain day as midnight, so a midnight of a spreadsheet is a plain day. An offset from UTC
    is kept as it stands, ``Z`` as ``+00:00``.
    """
    if isinstance(cell, datetime):
        is_day = cell.tzinfo is None and cell.time() == time()
        return _in_range((cell.date() if is_day else cell).isoformat(), cell.year)
    if isinstance(cell, date):
        return _in_range(cell.isoformat(), cell.year)
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return Bad(f"a bare number is no date; {_DATE_WANTED}")
    if not isinstance(cell, str):
        return Bad(f"expected a date, found {_kind(cell)}")
    text = cell.strip()
    if is_unknown(text) or text.casefold() == "nat" or _ZERO_DATE.fullmatch(text):
        return None
    if found := _DATE.fullmatch(text):
        return _iso(int(found[1]), int(found[3]), int(found[4]), found if found["hour"] else None)
    if found := _COMPACT_DATE.fullmatch(text):
        return _iso(int(found[1]), int(found[2]), int(found[3]), None)
    if _DAY_AND_MONTH_FIRST.fullmatch(text):
        return Bad("day and month cannot be told apart; write YYYY-MM-DD")
    if _NUMBER.fullmatch(text):
        return Bad(f"a bare number is no date; {_DATE_WANTED}")
    return _wrong_characters(text) or Bad(f"no date; {_DATE_WANTED}")


def _iso(year: int, month: int, day: int, clock: re.Match[str] | None) -> str | Bad:
    try:
        if clock is None:
            return _in_range(date(year, month, day).isoformat(), year)
        microsecond = int((clock["fraction"] or "0").ljust(6, "0")[:6])
        hour, minute, second = int(clock["hour"]), int(clock["minute"]), int(clock["second"] or 0)
        moment = datetime(year, month, day, hour, minute, second, microsecond, _offset(clock["offset"]))
    except ValueError:
        return Bad(f"no such date or time; {_DATE_WANTED}")
    return _in_range(moment.isoformat(), year)


def _offset(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text in "Zz":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _in_range(text: str, year: int) -> str | Bad:
    if _EARLIEST_YEAR <= year <= _LATEST_YEAR:
        return text
    return Bad(f"year {year} is not between {_EARLIEST_YEAR} and {_LATEST_YEAR}; {_DATE_WANTED}")


def parse_latitude(cell: object) -> float | Bad | None:
    """Degrees north, from -90 to 90."""
    return _degrees(cell, "latitude", 90)


def parse_longitude(cell: object) -> float | Bad | None:
    """Degrees east, from -180 to 180."""
    return _degrees(cell, "longitude", 180)


def _degrees(cell: object, name: str, limit: int) -> float | Bad | None:
    number = parse_number(cell)
    if isinstance(number, Bad):
        return Bad(f"{number.why}; a {name} is in decimal degrees, south and west negative")
    if number is not None and abs(number) > limit:
        return Bad(f"{name} {number:g} is not between {-limit} and {limit}")
    return number


def settle_position(
    latitude: float | None, longitude: float | None, *, minus_one_is_unknown: bool = False
) -> tuple[float | None, float | None, str | None]:
    """Both coordinates or none.

    A blank position is often written as 0, 0, a place in the sea; Wild Me's software writes -1, -1.

    Args:
        latitude: Degrees north.
        longitude: Degrees east.
        minus_one_is_unknown: Whether -1, -1 stands for a position that is not known.

    Returns:
        Latitude, longitude, and a line for the notes where they are taken as not known.
    """
    if latitude is None and longitude is None:
        return None, None, None
    if latitude is None or longitude is None:
        return None, None, "only one of latitude and longitude: position taken as not known"
    if latitude == longitude == 0 or (minus_one_is_unknown and latitude == longitude == -1):
        return None, None, f"latitude {latitude:g}, longitude {longitude:g}: position taken as not known"
    return latitude, longitude, None


def parse_file_name(cell: object) -> str | Bad:
    """The path of a picture below its folder, with ``/`` between its parts; one that leads out of it is refused."""
    text = cell.strip() if isinstance(cell, str) else parse_text(cell)
    if isinstance(text, Bad):
        return text
    if not text:
        return Bad("no file name")
    if wrong := _wrong_characters(text):
        return wrong
    text = text.replace("\\", "/")
    if text.startswith("/"):
        return Bad("an absolute path; expected a path below the folder of images")
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            if not parts:
                return Bad("the path climbs out of the folder of images")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if part in ("", ".", ".."):
        return Bad("a folder; expected a file")
    return _checked_path("/".join(parts))


def _checked_path(path: str) -> str | Bad:
    if _DRIVE.match(path):
        return Bad("an absolute path; expected a path below the folder of images")
    if _URL.match(path):
        return Bad("a web address; expected a path below the folder of images")
    if is_unknown(path):
        return Bad("no file name")
    if path != path.strip():
        return Bad("the path begins or ends with a blank; rename the file")
    if (
        len(path) * 4 > _LONGEST_PART_BYTES
        and max(len(part.encode()) for part in path.split("/")) > _LONGEST_PART_BYTES
    ):
        return Bad(f"a part of the path is longer than {_LONGEST_PART_BYTES} bytes")
    return path
