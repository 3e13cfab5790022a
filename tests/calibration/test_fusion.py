from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from resight.calibration.evidence import Candidates, Group, PairFeatures, Pairs
from resight.calibration.fitting import cross_fit, fit_fusion
from resight.calibration.fusion import LOOKED, NotEnough, Same, Settings
from resight.calibration.reliability import ALL, FIRST, cosine_readings, reliability_views
from resight.errors import InputError

from .made_pairs import COW, drawn_pairs

QUICK = Settings(draws=0)


def joined(*parts: Pairs) -> Pairs:
    """Pairs of several species, with queries and groups renumbered."""
    groups = tuple(group for part in parts for group in part.groups)
    steps = np.cumsum([0] + [len(part.groups) for part in parts])

    def stack(of):
        return np.concatenate([of(place, part) for place, part in enumerate(parts)])

    candidates = Candidates(
        PairFeatures(parts[0].candidates.features.names, stack(lambda _, one: one.candidates.features.values)),
        stack(lambda place, one: one.candidates.query + 100_000 * place),
        stack(lambda place, one: one.candidates.name + 100_000 * place),
    )
    return Pairs(
        candidates,
        stack(lambda _, one: one.same),
        stack(lambda place, one: one.gallery + 100_000 * place),
        stack(lambda place, one: one.identity + 100_000 * place),
        groups,
        stack(lambda place, one: one.group_of + steps[place]),
    )


def same_of(fusion, pairs, group=COW):
    found = fusion.p_same(pairs.candidates, group)
    assert isinstance(found, Same)
    return found


def test_recovers_a_logistic_truth():
    """Shortlists of one unnamed candidate each: nothing but the pair's own evidence tells."""
    rng = np.random.default_rng(0)
    n = 6000
    cosine = rng.uniform(-0.2, 0.8, n)
    truth = expit(8 * (cosine - 0.4))
    pairs = Pairs(
        Candidates(PairFeatures(("cosine",), cosine[:, None]), np.arange(n), np.full(n, -1)),
        rng.random(n) < truth,
        n + np.arange(n),
        np.arange(n) // 4,
        (COW,),
        np.zeros(n, dtype=np.int64),
    )
    fusion = fit_fusion(pairs, Settings(draws=200, least_for_isotonic=10**9))
    found = same_of(fusion, pairs)
    assert np.abs(found.p - truth).max() < 0.03
    inside = (found.low <= truth) & (truth <= found.high)
    assert inside.mean() > 0.7
    assert (found.high - found.low).max() < 0.08
    np.testing.assert_allclose(found.p, expit(found.logit))


def test_held_out_probabilities_hold_and_beat_the_cosine():
    pairs = drawn_pairs(n_identity=80, strength=2.0, seed=1)
    held_out = cross_fit(pairs, QUICK).held_out(pairs.candidates, pairs.identity, pairs.groups, pairs.group_of)
    cosine = pairs.candidates.features.values[:, 0]
    order = np.lexsort((-cosine, pairs.candidates.query))
    rank = np.empty(len(pairs), dtype=np.int64)
    rank[order] = np.arange(len(pairs)) % 10 + 1
    views = reliability_views(held_out.p, pairs.same, rank)
    assert views[ALL].ece < 0.03
    assert views[FIRST].ece < 0.09
    for peer in cosine_readings(cosine).values():
        theirs = reliability_views(peer, pairs.same, rank)
        assert views[ALL].ece < theirs[ALL].ece
        assert views[FIRST].ece < theirs[FIRST].ece
        assert views[ALL].log_loss < theirs[ALL].log_loss


def test_held_out_probabilities_do_not_know_the_identity():
    """An identity whose labels are turned over changes nothing in what is said of itself."""
    pairs = drawn_pairs(n_identity=30, seed=2)
    turned = replace(pairs, same=np.where(pairs.identity == 7, ~pairs.same, pairs.same))
    said = [
        cross_fit(one, QUICK).held_out(one.candidates, one.identity, one.groups, one.group_of)
        for one in (pairs, turned)
    ]
    mine = pairs.identity == 7
    np.testing.assert_allclose(said[0].p[mine], said[1].p[mine])
    np.testing.assert_allclose(said[0].evidence[mine], said[1].evidence[mine])
    assert np.abs(said[0].p[~mine] - said[1].p[~mine]).max() > 1e-3


@settings(max_examples=25)
@given(st.integers(0, 39), st.floats(0.01, 2.0), st.integers(0, 3))
def test_more_evidence_never_lowers_p_same(row, more, column):
    pairs, fusion = LOCAL
    values = pairs.candidates.features.values[:40].copy()
    candidates = replace(
        pairs.candidates.rows(np.arange(40)), features=PairFeatures(pairs.candidates.features.names, values)
    )
    before = fusion.p_same(candidates, COW)
    raised = values.copy()
    raised[row, column % values.shape[1]] += more
    after = fusion.p_same(replace(candidates, features=PairFeatures(pairs.candidates.features.names, raised)), COW)
    assert after.logit[row] >= before.logit[row] - 1e-12
    assert after.p[row] >= before.p[row] - 1e-12


LOCAL_PAIRS = drawn_pairs(strength=1.0, local=True, seed=3)
LOCAL = (LOCAL_PAIRS, fit_fusion(LOCAL_PAIRS, QUICK))


def test_local_evidence_is_used_and_may_be_missing():
    pairs, fusion = LOCAL
    assert fusion.columns == ("intercept", LOOKED, "cosine", "local_sum", "local_count")
    alone = replace(
        pairs,
        candidates=replace(
            pairs.candidates, features=PairFeatures(("cosine",), pairs.candidates.features.values[:, :1])
        ),
    )
    losses = []
    for one in (pairs, alone):
        p = cross_fit(one, QUICK).held_out(one.candidates, one.identity, one.groups, one.group_of).p
        losses.append(reliability_views(p, one.same, np.ones(len(one), np.int64))[ALL].log_loss)
    assert losses[0] < 0.8 * losses[1]
    unseen = np.isnan(pairs.candidates.features.values[:, 1])
    assert np.isfinite(same_of(fusion, pairs).p[unseen]).all()
    # A fusion without local evidence passes over what it has not seen.
    np.testing.assert_allclose(same_of(fit_fusion(alone, QUICK), pairs).p, same_of(fit_fusion(alone, QUICK), alone).p)


def test_a_pair_that_lacks_what_all_had_is_refused():
    pairs = LOCAL_PAIRS.rows(~np.isnan(LOCAL_PAIRS.candidates.features.values[:, 1]))
    fusion = fit_fusion(pairs, QUICK)
    assert LOOKED not in fusion.columns
    with pytest.raises(InputError, match="pair 6 has no local evidence"):
        fusion.p_same(LOCAL_PAIRS.candidates, COW)


def test_too_few_confirmed_pairs_have_a_reason_and_no_probability():
    few = joined(
        drawn_pairs(n_identity=30, groups=(Group("cow"),)),
        drawn_pairs(n_identity=9, groups=(Group("lion"),), seed=1),
        drawn_pairs(n_identity=12, per_identity=1, groups=(Group("yak"),), matches=1, seed=2),
    )
    fusion = fit_fusion(few, QUICK)
    assert set(fusion.species) == {"cow"}
    lion = fusion.p_same(few.candidates.rows(few.group_of == 1), Group("lion", "left"))
    assert isinstance(lion, NotEnough)
    assert lion.reason.startswith("not enough confirmed pairs of lion: 72 of 9 individuals, at least 20 of 10")
    assert "yak: 12 of 12" in fusion.lacks(Group("yak")).reason
    assert "gnu: 0 of 0" in fusion.lacks(Group("gnu")).reason
    assert fusion.lacks(COW) is None
    held_out = cross_fit(few, QUICK).held_out(few.candidates, few.identity, few.groups, few.group_of)
    assert np.isnan(held_out.p[few.group_of > 0]).all()
    assert np.isfinite(held_out.p[few.group_of == 0]).all()
    nothing = fit_fusion(few.rows(few.group_of == 1), QUICK)
    assert nothing.pooled is None
    assert isinstance(nothing.p_same(few.candidates, COW), NotEnough)
    empty = fit_fusion(few.rows(np.zeros(0, np.int64)), QUICK)
    assert isinstance(empty.p_same(few.candidates, COW), NotEnough)


def test_a_pair_met_from_both_ends_counts_once():
    pairs = drawn_pairs(n_identity=12, per_identity=2, k=3, matches=1)
    query = pairs.candidates.query
    both = replace(pairs, gallery=np.where(pairs.same, query ^ 1, pairs.gallery))
    assert fit_fusion(both, QUICK).support["cow"].confirmed == 12
    assert fit_fusion(pairs, QUICK).support["cow"].confirmed == 24


def test_species_with_few_pairs_are_drawn_towards_the_others():
    def shifted(n, seed):
        return drawn_pairs(n_identity=n, per_identity=2, groups=(Group("lion"),), shift=(0.3,), seed=seed)

    cows = drawn_pairs(n_identity=100, groups=(COW,), seed=0)
    alone = fit_fusion(shifted(400, 9), QUICK).species["lion"]
    far = []
    for n in (10, 300):
        fusion = fit_fusion(joined(cows, shifted(n, 5)), QUICK)
        lion, cow = fusion.species["lion"], fusion.species["cow"]
        far.append(abs(lion.pair[0] - cow.pair[0]))
    assert alone is not None
    assert far[0] < far[1]
    assert far[1] > 2  # three standard deviations of the noise apart, with many pairs of its own


def test_viewpoints_have_fits_of_their_own_where_they_can():
    groups = (Group("cow", "left"), Group("cow", "right"), Group("cow"))
    pairs = drawn_pairs(n_identity=60, groups=groups[:2], shift=(0.0, 0.3), seed=4)
    rare = drawn_pairs(n_identity=2, groups=(groups[2],), first_identity=5000, seed=5)
    pairs = joined(pairs, rare)
    fusion = fit_fusion(pairs, QUICK)
    assert set(fusion.viewpoints) == set(groups[:2])
    levels = {
        group: same_of(fusion, pairs.rows(pairs.group_of == place), group).level for place, group in enumerate(groups)
    }
    assert list(levels.values()) == ["viewpoint", "viewpoint", "species"]
    left, right = (fusion.viewpoints[group].pair[0] for group in groups[:2])
    assert left > right  # the same cosine says less of a right side
    # Held out, a viewpoint is judged as it will be used: the rare one by its species.
    for _, part in cross_fit(pairs, QUICK).parts:
        assert set(part.viewpoints) == set(groups[:2])
    never_seen = same_of(fusion, pairs.rows(pairs.group_of == 0), Group("cow", "back"))
    assert never_seen.level == "species"


def test_what_may_not_differ_is_as_its_parent_is():
    groups = (Group("cow", "left"), Group("cow", "right"))
    cows = drawn_pairs(n_identity=60, groups=groups, shift=(0.0, 0.3), seed=4)
    lions = drawn_pairs(n_identity=60, groups=(Group("lion"),), shift=(-0.3,), seed=5)
    fusion = fit_fusion(joined(cows, lions), Settings(species_sd=1e-4, viewpoint_sd=1e-4, draws=20))
    assert np.abs(fusion.pooled.pair).max() > 1
    for fit in (*fusion.species.values(), *fusion.viewpoints.values()):
        np.testing.assert_allclose(fit.pair, fusion.pooled.pair, atol=1e-4)
        np.testing.assert_allclose(fit.name, fusion.pooled.name, atol=1e-4)
        np.testing.assert_allclose(fit.name_draws, fusion.pooled.name_draws, atol=1e-4)


def test_a_better_rival_makes_a_pair_less_likely():
    pairs = drawn_pairs(strength=2.0, seed=1)
    fusion = fit_fusion(pairs, QUICK)
    logits = []
    for rival in (0.1, 0.3, 0.6):
        values = np.array([[0.3], [rival], [0.0]])
        candidates = Candidates(PairFeatures(("cosine",), values), np.zeros(3, int), np.array([1, 2, 3]))
        logits.append(fusion.p_same(candidates, COW).logit[0])
    assert logits[0] > logits[1] + 1
    assert logits[1] > logits[2] + 1


def test_an_interval_holds_its_probability():
    pairs = drawn_pairs(n_identity=30)
    fusion = fit_fusion(pairs, Settings(draws=20))
    fit = fusion.species["cow"]
    for aside in (-3.0, 3.0):
        moved = replace(fit, name_draws=fit.name_draws + np.array([aside, 0, 0, 0, 0]))
        found = same_of(replace(fusion, species={"cow": moved}), pairs)
        assert ((found.low <= found.p) & (found.p <= found.high)).all()
        assert (found.high - found.low).max() > 0.3


def test_a_viewpoint_too_small_for_a_stage_uses_its_species():
    left, right = Group("cow", "left"), Group("cow", "right")
    rng = np.random.default_rng(0)
    n = 3000
    cosine = rng.uniform(0, 1, n)
    pairs = Pairs(
        Candidates(PairFeatures(("cosine",), cosine[:, None]), np.arange(n), np.full(n, -1)),
        rng.random(n) < np.where(cosine > 0.9, 0.98, 0.3),
        n + np.arange(n),
        np.arange(n) // 3,
        (left, right),
        (np.arange(n) >= 2800).astype(np.int64),
    )
    fusion = fit_fusion(pairs, QUICK)
    assert fusion.species["cow"].isotonic is not None
    assert fusion.viewpoints[right].support.confirmed < 300
    assert fusion.viewpoints[right].isotonic is fusion.species["cow"].isotonic
    assert fusion.viewpoints[left].isotonic is not fusion.species["cow"].isotonic


def test_an_isotonic_stage_needs_many_pairs_and_a_better_loss():
    pairs = drawn_pairs(n_identity=120, seed=6)
    assert fit_fusion(pairs, replace(QUICK, least_for_isotonic=10**6)).species["cow"].isotonic is None
    # Cosines of which only a middle band means the same animal: no straight line can say so, nor any rising one.
    rng = np.random.default_rng(0)
    n = 3000
    cosine = rng.uniform(0, 1, n)
    chance = np.where(cosine > 0.9, 0.98, 0.3)
    step = Pairs(
        Candidates(PairFeatures(("cosine",), cosine[:, None]), np.arange(n), np.full(n, -1)),
        rng.random(n) < chance,
        n + np.arange(n),
        np.arange(n) // 3,
        (COW,),
        np.zeros(n, dtype=np.int64),
    )
    fusion = fit_fusion(step, Settings(draws=20))
    stage = fusion.species["cow"].isotonic
    assert stage is not None
    assert (np.diff(stage.probabilities) >= 0).all()
    assert (stage.probabilities > 0).all()
    assert (stage.probabilities < 1).all()
    found = same_of(fusion, step)
    assert np.abs(found.p - chance).mean() < 0.05
    assert np.abs(expit(found.logit) - chance).mean() > 0.1
    assert ((found.low <= found.p) & (found.p <= found.high)).all()


def test_animals_with_many_photos_do_not_decide_for_all():
    """Each name of a shortlist counts once: three more copies of every match leave the pairs' evidence what it was."""
    pairs = drawn_pairs(n_identity=40, k=6, strength=2.0, seed=8)
    again = np.sort(np.concatenate([np.arange(len(pairs)), np.repeat(np.flatnonzero(pairs.same), 3)]))
    once, often = (
        same_of(fit_fusion(each, replace(QUICK, least_for_isotonic=10**9)), pairs).evidence
        for each in (pairs, pairs.rows(again))
    )
    # Counted by rows, the odds of a match would rise by log 4 = 1.39.
    assert abs((often - once).mean()) < 0.1
    assert np.abs(often - once).max() < 0.4


def test_the_same_seed_gives_the_same_intervals():
    pairs = drawn_pairs(n_identity=20)
    one, other = (same_of(fit_fusion(pairs, Settings(seed=seed)), pairs) for seed in (0, 0))
    np.testing.assert_array_equal(one.low, other.low)
    different = same_of(fit_fusion(pairs, Settings(seed=1)), pairs)
    assert (one.low != different.low).any()
    assert np.isnan(same_of(fit_fusion(pairs, QUICK), pairs).low).all()


def test_fewer_individuals_give_wider_intervals():
    widths = []
    for n in (12, 150):
        pairs = drawn_pairs(n_identity=n, strength=2.0, seed=1)
        found = same_of(fit_fusion(pairs, Settings()), pairs)
        widths.append(float((found.high - found.low).mean()))
    assert widths[0] > 2 * widths[1]


@pytest.mark.parametrize(
    "wrong", [{"least_pairs": 0}, {"folds": 1}, {"draws": -1}, {"species_sd": 0.0}, {"pooled_sd": float("inf")}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Settings(**wrong)
