"""Embeddings: one vector an annotation, made once for each model, in files that others can read.

``embeddings/MODEL/`` holds ``vectors.npy`` (n, dim) float16, as the network gives them; ``annotations.parquet``, whose
rows are in the same order; and ``passport.json``. Vectors are kept by the key of the chip they were made from, so a
corrected box makes one new vector. What is computed is written down as it comes: a run that is stopped goes on where
it was.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from resight import progress
from resight.artefacts import Passport
from resight.chips import ChipSet
from resight.errors import ArtefactMismatch, ResightError
from resight.models.memory import freed_memory_kept

logger = logging.getLogger(__name__)

EMBED_VERSION = 1  # raise it whenever the same chip and weights would give other numbers
BATCH = 32
WAIT_SECONDS = 3600
VECTORS, ROWS, PASSPORT = "vectors.npy", "annotations.parquet", "passport.json"


class EmbedsChips(Protocol):
    """What is asked of a model here; :class:`resight.models.embedder.Embedder` is one."""

    def embed_chips(self, chips: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Turn (n, size, size, 3) uint8 RGB chips into (n, dim) float16 vectors."""
        ...


@dataclass(frozen=True)
class EmbeddingSet:
    """Vectors of one model.

    Attributes:
        model: The model's name.
        annotation_ids: In the order of the rows.
        chip_keys: What each row was made from.
        vectors: (n, dim) float16, read from disk as needed.
        current: annotation_id → key of its chip now, where that is known; a row of another chip does not count.
    """

    model: str
    annotation_ids: tuple[str, ...]
    chip_keys: tuple[str, ...]
    vectors: NDArray[np.float16]
    current: Mapping[str, str] | None = None

    def row_of(self) -> dict[str, int]:
        """annotation_id → row, of the vectors that count."""
        rows = enumerate(zip(self.annotation_ids, self.chip_keys, strict=True))
        return {name: row for row, (name, key) in rows if self.current is None or self.current.get(name) == key}


@dataclass(frozen=True)
class EmbedOutcome:
    """What ``embed`` did: vectors made now, vectors that were there, and the speed of making."""

    embeddings: EmbeddingSet
    embedded: int
    reused: int
    images_per_second: float | None


def passport_for(model: Any) -> Passport:
    """What decides the vectors of a model: its weights, its preprocessing, and the algorithm's version.

    Args:
        model: An :class:`resight.models.embedder.Embedder`.
    """
    config = model.config
    return Passport(
        "embeddings",
        {
            "weights_hash": model.weights_hash,
            "backbone": config.backbone,
            "dim": config.dim,
            "image_size": config.image_size,
            "mean": list(config.mean),
            "std": list(config.std),
            "embed_version": EMBED_VERSION,
        },
    )


def embed(
    model: EmbedsChips,
    passport: Passport,
    chips: ChipSet,
    folder: Path,
    *,
    name: str,
    anew: bool = False,
    batch: int = BATCH,
) -> EmbedOutcome:
    """Make the vectors that are not there yet.

    Args:
        model: The network.
        passport: From :func:`passport_for`.
        chips: Whose vectors are wanted; vectors of other annotations stay.
        folder: ``embeddings/MODEL``.
        name: The model's name.
        anew: Replace vectors of another model or preprocessing instead of refusing.
        batch: Chips a pass through the network.

    Raises:
        ArtefactMismatch: the folder holds vectors that were made from something else.
        ResightError: another process has been embedding with the model for over an hour.
    """
    with _alone(folder, name):
        outcome = _embed(model, passport, chips, folder, name=name, anew=anew, batch=batch)
    return replace(outcome, embeddings=replace(outcome.embeddings, current=dict(chips.keys)))


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Two processes that embed with one model take turns: they write the same files."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is embedding with model %s; waiting for it", name)
        try:
            lock.acquire(timeout=WAIT_SECONDS)
        except Timeout:
            raise ResightError(f"another process has been embedding with model {name} for an hour; try again") from None
    try:
        yield
    finally:
        lock.release()


def _embed(
    model: EmbedsChips, passport: Passport, chips: ChipSet, folder: Path, *, name: str, anew: bool, batch: int
) -> EmbedOutcome:
    _finish_swap(folder)
    if anew and folder.exists():
        shutil.rmtree(folder)
    existing = load(folder, passport, name=name) if (folder / PASSPORT).is_file() else None
    kept = {} if existing is None else dict(zip(existing.annotation_ids, existing.chip_keys, strict=True))
    wanted = [annotation_id for annotation_id, key in sorted(chips.keys.items()) if kept.get(annotation_id) != key]
    reused = len(chips.keys) - len(wanted)
    if not wanted and existing is not None:
        return EmbedOutcome(existing, 0, reused, None)
    pending = _Pending(folder.with_name(f".{folder.name}.pending"), passport)
    done = pending.keys()
    to_embed = [annotation_id for annotation_id in wanted if done.get(annotation_id) != chips.keys[annotation_id]]
    if len(to_embed) < len(wanted):
        logger.info("%d vectors are there from a run that was stopped", len(wanted) - len(to_embed))
    started = time.perf_counter()
    with progress.bar("embed", len(to_embed)) as running, freed_memory_kept():
        for start in range(0, len(to_embed), batch):
            names = to_embed[start : start + batch]
            pending.append([(n, chips.keys[n]) for n in names], model.embed_chips(chips.load(names)))
            running.advance(len(names))
    seconds = time.perf_counter() - started
    # What a stopped run made of annotations that are not asked for now is kept as well.
    others = {n: key for n, key in done.items() if n not in chips.keys}
    embeddings = _merge(folder, passport, name, existing, pending, others | {n: chips.keys[n] for n in wanted})
    pending.remove()
    speed = round(len(to_embed) / seconds, 1) if to_embed else None
    return EmbedOutcome(embeddings, len(to_embed), reused + len(wanted) - len(to_embed), speed)


def load(folder: Path, expected: Passport | None, *, name: str) -> EmbeddingSet:
    """Read the vectors of a model.

    Args:
        folder: ``embeddings/MODEL``.
        expected: What they must have been made from; ``None`` takes them as they are.
        name: The model's name.

    Raises:
        ArtefactMismatch: made from something else, or not complete.
    """
    import pyarrow.parquet as pq

    remedy = f"make them anew with: resight embed --model {name} --anew"
    if expected is not None:
        Passport.read(folder / PASSPORT).require_fit(expected, where=folder, remedy=remedy)
    try:
        vectors = np.load(folder / VECTORS, mmap_mode="r")
        table = pq.read_table(folder / ROWS, columns=["annotation_id", "chip_key"]).to_pydict()
        rows = len(table["annotation_id"])
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ArtefactMismatch(f"{folder} cannot be read ({error}); {remedy}") from None
    if len(vectors) != rows:
        raise ArtefactMismatch(f"{folder} holds {len(vectors)} vectors of {rows} annotations; {remedy}")
    return EmbeddingSet(name, tuple(table["annotation_id"]), tuple(table["chip_key"]), vectors)


class _Pending:
    """Vectors computed and not merged yet: raw float16 rows, and beside them a line a row."""

    def __init__(self, folder: Path, passport: Passport) -> None:
        self._folder = folder
        if (folder / PASSPORT).is_file() and Passport.read(folder / PASSPORT).decides != dict(passport.decides):
            shutil.rmtree(folder)  # of another model; nothing of it can be used
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / PASSPORT).is_file():
            passport.write(folder / PASSPORT)
        self._dim = int(passport.decides["dim"])
        self._vectors, self._rows = folder / "vectors.f16", folder / "rows.tsv"
        self._cut_to_whole_rows()

    def _cut_to_whole_rows(self) -> None:
        """A run killed while it wrote may leave part of a row behind."""
        lines = self._rows.read_text(encoding="utf-8").split("\n")[:-1] if self._rows.is_file() else []
        size = self._vectors.stat().st_size if self._vectors.is_file() else 0
        rows = min(len(lines), size // (2 * self._dim))
        self._entries = [tuple(line.split("\t")) for line in lines[:rows]]
        self._rows.write_text("".join(f"{line}\n" for line in lines[:rows]), encoding="utf-8")
        with self._vectors.open("ab") as file:
            file.truncate(rows * 2 * self._dim)

    def keys(self) -> dict[str, str]:
        """annotation_id → chip key of what is there."""
        return {entry[0]: entry[1] for entry in self._entries}

    def append(self, entries: Sequence[tuple[str, str]], vectors: NDArray[np.float16]) -> None:
        with self._vectors.open("ab") as file:
            file.write(np.ascontiguousarray(vectors, dtype=np.float16).tobytes())
        with self._rows.open("a", encoding="utf-8") as file:
            file.write("".join(f"{annotation_id}\t{key}\n" for annotation_id, key in entries))
        self._entries.extend(entries)

    def rows(self) -> tuple[dict[tuple[str, ...], int], NDArray[np.float16]]:
        """(annotation_id, chip key) → row, and the (n, dim) vectors."""
        if not self._entries:
            return {}, np.empty((0, self._dim), np.float16)
        vectors = np.memmap(self._vectors, np.float16, "r", shape=(len(self._entries), self._dim))
        return {entry: row for row, entry in enumerate(self._entries)}, vectors

    def remove(self) -> None:
        shutil.rmtree(self._folder)


def _merge(
    folder: Path,
    passport: Passport,
    name: str,
    existing: EmbeddingSet | None,
    pending: _Pending,
    wanted: Mapping[str, str],
) -> EmbeddingSet:
    """Write old and new vectors, by annotation_id, into a fresh folder and let it take the old one's place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pending_row, pending_vectors = pending.rows()
    old_row = {} if existing is None else existing.row_of()
    chip_key = {} if existing is None else dict(zip(existing.annotation_ids, existing.chip_keys, strict=True))
    chip_key.update(wanted)
    ids = sorted(chip_key)
    fresh = _beside(folder, "new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(parents=True)
    vectors = np.lib.format.open_memmap(
        fresh / VECTORS, mode="w+", dtype=np.float16, shape=(len(ids), int(passport.decides["dim"]))
    )
    for row, annotation_id in enumerate(ids):
        if annotation_id in wanted:
            vectors[row] = pending_vectors[pending_row[annotation_id, wanted[annotation_id]]]
        elif existing is not None:
            vectors[row] = existing.vectors[old_row[annotation_id]]
    vectors.flush()
    del vectors
    columns = {"annotation_id": ids, "chip_key": [chip_key[annotation_id] for annotation_id in ids]}
    pq.write_table(pa.table(columns), fresh / ROWS)
    passport.write(fresh / PASSPORT)  # last: a folder without it is not complete
    if folder.exists():
        folder.replace(_beside(folder, "old"))
    fresh.replace(folder)
    _finish_swap(folder)
    return load(folder, passport, name=name)


def _beside(folder: Path, role: str) -> Path:
    return folder.with_name(f".{folder.name}.{role}")


def _finish_swap(folder: Path) -> None:
    """Complete what a run that was killed between two renames left behind."""
    fresh, old = _beside(folder, "new"), _beside(folder, "old")
    if not folder.exists() and (fresh / PASSPORT).is_file():
        fresh.replace(folder)
    elif not folder.exists() and old.exists():
        old.replace(folder)
    for leftover in (fresh, old):
        if leftover.exists():
            shutil.rmtree(leftover)
