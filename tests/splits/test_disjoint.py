from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.splits import Split, make_split, train_share
from resight.splits.frozen import CLASH_INDIVIDUAL

from .drawn import annotation, messy_catalogues, of_subset, photo, population


def check(split: Split, annotations) -> None:
    """Everything that must hold of a disjoint split of any catalogue."""
    by_id = {one.annotation_id: one for one in annotations}
    assert len(split.members) + len(split.unused) + sum(split.left_out.values()) == len(annotations)
    assert sum(counts.unused for counts in split.species) == len(split.unused)
    for counts in split.species:
        train, test, aside = (of_subset(split, s, counts.species) for s in ("train", "test", "set_aside"))
        assert not {m.individual for m in test} & {m.individual for m in train + aside}
        assert counts.test_individuals_seen == 0
        assert counts.test_individuals == len({m.identity for m in test})
        assert counts.date is None
        assert not {photo(by_id[m.annotation_id]) for m in train} & {photo(by_id[m.annotation_id]) for m in test}
        assert not {m.encounter for m in train} & {m.encounter for m in test}
        assert all(count == 1 for count in Counter(m.encounter for m in test).values())
        assert all(2 <= count <= 10 for count in Counter(m.identity for m in test).values())
        assert all(count >= 3 for count in Counter(m.identity for m in train).values())
        n_individuals = len({one.individual for one in annotations if one.species == counts.species} - {None})
        # At least f(N) of them is not tested; one may always be, where there are two.
        share = train_share(n_individuals)
        assert len({m.individual for m in test}) <= max(1, round((1 - share) * n_individuals))
        warned = any(w.startswith(f"{counts.species}: no test set") for w in split.warnings)
        assert warned == (not test)


@settings(max_examples=60, deadline=None)
@given(messy_catalogues(), st.integers(0, 3), st.randoms())
def test_no_individual_is_on_both_sides_of_any_catalogue(annotations, seed, random) -> None:
    split = make_split(annotations, name="any", seed=seed, protocol="disjoint")
    check(split, annotations)
    assert split.protocol == "disjoint"
    shuffled = list(annotations)
    random.shuffle(shuffled)
    assert make_split(shuffled, name="any", seed=seed, protocol="disjoint") == split


def test_by_hand_a_regular_population() -> None:
    # round((1 − 0.5222) × 40) = 19 of 40 are tested, each with its eight encounters; the other 21 are trained on whole.
    annotations = population(40, 8)
    split = make_split(annotations, name="regular", seed=0, protocol="disjoint")
    check(split, annotations)
    (counts,) = split.species
    assert (counts.train_individuals, counts.train_annotations) == (21, 21 * 8)
    assert (counts.test_individuals, counts.test_annotations) == (19, 19 * 8)
    assert counts.unused == 0
    assert split.warnings == ()


def test_the_papers_unseen_individuals_of_the_same_seed_are_tested() -> None:
    annotations = population(30, 6)
    paper = make_split(annotations, name="p", seed=3)
    disjoint = make_split(annotations, name="d", seed=3, protocol="disjoint")
    tested = {m.individual for m in of_subset(disjoint, "test")}
    unseen = {m.individual for m in of_subset(paper, "test")} - {m.individual for m in of_subset(paper, "train")}
    assert unseen
    assert unseen <= tested
    other = make_split(annotations, name="d", seed=4, protocol="disjoint")
    assert tested != {m.individual for m in of_subset(other, "test")}


def test_only_individuals_that_can_be_matched_are_tested_and_poor_ones_are_set_aside() -> None:
    # Of six, three have one encounter: none of them is tested, and none has three photos to train on.
    annotations = population(3, 5) + [
        replace(one, annotation_id=f"poor{one.annotation_id}", individual=f"9{one.individual}",
                identity=f"9{one.individual}", encounter=f"poor {one.encounter}")
        for one in population(3, 1, first_image=500)
    ]  # fmt: skip
    split = make_split(annotations, name="poor", seed=0, protocol="disjoint", train_fraction=0.6)
    check(split, annotations)
    assert {m.individual for m in of_subset(split, "set_aside")} == {"9000", "9001", "9002"}
    assert len({m.individual for m in of_subset(split, "test")}) == 2
    assert len({m.individual for m in of_subset(split, "train")}) == 1


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_one_individual_at_least_is_on_each_side(fraction: float) -> None:
    split = make_split(population(3, 4), name="x", seed=0, protocol="disjoint", train_fraction=fraction)
    tested = {0.01: 2, 0.99: 1}[fraction]
    assert (split.species[0].test_individuals, split.species[0].train_individuals) == (tested, 3 - tested)
    alone = make_split(population(1, 4), name="x", seed=0, protocol="disjoint", train_fraction=fraction)
    assert (alone.species[0].test_individuals, alone.species[0].train_individuals) == (0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_body_and_head_of_one_animal_are_on_one_side(seed: int) -> None:
    # More heads than bodies are known, so another share of them is tested, and some animals would be on both sides.
    body = population(12, 5)
    head = population(40, 5, species="zebra+head", first_image=1000)
    annotations = body + head
    split = make_split(annotations, name="parts", seed=seed, protocol="disjoint")
    sides = {s: {m.individual for m in of_subset(split, s)} for s in ("train", "test")}
    assert not sides["train"] & sides["test"]
    alone = make_split(head, name="head", seed=seed, protocol="disjoint")
    lost = len(alone.members) - len(of_subset(split, "train", "zebra+head") + of_subset(split, "test", "zebra+head"))
    assert any(CLASH_INDIVIDUAL in w for w in split.warnings) == (lost > 0)


def test_a_group_photo_leaves_test_rather_than_leak() -> None:
    annotations = population(10, 6)
    for who in range(10):
        annotations.append(annotation(f"group{who}", f"{who:03}", f"group {who}", image_id=9000))
    split = make_split(annotations, name="groups", seed=0, protocol="disjoint")
    check(split, annotations)
    assert sum(m.annotation_id.startswith("group") for m in of_subset(split, "test")) == 0
    assert sum(m.annotation_id.startswith("group") for m in of_subset(split, "train")) == 5
