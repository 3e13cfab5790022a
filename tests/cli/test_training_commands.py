"""``resight train`` as a user meets it, on one small made-up catalogue."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from resight.cli import run

from ..catalogue.projects import two_species
from .conftest import Command

SMALL = ("--set", "epochs=1", "--set", "image_size=32", "--backbone", "test_resnet", "--weights", "none")
OF_THE_PROJECT = """
[recipes.night]
base = "tuned"
image_size = 32
gem_columns = 1
epochs = 1
warmup_epochs = 0
backbone = "test_resnet"
weights = "none"
precision = "float32"
use_set_aside = true
validation_share = 0.3
augment.brightness = 0.5
[recipes.broken]
base = "night"
augment.shft = 0.1
[recipes.round]
base = "round"
[recipes.gently]
base = "finetune"
epochs = 5
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two species, 14 animals each with 5 encounters, and its photos beside it."""
    return two_species(tmp_path_factory.mktemp("drawn"), animals=14)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "demo"
    assert run(["init", str(folder)]) == 0
    assert run(["--project", str(folder), "import", str(photos)]) == 0
    assert run(["--project", str(folder), "split", "s", "--seed", "1"]) == 0
    with (folder / "resight.toml").open("a", encoding="utf-8") as file:
        file.write(OF_THE_PROJECT)
    assert run(["--project", str(folder), "train", "r", "--split", "s", *SMALL]) == 0
    return folder


def config_of(project: Path, name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((project / "runs" / name / "config.json").read_text(encoding="utf-8"))
    return config


def test_train_says_what_the_contract_names_and_refuses_a_taken_name(resight: Command) -> None:
    result = resight("train", "json-run", "--split", "s", *SMALL, "--species", "lion", "--json")
    assert {"run", "model", "epochs", "train_images_per_second", "final_loss"} <= result.keys()
    assert (result["run"], result["epochs"], result["validation_top1"]) == ("json-run", 1, None)
    assert (Path(result["model"]) / "model.safetensors").is_file()
    assert "'r'" in resight("train", "r", "--split", "s", *SMALL, expect=2)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--split", "nope"), "nope"),
        (("--split", "s", "--recipe", "bogus"), "bogus"),
        (("--split", "s", "--recipe", "broken"), "augment.shft"),
        (("--split", "s", "--recipe", "round"), "round → round"),
        (("--split", "s", "--recipe", "finetune"), "--init MODEL"),
        (("--split", "s", "--set", "epochz=3"), "epochz"),
        (("--split", "s", "--set", "epochs"), "epochs"),
        (("--split", "s", "--set", "epochs=many"), "many"),
        (("--split", "s", "--set", "validation_share=2"), "validation_share"),
        (("--split", "s", "--species", "unicorn"), "unicorn"),
        (("--split", "s", "--init", "bogus"), "bogus"),
        (("--split", "s", "--init", "r", "--backbone", "test_vit"), "set backbone=test_resnet"),
        (("--split", "s", "--teachers", "r,bogus"), "bogus"),
        (("--split", "s", "--track", "tensorbord"), "tensorboard"),
        (("--split", "s", "--weights", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--split", "s", "--resume"), "'x'"),
    ],
)
def test_wrong_input_is_one_line_that_names_the_value(
    resight: Command, project: Path, words: tuple[str, ...], named: str
) -> None:
    given = () if "--resume" in words else ("--set", "image_size=32")
    assert named in resight("train", "x", *words, *given, expect=2)
    assert not (project / "runs" / "x").exists()


def test_a_name_that_is_no_folder_is_refused(resight: Command) -> None:
    assert "a/b" in resight("train", "a/b", "--split", "s", expect=2)


def test_a_recipe_of_the_project_holds_out_and_uses_what_was_set_aside(resight: Command, project: Path) -> None:
    text = resight("train", "by-night", "--split", "s", "--recipe", "night")
    assert "top-1" in text
    config = config_of(project, "by-night")
    recipe = config["recipe"]
    assert (recipe["name"], recipe["use_set_aside"], recipe["augment"]["brightness"]) == ("night", True, 0.5)
    with (project / "runs" / "by-night" / "log.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert 0 <= float(row["validation_top1"]) <= 100
    held_out = config["held_out"]["annotations"]
    resight("train", "all", "--split", "s", "--recipe", "night", "--set", "validation_share=none",
            "--set", "use_set_aside=false")  # fmt: skip
    everything = config_of(project, "all")
    assert everything["held_out"] is None
    assert 0 < held_out < everything["samples"]["annotations"]
    assert everything["set_aside_used"] is False


def test_without_an_accelerator_the_recipe_is_tiny(resight: Command, project: Path) -> None:
    assert config_of(project, "r")["recipe"]["name"] == "tiny"
    recipe = config_of(project, "r")["recipe"]
    assert (recipe["backbone"], recipe["weights"], recipe["image_size"]) == ("test_resnet", "none", 32)


def test_fine_tuning_goes_on_from_a_model_with_its_backbone_and_chip_size(resight: Command, project: Path) -> None:
    quick = ("--set", "epochs=2", "--set", "head_only_epochs=1", "--set", "precision=float32")
    result = resight("train", "tuned-on", "--split", "s", "--recipe", "finetune", "--init", "r", *quick, "--json")
    assert result["epochs"] == 2
    config = config_of(project, "tuned-on")
    assert (config["recipe"]["backbone"], config["recipe"]["image_size"]) == ("test_resnet", 32)
    assert config["initial_weights_hash"] is not None
    assert result["classes"] > config_of(project, "r")["samples"]["classes"]  # mirror images where sides differ


def test_teachers_and_trackers(resight: Command, project: Path) -> None:
    words = ("--teachers", "r", "--set", "distil_weight=1", "--track", "tensorboard")
    resight("train", "pupil", "--split", "s", *SMALL, *words)
    assert config_of(project, "pupil")["teachers"] == ["r"]
    assert list((project / "runs" / "pupil" / "tensorboard").glob("events.*"))
    assert (project / "runs" / "pupil" / "curves.png").is_file()


def test_a_stopped_run_goes_on_without_its_settings_being_said_again(resight: Command, project: Path) -> None:
    resight("train", "again", "--split", "s", *SMALL, "--set", "learning_rate=0.001")
    shutil.rmtree(project / "runs" / "again" / "model")
    resumed = resight("train", "again", "--split", "s", "--resume", "--json")
    recipe = config_of(project, "again")["recipe"]
    assert (resumed["epochs"], recipe["learning_rate"], recipe["image_size"]) == (1, 0.001, 32)
    assert (project / "runs" / "again" / "model" / "model.safetensors").is_file()


def test_a_stopped_run_remembers_its_species_its_teachers_and_its_start(resight: Command, project: Path) -> None:
    words = ("--species", "lion", "--teachers", "r", "--set", "distil_weight=1", "--init", "r")
    resight("train", "much-said", "--split", "s", *SMALL[:4], *words)
    shutil.rmtree(project / "runs" / "much-said" / "checkpoint")
    shutil.rmtree(project / "runs" / "much-said" / "model")
    resight("train", "much-said", "--split", "s", "--resume")
    config = config_of(project, "much-said")
    assert (config["species"], config["teachers"], config["init"]) == (["lion"], ["r"], "r")
    assert {one["species"] for one in config["classes"]} == {"lion"}
    assert config["recipe"]["weights"] == "init"


def test_a_recipe_made_from_finetune_wants_a_model_too(resight: Command, project: Path) -> None:
    assert "--init MODEL" in resight("train", "y", "--split", "s", "--recipe", "gently", expect=2)
    assert "--init and --weights" in resight("train", "y", "--split", "s", "--init", "r", "--weights", "none", expect=2)


def test_a_taken_name_is_refused_before_any_chip_is_cut(resight: Command, project: Path) -> None:
    before = sorted((project / "chips").iterdir())
    assert "'r'" in resight("train", "r", "--split", "s", *SMALL, "--set", "image_size=48", expect=2)
    assert sorted((project / "chips").iterdir()) == before


def test_a_plan_says_how_the_workers_are_started(resight: Command, project: Path) -> None:
    planned = resight("train", "far", "--split", "s", *SMALL, "--plan", "--json")
    folder = project / "runs" / "far"
    assert planned == {"run": "far", "plan": str(folder)}
    assert (folder / "plan.json").is_file()
    assert not (folder / "config.json").exists()
    assert "resight.training.worker" in resight("train", "further", "--split", "s", *SMALL, "--plan")


def test_one_run_is_trained_by_one_process_at_a_time(resight: Command, project: Path) -> None:
    with FileLock(project / "runs" / ".busy.lock"):
        assert "being trained by another process" in resight("train", "busy", "--split", "s", *SMALL, expect=2)


def test_photos_that_are_gone_are_left_out_by_name_and_counted(resight: Command, project: Path, photos: Path) -> None:
    hidden = [photo.rename(photo.with_suffix(".hidden")) for photo in sorted(photos.parent.rglob("lion*.png"))[::7]]
    try:
        # Another size, so that chips are cut anew.
        text = resight("train", "gone", "--split", "s", *SMALL, "--set", "image_size=40")
    finally:
        for photo in hidden:
            photo.rename(photo.with_suffix(".png"))
    config = config_of(project, "gone")
    skipped = config["skipped"]
    assert 0 < len(skipped) <= len(hidden)
    assert f"{len(skipped)} training annotations were left out" in text
    assert {Path(one["chip_path"]).stem for one in skipped} <= {photo.stem for photo in hidden}
    assert config["samples"]["annotations"] + len(skipped) == config_of(project, "r")["samples"]["annotations"]
