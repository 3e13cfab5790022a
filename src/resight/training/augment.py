"""Augmentation in batches, with the parameters of each chip drawn from (seed, epoch, index) and nothing else.

The parameters are values, apart from the pixels: the same chip in the same epoch changes in the same way whatever
process, batch or resumed run it is in. One warp and one colour matrix a chip do the work of a chain of transforms,
on any device, with borders that reflect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from resight.training.clahe import equalise
from resight.training.recipe import Augmentation

# A further number in the seed of each use of randomness, so that no two uses share a stream.
AUGMENTATION_STREAM = 1
ORDER_STREAM = 2

_GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
# RGB to YIQ; turning I and Q turns the hue and leaves the luma alone.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """What happens to one chip.

    Attributes:
        warp: (2, 3), from a place in the result to the place in the chip it is taken from, both in [-1, 1] with y
            down; ``None``: not moved.
        colour: (3, 3), from old RGB to new; ``None``: colours as they are.
        lift: How much of the chip's mean grey (times brightness) is added: one minus the contrast.
        brightness: The factor that is part of ``colour`` and of ``lift``.
        sharpness: 1 is none, 2 doubles the difference from a blurred chip; ``None``: not sharpened.
        clip_limit: Of CLAHE; ``None``: none.
        erased: Left, top, right, bottom as shares of the side, then R, G, B in [0, 255]; ``None``: nothing.
    """

    warp: Matrix | None = None
    colour: Matrix | None = None
    lift: float = 0.0
    brightness: float = 1.0
    sharpness: float | None = None
    clip_limit: float | None = None
    erased: tuple[float, float, float, float, int, int, int] | None = None


def draw_change(strengths: Augmentation, *, seed: int, epoch: int, index: int) -> Change:
    """Draw what happens to one chip: a pure function of its arguments.

    Args:
        strengths: How far a chip may change.
        seed: The run's.
        epoch: From 0.
        index: The chip's place among the training samples.
    """
    random = np.random.default_rng((seed, AUGMENTATION_STREAM, epoch, index))
    # All numbers are drawn, used or not: a strength that changes leaves the other draws as they were.
    chances = random.random(5)
    signed = random.uniform(-1.0, 1.0, 10)
    rest = random.random(9)
    warp = _warp(strengths, signed[:6]) if chances[0] < strengths.affine_probability else None
    colour, lift, brightness = None, 0.0, 1.0
    if chances[1] < strengths.jitter_probability:
        colour, lift, brightness = _colour(strengths, signed[6:])
    return Change(
        warp=warp,
        colour=colour,
        lift=lift,
        brightness=brightness,
        sharpness=1.0 + 2.0 * rest[0] if chances[2] < strengths.sharpen_probability else None,
        clip_limit=1.0 + 3.0 * rest[1] if chances[3] < strengths.clahe_probability else None,
        erased=_rectangle(strengths.erase_area, rest[2:]) if chances[4] < strengths.erase_probability else None,
    )


def apply_changes(chips: Tensor, changes: Sequence[Change]) -> Tensor:
    """Change a batch of chips, in the order CLAHE, sharpening, warp, colour, erasing.

    Args:
        chips: (n, 3, N, N) uint8; left as they are.
        changes: One a chip.

    Returns:
        (n, 3, N, N) uint8 on the same device.
    """
    retouched = chips
    for row, change in enumerate(changes):
        if change.clip_limit is None and change.sharpness is None:
            continue
        if retouched is chips:
            retouched = chips.clone()
        if change.clip_limit is not None:
            pixels = np.ascontiguousarray(retouched[row].permute(1, 2, 0).cpu().numpy())
            equalised = torch.from_numpy(equalise(pixels, change.clip_limit))
            retouched[row] = equalised.permute(2, 0, 1).to(chips.device)
        if change.sharpness is not None:
            retouched[row] = transforms.adjust_sharpness(retouched[row], change.sharpness)
    if all(change.warp is None and change.colour is None and change.erased is None for change in changes):
        return retouched
    images = retouched.float()
    images = _apply_warps(images, [change.warp for change in changes])
    images = _apply_colours(images, changes)
    _erase(images, changes)
    return images.round_().clamp_(0, 255).to(torch.uint8)


def _warp(strengths: Augmentation, signed: Matrix) -> Matrix:
    zoom = 1.0 + strengths.zoom * signed[0]
    stretch = (1.0 + strengths.stretch) ** (0.5 * signed[1])
    angle = math.radians(strengths.rotation_deg) * signed[2]
    slant = math.tan(math.radians(strengths.shear_deg) * signed[3])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = turn @ np.array([[1.0, slant], [0.0, 1.0]]) @ np.diag([zoom * stretch, zoom / stretch])
    shift = 2.0 * strengths.shift * signed[4:6]  # a side is 2 long in [-1, 1]
    backward = np.linalg.inv(forward)
    return np.column_stack([backward, -backward @ shift])


def _colour(strengths: Augmentation, signed: Matrix) -> tuple[Matrix, float, float]:
    brightness = 1.0 + strengths.brightness * signed[0]
    contrast = 1.0 + strengths.contrast * signed[1]
    saturation = 1.0 + strengths.saturation * signed[2]
    angle = 2.0 * math.pi * strengths.hue * signed[3]
    saturate = saturation * np.eye(3) + (1.0 - saturation) * np.outer(np.ones(3), _GREY)
    turn = np.array(
        [[1.0, 0.0, 0.0], [0.0, math.cos(angle), -math.sin(angle)], [0.0, math.sin(angle), math.cos(angle)]]
    )
    # Grey is left alone by saturation and hue, so the contrast's lift can be added after them.
    return contrast * brightness * (_FROM_YIQ @ turn @ _TO_YIQ @ saturate), 1.0 - contrast, brightness


def _rectangle(largest_area: float, numbers: Matrix) -> tuple[float, float, float, float, int, int, int]:
    area = largest_area * (0.1 + 0.9 * numbers[0])
    ratio = math.exp(math.log(3.0) * (2.0 * numbers[1] - 1.0))  # width to height, from 1 / 3 to 3
    width, height = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
    left, top = numbers[2] * (1.0 - width), numbers[3] * (1.0 - height)
    red, green, blue = (int(256 * number) for number in numbers[4:7])
    return left, top, left + width, top + height, red, green, blue


def _apply_warps(images: Tensor, warps: Sequence[Matrix | None]) -> Tensor:
    moved = [row for row, warp in enumerate(warps) if warp is not None]
    if not moved:
        return images
    theta = torch.tensor(np.stack([warp for warp in warps if warp is not None]), dtype=torch.float32)
    chosen = images[moved]
    grid = F.affine_grid(theta.to(images.device), list(chosen.shape), align_corners=False)
    images[moved] = F.grid_sample(chosen, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return images


def _apply_colours(images: Tensor, changes: Sequence[Change]) -> Tensor:
    changed = [row for row, change in enumerate(changes) if change.colour is not None]
    if not changed:
        return images
    device = images.device
    mixes = np.stack([change.colour for change in changes if change.colour is not None])
    colour = torch.tensor(mixes, dtype=torch.float32, device=device)
    grey = torch.tensor(_GREY, dtype=torch.float32, device=device)
    lifts = [changes[row].lift * changes[row].brightness for row in changed]
    raised = torch.tensor(lifts, dtype=torch.float32, device=device)
    chosen = images[changed]
    lift = raised * (chosen.mean(dim=(2, 3)) * grey).sum(dim=1)  # (n,)
    mixed = sum(colour[:, :, channel, None, None] * chosen[:, channel, None] for channel in range(3))
    images[changed] = mixed + lift.view(-1, 1, 1, 1)
    return images


def _erase(images: Tensor, changes: Sequence[Change]) -> None:
    size = images.shape[-1]
    for row, change in enumerate(changes):
        if change.erased is None:
            continue
        left, top, right, bottom = (round(share * size) for share in change.erased[:4])
        fill = torch.tensor(change.erased[4:], dtype=images.dtype, device=images.device).view(3, 1, 1)
        images[row, :, top:bottom, left:right] = fill
