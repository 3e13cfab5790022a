from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.splits.drawn import annotation

from resight.catalogue.store import StoredSplit
from resight.chips import ChipSet
from resight.errors import InputError
from resight.experiments.folder import ExperimentsFolder
from resight.experiments.plan import Plan, RunSpec
from resight.experiments.prepare import Catalogue, TooFewPhotos, Unit, prepare
from resight.experiments.sides import read_side
from resight.settings import Policy
from resight.training.presets import TINY
from resight.training.recipe import Recipe
from resight.types import Annotation

# Individuals a and c are trained on, b is set aside; a and b are tested; a5, of a tested encounter, is in no subset.
SUBSETS = {
    "a1": "train",
    "a2": "train",
    "b1": "set_aside",
    "c1": "train",
    "a3": "test",
    "a4": "test",
    "b2": "test",
    "b3": "test",
}
PHOTOS = [
    annotation(name, name[0], "e-a3" if name == "a5" else f"e-{name}", image_id=number)
    for number, name in enumerate(sorted([*SUBSETS, "a5"]))
]


def without(*lost: str) -> dict[str, str]:
    return {a.annotation_id: f"chip-{a.annotation_id}" for a in PHOTOS if a.annotation_id not in lost}


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentsFolder:
    return ExperimentsFolder(tmp_path / "experiments")


def unit_of(
    folder: ExperimentsFolder, recipe: Recipe, policy_of: Mapping[str, Policy] | None = None, label: str = "joint",
    chips: Mapping[str, str] = without(),
) -> Unit:  # fmt: skip
    def cut(annotations: Sequence[Annotation], size: int) -> ChipSet:
        keys = {a.annotation_id: chips[a.annotation_id] for a in annotations if a.annotation_id in chips}
        return ChipSet(folder.path / "chips", keys, 0, (), ())

    def no_model(name: str) -> None:
        raise AssertionError(name)

    of = {a.annotation_id: a for a in PHOTOS if a.annotation_id in SUBSETS}
    split = StoredSplit(
        "s", "paper", 0, 1, "", SUBSETS, {key: str(a.identity) for key, a in of.items()},
        {key: a.encounter for key, a in of.items()}, {key: a.species for key, a in of.items()}, {},
    )  # fmt: skip
    catalogue = Catalogue({"s": split}, PHOTOS, policy_of or {}, cut, None, no_model)  # type: ignore[arg-type]
    run = RunSpec(label, "s", 0, ("zebra",), ("zebra",), recipe=recipe)
    return prepare(Plan("multi-vs-single", "?", {}, (run,)), catalogue, folder)[0]


def test_a_key_is_of_what_decides_the_result_and_of_nothing_else(folder: ExperimentsFolder) -> None:
    key = unit_of(folder, TINY).key
    same = (replace(TINY, name="mine"), replace(TINY, loader_workers=None), replace(TINY, checkpoint_every_steps=5))
    assert {unit_of(folder, recipe).key for recipe in same} == {key}
    assert unit_of(folder, TINY, label="another").key == key
    others = (replace(TINY, seed=1), replace(TINY, epochs=3), replace(TINY, use_set_aside=True))
    assert len({key, *(unit_of(folder, recipe).key for recipe in others)}) == 4


def test_other_weights_in_the_same_file_make_another_run(folder: ExperimentsFolder, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    recipe = replace(TINY, weights=str(file))
    with pytest.raises(InputError, match=r"weights '.*weights\.safetensors' are neither"):
        unit_of(folder, recipe)
    file.write_bytes(b"one")
    first = unit_of(folder, recipe).key
    assert unit_of(folder, recipe).key == first
    file.write_bytes(b"two")
    assert unit_of(folder, recipe).key != first


def test_a_policy_makes_another_run_where_mirror_images_go_by_it(folder: ExperimentsFolder) -> None:
    by_species = replace(TINY, mirror="by-species")
    assert unit_of(folder, by_species, {"zebra": "separate"}).key != unit_of(folder, by_species).key
    assert unit_of(folder, TINY, {"zebra": "separate"}).key == unit_of(folder, TINY).key


def test_the_side_has_the_further_photos_of_its_encounters_and_says_what_was_trained_on(
    folder: ExperimentsFolder,
) -> None:
    def trained(recipe: Recipe) -> dict[str, bool]:
        (key,) = unit_of(folder, recipe).sides.values()
        side = read_side(folder.side(key))["zebra"].side
        assert dict(zip(side.annotation_ids, side.tested.tolist(), strict=True)) == {
            "a3": True, "a4": True, "a5": False, "b2": True, "b3": True
        }  # fmt: skip
        return {name[0]: flag for name, flag in zip(side.annotation_ids, side.trained.tolist(), strict=True)}

    assert trained(TINY) == {"a": True, "b": False}
    assert trained(replace(TINY, use_set_aside=True)) == {"a": True, "b": True}


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (("c1",), "the photos of 1 training identities in split s can be used, at least 2 needed"),
        (("b2", "b3"), "the photos of 1 test identities in split s can be used, at least 2 needed"),
    ],
)
def test_a_species_whose_photos_are_gone_is_named(
    folder: ExperimentsFolder, lost: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(TooFewPhotos, match=reason) as lack:
        unit_of(folder, TINY, chips=without(*lost))
    assert (lack.value.species, lack.value.reason) == ("zebra", reason)
    unit_of(folder, TINY, chips=without("a2", "b2"))  # one photo less, and still two identities on each side
