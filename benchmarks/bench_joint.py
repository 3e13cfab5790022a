"""One model for several species against a model for each: top-1 on each species, over several splits.

    python benchmarks/bench_joint.py PROJECT --species nyala,holstein_cow+face,holstein_cow+top --splits s0,s1,s2
        [--recipe tuned] [--set image_size=128 …] [--prefix joint] [--out joint.csv]

Trains the recipe on all the species together (``joint``), on each alone for as many epochs (``epochs``), and on each
alone for as many steps as the joint model took (``steps``). Finished runs are not trained again. Exits 1 where the
joint model is lower than the model of equal epochs on a species' mean, or not higher on the mean of species.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import resight
from resight.training.checkpoint import read_run_config


def top1(
    project: resight.Project, run: str, split: str, species: list[str], recipe: str, settings: dict[str, str]
) -> dict[str, float]:
    """Train the run unless it is there, and score it: species → top-1 in percent."""
    folder = project.runs_folder / run
    if not (folder / "model").exists():
        project.train(
            run,
            split=split,
            recipe=recipe,
            settings=settings,
            species=species,
            resume=(folder / "config.json").exists(),
        )
    result = project.evaluate(split=split, model=run, species=species)
    return {one.species: one.figures.top1 or 0.0 for one in result.species}


def main() -> int:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--species", required=True)
    parser.add_argument("--splits", default="s0,s1,s2")
    parser.add_argument("--recipe", default="tuned")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--prefix", default="joint")
    parser.add_argument("--out", type=Path, default=Path("joint.csv"))
    arguments = parser.parse_args()
    project = resight.open(arguments.project)
    species = arguments.species.split(",")
    common = {"backbone": "tf_efficientnet_lite0", **dict(pair.split("=", 1) for pair in arguments.set)}
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rows = []
    for split in arguments.splits.split(","):
        run = f"{arguments.prefix}-all-{split}"
        of_way = {"joint": top1(project, run, split, species, arguments.recipe, common)}
        joint = read_run_config(project.runs_folder / run)
        for way in ("epochs", "steps"):
            of_way[way] = {}
            for name in species:
                counts = sum(
                    one["annotations"] for one in joint["classes"] if one["species"] == name and not one["mirrored"]
                )
                factor = joint["samples"]["annotations"] / counts if way == "steps" else 1.0
                epochs = round(joint["recipe"]["epochs"] * factor)
                alone = f"{arguments.prefix}-{name.replace('+', '-')}-{way}-{split}"
                settings = {**common, "epochs": str(epochs)}
                of_way[way] |= top1(project, alone, split, [name], arguments.recipe, settings)
                print(json.dumps({"split": split, "way": way, "species": name, "epochs": epochs}), flush=True)
        for way, result in of_way.items():
            for name, value in result.items():
                figures[way][name].append(value)
                rows.append((split, way, name, round(value, 2)))
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("split", "way", "species", "top1"), *rows])
    means = {way: {name: statistics.mean(values) for name, values in of.items()} for way, of in figures.items()}
    print("| model | " + " | ".join(species) + " | mean of species |")
    print("|---" * (len(species) + 2) + "|")
    for way, of in means.items():
        print(
            f"| {way} | "
            + " | ".join(f"{of[name]:.1f}" for name in species)
            + f" | {statistics.mean(of.values()):.1f} |"
        )
    lower = [name for name in species if means["joint"][name] < means["epochs"][name]]
    return int(bool(lower) or statistics.mean(means["joint"].values()) <= statistics.mean(means["epochs"].values()))


if __name__ == "__main__":
    sys.exit(main())
