"""How good a model is on the test side of a frozen split: one-vs-all per species (paper §3.4), and the report.

Every test annotation is a query against all other test annotations of its species, itself and its own encounter left
out. Identities and encounters are those the split was frozen with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import write_csv
from resight.catalogue.store import TEST, TRAIN, StoredSplit
from resight.embedding import EmbeddingSet
from resight.errors import InputError, UnknownName
from resight.metrics import Macro, Summary, macro_average, summarise
from resight.ranking import Ranking, rank_one_vs_all

KEPT_CANDIDATES = 20


@dataclass(frozen=True)
class SpeciesResult:
    """One species' figures, in percent, and what could not be scored."""

    species: str
    figures: Summary
    without_vector: int


@dataclass(frozen=True)
class Evaluation:
    """What ``resight evaluate`` prints.

    Attributes:
        model: The model's name.
        split: The split's name.
        species: One result each, by name.
        macro: The mean over species.
        warnings: What the reader should know, such as a catalogue that has moved on since the split.
    """

    model: str
    split: str
    species: tuple[SpeciesResult, ...]
    macro: Macro
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The document of ``--json``: figures rounded to two decimals."""
        rows = [
            {"species": result.species, **_rounded(asdict(result.figures)), "without_vector": result.without_vector}
            for result in self.species
        ]
        return {
            "model": self.model,
            "split": self.split,
            "species": rows,
            "macro": _rounded(asdict(self.macro)),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class _SpeciesTest:
    species: str
    annotation_ids: tuple[str, ...]
    without_vector: int
    labels: NDArray[np.int64]
    seen: NDArray[np.bool_]
    ranking: Ranking


def evaluate(
    split: StoredSplit,
    embeddings: EmbeddingSet,
    *,
    species: Sequence[str] | None = None,
    per_query: Path | None = None,
    warnings: Sequence[str] = (),
) -> Evaluation:
    """Score a model on the test side of a split.

    Args:
        split: Frozen.
        embeddings: Vectors of its test annotations; those without a vector are counted.
        species: Only these; ``None`` takes all of the split.
        per_query: A CSV to write every query's candidates to.
        warnings: Carried into the result.

    Raises:
        UnknownName: a species that the split does not hold.
        InputError: nothing to score, or ``per_query`` cannot be written.
    """
    in_test: dict[str, list[str]] = defaultdict(list)
    for key, subset in split.subset.items():
        if subset == TEST:
            in_test[split.species[key]].append(key)
    chosen = sorted(in_test) if species is None else list(dict.fromkeys(species))
    UnknownName.require("species in the test side of the split", chosen, in_test)
    trained = {(split.species[key], split.identity[key]) for key, subset in split.subset.items() if subset == TRAIN}
    row_of = embeddings.row_of()
    tests = [_rank_species(split, embeddings, row_of, name, in_test[name], trained) for name in chosen]
    if not any(test.annotation_ids for test in tests):
        raise InputError(f"split {split.name!r} has no test annotation with a vector; make another split")
    if per_query is not None:
        try:
            _write_per_query(per_query, split, tests)
        except OSError as error:
            raise InputError(f"{per_query} cannot be written ({error.strerror}); name another file") from None
    results = tuple(
        SpeciesResult(test.species, summarise(test.ranking, test.labels, seen=test.seen), test.without_vector)
        for test in tests
    )
    missing = sum(result.without_vector for result in results)
    told = [*warnings]
    if missing:
        told.append(f"{missing} test annotations have no vector, since their photos cannot be used; they are left out")
    return Evaluation(
        embeddings.model, split.name, results, macro_average(result.figures for result in results), tuple(told)
    )


def _rank_species(
    split: StoredSplit,
    embeddings: EmbeddingSet,
    row_of: Mapping[str, int],
    species: str,
    wanted: Sequence[str],
    trained: set[tuple[str, str]],
) -> _SpeciesTest:
    ids = [key for key in wanted if key in row_of]
    identities = [split.identity[key] for key in ids]
    labels = _codes(identities)
    vectors = np.asarray(embeddings.vectors[[row_of[key] for key in ids]])
    ranking = rank_one_vs_all(
        vectors, labels=labels, groups=_codes([split.encounter[key] for key in ids]), k=KEPT_CANDIDATES
    )
    seen = np.array([(species, identity) in trained for identity in identities], dtype=np.bool_)
    return _SpeciesTest(species, tuple(ids), len(wanted) - len(ids), labels, seen, ranking)


def _codes(names: Sequence[str]) -> NDArray[np.int64]:
    code_of = {name: code for code, name in enumerate(sorted(set(names)))}
    return np.array([code_of[name] for name in names], dtype=np.int64)


def _write_per_query(target: Path, split: StoredSplit, tests: Sequence[_SpeciesTest]) -> None:
    header = ("species", "query", "query_identity", "possible_matches", "rank", "candidate", "candidate_identity",
              "score", "match")  # fmt: skip
    write_csv(target, header, (row for test in tests for row in _per_query_rows(split, test)))


def _per_query_rows(split: StoredSplit, test: _SpeciesTest) -> Iterator[tuple[object, ...]]:
    ranking = test.ranking
    for query, query_id in enumerate(test.annotation_ids):
        for place, row in enumerate(ranking.neighbours[query]):
            if row < 0:
                break
            candidate = test.annotation_ids[row]
            yield (
                test.species,
                query_id,
                split.identity[query_id],
                int(ranking.n_possible[query]),
                place + 1,
                candidate,
                split.identity[candidate],
                f"{ranking.scores[query, place]:.6f}",
                int(ranking.is_match[query, place]),
            )


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    def short(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 2)
        if isinstance(value, tuple | list):
            return [short(item) for item in value]
        return value

    return {name: short(value) for name, value in figures.items()}
