from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.embedding import EmbeddingSet
from resight.errors import InputError
from resight.matching.candidates import Match, Query, find_candidates
from resight.settings import Only, Policy
from resight.types import Annotation

from ..made_up import annotation


def query_of(vectors: Any, **changes: Any) -> Query:
    table = np.asarray(vectors, np.float16)
    values: dict[str, Any] = {
        "image": "new.jpg",
        "species": "zebra",
        "viewpoint": None,
        "places": ((None, 0.0),) * len(table),
        "vectors": table,
        "own_photos": frozenset({"own"}),
        "own_annotations": frozenset(),
        "own_encounters": frozenset(),
    }
    return Query(**{**values, **changes})


def embeddings_of(vectors: dict[str, Any]) -> EmbeddingSet:
    names = tuple(sorted(vectors))
    return EmbeddingSet("net", names, names, np.stack([np.asarray(vectors[name], np.float16) for name in names]))


def match(
    query: Query, gallery: Sequence[Annotation], vectors: dict[str, Any], policy: Policy = "ignore", k: int = 20
) -> Match:
    embeddings = embeddings_of(vectors)
    return find_candidates(query, gallery, embeddings, embeddings.row_of(), policy, k=k)


def test_the_nearest_come_first_whatever_their_individual() -> None:
    gallery = [
        annotation("far", individual="Ayo", identity="Ayo"),
        annotation("near", individual=None),
        annotation("mid", individual="Bo", viewpoint="left", encounter="e1", encounter_known=True),
    ]
    found = match(query_of([(1, 0)]), gallery, {"near": (2, 0.1), "mid": (1, 1), "far": (-1, 0.5)})
    assert [c.annotation_id for c in found.candidates] == ["near", "mid", "far"]
    assert [c.rank for c in found.candidates] == [1, 2, 3]
    assert [c.individual_id for c in found.candidates] == [None, "Bo", "Ayo"]
    assert [c.score for c in found.candidates] == pytest.approx([0.99875, 0.70711, -0.89443], abs=1e-4)
    assert [(c.viewpoint, c.encounter, c.file_name) for c in found.candidates] == [
        (None, None, "near.png"), ("left", "e1", "mid.png"), (None, None, "far.png"),
    ]  # fmt: skip
    assert all(c.p_same is None for c in found.candidates)
    assert (found.p_new, found.compared, found.of, found.excluded) == (None, 3, 3, {})
    # Who is not known is a candidate and no name.
    assert [(n.rank, n.individual_id, n.annotation_id) for n in found.individuals] == [
        (1, "Bo", "mid"),
        (2, "Ayo", "far"),
    ]


def test_every_name_stands_once_by_its_best() -> None:
    gallery = [annotation(f"a{n}", individual="AB"[n % 2]) for n in range(6)]
    vectors = {f"a{n}": (1, 0.1 * n) for n in range(6)}
    found = match(query_of([(1, 0.12)]), gallery, vectors)
    assert [c.annotation_id for c in found.candidates] == ["a1", "a2", "a0", "a3", "a4", "a5"]
    assert [(n.individual_id, n.annotation_id) for n in found.individuals] == [("B", "a1"), ("A", "a2")]
    assert [n.score for n in found.individuals] == [found.candidates[0].score, found.candidates[1].score]
    # k counts annotations, and names are those among them.
    first = match(query_of([(1, 0.12)]), gallery, vectors, k=1)
    assert [n.individual_id for n in first.individuals] == ["B"]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 1000])
def test_k_may_be_larger_than_the_gallery(k: int) -> None:
    gallery = [annotation(name) for name in "abc"]
    found = match(query_of([(1, 0)]), gallery, {"a": (1, 0), "b": (1, 1), "c": (0, 1)}, k=k)
    assert "".join(c.annotation_id for c in found.candidates) == "abc"[:k]
    assert found.compared == 3


@pytest.mark.parametrize("k", [0, -5])
def test_no_candidate_cannot_be_asked_for(k: int) -> None:
    with pytest.raises(InputError, match=f"-k {k}: expected at least 1 candidate"):
        match(query_of([(1, 0)]), [annotation("a")], {"a": (1, 0)}, k=k)


def test_every_reason_to_be_left_out_is_counted() -> None:
    gallery = [
        annotation("compared", viewpoint="left"),
        annotation("own photo", content_hash="own", viewpoint="right", allowed=False),
        annotation("own annotation", encounter="mine"),
        annotation("own encounter", encounter="mine", allowed=False),
        annotation("policy", allowed=False, viewpoint="right"),
        annotation("policy too", allowed=False),
        annotation("side", viewpoint="right"),
        annotation("no vector"),
        annotation("front", viewpoint="front"),
    ]
    query = query_of(
        [(1, 0)],
        viewpoint="left",
        own_annotations=frozenset({"own annotation"}),
        own_encounters=frozenset({"mine"}),
    )
    vectors = {a.annotation_id: (1, 0) for a in gallery if a.annotation_id != "no vector"}
    found = match(query, gallery, vectors, "separate")
    assert {c.annotation_id for c in found.candidates} == {"compared", "front"}
    assert (found.compared, found.of) == (2, 9)
    assert found.excluded == {
        "same photo": 2, "same encounter": 1, "viewpoint policy": 2, "other side": 1, "photo cannot be used": 1,
    }  # fmt: skip


def test_an_annotation_whose_content_is_not_known_is_not_the_same_photo() -> None:
    found = match(query_of([(1, 0)], own_photos=frozenset()), [annotation("a", content_hash=None)], {"a": (1, 0)})
    assert found.compared == 1


@pytest.mark.parametrize(
    ("policy", "asked", "compared"),
    [
        ("separate", "left", {"left", "front", "none"}),
        ("separate", "right", {"right", "front", "none"}),
        ("separate", "front", {"left", "right", "front", "none"}),
        ("separate", None, {"left", "right", "front", "none"}),
        ("ignore", "left", {"left", "right", "front", "none"}),
        (Only(("left", "right")), "left", {"left", "front", "none"}),
    ],
)
def test_sides_are_kept_apart_only_where_they_are_separate(
    policy: Policy, asked: str | None, compared: set[str]
) -> None:
    gallery = [
        annotation(view, viewpoint=None if view == "none" else view) for view in ("left", "right", "front", "none")
    ]
    found = match(query_of([(1, 0)], viewpoint=asked), gallery, {a.annotation_id: (1, 0) for a in gallery}, policy)
    assert {c.annotation_id for c in found.candidates} == compared
    assert found.excluded == ({"other side": 4 - len(compared)} if len(compared) < 4 else {})


def test_several_photos_are_the_mean_of_their_unit_vectors() -> None:
    gallery = [annotation("between"), annotation("long one")]
    # By plain means the long vector would win; by unit vectors the middle does.
    found = match(query_of([(100, 0), (0, 1)]), gallery, {"between": (1, 1), "long one": (100, 1)})
    assert [c.annotation_id for c in found.candidates] == ["between", "long one"]
    assert found.candidates[0].score == pytest.approx(1.0, abs=1e-4)
    assert found.candidates[1].score == pytest.approx((100 + 1) / np.hypot(100, 1) / np.sqrt(2), abs=1e-3)


def test_with_nothing_to_compare_the_answer_is_empty_and_says_so() -> None:
    empty = match(query_of([(1, 0)]), [], {"x": (1, 0)})
    assert (empty.compared, empty.of, empty.candidates, empty.individuals) == (0, 0, (), ())
    alone = match(query_of([(1, 0)]), [annotation("a", content_hash="own")], {"a": (1, 0)})
    assert (alone.compared, alone.of, alone.excluded, alone.candidates) == (0, 1, {"same photo": 1}, ())


ANNOTATIONS = st.lists(
    st.builds(
        lambda number, view, encounter, name, content, allowed, vector: (
            annotation(
                f"a{number}",
                viewpoint=view,
                encounter=encounter,
                individual=name,
                content_hash=content,
                allowed=allowed,
            ),
            vector,
        ),
        st.integers(0, 10**9),
        st.sampled_from([None, "left", "right", "up"]),
        st.sampled_from(["e1", "e2", "e3"]),
        st.sampled_from([None, "A", "B", "C"]),
        st.sampled_from([None, "own", "other"]),
        st.booleans(),
        st.none() | st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 1)),
    ),
    max_size=25,
    unique_by=lambda pair: pair[0].annotation_id,
)


@settings(max_examples=80, deadline=None)
@given(
    rows=ANNOTATIONS,
    view=st.sampled_from([None, "left", "right", "up"]),
    policy=st.sampled_from(["separate", "ignore"]),
    k=st.integers(1, 30),
)
def test_everything_is_compared_or_counted_and_the_order_of_the_gallery_does_not_matter(
    rows: list[tuple[Annotation, Any]], view: str | None, policy: str, k: int
) -> None:
    gallery = [row[0] for row in rows]
    vectors = {a.annotation_id: vector for a, vector in rows if vector is not None} | {"other species": (1, 1, 1)}
    query = query_of([(0.3, -0.2, 1)], viewpoint=view, own_encounters=frozenset({"e2"}))
    found = match(query, gallery, vectors, policy, k)
    assert found.compared + sum(found.excluded.values()) == found.of == len(gallery)
    assert len(found.candidates) == min(k, found.compared)
    scores = [c.score for c in found.candidates]
    assert scores == sorted(scores, reverse=True)
    by_id = {a.annotation_id: a for a in gallery}
    for candidate in found.candidates:
        a = by_id[candidate.annotation_id]
        assert a.allowed
        assert a.content_hash != "own"
        assert a.encounter != "e2"
        assert not (policy == "separate" and {view, a.viewpoint} == {"left", "right"})
    names = [named.individual_id for named in found.individuals]
    assert len(names) == len(set(names))
    assert set(names) == {c.individual_id for c in found.candidates} - {None}
    turned = match(query, gallery[::-1], vectors, policy, k)
    assert [c.score for c in turned.candidates] == pytest.approx(scores, abs=2e-6)  # summed in another order
    assert replace(turned, candidates=(), individuals=()) == replace(found, candidates=(), individuals=())
