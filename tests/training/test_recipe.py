from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from resight.errors import RecipeError, UnknownName
from resight.training.presets import PAPER, PRESETS, TINY
from resight.training.recipe import Augmentation, Recipe


@pytest.mark.parametrize("recipe", PRESETS, ids=lambda recipe: recipe.name)
def test_survives_json(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    with pytest.raises(UnknownName, match="epoch"):
        Recipe.from_json({**recipe.to_json(), "epoch": 3})
    with pytest.raises(UnknownName, match="did you mean 'shift'"):
        Recipe.from_json({"name": "x", "augment": {"shft": 0.1}})
    with pytest.raises(RecipeError, match="lacks its name"):
        Recipe.from_json({"epochs": 3})


def test_settings_are_read_as_their_fields_types() -> None:
    recipe = TINY.with_settings(
        {
            "epochs": "3",
            "learning_rate": "1e-3",
            "optimiser": "adam",
            "weights": "none",
            "checkpoint_every_steps": "10",
            "loader_workers": "none",
            "validation_share": "0.2",
            "ema_decay": "none",
            "use_set_aside": "True",
            "output_stride": "16",
            "mirror": "by-species",
            "augment.rotation_deg": "5",
        }
    )
    assert recipe.epochs == 3
    assert recipe.learning_rate == 1e-3
    assert recipe.optimiser == "adam"
    assert recipe.weights == "none"  # a text stays a text
    assert recipe.checkpoint_every_steps == 10
    assert recipe.loader_workers is None
    assert (recipe.validation_share, recipe.ema_decay, recipe.use_set_aside) == (0.2, None, True)
    assert recipe.output_stride == 16
    assert recipe.mirror == "by-species"
    assert recipe.augment == replace(TINY.augment, rotation_deg=5.0)
    assert recipe.augment.shift == TINY.augment.shift
    assert TINY.with_settings({}) == TINY


def test_a_field_that_is_set_is_no_longer_assumed() -> None:
    recipe = PAPER.with_settings({"optimiser": "adamw", "augment.hue": "0.0"})
    assert set(PAPER.assumed) - set(recipe.assumed) == {"optimiser", "augment.hue"}


@pytest.mark.parametrize(
    ("key", "nearest"), [("epoch", "epochs"), ("learning_rat", "learning_rate"), ("augment.shft", "augment.shift")]
)
def test_unknown_keys_are_refused_with_the_nearest_name(key: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{nearest}'"):
        TINY.with_settings({key: "3"})


@pytest.mark.parametrize("key", ["name", "assumed", "augment"])
def test_what_is_no_setting_cannot_be_set(key: str) -> None:
    with pytest.raises(UnknownName):
        TINY.with_settings({key: "x"})


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("epochs", "three", "epochs is 'three': expected a whole number"),
        ("epochs", "2.5", "expected a whole number"),
        ("epochs", "0", "expected at least 1"),
        ("batch_size", "1", "expected at least 2"),
        ("learning_rate", "fast", "expected a number"),
        ("learning_rate", "nan", "expected a finite number"),
        ("learning_rate", "0", "a number above 0"),
        ("learning_rate_start", "1", "at most learning_rate"),
        ("optimiser", "sgd", "one of adamw, adam"),
        ("margin", "sharp", "one of power, spread, absolute"),
        ("margin_low", "0.6", "at most margin_high"),
        ("margin_high", "2", "radians from 0"),
        ("warmup_epochs", "50", "at most epochs"),
        ("weight_decay", "-1", "a number from 0"),
        ("checkpoint_every_steps", "0", "at least 1, or none for off"),
        ("checkpoint_every_steps", "-1", "at least 1, or none for off"),
        ("output_stride", "8", "one of 32, 16"),
        ("output_stride", "³", "one of 32, 16"),
        ("gem_levels", "3", "one of 1, 2"),
        ("gem_columns", "0", "at least 1"),
        ("mirror", "yes", "one of off, new, same, by-species"),
        ("sampler", "random", "one of shuffle, identities, species"),
        ("use_set_aside", "yes", "true or false"),
        ("compile", "1", "true or false"),
        ("per_identity", "1", "at least 2"),
        ("accumulate", "0", "at least 1"),
        ("accumulate", "17", "at most half of batch_size, which is 32"),
        ("head_only_epochs", "18", "below epochs, which is 18; set both"),
        ("validation_share", "0", "above 0 and below 0.9, or none for off"),
        ("validation_share", "0.95", "above 0 and below 0.9, or none for off"),
        ("ema_decay", "1", "above 0 and below 1, or none for off"),
        ("gradient_clip", "0", "a number above 0"),
        ("gradient_clip", "inf", "a finite number"),
        ("annotations_per_centre", "0", "at least 1, or none for off"),
        ("species_weight", "-0.1", "a number from 0"),
        ("distil_weight", "-1", "a number from 0"),
        ("schedule_steps_per_epoch", "0", "at least 1"),
        ("augment.shift", "1.5", "a number from 0 to 1"),
        ("augment.hue", "0.6", "a number from 0 to 0.5"),
        ("backbone", "", "a text that is not empty"),
    ],
)
def test_impossible_values_are_refused(key: str, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        TINY.with_settings({key: text})
    assert "\n" not in str(error.value)


def test_the_exponential_schedule_warms_up_for_whole_epochs() -> None:
    with pytest.raises(RecipeError, match="a whole number with the schedule 'exponential'"):
        replace(PAPER, warmup_epochs=1.5)
    with pytest.raises(RecipeError, match="a whole number"):
        replace(TINY, epochs=True)


def test_nothing_mirrors_and_no_augmentation_is_the_default() -> None:
    names = {entry.name for entry in fields(Augmentation)}
    assert not any("flip" in name or "mirror" in name for name in names)
    assert all(getattr(Augmentation(), name) == 0 for name in names if name != "erase_area")
