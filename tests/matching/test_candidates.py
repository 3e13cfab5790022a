from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.embedding import EmbeddingSet
from resight.errors import InputError, UnknownName
from resight.matching.candidates import (
    INCLUDABLE,
    REASONS,
    CandidateSet,
    LocalSummary,
    Match,
    Query,
    as_match,
    candidate_set,
    parse_include,
    shortlist,
)
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
    query: Query,
    gallery: Sequence[Annotation],
    vectors: dict[str, Any],
    policy: Policy = "ignore",
    k: int = 20,
    include: Sequence[str] = (),
) -> Match:
    """The three stages of an answer by the embedding alone."""
    embeddings = embeddings_of(vectors)
    row_of = embeddings.row_of()
    among = candidate_set(query, gallery, policy, row_of, include)
    return as_match(query, among, shortlist(query, among, embeddings, row_of, k), model=embeddings.model)


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


FILTERED = replace(annotation("filtered", viewpoint="left"), filtered="min_side_px 60")
EVERY_REASON = [
    annotation("compared", viewpoint="left"),
    annotation("front", viewpoint="front"),
    annotation("own photo", content_hash="own", viewpoint="right", allowed=False),
    annotation("own annotation", encounter="mine"),
    annotation("quarantined", image_status="quarantined", viewpoint="left"),
    annotation("quarantined with an old vector", image_status="quarantined", encounter="mine"),
    annotation("no vector", encounter="mine", viewpoint="right"),
    annotation("own encounter", encounter="mine", viewpoint="left"),
    annotation("own encounter, other side", encounter="mine", viewpoint="right"),
    annotation("policy", allowed=False, viewpoint="back"),
    annotation("policy, other side", allowed=False, viewpoint="right"),
    FILTERED,
    replace(annotation("filtered too", viewpoint="left"), filtered="unsharp"),
    annotation("side", viewpoint="right"),
    annotation("no viewpoint"),
    annotation("no viewpoint too"),
]
COUNTED = {
    "same photo": 2, "quarantined": 2, "photo cannot be used": 1, "same encounter": 2, "viewpoint policy": 2,
    "quality rule min_side_px 60": 1, "quality rule unsharp": 1, "other side": 1, "no viewpoint": 2,
}  # fmt: skip


def every_reason(include: Sequence[str] = ()) -> Match:
    query = query_of(
        [(1, 0)],
        viewpoint="left",
        own_annotations=frozenset({"own annotation"}),
        own_encounters=frozenset({"mine"}),
    )
    vectors = {a.annotation_id: (1, 0) for a in EVERY_REASON if a.annotation_id not in ("no vector", "quarantined")}
    return match(query, EVERY_REASON, vectors, "separate", include=include)


def test_every_reason_to_be_left_out_is_counted() -> None:
    found = every_reason()
    assert {c.annotation_id for c in found.candidates} == {"compared", "front"}
    assert (found.compared, found.of) == (2, 16)
    assert found.excluded == COUNTED
    assert found.included == {}
    assert {words for words in REASONS.values() if any(key.startswith(words) for key in COUNTED)} == set(
        REASONS.values()
    )


@pytest.mark.parametrize(
    ("include", "more", "left"),
    [
        ("same-encounter", {"own encounter": "same encounter"}, {"same encounter": None, "other side": 2}),
        ("viewpoint-policy", {"policy": "viewpoint policy"}, {"viewpoint policy": None, "other side": 2}),
        (
            "quality-rule",
            {"filtered": "quality rule min_side_px 60", "filtered too": "quality rule unsharp"},
            {"quality rule min_side_px 60": None, "quality rule unsharp": None},
        ),
        ("other-side", {"side": "other side"}, {"other side": None}),
        (
            "no-viewpoint",
            {"no viewpoint": "no viewpoint", "no viewpoint too": "no viewpoint"},
            {"no viewpoint": None},
        ),
    ],
)
def test_each_reason_can_be_included_by_itself(include: str, more: dict[str, str], left: dict[str, int | None]) -> None:
    """What has another reason too is still left out, for that one."""
    found = every_reason([include])
    assert {c.annotation_id: c.despite for c in found.candidates} == {
        "compared": (), "front": (), **{name: (reason,) for name, reason in more.items()},
    }  # fmt: skip
    assert found.excluded == {key: count for key, count in (COUNTED | left).items() if count}
    assert sum(found.included.values()) == len(more)
    assert found.included.keys() == set(more.values())


def test_all_reasons_included_leave_out_only_what_nothing_can_change() -> None:
    found = every_reason(INCLUDABLE)
    assert found.excluded == {"same photo": 2, "quarantined": 2, "photo cannot be used": 1}
    assert found.included == {key: count for key, count in COUNTED.items() if key not in found.excluded}
    despite = {c.annotation_id: c.despite for c in found.candidates}
    assert despite["own encounter, other side"] == ("same encounter", "other side")
    assert despite["compared"] == ()


def test_reasons_to_include_are_read_from_their_names() -> None:
    assert parse_include([]) == frozenset()
    assert parse_include(["other-side", " Quality-Rule", "other-side"]) == {"other-side", "quality-rule"}
    assert parse_include(INCLUDABLE) == set(INCLUDABLE)


@pytest.mark.parametrize("name", ["same-photo", "quarantined", "no-vector", "other side", "", "min_side_px"])
def test_what_cannot_be_included_is_refused_with_what_can(name: str) -> None:
    with pytest.raises(UnknownName, match=rf"^no reason that can be included named '{name}': ") as caught:
        parse_include(["other-side", name])
    assert any(includable in str(caught.value) for includable in INCLUDABLE)
    with pytest.raises(UnknownName):
        match(query_of([(1, 0)]), [annotation("a")], {"a": (1, 0)}, include=[name])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "compared with 812 of 1,212: 390 other side, 8 no viewpoint, 2 quarantined"),
        ({"excluded": {}}, "compared with 812 of 1,212"),
        ({"excluded": {"b": 1, "a": 1, "c": 2000}}, "compared with 812 of 1,212: 2,000 c, 1 a, 1 b"),
        (
            {"included": {"quality rule unsharp": 3, "other side": 40}, "excluded": {"quarantined": 2}},
            "compared with 812 of 1,212 (40 other side, 3 quality rule unsharp included): 2 quarantined",
        ),
    ],
)
def test_the_candidate_set_is_told_in_one_line(changes: dict[str, Any], told: str) -> None:
    empty = as_match(query_of([(1, 0)]), CandidateSet((), {}, {}), [], model="net")
    values = {"compared": 812, "of": 1212, "excluded": {"quarantined": 2, "other side": 390, "no viewpoint": 8}}
    assert replace(empty, **{**values, **changes}).told() == told


def test_an_annotation_whose_content_is_not_known_is_not_the_same_photo() -> None:
    found = match(query_of([(1, 0)], own_photos=frozenset()), [annotation("a", content_hash=None)], {"a": (1, 0)})
    assert found.compared == 1


@pytest.mark.parametrize(
    ("policy", "asked", "compared"),
    [
        ("separate", "left", {"left", "front"}),
        ("separate", "right", {"right", "front"}),
        ("separate", "front", {"left", "right", "front", "none"}),
        ("separate", None, {"left", "right", "front", "none"}),
        ("ignore", "left", {"left", "right", "front", "none"}),
        (Only(("left", "right")), "left", {"left", "front"}),
        (Only(("left", "front")), "left", {"left", "right", "front", "none"}),
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
    assert found.excluded == ({"other side": 1, "no viewpoint": 1} if len(compared) < 4 else {})


def test_several_photos_are_the_mean_of_their_unit_vectors() -> None:
    gallery = [annotation("between"), annotation("long one")]
    # By plain means the long vector would win; by unit vectors the middle does.
    found = match(query_of([(100, 0), (0, 1)]), gallery, {"between": (1, 1), "long one": (100, 1)})
    assert [c.annotation_id for c in found.candidates] == ["between", "long one"]
    assert found.candidates[0].score == pytest.approx(1.0, abs=1e-4)
    assert found.candidates[1].score == pytest.approx((100 + 1) / np.hypot(100, 1) / np.sqrt(2), abs=1e-3)


@pytest.mark.parametrize("photos", [1, 2, 5])
def test_a_query_agrees_with_a_naive_mean_of_unit_vectors(photos: int) -> None:
    rng = np.random.default_rng(photos)
    table = (rng.normal(size=(photos, 6)) * rng.uniform(0.1, 50, (photos, 1))).astype(np.float16)
    vectors = {f"a{n}": rng.normal(size=6).astype(np.float16) for n in range(12)}
    expected = {}
    for name, vector in vectors.items():
        mean = [0.0] * 6
        for photo in table.astype(float):
            length = sum(x * x for x in photo) ** 0.5
            mean = [m + x / length / photos for m, x in zip(mean, photo, strict=True)]
        other = vector.astype(float)
        lengths = sum(m * m for m in mean) ** 0.5 * sum(x * x for x in other) ** 0.5
        expected[name] = sum(m * x for m, x in zip(mean, other, strict=True)) / lengths
    found = match(query_of(table), [annotation(name) for name in vectors], vectors)
    assert [c.annotation_id for c in found.candidates] == sorted(expected, key=lambda name: -expected[name])
    assert [c.score for c in found.candidates] == pytest.approx(sorted(expected.values(), reverse=True), abs=2e-6)


def test_between_the_stages_the_order_and_the_evidence_can_change() -> None:
    gallery = [annotation("a", individual="Ayo"), annotation("b", individual="Bo"), annotation("c", individual="Ayo")]
    embeddings = embeddings_of({"a": (1, 0), "b": (1, 0.5), "c": (0, 1), "not of the set": (1, 0)})
    query, row_of = query_of([(1, 0)]), embeddings.row_of()
    among = candidate_set(query, gallery, "ignore", row_of)
    assert (among.compared, among.of, among.names) == (tuple(gallery), 3, {"Ayo", "Bo"})
    found = shortlist(query, among, embeddings, row_of, 2)
    assert [(one.annotation.annotation_id, one.p_same, one.evidence) for one in found] == [
        ("a", None, None), ("b", None, None),
    ]  # fmt: skip
    evidence = LocalSummary(41.5, 60, 33, photo=0)
    turned = [
        replace(found[1], evidence=evidence, p_same=0.9, p_same_ci95=(0.8, 0.95), reasons=("60 points match",)),
        replace(found[0], p_same=0.2),
    ]
    answer = as_match(
        query, among, turned, model="net", note="n", p_new=0.1, p_new_ci95=(0.0, 0.3), p_new_note="why", reranked=True
    )
    first, second = answer.candidates
    assert (first.rank, first.annotation_id, first.score) == (1, "b", pytest.approx(0.894427, abs=1e-6))
    assert (first.p_same, first.p_same_ci95, first.evidence) == (0.9, (0.8, 0.95), evidence)
    assert first.reasons == ("60 points match",)
    assert (second.rank, second.annotation_id, second.score, second.p_same) == (2, "a", 1.0, 0.2)
    assert [(n.rank, n.individual_id, n.p_same, n.p_same_ci95) for n in answer.individuals] == [
        (1, "Bo", 0.9, (0.8, 0.95)),
        (2, "Ayo", 0.2, None),
    ]
    assert (answer.model, answer.note, answer.reranked) == ("net", "n", True)
    assert (answer.p_new, answer.p_new_ci95, answer.p_new_note) == (0.1, (0.0, 0.3), "why")
    assert (answer.compared, answer.of) == (3, 3)


def test_the_stages_one_after_another_are_the_answer_by_the_embedding() -> None:
    gallery = [annotation(f"a{n}", individual="AB"[n % 2], viewpoint=("left", "right", None)[n % 3]) for n in range(9)]
    embeddings = embeddings_of({f"a{n}": (1, 0.1 * n) for n in range(8)})
    query, row_of = query_of([(1, 0.3), (1, 0.5)], viewpoint="left"), embeddings.row_of()
    among = candidate_set(query, gallery, "separate", row_of, ["no-viewpoint"])
    by_stages = as_match(query, among, shortlist(query, among, embeddings, row_of, 4), model="net")
    assert by_stages == match(
        query, gallery, {f"a{n}": (1, 0.1 * n) for n in range(8)}, "separate", 4, ["no-viewpoint"]
    )
    assert not by_stages.reranked


def test_with_nothing_to_compare_the_answer_is_empty_and_says_so() -> None:
    empty = match(query_of([(1, 0)]), [], {"x": (1, 0)})
    assert (empty.compared, empty.of, empty.candidates, empty.individuals) == (0, 0, (), ())
    alone = match(query_of([(1, 0)]), [annotation("a", content_hash="own")], {"a": (1, 0)})
    assert (alone.compared, alone.of, alone.excluded, alone.candidates) == (0, 1, {"same photo": 1}, ())


ANNOTATIONS = st.lists(
    st.builds(
        lambda number, view, encounter, name, content, allowed, status, rule, vector: (
            replace(
                annotation(
                    f"a{number}",
                    viewpoint=view,
                    encounter=encounter,
                    individual=name,
                    content_hash=content,
                    allowed=allowed,
                    image_status=status,
                ),
                filtered=rule,
            ),
            vector,
        ),
        st.integers(0, 10**9),
        st.sampled_from([None, "left", "right", "up"]),
        st.sampled_from(["e1", "e2", "e3"]),
        st.sampled_from([None, "A", "B", "C"]),
        st.sampled_from([None, "own", "other"]),
        st.booleans(),
        st.sampled_from(["ok", "unverified", "quarantined"]),
        st.sampled_from([None, None, "unsharp", "min_side_px 60"]),
        st.none() | st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 1)),
    ),
    max_size=25,
    unique_by=lambda pair: pair[0].annotation_id,
)


@settings(max_examples=120, deadline=None)
@given(
    rows=ANNOTATIONS,
    view=st.sampled_from([None, "left", "right", "up"]),
    policy=st.sampled_from(["separate", "ignore"]),
    k=st.integers(1, 30),
    include=st.sets(st.sampled_from(INCLUDABLE)),
)
def test_everything_is_compared_or_counted_and_the_order_of_the_gallery_does_not_matter(
    rows: list[tuple[Annotation, Any]], view: str | None, policy: str, k: int, include: set[str]
) -> None:
    gallery = [row[0] for row in rows]
    vectors = {a.annotation_id: vector for a, vector in rows if vector is not None} | {"other species": (1, 1, 1)}
    query = query_of([(0.3, -0.2, 1)], viewpoint=view, own_encounters=frozenset({"e2"}))
    found = match(query, gallery, vectors, policy, k, sorted(include))
    assert found.compared + sum(found.excluded.values()) == found.of == len(gallery)
    assert all(found.excluded.values())
    assert sum(found.included.values()) <= found.compared
    assert len(found.candidates) == min(k, found.compared)
    scores = [c.score for c in found.candidates]
    assert scores == sorted(scores, reverse=True)
    by_id = {a.annotation_id: a for a in gallery}
    for candidate in found.candidates:
        a = by_id[candidate.annotation_id]
        assert a.content_hash != "own"
        assert a.image_status != "quarantined"
        assert a.allowed or "viewpoint-policy" in include
        assert a.filtered is None or "quality-rule" in include
        assert a.encounter != "e2" or "same-encounter" in include
        apart = policy == "separate" and view in ("left", "right")
        assert not (apart and {view, a.viewpoint} == {"left", "right"}) or "other-side" in include
        assert not (apart and a.viewpoint is None) or "no-viewpoint" in include
    names = [named.individual_id for named in found.individuals]
    assert len(names) == len(set(names))
    assert set(names) == {c.individual_id for c in found.candidates} - {None}
    turned = match(query, gallery[::-1], vectors, policy, k, sorted(include))
    assert [c.score for c in turned.candidates] == pytest.approx(scores, abs=2e-6)  # summed in another order
    assert replace(turned, candidates=(), individuals=()) == replace(found, candidates=(), individuals=())


@settings(max_examples=60, deadline=None)
@given(
    rows=ANNOTATIONS,
    view=st.sampled_from([None, "left", "right"]),
    include=st.sets(st.sampled_from(INCLUDABLE)),
    one_more=st.sampled_from(INCLUDABLE),
)
def test_including_one_more_reason_only_adds(
    rows: list[tuple[Annotation, Any]], view: str | None, include: set[str], one_more: str
) -> None:
    gallery = [row[0] for row in rows]
    row_of = {a.annotation_id: 0 for a, vector in rows if vector is not None}
    query = query_of([(1, 0)], viewpoint=view, own_encounters=frozenset({"e2"}))
    fewer = candidate_set(query, gallery, "separate", row_of, include)
    more = candidate_set(query, gallery, "separate", row_of, include | {one_more})
    assert fewer.of == more.of == len(gallery)
    assert set(fewer.compared) <= set(more.compared)
    words = REASONS[one_more]
    assert not any(reason.startswith(words) for reason in more.excluded)
    gained = {a.annotation_id for a in more.compared} - {a.annotation_id for a in fewer.compared}
    assert all(any(reason.startswith(words) for reason in more.despite[name]) for name in gained)
