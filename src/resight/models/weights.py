"""A model to start training from: a backbone by name, and where its first weights come from."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from resight.errors import InputError
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder, backbone_dim, load_strictly
from resight.models.packaged import PACKAGED, packaged_backbone_state

WAYS = "name a file (--set weights=FILE), start at random (--set weights=none), or start from a model (--init MODEL)"


def new_embedder(backbone: str, *, weights: str, image_size: int, pooling_p: float = 3.0) -> Embedder:
    """Build an untrained embedder.

    Mean and standard deviation are those the backbone was made for, as timm (or the packaged model) states them.
    Random weights come from torch's global generator: seed it first.

    Args:
        backbone: Name of a timm model.
        weights: ``imagenet`` for weights that can be installed, ``none`` for random ones, or a file
            (``.safetensors``, or a state dict saved by torch) with timm's names; a classifier in it is left out.
        image_size: Side of the chips in pixels.
        pooling_p: GeM's exponent at the start.

    Raises:
        UnknownName: timm has no such backbone.
        InputError: the weights cannot be had; names the ways.
        ArtefactMismatch: the weights do not fit the backbone.
    """
    dim = backbone_dim(backbone, image_size)
    stated = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    mean, std = (stated.mean, stated.std) if stated is not None else (None, None)
    licence: str | None = None
    state: dict[str, Tensor] | None = None
    if weights == "none":
        source = "none (random start)"
    elif weights == "imagenet":
        packaged = next((model for model in PACKAGED if model.backbone == backbone), None)
        if packaged is None:
            raise InputError(
                f"ImageNet weights of backbone {backbone!r} cannot be installed (there are those of "
                f"{', '.join(model.backbone for model in PACKAGED)}): {WAYS}"
            )
        state = packaged_backbone_state(packaged)
        mean, std, licence = packaged.mean, packaged.std, packaged.licence
        source = packaged.name
    else:
        state = _without_classifier(_read_state(Path(weights)), backbone)
        source = f"file {Path(weights).name}"
    if mean is None or std is None:
        raise InputError(f"timm states no mean and standard deviation for {backbone!r}: take another backbone")
    config = EmbedderConfig(
        backbone=backbone,
        dim=dim,
        image_size=image_size,
        mean=(float(mean[0]), float(mean[1]), float(mean[2])),
        std=(float(std[0]), float(std[1]), float(std[2])),
        pooling_p=pooling_p,
        weights_source=source,
        licence=licence,
    )
    embedder = Embedder(config)
    if state is not None:
        load_strictly(embedder.backbone, state, where=f"weights {weights!r}")
    return embedder


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"weights {str(path)!r} is neither 'imagenet', 'none' nor a file: {WAYS}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError, LookupError, UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"weights file {path} cannot be read ({reason}): {WAYS}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"weights file {path} holds no state dict (names and tensors): {WAYS}")
    return state


def _without_classifier(state: dict[str, Tensor], backbone: str) -> dict[str, Tensor]:
    stated = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    named = getattr(stated, "classifier", None) or ()
    prefixes = tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))
    return {name: tensor for name, tensor in state.items() if not prefixes or not name.startswith(prefixes)}
