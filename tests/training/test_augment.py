from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from resight.training.augment import Change, apply_changes, draw_change
from resight.training.clahe import equalise
from resight.training.presets import PAPER, TINY
from resight.training.recipe import Augmentation


def smooth_chips(n: int, size: int = 48) -> torch.Tensor:
    """Chips without hard edges and far from black and white, so that no operation clips."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randint(90, 160, (n, 3, 6, 6), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").round().to(torch.uint8)


def only(**strengths: float) -> Augmentation:
    return Augmentation(**strengths)


def draw(strengths: Augmentation, index: int = 0) -> Change:
    return draw_change(strengths, seed=1, epoch=2, index=index)


def test_nothing_is_drawn_without_strengths_and_chips_come_back_as_they_are() -> None:
    assert draw(Augmentation()) == Change()
    chips = smooth_chips(2)
    assert torch.equal(apply_changes(chips, [Change(), Change()]), chips)


def changed_pixels(
    index: int, *, seed: int = 1, epoch: int = 2, strengths: Augmentation = TINY.augment
) -> torch.Tensor:
    return apply_changes(smooth_chips(1), [draw_change(strengths, seed=seed, epoch=epoch, index=index)])


def test_a_change_is_a_pure_function_of_seed_epoch_and_index() -> None:
    torch.manual_seed(5)
    first = changed_pixels(7)
    torch.manual_seed(6)
    np.random.seed(6)
    assert torch.equal(changed_pixels(7), first)
    for other in (changed_pixels(8), changed_pixels(7, seed=2), changed_pixels(7, epoch=3)):
        assert not torch.equal(other, first)


@pytest.mark.parametrize("strengths", [TINY.augment, PAPER.augment], ids=["tiny", "paper"])
def test_a_chips_pixels_do_not_depend_on_its_batch(strengths: Augmentation) -> None:
    chips = smooth_chips(12)
    before = chips.clone()
    changes = [draw(strengths, index) for index in range(12)]
    together = apply_changes(chips, changes)
    alone = torch.cat([apply_changes(chips[row : row + 1], changes[row : row + 1]) for row in range(12)])
    assert together.dtype == torch.uint8
    assert (together.int() - alone.int()).abs().max() <= 1  # a rounding of 0.5 may fall either way
    assert torch.equal(chips, before)


def test_the_warp_agrees_with_torchvision() -> None:
    chips = smooth_chips(1)
    strengths = only(affine_probability=1.0, shift=0.1, zoom=0.2, rotation_deg=20.0)
    for index in range(6):
        change = draw(strengths, index)
        assert change.warp is not None
        forward = np.linalg.inv(change.warp[:, :2])
        shift = forward @ -change.warp[:, 2] * 48 / 2
        zoom = np.sqrt(np.linalg.det(forward))
        angle = np.degrees(np.arctan2(forward[1, 0], forward[0, 0]))
        assert 0.8 <= zoom <= 1.2
        assert abs(angle) <= 20
        assert np.abs(shift).max() <= 4.8
        expected = transforms.affine(
            chips,
            angle=float(angle),
            translate=shift.tolist(),
            scale=float(zoom),
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        inside = transforms.affine(
            torch.full_like(chips, 255), float(angle), shift.tolist(), float(zoom), [0.0, 0.0]
        ).amin(dim=1)
        # Away from the borders, which torchvision fills and we reflect.
        away = -torch.nn.functional.max_pool2d(-inside.float(), 5, 1, 2)[:, 3:-3, 3:-3] > 0
        difference = (apply_changes(chips, [change]).int() - expected.int()).abs().amax(dim=1)[:, 3:-3, 3:-3]
        assert away.float().mean() > 0.3
        assert difference[away].max() <= 2


def test_borders_reflect() -> None:
    chips = smooth_chips(1)
    moved = apply_changes(chips, [Change(warp=np.array([[1.0, 0.0, -0.5], [0.0, 1.0, 0.0]]))])  # 12 pixels to the right
    assert torch.equal(moved[..., 12:], chips[..., :36])
    assert torch.equal(moved[..., :12], chips[..., :12].flip(-1))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_agree_with_torchvision(name: str) -> None:
    chips = smooth_chips(1)
    adjust = getattr(transforms, f"adjust_{name}")
    for index in range(4):
        strengths = only(jitter_probability=1.0, **{name: 0.3})
        change = draw(strengths, index)
        assert change.colour is not None
        # A saturation matrix keeps grey (eigenvalue 1) and multiplies the two colour axes.
        saturation = (np.trace(change.colour) - 1.0) / 2.0
        factor = {"brightness": change.brightness, "contrast": 1.0 - change.lift, "saturation": saturation}[name]
        difference = apply_changes(chips, [change]).int() - adjust(chips, float(factor)).int()
        assert difference.abs().max() <= 2


def test_hue_turns_colours_and_leaves_brightness() -> None:
    chips = smooth_chips(1)
    change = draw(only(jitter_probability=1.0, hue=0.4))
    assert change.colour is not None
    turned = apply_changes(chips, [change])
    grey = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert not torch.equal(turned, chips)
    assert ((turned.float() * grey).sum(1) - (chips.float() * grey).sum(1)).abs().max() < 2
    assert change.colour @ np.ones(3) == pytest.approx(np.ones(3), abs=2e-3)  # grey stays grey


def test_a_rectangle_is_erased() -> None:
    chips = smooth_chips(1, size=100)
    for index in range(8):
        change = draw(only(erase_probability=1.0, erase_area=0.2), index)
        assert change.erased is not None
        left, top, right, bottom = change.erased[:4]
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert 0.019 <= (right - left) * (bottom - top) <= 0.201
        erased = apply_changes(chips, [change])[0]
        rows, columns = slice(round(100 * top), round(100 * bottom)), slice(round(100 * left), round(100 * right))
        assert (erased[:, rows, columns] == torch.tensor(change.erased[4:]).view(3, 1, 1)).all()
        untouched = torch.ones(100, 100, dtype=torch.bool)
        untouched[rows, columns] = False
        assert torch.equal(erased[:, untouched], chips[0][:, untouched])


def test_sharpening_and_clahe_are_drawn_by_their_probabilities() -> None:
    drawn = [draw(only(sharpen_probability=0.5, clahe_probability=0.25), index) for index in range(400)]
    sharpened = [change.sharpness for change in drawn if change.sharpness is not None]
    equalised = [change.clip_limit for change in drawn if change.clip_limit is not None]
    assert 160 < len(sharpened) < 240
    assert 70 < len(equalised) < 130
    assert all(1.0 <= factor <= 3.0 for factor in sharpened)
    assert all(1.0 <= limit <= 4.0 for limit in equalised)
    chips = smooth_chips(1)
    sharp = apply_changes(chips, [Change(sharpness=2.0)])
    assert torch.equal(sharp, transforms.adjust_sharpness(chips, 2.0))
    assert apply_changes(chips, [Change(clip_limit=3.0)]).float().std() > chips.float().std()


def test_strengths_do_not_move_each_others_draws() -> None:
    change = draw(TINY.augment)
    other = draw(replace(TINY.augment, erase_probability=0.0))
    assert (other.warp is None) == (change.warp is None)
    assert other.brightness == change.brightness


def test_clahe_of_a_flat_chip_is_flat_and_of_a_dim_one_is_brighter_in_contrast() -> None:
    flat = np.full((40, 40, 3), 77, dtype=np.uint8)
    assert np.ptp(equalise(flat, 2.0)) == 0
    dim = (100 + 10 * np.random.default_rng(0).random((160, 176, 1))).astype(np.uint8).repeat(3, axis=2)
    assert equalise(dim, 4.0).std() > 2 * dim.std()
    assert equalise(dim, 4.0).shape == dim.shape
    assert equalise(dim, 4.0).std() > equalise(dim, 1.5).std()


def test_clahe_agrees_with_a_naive_loop() -> None:
    chip = np.random.default_rng(1).integers(60, 180, (16, 16, 3), dtype=np.uint8)
    tiles, tile, pixels = 2, 8, 64
    luma = np.array([[round(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in row] for row in chip.astype(float)])
    maps = {}
    for down in range(tiles):
        for across in range(tiles):
            block = luma[down * tile : down * tile + tile, across * tile : across * tile + tile]
            heights = [min(float((block == level).sum()), max(1.0, 2.0 * pixels / 256)) for level in range(256)]
            excess = pixels - sum(heights)
            heights = [height + excess / 256 for height in heights]
            maps[down, across] = [sum(heights[: level + 1]) * 255 / pixels for level in range(256)]
    expected = np.empty_like(chip)
    for y in range(16):
        for x in range(16):
            down, across = (y + 0.5) / tile - 0.5, (x + 0.5) / tile - 0.5
            level = 0.0
            for row in (int(np.floor(down)), int(np.floor(down)) + 1):
                for column in (int(np.floor(across)), int(np.floor(across)) + 1):
                    weight = (1 - abs(down - row)) * (1 - abs(across - column))
                    level += weight * maps[min(max(row, 0), 1), min(max(column, 0), 1)][int(luma[y, x])]
            expected[y, x] = np.clip(np.round(chip[y, x] + level - luma[y, x]), 0, 255)
    assert np.abs(equalise(chip, 2.0, tiles=2).astype(int) - expected.astype(int)).max() <= 1
