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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from resight import progress
from resight.artefacts import Passport
from resight.chips import ChipSet
from resight.errors import ArtefactMismatch, ResightError
from resight.memory import freed_memory_kept
from resight.models.config import EmbedderConfig

logger = logging.getLogger(__name__)

EMBED_VERSION = 1  # raise it whenever the same chip and weights would give other numbers
BATCH = 32
READ_AHEAD = 2  # batches of chips that are read while the network works
WAIT_SECONDS = 3600
# None of them shows in the weights.
_SHAPING = ("pooling", "pooling_eps", "gem_levels", "gem_columns", "output_stride", "neck")
VECTORS, ROWS, PASSPORT = "vectors.npy", "annotations.parquet", "passport.json"


Item = TypeVar("Item")


class EmbedsChips(Protocol):
    """What is asked of a model here; every :class:`resight.models.runtimes.Runtime` is one."""

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
    """What ``embed`` did: vectors made now, vectors that were there, and the speed of making.

    The speed counts what it took to have the chips as well, where they were cut on the way.
    """

    embeddings: EmbeddingSet
    embedded: int
    reused: int
    images_per_second: float | None


def passport_for(model: Any) -> Passport:
    """What decides the vectors of a model: its weights, its preprocessing, and the algorithm's version.

    What runs the network, and in which precision, does not decide: every way is compared with the network in float32
    before it is used.

    Args:
        model: An :class:`resight.models.embedder.Embedder`, or a :class:`resight.models.runtimes.Runtime`.
    """
    config = model.config
    usual = {field.name: field.default for field in fields(EmbedderConfig)}
    # Named only where they are not as usual, so that vectors from before they were settings still fit.
    unusual = {name: getattr(config, name) for name in _SHAPING if getattr(config, name) != usual[name]}
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
            **unusual,
        },
    )


def embed(
    model: EmbedsChips,
    passport: Passport,
    chips: ChipSet | Iterable[ChipSet],
    folder: Path,
    *,
    name: str,
    anew: bool = False,
    batch: int = BATCH,
    made_by: Callable[[], str] | None = None,
) -> EmbedOutcome:
    """Make the vectors that are not there yet.

    Args:
        model: The network.
        passport: From :func:`passport_for`.
        chips: Whose vectors are wanted; vectors of other annotations stay. Several sets are taken one after the
            other, so that chips may still be cut while the network works on those before.
        folder: ``embeddings/MODEL``.
        name: The model's name.
        anew: Replace vectors of another model or preprocessing instead of refusing.
        batch: Chips a pass through the network.
        made_by: Gives, when the vectors are written, what made them; the passport records it.

    Raises:
        ArtefactMismatch: the folder holds vectors that were made from something else.
        ResightError: another process has been embedding with the model for over an hour.
    """
    sets = [chips] if isinstance(chips, ChipSet) else chips
    with _alone(folder, name):
        return _Embedding(model, passport, folder, name=name, anew=anew, batch=batch, made_by=made_by).run(sets)


def ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Yield ``items`` in order, which one thread makes while the caller works on those before.

    Args:
        items: Any number of them; what making them raises reaches the caller in its place.
        depth: How many may wait.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[list[Item]]] = deque()

        def ask() -> None:
            # In the caller's context, so that a progress bar in the thread knows of the one around it.
            waiting.append(thread.submit(copy_context().run, lambda: list(islice(remaining, 1))))

        try:
            for _ in range(depth):
                ask()
            while made := waiting.popleft().result():
                ask()
                yield made[0]
        finally:
            for future in waiting:
                future.cancel()


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


class _Embedding:
    """One run of :func:`embed`, while no other process writes to the folder."""

    def __init__(
        self,
        model: EmbedsChips,
        passport: Passport,
        folder: Path,
        *,
        name: str,
        anew: bool,
        batch: int,
        made_by: Callable[[], str] | None,
    ) -> None:
        self._model, self._passport, self._folder, self._name = model, passport, folder, name
        self._batch, self._made_by = batch, made_by
        _finish_swap(folder)
        # What is there stays until the new files take its place, even where it is not to be used.
        there = load(folder, passport, name=name) if not anew and (folder / PASSPORT).is_file() else None
        self._existing = there
        self._kept = {} if there is None else dict(zip(there.annotation_ids, there.chip_keys, strict=True))
        self._pending: _Pending | None = None
        self._embedded = 0

    def run(self, sets: Iterable[ChipSet]) -> EmbedOutcome:
        current: dict[str, str] = {}
        wanted: dict[str, str] = {}
        started = time.perf_counter()
        for chips in sets:
            current.update(chips.keys)
            lacking = {n: key for n, key in sorted(chips.keys.items()) if self._kept.get(n) != key}
            wanted.update(lacking)
            if lacking:
                self._make(lacking, chips)
        seconds = time.perf_counter() - started
        embeddings = self._existing if self._existing is not None and not wanted else self._merged(wanted, current)
        return EmbedOutcome(
            replace(embeddings, current=current),
            self._embedded,
            len(current) - self._embedded,
            round(self._embedded / seconds, 1) if self._embedded else None,
        )

    def _make(self, lacking: Mapping[str, str], chips: ChipSet) -> None:
        pending = self._open_pending()
        done = pending.keys()
        names = [name for name, key in lacking.items() if done.get(name) != key]
        if len(names) < len(lacking):
            logger.info("%d vectors are there from a run that was stopped", len(lacking) - len(names))
        batches = (names[start : start + self._batch] for start in range(0, len(names), self._batch))
        with progress.bar("embed", len(names)) as running, freed_memory_kept():
            for batch, pixels in ahead(((batch, chips.load(batch)) for batch in batches), READ_AHEAD):
                pending.append([(n, lacking[n]) for n in batch], self._model.embed_chips(pixels))
                self._embedded += len(batch)
                running.advance(len(batch))

    def _open_pending(self) -> _Pending:
        if self._pending is None:
            self._pending = _Pending(self._folder.with_name(f".{self._folder.name}.pending"), self._passport)
        return self._pending

    def _merged(self, wanted: Mapping[str, str], current: Mapping[str, str]) -> EmbeddingSet:
        pending = self._open_pending()
        # What a stopped run made of annotations that are not asked for now is kept as well.
        others = {n: key for n, key in pending.keys().items() if n not in current}
        passport = self._recorded()
        embeddings = _merge(self._folder, passport, self._name, self._existing, pending, {**others, **wanted})
        pending.remove()
        return embeddings

    def _recorded(self) -> Passport:
        """The passport with everything that ever made a vector of the set."""
        if self._made_by is None:
            return self._passport
        before = Passport.read(self._folder / PASSPORT).recorded if self._existing is not None else {}
        makers = {*before.get("made_by", ()), *([self._made_by()] if self._embedded else ())}
        return replace(self._passport, recorded={**self._passport.recorded, "made_by": sorted(makers)})


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
