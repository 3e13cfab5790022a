"""Search for better settings of a recipe: many runs, each scored on photos held out from its training side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from resight.catalogue.store import TEST, StoredSplit
from resight.errors import InputError, TrainingError
from resight.progress import bar
from resight.training.chipset import TrainingSample
from resight.training.loop import Job
from resight.training.presets import PRESETS
from resight.training.recipe import Recipe
from resight.training.study import BEST_FILE, Best, StudyFolder, Trial, best_of

VALIDATION_SHARE = 0.25  # where the recipe holds nothing out
MOST_FAILURES = 3  # in a row, and the fault is not the settings'


@dataclass(frozen=True)
class TuneResult:
    """What is known after a search.

    Attributes:
        name: Of the study, and of the recipe it found.
        path: ``best.toml``, the recipe as a table of ``resight.toml``; ``train --recipe NAME`` knows it as it is.
        best: The trial with the highest value; of equals the first.
        as_it_is: Value of the recipe without changes; ``None`` where it failed.
        searched: Keys of what was searched.
        trials: All of them, in order.
        leaks: What the choice has seen of the split's test side; ``None``: nothing.
        held_out: Annotations that each trial is scored on.
    """

    name: str
    path: Path
    best: Best
    as_it_is: float | None
    searched: tuple[str, ...]
    trials: tuple[Trial, ...]
    leaks: str | None
    held_out: int


def held_out_share(recipe: Recipe, split: str, validate_on: str | None) -> float | None:
    """The ``validation_share`` that trials need: the recipe's or 0.25 inside the split, none on another split's sides.

    Args:
        recipe: With the user's settings.
        split: The one that the settings are for.
        validate_on: The split that is tuned in, if it is another.

    Raises:
        InputError: the other split is the same one, or the recipe has a share besides it.
    """
    if validate_on is None:
        return recipe.validation_share or VALIDATION_SHARE
    if validate_on == split:
        raise InputError(
            f"--validate-on {validate_on!r} is the split itself, and its test side would be tuned on: name a split of "
            "another seed, or leave the option out to validate inside the training side"
        )
    if recipe.validation_share is not None:
        raise InputError(
            f"validation_share is {recipe.validation_share:g} and --validate-on {validate_on!r} scores the test side "
            "of that split: set validation_share=none, or leave out --validate-on"
        )
    return None


def leak(split: StoredSplit, other: str, trained: Sequence[TrainingSample], scored: Sequence[TrainingSample]) -> str:
    """Say how much of a split's test side is looked at by tuning in another split, as the paper did (§3.3).

    Args:
        split: Whose test side should be unseen.
        other: Name of the split that is tuned in.
        trained: What trials train on there, with the identities it was frozen with.
        scored: What they are scored on, likewise.
    """
    species = {one.species for one in (*trained, *scored)}
    test = {key for key, subset in split.subset.items() if subset == TEST and split.species[key] in species}
    in_training = len(test & {one.annotation_id for one in trained})
    in_scoring = len(test & {one.annotation_id for one in scored})
    identities = {(split.species[key], split.identity[key]) for key in test}
    met = identities & {(one.species, one.identity) for one in (*trained, *scored)}
    return (
        f"the settings were chosen in split {other!r}, which trains on {in_training:,} and scores {in_scoring:,} of "
        f"the {len(test):,} test annotations of split {split.name!r} and holds {len(met):,} of their "
        f"{len(identities):,} identities: a score on {split.name!r} with these settings is not of unseen photos alone"
    )


def check_name(name: str, recipe: Recipe) -> None:
    """Refuse a name that its recipe could not be called by.

    Raises:
        InputError: a preset or the recipe that is tuned has it.
    """
    if name == recipe.name or name in {one.name for one in PRESETS}:
        raise InputError(f"--name {name!r} is the name of a recipe already: name what is found otherwise")


def require_optuna() -> None:
    """Refuse to go on without Optuna.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("optuna") is None:
        raise InputError("tuning needs optuna, which is not installed: pip install 'resight[tune]'")


def tune(job: Job, *, base: Recipe, trials: int, fixed: Collection[str] = (), leaks: str | None = None) -> TuneResult:
    """Search until the study has so many trials, those of earlier calls and of other processes counted.

    Args:
        job: Of each trial; its recipe is where the search begins, its folder the study's.
        base: The named recipe that the job's comes from; ``best.toml`` holds what differs from it.
        trials: In all. Complete, pruned and failed ones count.
        fixed: Settings that are not searched.
        leaks: What the search sees of the test side that the settings are for, in a sentence; see :func:`leak`.

    Raises:
        InputError: Optuna is not installed, nothing to search, or nothing among the held-out photos can be scored.
        ArtefactMismatch: the study was made with something else.
        TrainingError: no trial could be trained, or several in a row could not.
    """
    require_optuna()
    _require_scorable(job.held_out)
    record = StudyFolder(job, base, trials, frozenset(fixed), leaks)
    with record.opened() as study, bar("trials", trials) as running:
        in_a_row = shown = 0
        while (taken := record.take(study)) is not None:
            error = record.run(study, taken)
            in_a_row = 0 if error is None else in_a_row + 1
            if error is not None and in_a_row == MOST_FAILURES:
                raise TrainingError(f"{MOST_FAILURES} trials in a row could not be trained; the last: {error}")
            done = record.finished(study)
            running.advance(done - shown)
            shown = done
        record.write(study)
        return _result(record, record.known(study))


def _result(record: StudyFolder, known: Sequence[Trial]) -> TuneResult:
    best = best_of(known)
    name = record.folder.name
    if best is None:
        problems = [one.problem for one in known if one.problem]
        raise TrainingError(
            f"none of {len(known)} trials of {name!r} is complete"
            + (f"; the last that failed: {problems[-1]}" if problems else ": another process is at them, wait for it")
        )
    return TuneResult(
        name=name,
        path=record.folder / BEST_FILE,
        best=best,
        as_it_is=next((one.value for one in known if one.as_it_is and one.value is not None), None),
        searched=tuple(one.key for one in record.space),
        trials=tuple(known),
        leaks=record.leaks,
        held_out=len(record.job.held_out),
    )


def _require_scorable(samples: Sequence[TrainingSample]) -> None:
    encounters: dict[tuple[str, str], set[str]] = {}
    for one in samples:
        encounters.setdefault((one.species, one.identity), set()).add(one.encounter)
    if not any(len(met) > 1 for met in encounters.values()):
        raise InputError(
            f"none of the {len(samples)} held-out annotations has another of its animal from another encounter, so no "
            "trial could be scored: set a larger validation_share, or name more species"
        )
