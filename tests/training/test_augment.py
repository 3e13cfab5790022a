from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from resight.training.augment import (
    NUMBERS,
    Changes,
    apply_changes,
    changes_of,
    draw_numbers,
    mirror_draw,
)
from resight.training.presets import PAPER, TINY
from resight.training.recipe import Augmentation

ALL = replace(TINY.augment, sharpen_probability=0.5, clahe_probability=0.5, hue=0.2)
SAMPLES = [
    pytest.param(strengths, id=name)
    for name, strengths in [("tiny", TINY.augment), ("paper", PAPER.augment), ("all", ALL)]
]
CHANCES = {
    "moved": "affine_probability",
    "coloured": "jitter_probability",
    "sharpened": "sharpen_probability",
    "equalised": "clahe_probability",
    "erased": "erase_probability",
}


def smooth_chips(n: int, size: int = 48) -> torch.Tensor:
    """Chips without hard edges and far from black and white, so that no operation clips."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randint(90, 160, (n, 3, 6, 6), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").round().to(torch.uint8)


def rough_chips(n: int, size: int = 48) -> torch.Tensor:
    """Chips with the whole range of levels and hard edges."""
    return torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)


def draw(strengths: Augmentation, n: int = 1, *, seed: int = 1, epoch: int = 2) -> Changes:
    return changes_of(strengths, draw_numbers(n, seed=seed, epoch=epoch))


def rows_of(changes: Changes, rows: slice) -> Changes:
    return Changes(**{entry.name: getattr(changes, entry.name)[rows] for entry in fields(Changes)})


def unchanged(n: int = 1) -> Changes:
    return draw(Augmentation(), n)


def test_all_numbers_of_an_epoch_are_drawn_at_once_and_the_first_do_not_depend_on_how_many_there_are() -> None:
    numbers = draw_numbers(500, seed=1, epoch=2)
    assert numbers.shape == (500, NUMBERS)
    assert numbers.dtype == np.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert len(np.unique(numbers)) > 12_000  # no two columns are one
    for fewer in (1, 7, 499):
        assert np.array_equal(draw_numbers(fewer, seed=1, epoch=2), numbers[:fewer])
    for other in (draw_numbers(500, seed=2, epoch=2), draw_numbers(500, seed=1, epoch=3)):
        assert (other == numbers).mean() < 0.001


def test_nothing_happens_without_strengths() -> None:
    changes = unchanged(50)
    assert not any(getattr(changes, mask).any() for mask in CHANCES)
    chips = rough_chips(50)
    result = apply_changes(chips, changes)
    assert torch.equal(result, chips)
    result.zero_()
    assert torch.equal(chips, rough_chips(50))  # the result is no view of the chips


def test_changes_that_are_all_on_and_have_no_strength_leave_chips_as_they_are() -> None:
    still = Augmentation(affine_probability=1.0, jitter_probability=1.0, erase_probability=1.0, erase_area=0.0)
    changes = draw(still, 6)
    assert changes.moved.all()
    assert changes.coloured.all()
    assert changes.erased.all()
    assert torch.equal(apply_changes(rough_chips(6), changes), rough_chips(6))


@pytest.mark.parametrize("strengths", SAMPLES)
def test_a_change_depends_on_its_row_of_numbers_alone(strengths: Augmentation) -> None:
    numbers = draw_numbers(40, seed=1, epoch=2)
    together = changes_of(strengths, numbers)
    order = np.random.default_rng(0).permutation(40)
    shuffled = changes_of(strengths, numbers[order])
    for entry in fields(Changes):
        whole = getattr(together, entry.name)
        assert np.array_equal(getattr(shuffled, entry.name), whole[order]), entry.name
        for row in range(3):
            alone = getattr(changes_of(strengths, numbers[row : row + 1]), entry.name)
            assert np.array_equal(alone, whole[row : row + 1]), entry.name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["planes", "channels_last"])
@pytest.mark.parametrize("size", [48, 37])
@pytest.mark.parametrize("strengths", SAMPLES)
def test_a_chips_bits_do_not_depend_on_its_batch(
    strengths: Augmentation, size: int, layout: torch.memory_format
) -> None:
    chips = rough_chips(24, size).contiguous(memory_format=layout)
    before = chips.clone()
    numbers = draw_numbers(24, seed=1, epoch=2)
    changes, mirrored = changes_of(strengths, numbers), torch.from_numpy(mirror_draw(numbers))
    together = apply_changes(chips, changes, mirrored=mirrored)
    assert together.dtype == torch.uint8
    assert together.is_contiguous(memory_format=layout)
    assert torch.equal(chips, before)
    assert not torch.equal(together, chips)
    for start, stop in [(row, row + 1) for row in range(24)] + [(3, 10), (10, 24)]:
        rows = slice(start, stop)
        part = apply_changes(chips[rows], rows_of(changes, rows), mirrored=mirrored[rows])
        assert torch.equal(part, together[rows]), rows
    planes = apply_changes(rough_chips(24, size), changes, mirrored=mirrored)
    assert torch.equal(planes, together)


def test_pixels_do_not_depend_on_global_randomness_but_on_seed_epoch_and_index() -> None:
    chip = smooth_chips(1).expand(9, -1, -1, -1)
    torch.manual_seed(5)
    first = apply_changes(chip, draw(TINY.augment, 9))
    torch.manual_seed(6)
    np.random.seed(6)
    assert torch.equal(apply_changes(chip, draw(TINY.augment, 9)), first)
    assert not torch.equal(first[7], first[8])
    for other in (draw(TINY.augment, 9, seed=2), draw(TINY.augment, 9, epoch=3)):
        assert not torch.equal(apply_changes(chip, other)[7], first[7])


def test_each_kind_of_change_is_drawn_by_its_probability_and_apart_from_the_others() -> None:
    chances = dict(zip(CHANCES.values(), [0.8, 0.6, 0.5, 0.25, 0.3], strict=True))
    numbers = draw_numbers(4000, seed=1, epoch=2)
    changes = changes_of(Augmentation(**chances), numbers)
    masks = np.array([getattr(changes, mask) for mask in CHANCES] + [mirror_draw(numbers)])
    assert masks.mean(axis=1) == pytest.approx([*chances.values(), 0.5], abs=0.03)
    assert np.abs(np.corrcoef(masks) - np.eye(6)).max() < 0.06
    always = changes_of(Augmentation(**dict.fromkeys(CHANCES.values(), 1.0)), numbers)
    assert all(getattr(always, mask).all() for mask in CHANCES)


@pytest.mark.parametrize("switched_off", CHANCES.values())
def test_strengths_do_not_move_each_others_draws(switched_off: str) -> None:
    numbers = draw_numbers(60, seed=1, epoch=2)
    with_all, without = changes_of(ALL, numbers), changes_of(replace(ALL, **{switched_off: 0.0}), numbers)
    for entry in fields(Changes):
        same = np.array_equal(getattr(with_all, entry.name), getattr(without, entry.name))
        assert same == (CHANCES.get(entry.name) != switched_off), entry.name


def test_amounts_reach_the_strengths_and_not_beyond() -> None:
    strengths = Augmentation(
        shift=0.1, zoom=0.2, rotation_deg=20.0, stretch=0.3, shear_deg=8.0, brightness=0.3, contrast=0.4, erase_area=0.2
    )
    changes = draw(strengths, 3000)
    forward = np.linalg.inv(changes.warp[:, :, :2].astype(np.float64))
    shift = (forward @ -changes.warp[:, :, 2:]).squeeze(2) / 2
    brightness = changes.colour[:, 0].sum(axis=1) + changes.lift  # of grey, which contrast leaves alone
    amounts = {
        "shift along x": (shift[:, 0], -0.1, 0.1),
        "shift along y": (shift[:, 1], -0.1, 0.1),
        "zoom": (np.sqrt(np.linalg.det(forward)), 0.8, 1.2),
        "turn": (np.degrees(np.arctan2(forward[:, 1, 0], forward[:, 0, 0])), -20.0, 20.0),
        "stretch": (
            (forward[:, :, 0] ** 2).sum(axis=1) / np.linalg.det(forward),  # the first column is only turned and scaled
            1 / 1.3,
            1.3,
        ),
        "shear": (
            np.degrees(np.arctan((forward[:, :, 0] * forward[:, :, 1]).sum(axis=1) / np.linalg.det(forward))),
            -8.0,
            8.0,
        ),
        "brightness": (brightness, 0.7, 1.3),
        "contrast": (1.0 - changes.lift / brightness, 0.6, 1.4),
        "sharpness": (changes.sharpness, 1.0, 3.0),
        "clip limit": (changes.clip_limit, 1.0, 4.0),
    }
    for name, (amount, low, high) in amounts.items():
        margin = 0.01 * (high - low)
        assert low - 1e-4 <= amount.min() < low + margin, name
        assert high - margin < amount.max() <= high + 1e-4, name
    width, height = (changes.rectangle[:, 2:] - changes.rectangle[:, :2]).T
    assert (changes.rectangle.min(), changes.rectangle.max()) == pytest.approx((0, 1), abs=0.01)
    assert ((width * height).min(), (width * height).max()) == pytest.approx((0.02, 0.2), abs=0.002)
    assert ((width / height).min(), (width / height).max()) == pytest.approx((1 / 3, 3), rel=0.01)
    places = changes.rectangle[:, :2] / (1.0 - np.stack([width, height], axis=1))
    apart = np.array([amount for amount, _, _ in amounts.values()] + [width * height, width / height])
    apart = np.concatenate([apart, places.T, changes.fill.T])  # no two from one number
    assert np.abs(np.corrcoef(apart) - np.eye(len(apart))).max() < 0.1
    assert changes.fill.min(axis=0).tolist() == [0, 0, 0]
    assert changes.fill.max(axis=0).tolist() == [255, 255, 255]


def test_the_warp_is_the_inverse_of_its_steps() -> None:
    strengths = Augmentation(shift=0.1, zoom=0.2, rotation_deg=20.0, stretch=0.3, shear_deg=8.0)
    numbers = draw_numbers(20, seed=1, epoch=2)
    changes = changes_of(strengths, numbers)
    for row in range(20):
        zoom, stretch, turn, shear, x, y = (2.0 * float(number) - 1.0 for number in numbers[row, 6:12])
        wider, angle = math.sqrt(1.3**stretch), math.radians(20.0 * turn)
        size = np.diag([(1 + 0.2 * zoom) * wider, (1 + 0.2 * zoom) / wider, 1.0])
        slant = np.array([[1.0, math.tan(math.radians(8.0 * shear)), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        turned = np.eye(3)
        turned[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        shifted = np.array([[1.0, 0.0, 0.2 * x], [0.0, 1.0, 0.2 * y], [0.0, 0.0, 1.0]])
        expected = np.linalg.inv(shifted @ turned @ slant @ size)[:2]
        assert changes.warp[row] == pytest.approx(expected, abs=1e-6)


def test_the_warp_agrees_with_torchvision() -> None:
    chips = smooth_chips(1)
    strengths = Augmentation(affine_probability=1.0, shift=0.1, zoom=0.2, rotation_deg=20.0)
    changes = draw(strengths, 6)
    for row in range(6):
        forward = np.linalg.inv(changes.warp[row, :, :2])
        shift = (forward @ -changes.warp[row, :, 2] * 48 / 2).tolist()
        zoom = float(np.sqrt(np.linalg.det(forward)))
        angle = float(np.degrees(np.arctan2(forward[1, 0], forward[0, 0])))
        bilinear = InterpolationMode.BILINEAR
        expected = transforms.affine(chips, angle, shift, zoom, [0.0, 0.0], interpolation=bilinear)
        inside = transforms.affine(torch.full_like(chips, 255), angle, shift, zoom, [0.0, 0.0]).amin(dim=1)
        # Away from the borders, which torchvision fills and we reflect.
        away = -torch.nn.functional.max_pool2d(-inside.float(), 5, 1, 2)[:, 3:-3, 3:-3] > 0
        moved = apply_changes(chips, rows_of(changes, slice(row, row + 1)))
        difference = (moved.int() - expected.int()).abs().amax(dim=1)[:, 3:-3, 3:-3]
        assert away.float().mean() > 0.3
        assert difference[away].max() <= 2
        assert not torch.equal(moved, chips)


def test_borders_reflect() -> None:
    chips = rough_chips(1)
    warp = np.array([[[1.0, 0.0, -0.5], [0.0, 1.0, 0.0]]], dtype=np.float32)  # 12 pixels to the right
    moved = apply_changes(chips, replace(unchanged(), moved=np.array([True]), warp=warp))
    assert torch.equal(moved[..., 12:], chips[..., :36])
    assert torch.equal(moved[..., :12], chips[..., :12].flip(-1))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_agree_with_torchvision(name: str) -> None:
    chips = smooth_chips(1)
    adjust = getattr(transforms, f"adjust_{name}")
    numbers = draw_numbers(4, seed=1, epoch=2)
    changes = changes_of(Augmentation(jitter_probability=1.0, **{name: 0.3}), numbers)
    column = {"brightness": 12, "contrast": 13, "saturation": 14}[name]
    largest = 0
    for row in range(4):
        factor = 1.0 + 0.3 * (2.0 * float(numbers[row, column]) - 1.0)
        changed = apply_changes(chips, rows_of(changes, slice(row, row + 1)))
        assert (changed.int() - adjust(chips, factor).int()).abs().max() <= 2
        largest = max(largest, int((changed.int() - chips.int()).abs().max()))
    assert largest > 5


def test_colour_is_brightness_of_contrast_of_hue_of_saturation() -> None:
    numbers = draw_numbers(8, seed=1, epoch=2)
    strengths = Augmentation(jitter_probability=1.0, brightness=0.2, contrast=0.3, saturation=0.4, hue=0.1)
    chips = smooth_chips(8)
    changed = apply_changes(chips, changes_of(strengths, numbers))
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    for row in range(8):
        brightness, contrast, saturation, turn = (2.0 * float(number) - 1.0 for number in numbers[row, 12:16])
        angle = 2 * math.pi * 0.1 * turn
        rgb = chips[row].flatten(1).double().numpy()  # (3, pixels)
        grey = to_yiq[0] @ rgb
        rgb = grey + (1 + 0.4 * saturation) * (rgb - grey)
        luma, i, q = to_yiq @ rgb
        turned = [luma, math.cos(angle) * i - math.sin(angle) * q, math.sin(angle) * i + math.cos(angle) * q]
        rgb = np.linalg.inv(to_yiq) @ np.array(turned)
        rgb = grey.mean() + (1 + 0.3 * contrast) * (rgb - grey.mean())
        expected = ((1 + 0.2 * brightness) * rgb).clip(0, 255)
        assert np.abs(changed[row].flatten(1).numpy() - expected).max() < 0.51


def test_hue_turns_colours_and_leaves_brightness() -> None:
    chips = smooth_chips(1)
    changes = draw(Augmentation(jitter_probability=1.0, hue=0.4))
    turned = apply_changes(chips, changes)
    grey = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert (turned.int() - chips.int()).abs().max() > 10
    assert ((turned.float() * grey).sum(1) - (chips.float() * grey).sum(1)).abs().max() < 2
    assert changes.colour[0] @ np.ones(3) == pytest.approx(np.ones(3), abs=2e-3)  # grey stays grey


def test_a_rectangle_is_erased() -> None:
    chips = smooth_chips(8, size=100)
    changes = draw(Augmentation(erase_probability=1.0, erase_area=0.2), 8)
    result = apply_changes(chips, changes)
    for row in range(8):
        left, top, right, bottom = (round(100 * float(share)) for share in changes.rectangle[row])
        expected = chips[row].clone()
        expected[:, top:bottom, left:right] = torch.from_numpy(changes.fill[row])[:, None, None]
        assert torch.equal(result[row], expected)
        assert not torch.equal(result[row], chips[row])


def test_erasing_comes_last_and_keeps_its_colour() -> None:
    drawn = draw(ALL)
    everywhere = np.array([[0.0, 0.0, 1.0, 1.0]], dtype=np.float32)
    fill = np.array([[3, 200, 77]], dtype=np.uint8)
    on = np.array([True])
    changes = replace(drawn, moved=on, coloured=on, sharpened=on, equalised=on, erased=on, rectangle=everywhere)
    result = apply_changes(rough_chips(1), replace(changes, fill=fill))
    assert torch.equal(result, torch.tensor([3, 200, 77], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 48, 48))


def test_clahe_comes_before_sharpening_and_both_before_colour() -> None:
    drawn, on = draw(ALL, 4), np.ones(4, dtype=bool)
    chips = rough_chips(4)
    steps = [{"equalised": on}, {"sharpened": on}, {"coloured": on}]
    off = replace(drawn, **dict.fromkeys(CHANCES, ~on))
    in_turn = chips
    for step in steps:
        in_turn = apply_changes(in_turn, replace(off, **step))
    together = replace(off, equalised=on, sharpened=on, coloured=on)
    assert torch.equal(apply_changes(chips, together), in_turn)


def test_sharpening_is_torchvisions() -> None:
    chips = rough_chips(4, size=37)
    factors = np.array([1.0, 2.0, 3.0, 1.37], dtype=np.float32)
    sharp = apply_changes(chips, replace(unchanged(4), sharpened=np.ones(4, dtype=bool), sharpness=factors))
    assert torch.equal(sharp[0], chips[0])
    for row in (1, 2):  # whole numbers
        assert torch.equal(sharp[row], transforms.adjust_sharpness(chips[row], float(factors[row])))
    cut_off = transforms.adjust_sharpness(chips[3], float(factors[3]))  # torchvision rounds down, we to the nearest
    assert set((sharp[3].int() - cut_off.int()).unique().tolist()) == {0, 1}


def test_clahe_is_applied_to_its_rows_with_their_limits() -> None:
    chips = (100 + smooth_chips(1, size=96).float() / 16).byte().repeat(3, 1, 1, 1)
    limits = np.array([3.0, 3.0, 1.5], dtype=np.float32)
    mask = np.array([False, True, True])
    result = apply_changes(chips, replace(unchanged(3), equalised=mask, clip_limit=limits))
    assert torch.equal(result[0], chips[0])
    assert result[1].float().std() > result[2].float().std() > chips[2].float().std()


def test_chips_are_mirrored_before_anything_else() -> None:
    chips = rough_chips(6)
    mirrored = torch.tensor([True, False, True, True, False, False])
    flipped = apply_changes(chips, unchanged(6), mirrored=mirrored)
    assert torch.equal(flipped[mirrored], chips[mirrored].flip(-1))
    assert torch.equal(flipped[~mirrored], chips[~mirrored])
    changes = draw(replace(ALL, affine_probability=1.0, erase_probability=1.0), 6)
    at_once = apply_changes(chips, changes, mirrored=mirrored)
    assert torch.equal(at_once, apply_changes(flipped, changes))
    assert not torch.equal(at_once, apply_changes(chips, changes))


def test_changes_for_another_number_of_chips_are_refused() -> None:
    with pytest.raises(ValueError, match="2 changes for 3 chips"):
        apply_changes(rough_chips(3), unchanged(2))
