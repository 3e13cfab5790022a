"""Several models as one set of vectors.

What a model's cosine says for two photos showing one animal is a slope times the cosine, and a constant, in log odds.
The sum over several models orders pairs as the sum of slope times cosine does; and that is the cosine of the models'
unit vectors, each times the root of its slope, written one behind the other. So an ensemble is a set of vectors like
any other, and whatever is done with those of one model is done with these: shortlists, local evidence, a calibration.

Only the ratio of the slopes matters: a model's *share* is its slope over their sum. A model whose cosine tells nothing
of a species has the share 0 there; where that is so of every model, each has the same.
:mod:`resight.ensemble.shares` finds them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import Passport, key_of
from resight.embedding import EmbeddingSet, EmbedsChips
from resight.errors import InputError
from resight.ranking import unit_rows

logger = logging.getLogger(__name__)

ENSEMBLE_VERSION = 1  # raise it whenever the same vectors and slopes would give other numbers
SHARE_DIGITS = 4
OTHER_SPECIES = "other species"
JOIN = "+"  # no run bears it in its name
_ROWS_AT_ONCE = 4096

Cut = Callable[[int], NDArray[np.uint8]]
"""Side in pixels → chips of that size, (n, side, side, 3) uint8 RGB."""


@dataclass(frozen=True)
class Member:
    """One model of an ensemble.

    Attributes:
        name: The model's.
        passport: What decides its vectors.
    """

    name: str
    passport: Passport

    @property
    def key(self) -> str:
        """Of what decides its vectors."""
        return key_of(dict(self.passport.decides))


@dataclass(frozen=True)
class Ensemble:
    """At least two models, in the order of their names, so that it does not matter in which order they were named.

    Attributes:
        members: Their names rise.
        slopes: Species → for each member, what 1 of its cosine adds to the log odds; at least 0.
        pooled: The same over all species, for those that are not named.
        splits: The splits on whose test sides they were fitted.
        together: Whether on all models at once, rather than on each by itself.

    Raises:
        InputError: fewer than two models, or one of them twice.
    """

    members: tuple[Member, ...]
    slopes: Mapping[str, tuple[float, ...]]
    pooled: tuple[float, ...]
    splits: tuple[str, ...]
    together: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no ensemble."""
        require_members(self.members)

    @property
    def name(self) -> str:
        """The names of all, such as ``coat+face``."""
        return JOIN.join(one.name for one in self.members)

    @property
    def dim(self) -> int:
        """Of the joint vectors."""
        return sum(int(one.passport.decides["dim"]) for one in self.members)

    @property
    def passport(self) -> Passport:
        """What decides the joint vectors: those of the members, and their shares."""
        weights = {species: list(self.shares(species)) for species in sorted(self.slopes)}
        return Passport(
            "embeddings",
            {
                "members": [one.key for one in self.members],
                "weights": {**weights, OTHER_SPECIES: list(_shares(self.pooled))},
                "dim": self.dim,
                "ensemble_version": ENSEMBLE_VERSION,
            },
            {"models": [one.name for one in self.members], "splits": list(self.splits)},
        )

    def shares(self, species: str) -> tuple[float, ...]:
        """How much each member counts in a species, adding up to 1."""
        return _shares(self.slopes.get(species, self.pooled))

    def told(self, species: Iterable[str]) -> str:
        """The shares in words."""
        shares = (
            f"{name}: "
            + ", ".join(f"{share:.0%} {one.name}" for share, one in zip(self.shares(name), self.members, strict=True))
            for name in species
        )
        how = "together" if self.together else "each by itself"
        splits = " and ".join(self.splits)
        return f"how much each model counts, as calibrated {how} on split {splits}: {'; '.join(shares)}"

    def join(self, sets: Sequence[EmbeddingSet], species_of: Mapping[str, str]) -> EmbeddingSet:
        """One set of vectors, of the annotations of which every member has one; the others are told in the log.

        Args:
            sets: One a member, in the order of the members.
            species_of: annotation_id → species.

        Returns:
            Unit vectors, (n, dim) float16. Their cosines hold inside one species.

        Raises:
            InputError: a vector without a direction.
        """
        rows = [one.row_of() for one in sets]
        ids = [name for name in rows[0] if all(name in row_of for row_of in rows)]
        lost = sorted({name for row_of in rows for name in row_of}.difference(ids))
        if lost:
            shown = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
            logger.warning("%d annotations have a vector by some of the models only: left out: %s", len(lost), shown)
        shares = {species: self.shares(species) for species in {species_of[name] for name in ids}}
        roots = np.sqrt([shares[species_of[name]] for name in ids], dtype=np.float32).reshape(len(ids), len(sets))
        joint = np.empty((len(ids), self.dim), np.float16)
        keys = []
        for place, (one, row_of) in enumerate(zip(sets, rows, strict=True)):
            chosen = [row_of[name] for name in ids]
            keys.append([one.chip_keys[row] for row in chosen])
            self._fill(joint, place, one.vectors, chosen, roots[:, place])
        return EmbeddingSet(self.name, tuple(ids), tuple(JOIN.join(key) for key in zip(*keys, strict=True)), joint)

    def embed(
        self, networks: Sequence[EmbedsChips], sizes: Sequence[int], cut: Cut, species: str
    ) -> NDArray[np.float16]:
        """Joint vectors of chips that each member gets at its own size.

        Args:
            networks: One a member, in the order of the members.
            sizes: Side of each one's chips in pixels.
            cut: Gives the chips; each size is asked for once.
            species: Whose shares count.

        Returns:
            (n, dim) float16 unit vectors, such as :meth:`join` gives.
        """
        chips = {size: cut(size) for size in dict.fromkeys(sizes)}
        vectors = [network.embed_chips(chips[size]) for network, size in zip(networks, sizes, strict=True)]
        joint = np.empty((len(vectors[0]), self.dim), np.float16)
        every = list(range(len(joint)))
        for place, (one, share) in enumerate(zip(vectors, self.shares(species), strict=True)):
            self._fill(joint, place, one, every, np.full(len(joint), np.sqrt(share), np.float32))
        return joint

    def _fill(
        self,
        joint: NDArray[np.float16],
        place: int,
        vectors: NDArray[np.float16],
        rows: Sequence[int],
        roots: NDArray[np.float32],
    ) -> None:
        """Write one member's part of the joint vectors."""
        before = sum(int(one.passport.decides["dim"]) for one in self.members[:place])
        part = joint[:, before : before + vectors.shape[1]]
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            here = slice(start, start + _ROWS_AT_ONCE)
            unit = unit_rows(np.asarray(vectors[rows[here]]), f"the vectors of model {self.members[place].name}")
            part[here] = unit * roots[here, None]


def require_members(members: Sequence[Member]) -> None:
    """Refuse models that cannot answer as one.

    Raises:
        InputError: fewer than two, or one of them twice.
    """
    if len(members) < 2:
        raise InputError(f"an ensemble of {len(members)} model(s): name at least 2")
    seen: dict[str, str] = {}
    for one in members:
        if one.key in seen:
            raise InputError(f"models {seen[one.key]} and {one.name} are the same model; name each model once")
        seen[one.key] = one.name


def _shares(slopes: Sequence[float]) -> tuple[float, ...]:
    """Slopes over their sum; equal ones where all are 0."""
    total = sum(slopes)
    return tuple(round(slope / total if total > 0 else 1 / len(slopes), SHARE_DIGITS) for slope in slopes)
