"""All decoding of pictures: EXIF-upright, within limits, down-scaled while decoding, and cut to a chip.

Coordinates are pixels of the upright image. The bytes of a file are read once, hashed, and decoded from memory.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from resight.artefacts import content_hash
from resight.errors import ImageError, ImageMissing, ImageUnreachable, ImageUnreadable
from resight.image_files import BROKEN_FILE, camera, exif_of, position, quiet, stated, taken_at
from resight.types import Box

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".heic", ".heif", ".hif"})
MAX_PIXELS = 250_000_000
MAX_SIDE = 32_767

CUT_VERSION = 1  # raise it whenever the pixels of a chip change
COVER_GREY = 127  # what is painted over an animal
_SHARE_SIZE = (64, 64)
_HASHED = 32  # side of the grey picture that is hashed, in pixels
_COSINES = np.cos(np.pi / (2 * _HASHED) * (2 * np.arange(_HASHED) + 1) * np.arange(8)[:, None])
"""(8, 32): the eight lowest frequencies of a discrete cosine transform."""

# Only what SUFFIXES names: Pillow would also start Ghostscript on a file that begins like PostScript.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_DRAFTED = frozenset({"JPEG", "MPO"})  # formats whose decoder can down-scale; many cameras write JPEGs as MPO

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes the stored pixels upright."""
_SWAPS_SIDES = frozenset({5, 6, 7, 8})  # orientations that exchange width and height
_REVERSES_X = frozenset({2, 3, 6, 7})  # orientations whose upright x runs against the stored axis it lies on
_REVERSES_Y = frozenset({3, 4, 7, 8})

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
        camera: Make, model and serial number of the body, as far as they are told; ``None`` where none is.
        at_zero: Whether the file places itself at 0 N 0 E, as receivers without a fix do; it is not known where then.
    """

    content_hash: str
    width: int
    height: int
    taken_at: str | None
    latitude: float | None
    longitude: float | None
    camera: str | None = None
    at_zero: bool = False


def read_file(path: Path) -> bytes:
    """Read a picture's bytes.

    Raises:
        ImageMissing: there is no such file.
        ImageUnreachable: the file is there and cannot be read now.
        ImageUnreadable: the file is empty.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ImageMissing(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageUnreadable(f"{path}: a folder, not a file") from None
    except OSError as error:
        raise ImageUnreachable(f"{path}: cannot be read ({error.strerror}); see to its permissions or drive") from error
    except ValueError as error:  # a name that no file can have, such as one with a null character
        raise ImageMissing(f"{str(path)!r}: no such file ({error})") from None
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
    facts = _facts_of(picture, content)
    _load(picture, name, shrink_to=8)
    return facts


def read_facts(content: bytes, name: str) -> ImageFacts:
    """What :func:`inspect` reads, from the header alone (a PNG's EXIF may stand behind its pixels).

    Raises:
        ImageUnreadable: not a picture, or over the limits.
    """
    return _facts_of(_open(content, name), content)


def _facts_of(picture: Image.Image, content: bytes) -> ImageFacts:
    exif = exif_of(picture, content)
    width, height = _upright_size(picture, _orientation(picture, exif))
    latitude, longitude = position(exif)
    at_zero = latitude == 0 and longitude == 0
    if at_zero:
        latitude = longitude = None
    return ImageFacts(content_hash(content), width, height, taken_at(exif), latitude, longitude, camera(exif), at_zero)


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
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    return np.asarray(cut_out(content, name, box, theta_rad, lambda _: (size, size)), dtype=np.uint8)


def upright_size(content: bytes, name: str) -> tuple[int, int]:
    """Width and height of a picture in pixels, upright, from its header alone.

    Raises:
        ImageUnreadable: not a picture, or over the limits.
    """
    picture = _open(content, name)
    return _upright_size(picture, _orientation(picture, exif_of(picture, content)))


def cut_covered_chip(
    content: bytes, name: str, box: Box | None, theta_rad: float, size: int, mask: Image.Image
) -> NDArray[np.uint8]:
    """Cut a chip as :func:`cut_chip` does, with everything inside a mask painted over in :data:`COVER_GREY`.

    It is painted before anything is resized, and where the decoder has down-scaled the picture, every pixel that the
    mask touches is: nothing from inside is averaged into what stays.

    Args:
        content: The file's bytes.
        name: How messages call it.
        box: In pixels of the upright image; ``None`` takes the whole image.
        theta_rad: Rotation of the box in radians.
        size: Side of the chip in pixels.
        mask: An 8-bit picture as large as the upright image: 255 inside, 0 outside.

    Returns:
        (size, size, 3) uint8, RGB.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    return np.asarray(cut_out(content, name, box, theta_rad, lambda _: (size, size), mask), dtype=np.uint8)


def share_covered(mask: Image.Image, name: str, box: Box | None, theta_rad: float) -> float:
    """How much of a box a mask covers, from 0 to 1.

    Args:
        mask: An 8-bit picture as large as the upright image: 255 inside, 0 outside.
        name: How messages call the image.
        box: In pixels of the upright image; ``None`` takes the whole image.
        theta_rad: Rotation of the box in radians.

    Raises:
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    if box is None:
        box = Box(0, 0, *mask.size)
    _require_cuttable(box, *mask.size, name)
    return float(np.asarray(_cut(mask, box, theta_rad, _SHARE_SIZE)).mean()) / 255


def perceptual_hash(content: bytes, name: str, box: Box | None, theta_rad: float) -> int:
    """A 64-bit hash of the picture inside a box; almost the same pictures have hashes that differ in few bits.

    The box is squashed to 32 x 32 grey pixels, and each bit says whether one of the 8 x 8 lowest frequencies of their
    discrete cosine transform lies above the median of them (the mean grey left out), as ``pHash`` does. Another size,
    compression or brightness changes a few bits; a box that is moved by more than some percent changes many.

    Args:
        content: The file's bytes.
        name: How messages call it.
        box: In pixels of the upright image; ``None`` takes the whole image.
        theta_rad: Rotation of the box in radians.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    return hash_of(cut_out(content, name, box, theta_rad, lambda _: (_HASHED, _HASHED)))


def hash_of(picture: Image.Image) -> int:
    """The hash of :func:`perceptual_hash` of a picture that is cut out already; it is squashed where it is larger."""
    small = picture.convert("L").resize((_HASHED, _HASHED), Image.Resampling.BILINEAR)
    grey = np.asarray(small, np.float64)
    # Rounded, so that an even picture has no frequencies on any machine.
    frequencies = np.rint(_COSINES @ grey @ _COSINES.T).ravel()
    bits = frequencies > np.median(frequencies[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def cut_grey(
    content: bytes, name: str, box: Box | None, theta_rad: float, longest: int
) -> tuple[Image.Image, tuple[int, int]]:
    """Cut the animal out in grey for measuring: proportions kept, and never enlarged.

    Parts of the box outside the image are black.

    Args:
        content: The file's bytes.
        name: How messages call it.
        box: In pixels of the upright image; ``None`` takes the whole image.
        theta_rad: Rotation of the box in radians.
        longest: The most pixels on the longer side.

    Returns:
        An 8-bit grey picture; and the photo's own width and height in pixels, upright.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    own = upright_size(content, name)
    return cut_out(content, name, box, theta_rad, lambda place: _fitting(place, longest)).convert("L"), own


def cut_preview(content: bytes, name: str, box: Box | None, theta_rad: float, longest: int) -> bytes:
    """Cut the animal out for a person to look at: proportions kept, at most ``longest`` pixels on the longer side.

    Returns:
        A JPEG file's bytes.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    buffer = io.BytesIO()
    cut_out(content, name, box, theta_rad, lambda place: _fitting(place, longest)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _fitting(place: Box, longest: int) -> tuple[int, int]:
    """Width and height of a box brought to at most ``longest`` pixels on the longer side, never enlarged."""
    scale = min(1.0, longest / max(place.w, place.h))
    return max(1, round(place.w * scale)), max(1, round(place.h * scale))


def decode_fitting(content: bytes, name: str, width: int, height: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode a whole picture, its proportions kept, at the largest size that fits into a frame.

    Args:
        content: The file's bytes.
        name: How messages call it.
        width: Of the frame, in pixels.
        height: Of the frame, in pixels.

    Returns:
        (h, w, 3) uint8, RGB, upright; and the picture's own width and height, upright.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
    """
    own = Box(0, 0, *upright_size(content, name))
    scale = min(width / own.w, height / own.h)
    size = max(1, round(own.w * scale)), max(1, round(own.h * scale))
    pixels = np.asarray(cut_out(content, name, None, 0.0, lambda _: size), dtype=np.uint8)
    return pixels, (int(own.w), int(own.h))


def cut_out(
    content: bytes,
    name: str,
    box: Box | None,
    theta_rad: float,
    size_for: Callable[[Box], tuple[int, int]],
    cover: Image.Image | None = None,
) -> Image.Image:
    """Cut an animal out of a picture as :func:`cut_chip` does, at a size that may depend on the box.

    Args:
        content: The file's bytes.
        name: How messages call it.
        box: In pixels of the upright image; ``None`` takes the whole image.
        theta_rad: Rotation of the box in radians.
        size_for: Gives the width and height of the cut from the box.
        cover: An 8-bit picture as large as the upright image; what is 255 in it is painted over.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    picture = _open(content, name)
    orientation = _orientation(picture, exif_of(picture, content))
    width, height = _upright_size(picture, orientation)
    if box is None:
        box = Box(0, 0, width, height)
    _require_cuttable(box, width, height, name)
    size = size_for(box)
    reduction = _load(picture, name, shrink_to=min(box.w / size[0], box.h / size[1]))
    upright = _upright(picture, orientation, name)
    # The decoder rounds the size of a reduced picture up; where an axis is reversed, what was added comes first.
    added_x = upright.width - width / reduction if orientation in _REVERSES_X else 0.0
    added_y = upright.height - height / reduction if orientation in _REVERSES_Y else 0.0
    if cover is not None:
        left, top = round(added_x * reduction), round(added_y * reduction)
        upright.paste((COVER_GREY,) * 3, mask=_reduced(cover, reduction, left, top))
    scaled = Box(box.x / reduction + added_x, box.y / reduction + added_y, box.w / reduction, box.h / reduction)
    return _cut(upright, scaled, theta_rad, size)


def _reduced(mask: Image.Image, reduction: int, left: int, top: int) -> Image.Image:
    """A mask at the decoder's scale, for a picture to which ``left`` and ``top`` pixels were added: what it touches."""
    if reduction == 1:
        return mask
    # 255 in one pixel of 8 x 8 is a mean of 4, so the mean tells whether there is any.
    reduced = mask.crop((-left, -top, mask.width, mask.height)).reduce(reduction)
    return reduced.point(lambda value: 255 if value else 0)


def _require_cuttable(box: Box, width: int, height: int, name: str) -> None:
    inside = box.x < width and box.y < height and box.x + box.w > 0 and box.y + box.h > 0
    if not (inside and box.w > 0 and box.h > 0 and box.w * box.h <= MAX_PIXELS):
        raise ImageError(
            f"{name}: the box [{box.x:g}, {box.y:g}, {box.w:g}, {box.h:g}] does not fit the picture of "
            f"{width} x {height} pixels; correct it in its dataset and import that again"
        )


def _open(content: bytes, name: str) -> Image.Image:
    formats: tuple[str, ...] = _FORMATS
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        _know_heif()
        formats = ("HEIF",)
    try:
        with quiet:
            picture = Image.open(io.BytesIO(content), formats=formats)
    except BROKEN_FILE:
        raise ImageUnreadable(f"{name}: not a picture in a format that can be read") from None
    width, height = picture.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageUnreadable(
            f"{name}: {width} x {height} pixels is over the limit of {MAX_SIDE} a side and "
            f"{MAX_PIXELS // 1_000_000} megapixels"
        )
    return picture


@cache
def _know_heif() -> None:
    """Teach Pillow to read HEIC; only when the first is met, for loading the decoder takes as long as Pillow itself."""
    from pi_heif import register_heif_opener

    register_heif_opener()


def _load(picture: Image.Image, name: str, *, shrink_to: float) -> int:
    """Decode in place; a JPEG at the largest of the decoder's reductions (1, 2, 4, 8) not above ``shrink_to``.

    Returns:
        The reduction: pixel (x, y) as stored is found at (x / reduction, y / reduction).
    """
    width, reduction = picture.width, 1
    try:
        with quiet:
            if picture.format in _DRAFTED:
                factor = 2 ** int(math.log2(max(1.0, shrink_to)))
                # draft() takes the smallest scale that is not smaller than the size asked for.
                drafted = picture.draft(None, (max(1, width // factor), max(1, picture.height // factor)))
                reduction = 1 if drafted is None else round(width / drafted[1][2])
            picture.load()
    except BROKEN_FILE as error:
        raise ImageUnreadable(f"{name}: cannot be decoded ({_one_line(error)})") from None
    return reduction


def _orientation(picture: Image.Image, exif: Image.Exif) -> int:
    """The EXIF orientation of the pixels as they are decoded: a TIFF or HEIC is turned by its decoder, size and all."""
    if picture.format in ("TIFF", "HEIF"):
        return 1
    orientation = stated(exif, ExifTags.Base.Orientation)
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _upright_size(picture: Image.Image, orientation: int) -> tuple[int, int]:
    width, height = picture.size
    return (height, width) if orientation in _SWAPS_SIDES else (width, height)


def _upright(picture: Image.Image, orientation: int, name: str) -> Image.Image:
    try:
        if orientation in _TURNS:
            picture = picture.transpose(_TURNS[orientation])
        with quiet:
            return _as_rgb(picture)
    except BROKEN_FILE as error:
        raise ImageUnreadable(f"{name}: its colours cannot be read ({_one_line(error)})") from None


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I;16") or picture.mode in {"I", "F"}:
        values = np.asarray(picture, dtype=np.float64)
        known = values[np.isfinite(values)]  # thermal pictures mark missing pixels with NaN
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
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
