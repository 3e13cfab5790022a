"""What the runs of an experiment gave: scores, made from stored vectors when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.experiments.folder import ExperimentsFolder
from resight.experiments.prepare import Unit
from resight.experiments.scores import Scores, score
from resight.experiments.sides import TestSide, read_side, read_vectors

Seeds = list[Scores | None]


class Results:
    """Scores by label, species and seed; ``None`` for what is not done.

    Args:
        units: Of the experiment.
        folder: Where their files lie.
    """

    def __init__(self, units: Sequence[Unit], folder: ExperimentsFolder) -> None:
        self._folder = folder
        self._units = {(unit.spec.label, unit.spec.seed): unit for unit in units}
        self.seeds = tuple(sorted({unit.spec.seed for unit in units}))
        self._scores: dict[tuple[str, str, int], Scores | None] = {}

    def scores(self, label: str, species: str) -> Seeds:
        """One a seed, in order of the seeds."""
        return [self._score(label, species, seed) for seed in self.seeds]

    def pairs(self, new: str, old: str, species: str) -> tuple[Seeds, Seeds] | None:
        """Scores of two models under the seeds that both have; ``None`` where there is no such seed."""
        both = [
            (one, other) if one is not None and other is not None else (None, None)
            for one, other in zip(self.scores(new, species), self.scores(old, species), strict=True)
        ]
        if all(one is None for one, _ in both):
            return None
        return [one for one, _ in both], [other for _, other in both]

    def vectors(self, label: str, species: str, seed: int) -> tuple[TestSide, NDArray[Any]] | None:
        """A test side and a run's vectors of it, (n, dim) float16; ``None`` where the run is not done."""
        unit = self._units.get((label, seed))
        if unit is None or species not in unit.sides or not self._folder.is_done(unit.key):
            return None
        key = unit.sides[species]
        side = read_side(self._folder.side(key))[species].side
        return side, read_vectors(self._folder.run(unit.key), key)[species].vectors

    def _score(self, label: str, species: str, seed: int) -> Scores | None:
        asked = label, species, seed
        if asked not in self._scores:
            found = self.vectors(*asked)
            background = None if found is None else self._background(label, found[0], seed)
            self._scores[asked] = None if found is None else score(*found, background=background, seed=0)
        return self._scores[asked]

    def _background(self, label: str, side: TestSide, seed: int) -> NDArray[Any] | None:
        """(n, dim) vectors of the backgrounds, NaN where an annotation has none; ``None`` without any."""
        unit = self._units[label, seed]
        key = unit.sides[side.species]
        found = read_vectors(self._folder.run(unit.key), key, background=True).get(side.species)
        if found is None:
            return None
        place = {name: row for row, name in enumerate(side.annotation_ids)}
        vectors = np.full((len(place), found.vectors.shape[1]), np.nan, dtype=np.float16)
        vectors[[place[name] for name in found.annotation_ids]] = found.vectors
        return vectors
