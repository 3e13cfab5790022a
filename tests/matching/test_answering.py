"""From evidence to the order and the probabilities of an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resight.artefacts import Passport
from resight.calibrating import calibrate, suggested_shares
from resight.calibration.evidence import Group
from resight.calibration.shortlists import pairs_of, shortlists_of
from resight.calibration.stored import Calibration
from resight.matching.answering import answer, best_pairs
from resight.matching.candidates import CandidateSet, LocalSummary, Scored
from resight.matching.local.evidence import Evidence, nothing_found
from resight.matching.local.lightglue import PairMatches

from ..made_up import annotation
from ..test_calibrating import herd, plain_local

LEFT = Group("zebra", "left")


def evidence(*confidences: float, inliers: int = 0) -> Evidence:
    count = len(confidences)
    rows = np.arange(count)
    matches = PairMatches(rows, rows, np.array(confidences, np.float32))
    points = np.zeros((count, 2), np.float32)
    return Evidence(matches, points, points, np.arange(count) < inliers, True)


def scored(
    name: str | None, cosine: float, numbers: tuple[float, float, float] | None = None, **changes: Any
) -> Scored:
    one = annotation(f"{name}-{cosine}", individual=name, viewpoint="left", **changes)
    summary = None if numbers is None else LocalSummary(numbers[0], int(numbers[1]), int(numbers[2]), 0, numbers)
    return Scored(one, cosine, summary)


def among(shortlist: list[Scored], **despite: tuple[str, ...]) -> CandidateSet:
    return CandidateSet(tuple(one.annotation for one in shortlist), {}, despite)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    split, annotations, table = herd(30, 4, noise=0.4)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=20)
    assert pairs_of(lists, None, shortlist=10).same.any()
    return calibrate(lists, None, Passport("c", {}), suggested_shares(annotations), shortlist=10).calibration


def test_the_best_photo_of_several_stands_for_each_candidate() -> None:
    first = [evidence(0.9, 0.9, inliers=2), nothing_found(), evidence(0.5), None, None]
    second = [evidence(0.9), nothing_found(), evidence(0.6, 0.7, inliers=1), evidence(0.4), None]
    (a, _), (b, _), (c, best), (d, only) = (pair for pair in best_pairs([first, second])[:4] if pair is not None)
    assert (a.photo, a.count, a.inliers) == (0, 2, 2)
    assert a.numbers == pytest.approx((1.62, 2, 1.62))
    assert (b.sum, b.count, b.inliers, b.photo, b.numbers) == (0.0, 0, 0, 0, (0.0, 0.0, 0.0))
    assert (c.photo, c.numbers) == (1, pytest.approx((0.85, 2, 0.36)))
    assert best is second[2]
    assert (d.photo, only) == (1, second[3])  # the other photo did not look
    assert best_pairs([first, second])[4] is None


def test_without_a_calibration_local_evidence_orders_the_shortlist_and_nothing_behind_it() -> None:
    shortlist = [scored("a", 0.9, (1, 1, 1)), scored("b", 0.8, (5, 5, 5)), scored("c", 0.7)]
    found = answer(shortlist, among(shortlist), LEFT, None, shortlist=2)
    assert [one.annotation.individual for one in found.scored] == ["b", "a", "c"]
    assert (found.reranked, found.p_new, found.note) == (True, None, None)
    assert all(one.p_same is None for one in found.scored)
    plain = [scored("a", 0.9), scored("b", 0.8)]
    same = answer(plain, among(plain), LEFT, None, shortlist=2)
    assert (same.scored, same.reranked) == (tuple(plain), False)


def test_probabilities_fall_with_the_evidence_and_stop_behind_the_shortlist(calibration: Calibration) -> None:
    shortlist = [scored("a", 0.95), scored("b", 0.4), scored("c", 0.1), scored("d", 0.05)]
    found = answer(shortlist, among(shortlist), LEFT, calibration, shortlist=3)
    p = [one.p_same for one in found.scored]
    assert p[3] is None
    assert p[0] is not None
    assert p[1] is not None
    assert p[2] is not None
    assert p[0] > 0.8 > p[1] >= p[2]
    low, high = found.scored[0].p_same_ci95 or (1.0, 0.0)
    assert low <= p[0] <= high
    assert found.p_new is not None
    assert "confirmed pairs of 30 individuals" in (found.note or "")
    poor = [scored("a", 0.2), scored("b", 0.19), scored("c", 0.18)]
    worse = answer(poor, among(poor), LEFT, calibration, shortlist=3)
    assert worse.p_new is not None
    assert worse.p_new > found.p_new


def test_the_share_of_new_animals_that_the_user_names_counts(calibration: Calibration) -> None:
    shortlist = [scored("a", 0.5), scored("b", 0.4)]
    few, many = (
        answer(shortlist, among(shortlist), LEFT, calibration, shortlist=3, share_of_new=share) for share in (0.1, 0.5)
    )
    assert few.p_new is not None
    assert many.p_new is not None
    odds = [p / (1 - p) for p in (few.p_new, many.p_new)]
    assert odds[1] / odds[0] == pytest.approx(9, rel=0.05)  # (0.5 / 0.5) / (0.1 / 0.9)
    assert "as told" in (few.note or "")


def test_a_species_without_enough_pairs_says_so(calibration: Calibration) -> None:
    shortlist = [scored("a", 0.5, species="lion")]
    found = answer(shortlist, among(shortlist), Group("lion"), calibration, shortlist=3)
    assert found.scored[0].p_same is None
    assert (found.note or "").startswith("Not enough confirmed pairs of lion")


def test_what_was_included_has_no_probability(calibration: Calibration) -> None:
    shortlist = [scored("a", 0.9), scored("b", 0.8)]
    other = among(shortlist, **{shortlist[1].annotation.annotation_id: ("other side",)})
    found = answer(shortlist, other, LEFT, calibration, shortlist=3)
    assert [one.p_same is None for one in found.scored] == [False, True]
    assert found.p_new is None
    assert "included" in (found.note or "")


@pytest.fixture(scope="module")
def stopping() -> Calibration:
    """Where local evidence is plain for every second animal, and worth nothing for the others."""
    split, annotations, table = herd(40, 4, noise=1.5)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=40)
    made = calibrate(lists, plain_local(lists), Passport("c", {}), suggested_shares(annotations), shortlist=20)
    return made.calibration


def test_candidates_behind_a_decisive_one_are_judged_without_local_evidence(stopping: Calibration) -> None:
    shortlist = [scored("a", 0.3, (31, 40, 31)), scored("b", 0.29, (1, 2, 0)), scored("c", 0.2), scored("d", 0.1)]
    found = answer(shortlist, among(shortlist), LEFT, stopping, shortlist=20)
    p = {one.annotation.individual: one.p_same for one in found.scored}
    assert p["a"] is not None
    assert p["c"] is not None
    assert p["a"] > 0.9 > 0.1 > p["c"]
    assert "Compared locally: 2 of 4, then the evidence was decisive." in (found.note or "")
    without = [*shortlist[:1], scored("b", 0.29, (1, 2, 0)), scored("c", 0.2, (1, 2, 0)), scored("d", 0.1, (1, 2, 0))]
    whole = answer(without, among(without), LEFT, stopping, shortlist=20)
    assert "Compared locally" not in (whole.note or "")
    assert {one.annotation.individual: one.p_same for one in whole.scored}["a"] == pytest.approx(p["a"], abs=0.05)


def test_an_answer_says_that_local_evidence_did_not_help_the_species(stopping: Calibration) -> None:
    shortlist = [scored("a", 0.3, (31, 40, 31)), scored("b", 0.29, (1, 2, 0))]
    by_cosine, by_all = stopping.first_right["zebra"]
    assert by_all > by_cosine
    assert "did not help" not in (answer(shortlist, among(shortlist), LEFT, stopping, shortlist=20).note or "")
    useless = replace(stopping, first_right={"zebra": (0.91, 0.9)})
    told = answer(shortlist, among(shortlist), LEFT, useless, shortlist=20).note or ""
    assert told.startswith("P(same) rests on")
    assert told.endswith(
        "Local evidence did not help zebra when it was calibrated: first right 91 % by the embedding, 90 % with it."
    )
    unasked = [scored("a", 0.3), scored("b", 0.29)]
    lion = replace(useless, first_right={"zebra": (0.91, 0.9)})
    assert "did not help" not in (answer(unasked, among(unasked), Group("lion"), lion, shortlist=20).note or "")


def test_nothing_to_compare_with_is_no_error(calibration: Calibration) -> None:
    found = answer([], among([]), LEFT, calibration, shortlist=3)
    assert (found.scored, found.p_new) == ((), None)
