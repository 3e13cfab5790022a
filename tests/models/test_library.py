from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from resight.errors import InputError, UnknownName
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


PACKAGED_CARDS = tuple(
    ModelCard(f"imagenet-lite{number}", f"tf_efficientnet_lite{number}", 1280, size, "Apache-2.0", available=True)
    for number, size in ((0, 224), (1, 240), (2, 260))
)
HUB_CARDS = (
    ModelCard(
        "hub:BVRA/MegaDescriptor-L-384",
        "swin_large_patch4_window12_384",
        1536,
        384,
        "CC-BY-NC-4.0",
        available=False,
    ),
    ModelCard("hub:conservationxlabs/miewid-msv2", "efficientnetv2_rw_m", 2152, 440, None, available=False),
    ModelCard("hub:conservationxlabs/miewid-msv3", "efficientnetv2_rw_m", 2152, 440, None, available=False),
)


@pytest.fixture(autouse=True)
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_lists_packaged_models_and_runs(tmp_path: Path, embedder: Embedder) -> None:
    assert list_models(tmp_path / "none") == (*PACKAGED_CARDS, *HUB_CARDS)
    make_run(tmp_path, "zebra", embedder)
    make_run(tmp_path, "half", None)
    (tmp_path / "stray").mkdir()
    assert list_models(tmp_path) == (
        *PACKAGED_CARDS,
        ModelCard("half", "test_resnet", None, 64, None, available=False),
        ModelCard("zebra", "test_resnet", 96, 64, None, available=True),
        *HUB_CARDS,
    )


def put_into_cache(cache: Path, repository: str, files: dict[str, bytes], commit: str = "c0ffee" * 6 + "abcd") -> None:
    """Lay files out as the hub's library keeps a model."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit, encoding="utf-8")
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)


def test_a_model_in_the_hubs_cache_is_available_and_the_network_is_not_asked(hub_cache: Path, tmp_path: Path) -> None:
    put_into_cache(hub_cache, "conservationxlabs/miewid-msv2", {"config.json": b"{}", "model.safetensors": b"x"})
    put_into_cache(hub_cache, "conservationxlabs/miewid-msv3", {"config.json": b"{}"})
    assert {card.name: card.available for card in list_models(tmp_path) if card.name.startswith("hub:")} == {
        "hub:BVRA/MegaDescriptor-L-384": False,
        "hub:conservationxlabs/miewid-msv2": True,
        "hub:conservationxlabs/miewid-msv3": False,
    }


def test_a_broken_run_is_listed_as_not_available(tmp_path: Path, embedder: Embedder) -> None:
    folder = make_run(tmp_path, "torn", embedder)
    (folder / "model" / "config.json").write_text("{", encoding="utf-8")
    (folder / "config.json").write_text("[]", encoding="utf-8")
    assert list_models(tmp_path)[3] == ModelCard("torn", "?", None, 0, None, available=False)


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
    with pytest.raises(InputError, match=r"'conservationxlabs/miewid-msv3' cannot be had .* name their folder"):
        find_model("hub:conservationxlabs/miewid-msv3", tmp_path)
    for name in ("hub:", "hub:miewid-msv3", "hub:a/b/c", "hub:/b"):
        with pytest.raises(InputError, match="expected hub:OWNER/NAME"):
            find_model(name, tmp_path)
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
