from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from resight.comparison import LEAST_CHANGED, PairedScores, compare
from resight.errors import InputError
from resight.experiments.scores import Scores
from resight.experiments.statistics import Difference, difference, estimate, macro_difference, macro_estimate

from .made_sides import scores_of


def drawn(
    seed: int,
    *,
    gain: float = 0.0,
    identities: int = 40,
    seeds: int = 3,
    seed_scatter: float = 0.0,
    species: str = "nyala",
) -> tuple[list[Scores], list[Scores]]:
    """New and old: each identity is as hard for both, and of the new model each seed is better by ``gain`` and scatter.

    Not every identity is tested under every seed, nor by as many queries.
    """
    rng = np.random.default_rng(seed)
    ease = rng.beta(1.5, 1.5, identities)
    drift = rng.normal(0, 0.1, identities)  # the models differ on an identity, whatever the seed
    new, old = [], []
    for number in range(seeds):
        tested = np.flatnonzero(rng.random(identities) < 0.7)
        of = np.repeat(tested, rng.integers(2, 8, len(tested)))
        names = [f"i{code:03}" for code in of]
        more = gain + rng.normal(0, seed_scatter)
        hits = (rng.random(len(of)) < ease[of] + drift[of] + more, rng.random(len(of)) < ease[of])
        both = [scores_of(names, np.where(hit, 1, 7), species=species, start=1000 * number) for hit in hits]
        new.append(both[0])
        old.append(both[1])
    return new, old


def width(ends: tuple[float, float] | None) -> float:
    assert ends is not None
    return ends[1] - ends[0]


def test_a_difference_by_hand() -> None:
    # Under the first seed a gains one of its two queries and b nothing; under the second a loses its one and c gains.
    new = [scores_of("aab", [1, 1, 3]), scores_of("acc", [9, 1, 1])]
    old = [scores_of("aab", [1, 2, 3]), scores_of("acc", [1, 1, 4])]
    found = difference(new, old)
    assert found.per_seed == (pytest.approx(100 / 3), 0.0)
    assert found.mean == pytest.approx(50 / 3)
    assert (found.queries, found.identities, found.identities_changed) == (6, 3, 1)  # what a won and lost cancels out
    assert (found.resampled, found.verdict, found.figure) == ("identities and seeds", "no clear difference", "top1")
    # Of a alone the first seed has 50 and the second -100; of c alone only the second counts, with 50.
    assert found.ci95 is not None
    assert -100 <= found.ci95[0] < 0 < found.ci95[1] <= 50
    of_map = difference(new, old, "map")
    assert of_map.per_seed[0] == pytest.approx(100 * (1 - 1 / 2) / 3)
    assert difference(new, old, "top5").per_seed == (0.0, pytest.approx(-100 / 3))


def test_one_seed_is_the_bootstrap_over_identities_that_compare_makes() -> None:
    (new,), (old,) = drawn(4, gain=0.15, seeds=1, species="lion")
    codes = np.unique(old.identities, return_inverse=True)[1]
    hits = (old.hits(1), new.hits(1), old.precisions, new.precisions)
    (theirs,) = compare("old", [PairedScores("lion", codes, *hits)]).species
    found = difference([new], [old])
    assert found.mean == pytest.approx(theirs.difference)
    assert found.ci95 == pytest.approx(theirs.difference_ci95)
    assert found.resampled == "identities"
    assert found.identities_changed == theirs.individuals_changed
    assert difference([new], [old], "map").ci95 == pytest.approx(theirs.map_difference_ci95)


def naive_means(scores: list[Scores | None], draws: int, species: str) -> NDArray[np.float64]:
    """The crossed bootstrap, query by query, with the draws that the module makes."""
    names = sorted({str(name) for one in scores if one is not None for name in one.identities})
    rng, of_seeds = np.random.default_rng([0, *species.encode()]), np.random.default_rng([1, len(scores)])
    seed_times = of_seeds.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=draws)
    means = []
    for draw in range(draws):
        picked = [names[code] for code in rng.integers(len(names), size=len(names))]
        total = weight = 0.0
        for seed, one in enumerate(scores):
            if one is None:
                continue
            values = one.values("top1")
            resampled = [values[query] for name in picked for query in np.flatnonzero(one.identities == name)]
            if resampled:
                total += seed_times[draw, seed] * float(np.mean(resampled))
                weight += seed_times[draw, seed]
        means.append(total / weight if weight else np.nan)
    return np.array(means)


@pytest.mark.parametrize("absent", [False, True])
def test_the_interval_agrees_with_a_loop_over_queries(absent: bool) -> None:
    new: list[Scores | None] = list(drawn(6, identities=5, species="lion")[0])
    if absent:
        new[1] = None
    means = naive_means(new, 60, "lion")
    found = estimate(new, draws=60)
    assert found.ci95 == pytest.approx(np.nanpercentile(means, [2.5, 97.5]), abs=1e-9)
    assert (found.per_seed[1] is None) == absent
    shown = [value for value in found.per_seed if value is not None]
    assert found.mean == pytest.approx(np.mean(shown))
    assert found.queries == sum(one.queries for one in new if one is not None)


def test_an_interval_covers_what_is_true_and_few_gains_are_called_by_chance() -> None:
    found = [difference(*drawn(seed, seed_scatter=0.02), draws=400) for seed in range(120)]
    covered = [one.ci95[0] <= 0 <= one.ci95[1] for one in found if one.ci95 is not None]
    assert len(covered) == 120
    assert np.mean(covered) >= 0.93
    assert sum(one.verdict != "no clear difference" for one in found) <= 8
    # It is not as wide as it likes: 20 points are seen, and the verdict follows the sign.
    gains = [difference(*drawn(seed, gain=0.2, seed_scatter=0.02), draws=400) for seed in range(20)]
    assert sum(one.verdict == "gain" for one in gains) >= 18
    losses = [difference(*drawn(seed, gain=0.2)[::-1], draws=400) for seed in range(5)]
    assert {one.verdict for one in losses} == {"loss"}


def test_seeds_that_scatter_widen_the_interval_and_one_seed_does_not_know_of_it() -> None:
    new, old = drawn(1, identities=200)
    apart = [scores_of(one.identities.tolist(), np.where(np.arange(one.queries) % 3 < number, 1, 7).tolist(),
                       start=1000 * number) for number, one in enumerate(new)]  # fmt: skip
    assert width(difference(apart, old).ci95) > 2 * width(difference(new, old).ci95)
    alone = difference(apart[:1], old[:1])
    assert alone.resampled == "identities"
    assert width(alone.ci95) < width(difference(apart, old).ci95) / 2


def test_more_seeds_of_the_same_identities_do_not_make_identities_more_sure() -> None:
    # The same answers three times over are worth one: seeds are crossed with identities, not new queries.
    (one,), (other,) = drawn(9, seeds=1)
    once, thrice = difference([one], [other]), difference([one] * 3, [other] * 3)
    assert thrice.mean == pytest.approx(once.mean)
    assert thrice.ci95 == pytest.approx(once.ci95)
    assert thrice.identities == once.identities


def test_exchanging_the_models_turns_the_sign_and_nothing_else() -> None:
    new, old = drawn(2, gain=0.2)
    there, back = difference(new, old), difference(old, new)
    assert there.mean == pytest.approx(-back.mean)  # type: ignore[operator]
    assert there.ci95 is not None
    assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]))
    assert (there.verdict, back.verdict) == ("gain", "loss")
    nothing = difference(new, new)
    assert (nothing.mean, nothing.ci95, nothing.verdict) == (0.0, (0.0, 0.0), "no clear difference")
    assert nothing.identities_changed == 0


def test_few_identities_are_never_called_a_gain() -> None:
    def gained(n: int) -> Difference:
        names = [f"i{number}" for number in range(n)] * 3
        return difference([scores_of(names, [1] * 3 * n)] * 3, [scores_of(names, [2] * 3 * n)] * 3)

    assert (gained(LEAST_CHANGED - 1).ci95, gained(LEAST_CHANGED - 1).verdict) == (
        (100.0, 100.0),
        "no clear difference",
    )
    assert gained(LEAST_CHANGED).verdict == "gain"
    assert (gained(1).mean, gained(1).ci95, gained(1).verdict) == (100.0, None, "no clear difference")


def test_the_macro_figure_counts_each_species_once_and_draws_seeds_for_all_of_them_together() -> None:
    many, few = drawn(3, gain=0.2, identities=80, species="lion"), drawn(4, identities=10, species="nyala")
    of_each = [difference(*many), difference(*few)]
    macro = macro_difference({"lion": many[0], "nyala": few[0]}, {"nyala": few[1], "lion": many[1]})
    assert macro.mean == pytest.approx(np.mean([one.mean for one in of_each]))  # type: ignore[arg-type]
    assert macro.queries == sum(one.queries for one in of_each)
    assert macro.identities == sum(one.identities for one in of_each)
    assert macro.identities_changed == sum(one.identities_changed for one in of_each)
    # A seed that is good for one species is good for all: their mean is no surer than one of them.
    names = [f"i{number:02}" for number in range(30)]
    seeds = [[1] * 30, [1, 7] * 15, [7] * 30]

    def of(species: str) -> list[Scores]:
        return [scores_of(names, hits, species=species) for hits in seeds]

    alone = estimate(of("a"))
    among = macro_estimate({name: of(name) for name in "abcdefgh"})
    assert alone.mean == among.mean == 50.0
    assert width(among.ci95) > 0.8 * width(alone.ci95) > 30
    assert among.per_seed == (100.0, 50.0, 0.0)


def test_a_species_that_a_seed_does_not_test_counts_under_the_others() -> None:
    lion, nyala = [scores_of("aab", [1, 1, 9])] * 2, [None, scores_of("ab", [9, 9], species="nyala")]
    found = macro_estimate({"lion": lion, "nyala": nyala})
    assert found.mean == pytest.approx((200 / 3 + 0) / 2)
    assert found.per_seed == (pytest.approx(200 / 3), pytest.approx(100 / 3))
    assert found.resampled == "identities and seeds"
    assert estimate(nyala).resampled == "identities"
    nothing = difference([None, None], [None, None])
    assert (nothing.mean, nothing.ci95, nothing.per_seed, nothing.verdict) == (None, None, (None, None), "not compared")
    empty = scores_of("", [])
    assert (estimate([empty]).mean, estimate([empty]).queries) == (None, 0)


def test_an_estimate_is_of_one_model() -> None:
    new, old = drawn(5, gain=0.2)
    assert estimate(new).mean == pytest.approx(np.mean([one.top1 for one in new]))  # type: ignore[arg-type]
    gain = estimate(new).mean - estimate(old).mean  # type: ignore[operator]
    assert gain == pytest.approx(difference(new, old).mean)
    assert estimate(new).per_seed == tuple(pytest.approx(one.top1) for one in new)


def test_what_is_not_paired_is_refused() -> None:
    new, old = drawn(5)
    with pytest.raises(InputError, match="not scored on the same queries of nyala"):
        difference(new, [*old[:2], old[0]])
    renamed = replace(old[2], annotation_ids=tuple(f"b{name}" for name in old[2].annotation_ids))
    for other in (renamed, None):
        with pytest.raises(InputError, match="not scored on the same queries"):
            difference(new, [*old[:2], other])
    with pytest.raises(InputError, match="3 seeds of the new model and 2 of the old"):
        difference(new, old[:2])
    with pytest.raises(InputError, match=r"several species \(lion, nyala\)"):
        difference(new, [replace(one, species="lion") for one in old])
    with pytest.raises(InputError, match=r"not scored on the same species \(lion\)"):
        macro_difference({"lion": new}, {})
    with pytest.raises(InputError, match=r"same seeds, at least one, got \[2, 3\] seeds"):
        macro_estimate({"s": new, "t": new[:2]})
    for nothing in ([], ()):
        with pytest.raises(InputError, match="at least one"):
            estimate(nothing)
    with pytest.raises(InputError, match="at least 1 draw, got 0"):
        estimate(new, draws=0)
    with pytest.raises(InputError, match="'top2' is no figure"):
        estimate(new, "top2")
