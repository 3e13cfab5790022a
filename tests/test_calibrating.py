"""From a split to pairs, simulated unknowns and a calibration, on vectors made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resight.artefacts import Passport
from resight.calibrating import (
    Costs,
    calibrate,
    fused_scores,
    pairs_of,
    shortlists_of,
    simulate,
    suggested_shares,
)
from resight.calibration.evidence import LOCAL_FEATURES, Group
from resight.calibration.fitting import cross_fit
from resight.catalogue.store import StoredSplit
from resight.embedding import EmbeddingSet
from resight.errors import InputError
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


def test_sides_are_galleries_of_their_own_and_the_own_encounter_is_left_out() -> None:
    identities = {"a": "x|left", "b": "x|left", "c": "x|right", "d": "y|left", "e": "x|left"}
    split = split_of(identities, encounters={"a": "1", "b": "2", "c": "3", "d": "4", "e": "1"})
    vectors = np.array([[1, 0], [1, 0.1], [1, 0], [0, 1], [1, 0]], np.float16)
    table = EmbeddingSet("m", tuple("abcde"), tuple("abcde"), vectors)
    animals = [annotation(key, viewpoint=identities[key].split("|")[1]) for key in identities]
    found = shortlists_of(split, animals, table, {"zebra": "separate"}, depth=3)
    assert found.groups == (Group("zebra", "left"), Group("zebra", "right"))
    near = {
        key: [found.ids[row] for row in rows if row >= 0] for key, rows in zip(found.ids, found.neighbours, strict=True)
    }
    assert near == {"a": ["b", "d"], "b": ["a", "e", "d"], "d": ["b", "a", "e"], "e": ["b", "d"], "c": []}
    by_key = dict(zip(found.ids, found.individual.tolist(), strict=True))
    assert by_key["a"] == by_key["c"] != by_key["d"]  # one animal, whatever the side
    assert dict(zip(found.ids, found.can_match.tolist(), strict=True)) == {
        "a": True, "b": True, "c": False, "d": False, "e": True,
    }  # fmt: skip
    together = shortlists_of(split, animals, table, {"zebra": "ignore"}, depth=1)
    assert len(set(together.gallery.tolist())) == 1


def test_pairs_are_those_of_the_shortlist_with_their_evidence() -> None:
    split, annotations, table = herd(3, 2, noise=0.1)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=4)
    local = {name: np.full(lists.neighbours.shape, place + 1.0) for place, name in enumerate(LOCAL_FEATURES)}
    pairs = pairs_of(lists, local, shortlist=2)
    assert len(pairs) == 12 * 2
    assert pairs.candidates.features.names == ("cosine", *LOCAL_FEATURES)
    for row in range(len(pairs)):
        query, found = lists.ids[pairs.candidates.query[row]], lists.ids[pairs.gallery[row]]
        assert pairs.same[row] == (split.identity[query] == split.identity[found])
    assert pairs.same.sum() == 12


def test_nothing_to_compare_is_said() -> None:
    split, annotations, _ = herd(2, 1, noise=0.1)
    empty = EmbeddingSet("m", (), (), np.empty((0, 4), np.float16))
    with pytest.raises(InputError, match="no test annotation with a vector"):
        shortlists_of(split, annotations, empty, {"zebra": "separate"}, depth=4)


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
    by_cosine, by_all = judged.first_right["zebra"]
    assert by_cosine > 0.9
    assert by_all > 0.9
    assert made.fusion.lacks(Group("zebra")) is None


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
