"""Curves, limbs and fractal noise: the few shapes that the made-up animals and places are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Points = NDArray[np.float64]  # (n, 2): x to the right, y down
Field = NDArray[np.floating[Any]]  # (height, width), float32
Picture = NDArray[np.floating[Any]]  # (height, width, 3), float32, 0 to 255
Colour = tuple[float, float, float]  # red, green, blue, 0 to 255


def stream(*key: int) -> np.random.Generator:
    """A random stream of its own for each key, so that drawing in another order changes nothing."""
    return np.random.default_rng(list(key))


def smooth_curve(points: Sequence[tuple[float, float]] | Points, steps: int = 8, closed: bool = False) -> Points:
    """A Catmull-Rom spline through the points.

    Args:
        points: (n, 2), n at least 2.
        steps: Points drawn for each span between two neighbours.
        closed: Whether the last point joins the first.

    Returns:
        (m, 2); the given points are among them.
    """
    given = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([given[-1:], given, given[:2]])
    else:
        padded = np.concatenate([2 * given[:1] - given[1:2], given, 2 * given[-1:] - given[-2:-1]])
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (part[:, None, :] for part in (before, start, end, after))
    spans = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    curve = spans.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, given[-1:]])


def limb(spine: Sequence[tuple[float, float]] | Points, widths: Sequence[float], steps: int = 6) -> Points:
    """The outline of a tapered limb with round ends along a smoothed spine.

    Args:
        spine: (n, 2) points.
        widths: Full widths from one end to the other, in the unit of the spine.
        steps: Points for each span.

    Returns:
        (m, 2) closed polygon.
    """
    line = smooth_curve(spine, steps)
    width = np.interp(np.linspace(0, len(widths) - 1, len(line)), np.arange(len(widths)), widths)
    ahead = np.gradient(line, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * width[:, None] / 2
    turn = np.linspace(0, np.pi, 7)[1:-1, None]
    last_cap = line[-1] + normal[-1] * np.cos(turn) + ahead[-1] * np.sin(turn) * width[-1] / 2
    first_cap = line[0] - normal[0] * np.cos(turn) - ahead[0] * np.sin(turn) * width[0] / 2
    return np.concatenate([line + normal, last_cap, (line - normal)[::-1], first_cap])


def blob(centre: tuple[float, float], radius_x: float, radius_y: float, rough: Sequence[float]) -> Points:
    """A rounded closed outline; ``rough`` scales the radius at evenly spaced angles (1 is an ellipse)."""
    angles = np.linspace(0, 2 * np.pi, len(rough), endpoint=False)
    reach = np.asarray(rough)
    corners = np.stack(
        [centre[0] + radius_x * reach * np.cos(angles), centre[1] + radius_y * reach * np.sin(angles)], axis=1
    )
    return smooth_curve(corners, 4, closed=True)


def to_image(picture: Picture) -> Image.Image:
    """The picture as 8-bit RGB; what is too bright or too dark is clipped."""
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def to_picture(image: Image.Image) -> Picture:
    """The image as (height, width, 3) float32."""
    return np.asarray(image).astype(np.float32)


def as_pixel(colour: Colour) -> Picture:
    """The colour as (3,) float32, to be spread over a picture."""
    return np.array(colour, dtype=np.float32)


def as_fill(colour: Colour) -> tuple[int, int, int]:
    """The colour as Pillow's brushes take it."""
    red, green, blue = (min(max(int(part), 0), 255) for part in colour)
    return red, green, blue


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour, lighter or darker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def resize_field(field: Field, height: int, width: int) -> Field:
    """The field at another size, bicubic."""
    return np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC))


def fractal_noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    cells: tuple[int, int],
    octaves: int,
    persistence: float = 0.55,
) -> Field:
    """Fractal value noise between 0 and 1.

    Args:
        rng: Source of chance.
        height: Rows, in pixels.
        width: Columns, in pixels.
        cells: Rows and columns of the coarsest octave.
        octaves: How many; each has twice the cells of the one before.
        persistence: Amplitude of an octave relative to the one before.

    Returns:
        (height, width) float32.
    """
    rows, columns = cells
    field: Field = rng.random((rows, columns), dtype=np.float32)
    amplitude = 1.0
    for _ in range(octaves - 1):
        rows, columns, amplitude = rows * 2, columns * 2, amplitude * persistence
        field = resize_field(field, rows, columns)
        field = field + np.float32(amplitude) * rng.random((rows, columns), dtype=np.float32)
    field = resize_field(field, height, width)
    low, high = float(field.min()), float(field.max())
    return (field - np.float32(low)) / np.float32(max(high - low, 1e-6))
