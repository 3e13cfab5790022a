from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from resight.attributes.labels import LabelRules, choose_labelled, group_of, label_of
from resight.errors import InputError, UnknownName
from resight.types import Annotation

from .drawn import animal


def herd(viewpoint: str, animals: int, each: int = 3, species: str = "zebra", **changes: Any) -> list[Annotation]:
    return [
        animal(f"{species}-{viewpoint}-{who}-{n}", viewpoint=viewpoint, individual=f"{viewpoint}{who}", species=species,
               **changes)
        for who in range(animals)
        for n in range(each)
    ]  # fmt: skip


# What is a label


def test_a_proposed_value_is_never_a_label() -> None:
    stated = animal("a", viewpoint="left", species="zebra+face", part="face", quality=2.0)
    assert [label_of(stated, field) for field in ("viewpoint", "species", "part", "quality")] == [
        "left", "zebra+face", "face", "2"
    ]  # fmt: skip
    for field in ("viewpoint", "species", "part", "quality"):
        assert label_of(replace(stated, proposed=frozenset({field})), field) is None
    # A species with a proposed part is no label of the species, nor is a part of a proposed species one of the part.
    assert label_of(replace(stated, proposed=frozenset({"part"})), "species") is None
    assert label_of(replace(stated, proposed=frozenset({"species"})), "part") is None


def test_a_species_without_a_part_shows_the_animal_unless_it_was_said_of_a_card() -> None:
    assert label_of(animal("a"), "part") == "whole"
    found = animal("b", detector="onnx:mdv6")
    assert label_of(found, "part") is None
    assert label_of(found, "part", settled={"b": "whole"}) == "whole"
    assert label_of(animal("c", species=None), "part") is None
    assert label_of(replace(found, species="zebra+face", part="face"), "part") == "face"


def test_a_part_that_a_person_called_unknown_is_no_label_of_the_whole_animal() -> None:
    for one in (animal("a"), animal("a", detector="onnx:mdv6")):
        assert label_of(one, "part", settled={"a": "unknown"}) is None
    said_later = animal("a", species="zebra+face", part="face")
    assert label_of(said_later, "part", settled={"a": "unknown"}) == "face"


def test_grades_are_told_apart_as_they_stand() -> None:
    assert label_of(animal("a", quality=0.1234567), "quality") == "0.1234567"
    assert label_of(animal("a", quality=3.0), "quality") == "3"


def test_a_group_is_the_individual_else_the_encounter_else_the_photo() -> None:
    body, face = animal("a", individual="A", species="cow"), animal("b", individual="A", species="cow+face")
    assert group_of(body) == group_of(face)
    assert group_of(body) != group_of(animal("c", individual="A", species="lion"))
    met = {"encounter": "e", "encounter_known": True}
    assert group_of(animal("a", **met)) == group_of(animal("b", **met))
    alone = [animal("a", image_id=7), animal("b", image_id=7), animal("c", image_id=8)]
    assert len({group_of(one) for one in alone}) == 2


# What is chosen


def test_what_is_chosen_bears_its_labels_and_groups_whatever_the_order() -> None:
    known = herd("left", 3) + herd("right", 3)
    chosen = choose_labelled(known, "viewpoint")
    assert [a.annotation_id for a in chosen.annotations] == sorted(a.annotation_id for a in known)
    assert chosen.labels == tuple(a.viewpoint for a in chosen.annotations)
    assert chosen.groups == tuple(group_of(a) for a in chosen.annotations)
    assert (chosen.species, chosen.left_out) == (("zebra",), {})
    assert choose_labelled(reversed(known), "viewpoint") == chosen


def test_filtered_and_quarantined_ones_are_left_out_and_counted() -> None:
    known = herd("left", 4) + herd("right", 4)
    known[0] = replace(known[0], image_status="quarantined")
    known[1] = replace(known[1], filtered="min_side_px 60")
    known[2] = replace(known[2], proposed=frozenset({"species"}))
    chosen = choose_labelled(known, "viewpoint")
    assert not {a.annotation_id for a in known[:3]} & {a.annotation_id for a in chosen.annotations}
    assert chosen.left_out == {"quarantined": 1, "quality rule min_side_px 60": 1, "species only proposed": 1}


def test_small_classes_are_left_out_and_said() -> None:
    known = herd("left", 3) + herd("right", 3) + herd("up", 2, each=2) + herd("front", 1, each=9)
    chosen = choose_labelled(known, "viewpoint")
    assert Counter(chosen.labels) == {"left": 9, "right": 9}
    assert chosen.left_out == {
        "front: too few, of 1 individuals or encounters": 9, "up: too few, of 2 individuals or encounters": 4
    }  # fmt: skip
    larger = choose_labelled(known, "viewpoint", LabelRules(least_annotations=4))
    assert Counter(larger.labels) == {"left": 9, "right": 9, "up": 4}


def test_a_species_that_is_always_seen_from_one_side_teaches_no_viewpoint() -> None:
    known = herd("left", 3) + herd("right", 3) + herd("front", 4, species="cow+face")
    chosen = choose_labelled(known, "viewpoint")
    assert (set(chosen.labels), chosen.species) == ({"left", "right"}, ("zebra",))
    assert chosen.left_out == {"cow+face: no second viewpoint with 5 labels (front 12)": 12}


def test_fewer_than_two_classes_are_refused_with_what_was_left_out() -> None:
    with pytest.raises(
        InputError, match=r"found none \(zebra: no second viewpoint with 5 labels \(left 15, up 1\): 16"
    ):
        choose_labelled([*herd("left", 5), *herd("up", 1, each=1)], "viewpoint")
    with pytest.raises(InputError, match=r"found only 'left' \(right: too few, of 1 individuals or encounters: 9 "):
        choose_labelled([*herd("left", 5), *herd("right", 1, each=9)], "viewpoint")
    with pytest.raises(InputError, match=r"species: expected two classes or more.*found only 'zebra'"):
        choose_labelled(herd("left", 5), "species")
    with pytest.raises(InputError, match="found none"):
        choose_labelled([], "viewpoint")


def test_a_measured_quality_is_no_grade() -> None:
    with pytest.raises(InputError, match=r"13 distinct values.*at most 12"):
        choose_labelled([animal(str(n), quality=n / 13) for n in range(13)], "quality")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownName, match="viewpoint"):
        choose_labelled([], "viewpiont")
    with pytest.raises(UnknownName, match="'zebra'"):
        choose_labelled(herd("left", 2), "viewpoint", species=["zebr"])
    with pytest.raises(InputError, match="least_groups 1: expected at least 2"):
        LabelRules(least_groups=1)


# The draw


def test_the_draw_is_even_over_classes_and_groups() -> None:
    common = [a for who in range(4) for a in herd("left", 1, each=[40, 30, 20, 2][who], species="zebra")]
    common = [replace(a, annotation_id=f"{n}", individual=f"L{n % 4}") for n, a in enumerate(common)]
    rare = herd("right", 2, each=3)
    chosen = choose_labelled(common + rare, "viewpoint", LabelRules(most=26))
    assert Counter(chosen.labels) == {"left": 20, "right": 6}
    assert set(
        Counter(g for g, label in zip(chosen.groups, chosen.labels, strict=True) if label == "left").values()
    ) == {5}
    assert chosen.left_out == {"more than the 26 that are drawn": 72}


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    known = herd("left", 9) + herd("right", 9)

    def drawn(seed: int, annotations: list[Annotation]) -> set[str]:
        chosen = choose_labelled(annotations, "viewpoint", LabelRules(most=20, seed=seed))
        return {a.annotation_id for a in chosen.annotations}

    assert len(drawn(0, known)) == 20
    assert drawn(0, known) == drawn(0, known[::-1])
    assert drawn(0, known) != drawn(1, known)
