"""All of the paper's questions at once, on what the catalogue holds, with every printed number beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from resight.catalogue.policy import animal_of
from resight.experiments import (
    backbones,
    bootstrap,
    finetune,
    gallery_size,
    leave_one_out,
    multi_vs_single,
    zero_shot,
)
from resight.experiments.answer import METHOD, Answer
from resight.experiments.given import Given
from resight.experiments.paper import disagreements, table4
from resight.experiments.plan import Asked, LeftOut, RunSpec
from resight.experiments.reproduce import reproduction_plan
from resight.experiments.results import Results
from resight.experiments.tables import Column, Table

QUESTION = "What of the paper holds on this catalogue?"


@dataclass(frozen=True)
class _Part:
    name: str
    runs: Callable[[Given, Asked], tuple[RunSpec, ...]]
    answer: Callable[[Given, Asked, Results], Answer]
    asked: Asked


def runs(given: Given, asked: Asked) -> tuple[RunSpec, ...]:
    """The runs of all parts; one that several parts need is there once."""
    found: dict[tuple[str, int], RunSpec] = {}
    for part in _parts(given, asked):
        for run in part.runs(given, part.asked):
            found.setdefault((run.label, run.seed), run)
    return tuple(found.values())


def left_out(given: Given, asked: Asked) -> tuple[LeftOut, ...]:
    """Parts that need something that was not named or is not there."""
    missing = []
    if not asked.models:
        missing.append(LeftOut("zero-shot (§5.3, Table 3)", "name ready models: --models A,B"))
    if len(set(asked.backbones)) < 2:
        missing.append(LeftOut("backbones (§5.6, Figure 4)", "name two timm models: --backbones A,B"))
    if not _several_animals(given):
        several = "leave-one-out, bootstrap and finetune (§5.2, §5.4, §5.5)"
        if len(given.species) < 2:
            several = f"multi-vs-single (§5.1), {several}"
        missing.append(LeftOut(several, f"they need two species, and there is {', '.join(given.species)} only"))
    elif not _targets(given, asked):
        smallest = min((number for number in asked.individuals if number > 0), default=0)
        missing.append(
            LeftOut("bootstrap and finetune (§5.4, §5.5)", f"no species has {smallest} individuals in training")
        )
    return (*missing, *bootstrap.left_out(given, replace(asked, species=_targets(given, asked))))


def answer(given: Given, asked: Asked, results: Results) -> Answer:
    """The answers of all parts, one after the other, behind a table of every number that the paper prints too."""
    answers = {part.name: part.answer(given, part.asked, results) for part in _parts(given, asked)}
    tables = [
        replace(table, name=name if table.name == name else f"{name}-{table.name}", title=f"{name}: {table.title}")
        for name, one in answers.items()
        for table in one.tables
    ]
    figures = [
        replace(figure, name=f"{name}-{figure.name}", title=f"{name}: {figure.title}")
        for name, one in answers.items()
        for figure in one.figures
    ]
    method = tuple(dict.fromkeys(paragraph for one in answers.values() for paragraph in one.method))
    return Answer(
        method or METHOD,
        tuple(f"{name}: {sentence}" for name, one in answers.items() for sentence in one.findings),
        (_beside(tables), *tables, reproduction_plan(given.species), disagreements()),
        tuple(figures),
    )


def _parts(given: Given, asked: Asked) -> Iterator[_Part]:
    if len(given.species) > 1:
        yield _Part("multi-vs-single", multi_vs_single.runs, multi_vs_single.answer, asked)
    if _several_animals(given):
        yield _Part("leave-one-out", leave_one_out.runs, leave_one_out.answer, asked)
    if asked.models and any(asked.allow_seen or name not in asked.seen for name in given.species):
        yield _Part("zero-shot", zero_shot.runs, zero_shot.answer, asked)
    if targets := _targets(given, asked):
        chosen = replace(asked, species=targets)
        yield _Part("bootstrap", bootstrap.runs, bootstrap.answer, chosen)
        yield _Part("finetune", finetune.runs, finetune.answer, chosen)
    yield _Part("gallery-size", gallery_size.runs, gallery_size.answer, replace(asked, models=()))
    if len(set(asked.backbones)) > 1:
        yield _Part("backbones", backbones.runs, backbones.answer, asked)


def _several_animals(given: Given) -> bool:
    return len({animal_of(name) for name in given.species}) > 1


def _targets(given: Given, asked: Asked) -> tuple[str, ...]:
    """The species of the paper's Table 4 that are here, else the one with the most individuals."""
    if not _several_animals(given):
        return ()
    fitting = [name for name in given.species if any(number > 0 for number in given.sizes(name, asked.individuals)[0])]
    printed = tuple(name for name in fitting if table4(name))
    most = sorted(fitting, key=lambda name: -min(len(split.species[name].train) for split in given.splits))
    return printed or tuple(most[:1])


def _beside(tables: list[Table]) -> Table:
    """Every number of ours that has a printed one beside it."""
    rows = []
    for table in tables:
        titles = {column.key: column.title for column in table.columns}
        for row in table.rows:
            for key, printed in row.items():
                if not key.endswith("_paper") or printed is None:
                    continue
                ours = key.removesuffix("_paper")
                rows.append({"table": table.name, "species": row["species"], "individuals": row.get("individuals"),
                             "figure": titles[ours], "ours": row[ours], "paper": printed})  # fmt: skip
    return Table(
        "beside-the-paper",
        "Numbers that the paper prints, and ours",
        (
            Column("table", "Experiment"),
            Column("species", "Species"),
            Column("individuals", "Individuals in training", digits=0),
            Column("figure", "Figure"),
            Column("ours", "Here", "%"),
            Column("paper", "Paper", "%"),
        ),
        rows,
        "An orientation, no comparison: split, boxes, picture size, backbone and the other species in training differ.",
    )
