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

    Args:
        p: The exponent at the start.
        eps: Activations are raised to at least this, so that the power and its gradient are defined.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(p)))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Pool ``features`` (n, dim, h, w) of any float type to (n, dim) float32."""
        with torch.autocast(features.device.type, enabled=False):
            raised = features.float().clamp(min=self.eps).pow(self.p.float())
            return raised.mean(dim=(-2, -1)).pow(1.0 / self.p.float())


class GeMLevels(nn.Module):
    """GeM over each of several feature maps, one learned exponent a map, the results side by side.

    Args:
        levels: How many maps.
        p: The exponents at the start.
        eps: As for :class:`GeM`.
    """

    def __init__(self, levels: int, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.levels = nn.ModuleList(GeM(p, eps) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Pool maps (n, dim_i, h_i, w_i) to (n, sum of dim_i) float32, in the order of the maps."""
        return torch.cat([level(features) for level, features in zip(self.levels, maps, strict=True)], dim=1)
