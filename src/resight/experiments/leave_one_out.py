"""How well does a model do on a species it never saw? (Paper §5.2, Table 2, Figures 2 and 9 to 12.)"""

from __future__ import annotations

from resight.experiments.answer import (
    METHOD,
    RANKS,
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
from resight.experiments.figures import dots_or_bars, topk_panels
from resight.experiments.given import JOINT, Given, without
from resight.experiments.plan import Asked, RunSpec
from resight.experiments.reproduce import beside_paper
from resight.experiments.results import Results
from resight.experiments.tables import Table

QUESTION = "How well does a model do on a species that it never saw?"


def runs(given: Given, asked: Asked) -> tuple[RunSpec, ...]:
    """The joint model and, for each species, one without it."""
    given.require_several("leave-one-out", animals=True)
    return tuple(
        run
        for split in given.splits
        for run in (given.joint(split), *(given.without(split, species) for species in given.species))
    )


def answer(given: Given, asked: Asked, results: Results) -> Answer:
    """Table 2's middle column beside its first."""
    never = Model("leave_one_out", "model that never saw the species", without)
    joint = Model.of("multi", "joint model", JOINT)
    compared = compare(given, results, joint, never)
    table = Table(
        "leave-one-out",
        "A species that the model never saw",
        main_columns((never, joint), (compared,)),
        main_rows(given, results, (never, joint), (compared,)),
    )
    table = beside_paper(table, {"leave_one_out_top1": "table2.leave_one_out", "multi_top1": "table2.multi_species"})
    species = by_size(given)
    counts = annotations_of(given, species)
    return Answer(
        METHOD,
        told(compared),
        (table, summary((compared,)), beyond(given, results, (never, joint))),
        (
            dots_or_bars(
                "top1",
                "Top-1 of a model that never saw the species, and of the joint model",
                species,
                counts,
                [series(given, results, model, species) for model in (never, joint)],
            ),
            topk_panels(
                "top-k",
                "Top-1, 5, 10 and 20 without and with the species in training",
                species,
                counts,
                {f"top-{rank[3:]}": [series(given, results, model, species, rank) for model in (never, joint)]
                 for rank in RANKS},
            ),
        ),
    )  # fmt: skip
