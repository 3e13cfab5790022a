"""Two models side by side on the same queries: per species, how much better or worse the new one is, and how sure.

Every figure is paired: it is made of each query's difference between the models, so what makes a query hard for both
drops out. Whole identities are resampled, as everywhere (``metrics.bootstrap_interval``), and both models' figures
over the same resamples.

A species is *worse* (or *better*) when the 95 % interval of its difference in top-1 lies wholly below (or above) 0 and
at least ``LEAST_CHANGED`` identities changed. Fewer cannot be told from chance: five that all change for the worse do
so by chance in 1 of 16 cases, up or down, and a bootstrap of so few gives intervals that are too narrow.

Of 60 species, none of which has changed, one or two are called worse by chance all the same. ``p_holm`` is corrected
for the number of species: a species that is worse and below ``CHANCE`` there is worse *beyond chance*. And that a
species is not clearly worse does not mean that it is as good: the lower end of its interval tells how much worse it may
be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resight.errors import InputError
from resight.metrics import (
    Bools,
    Doubles,
    average_precision,
    bootstrap_means,
    excluded,
    holm,
    percentile_interval,
    rounded,
    sign_flip_p,
    top_k,
)
from resight.ranking import Ints, Ranking

LEAST_CHANGED = 6
CHANCE = 0.05
_FIGURES = ("difference", "map_difference")  # columns of the resampled means
_P_VALUES = ("p_value", "p_holm")
Verdict = Literal["worse", "better", "no clear difference", "not compared"]


@dataclass(frozen=True)
class PairedScores:
    """What two models made of the same queries of one species; queries without a possible match are not among them.

    Attributes:
        species: Its name.
        identities: (n,) int64 codes of the queries' identities.
        hit_old: (n,) bool, whether the old model put a match at rank 1; ``hit_new`` likewise.
        precision_old: (n,) float64 average precision, 0 to 1; ``precision_new`` likewise.
        without_both_vectors: Annotations left out since only one of the models has a vector of them, or neither.
        trained_on: Queries left out since one of the models was trained on their encounter.
    """

    species: str
    identities: Ints
    hit_old: Bools
    hit_new: Bools
    precision_old: Doubles
    precision_new: Doubles
    without_both_vectors: int = 0
    trained_on: int = 0


@dataclass(frozen=True)
class SpeciesComparison:
    """One species' figures in percent, differences as new less old; ``None`` where there is nothing to average.

    Attributes:
        species: Its name.
        queries: Queries that both models answered.
        individuals: Identities among them.
        individuals_changed: Identities that one of the models recognised more often than the other did.
        top1_old: Percent of queries with a match at rank 1; ``top1_new`` likewise, ``difference`` between them.
        difference_ci95: Paired 95 % interval of ``difference`` by bootstrap over identities; ``None`` for fewer than
            two identities.
        map_old: Mean average precision; ``map_new`` likewise, ``map_difference`` between them.
        map_difference_ci95: Likewise.
        only_old: Queries that only the old model got right; ``only_new`` likewise.
        p_value: Of the difference in top-1, two-sided, turning identities over at random; ``None`` without queries.
        p_holm: ``p_value`` corrected for the number of species compared.
        verdict: Of the difference in top-1, as the top of this file says; ``not compared`` without queries.
        without_both_vectors: Annotations left out since not both models have a vector of them.
        trained_on: Queries left out since one of the models was trained on their encounter.
    """

    species: str
    queries: int
    individuals: int
    individuals_changed: int
    top1_old: float | None
    top1_new: float | None
    difference: float | None
    difference_ci95: tuple[float, float] | None
    map_old: float | None
    map_new: float | None
    map_difference: float | None
    map_difference_ci95: tuple[float, float] | None
    only_old: int
    only_new: int
    p_value: float | None
    p_holm: float | None
    verdict: Verdict
    without_both_vectors: int
    trained_on: int


@dataclass(frozen=True)
class MacroComparison:
    """Means over the species compared, each counting once.

    The intervals resample identities inside each species: they tell how sure the means of these species are, not what
    other species would give. A species of one identity moves nothing.
    """

    species: int
    top1_old: float | None
    top1_new: float | None
    difference: float | None
    difference_ci95: tuple[float, float] | None
    map_old: float | None
    map_new: float | None
    map_difference: float | None
    map_difference_ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """A model against an older one.

    Attributes:
        model: The older model's name.
        comparable: Whether the older model was trained as the split says, as far as is known.
        species: One a species.
        macro: The mean over species.
    """

    model: str
    comparable: bool
    species: tuple[SpeciesComparison, ...]
    macro: MacroComparison

    @property
    def worse(self) -> tuple[SpeciesComparison, ...]:
        """Species that got worse, the worst first."""
        return tuple(one for one in self.worst_first() if one.verdict == "worse")

    @property
    def worse_beyond_chance(self) -> tuple[SpeciesComparison, ...]:
        """Those of ``worse`` that are below ``CHANCE`` when corrected for the number of species."""
        return tuple(one for one in self.worse if one.p_holm is not None and one.p_holm < CHANCE)

    @property
    def not_compared(self) -> tuple[SpeciesComparison, ...]:
        """Species of which no query was left: nothing is said of them."""
        return tuple(one for one in self.species if one.verdict == "not compared")

    def worst_first(self) -> list[SpeciesComparison]:
        """Species by rising difference, those that were not compared at the end."""
        return sorted(self.species, key=lambda one: (one.difference is None, one.difference or 0.0, one.species))

    def as_json(self) -> dict[str, Any]:
        """The ``against`` of the document of ``evaluate``: figures rounded to two decimals, p-values to four."""
        rows = []
        for one in self.species:
            p_values = {name: None if (p := getattr(one, name)) is None else round(p, 4) for name in _P_VALUES}
            rows.append({**rounded(asdict(one)), **p_values})
        return {
            "model": self.model,
            "comparable": self.comparable,
            "species": rows,
            "macro": rounded(asdict(self.macro)),
            "worse": [one.species for one in self.worse],
            "worse_beyond_chance": [one.species for one in self.worse_beyond_chance],
            "not_compared": [one.species for one in self.not_compared],
        }


def pair(
    species: str,
    old: Ranking,
    new: Ranking,
    identities: Ints,
    *,
    trained_on: Bools | None = None,
    without_both_vectors: int = 0,
) -> PairedScores:
    """Reduce two rankings of the same queries in the same gallery to what a comparison needs.

    Args:
        species: Its name.
        old: The old model's.
        new: The new model's.
        identities: (n_query,) int64 codes.
        trained_on: (n_query,) queries to leave out, since a model was trained on their encounter.
        without_both_vectors: Carried into the result.

    Raises:
        InputError: the rankings are not of the same queries.
    """
    if not len(old.n_possible) == len(new.n_possible) == len(identities) or (old.n_possible != new.n_possible).any():
        raise InputError(f"the rankings of {species} are not of the same queries; rank both models on the same ones")
    possible = ~excluded(new)
    left_out = possible & (np.zeros_like(possible) if trained_on is None else trained_on)
    used = possible & ~left_out
    return PairedScores(
        species,
        identities[used],
        top_k(old, 1)[used],
        top_k(new, 1)[used],
        average_precision(old)[used],
        average_precision(new)[used],
        without_both_vectors,
        int(left_out.sum()),
    )


def compare(model: str, scores: Iterable[PairedScores], *, comparable: bool = True, draws: int = 2000) -> Comparison:
    """Compare two models, species by species.

    Neither the order of the queries nor that of the species matters; exchanging the models turns every sign.

    Args:
        model: The old model's name.
        scores: One a species, by name.
        comparable: Carried into the result.
        draws: Resamples of the bootstrap.

    Raises:
        InputError: no species has any query: nothing can be said.
    """
    species: list[SpeciesComparison] = []
    total: Doubles = np.zeros((draws, len(_FIGURES)))
    for one in scores:
        figures, means = _compare_species(one, draws)
        species.append(figures)
        total = total if means is None else total + means
    compared = [one for one in species if one.queries]
    if not compared:
        trained = sum(one.trained_on for one in species)
        raise InputError(
            f"no query is left on which model {model!r} can be compared: {trained} were trained on, and "
            f"{sum(one.without_both_vectors for one in species)} annotations lack a vector; choose another split"
        )
    corrected = iter(holm([one.p_value for one in compared if one.p_value is not None]))
    species = [replace(one, p_holm=next(corrected)) if one.queries else one for one in species]
    return Comparison(model, comparable, tuple(species), _macro(compared, total / len(compared)))


def _compare_species(scores: PairedScores, draws: int) -> tuple[SpeciesComparison, Doubles | None]:
    """One species' figures, and the (draws, 2) resampled means of its differences in percent."""
    n = len(scores.identities)
    only_old, only_new = scores.hit_old & ~scores.hit_new, scores.hit_new & ~scores.hit_old
    differences = np.stack(
        [100.0 * only_new - 100.0 * only_old, 100.0 * (scores.precision_new - scores.precision_old)], axis=1
    )  # (n, 2) float64, percent
    means, p_value = None, None
    individuals = changed = 0
    if n:
        # A generator of its own for each species, so that its figures do not depend on which others there are.
        seed = [0, *scores.species.encode()]
        means = bootstrap_means(differences, scores.identities, draws=draws, seed=seed)
        p_value = sign_flip_p(differences[:, 0], scores.identities, seed=seed)
        codes = np.unique(scores.identities, return_inverse=True)[1]
        of_identity = np.bincount(codes, weights=differences[:, 0])
        individuals, changed = len(of_identity), int((of_identity != 0).sum())
    intervals = [_interval(means, figure, individuals) for figure in range(len(_FIGURES))]
    figures = SpeciesComparison(
        species=scores.species,
        queries=n,
        individuals=individuals,
        individuals_changed=changed,
        top1_old=_percent(scores.hit_old),
        top1_new=_percent(scores.hit_new),
        difference=float(differences[:, 0].mean()) if n else None,
        difference_ci95=intervals[0],
        map_old=_percent(scores.precision_old),
        map_new=_percent(scores.precision_new),
        map_difference=float(differences[:, 1].mean()) if n else None,
        map_difference_ci95=intervals[1],
        only_old=int(only_old.sum()),
        only_new=int(only_new.sum()),
        p_value=p_value,
        p_holm=None,
        verdict=_verdict(n, intervals[0], changed),
        without_both_vectors=scores.without_both_vectors,
        trained_on=scores.trained_on,
    )
    return figures, means


def _verdict(queries: int, interval: tuple[float, float] | None, changed: int) -> Verdict:
    if not queries:
        return "not compared"
    if interval is None or changed < LEAST_CHANGED:
        return "no clear difference"
    if interval[1] < 0:
        return "worse"
    return "better" if interval[0] > 0 else "no clear difference"


def _macro(compared: Sequence[SpeciesComparison], means: Doubles) -> MacroComparison:
    """``compared`` have queries; ``means`` are their mean resampled differences."""
    most = max(one.individuals for one in compared)
    average = {
        name: float(np.mean([getattr(one, name) for one in compared]))
        for name in ("top1_old", "top1_new", "difference", "map_old", "map_new", "map_difference")
    }
    return MacroComparison(
        species=len(compared),
        difference_ci95=_interval(means, 0, most),
        map_difference_ci95=_interval(means, 1, most),
        **average,
    )


def _interval(means: Doubles | None, figure: int, individuals: int) -> tuple[float, float] | None:
    return None if means is None or individuals < 2 else percentile_interval(means[:, figure])


def _percent(values: NDArray[Any]) -> float | None:
    return float(values.mean() * 100.0) if len(values) else None
