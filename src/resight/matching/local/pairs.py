"""Local evidence of many pairs as numbers, made once a pair: one ``.npz`` file for each photo that was asked about.

A pair is known by the keys of both photos' features and by how they are compared, so a corrected box, other settings or
another matcher make another entry. What a run has compared is there for the next one, also where it was stopped.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight import progress
from resight.artefacts import atomic_path, key_of
from resight.calibration.evidence import LOCAL_FEATURES
from resight.matching.local.evidence import Evidence, LocalMatcher, MatchPlan
from resight.matching.local.geometry import GeometrySpec
from resight.matching.local.store import FeatureSet

SURE = 0.6  # confidence from which a match counts as sure
PAIRS_VERSION = 2  # raise it whenever the same features would give other numbers
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)

Numbers = NDArray[np.float64]


def numbers_of(evidence: Evidence) -> tuple[float, float, float]:
    """The evidence of one pair in the order of ``LOCAL_FEATURES``.

    The sum of squared confidences of its matches, how many are at least ``SURE``, and the sum over the inliers.
    """
    confidences = evidence.matches.confidences.astype(np.float64)
    agreeing = confidences if evidence.inliers is None else confidences[evidence.inliers]
    sure = float(np.count_nonzero(confidences >= SURE))
    return evidence.squared_confidence, sure, float((agreeing**2).sum())


class PairStore:
    """Numbers of pairs, kept by the keys of their features.

    Args:
        folder: The project's folder for local evidence.
        comparing: Key of how pairs are compared; see :func:`comparing_key`.
    """

    def __init__(self, folder: Path, comparing: str) -> None:
        self._folder = folder / f"pairs-{comparing[:12]}"

    def read(self, query: str) -> dict[str, tuple[float, float, float]]:
        """Key of the candidate's features → numbers, of everything that this photo was compared with."""
        try:
            with self._path(query).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                keys, numbers = file["candidates"].tolist(), file["numbers"].tolist()
        except _BROKEN:
            return {}
        return {key: (row[0], row[1], row[2]) for key, row in zip(keys, numbers, strict=True)}

    def write(self, query: str, numbers: Mapping[str, tuple[float, float, float]]) -> None:
        """Keep all numbers of one photo, whole or not at all."""
        keys = sorted(numbers)
        with atomic_path(self._path(query), durable=False) as temporary, temporary.open("wb") as file:
            np.savez(file, candidates=np.array(keys), numbers=np.array([numbers[key] for key in keys], np.float64))

    def _path(self, query: str) -> Path:
        return self._folder / query[:2] / f"{query}.npz"


def comparing_key(features: Mapping[str, object], plan: MatchPlan, geometry: GeometrySpec) -> str:
    """Key of how pairs are compared.

    Args:
        features: The deciding fields of the features' passport.
        plan: How much work goes into it.
        geometry: How matches are checked.
    """
    return key_of("pairs", PAIRS_VERSION, dict(features), asdict(plan), asdict(geometry))


def compare_pairs(
    queries: Sequence[str],
    candidates: Sequence[Sequence[str]],
    features: FeatureSet,
    matcher: LocalMatcher,
    store: PairStore,
) -> dict[str, Numbers]:
    """Compare every query with its candidates, as far as that was not done before.

    Args:
        queries: Annotation ids.
        candidates: Of each, annotation ids, the nearest first; of different lengths where some have fewer.
        features: Of all of them. In a pair of which one has none, nothing is found.
        matcher: Of the extractor that made the features; it must compare every candidate it is given.
        store: What was compared before; is added to.

    Returns:
        Name of the evidence (``LOCAL_FEATURES``) → (queries, longest) float64, NaN behind a query's candidates.
    """
    longest = max((len(row) for row in candidates), default=0)
    found = np.full((len(queries), longest, len(LOCAL_FEATURES)), np.nan)
    with progress.bar("local evidence", len(queries)) as running:
        for row, (query, wanted) in enumerate(zip(queries, candidates, strict=True)):
            _compare_one(query, wanted, features, matcher, store, found[row])
            running.advance()
    return {name: found[:, :, place] for place, name in enumerate(LOCAL_FEATURES)}


def _compare_one(
    query: str, wanted: Sequence[str], features: FeatureSet, matcher: LocalMatcher, store: PairStore, into: Numbers
) -> None:
    into[: len(wanted)] = 0.0  # where one of the photos has no keypoints, nothing is found
    if query not in features.keys:
        return
    key = features.keys[query]
    known = store.read(key)
    there = dict.fromkeys(one for one in wanted if one in features.keys)
    lacking = [one for one in there if features.keys[one] not in known]
    if lacking:
        compared = matcher.compare(features.load(query), lacking, features.load)
        known |= {
            features.keys[name]: numbers_of(one) for name, one in zip(lacking, compared, strict=True) if one is not None
        }
        store.write(key, known)
    for place, name in enumerate(wanted):
        if name in features.keys:
            into[place] = known[features.keys[name]]
