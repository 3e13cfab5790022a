"""The commands that give a model away, as a user meets them, on a run made by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

from resight.artefacts import write_json
from resight.cli import run
from resight.models.config import read_config
from resight.models.embedder import Embedder
from resight.models.weights import new_embedder

from .conftest import Command


def draw_herd(folder: Path) -> Path:
    """Four photos of two zebras, each seen from both sides."""
    folder.mkdir()
    random = np.random.default_rng(0)
    with (folder / "herd.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "species", "name", "viewpoint", "date"))
        for number in range(4):
            Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{number}.png")
            side = ("left", "right")[number % 2]
            table.writerow((f"{number}.png", "zebra", f"Zoe{number // 2}", side, f"2024-05-0{number + 1}"))
    return folder / "herd.csv"


def make_run(folder: Path, *, finished: bool = True) -> None:
    torch.manual_seed(0)
    classes = [{"species": "zebra", "identity": f"Zoe{n}|left", "annotations": 2 + n} for n in range(2)]
    recipe = {"name": "tiny", "backbone": "test_efficientnet", "image_size": 64, "assumed": []}
    write_json(folder / "config.json", {"run": folder.name, "recipe": recipe, "classes": classes, "skipped": []})
    if finished:
        new_embedder("test_efficientnet", weights="none", image_size=64).save(folder / "model")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "zebras"
    assert run(["init", str(folder)]) == 0
    table = draw_herd(folder.parent / "herd")
    assert run(["--project", str(folder), "import", str(table), "--source", "county-survey"]) == 0
    make_run(folder / "runs" / "r")
    make_run(folder / "runs" / "half", finished=False)
    return folder


def test_publish_writes_a_model_with_a_card_from_the_run_and_the_catalogue(
    resight: Command, project: Path, tmp_path: Path
) -> None:
    result = resight("publish", "r", str(tmp_path / "out"), "--licence", "apache-2.0", "--json")
    assert result["path"] == str(tmp_path / "out")
    assert sorted(result["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert result["weights_hash"] == Embedder.load(project / "runs" / "r" / "model").weights_hash
    assert (result["licence"], result["url"], result["private"]) == ("Apache-2.0", None, None)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| zebra | 5 | 2 | separate | county-survey |" in card
    assert "Not evaluated" in card
    assert "license: apache-2.0" in card
    assert "Zoe" not in card
    assert str(project.parent) not in card


def test_the_published_folder_embeds_as_the_run_does(resight: Command, project: Path, tmp_path: Path) -> None:
    resight("publish", "r", str(tmp_path / "out"))
    vectors = []
    for model in ("r", str(tmp_path / "out")):
        report = resight("embed", "--model", model, "--json")
        assert report["embedded"] == 4
        vectors.append(np.load(project / "embeddings" / report["model"] / "vectors.npy"))
    assert np.array_equal(*vectors)


def test_the_card_has_the_figures_of_this_model_only(resight: Command, project: Path, tmp_path: Path) -> None:
    weights = read_config(project / "runs" / "r" / "model").weights_hash
    figures = {"queries": 9, "individuals": 4, "excluded": 1, "top1": 77.75, "top1_ci95": [60.0, 90.0]}
    for split, weights_hash in (("now", weights), ("before", "of another model")):
        document = {"model": "r", "split": split, "species": [{"species": "zebra", **figures}], "macro": {}}
        write_json(project / "reports" / f"evaluate-r-{split}.json", {**document, "weights_hash": weights_hash})
    told = resight("publish", "r", str(tmp_path / "out"), "--licence", "MIT")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| zebra | 9 | 4 | 1 | 77.8 | 60.0 to 90.0 |" in card
    assert card.count("### Split") == 1
    assert told.count("note: ") == 1
    assert "evaluate-r-before.json is left out, since it is of other weights than the model's" in told


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("nope", "OUT"), "no run named 'nope'"),
        (("imagenet-lite0", "OUT"), "only what was trained in this project is published"),
        (("a/b", "OUT"), "run name 'a/b'"),
        (("half", "OUT"), "'half' has not written its model yet"),
        (("r", "FULL"), "exists and is not empty"),
        (("r", "OUT", "--licence", "mine"), "--licence 'mine': expected an SPDX identifier"),
        (("r", "OUT", "--public"), "--public is for the hub"),
        (("r", "hub:o/n", "--public"), "--public needs --licence"),
        (("r", "hub:o"), "expected hub:OWNER/NAME"),
        (("r", "hub:o/n"), "needs a token that may write"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    resight: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], named: str
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "mine.txt").write_text("mine", encoding="utf-8")
    assert named in resight("publish", *words, expect=2)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["FULL", "mine.txt"]


def test_a_hub_that_cannot_be_reached_is_an_unexpected_failure(
    resight: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    assert "hub:o/n: nothing was uploaded" in resight("publish", "r", "hub:o/n", expect=1)
