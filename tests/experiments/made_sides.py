"""Test sides, vectors and scores that tests make up, and the plainest possible ranking to agree with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.experiments.scores import Scores
from resight.experiments.sides import TestSide
from resight.ranking import TIE


def at_degrees(*angles: float) -> NDArray[np.float64]:
    turned = np.deg2rad(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def side_of(
    identities: str | Sequence[str],
    *,
    encounters: Sequence[str] | None = None,
    individuals: Sequence[str] | None = None,
    tested: Sequence[int] | None = None,
    species: str = "nyala",
) -> TestSide:
    """By default each annotation is tested, an encounter of its own, and its identity an individual."""
    n = len(identities)
    ids = tuple(f"a{number:03}" for number in range(n))
    return TestSide(
        species=species,
        annotation_ids=ids,
        individuals=np.array(list(individuals or identities), dtype=np.str_),
        identities=np.array(list(identities), dtype=np.str_),
        encounters=np.array(list(encounters or ids), dtype=np.str_),
        tested=np.array(np.ones(n) if tested is None else tested, dtype=np.bool_),
        trained=np.array([name < "m" for name in identities], dtype=np.bool_),
    )


def random_side(seed: int, *, ties: bool, n: int = 70, dim: int = 6) -> tuple[TestSide, NDArray[np.float32]]:
    """Identities of two sides of an individual, encounters of several photos, photos that are not tested, and queries
    without a match. With ``ties``, vectors are of so few values that many are the same.
    """
    rng = np.random.default_rng(seed)
    individual = rng.integers(0, 14, n)
    identity = individual * 2 + (rng.random(n) < 0.3)
    encounter = individual * 100 + rng.integers(0, 5, n)
    vectors = rng.normal(size=(28, dim))[identity] * 0.8 + rng.normal(size=(n, dim))
    if ties:
        vectors = np.round(vectors / 2)
        vectors[~vectors.any(axis=1), 0] = 1
    side = side_of(
        [f"{number:02}" for number in identity],
        encounters=[f"{number:04}" for number in encounter],
        individuals=[f"{number:02}" for number in individual],
        tested=(rng.random(n) < 0.75).tolist(),
    )
    return side, vectors.astype(np.float32)


def cosines_of(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """(n, n)"""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def ordered(cosines: Sequence[float], matches: Sequence[bool]) -> list[int]:
    """The gallery of one query, nearest first, by the rule: the cosine counts, a match must exceed a non-match by TIE,
    the lower row comes first. Cosines that differ by rounding only are the same.
    """
    standing = [round(float(cosine) - float(TIE) * match, 8) for cosine, match in zip(cosines, matches, strict=True)]
    return sorted(range(len(cosines)), key=lambda row: (-standing[row], matches[row], row))


def scores_of(
    identities: Sequence[str], first_ranks: Sequence[int], *, species: str = "nyala", start: int = 0
) -> Scores:
    """Scores with these queries; precision is 1 / rank, and the figures that are not per query are left out."""
    n = len(identities)
    ranks = np.array(first_ranks, dtype=np.int64)
    names = np.array(list(identities), dtype=np.str_)
    return Scores(
        species=species,
        seed=0,
        annotation_ids=tuple(f"a{start + number:05}" for number in range(n)),
        individuals=names,
        identities=names,
        encounters=names,
        trained=np.zeros(n, np.bool_),
        first_ranks=ranks,
        precisions=1 / ranks,
        excluded=0,
        top1_chance=None,
        top1_encounter=None,
        encounters_scored=0,
        photos_per_encounter=None,
        top1_single_image=None,
        auroc=None,
        baks=None,
        baus=None,
        top1_leaky=None,
        queries_leaky=0,
        top1_background=None,
        queries_background=0,
        top1_same_queries=None,
        background_left_out=0,
    )
