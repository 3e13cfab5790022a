"""One worker of an experiment: ``python -m resight.experiments.worker PROJECT/experiments/plans/NAME.json``.

Any number of them may share a plan, on one machine or on several that see the project's folder. Each takes units that
nobody works on, trains, embeds the test sides and writes the vectors. They read the plan, the sides and the chips, and
never open the catalogue.
"""

from __future__ import annotations

import argparse
import csv
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from numpy.typing import NDArray

from resight.embedding import READ_AHEAD, ahead
from resight.errors import InputError, ResightError
from resight.experiments.folder import Done, ExperimentsFolder, Lease, LeaseLost, State, Unit, WorkPlan
from resight.experiments.sides import StoredSide, has_vectors, read_side, vectors_file, write_vectors
from resight.memory import freed_memory_kept
from resight.models.public import load_folder
from resight.models.torch_runtime import TorchRuntime
from resight.progress import bar
from resight.training.checkpoint import CONFIG_FILE, LOG_FILE, EpochReport
from resight.training.chipset import TrainingSample, usable_chips
from resight.training.loop import run as run_training
from resight.training.plan import read_plan
from resight.training.processes import make_fabric
from resight.version import __version__

logger = logging.getLogger(__name__)

INTERRUPTED = 130


@dataclass(frozen=True)
class UnitReport:
    """What became of a unit.

    Attributes:
        unit: Which.
        state: ``done``, ``failed``, ``blocked`` where what it needs failed, or ``waiting`` where another worker has it,
            or what it needs, and it was not waited for.
        here: Whether this call did it or tried to.
        done: What a unit that is done says of itself.
        error: Of a unit that failed, one line that begins with its title.
    """

    unit: Unit
    state: State
    here: bool
    done: Done | None = None
    error: str | None = None

    @property
    def line(self) -> str:
        """For the reader."""
        if self.done is not None:
            rate = self.done.images_per_second
            speed = f", {rate:.0f} images/s in training" if rate else ""
            more = f" in {self.done.seconds:.0f} s{speed}" if self.here else ", nothing to do here"
            return f"done: {self.unit.title}{more}"
        if self.error is not None:
            return f"failed: {self.error}"
        why = (
            "what it starts from failed" if self.state == "blocked" else "another worker has it, or what it starts from"
        )
        return f"{self.state}: {self.unit.title}: {why}"


@dataclass(frozen=True)
class Outcome:
    """What became of a plan: its units, in its order."""

    reports: tuple[UnitReport, ...]

    @property
    def done(self) -> tuple[Unit, ...]:
        """Those that this call did."""
        return tuple(report.unit for report in self.reports if report.state == "done" and report.here)

    @property
    def there(self) -> tuple[Unit, ...]:
        """Those that were done before, or by another worker meanwhile."""
        return tuple(report.unit for report in self.reports if report.state == "done" and not report.here)

    @property
    def failed(self) -> tuple[UnitReport, ...]:
        """Those that failed since the call began, here or at another worker's."""
        return tuple(report for report in self.reports if report.state == "failed")

    @property
    def blocked(self) -> tuple[Unit, ...]:
        """Those that need one that failed."""
        return tuple(report.unit for report in self.reports if report.state == "blocked")

    @property
    def waiting(self) -> tuple[Unit, ...]:
        """Those that are left to other workers."""
        return tuple(report.unit for report in self.reports if report.state == "waiting")


def work(
    folder: ExperimentsFolder,
    plan_name: str,
    *,
    device: str | None = None,
    on_unit: Callable[[UnitReport], None] | None = None,
    wait: bool = True,
) -> Outcome:
    """Do what is left to do of a plan.

    A unit that fails does not stop the others; it is tried again by the next call. One that another worker has is
    waited for, after all others, and done here if that worker dies.

    Args:
        folder: The project's ``experiments/``.
        plan_name: Of ``plans/NAME.json``.
        device: ``cpu`` or ``cuda``; ``None``: an accelerator where there is one.
        on_unit: Is called once for each unit, when it is known what became of it.
        wait: Whether to wait for units that other workers have, rather than leave them to those.

    Raises:
        InputError: there is no such plan, it is broken, or there is no such device.
    """
    plan = folder.read_plan(plan_name)
    device = _device(device)
    since_ns = folder.clock_ns()
    reports: dict[int, UnitReport] = {}  # by the unit's place in the plan

    def settle(place: int, report: UnitReport) -> None:
        reports[place] = report
        if on_unit is not None:
            on_unit(report)

    while True:
        failed = {report.unit.key for report in reports.values() if report.state == "failed"}
        states = folder.states(plan.units, since_ns=since_ns, failed=failed)
        for place, unit in enumerate(plan.units):
            if place not in reports and states[unit.key] in ("done", "failed", "blocked"):
                settle(place, _seen(folder, unit, states[unit.key]))
        if len(reports) == len(plan.units):
            break
        claimed = _claim_one(folder, plan, states)
        if claimed is not None:
            place, lease = claimed
            with lease:
                report = _attempt(folder, plan, plan.units[place], lease, device)
            if report is not None:
                settle(place, report)
        elif wait:
            time.sleep(folder.pace.poll_seconds)
        else:
            break
    for place, unit in enumerate(plan.units):
        if place not in reports:
            settle(place, UnitReport(unit, "waiting", here=False))
    return Outcome(tuple(reports[place] for place in range(len(plan.units))))


def _seen(folder: ExperimentsFolder, unit: Unit, state: State) -> UnitReport:
    """A unit that was done, or failed, elsewhere."""
    done = folder.read_done(unit.key) if state == "done" else None
    error = folder.read_failure(unit.key) or f"{unit.title}: no reason is written down" if state == "failed" else None
    return UnitReport(unit, state, here=False, done=done, error=error)


def _claim_one(folder: ExperimentsFolder, plan: WorkPlan, states: Mapping[str, State]) -> tuple[int, Lease] | None:
    """Take the first unit that can be done now."""
    for place, unit in enumerate(plan.units):
        ready = states[unit.key] == "waiting" and (unit.needs is None or states[unit.needs] == "done")
        if ready and (lease := folder.claim(unit.key)) is not None:
            return place, lease
    return None


def _attempt(folder: ExperimentsFolder, plan: WorkPlan, unit: Unit, lease: Lease, device: str) -> UnitReport | None:
    """Do a unit under its lease; ``None`` where another worker did it, or has it now."""
    if folder.is_done(unit.key):  # between the look at its state and the claim
        return None
    folder.forget_failure(unit.key)
    logger.info("begun: %s", unit.title)
    try:
        done = _carry_out(folder, plan, unit, lease, device)
        lease.require_held()
        folder.write_done(unit.key, done)
        return UnitReport(unit, "done", here=True, done=done)
    except LeaseLost as lost:
        logger.warning("%s: %s", unit.title, lost)
        return None
    except Exception as error:  # whatever it is, the other units are done
        if not isinstance(error, (ResightError, OSError)):
            logger.warning("%s", unit.title, exc_info=error)
        message = " ".join(str(error).split()) or "no reason given"
        kind = "" if isinstance(error, ResightError) else f"{type(error).__name__}: "
        line = f"{unit.title}: {kind}{message}"
        try:
            lease.require_held()
        except LeaseLost:
            return None
        folder.write_failure(unit.key, line)
        return UnitReport(unit, "failed", here=True, error=line)
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()  # what is free decides where the next unit keeps its chips


def _carry_out(folder: ExperimentsFolder, plan: WorkPlan, unit: Unit, lease: Lease, device: str) -> Done:
    remedy = f"plan it anew: resight experiment {plan.experiment} --plan-only"
    sides = {test.key: _tested(folder, unit, test.key, test.species, remedy) for test in unit.tests}
    epochs, seconds, rate = 0, 0.0, None
    if unit.trains:
        epochs, seconds, rate = _train(folder, unit, lease, device, sides, remedy)
    elif not folder.has_model(unit.key):
        raise InputError(f"its model {folder.model(unit.key)} is missing; {remedy}")
    runtime = TorchRuntime(load_folder(folder.model(unit.key)), device=device)
    if not unit.trains:
        _require_chips(sides, (), runtime.config.image_size, remedy)
    started = time.perf_counter()
    for key, side in sides.items():
        for background in (False, True):
            chips = _chips(side, background=background)
            target = vectors_file(folder.run(unit.key), key, background=background)
            _embed(chips, runtime, target, lease, label=unit.label)
    return Done(
        seconds=round(seconds + time.perf_counter() - started, 3),
        images_per_second=None if rate is None else round(rate, 2),
        epochs=epochs,
        weights_hash=runtime.weights_hash,
        made_by=f"resight {__version__}, {runtime.made_by} on {_name_of(device)}",
    )


def _tested(folder: ExperimentsFolder, unit: Unit, key: str, species: Sequence[str], remedy: str) -> list[StoredSide]:
    """The wanted species of a side, by name."""
    there = read_side(folder.side(key))
    lacking = sorted(set(species) - there.keys())
    if lacking:
        raise InputError(f"test side {key} has no {', '.join(lacking)}; {remedy}")
    return [there[name] for name in sorted(set(species))]


def _train(
    folder: ExperimentsFolder,
    unit: Unit,
    lease: Lease,
    device: str,
    sides: Mapping[str, Sequence[StoredSide]],
    remedy: str,
) -> tuple[int, float, float]:
    """Train, or go on; gives epochs, seconds and images a second over all attempts."""
    folder_of_run = folder.run(unit.key)
    if not folder.has_job(unit.key):
        raise InputError(f"its training job {folder_of_run} is missing; {remedy}")

    def after_epoch(report: EpochReport) -> None:
        lease.require_held()

    job = read_plan(folder_of_run, resume=(folder_of_run / CONFIG_FILE).is_file())
    if unit.needs is not None:
        job = replace(job, initial=load_folder(folder.model(unit.needs)))
    training = [sample.chip_path for sample in (*job.samples, *job.held_out)]
    _require_chips(sides, training, job.recipe.image_size, remedy)
    fabric = make_fabric(devices=1, device=device, precision=job.recipe.precision)
    result = run_training(fabric, replace(job, on_epoch=after_epoch))
    with (folder_of_run / LOG_FILE).open(newline="", encoding="utf-8") as log:
        seconds = sum(float(row["seconds"]) for row in csv.DictReader(log))
    return result.epochs, seconds, result.train_images_per_second


def _require_chips(sides: Mapping[str, Sequence[StoredSide]], training: Sequence[Path], size: int, remedy: str) -> None:
    """Refuse to begin where a chip cannot be used: a run that leaves some out is not comparable with the others."""
    tested = [path for side in sides.values() for one in side for path in (*one.chips, *one.backgrounds)]
    paths = sorted({*training, *(path for path in tested if path is not None)})
    _, faulty = usable_chips([TrainingSample(str(path), "", "", path) for path in paths], size)
    if faulty:
        raise InputError(
            f"chip {faulty[0].chip_path} cannot be used: {faulty[0].reason} ({len(faulty)} of {len(paths)} such); "
            f"{remedy}"
        )


@dataclass(frozen=True)
class _Chips:
    """Rows of a side that are embedded: (species, annotation_id) and the chip of each."""

    rows: tuple[tuple[str, str], ...]
    paths: tuple[Path, ...]


def _chips(side: Sequence[StoredSide], *, background: bool) -> _Chips:
    found = [
        ((one.side.species, name), path)
        for one in side
        for name, path in zip(one.side.annotation_ids, one.backgrounds if background else one.chips, strict=True)
        if path is not None
    ]
    return _Chips(tuple(row for row, _ in found), tuple(path for _, path in found))


def _embed(chips: _Chips, runtime: TorchRuntime, target: Path, lease: Lease, *, label: str) -> None:
    """Write the vectors of some chips; those of an attempt that was stopped are kept."""
    if not chips.rows or has_vectors(target, chips.rows, weights_hash=runtime.weights_hash):
        return

    def read() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(chips.paths), runtime.batch):
            yield np.stack([_read(path) for path in chips.paths[start : start + runtime.batch]])

    with bar(f"embed {label}", len(chips.rows)) as running, freed_memory_kept():

        def blocks() -> Iterator[NDArray[np.float16]]:
            for pixels in ahead(read(), READ_AHEAD):
                lease.require_held()
                yield runtime.embed_chips(pixels)
                running.advance(len(pixels))

        write_vectors(target, chips.rows, blocks(), dim=runtime.config.dim, weights_hash=runtime.weights_hash)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        chip: NDArray[np.uint8] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ResightError(f"chip {path} could be used before and cannot now ({error}); run the plan again") from None
    return chip


def _device(asked: str | None) -> str:
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise InputError("device cuda: this machine has no GPU that torch can use; leave the device out, or say cpu")
    return asked or ("cuda" if there else "cpu")


def _name_of(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "the CPU"


def main(arguments: Sequence[str] | None = None) -> int:
    """Work from a shell; gives the exit code: 1 where units failed, 2 for wrong input."""
    parser = argparse.ArgumentParser(
        prog="python -m resight.experiments.worker", description="One worker of an experiment."
    )
    parser.add_argument("plan", type=Path, metavar="PLAN", help="PROJECT/experiments/plans/NAME.json")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: an accelerator where there is one")
    parser.add_argument("--no-wait", action="store_true", help="leave when all that is left is others' work")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("resight").setLevel(logging.INFO)
    before = signal.signal(signal.SIGTERM, _stop)  # what a cluster sends when the time is up
    try:
        plan = given.plan.resolve()
        if plan.parent.name != "plans" or plan.suffix != ".json":
            raise InputError(f"{given.plan} is no plan: name PROJECT/experiments/plans/NAME.json")
        outcome = work(
            ExperimentsFolder(plan.parent.parent),
            plan.stem,
            device=given.device,
            on_unit=_tell,
            wait=not given.no_wait,
        )
    except ResightError as error:
        logger.error("%s", error)
        return error.exit_code
    except OSError as error:
        logger.error("%s: %s; see to the disk and its permissions", error.filename or "a file", error.strerror or error)
        return 1
    except KeyboardInterrupt:
        logger.error("stopped; what was finished is kept, and the next worker goes on with the rest")
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    counts = Counter(report.state for report in outcome.reports)
    logger.info("%s", ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "an empty plan")
    return 1 if outcome.failed else 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(report: UnitReport) -> None:
    sys.stdout.write(f"{report.line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
