"""Augmentation in batches, with the parameters of each chip drawn from (seed, epoch, index) and nothing else.

The parameters are values, apart from the pixels: the same chip in the same epoch changes in the same way whatever
process, batch or resumed run it is in. One warp and one colour matrix a chip do the work of a chain of transforms,
on any device, with borders that reflect. Sums are written out where a library's order of adding could depend on
the size of the batch: on the CPU a chip's bits do not depend on its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from resight.training.clahe import equalise
from resight.training.recipe import Augmentation

# A further number in the seed of each use of randomness, so that no two uses share a stream.
AUGMENTATION_STREAM = 1

# The columns of a chip's numbers. All are drawn, used or not: a strength that changes leaves the others' draws alone.
_MIRROR, _MOVE, _COLOUR, _SHARPEN, _EQUALISE, _ERASE = range(6)  # chances
_WARP = slice(6, 12)  # zoom, stretch, turn, shear, shift along x, shift along y
_JITTER = slice(12, 16)  # brightness, contrast, saturation, hue
_SHARPNESS, _CLIP_LIMIT = 16, 17
_RECTANGLE = slice(18, 22)  # area, ratio, left, top
_FILL = slice(22, 25)  # R, G, B
NUMBERS = 25

_GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
# RGB to YIQ; turning I and Q turns the hue and leaves the luma alone.
_TO_YIQ = np.array([_GREY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
# The parts of a turn of I and Q by an angle: what is kept, and what goes with its cosine and with its sine.
_TURN_KEEPS = np.outer(_FROM_YIQ[:, 0], _TO_YIQ[0])
_TURN_COSINE = np.outer(_FROM_YIQ[:, 1], _TO_YIQ[1]) + np.outer(_FROM_YIQ[:, 2], _TO_YIQ[2])
_TURN_SINE = np.outer(_FROM_YIQ[:, 2], _TO_YIQ[1]) - np.outer(_FROM_YIQ[:, 1], _TO_YIQ[2])

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Changes:
    """What happens to each chip of a batch. A row's values count only where its mask is true.

    Attributes:
        moved: (n,) bool, the mask of ``warp``.
        warp: (n, 2, 3) float32, from a place in the result to the place in the chip it is taken from, both in
            [-1, 1] with y down.
        coloured: (n,) bool, the mask of ``colour`` and ``lift``.
        colour: (n, 3, 3) float32, from old RGB to new.
        lift: (n,) float32, how much of the mean grey of the chip, before its warp, is added to all channels.
        sharpened: (n,) bool, the mask of ``sharpness``.
        sharpness: (n,) float32; 1 is none, 2 doubles the difference from a blurred chip.
        equalised: (n,) bool, the mask of ``clip_limit``.
        clip_limit: (n,) float32, of CLAHE.
        erased: (n,) bool, the mask of ``rectangle`` and ``fill``.
        rectangle: (n, 4) float32, left, top, right, bottom as shares of the side.
        fill: (n, 3) uint8, RGB.
    """

    moved: Mask
    warp: Floats
    coloured: Mask
    colour: Floats
    lift: Floats
    sharpened: Mask
    sharpness: Floats
    equalised: Mask
    clip_limit: Floats
    erased: Mask
    rectangle: Floats
    fill: npt.NDArray[np.uint8]


def draw_numbers(n_samples: int, *, seed: int, epoch: int) -> Floats:
    """Draw all the randomness of one epoch.

    Args:
        n_samples: How many training samples there are; the first rows do not depend on it.
        seed: The run's.
        epoch: From 0.

    Returns:
        (n_samples, NUMBERS) float32 in [0, 1), one row a sample.
    """
    return np.random.default_rng((seed, AUGMENTATION_STREAM, epoch)).random((n_samples, NUMBERS), dtype=np.float32)


def mirror_draw(numbers: Floats) -> Mask:
    """Which chips are mirrored: (n,) bool, each true with probability 0.5, from (n, NUMBERS) float32."""
    return numbers[:, _MIRROR] < 0.5


def changes_of(strengths: Augmentation, numbers: Floats) -> Changes:
    """What happens to the chips of a batch: a pure function, row by row.

    Args:
        strengths: How far a chip may change.
        numbers: (n, NUMBERS) float32 in [0, 1), the chips' rows of ``draw_numbers``.
    """
    drawn = numbers.astype(np.float64)
    colour, lift = _colours(strengths, 2.0 * drawn[:, _JITTER] - 1.0)
    return Changes(
        moved=drawn[:, _MOVE] < strengths.affine_probability,
        warp=_warps(strengths, 2.0 * drawn[:, _WARP] - 1.0),
        coloured=drawn[:, _COLOUR] < strengths.jitter_probability,
        colour=colour,
        lift=lift,
        sharpened=drawn[:, _SHARPEN] < strengths.sharpen_probability,
        sharpness=(1.0 + 2.0 * drawn[:, _SHARPNESS]).astype(np.float32),
        equalised=drawn[:, _EQUALISE] < strengths.clahe_probability,
        clip_limit=(1.0 + 3.0 * drawn[:, _CLIP_LIMIT]).astype(np.float32),
        erased=drawn[:, _ERASE] < strengths.erase_probability,
        rectangle=_rectangles(strengths.erase_area, drawn[:, _RECTANGLE]),
        fill=(256.0 * drawn[:, _FILL]).astype(np.uint8),
    )


def apply_changes(chips: Tensor, changes: Changes, *, mirrored: Tensor | None = None) -> Tensor:
    """Change a batch of chips, in the order mirror image, CLAHE, sharpening, warp, colour, erasing.

    Args:
        chips: (n, 3, N, N) uint8; left as they are.
        changes: A row a chip.
        mirrored: (n,) bool, the chips that are flipped left to right; ``None``: none. It is read on the CPU, so
            another device is waited for.

    Returns:
        (n, 3, N, N) uint8, a new tensor on the same device and in the same memory format.

    Raises:
        ValueError: there are not as many changes as chips.
    """
    if len(changes.moved) != len(chips):
        raise ValueError(f"{len(changes.moved)} changes for {len(chips)} chips: give one row of numbers a chip")
    device = chips.device
    pixels = chips.clone()
    if mirrored is not None:
        rows = _rows(mirrored.cpu().numpy(), device)
        pixels.index_copy_(0, rows, chips.index_select(0, rows).flip(-1))
    if changes.equalised.any():
        rows = _rows(changes.equalised, device)
        limits = _there(changes.clip_limit[changes.equalised], device)
        pixels.index_copy_(0, rows, equalise(pixels.index_select(0, rows), limits))
    if changes.sharpened.any():
        rows = _rows(changes.sharpened, device)
        factors = _there(changes.sharpness[changes.sharpened], device)
        pixels.index_copy_(0, rows, _sharpen(pixels.index_select(0, rows), factors))
    if changes.moved.any() or changes.coloured.any():
        images = pixels.float()
        if changes.moved.any():
            rows = _rows(changes.moved, device)
            warps = _there(changes.warp[changes.moved], device)
            images.index_copy_(0, rows, _warp(images.index_select(0, rows), warps))
        if changes.coloured.any():
            images = _paint(images, pixels, changes)
        pixels = images.round_().clamp_(0, 255).to(torch.uint8)
    if changes.erased.any():
        rows = _rows(changes.erased, device)
        pixels.index_copy_(0, rows, _erase(pixels.index_select(0, rows), changes))
    return pixels


def _warps(strengths: Augmentation, signed: npt.NDArray[np.float64]) -> Floats:
    """The warps backward, (n, 2, 3), of a zoom and a stretch, then a shear, then a turn, then a shift."""
    zoom = 1.0 + strengths.zoom * signed[:, 0]
    stretch = (1.0 + strengths.stretch) ** (0.5 * signed[:, 1])
    angle = math.radians(strengths.rotation_deg) * signed[:, 2]
    slant = np.tan(math.radians(strengths.shear_deg) * signed[:, 3])
    shift_x, shift_y = 2.0 * strengths.shift * signed[:, 4], 2.0 * strengths.shift * signed[:, 5]  # a side is 2 long
    cosine, sine = np.cos(angle), np.sin(angle)
    across, down = 1.0 / (zoom * stretch), stretch / zoom
    backward = (across * (cosine + slant * sine), across * (sine - slant * cosine)), (-down * sine, down * cosine)
    rows = [np.stack([x, y, -(x * shift_x + y * shift_y)], axis=1) for x, y in backward]
    return np.stack(rows, axis=1).astype(np.float32)


def _colours(strengths: Augmentation, signed: npt.NDArray[np.float64]) -> tuple[Floats, Floats]:
    """The colour matrices, (n, 3, 3), and the lifts, (n,)."""
    brightness = 1.0 + strengths.brightness * signed[:, 0]
    contrast = 1.0 + strengths.contrast * signed[:, 1]
    saturation = 1.0 + strengths.saturation * signed[:, 2]
    angle = 2.0 * math.pi * strengths.hue * signed[:, 3]
    # Saturation multiplies what a turn of the hue turns and leaves alone what it keeps.
    turned = (saturation * np.cos(angle))[:, None, None] * _TURN_COSINE
    turned += (saturation * np.sin(angle))[:, None, None] * _TURN_SINE
    colour = (contrast * brightness)[:, None, None] * (_TURN_KEEPS + turned)
    # Grey is left alone by saturation and hue, so the contrast's lift can be added after them.
    return colour.astype(np.float32), ((1.0 - contrast) * brightness).astype(np.float32)


def _rectangles(largest_area: float, numbers: npt.NDArray[np.float64]) -> Floats:
    """Left, top, right and bottom, (n, 4), as shares of the side."""
    area = largest_area * (0.1 + 0.9 * numbers[:, 0])
    ratio = np.exp(math.log(3.0) * (2.0 * numbers[:, 1] - 1.0))  # width to height, from 1 / 3 to 3
    width, height = np.minimum(1.0, np.sqrt(area * ratio)), np.minimum(1.0, np.sqrt(area / ratio))
    left, top = numbers[:, 2] * (1.0 - width), numbers[:, 3] * (1.0 - height)
    return np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)


def _there(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    # CUDA copies such an array aside before it returns; to block would be to wait for all work queued there.
    return torch.from_numpy(array).to(device, non_blocking=device.type == "cuda")


def _rows(mask: Mask, device: torch.device) -> Tensor:
    return _there(np.flatnonzero(mask), device)


def _sharpen(chips: Tensor, factors: Tensor) -> Tensor:
    """Blend each chip with its smoothed self, (n, 3, N, N) uint8; the outermost pixels stay.

    The kernel is torchvision's and Pillow's: 5 in the middle and 1 around it, over 13.
    """
    images = chips.float()
    inner = images[..., 1:-1, 1:-1]
    stripes = images[..., :-2, :] + images[..., 1:-1, :] + images[..., 2:, :]
    box = stripes[..., :-2] + stripes[..., 1:-1] + stripes[..., 2:]
    smooth = ((box + 4.0 * inner) / 13.0).round_()
    images[..., 1:-1, 1:-1] = smooth + factors.view(-1, 1, 1, 1) * (inner - smooth)
    return images.round_().clamp_(0, 255).to(torch.uint8)


def _warp(images: Tensor, warps: Tensor) -> Tensor:
    """Move the images, (m, 3, N, N) float32, each by its own warp, (m, 2, 3)."""
    side = images.shape[-1]
    places = (2.0 * torch.arange(side, device=images.device) + 1.0) / side - 1.0  # the pixels' centres
    grid = images.new_empty(len(images), side, side, 2)
    for axis in range(2):
        along_x, along_y, shift = warps[:, axis, :, None].unbind(dim=1)  # each (m, 1)
        torch.add((along_x * places)[:, None, :], (along_y * places + shift)[:, :, None], out=grid[..., axis])
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _paint(images: Tensor, pixels: Tensor, changes: Changes) -> Tensor:
    """Change the colours of all images, (n, 3, N, N) float32: by the identity, which is exact, where none are drawn.

    The mean grey is that of the pixels before the warp, (n, 3, N, N) uint8: whole numbers, whose sum is the same in
    any order (and fits 32 bits up to sides of 2,900 pixels).
    """
    mask = changes.coloured
    colour = _there(np.where(mask[:, None, None], changes.colour, np.eye(3, dtype=np.float32)), images.device)
    share = _there(np.where(mask, changes.lift, np.float32(0.0)), images.device)
    means = pixels.sum(dim=(2, 3), dtype=torch.int32).float() / (pixels.shape[2] * pixels.shape[3])
    red, green, blue = means.unbind(dim=1)
    grey = float(_GREY[0]) * red + float(_GREY[1]) * green + float(_GREY[2]) * blue
    painted, part = torch.empty_like(images), torch.empty_like(images)
    torch.mul(colour[:, :, 0, None, None], images[:, 0:1], out=painted)
    for channel in (1, 2):
        torch.mul(colour[:, :, channel, None, None], images[:, channel : channel + 1], out=part)
        painted.add_(part)
    return painted.add_((share * grey).view(-1, 1, 1, 1))


def _erase(chips: Tensor, changes: Changes) -> Tensor:
    """Paint over the rectangle of each erased chip, (m, 3, N, N) uint8: from the nearest pixel edge to the nearest."""
    side = chips.shape[-1]
    edges = _there(np.rint(changes.rectangle[changes.erased] * side).astype(np.int64), chips.device)
    left, top, right, bottom = edges[:, :, None].unbind(dim=1)  # each (m, 1)
    places = torch.arange(side, device=chips.device)
    columns, lines = (places >= left) & (places < right), (places >= top) & (places < bottom)
    fill = _there(changes.fill[changes.erased], chips.device)
    return torch.where((lines[:, :, None] & columns[:, None, :])[:, None], fill[:, :, None, None], chips)
