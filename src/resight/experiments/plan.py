"""What an experiment trains and tests, before anything is done: values that know no torch and no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resight.training.recipe import Recipe


@dataclass(frozen=True)
class RunSpec:
    """One model, and the species it is tested on.

    Attributes:
        label: What it is within its experiment, such as ``joint`` or ``only nyala``; one label a seed.
        split: Name of the frozen split whose training side is used and whose test side is scored.
        seed: Of the split, and of the recipe.
        tests: Species whose test annotations are embedded.
        species: Trained on; empty where nothing is trained.
        individuals: Species → the only individuals of it that are trained on; a species that is not named has all.
        recipe: How it is trained; ``None`` where nothing is.
        starts_from: Label of the run of the same seed whose model it starts from.
        model: A model that is at hand, where nothing is trained: a run, a folder, a hub's or a packaged name.
    """

    label: str
    split: str
    seed: int
    tests: tuple[str, ...]
    species: tuple[str, ...] = ()
    individuals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipe: Recipe | None = None
    starts_from: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A species, or a part of the question, that is not answered, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """An experiment before it is carried out.

    Attributes:
        experiment: Its name, as the command line has it.
        question: What it asks, in one sentence.
        options: What was asked for, as plain JSON values.
        runs: In the order in which they are done; a run comes after the one it starts from.
        left_out: What is not answered.
    """

    experiment: str
    question: str
    options: Mapping[str, Any]
    runs: tuple[RunSpec, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What the user may vary; each experiment reads what concerns it.

    Attributes:
        species: The species that take part, or of ``bootstrap`` and ``finetune`` those that are asked about while all
            others join; ``None``: all.
        individuals: Of ``bootstrap`` and ``finetune``: numbers of individuals to train on.
        models: Of ``zero-shot`` and ``gallery-size``: models at hand.
        backbones: Of ``backbones``: names of timm models.
        allow_seen: Of ``zero-shot``: score species too that a model is known to have been trained on.
        seen: Of ``zero-shot``: species that a model was trained on → how that is known; filled in by the project.
    """

    species: tuple[str, ...] | None = None
    individuals: tuple[int, ...] = (0, 25, 50, 100, 200)
    models: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    allow_seen: bool = False
    seen: Mapping[str, str] = field(default_factory=dict)
