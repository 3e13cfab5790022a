"""From a plan to files that workers need: the test sides, the training jobs, the models that are at hand.

Every run has a key of all that decides its result: the recipe, the samples, what it starts from, and what it is tested
on. A run that is there under its key is not made again, whichever experiment asks for it; a setting that changes makes
other keys, and so reruns only what it touches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.artefacts import content_hash, key_of
from resight.catalogue.store import SET_ASIDE, TEST, TRAIN, StoredSplit
from resight.chips import ChipSet
from resight.errors import InputError
from resight.experiments.folder import ExperimentsFolder
from resight.experiments.given import LEAST_IDENTITIES
from resight.experiments.plan import Plan, RunSpec
from resight.experiments.sides import TestSide, write_side
from resight.progress import track
from resight.settings import Policy
from resight.training.assembly import samples_of, training_side, without_chips
from resight.training.chipset import TrainingSample
from resight.training.loop import Job
from resight.training.plan import write_plan
from resight.training.recipe import Recipe
from resight.training.start import key_of_samples
from resight.types import Annotation

if TYPE_CHECKING:
    from resight.models.library import FoundModel

VERSION = 1  # raise it whenever the same key would stand for other numbers
# Say nothing of what comes out.
_UNDECIDING = ("name", "assumed", "loader_workers", "checkpoint_every_steps")

Cut = Callable[[Sequence[Annotation], int], ChipSet]


class TooFewPhotos(InputError):
    """So few photos of a species can be used that there is nothing to tell apart."""

    def __init__(self, species: str, side: str, split: str, usable: int) -> None:
        self.species = species
        self.reason = (
            f"the photos of {usable} {side} identities in split {split} can be used, at least {LEAST_IDENTITIES} needed"
        )
        super().__init__(f"{species}: {self.reason}")


@dataclass(frozen=True)
class Catalogue:
    """What preparing reads of a project.

    Attributes:
        splits: By name.
        annotations: All of the catalogue.
        policy_of: The viewpoint policy of every species.
        cut: Cuts chips of a size, where they lack.
        cut_background: Cuts what surrounds the animals, likewise; ``None``: not looked at.
        find_model: A model by its name.
    """

    splits: Mapping[str, StoredSplit]
    annotations: Sequence[Annotation]
    policy_of: Mapping[str, Policy]
    cut: Cut
    cut_background: Cut | None
    find_model: Callable[[str], FoundModel]


@dataclass(frozen=True)
class Unit:
    """One run of a plan, with the key of its files.

    Attributes:
        spec: What it is.
        key: Of its folder.
        needs: Key of the run that it starts from.
        sides: Species → key of the test side that it embeds.
        training_images: Images that go through the network in training.
    """

    spec: RunSpec
    key: str
    needs: str | None
    sides: Mapping[str, str]
    training_images: int

    def as_json(self) -> dict[str, Any]:
        """What the plan's file says of it."""
        return {
            "key": self.key,
            "label": self.spec.label,
            "split": self.spec.split,
            "seed": self.spec.seed,
            "needs": self.needs,
            "trains": self.spec.recipe is not None,
            "tests": [{"key": key, "species": [species]} for species, key in sorted(self.sides.items())],
            "training_images": self.training_images,
        }


def prepare(plan: Plan, catalogue: Catalogue, folder: ExperimentsFolder) -> tuple[Unit, ...]:
    """Write what workers need for the runs of a plan that are not there yet; gives all of its runs.

    Args:
        plan: In order: a run comes after the one it starts from.
        catalogue: The project's.
        folder: Its ``experiments/``.

    Raises:
        TooFewPhotos: of a species; the experiment may be planned without it.
        InputError: a run has nothing to train on, or a model cannot be had.
    """
    maker = _Maker(catalogue, folder, {species for spec in plan.runs for species in spec.species})
    units: list[Unit] = []
    for spec in track(plan.runs, "plan", len(plan.runs)):
        earlier = {unit.spec.label: unit for unit in units if unit.spec.seed == spec.seed}
        units.append(maker.trained(spec, earlier) if spec.recipe is not None else maker.at_hand(spec))
    return tuple(units)


class _Maker:
    """Makes units one by one; test sides and chips that several share are made once."""

    def __init__(self, catalogue: Catalogue, folder: ExperimentsFolder, trained: Collection[str]) -> None:
        self._catalogue = catalogue
        self._folder = folder
        self._trained_species = sorted(trained)
        self._sides: dict[tuple[str, str, int, tuple[str, ...]], str] = {}
        self._training: dict[tuple[str, int, bool], tuple[list[Annotation], ChipSet]] = {}
        self._by_species: dict[str, dict[str, list[Annotation]]] = {}

    def trained(self, spec: RunSpec, earlier: Mapping[str, Unit]) -> Unit:
        recipe = spec.recipe
        assert recipe is not None
        available, chips = self._training_side(spec.split, recipe)
        members = [
            annotation
            for annotation in available
            if annotation.species in spec.species
            and (annotation.species not in spec.individuals
                 or annotation.individual in spec.individuals[annotation.species])
        ]  # fmt: skip
        samples = samples_of(members, chips, self._catalogue.policy_of)
        identities: dict[str, set[str]] = defaultdict(set)
        for sample in samples:
            identities[sample.species].add(sample.identity)
        for species in spec.species:
            if species not in spec.individuals and len(identities[species]) < LEAST_IDENTITIES:
                raise TooFewPhotos(species, "training", spec.split, len(identities[species]))
        if not samples:
            raise InputError(f"{spec.label}: split {spec.split} has no usable training photo of these individuals")
        start = None if spec.starts_from is None else earlier[spec.starts_from].key
        sides = self._test_sides(spec, recipe.image_size)
        further = _deciding_besides(recipe, samples)
        key = key_of("experiment-run", VERSION, _deciding(recipe), key_of_samples(samples), start, sides, *further)
        run = self._folder.run(key)
        job = Job(
            samples,
            recipe,
            run,
            left_out=without_chips(chips, members),
            origin={
                "split": spec.split,
                "split_seed": spec.seed,
                "set_aside_used": recipe.use_set_aside,
                "species": list(spec.species),
                "label": spec.label,
                "init": start,
                "teachers": [],
            },
        )
        if not self._folder.has_job(key):
            write_plan(job)
        return Unit(spec, key, start, sides, len(samples) * recipe.epochs)

    def at_hand(self, spec: RunSpec) -> Unit:
        found = self._catalogue.find_model(spec.model or "")
        embedder = found.load()
        sides = self._test_sides(spec, embedder.config.image_size)
        key = key_of("experiment-model", VERSION, embedder.weights_hash, embedder.config.to_json(), sides)
        if not self._folder.has_model(key):
            embedder.save(self._folder.model(key))
        return Unit(spec, key, None, sides, 0)

    def _training_side(self, split_name: str, recipe: Recipe) -> tuple[list[Annotation], ChipSet]:
        """All that any run of the plan trains on in a split, with its chips."""
        asked = split_name, recipe.image_size, recipe.use_set_aside
        if asked not in self._training:
            split = self._catalogue.splits[split_name]
            members = training_side(split, self._catalogue.annotations, recipe, self._trained_species)
            self._training[asked] = members, self._catalogue.cut(members, recipe.image_size)
        return self._training[asked]

    def _test_sides(self, spec: RunSpec, size: int) -> dict[str, str]:
        subsets = (TRAIN, SET_ASIDE) if spec.recipe is not None and spec.recipe.use_set_aside else (TRAIN,)
        return {species: self._side(spec.split, species, size, subsets) for species in spec.tests}

    def _side(self, split_name: str, species: str, size: int, subsets: tuple[str, ...]) -> str:
        """Write the test side of one species of a split, with the further photos of its encounters; gives its key."""
        asked = split_name, species, size, subsets
        if asked not in self._sides:
            split = self._catalogue.splits[split_name]
            rows = sorted(self._tested(split, species), key=lambda row: row.annotation_id)
            chips = self._catalogue.cut(rows, size)
            backgrounds = None
            if self._catalogue.cut_background is not None:
                backgrounds = self._catalogue.cut_background(rows, size)
            rows = [row for row in rows if row.annotation_id in chips.keys]
            tested = np.array([split.subset.get(row.annotation_id) == TEST for row in rows], dtype=np.bool_)
            trained = {split.identity[key] for key, subset in split.subset.items()
                       if subset in subsets and split.species[key] == species}  # fmt: skip
            side = TestSide(
                species,
                tuple(row.annotation_id for row in rows),
                np.array([row.individual for row in rows], dtype=np.str_),
                np.array([row.identity for row in rows], dtype=np.str_),
                np.array([row.encounter for row in rows], dtype=np.str_),
                tested,
                np.array([row.identity in trained for row in rows], dtype=np.bool_),
            )
            usable = len({row.identity for row, is_tested in zip(rows, tested, strict=True) if is_tested})
            if usable < LEAST_IDENTITIES:
                raise TooFewPhotos(species, "test", split_name, usable)
            behind = {} if backgrounds is None else backgrounds.keys
            key = key_of(
                "experiment-side",
                VERSION,
                [
                    [row.annotation_id, row.individual, row.identity, row.encounter, bool(is_tested),
                     row.identity in trained, chips.keys[row.annotation_id], behind.get(row.annotation_id)]
                    for row, is_tested in zip(rows, tested, strict=True)
                ],
            )  # fmt: skip
            if not self._folder.has_side(key):
                write_side(
                    self._folder.side(key),
                    side,
                    [chips.path(row.annotation_id) for row in rows],
                    [None if backgrounds is None or row.annotation_id not in behind
                     else backgrounds.path(row.annotation_id) for row in rows],
                )  # fmt: skip
            self._sides[asked] = key
        return self._sides[asked]

    def _tested(self, split: StoredSplit, species: str) -> list[Annotation]:
        """The test annotations as they were frozen, and what the split does not use of their encounters."""
        if split.name not in self._by_species:
            by_species: dict[str, list[Annotation]] = defaultdict(list)
            for annotation in self._catalogue.annotations:
                if annotation.individual is not None and annotation.allowed:
                    by_species[split.species.get(annotation.annotation_id, annotation.known_species)].append(annotation)
            self._by_species[split.name] = by_species
        of_species = self._by_species[split.name][species]
        frozen = [
            replace(a, identity=split.identity[a.annotation_id], encounter=split.encounter[a.annotation_id])
            for a in of_species
            if split.subset.get(a.annotation_id) == TEST
        ]
        encounters = {a.encounter for a in frozen}
        return frozen + [a for a in of_species if a.annotation_id not in split.subset and a.encounter in encounters]


def _deciding(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.to_json().items() if key not in _UNDECIDING}


def _deciding_besides(recipe: Recipe, samples: Sequence[TrainingSample]) -> list[object]:
    """What decides the result and stands neither in the recipe nor in the key of the samples.

    Raises:
        InputError: the recipe's weights are a file that cannot be read.
    """
    found: list[object] = []
    if recipe.weights not in ("imagenet", "none", "init"):
        try:
            found.append(["weights", content_hash(Path(recipe.weights).read_bytes())])
        except OSError as error:
            raise InputError(
                f"weights {recipe.weights!r} are neither 'imagenet', 'none' nor a file that can be read "
                f"({error.strerror}): name another"
            ) from None
    if recipe.mirror == "by-species":
        found.append(["sides differ", sorted({one.species for one in samples if one.sides_differ})])
    return found
