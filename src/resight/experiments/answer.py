"""What all answers have in common: comparisons of models, the further figures, and words for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resight.experiments.figures import Figure, Gain, Series
from resight.experiments.given import Given
from resight.experiments.plan import Plan
from resight.experiments.prepare import Unit
from resight.experiments.report import Report
from resight.experiments.results import Results
from resight.experiments.scores import Scores
from resight.experiments.statistics import Difference, difference, estimate, macro_difference
from resight.experiments.tables import Column, Table, shown
from resight.version import __version__

RANKS = ("top1", "top5", "top10", "top20")

METHOD = (
    "Every species is scored by itself, one-vs-all: each test photo is a query and all others of the species are the "
    "gallery, but for those of its own encounter (paper, §3.4). Under the paper's protocol the test side has one photo "
    "an encounter, and half of its identities, as nearly as can be had, are on the training side. All models of a seed "
    "share the split, the identities and, where they are trained here, the recipe and the budget.",
    "An interval holds 95 % of what is found when identities are drawn again and again, crossed with the seeds. A "
    "difference is that of the same queries under two models; it is called a gain or a loss only where its interval "
    "leaves 0 out and at least 6 identities changed.",
)


@dataclass(frozen=True)
class Answer:
    """An experiment's answer.

    Attributes:
        method: How it was found, in paragraphs.
        findings: What it says, in sentences.
        tables: The first one is the answer.
        figures: In order.
    """

    method: tuple[str, ...]
    findings: tuple[str, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Model:
    """One of the models that are compared.

    Attributes:
        key: Of its columns.
        title: In headings and sentences.
        label: Species → label of the run that is scored on it.
    """

    key: str
    title: str
    label: Callable[[str], str]

    @classmethod
    def of(cls, key: str, title: str, label: str) -> Model:
        """A model that is one run for all species."""
        return cls(key, title, lambda _: label)


@dataclass(frozen=True)
class Compared:
    """A new model against an old one.

    Attributes:
        new: The model that may gain.
        old: What it is compared with.
        by_species: Species → the difference in top-1; species of which both have scores.
        overall: The mean over species; ``None`` where there are none.
    """

    new: Model
    old: Model
    by_species: Mapping[str, Difference]
    overall: Difference | None


def report_of(plan: Plan, units: Sequence[Unit], answer: Answer, *, warnings: Sequence[str]) -> Report:
    """The answer with all that it was made from."""
    configs: dict[str, dict[str, Any]] = {}
    for unit in units:
        spec = unit.spec
        configs[f"{spec.label}, {spec.split}"] = {
            "key": unit.key,
            "split": spec.split,
            "seed": spec.seed,
            "trained on": list(spec.species),
            "individuals": {name: list(chosen) for name, chosen in spec.individuals.items()},
            "starts from": spec.starts_from,
            "model": spec.model,
            "recipe": None if spec.recipe is None else spec.recipe.to_json(),
        }
    return Report(
        plan.experiment,
        plan.question,
        answer.method,
        answer.findings,
        answer.tables,
        answer.figures,
        configs,
        {"experiment": plan.experiment, "options": dict(plan.options), "runs": [unit.key for unit in units],
         "sides": sorted({key for unit in units for key in unit.sides.values()}), "resight": __version__},
        plan.left_out,
        tuple(warnings),
    )  # fmt: skip


def by_size(given: Given, species: Sequence[str] | None = None) -> list[str]:
    """Species by rising number of training annotations, as the paper's captions have them."""
    return sorted(given.species if species is None else species, key=lambda name: (given.train_annotations(name), name))


def annotations_of(given: Given, species: Sequence[str]) -> list[int]:
    """Training annotations of each species, the mean over seeds."""
    return [round(given.train_annotations(name)) for name in species]


def compare(given: Given, results: Results, new: Model, old: Model) -> Compared:
    """Set two models side by side on every species that both were scored on."""
    pairs = {
        species: pair
        for species in given.species
        if (pair := results.pairs(new.label(species), old.label(species), species)) is not None
    }
    overall = None
    if pairs:
        overall = macro_difference({name: of_new for name, (of_new, _) in pairs.items()},
                                   {name: of_old for name, (_, of_old) in pairs.items()})  # fmt: skip
    return Compared(new, old, {species: difference(*pair) for species, pair in pairs.items()}, overall)


def main_columns(models: Sequence[Model], compared: Sequence[Compared]) -> tuple[Column, ...]:
    """Columns of :func:`main_rows`."""
    columns = [
        Column("species", "Species"),
        Column("train_annotations", "Training annotations", digits=0),
        Column("train_individuals", "Training individuals", digits=0),
        Column("queries", "Queries", digits=0),
        Column("test_identities", "Test identities", digits=0),
    ]
    for model in models:
        columns += [Column(f"{model.key}_{rank}", f"{_rank(rank)}, {model.title}", "%") for rank in RANKS]
        columns.append(Column(f"{model.key}_top1_ci95", f"95 % interval of top-1, {model.title}", "%", interval=True))
    for one in compared:
        title = f"{one.new.title} less {one.old.title}"
        key = f"{one.new.key}_minus_{one.old.key}"
        columns += [
            Column(key, f"Top-1, {title}", "points"),
            Column(f"{key}_ci95", f"95 % interval, {title}", "points", interval=True),
            Column(f"{key}_verdict", f"Verdict, {title}"),
        ]
    return tuple(columns)


def main_rows(
    given: Given, results: Results, models: Sequence[Model], compared: Sequence[Compared]
) -> list[dict[str, Any]]:
    """A row a species, the fewest annotations first."""
    rows = []
    for species in by_size(given):
        sides = [split.species[species] for split in given.splits]
        row: dict[str, Any] = {
            "species": species,
            "train_annotations": round(given.train_annotations(species)),
            "train_individuals": round(sum(len(side.train) for side in sides) / len(sides)),
        }
        for model in models:
            scores = results.scores(model.label(species), species)
            if all(one is None for one in scores):
                continue
            for rank in RANKS:
                found = estimate(scores, rank)
                row[f"{model.key}_{rank}"] = found.mean
                if rank == "top1":
                    row[f"{model.key}_top1_ci95"] = found.ci95
                    row["queries"], row["test_identities"] = found.queries, found.identities
        for one in compared:
            key = f"{one.new.key}_minus_{one.old.key}"
            if (gain := one.by_species.get(species)) is not None:
                row |= {key: gain.mean, f"{key}_ci95": gain.ci95, f"{key}_verdict": gain.verdict}
        rows.append(row)
    return rows


def summary(compared: Sequence[Compared]) -> Table:
    """Mean, least and largest difference of each comparison, and which species lost."""
    rows = []
    for one in compared:
        known = {species: found.mean for species, found in one.by_species.items() if found.mean is not None}
        if not known or one.overall is None:
            continue
        least, most = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
        verdicts = {species: found.verdict for species, found in one.by_species.items()}
        rows.append(
            {
                "comparison": f"{one.new.title} less {one.old.title}",
                "species": len(known),
                "mean": one.overall.mean,
                "mean_ci95": one.overall.ci95,
                "verdict": one.overall.verdict,
                "least": known[least],
                "least_species": least,
                "most": known[most],
                "most_species": most,
                "gained": ", ".join(name for name in known if verdicts[name] == "gain") or "none",
                "lost": ", ".join(name for name in known if verdicts[name] == "loss") or "none",
                "below_zero": ", ".join(name for name in known if known[name] < 0) or "none",
            }
        )
    return Table(
        "summary",
        "Differences in top-1 over species",
        (
            Column("comparison", "Comparison"),
            Column("species", "Species"),
            Column("mean", "Mean", "points"),
            Column("mean_ci95", "95 % interval of the mean", "points", interval=True),
            Column("verdict", "Verdict"),
            Column("least", "Least", "points"),
            Column("least_species", "Of"),
            Column("most", "Most", "points"),
            Column("most_species", "Of"),
            Column("gained", "Clear gain"),
            Column("lost", "Clear loss"),
            Column("below_zero", "Below 0, clear or not"),
        ),
        rows,
    )


def beyond(given: Given, results: Results, models: Sequence[Model], species: Sequence[str] | None = None) -> Table:
    """The figures that the paper does not print, beside the honest top-1; means over seeds.

    Args:
        given: The splits.
        results: Of the runs.
        models: In order.
        species: Only these; ``None``: all.
    """
    columns = (
        Column("species", "Species"),
        Column("model", "Model"),
        Column("top1", "Top-1", "%"),
        Column("top1_seen", "Top-1, individuals on the training side", "%"),
        Column("top1_unseen", "Top-1, other individuals", "%"),
        Column("map", "mAP", "%"),
        Column("top1_encounter", "Top-1, by encounter", "%"),
        Column("top1_single_image", "Top-1, one photo of each individual known", "%"),
        Column("auroc", "AUROC, new individuals", "%"),
        Column("baks", "BAKS", "%"),
        Column("baus", "BAUS", "%"),
        Column("open_set", "√(BAKS · BAUS)", "%"),
        Column("top1_chance", "Top-1 by chance", "%"),
        Column("top1_leaky", "Leak probe: same encounter allowed", "%"),
        Column("queries_leaky", "Queries with another photo of their encounter", digits=0),
        Column("top1_background", "Leak probe: background alone", "%"),
        Column("top1_same_queries", "Top-1 of the same queries", "%"),
    )
    rows = []
    for name in by_size(given, species):
        for model in models:
            there = [one for one in results.scores(model.label(name), name) if one is not None]
            if there:
                figures = {column.key: _mean(there, column.key) for column in columns[2:]}
                if not figures["queries_leaky"]:  # without a further photo of an encounter the probe shows nothing
                    figures["top1_leaky"] = None
                rows.append({"species": name, "model": model.title, **figures})
    return Table(
        "beyond-the-paper",
        "Encounters, new individuals, and what a leak would show",
        columns,
        rows,
        "The training side is the split's: a model that was not trained on the species, or on some of its individuals "
        "only, has not seen all of them. Leak probes are no results: the first lets photos of the query's own "
        "encounter into the gallery, the second sees nothing but what surrounds the animal: its outline is painted "
        "over (the shape remains), or else its box. Both stand beside the honest top-1 to show how much a careless "
        "test would flatter; the second is to be compared with the top-1 of the same queries, and with chance. "
        "Definitions: docs/experiments.md.",
    )


def series(given: Given, results: Results, model: Model, species: Sequence[str], figure: str = "top1") -> Series:
    """One model's figure of each species, with intervals."""
    found = [
        None if all(one is None for one in scores) else estimate(scores, figure)
        for scores in (results.scores(model.label(name), name) for name in species)
    ]
    return Series(
        model.title,
        [None if one is None else one.mean for one in found],
        [None if one is None else one.ci95 for one in found],
    )


def gains_of(given: Given, compared: Compared) -> list[Gain]:
    """The points of the figure of gains."""
    return [
        Gain(species, round(given.train_annotations(species)), found.mean, found.ci95, found.verdict)
        for species, found in compared.by_species.items()
        if found.mean is not None and found.verdict != "not compared"
    ]


def told(compared: Compared) -> tuple[str, ...]:
    """What a comparison says, in sentences."""
    overall = compared.overall
    if overall is None or overall.mean is None:
        return (f"{compared.new.title} and {compared.old.title} were not both scored on any species.",)
    total = sum(found.mean is not None for found in compared.by_species.values())
    sentences = [
        f"{compared.new.title} less {compared.old.title}: {points(overall.mean)} points of top-1 in the mean "
        f"of {total} species{_interval(overall.ci95)}; {_verdict_words(overall)}."
    ]
    if overall.resampled == "identities":
        sentences.append("There is one seed: the intervals say nothing of what another split or start would give.")
    for verdict, words in (("gain", "a clear gain"), ("loss", "a clear loss")):
        names = [name for name, found in compared.by_species.items() if found.verdict == verdict]
        if names:
            sentences.append(f"{words[0].upper()}{words[1:]} on {len(names)} of {total} species: {', '.join(names)}.")
    unclear = [name for name, found in compared.by_species.items() if found.verdict == "no clear difference"]
    if unclear:
        sentences.append(f"No clear difference on {len(unclear)} of {total} species: {', '.join(unclear)}.")
    return tuple(sentences)


def points(value: float) -> str:
    """A difference with its sign; with a second decimal where the first would show 0."""
    return ("+" if value > 0 else "") + shown(float(value), 2 if 0 < abs(value) < 0.05 else 1)


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f" (95 % interval {points(ends[0])} to {points(ends[1])})"


def _verdict_words(found: Difference) -> str:
    return {"gain": "a gain", "loss": "a loss"}.get(found.verdict, "no clear difference")


def _rank(rank: str) -> str:
    return f"Top-{rank.removeprefix('top')}"


def _mean(scores: Sequence[Scores], figure: str) -> float | None:
    values = [value for one in scores if (value := getattr(one, figure)) is not None]
    return float(sum(values) / len(values)) if values else None
