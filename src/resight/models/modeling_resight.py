"""A network that turns the picture of one animal into an embedding, for transformers' ``AutoModel``.

::

    import torch
    from PIL import Image
    from transformers import AutoModel

    model = AutoModel.from_pretrained(MODEL, trust_remote_code=True).eval()
    crops = [Image.open("photo.jpg").crop((left, top, right, bottom))]
    with torch.inference_mode():
        embeddings = model(model.preprocess(crops)).pooler_output
    similarity = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(embeddings).T

This file is part of resight (Apache-2.0) and is published beside the weights. It needs torch, timm and transformers.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

_BILINEAR = 2  # Pillow's number of it
_CONSTANTS = "constant_buffers"


class ResightConfig(PretrainedConfig):
    """What the network is apart from its weights.

    Args:
        backbone: Name of a timm model.
        dim: Length of an embedding.
        image_size: Side of the square pictures in pixels.
        mean: Mean per channel (R, G, B) that is taken off, in units of [0, 1].
        std: Standard deviation per channel that divides, in units of [0, 1].
        resize: ``squash``: a crop becomes a square without keeping its aspect.
        pooling: ``gem``, or ``backbone`` for the pooling that timm's model has of its own.
        gem_levels: Feature maps that GeM pools: the last, or the last two side by side.
        gem_columns: Upright strips of a map that GeM pools apart.
        pooling_eps: Smallest activation GeM sees.
        output_stride: Pixels a position of the last feature map, 32 or 16.
        neck: ``batchnorm`` after the pooling, or ``none``.
        **others: What only resight or transformers reads.
    """

    model_type = "resight"

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        dim: int = 1280,
        image_size: int = 224,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        resize: str = "squash",
        pooling: str = "gem",
        gem_levels: int = 1,
        gem_columns: int = 1,
        pooling_eps: float = 1e-6,
        output_stride: int = 32,
        neck: str = "batchnorm",
        **others: Any,
    ) -> None:
        self.backbone = backbone
        self.dim = dim
        self.image_size = image_size
        self.mean = list(mean)
        self.std = list(std)
        self.resize = resize
        self.pooling = pooling
        self.gem_levels = gem_levels
        self.gem_columns = gem_columns
        self.pooling_eps = pooling_eps
        self.output_stride = output_stride
        self.neck = neck
        super().__init__(**others)


class GeM(nn.Module):
    """Generalised-mean pooling with a learned exponent (Radenovic, Tolias and Chum 2018), in float32."""

    def __init__(self, eps: float, columns: int) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), 3.0))
        self.eps = eps
        self.columns = columns

    def forward(self, features: Tensor) -> Tensor:
        """Pool (n, c, h, w) to (n, columns * c) float32, the left column first."""
        with torch.autocast(features.device.type, enabled=False):
            raised = features.float().clamp(min=self.eps).pow(self.p.float())
            parts = [strip.mean(dim=(-2, -1)) for strip in raised.tensor_split(self.columns, dim=-1)]
            return torch.cat(parts, dim=1).pow(1.0 / self.p.float())


class GeMLevels(nn.Module):
    """GeM over each of several feature maps, side by side."""

    def __init__(self, levels: int, eps: float, columns: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(GeM(eps, columns) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Pool maps (n, c_i, h_i, w_i) to (n, columns * sum of c_i) float32."""
        return torch.cat([level(features) for level, features in zip(self.levels, maps, strict=True)], dim=1)


class ResightModel(PreTrainedModel):
    """Turns pictures of one animal each into embeddings.

    Args:
        config: The network. The weights start at random.
    """

    config_class = ResightConfig
    main_input_name = "pixel_values"
    base_model_prefix = ""

    def __init__(self, config: ResightConfig) -> None:
        super().__init__(config)
        with torch.device("cpu"):  # not on the meta device, where constants that are not saved would have no values
            self.backbone = _make_backbone(config)
        _keep_constants(self.backbone)
        self.pooling: nn.Module = nn.Identity()
        if config.pooling == "gem":
            levels, eps, columns = config.gem_levels, config.pooling_eps, config.gem_columns
            self.pooling = GeM(eps, columns) if levels == 1 else GeMLevels(levels, eps, columns)
        self.bn = nn.BatchNorm1d(config.dim) if config.neck == "batchnorm" else nn.Identity()
        self.post_init()

    def preprocess(self, images: Any) -> Tensor:
        """Turn pictures into what :meth:`forward` takes, as resight does.

        Args:
            images: One Pillow image or several, upright, each cut to the box of one animal.

        Returns:
            (n, 3, image_size, image_size), on the model's device and of its type.
        """
        size = self.config.image_size
        listed = images if isinstance(images, list | tuple) else [images]
        squares = np.stack([np.asarray(image.convert("RGB").resize((size, size), _BILINEAR)) for image in listed])
        pixels = torch.tensor(squares, device=self.device).permute(0, 3, 1, 2).float() / 255.0
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (self.config.mean, self.config.std))
        return ((pixels - mean) / std).to(self.dtype)

    def forward(
        self, pixel_values: Tensor, return_dict: bool | None = None, **_: Any
    ) -> BaseModelOutputWithPooling | tuple[Tensor]:
        """Embed pictures.

        Args:
            pixel_values: (n, 3, image_size, image_size) float RGB, normalised by the config's ``mean`` and ``std``:
                what :meth:`preprocess` or ``AutoImageProcessor`` gives.
            return_dict: ``False`` for a tuple.

        Returns:
            ``pooler_output`` (n, dim), not of unit length: compare by cosine. It is the only and so the first output.

        Raises:
            ValueError: the pictures are not normalised floats.
        """
        if not pixel_values.is_floating_point():
            raise ValueError(
                f"pixel_values are {pixel_values.dtype}, expected normalised floats: take model.preprocess(images)"
            )
        embeddings = self.bn(self._pooled(pixel_values).to(self.dtype))
        return (embeddings,) if return_dict is False else BaseModelOutputWithPooling(pooler_output=embeddings)

    def _pooled(self, pixel_values: Tensor) -> Tensor:
        if self.config.pooling == "backbone":
            vectors: Tensor = self.backbone(pixel_values)
            return vectors
        maps: Any
        if self.config.gem_levels == 1:
            last = self.backbone(pixel_values)
            maps = _as_feature_map(last, self.backbone)
        else:
            stages: Any = self.backbone.feature_info
            earlier = len(getattr(stages, "info", stages)) - 2
            last, found = self.backbone.forward_intermediates(  # type: ignore[operator]
                pixel_values, indices=[earlier], output_fmt="NCHW"
            )
            maps = [found[0], _as_feature_map(last, self.backbone)]
        pooled: Tensor = self.pooling(maps)
        return pooled

    def _init_weights(self, module: nn.Module) -> None:
        """Put back what is not saved; timm and torch have given everything else its start."""
        for name, value in getattr(module, _CONSTANTS, {}).items():
            getattr(module, name).copy_(value)


def _make_backbone(config: ResightConfig) -> nn.Module:
    stated = timm.get_pretrained_cfg(config.backbone, allow_unregistered=True)
    settings: dict[str, Any] = {}
    if stated is not None and stated.fixed_input_size:
        settings["img_size"] = config.image_size
    if config.output_stride != 32:
        settings["output_stride"] = config.output_stride
    if config.pooling != "backbone":
        settings["global_pool"] = ""
    backbone: nn.Module = timm.create_model(config.backbone, pretrained=False, num_classes=0, **settings)
    return backbone


def _keep_constants(backbone: nn.Module) -> None:
    """Keep a copy of each buffer that is not saved: transformers 5 gives them new memory when it loads a model."""
    saved = backbone.state_dict().keys()
    for prefix, module in backbone.named_modules():
        own = dict(module.named_buffers(prefix, recurse=False))
        constants = {name.rpartition(".")[2]: tensor.clone() for name, tensor in own.items() if name not in saved}
        if constants:
            setattr(module, _CONSTANTS, constants)


def _as_feature_map(features: Tensor, backbone: nn.Module) -> Tensor:
    """See a backbone's output as a map (n, c, h, w), whichever of timm's layouts it has; tokens lie in one row."""
    if features.ndim == 3:
        return features[:, getattr(backbone, "num_prefix_tokens", 0) :].transpose(1, 2).unsqueeze(2)
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return features.permute(0, 3, 1, 2)
    return features
