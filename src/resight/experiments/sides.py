"""The test side of a split as experiments read it, and the vectors that a run has of it.

``sides/KEY/side.parquet`` has a row an annotation, in order of species and ``annotation_id``; chips are named by their
path below that folder, so the project may lie elsewhere on each machine. It is written once and never changed.

``runs/RUN/vectors/KEY.npy`` is (n, dim) float16, as the network gives them, and ``KEY.parquet`` beside it says whose
they are: ``species`` and ``annotation_id``, a row a vector. Only species that the run is tested on have rows.
``KEY-background.npy`` and ``KEY-background.parquet`` are likewise, of the annotations that have a background chip.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from resight.artefacts import atomic_path
from resight.errors import ArtefactMismatch, InputError

SIDE_FILE = "side.parquet"
VECTORS_FOLDER = "vectors"

_TEXTS = ("species", "annotation_id", "individual", "identity", "encounter")
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _TEXTS]
    + [("tested", pa.bool_()), ("trained", pa.bool_()), ("chip", pa.string()), ("background", pa.string())]
)
_ROWS_SCHEMA = pa.schema([("species", pa.string()), ("annotation_id", pa.string())])
_WEIGHTS_HASH = b"weights_hash"


@dataclass(frozen=True)
class TestSide:
    """The test annotations of one species of one split, and photos that only the leak probe looks at.

    All arrays have one entry an annotation, in order of ``annotation_ids``.

    Attributes:
        species: The full species string.
        annotation_ids: In rising order.
        individuals: Name of the individual.
        identities: Name of the identity (a side of an individual where sides differ).
        encounters: Key of the encounter.
        tested: Whether it is a test annotation, query and gallery at once. The others are further photos of the test
            encounters, which the split leaves out of test.
        trained: Whether its identity is in the training side of the split.
    """

    __test__ = False  # no test class, whatever pytest makes of its name

    species: str
    annotation_ids: tuple[str, ...]
    individuals: NDArray[np.str_]
    identities: NDArray[np.str_]
    encounters: NDArray[np.str_]
    tested: NDArray[np.bool_]
    trained: NDArray[np.bool_]


@dataclass(frozen=True)
class StoredSide:
    """A test side and where its chips lie.

    Attributes:
        side: Of one species.
        chips: One an annotation, in its order.
        backgrounds: Chips of what surrounds the animals, likewise; ``None`` where an annotation has none.
    """

    side: TestSide
    chips: tuple[Path, ...]
    backgrounds: tuple[Path | None, ...]


@dataclass(frozen=True)
class SideVectors:
    """A run's vectors of one species: (n, dim) float16, read from disk as needed, in order of ``annotation_ids``."""

    annotation_ids: tuple[str, ...]
    vectors: NDArray[np.float16]


def write_side(
    folder: Path, side: TestSide | Sequence[TestSide], chips: Sequence[Path], backgrounds: Sequence[Path | None]
) -> None:
    """Write a side, whole or not at all.

    Args:
        folder: ``sides/KEY``.
        side: Of one species, or of several.
        chips: One an annotation, in the sides' order.
        backgrounds: Likewise; ``None`` where an annotation has none.

    Raises:
        ValueError: more or fewer chips than annotations.
    """
    sides = [side] if isinstance(side, TestSide) else side
    rows = [row for one in sides for row in _rows(one)]
    places = [
        (_relative(chip, folder), "" if background is None else _relative(background, folder))
        for chip, background in zip(chips, backgrounds, strict=True)
    ]
    entries = sorted((*row, *place) for row, place in zip(rows, places, strict=True))
    columns = {name: [entry[number] for entry in entries] for number, name in enumerate(_SCHEMA.names)}
    with atomic_path(folder / SIDE_FILE) as temporary:
        pq.write_table(pa.table(columns, schema=_SCHEMA), temporary)


def read_side(folder: Path) -> dict[str, StoredSide]:
    """Read a side; gives a part a species.

    Args:
        folder: ``sides/KEY``.

    Raises:
        InputError: there is none, or it is broken.
    """
    path = folder / SIDE_FILE
    try:
        rows = pq.read_table(path, columns=_SCHEMA.names).to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else str(error).partition("\n")[0]
        raise InputError(
            f"{path} cannot be read ({reason}): delete its folder and plan the experiment anew (--plan-only)"
        ) from None
    return {species: _stored(species, list(of_species), folder) for species, of_species in groupby(rows, _species)}


def vectors_file(run: Path, side_key: str, *, background: bool = False) -> Path:
    """The ``.npy`` file of a run's vectors of a side."""
    return run / VECTORS_FOLDER / (f"{side_key}-background.npy" if background else f"{side_key}.npy")


def write_vectors(
    target: Path, rows: Sequence[tuple[str, str]], blocks: Iterable[NDArray[np.float16]], *, dim: int, weights_hash: str
) -> None:
    """Write vectors and whose they are.

    Args:
        target: From :func:`vectors_file`.
        rows: (species, annotation_id) of each, in order; at least one.
        blocks: (k, dim) each, together as many as there are rows; taken one after the other.
        dim: Length of a vector.
        weights_hash: Of the model.
    """
    columns = {"species": [species for species, _ in rows], "annotation_id": [name for _, name in rows]}
    table = pa.table(columns, schema=_ROWS_SCHEMA).replace_schema_metadata({_WEIGHTS_HASH: weights_hash.encode()})
    with atomic_path(target.with_suffix(".parquet")) as of_rows:
        pq.write_table(table, of_rows)
        with atomic_path(target) as of_vectors:  # takes its place first: vectors without rows are none
            vectors = np.lib.format.open_memmap(of_vectors, "w+", np.float16, shape=(len(rows), dim))
            start = 0
            for block in blocks:
                vectors[start : start + len(block)] = block
                start += len(block)
            if start != len(rows):
                raise ValueError(f"{start} vectors for {len(rows)} rows")
            vectors.flush()
            del vectors


def has_vectors(target: Path, rows: Sequence[tuple[str, str]], *, weights_hash: str) -> bool:
    """Whether these vectors are there, of this model."""
    try:
        table = pq.read_table(target.with_suffix(".parquet"))
    except (OSError, pa.ArrowException):
        return False
    stored = list(zip(table["species"].to_pylist(), table["annotation_id"].to_pylist(), strict=True))
    made_by = (table.schema.metadata or {}).get(_WEIGHTS_HASH)
    return target.is_file() and made_by == weights_hash.encode() and stored == list(rows)


def read_vectors(run: Path, side_key: str, *, background: bool = False) -> dict[str, SideVectors]:
    """Read a finished run's vectors of a side; gives a part a species.

    Args:
        run: The run's folder.
        side_key: Of the side.
        background: Those of the background chips instead; none where there are no such chips.

    Raises:
        ArtefactMismatch: they are not there, or not whole.
    """
    path = vectors_file(run, side_key, background=background)
    if background and not path.exists():
        return {}
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        rows = pq.read_table(path.with_suffix(".parquet"), columns=_ROWS_SCHEMA.names).to_pylist()
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else str(error).partition("\n")[0]
        raise ArtefactMismatch(
            f"the vectors {path} cannot be read ({reason}): delete done.json of their run, and run the experiment again"
        ) from None
    if len(vectors) != len(rows):
        raise ArtefactMismatch(
            f"{path} holds {len(vectors)} vectors of {len(rows)} annotations: delete done.json of their run, and run "
            "the experiment again"
        )
    found, start = {}, 0
    for species, of_species in groupby(rows, _species):
        names = tuple(row["annotation_id"] for row in of_species)
        found[species] = SideVectors(names, vectors[start : start + len(names)])
        start += len(names)
    return found


def _species(row: dict[str, str]) -> str:
    return row["species"]


def _rows(side: TestSide) -> list[tuple[str | bool, ...]]:
    texts = (side.annotation_ids, side.individuals, side.identities, side.encounters)
    return [
        (side.species, *(str(text) for text in of_row), bool(tested), bool(trained))
        for *of_row, tested, trained in zip(*texts, side.tested, side.trained, strict=True)
    ]


def _stored(species: str, rows: Sequence[dict[str, str]], folder: Path) -> StoredSide:
    def texts(name: str) -> NDArray[np.str_]:
        return np.array([row[name] for row in rows], dtype=np.str_)

    side = TestSide(
        species,
        tuple(row["annotation_id"] for row in rows),
        texts("individual"),
        texts("identity"),
        texts("encounter"),
        np.array([row["tested"] for row in rows], dtype=np.bool_),
        np.array([row["trained"] for row in rows], dtype=np.bool_),
    )
    return StoredSide(
        side,
        tuple(_absolute(row["chip"], folder) for row in rows),
        tuple(_absolute(row["background"], folder) if row["background"] else None for row in rows),
    )


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _absolute(stored: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder / stored))
