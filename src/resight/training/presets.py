"""The recipes that have a name."""

from __future__ import annotations

from resight.errors import NotBuiltYet, UnknownName
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

PRESETS = (TINY, PAPER)
NOT_BUILT_YET = ("tuned", "paper-as-coded", "production", "finetune")


def preset(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        NotBuiltYet: the name is part of the contract and not there yet.
        UnknownName: there is no such recipe.
    """
    by_name = {recipe.name: recipe for recipe in PRESETS}
    if name in NOT_BUILT_YET:
        raise NotBuiltYet(f"recipe {name!r} is not built yet: take one of {', '.join(by_name)}")
    if name not in by_name:
        raise UnknownName.among("recipe", name, by_name)
    return by_name[name]
