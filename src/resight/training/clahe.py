"""Contrast-limited adaptive histogram equalisation of one chip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LEVELS = 256

Floats = npt.NDArray[np.float32]


def equalise(chip: npt.NDArray[np.uint8], clip_limit: float, tiles: int = 8) -> npt.NDArray[np.uint8]:
    """Spread the brightness of a chip within each neighbourhood, and keep its colours.

    Zuiderveld 1994 ("Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV): the luma's histogram of
    each tile is clipped, the excess is spread over all levels, and each pixel is mapped by the cumulative
    histograms of the four tiles around it, weighted bilinearly. The change of luma (ITU-R BT.601) is added to all
    three channels.

    Args:
        chip: (h, w, 3) uint8, RGB; each side at least ``tiles`` pixels.
        clip_limit: Largest height of a histogram, in multiples of its mean height; at least 1.
        tiles: Tiles along each side.

    Returns:
        (h, w, 3) uint8.
    """
    luma = (chip @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).round().astype(np.uint8)
    height, width = luma.shape
    tile_h, tile_w = -(-height // tiles), -(-width // tiles)
    padded = np.pad(luma, ((0, tile_h * tiles - height), (0, tile_w * tiles - width)), mode="reflect")
    blocks = padded.reshape(tiles, tile_h, tiles, tile_w).transpose(0, 2, 1, 3).reshape(tiles * tiles, -1)
    maps = _tile_maps(blocks, clip_limit).reshape(tiles, tiles, _LEVELS)

    upper, lower, down = _neighbours(height, tile_h, tiles)
    left, right, across = _neighbours(width, tile_w, tiles)
    down, across = down[:, None], across[None, :]
    top = _mix(maps[upper[:, None], left[None, :], luma], maps[upper[:, None], right[None, :], luma], across)
    bottom = _mix(maps[lower[:, None], left[None, :], luma], maps[lower[:, None], right[None, :], luma], across)
    change = _mix(top, bottom, down) - luma
    return (chip + change[:, :, None]).round().clip(0, 255).astype(np.uint8)


def _tile_maps(blocks: npt.NDArray[np.uint8], clip_limit: float) -> Floats:
    """New levels by tile and old level: (n_tiles, 256) float32, from blocks (n_tiles, pixels) uint8."""
    n_tiles, pixels = blocks.shape
    offsets = np.arange(n_tiles, dtype=np.int64)[:, None] * _LEVELS
    counts = np.bincount((blocks + offsets).ravel(), minlength=n_tiles * _LEVELS).reshape(n_tiles, _LEVELS)
    heights = np.minimum(counts, max(1.0, clip_limit * pixels / _LEVELS))
    heights += (pixels - heights.sum(axis=1, keepdims=True)) / _LEVELS
    maps: Floats = (heights.cumsum(axis=1) * ((_LEVELS - 1) / pixels)).astype(np.float32)
    return maps


def _neighbours(length: int, tile: int, tiles: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """For each pixel along a side: the tiles whose centres lie before and after it, and the weight of the latter."""
    position = (np.arange(length) + 0.5) / tile - 0.5
    before = np.floor(position).astype(np.int64)
    weight = (position - before).astype(np.float32)
    return before.clip(0, tiles - 1), (before + 1).clip(0, tiles - 1), weight


def _mix(first: Floats, second: Floats, share: Floats) -> Floats:
    return first * (1 - share) + second * share
