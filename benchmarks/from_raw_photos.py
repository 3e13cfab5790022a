"""From raw photos to annotations: what is lost when boxes, viewpoints and species come from detectors and heads.

    python benchmarks/from_raw_photos.py viewpoint DATASET --work DIR [--species nyala] [--seeds 5]
    python benchmarks/from_raw_photos.py species DATASET DATASET … --work DIR [--fields part,species] [--seeds 3]
    python benchmarks/from_raw_photos.py match DATASET --work DIR [--species nyala] [--model M]

Each DATASET is anything that ``resight import`` reads, with boxes and names; ``DATASET:SPECIES`` names the species of
one that does not. In each round half of the individuals (drawn by the seed) stay labelled, and of the others only the
photos are kept: they are imported as raw photos without a date or a name, and get their boxes back through a file in
MegaDetector's format that is derived from the dataset. What a head then proposes for them is held against the labels.
``match`` asks for each of these photos twice, in a catalogue with all labels and in the raw one, and compares answers.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import resight
from resight.catalogue import store
from resight.catalogue.intake import ImportOptions
from resight.catalogue.proposals import ProposalFilter
from resight.project import Project
from resight.types import Annotation

CARD = "card"
Truth = Mapping[tuple[str, str, tuple[int, int]], Annotation]


@dataclass(frozen=True)
class Labelled:
    """A project that has everything, its annotations, and the card to which its photos were copied."""

    project: Project
    annotations: list[Annotation]
    card: Path
    detections: Path


def prepare(datasets: Sequence[str], work: Path) -> Labelled:
    """Import the datasets with all their labels, copy their photos to a card, and write their boxes down."""
    project = _project(work / "labelled")
    for text in datasets:
        path, _, species = text.partition(":")
        project.import_(path, ImportOptions(species=species or None))
    annotations = _annotations(project)
    card = work / CARD
    detections: dict[str, list[dict[str, object]]] = defaultdict(list)
    for one in annotations:
        source = project.settings.image_roots[one.image_root] / one.image_path
        target = card / _on_card(one)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        detections[_on_card(one)].append(_detection(one))
    images = [{"file": name, "detections": found} for name, found in sorted(detections.items())]
    document = {
        "info": {"format_version": "1.4", "detector": "derived from the dataset"},
        "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
        "images": images,
    }
    file = work / "detections.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return Labelled(project, annotations, card, file)


def _detection(one: Annotation) -> dict[str, object]:
    width, height = one.image_width or 1, one.image_height or 1
    x, y, w, h = (0.0, 0.0, width, height) if one.box is None else (one.box.x, one.box.y, one.box.w, one.box.h)
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + w, width), min(y + h, height)
    box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
    return {"category": "1", "conf": 0.9, "bbox": box}


def _on_card(one: Annotation) -> str:
    """A name that tells nothing of the animal."""
    return f"{one.content_hash}{Path(one.image_path).suffix.lower()}"


def half_raw(labelled: Labelled, folder: Path, seed: int, *, species: str | None) -> tuple[Project, set[str]]:
    """A project in which half of the individuals of each species are labelled and the photos of the others are raw.

    Args:
        labelled: Everything.
        folder: Where it is made.
        seed: Of the draw of individuals.
        species: What the import of the card says of all its photos; ``None``: nothing.

    Returns:
        The project, and the names on the card of the photos that are raw.
    """
    drawn = random.Random(seed)
    known: set[tuple[str, str]] = set()
    names: dict[str, set[str]] = defaultdict(set)
    for one in labelled.annotations:
        if one.individual is not None:
            names[one.known_species].add(one.individual)
    for of_species, individuals in sorted(names.items()):
        ordered = sorted(individuals)
        drawn.shuffle(ordered)
        known |= {(of_species, name) for name in ordered[: len(ordered) // 2]}
    kept = [one for one in labelled.annotations if (one.species, one.individual) in known]
    photos = {_on_card(one) for one in kept}
    raw = {_on_card(one) for one in labelled.annotations if one.individual is not None} - photos
    project = _project(folder)
    shared = labelled.project.folder / "chips"
    shared.mkdir(exist_ok=True)
    (folder / "chips").symlink_to(shared)
    table = folder / "labels.csv"
    _write_labels(table, kept)
    project.import_(table, ImportOptions(source="labelled", images=labelled.card))
    project.import_(labelled.card, ImportOptions(format="photos", source=CARD, species=species))
    project.detect(f"json:{labelled.detections}")
    return project, raw


def _write_labels(file: Path, kept: Iterable[Annotation]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "individual", "species", "viewpoint", "encounter", "x", "y", "w", "h", "theta"])
        for one in kept:
            box = one.box
            place = (None,) * 4 if box is None else (box.x, box.y, box.w, box.h)
            writer.writerow(
                [_on_card(one), one.individual, one.species, one.viewpoint, one.encounter, *place, one.theta_rad]
            )


def _project(folder: Path) -> Project:
    if folder.exists():
        shutil.rmtree(folder)
    return resight.init(folder)


def _annotations(project: Project) -> list[Annotation]:
    with project.database.reading() as connection:
        return store.list_annotations(connection, project.settings, unnamed=True)


def _truth(labelled: Labelled, raw: set[str], field: str) -> dict[str, str | None]:
    """Photo on the card → what is so; photos with several animals are left out, since boxes would have to be paired."""
    values: dict[str, set[str | None]] = defaultdict(set)
    for one in labelled.annotations:
        if _on_card(one) in raw:
            value = (one.part or store.NO_PART) if field == "part" else getattr(one, field)
            values[_on_card(one)].add(value)
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}


def score(labelled: Labelled, project: Project, raw: set[str], field: str) -> str:
    """Train a head, predict, and hold the proposals against the labels of the raw photos."""
    report = project.train_attribute(field)
    truth = {name: value for name, value in _truth(labelled, raw, field).items() if value is not None}
    done = project.predict_attribute(field, threshold=0.0)
    every = {p.file_name: p for p in project.proposals(ProposalFilter(field=field)) if p.file_name in truth}
    surest = sorted(every.values(), key=lambda p: -p.confidence)
    right = [truth[p.file_name] == p.value for p in surest]
    at_90 = right[: round(0.9 * len(truth))]
    project.predict_attribute(field)
    said = [p for p in project.proposals(ProposalFilter(field=field)) if p.file_name in truth]
    correct = sum(truth[p.file_name] == p.value for p in said)
    unlike = done.predicted.unlike
    return (
        f"{field}: {len(truth)} photos of individuals never seen; all: {_share(sum(right), len(right))} right, surest "
        f"90 %: {_share(sum(at_90), len(at_90))}; proposed (from {report.head.threshold:.2f}): "
        f"{_share(len(said), len(truth))} of them, {_share(correct, len(said))} right; unlike: {unlike}; out of fold "
        f"{report.metrics.accuracy:.4f}"
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "–"


def compare_matches(labelled: Labelled, project: Project, raw: set[str], species: str, model: str | None) -> str:
    """Ask for the raw photos in both projects, and compare the first candidates of another encounter."""
    whole = {_on_card(one): one for one in labelled.annotations}
    of_project = {
        False: {one.annotation_id: _on_card(one) for one in labelled.annotations},
        True: {one.annotation_id: one.file_name for one in _annotations(project)},
    }
    asked = sorted(name for name in raw if whole[name].species == species)
    first: dict[bool, list[str | None]] = {}
    compared: dict[bool, int] = {}
    for is_raw, one_project in ((False, labelled.project), (True, project)):
        paths = [labelled.card / name for name in asked]
        answers = one_project.match(paths, species=species, model=model, k=60)
        compared[is_raw] = sum(answer.compared for answer in answers)
        found: list[str | None] = []
        for name, answer in zip(asked, answers, strict=True):
            names = [of_project[is_raw][c.annotation_id] for c in answer.candidates]
            own = whole[name].encounter
            found.append(next((n for n in names if whole[n].encounter != own), None))
        first[is_raw] = found
    same = sum(a == b for a, b in zip(first[False], first[True], strict=True))
    identity = [whole[name].identity for name in asked]
    right = {
        is_raw: sum(n is not None and whole[n].identity == i for n, i in zip(found, identity, strict=True))
        for is_raw, found in first.items()
    }
    return (
        f"match: {len(asked)} raw photos; compared with {compared[False] / len(asked):.1f} annotations each with all "
        f"labels, {compared[True] / len(asked):.1f} raw; the same first candidate: {_share(same, len(asked))}; first "
        f"candidate right: {_share(right[False], len(asked))} with all labels, {_share(right[True], len(asked))} raw"
    )


def main() -> None:
    """Run one of the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("viewpoint", "species", "match"))
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--species", default="nyala")
    parser.add_argument("--fields", default="part,species")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model")
    asked = parser.parse_args()
    labelled = prepare(asked.datasets, asked.work)
    for seed in range(asked.seeds):
        stated = None if asked.part == "species" else asked.species
        project, raw = half_raw(labelled, asked.work / f"raw-{seed}", seed, species=stated)
        fields = asked.fields.split(",") if asked.part == "species" else ["viewpoint"]
        for field in fields:
            print(f"seed {seed}: {score(labelled, project, raw, field)}", flush=True)
        if asked.part == "match":
            line = compare_matches(labelled, project, raw, asked.species, asked.model)
            print(f"seed {seed}: {line}", flush=True)


if __name__ == "__main__":
    main()
