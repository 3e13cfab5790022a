"""The shortlists of a split, their pairs, and what is left of local evidence where the search ends early."""

from __future__ import annotations

import numpy as np
import pytest

from resight.calibration.evidence import LOCAL_FEATURES, Group
from resight.calibration.shortlists import as_compared, lengths_of, pairs_of, shortlists_of, stops_of
from resight.calibration.stopping import GROUP
from resight.embedding import EmbeddingSet
from resight.errors import InputError

from ..made_up import annotation
from ..test_calibrating import herd, plain_local, split_of


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


def test_a_cut_keeps_the_first_of_each_and_evidence_in_its_place() -> None:
    split, annotations, table = herd(3, 2, noise=0.1)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=4)
    lengths = np.arange(len(lists.ids)) % 4
    cut = lists.cut(lengths)
    assert cut.held.sum(axis=1).tolist() == lengths.tolist()
    assert np.isneginf(cut.cosine[~cut.held]).all()
    np.testing.assert_array_equal(cut.neighbours[cut.held], lists.neighbours[cut.held])
    local = {name: np.arange(lists.neighbours.size).reshape(lists.neighbours.shape) + 1.0 for name in LOCAL_FEATURES}
    some, every = pairs_of(lists, local, shortlist=lengths), pairs_of(lists, local, shortlist=4)
    kept = (np.arange(4) < lengths[:, None])[lists.held]
    np.testing.assert_array_equal(some.candidates.features.values, every.candidates.features.values[kept])
    np.testing.assert_array_equal(some.gallery, every.gallery[kept])
    np.testing.assert_array_equal(some.same, every.same[kept])


def test_each_species_has_its_own_length_and_stop() -> None:
    easy, near, easy_table = herd(30, 4, noise=0.2)
    hard, far, hard_table = herd(30, 4, noise=1.5, seed=1)
    names = {one.annotation_id: f"far-{one.annotation_id}" for one in far}
    animals = [*near, *(annotation(names[a.annotation_id], species="ibex", viewpoint=a.viewpoint) for a in far)]
    identities = {**easy.identity, **{names[key]: value for key, value in hard.identity.items()}}
    split = split_of(identities)
    split.species.update(dict.fromkeys(names.values(), "ibex"))
    table = EmbeddingSet("m", tuple(identities), tuple(identities),
                         np.concatenate([easy_table.vectors, hard_table.vectors]))  # fmt: skip
    policy = {"zebra": "separate", "ibex": "separate"}
    lists = shortlists_of(split, animals, table, policy, depth=40)
    lengths = lengths_of(lists, wanted=0.8, longest=20)
    assert lengths["zebra"].candidates == 5 < lengths["ibex"].candidates <= 20
    assert {one.gallery for one in lengths.values()} == {119}
    # What a naive count over the queries of one species says.
    ibex = [row for row, key in enumerate(lists.ids) if key.startswith("far")]
    k = lengths["ibex"].candidates
    there = [(lists.names[row, :k] == lists.individual[row]).any() for row in ibex]
    assert lengths["ibex"].reached == pytest.approx(np.mean(there))
    assert lengths["ibex"].reached >= 0.8
    one_less = [(lists.names[row, : k - 1] == lists.individual[row]).any() for row in ibex]
    assert np.mean(one_less) < 0.8

    each = lists.each({name: one.candidates for name, one in lengths.items()}, 20).astype(np.int64)
    assert set(each[ibex].tolist()) == {k}
    assert set(np.delete(each, ibex).tolist()) == {5}
    assert "zebra" not in stops_of(lists, plain_local(lists), shortlist=each)  # five are one group
    assert set(stops_of(lists, plain_local(lists), shortlist=20)) == {"zebra", "ibex"}


def test_pairs_behind_a_decisive_candidate_have_no_local_evidence() -> None:
    split, annotations, table = herd(30, 2, noise=0.1)
    lists = shortlists_of(split, annotations, table, {"zebra": "separate"}, depth=25)
    sums = np.ones(lists.neighbours.shape)
    sums[0, GROUP + 2], sums[1, 3] = 9.0, 9.0
    local = dict.fromkeys(LOCAL_FEATURES, sums)
    decisive = np.full(len(lists.ids), 9.0)
    decisive[1] = np.inf  # never, in this species
    pairs = pairs_of(lists, local, shortlist=25, decisive=decisive)
    looked = np.isfinite(pairs.candidates.features.column("local_sum"))
    of_query = [int(looked[pairs.candidates.query == row].sum()) for row in range(len(lists.ids))]
    assert of_query == [2 * GROUP, *[25] * (len(lists.ids) - 1)]
    assert as_compared(local, lists.held, None) is local
    assert as_compared(None, lists.held, decisive) is None
