"""Which ready model does best on species that none of them saw? (Paper §5.3, Table 3.)"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

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
from resight.experiments.figures import dots_or_bars
from resight.experiments.given import Given, at_hand
from resight.experiments.paper import paper_species
from resight.experiments.plan import Asked, LeftOut, RunSpec
from resight.experiments.reproduce import beside_paper
from resight.experiments.results import Results
from resight.experiments.tables import Table
from resight.models.layouts import CARD_FILE, layout_of

QUESTION = "Which ready model does best on species that none of them saw?"

_METHOD = (
    "The models are as they come: each at its own picture size and normalisation, on the same test photos. A species "
    "that a model is known to have been trained on is left out, unless --allow-seen was given.",
)


def runs(given: Given, asked: Asked) -> tuple[RunSpec, ...]:
    """Each model on the test side of every split."""
    if not asked.models:
        raise InputError("zero-shot compares models that are at hand: name them (--models A,B); see resight models")
    species = tuple(name for name in given.species if asked.allow_seen or name not in asked.seen)
    if not species:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(asked.seen.items()))
        raise InputError(f"every species was seen by one of the models ({reasons}): score them all (--allow-seen)")
    return tuple(
        RunSpec(at_hand(model), split.name, split.seed, species, model=model)
        for split in given.splits
        for model in dict.fromkeys(asked.models)
    )


def species_on_card(folder: Path, species: Sequence[str]) -> list[str]:
    """Which species the card of a model's folder names: as people have them here, or as the paper has them.

    A folder without a card names none. MiewID's own models saw the paper's species, whatever their card says.
    """
    card = folder / CARD_FILE
    try:
        text = _plain(card.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        text = ""
    of_miewid = layout_of(folder) == "miewid"

    def is_named(name: str) -> bool:
        of_paper = paper_species(name)
        if of_miewid and of_paper is not None:
            return True
        names = {_plain(name), *(() if of_paper is None else (_plain(of_paper),))}
        return any(re.search(rf"(?<![a-z0-9]){re.escape(one)}(?![a-z0-9])", text) for one in names)

    return [name for name in species if is_named(name)]


def _plain(text: str) -> str:
    """Lower case, and one blank for whatever stands between words."""
    return re.sub(r"[\s_\-\\]+", " ", text.casefold())


def left_out(given: Given, asked: Asked) -> tuple[LeftOut, ...]:
    """Species that a model saw."""
    if asked.allow_seen:
        return ()
    return tuple(LeftOut(name, asked.seen[name]) for name in given.species if name in asked.seen)


def answer(given: Given, asked: Asked, results: Results) -> Answer:
    """Every further model against the first one."""
    first, *others = (
        Model.of(f"model{number}", name, at_hand(name))
        for number, name in enumerate(dict.fromkeys(asked.models), start=1)
    )
    models = (first, *others)
    compared = [compare(given, results, other, first) for other in others]
    table = Table(
        "zero-shot",
        "Ready models on species that they never saw",
        main_columns(models, compared),
        [row for row in main_rows(given, results, models, compared) if "queries" in row],
    )
    printed = {
        f"{model.key}_top1": figure
        for model in models
        for words, figure in (("megadescriptor", "table3.megadescriptor_l_384"), ("miewid", "table3.miewid"))
        if words in model.title.casefold()
    }
    species = [str(row["species"]) for row in table.rows]
    if printed:
        table = beside_paper(table, printed)
    seen_anyway = tuple(
        f"{name} is scored although {reason}." for name, reason in sorted(asked.seen.items()) if asked.allow_seen
    )
    ordered = [name for name in by_size(given) if name in species]
    return Answer(
        (*METHOD, *_METHOD),
        (*(sentence for one in compared for sentence in told(one)), *seen_anyway),
        (table, summary(compared), beyond(given, results, models)),
        (
            dots_or_bars(
                "top1",
                "Top-1 of ready models",
                ordered,
                annotations_of(given, ordered),
                [series(given, results, model, ordered) for model in models],
            ),
        ),
    )
