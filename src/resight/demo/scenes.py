"""Draws the places where the made-up animals are met: savanna, forest and sea, each new for every encounter.

A place never depends on the individual, so that nothing but the animal tells who it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from resight.demo.shapes import (
    Colour,
    Field,
    Picture,
    as_fill,
    as_pixel,
    fractal_noise,
    limb,
    resize_field,
    scaled,
    to_image,
    to_picture,
)

Place = Literal["savanna", "forest", "sea"]


@dataclass(frozen=True, slots=True)
class Scene:
    """An empty place.

    Attributes:
        picture: (height, width, 3) float32, 0 to 255.
        growth: Colours of the grass that may stand before an animal; empty at sea.
        ground_y: Row where the ground, or the water, meets what lies behind it.
    """

    picture: Picture
    growth: tuple[Colour, ...]
    ground_y: int


@dataclass(frozen=True, slots=True)
class Light:
    """How a whole photo is lit.

    Attributes:
        exposure: Factor on brightness.
        warmth: Above 0 towards orange, below towards blue.
        contrast: Factor about the middle grey.
        haze: Share of grey-white veil.
    """

    exposure: float
    warmth: float
    contrast: float
    haze: float


def draw_scene(place: Place, height: int, width: int, rng: np.random.Generator) -> Scene:
    """Draw an empty place.

    Args:
        place: Which kind.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        rng: Chance of this encounter.
    """
    draw = {"savanna": _savanna, "forest": _forest, "sea": _sea}[place]
    # What lies behind the animal is out of focus: half the size is enough, and four times faster.
    far = draw((height + 1) // 2, (width + 1) // 2, rng)
    image = to_image(far.picture)
    picture = to_picture(image.resize((width, height), Image.Resampling.BICUBIC))
    if far.growth:
        picture = _tufts(picture, far.growth, 2 * far.ground_y, rng)
    return Scene(picture, far.growth, 2 * far.ground_y)


def light_curve(light: Light) -> list[int]:
    """What the light makes of each value 0 to 255 of red, then of green, then of blue: 768 numbers."""
    value = np.arange(256, dtype=np.float32)
    warm = light.warmth
    curves = []
    for tint, veil in ((1 + warm, 214.0), (1 + 0.15 * warm, 216.0), (1 - warm, 214.0)):
        lit = (value * tint * light.exposure - 118) * light.contrast + 118
        curves.append(lit * (1 - light.haze) + light.haze * veil)
    return [int(level) for level in np.clip(np.concatenate(curves), 0, 255)]


def _mix(start: Colour | Picture, end: Colour | Picture, share: Field) -> Picture:
    part = share[..., None]
    mixed: Picture = np.asarray(start, dtype=np.float32) * (1 - part) + np.asarray(end, dtype=np.float32) * part
    return mixed


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 10) -> Colour:
    """One of the colours, a little changed."""
    red, green, blue = np.array(colours[int(rng.integers(len(colours)))]) + rng.normal(0, spread, 3)
    return float(red), float(green), float(blue)


def _seen_flat(field: Field, rows: int) -> Field:
    """The field as ground seen from a low eye: its rows crowd towards the top (the horizon)."""
    depth = np.linspace(0, 1, rows) ** 0.45
    seen: Field = field[(depth * (len(field) - 1)).astype(int)]
    return seen


def _blurred(picture: Picture, radius_px: float) -> Picture:
    image = to_image(picture)
    return to_picture(image.filter(ImageFilter.GaussianBlur(radius_px)))


def _savanna(height: int, width: int, rng: np.random.Generator) -> Scene:
    horizon = int(rng.uniform(0.12, 0.42) * height)
    far = rng.random(width)
    sky_top = _pick(rng, ((110, 150, 200), (150, 170, 190), (190, 180, 170), (120, 140, 175)))
    sky_low = _pick(rng, ((215, 220, 215), (235, 215, 180), (225, 200, 170), (200, 210, 220)))
    picture: Picture = np.empty((height, width, 3), dtype=np.float32)
    fall = np.linspace(0, 1, horizon, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    clouds = np.clip(fractal_noise(rng, horizon, width, (3, 3), 4) * 2.2 - 1.1, 0, 1)
    picture[:horizon] = _mix(_mix(sky_top, sky_low, fall), (244, 240, 232), clouds * rng.uniform(0, 0.8))

    dry = _pick(rng, ((196, 168, 104), (172, 140, 84), (150, 142, 84), (178, 120, 76), (120, 128, 70)), 14)
    green = _pick(rng, ((128, 124, 62), (96, 112, 52), (140, 112, 62)), 12)
    rows = height - horizon
    tussocks = _seen_flat(fractal_noise(rng, rows, width, (10, 8), 5, 0.7), rows)
    patches = _seen_flat(fractal_noise(rng, rows, width, (3, 3), 3), rows)
    ground = _mix(dry, green, np.clip(patches * 1.8 - 0.5, 0, 1))
    picture[horizon:] = ground * (0.62 + 0.76 * tussocks[..., None])

    image = to_image(picture)
    brush = ImageDraw.Draw(image)
    haze = as_fill(
        (
            0.55 * sky_low[0] + 0.45 * green[0],
            0.55 * sky_low[1] + 0.45 * green[1],
            sky_low[2] * 0.55 + green[2] * 0.45,
        )
    )
    ridge = np.convolve(np.pad(far, 20, mode="wrap"), np.ones(31) / 31, mode="same")[20:-20]
    crest = horizon - rng.uniform(10, 80) * np.clip(ridge - 0.42, 0, 1) - 2
    hills = [(float(x), float(y)) for x, y in enumerate(crest)]
    brush.polygon([*hills, (width, horizon + 1), (0, horizon + 1)], fill=haze)
    for _ in range(int(rng.integers(0, 8))):
        _acacia(brush, rng, float(rng.uniform(0, width)), horizon + float(rng.uniform(0, 6)), haze)
    picture = _blurred(to_picture(image), rng.uniform(0.4, 1.6))

    growth = (*(scaled(dry, k) for k in (0.7, 0.9, 1.1, 1.25)), scaled(green, 0.8))
    return Scene(picture, growth, horizon)


def _acacia(brush: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot: float, haze: Colour) -> None:
    tall = float(rng.uniform(7, 30))
    tone = as_fill((0.5 * haze[0] + 22, 0.5 * haze[1] + 30, 0.5 * haze[2] + 12))
    brush.line([(x, foot), (x + tall * 0.06, foot - tall * 0.8)], fill=tone, width=max(1, int(tall / 14)))
    for _ in range(int(rng.integers(3, 7))):
        wide, high = tall * rng.uniform(0.3, 0.6), tall * rng.uniform(0.10, 0.2)
        at_x, at_y = x + tall * rng.uniform(-0.4, 0.4), foot - tall * rng.uniform(0.72, 1.0)
        brush.ellipse([at_x - wide, at_y - high, at_x + wide, at_y + high], fill=tone)


def _tufts(picture: Picture, growth: tuple[Colour, ...], horizon: int, rng: np.random.Generator) -> Picture:
    """Grass on the ground behind the animal, taller towards the viewer."""
    height, width = picture.shape[:2]
    image = to_image(picture)
    brush, fills = ImageDraw.Draw(image), [as_fill(colour) for colour in growth]
    count = int(rng.integers(60, 420))
    near = np.sort(rng.random(count) ** 0.6)
    xs, lean, pick = rng.uniform(0, width, count), rng.normal(0, 0.35, count), rng.integers(0, len(growth), count)
    for share, x, tilt, colour in zip(near, xs, lean, pick, strict=True):
        foot = horizon + share * (height - horizon) + 4
        tall = 3 + 24 * share
        brush.line([(x, foot), (x + tilt * tall, foot - tall)], fill=fills[colour], width=1 + int(share > 0.8))
    return to_picture(image.filter(ImageFilter.GaussianBlur(0.7)))


def _forest(height: int, width: int, rng: np.random.Generator) -> Scene:
    dark = _pick(rng, ((22, 34, 18), (30, 36, 20), (18, 30, 26), (40, 38, 22)), 5)
    leaf = _pick(rng, ((70, 98, 42), (92, 104, 46), (52, 86, 48), (104, 94, 44)), 10)
    bright = _pick(rng, ((150, 170, 84), (176, 172, 96), (120, 160, 104)), 10)
    floor = int(rng.uniform(0.45, 0.75) * height)
    deep = fractal_noise(rng, height, width, (5, 6), 4)
    picture = _mix(dark, leaf, np.clip(deep * 1.7 - 0.45, 0, 1))
    gaps = np.clip((fractal_noise(rng, height, width, (7, 8), 3) - 0.68) * 4, 0, 1)
    picture = _blurred(_mix(picture, bright, gaps * rng.uniform(0.3, 0.9)), rng.uniform(1, 2.5))

    image = to_image(picture)
    brush = ImageDraw.Draw(image)
    bark = _pick(rng, ((62, 50, 38), (84, 76, 64), (46, 42, 34)), 6)
    for _ in range(int(rng.integers(1, 8))):
        x, thick, k = float(rng.uniform(0, width)), float(rng.uniform(3, 17)), float(rng.uniform(0.6, 1.25))
        trunk = limb([(x, -10), (x + rng.normal(0, 4), floor * 0.5), (x, floor + 7)], (thick * 0.8, thick, thick * 1.2))
        brush.polygon([(float(a), float(b)) for a, b in trunk], fill=as_fill(scaled(bark, k)))
    picture = _blurred(to_picture(image), rng.uniform(0.5, 1.2))

    rows = height - floor
    litter = _seen_flat(fractal_noise(rng, rows, width, (8, 8), 5, 0.75), rows)
    earth = _pick(rng, ((92, 78, 50), (70, 78, 40), (104, 90, 62)), 8)
    ground = as_pixel(earth) * (0.45 + 0.95 * litter[..., None])
    edge = np.clip(np.arange(rows, dtype=np.float32) / 8, 0, 1)[:, None] * np.ones((1, width), np.float32)
    picture[floor:] = _mix(picture[floor:], ground, edge)
    bushes = fractal_noise(rng, height, width, (6, 7), 5, 0.7)
    band = np.exp(-(((np.arange(height) - floor) / (0.16 * height)) ** 2)).astype(np.float32)[:, None]
    cover = np.clip((bushes * band - 0.42) * 9, 0, 1)
    picture = _mix(picture, as_pixel(leaf) * (0.45 + bushes[..., None]), cover)
    dapple = np.clip((fractal_noise(rng, height, width, (6, 7), 3) - 0.55) * 5, 0, 1)
    picture = picture * (1 + rng.uniform(0, 0.5) * dapple[..., None])
    growth = tuple(scaled(leaf, k) for k in (0.5, 0.7, 0.9, 1.15))
    return Scene(picture, growth, floor)


def _sea(height: int, width: int, rng: np.random.Generator) -> Scene:
    horizon = int(max(rng.uniform(-0.25, 0.3), 0) * height)
    # Lighter than any fin, so that the outline shows.
    near = _pick(rng, ((66, 116, 146), (78, 128, 132), (104, 122, 134), (72, 104, 138), (110, 132, 122)), 8)
    far = _pick(rng, ((128, 162, 184), (150, 170, 180), (176, 176, 168), (126, 158, 166)), 8)
    sky = _pick(rng, ((170, 196, 216), (214, 206, 196), (190, 196, 200), (226, 196, 164)), 8)
    rows = height - horizon
    fall = np.linspace(0, 1, rows, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
    swell = _seen_flat(fractal_noise(rng, rows, width, (10, 3), 4, 0.6), rows)
    ripples = _seen_flat(fractal_noise(rng, rows, width, (28, 8), 4, 0.8), rows)
    water = _mix(far, near, np.sqrt(fall))
    waves = (swell - 0.5) * rng.uniform(0.4, 1.1) + (ripples - 0.5) * rng.uniform(0.3, 0.9)
    water = water * (1 + waves[..., None])
    glint = np.clip((swell * 0.5 + ripples * 0.7 - rng.uniform(0.74, 0.95)) * 5, 0, 1)
    water = _mix(water, sky, glint * 0.8)
    picture: Picture = np.empty((height, width, 3), dtype=np.float32)
    picture[horizon:] = water
    if horizon:
        rise = np.linspace(0.3, 1, horizon, dtype=np.float32)[:, None] * np.ones((1, width), np.float32)
        clouds = resize_field(fractal_noise(rng, 32, 48, (2, 3), 4), horizon, width)
        picture[:horizon] = _mix(_mix((120, 150, 185), sky, rise), (240, 240, 238), np.clip(clouds - 0.45, 0, 1))
    return Scene(picture, (), horizon)
