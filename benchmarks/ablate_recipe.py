"""Which ingredients of a training recipe pay: one change at a time, over several splits, paired by split.

    python benchmarks/ablate_recipe.py PROJECT --splits s0,s1,s2 [--variants base,mirror-new,…] [--species nyala]
        [--recipe tuned] [--set image_size=256 …] [--prefix full] [--out results.csv]
    python benchmarks/ablate_recipe.py PROJECT --table [--base paper]

The project holds the datasets and the frozen splits. Every variant is trained on the training side of each split, all
species together, and scored on each species' test side. A variant that bears a recipe's name is that whole recipe, with
the backbone, chips and epochs of the others; the paper's warm-up keeps its half of the epochs. What is finished is not
trained again, so a stopped ablation goes on, and several processes may share the work. The table gives each variant's
mean top-1 and its mean difference to ``--base`` on the same splits, with the standard error of that difference.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import resight
from resight.errors import InputError

# What all variants have in common: small enough for a CPU.
COMMON = {"image_size": "128", "epochs": "15"}

VARIANTS: Mapping[str, Mapping[str, str]] = {
    "base": {},
    "paper": {},
    "paper-as-coded": {},
    "tuned": {},
    "mirror-new": {"mirror": "new"},
    "mirror-same": {"mirror": "same"},
    "mirror-by-species": {"mirror": "by-species"},
    "ema": {"ema_decay": "0.99"},
    "centres-3": {"centres": "3"},
    "centres-by-size": {"centres": "3", "annotations_per_centre": "10"},
    "scale-51.5": {"scale": "51.5"},
    "scale-20": {"scale": "20"},
    "margin-spread": {"margin": "spread"},
    "head-rate-1": {"head_learning_rate_factor": "1"},
    "identities-4": {"sampler": "identities"},
    "species-balanced": {"sampler": "species"},
    "set-aside": {"use_set_aside": "true"},
    "species-head": {"species_weight": "0.2"},
    "gem-2-levels": {"gem_levels": "2"},
    "last-stride-1": {"output_stride": "16"},
    "columns-1": {"gem_columns": "1"},
    "columns-2": {"gem_columns": "2"},
    "columns-4": {"gem_columns": "4"},
    "weight-decay-0.05": {"weight_decay": "0.05"},
    "saturation-1": {"augment.saturation": "1"},
    "strong-augmentation": {
        "augment.shift": "0.15",
        "augment.zoom": "0.3",
        "augment.rotation_deg": "20",
        "augment.stretch": "0.2",
        "augment.shear_deg": "10",
        "augment.erase_probability": "0.5",
        "augment.erase_area": "0.25",
    },
    "no-augmentation": {
        "augment.affine_probability": "0",
        "augment.jitter_probability": "0",
        "augment.erase_probability": "0",
    },
}
WHOLE_RECIPES = ("paper", "paper-as-coded", "tuned")


def main() -> None:
    """Train what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--splits", default="s0,s1,s2")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--recipe", default="tiny", help="that is changed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all variants")
    parser.add_argument("--prefix", default="ablate", help="of the runs' names; one for each set of common settings")
    parser.add_argument("--out", type=Path, default=Path("ablation.csv"))
    parser.add_argument("--species", default=None, help="with commas between; all")
    parser.add_argument("--base", default="base", help="what the table's differences are to")
    parser.add_argument("--table", action="store_true", help="print the table of what is in --out")
    arguments = parser.parse_args()
    if not arguments.table:
        project = resight.open(arguments.project)
        common = COMMON | dict(pair.split("=", 1) for pair in arguments.set)
        for variant in arguments.variants.split(","):
            for split in arguments.splits.split(","):
                measure(project, variant, split, common, arguments)
    print(table(read(arguments.out), arguments.base))


def measure(
    project: resight.Project, variant: str, split: str, common: Mapping[str, str], arguments: argparse.Namespace
) -> None:
    """Train and score one variant on one split, unless that was done or another process is at it."""
    run, out = f"{arguments.prefix}-{variant}-{split}", arguments.out
    if (project.runs_folder / run / "model").exists():
        return
    species = None if arguments.species is None else arguments.species.split(",")
    settings = {**common, **VARIANTS[variant]}
    if variant in WHOLE_RECIPES:
        settings["backbone"] = "tf_efficientnet_lite0"
    if variant.startswith("paper"):
        settings |= {"warmup_epochs": str(int(common["epochs"]) // 2)}
    try:
        trained = project.train(
            run,
            split=split,
            recipe=variant if variant in WHOLE_RECIPES else arguments.recipe,
            settings=settings,
            species=species,
            resume=(project.runs_folder / run / "config.json").exists(),
        )
    except InputError as error:  # such as: another process is at it
        print(f"{run}: {error}", flush=True)
        return
    result = project.evaluate(split=split, model=run, species=species)
    with out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(("variant", "split", "species", "queries", "top1", "top5", "map", "images_per_second"))
        for one in result.species:
            figures = one.figures
            writer.writerow((variant, split, one.species, figures.queries, figures.top1, figures.top5, figures.map,
                             round(trained.train_images_per_second, 1)))  # fmt: skip
    print(run, {one.species: round(one.figures.top1 or 0, 1) for one in result.species}, flush=True)


def read(path: Path) -> dict[str, dict[tuple[str, str], float]]:
    """variant → (split, species) → top-1."""
    top1: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            top1[row["variant"]][row["split"], row["species"]] = float(row["top1"])
    return top1


def table(top1: Mapping[str, Mapping[tuple[str, str], float]], base: str = "base") -> str:
    """Markdown: mean top-1 of each variant on each species, and the paired difference to ``base``."""
    species = sorted({name for rows in top1.values() for _, name in rows})
    lines = ["| variant | splits | " + " | ".join(species) + " | mean of species |", "|---" * (len(species) + 3) + "|"]
    for variant, rows in top1.items():
        splits = sorted({split for split, _ in rows})
        cells = [_cell(rows, top1[base], splits, [name], variant == base) for name in species]
        cells.append(_cell(rows, top1[base], splits, species, variant == base))
        lines.append(f"| {variant} | {len(splits)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(
    rows: Mapping[tuple[str, str], float],
    base: Mapping[tuple[str, str], float],
    splits: Sequence[str],
    species: Sequence[str],
    is_base: bool,
) -> str:
    means = [statistics.mean(rows[split, name] for name in species) for split in splits]
    if is_base:
        return f"{statistics.mean(means):.1f}"
    differences = [
        mean - statistics.mean(base[split, name] for name in species)
        for split, mean in zip(splits, means, strict=True)
        if (split, species[0]) in base
    ]
    difference = f"{statistics.mean(differences):+.1f}"
    if len(differences) > 1:
        difference += f" ± {statistics.stdev(differences) / len(differences) ** 0.5:.1f}"
    return f"{statistics.mean(means):.1f} ({difference})"


if __name__ == "__main__":
    main()
