"""The network: a timm backbone, a pooling and a neck; its files; and chips in, vectors out.

The names of its weights (``backbone.*``, ``pooling.p``, ``bn.*``) are those of the public MiewID models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from resight.artefacts import atomic_path, write_text
from resight.errors import ArtefactMismatch, InputError
from resight.models.backbone import feature_maps, make_backbone, pooled_vectors
from resight.models.config import CONFIG_FILE, WEIGHTS_FILE, EmbedderConfig, config_text, read_config
from resight.models.pooling import GeM, GeMLevels
from resight.models.runtimes import as_float16, require_chips
from resight.models.states import hash_of_weights, load_strictly


class Embedder(nn.Module):
    """Turns chips into embeddings: ``forward`` is ``bn`` after ``pool``.

    Args:
        config: The network and its preprocessing. The weights start at random.

    Raises:
        UnknownName: no backbone of that name.
        InputError: the backbone cannot be built as the config says.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__()
        self.config = config
        pooled = config.pooling == "backbone"
        self.backbone = make_backbone(
            config.backbone, config.image_size, pooled=pooled, output_stride=config.output_stride
        )
        self.pooling = _pooling(config)
        self.bn: nn.Module = nn.BatchNorm1d(config.dim) if config.neck == "batchnorm" else nn.Identity()
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
        embeddings: Tensor = self.bn(self.pool(chips))
        return embeddings

    def pool(self, chips: Tensor) -> Tensor:
        """Describe chips as far as the neck: normalise, backbone, pooling.

        Args:
            chips: (n, 3, N, N) uint8, RGB.

        Returns:
            (n, dim) float32.

        Raises:
            InputError: the chips are not uint8, or the backbone gives no feature map.
        """
        if chips.dtype != torch.uint8:
            raise InputError(f"chips are {chips.dtype}, expected uint8: do not normalise them, the network does")
        normalised = (chips.float() - self.mean) / self.std
        name = self.config.backbone
        if self.config.pooling == "backbone":
            return pooled_vectors(self.backbone(normalised), name).float()
        maps = feature_maps(self.backbone, normalised, name, levels=self.config.gem_levels)
        pooled: Tensor = self.pooling(maps if self.config.gem_levels == 2 else maps[0])
        return pooled

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
        require_chips(chips, self.config.image_size)
        vectors = np.empty((len(chips), self.config.dim), dtype=np.float16)
        device = self.mean.device
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                for start in range(0, len(chips), batch_size):
                    batch = np.ascontiguousarray(chips[start : start + batch_size])
                    # (n, N, N, 3) seen as (n, 3, N, N) is already channels_last: nothing is rearranged.
                    images = torch.tensor(batch, device=device).permute(0, 3, 1, 2)
                    embedded = self(images).float().cpu().numpy()
                    vectors[start : start + len(batch)] = as_float16(embedded, first_row=start)
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


def _pooling(config: EmbedderConfig) -> nn.Module:
    if config.pooling == "backbone":
        return nn.Identity()
    if config.gem_levels == 2:
        return GeMLevels(2, config.pooling_p, config.pooling_eps, config.gem_columns)
    return GeM(config.pooling_p, config.pooling_eps, config.gem_columns)


def _channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
