"""Models that others published, built here from their config and weights alone: MiewID's layout and timm's.

Neither transformers nor the code that lies beside the weights is needed. Every tensor must find its place, apart from
heads that only training uses.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from resight.errors import ArtefactMismatch, InputError
from resight.models.backbone import backbone_dim, is_built_for_one_size, make_backbone
from resight.models.config import CONFIG_FILE, EmbedderConfig
from resight.models.embedder import Embedder
from resight.models.layouts import PublicModel, layout_of, read_public, weights_file
from resight.models.states import classifier_of, load_backbone, load_strictly, read_state, without

logger = logging.getLogger(__name__)


def load_folder(folder: Path, *, source: str | None = None, licence: str | None = None) -> Embedder:
    """Load a model folder of any layout that is known, on the CPU and in evaluation mode.

    Args:
        folder: Holds ``config.json`` and the weights.
        source: Where a published model comes from, for the reader; the folder's name where ``None``.
        licence: The licence of a published model whose card states none.

    Raises:
        InputError: a file is missing or broken, or the config asks for a network that resight does not build.
        ArtefactMismatch: the layout is not known, or the weights do not fit the config.
    """
    if layout_of(folder) == "resight":
        return Embedder.load(folder)
    public = read_public(folder)
    path = weights_file(folder)
    config = _config(public, folder, source=source, licence=public.licence or licence)
    embedder = Embedder(config)
    state = read_state(path, remedy="download the model again")
    if public.layout == "miewid":
        _require_plain_features(embedder, folder)
        # A network with a classifier under a name of its own kept it, and never called it.
        unused = tuple(f"backbone.{name}" for name in classifier_of(public.backbone))
        kept = without(state, (*public.heads, *unused))
        load_strictly(embedder, kept, where=str(path))
    else:
        kept = without(state, (*public.heads, *classifier_of(public.backbone)))
        load_backbone(embedder.backbone, kept, public.backbone, where=str(path), resize=False)
    dropped = sorted(state.keys() - kept.keys())
    if dropped:
        logger.info("%s: left out the training head (%s)", path, ", ".join(dropped))
    return embedder.eval()


def _config(public: PublicModel, folder: Path, *, source: str | None, licence: str | None) -> EmbedderConfig:
    own_pooling = public.layout == "timm"
    dim = backbone_dim(public.backbone, public.image_size, pooling="backbone" if own_pooling else "gem")
    if public.dim is not None and public.dim != dim:
        raise ArtefactMismatch(
            f"{folder / CONFIG_FILE} has num_features {public.dim}, and timm's {public.backbone} gives {dim}: the "
            "config and the network differ; download the model again"
        )
    if public.global_pool is not None:
        _require_own_pooling(public, folder)
    return EmbedderConfig(
        backbone=public.backbone,
        dim=dim,
        image_size=public.image_size,
        mean=public.mean,
        std=public.std,
        pooling="backbone" if own_pooling else "gem",
        neck="none" if own_pooling else "batchnorm",
        weights_source=source or f"folder {folder.name or folder}",
        licence=licence,
    )


def _require_own_pooling(public: PublicModel, folder: Path) -> None:
    """Refuse a timm model whose pooling is another than the one its name stands for."""
    with torch.device("meta"):
        usual = make_backbone(public.backbone, public.image_size, pooled=True)
        stated = make_backbone(public.backbone, public.image_size, pooled=True, global_pool=public.global_pool)
    # timm has no one place for the pooling; the printed network names it, and the norms that come and go with it.
    if repr(usual) != repr(stated) or getattr(usual, "global_pool", None) != getattr(stated, "global_pool", None):
        raise InputError(
            f"{folder / CONFIG_FILE} has global_pool {public.global_pool!r}, which is not the one of timm's "
            f"{public.backbone}: such a model cannot be read"
        )


def _require_plain_features(embedder: Embedder, folder: Path) -> None:
    """Refuse a backbone whose head works on the feature map, since MiewID's network pools the map before the head.

    A transformer with a class token is refused for the same reason: MiewID takes that token, without pooling.
    """
    config, backbone = embedder.config, embedder.backbone
    size = config.image_size if is_built_for_one_size(config.backbone) else 64
    pixels = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    backbone.eval()
    with torch.inference_mode():
        plain = backbone.forward_features(pixels)  # type: ignore[operator]
        if not getattr(backbone, "num_prefix_tokens", 0) and torch.equal(plain, backbone(pixels)):
            return
    raise InputError(
        f"{folder / CONFIG_FILE} has model_name {config.backbone!r}: in MiewID's layout only backbones without class "
        "token whose head does nothing to the feature map can be read, such as efficientnetv2_rw_m and swinv2"
    )
