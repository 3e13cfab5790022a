"""The learning rate as a pure function of the step, and which weights decay. No scheduler holds any state."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from resight.models.embedder import Embedder
from resight.training.objective import Objective
from resight.training.recipe import Recipe


def learning_rate(step: int, recipe: Recipe, steps_per_epoch: int) -> float:
    """Learning rate of everything but the head at one step.

    With ``cosine``: linear from ``learning_rate_start`` at step 0 to ``learning_rate`` at the warm-up's end, then
    half a cosine down to ``learning_rate_end`` at the last step. With ``exponential``, constant within an epoch:
    linear over epochs from ``learning_rate_start`` at epoch 0 to ``learning_rate`` at epoch ``warmup_epochs``, then
    times ``decay_per_epoch`` every epoch (MiewID, appendix A.1: 1.5e-5 to 1.5e-3 in 15 epochs, then 0.8). Where the
    schedule moves on ``schedule_steps_per_epoch`` times an epoch, its epochs are so many times shorter.

    Args:
        step: Counted from 0 over the whole run.
        recipe: Its schedule fields are read.
        steps_per_epoch: Steps an epoch.
    """
    top, start = recipe.learning_rate, recipe.learning_rate_start
    if recipe.schedule == "exponential":
        epoch = step // steps_per_epoch * recipe.schedule_steps_per_epoch
        if epoch < recipe.warmup_epochs:
            return start + (top - start) * epoch / recipe.warmup_epochs
        return float(top * recipe.decay_per_epoch ** (epoch - recipe.warmup_epochs))
    warmup_steps = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return start + (top - start) * step / warmup_steps
    last_step = recipe.epochs * steps_per_epoch - 1
    done = (step - warmup_steps) / max(1, last_step - warmup_steps)
    end = recipe.learning_rate_end
    return end + (top - end) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def parameter_groups(embedder: Embedder, objective: Objective, recipe: Recipe) -> list[dict[str, Any]]:
    """Split the weights by decay and by learning rate.

    Decay pulls weights to 0, which is no neutral value for a norm's scale, a bias, GeM's exponent or a position
    embedding, and a centre's length means nothing: none of them decays.

    Returns:
        Groups for an optimiser, the head's last; ``lr_factor`` is what multiplies the schedule's learning rate.
    """
    named_by_timm: set[str] = getattr(embedder.backbone, "no_weight_decay", set)()
    exempt = {f"backbone.{name}" for name in named_by_timm}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, weight in embedder.named_parameters():
        (plain if weight.ndim < 2 or name in exempt else decayed).append(weight)
    return [
        {"params": decayed, "weight_decay": recipe.weight_decay, "lr_factor": 1.0},
        {"params": plain, "weight_decay": 0.0, "lr_factor": 1.0},
        {"params": list(objective.parameters()), "weight_decay": 0.0, "lr_factor": recipe.head_learning_rate_factor},
    ]


def make_optimiser(embedder: Embedder, objective: Objective, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the optimiser; ``set_learning_rate`` sets its learning rates before each step."""
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    fused = embedder.mean.device.type == "cuda"  # one kernel for all weights
    return kind(parameter_groups(embedder, objective, recipe), lr=recipe.learning_rate, fused=fused)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the learning rate times its own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_factor"]
