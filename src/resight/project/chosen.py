"""The model that a command asks, or the several that it asks as one, opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from resight.artefacts import key_of
from resight.errors import InputError

if TYPE_CHECKING:
    from resight.artefacts import Passport
    from resight.calibration.shortlists import Shortlists
    from resight.calibration.stored import Calibration
    from resight.embedding import EmbeddingSet
    from resight.ensemble.joint import Ensemble
    from resight.matching.queries import Describe
    from resight.models.embedder import Embedder
    from resight.models.library import FoundModel
    from resight.models.runtimes import Runtime

Models = str | Sequence[str] | None
"""One model's name, several that answer as one, or ``None`` for the default model."""


@dataclass(frozen=True)
class Chosen:
    """One model, or several as one.

    Attributes:
        found: Each of them; of several, by name.
        networks: What runs each.
        ensemble: How several are put together; ``None`` for one model.
    """

    found: tuple[FoundModel, ...]
    networks: tuple[Runtime, ...]
    ensemble: Ensemble | None = None

    @property
    def name(self) -> str:
        """The model's name, or those of all joined by ``+``."""
        return self.found[0].name if self.ensemble is None else self.ensemble.name

    @property
    def passport(self) -> Passport:
        """What decides the vectors."""
        from resight.embedding import passport_for

        return passport_for(self.networks[0]) if self.ensemble is None else self.ensemble.passport

    @property
    def weights_hash(self) -> str:
        """Of the model's weights; of several, a key of all that decides their vectors."""
        return self.networks[0].weights_hash if self.ensemble is None else key_of(dict(self.passport.decides))

    def weighed(self, shares: Path, alone: Callable[[str, Passport], Calibration | None], split: str) -> Chosen:
        """With what each of several models counts.

        Args:
            shares: Where a calibration of all of them has kept it.
            alone: Gives the calibration of one model's cosine by its name and passport, ``None`` where there is none.
            split: What they may be calibrated on, for the message.

        Raises:
            InputError: they have not been calibrated, neither together nor each.
            ArtefactMismatch: a calibration was made from something else.
        """
        if self.ensemble is None:
            return self
        from resight.ensemble.shares import Alone, averaged, command, read_shares

        members = self.ensemble.members
        if shares.is_file():
            return replace(self, ensemble=read_shares(shares, members))
        models = []
        for one in members:
            made = alone(one.name, one.passport)
            if made is None:
                names = [other.name for other in members]
                raise InputError(
                    f"models {' and '.join(names)} have not been calibrated together, nor has {one.name} by itself, so "
                    f"nothing says how much each counts: run {command(names, split)}"
                )
            models.append(Alone(one, made.fusion, str(made.passport.recorded.get("split"))))
        return replace(self, ensemble=averaged(models))

    def fitted(self, sets: Sequence[EmbeddingSet], shortlists: Shortlists, split: str) -> Chosen:
        """With what each of several models counts, as it is fitted: see :func:`resight.ensemble.shares.fitted`."""
        if self.ensemble is None:
            return self
        from resight.ensemble.shares import fitted

        return replace(self, ensemble=fitted(self.ensemble.members, sets, shortlists, split))

    def keep_shares(self, path: Path) -> None:
        """Write down what each of several models counts; of one model there is nothing to write."""
        if self.ensemble is not None:
            from resight.ensemble.shares import write_shares

            write_shares(self.ensemble, path)

    def join(self, sets: Sequence[EmbeddingSet], species_of: Mapping[str, str]) -> EmbeddingSet:
        """The vectors of the one model, or the joint ones of several; see :meth:`Ensemble.join`."""
        return sets[0] if self.ensemble is None else self.ensemble.join(sets, species_of)

    def shares(self, species: Iterable[str]) -> dict[str, dict[str, float]]:
        """Species → model → how much it counts; empty for one model."""
        if self.ensemble is None:
            return {}
        names = [one.name for one in self.found]
        return {one: dict(zip(names, self.ensemble.shares(one), strict=True)) for one in sorted(species)}

    def told(self, species: Iterable[str], split: str) -> list[str]:
        """How several models were put together for figures on the test side of a split; nothing for one model."""
        if self.ensemble is None:
            return []
        text = self.ensemble.told(sorted(species))
        if split in self.ensemble.splits:
            text += "; one number a model and species was fitted on what is scored here, so this is a trifle too good"
        return [text]

    def describe(self, species: str) -> Describe:
        """What makes vectors of photos that are compared inside a species."""
        ensemble, sizes = self.ensemble, [one.config.image_size for one in self.networks]
        if ensemble is None:
            return lambda cut: self.networks[0].embed_chips(cut(sizes[0]))
        return lambda cut: ensemble.embed(self.networks, sizes, cut, species)

    def for_heat(self) -> Embedder | None:
        """The network whose look at a chip can be drawn; several have no one look."""
        return self.found[0].load() if self.ensemble is None else None


def find_each(names: Models, find: Callable[[str | None], FoundModel]) -> tuple[FoundModel, ...]:
    """Find the models that are named.

    Args:
        names: One or several; none at all is the default model.
        find: Finds one by its name.

    Raises:
        InputError: one is named twice.
        UnknownName: there is none of that name.
    """
    asked: Sequence[str | None] = [names] if names is None or isinstance(names, str) else (list(names) or [None])
    found = sorted((find(name) for name in asked), key=lambda one: one.name)
    for before, after in pairwise(found):
        if before.name == after.name:
            raise InputError(f"model {after.name} is named twice; name each model once")
    return tuple(found)


def opened(found: tuple[FoundModel, ...], networks: tuple[Runtime, ...]) -> Chosen:
    """One model, or several of which each counts the same.

    Args:
        found: By name.
        networks: What runs each.

    Raises:
        InputError: two of them are the same model.
    """
    if len(found) == 1:
        return Chosen(found, networks)
    from resight.embedding import passport_for
    from resight.ensemble.joint import Member
    from resight.ensemble.shares import equals

    members = [Member(one.name, passport_for(network)) for one, network in zip(found, networks, strict=True)]
    return Chosen(found, networks, equals(members))
