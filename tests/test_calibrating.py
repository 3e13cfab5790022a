"""From a split to pairs, simulated unknowns and a calibration, on vectors made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resight.artefacts import Passport
from resight.calibrating import Costs, calibrate, fused_scores, simulate, suggested_shares
from resight.calibration.evidence import LOCAL_FEATURES, Group, candidates_of
from resight.calibration.fitting import cross_fit
from resight.calibration.fusion import LOOKED
from resight.calibration.shortlists import Shortlists, pairs_of, shortlists_of
from resight.calibration.stopping import GROUP, Length
from resight.catalogue.store import StoredSplit
from resight.embedding import EmbeddingSet
from resight.ranking import rank_one_vs_all
from resight.types import Annotation

from .made_up import annotation


def split_of(identities: dict[str, str], *, species: str = "zebra", encounters: dict[str, str] | None = None) -> Any:
    keys = list(identities)
    return StoredSplit(
        "s", "paper", 0, 1, "t", dict.fromkeys(keys, "test"), identities,
        encounters or {key: f"e-{key}" for key in keys}, dict.fromkeys(keys, species), {},
    )  # fmt: skip


def herd(animals: int, photos: int, *, noise: float, seed: int = 0) -> tuple[Any, list[Annotation], EmbeddingSet]:
    """Both sides of some animals, each photographed so often, with vectors that scatter about their identity's own."""
    rng = np.random.default_rng(seed)
    identities, annotations, vectors = {}, [], []
    for animal in range(animals):
        for side in ("left", "right"):
            own = rng.normal(size=24)
            for photo in range(photos):
                key = f"{animal:02}-{side}-{photo}"
                identities[key] = f"z{animal}|{side}"
                annotations.append(annotation(key, viewpoint=side, individual=f"z{animal}"))
                vectors.append(own + noise * rng.normal(size=24))
    table = EmbeddingSet("m", tuple(identities), tuple(identities), np.array(vectors, np.float16))
    return split_of(identities), annotations, table


def plain_local(lists: Shortlists, *, seed: int = 0) -> dict[str, Any]:
    """Local evidence that is plain for every second animal, and worth nothing for the others."""
    rng = np.random.default_rng(seed)
    same = lists.held & (lists.names == lists.individual[:, None]) & (lists.individual[:, None] % 2 == 0)
    sums = np.where(same, 30.0, 4.0) + 4 * rng.random(same.shape)
    return {name: np.where(lists.held, sums, np.nan) for name in LOCAL_FEATURES}


def test_what_was_made_unknown_is_found_by_nobody() -> None:
    split, annotations, table = herd(24, 4, noise=0.4)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=20)
    cross = cross_fit(pairs_of(lists, None, shortlist=10))
    simulated = simulate(lists, None, cross, shortlist=10)
    queries = simulated.queries
    assert set(queries.draw.tolist()) == {0, 1, 2, 3}
    new = [set(queries.identity[(queries.draw == draw) & queries.is_new].tolist()) for draw in range(2)]
    assert new[0].isdisjoint(new[1])
    assert len(new[0] | new[1]) == 24
    assert not (queries.right & queries.is_new).any()
    assert not simulated.cosine_right[queries.is_new].any()
    assert set(queries.names.tolist()) == {12}
    known = ~queries.is_new
    assert queries.right[known].mean() > 0.9
    assert queries.best[known].mean() > queries.best[queries.is_new].mean() + 1


def test_a_calibration_of_a_herd_tells_same_from_other_and_known_from_new() -> None:
    split, annotations, table = herd(30, 4, noise=0.4)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=20)
    judged = calibrate(
        lists, None, Passport("calibration", {}), suggested_shares(annotations), shortlist=10, costs=Costs(1, 5)
    )
    made = judged.calibration
    views = made.reliability["zebra"]
    assert views["all pairs"].ece is not None
    assert views["all pairs"].ece < 0.05 < (views["cosine, at least 0: all pairs"].ece or 0)
    figures = made.open_figures["zebra"]
    assert (figures.auroc or 0) > 0.9
    assert (judged.peer_figures["zebra"].auroc or 0) > 0.9
    assert made.operating_points["zebra"].cost_false == 5
    by_cosine, by_all = made.first_right["zebra"]
    assert by_cosine > 0.9
    assert by_all > 0.9
    assert made.fusion.lacks(Group("zebra")) is None


def test_the_fit_sees_what_matching_will_see() -> None:
    split, annotations, table = herd(40, 4, noise=1.5)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=40)
    local, passport, shares = plain_local(lists), Passport("calibration", {}), suggested_shares(annotations)
    made = calibrate(lists, local, passport, shares, shortlist=20).calibration
    stop = made.stops["zebra"]
    assert 7 < stop.decisive <= 34
    assert stop.right >= 0.99
    assert 0 < stop.saved < 0.5
    assert LOOKED in made.fusion.columns  # pairs behind a decisive one have no local evidence
    by_cosine, by_all = made.first_right["zebra"]
    assert by_all > by_cosine + 0.1
    assert not made.did_not_help("zebra")
    views = made.reliability["zebra"]
    assert (views["all pairs"].ece or 1) < 0.05

    one_group = {"zebra": Length(GROUP, 0.5, 0.6, 320, 159)}
    twice = lists.cut(2 * GROUP)
    short = calibrate(twice, local, passport, shares, shortlist=20, lengths=one_group).calibration
    assert short.lengths == one_group
    assert short.stops == {}  # nothing stands behind the first group
    assert LOOKED not in short.fusion.columns
    assert short.fusion.support["zebra"].pairs == GROUP * len(lists.ids)
    alone = calibrate(twice, local, passport, shares, shortlist=GROUP).calibration
    np.testing.assert_array_equal(alone.fusion.species["zebra"].pair, short.fusion.species["zebra"].pair)
    np.testing.assert_array_equal(alone.open_set.species["zebra"].coefficients,
                                  short.open_set.species["zebra"].coefficients)  # fmt: skip


def test_a_search_ends_elsewhere_once_animals_were_taken_out() -> None:
    split, annotations, table = herd(24, 4, noise=0.4)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=50)
    sums = np.where(lists.names == lists.individual[:, None], 20.0, 1.0)
    local = {name: np.where(lists.held, sums, np.nan) for name in LOCAL_FEATURES}
    decisive = np.full(len(lists.ids), 20.0)
    cross = cross_fit(pairs_of(lists, local, shortlist=20, decisive=decisive))
    seen = []

    def spied(cosine: Any, names: Any, held: Any, columns: Any = None) -> Any:
        seen.append((names, held, np.isfinite(columns["local_sum"]) & held))
        return candidates_of(cosine, names, held, columns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resight.calibrating.candidates_of", spied)
        simulated = simulate(lists, local, cross, shortlist=20, decisive=decisive)
    assert len(seen) == 4
    for names, held, looked in seen:
        found = ((names == lists.individual[:, None]) & held)[:, :GROUP].any(axis=1)
        assert 0 < found.sum() < len(found)
        np.testing.assert_array_equal(looked.sum(axis=1), np.where(found, GROUP, held.sum(axis=1)))
    assert simulated.queries.right[~simulated.queries.is_new].mean() > 0.9


def test_too_few_animals_give_no_probability_and_no_error() -> None:
    split, annotations, table = herd(3, 2, noise=0.1)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=4)
    made = calibrate(lists, None, Passport("calibration", {}), suggested_shares(annotations), shortlist=2).calibration
    lacking = made.fusion.lacks(Group("zebra"))
    assert lacking is not None
    assert "not enough confirmed pairs of zebra" in lacking.reason
    assert made.open_figures == {}


def test_fused_scores_put_the_evidence_first_where_it_tells_more_than_the_cosine() -> None:
    split, annotations, table = herd(20, 3, noise=3.0)
    ids = [one.annotation_id for one in annotations]
    labels = np.unique([split.identity[key] for key in ids], return_inverse=True)[1].astype(np.int64)
    ranking = rank_one_vs_all(np.asarray(table.vectors), labels=labels, k=10)
    sums = np.where(ranking.is_match, 20.0, 2.0) + np.random.default_rng(0).random(ranking.scores.shape)
    local = {"local_sum": sums, "local_count": sums.round(), "local_inliers": sums / 2}
    scores = fused_scores("zebra", ids, ranking, local, split)
    has_match = ranking.is_match.any(axis=1)
    best = scores.argmax(axis=1)
    assert ranking.is_match[np.arange(len(ids)), best][has_match].all()
    assert ranking.is_match[:, 0].mean() < 0.5  # the cosine alone does not know


def test_the_share_of_new_animals_is_that_of_animals_met_once_without_dates() -> None:
    animals = [annotation(f"a{n}", individual="x", encounter=f"e{n}") for n in range(3)]
    animals += [annotation("b", individual="y", encounter="e9"), annotation("c", individual=None)]
    share = suggested_shares(animals)["zebra"]
    assert share.share == pytest.approx(2 / 6)  # (1 + 1) / (4 + 2)
    assert "1 of 4 encounters" in share.how
