"""Writes the made-up population: three species, each as a dataset in another format, and a query photo for each.

The folder that :func:`draw_population` fills::

    bandbuck/annotations.json, images/*.jpg          Wild Me COCO
    dapplecat/metadata.csv, images/<name>/*.jpg      wildlife-datasets table
    notchback/annotations.csv, images/*.jpg          MiewID CSV with dates
    queries/<species>.jpg                            not in any of the datasets
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from resight.demo.animals import Side
from resight.demo.encounters import KINDS, Kind, Shot, draw_encounter
from resight.demo.formats import Row, write_coco, write_metadata, write_miewid_csv
from resight.demo.shapes import stream
from resight.errors import InputError
from resight.progress import track
from resight.types import Box

Format = Literal["coco", "wildlife-datasets", "csv"]
Policy = Literal["separate", "ignore"]

_JPEG_QUALITY = 88
_TURNED_ROUND = 0.2  # share of further shots in which the animal shows its other side
# The purposes of this file's streams of chance, after those of encounters.py.
_SIDES, _ORDER, _DATES, _QUERY = range(10, 14)


@dataclass(frozen=True, slots=True)
class Species:
    """What the demo says about one of its species."""

    kind: Kind
    name: str
    species: str
    format: Format
    policy: Policy
    prefix: str


SPECIES: tuple[Species, ...] = (
    Species("stripes", "bandbuck", "demo_bandbuck", "coco", "separate", "BB"),
    Species("spots", "dapplecat", "demo_dapplecat", "wildlife-datasets", "separate", "DC"),
    Species("fin", "notchback", "demo_notchback+fin_dorsal", "csv", "ignore", "NB"),
)


@dataclass(frozen=True, slots=True)
class Query:
    """A photo of a known individual, from an encounter that is in no dataset.

    Attributes:
        path: The photo.
        species: Full species string.
        individual: Who it is.
        viewpoint: The side seen.
        box: Of the animal, in pixels of the photo.
    """

    path: Path
    species: str
    individual: str
    viewpoint: Side
    box: Box


@dataclass(frozen=True, slots=True)
class SpeciesDrawn:
    """One dataset as it was written.

    Attributes:
        species: Full species string.
        format: Name of the import format.
        path: What to import.
        images: Folder that the dataset's file names lie below.
        policy: Whether left and right are one identity (``ignore``) or two (``separate``).
        annotations, individuals, identities, encounters: Counts.
        query: A photo kept aside.
    """

    species: str
    format: Format
    path: Path
    images: Path
    policy: Policy
    annotations: int
    individuals: int
    identities: int
    encounters: int
    query: Query


@dataclass(frozen=True, slots=True)
class Population:
    """Everything that was drawn."""

    folder: Path
    seed: int
    species: tuple[SpeciesDrawn, ...]


@dataclass(frozen=True, slots=True)
class _Meeting:
    """One encounter to draw, with the files its photos go to."""

    kind: Kind
    individual: int
    encounter: int
    sides: tuple[Side, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is left of a shot once its photo is written."""

    side: Side
    box: Box
    theta_rad: float
    width: int
    height: int


def draw_population(
    folder: Path,
    *,
    seed: int = 0,
    individuals: int = 20,
    encounters: int = 5,
    photos_per_encounter: int = 2,
    animals: bool = True,
    workers: int = 1,
) -> Population:
    """Draw the three species and write each as a dataset of its own format.

    The same seed and counts give the same files, byte for byte, whatever ``workers`` is.

    Args:
        folder: A new or empty folder.
        seed: Decides everything.
        individuals: In each species whose sides differ; the fin species has twice as many, so that all have as many
            identities.
        encounters: Of each identity.
        photos_per_encounter: Near-duplicates in one encounter.
        animals: False writes the same photos and boxes without the animals, to see what the background tells.
        workers: Processes that draw.

    Raises:
        InputError: a count is below 1, or the folder holds something already.
    """
    for name, count in (
        ("individuals", individuals),
        ("encounters", encounters),
        ("photos_per_encounter", photos_per_encounter),
        ("workers", workers),
    ):
        if count < 1:
            raise InputError(f"{name} is {count}: expected 1 or more; give a larger number")
    if seed < 0:
        raise InputError(f"seed is {seed}: expected 0 or more; give another number")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder: give a new folder, or remove this one")

    plans = {kind.name: _plan(folder, kind, seed, individuals, encounters, photos_per_encounter) for kind in SPECIES}
    queries = [_plan_query(folder, kind, seed, individuals, encounters) for kind in SPECIES]
    meetings = [meeting for plan in plans.values() for meeting in plan] + queries
    for parent in sorted({file.parent for meeting in meetings for file in meeting.files}):
        parent.mkdir(parents=True, exist_ok=True)
    draw = partial(_draw, seed, animals)
    with _mapper(workers) as run:
        drawn = list(track(run(draw, meetings), "drawing animals", total=len(meetings)))

    result = []
    done = iter(drawn)
    shots_by_species = {kind.name: [next(done) for _ in plans[kind.name]] for kind in SPECIES}
    for kind, query in zip(SPECIES, queries, strict=True):
        (shot,) = next(done)
        result.append(_write(folder, kind, seed, plans[kind.name], shots_by_species[kind.name], query, shot))
    return Population(folder, seed, tuple(result))


def _name(species: Species, individual: int) -> str:
    return f"{species.prefix}{individual + 1:02d}"


def _sides(species: Species) -> int:
    """Identities of one individual."""
    return 2 if species.policy == "separate" else 1


def _population_size(species: Species, individuals: int) -> int:
    return individuals * 2 // _sides(species)


def _plan(folder: Path, species: Species, seed: int, individuals: int, encounters: int, photos: int) -> list[_Meeting]:
    """Who is met when, from which sides, and under which file names (which tell nothing)."""
    number = KINDS.index(species.kind)
    each = encounters * _sides(species)
    individuals = _population_size(species, individuals)
    order = stream(seed, _ORDER, number).permutation(individuals * each * photos)
    meetings: list[_Meeting] = []
    for individual in range(individuals):
        for encounter in range(each):
            rng = stream(seed, _SIDES, number, individual, encounter)
            left_first = encounter % 2 == 0 if species.policy == "separate" else bool(rng.random() < 0.5)
            turned = [False, *(bool(chance < _TURNED_ROUND) for chance in rng.random(photos - 1))]
            sides: tuple[Side, ...] = tuple("left" if left_first != turn else "right" for turn in turned)
            first = len(meetings) * photos
            images = folder / species.name / "images"
            if species.format == "wildlife-datasets":
                images = images / _name(species, individual)
            files = tuple(images / f"{order[first + shot]:05d}.jpg" for shot in range(photos))
            meetings.append(_Meeting(species.kind, individual, encounter, sides, files))
    return meetings


def _plan_query(folder: Path, species: Species, seed: int, individuals: int, encounters: int) -> _Meeting:
    number = KINDS.index(species.kind)
    individual = int(stream(seed, _QUERY, number).integers(_population_size(species, individuals)))
    unused = encounters * 2  # past the last encounter of every species
    return _Meeting(species.kind, individual, unused, ("left",), (folder / "queries" / f"{species.name}.jpg",))


def _draw(seed: int, animals: bool, meeting: _Meeting) -> tuple[_Facts, ...]:
    shots: list[Shot] = draw_encounter(
        seed, meeting.kind, meeting.individual, meeting.encounter, meeting.sides, animals
    )
    facts = []
    for shot, file in zip(shots, meeting.files, strict=True):
        shot.image.save(file, quality=_JPEG_QUALITY)
        facts.append(_Facts(shot.side, shot.box, shot.theta_rad, shot.image.width, shot.image.height))
    return tuple(facts)


@contextmanager
def _mapper(workers: int) -> Iterator[partial[Iterator[tuple[_Facts, ...]]]]:
    if workers == 1:
        yield partial(map)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=8)


def _write(
    folder: Path,
    species: Species,
    seed: int,
    plan: list[_Meeting],
    drawn: list[tuple[_Facts, ...]],
    query: _Meeting,
    query_shot: _Facts,
) -> SpeciesDrawn:
    root = folder / species.name
    days = _days(species, seed, plan)
    rows = [
        Row(
            file=file.relative_to(root).as_posix(),
            species=species.species,
            individual=_name(species, meeting.individual),
            side=shot.side,
            encounter=f"{_name(species, meeting.individual)}-{meeting.encounter + 1:02d}",
            day=days[meeting.individual, meeting.encounter],
            box=shot.box,
            theta_rad=shot.theta_rad,
            width=shot.width,
            height=shot.height,
        )
        for meeting, shots in zip(plan, drawn, strict=True)
        for shot, file in zip(shots, meeting.files, strict=True)
    ]
    rows.sort(key=lambda row: row.file.rsplit("/", 1)[-1])
    file, write = {
        "coco": ("annotations.json", write_coco),
        "wildlife-datasets": ("metadata.csv", write_metadata),
        "csv": ("annotations.csv", write_miewid_csv),
    }[species.format]
    path = root / file
    write(path, rows)
    who = {(row.individual, row.side) if species.policy == "separate" else row.individual for row in rows}
    return SpeciesDrawn(
        species=species.species,
        format=species.format,
        path=path,
        images=root,
        policy=species.policy,
        annotations=len(rows),
        individuals=len({row.individual for row in rows}),
        identities=len(who),
        encounters=len({row.encounter for row in rows}),
        query=Query(
            path=query.files[0],
            species=species.species,
            individual=_name(species, query.individual),
            viewpoint=query_shot.side,
            box=query_shot.box,
        ),
    )


def _days(species: Species, seed: int, plan: list[_Meeting]) -> dict[tuple[int, int], date]:
    """A day for every encounter; no individual is met twice on one day, so the day stands for the encounter."""
    number = KINDS.index(species.kind)
    met: dict[int, list[int]] = {}
    for meeting in plan:
        met.setdefault(meeting.individual, []).append(meeting.encounter)
    days: dict[tuple[int, int], date] = {}
    for individual, encounters in met.items():
        span = max(700, 2 * len(encounters))
        drawn = stream(seed, _DATES, number, individual).choice(span, len(encounters), replace=False)
        for encounter, day in zip(encounters, drawn, strict=True):
            days[individual, encounter] = date(2022, 1, 1) + timedelta(days=int(day))
    return days
