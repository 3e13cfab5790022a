"""Does another backbone do better under the same recipe? (Paper §5.6, Figure 4.)"""

from __future__ import annotations

from dataclasses import replace

from resight.errors import InputError
from resight.experiments.answer import (
    METHOD,
    Answer,
    Model,
    annotations_of,
    beyond,
    by_size,
    compare,
    main_columns,
    main_rows,
    series,
    summary,
    told,
)
from resight.experiments.figures import pairs
from resight.experiments.given import Given, on_backbone
from resight.experiments.plan import Asked, RunSpec
from resight.experiments.results import Results
from resight.experiments.tables import Table

QUESTION = "Does another backbone do better under the same recipe?"


def runs(given: Given, asked: Asked) -> tuple[RunSpec, ...]:
    """The joint model on each backbone."""
    if len(set(asked.backbones)) < 2:
        raise InputError(
            f"backbones compares at least two timm models, got {', '.join(asked.backbones) or 'none'}: name them "
            "(--backbones A,B)"
        )
    return tuple(
        given.run(
            split,
            on_backbone(backbone),
            given.species,
            tests=given.species,
            recipe=replace(given.recipe, backbone=backbone),
        )
        for split in given.splits
        for backbone in dict.fromkeys(asked.backbones)
    )


def answer(given: Given, asked: Asked, results: Results) -> Answer:
    """Each further backbone against the first one."""
    first, *others = (
        Model.of(f"backbone{number}", backbone, on_backbone(backbone))
        for number, backbone in enumerate(dict.fromkeys(asked.backbones), start=1)
    )
    compared = [compare(given, results, other, first) for other in others]
    models = (first, *others)
    species = by_size(given)
    counts = annotations_of(given, species)
    return Answer(
        METHOD,
        tuple(sentence for one in compared for sentence in told(one)),
        (
            Table(
                "backbones",
                "The same recipe on several backbones",
                main_columns(models, compared),
                main_rows(given, results, models, compared),
            ),
            summary(compared),
            beyond(given, results, models),
        ),
        tuple(
            pairs(
                f"pair-{one.new.key}",
                f"Top-1 of {one.old.title} and {one.new.title}",
                species,
                counts,
                series(given, results, one.old, species),
                series(given, results, one.new, species),
                differences=[
                    found.ci95 if (found := one.by_species.get(name)) is not None else None for name in species
                ],
            )
            for one in compared
        ),
    )
