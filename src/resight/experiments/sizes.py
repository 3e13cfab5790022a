"""Answers to questions about the number of individuals: tables and curves over sizes, for bootstrap and finetune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from resight.experiments.answer import METHOD, Answer, Model, beyond, points
from resight.experiments.figures import Line, curves
from resight.experiments.given import Given, nested_individuals, without
from resight.experiments.plan import Asked
from resight.experiments.reproduce import beside_paper
from resight.experiments.results import Results
from resight.experiments.statistics import Difference, difference, estimate
from resight.experiments.tables import Column, Table

_METHOD = (
    "The individuals of a smaller set are among those of every larger one. The test side is the same at every size. At "
    "0 stands the model that was trained on all other species and never saw this one.",
)


@dataclass(frozen=True)
class Way:
    """One way to come to a model with some individuals of the species.

    Attributes:
        key: Of its columns.
        title: For a reader.
        label: Species and number → label of its run; the number is above 0.
        printed: The paper's figure that stands beside it.
        starts_at_zero: Whether the model that never saw the species is its first point.
    """

    key: str
    title: str
    label: Callable[[str, int], str]
    printed: str
    starts_at_zero: bool = True

    def of(self, species: str, number: int) -> str | None:
        """Label of the run at a size; ``None`` where there is none."""
        if number > 0:
            return self.label(species, number)
        return without(species) if self.starts_at_zero else None


def answer_by_size(
    given: Given,
    asked: Asked,
    results: Results,
    *,
    name: str,
    title: str,
    ways: Sequence[Way],
    comparisons: Sequence[tuple[str, str]],
) -> Answer:
    """A row a species and size, differences between ways, and a curve of each.

    Args:
        given: The splits.
        asked: Its species and sizes.
        results: Of the runs.
        name: Of the table.
        title: Of the table.
        ways: In order.
        comparisons: Keys of the way that may gain and of the one it is compared with.
    """
    by_key = {way.key: way for way in ways}
    rows: list[dict[str, Any]] = []
    lines: list[Line] = []
    findings: list[str] = []
    for species in asked.species or ():
        numbers = given.sizes(species, asked.individuals)[0]
        zero = any(results.scores(without(species), species))
        shown_sizes = numbers if 0 in numbers or not zero else (0, *numbers)
        for number in shown_sizes:
            row = {"species": species, "individuals": number, "annotations": _annotations(given, species, number)}
            for way in ways:
                row |= _figures(results, species, way, number)
            for new, old in comparisons:
                found = _difference(results, species, by_key[new], by_key[old], number)
                if found is not None:
                    key = f"{new}_minus_{old}"
                    row |= {key: found.mean, f"{key}_ci95": found.ci95, f"{key}_verdict": found.verdict}
                    findings.append(_told(species, number, by_key[new], by_key[old], found))
            rows.append(row)
        of_species = [row for row in rows if row["species"] == species]
        for way in ways:
            mine = [row for row in of_species if row.get(f"{way.key}_top1") is not None]
            intervals = [row[f"{way.key}_top1_ci95"] for row in mine]
            lines.append(
                Line(
                    way.title,
                    [row["individuals"] for row in mine],
                    [row[f"{way.key}_top1"] for row in mine],
                    [None if one is None else one[0] for one in intervals],
                    [None if one is None else one[1] for one in intervals],
                    panel=species,
                )
            )
    table = Table(name, title, _columns(ways, comparisons, by_key), rows)
    table = beside_paper(table, {f"{way.key}_top1": way.printed for way in ways}, individuals="individuals")
    figure = curves(
        "curves",
        title,
        [line for line in lines if line.x],
        x="individuals of the species in training",
        y="top-1",
        caption="Bands are 95 % intervals.",
    )
    return Answer(
        (*METHOD, *_METHOD),
        tuple(findings),
        (table, beyond(given, results, _models(ways, asked.individuals), tuple(dict.fromkeys(asked.species or ())))),
        (figure,),
    )


def _models(ways: Sequence[Way], numbers: Sequence[int]) -> list[Model]:
    """The model that never saw the species, and those of every way and number; not all of them need be there."""
    sized = [
        Model(way.key, f"{way.title}, {number} individuals", partial(_label, way, number))
        for number in sorted(set(numbers))
        if number > 0
        for way in ways
    ]
    return [Model("never", "never saw the species", without), *sized]


def _label(way: Way, number: int, species: str) -> str:
    return way.label(species, number)


def _columns(ways: Sequence[Way], comparisons: Sequence[tuple[str, str]], by_key: dict[str, Way]) -> tuple[Column, ...]:
    columns = [
        Column("species", "Species"),
        Column("individuals", "Individuals in training", digits=0),
        Column("annotations", "Their annotations", digits=0),
    ]
    for way in ways:
        columns += [
            Column(f"{way.key}_top1", f"Top-1, {way.title}", "%"),
            Column(f"{way.key}_top1_ci95", f"95 % interval, {way.title}", "%", interval=True),
            Column(f"{way.key}_top5", f"Top-5, {way.title}", "%"),
            Column(f"{way.key}_map", f"mAP, {way.title}", "%"),
        ]
    for new, old in comparisons:
        words, key = f"{by_key[new].title} less {by_key[old].title}", f"{new}_minus_{old}"
        columns += [
            Column(key, f"Top-1, {words}", "points"),
            Column(f"{key}_ci95", f"95 % interval, {words}", "points", interval=True),
            Column(f"{key}_verdict", f"Verdict, {words}"),
        ]
    return tuple(columns)


def _figures(results: Results, species: str, way: Way, number: int) -> dict[str, Any]:
    label = way.of(species, number)
    scores = [] if label is None else results.scores(label, species)
    if not any(scores):
        return {}
    top1 = estimate(scores)
    return {
        f"{way.key}_top1": top1.mean,
        f"{way.key}_top1_ci95": top1.ci95,
        f"{way.key}_top5": estimate(scores, "top5").mean,
        f"{way.key}_map": estimate(scores, "map").mean,
    }


def _difference(results: Results, species: str, new: Way, old: Way, number: int) -> Difference | None:
    labels = new.of(species, number), old.of(species, number)
    if number == 0 or labels[0] is None or labels[1] is None:
        return None
    pair = results.pairs(labels[0], labels[1], species)
    return None if pair is None else difference(*pair)


def _annotations(given: Given, species: str, number: int) -> int:
    """Training annotations of the first ``number`` individuals, the mean over splits."""
    counts = [
        sum(split.species[species].train[one] for one in nested_individuals(split, species, number))
        for split in given.splits
    ]
    return round(sum(counts) / len(counts))


def _told(species: str, number: int, new: Way, old: Way, found: Difference) -> str:
    words = {"gain": "a gain", "loss": "a loss"}.get(found.verdict, "no clear difference")
    value = "" if found.mean is None else f" by {points(found.mean)} points"
    return f"{species}, {number} individuals: {new.title} against {old.title}{value}, {words}."
