"""How good a ranking is: pure functions of a ``Ranking``, and the summary that a report prints.

Accuracy is averaged over the queries of one species; the macro figure averages species, each counting once. A query
without any possible match is left out and counted. Every percentage runs from 0 to 100 and is ``None``, never NaN,
where there is nothing to average.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import InputError
from resight.ranking import Ints, Ranking

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """The figures of one species.

    Attributes:
        queries: Queries with at least one possible match; all figures but one are averages over these.
        individuals: Identities among those queries.
        excluded: Queries left out because no match was possible.
        unknown: Queries left out because their own identity is not known.
        top1: Percent of queries with a match at rank 1; ``top5``, ``top10``, ``top20`` among the first 5, 10, 20.
        map: Mean average precision over the whole gallery, in percent.
        top1_excluded_as_misses: ``top1`` when the ``excluded`` queries count as misses.
        top1_ci95: 95 % interval of ``top1`` by bootstrap over identities; ``None`` for fewer than two identities.
        top1_seen: ``top1`` of queries whose identity is in training; ``None`` where there are none or it is not known.
        top1_unseen: ``top1`` of the other queries, likewise.
        queries_seen: How many queries ``top1_seen`` averages; ``None`` where it is not known.
        queries_unseen: Likewise.
    """

    queries: int
    individuals: int
    excluded: int
    unknown: int
    top1: float | None
    top5: float | None
    top10: float | None
    top20: float | None
    map: float | None
    top1_excluded_as_misses: float | None
    top1_ci95: tuple[float, float] | None
    top1_seen: float | None
    top1_unseen: float | None
    queries_seen: int | None
    queries_unseen: int | None


@dataclass(frozen=True)
class Macro:
    """Means over species, each counting once; a species without a figure is left out of that figure's mean.

    Attributes:
        species: How many species have any query.
        without_queries: How many have none.
    """

    species: int
    without_queries: int
    top1: float | None
    top5: float | None
    top10: float | None
    top20: float | None
    map: float | None
    top1_excluded_as_misses: float | None
    top1_seen: float | None
    top1_unseen: float | None


_AVERAGED = tuple(field.name for field in fields(Macro) if field.name not in ("species", "without_queries"))


def top_k(ranking: Ranking, k: int) -> Bools:
    """(n_query,) whether a match stands among the first ``k``; False where no match was possible.

    Raises:
        InputError: ``k`` below 1.
    """
    if k < 1:
        raise InputError(f"top-k needs k of at least 1, got {k}")
    first = ranking.first_match_rank
    hits: Bools = (first >= 1) & (first <= k)
    return hits


def average_precision(ranking: Ranking) -> Doubles:
    """(n_query,) mean, over a query's possible matches, of the precision at each one's rank; 0 where there is none.

    AP = (1/m) Σ_j j / rank_j over all m possible matches of the gallery, rank_1 < … < rank_m (Manning, Raghavan,
    Schütze 2008, eq. 8.8, whose inner term this is).
    """
    possible = ranking.n_possible
    of_query = np.repeat(np.arange(len(possible)), possible)
    place = np.arange(len(of_query)) - np.repeat(ranking.match_offsets[:-1], possible) + 1
    total = np.bincount(of_query, weights=place / ranking.match_ranks, minlength=len(possible))
    return np.divide(total, possible, out=np.zeros(len(possible)), where=possible > 0)


def excluded(ranking: Ranking) -> Bools:
    """(n_query,) queries without any possible match: to be left out of the averages, and counted."""
    alone: Bools = ranking.n_possible == 0
    return alone


def bootstrap_interval(
    values: NDArray[Any], identities: Ints, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of the mean of ``values``, drawing identities with replacement.

    All queries of an identity move together, because they are not independent of each other (the cluster bootstrap,
    Davison & Hinkley 1997, §3.8).

    Args:
        values: (n,) figure of each query.
        identities: (n,) int64 code of each query's identity.
        draws: How many resamples.
        seed: Of the random generator; the same seed gives the same interval.

    Returns:
        Lower and upper end, or ``None`` for fewer than two identities.
    """
    if draws < 1:
        raise InputError(f"a bootstrap needs at least 1 draw, got {draws}")
    sums, counts = _identity_totals(values[:, None], identities)
    if len(counts) < 2:
        return None
    # Sorting makes the interval independent of the order of the queries and of how identities are coded.
    order = np.lexsort((counts, sums[:, 0]))
    return percentile_interval(_drawn_means(sums[order], counts[order], draws, np.random.default_rng(seed))[:, 0])


def bootstrap_means(values: Doubles, identities: Ints, *, draws: int = 2000, seed: int | Sequence[int] = 0) -> Doubles:
    """(draws, n_figure) means of several figures over the same resamples of identities; see ``bootstrap_interval``.

    Resamples are drawn in the order of the identities' codes and do not look at the values: figures given together
    move together, and figures of the opposite sign give the opposite means.

    Args:
        values: (n, n_figure) figures of each query, n at least 1.
        identities: (n,) int64 code of each query's identity.
        draws: How many resamples.
        seed: Of the random generator. Sets that are averaged afterwards need different seeds, since sets of equally
            many identities would otherwise be resampled alike.
    """
    if draws < 1:
        raise InputError(f"a bootstrap needs at least 1 draw, got {draws}")
    sums, counts = _identity_totals(values, identities)
    return _drawn_means(sums, counts, draws, np.random.default_rng(seed))


def percentile_interval(draws: Doubles) -> tuple[float, float]:
    """The 2.5 and 97.5 % quantiles of bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def sign_flip_p(differences: Doubles, identities: Ints, *, draws: int = 9999, seed: int | Sequence[int] = 0) -> float:
    """Two-sided p-value of "the differences are as likely up as down", turning whole identities over at random.

    If two models are equally good on a species, exchanging their answers for all queries of an identity changes
    nothing but the sign of its sum (Fisher's paired randomisation test, as Smucker, Allan & Carterette 2007 use it for
    retrieval). Valid for any number of identities, whereas a bootstrap interval of few is too narrow. The least
    p-value is 1 / (draws + 1).

    Args:
        differences: (n,) of each query, new less old.
        identities: (n,) int64 code of each query's identity.
        draws: How many random turns.
        seed: Of the random generator.
    """
    if draws < 1:
        raise InputError(f"a randomisation test needs at least 1 draw, got {draws}")
    sums = _identity_totals(differences[:, None], identities)[0][:, 0]
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    # Of sums that add up to the same but for the rounding, none counts as smaller.
    observed = abs(float(sums.sum())) - 1e-9 * float(np.abs(sums).sum())
    rng = np.random.default_rng(seed)
    chunk = max(1, 1_000_000 // len(sums))
    as_large = 0
    for start in range(0, draws, chunk):
        turned = rng.integers(2, size=(min(chunk, draws - start), len(sums)))
        as_large += int((np.abs(2 * (turned @ sums) - sums.sum()) >= observed).sum())
    return (1 + as_large) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are, in the order given (Holm 1979): below 0.05 in at most 5 % of such
    families is any of them by chance alone.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _identity_totals(values: Doubles, identities: Ints) -> tuple[Doubles, Ints]:
    """(n_identity, n_figure) sums and (n_identity,) counts, by rising code."""
    codes = np.unique(identities, return_inverse=True)[1]
    sums: Doubles = np.stack(
        [np.bincount(codes, weights=values[:, figure]) for figure in range(values.shape[1])], axis=1
    )
    return sums, np.bincount(codes)


def _drawn_means(sums: Doubles, counts: Ints, draws: int, rng: np.random.Generator) -> Doubles:
    """(draws, n_figure) means over identities drawn with replacement, from their sums and counts of queries."""
    n_identity = len(counts)
    totals = np.concatenate([sums, counts[:, None]], axis=1)  # (n_identity, n_figure + 1) float64
    chunk = max(1, 1_000_000 // n_identity)  # keeps the drawn totals of one figure below 16 MB
    means = []
    for start in range(0, draws, chunk):
        drawn = rng.integers(n_identity, size=(min(chunk, draws - start), n_identity))
        resampled = totals[drawn].sum(axis=1)  # (chunk, n_figure + 1)
        means.append(resampled[:, :-1] / resampled[:, -1:])
    return np.concatenate(means)


def summarise(
    ranking: Ranking, labels: Ints, *, seen: Bools | None = None, draws: int = 2000, seed: int = 0
) -> Summary:
    """Average a ranking of one species over its queries.

    Args:
        ranking: Of n_query queries.
        labels: (n_query,) int64 codes of the queries' identities, −1 for unknown.
        seen: (n_query,) whether the query's identity is in training; ``None`` where that is not known.
        draws: Resamples of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        InputError: arrays that do not fit the ranking.
    """
    n_query = len(ranking.neighbours)
    if labels.shape != (n_query,):
        raise InputError(f"labels must be {n_query} codes, one a query, got shape {labels.shape}")
    if seen is not None and seen.shape != (n_query,):
        raise InputError(f"seen must be {n_query} booleans, one a query, got shape {seen.shape}")
    known = labels >= 0
    alone = excluded(ranking) & known
    used = known & ~alone
    hit = top_k(ranking, 1)
    interval = bootstrap_interval(hit[used] * 100.0, labels[used], draws=draws, seed=seed)
    return Summary(
        queries=int(used.sum()),
        individuals=len(np.unique(labels[used])),
        excluded=int(alone.sum()),
        unknown=int((~known).sum()),
        top1=_percent(hit[used]),
        top5=_percent(top_k(ranking, 5)[used]),
        top10=_percent(top_k(ranking, 10)[used]),
        top20=_percent(top_k(ranking, 20)[used]),
        map=_percent(average_precision(ranking)[used]),
        top1_excluded_as_misses=_percent(hit[known]),
        top1_ci95=interval,
        top1_seen=None if seen is None else _percent(hit[used & seen]),
        top1_unseen=None if seen is None else _percent(hit[used & ~seen]),
        queries_seen=None if seen is None else int((used & seen).sum()),
        queries_unseen=None if seen is None else int((used & ~seen).sum()),
    )


def macro_average(summaries: Iterable[Summary]) -> Macro:
    """Average species: each counts once, however many queries it has."""
    every = list(summaries)
    means: dict[str, float | None] = {}
    for name in _AVERAGED:
        figures = [value for summary in every if (value := getattr(summary, name)) is not None]
        means[name] = float(np.mean(figures)) if figures else None
    species = sum(summary.queries > 0 for summary in every)
    return Macro(species=species, without_queries=len(every) - species, **means)


def rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as reports print them: two decimals, and no negative zero."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 2) + 0.0
        if isinstance(value, tuple | list):
            return [short(item) for item in value]
        return value

    return {name: short(value) for name, value in figures.items()}


def _percent(values: NDArray[Any]) -> float | None:
    return float(values.mean() * 100.0) if len(values) else None
