"""What the file of a picture tells without its pixels: metadata, and whether its end is missing."""

from __future__ import annotations

import io
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from PIL import ExifTags, Image

FIRST_PLAUSIBLE_DAY = "1990-01-01"
"""Before it no camera wrote EXIF: a clock that was never set starts at 1970-01-01 or 1980-01-01."""

_LATE_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""What a PNG with metadata behind its pixels has somewhere; to find it Pillow decodes them all."""
_MAX_CAMERA = 120  # characters of a camera's name

BROKEN_FILE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises on files that are broken in one way or another."""


def is_cut_short(content: bytes) -> bool:
    """Whether the end of a picture's file is missing, as after a copy that was broken off; nothing is decoded.

    It is told from what the format says of its own length: a JPEG's or PNG's end mark, the lengths in a HEIC, WebP,
    BMP or TIFF. A few whole files are suspected as well (some programs leave the end mark out), so decode a suspect
    before it is given up. What is broken in the middle is not noticed.
    """
    try:
        if content.startswith(b"\xff\xd8"):
            return _lacks_jpeg_end(content)
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return _lacks_png_end(content)
        if content.startswith(b"RIFF"):
            return len(content) < 8 + int.from_bytes(content[4:8], "little")
        if content[4:8] == b"ftyp":
            return _lacks_boxes(content)
        if content.startswith(b"GIF8"):
            return not content.rstrip(b"\0").endswith(b";")
        if content.startswith(b"BM"):
            return len(content) < int.from_bytes(content[2:6], "little")
        if content.startswith((b"II*\0", b"MM\0*")):
            return _lacks_tiff_data(content)
    except BROKEN_FILE:
        return True  # the lengths themselves are missing
    return False


def plausible_time(taken_at: str, *, now: datetime | None = None) -> bool:
    """Whether a camera's clock was set: its date is neither before :data:`FIRST_PLAUSIBLE_DAY` nor after tomorrow.

    Args:
        taken_at: ISO 8601, a date or a date and a time.
        now: In place of the moment it is.
    """
    return taken_at[:10] >= FIRST_PLAUSIBLE_DAY and not is_to_come(taken_at, now=now)


def is_to_come(taken_at: str, *, now: datetime | None = None) -> bool:
    """Whether a date is after tomorrow; a day is allowed, for the place may be in a time zone ahead of this machine's.

    Args:
        taken_at: ISO 8601, a date or a date and a time.
        now: In place of the moment it is.
    """
    return taken_at[:10] > ((now or datetime.now()) + timedelta(days=1)).date().isoformat()


def exif_of(picture: Image.Image, content: bytes) -> Image.Exif:
    """The metadata of a picture that was opened from ``content``; empty where there is none, or none that can be read.

    Of a PNG the pixels are decoded where metadata stands behind them.
    """
    if picture.format == "PNG" and not any(mark in content for mark in _LATE_EXIF):
        return Image.Exif()
    try:
        with quiet:
            return picture.getexif()
    except BROKEN_FILE:
        return Image.Exif()  # broken metadata does not make a broken picture


def _details(exif: Image.Exif, directory: int) -> Mapping[int, Any]:
    try:
        with quiet:
            return exif.get_ifd(directory)
    except BROKEN_FILE:
        return {}


def stated(exif: Image.Exif, tag: int) -> Any:
    """The value of a tag of the first directory, or ``None``."""
    try:
        with quiet:
            return exif.get(tag)
    except BROKEN_FILE:
        return None


def taken_at(exif: Image.Exif) -> str | None:
    """When the picture was taken, ISO 8601 as the camera's clock had it, plausible or not; or ``None``."""
    details = _details(exif, ExifTags.IFD.Exif)
    text = details.get(ExifTags.Base.DateTimeOriginal) or stated(exif, ExifTags.Base.DateTime)
    if not isinstance(text, str):
        return None
    try:
        taken = datetime.strptime(text[:19].replace("-", ":").replace("T", " "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return taken.isoformat()


def position(exif: Image.Exif) -> tuple[float | None, float | None]:
    """Degrees north and east as they are told, 0 N 0 E among them; both ``None`` where either cannot be used."""
    gps = _details(exif, ExifTags.IFD.GPSInfo)

    def degrees(value_tag: int, reference_tag: int, signs: Mapping[str, int], limit: float) -> float | None:
        try:
            parts = [float(part) for part in gps[value_tag]]
            # Without its reference, north or south is not known, and half of the world is a bad guess.
            sign = signs[str(gps[reference_tag]).strip("\0 ").upper()[:1]]
            value = sign * (parts[0] + parts[1] / 60 + parts[2] / 3600)
        except (LookupError, TypeError, ValueError, ArithmeticError):
            return None
        return value if math.isfinite(value) and abs(value) <= limit else None

    latitude = degrees(ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, {"N": 1, "S": -1}, 90)
    longitude = degrees(ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, {"E": 1, "W": -1}, 180)
    return (None, None) if latitude is None or longitude is None else (latitude, longitude)


def camera(exif: Image.Exif) -> str | None:
    """Make, model and serial number on one line, the make not twice: ``NIKON D500 3051``."""
    make, model = (_plain(stated(exif, tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    serial = _plain(_details(exif, ExifTags.IFD.Exif).get(ExifTags.Base.BodySerialNumber))
    if make and model.casefold().startswith(make.split()[0].casefold()):
        make = ""
    if not serial.strip("0"):
        serial = ""  # a camera that has none may write zeros
    return " ".join(part for part in (make, model, serial) if part)[:_MAX_CAMERA].strip() or None


def _plain(value: Any) -> str:
    """Text as a camera wrote it, without what pads it and on one line."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else "" if value is None else str(value)
    # What stands behind the first NUL is not meant to be read.
    printable = "".join(letter if letter.isprintable() else " " for letter in text.split("\0", 1)[0])
    return " ".join(printable.split())


def _lacks_jpeg_end(content: bytes) -> bool:
    """Whether the pixels of a JPEG are not followed by an end mark; one in the preview within its EXIF is not it."""
    at = 2
    while content[at + 1] != 0xDA:  # up to the start of the pixels
        if content[at] != 0xFF:
            return True
        if content[at + 1] == 0xFF:  # padding before a marker
            at += 1
            continue
        has_length = not (content[at + 1] == 0x01 or 0xD0 <= content[at + 1] <= 0xD8)
        at += 2 + (int.from_bytes(content[at + 2 : at + 4], "big") if has_length else 0)
    return content.rfind(b"\xff\xd9", at) < 0


def _lacks_png_end(content: bytes) -> bool:
    at = 8
    while content[at + 4 : at + 8] != b"IEND":
        if at + 12 > len(content):
            return True
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return at + 12 > len(content)


def _lacks_boxes(content: bytes) -> bool:
    """Whether the boxes of a HEIC (ISO 14496-12) reach beyond its end."""
    at = 0
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(content[at + 8 : at + 16], "big")
        elif length == 0:  # to the end of the file
            return False
        at += max(length, 8)
    return at > len(content)


def _lacks_tiff_data(content: bytes) -> bool:
    with quiet:
        tags = getattr(Image.open(io.BytesIO(content), formats=("TIFF",)), "tag_v2", {})
    for starts, lengths in ((273, 279), (324, 325)):  # of its strips, or tiles
        places = zip(_numbers(tags.get(starts)), _numbers(tags.get(lengths)), strict=False)
        if any(start + length > len(content) for start, length in places):
            return True
    return False


def _numbers(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else () if value is None else (int(value),)


class _Quiet:
    """Silences warnings while any thread is inside: Pillow warns of odd metadata in files that decode well.

    Threads that enter and leave ``warnings.catch_warnings`` at the same time would leave the filters silenced for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(kind, error, trace)


quiet = _Quiet()
