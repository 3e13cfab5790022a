"""A study on the disk: which combinations of settings were tried, and what came of them.

``study.db`` is Optuna's record, ``trials/NNNN/`` a run each, ``trials.csv`` the table of them and ``best.toml`` the
recipe that was found. The record is SQLite, since a transaction that a kill breaks off leaves nothing behind, and since
its lock dies with its process, as the lock does that each trial is held by. So several processes on one machine share a
study, and a trial whose lock is free while the record says that it runs is one whose process died.
"""

from __future__ import annotations

import logging
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tomlkit
from filelock import BaseFileLock, FileLock, Timeout

from resight.artefacts import Passport, key_of, write_csv, write_text
from resight.errors import ArtefactMismatch, InputError, TrainingError
from resight.models.library import MODEL_FOLDER
from resight.training.checkpoint import FREE_FIELDS, STATE_FILE, EpochReport
from resight.training.loop import Job, train
from resight.training.presets import flattened
from resight.training.recipe import Recipe, setting_types
from resight.training.space import Parameter, Value, applied, own_values, space_of, suggest
from resight.training.start import key_of_samples

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as RunningTrial

logger = logging.getLogger(__name__)

BEST_FILE, TRIALS_FILE, STUDY_FILE, PASSPORT_FILE = "best.toml", "trials.csv", "study.db", "passport.json"
LAST_EPOCHS = 3  # a trial's value is the mean of so many: a single epoch's score jumps about more
MOST_ATTEMPTS = 3  # of a combination whose process dies each time
_DATABASE_WAIT_S = 120

State = Literal["complete", "pruned", "failed", "stopped", "running"]


@dataclass(frozen=True)
class Trial:
    """One combination of settings.

    Attributes:
        number: From 0.
        as_it_is: Whether these are the recipe's own settings; the first trial has them.
        state: ``pruned`` where it was given up early, ``failed`` where training was not possible with it, ``stopped``
            where its process ended and another trial took its settings over.
        value: Held-out top-1 in percent, the mean over species and the last epochs; ``None`` unless complete.
        settings: As ``--set`` takes them.
        seconds: From start to end; ``None`` while it runs.
        problem: Why it failed.
    """

    number: int
    as_it_is: bool
    state: State
    value: float | None
    settings: Mapping[str, Value]
    seconds: float | None
    problem: str | None


@dataclass(frozen=True)
class Best:
    """The trial that won."""

    trial: int
    value: float
    settings: Mapping[str, Value]


@dataclass(frozen=True)
class Taken:
    """A trial that this process runs; its lock tells the others that it lives."""

    trial: RunningTrial
    settings: Mapping[str, Value]
    lock: BaseFileLock


@dataclass(frozen=True)
class StudyFolder:
    """A study on the disk, and the turns that its processes take in it.

    Attributes:
        job: Of each trial; its recipe is where the search begins, its folder the study's.
        base: The named recipe that the job's comes from.
        trials: How many there shall be.
        fixed: Settings that are not searched.
        leaks: What the search has seen of the test side that the settings are for, in a sentence.
    """

    job: Job
    base: Recipe
    trials: int
    fixed: frozenset[str]
    leaks: str | None

    @property
    def folder(self) -> Path:
        """Its name is the study's."""
        return self.job.run_dir

    @property
    def space(self) -> tuple[Parameter, ...]:
        """What is searched."""
        return space_of(self.job.recipe, self.fixed)

    def turn(self) -> BaseFileLock:
        """One process at a time reads and changes which trials there are."""
        return FileLock(self.folder / ".study.lock")

    @contextmanager
    def opened(self) -> Iterator[Study]:
        """Open the record, or begin it.

        Raises:
            ArtefactMismatch: it was made with something else, or cannot be read.
            InputError: nothing is left to search.
        """
        import optuna
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError

        passport = Passport("tuning", self._decides(), {"leaks": self.leaks, **self.job.origin})
        self.folder.mkdir(parents=True, exist_ok=True)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = None
        try:
            with self.turn():
                there = self.folder / PASSPORT_FILE
                if there.exists():
                    Passport.read(there).require_fit(
                        passport, where=self.folder, remedy="tune under another --name, or delete that folder"
                    )
                try:
                    storage = optuna.storages.RDBStorage(
                        f"sqlite:///{self.folder / STUDY_FILE}",
                        engine_kwargs={"connect_args": {"timeout": _DATABASE_WAIT_S}},
                    )
                    study = optuna.create_study(
                        storage=storage,
                        study_name=self.folder.name,
                        direction="maximize",
                        load_if_exists=True,
                        pruner=optuna.pruners.MedianPruner(n_warmup_steps=max(1, self.job.recipe.epochs // 3)),
                    )
                except (OptunaError, SQLAlchemyError, RuntimeError) as error:
                    raise ArtefactMismatch(
                        f"{self.folder / STUDY_FILE} cannot be read ({str(error).splitlines()[0]}): tune under another "
                        "--name, or delete its folder"
                    ) from None
                if not there.exists():
                    passport.write(there)
                if not study.get_trials(deepcopy=False):
                    study.enqueue_trial(self._own(), user_attrs={"as_it_is": True})
            yield study
        finally:
            optuna.logging.set_verbosity(verbosity)
            if storage is not None:
                storage.remove_session()
                storage.engine.dispose()

    def take(self, study: Study) -> Taken | None:
        """Begin the next trial and hold its lock; ``None`` where there are enough, running ones counted."""
        from optuna.samplers import TPESampler

        with self.turn():
            self._clear_away_the_dead(study)
            running = sum(trial.state.name == "RUNNING" for trial in study.get_trials(deepcopy=False))
            if self.finished(study) + running >= self.trials:
                return None
            # Seeded anew for each trial: a search that was stopped between two goes on as one that was not.
            numbers = np.random.SeedSequence((self.job.recipe.seed, len(study.get_trials(deepcopy=False))))
            study.sampler = TPESampler(seed=int(numbers.generate_state(1)[0]))
            trial = study.ask()
            settings = suggest(trial, self.space, self.job.recipe, self.fixed)
            trial.set_user_attr("settings", settings)
            lock = FileLock(self._lock_path(trial.number))
            lock.acquire()
        return Taken(trial, settings, lock)

    def run(self, study: Study, taken: Taken) -> TrainingError | None:
        """Train with a trial's settings, record what comes of it and let go of its lock.

        Returns:
            Why the trial failed; ``None`` where it did not.

        Raises:
            InputError: it cannot be trained or scored, whatever the settings.
        """
        from optuna import TrialPruned
        from optuna.trial import TrialState

        trial, scores = taken.trial, list[float]()

        def on_epoch(report: EpochReport) -> None:
            if report.validation_top1 is None:
                raise InputError("no held-out photo that can be used has another of its animal; hold out more")
            scores.append(report.validation_top1)
            trial.report(report.validation_top1, report.epoch)
            if report.epoch < self.job.recipe.epochs and trial.should_prune():
                raise TrialPruned

        recipe = applied(self.job.recipe, taken.settings)
        error = None
        try:
            train(replace(self.job, recipe=recipe, run_dir=self._run_dir(trial.number), on_epoch=on_epoch))
            last = scores[-LAST_EPOCHS:]
            study.tell(trial, sum(last) / len(last))
        except TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except TrainingError as problem:
            error = problem
            trial.set_user_attr("problem", str(problem))
            study.tell(trial, state=TrialState.FAIL)
        except BaseException:  # stopped, or wrong for every trial: the settings wait for the next call
            with self.turn():
                self._put_back(study, study.get_trials(deepcopy=False)[trial.number], attempt_more=0)
            raise
        finally:
            taken.lock.release()
            self._lock_path(trial.number).unlink(missing_ok=True)
            shutil.rmtree(self._run_dir(trial.number) / STATE_FILE.parent, ignore_errors=True)
        self.write(study)
        self._tell(study, trial.number)
        return error

    def finished(self, study: Study) -> int:
        """How many trials count: those that ended by themselves."""
        return _finished(self.known(study))

    def known(self, study: Study) -> tuple[Trial, ...]:
        """The trials by number, without those that wait."""
        stored = study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get("again") for trial in stored}
        return tuple(_trial(one, one.number in again) for one in stored if one.state.name != "WAITING")

    def write(self, study: Study) -> None:
        """Bring ``trials.csv`` and ``best.toml`` up to date; of the trials' models the best one's stays."""
        with self.turn():
            found = self.known(study)
            best = best_of(found)
            _write_table(self.folder / TRIALS_FILE, found)
            if best is not None:
                write_text(self.folder / BEST_FILE, self._best_toml(best, found))
            for one in found:
                if one.state == "complete" and best is not None and one.number != best.trial:
                    shutil.rmtree(self._run_dir(one.number) / MODEL_FOLDER, ignore_errors=True)

    def _run_dir(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04}"

    def _lock_path(self, number: int) -> Path:
        return self.folder / f".trial-{number:04}.lock"

    def _own(self) -> dict[str, Value]:
        return own_values(self.job.recipe, self.space)

    def _decides(self) -> dict[str, Any]:
        recipe = {name: value for name, value in self.job.recipe.to_json().items() if name not in FREE_FIELDS}
        origin = {name: self.job.origin.get(name) for name in ("split", "tuned_for", "species")}
        return {
            **origin,
            **{f"recipe.{name}": value for name, value in flattened(recipe).items()},
            "base": self.base.name,
            "fixed": sorted(self.fixed),
            "samples": key_of_samples(self.job.samples),
            "held_out": key_of_samples(self.job.held_out),
            "initial_weights_hash": None if self.job.initial is None else self.job.initial.weights_hash,
            "searched": key_of([[type(one).__name__, asdict(one)] for one in self.space]),
        }

    def _clear_away_the_dead(self, study: Study) -> None:
        """A trial that is said to run and whose lock is free has lost its process: its settings are queued again."""
        for trial in study.get_trials(deepcopy=False):
            if trial.state.name != "RUNNING":
                continue
            path = self._lock_path(trial.number)
            try:
                with FileLock(path, timeout=0):
                    self._put_back(study, trial, attempt_more=1)
            except Timeout:
                continue
            path.unlink(missing_ok=True)
            shutil.rmtree(self._run_dir(trial.number) / STATE_FILE.parent, ignore_errors=True)

    def _put_back(self, study: Study, trial: FrozenTrial, *, attempt_more: int) -> None:
        from optuna.trial import TrialState

        if trial.state.is_finished():  # the interruption came after its end was recorded
            return
        attempt = trial.user_attrs.get("attempt", 1) + attempt_more
        as_it_is = trial.user_attrs.get("as_it_is", False)
        queued = any(one.user_attrs.get("again") == trial.number for one in study.get_trials(deepcopy=False))
        if attempt <= MOST_ATTEMPTS and not queued:  # before the other is told: a kill in between loses nothing
            settings = {**(self._own() if as_it_is else {}), **trial.params}
            study.enqueue_trial(settings, user_attrs={"again": trial.number, "attempt": attempt, "as_it_is": as_it_is})
        study.tell(trial.number, state=TrialState.FAIL)

    def _best_toml(self, best: Best, found: Sequence[Trial]) -> str:
        name = self.folder.name
        done = _finished(found)
        document = tomlkit.document()
        document.add(tomlkit.comment(f"Trial {best.trial} of {done}: {best.value:.2f} % held-out top-1."))
        document.add(tomlkit.comment(f"resight train RUN --recipe {name} knows it as it stands here."))
        if self.leaks is not None:
            document.add(tomlkit.comment(f"Leaks: {self.leaks}."))
        # What is held out is a matter of tuning, not of the recipe that it finds.
        recipe = applied(replace(self.job.recipe, validation_share=self.base.validation_share), best.settings)
        document.add("recipes", tomlkit.item({name: {"base": self.base.name, **_differences(recipe, self.base)}}))
        return tomlkit.dumps(document)

    def _tell(self, study: Study, number: int) -> None:
        found = self.known(study)
        one, best = next(one for one in found if one.number == number), best_of(found)
        value = "" if one.value is None else f", {one.value:.1f} % held out"
        so_far = "" if best is None else f"; best so far {best.value:.1f} %, trial {best.trial}"
        logger.info("trial %d (%d of %d) %s%s%s", number, _finished(found), self.trials, one.state, value, so_far)


def found_recipes(tuning_folder: Path) -> dict[str, dict[str, Any]]:
    """The recipes that the studies of a project have found, in the form of ``[recipes.NAME]``.

    Raises:
        ArtefactMismatch: a ``best.toml`` cannot be read.
    """
    recipes: dict[str, dict[str, Any]] = {}
    for path in sorted(tuning_folder.glob(f"*/{BEST_FILE}")):
        try:
            recipes |= tomllib.loads(path.read_text(encoding="utf-8"))["recipes"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ArtefactMismatch(
                f"{path} cannot be read ({error}): delete it, and run the command that made it again"
            ) from None
    return recipes


def _trial(stored: FrozenTrial, put_back: bool) -> Trial:
    names: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    state = "stopped" if put_back else names[stored.state.name]
    problem = stored.user_attrs.get("problem")
    if state == "failed" and problem is None:
        problem = f"its process was killed, {MOST_ATTEMPTS} times in all"
    return Trial(
        number=stored.number,
        as_it_is=bool(stored.user_attrs.get("as_it_is")),
        state=state,
        value=None if state != "complete" or stored.value is None else round(stored.value, 2),
        settings=stored.user_attrs.get("settings", {}),
        seconds=None if stored.duration is None else round(stored.duration.total_seconds(), 1),
        problem=problem,
    )


def _finished(found: Sequence[Trial]) -> int:
    return sum(one.state in ("complete", "pruned", "failed") for one in found)


def best_of(found: Sequence[Trial]) -> Best | None:
    """The complete trial with the highest value, of equals the first; ``None`` where none is complete."""
    complete = [(one, one.value) for one in found if one.value is not None]
    if not complete:
        return None
    one, value = max(complete, key=lambda pair: (pair[1], -pair[0].number))
    return Best(one.number, value, one.settings)


def _write_table(target: Path, found: Sequence[Trial]) -> None:
    keys = list(dict.fromkeys(key for one in found for key in one.settings))
    rows = (
        [one.number, one.state, one.value, one.seconds, *(_cell(one, key) for key in keys), one.problem]
        for one in found
    )
    write_csv(target, ["number", "state", "value", "seconds", *keys, "problem"], rows)


def _cell(one: Trial, key: str) -> Value:
    """``none`` is off, an empty cell a setting that was not searched."""
    value = one.settings.get(key, "")
    return "none" if value is None else value


def _differences(recipe: Recipe, base: Recipe) -> dict[str, Any]:
    """What differs, as TOML writes it: ``none`` for off, a table for the augmentation."""
    values: dict[str, Any] = {}
    augment: dict[str, Any] = {}
    old, new = flattened(base.to_json()), flattened(recipe.to_json())
    for key in setting_types():
        if new[key] != old[key]:
            into, name = (augment, key.removeprefix("augment.")) if key.startswith("augment.") else (values, key)
            into[name] = "none" if new[key] is None else new[key]
    return {**values, **({"augment": augment} if augment else {})}
