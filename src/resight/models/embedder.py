"""The network: a timm backbone, GeM pooling and a BatchNorm neck; its files; and chips in, vectors out.

The names of its weights (``backbone.*``, ``pooling.p``, ``bn.*``) are those of the public MiewID models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from resight.artefacts import atomic_path, write_text
from resight.errors import ArtefactMismatch, InputError, UnknownName
from resight.models.config import CONFIG_FILE, WEIGHTS_FILE, EmbedderConfig, config_text, read_config
from resight.models.pooling import GeM

LARGEST_FLOAT16 = 65504.0
_SHOWN = 3  # tensors that a message names before it counts the rest


class Embedder(nn.Module):
    """Turns chips into embeddings.

    Args:
        config: The network and its preprocessing. The weights start at random.

    Raises:
        UnknownName: no backbone of that name.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = make_backbone(config.backbone, config.image_size)
        self.pooling = GeM(config.pooling_p, config.pooling_eps)
        self.bn = nn.BatchNorm1d(config.dim)
        # In units of a byte, so that uint8 needs no division of its own. Not saved: the config has them.
        self.register_buffer("mean", _channels(config.mean) * 255.0, persistent=False)
        self.register_buffer("std", _channels(config.std) * 255.0, persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, chips: Tensor) -> Tensor:
        """Embed chips; normalisation happens here and nowhere else.

        Args:
            chips: (n, 3, N, N) uint8, RGB.

        Returns:
            (n, dim) float32, not of unit length.

        Raises:
            InputError: the chips are not uint8, or the backbone gives no feature map.
        """
        if chips.dtype != torch.uint8:
            raise InputError(f"chips are {chips.dtype}, expected uint8: do not normalise them, the network does")
        normalised = (chips.float() - self.mean) / self.std
        features = as_feature_map(self.backbone(normalised), self.backbone, self.config.backbone)
        embeddings: Tensor = self.bn(self.pooling(features))
        return embeddings

    def embed_chips(self, chips: npt.NDArray[np.uint8], *, batch_size: int = 32) -> npt.NDArray[np.float16]:
        """Embed chips held in memory, in evaluation mode, on the device where the network is.

        Args:
            chips: (n, N, N, 3) uint8, RGB, with N the config's ``image_size``.
            batch_size: Chips that go through the network at once.

        Returns:
            (n, dim) float16, as the network gives them, not normalised.

        Raises:
            InputError: chips of another type or size, or an embedding that float16 cannot hold.
        """
        size = self.config.image_size
        if chips.dtype != np.uint8 or chips.ndim != 4 or chips.shape[1:] != (size, size, 3):
            raise InputError(
                f"chips are {chips.dtype} of shape {chips.shape}, expected uint8 of shape (n, {size}, {size}, 3): "
                f"cut them at {size} pixels for this model"
            )
        vectors = np.empty((len(chips), self.config.dim), dtype=np.float16)
        device = self.bn.weight.device
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                for start in range(0, len(chips), batch_size):
                    batch = np.ascontiguousarray(chips[start : start + batch_size])
                    # (n, N, N, 3) seen as (n, 3, N, N) is already channels_last: nothing is rearranged.
                    images = torch.tensor(batch, device=device).permute(0, 3, 1, 2)
                    embedded = self(images).float().cpu().numpy()
                    _check_range(embedded, first_row=start)
                    vectors[start : start + len(batch)] = embedded
        finally:
            self.train(was_training)
        return vectors

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the weights: name, type, shape and bytes of every tensor, in order of name.

        It does not depend on the file format, so a model has one hash in memory and on disk.
        """
        return hash_of_weights(self.state_dict())

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``config.json``; each replaces its old one whole or not at all.

        The config holds the hash of the weights, so a folder left between the two is refused by ``load``.

        Raises:
            OSError: the folder cannot be written.
        """
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomic_path(folder / WEIGHTS_FILE) as temporary:
            save_file(state, temporary, metadata={"format": "pt"})
        write_text(folder / CONFIG_FILE, config_text(self.config, hash_of_weights(state)))

    @classmethod
    def load(cls, folder: Path) -> Embedder:
        """Read a folder written by ``save``, on the CPU and in evaluation mode.

        Raises:
            InputError: a file is missing or broken.
            ArtefactMismatch: the weights are not those the config was written with, or do not fit the network.
        """
        stored = read_config(folder)
        path = folder / WEIGHTS_FILE
        try:
            state = load_file(path)
        except FileNotFoundError:
            raise InputError(f"{path} is missing: a model folder holds {CONFIG_FILE} and {WEIGHTS_FILE}") from None
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is no readable safetensors file ({error}): save the model again") from None
        embedder = cls(stored.config)
        load_strictly(embedder, state, where=str(path))
        if hash_of_weights(state) != stored.weights_hash:
            raise ArtefactMismatch(
                f"{path} does not hold the weights that {CONFIG_FILE} was written with "
                f"(weights_hash {stored.weights_hash[:12]}…): save the model again"
            )
        return embedder.eval()


def make_backbone(name: str, image_size: int) -> nn.Module:
    """Build a timm model without classifier and pooling, with random weights.

    Raises:
        UnknownName: timm has no model of that name.
    """
    if not timm.is_model(name):
        raise UnknownName.among("timm backbone", name, timm.list_models())
    # Transformers are built for one size; convolutional networks take any and refuse the argument.
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    fixed: dict[str, Any] = {"img_size": image_size} if settings is not None and settings.fixed_input_size else {}
    backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **fixed)
    return backbone


def backbone_dim(name: str, image_size: int) -> int:
    """Channels of a backbone's last feature map.

    Raises:
        UnknownName: timm has no model of that name.
        InputError: the model gives no feature map.
    """
    with torch.device("meta"), torch.no_grad():  # shapes only: no memory, no arithmetic, no random numbers
        backbone = make_backbone(name, image_size).eval()
        features = as_feature_map(backbone(torch.empty(1, 3, image_size, image_size)), backbone, name)
    return features.shape[1]


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


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load weights of which none may be missing, left over or of another shape.

    Args:
        module: Is filled in place.
        state: Weights by name.
        where: Where they come from, for the message.

    Raises:
        ArtefactMismatch: naming the tensors that do not fit.
    """
    expected = module.state_dict()
    complaints = []
    missing = sorted(expected.keys() - state.keys())
    if missing:
        complaints.append(f"missing {_first_of(missing)}")
    unexpected = sorted(state.keys() - expected.keys())
    if unexpected:
        complaints.append(f"unexpected {_first_of(unexpected)}")
    shapes = [
        f"{name} is {tuple(state[name].shape)} there and {tuple(expected[name].shape)} in the network"
        for name in expected.keys() & state.keys()
        if state[name].shape != expected[name].shape
    ]
    if shapes:
        complaints.append(_first_of(sorted(shapes)))
    if complaints:
        raise ArtefactMismatch(
            f"{where} does not fit the network: {'; '.join(complaints)}; name the backbone it was made for"
        )
    module.load_state_dict(dict(state), strict=True)


def hash_of_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor, in order of name; in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_range(embedded: npt.NDArray[np.float32], *, first_row: int) -> None:
    largest = np.abs(embedded).max(axis=1)
    wrong = np.flatnonzero(~(largest <= LARGEST_FLOAT16))  # NaN fails the comparison as well
    if len(wrong):
        raise InputError(
            f"the embedding of chip {first_row + int(wrong[0])} reaches {largest[wrong[0]]}, and float16 holds at most "
            f"{LARGEST_FLOAT16:.0f}: the model's weights are broken or untrained; take another model"
        )


def _channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


def _first_of(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
