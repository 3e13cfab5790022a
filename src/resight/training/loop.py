"""The training loop, visible from top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from platform import python_version
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resight.artefacts import key_of, write_json
from resight.errors import InputError, TrainingError
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder, load_strictly
from resight.models.heads import SubCenterArcFace, absolute_margins, power_margins, spread_margins
from resight.models.library import MODEL_FOLDER
from resight.models.memory import freed_memory_kept
from resight.models.packaged import PACKAGED
from resight.models.weights import new_embedder
from resight.progress import bar
from resight.training.augment import apply_changes, draw_change
from resight.training.checkpoint import (
    CONFIG_FILE,
    EpochReport,
    Progress,
    read_checkpoint,
    read_run_config,
    require_same_run,
    write_checkpoint,
    write_log,
)
from resight.training.chipset import (
    SkippedChip,
    TrainingClass,
    TrainingSample,
    TrainingSet,
    cut_into_batches,
    epoch_order,
    gather,
    load_chips,
    read_batches,
)
from resight.training.recipe import Recipe
from resight.training.schedule import learning_rate, make_optimiser, set_learning_rate
from resight.version import __version__

logger = logging.getLogger(__name__)

MEMORY_LIMIT_BYTES = 2 * 1024**3
_SHOWN = 5  # skipped chips that the log names before it counts the rest

_DIVERGED = (
    "training has diverged; lower learning_rate and train under another name (the last checkpoint is good and stays)"
)


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        run: Its name.
        model: Folder of the trained model.
        epochs: Epochs trained.
        train_images_per_second: Over the whole run, checkpoints and reading of chips into memory not counted.
        final_loss: Mean of the last epoch.
        samples: Annotations trained on.
        classes: Identities trained on.
        skipped: Samples whose chips could not be used.
    """

    run: str
    model: Path
    epochs: int
    train_images_per_second: float
    final_loss: float
    samples: int
    classes: int
    skipped: tuple[SkippedChip, ...]


def train(
    samples: Sequence[TrainingSample],
    recipe: Recipe,
    run_dir: Path,
    *,
    initial: Embedder | None = None,
    resume: bool = False,
    left_out: Sequence[SkippedChip] = (),
    on_epoch: Callable[[EpochReport], None] | None = None,
    device: str | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> TrainResult:
    """Train one embedder for all the samples' species.

    Writes ``config.json``, ``log.csv``, ``checkpoint/`` and at the end ``model/`` into ``run_dir``. On the CPU a run
    that was killed and resumed ends in the same weights, to the bit, as one that was not (same machine, same threads).

    Args:
        samples: Their order does not matter.
        recipe: Decides everything else.
        run_dir: The run's folder; its name is the run's.
        initial: Start from this model instead of the recipe's ``weights``; it is left as it is.
        resume: Go on with the run in ``run_dir``.
        left_out: Annotations that have no chip; they are listed with those whose chips cannot be used.
        on_epoch: Is called after each epoch.
        device: Such as ``cpu`` or ``cuda``; ``None``: an accelerator where there is one.
        memory_limit_bytes: Chips that need more than this are read from their files batch by batch.

    Raises:
        InputError: the name is taken, nothing to resume, nothing to train on, one class only, or no such weights.
        ArtefactMismatch: a resumed run was started with another recipe, other samples or another model.
        TrainingError: the loss is no longer finite, or no chip can be used. The last good checkpoint stays.
    """
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    _check_name(run_dir, resume=resume)
    data = gather(samples, recipe.image_size)
    data = replace(data, skipped=(*left_out, *data.skipped))
    _tell_skipped(data)
    config = _run_config(data, recipe, run_dir.name, on, initial)
    state = _resumed_state(run_dir, config, initial) if resume else None

    # The caller's random numbers are left alone.
    with torch.random.fork_rng(devices=[on] if on.type == "cuda" else []), freed_memory_kept():
        torch.manual_seed(recipe.seed)
        embedder = _starting_embedder(recipe, run_dir.name, initial, state).to(on)
        head = SubCenterArcFace(
            embedder.config.dim, margins_of(data.classes, recipe), centres=recipe.centres, scale=recipe.scale
        ).to(on)
        optimiser = make_optimiser(embedder, head, recipe)
        progress = Progress()
        if state is not None:
            progress, tensors = state
            embedder.load_state_dict(tensors["embedder"])
            head.load_state_dict(tensors["head"])
            optimiser.load_state_dict(tensors["optimiser"])
            _restore_random(tensors["random"], on)

        chips = load_chips(data.samples, recipe.image_size, memory_limit_bytes)
        labels = torch.from_numpy(data.labels)
        if state is None:  # only now: a start that fails leaves nothing behind
            write_json(run_dir / CONFIG_FILE, config)
        with bar("training", recipe.epochs * len(data.samples)) as running:
            running.advance(sum(report.images for report in progress.reports) + progress.images)
            for epoch in range(progress.epoch, recipe.epochs):
                order = epoch_order(len(data.samples), seed=recipe.seed, epoch=epoch)
                batches = cut_into_batches(order, recipe.batch_size)
                todo = batches[progress.batch :]
                pixels = read_batches(data.samples, todo, recipe.image_size, chips=chips, workers=recipe.loader_workers)
                embedder.train()
                began = time.perf_counter()
                for rows, stored in zip(todo, pixels, strict=True):
                    step = epoch * len(batches) + progress.batch
                    set_learning_rate(optimiser, learning_rate(step, recipe, len(batches)))
                    changes = [
                        draw_change(recipe.augment, seed=recipe.seed, epoch=epoch, index=int(row)) for row in rows
                    ]
                    changed = apply_changes(stored.to(on), changes)
                    truth = labels[rows].to(on)
                    with torch.autocast(on.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                        embeddings = embedder(changed)
                    cosines = head.cosines(embeddings)
                    loss = F.cross_entropy(head.add_margin(cosines, truth), truth)
                    if not bool(loss.isfinite()):
                        raise _diverged(f"the loss is {loss.item()}", epoch, step)
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()

                    progress = replace(
                        progress,
                        batch=progress.batch + 1,
                        loss_sum=progress.loss_sum + loss.item() * len(rows),
                        correct=progress.correct + int((cosines.argmax(dim=1) == truth).sum()),
                        images=progress.images + len(rows),
                    )
                    running.advance(len(rows))
                    every = recipe.checkpoint_every_steps
                    if every is not None and (step + 1) % every == 0 and progress.batch < len(batches):
                        progress = replace(progress, seconds=progress.seconds + time.perf_counter() - began)
                        _save(run_dir, progress, embedder, head, optimiser, on)
                        began = time.perf_counter()

                progress = replace(progress, seconds=progress.seconds + time.perf_counter() - began)
                report = _report(progress, optimiser, step=(epoch + 1) * len(batches))
                progress = Progress(epoch=epoch + 1, reports=(*progress.reports, report))
                _save(run_dir, progress, embedder, head, optimiser, on)
                write_log(run_dir, progress.reports)
                logger.info(
                    "epoch %d of %d: loss %.4f, top-1 %.1f %%, learning rate %.2e, %.1f images/s",
                    report.epoch,
                    recipe.epochs,
                    report.loss,
                    report.top1,
                    report.learning_rate,
                    report.images_per_second,
                )
                if on_epoch is not None:
                    on_epoch(report)
        write_log(run_dir, progress.reports)  # a run killed between its last checkpoint and its log is mended here
        embedder.eval().save(run_dir / MODEL_FOLDER)

    images = sum(report.images for report in progress.reports)
    return TrainResult(
        run=run_dir.name,
        model=run_dir / MODEL_FOLDER,
        epochs=len(progress.reports),
        train_images_per_second=images / sum(report.seconds for report in progress.reports),
        final_loss=progress.reports[-1].loss,
        samples=len(data.samples),
        classes=len(data.classes),
        skipped=data.skipped,
    )


def margins_of(classes: Sequence[TrainingClass], recipe: Recipe) -> Tensor:
    """The margin of each class, (n_classes,) float32 radians, in the form that the recipe names."""
    counts = [one.annotations for one in classes]
    if recipe.margin == "absolute":
        return absolute_margins(counts)
    if recipe.margin == "spread":
        return spread_margins(counts, low=recipe.margin_low, high=recipe.margin_high, exponent=recipe.margin_exponent)
    return power_margins(counts, a=recipe.margin_a, b=recipe.margin_b, exponent=recipe.margin_exponent)


def _check_name(run_dir: Path, *, resume: bool) -> None:
    if any(run_dir.name == model.name for model in PACKAGED):
        raise InputError(f"{run_dir.name!r} is the name of a packaged model: name the run otherwise")
    if not resume and run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise InputError(f"run {run_dir.name!r} exists: go on with it (--resume), or name the new one otherwise")


def _tell_skipped(data: TrainingSet) -> None:
    for chip in data.skipped[:_SHOWN]:
        logger.warning("left out: %s (%s): %s", chip.annotation_id, chip.chip_path, chip.reason)
    if data.skipped:
        logger.warning(
            "%d of %d chips are left out; the run's %s lists them",
            len(data.skipped),
            len(data.skipped) + len(data.samples),
            CONFIG_FILE,
        )


def _run_config(
    data: TrainingSet, recipe: Recipe, run: str, device: torch.device, initial: Embedder | None
) -> dict[str, Any]:
    content = [[one.annotation_id, one.species, one.identity, one.chip_path.name] for one in data.samples]
    return {
        "run": run,
        "recipe": recipe.to_json(),
        "samples": {
            "annotations": len(data.samples),
            "classes": len(data.classes),
            "skipped": len(data.skipped),
            "key": key_of(content),
        },
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


def _resumed_state(
    run_dir: Path, config: dict[str, Any], initial: Embedder | None
) -> tuple[Progress, dict[str, Any]] | None:
    stored = read_run_config(run_dir)
    state = read_checkpoint(run_dir)
    if initial is None and state is not None:
        # The checkpoint holds the weights: the model that the run started from is not needed again.
        config = {**config, "initial_weights_hash": stored.get("initial_weights_hash")}
    require_same_run(run_dir.name, stored, config)
    return state


def _starting_embedder(
    recipe: Recipe, run: str, initial: Embedder | None, state: tuple[Progress, dict[str, Any]] | None
) -> Embedder:
    if state is not None:
        return Embedder(EmbedderConfig.from_json(state[1]["config"]))
    if initial is None:
        start = new_embedder(
            recipe.backbone, weights=recipe.weights, image_size=recipe.image_size, pooling_p=recipe.pooling_p
        )
    else:
        if initial.config.backbone != recipe.backbone:
            raise InputError(
                f"the model to start from has backbone {initial.config.backbone!r} and the recipe "
                f"{recipe.backbone!r}: set backbone={initial.config.backbone}"
            )
        start = Embedder(replace(initial.config, image_size=recipe.image_size))
        load_strictly(start, initial.state_dict(), where="the model to start from")
    licence = f" ({start.config.licence})" if start.config.licence is not None else ""
    # The weights that come out are the trainer's: no licence is claimed for them.
    start.config = replace(
        start.config, weights_source=f"run {run}, started from {start.config.weights_source}{licence}", licence=None
    )
    return start


def _save(
    run_dir: Path,
    progress: Progress,
    embedder: Embedder,
    head: SubCenterArcFace,
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    _require_finite(embedder, head, progress)
    random = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(device)
    tensors = {
        "config": embedder.config.to_json(),
        "embedder": embedder.state_dict(),
        "head": head.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": random,
    }
    write_checkpoint(run_dir, progress, tensors)


def _restore_random(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _require_finite(embedder: nn.Module, head: nn.Module, progress: Progress) -> None:
    for module in (embedder, head):
        for name, tensor in module.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    f"weight {name} is not finite after epoch {progress.epoch}, batch {progress.batch}: {_DIVERGED}"
                )


def _diverged(what: str, epoch: int, step: int) -> TrainingError:
    return TrainingError(f"{what} in epoch {epoch + 1} at step {step}: {_DIVERGED}")


def _report(progress: Progress, optimiser: torch.optim.Optimizer, *, step: int) -> EpochReport:
    rates = [group["lr"] for group in optimiser.param_groups]
    return EpochReport(
        epoch=progress.epoch + 1,
        step=step,
        loss=progress.loss_sum / progress.images,
        top1=100.0 * progress.correct / progress.images,
        learning_rate=rates[0],
        head_learning_rate=rates[-1],
        images=progress.images,
        images_per_second=progress.images / max(progress.seconds, 1e-9),
        seconds=progress.seconds,
    )
