"""What makes a made-up animal that animal: its stripes, its spots, or the notches of its fin.

Everything here is drawn from an individual's own stream of chance and from nothing else. Flank marks live in
flank coordinates: u from the shoulder (0) to the rump (1), v from the back (0) to the belly (1), for an animal
that faces left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resight.demo.shapes import Points, blob, limb


def draw_stripes(rng: np.random.Generator) -> tuple[Points, ...]:
    """Stripes across a flank: where they stand, how they lean, where they end, fork or break.

    Returns:
        Closed polygons in flank coordinates, each (n, 2).
    """
    count = int(rng.integers(5, 10))
    spacing = 0.94 / count
    lean = rng.normal(0, 0.05)
    marks: list[Points] = []
    for number in range(count):
        top = 0.04 + (number + 0.5 + rng.uniform(-0.42, 0.42)) * spacing
        bottom = top + lean + rng.normal(0, 0.05)
        width = rng.uniform(0.022, 0.044)
        end = rng.uniform(0.30, 0.55) if rng.random() < 0.3 else rng.uniform(0.7, 1.0)
        v = np.linspace(-0.04, end, 7)
        sway = 0.014 * np.sin(v * rng.uniform(4, 9) + rng.uniform(0, 6))
        u = top + (bottom - top) * np.clip(v, 0, 1) + sway
        gap = rng.uniform(0.25, 0.55) if rng.random() < 0.3 else None
        for begin, stop in ((0.0, 1.0),) if gap is None else ((0.0, gap), (gap + 0.22, 1.0)):
            at = np.linspace(v[0] + begin * (end - v[0]), v[0] + stop * (end - v[0]), 7)
            line = np.stack([np.interp(at, v, u), at], axis=1)
            marks.append(limb(line, [width, width * 1.1, width, width * 0.8, width * 0.4], steps=3))
        if rng.random() < 0.35:
            fork = float(rng.uniform(0.2, 0.5))
            start = float(np.interp(fork, v, u))
            reach = float(rng.choice([-1, 1]) * rng.uniform(0.05, 0.09))
            branch = [(start, fork), (start + reach * 0.7, fork + 0.18), (start + reach, fork + 0.4)]
            marks.append(limb(branch, [width * 0.9, width * 0.8, width * 0.4], steps=4))
    for _ in range(int(rng.integers(0, 6))):
        centre = (float(rng.uniform(0.7, 0.98)), float(rng.uniform(0.35, 0.9)))
        size = float(rng.uniform(0.012, 0.022))
        marks.append(blob(centre, size, size * 2.2, [1.0] * 6))
    return tuple(marks)


def draw_spots(rng: np.random.Generator) -> tuple[Points, ...]:
    """Spots, rings and blotches on a flank; their layout and shapes are the animal's own.

    Returns:
        Closed polygons in flank coordinates, each (n, 2).
    """
    wanted = int(rng.integers(16, 26))
    placed: list[tuple[float, float, float]] = []
    marks: list[Points] = []
    for _ in range(600):
        if len(placed) == wanted:
            break
        u, v = float(rng.uniform(0.02, 0.98)), float(rng.uniform(0.06, 0.92))
        size = float(rng.choice([0.020, 0.034, 0.052], p=[0.35, 0.4, 0.25]))
        # v spans about half the length of u, so a round spot is twice as tall in v as it is wide in u.
        if any(np.hypot(u - x, (v - y) / 2.0) < 1.25 * (size + r) for x, y, r in placed):
            continue
        placed.append((u, v, size))
        marks.extend(_one_spot(rng, u, v, size))
    return tuple(marks)


def _one_spot(rng: np.random.Generator, u: float, v: float, size: float) -> list[Points]:
    stretch = rng.uniform(0.75, 1.35)
    rough = rng.uniform(0.8, 1.2, 8)
    if size < 0.03 or rng.random() < 0.35:
        return [blob((u, v), size * stretch, size * 2.0 / stretch, list(rough))]
    pieces = int(rng.integers(1, 4))
    start = rng.uniform(0, 2 * np.pi)
    marks = []
    for piece in range(pieces):
        arc = 2 * np.pi / pieces * rng.uniform(0.6, 0.85)
        angles = start + 2 * np.pi * piece / pieces + np.linspace(0, arc, 6)
        ring = np.stack([np.cos(angles) * stretch, np.sin(angles) / stretch], axis=1) * size * 0.8
        outline = limb(ring, [size * 0.45, size * 0.65, size * 0.45], steps=3)
        marks.append(outline * np.array([1.0, 2.0]) + np.array([u, v]))
    return marks


@dataclass(frozen=True, slots=True)
class Notch:
    """A piece missing from the trailing edge of a fin.

    Attributes:
        at: Where it stands, from the tip (0) to the base (1).
        half_width: Along the edge, in the same unit.
        depth: Into the fin, relative to the fin's height.
        squareness: 0 is a V, 1 a round or flat-bottomed bite.
        skew: Where its deepest point lies between its two ends, −1 to 1.
    """

    at: float
    half_width: float
    depth: float
    squareness: float
    skew: float


@dataclass(frozen=True, slots=True)
class FinOutline:
    """What is an individual's own in its fin.

    Attributes:
        notches: Pieces missing from the trailing edge.
        tip_cut: Share of the fin's height missing at the tip.
        waves: (amplitude, waves along the edge, phase) of the trailing edge.
        rake: How far the tip reaches back beyond the usual, relative to the fin's height.
        hollow: How far the trailing edge is hollowed beyond the usual, in the same unit.
        bulge: How far the leading edge bulges beyond the usual, in the same unit.
    """

    notches: tuple[Notch, ...]
    tip_cut: float
    waves: tuple[tuple[float, float, float], ...]
    rake: float
    hollow: float
    bulge: float


def draw_fin_outline(rng: np.random.Generator) -> FinOutline:
    """The outline of one animal's fin, the same seen from either side."""
    wanted = int(rng.integers(2, 5))
    notches: list[Notch] = []
    for _ in range(200):
        if len(notches) == wanted:
            break
        at, half_width = float(rng.uniform(0.08, 0.84)), float(rng.uniform(0.03, 0.10))
        if any(abs(at - other.at) < 0.9 * (half_width + other.half_width) for other in notches):
            continue
        # The fin is narrow near its tip: no notch may cut more than half of it away.
        depth = min(half_width * rng.uniform(0.9, 2.0), 0.17, 0.5 * (0.08 + 0.75 * at))
        notches.append(Notch(at, half_width, float(depth), float(rng.uniform(0, 1)), float(rng.uniform(-0.7, 0.7))))
    tip_cut = float(rng.uniform(0.06, 0.16)) if rng.random() < 0.3 else 0.0
    waves = tuple(
        (float(rng.uniform(0.001, 0.005)), float(rng.uniform(2, 5)), float(rng.uniform(0, 6.28))) for _ in range(2)
    )
    return FinOutline(
        notches=tuple(sorted(notches, key=lambda notch: notch.at)),
        tip_cut=tip_cut,
        waves=waves,
        rake=float(rng.uniform(-0.12, 0.08)),
        hollow=float(rng.uniform(-0.08, 0.07)),
        bulge=float(rng.uniform(-0.07, 0.07)),
    )
