"""From the evidence for a shortlist to probabilities, and to the order in which candidates are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resight.calibration.evidence import LOCAL_FEATURES, Group, best_names, candidates_of
from resight.calibration.fusion import NotEnough, Same
from resight.calibration.open_set import New
from resight.calibration.stored import Calibration
from resight.matching.candidates import CandidateSet, LocalSummary, Scored
from resight.matching.local.pairs import numbers_of
from resight.matching.words import compared_locally, did_not_help

if TYPE_CHECKING:
    from resight.matching.local.evidence import Evidence

UNTOLD_SHARE = 0.1  # of new animals, for a species whose catalogue suggests none and of which nobody said


@dataclass(frozen=True)
class Answered:
    """The candidates of one query in the order of all that is known of them.

    Attributes:
        scored: The best first.
        p_new: Probability that the animal is none of those compared; ``None`` without one.
        p_new_ci95: Its interval.
        note: Why there is no probability, or what it rests on; how far local evidence went where that was not to the
            end of the shortlist, and whether it helped the species at all.
        reranked: Whether the order is another than that of the cosine.
    """

    scored: tuple[Scored, ...]
    p_new: float | None = None
    p_new_ci95: tuple[float, float] | None = None
    note: str | None = None
    reranked: bool = False


def best_pairs(by_photo: Sequence[Sequence[Evidence | None]]) -> list[tuple[LocalSummary, Evidence] | None]:
    """Of several photos of one animal the one that matches best stands for each candidate.

    Args:
        by_photo: For each photo of the query the evidence for each candidate; ``None`` where the two were not compared.

    Returns:
        One a candidate; ``None`` for those that no photo was compared with.
    """
    found: list[tuple[LocalSummary, Evidence] | None] = []
    for pairs in zip(*by_photo, strict=True):
        compared = [(photo, one, numbers_of(one)) for photo, one in enumerate(pairs) if one is not None]
        if not compared:
            found.append(None)
            continue
        photo, best, numbers = max(compared, key=lambda pair: pair[2][0])  # of equals, the first
        found.append((LocalSummary(best.confidence, best.count, best.inlier_count, photo, numbers), best))
    return found


def answer(
    scored: Sequence[Scored],
    among: CandidateSet,
    group: Group,
    calibration: Calibration | None,
    *,
    shortlist: int,
    share_of_new: float | None = None,
) -> Answered:
    """Judge a shortlist.

    The first ``shortlist`` candidates get a probability and stand by it; those behind keep their order. Without a
    calibration, or with too few confirmed pairs of the species, they stand by the sum of the local confidences where
    there is local evidence, else by the cosine.

    Args:
        scored: The nearest first; local evidence is known of the first of them: of all of the first ``shortlist``, of
            those up to where it was decisive, or of none.
        among: What the query was compared with.
        group: Species and viewpoint of the query.
        calibration: Of this very model and way of comparing.
        shortlist: As many as the calibration was made with.
        share_of_new: The share of new animals that is expected; ``None``: what the catalogue suggested.
    """
    first, behind = list(scored[:shortlist]), list(scored[shortlist:])
    if not first:
        return Answered((), note="There was nothing to compare with.")
    judged = _judge(first, behind, among, group, calibration, share_of_new)
    said = [text for text in (judged.note, *_about_local(first, group, calibration)) if text is not None]
    return replace(judged, note=" ".join(said) if said else None)


def _judge(
    first: list[Scored],
    behind: list[Scored],
    among: CandidateSet,
    group: Group,
    calibration: Calibration | None,
    share_of_new: float | None,
) -> Answered:
    same = None if calibration is None else _p_same(first, group, calibration)
    if calibration is None or not isinstance(same, Same):
        order = _by_local_sum(first)
        note = f"{same.reason[0].upper()}{same.reason[1:]}." if isinstance(same, NotEnough) else None
        return Answered((*(first[row] for row in order), *behind), note=note, reranked=order != sorted(order))
    order = np.argsort(-same.logit, kind="stable").tolist()
    judged = [
        # What is compared although a reason speaks against it is no pair of those that the calibration has seen.
        one
        if one.annotation.annotation_id in among.despite
        else replace(one, p_same=_rounded(same.p[row]), p_same_ci95=_interval(same.low[row], same.high[row]))
        for row, one in enumerate(first)
    ]
    answered = Answered((*(judged[row] for row in order), *behind), reranked=order != sorted(order))
    if among.despite:
        note = "What was included although a reason speaks against it has no probability, nor is there a P(new) then."
        return replace(answered, note=note)
    return _with_p_new(answered, same, first, among, group, calibration, share_of_new)


def _p_same(first: Sequence[Scored], group: Group, calibration: Calibration) -> Same | NotEnough:
    cosine = np.array([[one.cosine for one in first]])
    local: dict[str, NDArray[np.float64]] | None = None
    if any(one.evidence is not None for one in first):
        unknown = (np.nan,) * len(LOCAL_FEATURES)  # of those behind what was decisive
        numbers = [unknown if one.evidence is None else one.evidence.numbers for one in first]
        local = {name: np.array([[row[place] for row in numbers]]) for place, name in enumerate(LOCAL_FEATURES)}
    names = np.array([_codes(first)], np.int64)
    return calibration.fusion.p_same(candidates_of(cosine, names, np.ones_like(names, np.bool_), local), group)


def _with_p_new(
    answered: Answered,
    same: Same,
    first: Sequence[Scored],
    among: CandidateSet,
    group: Group,
    calibration: Calibration,
    share_of_new: float | None,
) -> Answered:
    query = np.zeros(len(first), np.int64)
    best = best_names(same.evidence, query, np.array(_codes(first), np.int64), 1)
    suggested = calibration.shares.get(group.species)
    share = share_of_new if share_of_new is not None else UNTOLD_SHARE if suggested is None else suggested.share
    names = np.array([len(among.names) if np.isfinite(best.best[0]) else 0])
    new = calibration.open_set.p_new(best.best, best.gap, names, group.species, share=share)
    rests = (
        f"P(same) rests on {same.support.confirmed:,} confirmed pairs of {same.support.individuals:,} individuals "
        f"({same.level} level)"
    )
    if not isinstance(new, New):
        return replace(answered, note=f"{rests}; {new.reason}.")
    source = "as the catalogue suggests" if suggested is not None else "assumed"
    said = source if share_of_new is None else "as told"
    return replace(
        answered,
        p_new=_rounded(new.p[0]),
        p_new_ci95=_interval(new.low[0], new.high[0]),
        note=f"{rests}; P(new) expects {share:.0%} of animals to be new, {said}.",
    )


def _about_local(first: Sequence[Scored], group: Group, calibration: Calibration | None) -> list[str]:
    """How far local evidence went along the shortlist, and whether it is any use for the species."""
    compared = sum(one.evidence is not None for one in first)
    if compared == 0:
        return []
    said = [] if compared == len(first) else [compared_locally(compared, len(first))]
    if calibration is not None and calibration.did_not_help(group.species):
        said.append(did_not_help(group.species, *calibration.first_right[group.species]))
    return said


def _by_local_sum(first: Sequence[Scored]) -> list[int]:
    """Rows by falling sum of squared local confidences; of equals, and without local evidence, as they stand."""
    return sorted(range(len(first)), key=lambda row: -(0.0 if (e := first[row].evidence) is None else e.numbers[0]))


def _codes(first: Sequence[Scored]) -> list[int]:
    known: dict[str, int] = {}
    return [-1 if (name := one.annotation.individual) is None else known.setdefault(name, len(known)) for one in first]


def _rounded(value: float) -> float:
    return round(float(value), 4)


def _interval(low: float, high: float) -> tuple[float, float] | None:
    return (_rounded(low), _rounded(high)) if np.isfinite(low) and np.isfinite(high) else None
