"""P(same animal) of a candidate: a logistic fusion of its evidence, per species and viewpoint.

The model has two steps, each a logistic regression in which no evidence has a coefficient below 0, so that more
evidence for a pair never lowers its P(same).

1. *The pair*: cosine and local evidence, fused to log odds. A pair without local evidence has 0 in its place and an
   intercept of its own (the missing-indicator method): that local evidence was looked for and is poor tells something
   else than that nobody looked.
2. *Its name among the others*: these log odds, the gap from the best candidate of its name to the best of any other
   name, above 0 and below, and log(how many of the shortlist bear its name). All photos of one name show one animal, so
   one that is plainly the query's speaks for the others; and what leads the list has been chosen for being first, so
   its own evidence says too much.

``resight.calibration.fitting`` fits it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit

from resight.calibration.evidence import LOCAL_FEATURES, Bools, Candidates, Doubles, Group, PairFeatures, standing_out
from resight.errors import InputError

INTERCEPT, LOOKED = "intercept", "local evidence looked for"
"""Columns of the first step beside the evidence; ``LOOKED`` is there where some pairs have local evidence and some not.
"""
NAME_COLUMNS = (INTERCEPT, "log odds of the pair", "gap above 0", "gap below 0", "log photos of the name")
"""Columns of the second step."""

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Settings:
    """How P(same) is fitted.

    Attributes:
        least_pairs: Confirmed pairs below which there is no probability.
        least_individuals: Individuals that these must be of.
        least_for_isotonic: Confirmed pairs from which on an isotonic stage is tried.
        species_sd: How far a species' coefficients are expected to lie from the pooled ones, in log odds per standard
            deviation of the evidence; the prior has the strength 1/sd².
        viewpoint_sd: How far a viewpoint's from its species', likewise.
        pooled_sd: How far the pooled ones from 0, likewise.
        draws: Resamples of the bootstrap; 0 gives no intervals.
        folds: Of the cross-validation that decides on the isotonic stage.
        seed: Of resamples and folds.
    """

    least_pairs: int = 20
    least_individuals: int = 10
    least_for_isotonic: int = 300
    species_sd: float = 1.0
    viewpoint_sd: float = 0.5
    pooled_sd: float = 3.0
    draws: int = 200
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every setting."""
        for name, least in (("least_pairs", 1), ("least_individuals", 1), ("least_for_isotonic", 1), ("folds", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} {getattr(self, name)}: expected at least {least}")
        for name in ("species_sd", "viewpoint_sd", "pooled_sd"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} {getattr(self, name)}: expected a number above 0")
        if self.draws < 0:
            raise InputError(f"draws {self.draws}: expected 0 (no intervals) or more")


@dataclass(frozen=True)
class Support:
    """What a fit rests on.

    Attributes:
        pairs: All pairs.
        confirmed: Pairs of one animal; one that was met from both ends counts once.
        individuals: Identities of these.
        queries: Annotations that were asked for.
    """

    pairs: int
    confirmed: int
    individuals: int
    queries: int


@dataclass(frozen=True)
class NotEnough:
    """Why there is no probability."""

    reason: str


@dataclass(frozen=True)
class Isotonic:
    """A rising map of log odds to P(same), linear between its knots and level outside them.

    Attributes:
        logits: (knots,) rising.
        probabilities: (knots,) not falling, from 0 to 1.
    """

    logits: Doubles
    probabilities: Doubles

    def __call__(self, logit: Doubles) -> Doubles:
        """P(same), of the shape of ``logit``."""
        return np.interp(logit, self.logits, self.probabilities)


@dataclass(frozen=True)
class Fit:
    """The coefficients of one group.

    Attributes:
        support: What they rest on.
        pair: (p,) float64, of the first step, in the order of ``Fusion.columns``.
        name: (5,) float64, of the second, in the order of ``NAME_COLUMNS``.
        name_draws: (draws, 5) float64, the same of each resample.
        isotonic: A stage behind the second, or ``None``.
    """

    support: Support
    pair: Doubles
    name: Doubles
    name_draws: Doubles
    isotonic: Isotonic | None = None


@dataclass(frozen=True)
class Same:
    """P(same) of n candidates.

    Attributes:
        p: (n,) float64.
        low: (n,) lower end of its 95 % interval, ``high`` the upper one; NaN where the fusion has no draws.
        logit: (n,) log odds before any isotonic stage: what reranking wants, since they do not crowd at 1.
        evidence: (n,) log odds of the pair by itself, the first step: what P(new) wants.
        level: Whether the fit is that of the ``viewpoint`` or of the ``species``.
        support: What it rests on.
    """

    p: Doubles
    low: Doubles
    high: Doubles
    logit: Doubles
    evidence: Doubles
    level: Literal["viewpoint", "species"]
    support: Support


@dataclass(frozen=True)
class Fusion:
    """P(same) for every group that has enough confirmed pairs.

    Attributes:
        settings: How it was fitted.
        columns: Names of the first step's coefficients: ``INTERCEPT``, perhaps ``LOOKED``, then the evidence.
        centre: What is taken off each kind of evidence; ``scale`` what it is divided by.
        name_centre: (4,) what is taken off the second step's; ``name_scale`` (4,) what it is divided by.
        pooled: The fit over all species, or ``None`` where they have too few confirmed pairs together.
        species: The fits of the species that have enough.
        viewpoints: The fits of the groups that have enough; none where it is the only group of its species.
        support: What each species has, enough or not.
    """

    settings: Settings
    columns: tuple[str, ...]
    centre: Doubles
    scale: Doubles
    name_centre: Doubles
    name_scale: Doubles
    pooled: Fit | None
    species: Mapping[str, Fit]
    viewpoints: Mapping[Group, Fit]
    support: Mapping[str, Support]

    def lacks(self, group: Group) -> NotEnough | None:
        """Why a group has no probability; ``None`` where it has."""
        if group.species in self.species:
            return None
        return not_enough(group.species, self.support.get(group.species, Support(0, 0, 0, 0)), self.settings)

    def p_same(self, candidates: Candidates, group: Group) -> Same | NotEnough:
        """P(same) of whole shortlists, whose queries are of one species and viewpoint.

        Args:
            candidates: The shortlists, as long as those of the fit.
            group: Of the queries.

        Raises:
            InputError: a pair lacks local evidence, where every pair of the fit had it.
        """
        lacking = self.lacks(group)
        if lacking is not None:
            return lacking
        fit = self.viewpoints.get(group)
        level: Literal["viewpoint", "species"] = "species" if fit is None else "viewpoint"
        fit = self.species[group.species] if fit is None else fit
        evidence = pair_design(candidates.features, self.columns, self.centre, self.scale) @ fit.pair
        if np.isnan(evidence).any():
            raise InputError(
                f"pair {int(np.flatnonzero(np.isnan(evidence))[0])} has no local evidence, and the calibration rests "
                "on pairs that all have: compare the whole shortlist, or calibrate without local evidence"
            )
        design = name_design(evidence, candidates, self.name_centre, self.name_scale)
        logit = design @ fit.name
        low, high = _interval(design, fit.name_draws)
        to_p = expit if fit.isotonic is None else fit.isotonic
        p = to_p(logit)
        # The draws of few identities may all lie to one side of the fit.
        return Same(p, np.minimum(to_p(low), p), np.maximum(to_p(high), p), logit, evidence, level, fit.support)


def pair_design(features: PairFeatures, columns: tuple[str, ...], centre: Doubles, scale: Doubles) -> Doubles:
    """(n, p) of the first step; rows of NaN where local evidence is lacking that the fit always had."""
    extra = 2 if LOOKED in columns else 1
    evidence = np.stack([features.column(name) for name in columns[extra:]], axis=1)
    standard = (evidence - centre) / scale
    ones = np.ones((len(features), 1))
    if extra == 1:
        return np.concatenate([ones, standard], axis=1)
    local = np.array([name in LOCAL_FEATURES for name in columns[extra:]], dtype=np.bool_)
    looked: Bools = np.asarray(np.isfinite(evidence[:, local]).all(axis=1), dtype=np.bool_)
    standard[:, local] = np.where(looked[:, None], standard[:, local], 0.0)
    return np.concatenate([ones, looked[:, None], standard], axis=1)


def name_evidence(evidence: Doubles, candidates: Candidates) -> Doubles:
    """(n, 4) of the second step, before it is standardised, from the (n,) log odds of the first."""
    out = standing_out(evidence, candidates.query, candidates.name)
    return np.stack([evidence, np.maximum(out.gap, 0), np.minimum(out.gap, 0), np.log(out.photos)], axis=1)


def name_design(evidence: Doubles, candidates: Candidates, centre: Doubles, scale: Doubles) -> Doubles:
    """(n, 5) of the second step, in the order of ``NAME_COLUMNS``."""
    standard = (name_evidence(evidence, candidates) - centre) / scale
    return np.concatenate([np.ones((len(evidence), 1)), standard], axis=1)


def not_enough(what: str, support: Support, settings: Settings) -> NotEnough | None:
    """Why a group has no fit; ``None`` where it has enough confirmed pairs."""
    if support.confirmed >= settings.least_pairs and support.individuals >= settings.least_individuals:
        return None
    return NotEnough(
        f"not enough confirmed pairs of {what}: {support.confirmed} of {support.individuals} individuals, at least "
        f"{settings.least_pairs} of {settings.least_individuals} are needed"
    )


def _interval(design: Doubles, draws: Doubles) -> tuple[Doubles, Doubles]:
    """(n,) each: the 2.5 and 97.5 % quantiles of the draws' log odds."""
    ends = np.full((2, len(design)), np.nan)
    if len(draws):
        for start in range(0, len(design), _ROWS_AT_ONCE):
            here = slice(start, start + _ROWS_AT_ONCE)
            ends[:, here] = np.percentile(design[here] @ draws.T, [2.5, 97.5], axis=1)
    return ends[0], ends[1]
