from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from resight.errors import InputError, NotBuiltYet, UnknownName
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder
from resight.models.library import ModelCard, default_model, find_model, list_models

CONFIG = EmbedderConfig(backbone="test_resnet", dim=96, image_size=64, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder(CONFIG)


def make_run(runs: Path, name: str, embedder: Embedder | None) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    recipe = {"backbone": "test_resnet", "image_size": 64}
    (folder / "config.json").write_text(json.dumps({"recipe": recipe}), encoding="utf-8")
    if embedder is not None:
        embedder.save(folder / "model")
    return folder


PACKAGED_CARD = ModelCard("imagenet-lite0", "tf_efficientnet_lite0", 1280, 224, "Apache-2.0", available=True)


def test_lists_packaged_models_and_runs(tmp_path: Path, embedder: Embedder) -> None:
    assert list_models(tmp_path / "none") == (PACKAGED_CARD,)
    make_run(tmp_path, "zebra", embedder)
    make_run(tmp_path, "half", None)
    (tmp_path / "stray").mkdir()
    assert list_models(tmp_path) == (
        PACKAGED_CARD,
        ModelCard("half", "test_resnet", None, 64, None, available=False),
        ModelCard("zebra", "test_resnet", 96, 64, None, available=True),
    )


def test_a_broken_run_is_listed_as_not_available(tmp_path: Path, embedder: Embedder) -> None:
    folder = make_run(tmp_path, "torn", embedder)
    (folder / "model" / "config.json").write_text("{", encoding="utf-8")
    (folder / "config.json").write_text("[]", encoding="utf-8")
    assert list_models(tmp_path)[1] == ModelCard("torn", "?", None, 0, None, available=False)


def test_finds_a_run_a_packaged_model_and_a_folder(tmp_path: Path, embedder: Embedder) -> None:
    make_run(tmp_path / "runs", "first", embedder)
    run = find_model("first", tmp_path / "runs")
    assert (run.name, run.kind, run.image_size()) == ("first", "run", 64)
    assert run.load().weights_hash == embedder.weights_hash

    packaged = find_model("imagenet-lite0", tmp_path / "runs")
    assert (packaged.kind, packaged.folder, packaged.image_size()) == ("packaged", None, 224)
    assert packaged.load().config.backbone == "tf_efficientnet_lite0"

    embedder.save(tmp_path / "somewhere")
    folder = find_model(str(tmp_path / "somewhere"), tmp_path / "runs")
    assert folder.name == f"somewhere-{embedder.weights_hash[:8]}"
    assert folder.load().weights_hash == embedder.weights_hash
    other = find_model(str(tmp_path / "runs" / "first" / "model"), tmp_path / "elsewhere")
    assert other.name == f"first-{embedder.weights_hash[:8]}"


def test_what_cannot_be_found_says_what_to_do(tmp_path: Path, embedder: Embedder) -> None:
    make_run(tmp_path, "giraffes", embedder)
    make_run(tmp_path, "half", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotBuiltYet, match="hub"):
        find_model("hub:conservationxlabs/miewid-msv3", tmp_path)
    with pytest.raises(UnknownName, match="did you mean 'giraffes'"):
        find_model("girafes", tmp_path)
    with pytest.raises(InputError, match="has not written its model yet"):
        find_model("half", tmp_path)
    with pytest.raises(InputError, match=r"is no model: it has no config\.json"):
        find_model(str(tmp_path / "empty"), tmp_path)


def test_the_default_is_the_newest_finished_run(tmp_path: Path, embedder: Embedder) -> None:
    assert default_model(tmp_path).name == "imagenet-lite0"
    for name, seconds in (("old", 1000), ("new", 3000), ("middle", 2000)):
        folder = make_run(tmp_path, name, embedder)
        os.utime(folder / "model" / "config.json", (seconds, seconds))
    make_run(tmp_path, "unfinished", None)
    assert default_model(tmp_path).name == "new"
