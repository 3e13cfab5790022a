"""P(new animal): is the animal of a query none of those it was compared with?

The model. log odds of new = intercept − a · (log odds of the best name) − b · (its lead over the next name)
+ c · log(names compared) + log(π / (1 − π)), with a, b and c at least 0: the better the best name and the more it
stands out, the less likely is a new animal; and the more names there are, the better a stranger's best look-alike. π is
the share of new animals that is expected, which no set of labelled pairs can tell: the fit weighs new and known alike,
and the odds are then multiplied by π / (1 − π) (Saerens, Latinne & Decaestecker 2002, eq. 4).

The queries. Known and new animals are simulated: a random half of the identities is taken out of the gallery, so that
their queries are new and the others' known; several such draws are pooled (:func:`simulate_unknown`). The best names'
log odds must be those of fits without the query's identity (:func:`resight.calibration.fitting.cross_fit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.special import expit

from resight.calibration.evidence import Bools, Doubles, Ints
from resight.calibration.fusion import NotEnough
from resight.calibration.logistic import bootstrap_logistic, fit_logistic, resampled, softened
from resight.calibration.reliability import identity_folds
from resight.errors import InputError

COLUMNS = ("intercept", "log odds of the best name", "lead over the next name", "log names compared")
_SIGNS = np.array([1.0, -1.0, -1.0, 1.0])  # of the coefficients, which are fitted as numbers of at least 0
_SIGNED = np.array([False, True, True, True])


@dataclass(frozen=True)
class NewSettings:
    """How P(new) is fitted.

    Attributes:
        least_queries: Known queries a simulated draw, and new ones, below which there is no probability.
        least_individuals: Individuals that each of these must be of.
        species_sd: How far a species' coefficients are expected to lie from the pooled ones, in log odds per standard
            deviation of the evidence; the prior has the strength 1/sd².
        pooled_sd: How far the pooled ones from 0, likewise.
        draws: Resamples of the bootstrap; 0 gives no intervals.
        seed: Of the resamples.
    """

    least_queries: int = 20
    least_individuals: int = 10
    species_sd: float = 1.0
    pooled_sd: float = 3.0
    draws: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every setting."""
        for name in ("least_queries", "least_individuals"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: expected at least 1")
        for name in ("species_sd", "pooled_sd"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} {getattr(self, name)}: expected a number above 0")
        if self.draws < 0:
            raise InputError(f"draws {self.draws}: expected 0 (no intervals) or more")


@dataclass(frozen=True)
class OpenQueries:
    """Queries with what was found for each, known animals and new ones; one row a query and simulated draw.

    Attributes:
        best: (n,) float64, log odds of P(same) of the best name; −inf where no name was compared.
        gap: (n,) float64, its lead over the next name, in log odds (:func:`resight.calibration.evidence.best_names`).
        names: (n,) int64, how many names the query was compared with.
        is_new: (n,) bool, whether none of these is its own.
        right: (n,) bool, whether the best name is its own; never where it is new.
        identity: (n,) int64 code of its identity; no two species share a code.
        species: (n,) int64, its place in ``species_names``.
        draw: (n,) int64, which simulated draw the row is of.
        species_names: The species there are.

    Raises:
        InputError: arrays that do not fit together.
    """

    best: Doubles
    gap: Doubles
    names: Ints
    is_new: Bools
    right: Bools
    identity: Ints
    species: Ints
    draw: Ints
    species_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        n = len(self.best)
        for field in fields(self)[:-1]:
            shape = getattr(self, field.name).shape
            if shape != (n,):
                raise InputError(f"{field.name} must have one entry a query ({n}), got shape {shape}")
        if (self.right & self.is_new).any():
            raise InputError("a new animal has no right name: right must be False where is_new")
        if np.isnan(self.best).any() or np.isposinf(self.best).any() or not np.isfinite(self.gap).all():
            raise InputError("best and gap must be finite; best may be -inf where no name was compared")
        if (np.isneginf(self.best) != (self.names == 0)).any():
            raise InputError("best must be -inf where, and only where, no name was compared")
        if n and not (self.species.min() >= 0 and self.species.max() < len(self.species_names)):
            raise InputError(f"species must name one of {len(self.species_names)}, got {self.species.max()}")

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.best)

    def rows(self, chosen: Ints | Bools) -> OpenQueries:
        """Some of the queries."""
        return replace(self, **{field.name: getattr(self, field.name)[chosen] for field in fields(self)[:-1]})


@dataclass(frozen=True)
class NewFit:
    """The coefficients of one species.

    Attributes:
        known: Known queries it rests on, a simulated draw on average; ``new`` likewise.
        individuals: Identities of both.
        coefficients: (4,) of the standardised evidence, in the order of ``COLUMNS``.
        draws: (draws, 4) the same of each resample of the identities.
    """

    known: int
    new: int
    individuals: int
    coefficients: Doubles
    draws: Doubles


@dataclass(frozen=True)
class New:
    """P(new) of n queries.

    Attributes:
        p: (n,) float64.
        low: (n,) lower end of its 95 % interval, ``high`` the upper one; NaN without draws. The share of new animals
            is taken as given.
    """

    p: Doubles
    low: Doubles
    high: Doubles


@dataclass(frozen=True)
class OpenSet:
    """P(new) for every species with enough queries.

    Attributes:
        settings: How it was fitted.
        centre: (3,) what is taken off each kind of evidence; ``scale`` (3,) what it is divided by.
        species: The fits.
        counts: (known, new) queries of each species, a simulated draw on average, enough or not.
    """

    settings: NewSettings
    centre: Doubles
    scale: Doubles
    species: Mapping[str, NewFit]
    counts: Mapping[str, tuple[int, int]]

    def p_new(self, best: Doubles, gap: Doubles, names: Ints, species: str, *, share: float) -> New | NotEnough:
        """P(new) of queries of one species.

        Args:
            best: (n,) as ``OpenQueries.best``; a query that was compared with no name is new for certain.
            gap: (n,) likewise.
            names: (n,) likewise.
            species: Their species.
            share: The share of new animals among the queries that is expected, above 0 and below 1.

        Raises:
            InputError: a share outside that.
        """
        prior = _log_odds(share)
        fit = self.species.get(species)
        if fit is None:
            known, new = self.counts.get(species, (0, 0))
            return NotEnough(
                f"not enough queries of {species} to tell new animals: {known} of known animals and {new} that were "
                f"made new, at least {self.settings.least_queries} of {self.settings.least_individuals} individuals "
                "each are needed"
            )
        design = _design(best, gap, names, self.centre, self.scale)
        unseen = np.isneginf(best)
        p = np.where(unseen, 1.0, expit(design @ (fit.coefficients * _SIGNS) + prior))
        if not len(fit.draws):
            return New(p, np.full(len(p), np.nan), np.full(len(p), np.nan))
        low, high = expit(np.percentile(design @ (fit.draws * _SIGNS).T, [2.5, 97.5], axis=1) + prior)
        return New(p, np.where(unseen, 1.0, np.minimum(low, p)), np.where(unseen, 1.0, np.maximum(high, p)))


def simulate_unknown(identity: Ints, *, draws: int = 5, share: float = 0.5, seed: int = 0) -> Bools:
    """Choose identities to take out of the gallery.

    Args:
        identity: (n,) int64 codes of the identities, −1 for unknown.
        draws: How many times.
        share: Of the identities, rounded to a whole number, at least one in and one out.
        seed: Of the draws.

    Returns:
        (draws, n) bool: the annotations to take out of the gallery; as queries they are the new animals of that draw.
        Where the share is a half, every second draw is the first one's complement, so that each identity is new as
        often as known.

    Raises:
        InputError: fewer than two identities, or a share outside 0 to 1.
    """
    _log_odds(share)
    codes = np.unique(identity[identity >= 0])
    if len(codes) < 2:
        raise InputError(f"{len(codes)} identities: at least 2 are needed, to make one unknown and keep another")
    count = int(np.clip(round(share * len(codes)), 1, len(codes) - 1))
    rng = np.random.default_rng(seed)
    out = np.zeros((draws, len(identity)), dtype=np.bool_)
    for draw in range(draws):
        if share == 0.5 and draw % 2:
            out[draw] = ~out[draw - 1] & (identity >= 0)
        else:
            out[draw] = np.isin(identity, rng.permutation(codes)[:count])
    return out


def fit_open_set(queries: OpenQueries, settings: NewSettings | None = None) -> OpenSet:
    """Fit P(new): over all species, then each species drawn towards that.

    Args:
        queries: Simulated; a query that was compared with no name teaches nothing and is passed over.
        settings: How.
    """
    settings = settings or NewSettings()
    draws = max(1, len(np.unique(queries.draw)))
    counts = {
        name: (int((~queries.is_new[mine]).sum()) // draws, int(queries.is_new[mine].sum()) // draws)
        for place, name in enumerate(queries.species_names)
        if (mine := queries.species == place).any()
    }
    queries = queries.rows(queries.names > 0)
    evidence = _evidence(queries.best, queries.gap, queries.names)
    centre = evidence.mean(axis=0) if len(queries) else np.zeros(3)
    scale = evidence.std(axis=0) if len(queries) else np.ones(3)
    scale = np.where(scale > 1e-9, scale, 1.0)
    enough = {
        name: rows
        for place, name in enumerate(queries.species_names)
        if _is_enough(queries.rows(rows := np.flatnonzero(queries.species == place)), draws, settings)
    }
    fits: dict[str, NewFit] = {}
    if enough:
        used = np.sort(np.concatenate(list(enough.values())))
        design = _design(queries.best, queries.gap, queries.names, centre, scale) * _SIGNS
        weights = _balanced(queries, draws)
        targets = softened(queries.is_new, weights)
        _, first, clusters = np.unique(queries.identity, return_index=True, return_inverse=True)
        resamples = resampled(queries.species[first], settings.draws, settings.seed)

        def fit(rows: Ints, towards: Doubles, towards_draws: Doubles, sd: float) -> NewFit:
            strength = np.full(4, 1 / sd**2)
            chosen = (design[rows], targets[rows], weights[rows])
            coefficients = fit_logistic(*chosen, signed=_SIGNED, towards=towards, strength=strength)
            drawn = bootstrap_logistic(
                *chosen,
                coefficients,
                clusters=clusters[rows],
                counts=resamples,
                signed=_SIGNED,
                towards=towards_draws,
                strength=strength,
            )
            new = int(queries.is_new[rows].sum())
            return NewFit(
                (len(rows) - new) // draws, new // draws, len(np.unique(queries.identity[rows])), coefficients, drawn
            )

        pooled = fit(used, np.zeros(4), np.zeros((settings.draws, 4)), settings.pooled_sd)
        for name, rows in enough.items():
            alone = len(enough) == 1
            fits[name] = pooled if alone else fit(rows, pooled.coefficients, pooled.draws, settings.species_sd)
    return OpenSet(settings, centre, scale, fits, counts)


@dataclass(frozen=True)
class HeldOutNew:
    """What fits without a query's identity say of it.

    Attributes:
        p: (n,) P(new); NaN where the species has no probability.
        part: (n,) int64, which of the fits it is by. Scores of different fits do not share one scale, so figures are to
            be taken part by part and averaged (Forman & Scholz 2010).
    """

    p: Doubles
    part: Ints


def cross_fitted_new(
    queries: OpenQueries, settings: NewSettings | None = None, *, share: float = 0.5, folds: int = 5
) -> HeldOutNew:
    """P(new) of every query by fits without its identity.

    With the ``folds`` and the seed that the fusions were cross-fitted with, a part is one and the same fold of both, as
    long as all identities have queries.
    """
    settings = settings or NewSettings()
    fitted_on_all = fit_open_set(queries, replace(settings, draws=0))
    lenient = replace(settings, draws=0, least_queries=1, least_individuals=1)
    p, part = np.full(len(queries), np.nan), np.zeros(len(queries), dtype=np.int64)
    for fold, (fitted, held) in enumerate(identity_folds(queries.identity, folds, settings.seed)):
        part[held] = fold
        model = fit_open_set(queries.rows(fitted), lenient)
        for place in np.unique(queries.species[held]):
            name = queries.species_names[place]
            rows = held[queries.species[held] == place]
            found = model.p_new(queries.best[rows], queries.gap[rows], queries.names[rows], name, share=share)
            if name in fitted_on_all.species and isinstance(found, New):
                p[rows] = found.p
    return HeldOutNew(p, part)


def shift_share(p: Doubles, *, fitted: float, expected: float) -> Doubles:
    """P(new) for another share of new animals: the odds are multiplied by those of ``expected`` over ``fitted``."""
    if ((p < 0) | (p > 1)).any():
        raise InputError("a probability lies outside 0 to 1")
    factor = np.exp(_log_odds(expected) - _log_odds(fitted))
    shifted: Doubles = p * factor / (p * factor + (1 - p))
    return shifted


@dataclass(frozen=True)
class SuggestedShare:
    """The share of new animals to expect among the next encounters.

    Attributes:
        share: Above 0 and below 1.
        how: In words, with the counts.
    """

    share: float
    how: str


def suggested_share_of_new(encounters: Sequence[int], *, firsts_in_time: Sequence[bool] = ()) -> SuggestedShare:
    """What a catalogue suggests as the share of new animals.

    With at least 40 dated encounters: the share of first encounters among the last quarter of them, 20 at least. The
    near past tells best of the near future, and it knows of births and immigration. Without: the chance that the next
    encounter is of an animal never met, estimated by the share of encounters that are their animal's only one (Good
    1953, eq. 9; for a population that does not change). Both as (k + 1) / (n + 2), so that few encounters never promise
    certainty. A catalogue from which animals met once were left out suggests too little either way.

    Args:
        encounters: Of each named individual, how many; at least 1.
        firsts_in_time: Of each dated encounter, by rising time, whether it is its individual's first.

    Raises:
        InputError: an individual without encounters.
    """
    if any(count < 1 for count in encounters):
        raise InputError("an individual without any encounter: expected at least 1 each")
    if len(firsts_in_time) >= 40:
        last = list(firsts_in_time)[-max(20, len(firsts_in_time) // 4) :]
        k, n = sum(map(bool, last)), len(last)
        return SuggestedShare((k + 1) / (n + 2), f"{k} of the last {n} dated encounters were an animal's first")
    k, n = sum(count == 1 for count in encounters), sum(encounters)
    return SuggestedShare((k + 1) / (n + 2), f"{k} of {n} encounters are their animal's only one")


def _evidence(best: Doubles, gap: Doubles, names: Ints) -> Doubles:
    return np.stack([np.where(np.isneginf(best), 0.0, best), gap, np.log(np.maximum(names, 1))], axis=1)


def _design(best: Doubles, gap: Doubles, names: Ints, centre: Doubles, scale: Doubles) -> Doubles:
    """(n, 4) in the order of ``COLUMNS``."""
    standard = (_evidence(best, gap, names) - centre) / scale
    return np.concatenate([np.ones((len(best), 1)), standard], axis=1)


def _balanced(queries: OpenQueries, draws: int) -> Doubles:
    """(n,) weights under which new and known queries of each species weigh alike, and every draw of a query a part.

    They add up to the number of different queries, about: one query in several draws is no new evidence.
    """
    weights = np.zeros(len(queries))
    for place in np.unique(queries.species):
        mine = queries.species == place
        for is_new in (False, True):
            rows = mine & (queries.is_new == is_new)
            if rows.any():
                weights[rows] = mine.sum() / draws / 2 / rows.sum()
    return weights


def _is_enough(queries: OpenQueries, draws: int, settings: NewSettings) -> bool:
    return all(
        rows.sum() >= settings.least_queries * draws
        and len(np.unique(queries.identity[rows])) >= settings.least_individuals
        for rows in (queries.is_new, ~queries.is_new)
    )


def _log_odds(share: float) -> float:
    if not 0 < share < 1:
        raise InputError(f"share of new animals {share}: expected a number above 0 and below 1")
    return float(np.log(share) - np.log1p(-share))
