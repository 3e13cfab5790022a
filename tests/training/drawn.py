"""A tiny drawn set: each identity has its own coloured bars, each chip of it another shade and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resight.training.chipset import TrainingSample


def draw_samples(folder: Path, *, identities: int, chips: int, size: int = 64, seed: int = 0) -> list[TrainingSample]:
    """Write ``identities`` × ``chips`` chips below ``folder``, in two species."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for identity in range(identities):
        colour, ground = random.integers(0, 256, (2, 3))
        widths = random.integers(3, 12, 12)
        for number in range(chips):
            bars = np.repeat(np.arange(12) % 2, widths)
            line = np.resize(np.roll(bars, random.integers(0, 3)), size)
            chip = np.where(line[None, :, None] == 1, colour, ground) + random.normal(0, 12, (size, size, 3))
            path = folder / f"{identity}-{number}.npy"
            np.save(path, chip.clip(0, 255).astype(np.uint8))
            species = "striped" if identity % 2 else "barred"
            samples.append(TrainingSample(f"{species}:{identity}:{number}", species, f"animal {identity // 2}", path))
    return samples
