"""Keypoints of one animal: how they are asked for, what is kept of them, and where they lie in the photo.

They are taken from the evidence chip: the animal's box cut out of the photo with its proportions, at the photo's own
resolution. More points are asked of the network than are kept, and those off the animal are left out afterwards, so
that the background takes no animal's place; it is never painted over, since an edge that was painted has points too.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.artefacts import key_of
from resight.errors import InputError
from resight.images import CUT_VERSION, cut_out
from resight.types import Box

ExtractorName = Literal["aliked-n16", "aliked-n16rot", "disk", "xfeat", "loftr"]
DIMENSIONS: dict[ExtractorName, int] = {"aliked-n16": 128, "aliked-n16rot": 128, "disk": 128, "xfeat": 64, "loftr": 256}
"""Numbers of a descriptor."""

FEATURES_VERSION = 1  # raise it whenever the same chip and weights would give other points
LEAST_SIDE_PX = 32  # no network takes less; a side that is shorter is stretched to it
_POINTS = range(8, 4097)
_SIDES = range(64, 4097)


class Keyed(Protocol):
    """What has a key of what it is made of."""

    @property
    def key(self) -> str:
        """The same for the same."""
        ...


@dataclass(frozen=True)
class ExtractorSpec:
    """How keypoints are taken.

    Attributes:
        name: The network; ``aliked-n16rot`` is for animals that lie any way up, as those seen from above.
        points: How many are kept, the surest first; of LoFTR's cells as many as the animal has at most, 1,000 or more.
        asked: How many the network may give before those off the animal are left out.
        longest_px: The longer side of the evidence chip is at most this.
        most_enlarged: A smaller photo may be enlarged by this factor towards ``longest_px``; 1 never enlarges.
    """

    name: ExtractorName = "aliked-n16"
    points: int = 512
    asked: int = 4096
    longest_px: int = 1024
    most_enlarged: float = 1.0

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.name not in get_args(ExtractorName):
            raise InputError(f"extractor {self.name!r}: expected one of {', '.join(get_args(ExtractorName))}")
        if self.points not in _POINTS:
            raise InputError(f"points {self.points}: expected {_POINTS.start} to {_POINTS.stop - 1}")
        if self.asked < self.points:
            raise InputError(f"asked {self.asked}: expected at least the {self.points} points that are kept")
        if self.longest_px not in _SIDES:
            raise InputError(f"longest_px {self.longest_px}: expected {_SIDES.start} to {_SIDES.stop - 1} pixels")
        if not 1 <= self.most_enlarged <= 4:
            raise InputError(f"most_enlarged {self.most_enlarged}: expected 1 (never) to 4")

    @property
    def dim(self) -> int:
        """Numbers of a descriptor."""
        return DIMENSIONS[self.name]

    @property
    def folder_name(self) -> str:
        """Name of the folder that holds features taken so; two specs never share one."""
        settings = key_of(self.decides)[:6]
        return f"{self.name}-{self.points}-v{FEATURES_VERSION}-{settings}"

    @property
    def decides(self) -> dict[str, Any]:
        """What decides the points beside the weights."""
        versions = {"features_version": FEATURES_VERSION, "cut_version": CUT_VERSION, "least_side_px": LEAST_SIDE_PX}
        return {**asdict(self), **versions}

    def key(self, content_hash: str, box: Box | None, theta_rad: float, inside: Keyed | None) -> str:
        """The key of one animal's features; ``inside`` says which points are on it: an outline, or an estimate."""
        place = None if box is None else [float(side) for side in (box.x, box.y, box.w, box.h)]
        told = None if inside is None else inside.key
        return key_of("local features", self.decides, content_hash, place, float(theta_rad), told)


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Keypoints of one animal, the surest first.

    Attributes:
        keypoints: (n, 2) float32, x and y in pixels of the evidence chip; the centre of its first pixel is (0, 0).
        descriptors: (n, dim) float16.
        scores: (n,) float16, how sure the network is that there is a point.
        size: Width and height of the evidence chip in pixels.
    """

    keypoints: NDArray[np.float32]
    descriptors: NDArray[np.float16]
    scores: NDArray[np.float16]
    size: tuple[int, int]

    def __len__(self) -> int:
        """How many points there are."""
        return len(self.keypoints)

    def best(self, count: int) -> LocalFeatures:
        """The surest of them, at most ``count``."""
        return LocalFeatures(self.keypoints[:count], self.descriptors[:count], self.scores[:count], self.size)


def chip_size(box: Box, spec: ExtractorSpec) -> tuple[int, int]:
    """Width and height in pixels of the evidence chip of a box."""
    scale = min(spec.longest_px / max(box.w, box.h), spec.most_enlarged)
    return max(LEAST_SIDE_PX, round(box.w * scale)), max(LEAST_SIDE_PX, round(box.h * scale))


def cut_evidence_chip(
    content: bytes, name: str, box: Box | None, theta_rad: float, spec: ExtractorSpec
) -> NDArray[np.uint8]:
    """Cut the animal out of its photo, its proportions kept; turned as a chip is.

    Args:
        content: The file's bytes.
        name: How messages call it.
        box: In pixels of the upright image; ``None`` takes the whole image.
        theta_rad: Rotation of the box in radians.
        spec: Says how large the chip is.

    Returns:
        (h, w, 3) uint8, RGB.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    return np.asarray(cut_out(content, name, box, theta_rad, lambda place: chip_size(place, spec)), dtype=np.uint8)


def in_photo(
    keypoints: NDArray[np.floating[Any]], size: tuple[int, int], box: Box, theta_rad: float
) -> NDArray[np.float64]:
    """Where points of an evidence chip lie in its photo.

    Args:
        keypoints: (n, 2), in pixels of the chip, the first pixel's centre at (0, 0).
        size: Width and height of the chip.
        box: What the chip shows, in pixels of the upright photo.
        theta_rad: Its rotation about its centre, clockwise with y down.

    Returns:
        (n, 2) float64: x and y in the upright photo, whose first pixel reaches from 0 to 1.
    """
    across = (keypoints[:, 0].astype(np.float64) + 0.5) / size[0] * box.w - box.w / 2
    down = (keypoints[:, 1].astype(np.float64) + 0.5) / size[1] * box.h - box.h / 2
    cosine, sine = math.cos(theta_rad), math.sin(theta_rad)
    x = box.x + box.w / 2 + cosine * across - sine * down
    y = box.y + box.h / 2 + sine * across + cosine * down
    return np.stack([x, y], axis=1)


def on_animal(
    keypoints: NDArray[np.floating[Any]], size: tuple[int, int], box: Box, theta_rad: float, mask: Image.Image
) -> NDArray[np.bool_]:
    """Which points lie inside a mask of the photo.

    Args:
        keypoints: (n, 2), in pixels of the evidence chip.
        size: Width and height of that chip.
        box: What the chip shows.
        theta_rad: Its rotation.
        mask: An 8-bit picture as large as the upright photo: 255 inside, 0 outside.

    Returns:
        (n,) bool; a point outside the photo is outside.
    """
    places = np.floor(in_photo(keypoints, size, box, theta_rad)).astype(np.int64)
    x, y = places[:, 0], places[:, 1]
    shown = (x >= 0) & (y >= 0) & (x < mask.width) & (y < mask.height)
    inside = np.zeros(len(places), np.bool_)
    inside[shown] = np.asarray(mask)[y[shown], x[shown]] > 0
    return inside


def keep_best(
    keypoints: NDArray[np.float32],
    descriptors: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    size: tuple[int, int],
    points: int,
    inside: NDArray[np.bool_] | None = None,
) -> LocalFeatures:
    """Leave out what is not on the animal, then all but the surest points.

    Args:
        keypoints: (n, 2), in pixels of the chip.
        descriptors: (n, dim).
        scores: (n,), higher is surer; of equal ones the first is kept.
        size: Width and height of the chip.
        points: How many are kept at most.
        inside: (n,), which of them are on the animal; ``None`` takes all.
    """
    rows = np.arange(len(keypoints)) if inside is None else np.flatnonzero(inside)
    rows = rows[np.argsort(-scores[rows], kind="stable")][:points]
    return LocalFeatures(
        np.ascontiguousarray(keypoints[rows], np.float32),
        np.ascontiguousarray(descriptors[rows], np.float16),
        np.ascontiguousarray(scores[rows], np.float16),
        size,
    )
