from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resight.errors import ArtefactMismatch, InputError
from resight.models.layouts import image_size_of, layout_of, licence_of, read_public, weights_file, weights_key

# The config of the public MegaDescriptor-L-384: the names are those of a release of timm before 0.9.
MEGADESCRIPTOR: dict[str, Any] = {
    "architecture": "swin_large_patch4_window12_384",
    "num_classes": 0,
    "num_features": 1536,
    "global_pool": "avg",
    "pretrained_cfg": {
        "custom_load": False,
        "input_size": [3, 384, 384],
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 0,
        "pool_size": [7, 7],
        "first_conv": "patch_embed.proj",
        "license": "mit",
        "classifier": "head",
    },
}
MIEWID: dict[str, Any] = {
    "architectures": ["MiewIdNet"],
    "auto_map": {"AutoModel": "modeling_miewid.MiewIdNet"},
    "fc_dim": 2048,
    "loss_module": "arcface_subcenter_dynamic",
    "margin": 0.3,
    "model_name": "efficientnetv2_rw_m",
    "model_type": "miewid",
    "n_classes": 0,
    "pooling": "gem",
    "use_fc": False,
}


def write(folder: Path, config: object, card: str | None = None) -> Path:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def test_reads_miewid(tmp_path: Path) -> None:
    public = read_public(write(tmp_path, MIEWID))
    assert (public.layout, public.backbone, public.image_size) == ("miewid", "efficientnetv2_rw_m", 440)
    assert public.mean == (0.485, 0.456, 0.406)
    assert public.std == (0.229, 0.224, 0.225)
    assert public.licence is None
    assert image_size_of(tmp_path) == 440
    assert read_public(write(tmp_path, {**MIEWID, "image_size": 256})).image_size == 256
    assert read_public(write(tmp_path, {**MIEWID, "image_size": [384, 384]})).image_size == 384


def test_reads_megadescriptor_whose_own_licence_is_on_its_card(tmp_path: Path) -> None:
    public = read_public(write(tmp_path, MEGADESCRIPTOR, "---\ntags:\n- a\nlicense: cc-by-nc-4.0\n---\n# Model\n"))
    assert (public.layout, public.backbone, public.image_size) == ("timm", "swin_large_patch4_window12_384", 384)
    assert (public.dim, public.global_pool, public.heads) == (1536, "avg", ("head",))
    assert public.licence == "cc-by-nc-4.0"  # not the mit of the weights it was made from


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\r\nlicense: 'mit'\r\n---\r\n", "mit"),
        ("---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\ntags: x\n---\n", None),
        ("# license: mit\n", None),
        ("text\n---\nlicense: mit\n---\n", None),
    ],
)
def test_a_licence_is_read_from_the_cards_front_matter(tmp_path: Path, card: str, licence: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert licence_of(tmp_path) == licence


def test_the_order_in_which_layouts_are_told_apart(tmp_path: Path) -> None:
    assert layout_of(write(tmp_path, {**MIEWID, **MEGADESCRIPTOR, "format": "resight-embedder-1"})) == "resight"
    assert layout_of(write(tmp_path, {**MEGADESCRIPTOR, **MIEWID})) == "miewid"
    assert layout_of(write(tmp_path, {"model_type": "miewid"})) == "miewid"
    assert layout_of(write(tmp_path, MEGADESCRIPTOR)) == "timm"


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"model_type": "vit", "architectures": ["ViTModel"]}, r"model_type 'vit' and architectures \['ViTModel'\]"),
        ({"hidden_size": 3}, "the keys hidden_size"),
        ({"architectures": 5}, "architectures 5"),
        ([1], "a list"),
    ],
)
def test_another_layout_says_what_was_found_and_what_is_known(tmp_path: Path, config: object, found: str) -> None:
    with pytest.raises(ArtefactMismatch, match=rf"{found}: expected .*'format'.*MiewID.*timm"):
        layout_of(write(tmp_path, config))


def without_mean(config: dict[str, Any]) -> dict[str, Any]:
    inner = {key: value for key, value in config["pretrained_cfg"].items() if key != "mean"}
    return {**config, "pretrained_cfg": inner}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**MIEWID, "pooling": "avg"}, "pooling 'avg': expected 'gem'"),
        ({**MIEWID, "model_name": None}, "model_name None: expected the name of a timm model"),
        ({**MIEWID, "image_size": [440, 256]}, r"image_size \[440, 256\]: expected one side"),
        ({**MIEWID, "image_size": -1}, "image_size -1"),
        (without_mean(MEGADESCRIPTOR), "mean None: expected three numbers"),
        ({**MEGADESCRIPTOR, "num_features": "many"}, "num_features 'many'"),
        ({**MEGADESCRIPTOR, "model_args": {"window_size": 14, "img_size": 448}}, "model_args window_size"),
        ({**MEGADESCRIPTOR, "pretrained_cfg": 3}, "no object"),
        ({**MEGADESCRIPTOR, "pretrained_cfg": {**MEGADESCRIPTOR["pretrained_cfg"], "classifier": 5}}, "classifier 5"),
        ({"architecture": "resnet18", "mean": [1, 1, 1], "std": [1, 1, 1], "input_size": [1, 9, 9]}, "input_size"),
    ],
)
def test_a_config_that_cannot_be_used_names_the_value(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_public(write(tmp_path, config))


def test_the_size_that_a_timm_model_was_built_for_wins(tmp_path: Path) -> None:
    assert read_public(write(tmp_path, {**MEGADESCRIPTOR, "model_args": {"img_size": 224}})).image_size == 224


def test_the_config_of_early_timm_is_on_one_level(tmp_path: Path) -> None:
    flat = {"architecture": "resnet18", "mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 224, 224]}
    assert read_public(write(tmp_path, flat)).image_size == 224


def test_weights_are_safetensors_where_there_are_two(tmp_path: Path) -> None:
    write(tmp_path, MIEWID)
    with pytest.raises(InputError, match=r"no weights: expected model\.safetensors or pytorch_model\.bin"):
        weights_file(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"old")
    first = weights_key(tmp_path)
    assert weights_file(tmp_path).name == "pytorch_model.bin"
    (tmp_path / "model.safetensors").write_bytes(b"new")
    assert weights_file(tmp_path).name == "model.safetensors"
    assert weights_key(tmp_path) != first
