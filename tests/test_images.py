from __future__ import annotations

import contextlib
import io
import math
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from resight.errors import ImageError, ImageMissing, ImageUnreadable
from resight.images import MAX_PIXELS, cut_chip, cut_preview, inspect, perceptual_hash, read_facts, read_file
from resight.types import Box

from .made_up import BLUE, GREEN, RED, YELLOW, encoded, noise, quarters, stored, waves


def image_of(chip: Any) -> Any:
    return np.asarray(chip).astype(int)


def corners(chip: Any) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, row by row, each channel as 0 or 255."""
    side = len(chip)
    at = (side // 4, 3 * side // 4)
    return [tuple(255 * (int(channel) > 127) for channel in chip[y, x]) for y in at for x in at]


# Orientation


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_made_upright_and_boxes_are_upright_pixels(format: str, orientation: int) -> None:
    content = stored(quarters(64, 32), orientation, format)
    facts = inspect(content, "x")
    assert read_facts(content, "x") == facts
    assert (facts.width, facts.height) == (64, 32)
    assert corners(cut_chip(content, "x", None, 0, 32)) == [RED, GREEN, BLUE, YELLOW]
    assert corners(cut_chip(content, "x", Box(32, 16, 32, 16), 0, 32)) == [YELLOW] * 4
    assert corners(cut_chip(content, "x", Box(0, 16, 32, 16), 0, 32)) == [BLUE] * 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("box", [None, Box(0, 0, 400, 401), Box(801, 402.5, 400, 400), Box(601, 203, 600, 600)])
def test_a_jpeg_that_is_down_scaled_while_decoding_gives_the_chip_of_a_full_decode(
    orientation: int, box: Box | None
) -> None:
    # An odd size, so that the reduced picture has a partial pixel at the end of each axis, or at its start if reversed.
    upright = waves(1201, 803)
    reduced = cut_chip(stored(upright, orientation, "JPEG", quality=95), "x", box, 0, 48)
    full = cut_chip(encoded(upright), "x", box, 0, 48)
    difference = np.abs(image_of(reduced) - image_of(full))
    assert difference.max() <= 8
    assert difference.mean() < 1.0


def test_a_jpeg_is_decoded_at_the_size_that_the_box_needs_and_no_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def noting_resize(self: Image.Image, *args: Any, **kwargs: Any) -> Image.Image:
        decoded.append(self.size)
        return resize(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", noting_resize)
    content = encoded(waves(1600, 800), "JPEG")
    for box, expected in [(None, (400, 200)), (Box(0, 0, 399, 800), (1600, 800)), (Box(9, 9, 400, 400), (800, 400))]:
        decoded.clear()
        cut_chip(content, "x", box, 0, 200)
        assert decoded == [expected]


def test_a_jpeg_with_a_second_picture_in_it_is_read_like_any_other() -> None:
    content = encoded(quarters(64, 32), "MPO", save_all=True, append_images=[noise(0, 64, 32)])
    assert Image.open(io.BytesIO(content)).format == "MPO"
    assert corners(cut_chip(content, "x", None, 0, 8)) == [RED, GREEN, BLUE, YELLOW]


# Boxes and theta


def naive_cut(pixels: Any, box: Box, theta_rad: float) -> Any:
    """(h, w, 3): every pixel of the turned box looked up by hand, between its four neighbours; black outside."""
    height, width = pixels.shape[:2]
    cut = np.zeros((round(box.h), round(box.w), 3))
    for v in range(cut.shape[0]):
        for u in range(cut.shape[1]):
            right, down = u + 0.5 - box.w / 2, v + 0.5 - box.h / 2
            # The box is turned clockwise with y down: its right-hand side goes down as theta grows.
            x = box.x + box.w / 2 + right * math.cos(theta_rad) - down * math.sin(theta_rad)
            y = box.y + box.h / 2 + right * math.sin(theta_rad) + down * math.cos(theta_rad)
            if not (0 <= x < width and 0 <= y < height):
                continue
            left, top = math.floor(x - 0.5), math.floor(y - 0.5)
            across, along = x - 0.5 - left, y - 0.5 - top
            for j, weight_y in ((top, 1 - along), (top + 1, along)):
                for i, weight_x in ((left, 1 - across), (left + 1, across)):
                    inside = pixels[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
                    cut[v, u] += weight_x * weight_y * inside
    return cut


@pytest.mark.parametrize("theta_rad", [0.0, 0.3, -0.3, math.pi / 2, 2.5, -3.0])
@pytest.mark.parametrize("box", [Box(10, 8, 24, 24), Box(20, 4, 24, 24), Box(-6, 20, 24, 24), Box(3.5, 7.25, 24, 24)])
def test_a_turned_box_is_what_a_loop_over_its_pixels_gives(box: Box, theta_rad: float) -> None:
    picture = waves(48, 40).resize((48, 40))
    pixels = np.asarray(picture).astype(float) * np.linspace(0.4, 1, 48)[None, :, None]
    content = encoded(Image.fromarray(pixels.astype(np.uint8)))
    chip = image_of(cut_chip(content, "x", box, theta_rad, 24))
    reference = naive_cut(pixels.astype(np.uint8).astype(float), box, theta_rad)
    assert np.abs(chip - reference).max() <= 2


def test_theta_turns_clockwise_about_the_centre_of_the_box() -> None:
    # An animal that lies head down-right: its head is the bright mark, to the right of and below the centre (30, 20).
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[26:30, 36:40] = 255  # around (38, 28), at 45 degrees clockwise from "right"
    content = encoded(Image.fromarray(pixels))
    chip = cut_chip(content, "x", Box(10, 5, 40, 30), math.pi / 4, 40)
    y, x = np.argwhere(chip[..., 0] > 120).mean(axis=0)
    # Turned back, the mark lies straight to the right of the centre, at 11.3 px of 40 (the 30 px high box is squashed).
    assert y == pytest.approx(19.5, abs=1.0)
    assert x == pytest.approx(20 + math.hypot(8, 8) - 0.5, abs=1.0)
    # The other sign leaves it straight below.
    y, x = np.argwhere(cut_chip(content, "x", Box(10, 5, 40, 30), -math.pi / 4, 40)[..., 0] > 120).mean(axis=0)
    assert x == pytest.approx(19.5, abs=1.0)
    assert y > 30


def test_what_sticks_out_of_the_picture_is_black() -> None:
    content = encoded(Image.new("RGB", (40, 40), (200, 100, 50)))
    chip = cut_chip(content, "x", Box(-20, -20, 40, 40), 0, 40)
    assert not chip[:19, :].any()
    assert not chip[:, :19].any()
    assert (chip[21:, 21:] == (200, 100, 50)).all()
    turned = cut_chip(content, "x", Box(0, 0, 40, 40), math.pi / 4, 40)
    assert not turned[0, 0].any()
    assert not turned[-1, -1].any()
    assert (turned[20, 20] == (200, 100, 50)).all()


def test_a_whole_turn_changes_nothing_but_rounding() -> None:
    content = encoded(waves(60, 60))
    box = Box(10, 12, 30, 36)
    straight, round_about = (image_of(cut_chip(content, "x", box, theta, 20)) for theta in (0.0, 2 * math.pi))
    assert np.abs(straight - round_about).max() <= 3


def test_a_box_of_fractions_of_pixels_is_not_rounded_to_whole_ones() -> None:
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    content = encoded(Image.fromarray(ramp))
    means = [float(cut_chip(content, "x", Box(10 + shift, 2, 20, 10), 0, 20).mean()) for shift in (0, 0.25, 0.5, 1)]
    assert np.diff(means) == pytest.approx([1, 1, 2], abs=0.3)
    turned = [float(cut_chip(content, "x", Box(10 + shift, 2, 20, 10), 1e-9, 20).mean()) for shift in (0, 0.25, 0.5, 1)]
    assert turned == pytest.approx(means, abs=0.6)


@pytest.mark.parametrize(
    "box",
    [
        Box(64, 0, 10, 10),
        Box(-10, 0, 10, 10),
        Box(0, 32, 10, 10),
        Box(0, 0, 0, 10),
        Box(0, 0, 10, 0),
        Box(5, 5, -2, 4),
        Box(0, 0, 1e6, 1e6),
        Box(math.nan, 0, 10, 10),
        Box(0, 0, math.inf, 10),
    ],
)
@pytest.mark.parametrize("theta_rad", [0.0, 0.5])
def test_a_box_that_shows_nothing_is_an_error_of_the_box_and_not_of_the_picture(box: Box, theta_rad: float) -> None:
    content = encoded(quarters(64, 32))
    for cut in (lambda: cut_chip(content, "herd.png", box, theta_rad, 16),
                lambda: cut_preview(content, "herd.png", box, theta_rad, 16)):  # fmt: skip
        with pytest.raises(ImageError, match=r"herd\.png: the box .* 64 x 32 pixels; correct it") as caught:
            cut()
        assert not isinstance(caught.value, ImageUnreadable)


def test_a_preview_keeps_proportions_and_is_never_enlarged() -> None:
    content = encoded(quarters(400, 200))

    def size_of(box: Box | None, theta_rad: float = 0.0) -> tuple[int, int]:
        preview = Image.open(io.BytesIO(cut_preview(content, "x", box, theta_rad, 100)))
        assert preview.format == "JPEG"
        return preview.size

    assert size_of(None) == (100, 50)
    assert size_of(Box(0, 0, 50, 200)) == (25, 100)
    assert size_of(Box(0, 0, 20, 10)) == (20, 10)
    assert size_of(Box(10, 10, 200, 100), 0.4) == (100, 50)


# What cannot be used, and odd pictures that can


def test_files_that_are_no_pictures_are_refused_with_one_line(tmp_path: Path) -> None:
    for name, content in [
        ("notes.jpg", b"these are field notes\n"),
        ("page.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"),
        ("half.png", encoded(quarters(20, 20))[:20]),
    ]:
        for read in (inspect, read_facts, lambda c, n: cut_chip(c, n, None, 0, 16)):
            with pytest.raises(ImageUnreadable, match=name) as caught:
                read(content, name)
            assert "\n" not in str(caught.value)
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ImageUnreadable, match=r"empty\.jpg: the file is empty \(0 bytes\)"):
        read_file(tmp_path / "empty.jpg")
    with pytest.raises(ImageMissing, match=r"gone\.jpg: no such file"):
        read_file(tmp_path / "gone.jpg")
    with pytest.raises(ImageMissing, match="no such file"):
        read_file(tmp_path / "a\0b.jpg")
    with pytest.raises(ImageUnreadable, match="a folder, not a file"):
        read_file(tmp_path)


def test_only_the_formats_that_are_named_are_opened() -> None:
    assert inspect(encoded(quarters(16, 16), "BMP"), "x").width == 16
    with pytest.raises(ImageUnreadable, match="not a picture in a format that can be read"):
        inspect(encoded(quarters(16, 16), "PPM"), "x")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_a_picture_that_is_cut_short_is_refused_wherever_the_cut_is(format: str) -> None:
    content = encoded(noise(1, 200, 150), format)
    # The last bytes of a PNG are its end mark; every pixel stands before it.
    for share in (0.1, 0.5, 0.9, 0.99):
        part = content[: int(len(content) * share)]
        with pytest.raises(ImageUnreadable):
            inspect(part, "cut.jpg")
        with pytest.raises(ImageUnreadable):
            cut_chip(part, "cut.jpg", None, 0, 16)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (50_000, 2), (2, 50_000), (20_000, 20_000)])
def test_a_picture_over_the_limits_is_refused_by_its_header(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(self: Image.Image) -> None:
        raise AssertionError("decoded")

    content = png_header(*size)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    for read in (inspect, read_facts, lambda c, n: cut_chip(c, n, None, 0, 16)):
        with pytest.raises(ImageUnreadable, match=f"bomb.png: {size[0]} x {size[1]} pixels is over the limit of 32767"):
            read(content, "bomb.png")
    assert MAX_PIXELS < 20_000 * 20_000


def test_colours_of_every_kind_of_picture_become_rgb() -> None:
    flat = Image.new("RGB", (24, 16), (200, 40, 90))
    palette = Image.new("P", (24, 16), 1)
    palette.putpalette([0, 0, 0, 200, 40, 90])
    grey = Image.new("L", (24, 16), 77)
    kinds = {
        "palette": (encoded(palette), (200, 40, 90)),
        "palette, transparent": (encoded(palette, transparency=0), (200, 40, 90)),
        "palette, bytes of transparency": (encoded(palette, transparency=b"\x00\x80"), (200, 40, 90)),
        "rgba": (encoded(Image.merge("RGBA", (*flat.split(), grey))), (200, 40, 90)),
        "grey": (encoded(grey), (77, 77, 77)),
        "grey jpeg": (encoded(grey, "JPEG", quality=95), (77, 77, 77)),
        "grey with alpha": (encoded(Image.merge("LA", (grey, grey))), (77, 77, 77)),
        "one bit": (encoded(Image.new("1", (24, 16), 1)), (255, 255, 255)),
        "cmyk": (encoded(flat.convert("CMYK"), "JPEG", quality=98), (200, 40, 90)),
        "cmyk tiff": (encoded(flat.convert("CMYK"), "TIFF"), (200, 40, 90)),
        "gif": (encoded(flat.quantize(4), "GIF"), (200, 40, 90)),
    }
    for kind, (content, colour) in kinds.items():
        chip = cut_chip(content, kind, None, 0, 16)
        assert chip.shape == (16, 16, 3), kind
        assert chip.dtype == np.uint8, kind
        assert np.abs(image_of(chip) - colour).max() <= 4, kind
        inspect(content, kind)


def test_an_animation_is_its_first_picture() -> None:
    first, second = Image.new("RGB", (20, 20), RED), Image.new("RGB", (20, 20), BLUE)
    content = encoded(first, "GIF", save_all=True, append_images=[second])
    assert corners(cut_chip(content, "x", None, 0, 16)) == [RED] * 4


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_pictures_are_stretched_and_not_cut_off(dtype: Any) -> None:
    ramp = np.linspace(1000, 61_000, 64).astype(dtype)[None, :].repeat(64, axis=0)
    chip = cut_chip(encoded(Image.fromarray(ramp), "TIFF"), "x", None, 0, 64)
    assert image_of(chip)[30, :, 0] == pytest.approx(np.linspace(0, 255, 64), abs=2)
    flat = cut_chip(encoded(Image.fromarray(np.full((8, 8), 40_000, dtype)), "TIFF"), "x", None, 0, 16)
    assert len(np.unique(flat)) == 1


def test_a_thermal_picture_with_missing_pixels_is_readable() -> None:
    ramp = np.linspace(-5, 40, 64, dtype=np.float32)[None, :].repeat(64, axis=0)
    ramp[10:20, 10:20] = np.nan
    chip = cut_chip(encoded(Image.fromarray(ramp), "TIFF"), "x", None, 0, 64)
    assert chip[15, 15, 0] == 0
    assert chip[40, 63, 0] >= 254


SEEDS = {
    "JPEG": stored(noise(2), 6, "JPEG"),
    "progressive JPEG": stored(noise(2), 6, "JPEG", progressive=True),
    "PNG": stored(noise(2), 6, "PNG"),
    "TIFF": stored(noise(2), 6, "TIFF"),
    "WEBP": stored(noise(2), 6, "WEBP"),
    "GIF": encoded(noise(2), "GIF"),
}


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(SEEDS)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    early=st.booleans(),
)
def test_a_damaged_file_gives_a_picture_or_an_image_error_and_nothing_else(
    kind: str, changes: list[tuple[float, int]], early: bool
) -> None:
    content = bytearray(SEEDS[kind])
    for share, value in changes:
        content[int(share * (min(len(content), 300) if early else len(content)))] = value
    for read in (inspect, read_facts, lambda c, n: cut_chip(c, n, None, 0, 16)):
        with contextlib.suppress(ImageError):
            read(bytes(content), "damaged")


# Metadata


def with_metadata(**tags: Any) -> bytes:
    """A JPEG with EXIF: ``changed``, ``taken``, ``gps`` (a dict of tags)."""
    exif = Image.Exif()
    if "changed" in tags:
        exif[ExifTags.Base.DateTime] = tags["changed"]
    if "taken" in tags:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = tags["taken"]
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(tags.get("gps", {}))
    return encoded(noise(3), "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"taken": "2021:03:04 05:06:07"}, "2021-03-04T05:06:07"),
        ({"taken": "2021-03-04T05:06:07"}, "2021-03-04T05:06:07"),
        ({"taken": "2021:03:04 05:06:07", "changed": "2023:01:01 00:00:00"}, "2021-03-04T05:06:07"),
        ({"changed": "2023:01:02 03:04:05"}, "2023-01-02T03:04:05"),
        ({}, None),
        ({"taken": "0000:00:00 00:00:00"}, None),
        ({"taken": "2021:02:30 05:06:07"}, None),
        ({"taken": "    :  :     :  :  "}, None),
        ({"taken": "yesterday"}, None),
    ],
)
def test_the_date_is_the_cameras_or_none(tags: dict[str, str], expected: str | None) -> None:
    assert inspect(with_metadata(**tags), "x").taken_at == expected


LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE = 1, 2, 3, 4


@pytest.mark.parametrize(
    ("references", "signs"), [("NE", (1, 1)), ("SE", (-1, 1)), ("NW", (1, -1)), ("SW", (-1, -1)), ("sw", (-1, -1))]
)
def test_south_and_west_are_negative(references: str, signs: tuple[int, int]) -> None:
    gps = {
        LATITUDE_REF: references[0],
        LATITUDE: (12.0, 30.0, 36.0),
        LONGITUDE_REF: references[1],
        LONGITUDE: (34.0, 15.0, 0.0),
    }
    facts = inspect(with_metadata(gps=gps), "x")
    assert facts.latitude == pytest.approx(signs[0] * 12.51)
    assert facts.longitude == pytest.approx(signs[1] * 34.25)


@pytest.mark.parametrize(
    "changes",
    [
        {LATITUDE: (91.0, 0.0, 0.0)},
        {LONGITUDE: (180.0, 1.0, 0.0)},
        {LATITUDE: (0.0, 0.0, 0.0), LONGITUDE: (0.0, 0.0, 0.0)},
        {LATITUDE: (12.0,)},
        {LATITUDE_REF: None},
        {LONGITUDE_REF: "?"},
        {LONGITUDE: None},
    ],
)
def test_a_place_that_cannot_be_right_is_not_known(changes: dict[int, Any]) -> None:
    gps = {LATITUDE_REF: "S", LATITUDE: (12.0, 30.0, 0.0), LONGITUDE_REF: "E", LONGITUDE: (34.0, 15.0, 0.0), **changes}
    facts = inspect(with_metadata(gps={tag: value for tag, value in gps.items() if value is not None}), "x")
    assert (facts.latitude, facts.longitude) == (None, None)


def test_broken_metadata_does_not_break_the_picture() -> None:
    whole = with_metadata(taken="2021:03:04 05:06:07", gps={LATITUDE_REF: "S", LATITUDE: (1.0, 2.0, 3.0)})
    start = whole.index(b"Exif\0\0") + 6
    length = struct.unpack(">H", whole[start - 8 : start - 6])[0] - 8
    broken = 0
    for offset in range(start, start + length):
        for value in (0, 255):
            content = whole[:offset] + bytes([value]) + whole[offset + 1 :]
            facts = inspect(content, "x")
            assert {facts.width, facts.height} == {32, 24}
            assert cut_chip(content, "x", None, 0, 16).shape == (16, 16, 3)
            broken += facts.taken_at is None
    assert broken > 20


def test_warnings_are_as_they_were_after_threads_have_read_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(noise(4))
    first_in, second_in, first_done = threading.Event(), threading.Event(), threading.Event()
    opened = Image.open

    def staged(*args: Any, **kwargs: Any) -> Any:
        # The second begins while the first is inside, and ends after the first has ended.
        if threading.current_thread().name == "first":
            first_in.set()
            second_in.wait(5)
        else:
            second_in.set()
            first_done.wait(5)
        return opened(*args, **kwargs)

    monkeypatch.setattr(Image, "open", staged)
    before = list(warnings.filters)
    first = threading.Thread(target=read_facts, args=(content, "x"), name="first")
    second = threading.Thread(target=read_facts, args=(content, "x"), name="second")
    first.start()
    assert first_in.wait(5)
    second.start()
    first.join()
    assert warnings.filters != before  # the second is still inside
    first_done.set()
    second.join()
    assert warnings.filters == before


# Perceptual hashes


def bits_between(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def blobs(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """A picture of soft spots, another for every seed."""
    coarse = noise(seed, 8, 6)
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def test_a_perceptual_hash_agrees_with_the_transform_written_out() -> None:
    content, box = encoded(blobs(0)), Box(20, 30, 200, 180)
    grey = np.asarray(Image.fromarray(cut_chip(content, "x", box, 0.3, 32)).convert("L")).astype(float)
    frequencies = [
        round(
            sum(
                grey[y, x] * math.cos(math.pi * u * (2 * y + 1) / 64) * math.cos(math.pi * v * (2 * x + 1) / 64)
                for y in range(32)
                for x in range(32)
            )
        )
        for u in range(8)
        for v in range(8)
    ]
    median = sorted(frequencies[1:])[31]
    expected = int("".join(str(int(value > median)) for value in frequencies), 2)
    assert perceptual_hash(content, "x", box, 0.3) == expected


@pytest.mark.parametrize("seed", range(5))
def test_almost_the_same_picture_has_almost_the_same_hash(seed: int) -> None:
    picture = blobs(seed)
    of = perceptual_hash(encoded(picture), "x", None, 0)
    assert 0 <= of < 2**64
    brighter = picture.point([min(255, round(1.15 * value)) for value in range(256)] * 3)
    for other in (
        encoded(picture, "JPEG", quality=40),
        encoded(picture.resize((160, 120), Image.Resampling.BILINEAR)),
        encoded(picture.resize((1280, 960), Image.Resampling.BICUBIC), "JPEG", quality=90),
        encoded(brighter),
        stored(picture, 6, "JPEG", quality=90),
    ):
        assert bits_between(of, perceptual_hash(other, "x", None, 0)) <= 6
    for different in (blobs(seed + 100), picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        assert bits_between(of, perceptual_hash(encoded(different), "x", None, 0)) > 12


def test_a_perceptual_hash_is_of_what_the_box_shows() -> None:
    first, second, around = blobs(1, 96, 96), blobs(2, 96, 96), blobs(3)
    placed = around.copy()
    placed.paste(first, (40, 50))
    other = blobs(4)
    other.paste(first, (120, 90))
    other.paste(second, (10, 10))
    content, elsewhere = encoded(placed), encoded(other)
    of = perceptual_hash(content, "x", Box(40, 50, 96, 96), 0)
    # Not quite 0: the outermost pixels are averaged with what surrounds the box.
    assert bits_between(of, perceptual_hash(elsewhere, "x", Box(120, 90, 96, 96), 0)) <= 4
    assert bits_between(of, perceptual_hash(elsewhere, "x", Box(10, 10, 96, 96), 0)) > 12
    assert bits_between(of, perceptual_hash(content, "x", None, 0)) > 12


def test_an_even_picture_has_no_bits_but_the_first() -> None:
    for shade in (1, 90, 255):
        assert perceptual_hash(encoded(Image.new("RGB", (50, 40), (shade,) * 3)), "x", None, 0) == 1 << 63
    assert perceptual_hash(encoded(Image.new("RGB", (50, 40))), "x", None, 0) == 0


def test_what_cannot_be_hashed_is_an_error_of_its_picture() -> None:
    with pytest.raises(ImageError, match="does not fit the picture"):
        perceptual_hash(encoded(blobs(0)), "x", Box(400, 0, 10, 10), 0)
    with pytest.raises(ImageUnreadable):
        perceptual_hash(b"no picture", "x", None, 0)
