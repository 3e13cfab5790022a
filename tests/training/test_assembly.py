from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.catalogue.store import StoredSplit
from resight.chips import ChipSet, Failure, chip_path
from resight.errors import InputError, UnknownName
from resight.training.assembly import hold_out, samples_of, test_side, training_side, without_chips
from resight.training.presets import TINY
from resight.types import Annotation

test_side.__test__ = False  # type: ignore[attr-defined]  # no test, for all its name


def annotation(name: str, **changes: object) -> Annotation:
    values: dict[str, object] = {
        "annotation_id": name, "source": "drawn", "file_name": f"{name}.png", "image_id": hash(name) % 10**9,
        "image_root": "drawn", "image_path": f"{name}.png", "content_hash": f"content {name}", "image_width": 9,
        "image_height": 9, "image_status": "ok", "species": "zebra", "part": None, "individual": None,
        "viewpoint": None, "encounter": name, "encounter_known": True, "identity": None, "allowed": True, "box": None,
        "theta_rad": 0.0, "taken_at": None,
    }  # fmt: skip
    return Annotation(**{**values, **changes})  # type: ignore[arg-type]


def population(individuals: int, encounters: int, *, photos: int = 1, species: str = "zebra") -> list[Annotation]:
    return [
        annotation(
            f"{species} {who} {e} {photo}",
            image_id=10**6 * (species == "lion") + 1000 * who + 10 * e + photo,
            species=species,
            individual=f"{who}",
            identity=f"{who}",
            encounter=f"{species} {who} {e}",
        )
        for who in range(individuals)
        for e in range(encounters)
        for photo in range(photos)
    ]


MANY = population(4, 2) + population(2, 2, species="lion")
SUBSETS = ("train", "train", "test", "set_aside", "train", "set_aside", "test", None, "train", "test", None, "train")


def frozen(annotations: list[Annotation]) -> StoredSplit:
    """As it was when the split was made: the names have changed since."""
    chosen = {a: subset for a, subset in zip(annotations, SUBSETS, strict=True) if subset is not None}
    return StoredSplit(
        name="s",
        protocol="paper",
        seed=0,
        catalogue_revision=1,
        made_at_utc="",
        subset={a.annotation_id: subset for a, subset in chosen.items()},
        identity={a.annotation_id: f"old {a.identity}" for a in chosen},
        encounter={a.annotation_id: f"old {a.encounter}" for a in chosen},
        species={a.annotation_id: a.species for a in chosen},
        report={},
    )


def of_subset(*wanted: str) -> list[str]:
    return [a.annotation_id for a, subset in zip(MANY, SUBSETS, strict=True) if subset in wanted]


def test_the_training_side_is_what_the_split_froze() -> None:
    split = frozen(MANY)
    side = training_side(split, MANY, TINY, None)
    assert [a.annotation_id for a in side] == of_subset("train")
    assert {(a.identity, a.encounter) for a in side} == {
        (split.identity[a.annotation_id], split.encounter[a.annotation_id]) for a in side
    }
    with_set_aside = training_side(split, MANY, replace(TINY, use_set_aside=True), None)
    assert [a.annotation_id for a in with_set_aside] == of_subset("train", "set_aside")
    assert [a.annotation_id for a in test_side(split, MANY, None)] == of_subset("test")


def test_some_species_only() -> None:
    split = frozen(MANY)
    assert {a.species for a in training_side(split, MANY, TINY, ["lion"])} == {"lion"}
    assert {a.species for a in test_side(split, MANY, ["zebra"])} == {"zebra"}
    with pytest.raises(
        UnknownName, match="no species in the train side of the split named 'loin': did you mean 'lion'"
    ):
        training_side(split, MANY, TINY, ["loin"])


def test_without_a_share_all_are_trained_on() -> None:
    assert hold_out(MANY, TINY) == (MANY, [])


@given(st.integers(6, 20), st.integers(2, 6), st.integers(1, 3), st.floats(0.1, 0.6), st.integers(0, 9))
def test_nothing_stands_on_both_sides(individuals: int, encounters: int, photos: int, share: float, seed: int) -> None:
    side = population(individuals, encounters, photos=photos) + population(individuals, 4, species="lion")
    recipe = replace(TINY, validation_share=share, seed=seed)
    kept, held_out = hold_out(side, recipe)
    assert kept
    assert held_out
    assert {a.annotation_id for a in kept}.isdisjoint(a.annotation_id for a in held_out)
    assert {a.encounter for a in kept}.isdisjoint(a.encounter for a in held_out)
    assert {a.image_id for a in kept}.isdisjoint(a.image_id for a in held_out)
    assert {*kept, *held_out} <= {*side}  # as they came
    encounters_of = defaultdict(set)
    for a in held_out:
        encounters_of[a.species, a.identity].add(a.encounter)
    assert min(len(found) for found in encounters_of.values()) >= 2  # each can be found
    assert hold_out(side[::-1], recipe) == (kept[::-1], held_out[::-1])


def test_the_larger_the_share_the_more_unseen_individuals_are_scored() -> None:
    side = population(30, 6)
    unseen = []
    for share in (0.1, 0.4):
        kept, held_out = hold_out(side, replace(TINY, validation_share=share))
        unseen.append(len({a.identity for a in held_out} - {a.identity for a in kept}))
    assert 0 < unseen[0] <= 3
    assert unseen[0] < unseen[1] <= 12


def test_the_draw_follows_the_seed() -> None:
    side = population(12, 4)
    drawn = {tuple(a.annotation_id for a in hold_out(side, replace(TINY, validation_share=0.3, seed=seed))[1])
             for seed in range(4)}  # fmt: skip
    assert len(drawn) == 4


@pytest.mark.parametrize(
    "side", [[], population(1, 3), population(9, 1)], ids=["nothing", "one animal", "no encounters"]
)
def test_a_share_that_leaves_nothing_is_one_line(side: list[Annotation]) -> None:
    with pytest.raises(
        InputError, match=r"a validation_share of 0\.3 leaves \d+ annotations to train on and 0"
    ) as error:
        hold_out(side, replace(TINY, validation_share=0.3))
    assert "\n" not in str(error.value)


def test_samples_are_of_annotations_with_a_chip_and_know_the_policy(tmp_path: Path) -> None:
    failure = Failure(MANY[1].annotation_id, 1, MANY[1].file_name, "missing", "photo is missing")
    keys = {a.annotation_id: f"key{number}" for number, a in enumerate(MANY) if number != 1}
    chips = ChipSet(tmp_path, keys, made=0, failures=(failure,), found=())
    samples = samples_of(MANY, chips, {"zebra": "separate", "lion": "ignore"})
    assert [one.annotation_id for one in samples] == [a.annotation_id for a in MANY if a is not MANY[1]]
    assert {(one.species, one.sides_differ) for one in samples} == {("zebra", True), ("lion", False)}
    first = samples[0]
    assert (first.identity, first.encounter) == (MANY[0].identity, MANY[0].encounter)
    assert first.chip_path == chip_path(tmp_path, "key0")
    assert not any(one.sides_differ for one in samples_of(MANY, chips, {}))
    (left_out,) = without_chips(chips)
    assert (left_out.annotation_id, left_out.chip_path, left_out.reason) == (
        MANY[1].annotation_id,
        MANY[1].file_name,
        "photo is missing",
    )
