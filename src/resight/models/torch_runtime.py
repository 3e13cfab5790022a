"""A network run by torch: in float32 on a CPU, in float16 on a GPU where that is seen to agree."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from resight.models.agreement import measure_agreement
from resight.models.embedder import Embedder
from resight.models.runtimes import CPU_BATCH, Precision, as_float16, require_chips

logger = logging.getLogger(__name__)

GPU_BATCH = 128
WORTH_PREPARING = 16  # chips in one call; below it, making the faster network costs more than it saves
CHECKED_CHIPS = 8
# Others, such as those that standardise their weights, are not plain products.
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class TorchRuntime:
    """Runs an embedder.

    The first call that brings enough chips makes a faster network: every BatchNorm after a convolution goes into the
    convolution's weights, and half precision is used where it is asked for. It is compared with the network as it is
    on some of those chips, and given up where the two do not agree.

    Args:
        embedder: Is put into evaluation mode and moved to the device; its weights stay as they are.
        device: Such as ``cpu`` or ``cuda``.
        precision: Of the convolutions; ``None`` takes float16 on a GPU and float32 on a CPU.
        compiled: Whether torch compiles the faster network; the first batch then takes a minute or more.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        device: str = "cpu",
        precision: Precision | None = None,
        compiled: bool = False,
    ) -> None:
        self.config = embedder.config
        self._device = torch.device(device)
        on_gpu = self._device.type != "cpu"
        self.batch = GPU_BATCH if on_gpu else CPU_BATCH
        self.accelerated = on_gpu
        self._embedder = embedder.eval().to(self._device)
        self._wanted: Precision = precision or ("float16" if on_gpu else "float32")
        self._compiled = compiled
        self._faster: Callable[[Tensor], Tensor] | None = None
        self._precision: Precision = "float32"

    @cached_property
    def weights_hash(self) -> str:
        """Of the embedder's weights."""
        return self._embedder.weights_hash

    @property
    def made_by(self) -> str:
        """Runtime and precision, such as ``torch float32``; the precision is known after the first call."""
        return f"torch {self._precision}"

    def embed_chips(self, chips: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Embed chips held in memory.

        Args:
            chips: (n, N, N, 3) uint8, RGB, with N the config's ``image_size``.

        Returns:
            (n, dim) float16, as the network gives them, not normalised.

        Raises:
            InputError: chips of another type or size, or an embedding that float16 cannot hold.
        """
        require_chips(chips, self.config.image_size)
        vectors = np.empty((len(chips), self.config.dim), np.float16)
        with torch.inference_mode():
            if self._faster is None and len(chips) >= WORTH_PREPARING:
                self._faster = self._make_faster(chips[:CHECKED_CHIPS])
            network = self._faster or self._embedder
            start = 0
            begun: tuple[int, Tensor] | None = None  # where a batch starts, and its vectors, which are being computed
            while start < len(chips):
                batch = chips[start : start + self.batch]
                try:
                    started = (start, self._start(network, batch))
                except torch.OutOfMemoryError:
                    if self.batch == 1:
                        raise
                    self.batch //= 2
                    logger.info("the accelerator's memory holds no more: going on with %d chips at once", self.batch)
                    continue
                if begun is not None:
                    self._finish(*begun, chips, vectors)
                begun = started
                start += len(batch)
            if begun is not None:
                self._finish(*begun, chips, vectors)
        return vectors

    def _start(self, network: Callable[[Tensor], Tensor], batch: NDArray[np.uint8]) -> Tensor:
        """Give a batch to the network; a GPU works on it while this process goes on."""
        count = len(batch)
        if self._compiled and network is self._faster:
            # It is compiled once for each size of a batch: the last one is filled up.
            batch = np.concatenate([batch, np.repeat(batch[-1:], self.batch - count, axis=0)])
        return network(self._to_device(batch))[:count].float()

    def _finish(self, start: int, embedded: Tensor, chips: NDArray[np.uint8], vectors: NDArray[np.float16]) -> None:
        """Wait for a batch's vectors and write them; a chip that half precision cannot hold is embedded in full."""
        found = embedded.cpu().numpy()
        if self._precision != "float32" and not np.isfinite(found).all():
            again = np.split(chips[start : start + len(found)], range(CPU_BATCH, len(found), CPU_BATCH))
            found = np.concatenate([self._start(self._embedder, few).cpu().numpy() for few in again])
        vectors[start : start + len(found)] = as_float16(found, first_row=start)

    def _to_device(self, chips: NDArray[np.uint8]) -> Tensor:
        # (n, N, N, 3) seen as (n, 3, N, N) is already channels_last: nothing is rearranged.
        images = torch.from_numpy(np.ascontiguousarray(chips))
        if self._device.type == "cuda":
            images = images.pin_memory()
        return images.to(self._device, non_blocking=True).permute(0, 3, 1, 2)

    def _make_faster(self, chips: NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
        images = self._to_device(chips)
        reference = self._embedder(images).float().cpu().numpy()
        folded = fold_batch_norms(self._embedder)
        for precision in dict.fromkeys((self._wanted, "float32")):
            network = _in_precision(folded, self._device, precision)
            agreement = measure_agreement(reference, network(images).float().cpu().numpy())
            if agreement.holds_with_room:
                self._precision = precision
                return torch.compile(network) if self._compiled else network
            logger.info("%s does not agree with the network as it is (%s)", precision, agreement.in_words())
        self._compiled = False
        return self._embedder


def _in_precision(embedder: Embedder, device: torch.device, precision: Precision) -> Callable[[Tensor], Tensor]:
    if precision == "float32":
        return embedder
    kind = _TYPES[precision]

    def run(images: Tensor) -> Tensor:
        with torch.autocast(device.type, kind):
            embeddings: Tensor = embedder(images)
        return embeddings

    return run


def fold_batch_norms(embedder: Embedder) -> Embedder:
    """A copy in which a convolution does what the BatchNorm right after it did, in evaluation mode.

    Two modules are taken for such a pair where they are neighbours by definition and have the same channels; a
    network that calls them in another order gives other vectors, so compare before use.
    """
    folded = copy.deepcopy(embedder).eval()
    _fold_children(folded.backbone)
    return folded.to(memory_format=torch.channels_last)


def _fold_children(module: nn.Module) -> None:
    children = list(module.named_children())
    for (_, conv), (name, norm) in pairwise(children):
        if not (isinstance(conv, nn.Conv2d) and type(conv) in _CONVOLUTIONS and isinstance(norm, nn.BatchNorm2d)):
            continue
        if conv.out_channels != norm.num_features or norm.running_mean is None or norm.running_var is None:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        # timm's BatchNorm carries the activation that follows it.
        after = [child for child in (getattr(norm, "drop", None), getattr(norm, "act", None)) if child is not None]
        setattr(module, name, nn.Sequential(*after))
    for _, child in children:
        _fold_children(child)
