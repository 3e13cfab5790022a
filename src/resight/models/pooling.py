"""Generalised-mean pooling: one learned exponent between the mean (p = 1) and the maximum (p to infinity)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GeM(nn.Module):
    """Generalised-mean pooling over the positions of a feature map.

    ``f = (mean over positions of max(x, eps) ** p) ** (1 / p)``, Radenovic, Tolias and Chum 2018
    (arXiv 1711.02512), equation 3. The exponent is learned and shared by all channels.

    The powers are taken in float32 whatever autocast says: ``x ** 3`` leaves float16's range at 41.

    With several columns the map is cut into upright strips that are pooled apart, as part models do it (Sun et al.
    2018, arXiv 1711.09349, with stripes across a person): where along the animal a mark was is kept.

    Args:
        p: The exponent at the start, one for all columns.
        eps: Activations are raised to at least this, so that the power and its gradient are defined.
        columns: How many strips; they are as wide as each other, give or take one position.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, columns: int = 1) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(p)))
        self.eps = eps
        self.columns = columns

    def forward(self, features: Tensor) -> Tensor:
        """Pool ``features`` (n, dim, h, w) of any float type to (n, columns * dim) float32, the left column first."""
        with torch.autocast(features.device.type, enabled=False):
            raised = features.float().clamp(min=self.eps).pow(self.p.float())
            parts = [strip.mean(dim=(-2, -1)) for strip in raised.tensor_split(self.columns, dim=-1)]
            return torch.cat(parts, dim=1).pow(1.0 / self.p.float())


class GeMLevels(nn.Module):
    """GeM over each of several feature maps, one learned exponent a map, the results side by side.

    Args:
        levels: How many maps.
        p: The exponents at the start.
        eps: As for :class:`GeM`.
        columns: Of each map.
    """

    def __init__(self, levels: int, p: float = 3.0, eps: float = 1e-6, columns: int = 1) -> None:
        super().__init__()
        self.levels = nn.ModuleList(GeM(p, eps, columns) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Pool maps (n, dim_i, h_i, w_i) to (n, columns * sum of dim_i) float32, in the order of the maps."""
        return torch.cat([level(features) for level, features in zip(self.levels, maps, strict=True)], dim=1)
