"""A split that exists already, read from a table.

Its columns are ``annotation_id``, or ``source`` and ``file_name``, and ``subset`` (train, test or set_aside; an empty
cell leaves the annotation out). Others are not looked at, so what ``resight export csv --split`` wrote can be read.
The sides are the user's: leaks and identities that cannot be matched are counted and warned of, and kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resight.catalogue.sources.grid import Grid, read_grid
from resight.catalogue.sources.parsed import Findings
from resight.errors import InputError
from resight.splits.frozen import IMPORTED, Split, SplitMember, SplitSpecies, Subset
from resight.splits.members import member_of, warnings_of_copies, why_left_out
from resight.splits.paper import photo_of
from resight.types import Annotation

SHOWN_ROWS = 5
NOT_NAMED = "species of which the table names no annotation"
_SUBSETS: dict[str, Subset | None] = {"train": "train", "test": "test", "set_aside": "set_aside", "": None}
_VALIDATION = frozenset({"val", "valid", "validation", "dev"})


def read_split(annotations: Sequence[Annotation], file: Path, *, name: str, seed: int = 0) -> Split:
    """Read a split from a table (text or a workbook); all of it is checked first.

    Args:
        annotations: All of the catalogue.
        file: The table.
        name: Of the split.
        seed: Kept with it; nothing is drawn.

    Raises:
        InputError: the table cannot be read, lacks a column, or has rows that cannot be used; the message names the
            first of them.
    """
    asked = _rows(annotations, file)
    members: list[SplitMember] = []
    unused: dict[str, list[str]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    found: list[Annotation] = []
    for annotation in sorted(annotations, key=lambda annotation: annotation.annotation_id):
        subset = asked.get(annotation.annotation_id)
        if (reason := why_left_out(annotation)) is not None:
            left_out[reason] += 1
            refused[reason] += subset is not None
        elif subset is None:
            unused[annotation.known_species].append(annotation.annotation_id)
        else:
            members.append(member_of(annotation, subset))
            found.append(annotation)
    of_species: dict[str, list[int]] = defaultdict(list)
    for place, member in enumerate(members):
        of_species[member.species].append(place)
    if not_named := sum(len(ids) for species, ids in unused.items() if species not in of_species):
        left_out[NOT_NAMED] = not_named
    warnings = [
        f"{count} annotations that the table names are left out: {reason}" for reason, count in (+refused).items()
    ]
    counts = []
    for species, places in sorted(of_species.items()):
        mine = [members[place] for place in places]
        counts.append(_counts(species, mine, len(unused[species])))
        warnings += [f"{species}: {text}" for text in _doubts(mine, [photo_of(found[place]) for place in places])]
    return Split(
        name=name,
        protocol=IMPORTED,
        seed=seed,
        train_fraction=None,
        formula=f"as {file.name} has it",
        members=tuple(members),
        species=tuple(counts),
        filters=(),
        left_out=dict(sorted(left_out.items())),
        unused=tuple(sorted(one for species in of_species for one in unused[species])),
        warnings=(*warnings, *_leaks_across_species(found, members), *warnings_of_copies(found)),
    )


def _rows(annotations: Sequence[Annotation], file: Path) -> dict[str, Subset]:
    """Annotation id → subset of every row that gives one."""
    findings = Findings()
    grid = read_grid(file, findings)
    at = _columns(grid, file)
    known = {annotation.annotation_id for annotation in annotations}
    by_file: dict[tuple[str, str], list[str]] = defaultdict(list)
    for annotation in annotations:
        by_file[annotation.source, annotation.file_name].append(annotation.annotation_id)
    problems = [(problem.row, problem.problem) for problem in findings.problems]
    first: dict[str, str] = {}
    asked: dict[str, Subset] = {}
    for row, cells in grid.rows:
        subset = _text(cells[at["subset"]]).casefold()
        if subset in _VALIDATION:
            problems.append((row, f"subset {subset!r}: expected train, test or set_aside; training takes its own "
                                  "validation from train, so write train there"))  # fmt: skip
        elif subset not in _SUBSETS:
            problems.append((row, f"subset {subset!r}: expected train, test, set_aside or nothing"))
        if "annotation_id" in at:
            key = _text(cells[at["annotation_id"]])
            if key not in known:
                problems.append((row, f"annotation_id {key!r}: not in the catalogue; `resight export csv` lists all"))
                continue
        else:
            place = _text(cells[at["source"]]), _text(cells[at["file_name"]])
            there = by_file.get(place, [])
            if len(there) != 1:
                why = f"has {len(there)} annotations; tell them by annotation_id" if there else "not in the catalogue"
                problems.append((row, f"file {place[1]!r} of source {place[0]!r}: {why}"))
                continue
            key = there[0]
        if key in first:
            problems.append((row, f"annotation {key!r}: was in line {first[key]} already; name each once"))
            continue
        first[key] = row
        if (side := _SUBSETS.get(subset)) is not None:
            asked[key] = side
    if problems:
        shown = "; ".join(f"line {row}: {text}" for row, text in problems[:SHOWN_ROWS])
        more = f"; and {len(problems) - SHOWN_ROWS} more" if len(problems) > SHOWN_ROWS else ""
        raise InputError(f"{file}: {len(problems)} problems, so nothing was frozen; {shown}{more}")
    if not asked:
        raise InputError(f"{file}: no row says train, test or set_aside; nothing was frozen")
    return asked


def _columns(grid: Grid, file: Path) -> dict[str, int]:
    names = [column.casefold() for column in grid.columns]
    wanted = ("annotation_id", "source", "file_name", "subset")
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise InputError(f"{file}: two columns are named {twice[0]!r}; rename or remove one")
    at = {name: names.index(name) for name in wanted if name in names}
    if "subset" not in at or ("annotation_id" not in at and not {"source", "file_name"} <= at.keys()):
        raise InputError(
            f"{file}: expected the columns annotation_id (or source and file_name) and subset, found "
            f"{', '.join(grid.columns)}"
        )
    return at


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _counts(species: str, members: Sequence[SplitMember], n_unused: int) -> SplitSpecies:
    annotations = Counter(member.subset for member in members)
    identities: dict[Subset, set[tuple[str, str]]] = defaultdict(set)
    for member in members:
        identities[member.subset].add((member.individual, member.identity))
    return SplitSpecies(
        species=species,
        train_share=annotations["train"] / len(members),
        train_annotations=annotations["train"],
        train_individuals=len(identities["train"]),
        test_annotations=annotations["test"],
        test_individuals=len(identities["test"]),
        test_individuals_seen=len(identities["test"] & identities["train"]),
        set_aside_annotations=annotations["set_aside"],
        set_aside_individuals=len(identities["set_aside"]),
        unused=n_unused,
    )


def _doubts(members: Sequence[SplitMember], photos: Sequence[str]) -> list[str]:
    """What a user should know of the sides of one species; ``photos`` names the photo of each member."""
    test = [member for member in members if member.subset == "test"]
    doubts = [f"no annotation in {side}" for side in ("train", "test") if all(m.subset != side for m in members)]
    encounters: dict[tuple[str, str], set[str]] = defaultdict(set)
    for member in test:
        encounters[member.individual, member.identity].add(member.encounter)
    if alone := {key for key, found in encounters.items() if len(found) < 2}:
        n = sum((member.individual, member.identity) in alone for member in test)
        doubts.append(
            f"{len(alone)} of {len(encounters)} test identities have one encounter in test, so their {n} annotations "
            "have nothing to match"
        )
    trained = [(member, photo) for member, photo in zip(members, photos, strict=True) if member.subset == "train"]
    in_photo, in_encounter = {photo for _, photo in trained}, {member.encounter for member, _ in trained}
    of_photo = [m.subset == "test" and photo in in_photo for m, photo in zip(members, photos, strict=True)]
    of_encounter = [m.subset == "test" and m.encounter in in_encounter for m in members]
    if any(of_photo) or any(of_encounter):
        leaking = sum(a or b for a, b in zip(of_photo, of_encounter, strict=True))
        doubts.append(
            f"{leaking} of {len(test)} test annotations leak: the photo of {sum(of_photo)} and the encounter of "
            f"{sum(of_encounter)} are in training too, which flatters any score"
        )
    return doubts


def _leaks_across_species(annotations: Sequence[Annotation], members: Sequence[SplitMember]) -> list[str]:
    """A warning where a photo or encounter of one species' test is in another species' training."""
    trained: dict[str, set[str]] = defaultdict(set)  # photo or encounter -> species
    keys = [(f"photo {photo_of(a)}", f"encounter {a.encounter}") for a in annotations]
    for member, mine in zip(members, keys, strict=True):
        if member.subset == "train":
            for key in mine:
                trained[key].add(member.species)
    leaking = sum(
        member.subset == "test" and any(trained.get(key, set()) - {member.species} for key in mine)
        for member, mine in zip(members, keys, strict=True)
    )
    if not leaking:
        return []
    return [f"{leaking} test annotations share their photo or encounter with training of another species"]
