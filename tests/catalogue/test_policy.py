from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.catalogue.policy import (
    VIEWPOINT_ALIASES,
    MergeTable,
    ViewpointTable,
    default_policy,
    describe,
    fold,
    identity_of,
    is_allowed,
    part_of,
)
from resight.settings import CANONICAL_VIEWPOINTS, IndividualMerge, Only, Settings, SpeciesMerge

VIEWPOINTS = st.sampled_from([None, *CANONICAL_VIEWPOINTS])


@pytest.mark.parametrize(
    ("spelling", "viewpoint"),
    [
        ("left", "left"),
        ("LEFT", "left"),
        (" Left-Side ", "left"),
        ("leftfront", "left"),
        ("left_front", "left"),
        ("front left", "left"),
        ("backright", "right"),
        ("right rear", "right"),
        ("upleft", "left"),
        ("leftup", "left"),
        ("R", "right"),
        ("left ear", "left"),
        ("left2", "left"),
        ("frontal", "front"),
        ("rear", "back"),
        ("dorsal", "up"),
        ("top", "up"),
        ("upfront", "up"),
        ("ventral", "down"),
        ("downback", "down"),
        ("leftright", None),
        ("ambiguous", None),
        ("face", None),
        ("7", None),
        ("", None),
        (None, None),
    ],
)
def test_the_table_of_aliases(spelling: str | None, viewpoint: str | None) -> None:
    assert ViewpointTable().canonical(spelling) == viewpoint


def test_every_alias_is_folded_and_leads_to_a_canonical_viewpoint() -> None:
    assert set(VIEWPOINT_ALIASES.values()) == set(CANONICAL_VIEWPOINTS)
    assert all(fold(spelling) == spelling for spelling in VIEWPOINT_ALIASES)
    assert all(VIEWPOINT_ALIASES[name] == name for name in CANONICAL_VIEWPOINTS)


def test_no_alias_that_names_a_side_leads_to_the_other() -> None:
    for spelling, viewpoint in VIEWPOINT_ALIASES.items():
        if "left" in spelling:
            assert viewpoint in ("left", "up", "down")
        if "right" in spelling:
            assert viewpoint in ("right", "up", "down")


def test_the_project_s_own_aliases_win_and_are_folded_too() -> None:
    table = ViewpointTable({"Flanke_L": "left", "dorsal": "back"})
    assert table.canonical("flanke-l") == "left"
    assert table.canonical("Dorsal") == "back"
    assert table.canonical("right") == "right"


@given(st.text())
def test_any_spelling_is_mapped_or_unknown(spelling: str) -> None:
    assert ViewpointTable().canonical(spelling) in (None, *CANONICAL_VIEWPOINTS)
    assert fold(fold(spelling)) == fold(spelling)


@pytest.mark.parametrize(
    ("viewpoints", "policy"),
    [
        ([], "ignore"),
        ([None, "front"], "ignore"),
        (["up", "down", "back"], "ignore"),
        (["right"], "separate"),
        ([None, "up", "left"], "separate"),
    ],
)
def test_the_default_policy_separates_where_there_are_sides(viewpoints: list[str | None], policy: str) -> None:
    assert default_policy(viewpoints) == policy


@pytest.mark.parametrize(
    ("individual", "viewpoint", "policy", "identity"),
    [
        ("Ayo", "left", "separate", "Ayo|left"),
        ("Ayo", "right", "separate", "Ayo|right"),
        ("Ayo", "front", "separate", "Ayo"),
        ("Ayo", None, "separate", "Ayo"),
        ("Ayo", "left", "ignore", "Ayo"),
        ("Ayo", "left", Only(("left",)), "Ayo"),
        (None, "left", "separate", None),
    ],
)
def test_identities(individual: str | None, viewpoint: str | None, policy: str | Only, identity: str | None) -> None:
    assert identity_of(individual, viewpoint, policy) == identity


def test_only_leaves_other_and_unknown_viewpoints_out() -> None:
    policy = Only(("left", "up"))
    assert [is_allowed(policy, viewpoint) for viewpoint in ("left", "up", "right", None)] == [True, True, False, False]
    assert describe(policy) == "only left, up"


@given(VIEWPOINTS, st.sampled_from(["separate", "ignore"]))
def test_other_policies_allow_everything(viewpoint: str | None, policy: str) -> None:
    assert is_allowed(policy, viewpoint)
    assert describe(policy) == policy


@pytest.mark.parametrize(
    ("species", "part"),
    [("lion", None), ("lion+head", "head"), ("lion+", None), ("lion+ ear ", "ear"), ("a+b+c", "b+c")],
)
def test_the_part_is_parsed_from_the_species(species: str, part: str | None) -> None:
    assert part_of(species) == part


def test_merges_of_one_source_win_over_those_of_all() -> None:
    settings = Settings(
        Path(),
        species_merges=(
            SpeciesMerge("lion", ("panthera_leo", "african lion")),
            SpeciesMerge("lion_north", ("panthera_leo",), "north"),
        ),
        individual_merges=(
            IndividualMerge("lion", "Ayo", ("L-017", "L-018")),
            IndividualMerge("lion", "Bea", ("L-017",), "north"),
        ),
    )
    table = MergeTable.of(settings)
    assert table.species_name("south", "panthera_leo") == "lion"
    assert table.species_name("north", "panthera_leo") == "lion_north"
    assert table.species_name("north", "african lion") == "lion"
    assert table.species_name("south", "zebra") == "zebra"
    assert table.individual_name("south", "lion", "L-017") == "Ayo"
    assert table.individual_name("north", "lion", "L-017") == "Bea"
    assert table.individual_name("north", "lion", "L-018") == "Ayo"
    assert table.individual_name("south", "zebra", "L-017") == "L-017"
