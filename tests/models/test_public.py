"""Folders in the layouts that others publish, with small networks in them, made by code written for these tests."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from resight.errors import ArtefactMismatch, InputError
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder
from resight.models.library import find_model
from resight.models.public import load_folder

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# A small MiewIdNet as the public repositories have it, with the call of post_init that transformers 5 asks for.
REMOTE_CODE = """
import timm, torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


class MiewIdNetConfig(PretrainedConfig):
    model_type = "miewid"

    def __init__(self, model_name="test_efficientnet", n_classes=0, use_fc=False, fc_dim=512, **kwargs):
        self.model_name, self.n_classes, self.use_fc, self.fc_dim = model_name, n_classes, use_fc, fc_dim
        super().__init__(**kwargs)


class GeM(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 3)

    def forward(self, x):
        return F.avg_pool2d(x.clamp(min=1e-6).pow(self.p), (x.size(-2), x.size(-1))).pow(1.0 / self.p)


class MiewIdNet(PreTrainedModel):
    config_class = MiewIdNetConfig

    def __init__(self, config):
        super().__init__(config)
        self.backbone = timm.create_model(config.model_name, pretrained=False)
        features = self.backbone.classifier.in_features
        self.backbone.classifier = nn.Identity()
        self.backbone.global_pool = nn.Identity()
        self.pooling = GeM()
        self.bn = nn.BatchNorm1d(features)
        self.post_init()

    def forward(self, x):
        return self.bn(self.pooling(self.backbone.forward_features(x)).flatten(1))
"""
MIEWID_CONFIG: dict[str, Any] = {
    "architectures": ["MiewIdNet"],
    "auto_map": {
        "AutoConfig": "modeling_miewid.MiewIdNetConfig",
        "AutoModel": "modeling_miewid.MiewIdNet",
    },
    "model_type": "miewid",
    "model_name": "test_efficientnet",
    "image_size": 64,
    "pooling": "gem",
    "use_fc": False,
    "fc_dim": 512,
    "n_classes": 0,
    "margin": 0.3,
    "loss_module": "arcface_subcenter_dynamic",
    "torch_dtype": "float32",
}


def shaken(module: nn.Module) -> nn.Module:
    """Give BatchNorm and pooling values that they do not start with, so that leaving one out shows."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim < 2:
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(noise + 0.5 if name.endswith(("var", "weight")) else tensor + 0.2 * noise)
    return module


def miewid_state(model_name: str = "test_efficientnet", **settings: Any) -> dict[str, Tensor]:
    torch.manual_seed(3)
    backbone = timm.create_model(model_name, pretrained=False, num_classes=0, global_pool="", **settings)
    bn = nn.BatchNorm1d(backbone.num_features)
    parts = {"backbone": shaken(backbone), "bn": shaken(bn)}
    state = {f"{part}.{name}": tensor for part, module in parts.items() for name, tensor in module.state_dict().items()}
    return {**state, "pooling.p": torch.tensor([2.6])}


def make_miewid(folder: Path, state: dict[str, Tensor] | None = None, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**MIEWID_CONFIG, **config}), encoding="utf-8")
    save_file(state or miewid_state(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_timm(folder: Path, name: str = "test_vit", size: int = 160, classes: int = 7, **config: Any) -> Path:
    torch.manual_seed(4)
    network = shaken(timm.create_model(name, pretrained=False, num_classes=classes))
    stated = network.pretrained_cfg
    folder.mkdir(exist_ok=True)
    values = {
        "architecture": name,
        "num_classes": classes,
        "num_features": network.num_features,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.3, 0.4],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "classifier": stated["classifier"],
            "license": "mit",
        },
        **config,
    }
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder


def chips(n: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def pixels(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
    return (scaled - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def naive_miewid(state: dict[str, Tensor], images: np.ndarray) -> np.ndarray:
    """timm's features, GeM and BatchNorm at evaluation, written out."""
    backbone = timm.create_model("test_efficientnet", pretrained=False, num_classes=0, global_pool="").eval()
    backbone.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")})
    with torch.no_grad():
        features = backbone.forward_features(pixels(images, IMAGENET_MEAN, IMAGENET_STD))
        p = state["pooling.p"]
        pooled = features.clamp(min=1e-6).pow(p).mean(dim=(2, 3)).pow(1 / p)
        unit = (pooled - state["bn.running_mean"]) / (state["bn.running_var"] + 1e-5).sqrt()
        return (unit * state["bn.weight"] + state["bn.bias"]).numpy()


def test_a_miewid_folder_equals_the_network_by_hand(tmp_path: Path) -> None:
    embedder = load_folder(make_miewid(tmp_path / "miewid"))
    assert not embedder.training
    config = embedder.config
    assert (config.backbone, config.dim, config.image_size) == ("test_efficientnet", 256, 64)
    assert (config.pooling, config.neck, config.licence) == ("gem", "batchnorm", None)
    assert config.weights_source == "folder miewid"
    images = chips(3, 64)
    expected = naive_miewid(load_file(tmp_path / "miewid" / "model.safetensors"), images)
    assert np.allclose(embedder.embed_chips(images), expected, rtol=3e-3, atol=3e-3)


def test_a_miewid_folder_equals_what_transformers_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = make_miewid(tmp_path / "miewid")
    ours = load_folder(folder)
    (folder / "modeling_miewid.py").write_text(REMOTE_CODE, encoding="utf-8")
    theirs = transformers.AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    assert type(theirs).__name__ == "MiewIdNet"
    images = chips(3, 64)
    with torch.no_grad():
        expected = theirs(pixels(images, IMAGENET_MEAN, IMAGENET_STD))
        got = ours(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert F.cosine_similarity(got, expected).min() > 0.9999
    assert torch.allclose(got, expected, rtol=1e-3, atol=1e-4)
    assert F.cosine_similarity(got[:1], expected[1:2]).item() < 0.9999  # so the figure can tell two pictures apart


def test_the_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    folder = make_miewid(tmp_path / "miewid")
    trap = tmp_path / "ran"
    for name in ("modeling_miewid.py", "configuration_miewid.py"):
        (folder / name).write_text(f"open({str(trap)!r}, 'w')", encoding="utf-8")
    load_folder(folder)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["final.weight", "final.kernel", "fc.weight", "backbone.classifier.weight"])
def test_a_head_that_only_training_uses_is_left_out(tmp_path: Path, name: str) -> None:
    plain = load_folder(make_miewid(tmp_path / "plain"))
    headed = load_folder(make_miewid(tmp_path / "headed", {**miewid_state(), name: torch.zeros(5, 256)}))
    assert headed.weights_hash == plain.weights_hash


def test_a_swin_keeps_its_classifier_and_is_read(tmp_path: Path) -> None:
    name = "swinv2_tiny_window8_256"
    state = miewid_state(name)
    folder = make_miewid(
        tmp_path / "swin", {**state, "backbone.head.fc.weight": torch.zeros(9, 768)}, model_name=name, image_size=256
    )
    embedder = load_folder(folder)
    assert embedder.config.dim == 768
    assert torch.equal(embedder.pooling.p, state["pooling.p"])


def remove(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(name)


def put(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("pooling.p"), r"missing pooling\.p"),
        (remove("backbone.conv_stem.weight"), r"missing backbone\.conv_stem\.weight"),
        (put("neck.weight", 3), r"unexpected neck\.weight"),
        (put("backbone.extra", 3), r"unexpected backbone\.extra"),
        (put("finally.weight", 3), r"unexpected finally\.weight"),
        (put("bn.weight", 512), r"bn\.weight is \(512,\) there and \(256,\) in the network"),
        (put("pooling.p", 2), r"pooling\.p is \(2,\) there"),
    ],
)
def test_miewid_tensors_that_do_not_fit_are_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    state = miewid_state()
    change(state)
    with pytest.raises(ArtefactMismatch, match=message):
        load_folder(make_miewid(tmp_path / "miewid", state))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_a_backbone_that_miewids_network_treats_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    folder = make_miewid(tmp_path / "miewid", miewid_state(name), model_name=name, image_size=160)
    with pytest.raises(InputError, match=rf"model_name '{name}': .* such as efficientnetv2_rw_m"):
        load_folder(folder)


def test_a_timm_folder_equals_timms_own_network(tmp_path: Path) -> None:
    for name, size in (("test_vit", 160), ("test_convnext", 96), ("test_resnet", 64)):
        folder = make_timm(tmp_path / name, name, size)
        embedder = load_folder(folder)
        config = embedder.config
        assert (config.image_size, config.pooling, config.neck) == (size, "backbone", "none")
        assert config.licence is None
        state = load_file(folder / "model.safetensors")
        network = timm.create_model(name, pretrained=False, num_classes=7).eval()
        network.load_state_dict(state)
        network.reset_classifier(0)
        images = chips(2, size)
        with torch.no_grad():
            expected = network(pixels(images, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))).numpy()
        assert np.allclose(embedder.embed_chips(images), expected, rtol=3e-3, atol=3e-3)


def test_a_pickled_state_dict_is_read_as_well(tmp_path: Path) -> None:
    folder = make_timm(tmp_path / "timm")
    expected = load_folder(folder).weights_hash
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert load_folder(folder).weights_hash == expected
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="no weights"):
        load_folder(folder)


class Planted:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, ("planted",)


def test_a_pickled_file_with_code_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_timm(tmp_path / "timm")
    torch.save({**load_file(folder / "model.safetensors"), "extra": Planted()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"pytorch_model\.bin cannot be read \(Weights only load failed"):
        load_folder(folder)
    assert not (tmp_path / "planted").exists()


def edit_timm(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("norm.weight"), r"missing norm\.weight"),
        (put("neck.weight", 3), r"unexpected neck\.weight"),
        (put("norm.weight", 3), r"norm\.weight is \(3,\) there and \(64,\) in the network"),
        (put("pos_embed", 1, 50, 64), r"pos_embed is \(1, 50, 64\) there"),  # and is not resized to fit
    ],
)
def test_timm_tensors_that_do_not_fit_are_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    with pytest.raises(ArtefactMismatch, match=message):
        load_folder(edit_timm(make_timm(tmp_path / "timm"), change))


def test_a_config_that_differs_from_timms_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactMismatch, match="num_features 99, and timm's test_vit gives 64"):
        load_folder(make_timm(tmp_path / "a", num_features=99))
    with pytest.raises(InputError, match=r"global_pool 'avg', which is not the one of timm's test_vit"):
        load_folder(make_timm(tmp_path / "b", global_pool="avg"))
    load_folder(make_timm(tmp_path / "c", global_pool="token"))
    with pytest.raises(InputError, match="no timm backbone named 'test_vitt'"):
        load_folder(make_timm(tmp_path / "d", architecture="test_vitt"))


def test_folders_of_every_layout_are_models_by_name(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    config = EmbedderConfig("test_resnet", 96, 64, (0.5,) * 3, (0.5,) * 3)
    Embedder(config).save(tmp_path / "ours")
    make_miewid(tmp_path / "miewid")
    make_timm(tmp_path / "timm")
    for name, size, dim in (("ours", 64, 96), ("miewid", 64, 256), ("timm", 160, 64)):
        found = find_model(str(tmp_path / name), runs)
        assert (found.kind, found.image_size()) == ("folder", size)
        assert found.name.startswith(f"{name}-")
        assert len(found.name) == len(name) + 9
        assert found.load().config.dim == dim
    again = shutil.copytree(tmp_path / "timm", tmp_path / "elsewhere" / "timm")
    assert find_model(str(again), runs).name == find_model(str(tmp_path / "timm"), runs).name
    edit_timm(again, lambda state: state.update({"norm.bias": state["norm.bias"] + 1}))
    assert find_model(str(again), runs).name != find_model(str(tmp_path / "timm"), runs).name


def test_a_model_of_the_hub_is_found_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789" * 4
    cached = tmp_path / "cache" / "models--BVRA--MegaDescriptor-L-384"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit, encoding="utf-8")
    (cached / "snapshots").mkdir()
    make_timm(cached / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    found = find_model("hub:BVRA/MegaDescriptor-L-384", tmp_path / "runs")
    assert (found.kind, found.image_size()) == ("hub", 160)
    assert found.name.startswith("BVRA--MegaDescriptor-L-384-")
    config = found.load().config
    assert config.weights_source == f"hub:BVRA/MegaDescriptor-L-384@{commit}"
    assert config.licence == "CC-BY-NC-4.0"  # well known, and the folder has no card
    (cached / "snapshots" / commit / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert find_model("hub:BVRA/MegaDescriptor-L-384", tmp_path / "runs").load().config.licence == "mit"
