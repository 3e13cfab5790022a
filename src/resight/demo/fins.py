"""Draws the dorsal fin of the demo's sea animal, with the stretch of back below it.

A fin is drawn for an animal that faces left: its leading edge is on the left, the notched trailing edge on the
right, its height is one unit, the water line lies at y = 1. The right side is the mirror image of the left one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from resight.demo.animals import Side, Sprite
from resight.demo.patterns import FinOutline
from resight.demo.shapes import Colour, Points, as_pixel, fractal_noise, smooth_curve

UNIT_PX = 190
"""Pixels of a finished sprite for one unit, the height of the fin."""
_SUPERSAMPLE = 2
_LEFT, _TOP, _RIGHT, _BOTTOM = -0.75, -0.06, 1.75, 1.34


@dataclass(frozen=True, slots=True)
class FinPose:
    """How a fin is seen.

    Attributes:
        bow: Sideways bow of the whole fin towards the tail, in units.
        depth: How far the base lies under water, in units.
        light: (towards the right, upwards) direction that the light comes from.
        light_strength: 0 is flat light.
    """

    bow: float
    depth: float
    light: tuple[float, float]
    light_strength: float


def trailing_edge(outline: FinOutline, samples: int = 260) -> Points:
    """The notched trailing edge from the tip to the base, (samples, 2) in units."""
    t = np.linspace(0, 1, samples)
    tip, pull = (0.86 + outline.rake, 0.03), (0.62 + 0.5 * outline.rake - outline.hollow, 0.45)
    plain = _quadratic(tip, pull, (0.93, 1.06), t)
    ahead = np.gradient(plain, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    inward = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    depth = np.zeros(samples)
    for amplitude, waves, phase in outline.waves:
        depth += amplitude * np.sin(2 * np.pi * waves * t + phase)
    for notch in outline.notches:
        away = (t - notch.at) / notch.half_width
        # The deepest point moves by the skew; each flank keeps its own length.
        reach = np.where(away < notch.skew, 1 + notch.skew, 1 - notch.skew)
        slope = np.clip(1 - np.abs(away - notch.skew) / np.maximum(reach, 0.15), 0, 1)
        depth = np.maximum(depth, notch.depth * slope ** (1.0 - 0.65 * notch.squareness))
    return plain + inward * depth[:, None]


def fin_polygon(outline: FinOutline, pose: FinPose) -> Points:
    """The closed outline of the fin, (n, 2) in units; its base lies below the water line."""
    t = np.linspace(0, 1, 60)
    pull = (0.34 - outline.bulge + 0.5 * outline.rake, 0.08)
    leading = _quadratic((-0.06, 1.06), pull, (0.86 + outline.rake, 0.03), t)
    fin = np.concatenate([leading, trailing_edge(outline)])
    if outline.tip_cut:
        fin[:, 1] = np.maximum(fin[:, 1], outline.tip_cut + 0.25 * (0.75 - fin[:, 0]))
    height = np.clip(1 - fin[:, 1], 0, 1)
    fin[:, 0] += pose.bow * height**2
    fin[:, 1] += pose.depth
    return fin


def draw_fin(outline: FinOutline, pose: FinPose, skin: Colour, side: Side, rng: np.random.Generator) -> Sprite:
    """Draw one fin and the back that carries it.

    Args:
        outline: The individual's own outline.
        pose: How it is seen.
        skin: Its colour in this photo; never the individual's.
        side: Which side is seen; ``right`` is the mirror image.
        rng: Chance for the skin's grain.

    Returns:
        The sprite; ``boxed`` is the fin without the back.
    """
    light_x = -pose.light[0] if side == "right" else pose.light[0]
    size = (
        round((_RIGHT - _LEFT) * UNIT_PX) * _SUPERSAMPLE,
        round((_BOTTOM - _TOP) * UNIT_PX) * _SUPERSAMPLE,
    )
    fin, whole = Image.new("L", size, 0), Image.new("L", size, 0)
    polygon = _to_pixels(fin_polygon(outline, pose))
    ImageDraw.Draw(fin).polygon(polygon, fill=255)
    back = np.array([(-0.9, 1.22), (-0.5, 1.08), (-0.1, 0.99), (0.4, 0.955), (0.9, 0.985), (1.4, 1.09), (1.9, 1.25)])
    hump = smooth_curve(back + np.array([0, pose.depth]), 8)
    below = np.array([[1.9, 1.5], [-0.9, 1.5]])
    brush = ImageDraw.Draw(whole)
    brush.polygon(polygon, fill=255)
    brush.polygon(_to_pixels(np.concatenate([hump, below])), fill=255)

    alpha = np.asarray(whole.reduce(_SUPERSAMPLE))
    boxed = np.asarray(fin.reduce(_SUPERSAMPLE))
    soft = np.asarray(whole.reduce(_SUPERSAMPLE).filter(ImageFilter.GaussianBlur(9)), dtype=np.float32) / 255
    down, right = np.gradient(soft)
    shade = 1 + pose.light_strength * np.clip((pose.light[1] * down - light_x * right) * 16, -0.7, 0.9)
    height, width = alpha.shape
    wet = np.linspace(1.12, 0.85, height, dtype=np.float32)[:, None]
    grain = fractal_noise(rng, height, width, (6, 10), 5, 0.75)
    tone = shade * wet * (0.88 + 0.24 * grain)
    rgb = np.clip(as_pixel(skin) * tone[..., None], 0, 255).astype(np.uint8)
    water_line = round((1.0 - _TOP) * UNIT_PX)
    boxed = boxed.copy()
    boxed[water_line:] = 0
    if side == "right":
        rgb, alpha, boxed = rgb[:, ::-1], alpha[:, ::-1], boxed[:, ::-1]
    middle = (0.40 - _LEFT) * UNIT_PX
    return Sprite(
        rgb=np.ascontiguousarray(rgb),
        alpha=np.ascontiguousarray(alpha),
        boxed=np.ascontiguousarray(boxed),
        centre=(middle if side == "left" else width - middle, (0.53 - _TOP) * UNIT_PX),
        ground_y=float(water_line),
    )


def _quadratic(
    start: tuple[float, float], pull: tuple[float, float], end: tuple[float, float], t: NDArray[np.float64]
) -> Points:
    """A quadratic Bézier curve."""
    a, b, c = (np.array(point)[None, :] for point in (start, pull, end))
    s = t[:, None]
    curve: Points = (1 - s) ** 2 * a + 2 * s * (1 - s) * b + s**2 * c
    return curve


def _to_pixels(outline: Points) -> list[tuple[float, float]]:
    scaled = (outline - np.array([_LEFT, _TOP])) * (UNIT_PX * _SUPERSAMPLE)
    return [(float(x), float(y)) for x, y in scaled]
