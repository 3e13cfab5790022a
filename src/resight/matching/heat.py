"""What the embedding looked at: how much each place of a chip adds to the cosine with another vector.

The cosine of e and o is a sum over the numbers of e, each of which is made from all places of a feature map. A place's
share of a pooled number g is activation times gradient. GeM is homogeneous of degree one, so by Euler's theorem these
shares add up to g whatever its exponent (for p = 1 it is the place's part of the mean); the neck is linear, and what it
adds or takes away is spread evenly over the places that the number was pooled from. So the shares of all places add up
to the cosine exactly. They are those of Stylianou, Souvenir & Pless 2019 (arXiv 1901.00536, for means and maxima),
written as the gradient times activation of Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) with one weight a place
and the vectors' lengths held fixed; with the lengths free, the shares of any vector would add up to nothing.

A place of a feature map sees more of the chip than its own square, so the map is coarse and says where, not what.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resight.errors import InputError
from resight.models.embedder import Embedder
from resight.models.runtimes import require_chips


def looked_at(embedder: Embedder, chip: NDArray[np.uint8], others: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Heat of one chip for each of several vectors that it was compared with.

    Args:
        embedder: The network that made the vectors.
        chip: (N, N, 3) uint8, RGB, with N the config's ``image_size``.
        others: (n, dim) vectors as the network gives them, of any length but 0.

    Returns:
        (n, h, w) float32 from 0 to 1, of the size of the finest feature map that is pooled. 1 is the place that adds
        most to the cosine; 0 are those that add nothing or take away. All 0 where no place adds anything.

    Raises:
        InputError: the network does not pool a feature map itself, or chips or vectors of another size.
    """
    adding = np.maximum(shares_of_cosine(embedder, chip, others), 0)
    most = adding.max(axis=(1, 2), keepdims=True)
    heat: NDArray[np.float32] = np.divide(adding, most, out=np.zeros_like(adding), where=most > 0)
    return heat


def shares_of_cosine(
    embedder: Embedder, chip: NDArray[np.uint8], others: NDArray[np.floating[Any]]
) -> NDArray[np.float32]:
    """How much each place of a chip adds to its cosine with each of several vectors, some of it below 0.

    Args:
        embedder: The network that made the vectors.
        chip: (N, N, 3) uint8, RGB.
        others: (n, dim) vectors.

    Returns:
        (n, h, w) float32; each (h, w) adds up to the cosine.

    Raises:
        InputError: as for :func:`looked_at`.
    """
    config = embedder.config
    if config.pooling == "backbone":
        raise InputError(
            f"backbone {config.backbone!r} pools its own way, so that there is no map of what it looked at; only "
            "models with pooling 'gem' have one"
        )
    if chip.ndim != 3:
        raise InputError(f"chip of shape {chip.shape}: expected one of (N, N, 3)")
    require_chips(chip[None], config.image_size)
    if others.ndim != 2 or others.shape[1] != config.dim:
        raise InputError(f"vectors of shape {others.shape}: expected (n, {config.dim})")
    if not bool(np.abs(others).max(axis=1, initial=0).all()):
        raise InputError("a vector of length 0 has no cosine")
    training = embedder.training
    embedder.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            wanted = torch.tensor(others.astype(np.float32), device=embedder.mean.device)
            return _shares(embedder, _pooled_maps(embedder, chip), wanted)
    finally:
        embedder.train(training)


def _pooled_maps(embedder: Embedder, chip: NDArray[np.uint8]) -> list[Tensor]:
    """The feature maps (1, channels, h, w) that the network pools for a chip, the coarsest last."""
    given: list[Tensor | list[Tensor]] = []

    def look(_: nn.Module, inputs: tuple[Tensor | list[Tensor], ...]) -> None:
        given.append(inputs[0])

    watch = embedder.pooling.register_forward_pre_hook(look)
    try:
        with torch.no_grad():
            embedder(torch.tensor(chip[None], device=embedder.mean.device).permute(0, 3, 1, 2))
    finally:
        watch.remove()
    maps = given[0]
    return [level.float() for level in (maps if isinstance(maps, list) else [maps])]


def _shares(embedder: Embedder, maps: list[Tensor], others: Tensor) -> NDArray[np.float32]:
    active = [level.clamp(min=embedder.config.pooling_eps).requires_grad_() for level in maps]
    # A map that is the same everywhere: its gradient is an even spread over the places a number is pooled from.
    even = [torch.ones_like(level).requires_grad_() for level in maps]
    pooled, spread = _pool(embedder, active), _pool(embedder, even)
    embedding = embedder.bn(pooled)
    length = embedding.detach().norm()
    found = []
    for other in others:
        products = embedding[0] * other / (length * other.norm())
        *by_place, by_number = torch.autograd.grad(products.sum(), [*active, pooled], retain_graph=True)
        rest = (products - by_number[0] * pooled[0]).detach()  # what the neck adds, of each number
        evenly = torch.autograd.grad((spread[0] * rest).sum(), even, retain_graph=True)
        levels = [
            # Where a whole channel is next to nothing, a large exponent leaves a gradient without a value.
            _as_picture((level.detach() * gradient.nan_to_num(0.0, 0.0, 0.0) + part).sum(dim=1)[0])
            for level, gradient, part in zip(active, by_place, evenly, strict=True)
        ]
        finest = levels[0].shape
        found.append(torch.stack([_refined(level, (finest[0], finest[1])) for level in levels]).sum(dim=0))
    return torch.stack(found).cpu().numpy() if found else np.empty((0, 1, 1), np.float32)


def _pool(embedder: Embedder, maps: list[Tensor]) -> Tensor:
    pooled: Tensor = embedder.pooling(maps if embedder.config.gem_levels == 2 else maps[0])
    return pooled


def _as_picture(level: Tensor) -> Tensor:
    """(h, w) of a map; the tokens of a transformer, which come in one row, as the square they were cut from."""
    side = math.isqrt(level.numel())
    return level.reshape(side, side) if level.shape[0] == 1 and side**2 == level.numel() else level


def _refined(level: Tensor, size: tuple[int, int]) -> Tensor:
    """Spread each value of a coarse map evenly over the places of a finer one; the sum stays."""
    rows = torch.arange(size[0], device=level.device) * level.shape[0] // size[0]
    columns = torch.arange(size[1], device=level.device) * level.shape[1] // size[1]
    shared = torch.bincount(rows)[rows, None] * torch.bincount(columns)[columns]
    return level[rows][:, columns] / shared
