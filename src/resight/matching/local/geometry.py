"""Whether matched points lie in one photo as they do in the other: inliers of one map, found by RANSAC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from resight.errors import InputError

MapKind = Literal["affine", "homography", "fundamental"]
LEAST_MATCHES: dict[MapKind, int] = {"affine": 4, "homography": 5, "fundamental": 8}
"""Fewer matches agree with some map whatever they are."""


@dataclass(frozen=True)
class GeometrySpec:
    """How matched points are checked.

    Attributes:
        kind: The maps that are tried.
        tolerance: How far a point may lie from where the map takes it, as a share of the diagonal of the candidate's
            evidence chip; animals bend, so it is not small.
        samples: How many maps are tried at most.
    """

    kind: MapKind = "affine"
    tolerance: float = 0.02
    samples: int = 1024

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.kind not in get_args(MapKind):
            raise InputError(f"geometry {self.kind!r}: expected one of {', '.join(get_args(MapKind))}")
        if not 0 < self.tolerance <= 1:
            raise InputError(f"tolerance {self.tolerance}: expected more than 0 and at most 1, of the chip's diagonal")
        if self.samples < 1:
            raise InputError(f"samples {self.samples}: expected 1 or more")


def find_inliers(
    query: NDArray[np.floating[Any]],
    candidate: NDArray[np.floating[Any]],
    candidate_size: tuple[int, int],
    spec: GeometrySpec | None = None,
) -> NDArray[np.bool_]:
    """Which matches agree with one map from the query's chip to the candidate's.

    The same input gives the same answer; torch's own random numbers are left alone.

    Args:
        query: (m, 2) matched points, in pixels of the query's evidence chip.
        candidate: (m, 2) their partners, in pixels of the candidate's.
        candidate_size: Width and height of the candidate's chip.
        spec: How to check; ``None``: as usual.

    Returns:
        (m,) bool; none where there are fewer matches than :data:`LEAST_MATCHES`, or no map has enough.

    Raises:
        InputError: unlike numbers of points.
    """
    spec = spec or GeometrySpec()
    if query.shape != candidate.shape or query.ndim != 2 or query.shape[1] != 2:
        raise InputError(f"points of shapes {query.shape} and {candidate.shape}: expected two times (m, 2)")
    if len(query) < LEAST_MATCHES[spec.kind]:
        return np.zeros(len(query), np.bool_)
    from kornia.geometry.ransac import RANSAC

    batch = min(spec.samples, 256)
    search = RANSAC(
        spec.kind,
        inl_th=spec.tolerance * float(np.hypot(*candidate_size)),
        batch_size=batch,
        max_iter=-(-spec.samples // batch),
        seed=0,
    )
    with torch.no_grad():
        _, inliers = search(torch.from_numpy(query.astype(np.float32)), torch.from_numpy(candidate.astype(np.float32)))
    return np.asarray(inliers.numpy(), np.bool_)
