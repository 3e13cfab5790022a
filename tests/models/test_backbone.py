from __future__ import annotations

import pytest
import torch

from resight.errors import InputError, UnknownName
from resight.models.backbone import as_feature_map, backbone_dim, earlier_level, feature_maps, make_backbone


@pytest.mark.parametrize(
    ("backbone", "dim"),
    [("test_vit", 64), ("test_vit3", 96), ("test_efficientnet", 256), ("efficientnetv2_rw_m", 2152)],
)
def test_dim_of_a_backbone(backbone: str, dim: int) -> None:
    assert backbone_dim(backbone, 160) == dim


@pytest.mark.parametrize(
    ("backbone", "image_size", "dim"),
    [
        ("swinv2_base_window8_256", 256, 1024),
        ("vit_small_patch14_dinov2", 252, 384),
        ("vit_small_patch16_dinov3", 256, 384),
        ("convnext_atto", 224, 320),
        ("tf_efficientnet_lite1", 240, 1280),
        ("tf_efficientnet_lite2", 260, 1280),
        ("swin_large_patch4_window12_384", 384, 1536),
    ],
)
def test_backbones_that_people_name(backbone: str, image_size: int, dim: int) -> None:
    assert backbone_dim(backbone, image_size) == dim
    assert backbone_dim(backbone, image_size, pooling="backbone") == dim


def test_dim_with_two_levels_is_the_sum() -> None:
    assert backbone_dim("tf_efficientnet_lite0", 224, gem_levels=2) == 112 + 1280
    assert backbone_dim("efficientnetv2_rw_m", 256, gem_levels=2) == 192 + 2152
    assert backbone_dim("swinv2_tiny_window8_256", 256, gem_levels=2) == 384 + 768
    assert backbone_dim("tf_efficientnet_lite0", 224, gem_levels=2, output_stride=16) == 112 + 1280


def test_the_earlier_level_has_stride_16_whatever_the_last_one_has() -> None:
    for stride, side in ((32, 2), (16, 4)):
        backbone = make_backbone("test_efficientnet", 64, output_stride=stride)
        earlier, last = feature_maps(backbone, torch.zeros(1, 3, 64, 64), "test_efficientnet", levels=2)
        assert earlier.shape == (1, 48, 4, 4)
        assert last.shape == (1, 256, side, side)


def test_columns_make_an_embedding_so_many_times_longer() -> None:
    assert backbone_dim("tf_efficientnet_lite0", 224, gem_columns=4) == 4 * 1280
    assert backbone_dim("test_resnet", 64, gem_levels=2, gem_columns=2) == 2 * (192 + 96)
    with pytest.raises(InputError, match=r"2 wide and 2 high at 64 pixels.*gem_columns 3 wide; set fewer"):
        backbone_dim("test_resnet", 64, gem_columns=3)
    with pytest.raises(InputError, match=r"100 wide and 1 high.*convolutional backbone"):  # a transformer's tokens
        backbone_dim("test_vit", 160, gem_columns=2)


def test_a_backbone_without_stages_has_no_second_level() -> None:
    with pytest.raises(InputError, match=r"strides \[16, 16.*set gem_levels 1"):
        backbone_dim("test_vit", 160, gem_levels=2)
    assert earlier_level(make_backbone("test_resnet", 64), "test_resnet") == 3


def test_a_stride_that_a_backbone_does_not_take_is_one_line() -> None:
    with pytest.raises(
        InputError, match=r"cannot build 'test_vit' with .*output_stride 16.*take output_stride 32"
    ) as error:
        make_backbone("test_vit", 160, output_stride=16)
    assert "\n" not in str(error.value)
    with pytest.raises(UnknownName, match="did you mean 'test_resnet'"):
        make_backbone("test_resnett", 64)


def test_a_tag_of_weights_is_taken_and_a_wrong_one_is_one_line() -> None:
    assert backbone_dim("test_vit.r160_in1k", 160) == 64
    with pytest.raises(UnknownName, match=r"named 'test_vit\.r161_in1k': did you mean 'test_vit\.r160_in1k'"):
        make_backbone("test_vit.r161_in1k", 160)


def test_a_size_that_a_transformer_does_not_take_names_the_size() -> None:
    with pytest.raises(InputError, match=r"swinv2_tiny_window8_256.*1\b"):
        backbone_dim("swinv2_tiny_window8_256", 1)


def test_tokens_and_channels_last_maps_become_maps() -> None:
    plain = torch.arange(24.0).view(1, 2, 3, 4)
    bare = torch.nn.Identity()
    assert torch.equal(as_feature_map(plain, bare, "x"), plain)
    last = torch.nn.Identity()
    last.output_fmt = "NHWC"
    assert torch.equal(as_feature_map(plain.permute(0, 2, 3, 1), last, "x"), plain)
    tokens = torch.nn.Identity()
    tokens.num_prefix_tokens = 2
    assert as_feature_map(torch.arange(30.0).view(1, 5, 6), tokens, "x")[0, :, 0, 0].tolist() == [
        12,
        13,
        14,
        15,
        16,
        17,
    ]
    with pytest.raises(InputError, match="expected a feature map"):
        as_feature_map(torch.zeros(1, 5), bare, "x")


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_resnet"])
def test_the_last_of_two_maps_is_the_one_map_of_a_single_level(name: str) -> None:
    backbone = make_backbone(name, 64).eval()
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (alone,) = feature_maps(backbone, pixels, name)
        earlier, last = feature_maps(backbone, pixels, name, levels=2)
    assert torch.equal(last, alone)  # with all that the network does after its last stage
    assert (earlier.shape[-1], last.shape[-1]) == (4, 2)
