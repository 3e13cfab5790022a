from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from resight.errors import NotBuiltYet, RecipeError, UnknownName
from resight.training.presets import NOT_BUILT_YET, PAPER, PRESETS, TINY, preset
from resight.training.recipe import Augmentation, Recipe, setting_types


def test_the_paper_recipe_is_appendix_a1() -> None:
    assert PAPER.backbone == "efficientnetv2_rw_m"
    assert (PAPER.image_size, PAPER.batch_size, PAPER.centres, PAPER.scale) == (256, 112, 3, 51.5)
    assert (PAPER.learning_rate_start, PAPER.learning_rate) == (1.5e-5, 1.5e-3)
    assert (PAPER.warmup_epochs, PAPER.decay_per_epoch) == (15, 0.8)
    assert (PAPER.margin, PAPER.margin_low, PAPER.margin_high) == ("spread", 0.2, 0.5)
    assert (PAPER.augment.shift, PAPER.augment.zoom, PAPER.augment.rotation_deg) == (0.25, 0.2, 15)
    assert (PAPER.optimiser, PAPER.epochs, PAPER.weight_decay) == ("adam", 30, 0)


def test_what_the_appendix_does_not_name_is_marked() -> None:
    assert {"optimiser", "epochs", "weight_decay", "margin_low", "augment.affine_probability"} <= set(PAPER.assumed)
    assert not {"learning_rate", "batch_size", "scale", "centres", "margin_high", "augment.shift"} & set(PAPER.assumed)
    assert set(PAPER.assumed) <= set(setting_types())
    assert TINY.assumed == ()


def test_presets_by_name() -> None:
    assert preset("tiny") is TINY
    for name in NOT_BUILT_YET:
        with pytest.raises(NotBuiltYet, match=f"{name}.*not built yet"):
            preset(name)
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        preset("tinny")


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
            "augment.rotation_deg": "5",
        }
    )
    assert recipe.epochs == 3
    assert recipe.learning_rate == 1e-3
    assert recipe.optimiser == "adam"
    assert recipe.weights == "none"  # a text stays a text
    assert recipe.checkpoint_every_steps == 10
    assert recipe.loader_workers is None
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
