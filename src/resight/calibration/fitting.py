"""How P(same) is fitted: from confirmed pairs, species by species, and again without some identities.

Pooling. One fit over all species, then each species drawn towards it, then each viewpoint towards its species, by a
prior (``Settings``) that a group's own pairs outweigh as they become many: a species' prior weighs as much as 4 pairs
whose P(same) is 0.5, a viewpoint's as much as 16; pairs that are clear weigh less each. A group below ``least_pairs``
and ``least_individuals`` has no fit of its own: a viewpoint then uses its species', and a species has no probability.

Weights. Each name of a shortlist counts once, however many photos of it there are: else the animals that have many
photos would decide for all.

Uncertainty. Whole identities are drawn with replacement, within their species; the same draw moves the pooled fit,
the species' and the viewpoint's (:func:`resight.calibration.logistic.bootstrap_logistic`). The first step is taken as
it is, and so is the isotonic stage: the intervals are those of the second step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from resight.calibration.evidence import (
    Bools,
    Candidates,
    Doubles,
    Group,
    Ints,
    PairFeatures,
    Pairs,
    rows_by_species,
    standing_out,
)
from resight.calibration.fusion import (
    INTERCEPT,
    LOOKED,
    NAME_COLUMNS,
    Fit,
    Fusion,
    Isotonic,
    Same,
    Settings,
    Support,
    name_design,
    name_evidence,
    not_enough,
    pair_design,
)
from resight.calibration.logistic import bootstrap_logistic, fit_logistic, resampled, softened
from resight.calibration.reliability import identity_folds, log_loss

_NAME_SIGNED = np.array([name != INTERCEPT for name in NAME_COLUMNS], dtype=np.bool_)


def fit_fusion(pairs: Pairs, settings: Settings | None = None) -> Fusion:
    """Fit P(same).

    Args:
        pairs: Of queries whose identity the model was not trained on, made by the very path that matching uses.
        settings: How.
    """
    settings = settings or Settings()
    return _fit_all(pairs, settings, _have_enough(pairs, settings))


@dataclass(frozen=True)
class HeldOut:
    """What fits without a query's identity say of its candidates.

    Attributes:
        p: (n,) float64; NaN where the species has no probability, like the next two.
        logit: (n,) as ``Same.logit``.
        evidence: (n,) as ``Same.evidence``.
    """

    p: Doubles
    logit: Doubles
    evidence: Doubles


@dataclass(frozen=True)
class CrossFusion:
    """Several fusions, each fitted without some identities.

    Attributes:
        parts: Each fusion with the (m,) int64 identities that it was fitted without.
    """

    parts: tuple[tuple[Ints, Fusion], ...]

    def held_out(self, candidates: Candidates, identity: Ints, groups: tuple[Group, ...], group_of: Ints) -> HeldOut:
        """P(same) by the fusion that does not know the query's identity.

        Args:
            candidates: n pairs, whole shortlists; such as those of a gallery from which identities were taken out.
            identity: (n,) int64 code of the query's identity, among those fitted.
            groups: The species and viewpoints there are.
            group_of: (n,) int64, the query's place in ``groups``.
        """
        found = HeldOut(*(np.full(len(candidates), np.nan) for _ in range(3)))
        for identities, fusion in self.parts:
            held = np.flatnonzero(np.isin(identity, identities))
            for place in np.unique(group_of[held]):
                rows = held[group_of[held] == place]
                same = fusion.p_same(candidates.rows(rows), groups[place])
                if isinstance(same, Same):
                    found.p[rows], found.logit[rows], found.evidence[rows] = same.p, same.logit, same.evidence
        return found


def cross_fit(pairs: Pairs, settings: Settings | None = None, *, folds: int = 5) -> CrossFusion:
    """Fit several fusions, each without a part of the identities.

    What they say of the identities left out is what reliability is to be read from, and what P(new) is to be fitted on.

    Args:
        pairs: As :func:`fit_fusion` takes them.
        settings: How that is fitted.
        folds: How many.
    """
    settings = settings or Settings()
    # What counts as enough is judged on all pairs: a fit on four fifths of just enough stands for it.
    enough = _have_enough(pairs, settings)
    parts = (
        (np.unique(pairs.identity[held]), _fit_all(pairs.rows(fitted), replace(settings, draws=0), enough))
        for fitted, held in identity_folds(pairs.identity, folds, settings.seed)
    )
    return CrossFusion(tuple(parts))


@dataclass(frozen=True)
class _Enough:
    """What has enough confirmed pairs for a fit of its own."""

    together: bool
    species: frozenset[str]
    groups: frozenset[Group]


def _have_enough(pairs: Pairs, settings: Settings) -> _Enough:
    def is_enough(rows: Ints) -> bool:
        return not_enough("", support_of(pairs, rows), settings) is None

    by_species = rows_by_species(pairs.groups, pairs.group_of)
    return _Enough(
        is_enough(np.arange(len(pairs))),
        frozenset(name for name, rows in by_species.items() if is_enough(rows)),
        frozenset(
            pairs.groups[place]
            for rows in by_species.values()
            if len(places := np.unique(pairs.group_of[rows])) > 1
            for place in places
            if is_enough(rows[pairs.group_of[rows] == place])
        ),
    )


def _fit_all(pairs: Pairs, settings: Settings, enough: _Enough) -> Fusion:
    columns, centre, scale = _standardise(pairs.candidates.features)
    by_species = rows_by_species(pairs.groups, pairs.group_of)
    support = {name: support_of(pairs, rows) for name, rows in by_species.items()}
    fusion = Fusion(settings, columns, centre, scale, np.zeros(4), np.ones(4), None, {}, {}, support)
    if not enough.together:
        return fusion
    every = np.arange(len(pairs))
    data = _data(pairs, settings, columns, pair_design(pairs.candidates.features, columns, centre, scale))
    origin = Fit(support_of(pairs, every), np.zeros(len(columns)), np.zeros(5), np.zeros((settings.draws, 5)))
    pair = _pair_step(data, every, origin, settings.pooled_sd)
    evidence = name_evidence(data.design @ pair, data.candidates)
    fusion = replace(fusion, name_centre=evidence.mean(axis=0), name_scale=_not_zero(evidence.std(axis=0)))
    alone = len(support) == 1
    pooled = _fit(data, fusion, every, pair, origin, settings.pooled_sd, origin.support, try_isotonic=alone)

    def drawn_towards(parent: Fit, rows: Ints, sd: float) -> Fit:
        return _fit(data, fusion, rows, _pair_step(data, rows, parent, sd), parent, sd, support_of(pairs, rows))

    species: dict[str, Fit] = {}
    viewpoints: dict[Group, Fit] = {}
    for name, rows in by_species.items():
        if name not in enough.species:
            continue
        mine = pooled if alone else drawn_towards(pooled, rows, settings.species_sd)
        species[name] = mine
        for place in np.unique(pairs.group_of[rows]):
            if pairs.groups[place] in enough.groups:
                here = rows[pairs.group_of[rows] == place]
                viewpoints[pairs.groups[place]] = drawn_towards(mine, here, settings.viewpoint_sd)
    return replace(fusion, pooled=pooled, species=species, viewpoints=viewpoints)


@dataclass(frozen=True)
class _Data:
    """All pairs as the fits see them; ``clusters`` codes the identities from 0, ``counts`` (draws, n_cluster) says how
    often each is drawn.
    """

    design: Doubles
    candidates: Candidates
    same: Bools
    targets: Doubles
    weights: Doubles
    identity: Ints
    clusters: Ints
    counts: Doubles
    signed: Bools


def _data(pairs: Pairs, settings: Settings, columns: tuple[str, ...], design: Doubles) -> _Data:
    candidates = pairs.candidates
    weights = name_weights(candidates)
    _, first, clusters = np.unique(pairs.identity, return_index=True, return_inverse=True)
    species = np.unique([group.species for group in pairs.groups], return_inverse=True)[1]
    return _Data(
        design,
        candidates,
        pairs.same,
        softened(pairs.same, weights),
        weights,
        pairs.identity,
        clusters,
        resampled(species[pairs.group_of[first]], settings.draws, settings.seed),
        np.array([name not in (INTERCEPT, LOOKED) for name in columns], dtype=np.bool_),
    )


def _pair_step(data: _Data, rows: Ints, prior: Fit, sd: float) -> Doubles:
    return fit_logistic(
        data.design[rows],
        data.targets[rows],
        data.weights[rows],
        signed=data.signed,
        towards=prior.pair,
        strength=np.full(data.design.shape[1], 1 / sd**2),
    )


def _fit(
    data: _Data,
    fusion: Fusion,
    rows: Ints,
    pair: Doubles,
    prior: Fit,
    sd: float,
    support: Support,
    *,
    try_isotonic: bool = True,
) -> Fit:
    """The second step of some rows, drawn towards another fit; and the isotonic stage, where that is better."""
    strength = np.full(len(NAME_COLUMNS), 1 / sd**2)
    candidates = data.candidates.rows(rows)
    targets, weights, same = data.targets[rows], data.weights[rows], data.same[rows]

    def design_by(coefficients: Doubles) -> Doubles:
        return name_design(data.design[rows] @ coefficients, candidates, fusion.name_centre, fusion.name_scale)

    def step(design: Doubles, chosen: Ints) -> Doubles:
        return fit_logistic(
            design[chosen],
            targets[chosen],
            weights[chosen],
            signed=_NAME_SIGNED,
            towards=prior.name,
            strength=strength,
        )

    design = design_by(pair)
    name = step(design, np.arange(len(rows)))
    draws = bootstrap_logistic(
        design,
        targets,
        weights,
        name,
        clusters=data.clusters[rows],
        counts=data.counts,
        signed=_NAME_SIGNED,
        towards=prior.name_draws,
        strength=strength,
    )
    isotonic = prior.isotonic  # what is too small for one of its own uses that of its species
    if try_isotonic and support.confirmed >= fusion.settings.least_for_isotonic:
        plain, staged = np.full(len(rows), 0.5), np.full(len(rows), 0.5)
        for fitted, held in identity_folds(data.identity[rows], fusion.settings.folds, fusion.settings.seed):
            without = design_by(_pair_step(data, rows[fitted], prior, sd))
            logit = without @ step(without, fitted)
            plain[held] = expit(logit[held])
            staged[held] = _isotonic(logit[fitted], same[fitted], weights[fitted])(logit[held])
        better = log_loss(staged, same, weights) < log_loss(plain, same, weights)
        isotonic = _isotonic(design @ name, same, weights) if better else None
    return Fit(support, pair, name, draws, isotonic)


def _isotonic(logit: Doubles, same: Bools, weights: Doubles) -> Isotonic:
    regression = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    regression.fit(logit, softened(same, weights), sample_weight=weights)
    return Isotonic(
        np.asarray(regression.X_thresholds_, dtype=np.float64), np.asarray(regression.y_thresholds_, dtype=np.float64)
    )


def _standardise(features: PairFeatures) -> tuple[tuple[str, ...], Doubles, Doubles]:
    """Columns of the first step, and centre and scale of the evidence; evidence that no pair has is left out."""
    columns = {name: features.column(name) for name in features.names}
    if len(features):
        columns = {name: column for name, column in columns.items() if not np.isnan(column).all()}
    found = [column[~np.isnan(column)] for column in columns.values()]
    looked = (LOOKED,) if any(np.isnan(column).any() for column in columns.values()) else ()
    centre = np.array([column.mean() if len(column) else 0.0 for column in found])
    scale = np.array([column.std() if len(column) else 1.0 for column in found])
    return (INTERCEPT, *looked, *columns), centre, _not_zero(scale)


def _not_zero(scale: Doubles) -> Doubles:
    return np.where(scale > 1e-9, scale, 1.0)


def name_weights(candidates: Candidates) -> Doubles:
    """(n,) such that each name of a shortlist counts once; 1 on average."""
    weights = 1 / standing_out(np.zeros(len(candidates)), candidates.query, candidates.name).photos
    found: Doubles = weights / weights.mean()
    return found


def support_of(pairs: Pairs, rows: Ints) -> Support:
    """What these rows of the pairs would give a fit to rest on."""
    same = rows[pairs.same[rows]]
    query = pairs.candidates.query
    ends = np.sort(np.stack([query[same], pairs.gallery[same]], axis=1), axis=1)
    return Support(
        len(rows), len(np.unique(ends, axis=0)), len(np.unique(pairs.identity[same])), len(np.unique(query[rows]))
    )
