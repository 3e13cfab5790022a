from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from resight.calibration.fusion import NotEnough
from resight.calibration.open_figures import auroc
from resight.calibration.open_set import (
    COLUMNS,
    New,
    NewSettings,
    OpenQueries,
    cross_fitted_new,
    fit_open_set,
    shift_share,
    simulate_unknown,
    suggested_share_of_new,
)
from resight.calibration.reliability import reliability
from resight.errors import InputError

QUICK = NewSettings(draws=0)


def drawn(n_identity=60, per_identity=4, draws=2, species=("cow",), seed=0, apart=2.0, new_share=0.5):
    """Known queries whose best name stands ``apart`` standard deviations above that of new ones."""
    rng = np.random.default_rng(seed)
    n = n_identity * per_identity
    identity = np.tile(np.repeat(np.arange(n_identity), per_identity), draws)
    draw = np.repeat(np.arange(draws), n)
    is_new = np.concatenate([np.isin(identity[:n], rng.permutation(n_identity)[: int(n_identity * new_share)])] * draws)
    is_new = np.where(draw % 2 == 1, ~is_new, is_new) if new_share == 0.5 else is_new
    best = 1.5 * rng.standard_normal(n * draws) - 2 + np.where(is_new, 0, 1.5 * apart)
    gap = np.abs(rng.standard_normal(n * draws)) + np.where(is_new, 0, 1.0)
    right = ~is_new & (rng.random(n * draws) < 0.8)
    names = rng.integers(20, 40, n * draws)
    return OpenQueries(best, gap, names, is_new, right, identity, identity % len(species), draw, tuple(species))


def p_of(model, queries, species="cow", share=0.5):
    found = model.p_new(queries.best, queries.gap, queries.names, species, share=share)
    assert isinstance(found, New)
    return found


def test_tells_new_animals_and_holds():
    queries = drawn(n_identity=200)
    held_out = cross_fitted_new(queries, QUICK)
    assert auroc(held_out.p, queries.is_new) > auroc(-queries.best, queries.is_new) > 0.85
    assert reliability(held_out.p, queries.is_new).ece < 0.04
    assert set(held_out.part.tolist()) == set(range(5))
    for part in range(5):
        outside = set(queries.identity[held_out.part != part].tolist())
        assert not set(queries.identity[held_out.part == part].tolist()) & outside


def test_signs():
    model = fit_open_set(drawn(), NewSettings(draws=50))
    fit = model.species["cow"]
    assert (fit.coefficients[1:] >= 0).all()
    assert (fit.draws[:, 1:] >= 0).all()
    best, gap, names = np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.5, 0.5, 1.5, 0.5]), np.array([30, 30, 30, 60])
    p = model.p_new(best, gap, names, "cow", share=0.5).p
    assert p[1] < p[0]
    assert p[2] < p[0]
    assert p[3] >= p[0]
    assert len(COLUMNS) == len(fit.coefficients)


def test_the_share_of_new_animals_moves_the_odds():
    model = fit_open_set(drawn(), QUICK)
    queries = drawn(n_identity=5, seed=1)
    half, fifth = p_of(model, queries).p, p_of(model, queries, share=0.2).p
    # Odds of 1 to 4 instead of 1 to 1.
    np.testing.assert_allclose(fifth / (1 - fifth), half / (1 - half) / 4)
    np.testing.assert_allclose(shift_share(half, fitted=0.5, expected=0.2), fifth)
    # By hand: 0.6 has odds 1.5; from 0.5 to 0.2 they are 0.375, which is 3/11.
    assert shift_share(np.array([0.6]), fitted=0.5, expected=0.2)[0] == pytest.approx(3 / 11)
    assert shift_share(np.array([0.3]), fitted=0.3, expected=0.3)[0] == pytest.approx(0.3)
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="share of new animals"):
            model.p_new(queries.best, queries.gap, queries.names, "cow", share=share)


def test_the_share_among_the_simulated_queries_does_not_matter():
    """Dropping three quarters of the new queries changes their share, and P(new) at a given share hardly."""
    queries = drawn(n_identity=400, seed=3)
    kept = ~queries.is_new | (queries.identity % 4 == 0)
    one, other = fit_open_set(queries, QUICK), fit_open_set(queries.rows(kept), QUICK)
    difference = p_of(one, queries).p - p_of(other, queries).p
    assert np.abs(difference).mean() < 0.04
    assert np.abs(difference.mean()) < 0.03


def test_nothing_to_compare_with_is_new_for_certain():
    model = fit_open_set(drawn(), NewSettings(draws=20))
    found = model.p_new(np.array([-np.inf, 0.0]), np.zeros(2), np.array([0, 5]), "cow", share=0.1)
    assert (found.p[0], found.low[0], found.high[0]) == (1.0, 1.0, 1.0)
    assert 0 < found.low[1] <= found.p[1] <= found.high[1] < 1


def test_queries_without_names_teach_nothing():
    queries = drawn()
    extra = queries.rows(np.arange(4))
    extra = replace(extra, best=np.full(4, -np.inf), names=np.zeros(4, int), gap=np.zeros(4))
    columns = ("best", "gap", "names", "is_new", "right", "identity", "species", "draw")
    with_them = replace(
        queries,
        **{name: np.concatenate([getattr(queries, name), getattr(extra, name)]) for name in columns},
    )
    one, other = fit_open_set(queries, QUICK), fit_open_set(with_them, QUICK)
    np.testing.assert_allclose(one.species["cow"].coefficients, other.species["cow"].coefficients)


def test_too_few_have_a_reason():
    queries = drawn(n_identity=12, per_identity=3)
    found = fit_open_set(queries, QUICK).p_new(queries.best, queries.gap, queries.names, "cow", share=0.5)
    assert isinstance(found, NotEnough)
    assert "not enough queries of cow to tell new animals: 18 of known animals and 18" in found.reason
    assert "0 of known animals" in fit_open_set(queries, QUICK).p_new(*[np.zeros(1)] * 3, "gnu", share=0.5).reason
    assert np.isnan(cross_fitted_new(queries, QUICK).p).all()


def test_species_are_drawn_towards_each_other():
    both = drawn(n_identity=200, species=("cow", "lion"), seed=1)
    lion = both.species == 1
    shifted = replace(both, best=np.where(lion, both.best + 3, both.best))
    model = fit_open_set(shifted, QUICK)
    assert set(model.species) == {"cow", "lion"}
    few = shifted.rows(~lion | (both.identity < 44))
    fewer = fit_open_set(few, replace(QUICK, least_queries=5, least_individuals=5))

    def far(one):
        return abs(one.species["lion"].coefficients[0] - one.species["cow"].coefficients[0])

    assert far(fewer) < far(model)


def test_a_species_that_may_not_differ_is_as_all_are():
    both = drawn(n_identity=200, species=("cow", "lion"), seed=1)
    shifted = replace(both, best=np.where(both.species == 1, both.best + 3, both.best))
    model = fit_open_set(shifted, NewSettings(species_sd=1e-4, draws=30))
    cow, lion = model.species["cow"], model.species["lion"]
    np.testing.assert_allclose(cow.coefficients, lion.coefficients, atol=1e-4)
    np.testing.assert_allclose(cow.draws, lion.draws, atol=1e-4)
    assert np.abs(cow.coefficients).max() > 0.5


def test_the_interval_moves_with_the_share():
    model = fit_open_set(drawn(), NewSettings(draws=50))
    one, other = (model.p_new(np.zeros(1), np.ones(1), np.full(1, 30), "cow", share=share) for share in (0.5, 0.2))
    for end in ("low", "high"):
        half, fifth = getattr(one, end), getattr(other, end)
        np.testing.assert_allclose(fifth / (1 - fifth), half / (1 - half) / 4)


def test_intervals_shrink_with_more_individuals():
    at = (np.array([0.0]), np.array([1.0]), np.array([30]), "cow")
    widths = []
    for n in (30, 300):
        found = fit_open_set(drawn(n_identity=n), NewSettings(draws=100)).p_new(*at, share=0.5)
        widths.append(found.high[0] - found.low[0])
    assert widths[0] > 1.8 * widths[1]


@given(st.integers(0, 2**32), st.floats(0.05, 0.95), st.integers(2, 30))
def test_simulated_unknowns(seed, share, n_identity):
    identity = np.random.default_rng(seed).integers(-1, n_identity, 80)
    codes = np.unique(identity[identity >= 0])
    if len(codes) < 2:
        return
    out = simulate_unknown(identity, draws=3, share=share, seed=seed)
    assert out.shape == (3, 80)
    assert not out[:, identity < 0].any()
    for draw in out:
        gone = np.unique(identity[draw])
        assert not np.isin(gone, identity[~draw]).any()  # whole identities
        assert 1 <= len(gone) < len(codes)
        assert abs(len(gone) - share * len(codes)) <= 1
    np.testing.assert_array_equal(out, simulate_unknown(identity, draws=3, share=share, seed=seed))


def test_halves_complement_each_other():
    identity = np.array([5, 5, 7, 9, -1, 11, 13])
    out = simulate_unknown(identity, draws=4)
    for first in (0, 2):
        assert (out[first] ^ out[first + 1])[identity >= 0].all()
    assert (out[0] != out[2]).any() or (out[0] != out[3]).any()
    with pytest.raises(InputError, match="1 identities"):
        simulate_unknown(np.array([3, 3, -1]))
    with pytest.raises(InputError, match="share"):
        simulate_unknown(identity, share=1.0)


def test_suggested_share():
    # Good: 2 of 8 encounters are their animal's only one.
    found = suggested_share_of_new([1, 1, 2, 4])
    assert (found.share, found.how) == (pytest.approx(3 / 10), "2 of 8 encounters are their animal's only one")
    # In time: of 100 encounters the last 25 count, 5 of them first ones.
    firsts = [True] * 75 + [False] * 20 + [True] * 5
    found = suggested_share_of_new([100], firsts_in_time=firsts)
    assert (found.share, found.how) == (
        pytest.approx(6 / 27),
        "5 of the last 25 dated encounters were an animal's first",
    )
    assert suggested_share_of_new([1] * 39, firsts_in_time=[True] * 39).share == pytest.approx(40 / 41)
    assert suggested_share_of_new([]).share == 0.5
    with pytest.raises(InputError, match="at least 1"):
        suggested_share_of_new([1, 0])


def test_good_turing_is_right_for_a_closed_population():
    rng = np.random.default_rng(0)
    rates = rng.dirichlet(np.full(300, 0.7))
    suggested, met = [], []
    for _ in range(60):
        seen = rng.choice(300, 250, p=rates)
        suggested.append(suggested_share_of_new(np.unique(seen, return_counts=True)[1].tolist()).share)
        met.append(1 - rates[np.unique(seen)].sum())
    assert np.mean(suggested) == pytest.approx(np.mean(met), abs=0.01)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("right", np.ones(480, bool), "no right name"),
        ("best", np.full(480, np.nan), "finite"),
        ("gap", np.full(480, np.inf), "finite"),
        ("names", np.zeros(480, int), "only where, no name"),
        ("species", np.full(480, 1), "one of 1"),
        ("draw", np.zeros(3, int), "one entry a query"),
    ],
)
def test_refuses_queries_that_do_not_fit(field, value, told):
    with pytest.raises(InputError, match=told):
        replace(drawn(), **{field: value})


@pytest.mark.parametrize("wrong", [{"least_queries": 0}, {"least_individuals": 0}, {"draws": -1}, {"pooled_sd": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        NewSettings(**wrong)


def test_the_known_truth_is_recovered():
    """P(new) = logistic(1 − 2·best) by construction, at equal shares."""
    rng = np.random.default_rng(0)
    n = 8000
    best = rng.standard_normal(n)
    is_new = rng.random(n) < expit(1 - 2 * best)
    queries = OpenQueries(
        best,
        np.zeros(n),
        np.full(n, 10),
        is_new,
        np.zeros(n, bool),
        np.arange(n),
        np.zeros(n, int),
        np.zeros(n, int),
        ("cow",),
    )
    share = is_new.mean()
    found = p_of(fit_open_set(queries, QUICK), queries, share=share).p
    assert np.abs(found - expit(1 - 2 * best)).max() < 0.04
