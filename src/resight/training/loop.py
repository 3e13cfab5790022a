"""The training loop, visible from top to bottom."""

from __future__ import annotations

import logging
import math
import os
import pickle
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from resight.artefacts import write_json
from resight.errors import InputError, TrainingError
from resight.memory import freed_memory_kept
from resight.models.embedder import Embedder
from resight.models.library import MODEL_FOLDER
from resight.progress import bar
from resight.training.augment import apply_changes, changes_of, draw_numbers, mirror_draw
from resight.training.checkpoint import CONFIG_FILE, EpochReport, Progress, write_checkpoint, write_log
from resight.training.chipset import ChipSource, SkippedChip, TrainingSample, gather
from resight.training.objective import Objective
from resight.training.processes import (
    average_gradients,
    errors_of_processes,
    make_fabric,
    require_two_chips_each,
    share_out,
    whole_batch,
)
from resight.training.recipe import Recipe
from resight.training.sampling import epoch_batches, share_of
from resight.training.schedule import learning_rate, make_optimiser, set_learning_rate
from resight.training.start import check_name, resumed_state, run_config, starting_embedder, tell_skipped
from resight.training.tracking import Track, check_trackers, draw_curves, trackers
from resight.training.validation import HeldOut

logger = logging.getLogger(__name__)

CPU_MEMORY_LIMIT_BYTES = 2 * 1024**3
DEVICE_MEMORY_SHARE = 0.4
_LOOK_EVERY = 20  # steps between two looks at the loss where each look makes the accelerator wait

_DIVERGED = (
    "training has diverged; lower learning_rate and train under another name (the last checkpoint is good and stays)"
)


@dataclass(frozen=True)
class Job:
    """What a run is given; the same value in each of its processes.

    Attributes:
        samples: To train on; their order does not matter.
        recipe: Decides everything else.
        run_dir: The run's folder; its name is the run's.
        initial: Start from this model instead of the recipe's ``weights``; it is left as it is.
        held_out: Samples that are scored after each epoch, with their encounters.
        teachers: annotation_id → (dim,) vector, one mapping a teacher, of every sample; given where the recipe has a
            ``distil_weight``, and there only.
        left_out: Annotations that have no chip; they are listed with those whose chips cannot be used.
        origin: Where the samples come from, for the run's config.
        trackers: ``tensorboard`` or ``wandb``, besides the log.
        resume: Go on with the run in ``run_dir``.
        on_epoch: Is called after each epoch, in the first process; with several processes it must be picklable.
        memory_limit_bytes: Chips that need more than this are read from their files batch by batch; ``None``: 2 GiB, or
            a share of the accelerator's free memory.
    """

    samples: Sequence[TrainingSample]
    recipe: Recipe
    run_dir: Path
    initial: Embedder | None = None
    held_out: Sequence[TrainingSample] = ()
    teachers: Sequence[Mapping[str, npt.NDArray[np.float16]]] = ()
    left_out: Sequence[SkippedChip] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    trackers: Sequence[str] = ()
    resume: bool = False
    on_epoch: Callable[[EpochReport], None] | None = None
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check that teachers and recipe go together.

        Raises:
            InputError: there are teachers without a weight, or a weight without teachers.
        """
        if bool(self.teachers) != (self.recipe.distil_weight > 0):
            raise InputError(
                f"distil_weight is {self.recipe.distil_weight:g} and there are {len(self.teachers)} teachers: "
                "name teachers (--teachers A,B) and set distil_weight above 0, or neither"
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
        waiting_percent: Share of the training time in which the network waited for chips.
        validation_top1: After the last epoch, on the photos held out; ``None`` where there are none.
        samples: Annotations trained on.
        classes: Classes trained on: identities, and mirror images where they are classes of their own.
        skipped: Samples whose chips could not be used.
    """

    run: str
    model: Path
    epochs: int
    train_images_per_second: float
    final_loss: float
    waiting_percent: float
    validation_top1: float | None
    samples: int
    classes: int
    skipped: tuple[SkippedChip, ...]


def train(job: Job, *, devices: int = 1, device: str | None = None) -> TrainResult:
    """Train one embedder for all the samples' species.

    Writes ``config.json``, ``log.csv``, ``checkpoint/`` and at the end ``model/`` and ``curves.png`` into the run's
    folder. On the CPU a run that was killed and resumed ends in the same weights, to the bit, as one that was not (same
    machine, same threads).

    Args:
        job: What to train.
        devices: Processes on this machine, one an accelerator.
        device: Such as ``cpu`` or ``cuda``; ``None``: an accelerator where there is one.

    Raises:
        InputError: the name is taken, nothing to resume, nothing to train on, one class only, or no such weights.
        ArtefactMismatch: a resumed run was started with another recipe, other samples or another model.
        TrainingError: the loss is no longer finite, the disk is full, or no chip can be used. The last good checkpoint
            stays.
    """
    check_name(job.run_dir, resume=job.resume)
    check_trackers(job.trackers)
    fabric = make_fabric(devices=devices, device=device, precision=job.recipe.precision)
    if devices == 1:
        return run(fabric, job)
    level = logging.getLogger("resight").getEffectiveLevel()
    with errors_of_processes():
        result: TrainResult = pickle.loads(fabric.launch(partial(_run_pickled, job=job, log_level=level)))
    return result


def _run_pickled(fabric: Fabric, job: Job, log_level: int) -> bytes:
    # Fabric looks into what goes from process to process for tensors, and refuses frozen dataclasses.
    return pickle.dumps(run(fabric, job, log_level))


def run(fabric: Fabric, job: Job, log_level: int | None = None) -> TrainResult:
    """Train in this process, alone or as one of several.

    Args:
        fabric: Launched.
        job: The same in every process.
        log_level: Set up this new process's log; ``None`` where it is set up.
    """
    recipe, run_dir, on = job.recipe, job.run_dir, fabric.device
    first = fabric.is_global_zero
    if log_level is not None:
        logging.basicConfig(level=log_level if first else logging.ERROR, format="%(message)s")
    data = gather(job.samples, recipe)
    held_out = HeldOut(job.held_out, recipe.image_size)
    data = replace(data, skipped=(*job.left_out, *data.skipped, *held_out.skipped))
    if first:
        tell_skipped(data)
    require_two_chips_each(fabric, epoch_batches(data, recipe, epoch=0), recipe)
    config = run_config(data, job.held_out, recipe, run_dir.name, on, job.initial, job.origin)
    state = resumed_state(run_dir, config, job.initial) if job.resume else None

    with _settled(fabric, recipe):
        torch.manual_seed(recipe.seed)
        embedder = starting_embedder(recipe, run_dir.name, job.initial, state).to(on)
        objective = Objective(embedder.config.dim, data, recipe).to(on)
        average = None
        if recipe.ema_decay is not None:
            average = ModelEmaV3(embedder, decay=recipe.ema_decay, use_warmup=True, warmup_power=0.75)
        trunk = share_out(fabric, embedder, compile=recipe.compile)
        optimiser = make_optimiser(embedder, objective, recipe)
        network = _Network(embedder, objective, optimiser, average)
        progress = Progress()
        if state is not None:
            progress, tensors = state
            network.restore(tensors, on)

        source = ChipSource(
            data.samples,
            recipe.image_size,
            device=on,
            limit_bytes=_limit(job, on),
            workers=recipe.loader_workers,
        )
        labels, mirror_labels, species = (
            torch.from_numpy(numbers) for numbers in (data.labels, data.mirror_labels, data.species_labels)
        )
        teachers = [
            torch.from_numpy(np.stack([vectors[one.annotation_id] for one in data.samples])) for vectors in job.teachers
        ]
        if state is None and first:  # only now: a start that fails leaves nothing behind
            write_json(run_dir / CONFIG_FILE, config)
        fabric.barrier()
        tracking = trackers(job.trackers if first else (), run_dir, config)
        with tracking as tracks, bar("training", recipe.epochs * len(data.samples)) as running:
            running.advance(sum(report.images for report in progress.reports) + progress.images)
            for epoch in range(progress.epoch, recipe.epochs):
                numbers = draw_numbers(len(data.samples), seed=recipe.seed, epoch=epoch)  # in the epoch's order
                batches = epoch_batches(data, recipe, epoch)
                todo = batches[progress.batch :]
                parts = [np.array_split(rows, recipe.accumulate) for rows in todo]
                own = [share_of(part, fabric.global_rank, fabric.world_size) for batch in parts for part in batch]
                pixels = source.batches(own)
                learning = network.train(backbone=epoch >= recipe.head_only_epochs)
                tally = torch.zeros(2, device=on)  # loss times chips, and chips nearest to their own class
                waited, began = 0.0, time.perf_counter()
                for rows, batch in zip(todo, parts, strict=True):
                    step = epoch * len(batches) + progress.batch
                    set_learning_rate(optimiser, learning_rate(step, recipe, len(batches)))
                    of_batch = numbers[progress.images : progress.images + len(rows)]
                    drawn = np.array_split(of_batch, recipe.accumulate)
                    for number, (part, of_part) in enumerate(zip(batch, drawn, strict=True)):
                        asked = time.perf_counter()
                        stored = next(pixels)
                        waited += time.perf_counter() - asked
                        mirrored = torch.from_numpy(mirror_draw(of_part)) & (mirror_labels[part] >= 0)
                        mine = share_of(np.arange(len(part)), fabric.global_rank, fabric.world_size)
                        changes = changes_of(recipe.augment, of_part[mine])
                        chips = apply_changes(stored, changes, mirrored=mirrored[mine])
                        truth = torch.where(mirrored, mirror_labels[part], labels[part])
                        last = number == len(batch) - 1
                        with fabric.no_backward_sync(trunk, enabled=not last), torch.set_grad_enabled(learning):
                            features = whole_batch(fabric, trunk(chips), len(part))
                        with fabric.no_backward_sync(trunk, enabled=not last):
                            loss, correct = objective(
                                embedder.bn(features),
                                truth.to(on, non_blocking=True),  # to block would be to wait for the work queued there
                                species[part].to(on, non_blocking=True),
                                [vectors[part].to(on, non_blocking=True) for vectors in teachers],
                                (~mirrored).to(on, non_blocking=True),
                            )
                            fabric.backward(loss * (len(part) / len(rows)))
                        tally += torch.stack([loss.detach() * len(part), correct])
                    average_gradients(fabric, embedder.bn)
                    average_gradients(fabric, objective)
                    if recipe.gradient_clip is not None:
                        nn.utils.clip_grad_norm_(network.learned(), recipe.gradient_clip)
                    optimiser.step()
                    optimiser.zero_grad(set_to_none=True)
                    if average is not None:
                        average.update(embedder, step=step)

                    progress = replace(progress, batch=progress.batch + 1, images=progress.images + len(rows))
                    running.advance(len(rows))
                    every = recipe.checkpoint_every_steps
                    due = every is not None and (step + 1) % every == 0 and progress.batch < len(batches)
                    if due or progress.batch == len(batches) or on.type == "cpu" or step % _LOOK_EVERY == 0:
                        progress = _counted(progress, tally, epoch, step)
                    if due:
                        progress = _timed(progress, time.perf_counter() - began, waited)
                        if first:
                            network.save(run_dir, progress, on)
                        waited, began = 0.0, time.perf_counter()

                progress = _timed(progress, time.perf_counter() - began, waited)
                top1 = _scored(held_out, network.result()) if first and job.held_out else None
                report = _report(progress, optimiser, step=(epoch + 1) * len(batches), on=on, validation_top1=top1)
                progress = Progress(epoch=epoch + 1, reports=(*progress.reports, report))
                if first:
                    network.save(run_dir, progress, on)
                    write_log(run_dir, progress.reports)
                    _tell(report, recipe, tracks)
                    if job.on_epoch is not None:
                        job.on_epoch(report)
        if first:
            write_log(run_dir, progress.reports)  # a run killed between its last checkpoint and its log is mended here
            draw_curves(run_dir, progress.reports)
            network.result().eval().save(run_dir / MODEL_FOLDER)
        fabric.barrier()

    seconds = sum(report.seconds for report in progress.reports)
    return TrainResult(
        run=run_dir.name,
        model=run_dir / MODEL_FOLDER,
        epochs=len(progress.reports),
        train_images_per_second=sum(report.images for report in progress.reports) / seconds,
        final_loss=progress.reports[-1].loss,
        waiting_percent=sum(report.waiting_percent * report.seconds for report in progress.reports) / seconds,
        validation_top1=progress.reports[-1].validation_top1,
        samples=len(data.samples),
        classes=len(data.classes),
        skipped=data.skipped,
    )


@dataclass(frozen=True)
class _Network:
    """All that learns, and what a checkpoint holds of it."""

    embedder: Embedder
    objective: Objective
    optimiser: torch.optim.Optimizer
    average: ModelEmaV3 | None

    def train(self, *, backbone: bool) -> bool:
        """Enter training mode; a backbone that does not learn keeps its statistics too. Gives ``backbone`` back."""
        self.embedder.train()
        self.embedder.backbone.train(backbone)
        return backbone

    def result(self) -> Embedder:
        """What is scored and kept: the average where there is one."""
        kept: Embedder = self.embedder if self.average is None else self.average.module
        return kept

    def learned(self) -> list[nn.Parameter]:
        return [weight for group in self.optimiser.param_groups for weight in group["params"]]

    def save(self, run_dir: Path, progress: Progress, on: torch.device) -> None:
        modules = {"embedder": self.embedder, "objective": self.objective}
        if self.average is not None:
            modules["average"] = self.average.module
        _require_finite(modules, progress)
        random = {"cpu": torch.get_rng_state()}
        if on.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(on)
        states = {name: module.state_dict() for name, module in modules.items()}
        states["optimiser"] = self.optimiser.state_dict()
        write_checkpoint(run_dir, progress, {"config": self.embedder.config.to_json(), "random": random, **states})

    def restore(self, tensors: dict[str, Any], on: torch.device) -> None:
        self.embedder.load_state_dict(tensors["embedder"])
        self.objective.load_state_dict(tensors["objective"])
        self.optimiser.load_state_dict(tensors["optimiser"])
        if self.average is not None:
            self.average.module.load_state_dict(tensors["average"])
        torch.set_rng_state(tensors["random"]["cpu"])
        if on.type == "cuda" and "cuda" in tensors["random"]:
            torch.cuda.set_rng_state(tensors["random"]["cuda"], on)


@contextmanager
def _settled(fabric: Fabric, recipe: Recipe) -> Iterator[None]:
    """Torch's settings for the time of a run; the caller's, and its random numbers, are left as they were."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    searching = torch.backends.cudnn.benchmark
    on = fabric.device
    with torch.random.fork_rng(devices=[on] if on.type == "cuda" else []), freed_memory_kept():
        try:
            if recipe.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its bits only with it
            torch.use_deterministic_algorithms(recipe.deterministic or deterministic)
            torch.backends.cudnn.benchmark = not recipe.deterministic
            yield
        except torch.cuda.OutOfMemoryError:
            raise TrainingError(
                f"the memory of {on} is full, with batch_size {recipe.batch_size} in {recipe.accumulate} parts at "
                f"image_size {recipe.image_size}: lower batch_size or image_size, or raise accumulate"
            ) from None
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.backends.cudnn.benchmark = searching


def _limit(job: Job, on: torch.device) -> int:
    if job.memory_limit_bytes is not None:
        return job.memory_limit_bytes
    if on.type == "cuda":
        return int(DEVICE_MEMORY_SHARE * torch.cuda.mem_get_info(on)[0])
    return CPU_MEMORY_LIMIT_BYTES


def _counted(progress: Progress, tally: Tensor, epoch: int, step: int) -> Progress:
    """Add what the device has counted, and empty its tally; a loss that is not finite stops the run."""
    loss_sum, correct = tally.tolist()
    tally.zero_()
    if not math.isfinite(loss_sum):
        raise TrainingError(
            f"the loss is {loss_sum} in epoch {epoch + 1} at step {step} or shortly before: {_DIVERGED}"
        )
    return replace(progress, loss_sum=progress.loss_sum + loss_sum, correct=progress.correct + int(correct))


def _scored(held_out: HeldOut, embedder: Embedder) -> float | None:
    """Top-1 on the photos held out; embeddings that cannot be stored stop the run, and not a search of settings."""
    try:
        return held_out.top1(embedder)
    except InputError as error:
        reason = str(error).partition(":")[0]
        raise TrainingError(f"the held-out photos cannot be scored, since {reason}: {_DIVERGED}") from None


def _timed(progress: Progress, seconds: float, waited: float) -> Progress:
    return replace(progress, seconds=progress.seconds + seconds, waited=progress.waited + waited)


def _require_finite(modules: Mapping[str, nn.Module], progress: Progress) -> None:
    named = [(name, tensor) for module in modules.values() for name, tensor in module.state_dict().items()]
    finite = torch.stack([torch.isfinite(tensor).all() for _, tensor in named]).tolist()  # the device is asked once
    for (name, _), is_finite in zip(named, finite, strict=True):
        if not is_finite:
            raise TrainingError(
                f"weight {name} is not finite after epoch {progress.epoch}, batch {progress.batch}: {_DIVERGED}"
            )


def _report(
    progress: Progress, optimiser: torch.optim.Optimizer, *, step: int, on: torch.device, validation_top1: float | None
) -> EpochReport:
    rates = [group["lr"] for group in optimiser.param_groups]
    seconds = max(progress.seconds, 1e-9)
    return EpochReport(
        epoch=progress.epoch + 1,
        step=step,
        loss=progress.loss_sum / progress.images,
        top1=100.0 * progress.correct / progress.images,
        learning_rate=rates[0],
        head_learning_rate=rates[-1],
        images=progress.images,
        images_per_second=progress.images / seconds,
        seconds=progress.seconds,
        waiting_percent=100.0 * progress.waited / seconds,
        memory_mib=_peak_memory_mib(on),
        validation_top1=validation_top1,
    )


def _peak_memory_mib(on: torch.device) -> float:
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _tell(report: EpochReport, recipe: Recipe, tracks: Sequence[Track]) -> None:
    held_out = "" if report.validation_top1 is None else f", held out {report.validation_top1:.1f} %"
    logger.info(
        "epoch %d of %d: loss %.4f, top-1 %.1f %%%s, learning rates %.1e and %.1e, %.1f images/s, %.0f %% waiting for "
        "chips, %.0f MiB",
        report.epoch,
        recipe.epochs,
        report.loss,
        report.top1,
        held_out,
        report.learning_rate,
        report.head_learning_rate,
        report.images_per_second,
        report.waiting_percent,
        report.memory_mib,
    )
    for track in tracks:
        track(report)
