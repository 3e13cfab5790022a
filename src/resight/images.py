"""All decoding of pictures: EXIF-upright, within limits, down-scaled while decoding, and cut to a chip.

Coordinates are pixels of the upright image. The bytes of a file are read once, hashed, and decoded from memory.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from resight.artefacts import content_hash
from resight.errors import ImageMissing, ImageUnreadable
from resight.types import Box

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
MAX_PIXELS = 250_000_000
MAX_SIDE = 32_767

CUT_VERSION = 1  # raise it whenever the pixels of a chip change
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange width and height

# Pillow's own limit warns and then raises at twice the number; ours is checked before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of a picture once it is decoded.

    Attributes:
        content_hash: SHA-256 of the file.
        width: Pixels, upright.
        height: Pixels, upright.
        taken_at: ISO 8601 as the camera had it, or ``None``.
        latitude: Degrees north, or ``None``.
        longitude: Degrees east, or ``None``.
    """

    content_hash: str
    width: int
    height: int
    taken_at: str | None
    latitude: float | None
    longitude: float | None


def read_file(path: Path) -> bytes:
    """Read a picture's bytes.

    Raises:
        ImageMissing: there is no such file.
        ImageUnreadable: the file is empty or cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ImageMissing(f"{path}: no such file") from None
    except OSError as error:
        raise ImageUnreadable(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise ImageUnreadable(f"{path}: the file is empty (0 bytes)")
    return content


def inspect(content: bytes, name: str) -> ImageFacts:
    """Decode a picture far enough to know that every pixel is there, and read its metadata.

    Args:
        content: The file's bytes.
        name: How messages call it.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
    """
    picture = _open(content, name)
    exif = _exif(picture)
    width, height = _upright_size(picture, exif)
    _load(picture, name, shrink_to=8)
    latitude, longitude = _position(exif)
    return ImageFacts(content_hash(content), width, height, _taken_at(exif), latitude, longitude)


def upright_size(content: bytes, name: str) -> tuple[int, int]:
    """Width and height of the upright picture, from its header alone.

    Raises:
        ImageUnreadable: not a picture, or over the limits.
    """
    picture = _open(content, name)
    return _upright_size(picture, _exif(picture))


def cut_chip(content: bytes, name: str, box: Box | None, theta_rad: float, size: int) -> NDArray[np.uint8]:
    """Cut the animal out of a picture and squash it to a square.

    The box is rotated by ``theta_rad`` about its centre (clockwise, y down), so that the chip shows the animal
    turned back upright. Parts of the box outside the image are black. Large JPEGs are down-scaled by the decoder
    to the smallest of its scales at which the box still has at least ``size`` pixels on each side.

    Args:
        content: The file's bytes.
        name: How messages call it.
        box: In pixels of the upright image; ``None`` takes the whole image.
        theta_rad: Rotation of the box in radians.
        size: Side of the chip in pixels.

    Returns:
        (size, size, 3) uint8, RGB.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
    """
    return np.asarray(_cut_out(content, name, box, theta_rad, lambda _: (size, size)), dtype=np.uint8)


def cut_preview(content: bytes, name: str, box: Box | None, theta_rad: float, longest: int) -> bytes:
    """Cut the animal out for a person to look at: proportions kept, at most ``longest`` pixels on the longer side.

    Returns:
        A JPEG file's bytes.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
    """

    def fitting(place: Box) -> tuple[int, int]:
        scale = min(1.0, longest / max(place.w, place.h))
        return max(1, round(place.w * scale)), max(1, round(place.h * scale))

    buffer = io.BytesIO()
    _cut_out(content, name, box, theta_rad, fitting).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _cut_out(
    content: bytes, name: str, box: Box | None, theta_rad: float, size_for: Callable[[Box], tuple[int, int]]
) -> Image.Image:
    picture = _open(content, name)
    exif = _exif(picture)
    width, height = _upright_size(picture, exif)
    if box is None:
        box = Box(0, 0, width, height)
    size = size_for(box)
    _load(picture, name, shrink_to=min(box.w / size[0], box.h / size[1]))
    upright = _upright(picture, exif)
    scale_x, scale_y = upright.width / width, upright.height / height
    scaled = Box(box.x * scale_x, box.y * scale_y, box.w * scale_x, box.h * scale_y)
    return _cut(upright, scaled, theta_rad, size)


def _open(content: bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata in files that decode well
            picture = Image.open(io.BytesIO(content))
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, OverflowError):
        raise ImageUnreadable(f"{name}: not a picture in a format that can be read") from None
    width, height = picture.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageUnreadable(
            f"{name}: {width} x {height} pixels is over the limit of {MAX_SIDE} a side and "
            f"{MAX_PIXELS // 1_000_000} megapixels"
        )
    return picture


def _load(picture: Image.Image, name: str, *, shrink_to: float) -> None:
    """Decode in place; a JPEG at the largest of the decoder's reductions (1, 2, 4, 8) not above ``shrink_to``."""
    if picture.format == "JPEG":
        factor = 2 ** int(math.log2(max(1.0, shrink_to)))
        # draft() takes the smallest scale that is not smaller than the size asked for.
        picture.draft(None, (max(1, picture.width // factor), max(1, picture.height // factor)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture.load()
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, OverflowError, IndexError) as error:
        raise ImageUnreadable(f"{name}: cannot be decoded ({error})") from None


def _exif(picture: Image.Image) -> Image.Exif:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return picture.getexif()
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError):
        return Image.Exif()  # broken metadata does not make a broken picture


def _upright_size(picture: Image.Image, exif: Image.Exif) -> tuple[int, int]:
    width, height = picture.size
    return (height, width) if exif.get(ExifTags.Base.Orientation) in _TURNED else (width, height)


def _upright(picture: Image.Image, exif: Image.Exif) -> Image.Image:
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        picture = ImageOps.exif_transpose(picture)
    return _as_rgb(picture)


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16") or picture.mode in {"I", "F"}:
        values = np.asarray(picture, dtype=np.float32)
        low, high = float(values.min()), float(values.max())
        picture = Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
    elif picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _cut(picture: Image.Image, box: Box, theta_rad: float, size: tuple[int, int]) -> Image.Image:
    right, bottom = box.x + box.w, box.y + box.h
    inside = box.x >= 0 and box.y >= 0 and right <= picture.width and bottom <= picture.height
    if theta_rad == 0 and inside:
        return picture.resize(size, Image.Resampling.BILINEAR, box=(box.x, box.y, right, bottom))
    # Cut at the image's own scale first: transform() does not average over pixels, resize() does.
    width, height = max(1, round(box.w)), max(1, round(box.h))
    cosine, sine = math.cos(theta_rad), math.sin(theta_rad)
    centre_x, centre_y = box.x + box.w / 2, box.y + box.h / 2
    step_x, step_y = box.w / width, box.h / height
    # Pixel (u, v) of the cut shows centre + R(theta) ((u - width/2) step_x, (v - height/2) step_y).
    matrix = (
        cosine * step_x,
        -sine * step_y,
        centre_x - cosine * box.w / 2 + sine * box.h / 2,
        sine * step_x,
        cosine * step_y,
        centre_y - sine * box.w / 2 - cosine * box.h / 2,
    )
    cut = picture.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return cut.resize(size, Image.Resampling.BILINEAR)


def _taken_at(exif: Image.Exif) -> str | None:
    details = exif.get_ifd(ExifTags.IFD.Exif)
    text = details.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
    if not isinstance(text, str) or len(text) < 19:
        return None
    day, time = text[:10].replace(":", "-"), text[11:19]
    candidate = f"{day}T{time}"
    try:
        datetime.fromisoformat(candidate)
    except ValueError:
        return None
    return candidate


def _position(exif: Image.Exif) -> tuple[float | None, float | None]:
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)

    def degrees(value_tag: int, reference_tag: int, negative: str, limit: float) -> float | None:
        try:
            parts = [float(part) for part in gps[value_tag]]
            value = parts[0] + parts[1] / 60 + parts[2] / 3600
            reference = str(gps.get(reference_tag, "")).upper()
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
            return None
        value = -value if reference.startswith(negative) else value
        return value if math.isfinite(value) and abs(value) <= limit else None

    latitude = degrees(ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S", 90)
    longitude = degrees(ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W", 180)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None, None
    return latitude, longitude
