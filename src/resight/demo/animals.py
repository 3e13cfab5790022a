"""Draws the two four-legged animals of the demo: a banded antelope and a dappled cat, in any pose.

An animal is drawn facing left, in units of about its body length (x to the right, y down, hooves near y = 0.93), and
mirrored where its right side is asked for. Coat, pose and light are given from outside: only the flank pattern
belongs to the individual.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from resight.demo.shapes import Colour, Field, Points, as_pixel, blob, fractal_noise, limb, smooth_curve

Side = Literal["left", "right"]

UNIT_PX = 260
"""Pixels of a finished sprite for one unit of the animal."""
_SUPERSAMPLE = 2
_LEFT, _TOP, _RIGHT, _BOTTOM = -0.12, -0.2, 1.22, 0.98
_CANVAS = (
    round((_RIGHT - _LEFT) * UNIT_PX) * _SUPERSAMPLE,
    round((_BOTTOM - _TOP) * UNIT_PX) * _SUPERSAMPLE,
)


@dataclass(frozen=True, slots=True)
class Sprite:
    """A cut-out animal.

    Attributes:
        rgb: (height, width, 3) uint8.
        alpha: (height, width) uint8, 255 where the animal is.
        boxed: (height, width) uint8, the part that an annotation's box is drawn around.
        centre: (x, y) in sprite pixels that goes to the chosen spot of the photo.
        ground_y: Row of the feet, or of the water line, in sprite pixels.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    boxed: NDArray[np.uint8]
    centre: tuple[float, float]
    ground_y: float


@dataclass(frozen=True, slots=True)
class Pose:
    """How an animal stands and how the light falls on it.

    Attributes:
        strides: Forward swing of the four hooves (near front, near back, far front, far back), in units.
        neck: Turn of the neck from its resting angle, radians; positive lowers the head.
        nod: Turn of the head against the neck, radians.
        tail: Swing of the tail, −1 to 1.
        sag: Height of the back's hollow, in units.
        belly: Fullness of the belly, 1 is usual.
        skin: Slide of the skin towards the rump at the belly, in u.
        bend: Bulge of the flank towards the viewer, in u.
        light: (towards the right, upwards) direction that the light comes from.
        light_strength: 0 is flat light.
    """

    strides: tuple[float, float, float, float]
    neck: float
    nod: float
    tail: float
    sag: float
    belly: float
    skin: float
    bend: float
    light: tuple[float, float]
    light_strength: float


@dataclass(frozen=True, slots=True)
class Coat:
    """Colours of a photo's animal; they differ by encounter, never by individual."""

    upper: Colour
    lower: Colour
    mark: Colour
    mark_strength: float


@dataclass(frozen=True, slots=True)
class BodyPlan:
    """The build of a species, facing left, in units.

    Attributes:
        back: From the withers to the root of the tail.
        belly: From the root of the tail round below to the breast.
        front_hip, back_hip: Where the legs join.
        hoof_y: Height of the ground.
        front_widths, back_widths: Widths along a leg.
        neck_base: Where the neck joins.
        neck_angle: Its resting angle above the horizontal, radians.
        neck_length: In units.
        neck_widths: From the base to the head.
        head_length: In units.
        cat: Whether the head is round and the tail long.
    """

    back: tuple[tuple[float, float], ...]
    belly: tuple[tuple[float, float], ...]
    front_hip: tuple[float, float]
    back_hip: tuple[float, float]
    hoof_y: float
    front_widths: tuple[float, ...]
    back_widths: tuple[float, ...]
    neck_base: tuple[float, float]
    neck_angle: float
    neck_length: float
    neck_widths: tuple[float, ...]
    head_length: float
    cat: bool


ANTELOPE = BodyPlan(
    back=((0.28, 0.32), (0.36, 0.265), (0.47, 0.285), (0.61, 0.295), (0.76, 0.265), (0.87, 0.295), (0.925, 0.375)),
    belly=(
        (0.93, 0.48), (0.88, 0.58), (0.78, 0.605), (0.64, 0.645), (0.50, 0.665), (0.37, 0.645), (0.275, 0.56),
        (0.245, 0.43),
    ),
    front_hip=(0.355, 0.55),
    back_hip=(0.83, 0.47),
    hoof_y=0.93,
    front_widths=(0.12, 0.075, 0.045, 0.036, 0.034),
    back_widths=(0.18, 0.13, 0.055, 0.042, 0.034),
    neck_base=(0.33, 0.40),
    neck_angle=0.95,
    neck_length=0.27,
    neck_widths=(0.22, 0.14, 0.095),
    head_length=0.155,
    cat=False,
)  # fmt: skip
CAT = BodyPlan(
    back=((0.20, 0.39), (0.28, 0.335), (0.41, 0.345), (0.58, 0.355), (0.75, 0.325), (0.87, 0.345), (0.94, 0.42)),
    belly=(
        (0.95, 0.53), (0.90, 0.64), (0.80, 0.67), (0.65, 0.68), (0.50, 0.71), (0.36, 0.72), (0.235, 0.66),
        (0.175, 0.53),
    ),
    front_hip=(0.29, 0.58),
    back_hip=(0.855, 0.52),
    hoof_y=0.92,
    front_widths=(0.14, 0.10, 0.068, 0.058, 0.062),
    back_widths=(0.19, 0.14, 0.075, 0.060, 0.064),
    neck_base=(0.265, 0.45),
    neck_angle=0.42,
    neck_length=0.15,
    neck_widths=(0.22, 0.19, 0.16),
    head_length=0.11,
    cat=True,
)  # fmt: skip


def draw_animal(
    plan: BodyPlan,
    marks: tuple[Points, ...],
    pose: Pose,
    coat: Coat,
    side: Side,
    rng: np.random.Generator,
) -> Sprite:
    """Draw one animal.

    Args:
        plan: The species' build.
        marks: The flank's pattern, closed polygons in flank coordinates.
        pose: How it stands.
        coat: Its colours in this photo.
        side: Which flank is seen; ``right`` faces right.
        rng: Chance for the fur's grain.

    Returns:
        The sprite, cut tight to the animal.
    """
    if side == "right":  # drawn facing left and mirrored below, so the light is mirrored first
        pose = replace(pose, light=(-pose.light[0], pose.light[1]))
    canvas = _Canvas()
    back, torso = _torso(plan, pose)
    _draw_legs(canvas, plan, pose, far=True)
    _draw_tail(canvas, plan, pose)
    _draw_legs(canvas, plan, pose, far=False)
    canvas.fill(torso, 0.97)
    canvas.soften(1.6)
    _draw_neck_and_head(canvas, plan, pose)
    pattern = _pattern_mask(marks, back, torso, pose)
    alpha = canvas.alpha.reduce(_SUPERSAMPLE)
    frame = alpha.getbbox() or (0, 0, alpha.width, alpha.height)
    rgb = _coloured(canvas, pattern, pose, coat, rng, frame)
    covered = np.asarray(alpha.crop(frame))
    if side == "right":
        rgb, covered = rgb[:, ::-1], covered[:, ::-1]
    covered = np.ascontiguousarray(covered)
    height, width = covered.shape
    return Sprite(
        rgb=np.ascontiguousarray(rgb),
        alpha=covered,
        boxed=covered,
        centre=(width / 2, height / 2),
        ground_y=(plan.hoof_y - _TOP) * UNIT_PX - frame[1],
    )


class _Canvas:
    """Brightness and coverage of the animal; later parts lie over earlier ones."""

    def __init__(self) -> None:
        # Tones need no clean edges, so they are kept at the sprite's own size. 128 is the plain coat.
        self.tone = Image.new("L", (_CANVAS[0] // _SUPERSAMPLE, _CANVAS[1] // _SUPERSAMPLE), 120)
        self.alpha = Image.new("L", _CANVAS, 0)
        self._tone, self._alpha = ImageDraw.Draw(self.tone), ImageDraw.Draw(self.alpha)

    def fill(self, outline: Points, tone: float) -> None:
        """Cover the polygon (in units); ``tone`` 1 is the plain coat, 0 black, 2 white."""
        corners = _to_pixels(outline)
        small = [(x / _SUPERSAMPLE, y / _SUPERSAMPLE) for x, y in corners]
        self._tone.polygon(small, fill=round(min(tone * 128, 255)))
        self._alpha.polygon(corners, fill=255)

    def soften(self, radius_px: float) -> None:
        """Blend the edges between the parts drawn so far."""
        self.tone = self.tone.filter(ImageFilter.GaussianBlur(radius_px))
        self._tone = ImageDraw.Draw(self.tone)


def _to_pixels(outline: Points) -> list[tuple[float, float]]:
    """Corners in pixels of the large canvas."""
    scaled = (outline - np.array([_LEFT, _TOP])) * (UNIT_PX * _SUPERSAMPLE)
    return [(float(x), float(y)) for x, y in scaled]


def _torso(plan: BodyPlan, pose: Pose) -> tuple[Points, Points]:
    back = np.array(plan.back)
    belly = np.array(plan.belly)
    span = np.linspace(0, 1, len(back))
    back[:, 1] += pose.sag * np.sin(np.pi * span)
    middle = float(back[:, 1].mean())
    belly[:, 1] = np.where(belly[:, 1] > 0.55, middle + (belly[:, 1] - middle) * pose.belly, belly[:, 1])
    return back, smooth_curve(np.concatenate([back, belly]), 8, closed=True)


def _draw_legs(canvas: _Canvas, plan: BodyPlan, pose: Pose, far: bool) -> None:
    tone = 0.62 if far else 0.93
    shift = 0.035 if far else 0.0
    front_swing, back_swing = pose.strides[2:] if far else pose.strides[:2]
    (fx, fy), (bx, by), ground = plan.front_hip, plan.back_hip, plan.hoof_y - (0.02 if far else 0.0)
    knee, hock = fy + 0.50 * (ground - fy), by + 0.56 * (ground - by)
    lift_front, lift_back = 0.12 * abs(front_swing), 0.10 * abs(back_swing)
    fx, bx = fx + shift, bx - shift
    front = [
        (fx, fy),
        (fx + 0.4 * front_swing - 0.005, knee),
        (fx + 0.8 * front_swing, ground - 0.09 - lift_front),
        (fx + front_swing - 0.012, ground - 0.01 - lift_front),
    ]
    rear = [
        (bx, by),
        (bx - 0.035 + 0.3 * back_swing, by + 0.5 * (hock - by)),
        (bx + 0.045 + 0.6 * back_swing, hock),
        (bx + 0.02 + 0.9 * back_swing, ground - 0.09 - lift_back),
        (bx - 0.005 + back_swing, ground - 0.01 - lift_back),
    ]
    canvas.fill(limb(front, plan.front_widths), tone)
    canvas.fill(limb(rear, plan.back_widths), tone)
    for x, y in (front[-1], rear[-1]):
        foot = blob((x - 0.012, y), 0.042 if plan.cat else 0.026, 0.02, [1.0] * 6)
        canvas.fill(foot, tone if plan.cat else 0.3)


def _draw_tail(canvas: _Canvas, plan: BodyPlan, pose: Pose) -> None:
    x, y = plan.back[-1]
    if plan.cat:
        line = [
            (x - 0.05, y - 0.01), (x + 0.06, y + 0.06), (x + 0.085, y + 0.22 - 0.06 * pose.tail),
            (x + 0.15, y + 0.28 - 0.16 * pose.tail), (x + 0.20, y + 0.18 - 0.22 * pose.tail),
        ]  # fmt: skip
        canvas.fill(limb(line, (0.07, 0.062, 0.056, 0.052, 0.044)), 0.9)
        canvas.fill(limb(line[-2:], (0.05, 0.044)), 0.4)
        return
    line = [(x - 0.02, y), (x + 0.035, y + 0.06), (x + 0.05 + 0.05 * pose.tail, y + 0.2)]
    canvas.fill(limb(line, (0.04, 0.035, 0.05)), 0.75)


def _draw_neck_and_head(canvas: _Canvas, plan: BodyPlan, pose: Pose) -> None:
    angle = plan.neck_angle - pose.neck
    toward = np.array([-np.cos(angle), -np.sin(angle)])
    base = np.array(plan.neck_base)
    poll = base + toward * plan.neck_length
    across = np.array([-toward[1], toward[0]])
    middle = base + toward * plan.neck_length * 0.5 + across * 0.012
    canvas.fill(limb(np.array([base, middle, poll]), plan.neck_widths), 0.98)
    canvas.soften(1.0)
    face = angle - (0.35 if plan.cat else 1.45) + pose.nod
    ahead = np.array([-np.cos(face), -np.sin(face)])
    up = np.array([ahead[1], -ahead[0]])
    up = up if up[1] < 0 else -up
    (_draw_cat_head if plan.cat else _draw_antelope_head)(canvas, plan.head_length, poll, ahead, up)


def _draw_antelope_head(canvas: _Canvas, length: float, poll: Points, ahead: Points, up: Points) -> None:
    def at(along: float, high: float) -> tuple[float, float]:
        point = poll + ahead * along * length + up * high * length
        return float(point[0]), float(point[1])

    far_horn = [at(-0.05, 0.35), at(-0.35, 0.8), at(-0.25, 1.25), at(-0.4, 1.6)]
    near_horn = [at(0.05, 0.35), at(-0.2, 0.8), at(-0.1, 1.3), at(-0.25, 1.7)]
    canvas.fill(limb(far_horn, (0.034, 0.03, 0.02, 0.01)), 0.28)
    canvas.fill(limb([at(-0.2, 0.2), at(-0.75, 0.55)], (0.05, 0.03)), 0.68)
    canvas.fill(limb([at(-0.05, 0.0), at(0.45, 0.0), at(1.0, -0.08)], (0.115, 0.095, 0.058)), 0.98)
    canvas.fill(limb(near_horn, (0.036, 0.032, 0.022, 0.01)), 0.36)
    canvas.fill(limb([at(-0.1, 0.2), at(-0.45, 0.5), at(-0.8, 0.6)], (0.03, 0.07, 0.02)), 1.05)
    canvas.fill(blob(at(1.08, -0.08), 0.026, 0.026, [1.0] * 6), 0.3)
    canvas.fill(blob(at(0.33, 0.14), 0.015, 0.015, [1.0] * 6), 0.1)


def _draw_cat_head(canvas: _Canvas, length: float, poll: Points, ahead: Points, up: Points) -> None:
    def at(along: float, high: float) -> tuple[float, float]:
        point = poll + ahead * along * length + up * high * length
        return float(point[0]), float(point[1])

    canvas.fill(blob(at(-0.15, 0.85), 0.038, 0.038, [1.0] * 6), 0.6)
    canvas.fill(blob(at(0.2, 0.1), 0.098, 0.09, [1.0] * 8), 1.0)
    canvas.fill(blob(at(0.95, -0.22), 0.055, 0.043, [1.0] * 8), 1.16)
    canvas.fill(blob(at(-0.25, 0.75), 0.042, 0.042, [1.0] * 6), 0.95)
    canvas.fill(blob(at(-0.25, 0.75), 0.022, 0.022, [1.0] * 6), 0.5)
    canvas.fill(blob(at(1.38, -0.08), 0.018, 0.014, [1.0] * 6), 0.25)
    canvas.fill(blob(at(0.62, 0.24), 0.014, 0.013, [1.0] * 6), 0.12)
    canvas.fill(limb([at(1.3, -0.42), at(1.0, -0.5)], (0.008, 0.008)), 0.35)


def _flank_to_units(marks: Points, back: Points, torso: Points, pose: Pose) -> Points:
    """Carry (n, 2) flank coordinates onto a posed body; skin and bulge move them a little, as on a living animal."""
    u, v = marks[:, 0], marks[:, 1]
    slid = u + pose.skin * v + pose.bend * np.sin(np.pi * np.clip(u, 0, 1))
    start, end = float(back[0, 0]) + 0.03, float(back[-1, 0]) - 0.015
    x = start + slid * (end - start)
    above = smooth_curve(back, 8)
    top = np.interp(x, above[:, 0], above[:, 1])
    below = torso[torso[:, 1] > 0.5]
    order = np.argsort(below[:, 0])
    bottom = np.interp(x, below[order, 0], below[order, 1])
    return np.stack([x, top + v * (bottom - top)], axis=1)


def _pattern_mask(marks: tuple[Points, ...], back: Points, torso: Points, pose: Pose) -> Image.Image:
    mask, inside = Image.new("L", _CANVAS, 0), Image.new("L", _CANVAS, 0)
    brush = ImageDraw.Draw(mask)
    for outline in marks:
        brush.polygon(_to_pixels(_flank_to_units(outline, back, torso, pose)), fill=255)
    ImageDraw.Draw(inside).polygon(_to_pixels(torso), fill=255)
    return Image.composite(mask, Image.new("L", _CANVAS, 0), inside)


def _coloured(
    canvas: _Canvas,
    pattern: Image.Image,
    pose: Pose,
    coat: Coat,
    rng: np.random.Generator,
    frame: tuple[int, int, int, int],
) -> NDArray[np.uint8]:
    tone = np.asarray(canvas.tone.crop(frame), dtype=np.float32) / 128
    marked = np.asarray(pattern.reduce(_SUPERSAMPLE).crop(frame), dtype=np.float32)[..., None]
    marked *= np.float32(coat.mark_strength / 255)
    height, width = tone.shape
    down = _TOP + np.arange(frame[1], frame[3], dtype=np.float32) / UNIT_PX
    lower = np.clip((down - 0.42) / 0.3, 0, 1)[:, None, None]
    colour = as_pixel(coat.upper) * (1 - lower) + as_pixel(coat.lower) * lower
    # Tones above the plain coat go towards white, those below towards black.
    shaded = tone[..., None]
    colour = colour * np.minimum(shaded, 1) + (255 - colour) * np.maximum(shaded - 1, 0)
    colour = colour * (1 - marked) + as_pixel(coat.mark) * marked
    grain = fractal_noise(rng, height, width, (14, 20), 4, 0.8)
    light = (0.86 + 0.28 * grain) * _roundness(canvas.alpha, pose, frame)
    return np.clip(colour * light[..., None], 0, 255).astype(np.uint8)


def _roundness(alpha: Image.Image, pose: Pose, frame: tuple[int, int, int, int]) -> Field:
    """Brightness of a body that bulges towards the viewer: the slope of the blurred outline stands for its normal."""
    small = alpha.reduce(_SUPERSAMPLE * 2).filter(ImageFilter.GaussianBlur(8))
    soft = np.asarray(small, dtype=np.float32) / 255
    down, right = np.gradient(soft)
    slope = (pose.light[1] * down - pose.light[0] * right) * 18
    shade = 1 + pose.light_strength * np.clip(slope, -0.8, 0.8)
    size = (alpha.width // _SUPERSAMPLE, alpha.height // _SUPERSAMPLE)
    return np.asarray(Image.fromarray(shade).resize(size, Image.Resampling.BILINEAR).crop(frame))
