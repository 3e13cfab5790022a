"""How long a plan will take: from runs that are done, else from a few steps of the network itself."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from resight.experiments.folder import ExperimentsFolder
from resight.experiments.prepare import Unit
from resight.models.weights import new_embedder
from resight.training.checkpoint import CONFIG_FILE
from resight.training.recipe import Recipe

_TRIED_CHIPS = 32
_TRIED_STEPS = 3


def seconds_of(units: Sequence[Unit], folder: ExperimentsFolder) -> float:
    """Seconds that training will take for the units that are not done.

    Embedding and scoring come on top; they are small beside it.
    """
    waiting = [unit for unit in units if unit.spec.recipe is not None and not folder.is_done(unit.key)]
    rates = _rates_of_done(folder.runs)
    total = 0.0
    for unit in waiting:
        assert unit.spec.recipe is not None
        kind = _kind(unit.spec.recipe)
        if kind not in rates:
            rates[kind] = tried_rate(unit.spec.recipe)
        total += unit.training_images / rates[kind]
    return total


def tried_rate(recipe: Recipe) -> float:
    """Training images a second, from the best of a few steps forward and back with random weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = new_embedder(
        recipe.backbone, weights="none", image_size=recipe.image_size, output_stride=recipe.output_stride,
        gem_levels=recipe.gem_levels, gem_columns=recipe.gem_columns,
    ).to(device).train()  # fmt: skip
    count = min(_TRIED_CHIPS, recipe.batch_size)
    chips = torch.zeros((count, 3, recipe.image_size, recipe.image_size), dtype=torch.uint8, device=device)
    seconds = []
    for _ in range(_TRIED_STEPS):
        started = time.perf_counter()
        network(chips).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return count / min(seconds)


def _rates_of_done(runs: Path) -> dict[tuple[str, int, str], float]:
    rates: dict[tuple[str, int, str], float] = {}
    for done in sorted(runs.glob("*/done.json")):
        try:
            rate = json.loads(done.read_text(encoding="utf-8")).get("images_per_second")
            config = json.loads((done.parent / CONFIG_FILE).read_text(encoding="utf-8"))
            recipe, device = Recipe.from_json(config["recipe"]), str(config["device"]).partition(":")[0]
        except (OSError, ValueError, KeyError):
            continue
        if rate:
            rates[(recipe.backbone, recipe.image_size, device)] = float(rate)
    return rates


def _kind(recipe: Recipe) -> tuple[str, int, str]:
    return recipe.backbone, recipe.image_size, "cuda" if torch.cuda.is_available() else "cpu"
