from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resight.attributes.fitting import FitOptions, fit_head
from resight.attributes.head import Head
from resight.attributes.predicting import choose_unknown, propose
from resight.catalogue.proposals import Proposal
from resight.embedding import EmbeddingSet
from resight.errors import InputError, UnknownName

from .drawn import animal, embeddings, features_of, labelled

LABELS = ["left", "right"] * 40
GROUPS = [f"g{n // 4}" for n in range(80)]


@pytest.fixture(scope="module")
def head() -> Head:
    return fit_head(labelled(LABELS, GROUPS), features_of(LABELS), {}, FitOptions(strengths=(5.0,)))[0]


def unknown(name: str, **changes: Any) -> Any:
    return animal(name, **{"species": "zebra", "viewpoint": None, **changes})


# Whom a head is asked about


def test_a_head_is_asked_about_what_nobody_has_said(head: Head) -> None:
    stated = unknown("a", viewpoint="left")
    proposed = unknown("b", viewpoint="right", proposed=frozenset({"viewpoint"}))
    of_a_proposed_species = unknown("c", proposed=frozenset({"species"}))
    nothing = unknown("d")
    chosen = choose_unknown([nothing, proposed, stated, of_a_proposed_species], head)
    assert [a.annotation_id for a in chosen.annotations] == ["b", "c", "d"]
    assert (chosen.others, chosen.left_out) == (("a",), {})


def test_others_species_quarantined_and_settled_ones_are_left_out_and_counted(head: Head) -> None:
    known = [
        unknown("a", species="lion"), unknown("b", species=None), unknown("c", image_status="quarantined"),
        unknown("d"), unknown("e", filtered="min_side_px 60"),
    ]  # fmt: skip
    chosen = choose_unknown(known, head, settled={"d"})
    assert [a.annotation_id for a in chosen.annotations] == ["e"]
    assert chosen.left_out == {
        "lion: the head was not fitted on it": 1, "species unknown": 1, "quarantined": 1,
        "a person has said that it cannot be told": 1,
    }  # fmt: skip
    # What was proposed of a photo that cannot be read now stays.
    assert chosen.others == ("a", "b", "d")
    anyhow = choose_unknown(known, head, any_species=True)
    assert [a.annotation_id for a in anyhow.annotations] == ["a", "b", "d", "e"]
    one = choose_unknown(known, head, species=["lion"], any_species=True)
    assert ([a.annotation_id for a in one.annotations], one.others) == (["a"], ())
    with pytest.raises(UnknownName, match="did you mean 'zebra'"):
        choose_unknown(known, head, species=["zebr"])


def test_a_part_is_asked_of_boxes_found_here_and_of_animals_without_a_species(head: Head) -> None:
    parts = replace(head, field="part", species=("cow+face", "cow+top"))
    known = [
        animal("a", species="cow"),  # the source says that it is the animal
        animal("b", species="cow", detector="onnx:mdv6"),
        animal("c", species="cow+face", part="face", detector="onnx:mdv6"),
        animal("d", species=None),
        animal("e", species="lion", detector="onnx:mdv6"),
        animal("f", species="cow", proposed=frozenset({"species"})),
        animal("g", species="cow+top", part="top", proposed=frozenset({"part"}), detector="onnx:mdv6"),
    ]
    chosen = choose_unknown(known, parts)
    assert [a.annotation_id for a in chosen.annotations] == ["b", "d", "f", "g"]
    assert chosen.left_out == {"lion: the head was not fitted on it": 1}


# What it says


def asked(head: Head, labels: list[str], **changes: Any) -> tuple[Any, EmbeddingSet]:
    names = [f"u{n}" for n in range(len(labels))]
    unknowns = choose_unknown([unknown(name) for name in names], head)
    vectors = features_of(labels, seed=7)
    for row, vector in changes.items():
        vectors[int(row[1:])] = vector
    return unknowns, embeddings(names, vectors)


def test_what_is_proposed_is_what_is_there_with_the_head_s_name(head: Head) -> None:
    unknowns, vectors = asked(head, ["left", "right", "right"])
    found = propose(head, unknowns, vectors)
    assert [(p.annotation_id, p.value, p.model) for p in found.proposals] == [
        ("u0", "left", head.name), ("u1", "right", head.name), ("u2", "right", head.name)
    ]  # fmt: skip
    assert all(isinstance(p, Proposal) and head.threshold <= p.confidence <= 1 for p in found.proposals)
    assert (found.values, found.asked) == ({"right": 2, "left": 1}, ("u0", "u1", "u2"))


def test_below_the_threshold_a_value_stays_unknown(head: Head) -> None:
    between = features_of(["left"] * 40).mean(axis=0) / 2 + features_of(["left", "right"] * 40)[1::2].mean(axis=0) / 2
    unknowns, vectors = asked(head, ["left", "right"], u0=between)
    sure = float(head.confidences(np.asarray(vectors.vectors[:1], np.float32)).max())
    assert head.threshold is not None
    found = propose(head, unknowns, vectors, threshold=sure + 0.001)
    assert ([p.annotation_id for p in found.proposals], found.below_threshold) == (["u1"], 1)
    assert found.asked == ("u0", "u1")
    assert propose(head, unknowns, vectors, threshold=sure).below_threshold == 0
    none = propose(replace(head, threshold=None), unknowns, vectors)
    assert (none.proposals, none.below_threshold) == ((), 2)
    with pytest.raises(InputError, match=r"threshold 1\.5: expected a confidence from 0 to 1"):
        propose(head, unknowns, vectors, threshold=1.5)


def test_an_animal_unlike_all_others_stays_unknown(head: Head) -> None:
    guarded = replace(head, most_unlike=0.5, basis=np.eye(2, 24, dtype=np.float32))
    unknowns, _ = asked(head, ["left", "right"])
    inside = head.centre + head.scale * np.eye(24, dtype=np.float32)[0] * 9
    outside = head.centre + head.scale * (np.eye(24, dtype=np.float32)[0] * 9 + np.eye(24, dtype=np.float32)[9] * 9)
    found = propose(guarded, unknowns, embeddings(["u0", "u1"], np.stack([inside, outside])))
    assert ([p.annotation_id for p in found.proposals], found.unlike) == (["u0"], 1)


def test_what_a_person_rejected_is_not_proposed_again(head: Head) -> None:
    unknowns, vectors = asked(head, ["left", "right"])
    found = propose(head, unknowns, vectors, rejected={"u0": {"left"}, "u1": {"left"}})
    assert ([p.annotation_id for p in found.proposals], found.rejected) == (["u1"], 1)


def test_annotations_without_features_are_counted_and_nothing_is_changed_of_them(head: Head) -> None:
    unknowns, vectors = asked(head, ["left", "right", "left"])
    moved = replace(vectors, current={"u0": "chip of u0", "u1": "another chip"})
    found = propose(head, unknowns, moved)
    assert ([p.annotation_id for p in found.proposals], found.without_features) == (["u0"], 2)
    assert found.asked == ("u0",)
