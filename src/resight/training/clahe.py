"""Contrast-limited adaptive histogram equalisation of a batch of chips, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 256


def equalise(chips: Tensor, clip_limits: Tensor, tiles: int = 8) -> Tensor:
    """Spread the brightness of each chip within each neighbourhood, and keep its colours.

    Zuiderveld 1994 ("Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV): the luma's histogram of
    each tile is clipped, the excess is spread over all levels, and each pixel is mapped by the cumulative
    histograms of the four tiles around it, weighted bilinearly. The change of luma (ITU-R BT.601) is added to all
    three channels.

    Args:
        chips: (n, 3, h, w) uint8, RGB; each side at least ``tiles`` pixels.
        clip_limits: (n,) float32 on the same device. Largest height of a histogram, in multiples of its mean height;
            at least 1.
        tiles: Tiles along each side.

    Returns:
        (n, 3, h, w) uint8. On the CPU the bits of a chip do not depend on the batch it is in.
    """
    height, width = chips.shape[2:]
    tile_h, tile_w = -(-height // tiles), -(-width // tiles)
    images = chips.float()
    luma = _luma(images)
    padded = F.pad(luma, (0, tile_w * tiles - width, 0, tile_h * tiles - height), mode="reflect")
    down, across = (torch.arange(tiles, device=chips.device).repeat_interleave(side) for side in (tile_h, tile_w))
    counts = _histograms(padded.long() + _first_entry(down, across, tiles), tiles)
    maps = _maps(counts, clip_limits, tile_h * tile_w).flatten(1)

    upper, lower, below = _neighbours(height, tile_h, tiles, chips.device)
    left, right, beside = _neighbours(width, tile_w, tiles, chips.device)
    levels = luma.long()
    corners = [
        maps.gather(1, (levels + _first_entry(row, column, tiles)).flatten(1)).view_as(luma)
        for row in (upper, lower)
        for column in (left, right)
    ]
    top, bottom = _mix(corners[0], corners[1], beside), _mix(corners[2], corners[3], beside)
    change = _mix(top, bottom, below[:, None]).sub_(luma)
    return images.add_(change[:, None]).round_().clamp_(0, _LEVELS - 1).to(torch.uint8)


def _luma(images: Tensor) -> Tensor:
    """The nearest level, (n, h, w) float32: the sum is a whole number and a half, so no rounding error moves it."""
    red, green, blue = images.unbind(dim=1)
    return ((299.0 * red + 587.0 * green + 114.0 * blue + 500.5) / 1000.0).floor_()


def _first_entry(row: Tensor, column: Tensor, tiles: int) -> Tensor:
    """Where the entries of each pixel's tile begin among those of all tiles: (h, w) int64."""
    return (row[:, None] * tiles + column) * _LEVELS


def _histograms(entries: Tensor, tiles: int) -> Tensor:
    """How often each level is met in each tile: (n, tiles ** 2, 256) float32, whole numbers."""
    entries = entries.flatten(1)
    counts = torch.zeros(len(entries), tiles * tiles * _LEVELS, device=entries.device)
    ones = torch.ones(1, 1, device=entries.device).expand_as(entries)
    return counts.scatter_add_(1, entries, ones).view(-1, tiles * tiles, _LEVELS)


def _maps(counts: Tensor, clip_limits: Tensor, pixels: int) -> Tensor:
    """New levels by tile and old level: (n, n_tiles, 256) float32."""
    highest = (clip_limits * (pixels / _LEVELS)).clamp(min=1.0).view(-1, 1, 1)
    rising = counts.minimum(highest).cumsum(dim=2)
    excess = (pixels - rising[..., -1:]) / _LEVELS
    return (rising + excess * torch.arange(1, _LEVELS + 1, device=counts.device)) * ((_LEVELS - 1) / pixels)


def _neighbours(length: int, tile: int, tiles: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel along a side: the tiles whose centres lie before and after it, and the weight of the latter."""
    position = (torch.arange(length, device=device) + 0.5) / tile - 0.5
    before = position.floor()
    first = before.long()
    return first.clamp(0, tiles - 1), (first + 1).clamp(0, tiles - 1), position - before


def _mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    return first * (1 - share) + second * share
