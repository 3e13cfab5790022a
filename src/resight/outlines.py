"""Outlines of animals: COCO segmentations, as polygons or as runs of pixels (RLE), and the masks they stand for.

An outline is data from anywhere, so every number of it is checked before a pixel is drawn. The formats are those of
the COCO API: polygons are flat lists x, y, x, y, … in pixels of the upright photo; the counts of an RLE are lengths of
runs down the columns, outside first, as numbers or compressed to text (``rleToString`` in its ``maskApi.c``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from resight.artefacts import key_of
from resight.errors import InputError
from resight.types import Box

FARTHEST_PX = 1_000_000  # beyond any photo; a coordinate out there is a slip, and drawing it would take for ever
_MOST_CHARACTERS = 7  # of one compressed count: 5 bits each, far more than the largest photo has pixels


@dataclass(frozen=True, eq=False)
class PolygonOutline:
    """One animal as one or more polygons, each (n, 2) float64: x and y in pixels of the upright photo."""

    width: int
    height: int
    polygons: tuple[NDArray[np.float64], ...]

    @property
    def key(self) -> str:
        """The same for the same shape, whether its numbers were written whole or as floats."""
        return key_of("polygons", [polygon.tolist() for polygon in self.polygons])

    def mask(self) -> Image.Image:
        """The photo's pixels as an 8-bit picture: 255 inside any of the polygons, 0 outside.

        The edges are right to a pixel, and the pixels that corners lie in count as inside.
        """
        mask = Image.new("L", (self.width, self.height))
        draw = ImageDraw.Draw(mask)
        for polygon in self.polygons:
            if len(polygon) > 2:
                # Pillow joins whole pixels, its edges included: what is wanted is the pixel a corner lies in.
                draw.polygon(np.floor(polygon).ravel().tolist(), fill=255)
        return mask


@dataclass(frozen=True, eq=False)
class RunOutline:
    """One animal as lengths of runs down the columns of the upright photo, outside first, (n,) int64."""

    width: int
    height: int
    runs: NDArray[np.int64]

    @property
    def key(self) -> str:
        """The same for the same runs, compressed or not."""
        return key_of("runs", self.runs.tolist())

    def mask(self) -> Image.Image:
        """The photo's pixels as an 8-bit picture: 255 inside, 0 outside."""
        values = np.zeros(len(self.runs), np.uint8)
        values[1::2] = 255
        columns = np.repeat(values, self.runs).reshape(self.width, self.height)
        return Image.fromarray(columns).transpose(Image.Transpose.TRANSPOSE)


Outline = PolygonOutline | RunOutline


def read_outline(segmentation: Any, width: int, height: int) -> Outline:
    """Read and check a COCO segmentation.

    Args:
        segmentation: A list of polygons, one polygon alone, or a mapping with ``size`` (height, width) and ``counts``.
        width: Of the upright photo, in pixels.
        height: Of the upright photo, in pixels.

    Raises:
        InputError: it is broken, has no area, or its size is not the photo's.
    """
    if isinstance(segmentation, Mapping):
        return _read_runs(segmentation, width, height)
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, (str, bytes)):
        return _read_polygons(segmentation, width, height)
    raise InputError(f"the outline is {_shown(segmentation)}: expected polygons, or size and counts of an RLE")


def outline_of_box(box: Box, theta_rad: float, width: int, height: int) -> PolygonOutline:
    """A box, rotated about its centre by ``theta_rad`` (clockwise, y down), as the outline of what is in it."""
    cosine, sine = math.cos(theta_rad), math.sin(theta_rad)
    across = np.array([-1, 1, 1, -1]) * box.w / 2
    down = np.array([-1, -1, 1, 1]) * box.h / 2
    x = box.x + box.w / 2 + cosine * across - sine * down
    y = box.y + box.h / 2 + sine * across + cosine * down
    return PolygonOutline(width, height, (np.stack([x, y], axis=1),))


def _read_polygons(segmentation: Sequence[Any], width: int, height: int) -> PolygonOutline:
    is_one = len(segmentation) > 0 and not any(isinstance(part, (list, tuple)) for part in segmentation)
    polygons = tuple(_read_polygon(part) for part in ([segmentation] if is_one else segmentation))
    if not any(_has_area(polygon) for polygon in polygons):
        raise InputError(f"the outline {_shown(segmentation)} has no area")
    return PolygonOutline(width, height, polygons)


def _read_polygon(part: Any) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(part)
    except (ValueError, OverflowError):  # lists of unlike lengths in one another
        numbers = np.empty((0, 0))
    if numbers.ndim != 1 or len(numbers) % 2 or (len(numbers) and numbers.dtype.kind not in "iuf"):
        raise InputError(f"a polygon of the outline is {_shown(part)}: expected numbers x, y, x, y, …")
    corners = numbers.astype(np.float64).reshape(-1, 2)
    if not (np.abs(corners) <= FARTHEST_PX).all():  # nor is NaN
        raise InputError(f"a polygon of the outline is {_shown(part)}: expected pixels of the photo")
    return corners


def _has_area(polygon: NDArray[np.float64]) -> bool:
    x, y = polygon.T
    return bool(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) > 0)


def _read_runs(segmentation: Mapping[str, Any], width: int, height: int) -> RunOutline:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width] and size != (height, width):
        raise InputError(
            f"the outline is of a photo whose height and width are {_shown(size)}, and this one's are "
            f"[{height}, {width}]: expected an RLE of the upright photo"
        )
    if isinstance(counts, (str, bytes)):
        runs = _uncompressed(counts)
    else:
        try:
            runs = np.asarray(counts)
        except (ValueError, OverflowError):
            runs = np.empty(0, object)
        if runs.ndim != 1 or runs.dtype.kind not in "iu":
            raise InputError(f"the counts of the outline are {_shown(counts)}: expected whole numbers, or text")
    if (runs < 0).any() or (runs > width * height).any() or runs.sum() != width * height:
        raise InputError(
            f"the counts of the outline {_shown(counts)} do not add up to the photo's {width} x {height} pixels"
        )
    if runs[1::2].sum() == 0:
        raise InputError("the outline has no area")
    return RunOutline(width, height, runs.astype(np.int64))


def _uncompressed(counts: str | bytes) -> NDArray[np.int64]:
    """Counts from their text: 5 bits a character, the lowest first, and from the fourth on the change since two before.

    Bit 5 of a character tells that the number goes on; bit 4 of its last one is the sign.
    """
    content = counts if isinstance(counts, bytes) else counts.encode("utf-8", "surrogatepass")
    codes = np.frombuffer(content, np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise InputError(f"the counts of the outline are {_shown(counts)}: expected those of a compressed RLE, whole")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MOST_CHARACTERS:
        raise InputError(f"the counts of the outline are {_shown(counts)}: a number of them is larger than any photo")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(first, lengths))
    numbers = np.add.reduceat((codes & 31) << shifts, first)
    numbers -= np.where(codes[last] & 16, 1, 0) << (5 * lengths)
    numbers[2::2] = np.cumsum(numbers[2::2])
    numbers[1::2] = np.cumsum(numbers[1::2])
    return numbers


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
