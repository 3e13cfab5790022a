"""What is drawn over a query and its candidate: matched points as lines, and heat as a translucent picture.

Places are fractions of the animal's cut-out, so that they hold for a cut-out of any size: the evidence chip in which
points are found, the preview in which they are shown and the square chip that the network sees all show the same box,
turned the same way.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight.errors import InputError

if TYPE_CHECKING:
    from resight.matching.local.evidence import Evidence

MOST_LINES = 60  # more of them hide the animal
STEPS = 5  # colours of confidence, of equal width
HEIGHT = 100.0  # of a pair of pictures side by side, in the drawing's units
GAP = 2.0  # between the two, in the same

_HEAT_PIXELS = 64  # longer side of a heat picture; it is stretched over a preview, smoothly
_HEAT_LEVELS = 16
_HEAT_COLOURS = np.array([(120, 28, 109), (229, 92, 48), (252, 255, 164)])  # rising in brightness, for every eye
_HEAT_OPACITY = 0.7


@dataclass(frozen=True, eq=False)
class PairLines:
    """Matched points of two pictures, the surest first.

    Attributes:
        query_points: (m, 2) float32, x and y in the query's picture, from 0 (left, top) to 1.
        candidate_points: (m, 2) float32, their partners in the candidate's.
        confidences: (m,) float32, from 0 to 1.
        of: How many matches there are with those that are not drawn.
    """

    query_points: NDArray[np.float32]
    candidate_points: NDArray[np.float32]
    confidences: NDArray[np.float32]
    of: int

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        m = len(self.confidences)
        if self.query_points.shape != (m, 2) or self.candidate_points.shape != (m, 2) or self.of < m:
            raise InputError(
                f"points of shapes {self.query_points.shape} and {self.candidate_points.shape}, {m} confidences of "
                f"{self.of} matches: expected (m, 2) twice, m and at least m"
            )

    def __len__(self) -> int:
        """How many are drawn."""
        return len(self.confidences)


@dataclass(frozen=True)
class PairPicture:
    """What a match sheet draws over a query and one candidate.

    Attributes:
        lines: Matched points; ``None`` where the two were not compared point by point.
        query_heat: A PNG from :func:`heat_overlay`: what of the query makes it like the candidate.
        candidate_heat: What of the candidate makes it like the query.
        photo: Which of the query's photos it is.
    """

    lines: PairLines | None = None
    query_heat: bytes | None = None
    candidate_heat: bytes | None = None
    photo: int = 0

    @property
    def draws(self) -> bool:
        """Whether there is anything to be drawn."""
        return any(one is not None for one in (self.lines, self.query_heat, self.candidate_heat))


@dataclass(frozen=True)
class Frame:
    """Two pictures side by side, of one height, in the drawing's units.

    Attributes:
        query_width: Of the query's, at the left.
        candidate_width: Of the candidate's.
    """

    query_width: float
    candidate_width: float

    @property
    def candidate_x(self) -> float:
        """Where the candidate's picture begins."""
        return round(self.query_width + GAP, 1)

    @property
    def width(self) -> float:
        """Of both and the gap."""
        return round(self.candidate_x + self.candidate_width, 1)


@dataclass(frozen=True)
class Strokes:
    """The lines of one colour, as SVG paths.

    Attributes:
        step: Of confidence, from 0 to ``STEPS`` − 1.
        lines: From the query's points to the candidate's.
        ends: A dot at each end of each.
    """

    step: int
    lines: str
    ends: str


def pair_lines(
    evidence: Evidence, query_size: tuple[int, int], candidate_size: tuple[int, int], *, most: int = MOST_LINES
) -> PairLines:
    """Lines of the surest matches.

    Args:
        evidence: What two photos have in common.
        query_size: Width and height of the query's evidence chip in pixels (``LocalFeatures.size``).
        candidate_size: Of the candidate's.
        most: How many lines at most.
    """
    confidences = evidence.matches.confidences
    surest = np.argsort(-confidences, kind="stable")[:most]
    return PairLines(
        _as_fractions(evidence.query_points_px[surest], query_size),
        _as_fractions(evidence.candidate_points_px[surest], candidate_size),
        np.asarray(confidences[surest], np.float32),
        len(confidences),
    )


def frame_of(query_px: tuple[int, int], candidate_px: tuple[int, int]) -> Frame:
    """The frame of two pictures of these widths and heights, each with its own proportions."""
    query, candidate = (round(HEIGHT * width / height, 1) for width, height in (query_px, candidate_px))
    return Frame(query, candidate)


def strokes(lines: PairLines, frame: Frame) -> tuple[Strokes, ...]:
    """The lines within a frame, those of the least confidence first, so that the others lie above them."""
    here = lines.query_points * (frame.query_width, HEIGHT)
    there = lines.candidate_points * (frame.candidate_width, HEIGHT) + (frame.candidate_x, 0.0)
    steps = np.clip((lines.confidences * STEPS).astype(int), 0, STEPS - 1)
    drawn = []
    for step in np.unique(steps):
        rows = np.flatnonzero(steps == step)
        starts = [_place(here[row]) for row in rows]
        ends = [_place(there[row]) for row in rows]
        joined = "".join(f"M{start}L{end}" for start, end in zip(starts, ends, strict=True))
        # A line of no length has its round caps: a dot.
        drawn.append(Strokes(int(step), joined, "".join(f"M{place}h0" for place in starts + ends)))
    return tuple(drawn)


def heat_overlay(heat: NDArray[np.floating[Any]]) -> bytes:
    """A picture to be laid over a preview: clear where there is no heat, bright where there is most.

    Args:
        heat: (h, w), from 0 to 1.

    Returns:
        A small PNG's bytes, of the proportions of ``heat``; stretched over the preview it lies where it belongs.

    Raises:
        InputError: another shape, or values outside 0 to 1.
    """
    if heat.ndim != 2 or not heat.size or not (heat.min() >= 0 and heat.max() <= 1):
        raise InputError(f"heat of shape {heat.shape}: expected (h, w) with values from 0 to 1")
    height, width = heat.shape
    scale = _HEAT_PIXELS / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smooth = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    levels = np.rint(np.clip(np.asarray(smooth), 0, 1) * (_HEAT_LEVELS - 1)).astype(np.uint8)
    picture = Image.frombytes("P", size, levels.tobytes())
    share = np.linspace(0, 1, _HEAT_LEVELS)
    stops = np.linspace(0, 1, len(_HEAT_COLOURS))
    colours = np.stack([np.interp(share, stops, channel) for channel in _HEAT_COLOURS.T], axis=1)
    picture.putpalette(np.rint(colours).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    opacity = np.rint(255 * _HEAT_OPACITY * share).astype(np.uint8).tobytes()
    picture.save(buffer, "PNG", transparency=opacity, optimize=True)
    return buffer.getvalue()


def _as_fractions(points: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """(m, 2) pixels of a chip, the first one's centre at (0, 0) → (m, 2) from 0 to 1, its edges."""
    return np.clip((points.astype(np.float64) + 0.5) / size, 0, 1).astype(np.float32)


def _place(point: NDArray[Any]) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
