from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resight.calibration.fusion import NotEnough, Support
from resight.matching.candidates import LocalSummary, Scored
from resight.matching.words import (
    Facts,
    basis,
    compared_locally,
    facts_of,
    new_or_known,
    percent,
    reasons,
    with_reasons,
)

from ..made_up import annotation

SUPPORT = Support(pairs=4000, confirmed=214, individuals=61, queries=282)
LACKING = NotEnough("not enough confirmed pairs of nyala: 3 of 2 individuals, at least 20 of 10 are needed")


def facts(**changes: Any) -> Facts:
    return Facts(**{"cosine": 0.8126, "place": 1, "query_viewpoint": "left", "viewpoint": "left", **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"matches": 83, "agreeing": 61}, "83 points match, 61 of them in one position of the body"),
        ({"matches": 83}, "83 points match"),
        ({"matches": 1083, "agreeing": 1061}, "1,083 points match, 1,061 of them in one position of the body"),
        ({"matches": 83, "matches_elsewhere": 40}, "83 points match; with another name 40 at most"),
        ({"matches": 14}, "only few: 14 points match"),
        ({"matches": 15}, "15 points match"),
        ({"matches": 1, "agreeing": 0}, "only few: 1 point matches, 0 of them in one position of the body"),
        ({"matches": 0, "agreeing": 0, "matches_elsewhere": 50}, "no points match"),
    ],
)
def test_matched_points_are_told_first(changes: dict[str, Any], expected: str) -> None:
    assert reasons(facts(**changes))[0] == expected


def test_without_local_evidence_nothing_is_said_of_points() -> None:
    assert not any("point" in text for text in reasons(facts()))


def test_what_stands_behind_a_decisive_candidate_says_so() -> None:
    assert reasons(facts(stopped=True))[0] == "points not compared: a nearer candidate was decisive"
    mixed = facts_of([scored("Bo", 0.5, 80), scored("Ayo", 0.4, 0), scored("Cleo", 0.3)], "left")
    assert [one.stopped for one in mixed] == [False, False, True]
    assert [one.stopped for one in facts_of([scored("Bo", 0.5), scored("Cleo", 0.3)], "left")] == [False, False]
    assert compared_locally(10, 1050) == "Compared locally: 10 of 1,050, then the evidence was decisive."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "the nearest by the network (cosine 0.81)"),
        ({"lead": 0.15}, "the nearest by the network (cosine 0.81), far before the next name"),
        ({"lead": 0.1}, "the nearest by the network (cosine 0.81)"),
        ({"lead": 0.02}, "the nearest by the network (cosine 0.81), hardly before the next name"),
        ({"place": 7, "cosine": 0.4, "lead": 0.3}, "number 7 by the network (cosine 0.40)"),
        ({"cosine": -0.1}, "the nearest by the network (cosine -0.10)"),
    ],
)
def test_the_networks_opinion(changes: dict[str, Any], expected: str) -> None:
    assert reasons(facts(**changes))[0] == expected


@pytest.mark.parametrize(
    ("here", "there", "changes", "expected"),
    [
        ("left", "left", {}, "same side, both left"),
        ("right", "right", {"proposed": True}, "same side, both right (only proposed for the candidate)"),
        (
            "left",
            "left",
            {"proposed": True, "query_proposed": True},
            "same side, both left (only proposed for the query and the candidate)",
        ),
        ("left", "right", {}, "other side: query left, candidate right"),
        ("up", "up", {}, "same viewpoint, both up"),
        (
            "front",
            "left",
            {"query_proposed": True},
            "other viewpoint: query front, candidate left (only proposed for the query)",
        ),
        (None, "left", {}, "viewpoint of the query unknown"),
        ("left", None, {}, "viewpoint of the candidate unknown"),
        (None, None, {}, "viewpoint of the query and the candidate unknown"),
    ],
)
def test_sides(here: str | None, there: str | None, changes: dict[str, Any], expected: str) -> None:
    assert reasons(facts(query_viewpoint=here, viewpoint=there, **changes))[-1] == expected


def test_what_a_probability_rests_on_or_why_there_is_none() -> None:
    assert basis(0.93, SUPPORT, None) == "P(same) rests on 214 confirmed pairs of 61 individuals"
    assert basis(0.93, Support(1, 1, 1, 1), None) == "P(same) rests on 1 confirmed pair of 1 individual"
    assert basis(None, None, LACKING) == (
        "no probability: not enough confirmed pairs of nyala: 3 of 2 individuals, at least 20 of 10 are needed"
    )
    assert basis(None, None, None) is None
    assert basis(None, SUPPORT, None) is None
    assert basis(0.93, None, None) is None


def scored(name: str | None, cosine: float, count: int | None = None, **changes: Any) -> Scored:
    evidence = None if count is None else LocalSummary(sum=count / 2, count=count, inliers=count // 2)
    one = replace(annotation(f"{name}-{cosine}", individual=name, viewpoint="left"), **changes)
    return Scored(one, cosine, evidence)


def test_places_and_leads_are_counted_over_names_whatever_the_order() -> None:
    listed = [
        scored("Bo", 0.5, 80),
        scored("Ayo", 0.9, 20),
        scored(None, 0.88, 99),
        scored("Ayo", 0.7, 12),
        scored("Cleo", 0.6),
    ]
    found = facts_of(listed, "left")
    assert [one.place for one in found] == [5, 1, 2, 3, 4]
    assert [one.lead for one in found] == pytest.approx([0.5 - 0.9, 0.9 - 0.6, None, 0.7 - 0.6, 0.6 - 0.9])
    assert [one.matches for one in found] == [80, 20, 99, 12, None]
    assert [one.agreeing for one in found] == [40, 10, 49, 6, None]
    assert [one.matches_elsewhere for one in found] == [20, 80, None, 80, None]


def test_of_one_name_alone_there_is_no_lead() -> None:
    for listed in ([scored("Ayo", 0.9, 3)], [scored("Ayo", 0.9, 3), scored("Ayo", 0.8, 3), scored(None, 0.7, 4)]):
        assert all(one.lead is None and one.matches_elsewhere is None for one in facts_of(listed, None))
    assert facts_of([], "left") == []


def test_each_candidate_gets_its_own_reasons_and_nothing_else_changes() -> None:
    listed = [
        scored("Ayo", 0.9, 83, proposed=frozenset({"viewpoint", "species"})),
        scored("Bo", 0.6, 10, proposed=frozenset({"species"})),
    ]
    explained = with_reasons(listed, "left", lacking=LACKING)
    assert explained[0].reasons == (
        "83 points match, 41 of them in one position of the body; with another name 10 at most",
        "the nearest by the network (cosine 0.90), far before the next name",
        "same side, both left (only proposed for the candidate)",
        f"no probability: {LACKING.reason}",
    )
    assert explained[1].reasons == (
        "only few: 10 points match, 5 of them in one position of the body; with another name 83 at most",
        "number 2 by the network (cosine 0.60)",
        "same side, both left",
        f"no probability: {LACKING.reason}",
    )
    assert [(one.annotation, one.cosine, one.evidence) for one in explained] == [
        (one.annotation, one.cosine, one.evidence) for one in listed
    ]


@pytest.mark.parametrize(
    ("p", "ci95", "expected"),
    [
        (0.93, (0.85, 0.97), "93 % (85–97)"),
        (0.93, None, "93 %"),
        (0.5, (float("nan"), float("nan")), "50 %"),
        (0.9996, (0.97, 1.0), ">99 % (97–>99)"),
        (0.0, (0.0, 0.0049), "<1 % (<1–<1)"),
        (0.994, None, "99 %"),
        (0.006, None, "1 %"),
        (0.004, None, "<1 %"),
    ],
)
def test_probabilities_are_whole_percent_and_never_certain(
    p: float, ci95: tuple[float, float] | None, expected: str
) -> None:
    assert percent(p, ci95) == expected


def test_no_probability_is_told_as_certain() -> None:
    told = [percent(step / 10_000) for step in range(10_001)]
    assert "0 %" not in told
    assert "100 %" not in told
    assert told[5000] == "50 %"


@pytest.mark.parametrize(
    ("p_new", "expected"),
    [
        (0.87, "probably new: P(new) 87 %"),
        (0.8, "probably new: P(new) 80 %"),
        (0.79, "new or known, that is open: P(new) 79 %"),
        (0.21, "new or known, that is open: P(new) 21 %"),
        (0.2, "probably known: P(new) 20 %"),
        (0.0, "probably known: P(new) <1 %"),
    ],
)
def test_what_a_query_is(p_new: float, expected: str) -> None:
    assert new_or_known(p_new) == expected


def test_what_a_query_is_has_its_interval() -> None:
    assert new_or_known(0.87, (0.71, 0.95)) == "probably new: P(new) 87 % (71–95)"


@pytest.mark.parametrize(
    ("p_new", "p_same", "expected"),
    [
        (0.1, (0.25, None, 0.17), "probably known: P(new) 10 %, but no candidate stands out, the best has 25 %"),
        (0.1, (0.5,), "probably known: P(new) 10 %"),
        (0.1, (None,), "probably known: P(new) 10 %"),
        (0.9, (0.05,), "probably new: P(new) 90 %"),
    ],
)
def test_a_known_animal_that_no_candidate_is_for_sure(
    p_new: float, p_same: tuple[float | None, ...], expected: str
) -> None:
    assert new_or_known(p_new, None, p_same) == expected
