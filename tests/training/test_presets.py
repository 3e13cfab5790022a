from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resight.errors import RecipeError, UnknownName
from resight.training.presets import (
    FINETUNE,
    PAPER,
    PAPER_AS_CODED,
    PRESETS,
    PRODUCTION,
    TINY,
    TUNED,
    flattened,
    preset,
)
from resight.training.recipe import setting_types


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
    for recipe in PRESETS:
        assert preset(recipe.name) is recipe
        assert preset(recipe.name, {"mine": {"base": "tiny"}}) is recipe
    assert [recipe.name for recipe in PRESETS] == ["tiny", "tuned", "paper", "paper-as-coded", "production", "finetune"]
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        preset("tinny")


def test_the_paper_as_coded_differs_in_its_schedule_alone() -> None:
    assert replace(PAPER_AS_CODED, name="paper", schedule_steps_per_epoch=1) == PAPER
    assert PAPER_AS_CODED.schedule_steps_per_epoch == 2


def test_fine_tuning_learns_the_head_first_and_production_is_the_papers_network() -> None:
    assert 0 < FINETUNE.head_only_epochs < FINETUNE.epochs
    assert FINETUNE.learning_rate < TUNED.learning_rate
    assert (PRODUCTION.backbone, PRODUCTION.image_size) == ("efficientnetv2_rw_m", 440)
    kept = ("margin", "scale", "centres", "mirror", "augment", "schedule", "optimiser")
    assert all(getattr(one, field) == getattr(TUNED, field) for one in (FINETUNE, PRODUCTION) for field in kept)


def test_a_recipe_of_the_project_is_its_base_and_what_differs() -> None:
    own: dict[str, dict[str, Any]] = {
        "night": {"base": "tuned", "epochs": 40, "use_set_aside": True, "ema_decay": "none",
                  "augment": {"brightness": 0.5}, "learning_rate": 1e-3, "mirror": "off"},
        "night-long": {"base": "night", "epochs": 90, "compile": False},
        "coded": {"base": "paper", "augment": {"hue": 0}},
    }  # fmt: skip
    night = replace(
        TUNED,
        name="night",
        epochs=40,
        use_set_aside=True,
        ema_decay=None,
        augment=replace(TUNED.augment, brightness=0.5),
        learning_rate=1e-3,
        mirror="off",
    )
    assert preset("night", own) == night
    assert preset("night-long", own) == replace(night, name="night-long", epochs=90)
    coded = preset("coded", own)
    assert (coded.name, coded.augment) == ("coded", replace(PAPER.augment, hue=0.0))
    assert set(PAPER.assumed) - set(coded.assumed) == {"augment.hue"}
    assert own["night"]["augment"] == {"brightness": 0.5}  # the settings are left as they are


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        ({"base": "tuned", "epochz": 3}, UnknownName, "did you mean 'epochs'"),
        ({"base": "tuned", "augment": {"shft": 0.1}}, UnknownName, "did you mean 'augment.shift'"),
        ({"base": "tuned", "epochs": "many"}, RecipeError, "epochs is 'many': expected a whole number"),
        ({"base": "tuned", "epochs": True}, RecipeError, "epochs is 'true': expected a whole number"),
        ({"base": "tuned", "use_set_aside": 1}, RecipeError, "use_set_aside is '1': expected true or false"),
        ({"base": "tuned", "epochs": [3]}, RecipeError, "expected a whole number"),
        ({"base": "tuned", "name": "other"}, UnknownName, "name"),
        ({"base": "tuned", "warmup_epochs": 100}, RecipeError, "at most epochs"),
        ({"epochs": 3}, RecipeError, r"recipe 'mine' of resight.toml has base None: name one of tiny, tuned"),
        ({"base": 3}, RecipeError, r"recipe 'mine' of resight.toml has base 3: name one of"),
        ({"base": "tunned"}, UnknownName, "no recipe named 'tunned': did you mean 'tuned'"),
        ({"base": "mine"}, RecipeError, "has itself as base: mine → mine"),
    ],
)
def test_a_wrong_recipe_of_the_project_is_one_line(own: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        preset("mine", {"mine": own})
    assert "\n" not in str(caught.value)


def test_a_circle_of_bases_is_shown() -> None:
    own = {"a": {"base": "b"}, "b": {"base": "c"}, "c": {"base": "b"}}
    with pytest.raises(RecipeError, match=r"recipe 'b' of resight.toml has itself as base: a → b → c → b"):
        preset("a", own)


def test_a_recipe_of_the_project_never_hides_behind_a_preset() -> None:
    with pytest.raises(RecipeError, match=r"recipe 'tuned' of resight\.toml has the name of a preset"):
        preset("tuned", {"tuned": {"base": "tiny"}})


def test_the_nearest_name_is_sought_among_the_projects_recipes_too() -> None:
    with pytest.raises(UnknownName, match="did you mean 'night'"):
        preset("nigth", {"night": {"base": "tiny"}})


def test_nested_tables_become_keys_with_dots() -> None:
    assert flattened({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}
