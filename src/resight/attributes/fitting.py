"""Fitting a head: logistic regression on standardised features, cross-validated by group, its confidence calibrated.

All that is reported is out of fold: a row is judged by a head that was fitted on other groups, with a regularisation
and a temperature chosen on other groups too. The head that is kept is then fitted on all rows.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from resight import progress
from resight.attributes.calibration import (
    calibration_error,
    choose_threshold,
    fit_temperature,
    log_loss,
    probabilities,
)
from resight.attributes.folds import Ints, grouped_folds
from resight.attributes.head import Floats, Head, outside, standardised
from resight.attributes.labels import Labelled
from resight.errors import InputError

logger = logging.getLogger(__name__)

GUARDED = ("species", "part")
"""Fields for which an animal unlike all that was fitted on stays unknown; the others are asked of known species."""

_LEAST_SCALE = 0.05  # of the median one: what hardly ever varied in fitting is not blown up when it does
_MOST_ITERATIONS = 500
_KNOWN_KEPT = 0.99
_BLOCK = 1024


@dataclass(frozen=True)
class FitOptions:
    """How a head is fitted.

    Attributes:
        right: Of the values at or above the threshold this share is expected to be right.
        folds: Of the cross-validation.
        inner_folds: Of the choice of the regularisation.
        strengths: Inverse strengths of the regularisation to choose from: scikit-learn's ``C`` times the length of a
            feature, so that they mean the same for features of any length.
        most_inner_rows: The choice is made on so many rows at most.
        directions: How many span what the features are like, at most; a quarter of the rows where that is less.
        most_direction_rows: They are found on so many rows at most.
        seed: Of the folds.
    """

    right: float = 0.98
    folds: int = 5
    inner_folds: int = 3
    strengths: tuple[float, ...] = (0.5, 5.0, 50.0)
    most_inner_rows: int = 4_000
    directions: int = 128
    most_direction_rows: int = 5_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what a person may have given.

        Raises:
            InputError: ``right`` is no share that can be asked for.
        """
        if not 0.5 <= self.right < 1.0:
            raise InputError(f"right {self.right:g}: expected a share from 0.5 to below 1, such as 0.98")


@dataclass(frozen=True)
class ClassFigures:
    """One class: annotations, groups, and of its annotations the share found and of those called so the share right."""

    value: str
    annotations: int
    groups: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class Metrics:
    """What was measured out of fold.

    Attributes:
        annotations: Rows fitted on.
        judged: Rows that a head could judge; in a fold that lacks a class nothing is judged of it.
        groups: Individuals, encounters or photos that the rows belong to.
        accuracy: Share right of all that were judged.
        coverage: Share at or above the threshold, of all that were judged.
        accuracy_at_threshold: Share right of these; ``None`` without a threshold.
        accuracy_at_90: Share right of the surest 90 %.
        calibration_error_before: Expected calibration error without a temperature.
        calibration_error: With one that was fitted on the other folds.
        strength: The regularisation of the head that is kept; see :class:`FitOptions`.
        converged: Whether its fit ended by itself.
        classes: A row for each class.
        confusion: Rows are what is so, columns what was said, in the order of ``classes``.
    """

    annotations: int
    judged: int
    groups: int
    accuracy: float
    coverage: float
    accuracy_at_threshold: float | None
    accuracy_at_90: float
    calibration_error_before: float
    calibration_error: float
    strength: float
    converged: bool
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Fit:
    weight: Floats
    bias: Floats
    centre: Floats
    scale: Floats
    absent: Ints  # classes of which there was no row
    converged: bool

    def logits(self, features: NDArray[np.floating]) -> Floats:
        found: Floats = standardised(features, self.centre, self.scale) @ self.weight.T + self.bias
        if len(self.absent):  # as unlikely as the least likely of the others: never said, and finite
            found[:, self.absent] = np.inf
            found[:, self.absent] = found.min(axis=1, keepdims=True)
        return found


def fit_head(
    labelled: Labelled,
    features: NDArray[np.floating],
    decides: Mapping[str, Any],
    options: FitOptions = FitOptions(),
) -> tuple[Head, Metrics]:
    """Cross-validate, calibrate and fit.

    Args:
        labelled: The annotations with their labels and groups.
        features: (n, dim), a row for each of them.
        decides: The deciding fields of the features' passport.
        options: See :class:`FitOptions`.

    Raises:
        InputError: there is but one group, so nothing can be held out.
    """
    rows = np.asarray(features, np.float32)
    classes, truth = np.unique(np.array(labelled.labels, object), return_inverse=True)
    groups = np.unique(np.array(labelled.groups, object), return_inverse=True)[1]
    if len(np.unique(groups)) < 2:
        raise InputError(
            f"{labelled.field}: all {len(truth)} labelled annotations are of one individual or encounter, and a head "
            "is checked on others than it was fitted on; label some of another"
        )
    guarded = labelled.field in GUARDED
    checked = _cross_validate(rows, truth, groups, len(classes), options, guarded)
    strength = _choose_strength(rows, truth, groups, len(classes), options)
    fit = _fit(rows, truth, len(classes), strength)
    basis = _directions(standardised(rows, fit.centre, fit.scale), options) if guarded else _no_basis(rows)
    confidence, right = checked.confidence, checked.said == truth[checked.rows]
    threshold = choose_threshold(confidence, right, options.right)
    metrics = _metrics(checked, truth, groups, [str(c) for c in classes], threshold, strength, fit.converged)
    head = Head(
        field=labelled.field,
        classes=tuple(str(c) for c in classes),
        species=labelled.species,
        features=dict(decides),
        temperature=fit_temperature(checked.logits, truth[checked.rows]),
        threshold=threshold,
        most_unlike=float(np.quantile(checked.unlikeness, _KNOWN_KEPT)) if guarded else None,
        weight=fit.weight,
        bias=fit.bias,
        centre=fit.centre,
        scale=fit.scale,
        basis=basis,
        metrics=metrics.to_json(),
    )
    return head, metrics


@dataclass(frozen=True)
class _Checked:
    """Rows judged out of fold: (m,) row, (m, classes) logits, (m,) confidence, class said and unlikeness."""

    rows: Ints
    logits: Floats
    uncalibrated: NDArray[np.float64]
    confidence: NDArray[np.float64]
    said: Ints
    unlikeness: Floats


def _cross_validate(
    rows: Floats, truth: Ints, groups: Ints, classes: int, options: FitOptions, guarded: bool
) -> _Checked:
    judged: list[Ints] = []
    logits: list[Floats] = []
    unlikeness: list[Floats] = []
    for fitted, held in progress.track(
        grouped_folds(truth, groups, options.folds, options.seed), "folds", options.folds
    ):
        there = np.unique(truth[fitted])
        if len(there) < classes:
            # What a class that was not fitted would have got is not known: this fold judges none of its rows.
            held = held[np.isin(truth[held], there)]
            logger.info("a fold lacks %d of the %d classes", classes - len(there), classes)
        if len(there) < 2 or not len(held):
            continue
        strength = _choose_strength(rows[fitted], truth[fitted], groups[fitted], classes, options)
        fit = _fit(rows[fitted], truth[fitted], classes, strength)
        judged.append(held)
        logits.append(fit.logits(rows[held]))
        if guarded:
            basis = _directions(standardised(rows[fitted], fit.centre, fit.scale), options)
            unlikeness.append(outside(standardised(rows[held], fit.centre, fit.scale), basis))
    if not judged:
        raise InputError(
            "no class can be held out: the annotations of each are all of one individual or encounter; label more"
        )
    confidence = [
        probabilities(mine, _temperature_of_others(place, logits, judged, truth)) for place, mine in enumerate(logits)
    ]
    together = np.concatenate(logits)
    return _Checked(
        rows=np.concatenate(judged),
        logits=together,
        uncalibrated=probabilities(together).max(axis=1),
        confidence=np.concatenate(confidence).max(axis=1),
        said=together.argmax(axis=1),
        unlikeness=np.concatenate(unlikeness) if guarded else np.zeros(0, np.float32),
    )


def _temperature_of_others(place: int, logits: Sequence[Floats], judged: Sequence[Ints], truth: Ints) -> float:
    others = [number for number in range(len(logits)) if number != place] or [place]
    rows = np.concatenate([judged[number] for number in others])
    return fit_temperature(np.concatenate([logits[number] for number in others]), truth[rows])


def _choose_strength(rows: Floats, truth: Ints, groups: Ints, classes: int, options: FitOptions) -> float:
    """The regularisation whose held-out log loss is lowest at its best temperature, as that is what will be used."""
    if len(rows) > options.most_inner_rows:
        drawn = np.random.default_rng(options.seed).permutation(len(rows))[: options.most_inner_rows]
        rows, truth, groups = rows[drawn], truth[drawn], groups[drawn]
    folds = grouped_folds(truth, groups, options.inner_folds, options.seed)
    folds = [
        (fitted, held[np.isin(truth[held], truth[fitted])])
        for fitted, held in folds
        if len(np.unique(truth[fitted])) > 1
    ]
    if not any(len(held) for _, held in folds):
        return options.strengths[len(options.strengths) // 2]
    losses = []
    for strength in options.strengths:
        logits = np.concatenate([_fit(rows[f], truth[f], classes, strength).logits(rows[h]) for f, h in folds])
        held = np.concatenate([truth[h] for _, h in folds])
        losses.append(log_loss(logits, held, fit_temperature(logits, held)))
    return options.strengths[int(np.argmin(losses))]


def _fit(rows: Floats, truth: Ints, classes: int, strength: float) -> _Fit:
    centre, scale = _centre_and_scale(rows)
    model = LogisticRegression(C=strength / rows.shape[1], max_iter=_MOST_ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        # A fit that is stopped early is a more regular one; that it was is recorded.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(standardised(rows, centre, scale), truth)
    # Two classes have one row, the logit of the second against the first.
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercepts)
    weight = np.zeros((classes, rows.shape[1]), np.float32)
    bias = np.zeros(classes, np.float32)
    weight[model.classes_], bias[model.classes_] = coefficients, intercepts
    absent = np.setdiff1d(np.arange(classes), model.classes_)
    return _Fit(weight, bias, centre, scale, absent, bool(np.max(model.n_iter_) < _MOST_ITERATIONS))


def _centre_and_scale(rows: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each feature, in float64 and a block at a time."""
    total, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    first = rows[0].astype(np.float64)  # taken off, so that the difference of large sums is not one of small numbers
    for start in range(0, len(rows), _BLOCK):
        shifted = rows[start : start + _BLOCK] - first
        total += shifted.sum(axis=0)
        squares += np.square(shifted).sum(axis=0)
    mean = total / len(rows)
    spread = np.sqrt(np.maximum(squares / len(rows) - mean**2, 0.0))
    varying = spread[spread > 0]
    least = _LEAST_SCALE * float(np.median(varying)) if len(varying) else 1.0
    return (first + mean).astype(np.float32), np.maximum(spread, least).astype(np.float32)


def _directions(features: Floats, options: FitOptions) -> Floats:
    count = min(options.directions, len(features) // 4, features.shape[1] - 1)
    if count < 1:
        return _no_basis(features)
    if len(features) > options.most_direction_rows:
        drawn = np.random.default_rng(options.seed).permutation(len(features))[: options.most_direction_rows]
        features = features[drawn]
    _, _, basis = randomized_svd(features, n_components=count, random_state=options.seed)
    return np.asarray(basis, np.float32)


def _no_basis(features: Floats) -> Floats:
    return np.zeros((0, features.shape[1]), np.float32)


def _metrics(
    checked: _Checked,
    truth: Ints,
    groups: Ints,
    classes: Sequence[str],
    threshold: float | None,
    strength: float,
    converged: bool,
) -> Metrics:
    so, said = truth[checked.rows], checked.said
    right = said == so
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (so, said), 1)
    accepted = checked.confidence >= (np.inf if threshold is None else threshold)
    surest = np.argsort(-checked.confidence, kind="stable")[: -(-9 * len(said) // 10)]
    return Metrics(
        annotations=len(truth),
        judged=len(so),
        groups=len(np.unique(groups)),
        accuracy=float(right.mean()),
        coverage=float(accepted.mean()),
        accuracy_at_threshold=float(right[accepted].mean()) if accepted.any() else None,
        accuracy_at_90=float(right[surest].mean()),
        calibration_error_before=calibration_error(checked.uncalibrated, right),
        calibration_error=calibration_error(checked.confidence, right),
        strength=strength,
        converged=converged,
        classes=tuple(
            ClassFigures(
                value=value,
                annotations=int((truth == k).sum()),
                groups=len(np.unique(groups[truth == k])),
                recall=_share(confusion[k, k], confusion[k].sum()),
                precision=_share(confusion[k, k], confusion[:, k].sum()),
            )
            for k, value in enumerate(classes)
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
