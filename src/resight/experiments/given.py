"""What frozen splits give an experiment to work with, and the runs that experiments have in common."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

from resight.catalogue.policy import animal_of
from resight.catalogue.store import SET_ASIDE, TEST, TRAIN, StoredSplit
from resight.errors import InputError, UnknownName
from resight.experiments.plan import LeftOut, RunSpec
from resight.training.recipe import Recipe
from resight.types import Annotation

LEAST_IDENTITIES = 2  # of a species in training and in test, in every split: with one there is nothing to tell apart

Budget = Literal["epochs", "steps"]
BUDGETS: tuple[Budget, ...] = ("epochs", "steps")

JOINT = "joint"


def only(species: str) -> str:
    """Label of the model that is trained on one species alone."""
    return f"only {species}"


def without(species: str) -> str:
    """Label of the model that is trained on all other species."""
    return f"without {species}"


def alone(species: str, number: int) -> str:
    """Label of the model that is trained on so many individuals of one species and nothing else."""
    return f"{species} alone, {number} individuals"


def joined(species: str, number: int) -> str:
    """Label of the model that is trained on so many individuals of one species and all of the others."""
    return f"{species} joined, {number} individuals"


def on_backbone(backbone: str) -> str:
    """Label of the joint model on one of several backbones."""
    return f"joint on {backbone}"


def at_hand(model: str) -> str:
    """Label of a model that is not trained here; it may have the name of any run."""
    return f"model {model}"


@dataclass(frozen=True)
class Side:
    """One species' part of one split.

    Attributes:
        train: Individual → its training annotations.
        train_identities: How many identities they are.
        test_annotations: Test annotations.
        test_identities: Their identities.
    """

    train: Mapping[str, int]
    train_identities: int
    test_annotations: int
    test_identities: int


@dataclass(frozen=True)
class GivenSplit:
    """A frozen split as experiments look at it."""

    name: str
    seed: int
    species: Mapping[str, Side]


def given_split(split: StoredSplit, annotations: Sequence[Annotation], *, set_aside: bool = False) -> GivenSplit:
    """Count what a split holds.

    Args:
        split: Frozen.
        annotations: Of the catalogue; they name the individuals.
        set_aside: Whether the recipe trains on what the split sets aside.
    """
    trained = (TRAIN, SET_ASIDE) if set_aside else (TRAIN,)
    train: dict[str, Counter[str]] = defaultdict(Counter)
    identities: dict[tuple[str, str], set[str]] = defaultdict(set)
    tested: Counter[str] = Counter()
    for annotation in annotations:
        key = annotation.annotation_id
        subset = split.subset.get(key)
        if subset in trained and annotation.individual is not None:
            train[split.species[key]][annotation.individual] += 1
            identities[split.species[key], TRAIN].add(split.identity[key])
        elif subset == TEST:
            tested[split.species[key]] += 1
            identities[split.species[key], TEST].add(split.identity[key])
    return GivenSplit(
        split.name,
        split.seed,
        {
            species: Side(
                dict(sorted(train[species].items())),
                len(identities[species, TRAIN]),
                tested[species],
                len(identities[species, TEST]),
            )
            for species in sorted(set(train) | set(tested))
        },
    )


@dataclass(frozen=True)
class Given:
    """All that an experiment plans with.

    Attributes:
        splits: One a seed.
        recipe: Of every run, but for its seed and what the experiment itself varies.
        species: Those that can be trained and tested in every split, by name.
        budget: ``epochs``: every run has the recipe's; ``steps``: a run on fewer annotations has so many more epochs
            that it makes as many steps as the one on all of them; its warm-up and decay are stretched alike.
        left_out: Species that cannot be, with the reason.
    """

    splits: tuple[GivenSplit, ...]
    recipe: Recipe
    species: tuple[str, ...]
    budget: Budget = "epochs"
    left_out: tuple[LeftOut, ...] = field(default=())

    def run(
        self,
        split: GivenSplit,
        label: str,
        species: Sequence[str],
        *,
        tests: Sequence[str],
        individuals: Mapping[str, tuple[str, ...]] | None = None,
        recipe: Recipe | None = None,
        starts_from: str | None = None,
    ) -> RunSpec:
        """A run that trains on some species of a split, by the recipe and the budget."""
        kept = dict(individuals or {})
        base = replace(recipe or self.recipe, seed=split.seed)
        if self.budget == "steps":
            most = self._steps(base, self._annotations(split, self.species, {}))
            own = self._steps(base, self._annotations(split, species, kept))
            base = stretched(base, max(base.epochs, round(base.epochs * most / own)))
        return RunSpec(
            label, split.name, split.seed, tuple(tests), tuple(species), kept, recipe=base, starts_from=starts_from
        )

    def joint(self, split: GivenSplit, tests: Sequence[str] | None = None) -> RunSpec:
        """One model for all species."""
        return self.run(split, JOINT, self.species, tests=self.species if tests is None else tests)

    def only(self, split: GivenSplit, species: str) -> RunSpec:
        """A model for one species alone."""
        return self.run(split, only(species), (species,), tests=(species,))

    def without(self, split: GivenSplit, species: str) -> RunSpec:
        """A model that never saw a species, nor another part of it, tested on it."""
        return self.run(split, without(species), self.others(species), tests=(species,))

    def others(self, species: str) -> tuple[str, ...]:
        """All species but one and its other parts."""
        return tuple(name for name in self.species if animal_of(name) != animal_of(species))

    def alone(self, split: GivenSplit, species: str, number: int) -> RunSpec:
        """A model for the first ``number`` individuals of one species."""
        kept = {species: nested_individuals(split, species, number)}
        return self.run(split, alone(species, number), (species,), tests=(species,), individuals=kept)

    def joined(self, split: GivenSplit, species: str, number: int) -> RunSpec:
        """The same individuals together with all other species."""
        kept = {species: nested_individuals(split, species, number)}
        trained = tuple(sorted((species, *self.others(species))))
        return self.run(split, joined(species, number), trained, tests=(species,), individuals=kept)

    def sizes(self, species: str, wanted: Sequence[int]) -> tuple[tuple[int, ...], tuple[LeftOut, ...]]:
        """The numbers of individuals, rising, that can be trained on in every split, and the others with the reason."""
        most = min(len(split.species[species].train) for split in self.splits)
        fitting, others = [], []
        for number in sorted(set(wanted)):
            if number > most:
                others.append(LeftOut(f"{number} individuals", f"{species} has {most} individuals in training"))
            elif number == 1:
                others.append(LeftOut("1 individual", f"{species} alone would have nothing to tell apart in training"))
            else:
                fitting.append(number)
        return tuple(fitting), tuple(others)

    def require(self, species: str) -> None:
        """Refuse a species that cannot be asked about.

        Raises:
            InputError: with the reason, where it is known.
        """
        if species in self.species:
            return
        reason = next((one.reason for one in self.left_out if one.what == species), None)
        if reason is not None:
            raise InputError(f"{species} cannot be trained and tested: {reason}")
        raise UnknownName.among("species in the splits", species, self.species)

    def require_several(self, experiment: str, *, animals: bool = False) -> None:
        """Refuse a catalogue with one usable species where an experiment compares species.

        Args:
            experiment: Its name.
            animals: Whether parts of one animal are not enough.

        Raises:
            InputError: there is one species only.
        """
        if len({animal_of(name) if animals else name for name in self.species}) < 2:
            raise InputError(
                f"{experiment} needs at least two species, and there is {', '.join(self.species)} only"
                + "".join(f"; {one.what}: {one.reason}" for one in self.left_out)
            )

    def less(self, species: str, reason: str) -> Given:
        """The same without a species that turns out to be of no use.

        Raises:
            InputError: none is left.
        """
        left = tuple(name for name in self.species if name != species)
        left_out = (*self.left_out, LeftOut(species, reason))
        if not left:
            raise _none_usable(left_out)
        return replace(self, species=left, left_out=left_out)

    def train_annotations(self, species: str) -> float:
        """Training annotations of a species, the mean over splits."""
        return sum(sum(split.species[species].train.values()) for split in self.splits) / len(self.splits)

    @staticmethod
    def _annotations(split: GivenSplit, species: Collection[str], individuals: Mapping[str, tuple[str, ...]]) -> int:
        total = 0
        for name in species:
            train = split.species[name].train
            total += sum(train[one] for one in individuals[name]) if name in individuals else sum(train.values())
        return total

    @staticmethod
    def _steps(recipe: Recipe, annotations: int) -> int:
        return max(1, -(-annotations // recipe.batch_size))


def stretched(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe over more epochs: every part of its schedule has the share of the run that it had."""
    factor = epochs / recipe.epochs
    warmup = min(recipe.warmup_epochs * factor, float(epochs))
    return replace(
        recipe,
        epochs=epochs,
        warmup_epochs=float(round(warmup)) if recipe.schedule == "exponential" else warmup,
        head_only_epochs=round(recipe.head_only_epochs * factor),
        decay_per_epoch=recipe.decay_per_epoch ** (1 / factor),
    )


def choose_species(
    splits: Sequence[GivenSplit], wanted: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """Which species can be asked about, and why the others cannot.

    Args:
        splits: One a seed.
        wanted: Only these; ``None``: all.

    Raises:
        UnknownName: a species that no split holds.
        InputError: none is left.
    """
    known = sorted({species for split in splits for species in split.species})
    UnknownName.require("species in the splits", wanted or (), known)
    chosen: list[str] = []
    left_out: list[LeftOut] = []
    for species in known if wanted is None else sorted(set(wanted)):
        reason = next((found for split in splits if (found := _why_not(split, species)) is not None), None)
        if reason is None:
            chosen.append(species)
        else:
            left_out.append(LeftOut(species, reason))
    if not chosen:
        raise _none_usable(left_out)
    return tuple(chosen), tuple(left_out)


def _none_usable(left_out: Sequence[LeftOut]) -> InputError:
    return InputError(
        "no species has enough individuals to be trained and tested: "
        + "; ".join(f"{one.what}: {one.reason}" for one in left_out)
    )


def _why_not(split: GivenSplit, species: str) -> str | None:
    side = split.species.get(species)
    if side is None:
        return f"split {split.name} holds nothing of it"
    if side.train_identities < LEAST_IDENTITIES:
        return f"{side.train_identities} training identities in split {split.name}, at least {LEAST_IDENTITIES} needed"
    if side.test_identities < LEAST_IDENTITIES:
        return f"{side.test_identities} test identities in split {split.name}, at least {LEAST_IDENTITIES} needed"
    return None


def nested_individuals(split: GivenSplit, species: str, number: int) -> tuple[str, ...]:
    """So many training individuals of a species: the first of one order, so that a larger set holds every smaller one.

    The order is by a hash of seed and names, as in splits: it does not depend on what else the catalogue holds.
    """

    def place(individual: str) -> bytes:
        return sha256("\x1f".join((str(split.seed), "experiment", species, individual)).encode()).digest()

    return tuple(sorted(sorted(split.species[species].train, key=place)[:number]))
