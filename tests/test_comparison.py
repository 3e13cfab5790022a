from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resight.comparison import CHANCE, LEAST_CHANGED, Comparison, PairedScores, SpeciesComparison, compare, pair
from resight.errors import InputError
from resight.metrics import bootstrap_interval
from resight.ranking import rank_one_vs_all


def scores(
    species: str, old: list[int], new: list[int], identities: list[int] | None = None, **more: int
) -> PairedScores:
    """Hits of two models on the same queries, by default each of its own identity; the precisions follow from them."""
    hit_old, hit_new = np.array(old, bool), np.array(new, bool)
    codes = np.arange(len(old)) if identities is None else np.array(identities, np.int64)
    return PairedScores(
        species, codes, hit_old, hit_new, np.where(hit_old, 1.0, 0.25), np.where(hit_new, 1.0, 0.5), **more
    )


def drawn(seed: int, species: str, *, identities: int = 30, loss: float = 0.0) -> PairedScores:
    """Each identity is as hard for one model as for the other, and harder by ``loss`` for the new one."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, identities, identities * 4)
    ease = rng.beta(0.5, 0.5, identities)[codes]
    rolls = rng.random((2, len(codes)))
    old, new = rolls[0] < ease, rolls[1] < ease - loss
    return PairedScores(species, codes, old, new, np.where(old, 1.0, rolls[0] / 2), np.where(new, 1.0, rolls[1] / 2))


def swapped(one: PairedScores) -> PairedScores:
    return replace(
        one,
        hit_old=one.hit_new,
        hit_new=one.hit_old,
        precision_old=one.precision_new,
        precision_new=one.precision_old,
    )


def at_degrees(*angles: float) -> NDArray[np.float64]:
    turned = np.deg2rad(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def one_of(paired: PairedScores) -> SpeciesComparison:
    (found,) = compare("old", [paired]).species
    return found


def test_a_case_worked_by_hand() -> None:
    # Twelve animals, a query each: six lost, six as before. The mean of a resample is binomial: 3 to 9 of 12.
    found = one_of(scores("nyala", [1] * 6 + [1, 1, 0, 0, 0, 0], [0] * 6 + [1, 1, 0, 0, 0, 0]))
    assert (found.queries, found.individuals, found.individuals_changed) == (12, 12, 6)
    assert (found.top1_old, found.top1_new) == (pytest.approx(200 / 3), pytest.approx(50 / 3))
    assert found.difference == -50.0
    assert found.difference_ci95 == (-75.0, -25.0)
    assert (found.only_old, found.only_new) == (6, 0)
    assert found.p_value == pytest.approx(2 / 64, abs=0.006)
    assert found.p_holm == found.p_value
    assert found.verdict == "worse"
    # Precision: 1 for a hit; a miss is 1/4 for the old model and 1/2 for the new one.
    assert found.map_old == pytest.approx(100 * (8 + 4 / 4) / 12)
    assert found.map_new == pytest.approx(100 * (2 + 10 / 2) / 12)
    assert found.map_difference == pytest.approx(found.map_new - found.map_old)
    assert found.map_difference_ci95 is not None
    assert found.map_difference_ci95[0] < found.map_difference < found.map_difference_ci95[1]


def test_gains_and_losses_are_counted_apart() -> None:
    found = one_of(scores("nyala", [1, 0, 1, 0, 0], [0, 1, 1, 0, 1], [0, 0, 1, 1, 2]))
    assert (found.only_old, found.only_new, found.difference) == (1, 2, 20.0)
    assert (found.individuals, found.individuals_changed) == (3, 1)  # the first lost one query and won one


def test_the_interval_is_that_of_the_differences_and_needs_two_identities() -> None:
    # An identity of one query that was lost and one of three that were not: a resample has mean -100, -25 or 0.
    found = one_of(scores("nyala", [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]))
    assert (found.difference, found.difference_ci95) == (-25.0, (-100.0, 0.0))
    alone = one_of(scores("nyala", [1, 1], [0, 0], [4, 4]))
    assert (alone.difference, alone.difference_ci95, alone.verdict) == (-100.0, None, "no clear difference")


def test_few_identities_are_never_called_worse() -> None:
    few = LEAST_CHANGED - 1
    found = one_of(scores("nyala", [1] * few, [0] * few))
    assert found.difference_ci95 == (-100.0, -100.0)
    assert (found.individuals_changed, found.verdict) == (few, "no clear difference")
    assert one_of(scores("nyala", [1] * (few + 1), [0] * (few + 1))).verdict == "worse"
    # Nor do many queries of few identities make it sure.
    many = one_of(scores("nyala", [1] * 50, [0] * 50, [i % few for i in range(50)]))
    assert many.verdict == "no clear difference"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), loss=st.sampled_from([0.0, 0.3]))
def test_exchanging_the_models_turns_every_sign(seed: int, loss: float) -> None:
    there = compare("old", [drawn(seed, "lion", loss=loss), drawn(seed + 1, "nyala", identities=9)])
    back = compare("old", [swapped(drawn(seed, "lion", loss=loss)), swapped(drawn(seed + 1, "nyala", identities=9))])
    turned = {"worse": "better", "better": "worse"}
    for one, other in zip((*there.species, there.macro), (*back.species, back.macro), strict=True):
        for figure in ("difference", "map_difference"):
            assert getattr(one, figure) == pytest.approx(-getattr(other, figure))
            low, high = getattr(one, f"{figure}_ci95")
            assert getattr(other, f"{figure}_ci95") == pytest.approx((-high, -low))
        assert (one.top1_old, one.map_new) == (other.top1_new, other.map_old)
    for one, other in zip(there.species, back.species, strict=True):
        assert (one.only_old, one.p_value, one.p_holm) == (other.only_new, other.p_value, other.p_holm)
        assert other.verdict == turned.get(one.verdict, one.verdict)


def test_a_model_against_its_like_is_never_worse() -> None:
    same = drawn(3, "lion")
    same = replace(same, hit_new=same.hit_old, precision_new=same.precision_old)
    found = compare("old", [same, replace(same, species="nyala")])
    for one in (*found.species, found.macro):
        assert (one.difference, one.map_difference) == (0.0, 0.0)
        assert (one.difference_ci95, one.map_difference_ci95) == ((0.0, 0.0), (0.0, 0.0))
    assert [(one.p_value, one.p_holm, one.verdict) for one in found.species] == [(1.0, 1.0, "no clear difference")] * 2
    assert (found.worse, found.worse_beyond_chance) == ((), ())


def test_neither_the_order_of_queries_nor_other_species_change_a_species_figures() -> None:
    lion, nyala = drawn(5, "lion", loss=0.2), drawn(6, "nyala")
    order = np.random.default_rng(0).permutation(len(lion.identities))
    shuffled = PairedScores(
        "lion", lion.identities[order], lion.hit_old[order], lion.hit_new[order], lion.precision_old[order],
        lion.precision_new[order],
    )  # fmt: skip
    both, turned = compare("old", [lion, nyala]), compare("old", [nyala, shuffled])
    assert both.species[0].difference_ci95 == turned.species[1].difference_ci95
    assert both.species[0].p_value == turned.species[1].p_value == one_of(lion).p_value
    assert both.species[1] == turned.species[0]
    assert both.species[0].map_difference == pytest.approx(turned.species[1].map_difference)
    assert both.macro.difference_ci95 == pytest.approx(turned.macro.difference_ci95)
    assert both.species[0].difference_ci95 == one_of(lion).difference_ci95


def test_the_paired_interval_is_narrower_than_that_of_two_models_apart() -> None:
    one = drawn(8, "lion", identities=60)
    found = one_of(one)
    apart = [bootstrap_interval(hits * 100.0, one.identities) for hits in (one.hit_old, one.hit_new)]
    widths = [high - low for low, high in (ends for ends in apart if ends is not None)]
    assert len(widths) == 2
    assert found.difference_ci95 is not None
    assert found.difference_ci95[1] - found.difference_ci95[0] < 0.75 * np.hypot(*widths)


def test_the_mean_of_species_counts_each_once_and_moves_species_apart() -> None:
    large, small = scores("a", [1] * 30, [0] * 15 + [1] * 15), scores("b", [0, 0, 0, 1], [1, 1, 0, 1])
    macro = compare("old", [large, small]).macro
    assert (macro.species, macro.top1_old, macro.top1_new) == (2, (100 + 25) / 2, (50 + 75) / 2)
    assert macro.difference == (-50 + 50) / 2
    # Sixteen species alike: their mean is four times as sure as one alone, unless all were resampled in step.
    alone = compare("old", [scores("s", [1] * 20, [0, 1] * 10)]).macro.difference_ci95
    among = compare("old", [scores(f"s{n}", [1] * 20, [0, 1] * 10) for n in range(16)]).macro.difference_ci95
    assert alone is not None
    assert among is not None
    assert (among[1] - among[0]) / (alone[1] - alone[0]) == pytest.approx(1 / 4, rel=0.15)


def test_of_a_hundred_species_that_did_not_change_few_are_called_worse() -> None:
    found = compare("old", [drawn(seed, f"s{seed}") for seed in range(100)], draws=500)
    assert len(found.worse) <= 6
    assert found.worse_beyond_chance == ()
    assert found.macro.difference_ci95 is not None
    assert found.macro.difference_ci95[0] < 0 < found.macro.difference_ci95[1]


def test_the_species_that_got_worse_are_found_among_many_and_the_worst_comes_first() -> None:
    unchanged = [drawn(seed, f"s{seed:02}") for seed in range(20)]
    lost = [drawn(31, "lost", identities=60, loss=0.6), drawn(32, "faded", identities=60, loss=0.3)]
    nothing = scores("alone", [], [], trained_on=3)
    found = compare("old", [nothing, *unchanged, *lost])
    assert {"lost", "faded"} <= {one.species for one in found.worse}
    assert [one.species for one in found.worse_beyond_chance] == ["lost", "faded"]
    assert all(one.p_holm is None or one.p_value is None or one.p_holm >= one.p_value for one in found.species)
    *ordered, last = found.worst_first()
    assert (ordered[0].species, last.species) == ("lost", "alone")
    falls = [one.difference for one in ordered if one.difference is not None]
    assert falls == sorted(falls)
    assert len(falls) == 22


def test_a_species_without_queries_is_told_and_not_averaged() -> None:
    found = compare("old", [scores("a", [], [], trained_on=4), scores("b", [1, 0], [1, 1])])
    nothing, some = found.species
    assert (nothing.verdict, nothing.queries, nothing.trained_on) == ("not compared", 0, 4)
    assert (nothing.top1_old, nothing.difference, nothing.difference_ci95, nothing.p_holm) == (None,) * 4
    assert found.not_compared == (nothing,)
    assert (found.macro.species, found.macro.difference) == (1, some.difference)
    with pytest.raises(
        InputError, match=r"model 'v1' can be compared: 4 were trained on, and 2 annotations lack a vec"
    ):
        compare("v1", [scores("a", [], [], trained_on=4, without_both_vectors=2)])


def test_the_document_is_json_with_rounded_figures() -> None:
    found = compare("v1", [scores("b", [], []), drawn(1, "lost", identities=60, loss=0.6)], comparable=False)
    document = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert (document["model"], document["comparable"]) == ("v1", False)
    assert document["worse"] == document["worse_beyond_chance"] == ["lost"]
    assert document["not_compared"] == ["b"]
    lost = document["species"][1]
    assert lost["difference"] == round(lost["difference"], 2) < 0
    assert lost["difference_ci95"][0] < lost["difference"] < lost["difference_ci95"][1] < 0
    assert lost["p_value"] == 0.0001 < CHANCE
    assert document["macro"]["difference"] == lost["difference"]


def test_rankings_become_pairs_without_queries_that_cannot_match_or_were_trained_on() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])  # the last one has no match
    new = rank_one_vs_all(at_degrees(0, 1, 40, 90, 91, 42), labels=labels)
    old = rank_one_vs_all(at_degrees(0, 30, 31, 90, 50, 52), labels=labels)
    left_out = np.array([False, True, False, False, False, True])
    found = pair("nyala", old, new, labels, trained_on=left_out, without_both_vectors=7)
    assert found.identities.tolist() == [0, 0, 1, 1]
    assert found.hit_new.tolist() == [True, False, True, True]  # 40 degrees is nearest to 42
    assert found.hit_old.tolist() == [True, True, False, False]  # 90 and 50 degrees are nearest to 52
    assert found.precision_new.tolist() == pytest.approx([1, (1 / 2 + 2 / 3) / 2, 1, 1])
    assert (found.trained_on, found.without_both_vectors) == (1, 7)  # the query without a match is not counted twice
    assert len(pair("nyala", old, new, labels).identities) == 5
    with pytest.raises(InputError, match="not of the same queries"):
        pair("nyala", old, rank_one_vs_all(np.eye(6), labels=np.array([0, 0, 1, 1, 1, 2])), labels)


def test_a_comparison_is_a_value() -> None:
    assert compare("old", [drawn(1, "lion")]) == compare("old", [drawn(1, "lion")])
    assert isinstance(compare("old", [drawn(1, "lion")]), Comparison)
