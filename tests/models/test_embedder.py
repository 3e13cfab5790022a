from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from resight.errors import ArtefactMismatch, InputError, UnknownName
from resight.models.backbone import make_backbone
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder

CONFIG = EmbedderConfig(
    backbone="test_resnet", dim=96, image_size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), licence="Apache-2.0"
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder(CONFIG)


def random_chips(n: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_the_weights_bear_the_names_of_the_public_models(embedder: Embedder) -> None:
    names = [name for name in embedder.state_dict() if not name.startswith("backbone.")]
    assert names == ["pooling.p", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
    bare = make_backbone("test_resnet", 64).state_dict()
    assert {f"backbone.{name}" for name in bare} | set(names) == set(embedder.state_dict())
    assert not any("fc" in name or "classifier" in name for name in embedder.state_dict())
    assert embedder.state_dict()["pooling.p"].shape == (1,)


def test_the_network_is_backbone_then_gem_then_neck_on_normalised_pixels(embedder: Embedder) -> None:
    chips = random_chips(3)
    embedder.eval()
    pixels = torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 255.0
    normalised = (pixels - torch.tensor(CONFIG.mean).view(1, 3, 1, 1)) / torch.tensor(CONFIG.std).view(1, 3, 1, 1)
    with torch.no_grad():
        features = embedder.backbone(normalised)
        pooled = features.clamp(min=1e-6).pow(3.0).mean(dim=(2, 3)).pow(1 / 3)
        expected = embedder.bn(pooled).numpy()
    vectors = embedder.embed_chips(chips)
    assert vectors.dtype == np.float16
    assert vectors.shape == (3, 96)
    assert np.allclose(vectors, expected, rtol=2e-3, atol=1e-3)


def test_embedding_neither_trains_nor_depends_on_the_batch(embedder: Embedder) -> None:
    embedder.train()
    before = embedder.weights_hash
    chips = random_chips(5)
    all_at_once = embedder.embed_chips(chips, batch_size=5)
    in_parts = embedder.embed_chips(chips, batch_size=2)
    assert embedder.training  # as it was
    assert embedder.weights_hash == before  # no running mean moved
    assert np.allclose(all_at_once, in_parts, rtol=2e-3, atol=1e-3)
    assert embedder.embed_chips(chips[:0]).shape == (0, 96)


@pytest.mark.parametrize(
    "chips",
    [
        random_chips(1).astype(np.float32),
        random_chips(1, 32),
        random_chips(1)[0],
        random_chips(1).transpose(0, 3, 1, 2),
    ],
)
def test_chips_of_another_type_or_shape_are_refused(embedder: Embedder, chips: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected uint8 of shape \(n, 64, 64, 3\)"):
        embedder.embed_chips(chips)


def test_normalised_chips_are_refused(embedder: Embedder) -> None:
    with pytest.raises(InputError, match="do not normalise"):
        embedder(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("factor", [1e6, float("nan")])
def test_an_embedding_that_float16_cannot_hold_is_an_error(factor: float) -> None:
    torch.manual_seed(0)
    broken = Embedder(CONFIG)
    with torch.no_grad():
        broken.bn.bias += factor
    with pytest.raises(InputError, match=r"the embedding of chip 0 reaches .* at most 65504"):
        broken.embed_chips(random_chips(2))


def test_save_and_load_give_the_same_vectors_and_hash(embedder: Embedder, tmp_path: Path) -> None:
    embedder.save(tmp_path / "model")
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    loaded = Embedder.load(tmp_path / "model")
    assert loaded.config == CONFIG
    assert not loaded.training
    assert loaded.weights_hash == embedder.weights_hash
    assert np.array_equal(loaded.embed_chips(random_chips(2)), embedder.embed_chips(random_chips(2)))
    stored = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    assert stored["image_size"] == 64
    assert stored["resize"] == "squash"
    assert stored["licence"] == "Apache-2.0"
    assert stored["weights_hash"] == embedder.weights_hash


def test_the_hash_moves_with_any_weight(embedder: Embedder) -> None:
    torch.manual_seed(0)
    other = Embedder(CONFIG)
    other.load_state_dict(embedder.state_dict())
    assert other.weights_hash == embedder.weights_hash
    with torch.no_grad():
        other.pooling.p += 1e-6
    assert other.weights_hash != embedder.weights_hash


def test_a_failed_save_leaves_the_old_model(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder.save(tmp_path)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        embedder.save(tmp_path)
    monkeypatch.undo()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert Embedder.load(tmp_path).weights_hash == embedder.weights_hash


def edit_weights(folder: Path, change: str) -> None:
    state = load_file(folder / "model.safetensors")
    if change == "missing":
        del state["bn.weight"]
    elif change == "unexpected":
        state["fc.weight"] = torch.zeros(2)
    elif change == "shape":
        state["bn.bias"] = torch.zeros(7)
    else:
        state["bn.bias"] = state["bn.bias"] + 1
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"missing bn\.weight"),
        ("unexpected", r"unexpected fc\.weight"),
        ("shape", r"bn\.bias is \(7,\) there and \(96,\) in the network"),
        ("value", "does not hold the weights that config.json was written with"),
    ],
)
def test_weights_that_do_not_fit_are_named(embedder: Embedder, tmp_path: Path, change: str, message: str) -> None:
    embedder.save(tmp_path)
    edit_weights(tmp_path, change)
    with pytest.raises(ArtefactMismatch, match=message):
        Embedder.load(tmp_path)


def test_broken_and_missing_files_are_named(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        Embedder.load(tmp_path)
    embedder.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="no readable safetensors file"):
        Embedder.load(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        Embedder.load(tmp_path)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"image_sise": 3}, UnknownName, "did you mean 'image_size'"),
        ({"format": "other"}, ArtefactMismatch, "format 'other'"),
        ({"dim": 0}, InputError, "dim 0: expected a whole number above 0"),
        ({"mean": [0.5]}, InputError, "three numbers"),
        ({"std": [0.5, 0.5, 0]}, InputError, "three numbers above 0"),
        ({"mean": 1}, InputError, "three numbers"),
        ({"resize": "pad"}, InputError, "'squash'"),
        ({"pooling": "max"}, InputError, "pooling 'max': expected 'gem' or 'backbone'"),
        ({"neck": None}, InputError, "neck None: expected 'batchnorm' or 'none'"),
        ({"output_stride": 8}, InputError, "output_stride 8: expected 32 or 16"),
        ({"gem_levels": True}, InputError, "gem_levels True: expected 1 or 2"),
        ({"gem_levels": 2, "pooling": "backbone"}, InputError, "1 where pooling is 'backbone'"),
        ({"gem_columns": 2, "pooling": "backbone"}, InputError, "gem_columns 2: expected 1 where pooling is"),
        ({"gem_columns": 0}, InputError, "gem_columns 0: expected a whole number above 0"),
        ({"weights_hash": None}, InputError, "weights_hash None"),
        ({"backbone": "resnet10x"}, UnknownName, "no timm backbone named 'resnet10x'"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(
    embedder: Embedder, tmp_path: Path, changes: dict[str, object], kind: type[InputError], message: str
) -> None:
    embedder.save(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(kind, match=message):
        Embedder.load(tmp_path)


def test_a_config_without_the_later_keys_means_what_it_always_did() -> None:
    values = CONFIG.to_json()
    later = {"pooling": "gem", "gem_levels": 1, "gem_columns": 1, "output_stride": 32, "neck": "batchnorm"}
    for key, usual in later.items():
        assert values.pop(key) == usual
    assert EmbedderConfig.from_json(values) == CONFIG


def test_keys_of_the_transformers_library_are_passed_over(embedder: Embedder, tmp_path: Path) -> None:
    embedder.save(tmp_path)
    edit_config(tmp_path, architectures=["X"], auto_map={}, model_type="x", dtype="float32", transformers_version="5")
    assert Embedder.load(tmp_path).config == CONFIG


def test_the_config_survives_json() -> None:
    config = replace(CONFIG, licence=None, pooling_p=4.0, gem_levels=2, gem_columns=3, output_stride=16, neck="none")
    assert EmbedderConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(InputError, match="lacks dim"):
        EmbedderConfig.from_json({key: value for key, value in CONFIG.to_json().items() if key != "dim"})


def test_a_transformer_is_built_for_the_size_of_the_chips() -> None:
    embedder = Embedder(replace(CONFIG, backbone="test_vit", dim=64, image_size=96))
    assert embedder.embed_chips(random_chips(1, 96)).shape == (1, 64)


def normalised(chips: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 255.0
    return (pixels - torch.tensor(CONFIG.mean).view(1, 3, 1, 1)) / torch.tensor(CONFIG.std).view(1, 3, 1, 1)


def channels_first(chips: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(chips).permute(0, 3, 1, 2)


def test_forward_is_the_neck_after_pool(embedder: Embedder) -> None:
    embedder.eval()
    chips = channels_first(random_chips(3))
    with torch.no_grad():
        pooled = embedder.pool(chips)
        assert pooled.dtype == torch.float32
        assert torch.equal(embedder.bn(pooled), embedder(chips))
        assert not torch.equal(pooled, embedder(chips))


def test_two_levels_are_gem_over_each_side_by_side() -> None:
    torch.manual_seed(0)
    two = Embedder(replace(CONFIG, dim=192 + 96, gem_levels=2)).eval()
    names = [name for name in two.state_dict() if name.startswith("pooling")]
    assert names == ["pooling.levels.0.p", "pooling.levels.1.p"]
    with torch.no_grad():
        two.pooling.levels[0].p.fill_(2.0)
        two.pooling.levels[1].p.fill_(5.0)
        pixels = normalised(random_chips(2))
        network = two.backbone
        stem = network.maxpool(network.act1(network.bn1(network.conv1(pixels))))
        earlier = network.layer3(network.layer2(network.layer1(stem)))
        last = network.layer4(earlier)
        expected = torch.cat([naive_gem(earlier, 2.0), naive_gem(last, 5.0)], dim=1)
        assert earlier.shape[2:] == (4, 4)  # stride 16 of 64 pixels
        assert torch.allclose(two.pool(channels_first(random_chips(2))), expected, rtol=1e-4, atol=1e-5)


def naive_gem(features: torch.Tensor, p: float) -> torch.Tensor:
    return features.clamp(min=1e-6).pow(p).mean(dim=(2, 3)).pow(1 / p)


def test_an_output_stride_of_16_keeps_the_weights_and_doubles_the_map(embedder: Embedder) -> None:
    finer = Embedder(replace(CONFIG, output_stride=16)).eval()
    finer.load_state_dict(embedder.state_dict())  # strict: names and shapes are the same
    pixels = normalised(random_chips(1))
    with torch.no_grad():
        assert embedder.backbone(pixels).shape == (1, 96, 2, 2)
        assert finer.backbone(pixels).shape == (1, 96, 4, 4)
    assert not np.array_equal(finer.embed_chips(random_chips(1)), embedder.embed_chips(random_chips(1)))


def test_without_neck_and_with_timms_own_pooling_nothing_is_added(tmp_path: Path) -> None:
    torch.manual_seed(0)
    bare = Embedder(replace(CONFIG, backbone="test_vit", dim=64, pooling="backbone", neck="none")).eval()
    assert all(name.startswith("backbone.") for name in bare.state_dict())
    whole = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=64).eval()
    whole.load_state_dict({name.removeprefix("backbone."): value for name, value in bare.state_dict().items()})
    with torch.no_grad():
        expected = whole(normalised(random_chips(2))).numpy()
    assert np.allclose(bare.embed_chips(random_chips(2)), expected, rtol=2e-3, atol=1e-3)
    bare.save(tmp_path)
    again = Embedder.load(tmp_path)
    assert (again.config.pooling, again.config.neck) == ("backbone", "none")
    assert np.array_equal(again.embed_chips(random_chips(2)), bare.embed_chips(random_chips(2)))
