"""Whether the demo's made-up population is a real problem: top-1 before and after training, and from backgrounds alone.

Runs the demo as ``make demo`` does, draws the same photos without the animals, and scores the ImageNet model and the
trained one on those as well (same boxes, same split). Chance is the mean over queries of the share of the gallery that
would be a match.

    python benchmarks/bench_demo.py

Exits 1 unless, on every species, the untrained model is below 50 %, training lifts it, and the background alone stays
below three times chance with either model; or where the demo takes 6 minutes or more.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import resight
from resight.catalogue import store
from resight.catalogue.intake import ImportOptions
from resight.demo.population import draw_population
from resight.demo.tour import RUN, SEED, SPLIT, run_demo
from resight.project import Project
from resight.settings import set_viewpoint_policy

UNTRAINED = "imagenet-lite0"
AIM_SECONDS, AIM_UNTRAINED, AIM_CHANCE = 360, 50.0, 3.0


def chance(project: Project) -> dict[str, float]:
    """Top-1 of a random ranking, in percent, for each species of the split's test side."""
    with project.database.reading() as connection:
        split = store.load_split(connection, SPLIT)
    test = [key for key, subset in split.subset.items() if subset == store.TEST]
    found = {}
    for species in sorted({split.species[key] for key in test}):
        identities = Counter(split.identity[key] for key in test if split.species[key] == species)
        n = sum(identities.values())
        found[species] = 100 * sum(count * (count - 1) / (n - 1) for count in identities.values()) / n
    return found


def backgrounds(folder: Path, trained: Project) -> dict[str, tuple[float, float]]:
    """Top-1 (untrained, trained) on the same photos without the animals."""
    population = draw_population(folder / "photos", seed=SEED, animals=False, workers=2)
    settings = Project.init(folder / "project").settings
    for drawn in population.species:
        settings = set_viewpoint_policy(settings, drawn.species, drawn.policy)
    project = resight.open(folder / "project")
    for drawn in population.species:
        project.import_(drawn.path, ImportOptions(source=drawn.path.parent.name))
    project.split(SPLIT, seed=SEED)
    models = (UNTRAINED, str(trained.runs_folder / RUN / "model"))
    results = [project.evaluate(split=SPLIT, model=model) for model in models]
    return {
        before.species: (before.figures.top1 or 0.0, after.figures.top1 or 0.0)
        for before, after in zip(results[0].species, results[1].species, strict=True)
    }


def main() -> int:
    """Run, measure, print."""
    with tempfile.TemporaryDirectory() as name:
        result = run_demo(Path(name) / "demo", say=print)
        project = resight.open(result.project)
        by_chance, alone = chance(project), backgrounds(Path(name) / "backgrounds", project)
    print(f"{'species':28} {'untrained':>9} {'trained':>8} {'background, untrained':>22} {'trained':>8} {'chance':>7}")
    good = result.seconds < AIM_SECONDS
    for row in result.species:
        before, after = row.untrained_top1 or 0.0, row.trained_top1 or 0.0
        behind, limit = alone[row.species], AIM_CHANCE * by_chance[row.species]
        print(
            f"{row.species:28} {before:9.1f} {after:8.1f} {behind[0]:22.1f} {behind[1]:8.1f} "
            f"{by_chance[row.species]:7.1f}"
        )
        good &= before < AIM_UNTRAINED and after > before and max(behind) < limit
    print(f"the demo took {result.seconds:.0f} s (aim: under {AIM_SECONDS}); aims {'reached' if good else 'missed'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
