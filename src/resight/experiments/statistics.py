"""Figures over seeds and species with intervals, and differences that are called a gain only where they are sure.

Of one species there are scores of several seeds, and each seed has a split of its own: the identities tested and their
queries differ, though many identities are tested under several seeds. The figure of a seed is the mean over its
queries, the figure of the species the mean over seeds, and the macro figure the mean over species.

The interval draws identities and seeds, crossed: the pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics
1(2), 386–411; with product weights Owen & Eckles 2012, ibid. 6(3), 895–927). Identity i, by its name, is drawn v_i
times across all seeds, seed s is drawn w_s times, and the query's weight is the product:

    D*_s = Σ_i v_i · sum_si / Σ_i v_i · n_si,        D* = Σ_s w_s · D*_s / Σ_s w_s,

with n_si queries of identity i under seed s, and sum_si the sum of their figures. Seeds in which no identity drawn was
tested do not count. The ends are the 2.5 and 97.5 % quantiles of D*. One seed alone cannot be drawn: then only
identities are, as in ``resight.comparison``, and nothing is said about what another seed would give (``resampled``).

A difference is paired: of each query that both models answered, new less old. It is a ``gain`` (``loss``) when its
interval lies wholly above (below) 0 and at least ``LEAST_CHANGED`` identities changed, as in ``resight.comparison``.

Where a query's noise outweighs what is common to all queries of a seed, the interval is wider than need be (mildly
conservative, Owen & Eckles). Where seeds scatter much more than identities explain, three of them make it too narrow,
whatever is resampled: read ``per_seed`` beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resight.comparison import LEAST_CHANGED
from resight.errors import InputError
from resight.experiments.scores import Scores
from resight.metrics import Doubles, percentile_interval

Seeds = Sequence[Scores | None]
"""Scores of one species, one a seed; ``None`` under a seed whose split does not test the species."""

Verdict = Literal["gain", "loss", "no clear difference", "not compared"]
Resampled = Literal["identities and seeds", "identities"]
DRAWS = 2000
_Values = tuple[NDArray[np.str_], Doubles]  # (n,) names of the queries' identities, and their figures


@dataclass(frozen=True)
class Estimate:
    """One figure over seeds, and over species where it is a macro figure, in percent.

    Attributes:
        figure: Which: one of ``scores.PER_QUERY``.
        mean: Over seeds (and species); ``None`` without queries.
        ci95: Its 95 % interval; ``None`` where no species has two identities.
        per_seed: The figure of each seed; ``None`` under a seed without queries.
        queries: Queries of all seeds together.
        identities: Different identities among them, species by species.
        resampled: What the interval accounts for; ``identities`` where one seed only has queries.
    """

    figure: str
    mean: float | None
    ci95: tuple[float, float] | None
    per_seed: tuple[float | None, ...]
    queries: int
    identities: int
    resampled: Resampled


@dataclass(frozen=True)
class Difference(Estimate):
    """A figure of one model less that of another, in points of percent, on the same queries.

    Attributes:
        identities_changed: Identities whose figures, summed over their queries of all seeds, differ between the models.
        verdict: As the top of this file says; ``not compared`` without queries.
    """

    identities_changed: int
    verdict: Verdict


@dataclass(frozen=True)
class _Cells:
    """One species: (n_seed, n_identity) sums of its queries' figures, and how many queries they are."""

    species: str
    sums: Doubles
    counts: Doubles


def estimate(scores: Seeds, figure: str = "top1", *, draws: int = DRAWS) -> Estimate:
    """The mean of one species over seeds.

    Args:
        scores: One a seed.
        figure: One of ``scores.PER_QUERY``.
        draws: Resamples of the bootstrap.

    Raises:
        InputError: no seed, an unknown figure, or scores of several species.
    """
    return macro_estimate({_species_of([scores]): scores}, figure, draws=draws)


def macro_estimate(scores: Mapping[str, Seeds], figure: str = "top1", *, draws: int = DRAWS) -> Estimate:
    """The mean over species, each counting once.

    The same seeds are drawn for all species, since one joint model, or one split, stands behind a seed of all of them;
    identities are drawn within each species.

    Args:
        scores: Species → one a seed, in the same order of seeds.
        figure: One of ``scores.PER_QUERY``.
        draws: Resamples of the bootstrap.

    Raises:
        InputError: no species or seed, an unknown figure, or unequal numbers of seeds.
    """
    cells = [_cells(species, [_values(one, figure) for one in seeds]) for species, seeds in scores.items()]
    return _estimate(cells, figure, draws)


def difference(new: Seeds, old: Seeds, figure: str = "top1", *, draws: int = DRAWS) -> Difference:
    """How much better one model is than another on one species, paired by query.

    Args:
        new: One a seed.
        old: The other model's, of the same seeds in the same order: the same splits, so the same queries.
        figure: One of ``scores.PER_QUERY``.
        draws: Resamples of the bootstrap.

    Raises:
        InputError: no seed, an unknown figure, scores of several species, or queries that are not the same.
    """
    species = _species_of([new, old])
    return macro_difference({species: new}, {species: old}, figure, draws=draws)


def macro_difference(
    new: Mapping[str, Seeds], old: Mapping[str, Seeds], figure: str = "top1", *, draws: int = DRAWS
) -> Difference:
    """The mean difference over species, each counting once; see ``macro_estimate`` for what is resampled.

    Args:
        new: Species → one a seed, in the same order of seeds.
        old: The other model's, of the same species.
        figure: One of ``scores.PER_QUERY``.
        draws: Resamples of the bootstrap.

    Raises:
        InputError: as ``difference``, or the models were not scored on the same species.
    """
    if set(new) != set(old):
        unlike = ", ".join(sorted(set(new) ^ set(old)))
        raise InputError(f"the two models were not scored on the same species ({unlike}); score both on the same ones")
    cells = []
    for species in new:
        if len(new[species]) != len(old[species]):
            raise InputError(
                f"{species} has {len(new[species])} seeds of the new model and {len(old[species])} of the old; "
                "give both of every seed"
            )
        pairs = zip(new[species], old[species], strict=True)
        cells.append(_cells(species, [_paired(species, one, other, figure) for one, other in pairs]))
    found = _estimate(cells, figure, draws)
    changed = sum(int((np.abs(one.sums.sum(axis=0)) > 1e-9).sum()) for one in cells)
    return Difference(**vars(found), identities_changed=changed, verdict=_verdict(found, changed))


def _species_of(sides: Iterable[Seeds]) -> str:
    names = {one.species for scores in sides for one in scores if one is not None}
    if len(names) > 1:
        raise InputError(f"scores of several species ({', '.join(sorted(names))}) have no mean here; take one species")
    return names.pop() if names else ""


def _values(scores: Scores | None, figure: str) -> _Values | None:
    return None if scores is None else (scores.identities, scores.values(figure))


def _paired(species: str, new: Scores | None, old: Scores | None, figure: str) -> _Values | None:
    if new is None and old is None:
        return None
    if new is None or old is None or new.annotation_ids != old.annotation_ids:
        raise InputError(
            f"the two models were not scored on the same queries of {species} under every seed; score both on the same "
            "splits"
        )
    return new.identities, new.values(figure) - old.values(figure)


def _cells(species: str, seeds: Iterable[_Values | None]) -> _Cells:
    every = list(seeds)
    tested = [one[0] for one in every if one is not None]
    names = np.unique(np.concatenate([np.empty(0, np.str_), *tested]))
    sums, counts = np.zeros((2, len(every), len(names)))
    for seed, one in enumerate(every):
        if one is not None:
            at = np.searchsorted(names, one[0])
            sums[seed] = np.bincount(at, weights=one[1], minlength=len(names))
            counts[seed] = np.bincount(at, minlength=len(names))
    return _Cells(species, sums, counts)


def _estimate(cells: Sequence[_Cells], figure: str, draws: int) -> Estimate:
    numbers = {len(one.counts) for one in cells}
    if len(numbers) != 1 or numbers == {0}:
        raise InputError(
            f"every species needs scores of the same seeds, at least one, got {sorted(numbers)} seeds; put None where "
            "a species was not tested"
        )
    if draws < 1:
        raise InputError(f"a bootstrap needs at least 1 draw, got {draws}")
    (n_seed,) = numbers
    by_seed = np.stack([_means(one.sums.sum(axis=1), one.counts.sum(axis=1)) for one in cells])  # (n_species, n_seed)
    of_species = _mean_of_known(by_seed, axis=1)
    mean = float(_mean_of_known(of_species, axis=0))
    interval = None
    if any((one.counts.sum(axis=0) > 0).sum() > 1 for one in cells):
        weights = _drawn_seeds(n_seed, draws)
        drawn = np.stack([_drawn_means(one, weights) for one in cells])  # (n_species, draws)
        means = _mean_of_known(drawn, axis=0)
        interval = percentile_interval(means[~np.isnan(means)])
    return Estimate(
        figure=figure,
        mean=_or_none(mean),
        ci95=interval,
        per_seed=tuple(_or_none(value) for value in _mean_of_known(by_seed, axis=0)),
        queries=int(sum(one.counts.sum() for one in cells)),
        identities=sum(int((one.counts.sum(axis=0) > 0).sum()) for one in cells),
        resampled="identities and seeds" if (~np.isnan(by_seed)).any(axis=0).sum() > 1 else "identities",
    )


def _drawn_seeds(n_seed: int, draws: int) -> Doubles:
    """(draws, n_seed) how often each seed is drawn; the same for all species and all comparisons of as many seeds."""
    rng = np.random.default_rng([1, n_seed])
    weights: Doubles = rng.multinomial(n_seed, np.full(n_seed, 1 / n_seed), size=draws).astype(np.float64)
    return weights


def _drawn_means(cells: _Cells, seed_weights: Doubles) -> Doubles:
    """(draws,) figure of one species over identities drawn with replacement and seeds as drawn; NaN where none is left.

    The generator is the species' own, so that its figures do not depend on which others there are, and its draws do not
    look at the values, so that exchanging the models turns the sign and nothing else.
    """
    rng = np.random.default_rng([0, *cells.species.encode()])
    draws, n_identity = len(seed_weights), cells.counts.shape[1]
    if not n_identity:
        return np.full(draws, np.nan)
    chunk = max(1, 1_000_000 // n_identity)
    found = []
    for start in range(0, draws, chunk):
        drawn = rng.integers(n_identity, size=(min(chunk, draws - start), n_identity))
        drawn += np.arange(len(drawn))[:, None] * n_identity
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        of_seed = _means(times @ cells.sums.T, times @ cells.counts.T)  # (chunk, n_seed)
        known = ~np.isnan(of_seed)
        weights = seed_weights[start : start + chunk] * known
        found.append(_means((np.where(known, of_seed, 0.0) * weights).sum(axis=1), weights.sum(axis=1)))
    return np.concatenate(found)


def _means(sums: Doubles, counts: Doubles) -> Doubles:
    """Sums by counts, NaN where there is nothing to average."""
    means: Doubles = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _mean_of_known(values: Doubles, axis: int) -> Doubles:
    """Mean of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    return _means(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis).astype(np.float64))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _verdict(found: Estimate, changed: int) -> Verdict:
    if found.mean is None:
        return "not compared"
    if found.ci95 is None or changed < LEAST_CHANGED:
        return "no clear difference"
    if found.ci95[0] > 0:
        return "gain"
    return "loss" if found.ci95[1] < 0 else "no clear difference"
