"""timm's networks without their classifier: built by name, and their outputs seen as feature maps of one layout."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from resight.errors import InputError, UnknownName

# What timm's networks raise when they are built for, or given, pictures they cannot take.
_REFUSALS = (TypeError, ValueError, AssertionError, NotImplementedError, RuntimeError)


def make_backbone(
    name: str, image_size: int, *, pooled: bool = False, output_stride: int = 32, global_pool: str | None = None
) -> nn.Module:
    """Build a timm model without its classifier, with random weights.

    Args:
        name: Name of a timm model.
        image_size: Side of the pictures in pixels; transformers are built for one size.
        pooled: Keep timm's own pooling and final norm, so that the output is (n, dim); else it is a feature map.
        output_stride: Pixels a position of the last feature map; 16 takes the last halving away (its convolutions are
            dilated instead, so the weights are the same).
        global_pool: timm's name of the pooling where ``pooled``; ``None`` for the model's own.

    Raises:
        UnknownName: timm has no model of that name.
        InputError: the model cannot be built for this size or stride.
    """
    if not timm.is_model(name):
        raise UnknownName.among("timm backbone", name, timm.list_models())
    _require_known_tag(name)
    settings: dict[str, Any] = {"img_size": image_size} if is_built_for_one_size(name) else {}
    if output_stride != 32:
        settings["output_stride"] = output_stride
    if not pooled:
        settings["global_pool"] = ""
    elif global_pool is not None:
        settings["global_pool"] = global_pool
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **settings)
    except _REFUSALS as error:
        asked = ", ".join(f"{key} {value!r}" for key, value in settings.items() if value != "")
        remedy = "; take output_stride 32 or a convolutional backbone" if output_stride != 32 else "; take others"
        raise InputError(f"timm cannot build {name!r} with {asked} ({_line(error)}){remedy}") from None
    return backbone


def _require_known_tag(name: str) -> None:
    """A name may bear the tag of one of its weights after a dot, which timm's ``is_model`` does not look at."""
    try:
        timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:
        architecture = name.partition(".")[0]
        known = [architecture, *timm.list_pretrained(f"{architecture}.*")]
        raise UnknownName.among("timm backbone", name, known) from None


def is_built_for_one_size(name: str) -> bool:
    """Whether a timm model is built for one size of pictures, as transformers are; others take any."""
    stated = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return stated is not None and bool(stated.fixed_input_size)


def backbone_dim(
    name: str,
    image_size: int,
    *,
    pooling: str = "gem",
    output_stride: int = 32,
    gem_levels: int = 1,
    gem_columns: int = 1,
) -> int:
    """Length of the embeddings that a backbone gives with this pooling.

    With GeM it is the channels of the last feature map, and with two levels those of the map before it as well, times
    the columns.

    Raises:
        UnknownName: timm has no model of that name.
        InputError: the model takes no pictures of this size, or gives no such feature maps.
    """
    pooled = pooling == "backbone"
    with torch.device("meta"), torch.no_grad():  # shapes only: no memory, no arithmetic, no random numbers
        backbone = make_backbone(name, image_size, pooled=pooled, output_stride=output_stride).eval()
        pixels = torch.empty(1, 3, image_size, image_size)
        try:
            if pooled:
                return pooled_vectors(backbone(pixels), name).shape[1]
            maps = feature_maps(backbone, pixels, name, levels=gem_levels)
        except _REFUSALS as error:
            raise InputError(
                f"backbone {name!r} takes no pictures of {image_size} pixels ({_line(error)}): take another image_size"
            ) from None
    height, width = maps[-1].shape[-2:]
    if gem_columns > 1 and (height == 1 or width < gem_columns):
        raise InputError(
            f"backbone {name!r} gives a feature map {width} wide and {height} high at {image_size} pixels: expected "
            f"two dimensions and at least gem_columns {gem_columns} wide; set fewer columns, a larger image_size or "
            "output_stride 16, or take a convolutional backbone"
        )
    return gem_columns * sum(level.shape[1] for level in maps)


def feature_maps(backbone: nn.Module, pixels: Tensor, name: str, *, levels: int = 1) -> list[Tensor]:
    """The last feature map of a backbone or, with two levels, the end of the stage before it and the last.

    Args:
        backbone: From :func:`make_backbone`, not ``pooled``.
        pixels: (n, 3, N, N) float, normalised.
        name: The backbone's, for the message.
        levels: 1 or 2.

    Returns:
        (n, channels, h, w) each, the coarsest last.

    Raises:
        InputError: the backbone has no such maps.
    """
    if levels == 1:
        return [as_feature_map(backbone(pixels), backbone, name)]
    earlier = earlier_level(backbone, name)
    last, maps = backbone.forward_intermediates(pixels, indices=[earlier], output_fmt="NCHW")  # type: ignore[operator]
    # What the network does after its last stage, such as ConvNeXt's norm, is part of its last map.
    return [maps[0], as_feature_map(backbone.forward_head(last), backbone, name)]  # type: ignore[operator]


def earlier_level(backbone: nn.Module, name: str) -> int:
    """The number that timm gives the last stage but one, which must have a stride of 16.

    Raises:
        InputError: the backbone has no such stage.
    """
    information = getattr(backbone, "feature_info", [])
    strides = [level["reduction"] for level in getattr(information, "info", information)]
    # A transformer has the same stride all the way.
    staged = 16 in strides and strides.index(16) == len(strides) - 2
    if not staged or not hasattr(backbone, "forward_intermediates"):
        raise InputError(
            f"backbone {name!r} has feature maps of strides {strides}, and two levels need one of stride 16 before the "
            "last: set gem_levels 1 or take a backbone with stages, such as tf_efficientnet_lite0"
        )
    return len(strides) - 2


def as_feature_map(features: Tensor, backbone: nn.Module, name: str) -> Tensor:
    """See a backbone's output as a map (n, dim, h, w), whichever of timm's layouts it has.

    Tokens (n, t, dim) lose their class and register tokens and become a map of height 1; (n, h, w, dim) is permuted.

    Raises:
        InputError: the output is none of these.
    """
    if features.ndim == 3:
        prefix = getattr(backbone, "num_prefix_tokens", 0)
        return features[:, prefix:].transpose(1, 2).unsqueeze(2)
    if features.ndim == 4 and getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return features.permute(0, 3, 1, 2)
    if features.ndim == 4:
        return features
    raise InputError(
        f"backbone {name!r} gives an output of shape {tuple(features.shape)}: expected a feature map; take another"
    )


def pooled_vectors(output: Tensor, name: str) -> Tensor:
    """Check that a backbone's own pooling gave vectors (n, dim).

    Raises:
        InputError: it did not.
    """
    if output.ndim != 2:
        raise InputError(
            f"the pooling of backbone {name!r} gives an output of shape {tuple(output.shape)}: expected vectors; "
            "take pooling 'gem'"
        )
    return output


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
