"""How much does it help to have more photos of each individual in the catalogue? (Paper, Figure 3.)"""

from __future__ import annotations

import statistics

from resight.experiments.answer import METHOD, Answer, Model, beyond, by_size
from resight.experiments.figures import Line, curves
from resight.experiments.gallery import DRAWS, SIZES, GalleryCurve, gallery_size
from resight.experiments.given import JOINT, Given, at_hand
from resight.experiments.plan import Asked, RunSpec
from resight.experiments.results import Results
from resight.experiments.tables import Column, Table, shown
from resight.progress import track

QUESTION = "How much does it help to have more photos of each individual in the gallery?"

_METHOD = (
    f"At each size the gallery holds at most so many annotations of an identity, drawn at random {DRAWS} times; an "
    "identity with fewer keeps all. Every test annotation is a query; its own encounter is never in its gallery. Mean "
    "and deviation are over draws and seeds of each species, and over species.",
)


def runs(given: Given, asked: Asked) -> tuple[RunSpec, ...]:
    """The joint model, or the models that are named."""
    if not asked.models:
        return tuple(given.joint(split) for split in given.splits)
    return tuple(
        RunSpec(at_hand(model), split.name, split.seed, given.species, model=model)
        for split in given.splits
        for model in dict.fromkeys(asked.models)
    )


def answer(given: Given, asked: Asked, results: Results) -> Answer:
    """Top-1 and top-5 by the size of the gallery, of each species and in the mean of all."""
    models = tuple(Model.of("model", name, at_hand(name)) for name in dict.fromkeys(asked.models)) or (
        Model.of("model", JOINT, JOINT),
    )
    labels = tuple(model.title for model in models)
    rows: list[dict[str, object]] = []
    lines: list[Line] = []
    findings: list[str] = []
    for model in models:
        label = model.title
        of_species = {
            species: found for species in by_size(given) if (found := _curves(results, model.label(species), species))
        }
        for rank in ("top1", "top5"):
            means: list[list[float]] = []  # species by species, a value a size
            for species, curves_found in of_species.items():
                mean, deviation = _over_draws(curves_found, rank)
                means.append(mean)
                for size, value, spread in zip(SIZES, mean, deviation, strict=True):
                    rows.append({"model": label, "species": species, "measure": _name(rank), "size": size,
                                 "mean": value, "deviation": spread})  # fmt: skip
                lines.append(Line(_series(label, labels, rank), SIZES, mean, *_band(mean, deviation), panel=species))
            if means:
                across = [list(values) for values in zip(*means, strict=True)]
                mean = [statistics.fmean(values) for values in across]
                deviation = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in across]
                for size, value, spread in zip(SIZES, mean, deviation, strict=True):
                    rows.append({"model": label, "species": "mean of species", "measure": _name(rank), "size": size,
                                 "mean": value, "deviation": spread})  # fmt: skip
                lines.append(
                    Line(_series(label, labels, rank), SIZES, mean, *_band(mean, deviation), panel="mean of species")
                )
                findings.append(
                    f"{label}: {_name(rank)} goes from {shown(mean[0])} % with one annotation of each identity in the "
                    f"gallery to {shown(mean[-1])} % with at most {SIZES[-1]}, in the mean of {len(means)} species."
                )
    if asked.models:
        findings += [f"{name}: {reason}, perhaps on these very photos." for name, reason in sorted(asked.seen.items())]
    table = Table(
        "gallery-size",
        "Accuracy by the number of annotations of an identity in the gallery",
        (
            Column("model", "Model"),
            Column("species", "Species"),
            Column("measure", "Measure"),
            Column("size", "At most", "annotations an identity", digits=0),
            Column("mean", "Mean", "%"),
            Column("deviation", "Standard deviation", "points"),
        ),
        rows,
        "The deviation is over draws and seeds; in the rows of the mean, over species.",
    )
    ordered = sorted(lines, key=lambda line: line.panel != "mean of species")
    return Answer(
        (*METHOD, *_METHOD),
        tuple(findings),
        (table, beyond(given, results, models)),
        (
            curves(
                "curves",
                "Accuracy by the size of the gallery",
                ordered,
                x="annotations an identity in the gallery, at most",
                y="accuracy",
                caption="Bands are one standard deviation wide on either side. At the largest size a query's own "
                "identity has one annotation fewer than the others, since the query itself is none of them.",
            ),
        ),
    )


def _curves(results: Results, label: str, species: str) -> list[GalleryCurve]:
    found = []
    for seed in track(results.seeds, f"galleries of {species}", len(results.seeds)):
        stored = results.vectors(label, species, seed)
        if stored is not None:
            curve = gallery_size(*stored, seed=seed)
            if curve.queries:
                found.append(curve)
    return found


def _over_draws(found: list[GalleryCurve], rank: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of one species at each size, over all draws of all seeds."""
    values = [
        [float(value) for curve in found for value in getattr(curve, f"{rank}_by_draw")[place]]
        for place in range(len(SIZES))
    ]
    return [statistics.fmean(one) for one in values], [statistics.stdev(one) if len(one) > 1 else 0.0 for one in values]


def _band(mean: list[float], deviation: list[float]) -> tuple[list[float], list[float]]:
    both = list(zip(mean, deviation, strict=True))
    return [max(0.0, at - by) for at, by in both], [min(100.0, at + by) for at, by in both]


def _series(label: str, labels: tuple[str, ...], rank: str) -> str:
    return _name(rank) if len(labels) == 1 else f"{_name(rank)}, {label}"


def _name(rank: str) -> str:
    return f"top-{rank.removeprefix('top')}"
