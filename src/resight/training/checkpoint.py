"""What a run leaves in its folder so that it can go on: ``config.json``, ``log.csv`` and ``checkpoint/state.pt``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from resight.artefacts import atomic_path, write_csv
from resight.errors import ArtefactMismatch, InputError, TrainingError

CONFIG_FILE = "config.json"
LOG_FILE = "log.csv"
STATE_FILE = Path("checkpoint") / "state.pt"
FORMAT = "resight-checkpoint-2"

# Fields of a recipe that change no weight: a run may go on under others.
FREE_FIELDS = frozenset({"name", "assumed", "checkpoint_every_steps", "loader_workers", "compile"})


@dataclass(frozen=True)
class EpochReport:
    """One epoch, and one row of ``log.csv``.

    Attributes:
        epoch: From 1.
        step: Steps done since the run began.
        loss: Mean over the epoch's chips.
        top1: Share of the epoch's chips, in percent, that are nearest to their own class, without margin.
        learning_rate: At the epoch's last step.
        head_learning_rate: Likewise, of the head.
        images: Chips trained on.
        images_per_second: Of this epoch.
        seconds: Of this epoch, checkpoints and validation not counted.
        waiting_percent: Share of those seconds in which the network waited for chips.
        memory_mib: The most that was in use: the accelerator's memory, else this process's.
        validation_top1: On the photos held out, percent, the mean over species; ``None`` where there are none.
    """

    epoch: int
    step: int
    loss: float
    top1: float
    learning_rate: float
    head_learning_rate: float
    images: int
    images_per_second: float
    seconds: float
    waiting_percent: float
    memory_mib: float
    validation_top1: float | None


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epoch: The epoch it is in, from 0.
        batch: Batches of that epoch that are done.
        loss_sum: Of the epoch's chips so far.
        correct: Chips of the epoch so far that were nearest to their own class.
        images: Chips of the epoch so far.
        seconds: Of the epoch so far.
        waited: Those of them in which the network waited for chips.
        reports: The finished epochs.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    reports: tuple[EpochReport, ...] = ()


def write_checkpoint(run_dir: Path, progress: Progress, tensors: Mapping[str, Any]) -> None:
    """Write how far the run is and all its states, whole or not at all.

    Args:
        run_dir: The run's folder.
        progress: Stored with it.
        tensors: State dicts by name, as ``torch.save`` takes them.

    Raises:
        TrainingError: the disk is full or cannot be written; the older checkpoint is what it was.
    """
    try:
        with atomic_path(run_dir / STATE_FILE) as temporary:
            torch.save({"format": FORMAT, "progress": asdict(progress), **tensors}, temporary)
    except (OSError, RuntimeError) as error:  # torch wraps what the disk says in a RuntimeError
        raise TrainingError(
            f"the checkpoint cannot be written to {run_dir / STATE_FILE.parent} ({_first_line(error)}): make room on "
            "the disk and go on with --resume; the checkpoint before it is whole"
        ) from None


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a run has one; it holds the weights, so that the model the run began with is not needed again."""
    return (run_dir / STATE_FILE).is_file()


def remove_leftovers(run_dir: Path) -> None:
    """Delete what a process that was killed while it wrote a checkpoint has left beside it."""
    for leftover in (run_dir / STATE_FILE).parent.glob(f".{STATE_FILE.name}.*"):
        leftover.unlink(missing_ok=True)


def read_checkpoint(run_dir: Path) -> tuple[Progress, dict[str, Any]] | None:
    """Read the checkpoint on the CPU; ``None`` where there is none yet.

    Raises:
        ArtefactMismatch: the file is broken or of another version.
    """
    path = run_dir / STATE_FILE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, UnpicklingError) as error:
        raise ArtefactMismatch(
            f"{path} cannot be read ({_first_line(error)}): delete {run_dir} and train again"
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ArtefactMismatch(f"{path} is no checkpoint of this version of resight: delete {run_dir} and train again")
    values = state.pop("progress")
    reports = tuple(EpochReport(**report) for report in values.pop("reports"))
    return Progress(**values, reports=reports), state


def write_log(run_dir: Path, reports: Sequence[EpochReport]) -> None:
    """Write ``log.csv`` whole: a header, then a row an epoch."""
    header = [entry.name for entry in fields(EpochReport)]
    write_csv(run_dir / LOG_FILE, header, ([getattr(report, name) for name in header] for report in reports))


def read_run_config(run_dir: Path) -> dict[str, Any]:
    """Read a run's ``config.json``.

    Raises:
        InputError: there is none, or it is no JSON object.
    """
    path = run_dir / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no run {run_dir.name!r} to go on with: leave out --resume to start it") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): delete {run_dir} and train again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no JSON object: delete {run_dir} and train again")
    return values


def require_same_run(run: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose recipe, samples or starting model changed.

    Args:
        run: Its name, for the message.
        stored: The ``config.json`` it was started with.
        now: What would be written today.

    Raises:
        ArtefactMismatch: naming every field that differs.
    """
    then, today = _deciding(stored), _deciding(now)
    differing = [
        f"{name} was {then.get(name)!r} and is {today.get(name)!r} now"
        for name in sorted(then.keys() | today.keys())
        if then.get(name) != today.get(name)
    ]
    if differing:
        raise ArtefactMismatch(
            f"run {run!r} was started with something else: {'; '.join(differing)}; "
            "go on as it was started, or train under another name"
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    recipe = {name: value for name, value in config.get("recipe", {}).items() if name not in FREE_FIELDS}
    augment = recipe.pop("augment", {})
    if (held_out := config.get("held_out")) is not None:
        recipe["held_out"] = held_out.get("key")
    return {
        **{f"recipe.{name}": value for name, value in recipe.items()},
        **{f"recipe.augment.{name}": value for name, value in augment.items()},
        **{f"samples.{name}": value for name, value in config.get("samples", {}).items()},
        "teachers": config.get("teachers", []),
        "initial_weights_hash": config.get("initial_weights_hash"),
    }
