"""How a run begins: its name, its config, and the model it starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from platform import python_version
from typing import Any

import timm
import torch

from resight.artefacts import key_of
from resight.errors import InputError
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder
from resight.models.packaged import PACKAGED
from resight.models.states import load_strictly
from resight.models.weights import new_embedder
from resight.training.checkpoint import (
    CONFIG_FILE,
    Progress,
    read_checkpoint,
    read_run_config,
    remove_leftovers,
    require_same_run,
)
from resight.training.chipset import TrainingSample, TrainingSet
from resight.training.recipe import Recipe
from resight.version import __version__

logger = logging.getLogger(__name__)

_SHOWN = 5  # skipped chips that the log names before it counts the rest


def check_name(run_dir: Path, *, resume: bool) -> None:
    """Refuse a name that is taken.

    Raises:
        InputError: a packaged model or another run has it.
    """
    if any(run_dir.name == model.name for model in PACKAGED):
        raise InputError(f"{run_dir.name!r} is the name of a packaged model: name the run otherwise")
    if not resume and run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise InputError(f"run {run_dir.name!r} exists: go on with it (--resume), or name the new one otherwise")


def tell_skipped(data: TrainingSet) -> None:
    """Log which chips are left out: the first few by name, all by number."""
    for chip in data.skipped[:_SHOWN]:
        logger.warning("left out: %s (%s): %s", chip.annotation_id, chip.chip_path, chip.reason)
    if data.skipped:
        logger.warning(
            "%d of %d chips are left out; the run's %s lists them",
            len(data.skipped),
            len(data.skipped) + len(data.samples),
            CONFIG_FILE,
        )


def run_config(
    data: TrainingSet,
    held_out: Sequence[TrainingSample],
    recipe: Recipe,
    run: str,
    device: torch.device,
    initial: Embedder | None,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """What ``config.json`` of a run says."""
    return {
        "run": run,
        **origin,
        "recipe": recipe.to_json(),
        "samples": {
            "annotations": len(data.samples),
            "classes": len(data.classes),
            "skipped": len(data.skipped),
            "key": key_of_samples(data.samples),
        },
        "held_out": {"annotations": len(held_out), "key": key_of_samples(held_out)} if held_out else None,
        "initial_weights_hash": initial.weights_hash if initial is not None else None,
        "classes": [asdict(one) for one in data.classes],
        "skipped": [asdict(one) for one in data.skipped],
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": python_version(),
            "resight": __version__,
            "timm": timm.__version__,
            "torch": torch.__version__,
        },
    }


def key_of_samples(samples: Sequence[TrainingSample]) -> str:
    """A short key of samples and what decides their part in a run; their order does not matter."""
    return key_of(sorted([one.annotation_id, one.species, one.identity, one.chip_path.name] for one in samples))


def resumed_state(
    run_dir: Path, config: dict[str, Any], initial: Embedder | None
) -> tuple[Progress, dict[str, Any]] | None:
    """Read the checkpoint of a run that is to go on; ``None`` where it has none yet.

    Raises:
        InputError: there is no such run.
        ArtefactMismatch: it was started with something else, or its checkpoint is broken.
    """
    stored = read_run_config(run_dir)
    remove_leftovers(run_dir)
    state = read_checkpoint(run_dir)
    if initial is None and state is not None:
        # The checkpoint holds the weights: the model that the run started from is not needed again.
        config = {**config, "initial_weights_hash": stored.get("initial_weights_hash")}
    require_same_run(run_dir.name, stored, config)
    return state


def starting_embedder(
    recipe: Recipe, run: str, initial: Embedder | None, state: tuple[Progress, dict[str, Any]] | None
) -> Embedder:
    """Build the network that learns: from a checkpoint, a model, or the recipe's weights.

    Raises:
        InputError: the model has another backbone than the recipe, or the weights cannot be had.
    """
    if state is not None:
        return Embedder(EmbedderConfig.from_json(state[1]["config"]))
    if initial is None:
        start = new_embedder(
            recipe.backbone,
            weights=recipe.weights,
            image_size=recipe.image_size,
            pooling_p=recipe.pooling_p,
            output_stride=recipe.output_stride,
            gem_levels=recipe.gem_levels,
            gem_columns=recipe.gem_columns,
        )
    else:
        for name in ("backbone", "output_stride", "gem_levels", "gem_columns"):
            there, asked = getattr(initial.config, name), getattr(recipe, name)
            if there != asked:
                raise InputError(
                    f"the model to start from has {name} {there!r} and the recipe {asked!r}: set {name}={there}"
                )
        start = Embedder(replace(initial.config, image_size=recipe.image_size))
        load_strictly(start, initial.state_dict(), where="the model to start from")
    licence = f" ({start.config.licence})" if start.config.licence is not None else ""
    # The weights that come out are the trainer's: no licence is claimed for them.
    start.config = replace(
        start.config, weights_source=f"run {run}, started from {start.config.weights_source}{licence}", licence=None
    )
    return start
