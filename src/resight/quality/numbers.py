"""How good the picture of an animal is, in numbers.

All numbers of an annotation come from one decode of its photo, of the picture inside its box at no more than
:data:`LONGEST` pixels on the longer side and never enlarged, so that a large animal and a small one compare: what is
looked at is about what a network is shown.

- **sharpness**, 0 to 100: 25 times the mean squared second difference of the grey values over the mean squared first
  difference, along the axis on which that is less. It is the variance of the Laplacian (Pech-Pacheco et al. 2000)
  over the energy of the gradient (Subbarao et al. 1993), both taken along one axis, and so the strength of the edges
  cancels: fog, shade or a plain coat are not blur. It tells how fine the edges are, in proportion to 1/width². Single
  pixels of black and white give 100, noise 75. Of photos of four sets, nine in ten had 17 to 48; the same photos
  blurred by a Gaussian of 1 pixel (at that size) had 10 in the median, by one of 2 pixels 4, and moved by 5 pixels 8.
  The lesser axis counts because motion blurs along one. Grain, sharpening by the camera and fine grass around a dark
  animal pass for sharpness. ``benchmarks/bench_quality.py --project DIR`` prints this for other photos.
- **side_px**: the shorter side of the box in pixels of the photo.
- **contrast**: the 95th less the 5th percentile of the grey values, in levels of 0 to 255.
- **cut_share**, 0 to 1: see :func:`cut_share`.
- **phash**: the hash of :func:`resight.images.perceptual_hash`, taken of the same cut.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.artefacts import key_of
from resight.catalogue.measuring import Numbers
from resight.images import cut_grey, hash_of
from resight.types import Box

VERSION = 1  # raise it whenever a number changes
LONGEST = 256
FLUSH = 0.005  # of the photo's side: a box that comes so near to the border lies on it
FLUSH_OF_BOX = 0.05  # and of the box's side, for a small animal may come near to the border and be whole
BEYOND = 0.1  # of the box's side: so far an animal is taken to go on beyond a border on which its box lies


def measured_key(content_hash: str, box: Box | None, theta_rad: float) -> str:
    """The key of what the numbers of an annotation are made from."""
    place = None if box is None else [float(side) for side in (box.x, box.y, box.w, box.h)]
    return key_of("quality", VERSION, content_hash, place, float(theta_rad))


def numbers_of(content: bytes, name: str, box: Box | None, theta_rad: float) -> Numbers:
    """Measure one animal in a photo.

    Args:
        content: The file's bytes.
        name: How messages call it.
        box: In pixels of the upright image; ``None`` takes the whole image.
        theta_rad: Rotation of the box in radians.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    picture, (width, height) = cut_grey(content, name, box, theta_rad, LONGEST)
    grey = np.asarray(picture, np.float32)
    shown = _shown(box, theta_rad, width, height, picture)
    return Numbers(
        sharpness=round(sharpness(grey, shown), 3),
        side_px=float(min(width, height) if box is None else min(box.w, box.h)),
        contrast=round(contrast(grey, shown), 3),
        cut_share=round(cut_share(box, theta_rad, width, height), 4),
        phash=hash_of(picture),
    )


def sharpness(grey: NDArray[np.float32], shown: NDArray[np.bool_] | None = None) -> float:
    """How fine the edges of a picture are, from 0 to 100; see the head of this file.

    Args:
        grey: (h, w), levels of 0 to 255.
        shown: (h, w), where the picture is part of the photo; ``None`` is everywhere.

    Returns:
        0 for an even picture. An axis along which nothing changes says nothing.
    """
    found = []
    for turned in (False, True):
        values = grey.T if turned else grey
        first = np.diff(values, axis=1)
        second = np.diff(first, axis=1)
        if shown is not None:
            known = shown.T if turned else shown
            first = first[known[:, 1:] & known[:, :-1]]
            second = second[known[:, 2:] & known[:, 1:-1] & known[:, :-2]]
        energy = _mean_square(first)
        if energy > 0 and second.size:
            found.append(25 * _mean_square(second) / energy)
    return min(100.0, *found) if found else 0.0


def contrast(grey: NDArray[np.float32], shown: NDArray[np.bool_] | None = None) -> float:
    """The 95th less the 5th percentile of the grey values, in levels; the arguments are those of :func:`sharpness`."""
    values = grey if shown is None else grey[shown]
    if not values.size:
        return 0.0
    low, high = np.percentile(values, (5, 95))
    return float(high - low)


def cut_share(box: Box | None, theta_rad: float, width: int, height: int) -> float:
    """How much of the animal the frame cuts off, from 0 to 1, as far as its box tells.

    It is the share of the (rotated) box's area that lies outside the photo. A detector's box ends at the border
    however much is cut off, so a side of the box that lies on the border or beyond it is moved at least a tenth of the
    box's size beyond: 0.09 where one side lies on it, 0.17 where two do. How much of the animal is really missing
    nobody knows; a limit of 0.05 leaves out everything that touches the border, one of 0.3 only what certainly
    lies outside. A box with all four sides on the border says nothing, since most such pictures are cut-outs.

    Args:
        box: In pixels of the photo, upright; ``None`` (the whole photo) is 0.
        theta_rad: Rotation of the box in radians; a box that does not stand square to the frame lies on no border.
        width: Of the photo in pixels, upright.
        height: Of the photo in pixels, upright.
    """
    if box is None:
        return 0.0
    corners = _corners(box, theta_rad)
    quarters = theta_rad / (math.pi / 2)
    if abs(quarters - round(quarters)) < 1e-3:
        corners = _beyond(corners, width, height)
    area = _area(corners)
    return 0.0 if area <= 0 else min(1.0, max(0.0, 1 - _area(_inside(corners, width, height)) / area))


def _mean_square(values: NDArray[np.float32]) -> float:
    return float(np.mean(values.astype(np.float64) ** 2)) if values.size else 0.0


def _corners(box: Box, theta_rad: float) -> NDArray[np.float64]:
    """(4, 2), in order, in pixels of the photo."""
    cosine, sine = math.cos(theta_rad), math.sin(theta_rad)
    turn = np.array([[cosine, sine], [-sine, cosine]])  # of rows
    offsets = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (box.w / 2, box.h / 2)
    centre = np.array([box.x + box.w / 2, box.y + box.h / 2])
    turned: NDArray[np.float64] = centre + offsets @ turn
    return turned


def _beyond(corners: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """A box that stands square to the frame, its sides on the border moved beyond it."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    side, frame = high - low, np.array([width, height], np.float64)
    near = np.maximum(1.0, np.minimum(FLUSH * frame, FLUSH_OF_BOX * side))
    at_low, at_high = low <= near, high >= frame - near
    if not (at_low.all() and at_high.all()):
        low = np.where(at_low, np.minimum(low, -BEYOND * side), low)
        high = np.where(at_high, np.maximum(high, frame + BEYOND * side), high)
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])


def _inside(corners: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """The part of a convex shape inside the frame (Sutherland and Hodgman 1974): (n, 2), n may be 0."""
    points = [(float(x), float(y)) for x, y in corners]
    for axis, limit, sign in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        kept: list[tuple[float, float]] = []
        for before, after in zip([*points[-1:], *points[:-1]], points, strict=True):
            depth, depth_after = sign * (before[axis] - limit), sign * (after[axis] - limit)
            if (depth > 0) != (depth_after > 0):
                share = depth / (depth - depth_after)
                kept.append((before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])))
            if depth_after > 0:
                kept.append(after)
        points = kept
    return np.array(points).reshape(-1, 2)


def _area(points: NDArray[np.float64]) -> float:
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _shown(box: Box | None, theta_rad: float, width: int, height: int, cut: Image.Image) -> NDArray[np.bool_] | None:
    """Which pixels of a cut are photo, and not the black around it nor mixed with that; ``None`` where all are."""
    if box is None:
        return None
    corners = _corners(box, theta_rad)
    if (corners >= 0).all() and (corners <= (width, height)).all():
        return None
    step_x, step_y = box.w / cut.width, box.h / cut.height
    across, down = np.meshgrid(
        (np.arange(cut.width) + 0.5) * step_x - box.w / 2, (np.arange(cut.height) + 0.5) * step_y - box.h / 2
    )
    cosine, sine = math.cos(theta_rad), math.sin(theta_rad)
    x = box.x + box.w / 2 + cosine * across - sine * down
    y = box.y + box.h / 2 + sine * across + cosine * down
    # Where the photo ends, a pixel of the cut is a mean over up to two of its widths.
    margin = 2 * max(step_x, step_y, 1.0)
    shown: NDArray[np.bool_] = (x >= margin) & (x <= width - margin) & (y >= margin) & (y <= height - margin)
    return shown
