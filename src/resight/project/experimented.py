"""What a project finds out about itself: the paper's experiments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.artefacts import write_json
from resight.catalogue import store
from resight.catalogue.store import StoredSplit
from resight.errors import InputError, UnknownName
from resight.project.trained import TrainingMethods
from resight.types import Annotation

if TYPE_CHECKING:
    from resight.chips import ChipSet, Failure
    from resight.experiments.folder import ExperimentsFolder
    from resight.experiments.given import Given
    from resight.experiments.plan import Asked, Plan
    from resight.experiments.prepare import Catalogue, Unit
    from resight.training.recipe import Recipe

SPLIT_PREFIX = "experiment"


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment, as ``--dry-run`` shows it.

    Attributes:
        label: What it is.
        split: The split that it is trained and tested on.
        key: Of its folder under ``experiments/runs``.
        state: ``done``, ``waiting``, ``failed`` or ``blocked``.
        training_images: Images that go through the network in training; 0 where nothing is trained.
    """

    label: str
    split: str
    key: str
    state: str
    training_images: int


@dataclass(frozen=True)
class ExperimentResult:
    """What ``resight experiment`` prints.

    Attributes:
        name: The experiment's.
        rows: Of its first table; empty where nothing was carried out.
        report: The page; ``None`` where nothing was carried out.
        runs: All runs of the plan.
        seconds_estimated: How long training will take, or was to take, for what was not done.
        findings: What the tables say, in sentences.
        left_out: What is not answered, and why.
        failed: A line for each run that failed or needs one that did.
        warnings: What the reader should know.
        plan: The plan's file, which workers read.
    """

    name: str
    rows: tuple[Mapping[str, Any], ...]
    report: Path | None
    runs: tuple[PlannedRun, ...]
    seconds_estimated: float
    findings: tuple[str, ...]
    left_out: tuple[Mapping[str, str], ...]
    failed: tuple[str, ...]
    warnings: tuple[str, ...]
    plan: Path


class ExperimentMethods(TrainingMethods):
    """Methods that carry out experiments."""

    def experiment(
        self,
        name: str,
        *,
        asked: Asked | None = None,
        seeds: int = 3,
        splits: Sequence[str] | None = None,
        recipe: str | None = None,
        settings: Mapping[str, str] | None = None,
        backbone: str | None = None,
        budget: str = "epochs",
        background: bool = True,
        dry_run: bool = False,
        plan_only: bool = False,
        device: str | None = None,
    ) -> ExperimentResult:
        """Answer one of the paper's questions on this catalogue.

        Runs that are there from an earlier call or another experiment are not made again.

        Args:
            name: Of the experiment; see :mod:`resight.experiments.questions`.
            asked: What the experiment varies.
            seeds: How many splits, with seeds from 0; they are frozen as ``experiment-0`` and so on.
            splits: Take these frozen splits instead.
            recipe: Of every run; ``None``: as of :meth:`train`.
            settings: Changes of the recipe.
            backbone: Another than the recipe's.
            budget: ``epochs`` or ``steps``, which all runs have alike.
            background: Whether the probe of the background alone is made.
            dry_run: Only show the plan; splits, chips and workers' files that lack are written, and nothing is trained.
            plan_only: Write what workers need, and train nothing.
            device: Such as ``cpu``; ``None``: an accelerator where there is one.

        Raises:
            UnknownName: no such experiment, species, split or recipe.
            InputError: nothing to compare, or an impossible setting.
        """
        from resight.experiments.answer import report_of
        from resight.experiments.estimate import seconds_of
        from resight.experiments.folder import ExperimentsFolder
        from resight.experiments.given import BUDGETS
        from resight.experiments.plan import Asked, Plan
        from resight.experiments.prepare import TooFewPhotos, prepare
        from resight.experiments.questions import EXPERIMENTS
        from resight.experiments.report import write_report
        from resight.experiments.results import Results
        from resight.experiments.worker import work

        if name not in EXPERIMENTS:
            raise UnknownName.among("experiment", name, EXPERIMENTS)
        UnknownName.require("budget", [budget], BUDGETS)
        if splits is None and seeds < 1:
            raise InputError(f"--seeds {seeds}: expected at least 1")
        experiment = EXPERIMENTS[name]
        asked = asked or Asked()
        if asked.species is not None:
            asked = replace(asked, species=tuple(dict.fromkeys(asked.species)))
        chosen = self._recipe(self.runs_folder / name, recipe, {"backbone": backbone} if backbone else {}, settings,
                              None, False)  # fmt: skip
        if chosen.weights == "init" or chosen.validation_share is not None:
            raise InputError(
                f"recipe {chosen.name!r} starts from a model or holds photos back, so that its runs would not be "
                "alike: name another recipe"
            )
        names = list(dict.fromkeys(splits)) if splits is not None else self._experiment_splits(seeds)
        lost: dict[str, Failure] = {}
        given, catalogue, warnings = self._given(
            names, chosen, budget, None if experiment.targets else asked.species, lost, background=background
        )
        asked = replace(asked, seen=self._seen(asked.models, given.species))
        folder = ExperimentsFolder(self.folder / "experiments")
        units = None
        while units is None:
            plan = Plan(
                name,
                experiment.question,
                {**asdict(asked), "splits": names, "budget": budget, "background": background},
                experiment.runs(given, asked),
                (*given.left_out, *experiment.left_out(given, asked)),
            )
            try:
                units = prepare(plan, catalogue, folder)
            except TooFewPhotos as lack:
                given = given.less(lack.species, lack.reason)
        warnings = (*warnings, *_without_chips(lost))
        title = _file_name(name, asked.species if experiment.targets else None)
        file = folder.plan(title)
        if not dry_run:  # workers may be reading the plan that is there
            write_json(file, {"experiment": name, "question": plan.question, "options": plan.options,
                              "units": [unit.as_json() for unit in units]})  # fmt: skip
        seconds = seconds_of(units, folder)
        if dry_run or plan_only:
            return _result(plan, units, folder, seconds, warnings, file)
        outcome = work(folder, title, device=device)
        answer = experiment.answer(given, asked, Results(units, folder))
        failed = (
            *(report.error or report.unit.title for report in outcome.failed),
            *(f"{unit.title}: it starts from a run that failed" for unit in outcome.blocked),
        )
        page = write_report(
            report_of(plan, units, answer, warnings=(*warnings, *failed)), self.reports_folder / f"experiment-{title}"
        )
        return replace(
            _result(plan, units, folder, seconds, warnings, file),
            rows=tuple(answer.tables[0].to_json()["rows"]),
            report=page,
            findings=answer.findings,
            failed=failed,
        )

    def _experiment_splits(self, seeds: int) -> list[str]:
        """The names of the splits of seeds 0 and on, frozen now where they lack."""
        there = {entry["name"] for entry in self.splits()}
        names = [f"{SPLIT_PREFIX}-{seed}" for seed in range(seeds)]
        for seed, name in enumerate(names):
            if name not in there:
                self.split(name, seed=seed)
        return names

    def _given(
        self,
        names: Sequence[str],
        recipe: Recipe,
        budget: Any,
        species: Sequence[str] | None,
        lost: dict[str, Failure],
        *,
        background: bool,
    ) -> tuple[Given, Catalogue, tuple[str, ...]]:
        """What the splits give, and how chips are had; ``lost`` gathers annotations of which there is none."""
        from resight.experiments.given import Given, choose_species, given_split
        from resight.experiments.prepare import Catalogue
        from resight.project.asked import moved_on

        if not names:
            raise InputError("--splits names no split: name at least one")
        with self.database.reading() as connection:
            frozen = {name: store.load_split(connection, name) for name in names}
            annotations = store.list_annotations(connection, self.settings)
            policy_of = store.policies(connection, self.settings)
        _require_seeds_apart(frozen)
        splits = tuple(given_split(frozen[name], annotations, set_aside=recipe.use_set_aside) for name in names)
        chosen, left_out = choose_species(splits, species)

        def cut(wanted: Sequence[Annotation], size: int) -> ChipSet:
            chips = self._chips(wanted, size)
            lost.update({failure.annotation_id: failure for failure in chips.failures})
            return chips

        catalogue = Catalogue(
            splits=frozen,
            annotations=annotations,
            policy_of=policy_of,
            cut=cut,
            cut_background=self._backgrounds if background else None,
            find_model=self._find_model,
        )
        warnings = dict.fromkeys(
            line
            for split in frozen.values()
            for line in (*(f"split {split.name}: {one}" for one in split.report.get("warnings", ())),
                         *moved_on(split, annotations))
        )  # fmt: skip
        return Given(splits, recipe, chosen, budget, left_out), catalogue, tuple(warnings)

    def _backgrounds(self, annotations: Sequence[Annotation], size: int) -> ChipSet:
        """What surrounds the animals, cut where it lacks; an annotation of which it cannot be cut has none."""
        from resight.chips import ChipSpec, make_background_chips

        with self.database.reading() as connection:
            outlines = store.outlines(connection, (a.annotation_id for a in annotations))
        return make_background_chips(
            annotations, outlines, self.settings.image_roots, self.folder / "chips", ChipSpec(size)
        )

    def _seen(self, models: Sequence[str], species: Sequence[str]) -> dict[str, str]:
        """Which of the species a model is known to have been trained on, and how that is known."""
        from resight.catalogue.policy import animal_of
        from resight.evaluation import run_history
        from resight.experiments.zero_shot import species_on_card

        seen: dict[str, str] = {}
        for model in dict.fromkeys(models):
            found = self._find_model(model)
            for run in run_history(found.folder, self.runs_folder):
                trained = {animal_of(entry["species"]) for entry in run.get("classes") or ()}
                for one in (name for name in species if animal_of(name) in trained):
                    seen.setdefault(one, f"{model} was trained on it (run {run.get('run')})")
            if found.folder is not None:
                for one in species_on_card(found.folder, species):
                    seen.setdefault(one, f"the card of {model} lists it")
        return seen


def _file_name(experiment: str, targets: Sequence[str] | None) -> str:
    """Of the plan and the report: the experiment's, and the species that it asks about where it asks about some."""
    return "-".join([experiment, *(re.sub(r"[^A-Za-z0-9+._]+", "_", species) for species in targets or ())])


def _require_seeds_apart(splits: Mapping[str, StoredSplit]) -> None:
    seeds = [split.seed for split in splits.values()]
    if len(set(seeds)) < len(seeds):
        said = ", ".join(f"{name} {split.seed}" for name, split in splits.items())
        raise InputError(f"--splits names splits of the same seed ({said}): name splits of different seeds")


def _without_chips(lost: Mapping[str, Failure]) -> list[str]:
    if not lost:
        return []
    first = next(iter(lost.values()))
    return [
        f"{len(lost):,} annotations are neither trained on nor tested, since their photos cannot be used, such as "
        f"{first.file_name}: {first.message}"
    ]


def _result(
    plan: Plan, units: Sequence[Unit], folder: ExperimentsFolder, seconds: float, warnings: tuple[str, ...], file: Path
) -> ExperimentResult:
    from resight.experiments import folder as shared

    states = folder.states([shared.Unit.from_json(unit.as_json()) for unit in units])
    return ExperimentResult(
        name=plan.experiment,
        rows=(),
        report=None,
        runs=tuple(
            PlannedRun(unit.spec.label, unit.spec.split, unit.key, states[unit.key], unit.training_images)
            for unit in units
        ),
        seconds_estimated=round(seconds, 1),
        findings=(),
        left_out=tuple(asdict(one) for one in plan.left_out),
        failed=(),
        warnings=warnings,
        plan=file,
    )
