"""Which settings of a recipe tuning tries, and between which limits.

What only trades time or memory for accuracy is not searched: backbone, ``image_size``, ``epochs``, ``batch_size``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from resight.errors import InputError, RecipeError
from resight.training.recipe import Augmentation, Recipe

if TYPE_CHECKING:
    from optuna import Trial

AUGMENT = "augment"  # one factor on every strength of augmentation; the probabilities stay as they are
MARGIN_LIMIT = 0.3  # radians, between margin_low and margin_high
AUGMENT_FACTORS = (0.25, 2.0)

Value = float | int | str | None


@dataclass(frozen=True)
class Between:
    """A number from ``low`` to ``high``, on a logarithmic scale or an even one.

    Attributes:
        key: The recipe's field.
        low: Smallest.
        high: Largest.
        log: Whether each tenfold counts the same.
        margins: Is searched only with these forms of ``margin``; empty: with all.
    """

    key: str
    low: float
    high: float
    log: bool = False
    margins: tuple[str, ...] = ()


@dataclass(frozen=True)
class OneOf:
    """One of some values; ``None`` is off."""

    key: str
    choices: tuple[Value, ...]
    margins: tuple[str, ...] = ()


Parameter = Between | OneOf

# In this order: a setting that another depends on stands before it.
SPACE: tuple[Parameter, ...] = (
    Between("learning_rate", 5e-5, 3e-3, log=True),
    Between("head_learning_rate_factor", 1.0, 50.0, log=True),
    OneOf("warmup_epochs", (0.0, 1.0, 2.0, 5.0)),
    OneOf("weight_decay", (0.0, 1e-4, 1e-3, 0.01, 0.05)),
    OneOf("ema_decay", (None, 0.99, 0.995, 0.999)),
    Between("scale", 10.0, 64.0, log=True),
    OneOf("centres", (1, 2, 3)),
    OneOf("margin", ("absolute", "power", "spread")),
    Between("margin_a", 0.1, 0.8, margins=("power",)),
    Between("margin_b", 0.0, 0.3, margins=("power",)),
    Between("margin_exponent", 0.0, 0.5, margins=("power", "spread")),
    Between("margin_low", 0.0, MARGIN_LIMIT, margins=("spread",)),
    Between("margin_high", MARGIN_LIMIT, 0.8, margins=("spread",)),
    OneOf("mirror", ("off", "new", "same", "by-species")),
    Between(AUGMENT, *AUGMENT_FACTORS),
)


def space_of(recipe: Recipe, fixed: Collection[str]) -> tuple[Parameter, ...]:
    """What is searched for a recipe: :data:`SPACE`, each part stretched so that it holds the recipe's own value.

    Every combination makes a valid recipe.

    Args:
        recipe: Its values are tried first.
        fixed: Settings that stay as the recipe has them. An ``augment.…`` among them does not go with the factor.

    Raises:
        InputError: nothing is left to search.
    """
    found = [_fitted(one, recipe, fixed) for one in SPACE if one.key not in fixed]
    forms = next((one.choices for one in found if isinstance(one, OneOf) and one.key == "margin"), (recipe.margin,))
    kept = tuple(
        one
        for one in found
        if not (one.margins and set(one.margins).isdisjoint(forms))
        and not (one.key == AUGMENT and not strengths(recipe.augment, 1.0, fixed))
    )
    if not kept:
        raise InputError(f"all that tuning searches is fixed by --set: leave one of {', '.join(sorted(fixed))} free")
    return kept


def own_values(recipe: Recipe, space: Collection[Parameter]) -> dict[str, Value]:
    """The recipe's own values, by the keys of the space."""
    keys = [one.key for one in space if not one.margins or recipe.margin in one.margins]
    return {key: 1.0 if key == AUGMENT else getattr(recipe, key) for key in keys}


def suggest(trial: Trial, space: Collection[Parameter], recipe: Recipe, fixed: Collection[str]) -> dict[str, Value]:
    """Draw one combination.

    Args:
        trial: Draws, or gives what was queued.
        space: Of :func:`space_of`.
        recipe: The one that is tuned.
        fixed: As for :func:`space_of`.

    Returns:
        The settings by their keys, as ``--set`` takes them; drawn numbers have four digits.
    """
    own = own_values(recipe, space)
    settings: dict[str, Value] = {}
    for one in space:
        if one.margins and settings.get("margin", recipe.margin) not in one.margins:
            continue
        if isinstance(one, OneOf):
            settings[one.key] = trial.suggest_categorical(one.key, one.choices)
        else:
            drawn = trial.suggest_float(one.key, one.low, one.high, log=one.log)
            exact = drawn == own.get(one.key)
            settings[one.key] = drawn if exact else min(max(float(f"{drawn:.4g}"), one.low), one.high)
    factor = settings.pop(AUGMENT, None)
    if isinstance(factor, float):
        settings |= strengths(recipe.augment, factor, fixed)
    return settings


def applied(recipe: Recipe, settings: Mapping[str, Value]) -> Recipe:
    """The recipe with a combination's settings."""
    return recipe.with_settings({key: str(value) for key, value in settings.items()})


def strengths(augment: Augmentation, factor: float, fixed: Collection[str]) -> dict[str, Value]:
    """The strengths of augmentation that are not off, times ``factor``, by their keys among the settings."""
    return {
        f"{AUGMENT}.{entry.name}": float(f"{value * factor:.4g}") if factor != 1.0 else value
        for entry in fields(augment)
        if not entry.name.endswith("_probability")
        and f"{AUGMENT}.{entry.name}" not in fixed
        and (value := getattr(augment, entry.name)) > 0
        and _is_used(augment, entry.name)
    }


def _is_used(augment: Augmentation, name: str) -> bool:
    if name == "erase_area":
        return augment.erase_probability > 0
    if name in ("brightness", "contrast", "saturation", "hue"):
        return augment.jitter_probability > 0
    return augment.affine_probability > 0


def _fitted(one: Parameter, recipe: Recipe, fixed: Collection[str]) -> Parameter:
    if one.key == AUGMENT:
        return _fitted_augment(recipe, fixed)
    own = getattr(recipe, one.key)
    if isinstance(one, OneOf):
        choices = one.choices if own in one.choices else (*one.choices, own)
        if one.key == "warmup_epochs":  # half of the run at most
            choices = tuple(value for value in choices if value == own or 2 * float(value or 0) <= recipe.epochs)
        return replace(one, choices=choices)
    low, high = one.low, one.high
    if one.key == "learning_rate":
        low = max(low, recipe.learning_rate_start, recipe.learning_rate_end)
    between = min(max(MARGIN_LIMIT, recipe.margin_low), recipe.margin_high)
    if one.key == "margin_low":
        high = between
    if one.key == "margin_high":
        low = between
    return replace(one, low=min(low, own), high=max(high, own))


def _fitted_augment(recipe: Recipe, fixed: Collection[str]) -> Between:
    """A factor up to the largest that makes no strength impossible."""
    low, high = AUGMENT_FACTORS
    while high > 1.0:
        try:
            applied(recipe, strengths(recipe.augment, high, fixed))
        except RecipeError:
            high = max(1.0, high - 0.05)
        else:
            break
    return Between(AUGMENT, low, high)
