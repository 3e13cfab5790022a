"""Every experiment on a made-up catalogue of 6 species with 12 individuals each, as a user runs it."""

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Command

from resight.cli import run

SPECIES, INDIVIDUALS, PHOTOS, SIDE = 6, 12, 8, 64
ONE_SEED = ("--seeds", "1", "--recipe", "tiny", "--backbone", "test_efficientnet", "--weights", "none",
            "--set", "image_size=64", "--set", "epochs=2")  # fmt: skip


def draw_population(folder: Path, n_species: int = SPECIES) -> Path:
    """Each individual has coloured bars of its own; each photo of it another shade, place and day."""
    random = np.random.default_rng(0)
    rows = []
    for species in range(n_species):
        for individual in range(INDIVIDUALS):
            colour, ground = random.integers(0, 256, (2, 3))
            bars = np.repeat(np.arange(12) % 2, random.integers(3, 12, 12))
            for photo in range(PHOTOS):
                line = np.resize(np.roll(bars, random.integers(0, 3)), SIDE)
                pixels = np.where(line[None, :, None] == 1, colour, ground) + random.normal(0, 12, (SIDE, SIDE, 3))
                name = f"{species}-{individual}-{photo}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
                rows.append((name, f"species{species}", f"i{individual}", f"2024-05-{photo + 1:02}", 8, 8, 48, 48))
    table = folder / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "species", "individual", "date", "x", "y", "w", "h"), *rows])
    return table


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("population")
    table = draw_population(folder)
    assert run(["init", str(folder / "project")]) == 0
    assert run(["--project", str(folder / "project"), "import", str(table)]) == 0
    return folder / "project"


def test_a_dry_run_shows_the_plan_and_trains_nothing(resight: Command, project: Path) -> None:
    planned = resight("experiment", "multi-vs-single", *ONE_SEED, "--dry-run", "--json")
    assert planned["name"] == "multi-vs-single"
    assert (planned["rows"], planned["report"]) == ([], None)
    assert len(planned["runs"]) == 1 + SPECIES
    assert {run["state"] for run in planned["runs"]} == {"waiting"}
    assert planned["seconds_estimated"] > 0
    assert not list((project / "experiments" / "runs").glob("*/model"))
    shown = resight("experiment", "multi-vs-single", *ONE_SEED, "--dry-run")
    assert "7 of 7 runs to do, about" in shown
    assert "only species3" in shown


def test_all_experiments_within_five_minutes(resight: Command, project: Path) -> None:
    began = time.perf_counter()
    asked: dict[str, tuple[str, ...]] = {
        "multi-vs-single": (),
        "leave-one-out": (),
        "zero-shot": ("--models", "imagenet-lite0,imagenet-lite0"),
        "bootstrap": ("--species", "species2", "--individuals", "0,2,4"),
        "finetune": ("--species", "species2", "--individuals", "2,4"),
        "gallery-size": (),
        "backbones": ("--backbones", "test_efficientnet,test_resnet"),
        "reproduce-paper": ("--individuals", "0,4"),
    }
    results = {name: resight("experiment", name, *ONE_SEED, *more, "--json") for name, more in asked.items()}
    assert time.perf_counter() - began < 300
    for name, result in results.items():
        assert result["name"] == name
        assert result["failed"] == []
        assert result["rows"] or name == "reproduce-paper", name  # none of these species is the paper's
        page = Path(result["report"])
        assert page.is_file()
        assert json.loads((page.parent / "report.json").read_text(encoding="utf-8"))

    rows = results["multi-vs-single"]["rows"]
    assert {row["species"] for row in rows} == {f"species{number}" for number in range(SPECIES)}
    assert all(0 <= row["multi_top1"] <= 100 and 0 <= row["single_top20"] <= 100 for row in rows)
    assert {row["individuals"] for row in results["bootstrap"]["rows"]} == {0, 2, 4}
    assert Path(results["bootstrap"]["report"]).parent.name == "experiment-bootstrap-species2"
    zero = next(row for row in results["bootstrap"]["rows"] if row["individuals"] == 0)
    never = next(row for row in results["leave-one-out"]["rows"] if row["species"] == "species2")
    assert zero["joined_top1"] == never["leave_one_out_top1"]  # one and the same run
    keys = {name: {run["key"] for run in result["runs"]} for name, result in results.items()}
    assert keys["multi-vs-single"] & keys["leave-one-out"] & keys["gallery-size"]
    assert len(list((project / "experiments" / "runs").glob("*/done.json"))) == len(set().union(*keys.values()))


def test_a_second_call_trains_nothing_and_a_changed_setting_does(resight: Command, project: Path) -> None:
    def trained() -> dict[str, int]:
        runs = (project / "experiments" / "runs").glob("*/log.csv")
        return {run.parent.name: run.stat().st_mtime_ns for run in runs}

    first = resight("experiment", "gallery-size", *ONE_SEED, "--json")
    before = trained()
    again = resight("experiment", "gallery-size", *ONE_SEED, "--json")
    assert trained() == before
    assert again["rows"] == first["rows"]
    assert again["seconds_estimated"] == 0
    changed = resight("experiment", "gallery-size", *ONE_SEED, "--set", "scale=20", "--json")
    assert len(trained()) == len(before) + 1
    assert changed["runs"][0]["key"] != first["runs"][0]["key"]


def test_a_species_with_one_individual_is_left_out_and_listed(resight: Command, project: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (90, 20, 20)).save(tmp_path / "rare.png")
    (tmp_path / "rare.csv").write_text("path,species,individual\nrare.png,yeti,only\n", encoding="utf-8")
    resight("import", str(tmp_path / "rare.csv"))
    resight("split", "later", "--seed", "7")
    result = resight("experiment", "multi-vs-single", "--splits", "later", *ONE_SEED[2:], "--dry-run", "--json")
    assert [one["what"] for one in result["left_out"]] in ([], ["yeti"])  # a split may hold nothing of it
    assert "only yeti" not in {run["label"] for run in result["runs"]}


def test_a_species_whose_photos_are_gone_does_not_lose_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = draw_population(tmp_path, 3)
    assert run(["init", str(tmp_path / "project")]) == 0
    assert run(["--project", str(tmp_path / "project"), "import", str(table)]) == 0
    for photo in (*tmp_path.glob("2-*.png"), tmp_path / "1-0-0.png"):
        photo.unlink()
    capsys.readouterr()
    words = ["experiment", "multi-vs-single", *ONE_SEED, "--no-background", "--dry-run", "--json"]
    assert run(["--project", str(tmp_path / "project"), *words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {entry["label"] for entry in result["runs"]} == {"joint", "only species0", "only species1"}
    assert [one["what"] for one in result["left_out"]] == ["species2"]
    assert "at least 2 needed" in result["left_out"][0]["reason"]
    assert any("their photos cannot be used" in warning for warning in result["warnings"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("multi-vs-singel",), "multi-vs-single"),
        (("zero-shot",), "--models A,B"),
        (("backbones", "--backbones", "test_resnet"), "at least two timm models, got test_resnet"),
        (("bootstrap",), "--species S"),
        (("bootstrap", "--species", "species2", "--individuals", "5,x"), "'5,x': expected whole numbers"),
        (("bootstrap", "--species", "species2", "--individuals", "500"), "individuals in training"),
        (("multi-vs-single", "--species", "species1"), "at least two species"),
        (("multi-vs-single", "--species", "species1,specie2"), "species2"),
        (("multi-vs-single", "--budget", "hours"), "epochs"),
        (("multi-vs-single", "--splits", "nowhere"), "nowhere"),
        (("multi-vs-single", "--set", "validation_share=0.2"), "name another recipe"),
    ],
)
def test_wrong_input_is_one_line(resight: Command, words: tuple[str, ...], message: str) -> None:
    error = resight("experiment", *words, *(ONE_SEED if "--splits" not in words else ONE_SEED[2:]), expect=2)
    assert message in error


def test_zero_shot_refuses_a_model_that_saw_the_species(resight: Command, project: Path) -> None:
    seen: Any = ("train", "seer", "--split", "experiment-0", "--species", "species1,species2", *ONE_SEED[2:])
    resight(*seen, "--json")
    asked = ("experiment", "zero-shot", "--models", "seer", *ONE_SEED)
    result = resight(*asked, "--dry-run", "--json")
    assert {one["what"]: one["reason"] for one in result["left_out"]} == {
        "species1": "seer was trained on it (run seer)",
        "species2": "seer was trained on it (run seer)",
    }
    told = resight(*asked, "--allow-seen", "--json")
    assert {row["species"] for row in told["rows"]} == {f"species{number}" for number in range(SPECIES)}
    assert any("species1 is scored although seer was trained on it" in line for line in told["findings"])
