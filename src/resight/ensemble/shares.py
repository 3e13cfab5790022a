"""How much each model of an ensemble counts.

Two ways. *Averaged*: each model has been calibrated by itself, and the mean of their log odds, a logarithmic opinion
pool (Genest & Zidek 1986, Statistical Science 1), is taken. *Fitted*: one logistic regression on the cosines of all
models at once, species by species, none of whose coefficients is below 0. The mean takes the models for equally new
witnesses; the fit sees that a weak one adds nothing to a strong one, or that two say the same.

A fit belongs to its models, whose passports it names; it is kept as ``shares.json`` beside the ensemble's calibration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import Passport, write_json
from resight.calibration.evidence import Doubles, Ints, rows_by_species
from resight.calibration.fitting import name_weights, support_of
from resight.calibration.fusion import Fit, Fusion, Settings, not_enough
from resight.calibration.logistic import fit_logistic, softened
from resight.calibration.shortlists import Shortlists, pairs_of
from resight.embedding import EmbeddingSet
from resight.ensemble.joint import ENSEMBLE_VERSION, Ensemble, Member, require_members
from resight.errors import ArtefactMismatch, InputError
from resight.ranking import unit_rows

DEPTH = 40  # candidates a query, by the models as equals, that a fit rests on
_PAIRS_AT_ONCE = 4096


def command(names: Sequence[str], split: str = "SPLIT") -> str:
    """The command that calibrates these models, together where they are several."""
    return f"`resight calibrate --split {split} {' '.join(f'--model {name}' for name in names)}`"


def equals(members: Sequence[Member]) -> Ensemble:
    """An ensemble in which each model counts the same everywhere."""
    return Ensemble(tuple(members), {}, (1.0,) * len(members), ())


@dataclass(frozen=True)
class Alone:
    """A model with the calibration of its own cosine."""

    member: Member
    fusion: Fusion
    split: str


def averaged(models: Sequence[Alone]) -> Ensemble:
    """An ensemble of models that were calibrated each by itself: the mean of their log odds.

    Where one of them has no fit of its own for a species, its pooled one counts.

    Args:
        models: By name.

    Raises:
        InputError: a calibration without any fit, or no ensemble.
    """
    require_members([one.member for one in models])
    for one in models:
        if one.fusion.pooled is None:
            confirmed = sum(support.confirmed for support in one.fusion.support.values())
            raise InputError(
                f"the calibration of model {one.member.name} rests on {confirmed} confirmed pairs of split "
                f"{one.split!r}, too few to weigh it against others: make one on a split of more animals, "
                f"{command([one.member.name])}"
            )
    named = sorted({species for one in models for species in one.fusion.species})
    slopes = {species: tuple(_slope(one.fusion, species) for one in models) for species in named}
    splits = tuple(dict.fromkeys(one.split for one in models))
    return Ensemble(tuple(one.member for one in models), slopes, tuple(_slope(one.fusion) for one in models), splits)


def _slope(fusion: Fusion, species: str | None = None) -> float:
    """What 1 of cosine adds to the log odds of a pair."""
    fit: Fit | None = fusion.pooled if species is None else fusion.species.get(species, fusion.pooled)
    if fit is None:
        raise InputError("a calibration without any fit has no slope")
    place = fusion.columns.index("cosine")
    evidence = place - (len(fusion.columns) - len(fusion.scale))  # the columns before the evidence have no scale
    return float(fit.pair[place] / fusion.scale[evidence])


def fitted(
    members: Sequence[Member],
    sets: Sequence[EmbeddingSet],
    shortlists: Shortlists,
    split: str,
    settings: Settings | None = None,
) -> Ensemble:
    """Fit the slopes of all models at once on confirmed and refuted pairs.

    Pooling and weights are those of :mod:`resight.calibration.fitting`: a species is drawn towards all species
    together, and each name of a shortlist counts once.

    Args:
        members: By name.
        sets: Their vectors, in this order.
        shortlists: ``DEPTH`` candidates a query by :func:`equals`.
        split: The split they are of.
        settings: Of the fit.

    Raises:
        InputError: too few confirmed pairs, or no ensemble.
    """
    require_members(members)
    settings = settings or Settings()
    pairs = pairs_of(shortlists, None, shortlist=shortlists.neighbours.shape[1])
    query, same = pairs.candidates.query, pairs.same
    rows_of = rows_by_species(pairs.groups, pairs.group_of)
    support = {name: support_of(pairs, rows) for name, rows in rows_of.items()}
    lacking = not_enough(f"split {split!r}", support_of(pairs, np.arange(len(same))), settings)
    if lacking is not None:
        raise InputError(f"{lacking.reason} to weigh models against each other: take a split of more animals")
    cosines = np.stack([_cosines(one, shortlists.ids, query, pairs.gallery) for one in sets], axis=1)
    scale = np.where((spread := cosines.std(axis=0)) > 1e-9, spread, 1.0)
    design = np.concatenate([np.ones((len(cosines), 1)), (cosines - cosines.mean(axis=0)) / scale], axis=1)
    weights = name_weights(pairs.candidates)
    targets = softened(same, weights)
    signed = np.array([False, *(True for _ in sets)])

    def fit(rows: Ints, towards: Doubles, sd: float) -> Doubles:
        strength = np.full(design.shape[1], 1 / sd**2)
        return fit_logistic(
            design[rows], targets[rows], weights[rows], signed=signed, towards=towards, strength=strength
        )

    pooled = fit(np.arange(len(same)), np.zeros(design.shape[1]), settings.pooled_sd)
    slopes = {
        name: _as_slopes(pooled if len(support) == 1 else fit(rows_of[name], pooled, settings.species_sd), scale)
        for name, one in sorted(support.items())
        if not_enough(name, one, settings) is None
    }
    return Ensemble(tuple(members), slopes, _as_slopes(pooled, scale), (split,), together=True)


def _as_slopes(coefficients: Doubles, scale: Doubles) -> tuple[float, ...]:
    return tuple(float(one) for one in coefficients[1:] / scale)


def _cosines(embeddings: EmbeddingSet, ids: Sequence[str], query: Ints, found: Ints) -> NDArray[np.float64]:
    """(n,) of the pairs."""
    row_of = embeddings.row_of()
    unit = unit_rows(np.asarray(embeddings.vectors[[row_of[key] for key in ids]]), f"vectors of {embeddings.model}")
    cosines = np.empty(len(query))
    for start in range(0, len(query), _PAIRS_AT_ONCE):
        here = slice(start, start + _PAIRS_AT_ONCE)
        cosines[here] = np.einsum("ij,ij->i", unit[query[here]], unit[found[here]])
    return cosines


def _passport(members: Sequence[Member]) -> Passport:
    return Passport("shares", {"members": [one.key for one in members], "ensemble_version": ENSEMBLE_VERSION})


def write_shares(ensemble: Ensemble, path: Path) -> None:
    """Keep the slopes of an ensemble."""
    passport = _passport(ensemble.members)
    write_json(
        path,
        {
            "kind": passport.kind,
            "decides": dict(passport.decides),
            "recorded": {"models": [one.name for one in ensemble.members], "splits": list(ensemble.splits)},
            "slopes": {species: list(slopes) for species, slopes in ensemble.slopes.items()},
            "slopes_of_other_species": list(ensemble.pooled),
        },
    )


def read_shares(path: Path, members: Sequence[Member]) -> Ensemble:
    """Read the slopes of an ensemble of these models.

    Raises:
        ArtefactMismatch: no such file, or one of other models.
    """
    remedy = f"make it anew with {command([one.name for one in members])}"
    Passport.read(path).require_fit(_passport(members), where=path, remedy=remedy)
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        slopes, pooled, recorded = (document[key] for key in ("slopes", "slopes_of_other_species", "recorded"))
        return Ensemble(
            tuple(members),
            {str(species): _numbers(values, len(members)) for species, values in dict(slopes).items()},
            _numbers(pooled, len(members)),
            tuple(str(split) for split in dict(recorded)["splits"]),
            together=True,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactMismatch(f"{path} cannot be read as the shares of models ({error}); {remedy}") from None


def _numbers(values: Any, expected: int) -> tuple[float, ...]:
    found = tuple(float(value) for value in list(values))
    if len(found) != expected or not all(0 <= value < np.inf for value in found):
        raise ValueError(f"expected {expected} numbers of at least 0")
    return found
