"""Draws the photos of one encounter: one animal, one place, one light, a few shots.

What the shots share comes from the encounter's stream of chance, what tells them apart from each shot's own, and
the pattern from the individual's. The streams are keyed by numbers, so any photo can be drawn alone and comes out
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from resight.demo.animals import ANTELOPE, CAT, UNIT_PX, BodyPlan, Coat, Pose, Side, Sprite, draw_animal
from resight.demo.fins import UNIT_PX as FIN_UNIT_PX
from resight.demo.fins import FinPose, draw_fin
from resight.demo.patterns import draw_fin_outline, draw_spots, draw_stripes
from resight.demo.photos import (
    Camera,
    Cover,
    Framing,
    Placed,
    expose,
    fit_framing,
    grow_cover,
    in_water,
    on_land,
    place_sprite,
    tight_box,
)
from resight.demo.scenes import Light, Place, Scene, draw_scene
from resight.demo.shapes import Colour, Picture, Points, stream
from resight.types import Box

Kind = Literal["stripes", "spots", "fin"]
KINDS: tuple[Kind, ...] = ("stripes", "spots", "fin")

# The purposes that a stream of chance is drawn for; the first number after the seed.
_PATTERN, _ENCOUNTER, _SCENE, _SHOT, _FINISH = range(5)


@dataclass(frozen=True, slots=True)
class Shot:
    """One drawn photo and the annotation that belongs to it; ``box`` is turned by ``theta_rad`` about its centre."""

    image: Image.Image
    side: Side
    box: Box
    theta_rad: float


@dataclass(frozen=True, slots=True)
class _Stance:
    """What the shots of an encounter share."""

    width: int
    height: int
    scene: Scene
    light: Light
    camera: Camera
    framing: Framing
    cover: Cover
    sun: tuple[float, float]
    sun_strength: float
    dapple: float


@dataclass(frozen=True, slots=True)
class _Build:
    """How one kind of four-legged animal looks: its species' build, marks and colours."""

    plan: BodyPlan
    draw_marks: Callable[[np.random.Generator], tuple[Points, ...]]
    coats: tuple[Coat, ...]


_QUADRUPEDS: dict[Kind, _Build] = {
    "stripes": _Build(
        ANTELOPE,
        draw_stripes,
        (
            Coat((150, 94, 54), (172, 122, 82), (244, 236, 220), 0.92),
            Coat((122, 84, 58), (140, 106, 80), (232, 226, 214), 0.88),
            Coat((168, 108, 62), (190, 140, 92), (246, 240, 226), 0.92),
        ),
    ),
    "spots": _Build(
        CAT,
        draw_spots,
        (
            Coat((204, 160, 96), (232, 212, 174), (48, 34, 24), 0.92),
            Coat((186, 152, 108), (220, 204, 176), (60, 46, 34), 0.86),
            Coat((214, 168, 84), (238, 216, 168), (40, 28, 18), 0.92),
        ),
    ),
}
_SKINS: tuple[Colour, ...] = ((52, 56, 64), (40, 44, 50), (62, 64, 68), (54, 50, 50))


def draw_encounter(
    seed: int, kind: Kind, individual: int, encounter: int, sides: Sequence[Side], animals: bool = True
) -> list[Shot]:
    """Draw all the photos of one encounter.

    Args:
        seed: Of the whole population.
        kind: Which of the three made-up species.
        individual: Number of the individual in its species.
        encounter: Number of the encounter of this individual.
        sides: The side seen in each photo.
        animals: False leaves the animal out and changes nothing else: a check of what the background tells.

    Returns:
        One shot for each side asked for, in that order.
    """
    key = (KINDS.index(kind), individual, encounter)
    stance = _take_stance(seed, kind, key)
    return [_shoot(seed, kind, key, number, side, stance, animals) for number, side in enumerate(sides)]


def _take_stance(seed: int, kind: Kind, key: tuple[int, int, int]) -> _Stance:
    rng = stream(seed, _ENCOUNTER, *key)
    width = int(rng.integers(360, 449))
    height = int(width * rng.uniform(0.68, 0.84))
    place: Place = "sea" if kind == "fin" else ("savanna" if rng.random() < 0.6 else "forest")
    # A margin around the scene lets the shots differ in their framing.
    scene = draw_scene(place, int(height * 1.12), int(width * 1.12), stream(seed, _SCENE, *key))
    share = rng.uniform(0.32, 0.54) if kind == "fin" else rng.uniform(0.66, 0.92)
    unit = FIN_UNIT_PX if kind == "fin" else UNIT_PX
    reach = 1.0 if kind == "fin" else 0.98
    sloping = rng.random() < (0.6 if kind == "fin" else 0.3)
    slope = rng.uniform(-0.28, 0.28) if sloping else rng.normal(0, 0.05)
    framing = Framing(
        x=width * rng.uniform(0.44, 0.56),
        y=height * rng.uniform(0.46, 0.56),
        scale=share * width / (reach * unit),
        squeeze=rng.uniform(0.66 if kind == "fin" else 0.72, 1.0),
        keystone=rng.uniform(-0.22, 0.22),
        turn_rad=slope,
    )
    light = Light(rng.uniform(0.8, 1.18), rng.normal(0, 0.05), rng.uniform(0.8, 1.15), max(rng.normal(0, 0.1), 0))
    camera = Camera(rng.uniform(0.2, 1.1), rng.uniform(1, 7), rng.uniform(0, 0.45))
    grass = int(rng.integers(0, 170)) if place != "sea" else 0
    cover = Cover(grass, rng.uniform(0.08, 0.3) * height, place == "forest" and rng.random() < 0.3)
    sun = (rng.uniform(-1, 1), rng.uniform(0.3, 1))
    dapple = rng.uniform(0, 0.35) if place == "forest" else 0.0
    return _Stance(width, height, scene, light, camera, framing, cover, sun, rng.uniform(0.3, 0.9), dapple)


def _shoot(
    seed: int, kind: Kind, key: tuple[int, int, int], number: int, side: Side, stance: _Stance, animals: bool
) -> Shot:
    rng = stream(seed, _SHOT, *key, number)
    framing = replace(
        stance.framing,
        x=stance.framing.x + rng.normal(0, 0.02) * stance.width,
        y=stance.framing.y + rng.normal(0, 0.02) * stance.height,
        scale=stance.framing.scale * rng.uniform(0.94, 1.06),
        squeeze=float(np.clip(stance.framing.squeeze + rng.normal(0, 0.03), 0.64, 1.0)),
        turn_rad=stance.framing.turn_rad + rng.normal(0, 0.02),
    )
    if kind == "fin":
        sprite = _fin_sprite(seed, key, side, stance, rng)
    else:
        sprite = _quadruped_sprite(seed, kind, key, side, stance, rng)
    framing = fit_framing(sprite, framing, stance.height, stance.width)
    placed = place_sprite(sprite, framing, stance.height, stance.width)
    picture = _crop(stance, rng)
    finish = stream(seed, _FINISH, *key, number)
    if kind == "fin":
        drawn, placed = in_water(picture, placed, finish)
    else:
        drawn = on_land(picture, placed, stance.sun[0], stance.dapple, finish)
    covered = grow_cover(drawn if animals else picture, stance.scene, stance.cover, placed.ground[1], finish)
    image = expose(covered, stance.light, stance.camera, finish)
    box, theta_rad = _annotate(placed, framing, kind)
    return Shot(image, side, box, theta_rad)


def _crop(stance: _Stance, rng: np.random.Generator) -> Picture:
    spare_rows = stance.scene.picture.shape[0] - stance.height
    spare_columns = stance.scene.picture.shape[1] - stance.width
    top = int(np.clip(rng.normal(0.5, 0.2), 0, 1) * spare_rows)
    left = int(np.clip(rng.normal(0.5, 0.2), 0, 1) * spare_columns)
    return stance.scene.picture[top : top + stance.height, left : left + stance.width]


def _quadruped_sprite(
    seed: int, kind: Kind, key: tuple[int, int, int], side: Side, stance: _Stance, rng: np.random.Generator
) -> Sprite:
    build = _QUADRUPEDS[kind]
    species, individual, _ = key
    # Each flank is a draw of its own: nothing of the left one can be learnt from the right one.
    marks = build.draw_marks(stream(seed, _PATTERN, species, individual, 0 if side == "left" else 1))
    shared = stream(seed, _ENCOUNTER, *key, 1)
    coat = build.coats[int(shared.integers(len(build.coats)))]
    tint = shared.uniform(0.86, 1.1) + shared.normal(0, 0.025, 3)
    upper, lower = np.array(coat.upper) * tint, np.array(coat.lower) * tint
    coat = replace(
        coat,
        upper=(float(upper[0]), float(upper[1]), float(upper[2])),
        lower=(float(lower[0]), float(lower[1]), float(lower[2])),
        mark_strength=coat.mark_strength * shared.uniform(0.75, 1.0),
    )
    neck, stride = shared.uniform(-0.3, 0.75), shared.uniform(0.02, 0.13)
    step = shared.uniform(0, 2 * np.pi) + rng.normal(0, 0.7)
    phases = np.array([0.0, 2.2, 3.1, 5.3]) + step
    front_near, back_near, front_far, back_far = (float(swing) for swing in stride * np.sin(phases))
    pose = Pose(
        strides=(front_near, back_near, front_far, back_far),
        neck=neck + rng.normal(0, 0.08),
        nod=shared.normal(0, 0.1) + rng.normal(0, 0.08),
        tail=rng.uniform(-1, 1),
        sag=shared.uniform(-0.012, 0.02),
        belly=shared.uniform(0.94, 1.1),
        skin=shared.normal(0, 0.03) + rng.normal(0, 0.012),
        bend=shared.normal(0, 0.02) + rng.normal(0, 0.008),
        light=stance.sun,
        light_strength=stance.sun_strength,
    )
    return draw_animal(build.plan, marks, pose, coat, side, rng)


def _fin_sprite(seed: int, key: tuple[int, int, int], side: Side, stance: _Stance, rng: np.random.Generator) -> Sprite:
    species, individual, _ = key
    outline = draw_fin_outline(stream(seed, _PATTERN, species, individual, 0))
    shared = stream(seed, _ENCOUNTER, *key, 1)
    plain = np.array(_SKINS[int(shared.integers(len(_SKINS)))])
    skin = plain * (shared.uniform(0.85, 1.2) + shared.normal(0, 0.025, 3))
    pose = FinPose(
        bow=shared.normal(0, 0.045) + rng.normal(0, 0.012),
        depth=float(np.clip(shared.uniform(-0.03, 0.07) + rng.normal(0, 0.015), -0.04, 0.1)),
        light=stance.sun,
        light_strength=stance.sun_strength,
    )
    return draw_fin(outline, pose, (float(skin[0]), float(skin[1]), float(skin[2])), side, rng)


def _annotate(placed: Placed, framing: Framing, kind: Kind) -> tuple[Box, float]:
    """The tight box; turned with a striped animal that stands on a slope, upright in every other case."""
    height, width = placed.boxed.shape
    if kind == "stripes" and abs(framing.turn_rad) > 0.1:
        turned = tight_box(placed.boxed, framing.turn_rad)
        if turned is not None:
            x, y, w, h = turned
            if x >= 0 and y >= 0 and x + w <= width and y + h <= height:
                return Box(x, y, w, h), round(framing.turn_rad, 4)
    upright = tight_box(placed.boxed, 0.0)
    x, y, w, h = upright if upright is not None else (0, 0, width, height)
    return Box(x, y, w, h), 0.0
