from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.catalogue.policy import default_policy, identity_of, is_allowed
from resight.catalogue.statistics import Totals, statistics
from resight.settings import Only, Policy
from resight.types import Annotation

PLAIN = Annotation(
    annotation_id="", source="herd", file_name="", image_id=0, image_root="herd", image_path="", content_hash=None,
    image_width=None, image_height=None, image_status="ok", species="zebra", part=None, individual=None,
    viewpoint=None, encounter="", encounter_known=True, identity=None, allowed=True, box=None, theta_rad=0.0,
    taken_at=None,
)  # fmt: skip


def annotated(rows: Sequence[dict[str, Any]], policy_of: dict[str, Policy]) -> list[Annotation]:
    found = []
    for number, changes in enumerate(rows):
        one = replace(
            PLAIN, **{"annotation_id": f"a{number:05}", "image_id": number, "encounter": f"e{number}"} | changes
        )
        policy = policy_of[one.species]
        identity = identity_of(one.individual, one.viewpoint, policy)
        found.append(replace(one, identity=identity, allowed=is_allowed(policy, one.viewpoint)))
    return found


ROWS: list[dict[str, Any]] = [
    {"individual": "A", "viewpoint": "left", "taken_at": "2024-01-01", "encounter": "x"},
    {"individual": "A", "viewpoint": "left", "taken_at": "2024-01-01", "encounter": "x"},
    {"individual": "A", "viewpoint": "right", "source": "park"},
    {"individual": "B", "viewpoint": "up", "encounter_known": False, "image_status": "quarantined"},
    {"individual": None, "viewpoint": "left", "encounter_known": False},
    {"species": "lion", "individual": "A", "viewpoint": "front", "image_id": 0},
    {"species": "lion", "individual": "C", "viewpoint": "back"},
    {"species": "lion", "individual": "C"},
]
POLICIES: dict[str, Policy] = {"zebra": "separate", "lion": Only(("front",))}


def test_a_catalogue_counted_by_hand() -> None:
    found = statistics(annotated(ROWS, POLICIES), POLICIES)
    lion, zebra = found.species
    assert (zebra.species, zebra.sources, zebra.policy) == ("zebra", ("herd", "park"), "separate")
    assert (zebra.annotations, zebra.individuals, zebra.identities, zebra.encounters) == (5, 2, 3, 4)
    assert zebra.viewpoints == {"left": 3, "right": 1, "up": 1}
    assert zebra.identities_by_viewpoint == {"left": 1, "right": 1, "up": 1}
    assert (zebra.mean_per_individual, zebra.median_per_individual) == (2, 2)
    assert zebra.without == {"individual": 1, "viewpoint": 0, "date": 3, "encounter": 2}
    assert (zebra.left_out_by_policy, zebra.quarantined) == (0, 1)
    assert [(s.source, s.annotations, s.individuals) for s in zebra.by_source] == [("herd", 4, 2), ("park", 1, 1)]
    assert (lion.policy, lion.left_out_by_policy, lion.without["viewpoint"]) == ("only front", 2, 1)
    assert (lion.mean_per_individual, lion.median_per_individual) == (1.5, 1.5)
    # The name A is two animals, one of each species; the lion A is on a zebra's photo.
    assert found.totals == Totals(
        species=2, sources=2, images=7, annotations=8, individuals=4, identities=5, encounters=7
    )
    assert (found.tail.mean_per_individual, found.tail.median_per_individual) == (1.75, 1.5)


def test_the_order_of_annotations_does_not_matter() -> None:
    found = annotated(ROWS, POLICIES)
    assert statistics(found, POLICIES) == statistics(found[::-1], POLICIES)


@pytest.mark.parametrize(
    ("size", "tail"),
    [
        (249, (0, 1, 1, 1)),
        (250, (0, 1, 1, 0)),
        (499, (0, 1, 1, 0)),
        (500, (0, 1, 0, 0)),
        (999, (0, 1, 0, 0)),
        (1_000, (0, 0, 0, 0)),
        (10_000, (0, 0, 0, 0)),
        (10_001, (1, 0, 0, 0)),
    ],
)
def test_the_limits_of_the_tail(size: int, tail: tuple[int, int, int, int]) -> None:
    found = statistics([PLAIN] * size, {"zebra": "ignore"}).tail
    counted = (
        found.species_above_10000, found.species_below_1000, found.species_below_500, found.species_below_250,
    )  # fmt: skip
    assert counted == tail


def test_nothing_to_count() -> None:
    found = statistics([], {})
    assert found.species == ()
    assert found.totals == Totals(0, 0, 0, 0, 0, 0, 0)
    assert (found.tail.mean_per_individual, found.tail.median_per_individual) == (None, None)
    unknown = statistics([PLAIN], {"zebra": "ignore"})
    assert unknown.species[0].mean_per_individual is None
    assert unknown.species[0].individuals == 0


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "species": st.sampled_from(["lion", "zebra"]),
                "individual": st.sampled_from([None, "A", "B", "C"]),
                "viewpoint": st.sampled_from([None, "left", "right", "up"]),
                "encounter": st.sampled_from(["x", "y", "z"]),
            }
        ),
        max_size=30,
    )
)
def test_agrees_with_counting_one_by_one(rows: list[dict[str, Any]]) -> None:
    policy_of: dict[str, Policy] = {
        species: default_policy(r["viewpoint"] for r in rows if r["species"] == species)
        for species in ("lion", "zebra")
    }
    found = statistics(annotated(rows, policy_of), policy_of)
    assert sum(row.annotations for row in found.species) == found.totals.annotations == len(rows)
    for row in found.species:
        mine = [r for r in rows if r["species"] == row.species]
        known = Counter(r["individual"] for r in mine if r["individual"] is not None)
        split = row.policy == "separate"
        identities = {
            (r["individual"], r["viewpoint"] if split and r["viewpoint"] in ("left", "right") else None)
            for r in mine
            if r["individual"] is not None
        }
        assert row.individuals == len(known)
        assert row.identities == len(identities)
        assert row.encounters == len({r["encounter"] for r in mine})
        assert sum(row.viewpoints.values()) + row.without["viewpoint"] == row.annotations
        assert row.mean_per_individual == (round(mean(known.values()), 2) if known else None)
        assert row.median_per_individual == (median(known.values()) if known else None)
