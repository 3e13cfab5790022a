"""The demo: the whole road on a made-up population, from drawn photos to a match sheet and an honest score."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resight.catalogue.intake import ImportOptions
from resight.demo.population import Population, draw_population
from resight.errors import InputError
from resight.evaluation import Evaluation
from resight.models.packaged import IMAGENET_LITE0
from resight.project import Project
from resight.settings import set_viewpoint_policy

SEED = 7
SPLIT, RUN = "demo", "demo-tiny"


@dataclass(frozen=True)
class Scale:
    """How large the demo is.

    Attributes:
        individuals: Of each species whose sides differ, and half of those of the one whose sides do not.
        encounters: Of each identity.
        settings: Changes of the recipe ``tiny``.
    """

    individuals: int = 20
    encounters: int = 5
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DemoSpecies:
    """One made-up species: top-1 in percent, before and after training."""

    species: str
    queries: int
    untrained_top1: float | None
    trained_top1: float | None


@dataclass(frozen=True)
class DemoResult:
    """What the demo did.

    Attributes:
        project: The project that was made; every command works on it.
        sheet: The match sheet.
        species: What training did for each species.
        steps: The lines that were said.
        seconds: How long it took.
    """

    project: str
    sheet: str
    species: tuple[DemoSpecies, ...]
    steps: tuple[str, ...]
    seconds: float


def run_demo(folder: Path, *, say: Callable[[str], None], scale: Scale | None = None) -> DemoResult:
    """Draw a population, then init, import, stats, split, train, evaluate and match.

    Args:
        folder: A new or empty folder.
        say: Takes each line for the user as it comes.
        scale: How large; ``None`` is what ``make demo`` shows.

    Raises:
        InputError: the folder holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty; name a new folder, or remove it")
    scale = scale or Scale()
    started = time.perf_counter()
    steps: list[str] = []

    def step(line: str) -> None:
        steps.append(line)
        say(line)

    step(f"1/8 draw: three made-up species, met in encounters that differ in pose, light and place (seed {SEED})")
    population = draw_population(
        folder / "photos",
        seed=SEED,
        individuals=scale.individuals,
        encounters=scale.encounters,
        workers=os.cpu_count() or 1,
    )
    step(f"2/8 init: {folder / 'project'}")
    project = _init(folder / "project", population)
    _import(project, population, step)
    _count(project, step)
    _split(project, step)
    step("6/8 evaluate the ImageNet model as it comes (one-vs-all, the encounter of the query left out)")
    before = project.evaluate(split=SPLIT, model=IMAGENET_LITE0.name)
    step(f"    top-1: {_top1(before)}")
    step("7/8 train: one small network for all three species (recipe tiny); a line an epoch on standard error")
    run = project.train(RUN, split=SPLIT, settings=scale.settings)
    step(f"    {run.epochs} epochs at {run.train_images_per_second:.0f} images/s, final loss {run.final_loss:.2f}")
    after = project.evaluate(split=SPLIT, model=RUN)
    step(f"    top-1: {_top1(after)}")
    sheet = folder / "sheet.html"
    _match(project, population, sheet, step)
    step(f"the sheet is at {sheet.resolve()}; the project is {project.folder}, every command works on it")
    rows = tuple(
        DemoSpecies(a.species, a.figures.queries, b.figures.top1, a.figures.top1)
        for b, a in zip(before.species, after.species, strict=True)
    )
    return DemoResult(str(project.folder), str(sheet), rows, tuple(steps), round(time.perf_counter() - started, 1))


def _init(folder: Path, population: Population) -> Project:
    """Make the project, and say in its settings what an import cannot know: a fin is the same from both sides."""
    settings = Project.init(folder).settings
    for drawn in population.species:
        settings = set_viewpoint_policy(settings, drawn.species, drawn.policy)
    return Project.open(folder)


def _import(project: Project, population: Population, step: Callable[[str], None]) -> None:
    for drawn in population.species:
        report = project.import_(drawn.path, ImportOptions(source=drawn.path.parent.name))
        step(
            f"3/8 import: {drawn.species} ({drawn.format}): {report.annotations} annotations of "
            f"{report.individuals} individuals in {report.encounters} encounters"
        )


def _count(project: Project, step: Callable[[str], None]) -> None:
    counted = project.stats()
    totals = counted.totals
    policies = ", ".join(f"{row.species} {row.policy}" for row in counted.species)
    step(
        f"4/8 stats: {totals.annotations} annotations, {totals.individuals} individuals, {totals.identities} "
        f"identities; viewpoint policy: {policies}"
    )


def _split(project: Project, step: Callable[[str], None]) -> None:
    for row in project.split(SPLIT, seed=SEED).species:
        step(
            f"5/8 split: {row.species}: {row.train_annotations} annotations of {row.train_individuals} identities to "
            f"train on; {row.test_annotations} of {row.test_individuals} to test with, {row.test_individuals_seen} of "
            "them seen in training"
        )


def _match(project: Project, population: Population, sheet: Path, step: Callable[[str], None]) -> None:
    """Ask about the first species' query photo, which is in no dataset."""
    query = population.species[0].query
    (answer,) = project.match(
        [query.path], species=query.species, viewpoint=query.viewpoint, box=query.box, model=RUN, html=sheet
    )
    names = [named.individual_id for named in answer.individuals]
    place = names.index(query.individual) + 1 if query.individual in names else None
    found = "is not among the names found" if place is None else f"stands at place {place} of the names found"
    excluded = ", ".join(f"{count} {reason}" for reason, count in answer.excluded.items()) or "none"
    step(
        f"8/8 match: a new photo of {query.individual}, compared with {answer.compared} of {answer.of} annotations "
        f"(left out: {excluded}): {query.individual} {found}"
    )


def _top1(result: Evaluation) -> str:
    return ", ".join(
        f"{one.species} {one.figures.top1:.1f} %" if one.figures.top1 is not None else f"{one.species} –"
        for one in result.species
    )
