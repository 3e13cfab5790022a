"""Puts an animal into a place and takes the photo: perspective, shadow or water, grass before it, light and camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from resight.demo.animals import Sprite
from resight.demo.scenes import Light, Scene, light_curve
from resight.demo.shapes import Field, Picture, as_fill, as_pixel, fractal_noise, scaled, to_image, to_picture


@dataclass(frozen=True, slots=True)
class Framing:
    """How a sprite stands in a photo.

    Attributes:
        x, y: Where its centre goes, in photo pixels.
        scale: Photo pixels for one sprite pixel.
        squeeze: Width after turning away from the viewer, relative to the full flank.
        keystone: Perspective: how much taller the right end appears, −0.3 to 0.3.
        turn_rad: Rotation in the picture, clockwise.
    """

    x: float
    y: float
    scale: float
    squeeze: float
    keystone: float
    turn_rad: float


@dataclass(frozen=True, slots=True)
class Camera:
    """Faults of the camera.

    Attributes:
        blur_px: Radius of the blur.
        noise: Standard deviation of the sensor's noise, of 255.
        vignette: Darkening of the corners, 0 to 1.
    """

    blur_px: float
    noise: float
    vignette: float


@dataclass(frozen=True, slots=True)
class Cover:
    """What hides part of an animal.

    Attributes:
        grass: Blades of grass before it.
        grass_px: Height of the tallest.
        branch: Whether a leafy branch crosses the picture.
    """

    grass: int
    grass_px: float
    branch: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """A sprite carried into photo pixels.

    Attributes:
        rgb: (height, width, 3) float32.
        alpha: (height, width) float32, 0 to 1.
        boxed: (height, width) float32, 0 to 1.
        ground: (x, y) of the middle of the ground or water line.
    """

    rgb: Picture
    alpha: Field
    boxed: Field
    ground: tuple[float, float]


def place_sprite(sprite: Sprite, framing: Framing, height: int, width: int) -> Placed:
    """Carry a sprite into a photo of ``height`` × ``width`` pixels by a projective map."""
    rows, columns = sprite.alpha.shape
    corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], dtype=np.float64)
    ground = np.array([sprite.centre[0], sprite.ground_y])
    forward = _homography(corners, _framed(corners, sprite, framing))
    inverse = np.linalg.inv(forward)
    inverse /= inverse[2, 2]
    layers = np.dstack([sprite.rgb, sprite.alpha])
    size, map_back = (width, height), tuple(float(value) for value in inverse.ravel()[:8])
    moved = np.asarray(
        Image.fromarray(layers).transform(size, Image.Transform.PERSPECTIVE, map_back, Image.Resampling.BILINEAR)
    )
    if sprite.boxed is sprite.alpha:
        boxed = moved[..., 3]
    else:
        part = Image.fromarray(sprite.boxed)
        boxed = np.asarray(part.transform(size, Image.Transform.PERSPECTIVE, map_back, Image.Resampling.BILINEAR))
    at = forward @ np.array([ground[0], ground[1], 1.0])
    return Placed(
        rgb=moved[..., :3].astype(np.float32),
        alpha=moved[..., 3].astype(np.float32) / 255,
        boxed=boxed.astype(np.float32) / 255,
        ground=(float(at[0] / at[2]), float(at[1] / at[2])),
    )


def _framed(points: NDArray[np.float64], sprite: Sprite, framing: Framing) -> NDArray[np.float64]:
    """Sprite pixels, (n, 2), as they come to lie in the photo."""
    columns = sprite.alpha.shape[1]
    away = points - np.array(sprite.centre)
    nearer = 1 + framing.keystone * away[:, :1] / columns
    away = away * nearer * framing.scale * np.array([framing.squeeze, 1.0])
    cos, sin = np.cos(framing.turn_rad), np.sin(framing.turn_rad)
    framed: NDArray[np.float64] = away @ np.array([[cos, sin], [-sin, cos]]) + np.array([framing.x, framing.y])
    return framed


def fit_framing(sprite: Sprite, framing: Framing, height: int, width: int, margin: float = 0.02) -> Framing:
    """The framing shrunk and shifted until the boxed part of the sprite lies inside the photo.

    Args:
        sprite: What is to be placed.
        framing: Where it was meant to stand.
        height: Of the photo, in pixels.
        width: Of the photo, in pixels.
        margin: Free edge, as a share of the photo.
    """
    left, top, right, bottom = Image.fromarray(sprite.boxed).getbbox() or (0, 0, 1, 1)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)
    photo = np.array([width, height], dtype=np.float64)
    room = photo * (1 - 2 * margin)
    placed = _framed(corners, sprite, framing)
    extent = placed.max(axis=0) - placed.min(axis=0)
    framing = replace(framing, scale=framing.scale * min(1.0, float((room / extent).min())))
    placed = _framed(corners, sprite, framing)
    low, high = placed.min(axis=0), placed.max(axis=0)
    shift = np.maximum(photo * margin - low, 0) - np.maximum(high - photo * (1 - margin), 0)
    return replace(framing, x=framing.x + float(shift[0]), y=framing.y + float(shift[1]))


def _homography(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (3, 3) projective map that carries four points onto four others."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        values += [u, v]
    solved = np.linalg.solve(np.array(rows), np.array(values))
    return np.append(solved, 1.0).reshape(3, 3)


def on_land(picture: Picture, placed: Placed, sun_x: float, dapple: float, rng: np.random.Generator) -> Picture:
    """Stand an animal on the ground, with its shadow.

    Args:
        picture: The empty place, (height, width, 3).
        placed: The animal.
        sun_x: Where the light comes from, −1 (left) to 1 (right).
        dapple: Strength of the leaf shade upon the animal; 0 is none.
        rng: Chance of the leaves.
    """
    height, width = placed.alpha.shape
    x, y = placed.ground
    reach = 0.38 * max(int(np.count_nonzero(placed.alpha.max(axis=0) > 0.5)), 1)
    first, last = (int(np.clip(y + side * reach * 0.25, 0, height)) for side in (-1, 1))
    down = (np.arange(first, last, dtype=np.float32)[:, None] - y) / (reach * 0.13)
    across = (np.arange(width, dtype=np.float32)[None, :] - x + sun_x * reach * 0.5) / reach
    picture = picture.copy()
    picture[first:last] *= 1 - 0.5 * np.exp(-((down**2 + across**2) ** 2))[..., None]
    body = placed.rgb
    if dapple:
        leaves = np.clip((fractal_noise(rng, height, width, (7, 9), 3) - 0.5) * 5, -1, 1)
        body = body * (1 + dapple * leaves[..., None])
    return _over(picture, body, placed.alpha)


def _over(picture: Picture, layer: Picture, alpha: Field) -> Picture:
    """The layer laid over the picture where ``alpha`` is 1."""
    return picture + (layer - picture) * alpha[..., None]


def in_water(picture: Picture, placed: Placed, rng: np.random.Generator) -> tuple[Picture, Placed]:
    """Sink an animal to its water line, with its reflection and foam.

    Returns:
        The picture, and what of the animal still shows.
    """
    height, width = placed.alpha.shape
    line = int(np.clip(round(placed.ground[1]), 1, height - 2))
    wave = fractal_noise(rng, 4, width, (1, 5), 4, 0.6)[0] - 0.5
    surface = (line + wave * 16).astype(np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    above = np.clip((surface[None, :] - rows) / 2.5 + 0.5, 0, 1)
    alpha, boxed = placed.alpha * above, placed.boxed * above

    picture = picture.copy()
    deep = min(height - line, line)
    below = np.arange(deep)
    mirror = alpha[line - deep : line][::-1]
    rocking = np.rint(np.sin(below * rng.uniform(0.25, 0.5)) * 4).astype(int)
    mirror = np.take_along_axis(mirror, (np.arange(width)[None, :] + rocking[:, None]) % width, axis=1)
    fade = np.clip(1 - below / max(deep * 0.7, 1), 0, 1).astype(np.float32)[:, None]
    picture[line : line + deep] *= 1 - 0.5 * (mirror * fade)[..., None]
    picture = _over(picture, placed.rgb, alpha)

    wet = placed.alpha[max(line - 6, 0) : line + 2].max(axis=0)
    first, last = max(line - 24, 0), min(line + 24, height)
    froth = fractal_noise(rng, last - first, width, (5, 30), 3, 0.8)
    crest = np.exp(-(((rows[first:last] - surface[None, :] - 2) / 4) ** 2)) * wet[None, :]
    foam = crest * np.clip(froth * 2.4 - 0.8, 0, 1)
    picture[first:last] = _over(picture[first:last], as_pixel((226, 234, 238)), foam)
    return picture, Placed(placed.rgb, alpha, boxed, placed.ground)


def grow_cover(picture: Picture, scene: Scene, cover: Cover, ground_y: float, rng: np.random.Generator) -> Picture:
    """Grass before the animal, and now and then a branch across it."""
    if not scene.growth or not (cover.grass or cover.branch):
        return picture
    height, width = picture.shape[:2]
    image = to_image(picture)
    brush, fills = ImageDraw.Draw(image), [as_fill(colour) for colour in scene.growth]
    feet = ground_y + rng.uniform(2, 26, cover.grass)
    xs, lean = rng.uniform(-10, width + 10, cover.grass), rng.normal(0, 0.3, cover.grass)
    tall = cover.grass_px * rng.uniform(0.35, 1.0, cover.grass)
    pick, thick = rng.integers(0, len(scene.growth), cover.grass), rng.integers(1, 3, cover.grass)
    for k in range(cover.grass):
        tip = (xs[k] + lean[k] * tall[k], feet[k] - tall[k])
        bow = (xs[k] + 0.3 * lean[k] * tall[k], feet[k] - 0.6 * tall[k])
        brush.line([(xs[k], feet[k]), bow, tip], fill=fills[pick[k]], width=int(thick[k]))
    if cover.branch:
        _branch(brush, scene, height, width, rng)
    return to_picture(image)


def _branch(brush: ImageDraw.ImageDraw, scene: Scene, height: int, width: int, rng: np.random.Generator) -> None:
    start = np.array([rng.choice([0.0, width]), rng.uniform(0, 0.5) * height])
    end = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.2, 0.8) * height])
    dark = as_fill(scaled(scene.growth[0], 0.5))
    brush.line([tuple(start), tuple(end)], fill=dark, width=3)
    for along in rng.uniform(0.1, 1.0, 26):
        x, y = start + (end - start) * along + rng.normal(0, 9, 2)
        size, flat = rng.uniform(4, 9), rng.uniform(0.4, 0.8)
        fill = as_fill(scene.growth[int(rng.integers(len(scene.growth)))])
        brush.ellipse([x - size, y - size * flat, x + size, y + size * flat], fill=fill)


def expose(picture: Picture, light: Light, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """Light, blur, vignette and noise: the finished photo."""
    height, width = picture.shape[:2]
    lit = to_image(picture).point(light_curve(light)).filter(ImageFilter.BoxBlur(camera.blur_px))
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    dim = 1 - np.float32(camera.vignette / 2) * (down**2 + across**2)
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(camera.noise)
    return to_image(np.asarray(lit) * dim[..., None] + grain[..., None])


def tight_box(mask: Field, theta_rad: float) -> tuple[int, int, int, int] | None:
    """The tight box of a mask, turned by ``theta_rad`` (clockwise, y down) about its own centre.

    Args:
        mask: (height, width), the animal where above one half.
        theta_rad: Angle of the box.

    Returns:
        x, y, w, h of the box before it is turned, in whole pixels; ``None`` where nothing of the mask shows.
    """
    rows, columns = np.nonzero(mask > 0.5)
    if not len(rows):
        return None
    x, y = columns + 0.5, rows + 0.5
    cos, sin = np.cos(theta_rad), np.sin(theta_rad)
    along, across = x * cos + y * sin, y * cos - x * sin
    middle_along, middle_across = (along.min() + along.max()) / 2, (across.min() + across.max()) / 2
    w, h = along.max() - along.min() + 1, across.max() - across.min() + 1
    centre_x, centre_y = middle_along * cos - middle_across * sin, middle_along * sin + middle_across * cos
    left, top = int(np.floor(centre_x - w / 2 + 1e-6)), int(np.floor(centre_y - h / 2 + 1e-6))
    right, bottom = int(np.ceil(centre_x + w / 2 - 1e-6)), int(np.ceil(centre_y + h / 2 - 1e-6))
    return left, top, right - left, bottom - top
