"""Is one model for all species better than one each? (Paper §5.1, Table 2, Figures 1 and 5 to 8.)"""

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
    gains_of,
    main_columns,
    main_rows,
    series,
    summary,
    told,
)
from resight.experiments.figures import dots_or_bars, gains, topk_panels
from resight.experiments.given import JOINT, Given, only
from resight.experiments.plan import Asked, RunSpec
from resight.experiments.reproduce import beside_paper
from resight.experiments.results import Results
from resight.experiments.tables import Table

QUESTION = "Is one model for all species better than one for each?"


def runs(given: Given, asked: Asked) -> tuple[RunSpec, ...]:
    """The joint model and a model for each species, a seed at a time."""
    given.require_several("multi-vs-single")
    return tuple(
        run
        for split in given.splits
        for run in (given.joint(split), *(given.only(split, species) for species in given.species))
    )


def answer(given: Given, asked: Asked, results: Results) -> Answer:
    """Table 2 without its middle column; gains with intervals, and against the size of the training set."""
    joint = Model.of("multi", "joint model", JOINT)
    single = Model("single", "single-species model", only)
    compared = compare(given, results, joint, single)
    table = Table(
        "multi-vs-single",
        "One model for all species against one for each",
        main_columns((joint, single), (compared,)),
        main_rows(given, results, (joint, single), (compared,)),
    )
    table = beside_paper(table, {"multi_top1": "table2.multi_species", "single_top1": "table2.single_species"})
    species = by_size(given)
    counts = annotations_of(given, species)
    both = [series(given, results, model, species) for model in (joint, single)]
    return Answer(
        METHOD,
        told(compared),
        (table, summary((compared,)), beyond(given, results, (joint, single))),
        (
            dots_or_bars("top1", "Top-1 of the joint model and of single-species models", species, counts, both),
            gains("gains", "Gain of the joint model against the size of the training set", gains_of(given, compared)),
            topk_panels(
                "top-k",
                "Top-1, 5, 10 and 20 of the joint model and of single-species models",
                species,
                counts,
                {f"top-{rank[3:]}": [series(given, results, model, species, rank) for model in (joint, single)]
                 for rank in RANKS},
            ),
        ),
    )  # fmt: skip
