from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import InputError
from resight.splits import Split, make_split
from resight.splits.by_time import day_of, dividing_day, parse_day

from .drawn import annotation, messy_catalogues, of_subset, photo, population

FIRST = date(2024, 1, 1)


def day(number: int) -> str:
    return (FIRST + timedelta(days=number)).isoformat()


def dated(annotations, day_number):
    """The annotations, each taken on the day that the function gives."""
    return [replace(one, taken_at=day(day_number(one))) for one in annotations]


def by_encounter(one) -> int:
    return int(one.encounter.split()[-1])


def split_of(annotations, **options) -> Split:
    return make_split(annotations, name="t", seed=0, protocol="time", **options)


def check(split: Split, annotations) -> None:
    """Everything that must hold of a split by time of any catalogue."""
    by_id = {one.annotation_id: one for one in annotations}
    assert len(split.members) + len(split.unused) + sum(split.left_out.values()) == len(annotations)
    assert all(by_id[m.annotation_id].taken_at for m in split.members)
    for counts in split.species:
        train, test, aside = (of_subset(split, s, counts.species) for s in ("train", "test", "set_aside"))
        begun: dict[str, str] = {}
        for one in annotations:
            if one.species == counts.species and one.taken_at and one.individual and one.allowed:
                begun[one.encounter] = min(one.taken_at[:10], begun.get(one.encounter, "9"))
        if counts.date is not None:
            assert all(by_id[m.annotation_id].taken_at >= counts.date for m in test)
            # Encounters with a photo in common are one, so only an upper bound is simple here: nothing that is trained
            # on is of an encounter that began on the date or later, unless it shares a photo with an earlier one.
            shared = Counter((one.individual, photo(one)) for one in annotations)
            for m in train + aside:
                alone = all(shared[o.individual, photo(o)] == 1 for o in annotations if o.encounter == m.encounter)
                assert not alone or begun[m.encounter] < counts.date
        assert not {photo(by_id[m.annotation_id]) for m in train} & {photo(by_id[m.annotation_id]) for m in test}
        assert not {m.encounter for m in train} & {m.encounter for m in test}
        assert all(count == 1 for count in Counter(m.encounter for m in test).values())
        assert all(2 <= count <= 10 for count in Counter(m.identity for m in test).values())
        assert all(count >= 3 for count in Counter(m.identity for m in train).values())
        seen = {m.identity for m in train}
        assert counts.test_individuals_seen == len({m.identity for m in test} & seen)
        assert not {m.individual for m in test if m.identity not in seen} & {m.individual for m in train}


@settings(max_examples=60, deadline=None)
@given(messy_catalogues(), st.integers(0, 2**32), st.sampled_from([None, day(3), day(9)]), st.randoms())
def test_time_divides_any_catalogue(annotations, seed, given_date, random) -> None:
    rng = np.random.default_rng(seed)
    clock = ["", "T00:10:00", "T23:50:00+02:00", "T12:00:00+00:00"]
    annotations = [
        replace(one, taken_at=None if rng.random() < 0.1 else day(int(rng.integers(12))) + clock[rng.integers(4)])
        for one in annotations
    ]
    split = split_of(annotations, date=given_date)
    check(split, annotations)
    shuffled = list(annotations)
    random.shuffle(shuffled)
    assert split_of(shuffled, date=given_date) == split


def test_by_hand_a_given_date() -> None:
    # Five encounters each, on days 0 to 4. From day 3 on two are tested; three before are trained on.
    annotations = dated(population(4, 5), by_encounter)
    split = split_of(annotations, date=day(3))
    check(split, annotations)
    (counts,) = split.species
    assert (counts.date, counts.train_share) == (day(3), pytest.approx(0.6))
    assert (counts.train_annotations, counts.test_annotations) == (12, 8)
    assert (counts.test_individuals, counts.test_individuals_seen) == (4, 4)
    assert split.warnings == ()


def test_the_species_own_date_comes_nearest_to_its_share() -> None:
    # f(4) = 0.502: of days 0 to 7, day 4 has half of the annotations before it. Lions came twice as late.
    zebra = dated(population(4, 8), by_encounter)
    lion = dated(population(4, 8, species="lion", first_image=500), lambda one: 2 * by_encounter(one))
    split = split_of(zebra + lion)
    assert {s.species: s.date for s in split.species} == {"zebra": day(4), "lion": day(8)}
    assert split.species[0].train_share == pytest.approx(0.5 + 0.3 * 4 / 504)
    assert {s.species: s.date for s in split_of(zebra, train_fraction=0.74).species} == {"zebra": day(6)}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_the_dividing_day_agrees_with_trying_every_day(numbers, share) -> None:
    days = [FIRST + timedelta(days=number) for number in numbers]
    found = dividing_day(days, share)
    before = sum(one < found for one in days) / len(days)
    assert before > 0
    if len(set(days)) > 1:
        candidates = [sum(one < other for one in days) / len(days) for other in set(days) - {min(days)}]
        assert abs(before - share) == min(abs(other - share) for other in candidates)
        assert found in days


def test_an_encounter_that_spans_the_date_stays_before_it_whole() -> None:
    # Individual 0 was followed over midnight: half of its encounter 2 is of the day after.
    annotations = dated(population(3, 6), by_encounter)
    late = [
        annotation(
            f"late{n}",
            "000",
            "zebra 0 2",
            image_id=900 + n,
            content_hash=f"late {n}",
            taken_at=f"{day(3)}T00:{n:02}:00",
        )
        for n in range(4)
    ]
    split = split_of(annotations + late, date=day(3))
    check(split, annotations + late)
    assert {m.subset for m in split.members if m.encounter == "zebra 0 2"} == {"train"}
    assert sum(m.annotation_id.startswith("late") for m in of_subset(split, "train")) == 4
    assert split.warnings == (
        f"zebra: 1 encounters span {day(3)} and stay before it whole, with 4 annotations from that day on",
    )


def test_what_is_seen_and_what_is_unseen() -> None:
    # 000 has 3 photos before the date, 001 two (too few to train on), 002 none: all have three from it on.
    before = {"000": 3, "001": 2, "002": 0}
    annotations = [
        one
        for one in dated(population(3, 6), by_encounter)
        if not (one.individual and 3 > by_encounter(one) >= before[one.individual])
    ]
    split = split_of(annotations, date=day(3))
    check(split, annotations)
    (counts,) = split.species
    assert Counter(m.individual for m in of_subset(split, "test")) == {"000": 3, "001": 3, "002": 3}
    assert counts.test_individuals_seen == 1
    assert [m.individual for m in of_subset(split, "set_aside")] == ["001", "001"]


def test_a_side_of_an_individual_that_is_trained_on_by_its_other_side_is_neither() -> None:
    # Only left sides before the date; from it on both sides, in encounters of their own.
    annotations = dated(population(2, 4, sides=("left",)), by_encounter)
    for who in range(2):
        for n in range(2, 6):
            side = ("left", "right")[n % 2]
            annotations.append(
                annotation(f"z{who} {n}", f"{who:03}", f"later {who} {n}", image_id=100 + 10 * who + n, side=side,
                           taken_at=day(10 + n))
            )  # fmt: skip
    split = split_of(annotations, date=day(10))
    check(split, annotations)
    assert {m.identity for m in of_subset(split, "test")} == {"000|left", "001|left"}


def test_what_comes_after_the_date_is_never_trained_on() -> None:
    # Twenty encounters from the date on: ten are tested, and the rest is not used at all.
    annotations = dated(population(2, 25), by_encounter)
    split = split_of(annotations, date=day(5))
    (counts,) = split.species
    assert (counts.train_annotations, counts.test_annotations, counts.unused) == (10, 20, 20)


def test_days_are_those_that_were_written_down() -> None:
    one = annotation("a", "x", "e", image_id=1)
    for text in ("2024-05-01", "2024-05-01T23:59:59", "2024-05-01T23:59:59-09:00", "2024-05-01T00:00:00.5+13:00"):
        assert day_of(replace(one, taken_at=text)) == date(2024, 5, 1)
    for unknown in (None, "", "2024-13-01", "May 2024"):
        assert day_of(replace(one, taken_at=unknown)) is None


def test_a_species_without_dates_is_left_out_with_the_reason() -> None:
    zebra = dated(population(4, 6), by_encounter)
    lion = population(4, 6, species="lion", first_image=500)
    some = [replace(one, taken_at=None) for one in zebra[:2]] + zebra[2:]
    split = split_of(some + lion)
    assert split.left_out == {"no date": 26}
    assert [s.species for s in split.species] == ["zebra"]
    assert split.warnings == ("lion: left out: none of its 24 annotations has a date",)
    nothing = split_of(lion)
    assert nothing.members == ()
    assert nothing.warnings[-1].startswith("no annotation can be used")


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (0, f"zebra: nothing before {day(0)}; the first encounter began on {day(0)}"),
        (6, f"zebra: no test set: nothing from {day(6)} on; the last encounter began on {day(5)}"),
        (5, f"zebra: no test set: no identity has two encounters from {day(5)} on"),
    ],
)
def test_a_date_beyond_the_photos_is_warned_of(number: int, says: str) -> None:
    split = split_of(dated(population(4, 6), by_encounter), date=day(number))
    assert any(w.startswith(says) for w in split.warnings)


def test_a_species_of_one_day_is_trained_on() -> None:
    split = split_of(dated(population(4, 6), lambda one: 0))
    assert (split.species[0].date, split.species[0].train_annotations) == (day(1), 24)
    assert any("no test set" in w for w in split.warnings)


def test_parts_that_clash_wholly_leave_an_empty_species() -> None:
    # The same photos, one day later by the head's own date: what is left of heads is nothing, and no error.
    body = dated(population(4, 4), by_encounter)
    head = [
        replace(one, annotation_id=f"head {one.annotation_id}", species="zebra+head")
        for one in body
        if by_encounter(one) >= 2
    ]
    split = split_of(body + head)
    sides = defaultdict(set)
    for member in split.members:
        sides[member.subset].add(member.encounter)
    assert not sides["train"] & sides["test"]


def test_wrong_dates_are_refused() -> None:
    annotations = population(2, 4)
    for text in ("2024-02-30", "20240101", "2024-1-1", "01.02.2024", "2024-W01-1", "", "２０２４-01-01"):
        with pytest.raises(InputError, match="expected a day that exists"):
            parse_day(text)
    for protocol in ("paper", "disjoint"):
        with pytest.raises(InputError, match="use it with --protocol time"):
            make_split(annotations, name="x", seed=0, protocol=protocol, date="2024-01-01")
    with pytest.raises(InputError, match="give one of them"):
        make_split(annotations, name="x", seed=0, protocol="time", date="2024-01-01", train_fraction=0.5)
