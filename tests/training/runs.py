"""Short runs on the CPU, and what they end in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from resight.errors import TrainingError
from resight.models.embedder import Embedder
from resight.training.checkpoint import EpochReport
from resight.training.chipset import TrainingSample
from resight.training.loop import Job, TrainResult, train
from resight.training.presets import TINY
from resight.training.recipe import Recipe

QUICK = replace(
    TINY, backbone="test_resnet", weights="none", image_size=64, batch_size=4, epochs=2, learning_rate=1e-3, seed=3
)


def trained(samples: Sequence[TrainingSample], recipe: Recipe, run_dir: Path, **job: Any) -> TrainResult:
    """Train in this process; ``job`` are further fields of the job."""
    return train(Job(samples=samples, recipe=recipe, run_dir=run_dir, **job), device="cpu")


def weights_of(result: TrainResult) -> dict[str, torch.Tensor]:
    """The weights and running statistics of the model that a run ended in."""
    return Embedder.load(result.model).state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two states are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Euclidean distance of two states.

    Compare it with how far the weights have moved: Adam takes steps of one length whatever a gradient's, so that a
    weight without a true gradient follows rounding alone.
    """
    return sum(float((first[name].double() - second[name].double()).square().sum()) for name in first) ** 0.5


def stop(report: EpochReport) -> None:
    """For ``Job.on_epoch``: the run ends after its first epoch."""
    raise TrainingError(f"the power went after epoch {report.epoch}")
