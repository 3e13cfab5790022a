"""The recipes that have a name: ours, and those that a project adds in ``resight.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resight.errors import RecipeError, UnknownName
from resight.training.recipe import Augmentation, Recipe

# Training on a laptop's CPU within minutes.
TINY = Recipe(
    name="tiny",
    image_size=160,
    epochs=18,
    augment=Augmentation(
        affine_probability=0.8,
        shift=0.08,
        zoom=0.15,
        rotation_deg=10.0,
        stretch=0.1,
        shear_deg=5.0,
        jitter_probability=0.8,
        brightness=0.3,
        contrast=0.3,
        saturation=0.2,
        hue=0.02,
        erase_probability=0.3,
        erase_area=0.15,
    ),
)

# The MiewID paper, appendix A.1. What it does not name comes from the authors' public code and is marked as assumed.
PAPER = Recipe(
    name="paper",
    backbone="efficientnetv2_rw_m",
    image_size=256,
    batch_size=112,
    epochs=30,
    optimiser="adam",
    learning_rate=1.5e-3,
    head_learning_rate_factor=1.0,
    schedule="exponential",
    learning_rate_start=1.5e-5,
    warmup_epochs=15.0,
    decay_per_epoch=0.8,
    weight_decay=0.0,
    centres=3,
    scale=51.5,
    margin="spread",
    margin_low=0.2,
    margin_high=0.5,
    augment=Augmentation(
        affine_probability=0.5,
        shift=0.25,
        zoom=0.2,
        rotation_deg=15.0,
        jitter_probability=0.5,
        brightness=0.1,
        contrast=0.1,
        saturation=0.1,
        hue=0.2,
        sharpen_probability=0.17,
        clahe_probability=0.17,
    ),
    assumed=(
        "epochs",
        "optimiser",
        "head_learning_rate_factor",
        "weight_decay",
        "margin",
        "margin_exponent",
        "margin_low",
        "pooling_p",
        "precision",
        "augment.affine_probability",
        "augment.jitter_probability",
        "augment.brightness",
        "augment.contrast",
        "augment.saturation",
        "augment.hue",
        "augment.sharpen_probability",
        "augment.clahe_probability",
    ),
)

# The same with the schedule of the authors' public code, which moves on twice an epoch.
PAPER_AS_CODED = replace(PAPER, name="paper-as-coded", schedule_steps_per_epoch=2)

# The best that was found; docs/results/recipe.md has the evidence, what did not pay included.
TUNED = Recipe(
    name="tuned",
    image_size=256,
    gem_columns=4,
    batch_size=32,
    epochs=60,
    learning_rate=5e-4,
    head_learning_rate_factor=10.0,
    warmup_epochs=2.0,
    weight_decay=0.01,
    mirror="new",
    ema_decay=0.995,
    gradient_clip=5.0,
    centres=1,
    scale=30.0,
    margin="absolute",
    augment=Augmentation(
        affine_probability=0.8,
        shift=0.1,
        zoom=0.2,
        rotation_deg=15.0,
        stretch=0.15,
        shear_deg=8.0,
        jitter_probability=0.8,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=0.03,
        erase_probability=0.5,
        erase_area=0.2,
    ),
    precision="auto",
)

# For a site that answers: larger chips and the paper's network.
PRODUCTION = replace(TUNED, name="production", backbone="efficientnetv2_rw_m", image_size=440, batch_size=64)

# From any trained model (--init), without the data it was trained on: the head first, then all (paper, §5.5).
FINETUNE = replace(
    TUNED,
    name="finetune",
    weights="init",
    epochs=20,
    head_only_epochs=4,
    learning_rate=1e-4,
    head_learning_rate_factor=30.0,
    warmup_epochs=1.0,
)

PRESETS = (TINY, TUNED, PAPER, PAPER_AS_CODED, PRODUCTION, FINETUNE)


def preset(name: str, own: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
    """The recipe of that name.

    Args:
        name: Of a preset, or of a recipe of the project.
        own: The project's recipes by name: each has a ``base`` (a preset or another of them) and the settings that
            differ from it, as in ``[recipes.NAME]`` of ``resight.toml``.

    Raises:
        UnknownName: there is no such recipe, or no such setting.
        RecipeError: the project's recipe has a preset's name, lacks its base, goes in a circle, or has an impossible
            value.
    """
    return _built(name, own or {}, ())


def _built(name: str, own: Mapping[str, Mapping[str, Any]], above: tuple[str, ...]) -> Recipe:
    by_name = {recipe.name: recipe for recipe in PRESETS}
    if name in by_name and name in own:
        raise RecipeError(f"recipe {name!r} of resight.toml has the name of a preset: name it otherwise")
    if name in by_name:
        return by_name[name]
    if name not in own:
        raise UnknownName.among("recipe", name, [*by_name, *own])
    if name in above:
        raise RecipeError(f"recipe {name!r} of resight.toml has itself as base: {' → '.join((*above, name))}")
    values = flattened(own[name])
    base = values.pop("base", None)
    if not isinstance(base, str):
        raise RecipeError(f"recipe {name!r} of resight.toml has base {base!r}: name one of {', '.join(by_name)}")
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
    return replace(_built(base, own, (*above, name)).with_settings(texts), name=name)


def flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give nested tables as keys with dots: ``{"augment": {"shift": 0.1}}`` is ``{"augment.shift": 0.1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": content for inner, content in flattened(value).items()}
        else:
            flat[key] = value
    return flat
