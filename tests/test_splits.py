from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import InputError, UnknownName
from resight.splits import Split, make_split, train_share
from resight.splits import frozen as splits
from resight.splits.paper import photo_of

from .splits.drawn import annotation, messy_catalogues, of_subset, photo, population


def check(split: Split, annotations) -> None:
    """Everything that must hold of any split of any catalogue."""
    by_id = {one.annotation_id: one for one in annotations}
    ids = [member.annotation_id for member in split.members]
    assert ids == sorted(set(ids))
    for member in split.members:
        one = by_id[member.annotation_id]
        assert one.individual is not None
        assert one.allowed
        assert one.image_status != "quarantined"
        assert (member.species, member.individual, member.encounter) == (one.species, one.individual, one.encounter)

    # Whatever is not a member is counted.
    n_unused = sum(species.unused for species in split.species)
    assert len(split.members) + n_unused + sum(split.left_out.values()) == len(annotations)
    assert len(split.unused) == n_unused
    assert not set(split.unused) & set(ids)

    for counts in split.species:
        train, test, aside = (of_subset(split, s, counts.species) for s in ("train", "test", "set_aside"))
        seen_by = {m.identity for m in train}
        tested = {m.identity for m in test}
        assert counts.train_annotations == len(train)
        assert counts.test_annotations == len(test)
        assert counts.set_aside_annotations == len(aside)
        assert counts.train_individuals == len(seen_by)
        assert counts.test_individuals == len(tested)
        assert counts.test_individuals_seen == len(tested & seen_by)
        assert counts.set_aside_individuals == len({m.identity for m in aside})

        # No leak: no photo and no encounter on both sides.
        assert not {photo(by_id[m.annotation_id]) for m in train} & {photo(by_id[m.annotation_id]) for m in test}
        assert not {m.encounter for m in train} & {m.encounter for m in test}

        # The filters.
        assert all(count == 1 for count in Counter(m.encounter for m in test).values())
        shown_once = Counter((m.individual, photo(by_id[m.annotation_id])) for m in test)
        assert all(count == 1 for count in shown_once.values())
        assert all(2 <= count <= 10 for count in Counter(m.identity for m in test).values())
        assert all(count >= 3 for count in Counter(m.identity for m in train).values())
        assert not seen_by & {m.identity for m in aside}

        # A test identity is trained on, or nothing of its individual is (sides go together).
        kept_out = {m.individual for m in test if m.identity not in seen_by}
        assert not {m.individual for m in test if m.identity in seen_by} & kept_out
        assert not kept_out & {m.individual for m in train + aside}

        # Half of the test identities are seen, or a warning says why not.
        warned = [w for w in split.warnings if w.startswith(f"{counts.species}: ") and "not half" in w]
        assert bool(warned) == (2 * counts.test_individuals_seen != counts.test_individuals)
        assert bool(tested) != any("no test set" in w for w in split.warnings if w.startswith(f"{counts.species}: "))

        steps = [f for f in split.filters if f.species == counts.species]
        assert [f.step for f in steps[:6]] == [
            splits.STEP_LEAK,
            splits.STEP_ENCOUNTER,
            splits.STEP_MOST,
            splits.STEP_LEAST_TEST,
            splits.STEP_LEAST_TRAIN,
            splits.STEP_OTHER_SIDE,
        ]
        assert [f.round for f in steps] == sorted(f.round for f in steps)
        assert sum(f.annotations for f in steps if f.step == splits.STEP_LEAST_TRAIN) == len(aside)
        assert not any(f.annotations for f in steps[-7:-1])  # the last round found nothing to do
        assert steps[-1].step == splits.STEP_RETURNED


@settings(max_examples=400, deadline=None)
@given(messy_catalogues(), st.integers(0, 3), st.sampled_from(["auto", 0.2, 0.8]))
def test_no_leak_and_all_filters_hold_in_any_catalogue(annotations, seed, train_fraction):
    check(make_split(annotations, name="any", seed=seed, train_fraction=train_fraction), annotations)


@settings(max_examples=40, deadline=None)
@given(messy_catalogues(), st.randoms(use_true_random=False))
def test_neither_row_order_nor_other_species_matter(annotations, random):
    split = make_split(annotations, name="any", seed=1)
    mixed = random.sample(annotations, len(annotations))
    assert make_split(mixed, name="any", seed=1) == split
    zebras, others = ([a for a in annotations if (a.species == "zebra") is which] for which in (True, False))
    if {photo_of(a) for a in zebras} & {photo_of(a) for a in others}:
        return  # species that share photos are kept apart, and so depend on each other
    alone = make_split([one for one in mixed if one.species == "zebra"], name="any", seed=1)
    assert alone.members == tuple(m for m in split.members if m.species == "zebra")
    assert alone.filters == tuple(f for f in split.filters if f.species == "zebra")
    assert alone.species == tuple(s for s in split.species if s.species == "zebra")


@pytest.mark.parametrize("sides", [(None,), ("left", "right")])
def test_a_regular_population_gives_half_and_half(sides):
    annotations = population(40, 8, sides=sides)
    split = make_split(annotations, name="regular", seed=0)
    check(split, annotations)
    (counts,) = split.species
    assert split.warnings == ()
    assert counts.train_share == pytest.approx(0.5 + 0.3 * 40 / 540)
    # round(0.4778 × 40) = 19 unseen individuals; eight encounters are enough for two of every side.
    unseen = {m.individual for m in of_subset(split, "test")} - {m.individual for m in of_subset(split, "train")}
    assert len(unseen) == 19
    assert counts.test_individuals == 2 * 19 * len(sides)
    assert counts.test_individuals_seen == 19 * len(sides)
    assert counts.set_aside_annotations == 0


def test_by_hand_two_individuals_of_five_encounters():
    # One is unseen and gives its five encounters; the other can give two and keeps three to train on.
    annotations = population(2, 5)
    split = make_split(annotations, name="two", seed=0)
    check(split, annotations)
    by_subset = {s: Counter(m.individual for m in of_subset(split, s)) for s in ("train", "test")}
    (seen,) = by_subset["train"]
    (unseen,) = {"000", "001"} - {seen}
    assert by_subset["train"] == {seen: 3}
    assert by_subset["test"] == {seen: 2, unseen: 5}


def test_the_cap_keeps_ten_and_what_is_beyond_is_unused():
    annotations = population(2, 30)
    split = make_split(annotations, name="cap", seed=0, train_fraction=0.5)
    check(split, annotations)
    assert Counter(m.individual for m in of_subset(split, "test")) == {"000": 10, "001": 10}
    assert len(of_subset(split, "train")) == 20
    assert split.species[0].unused == 20
    assert next(f.annotations for f in split.filters if f.step == splits.STEP_MOST) == 25 - 5


@pytest.mark.parametrize("seed", range(6))
def test_an_encounter_with_both_sides_counts_once_and_serves_as_many_sides_as_it_can(seed):
    # Four encounters of both sides: two for each side. Three: one side only, with all three.
    four = make_split(population(2, 4, sides=("left", "right")), name="four", seed=seed)
    assert sorted(Counter(m.identity for m in of_subset(four, "test")).values()) == [2, 2]
    three = make_split(population(2, 3, sides=("left", "right")), name="three", seed=seed)
    assert list(Counter(m.identity for m in of_subset(three, "test")).values()) == [3]


def test_identities_with_too_little_to_train_on_are_set_aside():
    annotations = population(6, 8) + population(6, 2, species="lion", first_image=1000)
    split = make_split(annotations, name="aside", seed=0)
    check(split, annotations)
    zebra = next(s for s in split.species if s.species == "zebra")
    lion = next(s for s in split.species if s.species == "lion")
    assert zebra.set_aside_annotations == 0
    assert (lion.train_annotations, lion.set_aside_annotations, lion.set_aside_individuals) == (0, 6, 3)
    assert (lion.test_individuals, lion.test_individuals_seen) == (3, 0)
    assert any(w.startswith("lion: 0 of 3 test identities") for w in split.warnings)
    assert any(w.startswith("lion: nothing to train on") for w in split.warnings)


def test_a_copy_of_a_photo_is_the_same_photo():
    # Every photo is there twice, under another encounter; the two must stand on one side and count as one encounter.
    annotations = []
    for one in population(4, 12):
        twin = replace(
            one, annotation_id=one.annotation_id + "b", image_id=one.image_id + 5000, encounter=one.encounter + "b"
        )
        annotations += [replace(x, content_hash=f"hash {one.image_id}") for x in (one, twin)]
    split = make_split(annotations, name="copies", seed=0)
    check(split, annotations)
    assert split.species[0].test_individuals == 4


def test_group_photos_leave_test_rather_than_leak():
    annotations = population(10, 8)
    # One photo and encounter a pair of neighbours, in which both are.
    for who in range(10):
        for other in (who, (who + 1) % 10):
            annotations.append(annotation(f"group{who} {other}", f"{other:03}", f"group {who}", image_id=9000 + who))
    split = make_split(annotations, name="groups", seed=0)
    check(split, annotations)
    assert split.species[0].test_individuals == 10
    assert next(f for f in split.filters if f.step == splits.STEP_LEAK).annotations > 0


@pytest.mark.parametrize("seed", range(4))
def test_what_goes_back_to_training_shows_no_photo_of_the_test_set(seed):
    # Every encounter also has a photo that shows the neighbour too, in an encounter of the neighbour's own.
    annotations = population(20, 12)
    for e in range(12):
        for who in range(20):
            for shown in (who, (who + 1) % 20):
                image_id = 5000 + 20 * e + who
                annotations.append(
                    annotation(f"pair{image_id} {shown}", f"{shown:03}", f"zebra {shown} {e}", image_id=image_id)
                )
    split = make_split(annotations, name="pairs", seed=seed, train_fraction=0.7)
    check(split, annotations)
    assert next(f for f in split.filters if f.step == splits.STEP_RETURNED).annotations > 0


def test_encounters_of_ones_own_are_reserved_before_shared_ones():
    annotations = population(10, 6)
    for e in range(6):
        for who in range(10):
            number = 1000 + 10 * e + who
            annotations.append(annotation(f"herd{number}", f"{who:03}", f"herd {e}", image_id=number))
    split = make_split(annotations, name="herd", seed=0)
    check(split, annotations)
    assert (split.species[0].test_individuals, split.species[0].test_individuals_seen) == (10, 5)
    assert set(Counter(m.identity for m in of_subset(split, "test")).values()) == {6}


@pytest.mark.parametrize("seed", range(6))
def test_sides_take_the_encounters_that_serve_no_other_first(seed):
    # Left in encounters 0 to 2, right in 1 to 3: both keep two, unless one of them takes 1 and 2.
    annotations = [
        one
        for one in population(3, 4, sides=("left", "right"))
        if one.encounter[-1] != ("3" if one.viewpoint == "left" else "0")
    ]
    split = make_split(annotations, name="sides", seed=seed)
    check(split, annotations)
    assert list(Counter(m.identity for m in of_subset(split, "test")).values()) == [2, 2]


def test_what_cannot_be_used_is_counted_by_reason():
    good = population(4, 6)
    bad = [
        annotation("a", None, "x", image_id=1),
        annotation("b", "000", "x", image_id=2, allowed=False),
        annotation("c", "000", "x", image_id=3, allowed=False),
        annotation("d", "000", "x", image_id=4, image_status="quarantined"),
        annotation("e", None, "x", image_id=5, allowed=False, image_status="quarantined"),
    ]
    split = make_split(good + bad, name="reasons", seed=0)
    assert split.left_out == {"no individual": 2, "viewpoint policy": 2, "quarantined": 1}
    assert split.members == make_split(good, name="reasons", seed=0).members


def test_a_surplus_of_seen_goes_back_to_training():
    # A fifth is unseen; of the others, as many identities as that stay in test, and the rest is trained on whole.
    annotations = population(30, 8)
    split = make_split(annotations, name="mostly training", seed=0, train_fraction=0.8)
    check(split, annotations)
    (counts,) = split.species
    assert (counts.test_individuals, counts.test_individuals_seen) == (12, 6)
    assert next(f for f in split.filters if f.step == splits.STEP_SURPLUS_SEEN).identities == 18
    trained = Counter(m.individual for m in of_subset(split, "train"))
    assert sorted(trained.values()) == [6] * 6 + [8] * 18


def test_a_surplus_of_unseen_stays_where_equal_halves_would_be_tiny():
    # Three individuals have enough to be seen; 20 have two encounters each and can only be unseen.
    annotations = population(20, 2) + [
        replace(
            one,
            annotation_id=f"rich{one.annotation_id}",
            individual=f"9{one.individual}",
            identity=f"9{one.individual}",
            encounter=f"rich {one.encounter}",
        )
        for one in population(3, 9, first_image=500)
    ]
    split = make_split(annotations, name="poor", seed=0)
    check(split, annotations)
    (counts,) = split.species
    assert counts.test_individuals_seen <= 3
    assert counts.test_individuals > 3 * counts.test_individuals_seen
    assert any("not half" in w for w in split.warnings)


def test_seeds_differ_and_repeat():
    annotations = population(30, 6)
    assert make_split(annotations, name="s", seed=5) == make_split(annotations, name="s", seed=5)
    subsets = {make_split(annotations, name="s", seed=seed).members for seed in range(5)}
    assert len(subsets) == 5


def test_the_result_is_the_same_on_every_machine():
    # Frozen: a change here changes every split that anyone has made.
    split = make_split(population(8, 5), name="frozen", seed=42)
    unseen = {m.individual for m in of_subset(split, "test")} - {m.individual for m in of_subset(split, "train")}
    assert sorted(unseen) == ["002", "004", "005", "007"]


def test_a_smaller_set_trains_on_a_smaller_share():
    assert train_share(0) == 0.5
    assert train_share(500) == 0.65
    shares = [train_share(n) for n in range(0, 5000, 50)]
    assert shares == sorted(shares)
    assert shares[-1] < 0.8
    annotations = population(30, 8)
    many = make_split(annotations, name="f", seed=0, train_fraction=0.9)
    assert (many.train_fraction, many.species[0].train_share, many.species[0].test_individuals) == (0.9, 0.9, 6)
    assert many.formula == "0.9 of the individuals of every species"
    assert make_split(annotations, name="f", seed=0).formula == splits.TRAIN_SHARE_FORMULA


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        (population(1, 8), "zebra: 1 of 1 test identities are seen in training, not half"),
        (population(1, 1), "zebra: no test set"),
        (population(5, 1), "zebra: nothing to train on"),
        ([], "no annotation can be used"),
        ([annotation("a", None, "x", image_id=1)], "no annotation can be used"),
    ],
)
def test_too_little_is_a_warning(annotations, says):
    split = make_split(annotations, name="tiny", seed=0)
    check(split, annotations)
    assert any(w.startswith(says) for w in split.warnings)


def test_unknown_encounters_are_warned_of():
    split = make_split([replace(one, encounter_known=False) for one in population(10, 8)], name="own", seed=0)
    assert any(w.startswith("zebra: 80 of 80 annotations have no known encounter") for w in split.warnings)


def test_images_that_were_not_looked_at_are_warned_of():
    looked_at = population(10, 8)
    assert not any("not looked at" in w for w in make_split(looked_at, name="known", seed=0).warnings)
    split = make_split([replace(one, content_hash=None) for one in looked_at], name="unknown", seed=0)
    assert any(w.startswith("80 annotations lie on images that were not looked at") for w in split.warnings)


@pytest.mark.parametrize("seed", range(5))
def test_body_and_head_on_one_photo_fall_on_the_same_side(seed):
    body = population(20, 8)
    head = [replace(one, annotation_id=f"head {one.annotation_id}", species="zebra+head") for one in population(20, 8)]
    annotations = body + head
    split = make_split(annotations, name="parts", seed=seed)
    check(split, annotations)
    photo = {one.annotation_id: one.image_id for one in annotations}
    sides = defaultdict(set)
    for member in split.members:
        sides[member.subset].add(photo[member.annotation_id])
    assert not sides["train"] & sides["test"]
    body_counts, head_counts = split.species
    assert head_counts.test_individuals == body_counts.test_individuals
    assert head_counts.test_individuals_seen * 2 == head_counts.test_individuals


def test_wrong_input_is_refused():
    annotations = population(4, 6)
    with pytest.raises(UnknownName, match="'papr'"):
        make_split(annotations, name="x", seed=0, protocol="papr")
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="above 0 and below 1"):
            make_split(annotations, name="x", seed=0, train_fraction=fraction)
    with pytest.raises(InputError, match="there twice"):
        make_split(annotations + annotations[:1], name="x", seed=0)
