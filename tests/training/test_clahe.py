from __future__ import annotations

import numpy as np
import pytest
import torch

from resight.training.clahe import equalise


def grey_chips(*levels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(levels).astype(np.uint8))[:, None].repeat(1, 3, 1, 1)


def test_a_flat_chip_stays_flat_and_a_dim_one_gains_contrast_up_to_its_limit() -> None:
    flat = equalise(grey_chips(np.full((40, 40), 77)), torch.tensor([2.0]))
    assert len(flat.unique()) == 1
    dim = grey_chips(100 + 10 * np.random.default_rng(0).random((160, 176)))
    much, little = equalise(dim.repeat(2, 1, 1, 1), torch.tensor([4.0, 1.5])).float()
    assert much.shape == dim.shape[1:]
    assert much.std() > 2 * dim.float().std()
    assert much.std() > little.std()


def reference(chip: np.ndarray, clip_limit: float, tiles: int) -> np.ndarray:
    """One chip (3, h, w), pixel by pixel."""
    _, height, width = chip.shape
    red, green, blue = chip.astype(int)
    luma = (299 * red + 587 * green + 114 * blue + 500) // 1000
    tile_h, tile_w = -(-height // tiles), -(-width // tiles)
    padded = np.pad(luma, ((0, tile_h * tiles - height), (0, tile_w * tiles - width)), mode="reflect")
    pixels = tile_h * tile_w
    maps = {}
    for down in range(tiles):
        for across in range(tiles):
            block = padded[down * tile_h : (down + 1) * tile_h, across * tile_w : (across + 1) * tile_w]
            counts = np.array([(block == level).sum() for level in range(256)])
            heights = np.minimum(counts, max(1.0, clip_limit * pixels / 256))
            heights += (pixels - heights.sum()) / 256
            maps[down, across] = heights.cumsum() * 255 / pixels
    expected = np.empty_like(chip)
    for y in range(height):
        for x in range(width):
            down, across = (y + 0.5) / tile_h - 0.5, (x + 0.5) / tile_w - 0.5
            level = 0.0
            for row in (int(np.floor(down)), int(np.floor(down)) + 1):
                for column in (int(np.floor(across)), int(np.floor(across)) + 1):
                    weight = (1 - abs(down - row)) * (1 - abs(across - column))
                    level += weight * maps[np.clip(row, 0, tiles - 1), np.clip(column, 0, tiles - 1)][luma[y, x]]
            expected[:, y, x] = np.clip(np.round(chip[:, y, x] + level - luma[y, x]), 0, 255)
    return expected


@pytest.mark.parametrize(("size", "tiles"), [((16, 16), 2), ((19, 30), 4), ((26, 17), 8), ((64, 70), 2)])
def test_it_agrees_with_a_naive_loop(size: tuple[int, int], tiles: int) -> None:
    limits = (1.0, 2.0, 4.0)
    chips = np.random.default_rng(1).integers(60, 120, (3, 3, *size), dtype=np.uint8)
    chips[2] *= 2
    result = equalise(torch.from_numpy(chips), torch.tensor(limits), tiles=tiles).numpy()
    for chip, limit, equalised in zip(chips, limits, result, strict=True):
        assert np.abs(equalised.astype(int) - reference(chip, limit, tiles).astype(int)).max() <= 1


def test_a_chips_bits_do_not_depend_on_its_batch_or_its_memory_format() -> None:
    generator = torch.Generator().manual_seed(0)
    chips = torch.randint(0, 256, (9, 3, 37, 41), generator=generator, dtype=torch.uint8)
    limits = torch.linspace(1.0, 4.0, 9)
    before = chips.clone()
    together = equalise(chips, limits)
    assert torch.equal(chips, before)
    assert torch.equal(equalise(chips.contiguous(memory_format=torch.channels_last), limits), together)
    for row in range(9):
        assert torch.equal(equalise(chips[row : row + 1], limits[row : row + 1]), together[row : row + 1])
