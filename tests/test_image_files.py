from __future__ import annotations

import io
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pillow_heif
import pytest
from PIL import ExifTags, Image

from resight.errors import ImageUnreadable
from resight.image_files import is_cut_short, is_to_come, plausible_time
from resight.images import cut_chip, inspect, read_facts

from .made_up import BLUE, GREEN, RED, STORED_AS, YELLOW, encoded, noise, quarters

pillow_heif.register_heif_opener()


def exif(
    make: Any = None, model: Any = None, serial: Any = None, taken: str | None = None, gps: dict[int, Any] | None = None
) -> Image.Exif:
    made = Image.Exif()
    for tag, value in ((ExifTags.Base.Make, make), (ExifTags.Base.Model, model)):
        if value is not None:
            made[tag] = value
    details = made.get_ifd(ExifTags.IFD.Exif)
    for tag, value in ((ExifTags.Base.BodySerialNumber, serial), (ExifTags.Base.DateTimeOriginal, taken)):
        if value is not None:
            details[tag] = value
    if gps is not None:
        made.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    return made


def place(north: float, east: float) -> dict[int, Any]:
    return {1: "N", 2: (north, 0.0, 0.0), 3: "E", 4: (east, 0.0, 0.0)}


def heic(picture: Image.Image, **settings: Any) -> bytes:
    return encoded(picture, "HEIF", quality=95, **settings)


# HEIC


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_turned_once(orientation: int) -> None:
    # Given bytes, the encoder writes the turn both as the format's own and as EXIF, as phones do.
    turn = Image.Exif()
    turn[ExifTags.Base.Orientation] = orientation
    upright = quarters(64, 32)
    turned = upright if orientation == 1 else upright.transpose(STORED_AS[orientation])
    content = heic(turned, exif=turn.tobytes())
    facts = inspect(content, "x")
    assert read_facts(content, "x") == facts
    assert (facts.width, facts.height) == (64, 32)
    chip = cut_chip(content, "x", None, 0, 32).astype(int)
    found = [tuple(255 * (int(c) > 127) for c in chip[y, x]) for y in (8, 24) for x in (8, 24)]
    assert found == [RED, GREEN, BLUE, YELLOW]


def test_a_heic_tells_time_place_and_camera() -> None:
    told = exif("Apple", "iPhone 15", None, "2024:05:01 10:00:00", place(10, 20))
    facts = read_facts(heic(quarters(64, 32), exif=told), "x")
    assert (facts.taken_at, facts.latitude, facts.longitude) == ("2024-05-01T10:00:00", 10, 20)
    assert facts.camera == "Apple iPhone 15"


def test_the_exif_of_a_heic_does_not_turn_it_where_the_format_does_not() -> None:
    turn = Image.Exif()
    turn[ExifTags.Base.Orientation] = 6
    content = encoded(quarters(64, 32), "HEIF", exif=turn)  # an Exif object is stored without the format's own turn
    assert (inspect(content, "x").width, inspect(content, "x").height) == (64, 32)


def test_grey_and_sixteen_bit_heics_become_chips() -> None:
    grey = Image.new("L", (64, 32))
    grey.paste(255, (32, 0, 64, 32))
    ramp = Image.frombytes("I;16", (64, 32), struct.pack("<64H", *(1000 * x for x in range(64))) * 32)
    for picture in (grey, ramp):
        chip = cut_chip(heic(picture), "x", None, 0, 16)
        assert chip.shape == (16, 16, 3)
        assert chip[8, 1].max() < 60
        assert chip[8, 14].min() > 190


def test_broken_heics_are_refused_not_fatal() -> None:
    content = heic(noise(0, 64, 48))
    for broken in (content[:40], content[:-1], content[: len(content) // 2], content[:12] + b"\0" * 500):
        with pytest.raises(ImageUnreadable):
            inspect(broken, "x")


# Cut short


WHOLE = {
    "jpeg": encoded(noise(1, 64, 48), "JPEG", quality=95),
    "progressive": encoded(noise(1, 64, 48), "JPEG", quality=95, progressive=True),
    "two pictures": encoded(noise(1, 64, 48), "MPO", save_all=True, append_images=[noise(2, 64, 48)]),
    "png": encoded(noise(1, 64, 48), "PNG"),
    "tiff": encoded(noise(1, 64, 48), "TIFF"),
    "tiles": encoded(noise(1, 64, 48), "TIFF", compression="tiff_lzw"),
    "webp": encoded(noise(1, 64, 48), "WEBP"),
    "gif": encoded(noise(1, 64, 48), "GIF"),
    "bmp": encoded(noise(1, 64, 48), "BMP"),
    "heic": heic(noise(1, 64, 48)),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_files_are_not_called_cut_short(kind: str) -> None:
    assert not is_cut_short(WHOLE[kind])


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("left", [0.02, 0.3, 0.49, 0.9, 0.999])
def test_every_cut_is_noticed_without_decoding(kind: str, left: float) -> None:
    cut = WHOLE[kind][: int(len(WHOLE[kind]) * left)]
    noticed = is_cut_short(cut) or is_refused(read_facts, cut)
    assert noticed or (kind == "two pictures" and left >= 0.9)  # the first of the two is whole there
    assert noticed or not is_refused(inspect, cut)


def is_refused(read: Callable[[bytes, str], object], content: bytes) -> bool:
    try:
        read(content, "x")
    except ImageUnreadable:
        return True
    return False


def test_what_cameras_put_behind_a_jpeg_is_no_harm_and_zeros_in_place_of_its_end_are() -> None:
    whole = WHOLE["jpeg"]
    assert not is_cut_short(whole + b"SEFT trailer")
    half = whole[: len(whole) // 2]
    assert is_cut_short(half + b"\0" * (len(whole) - len(half)))


def test_the_end_mark_of_the_preview_in_the_exif_is_not_the_photos() -> None:
    preview = encoded(noise(3, 16, 12), "JPEG")
    assert preview.endswith(b"\xff\xd9")
    whole = WHOLE["jpeg"]
    segment = b"Exif\0\0" + preview
    with_preview = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + whole[2:]
    assert not is_cut_short(with_preview)
    assert is_cut_short(with_preview[: len(with_preview) - len(whole) // 2])


def test_what_is_no_picture_is_not_called_cut_short() -> None:
    assert not is_cut_short(b"%PDF-1.4 and so on")
    assert not is_cut_short(b"")


# Time


@pytest.mark.parametrize(
    ("taken_at", "plausible"),
    [
        ("1970-01-01T00:00:00", False),
        ("1980-01-01T00:00:00", False),
        ("1989-12-31T23:59:59", False),
        ("1990-01-01T00:00:00", True),
        ("2024-05-01T10:00:00", True),
        ("2024-05-01", True),
        ("2024-05-02T23:00:00", True),  # a place ahead of this machine's time zone
        ("2024-05-03T00:00:00", False),
        ("2098-01-01T00:00:00", False),
    ],
)
def test_a_clock_is_believed_from_the_first_digital_cameras_until_tomorrow(taken_at: str, plausible: bool) -> None:
    now = datetime(2024, 5, 1, 12)
    assert plausible_time(taken_at, now=now) is plausible
    assert is_to_come(taken_at, now=now) is (taken_at > "2024-05-03")


# Camera and place


@pytest.mark.parametrize(
    ("make", "model", "serial", "name"),
    [
        ("NIKON CORPORATION", "NIKON D500", "3051", "NIKON D500 3051"),
        ("Canon", "Canon EOS 5D", None, "Canon EOS 5D"),
        ("RECONYX", "HP2X", "H550  0123\0\0", "RECONYX HP2X H550 0123"),
        ("Bushnell\0", "  119876C \n", "0000000", "Bushnell 119876C"),
        ("Bushnell", None, None, "Bushnell"),
        (None, "X-T3", None, "X-T3"),
        ("  ", "\0\0", "0", None),
        (None, None, None, None),
        ("A" * 200, None, None, "A" * 120),
    ],
)
def test_a_camera_is_named_on_one_line(make: Any, model: Any, serial: Any, name: str | None) -> None:
    told = exif(make, model, serial, "2024:05:01 10:00:00")
    found = read_facts(encoded(noise(0), "JPEG", exif=told), "x").camera
    assert found == name
    assert found is None or found.isprintable()


def test_a_position_of_zero_zero_is_no_position_and_is_told() -> None:
    at_zero = read_facts(encoded(noise(0), "JPEG", exif=exif(gps=place(0, 0))), "x")
    assert (at_zero.latitude, at_zero.longitude, at_zero.at_zero) == (None, None, True)
    on_the_equator = read_facts(encoded(noise(0), "JPEG", exif=exif(gps=place(0, 9))), "x")
    assert (on_the_equator.latitude, on_the_equator.longitude, on_the_equator.at_zero) == (0, 9, False)
    assert not read_facts(encoded(noise(0), "JPEG"), "x").at_zero


def test_the_header_of_a_png_without_metadata_is_read_without_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = Image.Image.load
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: loaded.append("x") or load(self))
    read_facts(encoded(noise(0), "PNG"), "x")
    assert loaded == []
    with_exif = io.BytesIO()
    noise(0).save(with_exif, "PNG", exif=exif("Canon", "EOS", None))
    assert read_facts(with_exif.getvalue(), "x").camera == "Canon EOS"
