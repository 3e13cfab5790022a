from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import InputError
from resight.experiments.scores import PER_QUERY, Answers, Scores, auroc_of, balanced_accuracies, best_threshold, score

from .made_sides import at_degrees, random_side, scores_of, side_of

FIGURES = (
    *PER_QUERY,
    "top1_seen",
    "top1_unseen",
    "top1_chance",
    "top1_encounter",
    "top1_single_image",
    "auroc",
    "baks",
    "baus",
    "open_set",
    "top1_leaky",
    "top1_background",
    "top1_same_queries",
)


def figures(found: Scores) -> dict[str, float | None]:
    return {name: getattr(found, name) for name in FIGURES}


def test_the_papers_figures_by_hand() -> None:
    # 0: a is nearest. 10: b at 14 is nearer than a. 14: both a are nearer than b. 60: c at 90 is nearer. c is alone.
    found = score(side_of("aabbz"), at_degrees(0, 10, 14, 60, 90))
    assert found.annotation_ids == ("a000", "a001", "a002", "a003")
    assert (found.queries, found.excluded) == (4, 1)
    assert found.first_ranks.tolist() == [1, 2, 3, 2]
    assert (found.top1, found.top5, found.top1_chance) == (25.0, 100.0, 25.0)
    assert found.map == pytest.approx(100 * (1 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert (found.top1_seen, found.top1_unseen) == (25.0, None)
    assert found.hits(2).tolist() == [True, True, False, True]
    assert found.values("map").mean() == found.map
    with pytest.raises(InputError, match="'top3' is no figure of single queries"):
        found.values("top3")
    with pytest.raises(InputError, match="at least 1, got 0"):
        found.hits(0)


def test_photos_of_the_own_encounter_vote_and_flatter_by_hand() -> None:
    # The third photo is not tested. With that at 2 the encounter of 10 stands at 6, nearer to 0 than to 14.
    side = side_of("aaabb", encounters=["e", "f", "f", "g", "h"], tested=[1, 1, 0, 1, 1])
    found = score(side, at_degrees(0, 10, 2, 14, 60))
    assert found.top1 == 50.0  # 0 and 60
    assert found.top1_encounter == 75.0
    assert (found.encounters_scored, found.photos_per_encounter) == (4, 5 / 4)
    assert (found.top1_leaky, found.queries_leaky) == (50.0, 1)  # 10 is nearer to 14 than to its own photo
    flattered = score(side, at_degrees(0, 10, 11, 14, 60))
    assert (flattered.top1, flattered.top1_encounter, flattered.top1_leaky) == (50.0, 50.0, 75.0)
    # The paper's figure does not look at the photos that are not tested.
    alone = score(side_of("aabb"), at_degrees(0, 10, 14, 60))
    assert (alone.top1, alone.top1_leaky, alone.queries_leaky) == (50.0, 50.0, 0)


def test_photos_of_two_sides_in_one_encounter_do_not_vote_for_each_other() -> None:
    side = side_of(["left", "left", "right", "right"], encounters=["e", "f", "e", "f"], individuals=["i"] * 4)
    found = score(side, at_degrees(0, 1, 90, 91))
    assert (found.encounters_scored, found.photos_per_encounter, found.top1_encounter) == (4, 1.0, 100.0)


def test_an_encounter_whose_photos_cancel_each_other_out_is_scored() -> None:
    side = side_of("aaab", encounters=["e", "e", "f", "g"], tested=[1, 0, 1, 1])
    assert score(side, at_degrees(0, 180, 5, 90)).top1_encounter == 100.0


def test_a_single_image_gallery_by_hand() -> None:
    # Whichever of a pair is the gallery, the other is nearer to it than to anybody else.
    assert score(side_of("aabb"), at_degrees(0, 10, 90, 100)).top1_single_image == 100.0
    # 40 is missed when 50 is in the gallery, and 50 is when 40 is; 0 and 90 are never. So a draw has 50 or 100 percent.
    drawn = {score(side_of("aabb"), at_degrees(0, 40, 50, 90), seed=seed).top1_single_image for seed in range(6)}
    assert len(drawn) > 1  # the seed decides
    assert drawn <= {5.0 * hits for hits in range(21)}
    assert score(side_of("ab"), at_degrees(0, 90)).top1_single_image is None


def test_open_set_of_animals_that_look_like_nobody_else_and_of_a_model_that_sees_nothing() -> None:
    apart = score(side_of("aabbccdd"), np.repeat(np.eye(4), 2, axis=0))
    assert (apart.auroc, apart.baks, apart.baus, apart.open_set) == (100.0, 100.0, 100.0, 100.0)
    rng = np.random.default_rng(0)
    collapsed = score(side_of("aabbccddeeff"), np.ones((12, 512)) + 1e-6 * rng.normal(size=(12, 512)))
    assert (collapsed.auroc, collapsed.baks, collapsed.open_set) == (50.0, 0.0, 0.0)
    assert (collapsed.top1, collapsed.top1_encounter, collapsed.top1_single_image) == (0.0, 0.0, 0.0)


def test_individuals_with_both_their_sides_are_taken_out_of_the_gallery() -> None:
    # The right sides look like the left ones. Were they dealt out by identity, new ones would look like known ones.
    names = [f"{name}-{side}" for name in "abcd" for side in ("left", "right") for _ in range(2)]
    vectors = np.repeat(np.eye(4), 4, axis=0) + np.tile([[0.0], [0.0], [0.05], [0.05]], (4, 1))
    found = score(side_of(names, individuals=[name[0] for name in names]), vectors)
    assert (found.auroc, found.baus) == (100.0, 100.0)


def test_open_set_needs_four_individuals_for_a_threshold_and_two_for_auroc() -> None:
    three = score(side_of("aabbcc"), np.repeat(np.eye(3), 2, axis=0))
    assert (three.auroc, three.baks, three.baus, three.open_set) == (100.0, None, None, None)
    one = score(side_of("aa"), at_degrees(0, 1))
    assert (one.auroc, one.top1) == (None, 100.0)


def test_a_threshold_by_hand() -> None:
    known, right = np.array([1, 1, 0, 1, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    answers = Answers(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), right, known, np.arange(5))
    # BAKS · BAUS from below: 0, 2/3 · 1/2, 1/3 · 1/2, 1/3, 1/3, 0. The middle one of 0.55, 0.75 and 0.85.
    assert best_threshold(answers) == pytest.approx(0.75)


def test_the_threshold_is_chosen_on_other_queries() -> None:
    known, first = np.array([True, False] * 2), np.array([True, True, False, False])

    def accuracies(*scores: float) -> tuple[float | None, float | None]:
        return balanced_accuracies(Answers(np.array(scores), known, known, np.arange(4)), first)

    assert accuracies(0.9, 0.1, 0.6, 0.4) == (100.0, 100.0)
    # Each part could be told apart by itself, but 0.5 is too high for the first and 0.2 too low for the others.
    assert accuracies(0.3, 0.1, 0.6, 0.4) == (50.0, 50.0)


def test_balanced_accuracies_count_identities_not_queries() -> None:
    known = np.array([1, 1, 1, 1, 0] * 2, bool)
    right = np.array([1, 1, 1, 0, 0] * 2, bool)
    labels = np.array([0, 0, 0, 1, 2, 3, 3, 3, 4, 5])
    scores = np.array([0.9, 0.9, 0.9, 0.9, 0.1] * 2)
    assert balanced_accuracies(Answers(scores, right, known, labels), np.arange(10) < 5) == (50.0, 100.0)


def test_auroc_by_hand() -> None:
    assert auroc_of(np.array([0.9, 0.5]), np.array([0.5, 0.1])) == 100 * 3.5 / 4
    assert auroc_of(np.array([0.9]), np.array([])) is None


def test_a_background_that_tells_the_animal_and_chips_without_one() -> None:
    side = side_of("aabbcc")
    vectors = at_degrees(0, 30, 31, 60, 61, 90)  # every animal is nearer to another
    background = at_degrees(0, 1, 45, 46, 90, 91)
    background[4], background[5] = 0, np.nan
    found = score(side, vectors, background=background)
    assert (found.top1, found.top1_background) == (pytest.approx(100 / 3), 100.0)
    assert (found.queries_background, found.background_left_out) == (4, 2)
    assert found.top1_same_queries == 50.0  # 0, and 60 without 61
    without = score(side, vectors)
    assert (without.top1_background, without.queries_background, without.background_left_out) == (None, 0, 6)
    nothing = score(side, vectors, background=np.zeros((6, 2)))
    assert (nothing.top1_background, nothing.top1_same_queries, nothing.background_left_out) == (None, None, 6)


@pytest.mark.parametrize("side", [side_of(""), side_of("aabb", tested=[0] * 4), side_of("abcd"), side_of("a")])
def test_a_species_with_nothing_to_score_has_no_figures(side) -> None:  # type: ignore[no-untyped-def]
    vectors = np.eye(4, dtype=np.float32)[: len(side.annotation_ids)]
    found = score(side, vectors, background=vectors)
    shown = {name for name, value in figures(found).items() if value is not None}
    assert found.queries == 0
    assert shown <= {"auroc"}
    assert found.excluded == int(side.tested.sum())


def test_vectors_that_do_not_fit_are_refused() -> None:
    side, vectors = side_of("aabb"), at_degrees(0, 1, 90, 91)
    with pytest.raises(InputError, match=r"vectors of nyala must be a table of floats with 4 rows.*got shape \(3, 2\)"):
        score(side, vectors[:3])
    with pytest.raises(InputError, match="background vectors of nyala"):
        score(side, vectors, background=vectors.astype(np.int64))
    vectors[2] = np.nan
    with pytest.raises(InputError, match="row 2 of the vectors of nyala holds NaN"):
        score(side, vectors)


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_neither_the_order_of_rows_nor_the_length_of_vectors_matters(seed: int, ties: bool) -> None:
    side, vectors = random_side(seed, ties=ties)
    order = np.random.default_rng(seed).permutation(len(vectors))
    turned = replace(
        side,
        annotation_ids=tuple(side.annotation_ids[row] for row in order),
        **{
            name: getattr(side, name)[order]
            for name in ("individuals", "identities", "encounters", "tested", "trained")
        },
    )
    found = score(side, vectors, background=vectors[::-1])
    again = score(turned, vectors[order] * np.float32(8), background=vectors[::-1][order])
    for name, value in figures(found).items():
        if ties and name in ("baks", "open_set"):  # which of equally near animals of other identities is named is free
            continue
        assert getattr(again, name) == (None if value is None else pytest.approx(value)), name
    assert found.top1 <= found.top5 <= found.top10 <= found.top20  # type: ignore[operator]
    assert sorted(found.annotation_ids) == sorted(again.annotation_ids)


def test_half_precision_is_taken() -> None:
    assert score(side_of("aabb"), at_degrees(0, 1, 90, 91).astype(np.float16)).top1 == 100.0


def test_scores_made_up_for_other_tests_are_scores() -> None:
    made = scores_of("aab", [1, 2, 6])
    assert (made.top1, made.top5, made.queries) == (pytest.approx(100 / 3), pytest.approx(200 / 3), 3)
